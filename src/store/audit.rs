//! The **audit**: what a store says of itself, to be compared with the log.

use super::{Gap, Lag};
use crate::outcome::{Counts, Reason};
use crate::position::{Offset, Position};
use crate::record::PartitionId;
use crate::time::Micros;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    pub generations: Vec<Generation>,
    pub partitions: Vec<AuditedPartition>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AuditedPartition {
    pub partition: PartitionId,
    pub start: Option<Position>,
    pub position: Option<Position>,
    pub clock: Option<Micros>,
    pub counts: Counts,
    pub rollup: Option<Vec<u8>>,
    pub partials: Vec<AuditedPartial>,
    pub left_out: Vec<(Offset, Reason)>,
    pub gaps: Vec<Gap>,
    pub letters: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AuditedPartial {
    pub hunt: String,
    pub digest: Option<[u8; 32]>,
    pub lag: Option<Lag>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    pub number: i32,
    pub definitions: String,
    pub since: BTreeMap<PartitionId, Position>,
    pub recorded_at: Micros,
}

/// TEMP
pub struct Redefinition;
impl super::Store {
    pub async fn audit(&self) -> super::Result<Audit> { panic!() }
    pub async fn generations(&self) -> super::Result<Vec<Generation>> { panic!() }
    pub async fn partials(&self, _: &PartitionId, _: Vec<String>) -> super::Result<(Position, Vec<super::Snapshot>)> { panic!() }
    pub async fn open_beside(_: &super::Target) -> super::Result<super::Store> { panic!() }
    pub async fn swap(_: &super::Target, _: super::Store) -> super::Result<()> { panic!() }
}
