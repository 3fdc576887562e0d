//! Routing: a batch's records are counted, grouped by hunt and sent, one order a hunt.

use super::slots::{Slots, Stage};
use super::{Effect, LoadPurpose, Machine};
use crate::decode::{Decoded, Verdict};
use crate::hunt::{Task, Work};
use crate::outcome::{Counts, Reason};
use crate::position::{Offset, Position};
use crate::record::Batch;
use crate::store::{DeadLetter, Snapshot};
use crate::time::Micros;
use std::ops::Range;
use std::sync::Arc;

/// No slot: the record goes to no hunt.
const NO_SLOT: u32 = u32::MAX;

/// A batch whose every hunt has a slot.
pub(super) struct Resolved {
    batch: Arc<Batch>,
    decoded: Decoded,
    /// The slot of each record's hunt; `NO_SLOT`: it goes to none.
    slot_of: Vec<u32>,
}

/// What the main reader brought, in its order.
pub(super) enum Arrival {
    Batch(Arc<Batch>, Decoded),
    Gap { from: Position, to: Position, reads_on: bool },
}

impl Machine {
    pub(super) fn received(&mut self, batch: Arc<Batch>, decoded: Decoded) {
        if batch.epoch != self.epoch {
            return;
        }
        self.inbox.push_back(Arrival::Batch(batch, decoded));
        self.route_inbox();
    }

    /// A gap takes its turn behind the batches that came before it.
    pub(super) fn missed(&mut self, from: Position, to: Position, reads_on: bool) {
        self.inbox.push_back(Arrival::Gap { from, to, reads_on });
        self.route_inbox();
    }

    /// Dispatches what has arrived, until a batch has to wait for a load or too much is unsaved.
    pub(super) fn route_inbox(&mut self) {
        while self.waiting.is_none()
            && self.tripped.is_none()
            && !self.is_full()
            && let Some(arrival) = self.inbox.pop_front()
        {
            let (batch, decoded) = match arrival {
                Arrival::Batch(batch, decoded) => (batch, decoded),
                Arrival::Gap { from, to, reads_on } => {
                    self.skip(from, to, reads_on);
                    continue;
                }
            };
            if let Some(first) = batch.records.first()
                && !self.dispatched.position.is_before(first.offset)
            {
                let found = first.offset;
                self.effects.push(Effect::Broken(format!(
                    "{}: the source gave offset {found}, expected {} or later",
                    self.partition, self.dispatched.position
                )));
                return;
            }
            let (slot_of, missing) = self.resolve(&batch, &decoded);
            let resolved = Resolved { batch, decoded, slot_of };
            if missing.is_empty() {
                self.dispatch(resolved);
            } else {
                self.waiting = Some(resolved);
                self.effects.push(Effect::Load { purpose: LoadPurpose::Route, hunts: missing });
            }
        }
    }

    /// Gives every hunt of the batch a slot; answers with each record's and with the hunts whose saved state must be read first.
    fn resolve(&mut self, batch: &Batch, decoded: &Decoded) -> (Vec<u32>, Vec<String>) {
        let mut slot_of = Vec::with_capacity(decoded.events.len());
        let mut missing = Vec::new();
        for event in &decoded.events {
            if event.verdict != Verdict::Event {
                slot_of.push(NO_SLOT);
                continue;
            }
            let id = decoded.text(batch, event.hunt);
            if let Some(slot) = self.slots.find(event.hunt_hash, id) {
                self.slots[slot].touched = self.now;
                slot_of.push(slot);
                continue;
            }
            let hunt = std::str::from_utf8(id).expect("decode accepts only UTF-8 hunt ids");
            let new = self.seen.as_ref().is_some_and(|seen| !seen.contains(&event.hunt_hash));
            let stage = if new { Stage::Live } else { Stage::Loading };
            let slot = self.slots.insert(event.hunt_hash, hunt, stage, self.now);
            slot_of.push(slot);
            if new {
                self.start_hunt(slot, None);
            } else {
                missing.push(hunt.to_owned());
            }
        }
        (slot_of, missing)
    }

    pub(super) fn start_hunt(&mut self, slot: u32, state: Option<Vec<u8>>) {
        let generation = self.slots[slot].generation;
        self.slots[slot].running = true;
        self.effects.push(Effect::StartHunt { slot, generation, state });
    }

    pub(super) fn loaded(&mut self, snapshots: Vec<Snapshot>) {
        let Some(resolved) = self.waiting.take() else { return };
        for snapshot in snapshots {
            let hash = crate::decode::hunt_hash(snapshot.hunt.as_bytes());
            if let Some(slot) = self.slots.find(hash, snapshot.hunt.as_bytes()) {
                self.begin_if_loading(slot, snapshot.state);
            }
        }
        for &slot in &resolved.slot_of {
            if slot != NO_SLOT {
                self.begin_if_loading(slot, None);
            }
        }
        self.dispatch(resolved);
        self.route_inbox();
    }

    fn begin_if_loading(&mut self, slot: u32, state: Option<Vec<u8>>) {
        if matches!(self.slots[slot].stage, Stage::Loading) {
            self.slots[slot].stage = Stage::Live;
            self.start_hunt(slot, state);
        }
    }

