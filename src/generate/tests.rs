//! The generator: deterministic, in the shares it is asked for, and bad in exactly the ways it says.

use super::*;
use crate::time::Micros;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

fn mixed() -> Options {
    Options { hunts: 50, duplicates: 0.1, late: 0.05, bad: 0.2, ..Options::default() }
}

fn json(record: &Record) -> Value {
    serde_json::from_slice(record.value().expect("a value")).expect("JSON")
}

fn time(event: &Value) -> Option<i64> {
    Micros::parse_rfc3339(event["time"].as_str()?.as_bytes()).map(|t| t.0 / 1000)
}

#[test]
fn the_same_seed_gives_the_same_records_and_another_does_not() {
    let first: Vec<Record> = Stream::new(mixed()).take(5000).collect();
    assert!(Stream::new(mixed()).take(5000).eq(first.iter().cloned()));
    let other = Stream::new(Options { seed: 2, ..mixed() }).take(5000);
    assert!(other.zip(&first).filter(|(a, b)| a == *b).count() < 50);
    let mut used_again = Record::default();
    let mut stream = Stream::new(mixed());
    for record in &first {
        stream.next_into(&mut used_again);
        assert_eq!(used_again, *record);
    }
}

#[test]
fn shares_are_kept() {
    let count = 100_000;
    let (mut duplicates, mut late, mut bad) = (0, 0, 0);
    for record in Stream::new(mixed()).take(count) {
        match record.nature {
            Nature::Good => {}
            Nature::Duplicate => duplicates += 1,
            Nature::Late => late += 1,
            Nature::Bad(_) => bad += 1,
        }
    }
    for (found, expected) in [(duplicates, 0.1), (late, 0.05), (bad, 0.2)] {
        let share = f64::from(found) / count as f64;
        assert!((share - expected).abs() < 0.005, "found {share}, expected {expected}");
    }
    assert!(Stream::new(Options::default()).take(1000).all(|r| r.nature == Nature::Good));
}

#[test]
fn good_records_are_events_in_time_with_ids_of_their_own() {
    let mut ids = HashSet::new();
    let mut types = HashMap::new();
    let mut last = 0;
    for record in Stream::new(mixed()).take(20_000) {
        assert!(record.timestamp_ms >= last);
        last = record.timestamp_ms;
        let behind = match record.nature {
            Nature::Good => 5..=1500,
            Nature::Late => 120_000..=1_800_000,
            _ => continue,
        };
        let event = json(&record);
        assert!(ids.insert(event["id"].as_str().expect("an id").to_owned()));
        let key = std::str::from_utf8(record.key().expect("a key")).expect("UTF-8");
        assert!(key.starts_with("h-") && key.len() == 12, "{key}");
        assert!(behind.contains(&(record.timestamp_ms - time(&event).expect("a time"))), "{event}");
        let event_type = event["type"].as_str().expect("a type").to_owned();
        if event_type == "clue.solved" {
            assert!((1..=2000).contains(&event["data"]["points"].as_i64().expect("points")), "{event}");
            assert!(event["data"]["seconds"].as_f64().is_some_and(|s| s >= 3.0), "{event}");
            assert!(event["data"]["clue_id"].is_string() && event["data"]["player_id"].is_string(), "{event}");
        }
        *types.entry(event_type).or_insert(0) += 1;
    }
    assert_eq!(types.len(), 4, "{types:?}");
    assert_eq!(types["hunt.created"], 50);
    assert!(types["clue.solved"] > 4000, "{types:?}");
}

#[test]
fn a_duplicate_follows_its_original_within_a_few_good_records() {
    let mut good: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut duplicates = 0;
    for record in Stream::new(mixed()).take(20_000) {
        let both = |r: &Record| (r.key().unwrap_or_default().to_vec(), r.value().unwrap_or_default().to_vec());
        match record.nature {
            Nature::Good | Nature::Late => good.push(both(&record)),
            Nature::Duplicate => {
                let duplicate = both(&record);
                assert!(good.iter().rev().take(RECENT).any(|original| *original == duplicate));
                duplicates += 1;
            }
            Nature::Bad(_) => {}
        }
    }
    assert!(duplicates > 1000);
}

