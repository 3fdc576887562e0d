//! A loopback TCP proxy between the daemon and PostgreSQL that watches the protocol and fails on purpose.
//!
//! It forwards whole messages of the frontend's, so it knows a COMMIT when it passes one: as a simple query, or as the execution of
//! a portal bound to a statement that says so. What runs inside TLS it forwards unseen.

use super::free_port;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread;

/// What happens to the next COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// The server commits; the client's connection ends before the answer reaches it.
    AnswerLost,
    /// The client's connection ends before the server sees the COMMIT; the server rolls back.
    RequestLost,
    /// The client's connection ends; the COMMIT is still on its way and arrives at [`Proxy::deliver`].
    InFlight,
}

pub struct Proxy {
    port: u16,
    server_port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    connections: AtomicU64,
    commits: AtomicU64,
    faults: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Nothing is forwarded, nothing closed.
    blocked: bool,
    /// New connections are closed at once.
    refusing: bool,
    closed: bool,
    /// The next COMMIT of a transaction whose statements contain this text fails like this.
    armed: Option<(CommitFault, String)>,
    /// COMMITs held back until [`Proxy::deliver`].
    in_flight: usize,
    deliveries: u64,
    open: Vec<Weak<Link>>,
}

/// One connection: the client's side and the server's.
struct Link {
    client: TcpStream,
    server: TcpStream,
    /// Set before a doomed COMMIT is forwarded: its answer does not reach the client.
    answers_lost: AtomicBool,
}

impl Link {
    fn end(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

impl Proxy {
    /// Forwards a free loopback port to `server_port`.
    pub fn start(server_port: u16) -> Proxy {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("listen");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            connections: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        });
        let acceptor = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut state = acceptor.state.lock().expect("the proxy's state");
                if state.closed {
                    return;
                }
                if state.refusing {
                    continue;
                }
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server_port)) else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                acceptor.connections.fetch_add(1, Ordering::SeqCst);
                let link = Arc::new(Link { client, server, answers_lost: AtomicBool::new(false) });
                state.open.retain(|open| open.strong_count() > 0);
                state.open.push(Arc::downgrade(&link));
                let (requests, answers) = ((acceptor.clone(), link.clone()), (acceptor.clone(), link));
                thread::spawn(move || match forward_requests(&requests.0, &requests.1) {
                    Ok(Rest::ServerEnds) => {}
                    Ok(Rest::Over) | Err(_) => requests.1.end(),
                });
                thread::spawn(move || {
                    let _ = forward_answers(&answers.0, &answers.1);
                    answers.1.end();
                });
            }
        });
        Proxy { port, server_port, shared }
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// A URL of the server's, led through this proxy.
    pub fn url(&self, server_url: &str) -> String {
        let (from, to) = (format!(":{}/", self.server_port), format!(":{}/", self.port));
        assert!(server_url.contains(&from), "{server_url} does not lead to port {}", self.server_port);
        server_url.replace(&from, &to)
    }

    /// Ends every open connection; new ones are let through.
    pub fn cut(&self) {
        self.change(|state| state.open.iter().filter_map(Weak::upgrade).for_each(|link| link.end()));
    }

    /// Ends every open connection and refuses new ones until [`restore`](Proxy::restore).
    pub fn refuse(&self) {
        self.change(|state| state.refusing = true);
        self.cut();
    }

    /// Forwards nothing and closes nothing, like a network that drops packets, until [`restore`](Proxy::restore).
    pub fn block(&self) {
        self.change(|state| state.blocked = true);
    }

    /// Undoes [`block`](Proxy::block) and [`refuse`](Proxy::refuse).
    pub fn restore(&self) {
        self.change(|state| (state.blocked, state.refusing) = (false, false));
    }

    /// Fails the next COMMIT of a transaction whose statements contain `text`, upper and lower case alike; "" is any.
    pub fn arm(&self, fault: CommitFault, text: &str) {
        self.change(|state| state.armed = Some((fault, text.to_lowercase())));
    }

    /// How many COMMITs are held back.
    pub fn in_flight(&self) -> usize {
        self.shared.state.lock().expect("the proxy's state").in_flight
    }

    /// Lets the COMMITs that [`CommitFault::InFlight`] held back arrive.
    pub fn deliver(&self) {
        self.change(|state| state.deliveries += 1);
    }

    /// Connections accepted and forwarded so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// COMMITs forwarded so far, the doomed ones too.
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::SeqCst)
    }

    /// Faults armed that struck.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::SeqCst)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.lock().expect("the proxy's state"));
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|state| (state.closed, state.blocked) = (true, false));
        self.cut();
        // Wakes the acceptor, which then ends.
        let _ = TcpStream::connect(self.address());
    }
}

