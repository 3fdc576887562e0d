//! Catching up: hunts that lag get their last saved state back, and a side reader reads the log once
//! from the lowest of their positions for all of them. Records past the pass's end, fixed when it
//! began, are kept in a buffer as they arrive; when the pass is through, the buffer is the rest, and
//! the hunts are live.

use super::slots::{Mark, Restoration, Stage};
use super::{Effect, LoadPurpose, Machine, Phase};
use crate::decode::Decoded;
use crate::hunt::Task;
use crate::position::{Offset, Position};
use crate::record::Batch;
use crate::source::SideRead;
use crate::store::{Gap, Snapshot};
use crate::time::Micros;
use std::sync::Arc;

/// One pass of the side reader.
#[derive(Debug)]
pub(super) struct Pass {
    /// How far it has read, and the partition clock there.
    at: Mark,
    until: Position,
    /// Newer records of the hunts in the pass, with the partition clock before each. `None`: they were too many; another pass follows.
    buffer: Option<(Batch, Vec<Option<Micros>>)>,
}

impl Machine {
    /// Reads the saved states of hunts that lag and wait for no operator. Only with no checkpoint under way: what is saved then is their base.
    pub(super) fn restore_lagging(&mut self) {
        if self.restoring {
            return;
        }
        let mut hunts = Vec::new();
        for &slot in &self.lagging {
            let s = &mut self.slots[slot];
            if let Stage::Lagging(lag) = &mut s.stage
                && lag.restoration == Restoration::Needed
                && !lag.reasons.any()
            {
                lag.restoration = Restoration::Loading;
                hunts.push(s.hunt.to_string());
            }
        }
        if !hunts.is_empty() {
            self.restoring = true;
            self.effects.push(Effect::Load { purpose: LoadPurpose::Restore, hunts });
        }
    }

    pub(super) fn restored(&mut self, snapshots: Vec<Snapshot>) {
        self.restoring = false;
        let mut saved: std::collections::HashMap<String, Option<Vec<u8>>> =
            snapshots.into_iter().map(|snapshot| (snapshot.hunt, snapshot.state)).collect();
        for slot in self.lagging.clone() {
            let s = &mut self.slots[slot];
            let Stage::Lagging(lag) = &mut s.stage else { continue };
            if lag.restoration != Restoration::Loading {
                continue;
            }
            lag.restoration = Restoration::Ready;
            let tried = lag.tried;
            let state = saved.remove(&*s.hunt).flatten();
            if !s.running {
                self.start_hunt(slot, None);
            }
            self.deliver(slot, Task::Restore { state, tried });
        }
        self.begin_pass();
    }

    /// Begins a pass when hunts are ready for one and none is under way.
    pub(super) fn begin_pass(&mut self) {
        if self.phase != Phase::Running || self.pass.is_some() || self.now < self.pass_not_before {
            return;
        }
        let mut from: Option<Mark> = None;
        for &slot in &self.lagging {
            if let Some(lag) = self.lag(slot)
                && lag.restoration == Restoration::Ready
                && from.is_none_or(|from| lag.read.position < from.position)
            {
                from = Some(lag.read);
            }
        }
        let Some(from) = from else { return };
        for index in 0..self.lagging.len() {
            if let Some(lag) = self.lag_mut(self.lagging[index])
                && lag.restoration == Restoration::Ready
            {
                lag.in_pass = true;
            }
        }
        let until = self.dispatched.position;
        let buffer = Batch::new(self.partition.clone(), self.epoch, until);
        self.pass = Some(Pass { at: from, until, buffer: Some((buffer, Vec::new())) });
        if from.position >= until {
            self.finish_pass();
        } else {
            let read = SideRead { partition: self.partition.clone(), epoch: self.epoch, from: from.position, until };
            self.effects.push(Effect::SideRead(read));
        }
    }

    /// Keeps a newer record for the end of the pass. `clock`: the partition clock before it.
    pub(super) fn buffer(&mut self, batch: &Batch, index: usize, clock: Option<Micros>) {
        let limit = self.settings.catch_up_buffer;
        let Some(pass) = &mut self.pass else { return };
        let Some((kept, clocks)) = &mut pass.buffer else { return };
        let record = &batch.records[index];
        if kept.bytes() + record.value.len() > limit {
            pass.buffer = None;
            return;
        }
        kept.push(record.offset, record.timestamp_ms, batch.key(record), batch.value(record), batch.headers(record));
        clocks.push(clock);
    }

