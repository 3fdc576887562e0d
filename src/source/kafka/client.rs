//! The **client**: settings made into an rdkafka consumer, and the [`Context`] that keeps what
//! librdkafka tells until the thread that owns the consumer takes it.
//!
//! Invariant: no setting of the user's replaces one that exactness rests on, and no callback does
//! anything but note; decisions are taken by the thread, outside of the callback.

use super::{Error, Result, Settings};
use crate::config::Unfit;
use crate::record::PartitionId;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaConfRes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub(super) type Native = BaseConsumer<Context>;

/// Settings that belong to huntline, with the reason to give.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set kafka.brokers"),
    ("metadata.broker.list", "set kafka.brokers"),
    ("group.id", "set kafka.group"),
    ("group.instance.id", "set kafka.instance"),
    ("group.protocol", "partitions are claimed by the classic protocol"),
    ("group.remote.assignor", "partitions are claimed by the classic protocol"),
    ("partition.assignment.strategy", "a partition that stays must not be interrupted (cooperative-sticky)"),
    ("enable.auto.commit", "the store alone says where reading starts"),
    ("auto.commit.enable", "the store alone says where reading starts"),
    ("enable.auto.offset.store", "the store alone says where reading starts"),
    ("auto.offset.reset", "set kafka.start and kafka.on_gap"),
    ("isolation.level", "records of aborted transactions are no records"),
    ("check.crcs", "a damaged record must be noticed"),
    ("enable.partition.eof", "it would make rebalances leave records out"),
    ("topic.metadata.refresh.interval.ms", "new partitions must be noticed"),
    ("allow.auto.create.topics", "a missing topic is refused"),
    ("plugin.library.paths", "no foreign code is loaded"),
];

/// Why `[kafka.librdkafka]` may not hold this key; `None`: it is passed through.
pub fn refused_setting(key: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(name, _)| *name == key).map(|(_, why)| *why)
}

/// Bytes that librdkafka may keep fetched ahead over all partitions.
const FETCHED_AHEAD_BYTES: usize = 128 << 20;

/// The configuration of a consumer that reads about `partitions` partitions at a time.
pub(super) fn config(settings: &Settings, partitions: usize) -> Result<ClientConfig> {
    if let Some(key) = settings.librdkafka.keys().find(|key| refused_setting(key).is_some()) {
        let why = refused_setting(key).unwrap_or_default();
        return Err(Error::Settings(format!("kafka.librdkafka {key:?} cannot be set here: {why}")));
    }
    let protocol = settings.librdkafka.get("security.protocol").map(|p| p.to_ascii_lowercase()).unwrap_or_default();
    if !cfg!(feature = "tls") && matches!(protocol.as_str(), "ssl" | "sasl_ssl") {
        return Err(Error::Settings(format!(
            "kafka.librdkafka \"security.protocol\" is {protocol:?}, which this build cannot speak; build huntline with the cargo feature `tls`"
        )));
    }
    let ahead = (FETCHED_AHEAD_BYTES / partitions.max(1)).clamp(4 << 20, 32 << 20);
    let mut config = ClientConfig::new();
    config
        .set("client.id", "huntline")
        .set("session.timeout.ms", "10000")
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.min.messages", "500000")
        .set("queued.max.messages.kbytes", (ahead >> 10).to_string())
        .set("socket.keepalive.enable", "true");
    for (key, value) in &settings.librdkafka {
        config.set(key, value);
    }
    if let Some(password) = &settings.sasl_password {
        config.set("sasl.password", password);
    }
    if !settings.instance.is_empty() && !settings.assign_all {
        config.set("group.instance.id", &settings.instance);
    }
    // A consumer that assigns by hand needs a group's name too, if only to commit for lag tools.
    let group = if settings.group.is_empty() { "huntline" } else { &settings.group };
    config
        .set("bootstrap.servers", settings.brokers.join(","))
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("partition.assignment.strategy", "cooperative-sticky")
        // See `queue`: with it, rebalances would leave records out.
        .set("enable.partition.eof", "false")
        .set("topic.metadata.refresh.interval.ms", "15000");
    config.set_log_level(RDKafkaLogLevel::Info);
    Ok(config)
}

