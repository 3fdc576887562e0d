//! Explanations of small logs: what every record comes to, and that what they add makes the view.

use super::*;
use crate::config::testing::settings;
use crate::decode::{Plan, hunt_hash};
use crate::partial::Fold;
use crate::position::Epoch;
use crate::record::Batch;
use crate::refold::{Given, Refold, Refolded};
use crate::time::Micros;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

const AGGREGATES: &str = r#"
[dedup]
last = 3
[time]
lateness = "5s"
[aggregates.best]
kind = "max"
of = "/points"
[aggregates.board]
kind = "top"
on = "solved"
by = "/player"
sum = "/points"
[aggregates.events]
kind = "count"
[aggregates.first_note]
kind = "first"
of = "/note"
[aggregates.hops]
kind = "sum"
of = "/points"
window = { hopping = "20s", every = "10s", keep = 3 }
[aggregates.minutes]
kind = "count"
on = "solved"
window = { tumbling = "10s", keep = 2 }
[aggregates.players]
kind = "distinct"
of = "/player"
[aggregates.points]
kind = "sum"
on = "solved"
where = "points < 90"
of = "/points"
[aggregates.steps]
kind = "funnel"
by = "/player"
stages = ["joined", "solved"]
[aggregates.visits]
kind = "count"
window = { session = "10s", keep = 2 }
"#;

fn stage(text: &str, from: Option<i64>) -> Stage {
    let definitions = settings(text).definitions;
    let plan = Arc::new(Plan::new(&definitions, "t"));
    let fold = Arc::new(Fold::new(&definitions, &plan, usize::MAX));
    Stage { from: from.map(Position), plan, fold }
}

/// Records of one partition, each of the hunt `h` unless it says so, its timestamp the event's time in seconds.
struct Log(Batch);

impl Log {
    fn new() -> Log {
        Log(Batch::new(PartitionId::new("t", 0), Epoch(0), Position(0)))
    }

    fn record(&mut self, hunt: &str, seconds: i64, value: Option<&str>) {
        let offset = Offset(self.0.records.len() as i64);
        self.0.push(offset, seconds * 1000, Some(hunt.as_bytes()), value.map(str::as_bytes), []);
    }

