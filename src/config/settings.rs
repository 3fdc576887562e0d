//! **Settings**: the configuration as run. [`super::load`] makes them from the layers as written;
//! the daemon hands each part its own section. Invariant: everything in here has been checked, and
//! no `Debug` or `Serialize` shows a secret.

use super::secrets::{MASK, Secret, is_secret_property};
use crate::definitions::Definitions;
use crate::time::Micros;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Exactly one of `kafka` and `embedded_log` is there.
    pub kafka: Option<Kafka>,
    pub embedded_log: Option<EmbeddedLog>,
    pub store: StoreUrl,
    pub snapshot: Snapshot,
    pub http: Http,
    pub failure: Failure,
    /// How long a hunt is idle before its actor is dropped.
    pub passivate_idle: Duration,
    /// After which replayed and discarded dead letters are deleted; `None`: never.
    pub dead_letters_keep: Option<Duration>,
    pub logging: Logging,
    pub definitions: Definitions,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Kafka {
    /// `host:port`, at least one.
    pub brokers: Vec<String>,
    pub group: String,
    /// At least one, each once.
    pub topics: Vec<String>,
    pub start: Start,
    /// The static member's name; `None`: a dynamic member.
    pub instance: Option<String>,
    pub sasl_password: Option<Secret>,
    pub on_gap: OnGap,
    /// Passed through; holds nothing that huntline sets itself.
    pub librdkafka: Properties,
}

/// librdkafka's own properties. `Debug` masks those that hold secrets.
#[derive(Clone, Default, PartialEq)]
pub struct Properties(pub BTreeMap<String, String>);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(k, v)| (k, if is_secret_property(k) { MASK } else { v }))).finish()
    }
}

/// Where a topic never read before begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Beginning,
    End,
    /// At the first record whose timestamp is not before this.
    At(Micros),
}

/// What to do about records that Kafka no longer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGap {
    Halt,
    Continue,
}

/// The log inside one daemon, instead of Kafka.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedLog {
    pub path: PathBuf,
    pub partitions: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StoreUrl {
    Postgres {
        /// Without a password.
        url: String,
        password: Option<Secret>,
    },
    Sqlite {
        path: PathBuf,
    },
}

impl fmt::Display for StoreUrl {
    /// The URL without its password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Postgres { url, .. } => f.write_str(url),
            StoreUrl::Sqlite { path } => write!(f, "sqlite:{}", path.display()),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub interval: Duration,
    /// Changed state and snapshots not yet saved, in bytes.
    pub max_pending: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    pub listen: SocketAddr,
    /// The URL other instances ask this one at, without a slash at its end.
    pub advertise: String,
    /// Whether the operator wants an address that others reach without tokens.
    pub insecure: bool,
    /// Who may read. With tokens of neither kind everyone may do everything, which only loopback or `insecure` allows.
    pub read_tokens: Vec<Secret>,
    /// Who may read and act.
    pub admin_tokens: Vec<Secret>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub policy: Policy,
    /// Of one partial, in bytes of its encoding.
    pub max_state: u64,
    pub breaker: Breaker,
}

/// What becomes of an event whose fold fails or whose state would pass `max_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    DeadLetter,
    Park,
}

/// Trips when `share` of a partition's newest `records` are dead letters by what the record alone decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    pub records: u32,
    pub share: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logging {
    pub level: Level,
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}
