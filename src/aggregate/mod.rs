//! An **aggregate**: what one definition keeps of one partial. A [`Rule`] is the definition compiled
//! against a plan's field numbers; a [`State`] is what it has seen.
//!
//! The partial hands each matching event to its rules and states in the order of the definitions.
//! Invariant: a state depends on the events it was given, in their order, alone; encoding is
//! canonical; merging is done in (topic, partition) order. A new kind is a file here and an arm in
//! each `match` below.

pub mod chosen;
pub mod extremum;
pub mod number;
pub mod sum;

use crate::codec::{Reader, Result, Writer};
use crate::decode::{Decoded, Field, Plan, Use};
use crate::definitions::Kind;
use crate::record::Batch;
use crate::time::Micros;
use chosen::{Chosen, End};
use number::Number;
use std::cmp::Ordering;
use std::fmt::Write as _;
use sum::{Mean, Sum};

/// What an aggregate does with an event, by field numbers.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    Count,
    Sum {
        of: usize,
    },
    /// `toward`: `Less` for min, `Greater` for max.
    Extremum {
        of: usize,
        toward: Ordering,
    },
    Mean {
        of: usize,
    },
    Chosen {
        of: usize,
        end: End,
    },
}

/// One event as aggregates see it.
#[derive(Clone, Copy)]
pub struct Occurrence<'a> {
    pub time: Micros,
    pub fields: &'a [Field],
    pub batch: &'a Batch,
    pub decoded: &'a Decoded,
}

/// What an aggregate has seen. Three words: an idle hunt stays small.
#[derive(Clone, Debug)]
pub enum State {
    Count(u64),
    Sum(Sum),
    Extremum(Option<Box<Number>>),
    Mean(Option<Box<Mean>>),
    Chosen(Option<Box<Chosen>>),
}

impl Rule {
    /// `None` for a kind this version does not fold; the configuration refuses those before.
    pub fn new(kind: &Kind, plan: &Plan) -> Option<Rule> {
        let number = |pointer| plan.field(pointer, Use::Number);
        let json = |pointer| plan.field(pointer, Use::Json);
        Some(match kind {
            Kind::Count => Rule::Count,
            Kind::Sum { of } => Rule::Sum { of: number(of) },
            Kind::Min { of } => Rule::Extremum { of: number(of), toward: Ordering::Less },
            Kind::Max { of } => Rule::Extremum { of: number(of), toward: Ordering::Greater },
            Kind::Mean { of } => Rule::Mean { of: number(of) },
            Kind::First { of } => Rule::Chosen { of: json(of), end: End::First },
            Kind::Last { of } => Rule::Chosen { of: json(of), end: End::Last },
            Kind::Distinct { .. } | Kind::Top { .. } | Kind::Quantiles { .. } | Kind::Funnel { .. } => return None,
        })
    }

    /// The state before any event.
    pub fn start(&self) -> State {
        match self {
            Rule::Count => State::Count(0),
            Rule::Sum { .. } => State::Sum(Sum::default()),
            Rule::Extremum { .. } => State::Extremum(None),
            Rule::Mean { .. } => State::Mean(None),
            Rule::Chosen { .. } => State::Chosen(None),
        }
    }

    /// No state of this rule encodes to more bytes.
    pub fn largest_encoding(&self) -> usize {
        match self {
            Rule::Count => 1 + 10,
            Rule::Sum { .. } => 1 + 19 + 8,
            Rule::Extremum { .. } => 2 + 19,
            Rule::Mean { .. } => 10 + 1 + 19 + 8,
            Rule::Chosen { .. } => 1 + 10 + 2 + 1024,
        }
    }

    /// Adds one event that matches. Panics when the state is another rule's: a broken invariant.
    #[inline]
    pub fn apply(&self, state: &mut State, event: &Occurrence) {
        match (self, state) {
            (Rule::Count, State::Count(n)) => *n += 1,
            (Rule::Sum { of }, State::Sum(sum)) => {
                if let Some(number) = Number::of(event.fields[*of]) {
                    sum.add(number);
                }
            }
            (Rule::Extremum { of, toward }, State::Extremum(kept)) => {
                if let Some(number) = Number::of(event.fields[*of]) {
                    extremum::add(kept, number, *toward);
                }
            }
            (Rule::Mean { of }, State::Mean(mean)) => {
                if let Some(number) = Number::of(event.fields[*of]) {
                    mean.get_or_insert_default().add(number);
                }
            }
            (Rule::Chosen { of, end }, State::Chosen(kept)) => {
                if let Field::Text(span) = event.fields[*of] {
                    chosen::add(kept, event.time, event.decoded.text(event.batch, span), *end);
                }
            }
            (rule, state) => unreachable!("rule {rule:?} with state {state:?}"),
        }
    }

    /// Adds what a later partial, in (topic, partition) order, has seen.
    pub fn merge(&self, state: &mut State, later: &State) {
        match (self, state, later) {
            (Rule::Count, State::Count(n), State::Count(m)) => *n += m,
            (Rule::Sum { .. }, State::Sum(a), State::Sum(b)) => a.merge(b),
            (Rule::Extremum { toward, .. }, State::Extremum(a), State::Extremum(Some(b))) => extremum::add(a, **b, *toward),
            (Rule::Mean { .. }, State::Mean(a), State::Mean(Some(b))) => a.get_or_insert_default().merge(b),
            (Rule::Chosen { end, .. }, State::Chosen(a), State::Chosen(Some(b))) => chosen::add(a, b.time, &b.json, *end),
            (_, State::Extremum(_), State::Extremum(None)) => {}
            (_, State::Mean(_), State::Mean(None)) => {}
            (_, State::Chosen(_), State::Chosen(None)) => {}
            (rule, state, later) => unreachable!("rule {rule:?} with states {state:?} and {later:?}"),
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
        }
    }

    pub fn decode(&self, r: &mut Reader) -> Result<State> {
        Ok(match self {
            Rule::Count => State::Count(r.tally("a count")?),
            Rule::Sum { .. } => State::Sum(Sum::decode(r)?),
            Rule::Extremum { .. } => State::Extremum(extremum::decode(r)?),
            Rule::Mean { .. } => State::Mean(Mean::decode(r)?.map(Box::new)),
            Rule::Chosen { .. } => State::Chosen(chosen::decode(r)?),
        })
    }

    /// The value in the view.
    pub fn write_json(&self, state: &State, out: &mut String) {
        match state {
            State::Count(n) => write!(out, "{n}").expect("a string takes everything"),
            State::Sum(sum) => sum.write_json(out),
            State::Extremum(kept) => extremum::write_json(kept, out),
            State::Mean(mean) => match mean {
                Some(mean) => mean.write_json(out),
                None => out.push_str("null"),
            },
            State::Chosen(kept) => chosen::write_json(kept, out),
        }
    }
}
