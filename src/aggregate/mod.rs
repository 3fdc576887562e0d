//! An **aggregate**: what one definition keeps of one partial, or of one window of it. A [`Rule`] is
//! the definition compiled against a plan's field numbers; a [`State`] is what it has seen.
//!
//! The partial hands each matching event to its rules and states in the order of the definitions.
//! Invariant: a state depends on the events it was given, in their order, alone; encoding is
//! canonical; merging is done in (topic, partition) order. A new kind is a file here and an arm in
//! each `match` below.

pub mod chosen;
mod contribution;
pub mod distinct;
pub mod exact;
pub mod extremum;
pub mod funnel;
pub mod hyperloglog;
pub mod number;
pub mod ordered;
pub mod quantiles;
pub mod sum;
pub mod top;

use crate::codec::{Reader, Result, Writer};
use crate::decode::{Decoded, Field, Plan, Use};
use crate::definitions::Kind;
use crate::position::Offset;
use crate::record::Batch;
use crate::time::Micros;
use chosen::{Chosen, End};
use distinct::Distinct;
use funnel::Funnel;
use number::Number;
use quantiles::{Quantile, Quantiles};
use std::cmp::Ordering;
use std::fmt::Write as _;
use std::sync::Arc;
use sum::{Mean, Sum};
use top::Top;

/// What an aggregate does with an event, by field numbers.
#[derive(Clone, Debug)]
pub enum Rule {
    Count,
    /// `zero`: what a sum begins with, which says how it adds floats.
    Sum {
        of: usize,
        zero: Sum,
    },
    /// `toward`: `Less` for min, `Greater` for max.
    Extremum {
        of: usize,
        toward: Ordering,
    },
    Mean {
        of: usize,
        zero: Sum,
    },
    Chosen {
        of: usize,
        end: End,
    },
    Distinct {
        of: usize,
        exact_up_to: u32,
    },
    Top {
        by: usize,
        /// `None`: events are counted.
        sum: Option<usize>,
        zero: Sum,
        limit: usize,
        exact_up_to: u32,
    },
    Quantiles {
        of: usize,
        at: Arc<[Quantile]>,
    },
    Funnel {
        by: usize,
        /// The stages' type numbers ([`Plan::type_number`]), and their names as JSON strings.
        stages: Arc<[u32]>,
        names: Arc<[String]>,
        exact_up_to: u32,
    },
}

/// How sums add floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floats {
    /// One after the other, in offset order: a hunt's.
    InOrder,
    /// Without rounding until the whole is shown: a rollup's, which has no order.
    Exactly,
}

/// Whose state is merged into another: it decides between values of one event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Of a later partition, in (topic, partition) order.
    LaterPartition,
    /// Of the same partition, where offsets tell which came first.
    SamePartition,
}

/// One event as aggregates see it.
#[derive(Clone, Copy)]
pub struct Occurrence<'a> {
    pub time: Micros,
    pub offset: Offset,
    /// As [`crate::decode::Event::event_type`] has it.
    pub event_type: u32,
    pub fields: &'a [Field],
    pub batch: &'a Batch,
    pub decoded: &'a Decoded,
}

impl<'a> Occurrence<'a> {
    /// The text of a key or JSON field; `None`: it is absent.
    fn text(&self, field: usize) -> Option<&'a [u8]> {
        match self.fields[field] {
            Field::Text(span) => Some(self.decoded.text(self.batch, span)),
            _ => None,
        }
    }
}

/// What an aggregate has seen. Three words: an idle hunt stays small.
#[derive(Clone, Debug)]
pub enum State {
    Count(u64),
    Sum(Sum),
    Extremum(Option<Box<Number>>),
    Mean(Option<Box<Mean>>),
    Chosen(Option<Box<Chosen>>),
    Distinct(Distinct),
    Top(Top),
    Quantiles(Quantiles),
    Funnel(Funnel),
}

