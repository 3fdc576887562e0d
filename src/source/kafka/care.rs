//! **Care** for partitions that do not go as they should, and for what changes behind our back: errors among
//! the records, gaps, a log cut short, a partition that stands still, a topic that is not the same any more.
//!
//! The reader's thread comes here when an error came out of a queue, and ten times a second. Invariant: questions to
//! brokers never wait ([`Queries`](super::admin::Queries)); a partition in doubt is read again from its position, or not at all.

use super::OnGap;
use super::admin::{Answer, Which};
use super::reader::{Reader, Reading, State};
use super::watchdog::Verdict;
use crate::position::Position;
use crate::record::PartitionId;
use crate::source::Event;
use rdkafka::error::RDKafkaErrorCode as Code;
use std::time::{Duration, Instant};

const ENDS_EVERY: Duration = Duration::from_secs(3);
const TOPICS_EVERY: Duration = Duration::from_secs(30);
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// For so long after librdkafka said that no broker can be reached, which it says again whenever it has tried (`reconnect.backoff.max.ms`).
const SILENCE: Duration = Duration::from_secs(20);
/// How often a damaged run of records is fetched again before the partition halts.
const DAMAGED_TRIES: u32 = 3;

impl Reader {
    /// An error came out among a partition's records.
    pub fn mend(&mut self, id: &PartitionId, code: Code, text: &str, now: Instant) {
        let Some(reading) = self.readings.get_mut(id) else { return };
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange => {
                reading.state = State::OutOfRange { asked: now, low: None, high: None };
                self.ask_range(id);
            }
            Code::BadMessage | Code::BadCompression | Code::InvalidMessage | Code::InvalidMessageSize => {
                reading.damaged += 1;
                if reading.damaged <= DAMAGED_TRIES {
                    reading.state = State::Again(now + Duration::from_secs(1));
                    let position = reading.outbox.position();
                    self.trouble(&format!("damaged {id}"), || {
                        format!("{id}: records from offset {position} on arrived damaged ({text}); fetching them again")
                    });
                } else {
                    let position = reading.outbox.position();
                    self.halt(id, format!("{id}: records from offset {position} on are damaged on the broker ({text}); expected them to pass their checksum"));
                }
            }
            Code::TopicAuthorizationFailed => {
                reading.state = State::Again(now + Duration::from_secs(1));
                self.trouble(&format!("{id} {code:?}"), || {
                    format!("{id} cannot be read: Kafka does not let us; expected the right Read on topic {:?}", id.topic)
                });
            }
            _ => {
                reading.state = State::Again(now + Duration::from_secs(1));
                self.trouble(&format!("{id} {code:?}"), || format!("{id} cannot be read now: {text}"));
            }
        }
    }

    /// Hands over what was read, says why, and stops reading the partition.
    fn halt(&mut self, id: &PartitionId, why: String) {
        let Some(mut reading) = self.readings.remove(id) else { return };
        for batch in reading.outbox.take_all() {
            self.send(Event::Batch(batch));
        }
        let epoch = reading.outbox.epoch();
        self.remove_from_consumer(std::slice::from_ref(id));
        self.send(Event::Halted { partition: id.clone(), epoch, why });
    }

    fn ask_range(&self, id: &PartitionId) {
        for which in [Which::Low, Which::High] {
            self.queries.offsets(which, std::slice::from_ref(id), QUERY_TIMEOUT);
        }
    }

    /// The brokers said where the log begins and ends: a gap, or a log that is not the one we read.
    fn judge_range(&mut self, id: &PartitionId, low: i64, high: i64, now: Instant) -> Result<(), String> {
        let Some(reading) = self.readings.get_mut(id) else { return Ok(()) };
        let (from, to, epoch) = (reading.outbox.position(), Position(low), reading.outbox.epoch());
        if from > Position(high) {
            self.halt(
                id,
                format!(
                    "{id}: the position is {from}, but the log ends at {high}; it was truncated, or the topic was re-created. Expected a log that still holds what was read from it"
                ),
            );
        } else if from >= to {
            // In range after all (a new leader was behind for a moment).
            reading.state = State::Again(now + Duration::from_secs(1));
        } else {
            let batches = reading.outbox.take_all();
            reading.outbox.skip_to(to);
            for batch in batches {
                self.send(Event::Batch(batch));
            }
            self.send(Event::Gap { partition: id.clone(), epoch, from, to });
            match self.settings.on_gap {
                OnGap::Continue => self.restart(id)?,
                OnGap::Halt => {
                    self.readings.remove(id);
                    self.remove_from_consumer(std::slice::from_ref(id));
                }
            }
        }
        Ok(())
    }

    /// Looks after what does not go by itself.
    pub fn tick(&mut self, now: Instant) -> Result<(), String> {
        let mut again = Vec::new();
        let mut ranges = Vec::new();
        for (id, reading) in &mut self.readings {
            if !reading.seen {
                reading.queue.forward();
            }
            match &mut reading.state {
                State::Again(at) if *at <= now => again.push(id.clone()),
                State::OutOfRange { asked, .. } if now.duration_since(*asked) > QUERY_TIMEOUT => {
                    *asked = now;
                    ranges.push(id.clone());
                }
                _ => {}
            }
        }
        for id in &ranges {
            self.ask_range(id);
        }
        for id in &again {
            self.restart(id)?;
        }
        if now.duration_since(self.ends_asked) >= ENDS_EVERY && !self.readings.is_empty() {
            self.ends_asked = now;
            let ids: Vec<PartitionId> = self.readings.keys().cloned().collect();
            self.queries.offsets(Which::Stable, &ids, QUERY_TIMEOUT);
        }
        // For a question that nobody answers librdkafka would look for brokers without a pause.
        let silent = self.silent_at.is_some_and(|at| now.duration_since(at) < SILENCE);
        if now.duration_since(self.topics_asked) >= TOPICS_EVERY && !silent {
            self.topics_asked = now;
            self.queries.topics(&self.settings.topics, QUERY_TIMEOUT);
        }
        while let Some(answer) = self.queries.poll(Duration::ZERO) {
            self.hear(answer, now)?;
        }
        Ok(())
    }

    fn hear(&mut self, answer: Answer, now: Instant) -> Result<(), String> {
        match answer {
            Answer::Offsets(Which::Stable, found) => {
                for (id, offset) in found {
                    match offset {
                        Ok(end) => self.watch(&id, Position(end), now)?,
                        Err(code) => self.trouble(&format!("end {id}"), || format!("Kafka does not say where {id} ends: {code}")),
                    }
                }
            }
            Answer::Offsets(which, found) => {
                for (id, offset) in found {
                    let Some(Reading { state: State::OutOfRange { low, high, .. }, .. }) = self.readings.get_mut(&id) else {
                        continue;
                    };
                    let (Ok(offset), true) = (offset, matches!(which, Which::Low | Which::High)) else { continue };
                    *if which == Which::Low { &mut *low } else { &mut *high } = Some(offset);
                    if let (Some(low), Some(high)) = (*low, *high) {
                        self.judge_range(&id, low, high, now)?;
                    }
                }
            }
            Answer::Topics(topics) => {
                for described in topics {
                    if let Ok((id, partitions)) = described.found {
                        self.compare_topic(&described.topic, &id, partitions)?;
                    }
                }
            }
            Answer::Configs(_) => {}
            Answer::Failed(why) => self.unanswered(why),
        }
        Ok(())
    }

    /// Says the partition's end and whether it moves as it should.
    fn watch(&mut self, id: &PartitionId, stable: Position, now: Instant) -> Result<(), String> {
        let Some(reading) = self.readings.get_mut(id) else { return Ok(()) };
        self.events.send(Event::End { partition: id.clone(), end: stable }).ok();
        let high = reading.queue.cached_high().unwrap_or(stable);
        let position = reading.outbox.position();
        let could_read = !std::mem::take(&mut reading.held_back) && matches!(reading.state, State::Reading);
        match reading.dog.judge(now, position, stable, high, could_read, self.renewed.contains(id)) {
            Verdict::Fine => {}
            Verdict::Seek => {
                let action = format!("it stood at {position} while records up to {stable} were there; sought to {position}");
                self.send(Event::Stalled { partition: id.clone(), action });
                self.restart(id)?;
            }
            Verdict::Renew => {
                let action = format!("it still stood at {position} below {stable} after a seek; a new consumer is started");
                self.send(Event::Stalled { partition: id.clone(), action });
                self.renewed.insert(id.clone());
                self.renew()?;
            }
            Verdict::GiveUp => {
                return Err(format!("{id} stands at {position} while records up to {stable} are there; neither a seek nor a new consumer helped"));
            }
            Verdict::TransactionHangs(long) => self.trouble(&format!("transaction {id}"), || {
                format!(
                    "{id}: the last stable offset has stood at {stable} for {} minutes while the log goes on to {high}: a producer's transaction hangs",
                    long.as_secs() / 60
                )
            }),
        }
        Ok(())
    }

    /// A topic's id must stay; partitions it gained are taken when no group would give them.
    fn compare_topic(&mut self, topic: &str, id: &str, partitions: i32) -> Result<(), String> {
        let Some(known) = self.identity.topics.iter_mut().find(|t| t.topic == topic) else { return Ok(()) };
        if let Some(before) = known.id.as_deref().filter(|before| *before != id) {
            return Err(format!(
                "topic {topic:?} was re-created: its id was {before} and is {id} now; what was read belongs to the former one"
            ));
        }
        let new: Vec<PartitionId> = (known.partitions..partitions).map(|p| PartitionId::new(topic, p)).collect();
        known.partitions = known.partitions.max(partitions);
        if self.settings.assign_all && !new.is_empty() {
            self.given.extend(new.iter().cloned());
            self.send(Event::Assigned(new));
        }
        Ok(())
    }
}
