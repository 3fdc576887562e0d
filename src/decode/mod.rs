//! **Decode**: a record becomes an event, or is refused with its reason (contract 2, steps 1 to 5),
//! by a plan compiled once from the definitions.
//!
//! The partition's actor decodes each batch once, in one pass, borrowing from its arena; apply
//! never touches JSON. Invariant: the verdict depends on the record and the plan alone.

mod clock;
mod compact;
mod condition;
mod description;
mod explain;
mod interest;
mod judge;
mod number;
mod plan;
pub mod predicate;
mod scan;
mod unescape;

pub use description::Description;
pub use plan::Plan;

use crate::outcome::Reason;
use crate::record::{Batch, Span};
use crate::time::Micros;

/// What a record is, before any state is asked. Aligned with the batch's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A tombstone.
    Ignored,
    Rejected(Reason),
    Event,
}

/// The fixed part of one decoded record.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub verdict: Verdict,
    /// The hunt, wherever a valid one could be read (for dead letters too); else null.
    pub hunt: Span,
    /// Fingerprint of `hunt` ([`hunt_hash`]).
    pub hunt_hash: u64,
    /// Fingerprint of the id; 0: it has none (a real fingerprint is never 0).
    pub id: u64,
    pub time: Micros,
    /// Number of its type ([`Plan::type_number`]); `u32::MAX`: no `on` and no stage of a funnel names the type in full.
    pub event_type: u32,
    /// Bit `i`: aggregate `i` of the definitions matches by `on` and `where`. (Whether its fields are absent is for the fold to see.)
    pub matches: u128,
}

/// One field an aggregate reads, converted and checked for its use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field {
    /// Absent or null, or not read because no matching aggregate needs it.
    Absent,
    /// An integer token from −2^63 to 2^63−1.
    Int(i64),
    /// An integer token from 2^63 to 2^64−1.
    Unsigned(u64),
    /// Every other number; finite.
    Float(f64),
    /// A key (string, or integer as its digits) or a JSON value in compact form, in [`Decoded::text`]; valid UTF-8.
    Text(Span),
}

/// How an aggregate uses the member a pointer names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Use {
    Number,
    Key,
    Json,
}

/// A decoded batch: one [`Event`] a record, and `stride` fields a record in one flat table.
#[derive(Debug, Default)]
pub struct Decoded {
    pub events: Vec<Event>,
    pub fields: Vec<Field>,
    /// Fields a record.
    pub stride: usize,
    /// Bytes that do not stand in the arena as they are read (unescaped strings, digits, compact JSON); spans from `arena.len()` on point here.
    pub extra: Vec<u8>,
}

impl Decoded {
    /// The fields of record `index`, by the plan's field numbers.
    pub fn fields(&self, index: usize) -> &[Field] {
        &self.fields[index * self.stride..(index + 1) * self.stride]
    }

    /// The bytes of a span made by decode, which stand in the arena or in `extra`.
    pub fn text<'a>(&'a self, batch: &'a Batch, span: Span) -> &'a [u8] {
        let arena = batch.arena.len();
        if span.start() >= arena && !span.is_null() {
            &self.extra[span.start() - arena..span.start() - arena + span.len()]
        } else {
            span.of(&batch.arena).unwrap_or_default()
        }
    }
}

/// The fingerprint of a hunt id: XXH3, 64 bits, seed 0.
pub fn hunt_hash(hunt: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(hunt)
}

#[cfg(test)]
mod tests;
