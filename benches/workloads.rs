//! CPU per event of the daemon beside a bare loop, on a real Kafka and a real Postgres.
//!
//! `cargo bench --bench workloads -- [--records N] [--workload w1|w2|w3|w4|w5] [--rounds N]`
//!
//! w1 (10,000 hunts), w2 (100,000, Zipf 1.3) and w3 (1,000,000): count, sum, min, max and mean of points, and counts of three ranges
//! of them. w4: the first five in tumbling windows of 10 s, events up to 5 s out of order, 2 % of them late. w5: distinct players and
//! the ten clues with the most events.
//!
//! The bare loop reads the same topic in batches, decodes with the same plan and folds into a map: no
//! actors, no store, no snapshots. Both run as processes of their own, in turn, and what is printed is
//! user + sys CPU per million records as the slope between 40 % and 100 % of the log, so that start-up
//! cancels; the store's own CPU is counted apart. Machines are noisy: read the median of the ratios.

#[path = "../tests/behaviour/harness/mod.rs"]
#[allow(unused_imports, reason = "the harness tests itself where it is at home")]
mod harness;

use harness::daemon::Daemon;
use harness::kafka::Kafka;
use harness::postgres::Postgres;
use huntline::config;
use huntline::decode::{Decoded, Plan, Verdict};
use huntline::partial::{Fold, Partial};
use huntline::position::{Epoch, Position};
use huntline::record::PartitionId;
use huntline::rollup::Delta;
use huntline::source::{Command, Event, kafka};
use huntline::time::Micros;
use std::collections::{BTreeMap, HashMap};
use std::process::{self, Stdio};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// w1, w2 and w3.
const PLAIN: &str = r#"
[aggregates.events]
kind = "count"
[aggregates.points]
kind = "sum"
of = "/data/points"
[aggregates.least]
kind = "min"
of = "/data/points"
[aggregates.most]
kind = "max"
of = "/data/points"
[aggregates.average]
kind = "mean"
of = "/data/points"
[aggregates.small]
kind = "count"
where = "data.points < 100"
[aggregates.medium]
kind = "count"
where = "data.points >= 100 && data.points < 1000"
[aggregates.large]
kind = "count"
where = "data.points >= 1000"
"#;

const WINDOWED: &str = r#"
[time]
lateness = "5s"
[aggregates.events]
kind = "count"
window = { tumbling = "10s" }
[aggregates.points]
kind = "sum"
of = "/data/points"
window = { tumbling = "10s" }
[aggregates.least]
kind = "min"
of = "/data/points"
window = { tumbling = "10s" }
[aggregates.most]
kind = "max"
of = "/data/points"
window = { tumbling = "10s" }
[aggregates.average]
kind = "mean"
of = "/data/points"
window = { tumbling = "10s" }
"#;

const KEYED: &str = r#"
[aggregates.players]
kind = "distinct"
of = "/data/player_id"
[aggregates.clues]
kind = "top"
by = "/data/clue_id"
"#;

fn aggregates(workload: &str) -> &'static str {
    match workload {
        "w4" => WINDOWED,
        "w5" => KEYED,
        _ => PLAIN,
    }
}

struct Arguments {
    records: u64,
    workload: String,
    rounds: usize,
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [mode, brokers, topic, workload] = &given[..]
        && mode == "bare"
    {
        return bare(brokers, topic, workload);
    }
    let mut arguments = Arguments { records: 4_000_000, workload: "w1".into(), rounds: 3 };
    for pair in given.chunks(2) {
        let [name, value] = pair else { panic!("found {pair:?}, expected --records N --workload NAME --rounds N") };
        match &name[..] {
            "--records" => arguments.records = value.parse().expect("--records takes a number"),
            "--rounds" => arguments.rounds = value.parse().expect("--rounds takes a number"),
            "--workload" => arguments.workload = value.clone(),
            other => panic!("found {other}, expected --records, --workload or --rounds"),
        }
    }
    compare(&arguments);
}

