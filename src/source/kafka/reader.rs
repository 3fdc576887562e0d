//! The **reader**: the one thread that owns the consumer and never stops serving it.
//!
//! Each turn of its loop takes the daemon's commands, serves librdkafka's events, reads every partition
//! that has room, hands over what is due, and ten times a second looks after partitions that do not
//! go as they should ([`Reader::tick`], in [`super::care`]). Claims happen elsewhere: an assignment is acknowledged empty, and a
//! partition is added when the daemon says where it starts.
//!
//! Invariant: a partition is read from exactly the position its outbox has come to. Whatever puts that in doubt
//! (an error among its records, a record through `poll`, a stall) ends in [`Reader::restart`] at that position.

use super::Settings;
use super::admin::Queries;
use super::client::{self, Native};
use super::partition::Outbox;
use super::queue::{PartitionQueue, Taken};
use super::rebalance::Revocation;
use super::watchdog::Watchdog;
use crate::position::Position;
use crate::record::{PartitionId, Shelf};
use crate::source::{Command, Event, LogIdentity};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

const TICK: Duration = Duration::from_millis(100);
/// How long dropping a consumer may take before it is left behind.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts the thread. It ends after `Command::Stop` (or when every sender of commands is gone) with `Event::Stopped`, or with `Event::Failed`.
pub fn start(settings: Settings, identity: LogIdentity, events: UnboundedSender<Event>) -> (Sender<Command>, JoinHandle<()>) {
    let (sender, commands) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("kafka".into())
        .spawn(move || match Reader::new(settings, identity, events.clone(), commands) {
            Ok(reader) => reader.run(),
            Err(why) => drop(events.send(Event::Failed(why))),
        })
        .expect("the system can start a thread");
    (sender, thread)
}

/// One partition being read.
pub(super) struct Reading {
    pub outbox: Outbox,
    pub queue: PartitionQueue,
    /// Something has come out of the queue since it was last assigned.
    pub seen: bool,
    pub state: State,
    pub dog: Watchdog,
    /// It had no room at some time since the watchdog last looked.
    pub held_back: bool,
    /// How often in a row its records arrived damaged.
    pub damaged: u32,
}

pub(super) enum State {
    Reading,
    /// To be read again from its position, at this time.
    Again(Instant),
    /// Its position is out of range; the brokers were asked for the range at this time.
    OutOfRange {
        asked: Instant,
        low: Option<i64>,
        high: Option<i64>,
    },
}

pub(super) struct Reader {
    pub settings: Settings,
    pub identity: LogIdentity,
    pub events: UnboundedSender<Event>,
    pub commands: Receiver<Command>,
    pub consumer: Arc<Native>,
    pub queries: Queries,
    /// Shared by all partitions.
    pub shelf: Shelf,
    wakes: Arc<Thread>,
    /// What the group gives us, claimed or not.
    pub given: BTreeSet<PartitionId>,
    /// What is claimed and assigned; always given, too.
    pub readings: BTreeMap<PartitionId, Reading>,
    pub revocations: Vec<Revocation>,
    pub ever_assigned: bool,
    /// Partitions for whose sake the consumer was replaced, and that have not moved since.
    pub renewed: BTreeSet<PartitionId>,
    troubles: HashMap<String, Instant>,
    /// When Kafka last did not answer.
    pub silent_at: Option<Instant>,
    ticked: Instant,
    pub ends_asked: Instant,
    pub topics_asked: Instant,
}

impl Reader {
    fn new(
        settings: Settings,
        identity: LogIdentity,
        events: UnboundedSender<Event>,
        commands: Receiver<Command>,
    ) -> Result<Self, String> {
        let wakes = Arc::new(thread::current());
        let consumer = connect(&settings, &identity, &wakes)?;
        let now = Instant::now();
        let mut reader = Self {
            queries: Queries::new(consumer.clone()),
            consumer,
            shelf: Shelf::default(),
            settings,
            identity,
            events,
            commands,
            wakes,
            given: BTreeSet::new(),
            readings: BTreeMap::new(),
            revocations: Vec::new(),
            ever_assigned: false,
            renewed: BTreeSet::new(),
            troubles: HashMap::new(),
            silent_at: None,
            ticked: now,
            ends_asked: now,
            topics_asked: now,
        };
        reader.join()?;
        Ok(reader)
    }

    fn run(mut self) {
        loop {
            match self.turn() {
                Ok(Turn::Busy) => {}
                Ok(Turn::Quiet { wait }) => thread::park_timeout(wait),
                Ok(Turn::Stop) => break self.stop(None),
                Err(why) => break self.stop(Some(why)),
            }
        }
    }

