//! Small logs and what they come to, worked out by hand.

use super::*;
use crate::oracle::{Counts, recompute};

const NOW: i64 = 1_704_067_200_000;

/// A record of hunt `h` written `at` seconds after NOW.
fn record(offset: i64, at: i64, value: &str) -> Record {
    Record {
        offset,
        timestamp_ms: NOW + at * 1000,
        key: Some(b"h".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: vec![],
    }
}

/// The same, of another hunt.
fn of(hunt: &str, record: Record) -> Record {
    Record { key: Some(hunt.as_bytes().to_vec()), ..record }
}

/// An event with a time of its own, in seconds after NOW, and `n`.
fn event(offset: i64, at: i64, time: i64, n: &str) -> Record {
    record(offset, at, &format!(r#"{{"type":"t","time":{},"n":{n}}}"#, NOW + time * 1000))
}

fn fold(toml: &str, partitions: &[&[Record]]) -> Said {
    let log = partitions.iter().enumerate().map(|(i, records)| (("topic".to_owned(), i as i32), records.to_vec())).collect();
    recompute(&Definitions::from_toml(toml), &log, &LeftOut::new())
}

fn counts(said: &Said, partition: i32) -> Counts {
    said.partitions[&("topic".to_owned(), partition)].counts
}

/// Seconds from NOW.
fn seconds(micros: i64) -> f64 {
    (micros - NOW * 1000) as f64 / 1e6
}

#[test]
fn every_record_has_one_outcome_and_dead_letters_make_no_hunt() {
    let id = |offset, id: &str| record(offset, offset, &format!(r#"{{"type":"t","id":"{id}"}}"#));
    let said = fold(
        "[aggregates.n]\nkind = \"count\"",
        &[&[
            id(3, "a"),
            Record { value: None, ..id(4, "a") },
            id(7, "a"),
            id(8, "b"),
            record(9, 99, "[]"),
            of("dead", record(10, 5, "x")),
        ]],
    );
    let expected = Counts { records: 6, applied: 2, duplicate: 1, dead_lettered: 2, ignored: 1, held: 0, late: 0 };
    assert_eq!(counts(&said, 0), expected);
    let partition = &said.partitions[&("topic".to_owned(), 0)];
    let letters: Vec<String> = partition
        .dead_letters
        .iter()
        .map(|d| format!("{} {} {}", d.offset, d.hunt_id.as_deref().unwrap_or("-"), d.reason))
        .collect();
    assert_eq!(letters, ["9 h not_object", "10 dead not_json"]);
    assert_eq!(partition.clock.map(seconds), Some(99.0), "whatever the outcome");
    assert_eq!(said.hunts.keys().collect::<Vec<_>>(), ["h"]);
    assert_eq!(said.hunts["h"].view.to_string(), r#"{"n":2}"#);
    assert_eq!((said.hunts["h"].events, said.hunts["h"].partials), (2, 1));
}

#[test]
fn only_the_last_ids_applied_are_remembered_first_in_first_out() {
    let ids = |last: usize, ids: &[&str]| {
        let records: Vec<Record> =
            ids.iter().enumerate().map(|(i, id)| record(i as i64, 0, &format!(r#"{{"type":"t","id":{id}}}"#))).collect();
        counts(&fold(&format!("[dedup]\nlast = {last}"), &[&records]), 0).duplicate
    };
    assert_eq!(ids(2, &["1", "2", "1"]), 1);
    assert_eq!(ids(2, &["1", "2", "3", "1"]), 0);
    assert_eq!(ids(2, &["1", "2", "1", "3", "1"]), 1, "a duplicate does not make its id young again");
    assert_eq!(ids(2, &["1", "null", "\"\"", "null", "1"]), 1, "events without an id push none out");
    assert_eq!(ids(2, &["\"\"", "\"\"", "null", "null"]), 0);
    assert_eq!(ids(0, &["1", "1"]), 0);
    assert_eq!(ids(2, &["1", "\"1\""]), 1);
}

#[test]
fn ids_are_remembered_per_partial_and_compared_part_by_part() {
    let one = |id: &str| record(0, 0, &format!(r#"{{"type":"t","id":"{id}"}}"#));
    let said = fold("", &[&[one("a"), of("other", one("a"))], &[one("a")]]);
    assert_eq!((counts(&said, 0).applied, counts(&said, 1).applied), (2, 1));
    assert_eq!(said.hunts["h"].partials, 2);
    let two = |s: &str, id: &str| record(0, 0, &format!(r#"{{"type":"t","s":"{s}","id":"{id}"}}"#));
    let said = fold("[event]\nid = [\"/s\", \"/id\"]", &[&[two("ab", "c"), two("a", "bc"), two("ab", "c")]]);
    assert_eq!((counts(&said, 0).applied, counts(&said, 0).duplicate), (2, 1));
}

#[test]
fn a_record_left_out_is_a_dead_letter_and_its_id_is_not_remembered() {
    let id = |offset| record(offset, 0, r#"{"type":"t","id":"a"}"#);
    let log = BTreeMap::from([(("topic".to_owned(), 0), vec![id(0), id(1), id(2)])]);
    let left_out =
        LeftOut::from([(("topic".to_owned(), 0, 0), "failed".to_owned()), (("topic".to_owned(), 0, 2), "failed".to_owned())]);
    let said = recompute(&Definitions::default(), &log, &left_out);
    let expected = Counts { records: 3, applied: 1, duplicate: 1, dead_lettered: 1, ..Counts::default() };
    assert_eq!(counts(&said, 0), expected);
    assert_eq!(said.partitions[&("topic".to_owned(), 0)].dead_letters[0].reason, "failed");
}

#[test]
fn the_watermark_is_the_hunt_clock_less_lateness_while_the_partition_is_not_silent() {
    let said = fold(
        "[time]\nlateness = \"10s\"\nidle = \"100s\"",
        &[&[event(0, 50, 40, "1"), event(1, 60, 70, "1"), event(2, 70, 30, "1")]],
    );
    let hunt = &said.hunts["h"];
    // min(40, 50), min(70, 60), min(30, 70).
    assert_eq!(seconds(hunt.watermark), 50.0);
    assert_eq!((seconds(hunt.first_event_at), seconds(hunt.last_event_at)), (30.0, 70.0));
}

#[test]
fn silence_on_the_partitions_own_clock_moves_the_watermark_and_never_back() {
    let toml = "[time]\nlateness = \"10s\"\nidle = \"100s\"";
    let other = |offset, at| of("other", event(offset, at, at, "1"));
    let watermark = |records: &[Record]| seconds(fold(toml, &[records]).hunts["h"].watermark);
    assert_eq!(watermark(&[event(0, 0, 0, "1"), other(1, 100)]), -10.0);
    assert_eq!(watermark(&[event(0, 0, 0, "1"), other(1, 130)]), 20.0);
    // Its next event is old; the watermark that silence had brought stays.
    assert_eq!(watermark(&[event(0, 0, 0, "1"), other(1, 130), event(2, 130, 5, "1")]), 20.0);
    assert_eq!(watermark(&[event(0, 0, 0, "1"), other(1, 130), event(2, 130, 5, "1"), other(3, 240)]), 20.0);
    assert_eq!(watermark(&[event(0, 0, 0, "1"), other(1, 130), event(2, 130, 5, "1"), other(3, 260)]), 25.0);
    // Tombstones and dead letters move the partition's clock too.
    assert_eq!(watermark(&[event(0, 0, 0, "1"), Record { value: None, ..event(1, 130, 0, "1") }]), 20.0);
    assert_eq!(watermark(&[event(0, 0, 0, "1"), record(1, 130, "x")]), 20.0);
    let never = "[time]\nlateness = \"10s\"\nidle = \"never\"";
    assert_eq!(seconds(fold(never, &[&[event(0, 0, 0, "1"), other(1, 9999)]]).hunts["h"].watermark), -10.0);
}

#[test]
fn a_record_without_a_timestamp_leaves_the_partitions_clock_alone() {
    let silent = Record { timestamp_ms: -1, ..event(0, 0, 5, "1") };
    let said = fold("[time]\nlateness = \"10s\"", &[std::slice::from_ref(&silent)]);
    assert_eq!(said.partitions[&("topic".to_owned(), 0)].clock, None);
    assert_eq!(seconds(said.hunts["h"].watermark), -5.0);
}

#[test]
fn a_view_merges_its_partials_and_takes_the_smallest_watermark() {
    let toml = "[time]\nlateness = \"0s\"\n[aggregates.s]\nkind = \"sum\"\nof = \"/n\"\n[aggregates.l]\nkind = \"last\"\nof = \"/n\"\n\
                [aggregates.m]\nkind = \"mean\"\nof = \"/n\"\n[aggregates.none]\nkind = \"max\"\nof = \"/x\"";
    let said = fold(toml, &[&[event(0, 10, 10, "18446744073709551615")], &[event(0, 20, 7, "1"), event(1, 21, 9, "2")]]);
    let hunt = &said.hunts["h"];
    assert_eq!(
        hunt.view.to_string(),
        r#"{"l":18446744073709551615,"m":6.148914691236517e18,"none":null,"s":18446744073709551618}"#
    );
    assert_eq!((seconds(hunt.watermark), hunt.events, hunt.partials), (9.0, 3, 2));
    assert_eq!(said.partitions[&("topic".to_owned(), 1)].hunts["h"].view.to_string(), r#"{"l":2,"m":1.5,"none":null,"s":3}"#);
    assert_eq!(said.compare(&BTreeMap::from([("h".to_owned(), hunt.view.to_string())])), None);
    let wrong = hunt.view.to_string().replace("551618", "551619");
    let message = said.compare(&BTreeMap::from([("h".to_owned(), wrong)])).unwrap();
    assert!(message.contains(r#"hunt "h", aggregate "s""#) && message.contains("of topic/1: 2 events"), "{message}");
    assert!(said.compare(&BTreeMap::new()).unwrap().contains("missing"));
}

#[test]
fn before_anything_every_aggregate_has_its_empty_value() {
    let toml = "[aggregates]\na = { kind = \"count\", on = \"x\" }\nb = { kind = \"sum\", of = \"/x\" }\nc = { kind = \"min\", of = \"/x\" }\n\
                d = { kind = \"mean\", of = \"/x\" }\ne = { kind = \"first\", of = \"/x\" }\nf = { kind = \"distinct\", of = \"/x\" }\n\
                g = { kind = \"top\", by = \"/x\" }\nh = { kind = \"quantiles\", of = \"/x\" }\ni = { kind = \"funnel\", by = \"/x\", stages = [\"u\"] }\n\
                j = { kind = \"count\", on = \"x\", window = { tumbling = \"1m\" } }";
    let said = fold(toml, &[&[record(0, 0, r#"{"type":"t"}"#)]]);
    let expected = r#"{"a":0,"b":0,"c":null,"d":null,"e":null,"f":0,"g":[],"h":null,"i":[{"count":0,"stage":"u"}],"j":[]}"#;
    assert_eq!(said.hunts["h"].view.to_string(), expected);
}

#[test]
fn an_event_is_late_by_the_watermark_before_its_own_record() {
    let toml = "[time]\nlateness = \"0s\"\nidle = \"100s\"\n[aggregates.w]\nkind = \"sum\"\nof = \"/n\"\nwindow = { tumbling = \"10s\" }\n\
                [aggregates.v]\nkind = \"count\"\nwindow = { tumbling = \"1d\" }";
    let count = |records: &[Record]| (counts(&fold(toml, &[records]), 0).applied, counts(&fold(toml, &[records]), 0).late);
    assert_eq!(
        count(&[event(0, 10, 5, "1"), event(1, 500, 6, "1")]),
        (2, 0),
        "its own record does not end the silence before it"
    );
    assert_eq!(count(&[event(0, 10, 10, "1"), event(1, 10, 9, "1"), event(2, 10, 10, "1")]), (3, 1));
    assert_eq!(count(&[event(0, 10, 10, "1"), event(1, 10, 9, "null")]), (2, 0), "it adds nothing that could be late");
    // Another hunt's record closes the window [0, 10): silence of 105 s beyond 100 s, from 5 on.
    let other = of("other", event(1, 115, 115, "1"));
    let said = fold(toml, &[&[event(0, 10, 5, "1"), other, event(2, 115, 9, "1"), event(3, 115, 10, "1")]]);
    assert_eq!((counts(&said, 0).late, said.late.get("w"), said.late.get("v")), (1, Some(&1), None));
    let first = said.hunts["h"].view.at(&["w".to_owned(), "0".to_owned(), "value".to_owned()]).unwrap().to_string();
    assert_eq!(first, "1");
}

#[test]
fn sessions_beyond_keep_go_with_any_event_of_the_hunt() {
    let toml =
        "[time]\nlateness = \"0s\"\n[aggregates.s]\nkind = \"count\"\non = \"t\"\nwindow = { session = \"10s\", keep = 1 }";
    let other_type = |offset, at| record(offset, at, &format!(r#"{{"type":"other","time":{}}}"#, NOW + at * 1000));
    let sessions = |records: &[Record]| match fold(toml, &[records]).hunts["h"].view.at(&["s".to_owned()]) {
        Some(Json::Array(items)) => items.len(),
        other => panic!("{other:?}"),
    };
    let two = [event(0, 0, 0, "1"), event(1, 20, 20, "1")];
    assert_eq!(sessions(&two), 2, "the first was not final at the watermark before the second");
    assert_eq!(sessions(&[two[0].clone(), two[1].clone(), other_type(2, 20)]), 1);
}

#[test]
fn a_rollup_is_what_the_hunts_applied_with_exact_floats_and_its_own_newest_windows() {
    let toml = "[time]\nlateness = \"1h\"\n[aggregates.s]\nkind = \"sum\"\nof = \"/n\"\n[aggregates.m]\nkind = \"mean\"\nof = \"/n\"\n\
                [aggregates.w]\nkind = \"count\"\nwindow = { tumbling = \"10s\", keep = 2 }\n[rollup]\naggregates = [\"s\", \"w\", \"m\"]";
    let said = fold(
        toml,
        &[
            &[
                event(0, 0, 0, "1e300"),
                of("other", event(1, 1, 35, "1")),
                of("other", event(2, 1, 25, "1")),
                of("other", event(3, 1, 5, "1.5")),
            ],
            &[event(0, 0, 15, "-1e300"), event(1, 0, 25, "0.25")],
        ],
    );
    assert_eq!(said.rollup["s"].to_string(), "3.75");
    assert_eq!(said.rollup["m"].to_string(), "0.625");
    let w = said.rollup["w"].to_string();
    assert_eq!(w.matches("start").count(), 2);
    assert!(
        w.contains(r#""start":"2024-01-01T00:00:20Z","value":2"#) && w.contains(r#""start":"2024-01-01T00:00:30Z","value":1"#),
        "{w}"
    );
    assert_eq!(said.late["w"], 1, "older than the two windows that the other hunt keeps");
    let empty = fold(toml, &[]).rollup;
    assert_eq!(
        (empty["s"].to_string(), empty["m"].to_string(), empty["w"].to_string()),
        ("0".into(), "null".into(), "[]".into())
    );
}
