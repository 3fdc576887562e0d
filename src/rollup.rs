//! The **rollup**: aggregates kept over all hunts too. A [`Rollup`] is the definitions' `[rollup]`
//! compiled; a [`Delta`] what some events added to it.
//!
//! A hunt gathers a delta beside its partial, one event at a time, and hands it over with its
//! snapshot; the partition merges the deltas of a checkpoint into its own, which commits with them.
//! So an event counts in the rollup exactly when its hunt's saved state has it. Invariant: what a
//! partition's rollup says does not depend on the order in which its hunts' deltas came (but beyond
//! the exact range of `top`, where only the error bound is promised).

use crate::aggregate::{Floats, Occurrence, Of, Rule};
use crate::codec::{self, Reader, Writer};
use crate::decode::Plan;
use crate::definitions::Definitions;
use crate::window::{Keeper, Kept};

const FORMAT: u8 = 1;

pub struct Rollup {
    entries: Vec<Entry>,
    /// By aggregate of the definitions: its entry.
    of_aggregate: Vec<Option<usize>>,
}

struct Entry {
    name: String,
    keeper: Keeper,
}

/// What events added to each rolled-up aggregate; nothing until the first.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    kept: Vec<Kept>,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

impl Rollup {
    /// Panics on a name or a window that the configuration refuses.
    pub fn new(definitions: &Definitions, plan: &Plan) -> Rollup {
        let mut entries = Vec::new();
        let mut of_aggregate = vec![None; definitions.aggregates.len()];
        for name in &definitions.rollup {
            let at = definitions.aggregates.iter().position(|aggregate| aggregate.name == *name);
            let at = at.expect("the configuration rolls up only what it defines");
            let aggregate = &definitions.aggregates[at];
            of_aggregate[at] = Some(entries.len());
            let rule = Rule::new(&aggregate.kind, plan, Floats::Exactly);
            entries.push(Entry { name: name.clone(), keeper: Keeper::new(rule, aggregate.window.as_ref()) });
        }
        Rollup { entries, of_aggregate }
    }

    /// Nothing is rolled up.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether this aggregate is rolled up.
    #[inline]
    pub fn has(&self, aggregate: usize) -> bool {
        self.of_aggregate[aggregate].is_some()
    }

    /// Adds an event that was added to this unwindowed aggregate of its hunt.
    pub fn add(&self, delta: &mut Delta, aggregate: usize, event: &Occurrence) {
        if let Some((Keeper::Whole(rule), Kept::Whole(state))) = self.place(delta, aggregate) {
            rule.apply(state, event);
        }
    }

    /// Adds an event that was added to the window at `start` of this aggregate of its hunt.
    pub fn add_at(&self, delta: &mut Delta, aggregate: usize, start: i64, event: &Occurrence) {
        if let Some((Keeper::Windowed(windowed), Kept::Windowed(windows))) = self.place(delta, aggregate) {
            windowed.apply_at(windows.get_or_insert_with(|| Box::new(windowed.start())), start, event);
        }
    }

    fn place<'a>(&'a self, delta: &'a mut Delta, aggregate: usize) -> Option<(&'a Keeper, &'a mut Kept)> {
        let entry = self.of_aggregate[aggregate]?;
        if delta.kept.is_empty() {
            delta.kept = self.start();
        }
        Some((&self.entries[entry].keeper, &mut delta.kept[entry]))
    }

    fn start(&self) -> Vec<Kept> {
        self.entries.iter().map(|entry| entry.keeper.start()).collect()
    }

    /// Adds what more events of the same partition added.
    pub fn merge(&self, delta: &mut Delta, other: &Delta) {
        self.join(delta, other, Of::SamePartition);
    }

    fn join(&self, delta: &mut Delta, other: &Delta, of: Of) {
        if other.is_empty() {
            return;
        }
        if delta.is_empty() {
            delta.kept = self.start();
        }
        for ((entry, kept), other) in self.entries.iter().zip(&mut delta.kept).zip(&other.kept) {
            entry.keeper.merge(kept, other, of);
        }
    }

    /// Panics on the delta of another rollup.
    pub fn encode(&self, delta: &Delta) -> Vec<u8> {
        let mut w = Writer::default();
        w.byte(FORMAT);
        w.unsigned(delta.kept.len() as u64);
        for (entry, kept) in self.entries.iter().zip(&delta.kept) {
            entry.keeper.encode(kept, &mut w);
        }
        w.finish()
    }

    /// Reads the encoding of a delta of these definitions back. Malformed bytes are an error, never a panic.
    pub fn decode(&self, bytes: &[u8]) -> codec::Result<Delta> {
        let mut r = Reader::new(bytes);
        if r.byte("the format of a rollup")? != FORMAT {
            return Err(codec::Error { at: 0, expected: "rollup format 1" });
        }
        let kept = match r.unsigned("the number of rolled-up aggregates")? {
            0 => Vec::new(),
            n if n == self.entries.len() as u64 => {
                self.entries.iter().map(|entry| entry.keeper.decode(&mut r)).collect::<codec::Result<_>>()?
            }
            _ => return r.expected("as many aggregates as are rolled up"),
        };
        r.end()?;
        Ok(Delta { kept })
    }

    /// What readers see of the rollups of partitions, given in (topic, partition) order: each aggregate's name and its value as JSON.
    pub fn values<'d>(&self, partitions: impl IntoIterator<Item = &'d Delta>) -> Vec<(String, String)> {
        let mut whole = Delta { kept: self.start() };
        for delta in partitions {
            self.join(&mut whole, delta, Of::LaterPartition);
        }
        let values = self.entries.iter().zip(&whole.kept).map(|(entry, kept)| {
            let mut json = String::new();
            entry.keeper.write_json(kept, None, &mut json);
            (entry.name.clone(), json)
        });
        values.collect()
    }

    /// This delta, which `old` kept, by these definitions: an aggregate that both roll up goes on, any other begins empty.
    pub fn converted_from(&self, old: &Rollup, mut delta: Delta) -> Delta {
        if delta.is_empty() {
            return delta;
        }
        let kept = self.entries.iter().map(|entry| {
            let at = old.entries.iter().position(|other| other.name == entry.name);
            at.map_or_else(|| entry.keeper.start(), |at| std::mem::replace(&mut delta.kept[at], Kept::Windowed(None)))
        });
        Delta { kept: kept.collect() }
    }
}
