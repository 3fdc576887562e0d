//! The **rollup** as both stores keep it: each partition's share as bytes in `partitions.rollup`, written by its checkpoint; the
//! merge of all shares in the relation `rollup`, brought up to date by whoever commits a share.
//!
//! Invariant: a value that the store will not take costs nobody else anything: its row stays as it was (`updated_at` shows how old
//! it is), the log says so once, and hunts and positions commit as if nothing were.

use crate::time::Micros;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// A row of `rollup`.
#[derive(Clone, Debug, PartialEq)]
pub struct RollupLine {
    pub aggregate: String,
    /// JSON.
    pub value: String,
    pub updated_at: Micros,
}

/// What stands between the shares and their rows, each said once, and again only after it was taken in between.
#[derive(Default)]
pub(super) struct Refusals(Mutex<BTreeSet<String>>);

/// What a refusal of the whole merge goes by; no aggregate has such a name.
const MERGE: &str = "";

impl Refusals {
    /// The shares do not merge: all rows stay as they were. Whether this was news.
    pub fn unmerged(&self, why: &str) -> bool {
        let news = self.add(MERGE);
        if news {
            tracing::error!("the rollup stays as it is, its partitions' shares do not merge: {why}");
        }
        news
    }

    pub fn merged(&self) {
        self.remove(MERGE);
    }

    /// The store would not take this aggregate's value. Whether this was news.
    pub fn refused(&self, aggregate: &str, why: &str) -> bool {
        let news = self.add(aggregate);
        if news {
            tracing::warn!(aggregate, "the rollup of {aggregate} stays as it is, the store refuses its new value: {why}");
        }
        news
    }

    pub fn taken(&self, aggregate: &str) {
        self.remove(aggregate);
    }

    fn add(&self, what: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(what.to_owned())
    }

    fn remove(&self, what: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_said_once_until_the_value_is_taken() {
        let refusals = Refusals::default();
        assert!(refusals.refused("a", "x") && !refusals.refused("a", "y") && refusals.refused("b", "x"));
        assert!(refusals.unmerged("x") && !refusals.unmerged("x"));
        refusals.taken("a");
        refusals.merged();
        assert!(refusals.refused("a", "x") && !refusals.refused("b", "x") && refusals.unmerged("x"));
    }
}
