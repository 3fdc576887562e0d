//! PostgreSQL 15, a server of its own: initialised, started and stopped here.
//!
//! Tests take [`shared`] and a database of their own; those that stop the server start their own with [`Postgres::start`].

use super::{Process, Scratch, await_until, block_on, free_port};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use tokio_postgres::{NoTls, SimpleQueryMessage};

const BOOT: Duration = Duration::from_secs(60);

/// The server that all tests of this process share; it is started by the first that asks.
pub fn shared() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(|| Postgres::start(&Options { fsync: false, ..Options::default() }))
}

/// How a server is set up.
pub struct Options {
    /// Whether a commit is on disk when it is acknowledged. Off is faster and enough where only the daemon is killed.
    pub fsync: bool,
    /// Further settings, as in `postgresql.conf`.
    pub settings: Vec<(&'static str, String)>,
}

impl Default for Options {
    fn default() -> Options {
        Options { fsync: true, settings: Vec::new() }
    }
}

/// How a server stops: `pg_ctl stop`'s modes, and a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ends sessions, then writes a checkpoint.
    Fast,
    /// Ends at once; the next start recovers from the write-ahead log.
    Immediate,
}

pub struct Postgres {
    server: Mutex<Option<Process>>,
    port: u16,
    settings: Vec<String>,
    scratch: Scratch,
}

impl Postgres {
    /// Initialises and starts a server; returns when it answers.
    pub fn start(options: &Options) -> Postgres {
        let scratch = Scratch::new("postgres");
        if is_root() {
            let (uid, gid) = account("postgres");
            chown(scratch.path(), Some(uid), Some(gid)).expect("hand the scratch directory to postgres");
        }
        std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).expect("set permissions");

        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            // Empty turns the socket off: its default directory is not ours, and may not exist.
            "unix_socket_directories=".to_owned(),
            "max_connections=200".to_owned(),
            "timezone=UTC".to_owned(),
            format!("fsync={}", if options.fsync { "on" } else { "off" }),
        ];
        if !options.fsync {
            settings.push("full_page_writes=off".to_owned());
        }
        settings.extend(options.settings.iter().map(|(key, value)| format!("{key}={value}")));

        let mut initdb = as_postgres("initdb");
        initdb.current_dir(scratch.path()).args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        initdb.args(["--no-sync", "--no-instructions", "-D"]).arg(scratch.join("data"));
        let mut tool = Process::start("initdb", initdb, &scratch.join("initdb"));
        let status = tool.await_exit(BOOT);
        assert!(status.success(), "initdb:\n{}", tool.tail());

        let postgres = Postgres { server: Mutex::new(None), port: free_port(), settings, scratch };
        postgres.restart();
        postgres
    }

    /// Starts the server again, on the same port and data, after [`stop`](Postgres::stop).
    pub fn restart(&self) {
        let mut server = self.server.lock().expect("the server");
        assert!(server.is_none(), "the server runs already");
        let mut command = as_postgres("postgres");
        command.current_dir(self.scratch.path()).arg("-D").arg(self.scratch.join("data")).args(["-p", &self.port.to_string()]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        // SIGKILL would leave the server's shared memory behind.
        let process = server.insert(Process::start_ended_by(libc::SIGQUIT, "PostgreSQL", command, &self.scratch.join("output")));
        await_until(BOOT, "PostgreSQL answers", || {
            if let Some(status) = process.exited() {
                panic!("PostgreSQL ended ({status}) instead of answering:\n{}", process.tail());
            }
            self.try_query("postgres", "SELECT 1").map(drop)
        });
    }

    pub fn stop(&self, mode: Stop) {
        let mut process = self.server.lock().expect("the server").take().expect("a running server");
        process.signal(match mode {
            Stop::Fast => libc::SIGINT,
            Stop::Immediate => libc::SIGQUIT,
        });
        process.await_exit(BOOT);
    }

    /// Stops answering without closing anything: the postmaster and every session stand still until [`thaw`](Postgres::thaw).
    pub fn freeze(&self) {
        self.signal_all(libc::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal_all(libc::SIGCONT);
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates a database of a name of its own and returns its URL.
    pub fn create_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.query(&self.url("postgres"), &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs statements and returns the rows of all of them, each value as text. `url` is what
    /// [`create_database`](Postgres::create_database) returned.
    #[track_caller]
    pub fn query(&self, url: &str, sql: &str) -> Vec<Vec<Option<String>>> {
        query(url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn try_query(&self, database: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        query(&self.url(database), sql)
    }

    fn signal_all(&self, signal: libc::c_int) {
        let mut server = self.server.lock().expect("the server");
        let process = server.as_mut().expect("a running server");
        for pid in children(process.pid()) {
            // SAFETY: a plain system call; each pid is a child of our own postmaster.
            unsafe { libc::kill(pid as libc::pid_t, signal) };
        }
        process.signal(signal);
    }
}

/// Runs statements on any database, through a proxy too; the error is the server's, or that it could not be reached.
pub fn query(url: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    let told = |error: tokio_postgres::Error| match error.as_db_error() {
        Some(server) => format!("{}: {}", server.code().code(), server.message()),
        None => format!("{error:?}"),
    };
    block_on(async {
        let work = async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(told)?;
            let connection = tokio::spawn(connection);
            let answer = client.simple_query(sql).await.map_err(told);
            drop(client);
            let _ = connection.await;
            answer
        };
        let messages =
            tokio::time::timeout(Duration::from_secs(60), work).await.map_err(|_| "no answer within 60 s".to_owned())??;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()),
            _ => None,
        });
        Ok(rows.collect())
    })
}

/// A program of PostgreSQL's, as the user it accepts: never root.
fn as_postgres(program: &str) -> Command {
    let program = bin().join(program);
    if !is_root() {
        return Command::new(program);
    }
    // setpriv changes the user, and with it the kernel forgets the parent-death signal: it has to be set again, and as the one
    // after which the server removes its shared memory.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=QUIT", "--"]).arg(program);
    command
}

/// Where PostgreSQL's programs are: `HUNTLINE_POSTGRES_BIN`, or where Debian puts those of version 15.
fn bin() -> PathBuf {
    let bin =
        std::env::var_os("HUNTLINE_POSTGRES_BIN").map_or_else(|| PathBuf::from("/usr/lib/postgresql/15/bin"), PathBuf::from);
    assert!(bin.join("initdb").exists(), "no initdb in {}; `tests/run --install` installs PostgreSQL 15", bin.display());
    bin
}

fn is_root() -> bool {
    // SAFETY: geteuid cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn account(name: &str) -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
    let fields: Vec<&str> = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == name)
        .expect("the postgres account");
    (fields[2].parse().expect("a uid"), fields[3].parse().expect("a gid"))
}