    pub(super) fn side_batch(&mut self, batch: Arc<Batch>, decoded: Decoded) {
        let Some(pass) = &mut self.pass else { return };
        if batch.epoch != self.epoch {
            return;
        }
        let mut clock = pass.at.clock;
        let mut clocks = Vec::with_capacity(batch.records.len());
        let until = pass.until;
        for record in &batch.records {
            clocks.push(clock);
            // A batch may reach past the pass's end; what lies there is not this pass's.
            if until.is_after(record.offset) {
                clock = clock.max(Micros::of_record_timestamp(record.timestamp_ms));
            }
        }
        pass.at = Mark { position: batch.next.min(until), clock };
        self.dispatch_to_lagging(batch, decoded, clocks, Some(Offset(until.0)));
        if self.pass.as_ref().is_some_and(|pass| pass.at.position >= until) {
            self.finish_pass();
        }
    }

    /// The pass has read everything dispatched before it began: what came since is in the buffer.
    fn finish_pass(&mut self) {
        let Some(pass) = self.pass.take() else { return };
        match pass.buffer {
            Some((kept, clocks)) => {
                if !kept.records.is_empty() {
                    let mut decoded = Decoded::default();
                    self.plan.decode(&kept, &mut decoded);
                    self.dispatch_to_lagging(Arc::new(kept), decoded, clocks, None);
                }
                self.go_live();
            }
            None => {
                // Too much came meanwhile: another pass, from where this one ended.
                for index in 0..self.lagging.len() {
                    if let Some(lag) = self.lag_mut(self.lagging[index])
                        && lag.in_pass
                    {
                        lag.read = pass.at;
                    }
                }
                self.begin_pass();
            }
        }
    }

    /// Everything below the partition's position was sent to the hunts of the pass: what they did since their base becomes the partition's.
    fn go_live(&mut self) {
        for slot in std::mem::take(&mut self.lagging) {
            let s = &mut self.slots[slot];
            let Stage::Lagging(lag) = &mut s.stage else { continue };
            if !lag.in_pass {
                self.lagging.push(slot);
                continue;
            }
            let letters = std::mem::take(&mut lag.letters);
            self.open.counts.held -= i64::from(lag.progress.sent);
            self.open.counts += lag.progress.counts();
            s.open = lag.progress;
            s.stage = Stage::Live;
            s.dirty = true;
            self.dirty.push(slot);
            for letter in letters {
                self.open.push_letter(Some(slot), letter);
            }
        }
    }

    /// A pass nobody needs any more is given up.
    pub(super) fn end_pass_if_empty(&mut self) {
        if self.pass.is_some() && !self.lagging.iter().any(|&slot| self.lag(slot).is_some_and(|lag| lag.in_pass)) {
            self.pass = None;
            self.effects.push(Effect::CancelSideRead);
        }
    }

    /// The log no longer has part of what lagging hunts still need: they wait for an operator, and the gap is on record. The others
    /// start a pass of their own: this one no longer knows the partition clock behind the gap.
    pub(super) fn side_gap(&mut self, from: Position, to: Position) {
        const REASON: &str = "the log no longer had records this hunt may have had yet to apply";
        if self.pass.take().is_none() {
            return;
        }
        self.effects.push(Effect::CancelSideRead);
        for index in 0..self.lagging.len() {
            let slot = self.lagging[index];
            let s = &mut self.slots[slot];
            let Stage::Lagging(lag) = &mut s.stage else { continue };
            if !std::mem::take(&mut lag.in_pass) || lag.read.position >= to {
                continue;
            }
            lag.forget_progress();
            lag.reasons.gap = true;
            lag.restoration = Restoration::Needed;
            s.generation += 1;
            s.dirty = true;
            let hunt_id = Some(s.hunt.to_string());
            let from = from.max(lag.base.position);
            self.open.gaps.push(Gap { hunt_id, from, to, reason: REASON.into(), found_at: self.now });
            self.wait_for_operator(slot, format!("{REASON}: {from} to {to}"));
        }
        self.begin_pass();
    }

    /// The side reader gave up: try again from the hunts' bases a little later.
    pub(super) fn side_failed(&mut self) {
        if self.pass.take().is_none() {
            return;
        }
        self.pass_not_before = Micros(self.now.0 + self.settings.catch_up_retry);
        for index in 0..self.lagging.len() {
            let slot = self.lagging[index];
            let s = &mut self.slots[slot];
            if let Stage::Lagging(lag) = &mut s.stage
                && lag.in_pass
            {
                lag.forget_progress();
                lag.restoration = Restoration::Needed;
                s.generation += 1;
            }
        }
        self.effects.push(Effect::CancelSideRead);
    }
}
