//! A **partition** being read: what was taken from its queue and not yet handed over.
//!
//! The reader's thread fills the [`Outbox`] and sends what it lets out. A batch goes out at once while
//! nothing of the partition is in flight, and grows while its predecessors are being processed: small
//! when all is quiet, tens of thousands of records under a backlog. Invariant: batches follow one
//! another without hole or overlap, and their bytes in flight stay within the limits but for one batch.

use super::Limits;
use crate::position::{Epoch, Offset, Position};
use crate::record::{Batch, Budget, PartitionId, Record, Shelf};
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
    shelf: Shelf,
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
}

impl Outbox {
    pub fn new(id: PartitionId, epoch: Epoch, position: Position, limits: Limits, shelf: Shelf) -> Self {
        Self {
            growing: shelf.batch(id.clone(), epoch, position),
            shelf,
            id,
            epoch,
            limits,
            full: VecDeque::new(),
            since: None,
            begun: position,
            in_flight: Arc::default(),
            record_bytes: 1024,
            expected: (0, 0),
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
    pub fn push<'h>(
        &mut self,
        offset: Offset,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) {
        if !self.growing.next.is_before(offset) {
            return;
        }
        if self.growing.records.is_empty() {
            self.growing.records.reserve(self.expected.0);
            self.growing.arena.reserve(self.expected.1);
        }
        self.growing.push(offset, timestamp_ms, key, value, headers);
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
        let next = self.shelf.batch(self.id.clone(), self.epoch, self.growing.next);
        let batch = std::mem::replace(&mut self.growing, next);
        self.since = None;
        let records = batch.records.len();
        if let Some(each) = batch.bytes().checked_div(records) {
            self.record_bytes = each.max(size_of::<Record>());
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { batch_records: 10, batch_bytes: 10_000, partition_in_flight_bytes: 12_000 };

    fn outbox() -> Outbox {
        Outbox::new(PartitionId::new("t", 0), Epoch(3), Position(100), LIMITS, Shelf::default())
    }

    fn push(outbox: &mut Outbox, offsets: std::ops::Range<i64>, len: usize) {
        for offset in offsets {
            outbox.push(Offset(offset), 0, None, Some(&vec![b'x'; len]), []);
        }
    }

    fn offsets(batch: &Batch) -> Vec<i64> {
        batch.records.iter().map(|r| r.offset.0).collect()
    }

    #[test]
    fn a_batch_goes_out_at_once_when_nothing_is_in_flight_and_grows_while_something_is() {
        let (mut outbox, now) = (outbox(), Instant::now());
        assert!(outbox.take(now).is_none());
        push(&mut outbox, 100..101, 1);
        let first = outbox.take(now).expect("the first record");
        assert_eq!((offsets(&first), first.next, first.epoch), (vec![100], Position(101), Epoch(3)));
        push(&mut outbox, 101..104, 1);
        assert!(outbox.take(now).is_none());
        push(&mut outbox, 104..106, 1);
        assert!(outbox.take(now).is_none() && outbox.waits());
        drop(first);
        assert_eq!(offsets(&outbox.take(now).expect("the rest")), vec![101, 102, 103, 104, 105]);
        assert!(!outbox.waits());
    }

    #[test]
    fn a_batch_does_not_wait_for_ever_for_one_that_is_kept() {
        let (mut outbox, now) = (outbox(), Instant::now());
        push(&mut outbox, 100..101, 1);
        let _kept = outbox.take(now).expect("a batch");
        push(&mut outbox, 101..102, 1);
        assert!(outbox.take(now).is_none());
        assert!(outbox.take(now + LONGEST_WAIT).is_some());
    }

    #[test]
    fn a_partition_has_no_room_when_its_batches_are_full_or_its_bytes_in_flight_used_up() {
        let (mut outbox, now) = (outbox(), Instant::now());
        push(&mut outbox, 100..110, 1);
        assert_eq!(outbox.room(), 0);
        let full = outbox.take(now).expect("a full batch");
        assert_eq!(full.records.len(), 10);
        assert!(outbox.room() > 0);
        push(&mut outbox, 110..112, 6_000);
        assert_eq!(outbox.room(), 0);
        assert!(outbox.take(now).is_none(), "12,000 bytes are not to be passed");
        drop(full);
        let big = outbox.take(now).expect("a batch always goes out when nothing is in flight");
        assert_eq!((offsets(&big), big.next), (vec![110, 111], Position(112)));
    }

    #[test]
    fn the_position_moves_past_what_is_no_record_and_never_back() {
        let (mut outbox, now) = (outbox(), Instant::now());
        push(&mut outbox, 100..102, 1);
        push(&mut outbox, 99..102, 1);
        outbox.advance(Position(105));
        outbox.advance(Position(90));
        let batch = outbox.take(now).expect("a batch");
        assert_eq!((offsets(&batch), batch.next), (vec![100, 101], Position(105)));
        drop(batch);
        outbox.advance(Position(106));
        let marker = outbox.take(now).expect("a batch without records");
        assert_eq!((offsets(&marker), marker.next), (vec![], Position(106)));
    }

    #[test]
    fn before_a_gap_everything_goes_out_and_reading_goes_on_behind_it() {
        let mut outbox = outbox();
        push(&mut outbox, 100..103, 6_000);
        let batches = outbox.take_all();
        assert_eq!(batches.iter().flat_map(offsets).collect::<Vec<_>>(), vec![100, 101, 102]);
        outbox.skip_to(Position(500));
        assert!(outbox.take_all().is_empty());
        assert_eq!(outbox.position(), Position(500));
    }
}