    fn event(&mut self, id: &str, event_type: &str, seconds: i64, members: &str) {
        let value = format!(r#"{{"id":"{id}","type":"{event_type}","time":{}{members}}}"#, seconds * 1000);
        self.record("h", seconds, Some(&value));
    }
}

fn explained(stages: &[Stage], given: Given, log: &Log, aggregate: Option<&str>, most: usize) -> (Explanation, Refolded) {
    let mut explanation = Explanation::new("h", &PartitionId::new("t", 0), stages, aggregate, most);
    let only = Some([hunt_hash(b"h")].into_iter().collect());
    let mut refold = Refold::new(stages.to_vec(), Given { only, ..given });
    refold.take(&log.0, Micros(0), &mut explanation);
    (explanation, refold.finish())
}

fn view(refolded: &Refolded) -> Value {
    let start = refolded.fold.start();
    let partial = refolded.get("h").map_or(&start, |(partial, _)| partial);
    serde_json::from_str(&refolded.fold.view(partial)).expect("JSON")
}

fn json(line: &Line) -> Value {
    serde_json::to_value(line).expect("JSON")
}

#[test]
fn every_record_of_the_hunt_is_named_with_its_outcome() {
    let mut log = Log::new();
    log.event("a", "joined", 1, r#","player":"p1""#);
    log.record("other", 2, Some(r#"{"type":"joined"}"#));
    log.record("h", 3, None);
    log.record("h", 3, Some("{"));
    log.record("h", 3, Some(r#"{"id":7,"type":"solved","time":3000,"points":"many"}"#));
    log.event("a", "solved", 4, "");
    log.record("h", 5, Some(r#"{"id":"","type":"solved\u0041","time":"1970-01-01T00:00:05Z"}"#));
    log.event("f", "solved", 6, "");
    log.event("b", "joined", 7, "");
    let given =
        Given { left_out: vec![(Offset(7), Reason::Failed)], stops: vec![("h".to_owned(), Position(8))], ..Given::default() };
    let (mut explanation, refolded) = explained(&[stage(AGGREGATES, None)], given, &log, None, 100);
    let lines = explanation.take();
    let told: Vec<Value> = lines
        .iter()
        .map(|line| {
            let line = json(line);
            json!([line["offset"], line["id"], line["type"], line["time"], line["outcome"], line["reason"], line["repeats"]])
        })
        .collect();
    let time = |second: u32| format!("1970-01-01T00:00:0{second}Z");
    assert_eq!(
        Value::from(told),
        json!([
            [0, ["a"], "joined", time(1), "applied", null, null],
            [3, null, null, null, "dead_lettered", "not_json", null],
            [4, ["7"], "solved", time(3), "dead_lettered", "wrong_type", null],
            [5, ["a"], "solved", time(4), "duplicate", null, 0],
            [6, null, "solvedA", time(5), "applied", null, null],
            [7, ["f"], "solved", time(6), "dead_lettered", "failed", null],
            [8, ["b"], "joined", time(7), "held", null, null],
        ])
    );
    assert!(lines[1].detail.as_deref().is_some_and(|detail| detail.contains("expected")), "{:?}", lines[1]);
    let counts = Counts { records: 7, applied: 2, duplicate: 1, dead_lettered: 3, held: 1, ..Counts::default() };
    assert_eq!(explanation.counts, counts);
    assert_eq!(view(&refolded)["events"], json!(2));
}

#[test]
fn every_kind_says_what_was_added_and_what_it_came_to() {
    let mut log = Log::new();
    log.event("a", "joined", 1, r#","player":7,"note":{"b": [1, 2]}"#);
    log.event("b", "solved", 2, r#","player":"p","points":2.5"#);
    let (mut explanation, _) = explained(&[stage(AGGREGATES, None)], Given::default(), &log, None, 100);
    let lines = explanation.take();
    let added = |line: usize| -> Value {
        lines[line].contributions.iter().map(|added| (added.aggregate.clone(), json!([added.adds, added.after]))).collect()
    };
    assert_eq!(
        added(0),
        json!({
            "best": [null, null], "events": [1, 1], "first_note": [{"b": [1, 2]}, {"b": [1, 2]}], "hops": [null, null],
            "players": ["7", 1], "steps": [{"key": "7", "stage": "joined"}, null], "visits": [1, 1],
        })
    );
    assert_eq!(
        added(1),
        json!({
            "best": [2.5, 2.5], "board": [{"key": "p", "value": 2.5}, null], "events": [1, 2], "first_note": [null, {"b": [1, 2]}],
            "hops": [2.5, null], "minutes": [1, 1], "players": ["p", 2], "points": [2.5, 2.5],
            "steps": [{"key": "p", "stage": "solved"}, null], "visits": [1, 2],
        })
    );
    let tally = |name: &str| &explanation.tallies[name];
    assert_eq!((tally("hops").records, tally("hops").absent), (1, 1));
}

#[test]
fn windows_that_take_and_refuse_an_event_are_named() {
    let mut log = Log::new();
    log.event("a", "solved", 1, r#","points":1"#);
    log.event("b", "solved", 42, r#","points":1"#);
    log.event("c", "solved", 35, r#","points":1"#);
    log.event("d", "solved", 3, r#","points":1"#);
    let (mut explanation, _) = explained(&[stage(AGGREGATES, None)], Given::default(), &log, None, 100);
    let lines = explanation.take();
    let places = |line: usize, name: &str| {
        let added = lines[line].contributions.iter().find(|added| added.aggregate == name).expect("it matches");
        let spans = |windows: &[Bounds]| -> Vec<(i64, i64)> {
            windows.iter().map(|w| (w.start.0 / 1_000_000, w.end.0 / 1_000_000)).collect()
        };
        (spans(&added.windows), spans(&added.late))
    };
    assert_eq!(places(0, "hops"), (vec![(-10, 10), (0, 20)], vec![]));
    assert_eq!(places(2, "hops"), (vec![(20, 40), (30, 50)], vec![]), "open until the watermark, 37, passes its end");
    assert_eq!(places(3, "hops"), (vec![], vec![(-10, 10), (0, 20)]));
    assert_eq!(places(3, "minutes"), (vec![], vec![(0, 10)]));
    assert_eq!(places(2, "visits"), (vec![(35, 52)], vec![]), "it joins the session of the one before");
    assert_eq!(places(3, "visits"), (vec![], vec![(1, 13)]));
    assert_eq!(explanation.tallies["minutes"], Tally { since: None, records: 3, absent: 0, late: 1 });
    assert_eq!(explanation.counts.late, 1);
}

#[test]
fn with_an_aggregate_only_what_concerns_it_and_only_the_newest_remain() {
    let mut log = Log::new();
    log.event("a", "joined", 1, "");
    log.event("b", "solved", 2, r#","points":95"#);
    for n in 3..8 {
        log.event(&n.to_string(), "solved", n, &format!(r#","points":{n}"#));
    }
    log.event("7", "solved", 8, r#","points":1"#);
    let (mut explanation, _) = explained(&[stage(AGGREGATES, None)], Given::default(), &log, Some("points"), 3);
    let offsets: Vec<i64> = explanation.take().iter().map(|line| line.offset.0).collect();
    assert_eq!((offsets, explanation.hidden), (vec![5, 6, 7], 3));
    assert_eq!(explanation.tallies["points"].records, 5);
    assert_eq!(explanation.counts, Counts { records: 6, applied: 5, duplicate: 1, ..Counts::default() });
}

#[test]
fn what_an_aggregate_saw_before_definitions_without_it_does_not_count() {
    let mut log = Log::new();
    (0..6).for_each(|n| log.event(&n.to_string(), "t", n, ""));
    let (events, more) = ("[aggregates.events]\nkind = \"count\"\n", "[aggregates.more]\nkind = \"count\"\n");
    let both = format!("{events}{more}");
    let stages = [stage(&both, None), stage(events, Some(2)), stage(&both, Some(4))];
    let (explanation, refolded) = explained(&stages, Given::default(), &log, None, 100);
    assert_eq!(explanation.tallies["more"], Tally { since: Some(Position(4)), records: 2, ..Tally::default() });
    assert_eq!(explanation.tallies["events"].records, 6);
    assert_eq!(view(&refolded), json!({"events": 6, "more": 2}));
}

proptest! {
    /// Whatever the windows, what was added to those that are kept makes their values; late is late for both.
    #[test]
    fn what_records_add_makes_the_view(events in proptest::collection::vec((0i64..90, 0u8..8, -9i64..120), 0..60)) {
        let mut log = Log::new();
        for (n, (seconds, id, points)) in events.iter().enumerate() {
            let id = if *id == 0 { format!("{}", n / 2) } else { format!("n{n}") };
            let event_type = if points % 3 == 0 { "joined" } else { "solved" };
            let members = if points % 5 == 0 { String::new() } else { format!(r#","points":{points},"player":{}"#, points % 4) };
            log.event(&id, event_type, *seconds, &members);
        }
        let (mut explanation, refolded) = explained(&[stage(AGGREGATES, None)], Given::default(), &log, None, usize::MAX);
        let view = view(&refolded);
        let mut sums: BTreeMap<(String, Option<String>), i64> = BTreeMap::new();
        let mut sessions: Vec<(i64, i64, i64)> = Vec::new();
        for line in explanation.take() {
            for added in &line.contributions {
                let number = added.adds.as_ref().and_then(|adds| adds.get().parse::<i64>().ok()).unwrap_or_default();
                if added.aggregate == "visits" {
                    sessions.extend(added.windows.iter().map(|window| (window.start.0, window.end.0, number)));
                }
                let windows: Vec<Option<String>> = match added.aggregate.as_str() {
                    "hops" | "minutes" => added.windows.iter().map(|window| Some(window.start.to_string())).collect(),
                    _ => vec![None],
                };
                for window in windows {
                    *sums.entry((added.aggregate.clone(), window)).or_default() += number;
                }
            }
        }
        let sum = |name: &str, window: Option<&str>| {
            sums.get(&(name.to_owned(), window.map(str::to_owned))).copied().unwrap_or_default()
        };
        for name in ["events", "points"] {
            prop_assert_eq!(&view[name], &json!(sum(name, None)), "{}", name);
        }
        for name in ["hops", "minutes"] {
            for window in view[name].as_array().expect("windows") {
                prop_assert_eq!(&window["value"], &json!(sum(name, window["start"].as_str())), "{} {}", name, window);
            }
        }
        for window in view["visits"].as_array().expect("sessions") {
            let bound = |name: &str| Micros::parse_rfc3339(window[name].as_str().expect("text").as_bytes()).expect("a time").0;
            let (start, end) = (bound("start"), bound("end"));
            // A session is named as it was when each event joined it.
            let parts = sessions.iter().filter(|(from, to, _)| start <= *from && *to <= end);
            prop_assert_eq!(&window["value"], &json!(parts.map(|(_, _, number)| number).sum::<i64>()), "{}", window);
        }
        prop_assert_eq!(explanation.counts.late, refolded.counts.late);
        let made: u64 = view["events"].as_u64().expect("a number");
        prop_assert_eq!(explanation.tallies["events"].records, made);
    }
}
