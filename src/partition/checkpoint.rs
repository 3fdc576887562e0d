//! Checkpoints: a boundary is drawn at the dispatched position, every changed hunt gives the
//! snapshot it has there, and all of it commits together. A hunt that fails on the way commits as
//! lagging; a snapshot the store refuses makes its hunt lag; neither makes anything else wait.

use super::slots::{Lagging, Mark, Restoration, Slot, Stage, Tally};
use super::{Effect, Input, Machine, Phase, lag_row, past_gaps, refusal};
use crate::hunt::{Dead, Given, Lost, Reply, Task};
use crate::outcome::Counts;
use crate::rollup::Delta;
use crate::store::{Checkpoint, DeadLetter, DoneAct, Gap, LagReasons, Snapshot};
use crate::time::Micros;
use std::collections::HashMap;
use std::sync::Arc;

/// Losses for which no record is to blame, with no snapshot saved between them, after which a hunt waits for an operator.
const LOSSES: u32 = 3;

/// What a checkpoint will add to the committed counts, and its dead letters (with the slot of those that go if their hunt fails).
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub counts: Counts,
    pub letters: Vec<(Option<u32>, DeadLetter)>,
    pub gaps: Vec<Gap>,
    pub acts: Vec<DoneAct>,
    /// Of the letters, roughly.
    pub bytes: usize,
}

impl Pending {
    pub fn push_letter(&mut self, slot: Option<u32>, letter: DeadLetter) {
        self.bytes += 200
            + letter.detail.len()
            + letter.value.as_ref().map_or(0, Vec::len)
            + letter.key.as_ref().map_or(0, Vec::len)
            + letter.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum::<usize>();
        self.letters.push((slot, letter));
    }

    /// What a failed hunt's replies said is taken back: its records are held.
    fn take_back(&mut self, slot: u32, tally: Tally) {
        self.counts -= tally.counts();
        self.counts.held += i64::from(tally.sent);
        self.letters.retain(|(of, _)| *of != Some(slot));
    }
}

/// The checkpoint being made: its boundary, and what is there of it.
#[derive(Debug)]
pub(super) struct Closing {
    pub at: Mark,
    pub pending: Pending,
    /// Hunts that were changed at the boundary, and how many of them have been swept.
    hunts: Vec<u32>,
    swept: usize,
    awaited: usize,
    /// The rows so far, whose they are, and what they add to the rollup; once sent, the rows are in the checkpoint.
    slots: Vec<u32>,
    rows: Vec<Snapshot>,
    deltas: Vec<Delta>,
    bytes: usize,
    /// The partition's rollup with these deltas, once sent.
    rollup: Option<Delta>,
    /// Whether the breaker stood tripped at the boundary.
    tripped: Option<String>,
    /// In the store's hands.
    sent: Option<Arc<Checkpoint>>,
}

impl Closing {
    fn push(&mut self, slot: u32, s: &mut Slot, row: Snapshot, delta: Delta) {
        self.slots.push(slot);
        self.rows.push(row);
        self.deltas.push(delta);
        s.row = self.slots.len() as u32;
    }

    /// Whether it is in the store's hands.
    pub fn is_sent(&self) -> bool {
        self.sent.is_some()
    }

    /// Where the hunt will stand in the store once this commits, if it is in it.
    fn base_of(&self, s: &Slot) -> Option<Mark> {
        let index = s.row.checked_sub(1)? as usize;
        let rows = self.sent.as_ref().map_or(&self.rows, |checkpoint| &checkpoint.partials);
        Some(rows[index].lag.map_or(self.at, |lag| Mark { position: lag.position, clock: lag.clock }))
    }
}

impl Machine {
    /// Whether a checkpoint would save anything.
    pub(super) fn unsaved(&self) -> bool {
        self.dispatched.position != self.committed.position
            || !self.dirty.is_empty()
            || self.open.counts != Counts::default()
            || !self.open.letters.is_empty()
            || !self.open.gaps.is_empty()
            || !self.open.acts.is_empty()
            || self.tripped != self.saved_tripped
            || self.lagging.iter().any(|&slot| self.slots[slot].dirty)
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.open.bytes + self.closing.as_ref().map_or(0, |closing| closing.bytes + closing.pending.bytes)
    }

