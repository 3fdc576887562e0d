//! A **cell** is what one aggregate has taken in: of a partial, or of one window of it. The fold adds contributions in offset
//! order, merges the cells of partials in (topic, partition) order, and asks for the value that a view shows.
//!
//! Invariant: always exact. Nothing is sketched: keys and numbers are all kept, so no value has an `"error"`.

use super::definitions::Kind;
use super::event::Contribution;
use super::exact::Exact;
use super::json::{Json, Number, Text};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Where an event stands among all events of its hunt: event time, topic, partition, offset.
pub type Rank = (i128, String, i32, i64);

#[derive(Clone, Debug)]
pub enum Cell {
    Count(i128),
    Sum(Total),
    /// The least or the greatest number; of equal ones the first.
    Extremum(Option<Number>),
    Mean(Total, i128),
    Valued(Option<(Rank, Json)>),
    Keys(BTreeSet<String>),
    /// By key; a new one begins at `zero`.
    Weights {
        of: BTreeMap<String, Total>,
        zero: Total,
    },
    Numbers(Vec<Number>),
    /// The stages that each key was seen at.
    Stages(BTreeMap<String, BTreeSet<usize>>),
}

/// A sum: of integers exact; of floats as a view has it, each added to the sum of those before, or as a rollup has it, exact.
#[derive(Clone, Debug)]
pub struct Total {
    integers: i128,
    floats: Floats,
}

#[derive(Clone, Debug)]
enum Floats {
    None,
    InOrder(f64),
    Exact { sum: Box<Exact>, any: bool },
}

impl Total {
    fn of_view() -> Total {
        Total { integers: 0, floats: Floats::None }
    }

    fn of_rollup() -> Total {
        Total { integers: 0, floats: Floats::Exact { sum: Box::new(Exact::zero()), any: false } }
    }

    fn add(&mut self, number: Number) {
        match (number, &mut self.floats) {
            (Number::Integer(i), _) => self.integers += i,
            (Number::Float(f), Floats::InOrder(sum)) => *sum += f,
            (Number::Float(f), Floats::Exact { sum, any }) => {
                sum.add_float(f);
                *any = true;
            }
            (Number::Float(f), none) => *none = Floats::InOrder(f),
        }
    }

    fn merge(&mut self, other: &Total) {
        self.integers += other.integers;
        match other.floats {
            Floats::None => {}
            Floats::InOrder(f) => self.add(Number::Float(f)),
            Floats::Exact { .. } => panic!("a rollup is not merged into anything"),
        }
    }

    fn number(&self) -> Number {
        match &self.floats {
            Floats::None | Floats::Exact { any: false, .. } => Number::Integer(self.integers),
            Floats::InOrder(f) => Number::Float(self.integers as f64 + f),
            Floats::Exact { sum, .. } => {
                let mut sum = sum.clone();
                sum.add_integer(self.integers);
                Number::Float(sum.to_f64())
            }
        }
    }
}

impl Cell {
    /// Of a partial, a window of one, or a view.
    pub fn new(kind: &Kind) -> Cell {
        Cell::summing(kind, Total::of_view())
    }

    /// Of a rollup: contributions are added to it, never cells.
    pub fn of_rollup(kind: &Kind) -> Cell {
        Cell::summing(kind, Total::of_rollup())
    }

    fn summing(kind: &Kind, zero: Total) -> Cell {
        match kind {
            Kind::Count => Cell::Count(0),
            Kind::Sum(_) => Cell::Sum(zero),
            Kind::Min(_) | Kind::Max(_) => Cell::Extremum(None),
            Kind::Mean(_) => Cell::Mean(zero, 0),
            Kind::First(_) | Kind::Last(_) => Cell::Valued(None),
            Kind::Distinct(_) => Cell::Keys(BTreeSet::new()),
            Kind::Top { .. } => Cell::Weights { of: BTreeMap::new(), zero },
            Kind::Quantiles { .. } => Cell::Numbers(Vec::new()),
            Kind::Funnel { .. } => Cell::Stages(BTreeMap::new()),
        }
    }

    pub fn add(&mut self, kind: &Kind, contribution: &Contribution, rank: &Rank) {
        match (self, contribution) {
            (Cell::Count(n), Contribution::One) => *n += 1,
            (Cell::Sum(total), Contribution::Number(number)) => total.add(*number),
            (Cell::Extremum(extremum), Contribution::Number(number)) => extreme(kind, extremum, *number),
            (Cell::Mean(total, n), Contribution::Number(number)) => {
                total.add(*number);
                *n += 1;
            }
            (Cell::Valued(held), Contribution::Value(value)) => outer(kind, held, (rank.clone(), value.clone())),
            (Cell::Keys(keys), Contribution::Key(key)) => {
                keys.insert(key.clone());
            }
            (Cell::Weights { of, zero }, Contribution::Weight(key, weight)) => {
                of.entry(key.clone()).or_insert(zero.clone()).add(*weight)
            }
            (Cell::Numbers(numbers), Contribution::Number(number)) => numbers.push(*number),
            (Cell::Stages(seen), Contribution::Stages(key, stages)) => seen.entry(key.clone()).or_default().extend(stages),
            (cell, other) => panic!("{other:?} does not belong in {cell:?}"),
        }
    }