/// The fingerprint by which `distinct` and `funnel` know a key: XXH3, 64 bits, with a seed of its own. Two of 1,024 keys share one
/// with a probability of 3 in 10^14.
pub fn fingerprint(key: &[u8]) -> u64 {
    const SEED: u64 = 0x6b65_7973;
    xxhash_rust::xxh3::xxh3_64_with_seed(key, SEED)
}

impl Rule {
    pub fn new(kind: &Kind, plan: &Plan, floats: Floats) -> Rule {
        let number = |pointer| plan.field(pointer, Use::Number);
        let json = |pointer| plan.field(pointer, Use::Json);
        let key = |pointer| plan.field(pointer, Use::Key);
        let zero = || Sum::zero(floats);
        match kind {
            Kind::Count => Rule::Count,
            Kind::Sum { of } => Rule::Sum { of: number(of), zero: zero() },
            Kind::Min { of } => Rule::Extremum { of: number(of), toward: Ordering::Less },
            Kind::Max { of } => Rule::Extremum { of: number(of), toward: Ordering::Greater },
            Kind::Mean { of } => Rule::Mean { of: number(of), zero: zero() },
            Kind::First { of } => Rule::Chosen { of: json(of), end: End::First },
            Kind::Last { of } => Rule::Chosen { of: json(of), end: End::Last },
            Kind::Distinct { of, exact_up_to } => Rule::Distinct { of: key(of), exact_up_to: *exact_up_to },
            Kind::Top { by, sum, limit, exact_up_to } => Rule::Top {
                by: key(by),
                sum: sum.as_ref().map(number),
                zero: zero(),
                limit: *limit as usize,
                exact_up_to: *exact_up_to,
            },
            Kind::Quantiles { of, at } => Rule::Quantiles { of: number(of), at: at.iter().map(|q| Quantile::new(*q)).collect() },
            Kind::Funnel { by, stages, exact_up_to } => Rule::Funnel {
                by: key(by),
                stages: stages.iter().map(|stage| plan.type_number(stage).expect("a funnel's stages are listed types")).collect(),
                names: stages.iter().map(|stage| serde_json::Value::from(stage.as_str()).to_string()).collect(),
                exact_up_to: *exact_up_to,
            },
        }
    }

    /// The state before any event.
    pub fn start(&self) -> State {
        match self {
            Rule::Count => State::Count(0),
            Rule::Sum { zero, .. } => State::Sum(zero.clone()),
            Rule::Extremum { .. } => State::Extremum(None),
            Rule::Mean { .. } => State::Mean(None),
            Rule::Chosen { .. } => State::Chosen(None),
            Rule::Distinct { .. } => State::Distinct(Distinct::default()),
            Rule::Top { .. } => State::Top(Top::default()),
            Rule::Quantiles { .. } => State::Quantiles(Quantiles::default()),
            Rule::Funnel { .. } => State::Funnel(Funnel::default()),
        }
    }

    /// No state of this rule encodes to more bytes; `None`: there is no such bound worth having.
    pub fn largest_encoding(&self) -> Option<usize> {
        match self {
            Rule::Count => Some(1 + 10),
            Rule::Sum { .. } => Some(1 + 19 + 8),
            Rule::Extremum { .. } => Some(2 + 19),
            Rule::Mean { .. } => Some(10 + 1 + 19 + 8),
            Rule::Chosen { .. } => Some(1 + 10 + 10 + 2 + 1024),
            Rule::Distinct { .. } | Rule::Top { .. } | Rule::Quantiles { .. } | Rule::Funnel { .. } => None,
        }
    }

    /// An upper bound of how many bytes this event can add to the encoding of this state.
    pub fn growth(&self, state: &State, event: &Occurrence) -> usize {
        match (self, state) {
            (Rule::Distinct { exact_up_to, .. }, State::Distinct(distinct)) => distinct.growth(*exact_up_to),
            (Rule::Top { by, exact_up_to, .. }, State::Top(top)) => top.growth(event.text(*by).unwrap_or_default(), *exact_up_to),
            (Rule::Quantiles { .. }, State::Quantiles(quantiles)) => quantiles.growth(),
            (Rule::Funnel { exact_up_to, .. }, State::Funnel(funnel)) => funnel.growth(*exact_up_to),
            (rule, _) => rule.largest_encoding().unwrap_or_default(),
        }
    }

