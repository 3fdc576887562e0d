//! A **sink**: where generated records go, Kafka or an embedded log.

use super::GenerateArgs;
use crate::generate::Record;
use crate::source::kafka;
use crate::source::log::{Log, NewRecord};
use anyhow::{Context, Result, anyhow, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a broker may take to answer at the start.
const REACH: Duration = Duration::from_secs(10);
/// How long a record may wait for its acknowledgement.
const DELIVER: Duration = Duration::from_secs(30);

pub(super) enum Sink {
    Kafka(Box<Kafka>),
    Log { name: String, log: Box<Log> },
}

impl Sink {
    pub fn log(path: &Path, topic: &str, partitions: Option<i32>) -> Result<Self> {
        // A log that is there keeps its number, whatever is wrong with it is found by the real open.
        let partitions = partitions.unwrap_or_else(|| Log::open_existing(path).map_or(4, |log| log.partitions()));
        let log = Box::new(Log::open(path, topic, partitions)?);
        Ok(Sink::Log { name: format!("{topic} in {}", path.display()), log })
    }

    pub fn kafka(args: &GenerateArgs) -> Result<Self> {
        Ok(Sink::Kafka(Box::new(Kafka::connect(args, REACH)?)))
    }

    pub fn name(&self) -> &str {
        match self {
            Sink::Kafka(kafka) => &kafka.name,
            Sink::Log { name, .. } => name,
        }
    }

    /// How many records to send at once; for the log each time costs a sync.
    pub fn chunk(&self) -> u64 {
        match self {
            Sink::Kafka(_) => 1000,
            Sink::Log { .. } => 10_000,
        }
    }

    /// Hands the records over, waiting while there is no room; an error as soon as any record failed. Cut short by an interrupt only
    /// while the brokers take nothing.
    pub fn send(&mut self, records: &[Record], interrupted: &AtomicBool) -> Result<()> {
        match self {
            Sink::Kafka(kafka) => kafka.send(records, interrupted),
            Sink::Log { log, .. } => Ok(log.append(&records.iter().map(NewRecord::from).collect::<Vec<_>>())?),
        }
    }

    /// Waits until everything is acknowledged.
    pub fn finish(&mut self) -> Result<()> {
        match self {
            Sink::Kafka(kafka) => kafka.finish(),
            Sink::Log { .. } => Ok(()),
        }
    }

    /// How many records are acknowledged, of any that were handed over.
    pub fn acknowledged(&self, handed: u64) -> u64 {
        match self {
            Sink::Kafka(kafka) => kafka.producer.context().acknowledged.load(Ordering::Relaxed),
            Sink::Log { .. } => handed,
        }
    }

    /// What goes wrong now and may pass.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Sink::Kafka(kafka) => kafka.producer.context().trouble.lock().unwrap_or_else(PoisonError::into_inner).take(),
            Sink::Log { .. } => None,
        }
    }
}

pub(super) struct Kafka {
    name: String,
    topic: String,
    producer: ThreadedProducer<Deliveries>,
    handed: u64,
}

/// What the producer's thread hears from the brokers.
#[derive(Default)]
struct Deliveries {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    /// Why the first record failed.
    failure: Mutex<Option<String>>,
    trouble: Mutex<Option<String>>,
}

impl ClientContext for Deliveries {
    /// The library's own log says what `error` says too.
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        // That all are down is known by then; the cause was said before.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            return;
        }
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
                self.failed.fetch_add(1, Ordering::Release);
            }
        }
    }
}

