//! The **breaker**: a configuration that reads the wrong place does not copy a topic into the dead letters. Its partition trips, says
//! so everywhere, and waits for an operator, through restarts; a stream with bad records among good ones goes on.

use crate::harness::daemon::{Daemon, Setup};
use crate::harness::kafka::{self, Message, unique};
use crate::harness::{await_until, postgres};
use crate::platform::query;
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
/// `failure.breaker.records`; the share is a half.
const RECORDS: i64 = 100;

#[test]
fn a_wrong_place_for_the_hunt_trips_the_partition_until_an_operator_resets_it_even_through_a_restart() {
    let stage = Stage::new("breaker");
    // In the first partition no record has the header that is read, in the second all do.
    stage.send(0, 350, |_| Record::Unnamed);
    stage.send(1, 200, |_| Record::Good);
    let mut daemon = Setup::new(&stage.config()).spawn();
    stage.await_tripped(&daemon, RECORDS);
    stage.await_saved(1, 200);
    assert_eq!(stage.letters(0), RECORDS);
    stage.is_told(&daemon);

    let done = stage.reset(&daemon, 0);
    assert_eq!(done, (Some(0), format!("{}/0: reset\n", stage.topic)));
    stage.await_tripped(&daemon, 2 * RECORDS);
    assert_eq!(stage.letters(0), 2 * RECORDS);
    let acts = query(&stage.store, r#"SELECT act, partition, "by", result FROM huntline.acts WHERE done_at IS NOT NULL"#);
    let expected = ["reset", "0", "the API, from 127.0.0.1", "reset"].map(|text| Some(text.to_owned()));
    assert_eq!(acts, [expected], "what was asked is done once, and written down");
    let (code, told) = stage.reset(&daemon, 1);
    assert!(code == Some(1) && told.contains("/1: the partition's breaker is not tripped"), "{told}");
    let (code, told) = stage.reset(&daemon, 7);
    assert!(code == Some(1) && told.contains("/7: no instance ever claimed this partition"), "{told}");

    // Killed, and stopped in good order: either way it comes back tripped, while the other partition goes on.
    for (stop, saved) in [(true, 250), (false, 300)] {
        if stop {
            daemon.kill9();
        } else {
            assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
        }
        stage.send(1, 50, |_| Record::Good);
        daemon.relaunch();
        stage.await_saved(1, saved);
        stage.await_tripped(&daemon, 2 * RECORDS);
        assert_eq!(stage.letters(0), 2 * RECORDS);
    }
    stage.is_told(&daemon);

    assert_eq!(stage.reset(&daemon, 0).0, Some(0));
    stage.await_tripped(&daemon, 3 * RECORDS);
    // Fewer are left than it takes to trip: the breaker counts anew from a reset on.
    assert_eq!(stage.reset(&daemon, 0).0, Some(0));
    stage.await_saved(0, 350);
    daemon.await_ready();
    assert_eq!(stage.letters(0), 350);
    await_until(SOON, "no breaker is tripped any more", || match stage.gauge(&daemon, 0) {
        0.0 => Ok(()),
        other => Err(other),
    });
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
}

#[test]
fn a_stream_with_bad_records_among_good_ones_goes_on() {
    let stage = Stage::new("breaker-few");
    // Of any hundred in a row 49 are bad.
    stage.send(0, 1000, |n| match n % 100 {
        n if n % 2 == 0 && n < 98 => Record::Bad,
        _ => Record::Good,
    });
    stage.send(1, 300, |n| if n % 10 == 0 { Record::Unnamed } else { Record::Good });
    let mut daemon = Daemon::start(&stage.config());
    stage.await_saved(0, 1000);
    stage.await_saved(1, 300);
    assert_eq!((stage.letters(0), stage.letters(1)), (490, 30));
    let tripped = query(&stage.store, "SELECT count(*) FROM huntline.partitions WHERE tripped IS NOT NULL");
    assert_eq!(tripped[0][0].as_deref(), Some("0"));
    assert_eq!((stage.gauge(&daemon, 0), stage.gauge(&daemon, 1)), (0.0, 0.0));
    assert!(!daemon.output().contains("the breaker tripped"), "{}", daemon.output());
    assert_eq!(daemon.http_get("/readyz").0, 200);
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
}

#[derive(Clone, Copy)]
enum Record {
    Good,
    /// Its value is no JSON.
    Bad,
    /// Without the header that names its hunt.
    Unnamed,
}

/// A topic of two partitions and a store.
struct Stage {
    topic: String,
    group: String,
    store: String,
}

impl Stage {
    fn new(name: &str) -> Stage {
        let topic = kafka::shared().create_topic(name, 2, &[]);
        Stage { topic, group: unique(name), store: postgres::shared().create_database() }
    }

    fn config(&self) -> String {
        format!(
            "[kafka]\nbrokers = [\"{}\"]\ngroup = \"{}\"\ntopics = [\"{}\"]\n[store]\nurl = \"{}\"\n[snapshot]\ninterval = \"300ms\"\n\
             [event]\nhunt = \"header:nobody\"\n[failure]\nbreaker = {{ records = {RECORDS}, share = 0.5 }}\n\
             [aggregates.solved]\nkind = \"count\"\n",
            kafka::shared().brokers(),
            self.group,
            self.topic,
            self.store
        )
    }

    fn send(&self, partition: i32, count: i64, record: impl Fn(i64) -> Record) {
        let messages: Vec<Message> = (0..count)
            .map(|n| {
                let message = |value: &str| Message::new("harbour-42", value).to(partition);
                match record(n) {
                    Record::Good => message(r#"{"type":"clue.solved"}"#).header("nobody", "harbour-42"),
                    Record::Bad => message("no JSON").header("nobody", "harbour-42"),
                    Record::Unnamed => message(r#"{"type":"clue.solved"}"#),
                }
            })
            .collect();
        kafka::shared().produce(&self.topic, &messages);
    }

    fn await_saved(&self, partition: i32, position: i64) {
        let sql = format!("SELECT position FROM huntline.partitions WHERE partition = {partition}");
        await_until(SOON, "the partition is saved", || {
            let found = postgres::query(&self.store, &sql);
            let rows = found.as_ref().map_err(Clone::clone)?;
            match rows.first().and_then(|row| row[0].clone()) {
                Some(found) if found == position.to_string() => Ok(()),
                _ => Err(format!("{found:?}, expected {position}")),
            }
        });
    }

    /// Waits until the first partition stands tripped at `position`, here and in the store, and the daemon does everything else.
    fn await_tripped(&self, daemon: &Daemon, position: i64) {
        let sql = format!(
            "SELECT count(*) FROM huntline.partitions WHERE partition = 0 AND position = {position} AND tripped IS NOT NULL"
        );
        await_until(SOON, "the partition is tripped", || {
            let saved = postgres::query(&self.store, &sql)?;
            let url = daemon.url("/readyz");
            let (status, body) = crate::harness::daemon::request("GET", &url, &[], None)?;
            let problem: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
            let words = format!("{}/0: the breaker tripped: ", self.topic);
            let reasons = problem["reasons"].as_array().cloned().unwrap_or_default();
            let named = reasons.len() == 1 && reasons[0].as_str().is_some_and(|reason| reason.starts_with(&words));
            if saved[0][0].as_deref() == Some("1") && status == 503 && named {
                Ok(())
            } else {
                Err(format!("{saved:?} {status} {body}\n{}", daemon.output()))
            }
        });
    }

    /// The API, the metrics, the command line and the log say which partition is tripped and why.
    fn is_told(&self, daemon: &Daemon) {
        let page = daemon.json("/v1/partitions");
        let words = page["partitions"][0]["tripped"].as_str().expect("words").to_owned();
        assert!(words.starts_with("100 of the newest 100 records are dead letters") && words.contains("is no_hunt: "), "{words}");
        let told = |n: usize, member: &str| page["partitions"][n][member].clone();
        assert_eq!((told(0, "state"), told(1, "state"), told(1, "tripped")), ("tripped".into(), "running".into(), Value::Null));
        let gauges = || {
            let both = (self.gauge(daemon, 0), self.gauge(daemon, 1));
            if both == (1.0, 0.0) { Ok(()) } else { Err(both) }
        };
        await_until(SOON, "the gauge says so", gauges);
        let (code, listed) = huntline(&["partitions", "list", "--url", &daemon.url("")]);
        assert_eq!(code, Some(0), "{listed}");
        assert!(listed.contains(&format!("{}/0 is tripped: {words}\n", self.topic)), "{listed}");
        assert!(daemon.output().contains("the breaker tripped"), "{}", daemon.output());
    }

    fn letters(&self, partition: i32) -> i64 {
        let sql = format!("SELECT count(*) FROM huntline.dead_letters WHERE partition = {partition}");
        query(&self.store, &sql)[0][0].as_ref().expect("a count").parse().expect("a number")
    }

    fn gauge(&self, daemon: &Daemon, partition: i32) -> f64 {
        let labels = [("topic", &*self.topic), ("partition", &*partition.to_string())];
        daemon.find_metric("huntline_breaker_tripped", &labels).expect("a gauge of the partition")
    }

    fn reset(&self, daemon: &Daemon, partition: i32) -> (Option<i32>, String) {
        huntline(&["partitions", "reset", &format!("{}/{partition}", self.topic), "--url", &daemon.url("")])
    }
}

/// Exit code and everything a command said.
fn huntline(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_huntline")).args(args).stdin(Stdio::null()).output().expect("run huntline");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).expect("text"))
}