    pub fn merge(&mut self, kind: &Kind, other: &Cell) {
        match (self, other) {
            (Cell::Count(n), Cell::Count(m)) => *n += m,
            (Cell::Sum(total), Cell::Sum(other)) => total.merge(other),
            (Cell::Extremum(extremum), Cell::Extremum(other)) => {
                if let Some(number) = other {
                    extreme(kind, extremum, *number);
                }
            }
            (Cell::Mean(total, n), Cell::Mean(other, m)) => {
                total.merge(other);
                *n += m;
            }
            (Cell::Valued(held), Cell::Valued(other)) => {
                if let Some(other) = other {
                    outer(kind, held, other.clone());
                }
            }
            (Cell::Keys(keys), Cell::Keys(other)) => keys.extend(other.iter().cloned()),
            (Cell::Weights { of, zero }, Cell::Weights { of: other, .. }) => {
                for (key, total) in other {
                    of.entry(key.clone()).or_insert(zero.clone()).merge(total);
                }
            }
            (Cell::Numbers(numbers), Cell::Numbers(other)) => numbers.extend(other),
            (Cell::Stages(seen), Cell::Stages(other)) => {
                for (key, stages) in other {
                    seen.entry(key.clone()).or_default().extend(stages);
                }
            }
            (cell, other) => panic!("{other:?} does not merge into {cell:?}"),
        }
    }

    pub fn value(&self, kind: &Kind) -> Json {
        match (self, kind) {
            (Cell::Count(n), _) => Json::integer(*n),
            (Cell::Sum(total), _) => total.number().to_json(),
            (Cell::Extremum(extremum), _) => extremum.map_or(Json::Null, Number::to_json),
            (Cell::Mean(_, 0), _) => Json::Null,
            (Cell::Mean(total, n), _) => Number::Float(total.number().to_f64() / *n as f64).to_json(),
            (Cell::Valued(held), _) => held.as_ref().map_or(Json::Null, |(_, value)| value.clone()),
            (Cell::Keys(keys), _) => Json::integer(keys.len() as i128),
            (Cell::Weights { of, .. }, Kind::Top { limit, .. }) => top(of, *limit),
            (Cell::Numbers(numbers), Kind::Quantiles { at, .. }) => quantiles(numbers, at),
            (Cell::Stages(seen), Kind::Funnel { stages, .. }) => funnel(seen, stages),
            (cell, kind) => panic!("{cell:?} is no cell of {kind:?}"),
        }
    }
}

fn extreme(kind: &Kind, held: &mut Option<Number>, number: Number) {
    let wanted = if matches!(kind, Kind::Min(_)) { Ordering::Less } else { Ordering::Greater };
    if held.is_none_or(|held| number.order(held) == wanted) {
        *held = Some(number);
    }
}

fn outer(kind: &Kind, held: &mut Option<(Rank, Json)>, other: (Rank, Json)) {
    let wanted = if matches!(kind, Kind::First(_)) { Ordering::Less } else { Ordering::Greater };
    if held.as_ref().is_none_or(|held| other.0.cmp(&held.0) == wanted) {
        *held = Some(other);
    }
}

fn top(weights: &BTreeMap<String, Total>, limit: usize) -> Json {
    let mut all: Vec<(&String, Number)> = weights.iter().map(|(key, total)| (key, total.number())).collect();
    // A stable sort of keys in their order; what left the doubles goes last (the contract names no place for it).
    all.sort_by(|a, b| match (a.1.to_f64().is_finite(), b.1.to_f64().is_finite()) {
        (true, true) => b.1.order(a.1),
        (a, b) => b.cmp(&a),
    });
    let item = |(key, number): (&String, Number)| Json::object([("key", Json::text(key)), ("value", number.to_json())]);
    Json::Array(all.into_iter().take(limit).map(item).collect())
}

/// `null` before the first number.
fn quantiles(numbers: &[Number], at: &[String]) -> Json {
    if numbers.is_empty() {
        return Json::Null;
    }
    let mut sorted = numbers.to_vec();
    sorted.sort_by(|a, b| a.order(*b));
    let members = at.iter().map(|q| {
        let (digits, scale) = decimal(q);
        // ⌈q·n⌉ from the digits themselves: 0.07 × 100 is 7, which doubles make 7.000000000000001.
        let rank = (digits * sorted.len() as u128).div_ceil(scale).clamp(1, sorted.len() as u128);
        (Text(quantile_name(q).into_bytes()), sorted[rank as usize - 1].to_json())
    });
    Json::Object(members.collect())
}

/// A decimal from 0 to 1 as its digits over a power of ten.
fn decimal(q: &str) -> (u128, u128) {
    let (whole, fraction) = q.split_once('.').unwrap_or((q, ""));
    let digits = format!("{whole}{fraction}").parse().unwrap_or_else(|_| panic!("{q:?} is no quantile"));
    (digits, 10u128.pow(fraction.len() as u32))
}

/// `p` and 100·q: p50, p99, p99.9.
pub fn quantile_name(q: &str) -> String {
    let (digits, scale) = decimal(q);
    let (whole, rest) = (digits * 100 / scale, digits * 100 % scale);
    if rest == 0 {
        return format!("p{whole}");
    }
    let fraction = format!("{rest:0width$}", width = scale.ilog10() as usize);
    format!("p{whole}.{}", fraction.trim_end_matches('0'))
}

fn funnel(seen: &BTreeMap<String, BTreeSet<usize>>, stages: &[String]) -> Json {
    let item = |(stage, name): (usize, &String)| {
        let count = seen.values().filter(|at| (0..=stage).all(|s| at.contains(&s))).count();
        Json::object([("stage", Json::text(name)), ("count", Json::integer(count as i128))])
    };
    Json::Array(stages.iter().enumerate().map(item).collect())
}

#[cfg(test)]
mod tests;
