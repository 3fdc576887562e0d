//! A **hunt**'s conduct, without its actor: it applies the ranges it is handed, gives snapshots, and
//! meets a fold that panics.
//!
//! The partition's machine hands it [`Order`]s and gets one [`Reply`] each. A panic is met in two
//! ways. Usually the hunt is *lost*: it says at which record, ignores what is still in its queue, and
//! waits for a `Restore` with its last saved state, from which the partition has it catch up. After
//! that it is *careful* for a thousand events: it keeps a clean encoding before each, so a panic
//! costs it one event, tried once more from clean state, and no pass over the log.
//!
//! Invariant: every record it is handed in one generation is counted in exactly one reply, or its
//! generation ends with one `lost` reply; whatever it counted as dead left no trace in the state.

use crate::decode::Decoded;
use crate::outcome::Reason;
use crate::partial::{Fold, Folded, Partial, bits};
use crate::position::Offset;
use crate::record::Batch;
use crate::rollup::Delta;
use crate::store::Readers;
use crate::time::Micros;
use std::ops::Range;
use std::sync::Arc;

/// How many events must fold without a panic before a restored hunt stops keeping clean encodings.
const CAREFUL_EVENTS: u32 = 1000;

/// A decoded batch with its events grouped by hunt, shared by all hunts it has events for.
#[derive(Debug)]
pub struct Work {
    pub batch: Arc<Batch>,
    pub decoded: Decoded,
    /// The partition clock before each record of the batch.
    pub clocks: Vec<Option<Micros>>,
    /// Indexes of records, those of one hunt next to one another and in offset order.
    pub order: Vec<u32>,
}

/// How many events ahead of the one being folded the memory of another is asked for.
const AHEAD: usize = 6;