    /// Whether the event adds anything: every member it needs is there.
    #[inline]
    pub fn takes(&self, event: &Occurrence) -> bool {
        let is_there = |field: usize| event.fields[field] != Field::Absent;
        match self {
            Rule::Count => true,
            Rule::Sum { of, .. }
            | Rule::Extremum { of, .. }
            | Rule::Mean { of, .. }
            | Rule::Chosen { of, .. }
            | Rule::Distinct { of, .. }
            | Rule::Quantiles { of, .. } => is_there(*of),
            Rule::Top { by, sum, .. } => is_there(*by) && sum.is_none_or(is_there),
            Rule::Funnel { by, .. } => is_there(*by),
        }
    }

    /// Adds one event that matches, if it adds anything. Panics when the state is another rule's: a broken invariant.
    #[inline]
    pub fn apply(&self, state: &mut State, event: &Occurrence) {
        match (self, state) {
            (Rule::Count, State::Count(n)) => *n += 1,
            (Rule::Sum { of, .. }, State::Sum(sum)) => {
                if let Some(number) = Number::of(event.fields[*of]) {
                    sum.add(number);
                }
            }
            (Rule::Extremum { of, toward }, State::Extremum(kept)) => {
                if let Some(number) = Number::of(event.fields[*of]) {
                    extremum::add(kept, number, *toward);
                }
            }
            (Rule::Mean { of, zero }, State::Mean(mean)) => {
                if let Some(number) = Number::of(event.fields[*of]) {
                    mean.get_or_insert_with(|| Box::new(Mean::of(zero))).add(number);
                }
            }
            (rule, state) => rule.apply_keyed(state, event),
        }
    }

    /// The kinds that read text or keep many things.
    fn apply_keyed(&self, state: &mut State, event: &Occurrence) {
        match (self, state) {
            (Rule::Chosen { of, end }, State::Chosen(kept)) => {
                if let Some(json) = event.text(*of) {
                    chosen::add(kept, event.time, event.offset, json, *end);
                }
            }
            (Rule::Distinct { of, exact_up_to }, State::Distinct(distinct)) => {
                if let Some(key) = event.text(*of) {
                    distinct.add(fingerprint(key), *exact_up_to);
                }
            }
            (Rule::Top { by, sum, zero, exact_up_to, .. }, State::Top(top)) => {
                let weight = sum.map_or(Some(Number::Int(1)), |sum| Number::of(event.fields[sum]));
                if let (Some(key), Some(weight)) = (event.text(*by), weight) {
                    top.add(key, weight, zero, *exact_up_to);
                }
            }
            (Rule::Quantiles { of, .. }, State::Quantiles(quantiles)) => {
                if let Some(number) = Number::of(event.fields[*of]) {
                    quantiles.add(number);
                }
            }
            (Rule::Funnel { by, stages, exact_up_to, .. }, State::Funnel(funnel)) => {
                let stage = stages.iter().position(|stage| *stage == event.event_type);
                if let (Some(key), Some(stage)) = (event.text(*by), stage) {
                    funnel.add(fingerprint(key), stage as u32, *exact_up_to);
                }
            }
            (rule, state) => unreachable!("rule {rule:?} with state {state:?}"),
        }
    }

