//! A **query** asks the running daemon ([`Live`]) and the store ([`Stored`]) for one hunt and joins what both say.
//!
//! The routes hand it an id and get a [`HuntView`] back. Invariant: each partial is in the view exactly once, live where its
//! actor runs here and as saved elsewhere, partials are merged in (topic, partition) order, and a window is final at the smallest
//! watermark of all of them, live or saved. The actors are asked before the
//! store: an actor that goes idle in between has its state committed first, so nothing falls between the two.

use crate::definitions::TimeRules;
use crate::position::{Epoch, Offset, Position};
use crate::record::PartitionId;
use crate::store::{self, Ask, DeadLetter, HuntLine, LetterFilter, PartialRow, PartitionLine, RollupLine, Status, StoredHunt};
use crate::time::Micros;
use crate::watermark::Clocks;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

/// The years 1 to 9999, in which the store keeps watermarks too: record timestamps may be anything.
const YEARS: (Micros, Micros) = (Micros(-62_135_596_800_000_000), Micros(253_402_300_799_999_999));

/// One partial of a hunt as its actor has it now.
#[derive(Clone, Debug)]
pub struct LiveHunt {
    pub partition: PartitionId,
    pub position: Position,
    pub status: Status,
    /// The partial's encoding.
    pub state: Vec<u8>,
    /// With the partition's clock at `position`; `None` before the first applied event.
    pub watermark: Option<Micros>,
}

/// One partition that this instance has.
#[derive(Clone, Debug)]
pub struct LivePartition {
    pub partition: PartitionId,
    /// `None` while it is claimed for the first time.
    pub position: Option<Position>,
    /// How far it can be read now, once the source has told.
    pub end: Option<Position>,
    /// `claiming`, `running`, `tripped`, `halted`, …
    pub state: &'static str,
    /// Why the breaker stands tripped; `None`: it does not.
    pub tripped: Option<String>,
    pub epoch: Epoch,
}

/// What the API asks of the running daemon.
pub trait Live: Send + Sync {
    /// The hunt's partials whose actors run here; empty if none does.
    fn hunt<'a>(&'a self, id: &'a str) -> Pin<Box<dyn Future<Output = Vec<LiveHunt>> + Send + 'a>>;
    fn partitions(&self) -> Vec<LivePartition>;
    /// Why this instance is not ready, a sentence each; empty: it is.
    fn readiness(&self) -> Vec<String>;
    /// Bumps whenever any live view may have changed.
    fn changed(&self) -> watch::Receiver<u64>;
    /// Merges partials, given in (topic, partition) order, into what readers see; of each window the view says whether it is final
    /// at that watermark.
    fn merge(&self, states: &[(PartitionId, Vec<u8>)], watermark: Option<Micros>) -> Result<Merged, String>;
}

/// Several partials as one.
#[derive(Clone, Debug)]
pub struct Merged {
    pub events: i64,
    /// JSON object: aggregate → value.
    pub view: String,
    pub first_event_at: Option<Micros>,
    pub last_event_at: Option<Micros>,
}

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = store::Result<T>> + Send + 'a>>;

/// What the API asks of the store. Lists come in the order of their keys, the cursor's own row left out.
pub trait Stored: Send + Sync {
    fn hunts<'a>(&'a self, after: Option<&'a str>, limit: u32, status: Option<Status>) -> Answer<'a, Vec<HuntLine>>;
    fn hunt<'a>(&'a self, id: &'a str) -> Answer<'a, Option<StoredHunt>>;
    fn partitions(&self) -> Answer<'_, Vec<PartitionLine>>;
    fn dead_letters<'a>(&'a self, filter: &'a LetterFilter) -> Answer<'a, Vec<DeadLetter>>;
    fn dead_letter<'a>(&'a self, partition: &'a PartitionId, offset: Offset) -> Answer<'a, Option<DeadLetter>>;
    fn rollup(&self) -> Answer<'_, Vec<RollupLine>>;
    /// Writes down what an operator asks for; the id of the act.
    fn ask<'a>(&'a self, ask: &'a Ask) -> Answer<'a, i64>;
    /// What came of an act; `None`: it is not done.
    fn act_done(&self, id: i64) -> Answer<'_, Option<String>>;
    fn ping(&self) -> Answer<'_, ()>;
}

impl Stored for store::Store {
    fn hunts<'a>(&'a self, after: Option<&'a str>, limit: u32, status: Option<Status>) -> Answer<'a, Vec<HuntLine>> {
        Box::pin(self.hunts(after, limit, status))
    }

    fn hunt<'a>(&'a self, id: &'a str) -> Answer<'a, Option<StoredHunt>> {
        Box::pin(self.hunt(id))
    }

    fn partitions(&self) -> Answer<'_, Vec<PartitionLine>> {
        Box::pin(self.partitions())
    }

    fn dead_letters<'a>(&'a self, filter: &'a LetterFilter) -> Answer<'a, Vec<DeadLetter>> {
        Box::pin(self.dead_letters(filter))
    }

    fn dead_letter<'a>(&'a self, partition: &'a PartitionId, offset: Offset) -> Answer<'a, Option<DeadLetter>> {
        Box::pin(self.dead_letter(partition, offset))
    }

    fn rollup(&self) -> Answer<'_, Vec<RollupLine>> {
        Box::pin(self.rollup())
    }

    fn ask<'a>(&'a self, ask: &'a Ask) -> Answer<'a, i64> {
        Box::pin(self.ask(ask))
    }

    fn act_done(&self, id: i64) -> Answer<'_, Option<String>> {
        Box::pin(self.act_done(id))
    }

    fn ping(&self) -> Answer<'_, ()> {
        Box::pin(self.ping())
    }
}

