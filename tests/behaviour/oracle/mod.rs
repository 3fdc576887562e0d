//! The **oracle**: a plain, slow re-computation of the contract from the records. It shares no code with the fold: JSON, times,
//! predicates, clocks and aggregates are written here a second time, from the contract's words alone.
//!
//! A test hands it the definitions, a log and the records that were recorded as left out; [`recompute`] says what the store
//! and the views must say, and [`Said::compare`] names the first thing that is otherwise.
//!
//! Where the contract leaves room, the oracle reads it so:
//! - Bytes that are not UTF-8 take their turn from left to right like any other reason not to be JSON.
//! - -0 is the integer 0, so its digits are "0". An id's integer is the string of its digits, as for keys. An id's or a type's lone
//!   surrogate does no harm; bytes of a key or header that are no UTF-8 are no string, so as an id they are of the wrong type.
//! - A leap second stands at the end of a day in UTC.
//! - Of repeated headers the last counts. What a topic leaves out of its places is as in `[event]`.
//! - All that an aggregate reads must be of its type, even where another of its members is absent; a funnel reads only its stages' events.
//! - In a predicate an absent operand outweighs a wrong one, and a side that decides `&&` or `||` outweighs both, left or right.
//!   A null literal is a null operand, but the items of a list are no operands: a null among them equals nothing. Arrays equal arrays
//!   and objects objects as in CEL: item by item, member by member, numbers by value. Booleans order false before true; 1e400 is
//!   greater than every other number there.
//! - "Compact form" is the value without white space, integers by their digits and floats by the fewest that read back, strings with
//!   the fewest escapes, repeated members gone. So 20 digits, which are a float, are shown as one.
//! - A record without a timestamp is never ahead, leaves the partition's clock alone, and its event's time moves the hunt's clock.
//! - Clocks at an applied event include its own record; its watermark for lateness does not.
//! - A record recorded as left out counts as dead-lettered, and only if it would otherwise have been applied.
//! - The oracle is exact everywhere: `exact_up_to` is not looked at, nor `failure.max_state`.
//! - An event that adds nothing to a windowed aggregate is not late there.
//! - Merged tumbling and hopping windows are cut to the newest `keep` again; merged sessions are not.

mod cell;
pub mod compare;
pub mod definitions;
mod event;
mod exact;
mod fold;
mod instant;
pub mod json;
pub mod predicate;
pub mod records;
mod rollup;
mod window;

pub use definitions::Definitions;
pub use fold::recompute;
pub use json::Json;
use std::collections::BTreeMap;

/// A record as Kafka holds it.
#[derive(Clone, Debug)]
pub struct Record {
    pub offset: i64,
    /// Negative: none.
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Record {
    /// Microseconds.
    fn recorded_at(&self) -> Option<i128> {
        (self.timestamp_ms >= 0).then(|| i128::from(self.timestamp_ms) * 1000)
    }
}

/// Topic and partition.
pub type Partition = (String, i32);

/// What Kafka holds, in offset order.
pub type Log = BTreeMap<Partition, Vec<Record>>;

/// Records recorded as `failed`, `state_full` or skipped, with the reason of their dead letter.
pub type LeftOut = BTreeMap<(String, i32, i64), String>;

/// What must be said of a log.
#[derive(Clone, Debug)]
pub struct Said {
    pub definitions: Definitions,
    pub partitions: BTreeMap<Partition, PartitionSaid>,
    /// Hunts that applied something.
    pub hunts: BTreeMap<String, HuntSaid>,
    /// By aggregate, over all hunts.
    pub rollup: BTreeMap<String, Json>,
    /// `late_total`: by aggregate, applied events that at least one of its windows refused.
    pub late: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default)]
pub struct PartitionSaid {
    pub counts: Counts,
    pub dead_letters: Vec<DeadLetter>,
    /// Microseconds; `None`: no record had a timestamp.
    pub clock: Option<i64>,
    /// What this partition alone contributed to each hunt, to tell where a difference comes from.
    pub hunts: BTreeMap<String, HuntSaid>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub records: i64,
    pub applied: i64,
    pub duplicate: i64,
    pub dead_lettered: i64,
    pub ignored: i64,
    /// Always 0: to the oracle nothing lags.
    pub held: i64,
    pub late: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub offset: i64,
    pub hunt_id: Option<String>,
    pub reason: String,
}

/// Times in microseconds.
#[derive(Clone, Debug)]
pub struct HuntSaid {
    /// Every aggregate, by name.
    pub view: Json,
    pub events: i64,
    pub first_event_at: i64,
    pub last_event_at: i64,
    /// At the end of the log: the smallest of its partials'.
    pub watermark: i64,
    pub partials: usize,
}
