//! What readers are **shown** of hunts, beside the states that it is a function of.
//!
//! `verify` asks for it page by page and makes it again from the states. Invariant: a page is one moment of the store, so that a daemon
//! beside it can make no difference; what stands there is handed over as it stands, for it may be anything.

use super::Lag;
use crate::record::PartitionId;
use crate::time::Micros;
use std::collections::BTreeMap;

/// Bytes of states and views in a page, beyond its last hunt.
pub(super) const BYTES: usize = 16 << 20;

#[derive(Clone, Debug, PartialEq)]
pub struct ShownPage {
    /// How many definitions the store had been built with by then.
    pub generations: usize,
    /// In the order of their ids' bytes.
    pub hunts: Vec<ShownHunt>,
    /// The hunt after which the next page begins; `None`: this was the last.
    pub next: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShownHunt {
    pub hunt: String,
    /// In (topic, partition) order.
    pub partials: Vec<ShownPartial>,
    /// Its rows of the relation `hunts`: one or none, if nobody made it otherwise.
    pub rows: Vec<ShownRow>,
}

/// A time as it stands in a column; the error is text that is none.
pub type Stood = Result<Option<Micros>, String>;

/// A row of `partials`.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownPartial {
    pub partition: PartitionId,
    pub state: Option<Vec<u8>>,
    pub view: Option<String>,
    pub events: i64,
    pub first_event_at: Stood,
    pub last_event_at: Stood,
    pub hunt_clock: Option<Micros>,
    pub partition_clock: Option<Micros>,
    pub watermark_floor: Option<Micros>,
    pub lag: Option<Lag>,
    /// The clock of its partition.
    pub clock: Option<Micros>,
}

/// A row of `hunts`.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownRow {
    pub view: Option<String>,
    pub events: Option<i64>,
    pub status: Option<String>,
    pub first_event_at: Stood,
    pub last_event_at: Stood,
    /// Where a store cannot tell how far it lies outside of what an event time may be: just outside.
    pub watermark: Option<Micros>,
}

/// A page as an implementation gathers it, table by table.
#[derive(Default)]
pub(super) struct Gathered(BTreeMap<String, ShownHunt>);

impl Gathered {
    pub fn of(&mut self, hunt: &str) -> &mut ShownHunt {
        if !self.0.contains_key(hunt) {
            self.0.insert(hunt.to_owned(), ShownHunt { hunt: hunt.to_owned(), ..ShownHunt::default() });
        }
        self.0.get_mut(hunt).expect("just looked")
    }

    /// With the partials in their order.
    pub fn finish(self) -> Vec<ShownHunt> {
        let mut hunts: Vec<ShownHunt> = self.0.into_values().collect();
        hunts.iter_mut().for_each(|hunt| hunt.partials.sort_unstable_by(|a, b| a.partition.cmp(&b.partition)));
        hunts
    }
}
