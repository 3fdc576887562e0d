//! `huntline generate` as its user meets it.

use super::sink::{Kafka, Sink};
use super::*;
use crate::position::{Epoch, Position};
use crate::record::PartitionId;
use crate::source::log::{Log, partition_of, side_read};
use crate::source::{SideEvent, SideRead};
use clap::Parser;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: GenerateArgs,
}

fn args(more: &[&str]) -> Result<GenerateArgs, clap::Error> {
    Cli::try_parse_from(["generate"].iter().chain(more)).map(|cli| cli.args)
}

fn reads(more: &[&str]) -> GenerateArgs {
    args(more).expect("arguments that make sense")
}

fn count_to(args: &GenerateArgs, sink: Sink) -> Sent {
    send(args, args.options().expect("options"), sink, &AtomicBool::new(false)).expect("sent")
}

#[test]
fn arguments_that_make_no_sense_are_wrong_usage() {
    assert!(args(&["--rate", "-1"]).is_err());
    assert!(args(&["--start", "yesterday"]).is_err());
    assert!(args(&["--workload", "w2", "--hunts", "5"]).is_err());
    assert!(args(&["--log", "a.db", "--brokers", "b:1"]).is_err());
    assert!(args(&["-X", "nothing"]).is_err());
    let refused = reads(&["--late", "0.7", "--bad", "0.7"]).options().expect_err("more than all");
    assert!(refused.is::<clap::Error>() && refused.to_string().contains("found 1.41 together"), "{refused}");
    assert_eq!(reads(&["--workload", "w2"]).options().expect("options").hunts, 100_000);
    assert_eq!(reads(&["--brokers", "a:1,b:2"]).brokers, ["a:1", "b:2"]);
}

#[test]
fn a_log_gets_the_stream_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("events.db");
    let args =
        reads(&["--rate", "0", "--count", "12345", "--start", "2026-01-01T00:00:00Z", "--bad", "0.05", "--duplicates", "0.1"]);
    let sent = count_to(&args, Sink::log(&path, TOPIC, Some(3)).expect("a log"));
    assert_eq!(sent.total, 12_345);
    let text = sent.to_string();
    for part in ["sent 12,345 records to hunt-events in ", " late, ", " duplicate, ", " bad (", " tombstone", " wrong_type"] {
        assert!(text.contains(part), "{text}");
    }

    let mut read = Vec::new();
    for extent in Log::open_existing(&path).expect("open").extents().expect("extents") {
        let (out, mut events) = tokio::sync::mpsc::channel(100);
        let partition = PartitionId::new(TOPIC, extent.partition);
        side_read(&path, &SideRead { partition, epoch: Epoch(0), from: Position(0), until: extent.end }, &out);
        while let Ok(event) = events.try_recv() {
            let SideEvent::Batch(batch) = event else { panic!("expected batches, found {event:?}") };
            for r in &batch.records {
                if let Some(key) = batch.key(r) {
                    assert_eq!(partition_of(key, 3), extent.partition);
                }
                read.push((batch.key(r).map(<[u8]>::to_vec), batch.value(r).map(<[u8]>::to_vec), r.timestamp_ms));
            }
        }
    }
    let expected = Stream::new(args.options().expect("options")).take(12_345);
    let mut expected: Vec<_> =
        expected.map(|r| (r.key().map(<[u8]>::to_vec), r.value().map(<[u8]>::to_vec), r.timestamp_ms)).collect();
    expected.sort();
    read.sort();
    assert!(read == expected);
}

#[test]
fn an_interrupt_ends_an_endless_stream() {
    let dir = tempfile::tempdir().expect("a directory");
    let sink = Sink::log(&dir.path().join("events.db"), TOPIC, None).expect("a log");
    let args = reads(&["--rate", "0"]);
    let sent = send(&args, args.options().expect("options"), sink, &AtomicBool::new(true)).expect("sent");
    assert_eq!(sent.total, 0);
}

#[test]
fn a_rate_is_kept_and_a_standstill_is_not_made_up_for() {
    let mut pace = Pace::new(1000.0);
    pace.since -= Duration::from_millis(500);
    assert!((500..1000).contains(&pace.due(10_000)));
    assert!(pace.due(10_000) < 500);
    pace.since -= Duration::from_secs(60);
    assert_eq!(pace.due(10_000), 0);
    assert!(pace.due(10_000) < 500);
    assert_eq!(Pace::new(0.0).due(1000), 1000);
}

#[test]
fn an_unreachable_broker_is_named_with_its_cause() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let args = reads(&["--brokers", &unused.to_string()]);
    let refused = Kafka::connect(&args, Duration::from_millis(500)).err().expect("refused").to_string();
    assert!(refused.contains(&unused.to_string()) && refused.contains("no broker answered within 500ms"), "{refused}");
    assert!(refused.contains("refused"), "{refused}");
}

#[test]
fn kafka_gets_the_stream_partitioned_as_the_log_would() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("hunts", 3, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();

    let missing = Kafka::connect(&reads(&["--brokers", &brokers, "--topic", "other"]), Duration::from_secs(10));
    let missing = missing.err().expect("refused").to_string();
    assert!(missing.contains("topic other at") && missing.contains("--create-partitions"), "{missing}");
    let wrong = reads(&["--brokers", &brokers, "--topic", "hunts", "--create-partitions", "4"]);
    let wrong = Kafka::connect(&wrong, Duration::from_secs(10)).err().expect("refused").to_string();
    assert!(wrong.contains("found 3 partitions, expected 4"), "{wrong}");

    let args = reads(&["--brokers", &brokers, "--topic", "hunts", "--rate", "0", "--count", "2000", "--bad", "0.05"]);
    let args = GenerateArgs { start: Some(Micros(1_767_225_600_000_000)), ..args };
    let sent = count_to(&args, Sink::kafka(&args).expect("a producer"));
    assert_eq!(sent.total, 2000);

    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("group.id", "check")
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("a consumer");
    let mut assignment = rdkafka::TopicPartitionList::new();
    for partition in 0..3 {
        assignment.add_partition_offset("hunts", partition, rdkafka::Offset::Beginning).expect("an assignment");
    }
    consumer.assign(&assignment).expect("assigned");
    let mut read = Vec::new();
    while read.len() < 2000 {
        let message = consumer.poll(Duration::from_secs(30)).expect("a record within 30 s").expect("a record");
        if let Some(key) = message.key() {
            assert_eq!(partition_of(key, 3), message.partition());
        }
        assert_eq!(message.headers().map(rdkafka::message::Headers::count), Some(1));
        read.push((message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec), message.timestamp().to_millis()));
    }
    let expected = Stream::new(args.options().expect("options")).take(2000);
    let mut expected: Vec<_> =
        expected.map(|r| (r.key().map(<[u8]>::to_vec), r.value().map(<[u8]>::to_vec), Some(r.timestamp_ms))).collect();
    expected.sort();
    read.sort();
    assert!(read == expected);
}
