//! **Definitions**: what the configuration says about meaning (`[event] [dedup] [time] [aggregates]
//! [rollup]`), as run. The configuration compiles to them, decode and the fold are built from
//! them, and the store remembers them.
//!
//! Invariant: two stores with equal definitions give the same view of the same log; nothing that
//! the fold depends on stands outside of them but the records and operators' acts.

use crate::decode::predicate::Predicate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// At most this many aggregates: an event's matches are one bit each in a `u128`.
pub const MAX_AGGREGATES: usize = 128;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definitions {
    /// Where the parts of an event stand, unless its topic says otherwise.
    pub event: EventPlaces,
    /// Topics with places of their own, complete (the defaults are filled in).
    pub topics: BTreeMap<String, EventPlaces>,
    /// How many ids a partial remembers; 0: none.
    pub dedup_last: u32,
    pub time: TimeRules,
    /// By name, in the order of their names.
    pub aggregates: Vec<Aggregate>,
    /// Names of aggregates kept over all hunts too.
    pub rollup: Vec<String>,
}

impl Definitions {
    pub fn places(&self, topic: &str) -> &EventPlaces {
        self.topics.get(topic).unwrap_or(&self.event)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventPlaces {
    pub hunt: Place,
    /// The parts of the id, compared part by part; empty: events have no id.
    pub id: Vec<Place>,
    #[serde(rename = "type")]
    pub event_type: Place,
    /// `None`: the record's timestamp.
    pub time: Option<Place>,
    /// Longest value, in bytes.
    pub max_bytes: u64,
}

/// Where a part of an event stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    Key,
    /// The value of the *last* header of this name.
    Header(String),
    /// In the JSON value.
    Value(Pointer),
}

/// An RFC 6901 JSON pointer, its reference tokens unescaped; no tokens: the whole value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pointer(pub Vec<String>);

/// Microseconds throughout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeRules {
    pub lateness: i64,
    /// `None`: never.
    pub idle: Option<i64>,
    /// `None`: never.
    pub max_ahead: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    pub name: String,
    pub kind: Kind,
    /// Types or globs (`*` is any run of characters); `None`: every event.
    pub on: Option<Vec<String>>,
    /// CEL, as written and as parsed.
    #[serde(rename = "where")]
    pub filter: Option<Predicate>,
    pub window: Option<Window>,
}

/// What an aggregate computes, and the members it reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Kind {
    Count,
    Sum { of: Pointer },
    Min { of: Pointer },
    Max { of: Pointer },
    Mean { of: Pointer },
    First { of: Pointer },
    Last { of: Pointer },
    Distinct { of: Pointer, exact_up_to: u32 },
    Top { by: Pointer, sum: Option<Pointer>, limit: u32, exact_up_to: u32 },
    Quantiles { of: Pointer, at: Vec<f64> },
    Funnel { by: Pointer, stages: Vec<String>, exact_up_to: u32 },
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Count => "count",
            Kind::Sum { .. } => "sum",
            Kind::Min { .. } => "min",
            Kind::Max { .. } => "max",
            Kind::Mean { .. } => "mean",
            Kind::First { .. } => "first",
            Kind::Last { .. } => "last",
            Kind::Distinct { .. } => "distinct",
            Kind::Top { .. } => "top",
            Kind::Quantiles { .. } => "quantiles",
            Kind::Funnel { .. } => "funnel",
        }
    }
}

/// Lengths in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    pub shape: Shape,
    /// How many of the newest windows that hold anything are kept.
    pub keep: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    Tumbling { length: i64 },
    Hopping { length: i64, every: i64 },
    Session { gap: i64 },
}
