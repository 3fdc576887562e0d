//! A throw-away PostgreSQL server on loopback, and a database a test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio_postgres::{NoTls, Row};

const BIN: &str = "/usr/lib/postgresql/15/bin";
const BOOT: Duration = Duration::from_secs(60);

/// The server that all tests of this process share, started by the first that asks.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| Server::start(&[]))
}

pub struct Server {
    directory: PathBuf,
    settings: Vec<String>,
    pub port: u16,
    guard: Mutex<Option<Child>>,
}

impl Server {
    /// `settings` are further lines of `postgresql.conf`.
    pub fn start(settings: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("huntline-postgres-").tempdir().unwrap().keep();
        let data = directory.join("data");
        assert!(Command::new("chown").arg("postgres").arg(&directory).status().unwrap().success());
        let made = as_postgres("initdb", &directory)
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "initdb: {made}");
        let rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = settings.iter().map(|line| (*line).to_owned()).collect();
        let server = Self { directory, settings, port, guard: Mutex::new(None) };
        server.restart();
        server
    }

    pub fn restart(&self) {
        // A shell between this process and the server ends it, and removes its files, when this process ends in whatever way: then
        // its standard input ends. SIGQUIT is the one that leaves no shared memory behind.
        const GUARD: &str = r#""$@" >>"$0/log" 2>&1 & server=$!; read -r _; kill -QUIT $server 2>/dev/null; wait $server; [ -e "$0/keep" ] || rm -rf "$0""#;
        let mut server = as_postgres("postgres", &self.directory);
        server.arg("-D").arg(self.directory.join("data")).args(["-p", &self.port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=200"] {
            server.args(["-c", setting]);
        }
        for setting in &self.settings {
            server.args(["-c", setting]);
        }
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD]).arg(&self.directory).arg(server.get_program()).args(server.get_args());
        let _ = std::fs::remove_file(self.directory.join("keep"));
        *self.guard.lock().unwrap() = Some(guard.stdin(Stdio::piped()).spawn().unwrap());
        let started = Instant::now();
        while !self.answers() {
            assert!(
                started.elapsed() < BOOT,
                "no answer: {}",
                std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        Command::new(Path::new(BIN).join("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Ends the server as a crash does; its data stay.
    pub fn stop(&self) {
        std::fs::write(self.directory.join("keep"), "").unwrap();
        self.end();
    }

    fn end(&self) {
        if let Some(mut guard) = self.guard.lock().unwrap().take() {
            drop(guard.stdin.take());
            guard.wait().unwrap();
        }
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// An empty database of a name of its own; its URL.
    pub async fn create_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Database(self.url("postgres")).run(&format!("CREATE DATABASE {name}")).await;
        self.url(&name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A database by its URL, as a client other than huntline sees it.
pub struct Database(pub String);

impl Database {
    pub async fn connect(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.0, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub async fn run(&self, sql: &str) {
        self.connect().await.batch_execute(sql).await.unwrap();
    }

    pub async fn query(&self, sql: &str) -> Vec<Row> {
        self.connect().await.query(sql, &[]).await.unwrap()
    }
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &str, directory: &Path) -> Command {
    let program = Path::new(BIN).join(program);
    let root = std::fs::metadata("/proc/self").is_ok_and(|itself| std::os::unix::fs::MetadataExt::uid(&itself) == 0);
    let mut command = if root { Command::new("setpriv") } else { Command::new(&program) };
    if root {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(&program);
    }
    command.current_dir(directory);
    command
}
