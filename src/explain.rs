//! An **explanation**: the records of one hunt in one partition, each with what became of it and what
//! it added to which aggregate.
//!
//! `huntline explain` makes it the witness of a refold that folds this hunt alone, and takes lines out of it
//! as they come. Invariant: a line names an aggregate exactly when the record matched its `on` and `where`, and
//! counts for it exactly when the fold applied it to a window that was kept then, or to its one value.

use crate::outcome::{Counts, Outcome, Reason};
use crate::position::{Offset, Position};
use crate::record::PartitionId;
use crate::refold::{Became, Seen, Stage, Witness};
use crate::window::Bounds;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, VecDeque};
use std::ops::AddAssign;

pub struct Explanation {
    hunt: String,
    partition: PartitionId,
    /// Only records that concern it.
    aggregate: Option<String>,
    /// Of each aggregate of the newest definitions: from where on it holds, and how many records it has part of since.
    pub tallies: BTreeMap<String, Tally>,
    /// Of the records that concern it.
    pub counts: Counts,
    lines: VecDeque<Line>,
    most: usize,
    /// Older lines that gave way to newer ones.
    pub hidden: u64,
    /// The ids that the partial may remember, and whose they are, oldest first.
    ids: VecDeque<(u64, Offset)>,
    remembered: usize,
}

/// How many records concern one aggregate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// `None`: from where the partition began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Position>,
    /// Applied ones that its value is made of, whether or not their windows are still kept.
    pub records: u64,
    /// Applied ones that match and add nothing, since a member is absent.
    pub absent: u64,
    /// Applied ones that at least one window refused.
    pub late: u64,
}

/// Of another partition. Where they hold from different positions, the first is named.
impl AddAssign for Tally {
    fn add_assign(&mut self, o: Tally) {
        self.since = self.since.or(o.since);
        self.records += o.records;
        self.absent += o.absent;
        self.late += o.late;
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    pub topic: String,
    pub partition: i32,
    pub offset: Offset,
    /// Of an id in several parts, these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub id: Vec<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    pub outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Of a duplicate: the event whose id it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Offset>,
    /// Of an applied event, for every aggregate that it matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contributions: Vec<Added>,
}

/// What one record added to one aggregate.
#[derive(Clone, Debug, Serialize)]
pub struct Added {
    pub aggregate: String,
    /// `null`: nothing, a member is absent.
    pub adds: Option<Box<RawValue>>,
    /// The windows that took it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Bounds>,
    /// The windows that refused it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<Bounds>,
    /// The partition's value after it, or that of the one window that took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Box<RawValue>>,
}

impl PartialEq for Added {
    fn eq(&self, other: &Added) -> bool {
        let texts = |added: &Added| {
            let text = |json: &Option<Box<RawValue>>| json.as_ref().map(|json| json.get().to_owned());
            (text(&added.adds), text(&added.after))
        };
        (&self.aggregate, &self.windows, &self.late) == (&other.aggregate, &other.windows, &other.late)
            && texts(self) == texts(other)
    }
}

impl Explanation {
    /// Of this hunt's records in `partition`, folded by `stages`. With `aggregate` those that concern it, by the definitions that hold for
    /// each. It keeps at most `most` lines, the newest.
    pub fn new(hunt: &str, partition: &PartitionId, stages: &[Stage], aggregate: Option<&str>, most: usize) -> Explanation {
        let mut tallies = BTreeMap::new();
        for name in stages.last().iter().flat_map(|stage| stage.fold.names()) {
            // What it saw before definitions without it is gone.
            let lacking = stages.iter().rposition(|stage| stage.fold.number(name).is_none());
            let since = lacking.and_then(|lacking| stages[lacking + 1].from);
            tallies.insert(name.to_owned(), Tally { since, ..Tally::default() });
        }
        Explanation {
            hunt: hunt.to_owned(),
            partition: partition.clone(),
            aggregate: aggregate.map(str::to_owned),
            tallies,
            counts: Counts::default(),
            lines: VecDeque::new(),
            most,
            hidden: 0,
            ids: VecDeque::new(),
            remembered: stages.iter().map(|stage| stage.fold.dedup_last()).max().unwrap_or_default(),
        }
    }