impl Work {
    /// Asks for what folding `order[at]` will read. Why: the records of one hunt lie far apart in a batch that is larger than the
    /// nearer caches, and what stands behind the range is the next hunt's, whose turn it is next.
    #[inline]
    fn prefetch(&self, at: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Some(&index) = self.order.get(at) {
            let index = index as usize;
            let ask = |address: *const i8| {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                // SAFETY: a hint; it reads nothing, whatever the address.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
            };
            ask((&raw const self.decoded.events[index]).cast());
            ask(self.decoded.fields(index).as_ptr().cast());
            ask((&raw const self.batch.records[index]).cast());
            ask((&raw const self.clocks[index]).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = at;
    }
}

/// What a hunt is told to do. Orders of a past generation are ignored.
#[derive(Debug)]
pub struct Order {
    pub generation: u32,
    pub task: Task,
}

#[derive(Debug)]
pub enum Task {
    /// Fold the records `work.order[range]`. With `snapshot_first`, give a snapshot of the state before them.
    /// While `catching_up` a careful hunt stays careful, however many events succeed.
    Apply {
        work: Arc<Work>,
        range: Range<u32>,
        snapshot_first: bool,
        catching_up: bool,
    },
    Snapshot,
    /// Begin a generation from this saved state (`None`: from nothing). `tried`: the record at which the fold panicked, if it did.
    Restore {
        state: Option<Vec<u8>>,
        tried: Option<Offset>,
    },
}

/// What came of one order.
#[derive(Debug, Default)]
pub struct Reply {
    pub slot: u32,
    pub generation: u32,
    pub applied: u32,
    pub duplicate: u32,
    /// Applied events that a window refused, and how many each aggregate refused: (its number, events).
    pub late: u32,
    pub late_by: Vec<(u8, u32)>,
    pub dead: Vec<Dead>,
    /// For an order that asked for one.
    pub snapshot: Option<Box<Given>>,
    /// The fold panicked; the hunt needs a `Restore`.
    pub lost: Option<Box<Lost>>,
}

/// A snapshot as the hunt gives it.
#[derive(Clone, Debug)]
pub struct Given {
    pub state: Vec<u8>,
    pub readers: Readers,
    /// What the events since the snapshot before, or since the saved state it began from, added to the rollup.
    pub delta: Delta,
}

/// A record that the fold could not take, to be copied into a dead letter.
#[derive(Clone, Debug)]
pub struct Dead {
    pub work: Arc<Work>,
    pub index: u32,
    pub reason: Reason,
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The record at which the fold panicked; `None`: it happened outside the fold.
    pub at: Option<Offset>,
    pub why: String,
}

/// Called before each event is folded; a test's may panic.
pub type Hook = Arc<dyn Fn(&[u8], Offset) + Send + Sync>;

pub struct Hunt {
    fold: Arc<Fold>,
    slot: u32,
    generation: u32,
    state: Conduct,
    /// What was added to the rollup since the last snapshot; of a careful hunt, the events in its state.
    delta: Delta,
    /// What is being applied, so that a panic knows where it stands.
    in_hand: Option<InHand>,
    hook: Option<Hook>,
}

enum Conduct {
    Sound(Partial),
    Careful {
        partial: Partial,
        left: u32,
        /// The state before the event in hand, and the delta.
        clean: Vec<u8>,
        clean_delta: Delta,
        /// The record at which the fold panicked once.
        tried: Option<Offset>,
    },
    Lost,
}

struct InHand {
    work: Arc<Work>,
    range: Range<u32>,
    catching_up: bool,
    reply: Reply,
}

impl Hunt {
    /// A hunt in generation `generation` with a loaded snapshot, or from nothing. When the snapshot does not read, the hunt is
    /// lost from the start, and the reply says so.
    pub fn new(fold: Arc<Fold>, slot: u32, generation: u32, saved: Option<&[u8]>, hook: Option<Hook>) -> (Self, Option<Reply>) {
        let decoded = saved.map_or_else(|| Ok(fold.start()), |bytes| fold.decode(bytes));
        let mut hunt = Self { fold, slot, generation, state: Conduct::Lost, delta: Delta::default(), in_hand: None, hook };
        match decoded {
            Ok(partial) => {
                hunt.state = Conduct::Sound(partial);
                (hunt, None)
            }
            Err(error) => {
                let reply = hunt.lost(None, format!("the saved state does not read: {error}"));
                (hunt, Some(reply))
            }
        }
    }

    /// Carries an order out. `None`: it is of another generation, or the hunt is lost. A panic leaves the order in hand, for [`Hunt::after_panic`].
    pub fn carry_out(&mut self, order: Order) -> Option<Reply> {
        match order.task {
            Task::Restore { state, tried } => {
                self.generation = order.generation;
                self.in_hand = None;
                self.delta = Delta::default();
                let partial = match &state {
                    None => self.fold.start(),
                    Some(bytes) => match self.fold.decode(bytes) {
                        Ok(partial) => partial,
                        Err(error) => {
                            self.state = Conduct::Lost;
                            return Some(self.lost(None, format!("the saved state does not read: {error}")));
                        }
                    },
                };
                self.state =
                    Conduct::Careful { partial, left: CAREFUL_EVENTS, clean: Vec::new(), clean_delta: Delta::default(), tried };
                None
            }
            _ if order.generation != self.generation || matches!(self.state, Conduct::Lost) => None,
            Task::Snapshot => {
                let mut reply = self.reply();
                reply.snapshot = self.snapshot();
                Some(reply)
            }
            Task::Apply { work, range, snapshot_first, catching_up } => {
                let mut reply = self.reply();
                if snapshot_first {
                    reply.snapshot = self.snapshot();
                }
                self.in_hand = Some(InHand { work, range, catching_up, reply });
                Some(self.go_on())
            }
        }
    }

    /// To be called after a panic out of [`Hunt::carry_out`] or out of itself. A careful hunt goes on with what it had in hand;
    /// any other is lost.
    pub fn after_panic(&mut self, why: &str) -> Reply {
        let at = self.in_hand.as_ref().and_then(InHand::offset);
        if let (Some(in_hand), Conduct::Careful { partial, clean, clean_delta, tried, left }) =
            (&mut self.in_hand, &mut self.state)
            && let Some(offset) = at
            && let Ok(restored) = self.fold.decode(clean)
        {
            *partial = restored;
            self.delta = std::mem::take(clean_delta);
            *left = CAREFUL_EVENTS;
            if *tried == Some(offset) {
                let index = in_hand.work.order[in_hand.range.start as usize];
                let detail = format!("the fold failed twice, the second time from clean state: {why}");
                in_hand.reply.dead.push(Dead { work: in_hand.work.clone(), index, reason: Reason::Failed, detail });
                in_hand.range.start += 1;
                *tried = None;
            } else {
                *tried = Some(offset);
            }
            return self.go_on();
        }
        self.in_hand = None;
        self.state = Conduct::Lost;
        self.lost(at, why.to_owned())
    }

    /// The encoded state, for a reader; `None` while lost.
    pub fn encoded(&self) -> Option<Vec<u8>> {
        match &self.state {
            Conduct::Sound(partial) | Conduct::Careful { partial, .. } => Some(self.fold.encode(partial)),
            Conduct::Lost => None,
        }
    }

    fn reply(&self) -> Reply {
        Reply { slot: self.slot, generation: self.generation, ..Reply::default() }
    }

    fn lost(&self, at: Option<Offset>, why: String) -> Reply {
        Reply { lost: Some(Box::new(Lost { at, why })), ..self.reply() }
    }

    fn snapshot(&mut self) -> Option<Box<Given>> {
        match &self.state {
            Conduct::Sound(partial) | Conduct::Careful { partial, .. } => Some(Box::new(Given {
                state: self.fold.encode(partial),
                readers: self.fold.readers(partial),
                delta: std::mem::take(&mut self.delta),
            })),
            Conduct::Lost => None,
        }
    }

    /// Folds what is left in hand.
    fn go_on(&mut self) -> Reply {
        let Self { fold, state, delta, in_hand, hook, .. } = self;
        let hand = in_hand.as_mut().expect("called with an order in hand");
        while hand.range.start < hand.range.end {
            hand.work.prefetch(hand.range.start as usize + AHEAD);
            let index = hand.work.order[hand.range.start as usize];
            let (batch, decoded) = (&*hand.work.batch, &hand.work.decoded);
            let partial = match state {
                Conduct::Sound(partial) => partial,
                Conduct::Careful { partial, clean, clean_delta, .. } => {
                    *clean = fold.encode(partial);
                    clean_delta.clone_from(delta);
                    partial
                }
                Conduct::Lost => unreachable!("a lost hunt takes nothing in hand"),
            };
            if let Some(hook) = hook {
                hook(decoded.text(batch, decoded.events[index as usize].hunt), batch.records[index as usize].offset);
            }
            match fold.apply(partial, batch, decoded, index as usize, hand.work.clocks[index as usize], delta) {
                Folded::Applied { late } => {
                    hand.reply.applied += 1;
                    if late != 0 {
                        hand.reply.count_late(late);
                    }
                }
                Folded::Duplicate => hand.reply.duplicate += 1,
                Folded::StateFull { bytes } => {
                    let detail = format!("the state would take {bytes} bytes, more than failure.max_state");
                    hand.reply.dead.push(Dead { work: hand.work.clone(), index, reason: Reason::StateFull, detail });
                }
            }
            hand.range.start += 1;
            if let Conduct::Careful { left, clean, .. } = state {
                // Never restore an older state than the one before the event in hand.
                clean.clear();
                *left -= u32::from(!hand.catching_up);
                if *left == 0 {
                    let Conduct::Careful { partial, .. } = std::mem::replace(state, Conduct::Lost) else { unreachable!() };
                    *state = Conduct::Sound(partial);
                }
            }
        }
        in_hand.take().expect("still in hand").reply
    }
}

impl Reply {
    /// Counts one event that the aggregates in `late` (bit `i`: aggregate `i`) refused.
    fn count_late(&mut self, late: u128) {
        self.late += 1;
        for aggregate in bits(late) {
            // A `u128` has no more bits than a `u8` can number.
            let aggregate = aggregate as u8;
            match self.late_by.iter_mut().find(|(of, _)| *of == aggregate) {
                Some((_, events)) => *events += 1,
                None => self.late_by.push((aggregate, 1)),
            }
        }
    }
}

impl InHand {
    /// The record being folded; `None` once the range is done.
    fn offset(&self) -> Option<Offset> {
        let index = *self.work.order.get(self.range.start as usize).filter(|_| self.range.start < self.range.end)?;
        Some(self.work.batch.records[index as usize].offset)
    }
}
