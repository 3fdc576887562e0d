//! The **fold**: one partition's records in offset order into one partial a hunt, then the merge of a hunt's partials.
//!
//! [`recompute`] is the door. Invariant: a partial depends on the records before it in its partition and on nothing else.

use super::cell::{Cell, Rank};
use super::definitions::{Aggregate, Definitions};
use super::event::{Decision, Event, decide};
use super::json::{Json, Text};
use super::window::Windows;
use super::{DeadLetter, HuntSaid, LeftOut, Log, Partition, PartitionSaid, Record, Said};
use std::collections::{BTreeMap, VecDeque};

pub fn recompute(definitions: &Definitions, log: &Log, left_out: &LeftOut) -> Said {
    let mut said = Said {
        definitions: definitions.clone(),
        partitions: BTreeMap::new(),
        hunts: BTreeMap::new(),
        rollup: BTreeMap::new(),
        late: BTreeMap::new(),
    };
    // By hunt, its partials in (topic, partition) order.
    let mut hunts: BTreeMap<String, Vec<Partial>> = BTreeMap::new();
    for (partition, records) in log {
        let mut folded = Folded::default();
        for record in records {
            folded.take(definitions, partition, record, left_out);
        }
        for (name, late) in &folded.late {
            *said.late.entry(name.clone()).or_default() += late;
        }
        for (hunt, partial) in &mut folded.partials {
            partial.watermark_at_end = partial.watermark(definitions, folded.clock);
            folded.said.hunts.insert(hunt.clone(), view(definitions, std::slice::from_ref(partial)));
            hunts.entry(hunt.clone()).or_default().push(partial.clone());
        }
        folded.said.clock = folded.clock.map(whole);
        said.partitions.insert(partition.clone(), folded.said);
    }
    said.hunts = hunts.into_iter().map(|(hunt, partials)| (hunt, view(definitions, &partials))).collect();
    said
}

/// One partition, so far.
#[derive(Default)]
struct Folded {
    said: PartitionSaid,
    /// Greatest record timestamp, whatever became of the record.
    clock: Option<i128>,
    partials: BTreeMap<String, Partial>,
    late: BTreeMap<String, u64>,
}

#[derive(Clone, Default)]
struct Partial {
    /// Ids of the last applied events that had one, oldest first.
    ids: VecDeque<Vec<Vec<u8>>>,
    states: BTreeMap<String, State>,
    events: i64,
    first_event_at: i128,
    last_event_at: i128,
    hunt_clock: Option<i128>,
    /// The partition's at the last applied event.
    partition_clock: Option<i128>,
    /// The watermark before the last applied event: it never goes below.
    floor: Option<i128>,
    watermark_at_end: Option<i128>,
}

#[derive(Clone)]
enum State {
    Whole(Cell),
    Windowed(Windows),
}

impl State {
    fn new(aggregate: &Aggregate) -> State {
        match aggregate.window {
            None => State::Whole(Cell::new(&aggregate.kind)),
            Some(_) => State::Windowed(Windows::default()),
        }
    }

    fn merge(&mut self, aggregate: &Aggregate, other: &State) {
        match (self, other, &aggregate.window) {
            (State::Whole(cell), State::Whole(other), None) => cell.merge(&aggregate.kind, other),
            (State::Windowed(windows), State::Windowed(other), Some(window)) => windows.merge(&aggregate.kind, window, other),
            _ => panic!("two states of one aggregate are of one shape"),
        }
    }

    fn value(&self, aggregate: &Aggregate) -> Json {
        match (self, &aggregate.window) {
            (State::Whole(cell), None) => cell.value(&aggregate.kind),
            (State::Windowed(windows), Some(window)) => windows.value(&aggregate.kind, window),
            _ => panic!("a state has the shape of its aggregate"),
        }
    }
}

impl Folded {
    fn take(&mut self, definitions: &Definitions, partition: &Partition, record: &Record, left_out: &LeftOut) {
        let clock_before = self.clock;
        self.clock = self.clock.max(record.recorded_at());
        self.said.counts.records += 1;
        match decide(definitions, definitions.places(&partition.0), record) {
            Decision::Ignored => self.said.counts.ignored += 1,
            Decision::DeadLetter { hunt, reason } => self.dead_letter(record, hunt, reason),
            Decision::Event(event) => self.event(definitions, partition, record, &event, clock_before, left_out),
        }
    }

    fn dead_letter(&mut self, record: &Record, hunt_id: Option<String>, reason: &str) {
        self.said.counts.dead_lettered += 1;
        self.said.dead_letters.push(DeadLetter { offset: record.offset, hunt_id, reason: reason.to_owned() });
    }

