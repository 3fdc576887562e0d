//! **Fuzzing**: what must hold for any bytes from outside, one function a target, compiled with the feature `test-hooks` alone.
//!
//! `fuzz/` calls them with bytes that a fuzzer makes up, the tests with every file of `tests/corpus`. Invariant: they only
//! return when all that they claim held; they panic otherwise.

use crate::config;
use crate::decode::predicate::Predicate;
use crate::decode::{Decoded, Plan, Verdict};
use crate::definitions::{Aggregate, Definitions, Kind};
use crate::outcome::Reason;
use crate::partial::{Fold, Folded, Partial};
use crate::position::{Epoch, Offset, Position};
use crate::record::{Batch, PartitionId};
use crate::rollup::Delta;
use crate::time::Micros;
use serde::de::IgnoredAny;
use std::fmt::Write as _;
use std::sync::LazyLock;

/// Every target: its name, which is that of its corpus, and what runs it.
pub const TARGETS: [(&str, fn(&[u8])); 4] =
    [("configuration", configuration), ("decode", decode), ("predicates", predicates), ("snapshot", snapshot)];

/// Large enough that no state is refused.
const MAX_STATE: usize = usize::MAX;
const NOW_MS: i64 = 1_767_225_600_000;

/// Definitions that read much of an event, with every kind and every window.
struct Rich {
    definitions: Definitions,
    plan: Plan,
    fold: Fold,
}

static RICH: LazyLock<Rich> = LazyLock::new(|| {
    let definitions = config::load_text(&rich()).unwrap_or_else(|problems| panic!("{problems}")).definitions;
    let plan = Plan::new(&definitions, "t");
    let fold = Fold::new(&definitions, &plan, MAX_STATE);
    Rich { definitions, plan, fold }
});

fn rich() -> String {
    let kinds = [
        ("count", "kind = \"count\"\nwhere = \"v > 0 && has(data.a) || k in ['a', 'b', 1]\""),
        ("distinct", "kind = \"distinct\"\nof = \"/k\"\nexact_up_to = 4"),
        ("first", "kind = \"first\"\nof = \"/data\""),
        ("funnel", "kind = \"funnel\"\nby = \"/k\"\nstages = [\"a\", \"b\", \"c\"]\nexact_up_to = 4"),
        ("last", "kind = \"last\"\nof = \"/v\""),
        ("max", "kind = \"max\"\nof = \"/v\""),
        ("mean", "kind = \"mean\"\nof = \"/v\"\non = [\"a*\", \"b\"]"),
        ("min", "kind = \"min\"\nof = \"/data/a\""),
        ("most", "kind = \"top\"\nby = \"/k\"\nlimit = 3\nexact_up_to = 4"),
        ("quantiles", "kind = \"quantiles\"\nof = \"/v\""),
        ("richest", "kind = \"top\"\nby = \"/k\"\nsum = \"/v\"\nlimit = 3\nexact_up_to = 4"),
        ("sum", "kind = \"sum\"\nof = \"/v\""),
    ];
    let shapes = [
        ("", ""),
        ("_hopping", "window = { hopping = \"5s\", every = \"2s\", keep = 3 }"),
        ("_session", "window = { session = \"1s\", keep = 3 }"),
        ("_tumbling", "window = { tumbling = \"2s\", keep = 3 }"),
    ];
    let mut text = "[embedded_log]\npath = \"log.db\"\n[store]\nurl = \"sqlite:store.db\"\n[dedup]\nlast = 3\n\
                    [time]\nlateness = \"1s\"\nidle = \"5s\"\n"
        .to_owned();
    let mut rolled_up = Vec::new();
    for (suffix, window) in shapes {
        for (name, keys) in kinds {
            let _ = write!(text, "[aggregates.{name}{suffix}]\n{keys}\n{window}\n");
            if suffix != "_session" {
                rolled_up.push(format!("{name}{suffix}"));
            }
        }
    }
    let _ = writeln!(text, "[rollup]\naggregates = {rolled_up:?}");
    text
}

fn batch<'v>(values: impl IntoIterator<Item = (&'v [u8], i64)>) -> Batch {
    let mut batch = Batch::new(PartitionId::new("t", 0), Epoch(1), Position(0));
    for (offset, (value, timestamp_ms)) in values.into_iter().enumerate() {
        batch.push(Offset(offset as i64), timestamp_ms, Some(b"h"), Some(value), []);
    }
    batch
}

