//! Comparisons of small partitions with what a store might say of them.

use super::*;
use crate::config::testing::settings;
use crate::decode::Plan;
use crate::outcome::Counts;
use crate::position::Epoch;
use crate::record::Batch;
use crate::refold::{Given, Refold, Stage};
use crate::store::{Lag, LagReasons};
use crate::time::Micros;
use std::sync::Arc;

fn partition() -> PartitionId {
    PartitionId::new("hunt-events", 0)
}

fn stage() -> Stage {
    let text = "rollup.aggregates = [\"points\"]\n[aggregates.points]\nkind = \"sum\"\nof = \"/points\"\n[aggregates.events]\nkind = \"count\"";
    let definitions = settings(text).definitions;
    let plan = Arc::new(Plan::new(&definitions, "hunt-events"));
    let fold = Arc::new(Fold::new(&definitions, &plan, usize::MAX));
    Stage { from: None, plan, fold }
}

/// Hunt and points a record.
fn log(records: &[(&str, i64)]) -> Batch {
    let mut batch = Batch::new(partition(), Epoch(0), Position(0));
    for (n, (hunt, points)) in records.iter().enumerate() {
        let value = format!(r#"{{"id":"{n}","type":"t","points":{points}}}"#);
        batch.push(Offset(n as i64), n as i64 * 1000, Some(hunt.as_bytes()), Some(value.as_bytes()), []);
    }
    batch
}

fn refold(batch: &Batch, given: Given, witness: &mut impl Witness) -> Refolded {
    let mut refold = Refold::new(vec![stage()], given);
    refold.take(batch, Micros(0), witness);
    refold.finish()
}

fn audited(refolded: &Refolded) -> AuditedPartition {
    let row = |(id, partial, lag): (&str, &Partial, Option<Lag>)| AuditedPartial {
        hunt: id.to_owned(),
        digest: Some(digest(&refolded.fold.encode(partial))),
        lag,
    };
    AuditedPartition {
        partition: partition(),
        start: Some(Position(0)),
        position: Some(Position(refolded.counts.records)),
        clock: refolded.clock,
        counts: refolded.counts,
        rollup: Some(refolded.fold.rollup().encode(&refolded.rollup)),
        partials: refolded.partials().map(row).collect(),
        left_out: Vec::new(),
        gaps: Vec::new(),
        letters: 0,
    }
}

fn snapshot(hunt: &str, state: Option<Vec<u8>>) -> Snapshot {
    Snapshot { hunt: hunt.to_owned(), state, readers: None, lag: None }
}

const RECORDS: [(&str, i64); 6] = [("a", 1), ("b", 2), ("a", 3), ("a", 0), ("b", 5), ("a", 6)];

#[test]
fn the_same_is_found_the_same() {
    let refolded = refold(&log(&RECORDS), Given::default(), &mut ());
    assert_eq!(compare(&audited(&refolded), &refolded, None), Compared { partials: 2, ..Compared::default() });
}

#[test]
fn every_count_and_clock_is_compared() {
    let refolded = refold(&log(&RECORDS), Given::default(), &mut ());
    let mut stored = audited(&refolded);
    stored.counts = Counts { records: 7, applied: 7, ..stored.counts };
    stored.clock = None;
    let texts: Vec<String> = compare(&stored, &refolded, None).differences.iter().map(Difference::to_string).collect();
    assert_eq!(
        texts,
        [
            "hunt-events/0: records: stored 7, recomputed 6",
            "hunt-events/0: applied: stored 7, recomputed 6",
            "hunt-events/0: partition clock: stored none, recomputed 1970-01-01T00:00:05Z",
        ]
    );
    assert!(compare(&stored, &refolded, Some("a")).differences.is_empty());
}

#[test]
fn the_rollup_is_compared() {
    let refolded = refold(&log(&RECORDS), Given::default(), &mut ());
    let shorter = refold(&log(&RECORDS[..4]), Given::default(), &mut ());
    let said = |rollup: Option<Vec<u8>>| -> Vec<String> {
        let stored = AuditedPartition { rollup, ..audited(&refolded) };
        compare(&stored, &refolded, None).differences.iter().map(Difference::to_string).collect()
    };
    let rollup = refolded.fold.rollup();
    assert_eq!(said(Some(rollup.encode(&shorter.rollup))), ["hunt-events/0: rollup points: stored 6, recomputed 17"]);
    assert_eq!(said(None), ["hunt-events/0: rollup points: stored 0, recomputed 17"]);
    assert!(said(Some(vec![77]))[0].starts_with("hunt-events/0: rollup: stored bytes that cannot be read ("));
}

#[test]
fn rows_that_differ_are_missing_or_stand_for_nothing_are_named() {
    let refolded = refold(&log(&RECORDS), Given::default(), &mut ());
    let mut stored = audited(&refolded);
    stored.partials.retain(|row| row.hunt != "b");
    stored.partials[0].digest = Some([7; 32]);
    let row = |hunt: &str, digest| AuditedPartial { hunt: hunt.into(), digest, lag: None };
    stored.partials.push(row("never", Some([8; 32])));
    // Rows of hunts that have applied nothing say nothing.
    stored.partials.push(row("empty", Some(digest(&refolded.fold.encode(&refolded.fold.start())))));
    stored.partials.push(row("unsaved", None));
    let compared = compare(&stored, &refolded, None);
    assert_eq!(compared.hunts, ["a", "b", "never"]);
    assert_eq!(compare(&stored, &refolded, Some("b")).hunts, ["b"]);
}

#[test]
fn a_lagging_row_says_how_many_it_holds_and_the_clock_where_it_stands() {
    let given = || Given { stops: vec![("a".into(), Position(2))], ..Given::default() };
    let refolded = refold(&log(&RECORDS), given(), &mut ());
    let mut stored = audited(&refolded);
    assert_eq!(compare(&stored, &refolded, None), Compared { partials: 2, ..Compared::default() });
    let row = stored.partials.iter_mut().find(|row| row.hunt == "a").expect("the row");
    row.lag = Some(Lag { position: Position(2), clock: None, held: 2, reasons: LagReasons::default() });
    let texts: Vec<String> = compare(&stored, &refolded, None).differences.iter().map(Difference::to_string).collect();
    assert_eq!(
        texts,
        [
            "hunt-events/0: hunt \"a\": held: stored 2, recomputed 3",
            "hunt-events/0: hunt \"a\": partition clock at its position: stored none, recomputed 1970-01-01T00:00:01Z",
        ]
    );
}

fn looked(hunts: &[&str], snapshots: Vec<Snapshot>) -> Vec<String> {
    let hunts: Vec<String> = hunts.iter().map(|hunt| (*hunt).to_owned()).collect();
    let mut look = SecondLook::new(&hunts, snapshots, &stage().fold);
    let refolded = refold(&log(&RECORDS), Given::default(), &mut look);
    look.differences(&partition(), &refolded).iter().map(Difference::to_string).collect()
}

#[test]
fn the_second_look_names_the_record_after_which_a_part_can_differ() {
    // The state that the log gives without its last records.
    let earlier = |until| {
        let given = Given { until: Some(Position(until)), ..Given::default() };
        let refolded = refold(&log(&RECORDS), given, &mut ());
        refolded.fold.encode(refolded.get("a").expect("a").0)
    };
    let found = looked(&["a"], vec![snapshot("a", Some(earlier(3)))]);
    assert!(
        found.contains(
            &r#"hunt-events/0: hunt "a": aggregate points: stored 4, recomputed 10; can differ from record 5 on"#.to_owned()
        ),
        "{found:?}"
    );
    assert!(
        found.contains(&r#"hunt-events/0: hunt "a": events: stored 2, recomputed 4; can differ from record 3 on"#.to_owned()),
        "{found:?}"
    );
    assert_eq!(looked(&["a"], vec![snapshot("a", Some(earlier(6)))]), [""; 0]);
}

#[test]
fn a_part_that_never_was_what_is_stored_can_differ_from_its_first_record_on() {
    let doubled = [("a", 1), ("a", 1), ("a", 3), ("a", 0), ("a", 6)];
    let refolded = refold(&log(&doubled), Given::default(), &mut ());
    let state = refolded.fold.encode(refolded.get("a").expect("a").0);
    let found = looked(&["a"], vec![snapshot("a", Some(state))]);
    assert!(
        found.contains(
            &r#"hunt-events/0: hunt "a": aggregate points: stored 11, recomputed 10; can differ from record 0 on"#.to_owned()
        ),
        "{found:?}"
    );
}

#[test]
fn rows_without_a_counterpart_are_shown_whole() {
    let other = refold(&log(&[("never", 4)]), Given::default(), &mut ());
    let state = other.fold.encode(other.get("never").expect("never").0);
    let found = looked(&["a", "b", "never"], vec![snapshot("b", Some(vec![9, 9])), snapshot("never", Some(state))]);
    assert_eq!(
        found[0],
        r#"hunt-events/0: hunt "a": row: stored none, recomputed {"events":4,"points":10}; can differ from record 0 on"#
    );
    assert!(found[1].starts_with(r#"hunt-events/0: hunt "b": state: stored bytes that cannot be read ("#), "{found:?}");
    assert_eq!(found[2], r#"hunt-events/0: hunt "never": row: stored 1 events, recomputed none: the log has no event of it"#);
    assert_eq!(found.len(), 3);
}

#[test]
fn the_log_is_needed_from_past_the_gaps_on_record() {
    let gap = |hunt: Option<&str>, from, to| Gap {
        hunt_id: hunt.map(str::to_owned),
        from: Position(from),
        to: Position(to),
        reason: String::new(),
        found_at: Micros(0),
    };
    let needed = |gaps: &[Gap]| first_needed(Position(5), gaps).0;
    assert_eq!(needed(&[]), 5);
    assert_eq!(needed(&[gap(None, 9, 12), gap(None, 5, 9)]), 12);
    assert_eq!(needed(&[gap(Some("h"), 5, 9), gap(None, 6, 9)]), 5);
}