/// What is wrong with a property of `[kafka.librdkafka]`: librdkafka itself is asked, which contacts nothing.
pub fn unfit(key: &str, value: &str) -> Option<Unfit> {
    let tls = "a huntline built with the cargo feature `tls`";
    let spoken = value.to_ascii_lowercase();
    let needs_tls = match key {
        "security.protocol" => matches!(spoken.as_str(), "ssl" | "sasl_ssl"),
        "sasl.mechanism" | "sasl.mechanisms" => spoken.starts_with("scram-"),
        _ => false,
    };
    if needs_tls && !cfg!(feature = "tls") {
        let found = format!("{value:?}, which this build cannot speak");
        return Some(Unfit { name: false, found, expected: tls.to_owned() });
    }
    let mut config = ClientConfig::new();
    config.set(key, value);
    let Err(KafkaError::ClientConfig(kind, said, ..)) = config.create_native_config() else { return None };
    Some(if !missing_feature(&said).is_empty() {
        Unfit { name: true, found: "what this build lacks".to_owned(), expected: tls.to_owned() }
    } else if kind == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
        Unfit {
            name: true,
            found: "a property that librdkafka does not know".to_owned(),
            expected: "a name from its CONFIGURATION.md".to_owned(),
        }
    } else {
        let bounds = said.split_once(" is outside allowed ").map(|(_, bounds)| bounds.trim_end());
        let expected =
            bounds.map_or("a value that librdkafka takes there".to_owned(), |bounds| format!("one in librdkafka's {bounds}"));
        Unfit { name: false, found: format!("{value:?}"), expected }
    })
}

/// Makes the consumer; it connects in the background.
pub(super) fn create(config: &ClientConfig) -> Result<Native> {
    config.create_with_context(Context::default()).map_err(|e| {
        Error::Settings(match e {
            // Not the value: it may be a secret.
            KafkaError::ClientConfig(_, found, key, _) => {
                format!("kafka.librdkafka {key:?}: librdkafka says {found:?}{}", missing_feature(&found))
            }
            KafkaError::ClientCreation(found) if !missing_feature(&found).is_empty() => {
                format!("this build cannot log in that way ({found}){}", missing_feature(&found))
            }
            other => format!("librdkafka refuses the settings of [kafka]: {other}"),
        })
    })
}

/// What to do where librdkafka was built without what the settings need, as the end of a sentence; else nothing.
pub fn missing_feature(found: &str) -> &'static str {
    let missing = ["OpenSSL", "recompile", "not supported in this build"].iter().any(|words| found.contains(words));
    if missing && !cfg!(feature = "tls") { "; build huntline with the cargo feature `tls`" } else { "" }
}

/// The brokers as configured, for sentences.
pub(super) fn brokers(settings: &Settings) -> String {
    settings.brokers.join(", ")
}

/// Something librdkafka told.
#[derive(Debug)]
pub(super) enum Notice {
    Assigned(Vec<PartitionId>),
    Revoked {
        partitions: Vec<PartitionId>,
        lost: bool,
    },
    Error {
        code: RDKafkaErrorCode,
        reason: String,
    },
    /// Logged as an error: of a failed TLS handshake nothing else is told.
    Logged(String),
}

/// Keeps notices until the thread takes them.
#[derive(Default)]
pub(super) struct Context {
    notices: Mutex<Vec<Notice>>,
    /// Set before the consumer is dropped: nobody will answer a rebalance any more, so the callback does.
    closing: AtomicBool,
}

impl Context {
    pub fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    fn note(&self, notice: Notice) {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
        if matches!(level, RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error) {
            // Without the name of its thread.
            let words = message.split_once("]: ").map_or(message, |(_, words)| words);
            self.note(Notice::Logged(words.to_owned()));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.note(Notice::Error { code, reason: reason.to_owned() });
        }
    }
}

impl ConsumerContext for Context {
    /// Acknowledges an assignment with an empty one: each partition is added once it is claimed. A
    /// revocation is answered by the thread, when what can be saved is saved.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: Code, partitions: &mut TopicPartitionList) {
        let closing = self.closing.load(Ordering::Acquire);
        match kind {
            Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                if let Err(e) = consumer.incremental_assign(&TopicPartitionList::new()) {
                    tracing::warn!("acknowledge an assignment: {e}");
                }
                if !closing {
                    self.note(Notice::Assigned(ids(partitions)));
                }
            }
            _ if closing => {
                // While it closes, librdkafka takes any answer as "everything".
                if let Err(e) = consumer.incremental_unassign(partitions) {
                    tracing::debug!("give partitions back while closing: {e}");
                }
            }
            _ => self.note(Notice::Revoked { partitions: ids(partitions), lost: consumer.assignment_lost() }),
        }
    }
}

fn ids(list: &TopicPartitionList) -> Vec<PartitionId> {
    let mut topics: HashMap<String, Arc<str>> = HashMap::new();
    list.elements()
        .iter()
        .map(|e| {
            let topic = topics.entry(e.topic().to_owned()).or_insert_with(|| e.topic().into()).clone();
            PartitionId { topic, partition: e.partition() }
        })
        .collect()
}