/// Any value of a record: never a panic; JSON to us exactly when it is JSON to serde_json; what is an event folds.
pub fn decode(data: &[u8]) {
    let Rich { plan, fold, .. } = &*RICH;
    let batch = batch([(data, NOW_MS), (&b"{\"type\":\"a\"}"[..], NOW_MS)]);
    let mut decoded = Decoded::default();
    plan.decode(&batch, &mut decoded);
    let verdict = decoded.events[0].verdict;
    assert_eq!(decoded.events[1].verdict, Verdict::Event, "a neighbour");
    let is_json = std::str::from_utf8(data).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    match verdict {
        Verdict::Rejected(Reason::TooLarge) => assert!(data.len() > 1 << 20),
        Verdict::Rejected(Reason::NotJson) => assert!(!is_json, "it is JSON"),
        // What comes after the nesting is not looked at.
        Verdict::Rejected(Reason::TooDeep) => assert!(data.iter().filter(|byte| b"[{".contains(byte)).count() > 64),
        Verdict::Rejected(_) | Verdict::Event => assert!(is_json, "it is not JSON, and the verdict is {verdict:?}"),
        Verdict::Ignored => panic!("a value that is there is no tombstone"),
    }
    assert_eq!(matches!(verdict, Verdict::Rejected(_)), !plan.explain(&batch, 0).is_empty());
    let mut partial = fold.start();
    let mut delta = Delta::default();
    for index in (0..2).filter(|&index| decoded.events[index].verdict == Verdict::Event) {
        let folded = fold.apply(&mut partial, &batch, &decoded, index, Some(Micros(NOW_MS * 1000)), &mut delta);
        assert!(matches!(folded, Folded::Applied { .. } | Folded::Duplicate));
    }
    reads_back(fold, &partial);
    rolls_back(fold, &delta);
}

/// A predicate in the first line, a record's value in the rest: never a panic, and a problem stands in the text.
pub fn predicates(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, value) = text.split_once('\n').unwrap_or((text, "{}"));
    let predicate = match Predicate::parse(text) {
        Ok(predicate) => predicate,
        Err(problem) => {
            assert!(text.is_char_boundary(problem.at), "{problem}");
            return;
        }
    };
    let aggregate = Aggregate { name: "a".into(), kind: Kind::Count, on: None, filter: Some(predicate), window: None };
    let definitions = Definitions { aggregates: vec![aggregate], rollup: vec![], ..RICH.definitions.clone() };
    let plan = Plan::new(&definitions, "t");
    let records = [value, "{\"type\":\"a\"}", "{\"type\":\"a\",\"k\":\"a\",\"v\":1,\"data\":{\"a\":true,\"b\":[null]}}"];
    let batch = batch(records.map(|value| (value.as_bytes(), NOW_MS)));
    let (mut decoded, mut again) = (Decoded::default(), Decoded::default());
    plan.decode(&batch, &mut decoded);
    plan.decode(&batch, &mut again);
    for (index, (first, second)) in decoded.events.iter().zip(&again.events).enumerate() {
        assert_eq!((first.verdict, first.matches), (second.verdict, second.matches));
        assert_eq!(matches!(first.verdict, Verdict::Rejected(_)), !plan.explain(&batch, index).is_empty());
    }
}

/// Any bytes as a saved state, and states of made-up events whose bytes were altered: an error, or a state that encodes to the very
/// same bytes, can be shown, merged and folded on.
pub fn snapshot(data: &[u8]) {
    let Rich { fold, .. } = &*RICH;
    let Some((how, rest)) = data.split_first() else { return };
    let (partial, delta, bytes) = match how % 4 {
        0 => (rest.to_vec(), Vec::new(), rest),
        1 => (Vec::new(), rest.to_vec(), rest),
        _ => {
            let (events, edits) = rest.split_at(rest.len().min(usize::from(*how)) & !3);
            let (mut partial, mut delta) = (fold.start(), Delta::default());
            fold_on(&mut partial, &mut delta, events);
            (altered(fold.encode(&partial), edits), altered(fold.rollup().encode(&delta), edits), events)
        }
    };
    if let Ok(mut read) = fold.decode(&partial) {
        assert_eq!(fold.encode(&read), partial, "it encodes to other bytes");
        reads_back(fold, &read);
        let mut doubled = read.clone();
        fold.merge(&mut doubled, &read);
        shows(&fold.view(&doubled));
        fold_on(&mut read, &mut Delta::default(), bytes);
        fold_on(&mut read, &mut Delta::default(), &[1, 7, 3, 200, 2, 9, 4, 1]);
        reads_back(fold, &read);
    }
    if let Ok(mut read) = fold.rollup().decode(&delta) {
        assert_eq!(fold.rollup().encode(&read), delta, "it encodes to other bytes");
        rolls_back(fold, &read);
        let mut more = Delta::default();
        fold_on(&mut fold.start(), &mut more, bytes);
        fold.rollup().merge(&mut read, &more);
        rolls_back(fold, &read);
    }
}

