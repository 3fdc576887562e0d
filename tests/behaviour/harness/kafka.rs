//! Kafka, one node of its own: broker and controller in one process, as KRaft.
//!
//! Tests take [`shared`] and a topic of their own; those that stop the broker or change it start their own with [`Kafka::start`].

use super::kafka_proxy::KafkaProxy;
use super::{Process, Scratch, await_until, block_on, free_port};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, FromClientConfig};
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

const CALL: Duration = Duration::from_secs(20);
const BOOT: Duration = Duration::from_secs(60);

/// The broker that all tests of this process share; it is started by the first that asks.
pub fn shared() -> &'static Kafka {
    static SHARED: OnceLock<Kafka> = OnceLock::new();
    SHARED.get_or_init(Kafka::start)
}

/// A name that no other topic, group or transactional id of this process has.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub struct Kafka {
    broker: Mutex<Option<Process>>,
    port: u16,
    scratch: Scratch,
}

impl Kafka {
    /// Formats and starts a broker; returns when it answers.
    pub fn start() -> Kafka {
        let port = free_port();
        Kafka::start_as(port, port)
    }

    /// As [`start`](Kafka::start), for clients that come through the proxy.
    pub fn start_behind(proxy: &KafkaProxy) -> Kafka {
        let port = free_port();
        proxy.lead_to(port);
        Kafka::start_as(port, proxy.port())
    }

    /// Clients are told to come to `advertised`.
    fn start_as(port: u16, advertised: u16) -> Kafka {
        let scratch = Scratch::new("kafka");
        let controller = free_port();
        let log = scratch.join("log");
        fs::write(
            scratch.join("server.properties"),
            format!(
                "process.roles=broker,controller\n\
                 node.id=1\n\
                 controller.quorum.voters=1@127.0.0.1:{controller}\n\
                 listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
                 advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
                 controller.listener.names=CONTROLLER\n\
                 log.dirs={log}\n\
                 auto.create.topics.enable=false\n\
                 offsets.topic.replication.factor=1\n\
                 offsets.topic.num.partitions=4\n\
                 transaction.state.log.replication.factor=1\n\
                 transaction.state.log.min.isr=1\n\
                 transaction.state.log.num.partitions=4\n\
                 share.coordinator.state.topic.replication.factor=1\n\
                 share.coordinator.state.topic.min.isr=1\n\
                 group.initial.rebalance.delay.ms=0\n\
                 group.min.session.timeout.ms=1000\n\
                 log.initial.task.delay.ms=500\n\
                 log.retention.check.interval.ms=500\n\
                 log.cleaner.dedupe.buffer.size=16777216\n\
                 broker.session.timeout.ms=4000\n\
                 broker.heartbeat.interval.ms=400\n",
                log = log.display(),
            ),
        )
        .expect("write server.properties");
        let kafka = Kafka { broker: Mutex::new(None), port, scratch };
        kafka.format();
        kafka.restart();
        kafka
    }

    /// What `[kafka] brokers` takes.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts the broker again, on the same port and data, after [`stop`](Kafka::stop) or [`kill9`](Kafka::kill9).
    pub fn restart(&self) {
        let mut broker = self.broker.lock().expect("the broker");
        assert!(broker.is_none(), "the broker runs already");
        let mut command = self.java();
        command.args(["-Xms256m", "-Xmx1g", "kafka.Kafka"]).arg(self.scratch.join("server.properties"));
        let process = broker.insert(Process::start("Kafka", command, &self.scratch.join("output")));
        let client: BaseConsumer = self.client(&[]);
        await_until(BOOT, "Kafka answers", || {
            if let Some(status) = process.exited() {
                panic!("Kafka ended ({status}) instead of answering:\n{}", process.tail());
            }
            match client.fetch_metadata(None, Duration::from_millis(500)) {
                Ok(metadata) if metadata.brokers().len() == 1 => Ok(()),
                Ok(metadata) => Err(format!("{} brokers", metadata.brokers().len())),
                Err(error) => Err(error.to_string()),
            }
        });
    }

    /// Stops the broker as an operator would; what was acknowledged is on disk.
    pub fn stop(&self) {
        let mut process = self.broker.lock().expect("the broker").take().expect("a running broker");
        process.signal(libc::SIGTERM);
        process.await_exit(BOOT);
    }

    pub fn kill9(&self) {
        self.broker.lock().expect("the broker").take().expect("a running broker").kill();
    }