    /// Once around; the error is what the source fails with.
    fn turn(&mut self) -> Result<Turn, String> {
        if self.serve_commands()? {
            return Ok(Turn::Stop);
        }
        self.serve_events()?;
        let now = Instant::now();
        self.finish_revocations(now);
        let tick = now.duration_since(self.ticked) >= TICK;
        let busy = self.read(now, tick);
        if tick {
            self.ticked = now;
            self.tick(now)?;
        }
        if busy {
            return Ok(Turn::Busy);
        }
        // Nothing tells when bytes in flight are given back or a command comes, so both are looked for.
        let waits = !self.revocations.is_empty() || self.readings.values().any(|r| r.outbox.waits());
        Ok(Turn::Quiet { wait: Duration::from_millis(if waits { 1 } else { 10 }) })
    }

    pub fn send(&self, event: Event) {
        // Nobody listening means that the daemon is gone; its commands' end stops the loop.
        let _ = self.events.send(event);
    }

    /// Says a trouble, at most once a second and cause.
    pub fn trouble(&mut self, cause: &str, sentence: impl FnOnce() -> String) {
        if self.is_due(cause) {
            self.send(Event::Trouble(sentence()));
        }
    }

    /// Says that Kafka does not answer, at most once a second.
    pub fn unanswered(&mut self, why: String) {
        self.silent_at = Some(Instant::now());
        if self.is_due("unanswered") {
            self.send(Event::Unanswered(why));
        }
    }

    fn is_due(&mut self, cause: &str) -> bool {
        let now = Instant::now();
        let due = self.troubles.get(cause).is_none_or(|last| now.duration_since(*last) >= Duration::from_secs(1));
        if due {
            self.troubles.insert(cause.to_owned(), now);
        }
        due
    }

    fn serve_events(&mut self) -> Result<(), String> {
        for _ in 0..4 {
            let stray = match self.consumer.poll(Duration::ZERO) {
                Some(Ok(record)) => Some(PartitionId::new(record.topic(), record.partition())),
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Err(self.fatal(code)),
                _ => None,
            };
            // Its place among the queue's records is unknown: read again from where we are.
            if let Some(id) = stray
                && self.readings.contains_key(&id)
            {
                self.restart(&id)?;
            }
        }
        for notice in self.consumer.context().take() {
            self.heed(notice)?;
        }
        Ok(())
    }

    fn fatal(&self, code: Code) -> String {
        let why = self.consumer.client().fatal_error().map(|(_, why)| why).unwrap_or_else(|| code.to_string());
        if why.contains("group.instance.id") || code == Code::FencedInstanceId {
            let instance = &self.settings.instance;
            return format!(
                "another process took over kafka.instance {instance:?}; every instance needs a name of its own ({why})"
            );
        }
        format!("the Kafka client cannot go on: {why}")
    }

    /// Takes a chunk from every partition that has room, and hands over what is due. Whether there was anything to do.
    fn read(&mut self, now: Instant, tick: bool) -> bool {
        let mut busy = false;
        let mut broken = Vec::new();
        for (id, reading) in &mut self.readings {
            let room = reading.outbox.room();
            if room == 0 {
                reading.held_back = true;
            } else if matches!(reading.state, State::Reading) {
                let Reading { outbox, queue, .. } = reading;
                let mut error = None;
                let count = queue.read(room, Duration::ZERO, |taken| match taken {
                    Taken::Record(message) => message.copy_to(outbox),
                    Taken::Error(code, text) => error = Some((code, text)),
                });
                // A marker alone wakes the thread but counts for nothing; the next tick sees it.
                if (count > 0 || tick)
                    && error.is_none()
                    && let Some(position) = queue.position()
                {
                    outbox.advance(position);
                }
                reading.seen |= count > 0;
                busy |= count > 0;
                if let Some((code, text)) = error {
                    broken.push((id.clone(), code, text));
                }
            }
            while let Some(batch) = reading.outbox.take(now) {
                busy = true;
                reading.damaged = 0;
                self.renewed.remove(id);
                let _ = self.events.send(Event::Batch(batch));
            }
        }
        for (id, code, text) in broken {
            self.mend(&id, code, &text, now);
        }
        busy
    }

