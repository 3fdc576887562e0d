//! A **redefinition**: new definitions for a store that goes on from the positions it has.
//!
//! `run --from-now` hands it over as values and functions; the store calls them inside the one transaction that changes everything.
//! Invariant: readers and owners see all of it or nothing, and whoever folded by the old definitions is fenced at its next commit.

use super::handle::Merge;
use super::{LagReasons, Readers, SummaryColumn};
use crate::position::Position;
use crate::record::PartitionId;
use std::sync::Arc;

#[derive(Clone)]
pub struct Redefinition {
    /// What the store is built with, as the caller read it: where another stands by now, nothing is done.
    pub old: String,
    pub new: String,
    /// As [`super::Store::bind`] takes them.
    pub idle: Option<i64>,
    pub lateness: i64,
    pub empty_view: String,
    pub summary: Vec<SummaryColumn>,
    /// A partial's state by the old definitions → the state by the new ones and what readers see of it.
    pub convert: Arc<dyn Fn(&[u8]) -> Result<(Vec<u8>, Readers), String> + Send + Sync>,
    /// The same for a partition's rollup.
    pub convert_rollup: Arc<dyn Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync>,
    /// By the new definitions.
    pub merge: Merge,
    /// Told how many of how many rows are done.
    pub progress: Arc<dyn Fn(u64, u64) + Send + Sync>,
}

/// How many lagging hunts a refusal names.
pub(super) const NAMED: usize = 10;

/// Why a store with lagging partials keeps its definitions. `first`: up to [`NAMED`] of `all`.
pub(super) fn lagging(all: i64, first: &[(PartitionId, String, Position, LagReasons)]) -> super::Error {
    let mut sentences = vec![match all {
        1 => "one hunt lags: what it holds would be folded by definitions that did not hold for its neighbours".to_owned(),
        all => {
            format!("{all} partials lag: what they hold would be folded by definitions that did not hold for their neighbours")
        }
    }];
    sentences.extend(first.iter().map(|(partition, hunt, position, reasons)| {
        let then = if reasons.need_operator() { "is parked: resume it first" } else { "has to catch up first" };
        format!("the hunt {hunt:?} lags at {partition} position {position} and {then}")
    }));
    let rest = all - first.len() as i64;
    if rest > 0 {
        sentences.push(format!("and {rest} more: see `huntline hunts list`"));
    }
    super::Error::Mismatch(sentences)
}

/// A hunt's state that cannot be taken over.
pub(super) fn unconvertible(partition: &PartitionId, hunt: &str, why: &str) -> super::Error {
    super::Error::Fatal(format!("the state of hunt {hunt:?} at {partition} cannot be taken over by the new definitions: {why}"))
}

/// A partition's rollup that cannot be.
pub(super) fn unconvertible_rollup(partition: &PartitionId, why: &str) -> super::Error {
    super::Error::Fatal(format!("the rollup of {partition} cannot be taken over by the new definitions: {why}"))
}

/// What does not fit together afterwards: a defect of the conversion, and nothing is committed.
pub(super) fn unmerged(what: &str, why: &str) -> super::Error {
    super::Error::Fatal(format!("{what} do not merge by the new definitions: {why}"))
}
