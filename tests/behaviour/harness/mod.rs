//! Real parts for the behaviour tests: Kafka, PostgreSQL, Prometheus, the daemon, and a proxy that fails on purpose.
//!
//! Every part listens on a free loopback port, keeps its data under one scratch directory of this process, is signalled by its own
//! pid, and ends with whatever started it, even when the test process is killed. Nothing here waits without a deadline, and
//! [`await_until`] is the only place that waits at all.
#![allow(dead_code, reason = "a test takes the parts it needs; the parts are whole")]

pub mod daemon;
pub mod kafka;
pub mod kafka_proxy;
pub mod postgres;
pub mod prometheus;
pub mod proxy;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// What one look at a condition brought: what was awaited, or what was seen instead.
pub trait Look {
    type Found;
    fn found(self) -> Result<Self::Found, String>;
}

impl<T> Look for Option<T> {
    type Found = T;
    fn found(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing yet".to_owned())
    }
}

impl<T, E: std::fmt::Debug> Look for Result<T, E> {
    type Found = T;
    fn found(self) -> Result<T, String> {
        self.map_err(|seen| format!("{seen:?}"))
    }
}

/// Looks again and again until `look` finds something; fails at the deadline, saying what it saw last.
///
/// A `look` that returns `Result` tells in its error what it saw; one that returns `Option` has nothing to tell.
#[track_caller]
pub fn await_until<L: Look>(deadline: Duration, what: &str, mut look: impl FnMut() -> L) -> L::Found {
    let started = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let seen = match look().found() {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        assert!(started.elapsed() < deadline, "{what}: not within {deadline:?}; last seen: {seen}");
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// Runs a future to its end on a thread of its own, so that synchronous tests and tests inside a runtime may both call it.
pub fn block_on<F>(future: F) -> F::Output
where
    F: Future + Send,
    F::Output: Send,
{
    thread::scope(|scope| {
        scope
            .spawn(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future))
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A port that nothing listens on and that this process has not handed out before.
///
/// Why not port 0: the system picks from the ephemeral range, and while a server is stopped a client that keeps connecting to such
/// a port can be given the very same port as its source, connects to itself and holds it against the server's return.
pub fn free_port() -> u16 {
    static TAKEN: OnceLock<Mutex<HashSet<u16>>> = OnceLock::new();
    let mut taken = TAKEN.get_or_init(Mutex::default).lock().expect("ports");
    loop {
        let port = fastrand::u16(12_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && taken.insert(port) {
            return port;
        }
    }
}

/// A directory for one part, readable by every user (PostgreSQL runs as its own), gone when this value or the process is.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(part: &str) -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = scratch_of_process().join(format!("{part}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).expect("create a scratch directory");
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const SCRATCH_PREFIX: &str = "huntline-tests-";

/// One directory a process, named for its pid, removed at exit. A process that was killed leaves its own to the next one.
fn scratch_of_process() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();

    extern "C" fn remove() {
        end_all();
        if let Some(root) = ROOT.get() {
            let _ = fs::remove_dir_all(root);
        }
    }

    ROOT.get_or_init(|| {
        let base = std::env::temp_dir();
        for entry in fs::read_dir(&base).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.strip_prefix(SCRATCH_PREFIX));
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let root = base.join(format!("{SCRATCH_PREFIX}{}", std::process::id()));
        fs::create_dir_all(&root).expect("create the scratch directory");
        // SAFETY: `remove` is an `extern "C"` function that does not unwind. Parts shared by all tests are statics, never dropped.
        unsafe { libc::atexit(remove) };
        root
    })
}

/// A server or daemon started here: ended when dropped, and by the kernel when this process ends in any way.
pub struct Process {
    name: &'static str,
    child: Child,
    ended: Option<ExitStatus>,
    /// Where its output goes; the tail is shown when the test that owns it fails.
    output: PathBuf,
}

/// Pids of the processes that run, with the signal that ends each: those owned by statics end with this process, see [`end_all`].
static RUNNING: Mutex<BTreeMap<u32, libc::c_int>> = Mutex::new(BTreeMap::new());

impl Process {
    /// Starts `command` with stdout and stderr appended to `output`.
    pub fn start(name: &'static str, command: Command, output: &Path) -> Process {
        Process::start_ended_by(libc::SIGKILL, name, command, output)
    }

    /// As [`start`](Process::start), for one that would leave something behind if it were killed.
    pub fn start_ended_by(signal: libc::c_int, name: &'static str, mut command: Command, output: &Path) -> Process {
        let log = fs::File::options().create(true).append(true).open(output).expect("open an output file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("an output file")).stderr(log);
        let child = spawn(command).unwrap_or_else(|error| panic!("start {name}: {error}"));
        RUNNING.lock().expect("the running").insert(child.id(), signal);
        Process { name, child, ended: None, output: output.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&mut self, signal: libc::c_int) {
        if self.exited().is_none() {
            // SAFETY: a plain system call; the pid is ours and, not having been waited for, names no other process.
            unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        }
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            let mut running = RUNNING.lock().expect("the running");
            self.ended = self.child.try_wait().expect("wait for a child");
            if self.ended.is_some() {
                running.remove(&self.child.id());
            }
        }
        self.ended
    }

    #[track_caller]
    pub fn await_exit(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} (pid {}) exits", self.name, self.pid());
        await_until(deadline, &what, || self.exited())
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(libc::SIGKILL);
        self.await_exit(Duration::from_secs(20))
    }

    /// The last lines it wrote.
    pub fn tail(&self) -> String {
        let text = fs::read(&self.output).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("---- {} (pid {}) wrote last:\n{}\n----", self.name, self.pid(), self.tail());
        }
        let signal = RUNNING.lock().ok().and_then(|running| running.get(&self.pid()).copied()).unwrap_or(libc::SIGKILL);
        self.signal(libc::SIGCONT);
        self.signal(signal);
        if self.ended.is_none() {
            let _ = self.child.wait();
            if let Ok(mut running) = RUNNING.lock() {
                running.remove(&self.pid());
            }
        }
    }
}

/// Ends what statics own, which nothing drops, so that the scratch directory can go.
fn end_all() {
    let Ok(running) = RUNNING.lock() else { return };
    for (pid, signal) in running.iter() {
        // SAFETY: plain system calls; a pid listed here has not been waited for, so it names our child.
        unsafe {
            libc::kill(*pid as libc::pid_t, libc::SIGCONT);
            libc::kill(*pid as libc::pid_t, *signal);
        }
    }
    for pid in running.keys() {
        // SAFETY: as above; a null status is allowed.
        unsafe { libc::waitpid(*pid as libc::pid_t, std::ptr::null_mut(), 0) };
    }
}

/// Spawns from one thread that lives as long as this process.
///
/// Why: the kernel sends the parent-death signal when the *thread* that spawned the child ends, and each test has a thread of its
/// own; a part shared by many tests would die with the first.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, incoming) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in incoming {
                // SAFETY: prctl is a plain system call, allowed between fork and exec.
                unsafe {
                    command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                        0 => Ok(()),
                        _ => Err(io::Error::last_os_error()),
                    })
                };
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, result) = mpsc::channel();
    spawner.lock().expect("the spawner").send((command, answer)).expect("the spawner lives");
    result.recv().expect("the spawner answers")
}
