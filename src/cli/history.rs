//! The **history** of a store: its log and every set of definitions it was built with; what `verify` and
//! `explain` fold again.
//!
//! Invariant: a record is folded by the definitions that held for it, whatever is configured now.

use super::Files;
use crate::config::{self, Settings};
use crate::daemon::store_target;
use crate::decode::Plan;
use crate::definitions::Definitions;
use crate::partial::Fold;
use crate::position::{Offset, Position};
use crate::record::PartitionId;
use crate::refold::{self, Given, Refold, Refolded, Stage, Witness};
use crate::source::pass::{Found, Pass};
use crate::source::reader::Reader;
use crate::store::{AuditedPartition, Generation, Store};
use crate::time::Micros;
use crate::verify;
use anyhow::{Context as _, anyhow};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::runtime::Runtime;

/// What such a command begins with.
pub struct Opened {
    pub settings: Settings,
    pub runtime: Runtime,
    pub store: Store,
}

/// Reads the configuration and opens its store for reading. `None`: the configuration is wrong, and it was said why.
pub fn open(files: &Files) -> anyhow::Result<Option<Opened>> {
    let loaded = match config::load(&files.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(None);
        }
    };
    let settings = loaded.settings;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("start a runtime")?;
    let store = runtime.block_on(Store::open_reader(&store_target(&settings.store)))?;
    Ok(Some(Opened { settings, runtime, store }))
}

pub struct History {
    reader: Reader,
    pub generations: Vec<Generation>,
}

/// What to do where the log no longer has records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGap {
    Stop,
    ReadOn,
}

/// How a fold over the log ended.
pub enum Folded {
    /// With the first record behind the last gap that was read over.
    All(Refolded, Option<Position>),
    /// The log no longer has the records up to here.
    TooShort(Position),
    /// The fold itself failed at this record.
    Panicked(Offset),
}

impl History {
    pub fn new(reader: Reader, generations: Vec<Generation>) -> History {
        History { reader, generations }
    }

    /// What a partition holds now: its first offset, and how far it can be read.
    pub fn extent(&self, id: &PartitionId) -> anyhow::Result<(Position, Position)> {
        self.reader.extent(id).map_err(|why| anyhow!(why))
    }

    /// Where reading a partition began, and from where on its log is needed: past the gaps on record there.
    pub fn beginning(&self, audited: &AuditedPartition) -> anyhow::Result<(Position, Position)> {
        let start = match audited.start {
            Some(start) => start,
            // A store of an older version did not write it down.
            None => self.reader.resolve_start(&audited.partition).map_err(|why| anyhow!(why))?,
        };
        Ok((start, verify::first_needed(start, &audited.gaps)))
    }

    /// The definitions of a generation.
    pub fn definitions(generation: &Generation) -> anyhow::Result<Definitions> {
        serde_json::from_str(&generation.definitions)
            .with_context(|| format!("read the definitions of generation {} in the store", generation.number))
    }

    pub fn stages(&self, id: &PartitionId) -> anyhow::Result<Vec<Stage>> {
        refold::stages(&self.generations, id, |generation| {
            let definitions = History::definitions(generation)?;
            let plan = Arc::new(Plan::new(&definitions, &id.topic));
            // What did not fit is on record as left out.
            let fold = Arc::new(Fold::new(&definitions, &plan, usize::MAX));
            Ok((plan, fold))
        })
    }

    /// Folds `[from, until)` of a partition. After each batch `counted` is told how many records it had.
    #[allow(clippy::too_many_arguments)] // Two callers, each argument its own thing.
    pub fn fold<W: Witness>(
        &self,
        id: &PartitionId,
        from: Position,
        until: Position,
        given: Given,
        on_gap: OnGap,
        witness: &mut W,
        mut counted: impl FnMut(&mut W, u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<Folded> {
        let mut refold = Refold::new(self.stages(id)?, given);
        let mut lost = None;
        for found in Pass::new(&self.reader, id, from, until) {
            match found.map_err(|why| anyhow!(why))? {
                Found::Gap { to, .. } if on_gap == OnGap::Stop => return Ok(Folded::TooShort(to)),
                Found::Gap { to, .. } => lost = Some(to),
                Found::Batch(batch) => {
                    if catch_unwind(AssertUnwindSafe(|| refold.take(&batch, Micros(0), witness))).is_err() {
                        return Ok(Folded::Panicked(refold.in_hand()));
                    }
                    counted(witness, batch.records.len() as u64)?;
                }
            }
        }
        Ok(Folded::All(refold.finish(), lost))
    }
}