    pub(super) fn begin_boundary(&mut self) {
        self.last_boundary = self.now;
        let mut hunts = Vec::with_capacity(self.dirty.len());
        for slot in std::mem::take(&mut self.dirty) {
            let s = &mut self.slots[slot];
            if s.dirty && matches!(s.stage, Stage::Live) {
                s.dirty = false;
                s.awaited = true;
                s.asked = false;
                s.closing = std::mem::take(&mut s.open);
                hunts.push(slot);
            }
        }
        let mut closing = Closing {
            at: self.dispatched,
            pending: std::mem::take(&mut self.open),
            awaited: hunts.len(),
            hunts,
            swept: 0,
            slots: Vec::new(),
            rows: Vec::new(),
            deltas: Vec::new(),
            bytes: 0,
            rollup: None,
            tripped: self.tripped.clone(),
            sent: None,
        };
        for &slot in &self.lagging {
            let s = &mut self.slots[slot];
            if let Stage::Lagging(lag) = &s.stage
                && s.dirty
            {
                s.dirty = false;
                let row = lag_row(&s.hunt, lag);
                closing.push(slot, s, row, Delta::default());
            }
        }
        self.closing = Some(closing);
        self.sweep();
    }

    /// Asks some more hunts for their snapshot at the boundary; those that get events in the meantime are asked with these.
    pub(super) fn sweep(&mut self) {
        let Some(closing) = &mut self.closing else { return };
        let end = closing.hunts.len().min(closing.swept + self.a_sweep);
        let asked: Vec<u32> = closing.hunts[closing.swept..end].to_vec();
        closing.swept = end;
        let more = end < closing.hunts.len();
        for slot in asked {
            let s = &mut self.slots[slot];
            if s.awaited && !s.asked {
                s.asked = true;
                self.deliver(slot, Task::Snapshot);
            }
        }
        if more {
            self.effects.push(Effect::SweepLater);
        }
        self.commit_if_complete();
    }

    pub(super) fn replied(&mut self, reply: Reply) {
        let slot = reply.slot;
        if slot >= self.slots.end() || self.slots[slot].generation != reply.generation {
            return;
        }
        if let Some(given) = reply.snapshot {
            self.snapshot_given(slot, *given);
        }
        if let Some(lost) = reply.lost {
            self.lost(slot, *lost);
        } else {
            let tally = Tally {
                sent: 0,
                applied: reply.applied,
                duplicate: reply.duplicate,
                dead: reply.dead.len() as u32,
                late: reply.late,
            };
            self.count(slot, tally, reply.dead);
        }
        self.commit_if_complete();
    }

    /// A reply's counts belong to the closing checkpoint while the slot's snapshot for it is awaited: replies come in the orders' order.
    fn count(&mut self, slot: u32, tally: Tally, dead: Vec<Dead>) {
        let letters: Vec<DeadLetter> = dead
            .into_iter()
            .map(|d| self.dead_letter(&d.work.batch, &d.work.decoded, d.index as usize, d.reason, d.detail))
            .collect();
        let s = &mut self.slots[slot];
        if let Stage::Lagging(lag) = &mut s.stage {
            lag.progress.add(tally);
            lag.letters.extend(letters);
            return;
        }
        self.firsts += tally.counts();
        let pending = match &mut self.closing {
            Some(closing) if s.awaited => {
                s.closing.add(tally);
                &mut closing.pending
            }
            _ => {
                s.open.add(tally);
                &mut self.open
            }
        };
        pending.counts += tally.counts();
        for letter in letters {
            pending.push_letter(Some(slot), letter);
        }
    }

    fn snapshot_given(&mut self, slot: u32, given: Given) {
        let s = &mut self.slots[slot];
        let Some(closing) = &mut self.closing else { return };
        if !s.awaited {
            return;
        }
        s.awaited = false;
        closing.awaited -= 1;
        closing.bytes += given.state.len() + given.readers.view.len() + 128;
        let snapshot = Snapshot { hunt: s.hunt.to_string(), state: Some(given.state), readers: Some(given.readers), lag: None };
        closing.push(slot, s, snapshot, given.delta);
    }

