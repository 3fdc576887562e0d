//! A **pass**: every record of one partition from a position to another, in batches, on the thread
//! that asks for them.
//!
//! `verify` and `rebuild` fold them. Invariant: what it gives follows one another without hole or
//! overlap from `from` to `until`, but for the gaps it names; where it cannot go on, the last thing
//! it gives says why.

use super::reader::Reader;
use super::{SideEvent, SideRead};
use crate::position::{Epoch, Position};
use crate::record::{Batch, PartitionId};
use tokio::sync::mpsc;

/// Batches read ahead of the one being folded.
const AHEAD: usize = 4;
/// So many times in a row it is tried again without a record in between.
const TRIES: u32 = 3;

pub struct Pass {
    reader: Reader,
    partition: PartitionId,
    next: Position,
    until: Position,
    events: Option<mpsc::Receiver<SideEvent>>,
    failed: u32,
}

#[derive(Debug)]
pub enum Found {
    Batch(Batch),
    /// The log no longer has `[from, to)`.
    Gap {
        from: Position,
        to: Position,
    },
}

impl Pass {
    pub fn new(reader: &Reader, partition: &PartitionId, from: Position, until: Position) -> Pass {
        Pass { reader: reader.clone(), partition: partition.clone(), next: from, until, events: None, failed: 0 }
    }

    /// Where the next record may stand.
    pub fn position(&self) -> Position {
        self.next
    }

    fn begin(&self) -> mpsc::Receiver<SideEvent> {
        let (send, events) = mpsc::channel(AHEAD);
        let read = SideRead { partition: self.partition.clone(), epoch: Epoch(0), from: self.next, until: self.until };
        self.reader.side_read(read, send);
        events
    }
}

/// Blocks; not for a thread that runs async tasks.
impl Iterator for Pass {
    type Item = Result<Found, String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.next >= self.until {
                return None;
            }
            if self.events.is_none() {
                self.events = Some(self.begin());
            }
            let why = match self.events.as_mut().and_then(mpsc::Receiver::blocking_recv) {
                Some(SideEvent::Batch(batch)) => {
                    self.next = batch.next.max(self.next);
                    self.failed = 0;
                    return Some(Ok(Found::Batch(batch)));
                }
                Some(SideEvent::Gap { from, to }) => {
                    self.next = to.max(self.next);
                    return Some(Ok(Found::Gap { from, to }));
                }
                Some(SideEvent::Failed(why)) => why,
                None => format!("{}: reading ended at {} by a defect", self.partition, self.next),
            };
            self.events = None;
            self.failed += 1;
            if self.failed >= TRIES {
                self.until = self.next;
                return Some(Err(why));
            }
        }
    }
}