    /// Creates a topic under a name made unique from `name`, and returns that name once the broker serves every partition.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> String {
        let topic = unique(name);
        self.create_topic_named(&topic, partitions, configs);
        topic
    }

    /// As [`create_topic`](Kafka::create_topic), under this very name.
    pub fn create_topic_named(&self, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in configs {
            new = new.set(key, value);
        }
        one(block_on(self.admin().create_topics([&new], &AdminOptions::new())), "create a topic");
        self.await_partitions(topic, partitions);
    }

    pub fn add_partitions(&self, topic: &str, total: i32) {
        let new = NewPartitions::new(topic, total as usize);
        one(block_on(self.admin().create_partitions([&new], &AdminOptions::new())), "add partitions");
        self.await_partitions(topic, total);
    }

    /// Deletes a topic and waits until the broker no longer knows it.
    pub fn delete_topic(&self, topic: &str) {
        one(block_on(self.admin().delete_topics(&[topic], &AdminOptions::new())), "delete a topic");
        let client: BaseConsumer = self.client(&[]);
        await_until(CALL, "the topic is gone", || {
            let metadata = client.fetch_metadata(None, CALL).map_err(|error| error.to_string())?;
            if metadata.topics().iter().any(|known| known.name() == topic) { Err("still there".to_owned()) } else { Ok(()) }
        });
    }

    /// Makes the broker forget what lies below `offset`, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        block_on(self.admin().delete_records(&before, &AdminOptions::new())).expect("delete records");
    }

    /// A producer that waits for all acknowledgements and keeps order.
    pub fn producer(&self) -> Producer {
        Producer::new(self, &[("enable.idempotence", "true")])
    }

    /// A producer inside transactions: [`begin`](Producer::begin), send, then [`commit`](Producer::commit) or
    /// [`abort`](Producer::abort). A second one with the same id fences the first.
    pub fn transactional_producer(&self, transactional_id: &str) -> Producer {
        let producer = Producer::new(self, &[("transactional.id", transactional_id), ("transaction.timeout.ms", "60000")]);
        producer.inner.init_transactions(BOOT).expect("init transactions");
        producer
    }

    /// Sends all and returns, in their order, the partition and offset of each.
    pub fn produce(&self, topic: &str, messages: &[Message]) -> Vec<(i32, i64)> {
        self.producer().send_all(topic, messages)
    }

    /// The last stable offset of each partition: what a reader of committed records can reach.
    pub fn end_offsets(&self, topic: &str) -> Vec<i64> {
        self.watermarks(topic).into_iter().map(|(_, end)| end).collect()
    }

    /// The first offset each partition still has.
    pub fn begin_offsets(&self, topic: &str) -> Vec<i64> {
        self.watermarks(topic).into_iter().map(|(begin, _)| begin).collect()
    }

    /// Every committed record of a topic, partition by partition, in offset order.
    pub fn read_all(&self, topic: &str) -> Vec<Record> {
        let consumer: BaseConsumer = self.client(&[
            ("group.id", "huntline-tests-reader"),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
        ]);
        let partitions = self.partition_count(topic);
        let mut from = TopicPartitionList::new();
        for partition in 0..partitions {
            from.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&from).expect("assign");
        let mut records = Vec::new();
        let mut open: Vec<i32> = (0..partitions).collect();
        await_until(Duration::from_secs(120), "the end of every partition", || {
            while !open.is_empty() {
                match consumer.poll(Duration::from_millis(200)) {
                    Some(Ok(message)) => records.push(Record::from(&message)),
                    Some(Err(KafkaError::PartitionEOF(partition))) => open.retain(|other| *other != partition),
                    Some(Err(error)) => panic!("read {topic}: {error}"),
                    None => return Err(format!("partitions {open:?} of {topic} not at their end, {} records", records.len())),
                }
            }
            Ok(())
        });
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    /// The offsets that a group has committed, one a partition.
    pub fn committed(&self, group: &str, topic: &str) -> Vec<Option<i64>> {
        let consumer: BaseConsumer = self.client(&[("group.id", group)]);
        let mut asked = TopicPartitionList::new();
        for partition in 0..self.partition_count(topic) {
            asked.add_partition(topic, partition);
        }
        let known = consumer.committed_offsets(asked, CALL).expect("committed offsets");
        known.elements().iter().map(|element| element.offset().to_raw().filter(|offset| *offset >= 0)).collect()
    }

    /// An rdkafka client of this broker: a consumer, a producer or an admin client.
    pub fn client<C: FromClientConfig>(&self, settings: &[(&str, &str)]) -> C {
        self.config(settings).create().expect("a Kafka client")
    }

    fn config(&self, settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers());
        config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client(&[])
    }

    fn partition_count(&self, topic: &str) -> i32 {
        let client: BaseConsumer = self.client(&[]);
        let metadata = client.fetch_metadata(Some(topic), CALL).expect("metadata");
        metadata.topics().first().map_or(0, |topic| topic.partitions().len() as i32)
    }

    /// A leader known to the controller may not yet serve: only an answer for its offsets tells.
    fn await_partitions(&self, topic: &str, partitions: i32) {
        let client: BaseConsumer = self.client(&[]);
        await_until(CALL, "every partition has a leader", || {
            (0..partitions).try_for_each(|partition| client.fetch_watermarks(topic, partition, CALL).map(drop))
        });
    }

    fn watermarks(&self, topic: &str) -> Vec<(i64, i64)> {
        let client: BaseConsumer<DefaultConsumerContext> = self.client(&[("isolation.level", "read_committed")]);
        (0..self.partition_count(topic))
            .map(|partition| client.fetch_watermarks(topic, partition, CALL).expect("watermarks"))
            .collect()
    }

    fn format(&self) {
        let mut command = self.java();
        command
            .args(["kafka.tools.StorageTool", "format", "-t", "aHVudGxpbmUtdGVzdHMhIQ", "-c"])
            .arg(self.scratch.join("server.properties"));
        let mut tool = Process::start("Kafka's storage tool", command, &self.scratch.join("format"));
        let status = tool.await_exit(BOOT);
        assert!(status.success(), "format Kafka's storage:\n{}", tool.tail());
    }

    fn java(&self) -> Command {
        let mut command = Command::new("java");
        command.current_dir(self.scratch.path());
        // Up sooner, at the price of throughput that no test needs.
        command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp"]).arg(libs().join("*"));
        command
    }
}