    /// Becomes a member of the group, or takes everything.
    fn join(&mut self) -> Result<(), String> {
        if self.settings.assign_all {
            let topics = self.identity.topics.iter();
            let all: Vec<PartitionId> = topics.flat_map(|t| (0..t.partitions).map(|p| PartitionId::new(&t.topic, p))).collect();
            self.given.extend(all.iter().cloned());
            self.ever_assigned = true;
            self.send(Event::Assigned(all));
            return Ok(());
        }
        let topics: Vec<&str> = self.settings.topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics).map_err(|e| format!("subscribe to {}: {e}", topics.join(", ")))
    }

    /// Begins to read a partition that is claimed.
    pub fn take_up(&mut self, id: &PartitionId, outbox: Outbox) -> Result<(), String> {
        let queue = PartitionQueue::new(self.consumer.clone(), id, self.wakes.clone());
        let position = outbox.position();
        let dog = Watchdog::new(position, Instant::now());
        let reading = Reading { outbox, queue, seen: false, state: State::Reading, dog, held_back: false, damaged: 0 };
        self.readings.insert(id.clone(), reading);
        self.add_to_consumer(id, position)
    }

    /// Reads the partition again from where its outbox is.
    pub fn restart(&mut self, id: &PartitionId) -> Result<(), String> {
        if self.consumer.assignment_lost() {
            // Adding to it would make it look valid again; the revocation is on its way.
            return Ok(());
        }
        self.remove_from_consumer(std::slice::from_ref(id));
        let Some(reading) = self.readings.get_mut(id) else { return Ok(()) };
        reading.queue = PartitionQueue::new(self.consumer.clone(), id, self.wakes.clone());
        reading.seen = false;
        reading.state = State::Reading;
        let position = reading.outbox.position();
        self.add_to_consumer(id, position)
    }

    fn add_to_consumer(&mut self, id: &PartitionId, position: Position) -> Result<(), String> {
        let mut list = TopicPartitionList::new();
        let added = list
            .add_partition_offset(&id.topic, id.partition, Offset::Offset(position.0))
            .and_then(|()| self.consumer.incremental_assign(&list));
        added.map_err(|e| format!("assign {id} at {position}: {e}"))
    }

    pub fn remove_from_consumer(&mut self, ids: &[PartitionId]) {
        let mut list = TopicPartitionList::new();
        for id in ids {
            list.add_partition(&id.topic, id.partition);
        }
        if let Err(e) = self.consumer.incremental_unassign(&list) {
            self.trouble("unassign", || format!("give up {} partitions: {e}", ids.len()));
        }
    }

    /// Replaces the consumer; everything that was given is lost and will be given anew.
    pub fn renew(&mut self) -> Result<(), String> {
        let consumer = connect(&self.settings, &self.identity, &self.wakes)?;
        self.readings.clear();
        self.revocations.clear();
        let partitions: Vec<PartitionId> = std::mem::take(&mut self.given).into_iter().collect();
        self.send(Event::Revoked { partitions, lost: true, done: mpsc::sync_channel(1).0 });
        self.queries = Queries::new(consumer.clone());
        let old = std::mem::replace(&mut self.consumer, consumer);
        drop_aside(old, Duration::ZERO);
        self.join()
    }

    fn stop(self, failed: Option<String>) {
        let Self { consumer, queries, readings, revocations, events, .. } = self;
        drop((queries, readings, revocations));
        drop_aside(consumer, CLOSE_TIMEOUT);
        let _ = events.send(failed.map_or(Event::Stopped, Event::Failed));
    }
}

enum Turn {
    Busy,
    Quiet { wait: Duration },
    Stop,
}

fn connect(settings: &Settings, identity: &LogIdentity, wakes: &Arc<Thread>) -> Result<Arc<Native>, String> {
    let partitions = identity.topics.iter().map(|t| t.partitions.max(0) as usize).sum();
    let create = || client::create(&client::config(settings, partitions)?);
    let mut consumer: BaseConsumer<_> = create().map_err(|e| e.to_string())?;
    let thread = wakes.clone();
    consumer.set_nonempty_callback(move || thread.unpark());
    Ok(Arc::new(consumer))
}

/// Drops a consumer, which leaves its group and may block, on a thread of its own; waits for it at most `patience`.
fn drop_aside(consumer: Arc<Native>, patience: Duration) {
    consumer.context().close();
    let (sender, closed) = mpsc::channel::<()>();
    let dropping = thread::Builder::new().name("kafka-close".into()).spawn(move || {
        drop(consumer);
        drop(sender);
    });
    if dropping.is_ok() && !patience.is_zero() {
        let _ = closed.recv_timeout(patience);
    }
}
