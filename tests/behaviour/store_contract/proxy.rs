//! A proxy in front of a server that loses answers or stands still when it is told to, and counts how often it did.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The next COMMIT reaches the server, its answer does not come back: the connection is cut instead.
    LoseCommitAnswer,
    /// The next COMMIT is cut off before the server sees it.
    LoseCommit,
    /// The next COMMIT waits in the proxy, and all that comes after.
    HoldCommit,
    /// Nothing passes.
    HoldAll,
}

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    fault: Fault,
    happened: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { fault: Fault::None, happened: 0 }
    }
}

impl Proxy {
    pub fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let proxy = Self { port, shared: shared.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", server))) else { return };
                let lost = Arc::<Mutex<bool>>::default();
                for (from, to, upward) in [(&client, &server, true), (&server, &client, false)] {
                    let (from, to, shared, lost) =
                        (from.try_clone().unwrap(), to.try_clone().unwrap(), shared.clone(), lost.clone());
                    std::thread::spawn(move || pump(from, to, upward, &shared, &lost));
                }
            }
        });
        proxy
    }

    pub fn set(&self, fault: Fault) {
        self.shared.state.lock().unwrap().fault = fault;
        self.shared.changed.notify_all();
    }

    /// Faults that took place so far.
    pub fn happened(&self) -> u32 {
        self.shared.state.lock().unwrap().happened
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, upward: bool, shared: &Shared, lost: &Mutex<bool>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = &buffer[..length];
        let commit = upward && bytes.windows(7).any(|window| window == b"COMMIT\0");
        let mut state = shared.state.lock().unwrap();
        match state.fault {
            Fault::LoseCommitAnswer if commit => {
                *lost.lock().unwrap() = true;
                (state.fault, state.happened) = (Fault::None, state.happened + 1);
            }
            Fault::LoseCommit if commit => {
                (state.fault, state.happened) = (Fault::None, state.happened + 1);
                break;
            }
            Fault::HoldCommit if commit => state.happened += 1,
            Fault::HoldAll => state.happened += 1,
            _ => {}
        }
        let holds = |fault: Fault| fault == Fault::HoldAll || (fault == Fault::HoldCommit && commit);
        while holds(state.fault) {
            state = shared.changed.wait(state).unwrap();
        }
        drop(state);
        // The server has answered, so it has done it.
        if (!upward && *lost.lock().unwrap()) || to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
