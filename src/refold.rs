//! A **refold**: one partition's log folded again, from where reading began up to a position,
//! without actors, checkpoints or restarts: what the store must say of it.
//!
//! `verify` and `rebuild` hand it the partition's batches in order. Below the position of each change
//! of definitions the older ones hold; there every partial is converted, and the newer ones take over.
//! Records that the store says were left out are left out; a hunt that lags stops at its own
//! position, and what lies after it is held. Invariant: the outcome depends on the records, the
//! definitions with their positions and what was recorded as left out, never on batching.

use crate::decode::{Decoded, Plan, Verdict};
use crate::outcome::{Counts, Reason};
use crate::partial::{Contribution, Fold, Folded, Partial};
use crate::position::{Offset, Position};
use crate::record::{Batch, PartitionId};
use crate::rollup::Delta;
use crate::store::{DeadLetter, Generation, Lag, LagReasons};
use crate::time::Micros;
use hashbrown::{HashSet, HashTable};
use std::sync::Arc;

/// Definitions that hold from a position on, compiled for the partition's topic.
#[derive(Clone)]
pub struct Stage {
    /// `None`: from where the partition began.
    pub from: Option<Position>,
    pub plan: Arc<Plan>,
    pub fold: Arc<Fold>,
}

/// What is known before the log is read.
#[derive(Clone, Default)]
pub struct Given {
    /// Nothing at or past it is folded.
    pub until: Option<Position>,
    /// Records that became `failed` or `state_full` dead letters, by offset.
    pub left_out: Vec<(Offset, Reason)>,
    /// Hunts that stand before the end.
    pub stops: Vec<(String, Position)>,
    /// Fold only the hunts with these fingerprints; the counts are then of no meaning.
    pub only: Option<HashSet<u64>>,
    /// A hunt whose event cannot be folded stands before it from then on, instead of leaving it out.
    pub park: bool,
}

/// Who sees the fold happen. What it does not ask for costs nothing.
pub trait Witness {
    /// Dead letters are made only for one that wants them.
    const WANTS_LETTERS: bool;
    /// Records of hunts are shown only to one that wants them.
    const WANTS_RECORDS: bool = false;

    /// The event was applied; `partial` is the hunt's after it.
    fn applied(&mut self, _hunt: &str, _offset: Offset, _fold: &Fold, _partial: &Partial) {}

    fn dead(&mut self, _letter: DeadLetter) {}

    /// A record with a hunt (of those that are folded) has its outcome. Tombstones have none.
    fn saw(&mut self, _seen: &Seen) {}
}

/// A record of a hunt as a witness sees it.
pub struct Seen<'a> {
    pub batch: &'a Batch,
    pub decoded: &'a Decoded,
    pub index: usize,
    /// The definitions that hold for it.
    pub stage: &'a Stage,
    pub hunt: &'a [u8],
    pub became: Became<'a>,
}

/// What became of it.
pub enum Became<'a> {
    /// `partial` is the hunt's after it.
    Applied {
        contributions: Vec<Contribution>,
        partial: &'a Partial,
    },
    Duplicate,
    Held,
    Dead {
        reason: Reason,
        detail: &'a str,
    },
}

/// Nobody looks.
impl Witness for () {
    const WANTS_LETTERS: bool = false;
}

pub struct Refold {
    stages: Vec<Stage>,
    stage: usize,
    given: Given,
    /// In `given.left_out`, the first at or past the record in hand.
    next_left_out: usize,
    /// Hunts with a stop, by position; those before `next_stop` have been reached.
    stops: Vec<(Position, u32)>,
    next_stop: usize,
    hunts: Vec<Hunt>,
    by_id: HashTable<u32>,
    clock: Option<Micros>,
    counts: Counts,
    rollup: Delta,
    /// What the events of the batch in hand added to it.
    added: Delta,
    in_hand: Offset,
    decoded: Decoded,
}

struct Hunt {
    id: Box<str>,
    hash: u64,
    partial: Partial,
    stop: Option<Lag>,
}

/// What the log gives.
pub struct Refolded {
    pub fold: Arc<Fold>,
    pub clock: Option<Micros>,
    pub counts: Counts,
    /// What the partition's events added to the rollup.
    pub rollup: Delta,
    hunts: Vec<Hunt>,
    by_id: HashTable<u32>,
}

impl Refold {
    /// `stages` in the order of the generations, at least one; the first holds from the beginning.
    pub fn new(stages: Vec<Stage>, mut given: Given) -> Refold {
        given.left_out.sort_unstable_by_key(|(offset, _)| *offset);
        let mut refold = Refold {
            stages,
            stage: 0,
            next_left_out: 0,
            stops: Vec::new(),
            next_stop: 0,
            hunts: Vec::new(),
            by_id: HashTable::new(),
            clock: None,
            counts: Counts::default(),
            rollup: Delta::default(),
            added: Delta::default(),
            in_hand: Offset(0),
            decoded: Decoded::default(),
            given,
        };
        for (hunt, position) in std::mem::take(&mut refold.given.stops) {
            let hash = crate::decode::hunt_hash(hunt.as_bytes());
            let at = refold.hunt(hash, &hunt);
            refold.hunts[at as usize].stop = Some(Lag { position, clock: None, held: 0, reasons: LagReasons::default() });
            refold.stops.push((position, at));
        }
        refold.stops.sort_unstable();
        refold
    }

