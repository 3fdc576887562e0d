//! A **partition** being read: what was taken from its queue and not yet handed over.
//!
//! The reader's thread fills the [`Outbox`] and sends what it lets out. A batch goes out at once while
//! nothing of the partition is in flight, and grows while its predecessors are being processed: small
//! when all is quiet, tens of thousands of records under a backlog. Invariant: batches follow one
//! another without hole or overlap, and their bytes in flight stay within the limits but for one batch.

use super::Limits;
use super::queue::Message;
use crate::position::{Epoch, Position};
use crate::record::{Batch, Budget, PartitionId, Record};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a batch may wait for its predecessors, should somebody hold on to one of them.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// Most messages taken from a queue at a time.
const CHUNK: usize = 4096;

pub(super) struct Outbox {
    id: PartitionId,
    epoch: Epoch,
    limits: Limits,
    /// Batches that are full.
    full: VecDeque<Batch>,
    /// The batch that grows.
    growing: Batch,
    /// When something was first put into it.
    since: Option<Instant>,
    /// Where the growing batch begins.
    begun: Position,
    in_flight: Arc<AtomicUsize>,
    /// Bytes a record lately, for how much to take at a time.
    record_bytes: usize,
    /// What the last batch held, for how much room the next one gets at once.
    expected: (usize, usize),
    /// Records that came again and were left out.
    pub repeated: u64,
}

impl Outbox {
    pub fn new(id: PartitionId, epoch: Epoch, position: Position, limits: Limits) -> Self {
        Self {
            growing: Batch::new(id.clone(), epoch, position),
            id,
            epoch,
            limits,
            full: VecDeque::new(),
            since: None,
            begun: position,
            in_flight: Arc::default(),
            record_bytes: 1024,
            expected: (0, 0),
            repeated: 0,
        }
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The next offset to take in.
    pub fn position(&self) -> Position {
        self.growing.next
    }

    /// How many more messages may be taken from the queue now; 0: the partition stands still until something is given back.
    pub fn room(&self) -> usize {
        if !self.full.is_empty() || self.growing.records.len() >= self.limits.batch_records {
            return 0;
        }
        let bytes = self.limits.batch_bytes.saturating_sub(self.growing.bytes());
        let records = self.limits.batch_records - self.growing.records.len();
        if bytes == 0 { 0 } else { (bytes / self.record_bytes.max(1)).clamp(16, CHUNK).min(records) }
    }

    /// Copies one record in. A record below the position was there before and is left out.
    pub fn push(&mut self, message: &Message<'_>) {
        let offset = message.offset();
        if !self.growing.next.is_before(offset) {
            self.repeated += 1;
            return;
        }
        if self.growing.records.is_empty() {
            self.growing.records.reserve(self.expected.0);
            self.growing.arena.reserve(self.expected.1);
        }
        self.growing.push(offset, message.timestamp_ms(), message.key(), message.value(), message.headers());
        if self.growing.bytes() >= self.limits.batch_bytes {
            self.close();
        }
    }

    /// Moves the position past what is no record.
    pub fn advance(&mut self, position: Position) {
        self.growing.next = self.growing.next.max(position);
    }

    /// The next batch to hand over, if it is time.
    pub fn take(&mut self, now: Instant) -> Option<Batch> {
        if self.full.is_empty() {
            if self.growing.next == self.begun {
                return None;
            }
            let since = *self.since.get_or_insert(now);
            let idle = self.in_flight.load(Ordering::Acquire) == 0;
            if idle || self.growing.records.len() >= self.limits.batch_records || now.duration_since(since) >= LONGEST_WAIT {
                self.close();
            }
        }
        let bytes = self.full.front()?.bytes();
        let in_flight = self.in_flight.load(Ordering::Acquire);
        if in_flight > 0 && in_flight + bytes > self.limits.partition_in_flight_bytes {
            return None;
        }
        self.pop()
    }

    /// Every batch there is, whatever is in flight: before a gap, which must come after them.
    pub fn take_all(&mut self) -> Vec<Batch> {
        if self.growing.next != self.begun {
            self.close();
        }
        std::iter::from_fn(|| self.pop()).collect()
    }

    /// Goes on at `position`, past records that are gone; only after [`Outbox::take_all`].
    pub fn skip_to(&mut self, position: Position) {
        debug_assert!(self.full.is_empty() && self.growing.records.is_empty());
        self.growing.next = position;
        self.begun = position;
    }

    /// Whether something waits to go out.
    pub fn waits(&self) -> bool {
        !self.full.is_empty() || self.growing.next != self.begun
    }

    fn close(&mut self) {
        let next = Batch::new(self.id.clone(), self.epoch, self.growing.next);
        let batch = std::mem::replace(&mut self.growing, next);
        self.since = None;
        let records = batch.records.len();
        if records > 0 {
            self.record_bytes = (batch.bytes() / records).max(size_of::<Record>());
        }
        self.expected = (records + records / 8, batch.arena.len() + batch.arena.len() / 8);
        self.begun = batch.next;
        self.full.push_back(batch);
    }

    fn pop(&mut self) -> Option<Batch> {
        let mut batch = self.full.pop_front()?;
        batch.budget = Some(Budget::take(&self.in_flight, batch.bytes()));
        Some(batch)
    }
}
