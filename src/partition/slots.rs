//! **Slots**: the partition's table of resident hunts. A hunt id is hashed once, by decode, and
//! interned here; everything else speaks of slot numbers.
//!
//! Invariant: a slot's generation never steps back, also when the slot is used again for another
//! hunt, so that a late reply is never taken for a newer one.

use crate::outcome::Counts;
use crate::position::{Offset, Position};
use crate::store::{DeadLetter, LagReasons};
use crate::time::Micros;
use hashbrown::HashTable;

/// A place in the log, and the partition clock there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub position: Position,
    pub clock: Option<Micros>,
}

/// What one hunt's records came to since a checkpoint: `sent` to the hunt, and what its replies said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub sent: u32,
    pub applied: u32,
    pub duplicate: u32,
    pub dead: u32,
    pub late: u32,
}

impl Tally {
    /// As a change of the partition's counts (its records are counted when they are dispatched).
    pub fn counts(&self) -> Counts {
        Counts {
            applied: self.applied.into(),
            duplicate: self.duplicate.into(),
            dead_lettered: self.dead.into(),
            late: self.late.into(),
            ..Counts::default()
        }
    }
}

#[derive(Debug)]
pub struct Slot {
    pub hunt: Box<str>,
    pub hash: u64,
    pub generation: u32,
    pub stage: Stage,
    /// An actor runs for it.
    pub running: bool,
    /// Records were sent, or its stage changed, since the last boundary.
    pub dirty: bool,
    /// Its snapshot for the closing checkpoint is awaited; `asked`: the order for it is in the hunt's queue.
    pub awaited: bool,
    pub asked: bool,
    /// When it last had an event.
    pub touched: Micros,
    /// Since the last boundary, and between the last commit and the closing boundary.
    pub open: Tally,
    pub closing: Tally,
    /// Its row in the closing checkpoint, counted from 1; 0: it has none.
    pub row: u32,
    /// Losses since its last saved snapshot for which no record is to blame.
    pub losses: u32,
    /// Its committed row says it lags from here.
    pub saved_lag: Option<Mark>,
    /// Scratch of grouping: events of the batch at hand.
    pub count: u32,
}

#[derive(Debug)]
pub enum Stage {
    /// Its saved state is being read; nothing was sent to it.
    Loading,
    /// Its position is the partition's.
    Live,
    Lagging(Box<Lagging>),
}

/// A hunt behind its partition.
#[derive(Debug)]
pub struct Lagging {
    /// Where its saved state stands: where catching up begins.
    pub base: Mark,
    /// How far catching up has come; `base` again after a loss.
    pub read: Mark,
    /// Records of this hunt from `base` to the partition's position.
    pub held: i64,
    pub reasons: LagReasons,
    /// The record at which the fold panicked, tried once more when it is read again.
    pub tried: Option<Offset>,
    pub restoration: Restoration,
    /// Takes part in the running pass of the side reader.
    pub in_pass: bool,
    /// What its replies said since `base`; becomes the partition's counts when it is live.
    pub progress: Tally,
    pub letters: Vec<DeadLetter>,
    /// When it began to lag here, by the wall clock: a figure, never fold input.
    pub since: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restoration {
    Needed,
    Loading,
    Ready,
}

#[derive(Default)]
pub struct Slots {
    table: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    /// Slots in use.
    pub fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// One past the greatest slot number in use.
    pub fn end(&self) -> u32 {
        self.slots.len() as u32
    }

    #[inline]
    pub fn find(&self, hash: u64, hunt: &[u8]) -> Option<u32> {
        self.table.find(hash, |&slot| self.slots[slot as usize].hunt.as_bytes() == hunt).copied()
    }

    /// Panics if the hunt has a slot already.
    pub fn insert(&mut self, hash: u64, hunt: &str, stage: Stage, now: Micros) -> u32 {
        debug_assert!(self.find(hash, hunt.as_bytes()).is_none());
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        let generation = self.slots.get(slot as usize).map_or(0, |old| old.generation + 1);
        let fresh = Slot {
            hunt: hunt.into(),
            hash,
            generation,
            stage,
            running: false,
            dirty: false,
            awaited: false,
            asked: false,
            touched: now,
            open: Tally::default(),
            closing: Tally::default(),
            row: 0,
            losses: 0,
            saved_lag: None,
            count: 0,
        };
        match self.slots.get_mut(slot as usize) {
            Some(old) => *old = fresh,
            None => self.slots.push(fresh),
        }
        let Self { table, slots, .. } = self;
        table.insert_unique(hash, slot, |&slot| slots[slot as usize].hash);
        slot
    }

    pub fn remove(&mut self, slot: u32) {
        let hash = self.slots[slot as usize].hash;
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == slot) {
            entry.remove();
            let old = &mut self.slots[slot as usize];
            old.hunt = "".into();
            old.running = false;
            old.stage = Stage::Loading;
            self.free.push(slot);
        }
    }

    /// Slots in use.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        self.table.iter().map(|&slot| (slot, &self.slots[slot as usize]))
    }
}

impl std::ops::Index<u32> for Slots {
    type Output = Slot;

    fn index(&self, slot: u32) -> &Slot {
        &self.slots[slot as usize]
    }
}

impl std::ops::IndexMut<u32> for Slots {
    fn index_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.slots[slot as usize]
    }
}
