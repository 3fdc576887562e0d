//! A **cell** is what one aggregate has taken in: of a partial, or of one window of it. The fold adds contributions in offset
//! order, merges the cells of partials in (topic, partition) order, and asks for the value that a view shows.
//!
//! Invariant: always exact. Nothing is sketched: keys and numbers are all kept, so no value has an `"error"`.

use super::definitions::Kind;
use super::event::Contribution;
use super::json::{Json, Number};
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
    Weights(BTreeMap<String, Total>),
    Numbers(Vec<Number>),
    /// The stages that each key was seen at.
    Stages(BTreeMap<String, BTreeSet<usize>>),
}

/// A sum: of integers exact, of floats in the order of their coming.
#[derive(Clone, Copy, Debug, Default)]
pub struct Total {
    integers: i128,
    floats: Option<f64>,
}

impl Total {
    fn add(&mut self, number: Number) {
        match number {
            Number::Integer(i) => self.integers += i,
            Number::Float(f) => self.floats = Some(self.floats.map_or(f, |sum| sum + f)),
        }
    }

    fn merge(&mut self, other: Total) {
        self.integers += other.integers;
        if let Some(f) = other.floats {
            self.add(Number::Float(f));
        }
    }

    fn number(self) -> Number {
        self.floats.map_or(Number::Integer(self.integers), |f| Number::Float(self.integers as f64 + f))
    }
}

impl Cell {
    pub fn new(kind: &Kind) -> Cell {
        match kind {
            Kind::Count => Cell::Count(0),
            Kind::Sum(_) => Cell::Sum(Total::default()),
            Kind::Min(_) | Kind::Max(_) => Cell::Extremum(None),
            Kind::Mean(_) => Cell::Mean(Total::default(), 0),
            Kind::First(_) | Kind::Last(_) => Cell::Valued(None),
            Kind::Distinct(_) => Cell::Keys(BTreeSet::new()),
            Kind::Top { .. } => Cell::Weights(BTreeMap::new()),
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
            (Cell::Weights(weights), Contribution::Weight(key, weight)) => weights.entry(key.clone()).or_default().add(*weight),
            (Cell::Numbers(numbers), Contribution::Number(number)) => numbers.push(*number),
            (Cell::Stages(seen), Contribution::Stages(key, stages)) => seen.entry(key.clone()).or_default().extend(stages),
            (cell, other) => panic!("{other:?} does not belong in {cell:?}"),
        }
    }

