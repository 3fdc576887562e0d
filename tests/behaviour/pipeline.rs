//! The whole **pipeline**: real records in a real Kafka become, through the daemon, rows in a real PostgreSQL, answers of the API and
//! figures, all as the oracle says; and a stop and a start count nothing twice.

use crate::grafana::every_panel_answers;
use crate::harness::daemon::Daemon;
use crate::harness::prometheus::Samples;
use crate::harness::{await_until, postgres};
use crate::oracle::records::Options;
use crate::oracle::{LeftOut, Said};
use crate::platform::{Platform, everything_happens, options, while_records_flow};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

fn sent() -> Options {
    // A third of the records wander, so that nearly every hunt is merged over partitions and topics.
    Options { seed: 7, hunts: 150, wandering: 0.3, ..options() }
}

#[test]
fn what_kafka_holds_is_what_the_store_the_api_and_the_metrics_say_and_a_restart_counts_nothing_twice() {
    let store = postgres::shared().create_database();
    let mut platform = Platform::new("pipeline", (4, 2), sent());
    for _ in 0..20 {
        platform.send(1_000);
    }
    assert!(platform.aborted > 0, "no transaction was aborted");
    as_sent(&platform);
    let said = platform.said(&LeftOut::new());
    everything_happens(&said);
    assert!(said.hunts.values().filter(|hunt| hunt.partials > 1).count() > 100, "too few hunts stand in several partitions");

    let mut daemon = Daemon::start(&platform.config(&store, "500ms", ""));
    platform.await_saved(&store);
    platform.assert_store_says(&store, &said);
    platform.assert_api_says(&daemon, &said);
    await_until(SOON, "the figures are those of the log", || figures(&daemon, &platform, &said));

    stops(&mut daemon);
    platform.assert_store_says(&store, &said);
    platform.send(2_000);
    daemon.restart();
    platform.await_saved(&store);
    let said = platform.said(&LeftOut::new());
    platform.assert_store_says(&store, &said);
    platform.assert_api_says(&daemon, &said);
    await_until(SOON, "only what is new is counted", || match daemon.metric("huntline_records_total", &[]) {
        2000.0 => Ok(()),
        other => Err(other),
    });

    while_records_flow(&mut platform, 5, || every_panel_answers(&daemon.url("/metrics")));
    platform.await_saved(&store);
    stops(&mut daemon);
    platform.assert_store_says(&store, &platform.said(&LeftOut::new()));
}

/// The oracle is asked about the same records that the daemon reads: what Kafka gives back is what was sent, under its offset.
fn as_sent(platform: &Platform) {
    for topic in &platform.topics {
        for record in platform.kafka.read_all(&topic.name) {
            let sent = &platform.log[&(topic.name.clone(), record.partition)];
            let at = sent.binary_search_by_key(&record.offset, |sent| sent.offset).expect("a record that was sent and committed");
            assert_eq!((&record.key, &record.value), (&sent[at].key, &sent[at].value), "at {}", record.offset);
            assert_eq!(record.timestamp, Some(sent[at].timestamp_ms), "at {}", record.offset);
        }
    }
}

fn figures(daemon: &Daemon, platform: &Platform, said: &Said) -> Result<(), String> {
    let samples = Samples::parse(&daemon.http_get("/metrics").1);
    let sum = |name: &str, labels: &[(&str, &str)]| samples.sum(name, labels);
    let expect = |what: &str, found: Option<f64>, expected: i64| match found {
        Some(found) if found == expected as f64 => Ok(()),
        found => Err(format!("{what}: expected {expected}, found {found:?}")),
    };
    for topic in &platform.topics {
        let of_topic = || said.partitions.iter().filter(|((name, _), _)| *name == topic.name).map(|(_, of)| of.counts);
        for (outcome, expected) in [
            ("applied", of_topic().map(|c| c.applied).sum()),
            ("duplicate", of_topic().map(|c| c.duplicate).sum()),
            ("dead_lettered", of_topic().map(|c| c.dead_lettered).sum()),
            ("ignored", of_topic().map(|c| c.ignored).sum()),
            ("held", 0),
        ] {
            expect(outcome, sum("huntline_records_total", &[("topic", &topic.name), ("outcome", outcome)]), expected)?;
        }
    }
    let mut reasons: BTreeMap<&str, i64> = BTreeMap::new();
    for letter in said.partitions.values().flat_map(|of| &of.dead_letters) {
        *reasons.entry(&letter.reason).or_default() += 1;
    }
    for (reason, expected) in reasons {
        expect(reason, sum("huntline_dead_letters_total", &[("reason", reason)]), expected)?;
    }
    for (aggregate, late) in &said.late {
        expect(aggregate, sum("huntline_late_total", &[("aggregate", aggregate)]), *late as i64)?;
    }
    expect("tripped breakers", sum("huntline_breaker_tripped", &[]), 0)?;
    expect("lag", sum("huntline_consumer_lag", &[]), 0)?;
    expect("position", sum("huntline_position", &[]), platform.ends())?;
    let partials: usize = said.partitions.values().map(|of| of.hunts.len()).sum();
    expect("live", sum("huntline_hunts", &[("state", "live")]), partials as i64)?;
    expect("lagging", sum("huntline_hunts", &[("state", "lagging")]), 0)?;
    for quiet in ["hunt_restarts_total", "fenced_total", "stalls_total", "store_errors_total", "held_oldest_seconds"] {
        expect(quiet, sum(&format!("huntline_{quiet}"), &[]), 0)?;
    }
    expect("oldest unsaved change", sum("huntline_snapshot_age_seconds", &[]), 0)?;
    for busy in ["apply_seconds", "event_to_view_seconds", "event_to_store_seconds", "snapshot_seconds", "snapshot_rows"] {
        if sum(&format!("huntline_{busy}_count"), &[]).is_none_or(|count| count < 1.0) {
            return Err(format!("{busy} was never measured"));
        }
    }
    expect("build_info", sum("huntline_build_info", &[]), 1)
}

#[track_caller]
fn stops(daemon: &mut Daemon) {
    let asked = Instant::now();
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    assert!(asked.elapsed() < Duration::from_secs(10), "it took {:?} to stop", asked.elapsed());
}