    /// Adds what another state has seen.
    pub fn merge(&self, state: &mut State, other: &State, of: Of) {
        match (self, state, other) {
            (Rule::Count, State::Count(n), State::Count(m)) => *n += m,
            (Rule::Sum { .. }, State::Sum(a), State::Sum(b)) => a.merge(b),
            (Rule::Extremum { toward, .. }, State::Extremum(a), State::Extremum(b)) => {
                if let Some(b) = b {
                    extremum::add(a, **b, *toward);
                }
            }
            (Rule::Mean { zero, .. }, State::Mean(a), State::Mean(b)) => {
                if let Some(b) = b {
                    a.get_or_insert_with(|| Box::new(Mean::of(zero))).merge(b);
                }
            }
            (Rule::Chosen { end, .. }, State::Chosen(a), State::Chosen(b)) => {
                if let Some(b) = b {
                    chosen::merge(a, b, *end, of);
                }
            }
            (Rule::Distinct { exact_up_to, .. }, State::Distinct(a), State::Distinct(b)) => a.merge(b, *exact_up_to),
            (Rule::Top { exact_up_to, .. }, State::Top(a), State::Top(b)) => a.merge(b, *exact_up_to),
            (Rule::Quantiles { .. }, State::Quantiles(a), State::Quantiles(b)) => a.merge(b),
            (Rule::Funnel { exact_up_to, .. }, State::Funnel(a), State::Funnel(b)) => a.merge(b, *exact_up_to),
            (rule, state, other) => unreachable!("rule {rule:?} with states {state:?} and {other:?}"),
        }
    }

    pub fn encode(&self, state: &State, w: &mut Writer) {
        match state {
            State::Count(n) => w.unsigned(*n),
            State::Sum(sum) => sum.encode(w),
            State::Extremum(kept) => extremum::encode(kept, w),
            State::Mean(mean) => match mean {
                Some(mean) => mean.encode(w),
                None => Mean::default().encode(w),
            },
            State::Chosen(kept) => chosen::encode(kept, w),
            State::Distinct(distinct) => distinct.encode(w),
            State::Top(top) => top.encode(w),
            State::Quantiles(quantiles) => quantiles.encode(w),
            State::Funnel(funnel) => funnel.encode(w),
        }
    }

    pub fn decode(&self, r: &mut Reader) -> Result<State> {
        Ok(match self {
            Rule::Count => State::Count(r.tally("a count")?),
            Rule::Sum { zero, .. } => State::Sum(Sum::decode(r, zero)?),
            Rule::Extremum { .. } => State::Extremum(extremum::decode(r)?),
            Rule::Mean { zero, .. } => State::Mean(Mean::decode(r, zero)?.map(Box::new)),
            Rule::Chosen { .. } => State::Chosen(chosen::decode(r)?),
            Rule::Distinct { exact_up_to, .. } => State::Distinct(Distinct::decode(r, *exact_up_to)?),
            Rule::Top { exact_up_to, zero, .. } => State::Top(Top::decode(r, zero, *exact_up_to)?),
            Rule::Quantiles { .. } => State::Quantiles(Quantiles::decode(r)?),
            Rule::Funnel { stages, exact_up_to, .. } => State::Funnel(Funnel::decode(r, stages.len() as u32, *exact_up_to)?),
        })
    }

    /// The value in the view.
    pub fn write_json(&self, state: &State, out: &mut String) {
        match (self, state) {
            (_, State::Count(n)) => write!(out, "{n}").expect("a string takes everything"),
            (_, State::Sum(sum)) => sum.write_json(out),
            (_, State::Extremum(kept)) => extremum::write_json(kept, out),
            (_, State::Mean(mean)) => match mean {
                Some(mean) => mean.write_json(out),
                None => out.push_str("null"),
            },
            (_, State::Chosen(kept)) => chosen::write_json(kept, out),
            (_, State::Distinct(distinct)) => distinct.write_json(out),
            (Rule::Top { limit, .. }, State::Top(top)) => top.write_json(*limit, out),
            (Rule::Quantiles { at, .. }, State::Quantiles(quantiles)) => quantiles.write_json(at, out),
            (Rule::Funnel { names, .. }, State::Funnel(funnel)) => funnel.write_json(names, out),
            (rule, state) => unreachable!("rule {rule:?} with state {state:?}"),
        }
    }
}
