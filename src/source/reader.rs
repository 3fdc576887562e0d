//! The **reader** a daemon was configured with: Kafka or the embedded log, by one set of doors.

use super::{Command, Event, LogIdentity, SideEvent, SideRead, kafka, log};
use crate::config;
use crate::position::Position;
use crate::record::PartitionId;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// Bytes a partition of the embedded log may have read and not yet processed.
const IN_FLIGHT_BYTES: usize = 64 << 20;

#[derive(Clone)]
pub enum Reader {
    Kafka { settings: kafka::Settings, start: kafka::Start },
    Log { path: PathBuf, partitions: i32 },
}

impl Reader {
    /// `alone`: the store serves one daemon, so it takes all partitions without a group.
    pub fn new(settings: &config::Settings, alone: bool) -> Reader {
        match (&settings.kafka, &settings.embedded_log) {
            (Some(kafka), _) => Reader::Kafka { settings: kafka_settings(kafka, alone), start: kafka_start(kafka.start) },
            (None, Some(log)) => Reader::Log { path: log.path.clone(), partitions: log.partitions as i32 },
            (None, None) => unreachable!("the configuration names one of them"),
        }
    }

    pub fn topics(&self) -> Vec<String> {
        match self {
            Reader::Kafka { settings, .. } => settings.topics.clone(),
            Reader::Log { .. } => vec![log::TOPIC.to_owned()],
        }
    }

    /// The group that the store is bound to.
    pub fn group(&self) -> &str {
        match self {
            Reader::Kafka { settings, .. } => &settings.group,
            Reader::Log { .. } => "embedded",
        }
    }

    /// Looks at the log before anything is claimed: blocking, at most some ten seconds. The second part is warnings.
    pub fn identity(&self) -> Result<(LogIdentity, Vec<String>), String> {
        match self {
            Reader::Kafka { settings, .. } => {
                let found = kafka::identity(settings).map_err(|error| error.to_string())?;
                Ok((found.log, found.warnings))
            }
            Reader::Log { path, partitions } => {
                let log = log::Log::open(path, log::TOPIC, *partitions).map_err(|error| error.to_string())?;
                Ok((log.identity(), Vec::new()))
            }
        }
    }

    /// Starts the one thread that reads.
    pub fn start(
        &self,
        identity: &LogIdentity,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<(Sender<Command>, JoinHandle<()>), String> {
        match self {
            Reader::Kafka { settings, .. } => Ok(kafka::start(settings.clone(), identity.clone(), events)),
            Reader::Log { path, partitions } => {
                let options = log::Options {
                    path: path.clone(),
                    topic: log::TOPIC.to_owned(),
                    partitions: *partitions,
                    in_flight_bytes: IN_FLIGHT_BYTES,
                    read_on_at_gap: false,
                };
                log::start(options, events).map_err(|error| error.to_string())
            }
        }
    }

    /// Where a partition that was never read begins: blocking.
    pub fn resolve_start(&self, partition: &PartitionId) -> Result<Position, String> {
        match self {
            Reader::Kafka { settings, start } => {
                kafka::resolve_start(settings, partition, *start).map_err(|error| error.to_string())
            }
            Reader::Log { path, .. } => log::Log::open_existing(path)
                .and_then(|log| log.resolve_start(partition.partition, log::Start::Beginning))
                .map_err(|error| error.to_string()),
        }
    }

    /// What a partition holds now: its first offset, and how far it can be read. Blocking.
    pub fn extent(&self, partition: &PartitionId) -> Result<(Position, Position), String> {
        match self {
            Reader::Kafka { settings, .. } => kafka::extent(settings, partition).map_err(|error| error.to_string()),
            Reader::Log { path, .. } => {
                let extents = log::Log::open_existing(path).and_then(|log| log.extents()).map_err(|error| error.to_string())?;
                let found = extents.iter().find(|extent| extent.partition == partition.partition);
                found.map(|extent| (extent.low, extent.end)).ok_or_else(|| format!("{}: has no {partition}", path.display()))
            }
        }
    }

    /// Starts a pass beside the main reader; it ends by itself, or when nobody receives any more.
    pub fn side_read(&self, read: SideRead, events: mpsc::Sender<SideEvent>) {
        match self {
            Reader::Kafka { settings, .. } => drop(kafka::side_read(settings.clone(), read, events)),
            Reader::Log { path, .. } => {
                let path = path.clone();
                std::thread::spawn(move || log::side_read(&path, &read, &events));
            }
        }
    }
}

fn kafka_settings(kafka: &config::Kafka, alone: bool) -> kafka::Settings {
    kafka::Settings {
        brokers: kafka.brokers.clone(),
        group: kafka.group.clone(),
        topics: kafka.topics.clone(),
        instance: kafka.instance.clone().unwrap_or_default(),
        on_gap: match kafka.on_gap {
            config::OnGap::Halt => kafka::OnGap::Halt,
            config::OnGap::Continue => kafka::OnGap::Continue,
        },
        librdkafka: kafka.librdkafka.0.clone(),
        sasl_password: kafka.sasl_password.as_ref().map(|password| password.reveal().to_owned()),
        assign_all: alone,
        limits: kafka::Limits::default(),
    }
}

fn kafka_start(start: config::Start) -> kafka::Start {
    match start {
        config::Start::Beginning => kafka::Start::Beginning,
        config::Start::End => kafka::Start::End,
        config::Start::At(time) => kafka::Start::At(time),
    }
}