/// Where Kafka's jars are: `HUNTLINE_KAFKA_LIBS`, or where `tests/run --install` puts them.
fn libs() -> PathBuf {
    let libs = std::env::var_os("HUNTLINE_KAFKA_LIBS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/kafka/libs"), PathBuf::from);
    assert!(libs.is_dir(), "{} does not exist; `tests/run --install` fetches Kafka's jars", libs.display());
    libs
}

fn one(results: Result<Vec<TopicResult>, KafkaError>, what: &str) {
    for result in results.unwrap_or_else(|error| panic!("{what}: {error}")) {
        result.unwrap_or_else(|(topic, code)| panic!("{what} {topic}: {code}"));
    }
}

/// A record to be. Without a partition the producer picks one by the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; without one, or with 0, the client's clock.
    pub timestamp: Option<i64>,
}

impl Message {
    pub fn new(key: &str, value: impl Into<Vec<u8>>) -> Message {
        Message { key: Some(key.into()), value: Some(value.into()), ..Message::default() }
    }

    pub fn to(self, partition: i32) -> Message {
        Message { partition: Some(partition), ..self }
    }

    pub fn at(self, timestamp: i64) -> Message {
        Message { timestamp: Some(timestamp), ..self }
    }

    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Message {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }
}

/// A record as Kafka gave it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
}

impl From<&rdkafka::message::BorrowedMessage<'_>> for Record {
    fn from(message: &rdkafka::message::BorrowedMessage<'_>) -> Record {
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        Record {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect(),
            timestamp: message.timestamp().to_millis(),
        }
    }
}

/// Sends records and learns where each went.
pub struct Producer {
    inner: BaseProducer<Deliveries>,
    delivered: Delivered,
}

type Delivered = Arc<Mutex<Vec<(usize, Result<(i32, i64), KafkaError>)>>>;

struct Deliveries(Delivered);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let result = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        self.0.lock().expect("deliveries").push((index, result));
    }
}

impl Producer {
    fn new(kafka: &Kafka, settings: &[(&str, &str)]) -> Producer {
        let delivered = Delivered::default();
        let mut config = kafka.config(settings);
        config.set("linger.ms", "2").set("queue.buffering.max.messages", "2000000").set("queue.buffering.max.kbytes", "1000000");
        // Kafka's own clients hash keys with murmur2; so do a platform's producers.
        config.set("partitioner", "murmur2_random");
        let inner = config.create_with_context(Deliveries(delivered.clone())).expect("a producer");
        Producer { inner, delivered }
    }

