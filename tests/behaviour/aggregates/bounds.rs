//! **Bounds**: beyond the exact range a value is an estimate, and what the contract promises of it is held against the oracle, which
//! stays exact: of hunts in several partitions, of windows, and of the rollup.

use super::super::engine::{Case, Engine};
use crate::oracle::json::{Json, Number};
use crate::oracle::{Definitions, Partition, Record, recompute};
use fastrand::Rng;
use std::collections::BTreeMap;

const NOW_MS: i64 = 1_767_225_600_000;

/// `limit` is as great as the range, so that a view names every key that a summary kept.
const DEFINITIONS: &str = r#"
[time]
lateness = "30d"
[aggregates.distinct]
kind = "distinct"
of = "/data/k"
exact_up_to = 64
[aggregates.distinct_windowed]
kind = "distinct"
of = "/data/k"
exact_up_to = 16
window = { tumbling = "1h" }
[aggregates.top]
kind = "top"
by = "/data/k"
sum = "/data/w"
limit = 80
exact_up_to = 80
[aggregates.top_counted]
kind = "top"
by = "/data/k"
limit = 10
exact_up_to = 100
[aggregates.top_windowed]
kind = "top"
by = "/data/k"
sum = "/data/w"
limit = 50
exact_up_to = 50
window = { hopping = "1h", every = "30m" }
[aggregates.quantiles]
kind = "quantiles"
of = "/data/x"
at = [0.001, 0.25, 0.5, 0.95, 0.999, 1.0]
[aggregates.quantiles_windowed]
kind = "quantiles"
of = "/data/x"
window = { session = "1s" }
[aggregates.funnel]
kind = "funnel"
by = "/data/k"
stages = ["s0", "s1", "s2"]
exact_up_to = 250
[aggregates.funnel_windowed]
kind = "funnel"
by = "/data/k"
stages = ["s0", "s1"]
exact_up_to = 200
window = { tumbling = "2h" }
[rollup]
aggregates = ["distinct", "distinct_windowed", "top", "top_counted", "top_windowed", "quantiles", "funnel", "funnel_windowed"]
"#;

