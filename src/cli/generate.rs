//! **`huntline generate`**: sends a seeded, realistic stream of hunt events to Kafka or to an embedded log.
//!
//! Paces the stream, shows how far it is and says at the end what was sent of each kind. Invariant: it succeeds only
//! when every record it counted is acknowledged.

mod sink;

use crate::cli::screen::plural;
use crate::generate::{Bad, Nature, Options, Record, Stream, Workload};
use crate::source::log::TOPIC;
use crate::time::Micros;
use anyhow::{Context, Result};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sink::Sink;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Clone, Debug, clap::Args)]
pub struct GenerateArgs {
    /// Kafka's brokers
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', default_value = "localhost:9092")]
    pub brokers: Vec<String>,
    /// The topic; it must exist, or --create-partitions be given
    #[arg(long, default_value = TOPIC)]
    pub topic: String,
    /// Create the topic with N partitions where there is none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1024))]
    pub create_partitions: Option<i32>,
    /// A property of the Kafka client, such as security.protocol=ssl
    #[arg(short = 'X', long = "property", value_name = "KEY=VALUE", value_parser = property)]
    pub properties: Vec<(String, String)>,
    /// Send to the embedded log in this file instead of Kafka (a new one gets 4 partitions)
    #[arg(long, value_name = "PATH", conflicts_with_all = ["brokers", "properties"])]
    pub log: Option<PathBuf>,

    /// Events a second; 0: as fast as possible
    #[arg(long, default_value_t = 100.0, value_name = "N", value_parser = rate)]
    pub rate: f64,
    /// How many events; 0: until interrupted
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub count: u64,
    /// The same seed and options give the same events (byte for byte with --start or --workload; else times are the clock's)
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// How many hunts
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub hunts: u32,
    /// How unequal hunts are: the exponent of Zipf's law; 0: all alike
    #[arg(long, default_value_t = 1.0, value_name = "S")]
    pub skew: f64,
    /// How many players the platform has
    #[arg(long, default_value_t = 50_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub players: u32,
    /// Share of records that are sent twice
    #[arg(long, default_value_t = 0.01, value_name = "SHARE")]
    pub duplicates: f64,
    /// Share of events that come 2 to 30 minutes late
    #[arg(long, default_value_t = 0.01, value_name = "SHARE")]
    pub late: f64,
    /// Share of records that cannot be applied
    #[arg(long, default_value_t = 0.002, value_name = "SHARE")]
    pub bad: f64,
    /// Begin at this time (RFC 3339) instead of now, and let events have their own time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub start: Option<Micros>,
    /// With --start: events a second of their own time (default: the rate, or 1000)
    #[arg(long, value_name = "N", requires = "start")]
    pub event_rate: Option<f64>,
    /// The fixed records of a benchmark workload instead
    #[arg(long, value_enum, conflicts_with_all = ["hunts", "skew", "players", "duplicates", "late", "bad", "start"])]
    pub workload: Option<Workload>,
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|r| (0.0..=1e9).contains(r)).ok_or_else(|| "expected a number from 0 to 1,000,000,000".into())
}

fn time(text: &str) -> Result<Micros, String> {
    Micros::parse_rfc3339(text.as_bytes()).ok_or_else(|| "expected a time such as 2026-01-31T12:00:00Z, from 1970 to 9998".into())
}

impl GenerateArgs {
    fn options(&self) -> Result<Options> {
        if let Some(workload) = self.workload {
            return Ok(Options::workload(workload, self.seed));
        }
        let defaults = Options::default();
        let options = Options {
            seed: self.seed,
            hunts: self.hunts,
            skew: self.skew,
            players: self.players,
            duplicates: self.duplicates,
            late: self.late,
            bad: self.bad,
            start_ms: self.start.map_or(defaults.start_ms, |t| t.0 / 1000),
            events_per_second: self.event_rate.unwrap_or(if self.rate > 0.0 { self.rate } else { 1000.0 }),
            ..defaults
        };
        options.check().map_err(|why| clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{why}\n")))?;
        Ok(options)
    }
}

/// Sends until the count is reached or somebody interrupts. Wrong usage is a [`clap::Error`] inside.
pub fn run(args: GenerateArgs) -> Result<()> {
    let options = args.options()?;
    let interrupted = interruption()?;
    let sink = match &args.log {
        Some(path) => Sink::log(path, &args.topic, args.create_partitions)?,
        None => Sink::kafka(&args)?,
    };
    let sent = send(&args, options, sink, &interrupted)?;
    println!("{sent}");
    Ok(())
}

/// A flag that an interrupt or a request to end raises; what is on its way is still delivered then.
fn interruption() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = flag.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start listening for signals")?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                interrupt = tokio::signal::ctrl_c() => interrupt?,
                _ = end.recv() => {}
            }
            raised.store(true, Ordering::Relaxed);
            std::io::Result::Ok(())
        })
    })?;
    Ok(flag)
}

/// How many were sent of each kind.
#[derive(Debug, Default)]
struct Sent {
    to: String,
    seconds: f64,
    total: u64,
    late: u64,
    duplicates: u64,
    bad: [u64; Bad::ALL.len()],
}