    /// Steps 7 to 9.
    fn event(
        &mut self,
        definitions: &Definitions,
        partition: &Partition,
        record: &Record,
        event: &Event,
        clock_before: Option<i128>,
        left_out: &LeftOut,
    ) {
        let known = self.partials.get(&event.hunt);
        if event.id.as_ref().is_some_and(|id| known.is_some_and(|partial| partial.ids.contains(id))) {
            self.said.counts.duplicate += 1;
            return;
        }
        if let Some(reason) = left_out.get(&(partition.0.clone(), partition.1, record.offset)) {
            self.dead_letter(record, Some(event.hunt.clone()), reason);
            return;
        }
        self.said.counts.applied += 1;
        let clock = self.clock;
        let partial = self.partials.entry(event.hunt.clone()).or_default();
        let refused_by = partial.apply(definitions, partition, record, event, clock_before, clock);
        self.said.counts.late += i64::from(!refused_by.is_empty());
        for name in refused_by {
            *self.late.entry(name).or_default() += 1;
        }
    }
}

impl Partial {
    /// The aggregates that found it late.
    fn apply(
        &mut self,
        definitions: &Definitions,
        partition: &Partition,
        record: &Record,
        event: &Event,
        clock_before: Option<i128>,
        clock: Option<i128>,
    ) -> Vec<String> {
        let watermark = self.watermark(definitions, clock_before);
        let rank: Rank = (event.time, partition.0.clone(), partition.1, record.offset);
        let mut refused_by = Vec::new();
        for (name, contribution) in &event.contributions {
            let aggregate = &definitions.aggregates[name];
            let state = self.states.entry(name.clone()).or_insert_with(|| State::new(aggregate));
            match (state, &aggregate.window) {
                (State::Windowed(windows), Some(window)) => {
                    if windows.add(&aggregate.kind, window, contribution, &rank, watermark) {
                        refused_by.push(name.clone());
                    }
                }
                (State::Whole(cell), _) => cell.add(&aggregate.kind, contribution, &rank),
                (State::Windowed(_), None) => panic!("a state has the shape of its aggregate"),
            }
        }
        for (name, state) in &mut self.states {
            if let (State::Windowed(windows), Some(window)) = (state, &definitions.aggregates[name].window) {
                windows.drop_final_sessions(window.keep, watermark);
            }
        }

        if let Some(id) = &event.id {
            self.ids.push_back(id.clone());
            while self.ids.len() > definitions.dedup_last {
                self.ids.pop_front();
            }
        }
        self.first_event_at = if self.events == 0 { event.time } else { self.first_event_at.min(event.time) };
        self.last_event_at = self.last_event_at.max(event.time);
        self.events += 1;
        let seen = record.recorded_at().map_or(event.time, |recorded| event.time.min(recorded));
        self.hunt_clock = self.hunt_clock.max(Some(seen));
        self.partition_clock = clock;
        self.floor = watermark;
        refused_by
    }

    /// With the partition's clock at some moment after the last applied event; `None` before the first.
    fn watermark(&self, definitions: &Definitions, partition_clock: Option<i128>) -> Option<i128> {
        let hunt_clock = self.hunt_clock?;
        let silence = match (definitions.idle, partition_clock, self.partition_clock) {
            (Some(idle), Some(now), Some(then)) => (now - then - idle).max(0),
            _ => 0,
        };
        Some(hunt_clock + silence - definitions.lateness).max(self.floor)
    }
}

/// What readers see of one hunt.
fn view(definitions: &Definitions, partials: &[Partial]) -> HuntSaid {
    let members = definitions.aggregates.iter().map(|(name, aggregate)| {
        let mut merged = State::new(aggregate);
        for state in partials.iter().filter_map(|partial| partial.states.get(name)) {
            merged.merge(aggregate, state);
        }
        (Text::from(name.as_str()), merged.value(aggregate))
    });
    let over = |of: fn(&Partial) -> i128| partials.iter().map(of);
    HuntSaid {
        view: Json::Object(members.collect()),
        events: partials.iter().map(|p| p.events).sum(),
        first_event_at: over(|p| p.first_event_at).min().map(whole).expect("a hunt has a partial"),
        last_event_at: over(|p| p.last_event_at).max().map(whole).expect("a hunt has a partial"),
        watermark: partials.iter().filter_map(|p| p.watermark_at_end).min().map(whole).expect("a partial has applied something"),
        partials: partials.len(),
    }
}

/// Microseconds as the store holds them.
fn whole(micros: i128) -> i64 {
    micros.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

#[cfg(test)]
mod tests {
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
}