    /// Sends all, waits until each is acknowledged, and returns, in their order, the partition and offset of each.
    pub fn send_all(&self, topic: &str, messages: &[Message]) -> Vec<(i32, i64)> {
        for (index, message) in messages.iter().enumerate() {
            self.enqueue(topic, message, index);
        }
        self.inner.flush(Duration::from_secs(60)).expect("flush");
        let mut delivered = std::mem::take(&mut *self.delivered.lock().expect("deliveries"));
        assert_eq!(delivered.len(), messages.len(), "each message is delivered once");
        delivered.sort_by_key(|(index, _)| *index);
        delivered.into_iter().map(|(_, result)| result.expect("a delivery")).collect()
    }

    fn enqueue(&self, topic: &str, message: &Message, index: usize) {
        let headers = message
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: value.as_ref() }));
        let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(topic, index);
        if !message.headers.is_empty() {
            record = record.headers(headers);
        }
        if let Some(key) = &message.key {
            record = record.key(key);
        }
        if let Some(value) = &message.value {
            record = record.payload(value);
        }
        if let Some(partition) = message.partition {
            record = record.partition(partition);
        }
        if let Some(timestamp) = message.timestamp {
            record = record.timestamp(timestamp);
        }
        let mut waiting = Some(record);
        await_until(Duration::from_secs(60), "room in the producer's queue", || match self.inner.send(waiting.take()?) {
            Ok(()) => Some(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) => {
                self.inner.poll(Duration::from_millis(50));
                waiting = Some(record);
                None
            }
            Err((error, _)) => panic!("send to {topic}: {error}"),
        });
        if index.is_multiple_of(1000) {
            self.inner.poll(Duration::ZERO);
        }
    }

    pub fn begin(&self) {
        self.inner.begin_transaction().expect("begin a transaction");
    }

    pub fn commit(&self) {
        self.inner.commit_transaction(CALL).expect("commit a transaction");
    }

    pub fn abort(&self) {
        self.inner.abort_transaction(CALL).expect("abort a transaction");
    }
}

#[test]
fn records_come_back_as_sent_without_those_of_aborted_transactions() {
    let kafka = shared();
    let topic = kafka.create_topic("round-trip", 2, &[("retention.ms", "-1")]);
    let plain = [
        Message::new("a", "one").to(0).at(1_700_000_000_000).header("trace", "7"),
        Message { key: Some(b"b".to_vec()), partition: Some(1), timestamp: Some(1), ..Message::default() },
    ];
    assert_eq!(kafka.produce(&topic, &plain), [(0, 0), (1, 0)]);

    let transactional = kafka.transactional_producer(&unique("round-trip"));
    transactional.begin();
    assert_eq!(transactional.send_all(&topic, &[Message::new("c", "dropped").to(0)]), [(0, 1)]);
    transactional.abort();
    transactional.begin();
    assert_eq!(transactional.send_all(&topic, &[Message::new("c", "kept").to(0)]), [(0, 3)]);
    assert_eq!(kafka.end_offsets(&topic), [3, 1], "the open transaction is not yet stable");
    transactional.commit();
    await_until(CALL, "the commit marker is stable", || (kafka.end_offsets(&topic) == [5, 1]).then_some(()));

    let records = kafka.read_all(&topic);
    let seen: Vec<_> = records.iter().map(|record| (record.partition, record.offset, record.value.as_deref())).collect();
    assert_eq!(seen, [(0, 0, Some(&b"one"[..])), (0, 3, Some(b"kept")), (1, 0, None)]);
    assert_eq!(records[0].headers, [("trace".to_owned(), Some(b"7".to_vec()))]);
    assert_eq!((records[0].timestamp, records[2].timestamp), (Some(1_700_000_000_000), Some(1)));
    assert_eq!(kafka.committed(&unique("nobody"), &topic), [None, None]);

    kafka.delete_records(&topic, 0, 3);
    assert_eq!(kafka.begin_offsets(&topic), [3, 0]);
    kafka.add_partitions(&topic, 3);
    assert_eq!(kafka.end_offsets(&topic).len(), 3);
    kafka.delete_topic(&topic);
}

#[test]
fn a_broker_keeps_its_records_through_a_stop_and_a_kill() {
    let kafka = Kafka::start();
    let topic = kafka.create_topic("restart", 1, &[]);
    kafka.produce(&topic, &[Message::new("a", "one")]);
    kafka.stop();
    kafka.restart();
    kafka.produce(&topic, &[Message::new("a", "two")]);
    kafka.kill9();
    kafka.restart();
    let values: Vec<_> = kafka.read_all(&topic).into_iter().filter_map(|record| record.value).collect();
    assert_eq!(values, [b"one", b"two"]);
}
