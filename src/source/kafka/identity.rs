//! **Identity**: what the configured topics are, asked before any claim; and where a partition that
//! was never read begins.
//!
//! The daemon compares it with what the store is bound to. Invariant: what is refused here (a missing
//! topic, a compacted one) can never be read half-way.

use super::admin::{Answer, Queries, Which, cluster_id};
use super::client::{self, Native, Notice};
use super::{Error, Result, Settings, Start};
use crate::position::Position;
use crate::record::PartitionId;
use crate::source::{LogIdentity, TopicIdentity};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::types::RDKafkaRespErr;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long Kafka may take to answer before it counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was found, and what an operator should know about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Identified {
    pub log: LogIdentity,
    /// Sentences to log: a topic without `LogAppendTime`, a right that is missing.
    pub warnings: Vec<String>,
}

/// Asks Kafka what the configured topics are. Blocks, for about 10 s at most.
pub fn identity(settings: &Settings) -> Result<Identified> {
    if settings.topics.is_empty() {
        return Err(Error::Settings("kafka.topics is empty, expected at least one topic".into()));
    }
    let asking = Asking::new(settings)?;
    let partitions = asking.partitions()?;
    let cluster = cluster_id(&asking.client, asking.left()).ok_or_else(|| asking.unreachable("it did not say its cluster id"))?;
    let mut warnings = Vec::new();
    let ids = asking.topic_ids(&mut warnings);
    asking.check_configs(&mut warnings)?;
    let topics = settings.topics.iter().map(|topic| TopicIdentity {
        topic: topic.clone(),
        id: ids.get(topic).cloned(),
        partitions: partitions.get(topic).copied().unwrap_or_default(),
    });
    Ok(Identified { log: LogIdentity { cluster, topics: topics.collect() }, warnings })
}

/// Where a partition that was never read begins. Blocks, for about 10 s at most.
pub fn resolve_start(settings: &Settings, partition: &PartitionId, start: Start) -> Result<Position> {
    let asking = Asking::new(settings)?;
    let which = match start {
        Start::Beginning => Which::Low,
        Start::End => Which::Stable,
        Start::At(time) => Which::At { timestamp_ms: time.0.div_euclid(1000) + i64::from(time.0.rem_euclid(1000) != 0) },
    };
    let offset = asking.offset(which, partition)?;
    // No record that late yet: the end.
    let offset = if offset < 0 { asking.offset(Which::Stable, partition)? } else { offset };
    Ok(Position(offset))
}

/// The offset of a partition's oldest record, and its last stable offset. Blocks, for about 10 s at most.
pub fn extent(settings: &Settings, partition: &PartitionId) -> Result<(Position, Position)> {
    let asking = Asking::new(settings)?;
    Ok((Position(asking.offset(Which::Low, partition)?), Position(asking.offset(Which::Stable, partition)?)))
}

/// One round of questions with one deadline.
struct Asking<'a> {
    settings: &'a Settings,
    client: Arc<Native>,
    queries: Queries,
    deadline: Instant,
}

