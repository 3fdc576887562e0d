//! A **record** is the bytes Kafka holds at (topic, partition, offset); a [`Batch`] is a run of
//! records of one partition in offset order, all their bytes in one arena.
//!
//! A source hands batches to the partition's actor, which decodes and shares them with the hunts.
//! Invariant: offsets in a batch strictly increase, every one is below [`Batch::next`], and
//! every [`Span`] lies inside the arena.

use crate::position::{Epoch, Offset, Position};
use serde::Serialize;
use std::fmt;
use std::mem::take;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One partition of one topic. Orders by topic, then number: the order in which partials merge.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct PartitionId {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl PartitionId {
    pub fn new(topic: &str, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A run of bytes in an arena; also says "null", which Kafka tells from "empty".
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// Kafka's null: no bytes, not even an empty run of them.
    pub const NULL: Span = Span { start: 0, len: u32::MAX };

    /// Panics when an arena passes 4 GiB, which a source never lets happen (batches are bounded).
    pub fn new(start: usize, len: usize) -> Self {
        let start = u32::try_from(start).expect("an arena stays below 4 GiB");
        let len = u32::try_from(len).expect("an arena stays below 4 GiB");
        assert!(len != u32::MAX, "an arena stays below 4 GiB");
        Self { start, len }
    }

    pub fn is_null(self) -> bool {
        self.len == u32::MAX
    }

    pub fn start(self) -> usize {
        self.start as usize
    }

    /// Length in bytes; 0 for null.
    pub fn len(self) -> usize {
        if self.is_null() { 0 } else { self.len as usize }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The bytes in `arena`; `None` for null.
    pub fn of(self, arena: &[u8]) -> Option<&[u8]> {
        (!self.is_null()).then(|| &arena[self.start()..self.start() + self.len()])
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_null() { f.write_str("null") } else { write!(f, "{}+{}", self.start, self.len) }
    }
}

/// One record: where it stands in its partition and where its parts stand in the batch's arena.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub offset: Offset,
    /// Kafka's record timestamp, milliseconds since 1970; negative: the record has none.
    pub timestamp_ms: i64,
    pub key: Span,
    pub value: Span,
    /// Index of the first header in [`Batch::headers`], and how many there are.
    pub headers: (u32, u32),
}

#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub name: Span,
    pub value: Span,
}

/// Records of one partition in offset order, read under one claim.
#[derive(Debug)]
pub struct Batch {
    pub partition: PartitionId,
    /// The claim under which it was read; a batch of another epoch is dropped by its receiver.
    pub epoch: Epoch,
    pub arena: Vec<u8>,
    pub records: Vec<Record>,
    pub headers: Vec<Header>,
    /// The reader's position after the batch: past transaction markers and aborted records, so it
    /// may lie beyond the last offset + 1, and a batch may hold no record at all.
    pub next: Position,
    /// Bytes in flight, given back when the last holder drops the batch. `None` in tests.
    pub budget: Option<Budget>,
    /// Where its memory goes then.
    shelf: Option<Shelf>,
}

impl Batch {
    pub fn new(partition: PartitionId, epoch: Epoch, next: Position) -> Self {
        let (arena, records, headers) = Room::default();
        Self { partition, epoch, arena, records, headers, next, budget: None, shelf: None }
    }

    /// Copies one record to the end of the batch and moves `next` past it. Headers come in their order, names and values as they are.
    pub fn push<'h>(
        &mut self,
        offset: Offset,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) {
        let key = self.put(key);
        let value = self.put(value);
        let first = self.headers.len() as u32;
        for (name, value) in headers {
            let header = Header { name: self.put(Some(name)), value: self.put(value) };
            self.headers.push(header);
        }
        let count = self.headers.len() as u32 - first;
        self.records.push(Record { offset, timestamp_ms, key, value, headers: (first, count) });
        self.next = offset.next();
    }

    fn put(&mut self, bytes: Option<&[u8]>) -> Span {
        let Some(bytes) = bytes else { return Span::NULL };
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        Span::new(start, bytes.len())
    }

    pub fn key(&self, record: &Record) -> Option<&[u8]> {
        record.key.of(&self.arena)
    }

    pub fn value(&self, record: &Record) -> Option<&[u8]> {
        record.value.of(&self.arena)
    }

    /// The record's headers in their order: name and value (null kept apart from empty).
    pub fn headers<'a>(&'a self, record: &Record) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let (first, count) = record.headers;
        self.headers[first as usize..(first + count) as usize]
            .iter()
            .map(|h| (h.name.of(&self.arena).unwrap_or_default(), h.value.of(&self.arena)))
    }

    /// Roughly what the batch holds in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.records.len() * size_of::<Record>() + self.headers.len() * size_of::<Header>()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(shelf) = self.shelf.take() {
            let Self { arena, records, headers, .. } = self;
            shelf.put((take(arena), take(records), take(headers)));
        }
    }
}

type Room = (Vec<u8>, Vec<Record>, Vec<Header>);

/// The memory of batches that are done with, for those to come.
///
/// Why: a batch under backlog takes megabytes, and so large a block goes back to the system when it is freed; each of its pages
/// would be cleared by the kernel again for the next batch, a tenth of all time.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Arc<Mutex<Vec<Room>>>);

impl Shelf {
    /// So many are kept; what comes back beyond is freed.
    const MOST: usize = 8;

    /// An empty batch that brings its memory back.
    pub fn batch(&self, partition: PartitionId, epoch: Epoch, next: Position) -> Batch {
        let (arena, records, headers) = self.rooms().pop().unwrap_or_default();
        Batch { partition, epoch, arena, records, headers, next, budget: None, shelf: Some(self.clone()) }
    }

    fn put(&self, (mut arena, mut records, mut headers): Room) {
        arena.clear();
        records.clear();
        headers.clear();
        let mut rooms = self.rooms();
        if rooms.len() < Self::MOST {
            rooms.push((arena, records, headers));
        }
    }

    fn rooms(&self) -> MutexGuard<'_, Vec<Room>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A share of the bytes a partition may have in flight; dropping it gives the share back, which is
/// how a slow consumer's source learns to pause and to go on.
#[derive(Debug)]
pub struct Budget {
    in_flight: Arc<AtomicUsize>,
    bytes: usize,
}

impl Budget {
    pub fn take(in_flight: &Arc<AtomicUsize>, bytes: usize) -> Self {
        in_flight.fetch_add(bytes, Ordering::AcqRel);
        Self { in_flight: in_flight.clone(), bytes }
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}