    /// The lines it has, in the order of the offsets; it keeps none of them.
    pub fn take(&mut self) -> Vec<Line> {
        self.lines.drain(..).collect()
    }

    fn remember(&mut self, id: u64, offset: Offset) {
        if id != 0 && self.remembered > 0 {
            if self.ids.len() == self.remembered {
                self.ids.pop_front();
            }
            self.ids.push_back((id, offset));
        }
    }

    fn tally(&mut self, offset: Offset, added: &Added, counts: bool) {
        let Some(tally) = self.tallies.get_mut(&added.aggregate) else { return };
        if tally.since.is_none_or(|since| since.is_before(offset)) {
            tally.records += u64::from(counts);
            tally.absent += u64::from(added.adds.is_none());
            tally.late += u64::from(!added.late.is_empty());
        }
    }
}

impl Witness for Explanation {
    const WANTS_LETTERS: bool = false;
    const WANTS_RECORDS: bool = true;

    fn saw(&mut self, seen: &Seen) {
        if seen.hunt != self.hunt.as_bytes() {
            return;
        }
        let fold = &seen.stage.fold;
        let event = &seen.decoded.events[seen.index];
        let offset = seen.batch.records[seen.index].offset;
        let mut contributions = Vec::new();
        if let Became::Applied { contributions: found, partial } = &seen.became {
            self.remember(event.id, offset);
            for contribution in found {
                let place = contribution.place.clone().unwrap_or_default();
                let added = Added {
                    aggregate: fold.names().nth(contribution.aggregate).unwrap_or_default().to_owned(),
                    adds: contribution.adds.clone().and_then(raw),
                    windows: place.taken,
                    late: place.late,
                    after: fold.value_after(partial, contribution).and_then(raw),
                };
                self.tally(offset, &added, contribution.counts());
                contributions.push(added);
            }
        }
        if let Some(name) = &self.aggregate {
            let matches = fold.number(name).is_some_and(|number| event.matches & 1 << number != 0);
            if !matches {
                return;
            }
            contributions.retain(|added| added.aggregate == *name);
        }
        self.counts.records += 1;
        match &seen.became {
            Became::Applied { .. } => self.counts.applied += 1,
            Became::Duplicate => self.counts.duplicate += 1,
            Became::Held => self.counts.held += 1,
            Became::Dead { .. } => self.counts.dead_lettered += 1,
        }
        self.counts.late += i64::from(contributions.iter().any(|added| !added.late.is_empty()));
        if self.lines.len() >= self.most {
            self.lines.pop_front();
            self.hidden += 1;
        }
        let described = seen.stage.plan.describe(seen.batch, seen.index);
        let (outcome, reason, detail) = match &seen.became {
            Became::Applied { .. } => (Outcome::Applied, None, None),
            Became::Duplicate => (Outcome::Duplicate, None, None),
            Became::Held => (Outcome::Held, None, None),
            Became::Dead { reason, detail } => (Outcome::DeadLettered, Some(*reason), Some((*detail).to_owned())),
        };
        let repeats = (outcome == Outcome::Duplicate)
            .then(|| self.ids.iter().rev().find(|(id, _)| *id == event.id).map(|(_, offset)| *offset))
            .flatten();
        self.lines.push_back(Line {
            topic: self.partition.topic.to_string(),
            partition: self.partition.partition,
            offset,
            id: described.id,
            event_type: described.event_type,
            time: described.time.map(|time| time.to_string()),
            outcome,
            reason,
            detail,
            repeats,
            contributions,
        });
    }
}

/// What the fold writes is JSON.
fn raw(json: String) -> Option<Box<RawValue>> {
    RawValue::from_string(json).ok()
}

#[cfg(test)]
mod tests;