fn forward_answers(shared: &Shared, link: &Link) -> io::Result<()> {
    let (mut server, mut client) = (&link.server, &link.client);
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = server.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        if !link.answers_lost.load(Ordering::SeqCst) {
            shared.await_open_road();
            client.write_all(&bytes[..count])?;
        }
    }
}

/// What is left of a link when its client's side is done.
enum Rest {
    Over,
    /// The server still works on a COMMIT; when it closes its side, the link ends.
    ServerEnds,
}

fn forward_requests(shared: &Shared, link: &Arc<Link>) -> io::Result<Rest> {
    let (mut client, mut server) = (&link.client, &link.server);
    let mut session = Session::default();
    let mut unread = Vec::new();
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = client.read(&mut bytes)?;
        if count == 0 {
            return Ok(Rest::Over);
        }
        unread.extend_from_slice(&bytes[..count]);
        while let Some(length) = session.message_length(&unread) {
            let message: Vec<u8> = unread.drain(..length).collect();
            shared.await_open_road();
            if session.commits(&message) {
                shared.commits.fetch_add(1, Ordering::SeqCst);
                if let Some(fault) = shared.strike(&session.transaction) {
                    return doom(shared, link, fault, &message);
                }
                session.transaction.clear();
            }
            server.write_all(&message)?;
        }
    }
}

/// Carries out a fault on the COMMIT in `message`; the link ends with it.
fn doom(shared: &Shared, link: &Arc<Link>, fault: CommitFault, message: &[u8]) -> io::Result<Rest> {
    let mut server = &link.server;
    link.answers_lost.store(true, Ordering::SeqCst);
    shared.faults.fetch_add(1, Ordering::SeqCst);
    if fault == CommitFault::RequestLost || fault == CommitFault::InFlight && !shared.hold_back(link) {
        return Ok(Rest::Over);
    }
    server.write_all(message)?;
    if message[0] == b'E' {
        // A COMMIT of the extended protocol is carried out when the Sync behind it arrives, at the latest.
        server.write_all(&[b'S', 0, 0, 0, 4])?;
    }
    // The server does what it was sent, then sees the end and closes: only then does the client learn that the connection is lost.
    server.shutdown(Shutdown::Write)?;
    Ok(Rest::ServerEnds)
}

impl Shared {
    fn await_open_road(&self) {
        let state = self.state.lock().expect("the proxy's state");
        drop(self.changed.wait_while(state, |state| state.blocked).expect("the proxy's state"));
    }

    /// Takes the armed fault if it is meant for this transaction.
    fn strike(&self, transaction: &str) -> Option<CommitFault> {
        let mut state = self.state.lock().expect("the proxy's state");
        let meant = state.armed.as_ref().is_some_and(|(_, text)| transaction.contains(text.as_str()));
        if meant { state.armed.take().map(|(fault, _)| fault) } else { None }
    }

    /// Ends the client's side and waits for a delivery; false if the proxy is closed instead.
    fn hold_back(&self, link: &Arc<Link>) -> bool {
        let mut state = self.state.lock().expect("the proxy's state");
        let _ = link.client.shutdown(Shutdown::Both);
        // A cut ends what is open; what is in flight has left.
        state.open.retain(|open| open.as_ptr() != Arc::as_ptr(link));
        state.in_flight += 1;
        let before = state.deliveries;
        let mut state =
            self.changed.wait_while(state, |state| state.deliveries == before && !state.closed).expect("the proxy's state");
        state.in_flight -= 1;
        !state.closed
    }
}

/// The frontend's half of one session, as far as a COMMIT needs it.
#[derive(Default)]
struct Session {
    /// Before the start-up message, messages have no type; inside TLS or compression nothing can be told.
    started: bool,
    statements: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, String>,
    /// The texts run since the last COMMIT or ROLLBACK, in lower case.
    transaction: String,
}

impl Session {
    /// The length of the first message, once all of it is there.
    fn message_length(&self, bytes: &[u8]) -> Option<usize> {
        let typed = usize::from(self.started);
        let length = bytes.get(typed..typed + 4)?;
        let length = typed + u32::from_be_bytes(length.try_into().ok()?) as usize;
        (bytes.len() >= length).then_some(length)
    }