fn compare(arguments: &Arguments) {
    let kafka = Kafka::start();
    let postgres = Postgres::start(&harness::postgres::Options::default());
    // The workload's record timestamps lie in the past: by default retention would take them at once.
    let topic = kafka.create_topic("bench", 4, &[("retention.ms", "-1")]);
    let sent = process::Command::new(env!("CARGO_BIN_EXE_huntline"))
        .args(["generate", "--brokers", &kafka.brokers(), "--topic", &topic, "--workload", &arguments.workload])
        .args(["--count", &arguments.records.to_string(), "--rate", "0", "--seed", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .expect("huntline generate starts");
    assert!(sent.success(), "huntline generate: {sent}");
    println!("{}: {} records, {} rounds", arguments.workload, arguments.records, arguments.rounds);
    println!("{:>6} {:>10} {:>10} {:>10} {:>12} {:>8}", "round", "bare", "daemon", "store", "records/s", "ratio");
    let mut ratios = Vec::new();
    for round in 1..=arguments.rounds {
        let bare = bare_process(&kafka.brokers(), &topic, &arguments.workload);
        let (daemon, store, rate) = daemon_process(&kafka, &topic, &postgres, arguments);
        ratios.push(daemon / bare);
        println!("{round:>6} {bare:>10.3} {daemon:>10.3} {store:>10.3} {rate:>12.0} {:>8.2}", daemon / bare);
    }
    ratios.sort_by(f64::total_cmp);
    println!("CPU-seconds per million records; median ratio daemon / bare loop: {:.2}", ratios[ratios.len() / 2]);
}

/// Runs the bare loop in a process of its own; its slope.
fn bare_process(brokers: &str, topic: &str, workload: &str) -> f64 {
    let output = process::Command::new(std::env::current_exe().expect("a path"))
        .args(["bare", brokers, topic, workload])
        .stderr(Stdio::inherit())
        .output()
        .expect("the bare loop starts");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("the bare loop said {text:?}"))
}

fn daemon_process(kafka: &Kafka, topic: &str, postgres: &Postgres, arguments: &Arguments) -> (f64, f64, f64) {
    let records = arguments.records;
    let database = postgres.create_database();
    let config = format!(
        "[kafka]\nbrokers = [\"{}\"]\ngroup = \"{topic}\"\ntopics = [\"{topic}\"]\n[store]\nurl = \"{database}\"\n{}",
        kafka.brokers(),
        aggregates(&arguments.workload)
    );
    let directory = &postgres.query(&database, "SHOW data_directory")[0][0].clone().expect("a directory");
    let pid_file = std::fs::read_to_string(format!("{directory}/postmaster.pid")).expect("the postmaster's pid");
    let postmaster: u32 = pid_file.lines().next().and_then(|line| line.trim().parse().ok()).expect("a pid");
    let daemon = Daemon::start(&config);
    let mut samples = Vec::new();
    let began = Instant::now();
    harness::await_until(Duration::from_secs(600), "the log is read and saved", || {
        let position: f64 = (0..4)
            .filter_map(|partition| {
                daemon.find_metric("huntline_position", &[("topic", topic), ("partition", &partition.to_string())])
            })
            .sum();
        samples.push((position, cpu_of(daemon.pid()), family_cpu(postmaster), Instant::now()));
        let saved = postgres.query(&database, "SELECT coalesce(sum(records), 0) FROM huntline.partitions");
        if saved[0][0].as_deref() == Some(&records.to_string()) { Ok(()) } else { Err(position) }
    });
    let last = (records as f64, cpu_of(daemon.pid()), family_cpu(postmaster));
    let done = samples.iter().find(|sample| sample.0 >= records as f64).map_or(Instant::now(), |sample| sample.3);
    let first = samples.iter().find(|sample| sample.0 >= 0.4 * records as f64).expect("a sample on the way");
    let millions = (last.0 - first.0) / 1e6;
    assert!(millions > 0.0, "no sample between 40 % and the end: more --records are needed");
    let rate = records as f64 / (done - began).as_secs_f64();
    drop(daemon);
    ((last.1 - first.1) / millions, (last.2 - first.2) / millions, rate)
}

/// Reads the whole topic, decodes it and folds it into a map; prints its own slope.
fn bare(brokers: &str, topic: &str, workload: &str) {
    let text = format!("[kafka]\nbrokers = [\"{brokers}\"]\ntopics = [\"{topic}\"]\n{}", aggregates(workload));
    let settings = config::load_text(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let definitions = &settings.definitions;
    let plan = Plan::new(definitions, topic);
    let fold = Fold::new(definitions, &plan, 8 << 20);
    let source = kafka::Settings {
        brokers: vec![brokers.to_owned()],
        group: "bare".into(),
        topics: vec![topic.to_owned()],
        instance: String::new(),
        on_gap: kafka::OnGap::Halt,
        librdkafka: BTreeMap::new(),
        sasl_password: None,
        assign_all: true,
        limits: kafka::Limits::default(),
    };
    let identity = kafka::identity(&source).expect("the topic").log;
    let partitions = (0..identity.topics[0].partitions).map(|number| PartitionId::new(topic, number));
    let end: i64 = partitions.map(|id| kafka::resolve_start(&source, &id, kafka::Start::End).expect("an end").0).sum();
    let (send, mut events) = tokio::sync::mpsc::unbounded_channel();
    let (commands, _) = kafka::start(source, identity, send);
    let mut hunts: HashMap<Box<[u8]>, Partial> = HashMap::new();
    let (mut clocks, mut positions) = (HashMap::new(), BTreeMap::new());
    let mut decoded = Decoded::default();
    let (mut first, mut read) = (None, 0u64);
    while let Some(event) = events.blocking_recv() {
        match event {
            Event::Assigned(partitions) => {
                for partition in partitions {
                    commands.send(Command::Assign { partition, position: Position(0), epoch: Epoch(1) }).expect("it reads");
                }
            }
            Event::Batch(batch) => {
                plan.decode(&batch, &mut decoded);
                let clock: &mut Option<Micros> = clocks.entry(batch.partition.partition).or_default();
                for index in 0..batch.records.len() {
                    let event = &decoded.events[index];
                    if event.verdict == Verdict::Event {
                        let id = decoded.text(&batch, event.hunt);
                        let partial = match hunts.get_mut(id) {
                            Some(partial) => partial,
                            None => hunts.entry(id.into()).or_insert_with(|| fold.start()),
                        };
                        fold.apply(partial, &batch, &decoded, index, *clock, &mut Delta::default());
                    }
                    *clock = (*clock).max(Micros::of_record_timestamp(batch.records[index].timestamp_ms));
                }
                read += batch.records.len() as u64;
                positions.insert(batch.partition.clone(), batch.next);
            }
            Event::Failed(why) => panic!("{why}"),
            _ => {}
        }
        let position: i64 = positions.values().map(|position: &Position| position.0).sum();
        if first.is_none() && position as f64 >= 0.4 * end as f64 {
            first = Some((read, cpu_of(process::id())));
        }
        if position >= end {
            break;
        }
    }
    let (at, cpu) = first.expect("a sample on the way");
    println!("{}", (cpu_of(process::id()) - cpu) / ((read - at) as f64 / 1e6));
    // Not waiting for the reader's good-bye.
    process::exit(0);
}

/// User and system CPU of a process so far, in seconds.
fn cpu_of(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |fields| ticks(&fields, 11) + ticks(&fields, 12))
}

/// The same of a process and all of its children, those that have ended too.
fn family_cpu(parent: u32) -> f64 {
    let own = stat(parent).map_or(0.0, |fields| (11..=14).map(|field| ticks(&fields, field)).sum());
    let children = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| {
        let fields = stat(entry.file_name().to_str()?.parse().ok()?)?;
        (fields.get(1)?.parse() == Ok(parent)).then(|| ticks(&fields, 11) + ticks(&fields, 12))
    });
    own + children.sum::<f64>()
}

/// The fields of /proc/PID/stat after the command's name.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn ticks(fields: &[String], field: usize) -> f64 {
    // Linux counts in hundredths of a second towards programs.
    fields.get(field).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) / 100.0
}