/// Every key goes through as many stages as it is lucky; the first keys weigh most, and some weights are below nothing.
fn stream(seed: u64, hunts: usize, keys: usize, events: usize) -> Vec<(Partition, Record)> {
    let mut rng = Rng::with_seed(seed);
    let mut offsets: BTreeMap<i32, i64> = BTreeMap::new();
    let mut stream = Vec::new();
    let negative = seed.is_multiple_of(3);
    for n in 0..events {
        let key = if rng.bool() { n % keys } else { (rng.f64().powi(4) * keys as f64) as usize };
        let weight = match rng.u8(..10) {
            0 if negative => -rng.i64(1..40),
            _ => rng.i64(1..40),
        };
        // As far as a key goes depends on the key: two of three pass each stage.
        let far = fastrand::Rng::with_seed(seed ^ key as u64).u32(..9);
        let stage = rng.u32(
            ..=match far {
                0..3 => 0,
                3..5 => 1,
                _ => 2,
            },
        );
        let x = rng.f64().powi(9) * 1e6 - if negative { 3.0 } else { 0.0 };
        let value =
            format!(r#"{{"type":"s{stage}","data":{{"k":"key {key} of {seed}","w":{weight},"a":{},"x":{x}}}}}"#, weight.abs());
        let partition = rng.i32(..3);
        let offset = offsets.entry(partition).or_default();
        let record = Record {
            offset: *offset,
            timestamp_ms: NOW_MS + n as i64 * 3_600_000 * 3 / events as i64,
            key: Some(format!("h{}", rng.usize(..hunts)).into_bytes()),
            value: Some(value.into_bytes()),
            headers: Vec::new(),
        };
        *offset += 1;
        stream.push((("topic".to_owned(), partition), record));
    }
    stream
}

/// As the oracle reads them: no key is left out, and what all weights come to stands beside.
fn exact_definitions() -> Definitions {
    let limits = ["limit = 80", "limit = 10\n", "limit = 50"];
    let text = limits.iter().fold(DEFINITIONS.to_owned(), |text, limit| text.replace(limit, "limit = 1000000\n"));
    let weights = "[aggregates.weight]\nkind = \"sum\"\nof = \"/data/a\"\n\
                   [aggregates.weight_windowed]\nkind = \"sum\"\nof = \"/data/a\"\nwindow = { hopping = \"1h\", every = \"30m\" }\n[rollup]";
    let text = text.replace("[rollup]", weights).replace("aggregates = [", "aggregates = [\"weight\", \"weight_windowed\", ");
    Definitions::from_toml(&text)
}

#[test]
fn estimates_are_within_the_bounds_that_are_promised() {
    let definitions = exact_definitions();
    let (mut estimated, mut checked) = (BTreeMap::<&str, usize>::new(), 0);
    for seed in 0..8 {
        let (hunts, keys) = [(1, 900), (3, 400), (2, 120), (1, 2_000)][seed as usize % 4];
        let case = Case { seed, ..Case::new(format!("seed {seed}"), DEFINITIONS.to_owned(), stream(seed, hunts, keys, 8_000)) };
        let log = case.stream.iter().fold(crate::oracle::Log::new(), |mut log, (partition, record)| {
            log.entry(partition.clone()).or_default().push(record.clone());
            log
        });
        let said = recompute(&definitions, &log, &BTreeMap::new());
        let engine = Engine::of(&case);
        for (hunt, view) in engine.views() {
            checked += 1;
            let view = Json::read(view.as_bytes()).expect("a view");
            within_bounds(&format!("seed {seed}, {hunt}"), &said.hunts[&hunt].view, &view, &mut estimated);
        }
        let rollup = engine.rollup().into_iter().map(|(name, value)| (name, Json::read(value.as_bytes()).expect("a value")));
        let rollup: BTreeMap<String, Json> = rollup.collect();
        let object = |of: &BTreeMap<String, Json>| Json::object(of.iter().map(|(name, value)| (name.as_str(), value.clone())));
        within_bounds(&format!("seed {seed}, rollup"), &object(&said.rollup), &object(&rollup), &mut estimated);
    }
    assert!(checked >= 8);
    for kind in ["distinct", "top", "funnel", "quantiles"] {
        assert!(estimated.get(kind).is_some_and(|n| *n > 25), "{estimated:?}");
    }
}

/// Panics at the first value that is further from the exact one than it may be.
fn within_bounds(whose: &str, exact: &Json, found: &Json, estimated: &mut BTreeMap<&'static str, usize>) {
    let at = |view: &Json, name: &str| view.at(&[name.to_owned()]).unwrap_or_else(|| panic!("{whose}: no {name}")).clone();
    let pair = |name: &str| (at(exact, name), at(found, name));
    let mut note = |kind: &'static str, times: usize| *estimated.entry(kind).or_default() += times;
    let each = |name: &str| windows(whose, name, &at(exact, name), &at(found, name));

    let (e, f) = pair("distinct");
    note("distinct", distinct(whose, &e, &f, 64));
    for (e, f) in each("distinct_windowed") {
        note("distinct", distinct(whose, &e, &f, 16));
    }
    let (e, f) = pair("top");
    note("top", top(whose, &e, &f, 80, 80, number(&at(exact, "weight"))));
    let (e, f) = pair("top_counted");
    let counted = items(&e).map(|item| number(&at(item, "value"))).sum();
    note("top", top(whose, &e, &f, 100, 10, counted));
    let weights = windows(whose, "weight_windowed", &at(exact, "weight_windowed"), &at(exact, "weight_windowed"));
    for ((e, f), (weight, _)) in each("top_windowed").into_iter().zip(weights) {
        note("top", top(whose, &e, &f, 50, 50, number(&weight)));
    }
    let (e, f) = pair("quantiles");
    note("quantiles", quantiles(whose, &e, &f));
    if found.at(&["quantiles_windowed".to_owned()]).is_some() {
        for (e, f) in each("quantiles_windowed") {
            note("quantiles", quantiles(whose, &e, &f));
        }
    }
    let (e, f) = pair("funnel");
    note("funnel", funnel(whose, &e, &f));
    for (e, f) in each("funnel_windowed") {
        note("funnel", funnel(whose, &e, &f));
    }
}

/// The values of the same windows.
fn windows(whose: &str, name: &str, exact: &Json, found: &Json) -> Vec<(Json, Json)> {
    let field = |item: &Json, field: &str| item.at(&[field.to_owned()]).cloned().expect("a window has all three");
    let pairs: Vec<_> = items(exact).zip(items(found)).collect();
    assert_eq!(items(exact).count(), items(found).count(), "{whose}: windows of {name}");
    for (e, f) in &pairs {
        let same = |at: &str| moment(&field(e, at)) == moment(&field(f, at));
        assert!(same("start") && same("end"), "{whose}, {name}: {e} and {f}");
    }
    pairs.into_iter().map(|(e, f)| (field(e, "value"), field(f, "value"))).collect()
}

fn moment(text: &Json) -> Option<huntline::time::Micros> {
    let Json::Text(text) = text else { return None };
    Some(huntline::time::Micros::parse_rfc3339(&text.0).expect("a time"))
}

/// Within four times 1 %. Each of these says whether it was an estimate, as 1 or 0.
fn distinct(whose: &str, exact: &Json, found: &Json, exact_up_to: usize) -> usize {
    let (e, f) = (number(exact), number(found));
    if e <= exact_up_to as f64 {
        assert_eq!(e, f, "{whose}: distinct within the exact range");
        return 0;
    }
    assert!((e - f).abs() <= 0.04 * e, "{whose}: distinct is {e}, estimated at {f}");
    1
}

/// `weight`: of all events, without their signs.
fn top(whose: &str, exact: &Json, found: &Json, exact_up_to: usize, limit: usize, weight: f64) -> usize {
    let of = |item: &Json, name: &str| item.at(&[name.to_owned()]).cloned();
    let truth: BTreeMap<String, f64> = items(exact)
        .map(|item| (of(item, "key").expect("a key").to_string(), number(&of(item, "value").expect("a value"))))
        .collect();
    let shown: Vec<(String, f64, Option<f64>)> = items(found)
        .map(|item| {
            let value = number(&of(item, "value").expect("a value"));
            (of(item, "key").expect("a key").to_string(), value, of(item, "error").map(|error| number(&error)))
        })
        .collect();
    assert!(shown.len() <= limit, "{whose}: {} keys", shown.len());
    assert!(shown.is_sorted_by(|a, b| a.1 > b.1 || (a.1 == b.1 && a.0 <= b.0)), "{whose}: {found}");
    let bound = 2.0 * weight / exact_up_to as f64;
    for (key, value, error) in &shown {
        let error = error.unwrap_or(0.0);
        assert!(error <= bound + 1e-9, "{whose}: {key} errs by {error}, promised are {bound}");
        let truth = truth.get(key).copied().unwrap_or(0.0);
        assert!((truth - value).abs() <= error + 1e-9, "{whose}: {key} is {truth}, shown {value} with an error of {error}");
    }
    let estimated = shown.iter().any(|(_, _, error)| error.is_some());
    assert!(estimated || truth.len().min(limit) == shown.len(), "{whose}: exact, but not whole");
    assert!(estimated || truth.len() <= exact_up_to, "{whose}: {} keys without an error", truth.len());
    // A key that is not shown is not far above the last that is.
    let least = if shown.len() == limit { shown.last().map_or(0.0, |(_, value, _)| *value) } else { 0.0 };
    for (key, truth) in truth.iter().filter(|(key, _)| shown.iter().all(|(other, _, _)| other != *key)) {
        assert!(
            *truth <= least.max(0.0) + bound + 1e-9,
            "{whose}: {key} is {truth}, the last shown {least}, promised are {bound}"
        );
    }
    usize::from(estimated)
}

fn quantiles(whose: &str, exact: &Json, found: &Json) -> usize {
    let (Json::Object(e), Json::Object(f)) = (exact, found) else { panic!("{whose}: {exact}, {found}") };
    assert!(e.keys().eq(f.keys()), "{whose}: {exact}, {found}");
    for (name, value) in e {
        let (e, f) = (number(value), number(&f[name]));
        assert!((e - f).abs() <= 0.01 * e.abs(), "{whose}: {name:?} is {e}, found {f}");
    }
    1
}

/// Within five standard errors.
fn funnel(whose: &str, exact: &Json, found: &Json) -> usize {
    let of = |item: &Json, name: &str| item.at(&[name.to_owned()]).map(number);
    let mut estimated = 0;
    for (e, f) in items(exact).zip(items(found)) {
        let (truth, count, error) = (of(e, "count").expect("a count"), of(f, "count").expect("a count"), of(f, "error"));
        estimated |= usize::from(error.is_some());
        assert!((truth - count).abs() <= 5.0 * error.unwrap_or(0.0), "{whose}: the funnel is {exact}, found {found}");
    }
    assert_eq!(items(exact).count(), items(found).count());
    estimated
}

fn items(list: &Json) -> impl Iterator<Item = &Json> {
    let Json::Array(items) = list else { panic!("{list} is no list") };
    items.iter()
}

fn number(json: &Json) -> f64 {
    let Json::Number(token) = json else { panic!("{json} is no number") };
    Number::of_token(token).to_f64()
}
