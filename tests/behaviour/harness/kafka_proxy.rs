//! A loopback TCP proxy between Kafka and its clients that loses answers: a connection it makes deaf goes on as before, heartbeats and
//! questions for offsets included, but for answers to fetches, which never arrive.
//!
//! It forwards whole frames, so it knows a request's kind, and its answer by the number that both carry.

use super::free_port;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;

/// The number of the request that reads records.
const FETCH: [u8; 2] = 1i16.to_be_bytes();

pub struct KafkaProxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// 0: not known yet.
    broker: AtomicU16,
    lost: AtomicU64,
    open: Mutex<Vec<Weak<Link>>>,
}

struct Link {
    client: TcpStream,
    server: TcpStream,
    deaf: AtomicBool,
    /// Fetches whose answers get lost.
    fetches: Mutex<HashSet<[u8; 4]>>,
}

impl KafkaProxy {
    /// Listens; connections are closed at once until [`lead_to`](KafkaProxy::lead_to) says where they go.
    pub fn start() -> KafkaProxy {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("listen");
        let shared = Arc::new(Shared::default());
        let acceptor = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let broker = acceptor.broker.load(Ordering::SeqCst);
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)) else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let link = Arc::new(Link { client, server, deaf: AtomicBool::new(false), fetches: Mutex::default() });
                let mut open = acceptor.open.lock().expect("the open links");
                open.retain(|link| link.strong_count() > 0);
                open.push(Arc::downgrade(&link));
                let (requests, answers, shared) = (link.clone(), link, acceptor.clone());
                thread::spawn(move || {
                    let _ = requests.forward_requests();
                    requests.end();
                });
                thread::spawn(move || {
                    let _ = answers.forward_answers(&shared.lost);
                    answers.end();
                });
            }
        });
        KafkaProxy { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn lead_to(&self, broker_port: u16) {
        self.shared.broker.store(broker_port, Ordering::SeqCst);
    }

    /// From now on no answer to a fetch comes back on any connection that is open now; later ones hear all.
    pub fn deafen(&self) {
        for link in self.shared.open.lock().expect("the open links").iter().filter_map(Weak::upgrade) {
            link.deaf.store(true, Ordering::SeqCst);
        }
    }

    /// Answers lost so far.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Link {
    fn forward_requests(&self) -> io::Result<()> {
        let mut frame = Vec::new();
        loop {
            read_frame(&self.client, &mut frame)?;
            // Length, kind, version, number.
            if let [_, _, _, _, a, b, _, _, number @ ..] = &frame[..]
                && [*a, *b] == FETCH
                && self.deaf.load(Ordering::SeqCst)
                && let Some(number) = number.first_chunk::<4>()
            {
                self.fetches.lock().expect("the fetches").insert(*number);
            }
            (&self.server).write_all(&frame)?;
        }
    }

    fn forward_answers(&self, lost: &AtomicU64) -> io::Result<()> {
        let mut frame = Vec::new();
        loop {
            read_frame(&self.server, &mut frame)?;
            let number = frame[4..].first_chunk::<4>();
            if number.is_some_and(|number| self.fetches.lock().expect("the fetches").remove(number)) {
                lost.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            (&self.client).write_all(&frame)?;
        }
    }

    fn end(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

/// One frame with its length before it.
fn read_frame(mut from: &TcpStream, frame: &mut Vec<u8>) -> io::Result<()> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    frame.clear();
    frame.extend_from_slice(&length);
    frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
    from.read_exact(&mut frame[4..])
}