/// One hunt as readers see it.
#[derive(Serialize)]
pub struct HuntView {
    pub hunt_id: String,
    pub status: Status,
    pub events: i64,
    /// Numbers stay as the view wrote them: a sum may be larger than any machine integer.
    pub view: Box<RawValue>,
    pub partials: Vec<PartialView>,
    pub first_event_at: Option<String>,
    pub last_event_at: Option<String>,
    pub watermark: Option<String>,
}

#[derive(Serialize)]
pub struct PartialView {
    pub topic: Arc<str>,
    pub partition: i32,
    pub position: Option<Position>,
    pub status: Status,
    pub source: Source,
}

/// Where a partial's state comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Live,
    Snapshot,
}

/// Why there is no view.
#[derive(Debug)]
pub enum Failure {
    Unknown,
    Store(store::Error),
    /// A partial or a view that cannot be read: a defect.
    Broken(String),
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Failure::Store(error)
    }
}

/// Joins the two ports under one set of definitions.
#[derive(Clone)]
pub struct Query {
    pub live: Arc<dyn Live>,
    pub stored: Arc<dyn Stored>,
    time: TimeRules,
}

impl Query {
    /// `time`: how watermarks move.
    pub fn new(live: Arc<dyn Live>, stored: Arc<dyn Stored>, time: TimeRules) -> Self {
        Self { live, stored, time }
    }

    /// The hunt as it is now.
    pub async fn hunt(&self, id: &str) -> Result<HuntView, Failure> {
        let live = self.live.hunt(id).await;
        let stored = self.stored.hunt(id).await?;
        self.join(id, live, stored.as_ref())
    }

    /// One view of what the actors and the store say; `Unknown` when neither knows the hunt.
    pub fn join(&self, id: &str, live: Vec<LiveHunt>, stored: Option<&StoredHunt>) -> Result<HuntView, Failure> {
        if live.is_empty() && stored.is_none() {
            return Err(Failure::Unknown);
        }
        let mut parts: BTreeMap<PartitionId, Part> = BTreeMap::new();
        for row in stored.map_or(&[][..], |stored| &stored.partials) {
            let part =
                Part { shown: saved_partial(row), state: row.snapshot.state.clone(), watermark: self.saved_watermark(row) };
            parts.insert(row.partition.clone(), part);
        }
        for LiveHunt { partition, position, status, state, watermark } in live {
            let shown = PartialView {
                topic: partition.topic.clone(),
                partition: partition.partition,
                position: Some(position),
                status,
                source: Source::Live,
            };
            parts.insert(partition, Part { shown, state: Some(state), watermark });
        }
        // What a partial holds that has applied nothing may still fall anywhere: nothing is final beside it.
        let holds = parts.values().any(|part| part.watermark.is_none() && part.shown.status != Status::Live);
        let watermark = if holds { None } else { parts.values().filter_map(|part| part.watermark).min() };
        let mut states = Vec::with_capacity(parts.len());
        let mut partials = Vec::with_capacity(parts.len());
        for (partition, part) in parts {
            partials.push(part.shown);
            states.extend(part.state.map(|state| (partition, state)));
        }
        let merged = self.live.merge(&states, watermark).map_err(Failure::Broken)?;
        Ok(HuntView {
            hunt_id: id.to_owned(),
            status: partials.iter().map(|partial| partial.status).max_by_key(|status| badness(*status)).unwrap_or(Status::Live),
            events: merged.events,
            view: RawValue::from_string(merged.view).map_err(|error| Failure::Broken(format!("a view: {error}")))?,
            partials,
            first_event_at: text(merged.first_event_at),
            last_event_at: text(merged.last_event_at),
            watermark: text(watermark.map(|at| at.clamp(YEARS.0, YEARS.1))),
        })
    }

    /// A saved partial's watermark, by the contract's rule, at its partition's saved clock or, while it lags, at its own.
    fn saved_watermark(&self, row: &PartialRow) -> Option<Micros> {
        let readers = row.snapshot.readers.as_ref()?;
        let clock = row.snapshot.lag.map_or(row.partition_clock, |lag| lag.clock);
        let clocks = Clocks { hunt: readers.hunt_clock?, partition: readers.partition_clock, floor: readers.watermark_floor };
        Some(clocks.watermark(clock, &self.time))
    }
}

/// One partial on its way into a view.
struct Part {
    shown: PartialView,
    /// `None`: nothing of it was ever saved.
    state: Option<Vec<u8>>,
    watermark: Option<Micros>,
}

fn saved_partial(row: &PartialRow) -> PartialView {
    let (position, status) = match row.snapshot.lag {
        Some(lag) => (Some(lag.position), if lag.reasons.park() { Status::Parked } else { Status::Lagging }),
        None => (row.partition_position, Status::Live),
    };
    PartialView {
        topic: row.partition.topic.clone(),
        partition: row.partition.partition,
        position,
        status,
        source: Source::Snapshot,
    }
}

/// A hunt's status is that of its worst partial.
fn badness(status: Status) -> u8 {
    match status {
        Status::Live => 0,
        Status::Lagging => 1,
        Status::Parked => 2,
    }
}

pub fn text(at: Option<Micros>) -> Option<String> {
    at.map(|at| at.to_string())
}
