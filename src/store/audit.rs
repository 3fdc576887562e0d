//! An **audit**: everything that a store says it knows, small enough to hold, as one moment had it.
//!
//! `verify` takes it once and then folds the log for as long as that takes, while daemons go on writing. Invariant: no checkpoint is
//! partly in it. States are there by their digest; [`super::Store::partials`] gives those that turn out to differ.

use super::shown::Stood;
use super::{DeadLetter, Gap, Lag, headers};
use crate::outcome::{Counts, Reason};
use crate::position::{Offset, Position};
use crate::record::PartitionId;
use crate::time::Micros;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// By number, never empty in a store that is bound.
    pub generations: Vec<Generation>,
    /// In (topic, partition) order: every partition ever claimed.
    pub partitions: Vec<AuditedPartition>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AuditedPartition {
    pub partition: PartitionId,
    /// Where reading began; `None`: it has not begun, or a huntline began it that did not note where.
    pub start: Option<Position>,
    pub position: Option<Position>,
    pub clock: Option<Micros>,
    pub counts: Counts,
    /// The partition's rollup, encoded.
    pub rollup: Option<Vec<u8>>,
    /// By hunt, in the order of their bytes.
    pub partials: Vec<AuditedPartial>,
    /// Records recorded as `failed` or `state_full`, whatever became of their dead letters since; by offset.
    pub left_out: Vec<(Offset, Reason)>,
    /// By where they begin.
    pub gaps: Vec<Gap>,
    /// How many dead letters there are, for whatever reason.
    pub letters: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AuditedPartial {
    pub hunt: String,
    /// SHA-256 of the encoded state; `None`: nothing of this hunt was ever saved.
    pub digest: Option<[u8; 32]>,
    pub lag: Option<Lag>,
}

/// A dead letter, what is large of it as a digest.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditedLetter {
    pub offset: Offset,
    pub hunt: Option<String>,
    /// One of [`Reason`]'s, if nobody wrote another.
    pub reason: String,
    /// SHA-256; `None`: null.
    pub key: Option<[u8; 32]>,
    pub value: Option<[u8; 32]>,
    pub headers: [u8; 32],
    pub record_at: Stood,
}

impl AuditedLetter {
    /// What the store has of this letter.
    pub fn of(letter: &DeadLetter) -> AuditedLetter {
        AuditedLetter {
            offset: letter.offset,
            hunt: letter.hunt_id.clone(),
            reason: letter.reason.as_str().to_owned(),
            key: letter.key.as_deref().map(digest),
            value: letter.value.as_deref().map(digest),
            headers: headers_digest(&headers::write(&letter.headers)),
            record_at: Ok(letter.record_at.map(|at| at.clamp(Micros::MIN, Micros::MAX))),
        }
    }
}

/// Of headers as a store has them: it may have set them down in other words.
pub(super) fn headers_digest(stored: &str) -> [u8; 32] {
    match headers::read(stored) {
        Ok(read) => digest(headers::write(&read).as_bytes()),
        Err(_) => digest(stored.as_bytes()),
    }
}

/// Definitions, and from where on they hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    pub number: i32,
    /// Canonical JSON.
    pub definitions: String,
    /// The first position of each partition that they hold for. Empty for a store's first generation, which holds from wherever each
    /// partition starts; so does any generation for a partition that is not named, for it had not begun yet.
    pub since: BTreeMap<PartitionId, Position>,
    pub recorded_at: Micros,
}

/// What [`AuditedPartial::digest`] is of this state.
pub fn digest(state: &[u8]) -> [u8; 32] {
    Sha256::digest(state).into()
}

/// Partitions as an implementation gathers them, table by table.
#[derive(Default)]
pub(super) struct Gathered(BTreeMap<PartitionId, AuditedPartition>);

impl Gathered {
    pub fn add(&mut self, partition: AuditedPartition) {
        self.0.insert(partition.partition.clone(), partition);
    }

    /// The partition that a row of another table names. Rows of one that was never claimed are none of the store's making, and left to
    /// whoever made them.
    pub fn of(&mut self, topic: &str, partition: i32) -> Option<&mut AuditedPartition> {
        self.0.get_mut(&PartitionId::new(topic, partition))
    }

    /// With the partials in their order: the stores give them as it costs them least.
    pub fn finish(self) -> Vec<AuditedPartition> {
        let mut partitions: Vec<AuditedPartition> = self.0.into_values().collect();
        for partition in &mut partitions {
            partition.partials.sort_unstable_by(|a, b| a.hunt.cmp(&b.hunt));
        }
        partitions
    }
}
