//! `huntline demo`: everything in one process on embedded parts. A generator appends the events of
//! live hunts to an embedded log, the daemon folds them into SQLite, and its page shows them.
//!
//! Why the log is trimmed: a demo left running must not fill the disk. Only records that every saved
//! partial is past are dropped, and a good many behind them are kept.

use crate::config;
use crate::daemon;
use crate::generate;
use crate::position::Position;
use crate::source::log::{self, Log, NewRecord};
use anyhow::Context as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

const PARTITIONS: i32 = 4;
/// Records kept in the log for each partition.
const KEPT: i64 = 200_000;

#[derive(clap::Args, Debug)]
pub struct DemoArgs {
    /// Keep the demo's data in this directory, and go on from what is there; without it, a temporary one that ends with the demo.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Where its page listens; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Events a second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Hunts that are live at a time.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub hunts: u32,
    /// Stop after this many seconds; without it, when interrupted.
    #[arg(long)]
    pub seconds: Option<u64>,
}

pub fn run(args: DemoArgs) -> anyhow::Result<()> {
    let temporary = match &args.dir {
        Some(_) => None,
        None => Some(Temporary::new()?),
    };
    let dir = args.dir.clone().unwrap_or_else(|| temporary.as_ref().map_or_else(PathBuf::new, |dir| dir.0.clone()));
    std::fs::create_dir_all(&dir).with_context(|| format!("create the directory {}", dir.display()))?;
    let events = dir.join("events.db");
    let parts = parts(&dir, &args)?;
    let loaded = config::load_from(&layers(&dir, parts)?, []).map_err(|problems| anyhow::anyhow!("{problems}"))?;

    super::run::log_to_stderr(&loaded.settings.logging);
    let mut log = Log::open(&events, log::TOPIC, PARTITIONS)?;
    let stopping = Arc::new(AtomicBool::new(false));
    let generator = {
        let (stopping, rate, hunts) = (stopping.clone(), args.rate, args.hunts);
        std::thread::Builder::new().name("generator".into()).spawn(move || feed(&mut log, rate, hunts, &stopping))?
    };
    if let Some(seconds) = args.seconds {
        std::thread::Builder::new().name("end of demo".into()).spawn(move || {
            std::thread::sleep(Duration::from_secs(seconds));
            // The daemon's own way to stop: as a user's ctrl-c.
            // SAFETY: raise takes no pointer and is always sound to call.
            unsafe { libc::kill(libc::getpid(), libc::SIGINT) };
        })?;
    }
    let (rate, kept) = (args.rate, args.dir.is_some());
    let shown = dir.clone();
    let listening = Box::new(move |address: SocketAddr| {
        println!("huntline demo: {rate} events a second, a few of them bad, late or sent twice");
        println!("  page       http://{address}/");
        println!("  hunts      curl http://{address}/v1/hunts");
        println!("  metrics    http://{address}/metrics");
        println!("  data       {}{}", shown.display(), if kept { "" } else { " (gone when the demo ends; --dir keeps it)" });
        println!("  stop       ctrl-c");
    });
    let ran = daemon::run(loaded.settings, daemon::Options { listening: Some(listening), ..daemon::Options::default() });
    stopping.store(true, Ordering::Release);
    let fed = generator.join().map_err(|_| anyhow::anyhow!("the generator ended by a defect"))?;
    ran.map_err(|error| match error.downcast_ref::<std::io::Error>() {
        Some(found) if found.kind() == std::io::ErrorKind::AddrInUse => {
            let listen = args.listen;
            anyhow::anyhow!("--listen {listen}: another program listens there; --listen 127.0.0.1:0 picks a free port")
        }
        _ => error,
    })?;
    fed.context("feed the demo")
}

/// The layers of its configuration, of which `DIR/huntline.toml` is for the commands that read one, such as verify. An edited one is
/// kept, and followed where `parts` says nothing.
fn layers(dir: &Path, parts: String) -> anyhow::Result<Vec<(String, String)>> {
    let file = dir.join("huntline.toml");
    let name = file.display().to_string();
    let pipeline = pipeline();
    match std::fs::read_to_string(&file) {
        Ok(found) if !as_written(&found, &parts, &pipeline) => {
            println!(
                "huntline demo: {name} was edited: it is kept, and followed; --dir and --listen say where log, store and page are"
            );
            Ok(vec![(name, found), ("--dir and --listen".into(), parts)])
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| format!("read {name}")),
        _ => {
            let text = parts + &pipeline;
            std::fs::write(&file, &text).with_context(|| format!("write {name}"))?;
            Ok(vec![(name, text)])
        }
    }
}

