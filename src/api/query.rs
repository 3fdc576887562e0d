//! A **query** asks the running daemon ([`Live`]) and the store ([`Stored`]) for one hunt and joins what both say.
//!
//! The routes hand it an id and get a [`HuntView`] back. Invariant: each partial is in the view exactly once, live where its
//! actor runs here and as saved elsewhere, and partials are merged in (topic, partition) order. The actors are asked before the
//! store: an actor that goes idle in between has its state committed first, so nothing falls between the two.

use crate::definitions::{Definitions, TimeRules};
use crate::position::{Epoch, Offset, Position};
use crate::record::PartitionId;
use crate::store::{self, DeadLetter, HuntLine, LetterFilter, PartialRow, PartitionLine, Readers, Status, StoredHunt};
use crate::time::Micros;
use crate::watermark::Clocks;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

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
    /// `claiming`, `running`, `paused`, `halted`, …
    pub state: &'static str,
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
    /// Merges partials, given in (topic, partition) order, into what readers see.
    fn merge(&self, states: &[(PartitionId, Vec<u8>)]) -> Result<Readers, String>;
}

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = store::Result<T>> + Send + 'a>>;

/// What the API asks of the store. Lists come in the order of their keys, the cursor's own row left out.
pub trait Stored: Send + Sync {
    fn hunts<'a>(&'a self, after: Option<&'a str>, limit: u32, status: Option<Status>) -> Answer<'a, Vec<HuntLine>>;
    fn hunt<'a>(&'a self, id: &'a str) -> Answer<'a, Option<StoredHunt>>;
    fn partitions(&self) -> Answer<'_, Vec<PartitionLine>>;
    fn dead_letters<'a>(&'a self, filter: &'a LetterFilter) -> Answer<'a, Vec<DeadLetter>>;
    fn dead_letter<'a>(&'a self, partition: &'a PartitionId, offset: Offset) -> Answer<'a, Option<DeadLetter>>;
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
    pub view: BTreeMap<String, Box<RawValue>>,
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
    windowed: Arc<BTreeSet<String>>,
}

impl Query {
    pub fn new(live: Arc<dyn Live>, stored: Arc<dyn Stored>, definitions: &Definitions) -> Self {
        let windowed =
            definitions.aggregates.iter().filter(|aggregate| aggregate.window.is_some()).map(|aggregate| aggregate.name.clone());
        Self { live, stored, time: definitions.time.clone(), windowed: Arc::new(windowed.collect()) }
    }

    /// The hunt as it is now.
    pub async fn hunt(&self, id: &str) -> Result<HuntView, Failure> {
        let live = self.live.hunt(id).await;
        let stored = self.stored.hunt(id).await?;
        self.join(id, live, stored.as_ref())
    }

    /// One view of what the actors and the store say; `Unknown` when neither knows the hunt.
    pub fn join(&self, id: &str, live: Vec<LiveHunt>, stored: Option<&StoredHunt>) -> Result<HuntView, Failure> {
        let saved: &[PartialRow] = stored.map_or(&[], |stored| &stored.partials);
        if live.is_empty() {
            let stored = stored.ok_or(Failure::Unknown)?;
            let mut partials: Vec<(&PartitionId, PartialView)> =
                saved.iter().map(|row| (&row.partition, saved_partial(row))).collect();
            partials.sort_by_key(|(partition, _)| *partition);
            return Ok(HuntView {
                hunt_id: id.to_owned(),
                status: stored.status,
                events: stored.events,
                view: self.with_final(&stored.view, stored.watermark)?,
                partials: partials.into_iter().map(|(_, partial)| partial).collect(),
                first_event_at: text(stored.first_event_at),
                last_event_at: text(stored.last_event_at),
                watermark: text(stored.watermark),
            });
        }
        let mut parts: BTreeMap<PartitionId, (PartialView, Option<Vec<u8>>, Option<Micros>)> = BTreeMap::new();
        for row in saved {
            parts.insert(row.partition.clone(), (saved_partial(row), row.snapshot.state.clone(), self.saved_watermark(row)));
        }
        for LiveHunt { partition, position, status, state, watermark } in live {
            let partial = PartialView {
                topic: partition.topic.clone(),
                partition: partition.partition,
                position: Some(position),
                status,
                source: Source::Live,
            };
            parts.insert(partition, (partial, Some(state), watermark));
        }
        let watermark = parts.values().filter_map(|(_, _, watermark)| *watermark).min();
        let mut states = Vec::with_capacity(parts.len());
        let mut partials = Vec::with_capacity(parts.len());
        for (partition, (partial, state, _)) in parts {
            partials.push(partial);
            states.extend(state.map(|state| (partition, state)));
        }
        let merged = self.live.merge(&states).map_err(Failure::Broken)?;
        Ok(HuntView {
            hunt_id: id.to_owned(),
            status: partials.iter().map(|partial| partial.status).max_by_key(|status| badness(*status)).unwrap_or(Status::Live),
            events: merged.events,
            view: self.with_final(&merged.view, watermark)?,
            partials,
            first_event_at: text(merged.first_event_at),
            last_event_at: text(merged.last_event_at),
            watermark: text(watermark),
        })
    }

    /// A saved partial's watermark, by the contract's rule, at its partition's saved clock or, while it lags, at its own.
    fn saved_watermark(&self, row: &PartialRow) -> Option<Micros> {
        let readers = row.snapshot.readers.as_ref()?;
        let clock = row.snapshot.lag.map_or(row.partition_clock, |lag| lag.clock);
        let clocks = Clocks { hunt: readers.hunt_clock?, partition: readers.partition_clock, floor: readers.watermark_floor };
        Some(clocks.watermark(clock, &self.time))
    }

    /// The view with `final` said of each window: its end is at or below the watermark.
    fn with_final(&self, view: &str, watermark: Option<Micros>) -> Result<BTreeMap<String, Box<RawValue>>, Failure> {
        #[derive(Serialize, Deserialize)]
        struct Window {
            start: String,
            end: String,
            value: Box<RawValue>,
            #[serde(rename = "final", default)]
            is_final: bool,
        }
        let broken = |error: serde_json::Error| Failure::Broken(format!("read a view: {error}"));
        let mut view: BTreeMap<String, Box<RawValue>> = serde_json::from_str(view).map_err(broken)?;
        for (name, value) in &mut view {
            if self.windowed.contains(name) {
                let mut windows: Vec<Window> = serde_json::from_str(value.get()).map_err(broken)?;
                for window in &mut windows {
                    let end = Micros::parse_rfc3339(window.end.as_bytes());
                    window.is_final = watermark.zip(end).is_some_and(|(watermark, end)| end <= watermark);
                }
                *value = serde_json::value::to_raw_value(&windows).map_err(broken)?;
            }
        }
        Ok(view)
    }
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