/// Folds an event for each four bytes: its key, its value, its time and its type.
fn fold_on(partial: &mut Partial, delta: &mut Delta, events: &[u8]) {
    let Rich { plan, fold, .. } = &*RICH;
    let values: Vec<(String, i64)> = events
        .chunks_exact(4)
        .map(|event| {
            let [key, value, time, kind] = [event[0], event[1], event[2], event[3]].map(i64::from);
            let value = match value % 4 {
                0 => format!("{}", value - 128),
                1 => format!("{}.5", value * value),
                2 => format!("{}e{}", value - 128, value),
                _ => "18446744073709551615".to_owned(),
            };
            let at = NOW_MS + time * 100;
            let letter = ['a', 'b', 'c'][kind as usize % 3];
            (
                format!(
                    r#"{{"id":"{}","type":"{letter}","time":{at},"v":{value},"k":"k{}","data":{{"a":{kind}}}}}"#,
                    key / 8,
                    key % 8
                ),
                at,
            )
        })
        .collect();
    let batch = batch(values.iter().map(|(value, at)| (value.as_bytes(), *at)));
    let mut decoded = Decoded::default();
    plan.decode(&batch, &mut decoded);
    let mut clock = None;
    for (index, record) in batch.records.iter().enumerate() {
        if decoded.events[index].verdict == Verdict::Event {
            fold.apply(partial, &batch, &decoded, index, clock, delta);
        }
        clock = clock.max(Micros::of_record_timestamp(record.timestamp_ms));
    }
}

/// Each three bytes alter one: its place from the start, the place's high part, and what it is changed by.
fn altered(mut bytes: Vec<u8>, edits: &[u8]) -> Vec<u8> {
    for edit in edits.chunks_exact(3) {
        let place = usize::from(edit[0]) + 256 * usize::from(edit[1] % 16);
        let len = bytes.len();
        bytes[place % len] ^= edit[2];
    }
    bytes
}

fn reads_back(fold: &Fold, partial: &Partial) {
    let bytes = fold.encode(partial);
    let read = fold.decode(&bytes).unwrap_or_else(|error| panic!("it does not read its own encoding back: {error}"));
    assert_eq!(fold.encode(&read), bytes);
    shows(&fold.view(partial));
    let mut merged = fold.start();
    fold.merge(&mut merged, partial);
    shows(&fold.view(&merged));
    fold.readers(&merged);
    let _ = fold.watermark(&bytes, Some(Micros(i64::MAX)));
}

fn rolls_back(fold: &Fold, delta: &Delta) {
    let rollup = fold.rollup();
    let bytes = rollup.encode(delta);
    let read = rollup.decode(&bytes).unwrap_or_else(|error| panic!("it does not read its own encoding back: {error}"));
    assert_eq!(rollup.encode(&read), bytes);
    for (_, value) in rollup.values([delta, &read]) {
        shows(&value);
    }
}

fn shows(json: &str) {
    serde_json::from_str::<IgnoredAny>(json).unwrap_or_else(|error| panic!("{error}: {json}"));
}

/// Any text as a configuration: never a panic; its problems can be told; what has none makes a plan and a fold.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match config::load_text(text) {
        Err(problems) => {
            assert!(!problems.0.is_empty());
            assert!(!problems.to_string().is_empty());
        }
        Ok(settings) => {
            let definitions = &settings.definitions;
            assert!(
                config::definitions_changes(&config::definitions_json(definitions), &config::definitions_json(definitions))
                    .is_empty()
            );
            let plan = Plan::new(definitions, "t");
            let fold = Fold::new(definitions, &plan, MAX_STATE);
            shows(&fold.view(&fold.start()));
        }
    }
}