/// A plain restatement of what the record alone decides, under the default places.
fn fault(record: &Record, max_bytes: usize) -> Option<Bad> {
    let Some(value) = record.value() else { return Some(Bad::Tombstone) };
    if value.len() > max_bytes {
        return Some(Bad::TooLarge);
    }
    let Some(key) = record.key() else { return Some(Bad::NoHunt) };
    if !std::str::from_utf8(key).is_ok_and(|k| !k.is_empty() && k.len() <= 512 && !k.chars().any(char::is_control)) {
        return Some(Bad::BadHunt);
    }
    let mut depth = 0;
    for byte in value {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        if depth > 64 {
            return Some(Bad::TooDeep);
        }
    }
    let Ok(event) = serde_json::from_slice::<Value>(value) else { return Some(Bad::NotJson) };
    if !event.is_object() {
        return Some(Bad::NotObject);
    }
    if event["type"].as_str().is_none_or(str::is_empty) {
        return Some(Bad::NoType);
    }
    let Some(time_ms) = time(&event).or(event["time"].as_u64().map(|t| t as i64)) else { return Some(Bad::BadTime) };
    if time_ms > record.timestamp_ms + 300_000 {
        return Some(Bad::Ahead);
    }
    let id = &event["id"];
    (!(id.is_null() || id.is_string() || id.is_i64() || id.is_u64())).then_some(Bad::WrongType)
}

#[test]
fn every_bad_record_has_the_fault_it_is_named_for_and_no_other_record_has_any() {
    let options = Options { max_bytes: 4096, ..mixed() };
    let mut seen = HashMap::new();
    for record in Stream::new(options.clone()).take(50_000) {
        let expected = if let Nature::Bad(bad) = record.nature { Some(bad) } else { None };
        assert_eq!(fault(&record, options.max_bytes), expected, "{:?}", record.value().map(String::from_utf8_lossy));
        *seen.entry(expected).or_insert(0) += 1;
    }
    for bad in Bad::ALL {
        assert!(seen[&Some(bad)] > 50, "{bad:?}: {seen:?}");
    }
}

#[test]
fn workloads_have_their_fixed_record() {
    let records: Vec<Record> = Stream::new(Options::workload(Workload::W1, 7)).take(20_001).collect();
    assert_eq!(records[0].timestamp_ms, 1_767_229_200_000);
    assert_eq!(records[20_000].timestamp_ms, 1_767_229_202_000);
    let mut ids = HashSet::new();
    for record in &records {
        let event = json(record);
        assert_eq!(time(&event), Some(record.timestamp_ms));
        assert_eq!((event["type"].as_str(), event.as_object().map(|o| o.len())), (Some("clue.solved"), Some(4)));
        assert_eq!(event["data"].as_object().map(|o| o.len()), Some(6));
        assert!((190..=215).contains(&record.value().expect("a value").len()), "{event}");
        assert!(ids.insert(event["id"].as_str().expect("an id").to_owned()));
        assert!(record.headers.is_empty());
    }
    let behind = |workload| {
        let stream = Stream::new(Options::workload(workload, 7)).take(20_000).enumerate();
        stream.map(|(n, r)| 1_767_229_200_000 + n as i64 / 10 - r.timestamp_ms).collect::<Vec<_>>()
    };
    assert!(behind(Workload::W3).iter().all(|b| *b == 0));
    let far = behind(Workload::W4).iter().filter(|b| **b >= 60_000).count();
    assert!((300..500).contains(&far), "{far} of 20,000 far behind");
}

#[test]
fn a_clock_set_from_outside_is_the_streams_time() {
    let mut stream = Stream::new(Options::default());
    stream.set_clock(1_800_000_000_000);
    let record = stream.next().expect("endless");
    assert_eq!(record.timestamp_ms, 1_800_000_000_000);
}

#[test]
fn options_that_make_no_sense_are_named() {
    for (options, part) in [
        (Options { bad: 1.5, ..Options::default() }, "bad: found 1.5"),
        (Options { late: f64::NAN, ..Options::default() }, "late: found NaN"),
        (Options { late: 0.6, bad: 0.6, ..Options::default() }, "found 1.2 together"),
        (Options { skew: -1.0, ..Options::default() }, "skew: found -1"),
        (Options { hunts: 0, ..Options::default() }, "hunts and players"),
        (Options { events_per_second: 0.0, ..Options::default() }, "events per second"),
    ] {
        let said = options.check().expect_err("refused");
        assert!(said.contains(part), "{said}");
    }
}