impl Sent {
    fn count(&mut self, nature: Nature) {
        self.total += 1;
        match nature {
            Nature::Good => {}
            Nature::Late => self.late += 1,
            Nature::Duplicate => self.duplicates += 1,
            Nature::Bad(bad) => self.bad[bad as usize] += 1,
        }
    }
}

impl std::fmt::Display for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bad: u64 = self.bad.iter().sum();
        let per_second = (self.total as f64 / self.seconds.max(0.001)) as u64;
        write!(f, "sent {} {} to {} in {:.1} s", HumanCount(self.total), plural(self.total, "record"), self.to, self.seconds)?;
        write!(f, " ({} a second): {} good", HumanCount(per_second), HumanCount(self.total - self.late - self.duplicates - bad))?;
        write!(f, ", {} late, {} duplicate, {} bad", HumanCount(self.late), HumanCount(self.duplicates), HumanCount(bad))?;
        let kinds = Bad::ALL.iter().zip(&self.bad).filter(|(_, count)| **count > 0);
        let kinds: Vec<String> = kinds.map(|(kind, count)| format!("{} {}", HumanCount(*count), kind.as_str())).collect();
        if kinds.is_empty() { Ok(()) } else { write!(f, " ({})", kinds.join(", ")) }
    }
}

fn send(args: &GenerateArgs, options: Options, mut sink: Sink, interrupted: &AtomicBool) -> Result<Sent> {
    let live = args.start.is_none() && args.workload.is_none();
    let mut stream = Stream::new(options);
    let mut sent = Sent { to: sink.name().into(), ..Sent::default() };
    let mut progress = Progress::new(args.count);
    let mut pace = Pace::new(args.rate);
    let mut chunk: Vec<Record> = Vec::new();
    let begun = Instant::now();
    while !interrupted.load(Ordering::Relaxed) && (args.count == 0 || sent.total < args.count) {
        let left = if args.count == 0 { u64::MAX } else { args.count - sent.total };
        let due = pace.due(sink.chunk()).min(left) as usize;
        if due == 0 {
            progress.tell(sink.acknowledged(sent.total), sink.trouble());
            std::thread::sleep(Pace::TICK);
            continue;
        }
        if live {
            stream.set_clock(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64));
        }
        if chunk.len() < due {
            chunk.resize_with(due, Record::default);
        }
        for record in &mut chunk[..due] {
            stream.next_into(record);
            sent.count(record.nature);
        }
        sink.send(&chunk[..due], interrupted)?;
        progress.tell(sink.acknowledged(sent.total), sink.trouble());
    }
    sink.finish().with_context(|| format!("send the last of {} records to {}", HumanCount(sent.total), sent.to))?;
    progress.end();
    sent.seconds = begun.elapsed().as_secs_f64();
    Ok(sent)
}

/// Says how many records are due by now.
struct Pace {
    /// A second; 0: always as many as the sink takes at once.
    rate: f64,
    since: Instant,
    given: f64,
}

impl Pace {
    /// Short, so that a steady rate is steady for its reader too.
    const TICK: Duration = Duration::from_millis(10);

    fn new(rate: f64) -> Self {
        Self { rate, since: Instant::now(), given: 0.0 }
    }

    fn due(&mut self, at_most: u64) -> u64 {
        if self.rate == 0.0 {
            return at_most;
        }
        let owed = self.since.elapsed().as_secs_f64() * self.rate - self.given;
        // What was missed while the sink stood still is not made up for in one burst.
        if owed > self.rate.max(1.0) * 2.0 {
            self.since = Instant::now();
            self.given = -1.0;
            return 0;
        }
        let due = (owed.max(0.0) as u64).min(at_most);
        self.given += due as f64;
        due
    }
}

/// A bar or a counter on a terminal, a line every few seconds elsewhere.
struct Progress {
    bar: ProgressBar,
    lines: bool,
    begun: Instant,
    told: Instant,
}

impl Progress {
    const LINES: Duration = Duration::from_secs(5);

    fn new(count: u64) -> Self {
        let lines = !std::io::stderr().is_terminal();
        let (bar, template) = match count {
            0 => (ProgressBar::no_length(), "{spinner} {human_pos} sent, {per_sec} {msg}"),
            _ => (ProgressBar::new(count), "{wide_bar} {human_pos} of {human_len} sent, {per_sec}, {eta} left {msg}"),
        };
        bar.set_draw_target(if lines { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, lines, begun: Instant::now(), told: Instant::now() }
    }

    fn tell(&mut self, sent: u64, trouble: Option<String>) {
        self.bar.set_position(sent);
        if let Some(trouble) = trouble {
            self.bar.set_message(trouble);
        }
        if self.told.elapsed() < Self::LINES {
            return;
        }
        self.told = Instant::now();
        if self.lines {
            let per_second = (sent as f64 / self.begun.elapsed().as_secs_f64()) as u64;
            eprintln!("sent {} records, {} a second {}", HumanCount(sent), HumanCount(per_second), self.bar.message());
        }
        // What still goes wrong is said again by then.
        self.bar.set_message("");
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests;
