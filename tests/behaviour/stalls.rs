//! **Stalls**: a connection to Kafka goes on, heartbeats and all, and no records come. The watchdog notices, seeks, which does not help
//! here, then reads on with a new consumer; nothing is lost and nothing is counted twice. And a Kafka that is away altogether: the daemon
//! says so until it is back.

use crate::harness::daemon::Daemon;
use crate::harness::kafka::Kafka;
use crate::harness::kafka_proxy::KafkaProxy;
use crate::harness::{await_until, postgres};
use crate::oracle::LeftOut;
use crate::oracle::records::Options;
use crate::platform::Platform;
use std::time::Duration;

/// Twice the watchdog's patience, and what a slow machine needs.
const LONG: Duration = Duration::from_secs(180);

#[test]
fn partitions_that_stall_behind_a_living_connection_are_sought_then_read_by_a_new_consumer() {
    let store = postgres::shared().create_database();
    let proxy = KafkaProxy::start();
    // Lives as long as this process; its broker ends with it.
    let kafka: &'static Kafka = Box::leak(Box::new(Kafka::start_behind(&proxy)));
    let options = Options { seed: 61, hunts: 80, wandering: 0.2, ..Options::default() };
    let mut platform = Platform::at(kafka, "stalls", (2, 1), options);
    platform.send(2_000);
    // The client itself would give a fetch up after a minute.
    let patient = "[kafka.librdkafka]\n\"socket.timeout.ms\" = \"300000\"";
    let mut daemon = Daemon::start(&platform.config(&store, "300ms", patient));
    platform.await_saved(&store);
    let figure = |daemon: &Daemon, name: &str| daemon.metric(&format!("huntline_{name}_total"), &[]);
    assert_eq!(figure(&daemon, "stalls"), 0.0);

    proxy.deafen();
    platform.send(2_000);
    await_until(LONG, "a stall is noticed", || (figure(&daemon, "stalls") >= 1.0).then_some(()));
    assert!(daemon.output().contains("sought to"), "{}", daemon.output());
    assert_eq!(daemon.metric("huntline_rebalances_total", &[("kind", "lost")]), 0.0, "its heartbeats go on");
    assert!(proxy.lost() > 0, "no answer was lost");

    await_until(LONG, "a new consumer is started", || daemon.output().contains("a new consumer is started").then_some(()));
    platform.await_saved(&store);
    let said = platform.said(&LeftOut::new());
    platform.assert_store_says(&store, &said);
    platform.assert_api_says(&daemon, &said);
    assert!(figure(&daemon, "stalls") >= 2.0);
    let before = figure(&daemon, "stalls");
    platform.send(1_000);
    platform.await_saved(&store);
    assert_eq!(figure(&daemon, "stalls"), before, "it reads on");
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    platform.assert_store_says(&store, &platform.said(&LeftOut::new()));
}

#[test]
fn a_daemon_whose_kafka_is_away_is_not_ready_and_says_why_until_it_is_back() {
    let store = postgres::shared().create_database();
    // Lives as long as this process; its broker ends with it.
    let kafka: &'static Kafka = Box::leak(Box::new(Kafka::start()));
    let mut platform = Platform::at(kafka, "away", (2, 1), Options { seed: 62, hunts: 40, ..Options::default() });
    platform.send(1_000);
    let mut daemon = Daemon::start(&platform.config(&store, "300ms", ""));
    platform.await_saved(&store);
    kafka.kill9();
    await_until(LONG, "the daemon misses Kafka", || match daemon.http_get("/readyz") {
        (503, why) if why.contains("Kafka does not answer: ") => Ok(()),
        other => Err(other),
    });
    kafka.restart();
    daemon.await_ready();
    await_until(LONG, "it says so", || daemon.output().contains("Kafka answers again").then_some(()));
    platform.send(1_000);
    platform.await_saved(&store);
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    platform.assert_store_says(&store, &platform.said(&LeftOut::new()));
}
