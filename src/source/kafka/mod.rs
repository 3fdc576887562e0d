//! **Kafka** as a source: topics of a cluster, read as one member of a consumer group, or whole
//! (for a store that only one daemon may use).
//!
//! The daemon asks [`identity`] what it reads before any claim, [`start`]s the one thread that owns
//! the consumer ([`reader`]), resolves first positions with [`resolve_start`], and lets lagging
//! hunts catch up with [`side_read`]. The store alone says where reading starts; Kafka's committed
//! offsets are written for lag tools and never read.
//!
//! Invariant: rdkafka's types stop at this folder, and its unsafe half at [`queue`] and [`admin`].

mod admin;
mod care;
mod client;
mod identity;
mod partition;
mod queue;
mod reader;
mod rebalance;
mod side;
mod watchdog;

pub use client::{missing_feature, refused_setting, unfit};
pub use identity::{Identified, extent, identity, resolve_start};
pub use reader::start;
pub use side::side_read;

use crate::time::Micros;
use std::collections::BTreeMap;
use std::fmt;

/// What the daemon reads, as configured.
#[derive(Clone)]
pub struct Settings {
    /// `host:port`, at least one.
    pub brokers: Vec<String>,
    pub group: String,
    pub topics: Vec<String>,
    /// Name of a static member; empty: a dynamic one.
    pub instance: String,
    pub on_gap: OnGap,
    /// Passed through; [`refused_setting`] says which keys are not.
    pub librdkafka: BTreeMap<String, String>,
    pub sasl_password: Option<String>,
    /// Join no group and take every partition: for a store that one daemon owns.
    pub assign_all: bool,
    pub limits: Limits,
}

/// Without the password, and without librdkafka's settings, which may hold secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("topics", &self.topics)
            .field("instance", &self.instance)
            .field("on_gap", &self.on_gap)
            .field("assign_all", &self.assign_all)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What to do where retention took records before they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnGap {
    #[default]
    Halt,
    Continue,
}

/// Bounds on what is handed over but not yet processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most records of a batch.
    pub batch_records: usize,
    /// A batch is closed when its bytes pass this.
    pub batch_bytes: usize,
    /// Past this many bytes in flight a partition is not read on; a batch is always let through when nothing is in flight.
    pub partition_in_flight_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch_records: 65_536, batch_bytes: 16 << 20, partition_in_flight_bytes: 64 << 20 }
    }
}

/// Where a partition that was never read begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Beginning,
    /// The last stable offset.
    End,
    /// The first record with this timestamp or a later one; the end where there is none.
    At(Micros),
}

/// Why Kafka cannot be used; a sentence each, naming broker or topic, what was found and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot work as written.
    #[error("{0}")]
    Settings(String),
    /// No broker answered in time.
    #[error("{0}")]
    Unreachable(String),
    /// Kafka answered, and it will not do: a missing topic or right, a wrong password, a compacted topic.
    #[error("{0}")]
    Refused(String),
}

pub type Result<T> = std::result::Result<T, Error>;