    /// Counts every record, lets lagging hunts' records be held, and sends the rest; up to the record that trips the breaker.
    fn dispatch(&mut self, Resolved { batch, decoded, mut slot_of }: Resolved) {
        let mut clocks = Vec::with_capacity(batch.records.len());
        let mut touched = Vec::new();
        let mut clock = self.dispatched.clock;
        let mut counts = Counts::default();
        for (index, to) in slot_of.iter_mut().enumerate() {
            let before = clock;
            clocks.push(before);
            clock = clock.max(Micros::of_record_timestamp(batch.records[index].timestamp_ms));
            counts.records += 1;
            match decoded.events[index].verdict {
                Verdict::Ignored => {
                    self.breaker.passed();
                    counts.ignored += 1;
                }
                Verdict::Rejected(reason) => {
                    counts.dead_lettered += 1;
                    let detail = self.plan.explain(&batch, index);
                    self.breaker.rejected(batch.records[index].offset, reason, &detail);
                    let letter = self.dead_letter(&batch, &decoded, index, reason, detail);
                    self.open.push_letter(None, letter);
                }
                Verdict::Event => {
                    self.breaker.passed();
                    let s = &mut self.slots[*to];
                    if let Stage::Lagging(lag) = &mut s.stage {
                        *to = NO_SLOT;
                        lag.held += 1;
                        s.dirty = true;
                        let in_pass = lag.in_pass;
                        counts.held += 1;
                        if in_pass {
                            self.buffer(&batch, index, before);
                        }
                    } else {
                        if s.count == 0 {
                            touched.push(*to);
                        }
                        s.count += 1;
                    }
                }
            }
            if self.breaker.trips() {
                self.tripped = Some(self.breaker.why());
                break;
            }
        }
        let mut next = batch.next;
        if let Some(why) = &self.tripped {
            self.effects.push(Effect::Tripped(why.clone()));
            next = batch.records[clocks.len() - 1].offset.next();
            slot_of.truncate(clocks.len());
            self.put_back(&batch, clocks.len());
        }
        self.open.counts += counts;
        self.firsts += counts;
        self.dispatched.position = next.max(self.dispatched.position);
        self.dispatched.clock = clock;
        let (order, ranges) = group(&slot_of, &touched, &mut self.slots);
        let work = Arc::new(Work { batch, decoded, clocks, order });
        for (slot, range) in touched.into_iter().zip(ranges) {
            let s = &mut self.slots[slot];
            s.open.sent += range.end - range.start;
            let snapshot_first = s.awaited && !s.asked;
            s.asked |= snapshot_first;
            if !s.dirty {
                s.dirty = true;
                self.dirty.push(slot);
            }
            self.deliver(slot, Task::Apply { work: work.clone(), range, snapshot_first, catching_up: false });
        }
    }

    /// Records from number `from` of the batch on come first when reading goes on. Copied: the batch itself goes to the hunts.
    fn put_back(&mut self, batch: &Batch, from: usize) {
        let mut rest = Batch::new(batch.partition.clone(), batch.epoch, batch.next);
        for record in &batch.records[from..] {
            rest.push(record.offset, record.timestamp_ms, batch.key(record), batch.value(record), batch.headers(record));
        }
        rest.next = batch.next;
        let mut decoded = Decoded::default();
        self.plan.decode(&rest, &mut decoded);
        self.inbox.push_front(Arrival::Batch(Arc::new(rest), decoded));
    }

    pub(super) fn dead_letter(
        &self,
        batch: &Batch,
        decoded: &Decoded,
        index: usize,
        reason: Reason,
        detail: String,
    ) -> DeadLetter {
        DeadLetter::of(batch, decoded, index, reason, detail, self.now)
    }

    /// Groups the side reader's or the buffer's records for hunts that catch up, and sends them. Each hunt's records below where it has
    /// read, and at or past `until`, are left out.
    pub(super) fn dispatch_to_lagging(
        &mut self,
        batch: Arc<Batch>,
        decoded: Decoded,
        clocks: Vec<Option<Micros>>,
        until: Option<Offset>,
    ) {
        let mut slot_of = Vec::with_capacity(batch.records.len());
        let mut touched = Vec::new();
        for (record, event) in batch.records.iter().zip(&decoded.events) {
            let mut to = NO_SLOT;
            if event.verdict == Verdict::Event
                && until.is_none_or(|until| record.offset < until)
                && let Some(slot) = self.slots.find(event.hunt_hash, decoded.text(&batch, event.hunt))
            {
                let s = &mut self.slots[slot];
                if let Stage::Lagging(lag) = &s.stage
                    && lag.in_pass
                    && lag.read.position.is_before(record.offset)
                {
                    if s.count == 0 {
                        touched.push(slot);
                    }
                    s.count += 1;
                    to = slot;
                }
            }
            slot_of.push(to);
        }
        let (order, ranges) = group(&slot_of, &touched, &mut self.slots);
        let work = Arc::new(Work { batch, decoded, clocks, order });
        for (slot, range) in touched.into_iter().zip(ranges) {
            if let Some(lag) = self.lag_mut(slot) {
                lag.progress.sent += range.end - range.start;
            }
            self.deliver(slot, Task::Apply { work: work.clone(), range, snapshot_first: false, catching_up: true });
        }
    }
}

/// A counting sort by slot: the records' indexes with each hunt's together and in order, and each touched slot's range among them.
/// Leaves the slots' scratch counts at zero.
fn group(slot_of: &[u32], touched: &[u32], slots: &mut Slots) -> (Vec<u32>, Vec<Range<u32>>) {
    let mut ranges = Vec::with_capacity(touched.len());
    let mut start = 0;
    for &slot in touched {
        let s = &mut slots[slot];
        let end = start + s.count;
        ranges.push(start..end);
        s.count = start;
        start = end;
    }
    let mut order = vec![0; start as usize];
    for (index, &to) in slot_of.iter().enumerate() {
        if to != NO_SLOT {
            let next = &mut slots[to].count;
            order[*next as usize] = index as u32;
            *next += 1;
        }
    }
    for &slot in touched {
        slots[slot].count = 0;
    }
    (order, ranges)
}
