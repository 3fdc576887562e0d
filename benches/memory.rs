//! Memory a hunt takes, live and passivated, in a real daemon on a real Kafka and Postgres.
//!
//! `cargo bench --bench memory -- [--hunts N]` (1,000,000 unless told). Each hunt has one event and the
//! eight aggregates of w1. What is printed is the growth of the daemon's resident memory over one that has read
//! nothing, per hunt: with every hunt's actor running, and after all of them were passivated (what the allocator
//! keeps for later is counted as taken).

#[path = "../tests/behaviour/harness/mod.rs"]
#[allow(unused_imports, reason = "the harness tests itself where it is at home")]
mod harness;

use harness::daemon::Daemon;
use harness::kafka::{Kafka, Message};
use harness::postgres::Postgres;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(900);

fn main() {
    let given: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let hunts: usize = match &given[..] {
        [] => 1_000_000,
        [name, number] if name == "--hunts" => number.parse().expect("--hunts takes a number"),
        other => panic!("found {other:?}, expected --hunts N"),
    };
    let kafka = Kafka::start();
    let postgres = Postgres::start(&harness::postgres::Options::default());
    let topic = kafka.create_topic("memory", 4, &[]);
    let (daemon, database) = start(&kafka, &topic, &postgres, "1h");
    let empty = resident(daemon.pid());
    println!("nothing read: {:.1} MB", empty as f64 / 1e6);
    let producer = kafka.producer();
    for first in (0..hunts).step_by(20_000) {
        let messages: Vec<Message> = (first..hunts.min(first + 20_000))
            .map(|n| {
                let value = format!(r#"{{"id":"e-{n}","type":"clue.solved","data":{{"points":{}}}}}"#, n % 2000);
                Message::new(&format!("h-{n:010}"), value)
            })
            .collect();
        producer.send_all(&topic, &messages);
    }
    let per_hunt = |bytes: i64| (bytes - empty) as f64 / hunts as f64;
    await_hunts(&daemon, &postgres, &database, hunts, hunts);
    println!("{hunts} live hunts: {:.0} bytes each", per_hunt(resident(daemon.pid())));
    drop(daemon);
    let (daemon, database) = start(&kafka, &topic, &postgres, "20s");
    await_hunts(&daemon, &postgres, &database, hunts, 0);
    println!("{hunts} passivated hunts: {:.0} bytes each", per_hunt(resident(daemon.pid())));
}

/// A daemon with a database of its own, which it names.
fn start(kafka: &Kafka, topic: &str, postgres: &Postgres, idle: &str) -> (Daemon, String) {
    let database = postgres.create_database();
    let counts = |name: &str, rule: &str| format!("[aggregates.{name}]\nkind = \"count\"\nwhere = \"{rule}\"\n");
    let values = |kind: &str| format!("[aggregates.{kind}]\nkind = \"{kind}\"\nof = \"/data/points\"\n");
    let config = format!(
        "[kafka]\nbrokers = [\"{}\"]\ngroup = \"memory-{idle}\"\ntopics = [\"{topic}\"]\n[store]\nurl = \"{database}\"\n[passivate]\nidle = \"{idle}\"\n[aggregates.events]\nkind = \"count\"\n{}{}{}{}{}{}{}",
        kafka.brokers(),
        values("sum"),
        values("min"),
        values("max"),
        values("mean"),
        counts("small", "data.points < 100"),
        counts("medium", "data.points >= 100 && data.points < 1000"),
        counts("large", "data.points >= 1000"),
    );
    (Daemon::start(&config), database)
}

/// Until so many records are saved, and so many hunts live.
fn await_hunts(daemon: &Daemon, postgres: &Postgres, database: &str, records: usize, live: usize) {
    harness::await_until(LONG, "every record is saved", || {
        let saved = postgres.query(database, "SELECT coalesce(sum(records), 0) FROM huntline.partitions");
        if saved[0][0].as_deref() == Some(&records.to_string()) { Ok(()) } else { Err(saved) }
    });
    harness::await_until(LONG, "so many hunts are live", || {
        let found = daemon.metric("huntline_hunts", &[("state", "live")]);
        if found as usize == live { Ok(()) } else { Err(found) }
    });
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> i64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells");
    line.trim().trim_end_matches(" kB").trim().parse::<i64>().expect("a number of kB") * 1024
}