impl Kafka {
    pub fn connect(args: &GenerateArgs, reach: Duration) -> Result<Self> {
        let brokers = args.brokers.join(",");
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &brokers)
            .set("client.id", "huntline-generate")
            .set("compression.type", "lz4")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "20")
            .set("queue.buffering.max.messages", "500000")
            .set("queue.buffering.max.kbytes", "262144")
            // Too large records are generated on purpose; the broker's limit counts compressed bytes, this one does not.
            .set("message.max.bytes", "8388608")
            .set("message.timeout.ms", DELIVER.as_millis().to_string());
        for (key, value) in &args.properties {
            config.set(key, value);
        }
        let producer: ThreadedProducer<Deliveries> = config.create_with_context(Deliveries::default()).map_err(|error| {
            let found = error.to_string();
            anyhow!("configure the Kafka producer: {found}{}", kafka::missing_feature(&found))
        })?;
        let kafka = Self { name: format!("{} at {brokers}", args.topic), topic: args.topic.clone(), producer, handed: 0 };
        let found = kafka.partitions(&brokers, reach)?;
        match (found, args.create_partitions) {
            (Some(_), None) => {}
            (Some(found), Some(expected)) if found == expected => {}
            (Some(found), Some(expected)) => {
                bail!("topic {} at {brokers}: found {found} partitions, expected {expected}", args.topic)
            }
            (None, Some(partitions)) => kafka.create(&config, &brokers, partitions, reach)?,
            (None, None) => {
                bail!("topic {} at {brokers}: found no such topic; create it, or let --create-partitions N create it", args.topic)
            }
        }
        Ok(kafka)
    }

    /// How many partitions the topic has; `None`: there is no such topic. All topics are listed, as asking for one by its name would
    /// create it where brokers do that.
    fn partitions(&self, brokers: &str, reach: Duration) -> Result<Option<i32>> {
        let metadata = self.producer.client().fetch_metadata(None, reach).map_err(|e| {
            let context = self.producer.context();
            let cause = context.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(|| e.to_string());
            anyhow!("Kafka at {brokers}: no broker answered within {reach:?}: {cause}")
        })?;
        let topic = metadata.topics().iter().find(|t| t.name() == self.topic && !t.partitions().is_empty());
        Ok(topic.map(|t| t.partitions().len() as i32))
    }

    fn create(&self, config: &ClientConfig, brokers: &str, partitions: i32, reach: Duration) -> Result<()> {
        let admin: AdminClient<_> = config.create().context("configure the Kafka admin client")?;
        // -1: as many replicas as the brokers' default.
        let topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(-1));
        let options = AdminOptions::new().operation_timeout(Some(reach)).request_timeout(Some(reach));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        let created = runtime.block_on(admin.create_topics([&topic], &options));
        match created.with_context(|| format!("create topic {} at {brokers}", self.topic))?.into_iter().next() {
            Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
                bail!("create topic {} at {brokers}: {code}", self.topic)
            }
            _ => {}
        }
        let deadline = Instant::now() + reach;
        while self.partitions(brokers, reach)?.is_none() {
            if Instant::now() > deadline {
                bail!("create topic {} at {brokers}: it has not appeared within {reach:?}", self.topic);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn send(&mut self, records: &[Record], interrupted: &AtomicBool) -> Result<()> {
        for record in records {
            let mut message = Some(message(&self.topic, record)?);
            while let Some(next) = message.take() {
                match self.producer.send(next) {
                    Ok(()) => self.handed += 1,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                        self.check()?;
                        if interrupted.load(Ordering::Relaxed) {
                            bail!("interrupted while {} took no records", self.name);
                        }
                        std::thread::sleep(Duration::from_millis(2));
                        message = Some(back);
                    }
                    Err((error, _)) => return Err(anyhow!(error).context(format!("send a record to {}", self.name))),
                }
            }
        }
        self.check()
    }

    fn check(&self) -> Result<()> {
        let context = self.producer.context();
        let failed = context.failed.load(Ordering::Acquire);
        if failed == 0 {
            return Ok(());
        }
        let why = context.failure.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
        bail!("{}: {failed} records were not acknowledged: {why}", self.name)
    }

    fn finish(&mut self) -> Result<()> {
        let flushed = self.producer.flush(DELIVER + REACH);
        self.check()?;
        flushed.with_context(|| format!("wait for the acknowledgements of {}", self.name))?;
        // The last callbacks run on the producer's own thread.
        let deadline = Instant::now() + REACH;
        while self.producer.context().acknowledged.load(Ordering::Relaxed) < self.handed {
            self.check()?;
            if Instant::now() > deadline {
                let acknowledged = self.producer.context().acknowledged.load(Ordering::Relaxed);
                bail!("{}: {acknowledged} of {} records were acknowledged", self.name, self.handed);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

fn message<'a>(topic: &'a str, record: &'a Record) -> Result<BaseRecord<'a, [u8], [u8]>> {
    let mut message = BaseRecord::to(topic).timestamp(record.timestamp_ms);
    if let Some(key) = record.key() {
        message = message.key(key);
    }
    if let Some(value) = record.value() {
        message = message.payload(value);
    }
    if !record.headers.is_empty() {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (name, value) in record.headers {
            let key = std::str::from_utf8(name).context("a header's name is text")?;
            headers = headers.insert(Header { key, value: *value });
        }
        message = message.headers(headers);
    }
    Ok(message)
}