    /// The hunt lost its state: it lags from its last saved one, and whatever it did since is taken back.
    pub(super) fn lost(&mut self, slot: u32, lost: Lost) {
        self.effects.push(Effect::HuntLost { slot, lost: lost.clone() });
        let s = &mut self.slots[slot];
        s.generation += 1;
        // A hunt that catches up is careful: no record can cost it its state.
        s.losses += u32::from(lost.at.is_none() || matches!(s.stage, Stage::Lagging(_)));
        if let Stage::Lagging(lag) = &mut s.stage {
            lag.forget_progress();
            lag.restoration = Restoration::Needed;
            lag.tried = lost.at.or(lag.tried);
        } else {
            let open = std::mem::take(&mut s.open);
            let mut held = i64::from(open.sent);
            self.open.take_back(slot, open);
            let mut base = s.saved_lag.unwrap_or(self.committed);
            let mut in_closing = None;
            if let Some(closing) = &mut self.closing {
                if s.awaited {
                    // It gives no snapshot at the boundary: it commits as lagging.
                    s.awaited = false;
                    closing.awaited -= 1;
                    let tally = std::mem::take(&mut s.closing);
                    closing.pending.take_back(slot, tally);
                    held += i64::from(tally.sent);
                    in_closing = Some(i64::from(tally.sent));
                } else if let Some(mark) = closing.base_of(s) {
                    base = mark;
                }
            }
            if let (Some(held), Some(closing)) = (in_closing, &mut self.closing) {
                let row = lag_row(&s.hunt, &Lagging::new(base, held, self.now));
                closing.push(slot, s, row, Delta::default());
            }
            let lag = Lagging { tried: lost.at, ..Lagging::new(past_gaps(&self.skipped, base), held, self.now) };
            let s = &mut self.slots[slot];
            s.dirty = true;
            s.stage = Stage::Lagging(Box::new(lag));
            self.lagging.push(slot);
        }
        let s = &mut self.slots[slot];
        if let Stage::Lagging(lag) = &mut s.stage
            && s.losses >= LOSSES
            && !lag.reasons.failed
        {
            lag.reasons.failed = true;
            s.dirty = true;
            self.wait_for_operator(slot, lost.why);
        }
        self.end_pass_if_empty();
    }

    fn commit_if_complete(&mut self) {
        let Some(closing) = &mut self.closing else { return };
        if closing.awaited > 0 || closing.swept < closing.hunts.len() || closing.sent.is_some() {
            return;
        }
        let mut counts = self.counts;
        counts += closing.pending.counts;
        if closing.deltas.iter().any(|delta| !delta.is_empty()) {
            let mut rollup = self.rollup.clone();
            closing.deltas.iter().for_each(|delta| self.fold.rollup().merge(&mut rollup, delta));
            closing.rollup = Some(rollup);
        }
        let checkpoint = Arc::new(Checkpoint {
            partition: self.partition.clone(),
            epoch: self.epoch,
            owner: self.owner.clone(),
            number: self.number,
            position: closing.at.position,
            clock: closing.at.clock,
            counts,
            partials: std::mem::take(&mut closing.rows),
            dead_letters: closing.pending.letters.iter().map(|(_, letter)| letter.clone()).collect(),
            gaps: closing.pending.gaps.clone(),
            rollup: closing.rollup.as_ref().map(|rollup| self.fold.rollup().encode(rollup)),
            tripped: closing.tripped.clone(),
            acts: closing.pending.acts.clone(),
            at: self.now,
        });
        closing.sent = Some(checkpoint.clone());
        self.effects.push(Effect::Commit(checkpoint));
    }

    pub(super) fn commit_done(&mut self) {
        let Some(closing) = self.closing.take_if(|closing| closing.sent.is_some()) else { return };
        let checkpoint = closing.sent.expect("just looked");
        self.counts = checkpoint.counts;
        self.committed = closing.at;
        self.number += 1;
        self.saved_tripped = closing.tripped;
        if let Some(rollup) = closing.rollup {
            self.rollup = rollup;
        }
        for (slot, row) in closing.slots.into_iter().zip(&checkpoint.partials) {
            let s = &mut self.slots[slot];
            s.closing = Tally::default();
            s.row = 0;
            if row.lag.is_none() {
                s.losses = 0;
            }
            s.saved_lag = row.lag.map(|lag| Mark { position: lag.position, clock: lag.clock });
        }
        self.effects.push(Effect::CommitOffset(self.committed.position));
        match self.phase {
            Phase::Releasing => self.release_further(),
            _ => {
                self.restore_lagging();
                self.begin_pass();
                self.route_inbox();
            }
        }
    }

