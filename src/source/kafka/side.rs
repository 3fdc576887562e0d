//! The **side reader**: one pass over a range of one partition, beside the main reader, for hunts that lag.
//!
//! A consumer of its own that belongs to no group, on a thread of low priority, one pass and done.
//! Invariant: batches start at `from`, follow one another without hole or overlap but for gaps it tells,
//! and end with one whose `next` is `until` (or past it, when the log begins later); else the last thing it says is why not.

use super::client::{self, Native};
use super::partition::Outbox;
use super::queue::{PartitionQueue, Taken};
use super::{Limits, Settings};
use crate::position::Position;
use crate::record::{Batch, Shelf};
use crate::source::{SideEvent, SideRead};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;

/// A pass that gets nothing for so long has failed; the daemon tries again.
const PATIENCE: Duration = Duration::from_secs(30);
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// Smaller batches than the main reader's: they wait in a bounded queue.
const BATCH_RECORDS: usize = 8192;

/// Starts a pass. It ends by itself; dropping the receiver cancels it.
pub fn side_read(settings: Settings, what: SideRead, out: Sender<SideEvent>) -> JoinHandle<()> {
    thread::Builder::new()
        .name("kafka-side".into())
        .spawn(move || {
            lower_priority();
            if let Err(why) = pass(&settings, &what, &out) {
                let _ = out.blocking_send(SideEvent::Failed(why));
            }
        })
        .expect("the system can start a thread")
}

/// This thread's, and that of librdkafka's threads, which inherit it. Best effort.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    // SAFETY: takes three numbers; on Linux "process 0" is the calling thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 10);
    }
}

fn pass(settings: &Settings, what: &SideRead, out: &Sender<SideEvent>) -> Result<(), String> {
    let settings = Settings { instance: String::new(), ..settings.clone() };
    let client = client::config(&settings, 8).and_then(|config| client::create(&config)).map_err(|e| e.to_string())?;
    let client = Arc::new(client);
    let read = read(&client, &settings, what, out);
    client.context().close();
    read
}

fn read(client: &Arc<Native>, settings: &Settings, what: &SideRead, out: &Sender<SideEvent>) -> Result<(), String> {
    let id = &what.partition;
    if what.from >= what.until {
        let nothing = Batch::new(id.clone(), what.epoch, what.from);
        let _ = out.blocking_send(SideEvent::Batch(nothing));
        return Ok(());
    }
    let limits = Limits { batch_records: settings.limits.batch_records.min(BATCH_RECORDS), ..settings.limits };
    let mut outbox = Outbox::new(id.clone(), what.epoch, what.from, limits, Shelf::default());
    let mut queue = assign(client, what, what.from)?;
    let mut last = Instant::now();
    // A damaged or interrupted run is fetched again, a few times.
    let mut again = 3;
    while outbox.position() < what.until {
        if out.is_closed() {
            return Ok(());
        }
        while client.poll(Duration::ZERO).is_some() {}
        let (mut end, mut error) = (None, None);
        // One message first, so that a few records do not wait for more; then all that is there.
        let mut taken = |taken: Taken<'_>| match taken {
            Taken::Record(message) if !what.until.is_before(message.offset()) => message.copy_to(&mut outbox),
            Taken::Record(_) => end = Some(what.until),
            Taken::Error(code, text) => error = Some((code, text)),
        };
        let mut count = queue.read(1, Duration::from_millis(100), &mut taken);
        if count > 0 {
            count += queue.read(BATCH_RECORDS, Duration::ZERO, &mut taken);
        }
        let now = Instant::now();
        match error {
            None => {
                if count == 0 {
                    queue.forward();
                    end = queue.position();
                }
                outbox.advance(end.unwrap_or(what.from).min(what.until));
            }
            Some((Code::AutoOffsetReset | Code::OffsetOutOfRange, _)) => {
                let (low, high) = client
                    .fetch_watermarks(&id.topic, id.partition, QUERY_TIMEOUT)
                    .map_err(|e| format!("Kafka does not say the range of {id}: {e}"))?;
                let from = outbox.position();
                if from.0 >= low {
                    return Err(format!("{id}: cannot be read at {from}; the log holds {low} to {high}"));
                }
                if !deliver(&mut outbox, out) {
                    return Ok(());
                }
                if out.blocking_send(SideEvent::Gap { from, to: Position(low) }).is_err() {
                    return Ok(());
                }
                outbox.skip_to(Position(low));
                if Position(low) >= what.until {
                    let end = Batch::new(id.clone(), what.epoch, Position(low));
                    let _ = out.blocking_send(SideEvent::Batch(end));
                    return Ok(());
                }
                queue = assign(client, what, Position(low))?;
            }
            Some((code, text)) => {
                again -= 1;
                if again < 0 {
                    return Err(format!("{id}: cannot be read at {}: {text} ({code})", outbox.position()));
                }
                queue = assign(client, what, outbox.position())?;
            }
        }
        if outbox.room() == 0 || outbox.position() >= what.until || count == 0 {
            if outbox.waits() {
                last = now;
            }
            if !deliver(&mut outbox, out) {
                return Ok(());
            }
        }
        if count > 0 {
            last = now;
        } else if now.duration_since(last) >= PATIENCE {
            let at = outbox.position();
            return Err(format!(
                "{id}: nothing came for {} s at {at}, expected records up to {}",
                PATIENCE.as_secs(),
                what.until
            ));
        }
    }
    Ok(())
}

/// Assigns the partition at `position`; what an earlier assignment fetched is gone.
fn assign(client: &Arc<Native>, what: &SideRead, position: Position) -> Result<PartitionQueue, String> {
    let id = &what.partition;
    let because = |e| format!("assign {id} at {position} for catching up: {e}");
    client.unassign().map_err(because)?;
    let queue = PartitionQueue::new(client.clone(), id, Arc::new(thread::current()));
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&id.topic, id.partition, Offset::Offset(position.0)).map_err(because)?;
    client.assign(&list).map_err(because)?;
    Ok(queue)
}

/// Hands everything over, waiting for room. `false`: nobody wants it any more.
fn deliver(outbox: &mut Outbox, out: &Sender<SideEvent>) -> bool {
    outbox.take_all().into_iter().all(|batch| out.blocking_send(SideEvent::Batch(batch)).is_ok())
}