impl<'a> Asking<'a> {
    fn new(settings: &'a Settings) -> Result<Self> {
        let client = Arc::new(client::create(&client::config(settings, 1)?)?);
        let queries = Queries::new(client.clone());
        Ok(Self { settings, client, queries, deadline: Instant::now() + PATIENCE })
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100))
    }

    /// Partitions of each topic; refuses a topic that is not there or may not be seen.
    fn partitions(&self) -> Result<BTreeMap<String, i32>> {
        let mut found = BTreeMap::new();
        let mut last_reason = String::new();
        while found.len() < self.settings.topics.len() {
            if Instant::now() >= self.deadline {
                return Err(self.unreachable(&last_reason));
            }
            let Some(topic) = self.settings.topics.iter().find(|t| !found.contains_key(*t)) else { break };
            let answer = self.client.fetch_metadata(Some(topic), self.left().min(Duration::from_secs(1)));
            self.note_errors(&mut last_reason)?;
            let Ok(metadata) = answer else { continue };
            let Some(seen) = metadata.topics().iter().find(|t| t.name() == topic) else { continue };
            match seen.error() {
                None if !seen.partitions().is_empty() => {
                    found.insert(topic.clone(), seen.partitions().len() as i32);
                }
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) => {
                    return Err(Error::Refused(format!(
                        "topic {topic:?} does not exist on the Kafka cluster at {}; create it or correct kafka.topics",
                        client::brokers(self.settings)
                    )));
                }
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => {
                    return Err(Error::Refused(format!(
                        "Kafka does not let {} see topic {topic:?}; expected the rights Read and Describe on it",
                        self.user()
                    )));
                }
                Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION) => {
                    return Err(Error::Refused(format!("{topic:?} in kafka.topics is not a name a topic can have")));
                }
                Some(other) => last_reason = format!("topic {topic:?}: {}", Code::from(other)),
                // A topic without partitions yet, or one whose leader is being elected: ask again.
                None => last_reason = format!("topic {topic:?} has no partition yet"),
            }
        }
        Ok(found)
    }

    /// Takes what librdkafka told meanwhile; a refused login will not pass by itself.
    fn note_errors(&self, last_reason: &mut String) -> Result<()> {
        while self.client.poll(Duration::ZERO).is_some() {}
        for notice in self.client.context().take() {
            let (code, reason) = match notice {
                Notice::Error { code, reason } => (code, reason),
                Notice::Logged(words) => {
                    *last_reason = words;
                    continue;
                }
                Notice::Assigned(_) | Notice::Revoked { .. } => continue,
            };
            match code {
                Code::Authentication | Code::SaslAuthenticationFailed => {
                    return Err(Error::Refused(format!(
                        "Kafka at {} refuses the login of {}: {reason}",
                        client::brokers(self.settings),
                        self.user()
                    )));
                }
                Code::AllBrokersDown => {
                    if last_reason.is_empty() {
                        *last_reason = reason;
                    }
                }
                _ => *last_reason = reason,
            }
        }
        Ok(())
    }

    fn topic_ids(&self, warnings: &mut Vec<String>) -> BTreeMap<String, String> {
        self.queries.topics(&self.settings.topics, self.left());
        let mut ids = BTreeMap::new();
        let unknown = |why: &dyn std::fmt::Display| {
            format!("Kafka does not say the id of every topic ({why}); a topic re-created under its name would go unnoticed")
        };
        match self.queries.poll(self.left()) {
            Some(Answer::Topics(topics)) => {
                for described in topics {
                    match described.found {
                        Ok((id, _)) => drop(ids.insert(described.topic, id)),
                        Err(code) => warnings.push(unknown(&format!("topic {:?}: {code}", described.topic))),
                    }
                }
            }
            Some(Answer::Failed(why)) => warnings.push(unknown(&why)),
            _ => warnings.push(unknown(&"no answer in time")),
        }
        ids
    }

    /// Refuses compacted topics; warns where producers' clocks decide about time.
    fn check_configs(&self, warnings: &mut Vec<String>) -> Result<()> {
        self.queries.configs(&self.settings.topics, self.left());
        let unseen = |why: &dyn std::fmt::Display| {
            format!("Kafka does not show the topics' settings ({why}); whether one is compacted is unknown")
        };
        let topics = match self.queries.poll(self.left()) {
            Some(Answer::Configs(topics)) => topics,
            Some(Answer::Failed(why)) => {
                warnings.push(unseen(&why));
                return Ok(());
            }
            _ => {
                warnings.push(unseen(&"no answer in time"));
                return Ok(());
            }
        };
        for (topic, found) in topics {
            let configs = match found {
                Ok(configs) => configs,
                Err(code) => {
                    warnings.push(unseen(&format!("topic {topic:?}: {code}")));
                    continue;
                }
            };
            let value = |name: &str| configs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
            if let Some(policy) = value("cleanup.policy").filter(|p| p.split(',').any(|p| p.trim() == "compact")) {
                return Err(Error::Refused(format!(
                    "topic {topic:?} is compacted (cleanup.policy={policy}), so records of a hunt vanish from it; expected cleanup.policy=delete"
                )));
            }
            if let Some(kind) = value("message.timestamp.type").filter(|t| *t != "LogAppendTime") {
                warnings.push(format!(
                    "topic {topic:?} has message.timestamp.type={kind}: a producer's wrong clock can close windows early; LogAppendTime keeps producers' clocks out of it"
                ));
            }
        }
        Ok(())
    }

    fn offset(&self, which: Which, partition: &PartitionId) -> Result<i64> {
        let mut last_reason = String::new();
        loop {
            self.queries.offsets(which, std::slice::from_ref(partition), self.left());
            match self.queries.poll(self.left()) {
                Some(Answer::Offsets(_, found)) => match found.first() {
                    Some((_, Ok(offset))) => return Ok(*offset),
                    Some((_, Err(code))) => last_reason = code.to_string(),
                    None => {}
                },
                Some(Answer::Failed(why)) => last_reason = why,
                _ => {}
            }
            self.note_errors(&mut last_reason)?;
            if Instant::now() >= self.deadline {
                return Err(Error::Unreachable(format!(
                    "Kafka at {} does not say the offsets of {partition}: {last_reason}",
                    client::brokers(self.settings)
                )));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn unreachable(&self, reason: &str) -> Error {
        Error::Unreachable(format!(
            "no answer from Kafka at {} within {} s{}{reason}",
            client::brokers(self.settings),
            PATIENCE.as_secs(),
            if reason.is_empty() { "" } else { ": " }
        ))
    }

    /// Who we are to Kafka, for sentences.
    fn user(&self) -> String {
        match self.settings.librdkafka.get("sasl.username") {
            Some(name) => format!("user {name:?}"),
            None => "an anonymous user".into(),
        }
    }
}