    /// Sends the checkpoint again without the snapshots the store refuses; their hunts lag from what was saved before.
    pub(super) fn refused(&mut self, hunts: Vec<(String, String)>) {
        let Some(closing) = &mut self.closing else { return };
        let Some(checkpoint) = closing.sent.take() else { return };
        closing.rows = Arc::try_unwrap(checkpoint).map_or_else(|shared| shared.partials.clone(), |own| own.partials);
        closing.rollup = None;
        let refused: HashMap<String, String> = hunts.into_iter().collect();
        // From the end: what is pushed in place of a refused row is not met again.
        for at in (0..closing.rows.len()).rev() {
            let Some(words) = refused.get(&closing.rows[at].hunt) else { continue };
            let (slot, mut snapshot) = (closing.slots.swap_remove(at), closing.rows.swap_remove(at));
            closing.deltas.swap_remove(at);
            if let Some(&moved) = closing.slots.get(at) {
                self.slots[moved].row = at as u32 + 1;
            }
            self.effects.push(Effect::HuntWaits { slot, why: refusal(words) });
            let committed = self.committed;
            let s = &mut self.slots[slot];
            s.row = 0;
            if let Some(lag) = &mut snapshot.lag {
                if let Stage::Lagging(now) = &mut s.stage {
                    now.reasons.store_refused = true;
                }
                if lag.reasons.store_refused {
                    // Not even the row that says so is taken: it is tried again with the next checkpoint.
                    s.dirty = self.phase == Phase::Running;
                } else {
                    // The bare row may have been refused for what it is merged with; marked, it is not merged.
                    lag.reasons.store_refused = true;
                    closing.push(slot, s, snapshot, Delta::default());
                }
                continue;
            }
            let base = s.saved_lag.unwrap_or(committed);
            let tally = std::mem::take(&mut s.closing);
            closing.pending.take_back(slot, tally);
            let at_boundary = i64::from(tally.sent);
            let now = self.now;
            let lagging = |base, held| Lagging {
                reasons: LagReasons { store_refused: true, ..LagReasons::default() },
                ..Lagging::new(base, held, now)
            };
            let row = lag_row(&s.hunt, &lagging(base, at_boundary));
            closing.push(slot, s, row, Delta::default());
            let base = past_gaps(&self.skipped, base);
            let s = &mut self.slots[slot];
            match &mut s.stage {
                Stage::Lagging(lag) => {
                    lag.base = base;
                    lag.held += at_boundary;
                    lag.forget_progress();
                    lag.restoration = Restoration::Needed;
                    lag.reasons.store_refused = true;
                }
                Stage::Live | Stage::Loading => {
                    let open = std::mem::take(&mut s.open);
                    s.stage = Stage::Lagging(Box::new(lagging(base, at_boundary + i64::from(open.sent))));
                    self.open.take_back(slot, open);
                    self.lagging.push(slot);
                }
            }
            let s = &mut self.slots[slot];
            s.generation += 1;
            s.dirty = true;
        }
        self.commit_if_complete();
    }
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.sent += other.sent;
        self.applied += other.applied;
        self.duplicate += other.duplicate;
        self.dead += other.dead;
        self.late += other.late;
    }
}

impl Lagging {
    fn new(base: Mark, held: i64, since: Micros) -> Self {
        Lagging {
            base,
            read: base,
            held,
            reasons: LagReasons::default(),
            tried: None,
            restoration: Restoration::Needed,
            in_pass: false,
            progress: Tally::default(),
            letters: Vec::new(),
            since,
        }
    }

    /// Catching up begins again at `base`.
    pub(super) fn forget_progress(&mut self) {
        self.read = self.base;
        self.progress = Tally::default();
        self.letters.clear();
        self.in_pass = false;
    }
}

/// Inputs by name, for the simulation's account of what was reached.
impl Input {
    pub fn name(&self) -> &'static str {
        match self {
            Input::Start => "start",
            Input::Claimed(_) => "claimed",
            Input::StartResolved(_) => "start_resolved",
            Input::Begun => "begun",
            Input::Batch { .. } => "batch",
            Input::Loaded { .. } => "loaded",
            Input::Reply(_) => "reply",
            Input::Sweep => "sweep",
            Input::Tick => "tick",
            Input::Committed => "committed",
            Input::Refused(_) => "refused",
            Input::Fenced(_) => "fenced",
            Input::SideBatch { .. } => "side_batch",
            Input::SideGap { .. } => "side_gap",
            Input::SideFailed => "side_failed",
            Input::Gap { reads_on: true, .. } => "gap",
            Input::Gap { reads_on: false, .. } => "gap_halts",
            Input::Reset { .. } => "reset",
            Input::Release => "release",
        }
    }
}
