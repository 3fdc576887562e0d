//! Refolds of small logs: what every record comes to, where hunts stop, and where definitions change.

use super::*;
use crate::config::testing::settings;
use crate::position::Epoch;
use proptest::prelude::*;
use std::collections::BTreeMap;

const OLD: &str =
    "dedup.last = 2\n[aggregates.events]\nkind = \"count\"\n[aggregates.points]\nkind = \"sum\"\nof = \"/data/points\"\n";
const NEW: &str = "dedup.last = 4\n[aggregates.events]\nkind = \"count\"\n[aggregates.fresh]\nkind = \"count\"\n";

fn partition() -> PartitionId {
    PartitionId::new("hunt-events", 0)
}

fn stage(text: &str, from: Option<i64>, max_state: usize) -> Stage {
    let definitions = settings(text).definitions;
    let plan = Arc::new(Plan::new(&definitions, "hunt-events"));
    let fold = Arc::new(Fold::new(&definitions, &plan, max_state));
    Stage { from: from.map(Position), plan, fold }
}

/// One letter a record: a to z an event of that hunt, `-` a tombstone, `!` no JSON. Record n has the timestamp n seconds and n points.
fn log(records: &str) -> Vec<(i64, Option<String>, Option<String>)> {
    let record = |(n, letter): (usize, char)| match letter {
        '-' => (n as i64, Some("a".into()), None),
        '!' => (n as i64, Some("a".into()), Some("{".into())),
        hunt => (
            n as i64,
            Some(hunt.into()),
            Some(format!(r#"{{"id":"{n}","type":"t","time":{},"data":{{"points":{n}}}}}"#, n * 1000)),
        ),
    };
    records.chars().enumerate().map(record).collect()
}

fn batches(log: &[(i64, Option<String>, Option<String>)], cuts: &[usize]) -> Vec<Batch> {
    let mut batches = vec![Batch::new(partition(), Epoch(0), Position(0))];
    for (n, (offset, key, value)) in log.iter().enumerate() {
        if cuts.contains(&n) {
            batches.push(Batch::new(partition(), Epoch(0), Position(*offset)));
        }
        let batch = batches.last_mut().expect("one at least");
        batch.push(Offset(*offset), offset * 1000, key.as_ref().map(|k| k.as_bytes()), value.as_ref().map(|v| v.as_bytes()), []);
    }
    batches
}

fn refold(stages: &[Stage], given: Given, batches: &[Batch]) -> Refolded {
    let mut refold = Refold::new(stages.to_vec(), given);
    batches.iter().for_each(|batch| refold.take(batch, Micros(0), &mut ()));
    refold.finish()
}

fn views(refolded: &Refolded) -> BTreeMap<String, String> {
    refolded.partials().map(|(id, partial, _)| (id.to_owned(), refolded.fold.view(partial))).collect()
}

fn view_of(refolded: &Refolded, id: &str) -> String {
    let (partial, _) = refolded.get(id).expect("a hunt");
    refolded.fold.view(partial)
}

#[test]
fn every_record_is_counted_once_and_every_hunt_folded() {
    let refolded = refold(&[stage(OLD, None, usize::MAX)], Given::default(), &batches(&log("aba-!b"), &[2, 3]));
    let expected = Counts { records: 6, applied: 4, ignored: 1, dead_lettered: 1, ..Counts::default() };
    assert_eq!((refolded.counts, refolded.clock), (expected, Some(Micros(5_000_000))));
    let expected = [("a", r#"{"events":2,"points":2}"#), ("b", r#"{"events":2,"points":6}"#)];
    assert_eq!(views(&refolded), expected.map(|(id, view)| (id.to_owned(), view.to_owned())).into());
}

#[test]
fn nothing_at_or_past_the_end_is_folded() {
    let given = Given { until: Some(Position(2)), ..Given::default() };
    let refolded = refold(&[stage(OLD, None, usize::MAX)], given, &batches(&log("aaaa"), &[]));
    assert_eq!((refolded.counts.records, refolded.clock), (2, Some(Micros(1_000_000))));
}

#[test]
fn a_record_recorded_as_left_out_leaves_no_trace_but_its_count() {
    let given = Given { left_out: vec![(Offset(3), Reason::Failed), (Offset(1), Reason::StateFull)], ..Given::default() };
    let refolded = refold(&[stage(OLD, None, usize::MAX)], given, &batches(&log("aabba"), &[]));
    assert_eq!((refolded.counts.applied, refolded.counts.dead_lettered), (3, 2));
    assert_eq!(view_of(&refolded, "a"), r#"{"events":2,"points":4}"#);
    assert_eq!(view_of(&refolded, "b"), r#"{"events":1,"points":2}"#);
}

#[test]
fn a_lagging_hunt_stops_at_its_own_position_and_holds_the_rest() {
    let stops = vec![("a".to_owned(), Position(2)), ("quiet".to_owned(), Position(9))];
    let refolded = refold(&[stage(OLD, None, usize::MAX)], Given { stops, ..Given::default() }, &batches(&log("abaab"), &[3]));
    assert_eq!((refolded.counts.applied, refolded.counts.held), (3, 2));
    let (_, stop) = refolded.get("a").expect("the hunt");
    let stop = stop.expect("it lags");
    assert_eq!((stop.held, stop.clock), (2, Some(Micros(1_000_000))));
    assert_eq!(view_of(&refolded, "a"), r#"{"events":1,"points":0}"#);
    let (_, quiet) = refolded.get("quiet").expect("known from the start");
    assert_eq!(quiet.expect("it lags").clock, Some(Micros(4_000_000)), "the clock at the end");
    assert_eq!(refolded.partials().count(), 2, "a hunt that neither applied nor holds anything is none");
}

#[test]
fn with_park_a_hunt_stands_before_the_event_it_cannot_take() {
    let given = Given { left_out: vec![(Offset(2), Reason::Failed)], park: true, ..Given::default() };
    let refolded = refold(&[stage(OLD, None, usize::MAX)], given, &batches(&log("aba-a"), &[]));
    let (_, stop) = refolded.get("a").expect("the hunt");
    let stop = stop.expect("parked");
    assert_eq!((stop.position, stop.held, stop.clock), (Position(2), 2, Some(Micros(1_000_000))));
    assert!(stop.reasons.failed && !stop.reasons.state_full);
    assert_eq!((refolded.counts.applied, refolded.counts.held, refolded.counts.dead_lettered), (2, 2, 0));
}

#[test]
fn a_state_past_its_bound_leaves_the_event_out() {
    struct Letters(Vec<DeadLetter>);
    impl Witness for Letters {
        const WANTS_LETTERS: bool = true;
        fn dead(&mut self, letter: DeadLetter) {
            self.0.push(letter);
        }
    }
    let mut letters = Letters(Vec::new());
    let mut refold = Refold::new(vec![stage(OLD, None, 10)], Given::default());
    batches(&log("a!"), &[]).iter().for_each(|batch| refold.take(batch, Micros(7), &mut letters));
    let refolded = refold.finish();
    assert_eq!(refolded.partials().count(), 0);
    let found: Vec<_> = letters.0.iter().map(|letter| (letter.offset.0, letter.reason, letter.failed_at.0)).collect();
    assert_eq!(found, [(0, Reason::StateFull, 7), (1, Reason::NotJson, 7)]);
}

#[test]
fn below_a_change_of_definitions_the_older_ones_hold_and_from_it_on_the_newer() {
    let stages = [stage(OLD, None, usize::MAX), stage(NEW, Some(3), usize::MAX)];
    for cuts in [&[][..], &[3], &[2, 4]] {
        let refolded = refold(&stages, Given::default(), &batches(&log("aabab"), cuts));
        assert_eq!(view_of(&refolded, "a"), r#"{"events":3,"fresh":1}"#);
        assert_eq!(view_of(&refolded, "b"), r#"{"events":2,"fresh":1}"#);
    }
    // At a position that no record has reached yet the partials are converted all the same.
    let stages = [stage(OLD, None, usize::MAX), stage(NEW, Some(9), usize::MAX)];
    let refolded = refold(&stages, Given::default(), &batches(&log("a"), &[]));
    assert_eq!(view_of(&refolded, "a"), r#"{"events":1,"fresh":0}"#);
}

#[test]
fn the_ids_remembered_before_a_change_are_remembered_after_it() {
    let mut log = log("aaaa");
    (log[2].2, log[3].2) = (log[1].2.clone(), log[0].2.clone());
    let stages = [stage(OLD, None, usize::MAX), stage(NEW, Some(2), usize::MAX)];
    let refolded = refold(&stages, Given::default(), &batches(&log, &[]));
    assert_eq!((refolded.counts.applied, refolded.counts.duplicate), (2, 2));
}

#[test]
fn a_partition_that_a_generation_did_not_know_has_it_from_the_beginning() {
    let since = |positions: &[(i32, i64)]| {
        positions.iter().map(|(number, position)| (PartitionId::new("hunt-events", *number), Position(*position))).collect()
    };
    let generation = |number, since| Generation { number, definitions: number.to_string(), since, recorded_at: Micros(0) };
    let generations = [generation(1, since(&[])), generation(2, since(&[(0, 7)])), generation(3, since(&[(0, 9), (1, 5)]))];
    let seen = |number: i32| {
        let mut compiled = Vec::new();
        let stages = stages(&generations, &PartitionId::new("hunt-events", number), |generation| {
            compiled.push(generation.number);
            let stage = stage(OLD, None, usize::MAX);
            Ok::<_, String>((stage.plan, stage.fold))
        });
        let from: Vec<_> = stages.expect("stages").iter().map(|stage| stage.from.map(|from| from.0)).collect();
        (from, compiled)
    };
    assert_eq!(seen(0).0, [None, Some(7), Some(9)]);
    assert_eq!(seen(1).0, [None, Some(5)]);
    assert_eq!(seen(2).0, [None]);
}

proptest! {
    #[test]
    fn batching_changes_nothing(records in "[abc!-]{0,40}", cuts in proptest::collection::vec(0usize..40, 0..6), from in 0i64..40) {
        let stages = [stage(OLD, None, usize::MAX), stage(NEW, Some(from), usize::MAX)];
        let log = log(&records);
        let (whole, cut) = (refold(&stages, Given::default(), &batches(&log, &[])), refold(&stages, Given::default(), &batches(&log, &cuts)));
        prop_assert_eq!(whole.counts, cut.counts);
        prop_assert!(whole.counts.balanced());
        let encoded = |of: &Refolded| -> BTreeMap<String, Vec<u8>> {
            of.partials().map(|(id, partial, _)| (id.to_owned(), of.fold.encode(partial))).collect()
        };
        prop_assert_eq!(encoded(&whole), encoded(&cut));
    }
}