    /// The record being folded, should folding it panic.
    pub fn in_hand(&self) -> Offset {
        self.in_hand
    }

    /// Folds a batch that follows the one before. `now` is the wall clock of dead letters.
    pub fn take<W: Witness>(&mut self, batch: &Batch, now: Micros, witness: &mut W) {
        let mut decoded = std::mem::take(&mut self.decoded);
        self.stages[self.stage].plan.decode(batch, &mut decoded);
        for (index, record) in batch.records.iter().enumerate() {
            if self.given.until.is_some_and(|until| until.is_before(record.offset)) {
                break;
            }
            let stage = self.stage;
            self.reach(Position(record.offset.0));
            if self.stage != stage {
                self.stages[self.stage].plan.decode(batch, &mut decoded);
            }
            self.record(batch, &decoded, index, now, witness);
        }
        self.decoded = decoded;
        let fold = self.stages[self.stage].fold.clone();
        self.settle(&fold);
    }

    /// What events added to the rollup since becomes the partition's.
    fn settle(&mut self, fold: &Fold) {
        if !self.added.is_empty() {
            fold.rollup().merge(&mut self.rollup, &self.added);
            self.added = Delta::default();
        }
    }

    /// Changes of definitions and stops up to `position` take effect.
    fn reach(&mut self, position: Position) {
        while self.stages.get(self.stage + 1).is_some_and(|next| next.from.is_none_or(|from| from <= position)) {
            self.next_stage();
        }
        while let Some((_, hunt)) = self.stops.get(self.next_stop).copied().filter(|(at, _)| *at <= position) {
            if let Some(stop) = &mut self.hunts[hunt as usize].stop {
                stop.clock = self.clock;
            }
            self.next_stop += 1;
        }
    }

    fn next_stage(&mut self) {
        let old = self.stages[self.stage].fold.clone();
        self.stage += 1;
        self.settle(&old);
        let fold = &self.stages[self.stage].fold;
        self.rollup = fold.rollup().converted_from(old.rollup(), std::mem::take(&mut self.rollup));
        for hunt in &mut self.hunts {
            hunt.partial = fold.converted_from(&old, std::mem::take(&mut hunt.partial));
        }
    }

    fn record<W: Witness>(&mut self, batch: &Batch, decoded: &Decoded, index: usize, now: Micros, witness: &mut W) {
        let record = &batch.records[index];
        let before = self.clock;
        self.clock = before.max(Micros::of_record_timestamp(record.timestamp_ms));
        self.counts.records += 1;
        let event = &decoded.events[index];
        match event.verdict {
            Verdict::Ignored => {
                self.counts.ignored += 1;
                return;
            }
            Verdict::Rejected(reason) => {
                self.counts.dead_lettered += 1;
                let seen = W::WANTS_RECORDS && !event.hunt.is_null() && self.is_folded(event.hunt_hash);
                if W::WANTS_LETTERS || seen {
                    let stage = &self.stages[self.stage];
                    let detail = stage.plan.explain(batch, index);
                    if seen {
                        let hunt = decoded.text(batch, event.hunt);
                        let became = Became::Dead { reason, detail: &detail };
                        witness.saw(&Seen { batch, decoded, index, stage, hunt, became });
                    }
                    if W::WANTS_LETTERS {
                        witness.dead(DeadLetter::of(batch, decoded, index, reason, detail, now));
                    }
                }
                return;
            }
            Verdict::Event => {}
        }
        if !self.is_folded(event.hunt_hash) {
            return;
        }
        let id = std::str::from_utf8(decoded.text(batch, event.hunt)).expect("decode accepts only UTF-8 hunt ids");
        let at = self.hunt(event.hunt_hash, id);
        let hunt = &mut self.hunts[at as usize];
        let stage = &self.stages[self.stage];
        let seen = |became| Seen { batch, decoded, index, stage, hunt: id.as_bytes(), became };
        if let Some(stop) = &mut hunt.stop
            && stop.position.is_before(record.offset)
        {
            stop.held += 1;
            self.counts.held += 1;
            if W::WANTS_RECORDS {
                witness.saw(&seen(Became::Held));
            }
            return;
        }
        let left_out = &self.given.left_out;
        while left_out.get(self.next_left_out).is_some_and(|(offset, _)| *offset < record.offset) {
            self.next_left_out += 1;
        }
        let recorded = left_out.get(self.next_left_out).filter(|(offset, _)| *offset == record.offset);
        let (reason, detail) = match recorded {
            Some((_, Reason::Failed)) => (Reason::Failed, "the fold failed when the log was folded again".to_owned()),
            Some((_, reason)) => (*reason, "left out".to_owned()),
            None => {
                self.in_hand = record.offset;
                let fold = &stage.fold;
                let contributions =
                    if W::WANTS_RECORDS { fold.contributions(&hunt.partial, batch, decoded, index, before) } else { Vec::new() };
                match fold.apply(&mut hunt.partial, batch, decoded, index, before, &mut self.added) {
                    Folded::Applied { late } => {
                        self.counts.applied += 1;
                        self.counts.late += i64::from(late != 0);
                        witness.applied(&hunt.id, record.offset, fold, &hunt.partial);
                        if W::WANTS_RECORDS {
                            witness.saw(&seen(Became::Applied { contributions, partial: &hunt.partial }));
                        }
                        return;
                    }
                    Folded::Duplicate => {
                        self.counts.duplicate += 1;
                        if W::WANTS_RECORDS {
                            witness.saw(&seen(Became::Duplicate));
                        }
                        return;
                    }
                    Folded::StateFull { bytes } => {
                        (Reason::StateFull, format!("the state would take {bytes} bytes, more than failure.max_state"))
                    }
                }
            }
        };
        if self.given.park {
            let (failed, state_full) = (reason == Reason::Failed, reason == Reason::StateFull);
            let reasons = LagReasons { failed, state_full, ..LagReasons::default() };
            hunt.stop = Some(Lag { position: Position(record.offset.0), clock: before, held: 1, reasons });
            self.counts.held += 1;
            if W::WANTS_RECORDS {
                witness.saw(&seen(Became::Held));
            }
            return;
        }
        self.counts.dead_lettered += 1;
        if W::WANTS_RECORDS {
            witness.saw(&seen(Became::Dead { reason, detail: &detail }));
        }
        if W::WANTS_LETTERS {
            witness.dead(DeadLetter::of(batch, decoded, index, reason, detail, now));
        }
    }