    /// Takes note of a message; true if it is a COMMIT.
    fn commits(&mut self, message: &[u8]) -> bool {
        if !self.started {
            // A request for TLS or GSS encryption (its code is 1234 << 16 | 5679 or 5680) is answered first; then start-up follows.
            self.started = message.get(4..6) != Some(&[0x04, 0xd2]);
            return false;
        }
        let body = &message[5..];
        let text = match message[0] {
            b'Q' => text_of(body.split(|byte| *byte == 0).next().unwrap_or_default()),
            b'P' => {
                let mut parts = body.splitn(3, |byte| *byte == 0);
                let (name, text) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                self.statements.insert(name.to_vec(), text_of(text));
                return false;
            }
            b'B' => {
                let mut parts = body.splitn(3, |byte| *byte == 0);
                let (portal, statement) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                let text = self.statements.get(statement).cloned().unwrap_or_default();
                self.portals.insert(portal.to_vec(), text);
                return false;
            }
            b'E' => {
                let portal = body.split(|byte| *byte == 0).next().unwrap_or_default();
                self.portals.get(portal).cloned().unwrap_or_default()
            }
            _ => return false,
        };
        if text.starts_with("rollback") || text.starts_with("begin") || text.starts_with("start transaction") {
            self.transaction.clear();
        }
        self.transaction.push_str(&text);
        self.transaction.push('\n');
        text.starts_with("commit") || text.starts_with("end;") || text == "end"
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::super::postgres::{self, query};
    use super::super::{await_until, block_on};
    use super::*;
    use std::time::Duration;
    use tokio_postgres::{Client, NoTls};

    const SOON: Duration = Duration::from_secs(20);

    async fn connect(url: &str) -> Client {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connect");
        tokio::spawn(connection);
        client
    }

    fn rows(url: &str) -> String {
        query(url, "SELECT count(*) FROM t").expect("count")[0][0].clone().expect("a count")
    }

    fn commit_one(url: &str) -> bool {
        block_on(async {
            let mut client = connect(url).await;
            let transaction = client.transaction().await.expect("begin");
            transaction.execute("INSERT INTO t VALUES ($1)", &[&1i32]).await.expect("insert");
            transaction.commit().await.is_ok()
        })
    }

    #[test]
    fn a_commit_is_lost_on_its_way_there_or_back() {
        let server = postgres::shared();
        let direct = server.create_database();
        query(&direct, "CREATE TABLE t (a int)").expect("create");
        let proxy = Proxy::start(server.port());
        let url = proxy.url(&direct);

        assert!(commit_one(&url));
        assert_eq!((rows(&direct).as_str(), proxy.commits(), proxy.faults()), ("1", 1, 0));

        proxy.arm(CommitFault::AnswerLost, "other_table");
        assert!(commit_one(&url), "a fault meant for another transaction lets this one pass");

        proxy.arm(CommitFault::AnswerLost, "insert into T");
        assert!(!commit_one(&url));
        assert_eq!((rows(&direct).as_str(), proxy.faults()), ("3", 1));

        proxy.arm(CommitFault::RequestLost, "");
        assert!(!commit_one(&url));
        assert_eq!((rows(&direct).as_str(), proxy.faults()), ("3", 2));

        proxy.arm(CommitFault::InFlight, "");
        assert!(!commit_one(&url));
        await_until(SOON, "the COMMIT is held", || (proxy.in_flight() == 1).then_some(()));
        assert_eq!(rows(&direct), "3");
        proxy.deliver();
        await_until(SOON, "the COMMIT arrived", || (rows(&direct) == "4").then_some(()));

        assert!(commit_one(&url));
        assert_eq!((rows(&direct).as_str(), proxy.faults()), ("5", 3));
    }

    #[test]
    fn a_commit_of_the_extended_protocol_is_known_too() {
        let server = postgres::shared();
        let direct = server.create_database();
        query(&direct, "CREATE TABLE t (a int)").expect("create");
        let proxy = Proxy::start(server.port());
        proxy.arm(CommitFault::AnswerLost, "insert");
        let url = proxy.url(&direct);
        let answered = block_on(async {
            let client = connect(&url).await;
            for text in ["BEGIN", "INSERT INTO t VALUES (1)"] {
                client.execute(text, &[]).await.expect("execute");
            }
            client.execute("COMMIT", &[]).await.is_ok()
        });
        assert!(!answered);
        assert_eq!((rows(&direct).as_str(), proxy.faults()), ("1", 1));
    }

    #[test]
    fn connections_are_cut_refused_and_blocked() {
        let server = postgres::shared();
        let direct = server.create_database();
        let proxy = Proxy::start(server.port());
        let url = proxy.url(&direct);
        block_on(async {
            let client = connect(&url).await;
            client.simple_query("SELECT 1").await.expect("an answer");
            proxy.cut();
            assert!(client.simple_query("SELECT 1").await.is_err());
            assert!(connect(&url).await.simple_query("SELECT 1").await.is_ok(), "a cut lets new connections through");

            proxy.refuse();
            assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
            proxy.restore();

            let client = connect(&url).await;
            proxy.block();
            let mut answer = std::pin::pin!(client.simple_query("SELECT 1"));
            assert!(tokio::time::timeout(Duration::from_millis(300), &mut answer).await.is_err(), "blocked, nothing is answered");
            proxy.restore();
            assert!(tokio::time::timeout(SOON, &mut answer).await.expect("in time").is_ok(), "and nothing is lost");
        });
        assert!(proxy.connections() >= 3);
    }
}
