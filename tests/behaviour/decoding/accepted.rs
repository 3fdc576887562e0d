//! **Accepted** is stored: whatever the daemon takes of the nasty records, both stores hold as the oracle says, and neither refuses
//! a snapshot.

use super::nasty;
use crate::harness::daemon::Daemon;
use crate::harness::{Scratch, postgres};
use crate::oracle::records::Options;
use crate::oracle::{LeftOut, Partition, Record, Said};
use crate::platform::{Platform, query};

/// Everything that a view can hold of what a record says: numbers, keys and values, whole, in windows and over all hunts.
const DEFINITIONS: &str = r#"
[time]
max_ahead = "never"
[failure]
breaker = { records = 1000, share = 1.0 }
[aggregates.first]
kind = "first"
of = "/data/any"
[aggregates.last]
kind = "last"
of = "/data/any"
[aggregates.last_by_day]
kind = "last"
of = "/data/any"
window = { hopping = "2d", every = "1d", keep = 100 }
[aggregates.sum]
kind = "sum"
of = "/data/points"
[aggregates.min]
kind = "min"
of = "/data/points"
[aggregates.max]
kind = "max"
of = "/data/points"
[aggregates.mean]
kind = "mean"
of = "/data/points"
[aggregates.quantiles]
kind = "quantiles"
of = "/data/points"
[aggregates.max_by_visit]
kind = "max"
of = "/data/points"
window = { session = "1d" }
[aggregates.distinct]
kind = "distinct"
of = "/data/player"
[aggregates.top]
kind = "top"
by = "/data/player"
limit = 1000
[aggregates.top_by_century]
kind = "top"
by = "/data/player"
sum = "/data/points"
limit = 1000
window = { tumbling = "36500d" }
[aggregates.funnel]
kind = "funnel"
by = "/data/player"
stages = ["p", "q"]
[rollup]
aggregates = ["first", "last", "last_by_day", "sum", "min", "max", "mean", "quantiles", "distinct", "top", "top_by_century", "funnel"]
"#;

#[test]
fn what_is_accepted_both_stores_hold_and_neither_refuses() {
    let mut platform = Platform::new("accepted", (1, 1), Options::default());
    platform.definitions_text = format!(
        "[event]\nmax_bytes = \"250KiB\"\n[topic.\"{}\".event]\nhunt = \"/data/hunt\"\n{DEFINITIONS}",
        platform.topics[1].name
    );
    let mut records = nasty::records();
    records.extend(nasty::huge());
    let topics: Vec<Partition> = platform.topics.iter().map(|topic| (topic.name.clone(), 0)).collect();
    for topic in &topics {
        // Kafka gives a time to what has none.
        let stamped = records.iter().filter(|record| record.timestamp_ms >= 0);
        platform.send_these(stamped.map(|record| (topic.clone(), record.clone())).collect::<Vec<(Partition, Record)>>());
    }
    let said = platform.said(&LeftOut::new());
    much_is_accepted(&said);

    let store = postgres::shared().create_database();
    let mut daemon = Daemon::start(&platform.config(&store, "300ms", ""));
    platform.await_saved(&store);
    nothing_is_refused(&store, &daemon);
    platform.assert_store_says(&store, &said);
    platform.assert_api_says(&daemon, &said);
    // They come back out of it as they went in.
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    platform.send_these(vec![(topics[0].clone(), records[0].clone()), (topics[1].clone(), records[1].clone())]);
    daemon.restart();
    platform.await_saved(&store);
    let said = platform.said(&LeftOut::new());
    platform.assert_store_says(&store, &said);
    platform.assert_api_says(&daemon, &said);
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());

    let folder = Scratch::new("accepted");
    let store = format!("sqlite:{}", folder.join("huntline.db").display());
    let mut daemon = Daemon::start(&platform.config(&store, "300ms", ""));
    platform.await_saved(&store);
    nothing_is_refused(&store, &daemon);
    platform.assert_store_says(&store, &said);
    platform.assert_api_says(&daemon, &said);
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
}

/// Nasty as they are, many make hunts, keys and values of every sort.
fn much_is_accepted(said: &Said) {
    let applied: i64 = said.partitions.values().map(|of| of.counts.applied).sum();
    assert!(applied > 1_000, "only {applied} are applied");
    assert!(said.hunts.len() > 60, "only {} hunts", said.hunts.len());
    for odd in ["'; drop table hunts; --", "🏴‍☠️", "18446744073709551615", "..", &"h".repeat(512), "\u{202e}abc", "\u{ffff}"]
    {
        assert!(said.hunts.contains_key(odd), "no hunt {odd:?}");
    }
    let rollup = |name: &str| said.rollup[name].to_string();
    for odd in ["18446744073709551615", "\u{10ffff}", "\"\"", "e\u{301}", "{\\\"a\\\":1}"] {
        assert!(rollup("top").contains(odd), "no key {odd:?}: {}", rollup("top"));
    }
}

#[track_caller]
fn nothing_is_refused(store: &str, daemon: &Daemon) {
    assert_eq!(daemon.metric("huntline_store_errors_total", &[]), 0.0, "{}", daemon.output());
    assert_eq!(daemon.metric("huntline_hunts", &[("state", "lagging")]), 0.0, "{}", daemon.output());
    assert_eq!(query(store, "SELECT hunt_id FROM huntline.hunts WHERE status <> 'live'"), Vec::<Vec<Option<String>>>::new());
}