    #[inline]
    fn is_folded(&self, hunt_hash: u64) -> bool {
        self.given.only.as_ref().is_none_or(|only| only.contains(&hunt_hash))
    }

    /// The hunt's place, made where there is none.
    fn hunt(&mut self, hash: u64, id: &str) -> u32 {
        if let Some(at) = self.by_id.find(hash, |&at| *self.hunts[at as usize].id == *id) {
            return *at;
        }
        let at = self.hunts.len() as u32;
        self.hunts.push(Hunt { id: id.into(), hash, partial: self.stages[self.stage].fold.start(), stop: None });
        let Self { by_id, hunts, .. } = self;
        by_id.insert_unique(hash, at, |&at| hunts[at as usize].hash);
        at
    }

    /// Everything was handed in.
    pub fn finish(mut self) -> Refolded {
        self.reach(Position(i64::MAX));
        let fold = self.stages[self.stage].fold.clone();
        let Refold { clock, counts, rollup, hunts, by_id, .. } = self;
        Refolded { fold, clock, counts, rollup, hunts, by_id }
    }
}

impl Refolded {
    /// The partial of a hunt, and where it stands if before the partition; `None`: the partition's records make no such hunt.
    pub fn get(&self, id: &str) -> Option<(&Partial, Option<Lag>)> {
        let hash = crate::decode::hunt_hash(id.as_bytes());
        let at = *self.by_id.find(hash, |&at| *self.hunts[at as usize].id == *id)?;
        let hunt = &self.hunts[at as usize];
        Some((&hunt.partial, hunt.stop))
    }

    /// Every hunt that applied or holds something, in no order.
    pub fn partials(&self) -> impl Iterator<Item = (&str, &Partial, Option<Lag>)> {
        let made = |hunt: &&Hunt| hunt.partial.events > 0 || hunt.stop.is_some_and(|stop| stop.held > 0);
        self.hunts.iter().filter(made).map(|hunt| (&*hunt.id, &hunt.partial, hunt.stop))
    }
}

/// The stages of one partition: which generation holds from where. The first generation holds from the beginning, a later one from the
/// position recorded with it, or, where the partition was not known then, from the beginning too.
pub fn stages<E>(
    generations: &[Generation],
    partition: &PartitionId,
    mut compile: impl FnMut(&Generation) -> Result<(Arc<Plan>, Arc<Fold>), E>,
) -> Result<Vec<Stage>, E> {
    let mut stages = Vec::new();
    for (nth, generation) in generations.iter().enumerate() {
        let from = generation.since.get(partition).copied().filter(|_| nth > 0);
        if from.is_none() {
            stages.clear();
        }
        let (plan, fold) = compile(generation)?;
        stages.push(Stage { from, plan, fold });
    }
    Ok(stages)
}

#[cfg(test)]
mod tests;
