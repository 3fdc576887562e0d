//! The daemon under test: the binary of this build, in a process of its own, seen through its HTTP API and its signals.

use super::prometheus::Samples;
use super::{Process, Scratch, await_until, free_port};
use std::fs;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// What the harness gives a daemon to become ready, or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon to be: its configuration, with further arguments and environment.
pub struct Setup {
    config: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    process: Process,
    setup: Setup,
    port: u16,
    scratch: Scratch,
}

impl Setup {
    /// From the text of a configuration file. `[http] listen` and `advertise` are the harness's: it sets them by the environment.
    pub fn new(config: &str) -> Setup {
        Setup { config: config.to_owned(), args: Vec::new(), env: Vec::new() }
    }

    /// A further argument of `huntline run`.
    pub fn arg(mut self, arg: &str) -> Setup {
        self.args.push(arg.to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Setup {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the daemon and returns when `/readyz` says ready.
    #[track_caller]
    pub fn start(self) -> Daemon {
        let mut daemon = self.spawn();
        daemon.await_ready();
        daemon
    }

    /// Starts the daemon and returns at once, for one that is not to become ready.
    pub fn spawn(self) -> Daemon {
        let scratch = Scratch::new("daemon");
        let port = free_port();
        let process = launch(&self, port, &scratch);
        Daemon { process, setup: self, port, scratch }
    }
}

fn launch(setup: &Setup, port: u16, scratch: &Scratch) -> Process {
    let config = scratch.join("huntline.toml");
    fs::write(&config, &setup.config).expect("write the configuration");
    let mut command = Command::new(env!("CARGO_BIN_EXE_huntline"));
    command.current_dir(scratch.path()).arg("run").arg("--config").arg(&config).args(&setup.args);
    command.env("HUNTLINE__HTTP__LISTEN", format!("127.0.0.1:{port}"));
    command.env("HUNTLINE__HTTP__ADVERTISE", format!("http://127.0.0.1:{port}"));
    command.envs(setup.env.iter().map(|(name, value)| (name, value)));
    Process::start("huntline", command, &scratch.join("output"))
}

impl Daemon {
    /// Starts a daemon with this configuration and returns when it is ready.
    #[track_caller]
    pub fn start(config: &str) -> Daemon {
        Setup::new(config).start()
    }

    #[track_caller]
    pub fn await_ready(&mut self) {
        let url = self.url("/readyz");
        let process = &mut self.process;
        await_until(PATIENCE, "the daemon is ready", || {
            if let Some(status) = process.exited() {
                panic!("the daemon ended ({status}) instead of becoming ready:\n{}", process.tail());
            }
            match request("GET", &url, &[], None)? {
                (200, _) => Ok(()),
                other => Err(format!("{other:?}\n{}", process.tail())),
            }
        });
    }

    /// Starts it again after it ended, with the same configuration, directory and port.
    #[track_caller]
    pub fn restart(&mut self) {
        self.relaunch();
        self.await_ready();
    }

    /// As [`restart`](Daemon::restart), for one that is not to become ready.
    #[track_caller]
    pub fn relaunch(&mut self) {
        assert!(self.process.exited().is_some(), "the daemon runs still");
        self.process = launch(&self.setup, self.port, &self.scratch);
    }

    /// As [`restart`](Daemon::restart), with another configuration.
    #[track_caller]
    pub fn restart_with(&mut self, config: &str) {
        self.setup.config = config.to_owned();
        self.restart();
    }

    pub fn kill9(&mut self) {
        self.process.kill();
    }

    pub fn sigstop(&mut self) {
        self.process.signal(libc::SIGSTOP);
    }

    pub fn sigcont(&mut self) {
        self.process.signal(libc::SIGCONT);
    }

    /// Asks it to stop and returns its exit code; `None` if a signal ended it.
    #[track_caller]
    pub fn sigterm(&mut self) -> Option<i32> {
        self.process.signal(libc::SIGTERM);
        self.await_exit().code()
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn await_exit(&mut self) -> ExitStatus {
        self.process.await_exit(PATIENCE)
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Everything it wrote to stdout and stderr since its first start.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.scratch.join("output")).unwrap_or_default()).into_owned()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Status and body of a GET.
    #[track_caller]
    pub fn http_get(&self, path: &str) -> (u16, String) {
        self.http("GET", path, &[], None)
    }

    /// Status and body of any request; headers carry tokens.
    #[track_caller]
    pub fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> (u16, String) {
        request(method, &self.url(path), headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The body of a GET that answers 200, as JSON.
    #[track_caller]
    pub fn json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.http_get(path);
        assert_eq!(status, 200, "GET {path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("GET {path}: {error}: {body}"))
    }

    /// The sum of the series of this name that carry these labels; 0 if there is none.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find_metric(name, labels).unwrap_or(0.0)
    }

    /// As [`metric`](Daemon::metric), `None` where no series matches.
    #[track_caller]
    pub fn find_metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        Samples::parse(&self.http_get("/metrics").1).sum(name, labels)
    }
}

/// One request; statuses that tell of errors are answers too. The error says why there is no answer.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)], body: Option<&str>) -> Result<(u16, String), String> {
    let config =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(20))).max_redirects(0);
    let agent: ureq::Agent = config.build().into();
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = match body {
        Some(body) => agent.run(request.body(body.to_owned()).map_err(|error| error.to_string())?),
        None => agent.run(request.body(()).map_err(|error| error.to_string())?),
    };
    let mut answer = answer.map_err(|error| error.to_string())?;
    let body = answer.body_mut().with_config().limit(256 << 20).read_to_string().map_err(|error| error.to_string())?;
    Ok((answer.status().as_u16(), body))
}