fn children(pid: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(Path::new("/proc").join(format!("{pid}/task/{pid}/children"))).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

#[test]
fn rows_come_back_and_survive_every_stop() {
    let postgres = Postgres::start(&Options::default());
    let url = postgres.create_database();
    postgres.query(&url, "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, NULL)");
    postgres.stop(Stop::Fast);
    assert!(query(&url, "SELECT 1").is_err());
    postgres.restart();
    postgres.query(&url, "INSERT INTO t VALUES (2, 'two')");
    postgres.stop(Stop::Immediate);
    postgres.restart();
    let rows = postgres.query(&url, "SELECT a, b FROM t ORDER BY a");
    assert_eq!(rows, [vec![Some("1".to_owned()), None], vec![Some("2".to_owned()), Some("two".to_owned())]]);
    assert!(query(&url, "SELECT nonsense").unwrap_err().starts_with("42703: "));
}

/// The first message of a session that would like TLS: its length, and a code in the place of a protocol version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

#[test]
fn a_frozen_server_answers_nothing_until_it_thaws() {
    let postgres = Postgres::start(&Options { fsync: false, ..Options::default() });
    let url = postgres.create_database();
    postgres.freeze();
    let mut session = TcpStream::connect(("127.0.0.1", postgres.port())).expect("the kernel accepts for the server");
    session.write_all(&SSL_REQUEST).expect("send a request for TLS");
    session.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
    let mut answer = [0];
    assert!(session.read(&mut answer).is_err());
    postgres.thaw();
    session.set_read_timeout(Some(BOOT)).expect("a time-out");
    session.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"N");
    assert_eq!(postgres.query(&url, "SELECT 1"), [[Some("1".to_owned())]]);
}
