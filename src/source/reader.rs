//! The **reader** a daemon was configured with: Kafka or the embedded log, by one set of doors.

use super::{Command, Event, LogIdentity, SideEvent, SideRead, kafka, log};
use crate::config;
use crate::position::Position;
use crate::record::PartitionId;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use tokio::sync::mpsc;

#[derive(Clone)]
pub enum Reader {
    Kafka { settings: kafka::Settings, start: config::Start },
    Log { path: PathBuf, partitions: i32 },
}

/// The topic of an embedded log.
pub const LOG_TOPIC: &str = "hunt-events";

impl Reader {
    /// `alone`: the store serves one daemon, so it takes all partitions without a group.
    pub fn new(settings: &config::Settings, alone: bool) -> Reader {
        match (&settings.kafka, &settings.embedded_log) {
            (Some(kafka), _) => Reader::Kafka { settings: kafka::Settings::new(kafka, alone), start: kafka.start },
            (None, Some(log)) => Reader::Log { path: log.path.clone(), partitions: log.partitions as i32 },
            (None, None) => unreachable!("the configuration names one of them"),
        }
    }

    pub fn topics(&self) -> Vec<String> {
        match self {
            Reader::Kafka { settings, .. } => settings.topics.clone(),
            Reader::Log { .. } => vec![LOG_TOPIC.to_owned()],
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
            Reader::Kafka { settings, .. } => kafka::identity(settings).map_err(|error| error.to_string()),
            Reader::Log { path, partitions } => {
                let log = log::Log::open(path, LOG_TOPIC, *partitions).map_err(|error| error.to_string())?;
                Ok((log.identity(), Vec::new()))
            }
        }
    }

    pub fn start(&self, identity: &LogIdentity, events: mpsc::UnboundedSender<Event>) -> Result<(Sender<Command>, JoinHandle<()>), String> {
        match self {
            Reader::Kafka { settings, .. } => kafka::start(settings, identity, events).map_err(|error| error.to_string()),
            Reader::Log { path, partitions } => {
                log::start(path, LOG_TOPIC, *partitions, events).map_err(|error| error.to_string())
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

    /// Starts a pass beside the main reader; it ends by itself, or when nobody receives any more.
    pub fn side_read(&self, read: SideRead, events: mpsc::Sender<SideEvent>) {
        match self {
            Reader::Kafka { settings, .. } => kafka::side_read(settings, read, events),
            Reader::Log { path, .. } => log::side_read(path, read, events),
        }
    }
}