/// Whether `found` is what an earlier demo wrote, perhaps with another address or by another path.
fn as_written(found: &str, parts: &str, pipeline: &str) -> bool {
    let keys = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(" = ").next().unwrap_or_default().to_owned()).collect()
    };
    found.strip_suffix(pipeline).is_some_and(|found| keys(found) == keys(parts))
}

/// What is kept of hunts: the pipeline of `config/huntline.toml`.
fn pipeline() -> String {
    let pipeline = include_str!("../../config/huntline.toml");
    let events = pipeline.find("[event]").map_or("", |at| &pipeline[at..]);
    format!("[snapshot]\ninterval = \"1s\"\n\n[logging]\nlevel = \"warn\"\n\n{events}")
}

/// Where its embedded parts are.
fn parts(dir: &Path, args: &DemoArgs) -> anyhow::Result<String> {
    let (log, store) = (dir.join("events.db"), dir.join("views.db"));
    let text = |path: &Path| path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()));
    Ok(format!(
        "[embedded_log]\npath = {}\npartitions = {PARTITIONS}\n\n[store]\nurl = {}\n\n[http]\nlisten = \"{listen}\"\nadvertise = \"http://{listen}\"\n\n",
        toml_edit::Value::from(text(&log)?),
        toml_edit::Value::from(format!("sqlite:{}", text(&store)?)),
        listen = args.listen,
    ))
}

/// Appends events at a steady rate, a tenth of a second's worth at a time, and keeps the log bounded.
fn feed(log: &mut Log, rate: u32, hunts: u32, stopping: &AtomicBool) -> anyhow::Result<()> {
    let options = generate::Options {
        seed: now_ms() as u64,
        hunts,
        skew: 0.8,
        duplicates: 0.02,
        late: 0.02,
        bad: 0.01,
        start_ms: now_ms(),
        ..generate::Options::default()
    };
    let mut stream = generate::Stream::new(options);
    let began = SystemTime::now();
    let (mut sent, mut trimmed) = (0u64, began);
    while !stopping.load(Ordering::Acquire) {
        let due = (began.elapsed().unwrap_or_default().as_secs_f64() * f64::from(rate)) as u64;
        let mut records = Vec::new();
        while sent < due && records.len() < 10_000 {
            stream.set_clock(now_ms());
            let mut record = generate::Record::default();
            stream.next_into(&mut record);
            records.push(record);
            sent += 1;
        }
        let new: Vec<NewRecord> = records.iter().map(NewRecord::from).collect();
        log.append(&new)?;
        if trimmed.elapsed().unwrap_or_default() > Duration::from_secs(60) {
            trimmed = SystemTime::now();
            for extent in log.extents()? {
                if extent.end.0 - extent.low.0 > 2 * KEPT {
                    log.trim(extent.partition, Position(extent.end.0 - KEPT))?;
                }
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// A directory that ends with the demo.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("huntline-demo-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        std::fs::create_dir_all(&dir).with_context(|| format!("create the directory {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_configuration_is_kept_and_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let layers_of = |listen: &str| {
            let args = DemoArgs {
                dir: Some(dir.path().into()),
                listen: listen.parse().expect("an address"),
                rate: 1,
                hunts: 1,
                seconds: None,
            };
            layers(dir.path(), parts(dir.path(), &args).expect("paths in UTF-8")).expect("a configuration")
        };
        let file = dir.path().join("huntline.toml");
        let read = || std::fs::read_to_string(&file).expect("the configuration");
        layers_of("127.0.0.1:1");
        assert!(read().contains("listen = \"127.0.0.1:1\""));
        layers_of("127.0.0.1:2");
        assert!(read().contains("listen = \"127.0.0.1:2\""), "what the demo wrote itself follows its options");

        let edited = read() + "\n[aggregates.extra]\nkind = \"count\"\n";
        std::fs::write(&file, &edited).expect("edit");
        let layers = layers_of("127.0.0.1:3");
        assert_eq!(read(), edited);
        let settings = config::load_from(&layers, []).expect("valid").settings;
        assert_eq!(settings.http.listen.to_string(), "127.0.0.1:3");
        assert!(settings.definitions.aggregates.iter().any(|aggregate| aggregate.name == "extra"));
    }
}