    pub fn merge(&mut self, kind: &Kind, other: &Cell) {
        match (self, other) {
            (Cell::Count(n), Cell::Count(m)) => *n += m,
            (Cell::Sum(total), Cell::Sum(other)) => total.merge(*other),
            (Cell::Extremum(extremum), Cell::Extremum(other)) => {
                if let Some(number) = other {
                    extreme(kind, extremum, *number);
                }
            }
            (Cell::Mean(total, n), Cell::Mean(other, m)) => {
                total.merge(*other);
                *n += m;
            }
            (Cell::Valued(held), Cell::Valued(other)) => {
                if let Some(other) = other {
                    outer(kind, held, other.clone());
                }
            }
            (Cell::Keys(keys), Cell::Keys(other)) => keys.extend(other.iter().cloned()),
            (Cell::Weights(weights), Cell::Weights(other)) => {
                for (key, total) in other {
                    weights.entry(key.clone()).or_default().merge(*total);
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
            (Cell::Weights(weights), Kind::Top { limit, .. }) => top(weights, *limit),
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
        (crate::oracle::json::Text(quantile_name(q).into_bytes()), sorted[rank as usize - 1].to_json())
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
mod tests {
    use super::*;

    fn numbers(kind: Kind, tokens: &[&str]) -> String {
        let mut cell = Cell::new(&kind);
        for token in tokens {
            cell.add(&kind, &Contribution::Number(Number::of_token(token)), &(0, String::new(), 0, 0));
        }
        cell.value(&kind).to_string()
    }

    #[test]
    fn sums_of_integers_are_exact_and_one_float_makes_a_float() {
        let sum = |tokens: &[&str]| numbers(Kind::Sum(vec![]), tokens);
        assert_eq!(sum(&[]), "0");
        assert_eq!(sum(&["18446744073709551615", "18446744073709551615", "1"]), "36893488147419103231");
        assert_eq!(sum(&["-9223372036854775808", "-9223372036854775808"]), "-18446744073709551616");
        assert_eq!(sum(&["1", "2", "0.5"]), "3.5");
        assert_eq!(sum(&["1.0", "-1"]), "0.0");
        assert_eq!(sum(&["18446744073709551616"]), "1.8446744073709552e19");
        assert_eq!(sum(&["1e308", "1e308"]), "null");
    }

    #[test]
    fn a_mean_is_null_before_anything_and_outside_doubles() {
        let mean = |tokens: &[&str]| numbers(Kind::Mean(vec![]), tokens);
        assert_eq!(mean(&[]), "null");
        assert_eq!(mean(&["1", "2"]), "1.5");
        assert_eq!(mean(&["4", "2"]), "3.0");
        assert_eq!(mean(&["1e308", "1e308"]), "null");
    }

    #[test]
    fn extrema_compare_integers_with_floats_exactly() {
        let max = |tokens: &[&str]| numbers(Kind::Max(vec![]), tokens);
        assert_eq!(max(&[]), "null");
        assert_eq!(max(&["9007199254740993", "9007199254740992.0"]), "9007199254740993");
        assert_eq!(max(&["18446744073709551615", "18446744073709551616"]), "1.8446744073709552e19");
        assert_eq!(numbers(Kind::Min(vec![]), &["0.5", "-1", "0"]), "-1");
    }

    #[test]
    fn quantiles_take_the_value_of_rank_q_times_n_rounded_up() {
        let at = |qs: &[&str], n: u32| {
            let tokens: Vec<String> = (1..=n).rev().map(|i| i.to_string()).collect();
            let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
            numbers(Kind::Quantiles { of: vec![], at: qs.iter().map(|q| q.to_string()).collect() }, &tokens)
        };
        assert_eq!(at(&["0.5"], 0), "null");
        assert_eq!(at(&["0.5"], 1), r#"{"p50":1}"#);
        assert_eq!(at(&["0.5", "0.95", "0.99"], 100), r#"{"p50":50,"p95":95,"p99":99}"#);
        assert_eq!(at(&["0.07", "0", "1", "0.999"], 100), r#"{"p0":1,"p100":100,"p7":7,"p99.9":100}"#);
        assert_eq!(at(&["0.5"], 3), r#"{"p50":2}"#);
        assert_eq!(quantile_name("0.9995"), "p99.95");
        assert_eq!(quantile_name("0.005"), "p0.5");
    }

    #[test]
    fn a_top_is_greatest_first_and_equal_values_by_key() {
        let kind = Kind::Top { by: vec![], sum: Some(vec![]), limit: 3 };
        let mut cell = Cell::new(&kind);
        assert_eq!(cell.value(&kind).to_string(), "[]");
        for (key, weight) in [("b", "2"), ("a", "1"), ("a", "1.0"), ("c", "-5"), ("d", "7"), ("é", "0")] {
            cell.add(&kind, &Contribution::Weight(key.into(), Number::of_token(weight)), &(0, String::new(), 0, 0));
        }
        assert_eq!(cell.value(&kind).to_string(), r#"[{"key":"d","value":7},{"key":"a","value":2.0},{"key":"b","value":2}]"#);
    }

    #[test]
    fn a_funnel_counts_keys_seen_at_a_stage_and_all_before_it_in_any_order() {
        let kind = Kind::Funnel { by: vec![], stages: ["r", "h", "s"].map(String::from).to_vec() };
        let mut cell = Cell::new(&kind);
        let counts = |cell: &Cell| match cell.value(&kind) {
            Json::Array(stages) => {
                stages.iter().map(|s| s.at(&["count".into()]).unwrap().to_string()).collect::<Vec<_>>().join(" ")
            }
            other => panic!("{other}"),
        };
        assert_eq!(counts(&cell), "0 0 0");
        for (key, stage) in [("a", 2), ("a", 0), ("b", 1), ("b", 0), ("c", 2), ("c", 1), ("b", 0)] {
            cell.add(&kind, &Contribution::Stages(key.into(), vec![stage]), &(0, String::new(), 0, 0));
        }
        assert_eq!(counts(&cell), "2 1 0");
        let mut more = Cell::new(&kind);
        more.add(&kind, &Contribution::Stages("a".into(), vec![1]), &(0, String::new(), 0, 0));
        cell.merge(&kind, &more);
        assert_eq!(counts(&cell), "2 2 1");
    }

    #[test]
    fn first_and_last_go_by_event_time_then_topic_partition_and_offset() {
        let rank = |time: i128, topic: &str, partition, offset| (time, topic.to_owned(), partition, offset);
        for (kind, expected) in [(Kind::First(vec![]), "2"), (Kind::Last(vec![]), "5")] {
            let mut cell = Cell::new(&kind);
            let all = [
                (rank(5, "a", 0, 3), "1"),
                (rank(4, "a", 0, 4), "2"),
                (rank(4, "a", 0, 5), "3"),
                (rank(5, "a", 1, 0), "4"),
                (rank(5, "b", 0, 0), "5"),
                (rank(4, "b", 0, 1), "6"),
            ];
            for (rank, value) in all {
                cell.add(&kind, &Contribution::Value(Json::Number(value.into())), &rank);
            }
            assert_eq!(cell.value(&kind).to_string(), expected);
        }
    }
}
