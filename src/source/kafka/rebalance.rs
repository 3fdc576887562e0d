//! **Rebalances** and commands: what the group gives and takes, and what the daemon makes of it.
//!
//! The reader's thread comes here between its turns of reading. Invariant: the daemon knows of a
//! partition from `Assigned` to `Revoked`; what it says about one at any other time is ignored.

use super::client::Notice;
use super::partition::Outbox;
use super::reader::{Reader, Reading};
use crate::record::PartitionId;
use crate::source::{Command, Event};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant};

/// How long the daemon may take to save before partitions are given back.
const HAND_OVER: Duration = Duration::from_secs(1);

/// Partitions that go back to the group as soon as the daemon has saved what it can.
pub(super) struct Revocation {
    /// Of those that were assigned. Not read any more, but kept until they are unassigned.
    readings: Vec<(PartitionId, Reading)>,
    done: Receiver<()>,
    deadline: Instant,
}

impl Reader {
    /// Takes all commands there are. Whether the source shall stop.
    pub fn serve_commands(&mut self) -> Result<bool, String> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Assign { partition, position, epoch }) => {
                    // Adding to an assignment that is lost would make it look valid again.
                    if !self.given.contains(&partition) || self.consumer.assignment_lost() {
                        continue;
                    }
                    self.drop_reading(&partition);
                    let outbox = Outbox::new(partition.clone(), epoch, position, self.settings.limits, self.shelf.clone());
                    self.take_up(&partition, outbox)?;
                }
                Ok(Command::Unassign { partition }) => self.drop_reading(&partition),
                Ok(Command::CommitOffsets(positions)) => {
                    let mut list = TopicPartitionList::new();
                    for (id, position) in positions {
                        if self.given.contains(&id) {
                            // A list of offsets refuses only what is no offset.
                            let _ = list.add_partition_offset(&id.topic, id.partition, Offset::Offset(position.0));
                        }
                    }
                    if list.count() > 0
                        && let Err(e) = self.consumer.commit(&list, CommitMode::Async)
                    {
                        self.trouble("commit", || format!("Kafka's own offsets, for lag tools, could not be written: {e}"));
                    }
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(true),
                Err(TryRecvError::Empty) => return Ok(false),
            }
        }
    }

    fn drop_reading(&mut self, id: &PartitionId) {
        if self.readings.remove(id).is_some() {
            self.remove_from_consumer(std::slice::from_ref(id));
        }
    }

    /// Acts on what librdkafka told. The error is what the source fails with.
    pub fn heed(&mut self, notice: Notice) -> Result<(), String> {
        match notice {
            Notice::Assigned(partitions) => {
                self.ever_assigned = true;
                self.given.extend(partitions.iter().cloned());
                if !partitions.is_empty() {
                    self.send(Event::Assigned(partitions));
                }
            }
            Notice::Revoked { partitions, lost } => self.revoke(partitions, lost),
            Notice::Error { code, reason } => return self.heed_error(code, &reason),
            Notice::Logged(words) if words.contains("SSL") => self.trouble("TLS", || format!("Kafka: {words}")),
            Notice::Logged(_) => {}
        }
        Ok(())
    }

    fn revoke(&mut self, partitions: Vec<PartitionId>, lost: bool) {
        let mut readings = Vec::new();
        for id in &partitions {
            self.given.remove(id);
            readings.extend(self.readings.remove_entry(id));
        }
        let (sender, done) = mpsc::sync_channel(1);
        self.send(Event::Revoked { partitions, lost, done: sender });
        let now = Instant::now();
        let deadline = if lost { now } else { now + HAND_OVER };
        self.revocations.push(Revocation { readings, done, deadline });
        self.finish_revocations(now);
    }

    /// Gives partitions back whose hand-over is done, or has taken long enough: the store's fence makes leaving it undone safe.
    pub fn finish_revocations(&mut self, now: Instant) {
        if self.revocations.is_empty() {
            return;
        }
        let lost = self.consumer.assignment_lost();
        let over = |r: &Revocation| lost || now >= r.deadline || r.done.try_recv() != Err(TryRecvError::Empty);
        let (finished, open) = std::mem::take(&mut self.revocations).into_iter().partition::<Vec<_>, _>(over);
        self.revocations = open;
        for revocation in finished {
            let ids: Vec<PartitionId> = revocation.readings.iter().map(|(id, _)| id.clone()).collect();
            self.remove_from_consumer(&ids);
        }
    }

    fn heed_error(&mut self, code: Code, reason: &str) -> Result<(), String> {
        let group = &self.settings.group;
        match code {
            Code::GroupAuthorizationFailed if !self.ever_assigned => {
                Err(format!("Kafka does not let us join group {group:?}; expected the right Read on it ({reason})"))
            }
            Code::TopicAuthorizationFailed if !self.ever_assigned => Err(format!(
                "Kafka does not let us read {}; expected the right Read on every topic ({reason})",
                self.settings.topics.join(", ")
            )),
            Code::InconsistentGroupProtocol if !self.ever_assigned => Err(format!(
                "group {group:?} is used by other consumers, which do not assign partitions by cooperative-sticky; expected a group of huntline's own ({reason})"
            )),
            Code::AllBrokersDown => {
                self.unanswered("no broker can be reached".to_owned());
                Ok(())
            }
            _ => {
                self.trouble(&format!("{code:?}"), || format!("Kafka: {reason}"));
                Ok(())
            }
        }
    }
}
