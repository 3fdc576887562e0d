//! The laws of partials, by property: what merging, encoding and bounds promise whatever the events.

use super::*;
use crate::decode::Verdict;
use crate::definitions::{EventPlaces, Kind, Place, Pointer, Shape, Window};
use crate::position::{Epoch, Offset, Position};
use crate::record::PartitionId;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Every kind, without windows and with each shape of them. Nothing is late but for what `lateness` and `keep` say.
fn definitions(lateness: i64, keep: u32) -> Definitions {
    let pointer = |name: &str| Pointer(vec![name.to_owned()]);
    let (of, by) = (|| pointer("v"), || pointer("k"));
    let stages = || vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
    let kinds = || {
        [
            ("count", Kind::Count),
            ("distinct", Kind::Distinct { of: by(), exact_up_to: 64 }),
            ("first", Kind::First { of: of() }),
            ("funnel", Kind::Funnel { by: by(), stages: stages(), exact_up_to: 64 }),
            ("last", Kind::Last { of: of() }),
            ("max", Kind::Max { of: of() }),
            ("mean", Kind::Mean { of: of() }),
            ("min", Kind::Min { of: of() }),
            ("most", Kind::Top { by: by(), sum: None, limit: 5, exact_up_to: 64 }),
            ("quantiles", Kind::Quantiles { of: of(), at: vec![0.5, 0.99] }),
            ("richest", Kind::Top { by: by(), sum: Some(of()), limit: 5, exact_up_to: 64 }),
            ("sum", Kind::Sum { of: of() }),
        ]
    };
    const SECOND: i64 = 1_000_000;
    let shapes = [
        ("", None),
        ("_hopping", Some(Shape::Hopping { length: 5 * SECOND, every: 2 * SECOND })),
        ("_session", Some(Shape::Session { gap: SECOND })),
        ("_tumbling", Some(Shape::Tumbling { length: 2 * SECOND })),
    ];
    let mut aggregates = Vec::new();
    for (suffix, shape) in shapes {
        for (name, kind) in kinds() {
            let window = shape.map(|shape| Window { shape, keep });
            let name = format!("{name}{suffix}");
            aggregates.push(crate::definitions::Aggregate { name, kind, on: None, filter: None, window });
        }
    }
    aggregates.sort_by(|a, b| a.name.cmp(&b.name));
    let rollup = aggregates.iter().filter(|a| !a.name.ends_with("_session")).map(|a| a.name.clone()).collect();
    Definitions {
        event: EventPlaces {
            hunt: Place::Key,
            id: vec![Place::Value(pointer("id"))],
            event_type: Place::Value(pointer("type")),
            time: Some(Place::Value(pointer("time"))),
            max_bytes: 1 << 20,
        },
        topics: BTreeMap::new(),
        dedup_last: 3,
        time: TimeRules { lateness, idle: Some(5 * SECOND), max_ahead: None },
        aggregates,
        rollup,
    }
}

/// One event: a value as JSON, a key, a type, an event time in milliseconds, perhaps an id.
#[derive(Clone, Debug)]
struct Event {
    value: String,
    key: u8,
    stage: char,
    time: i64,
    id: Option<u8>,
}

impl Event {
    fn of(value: String) -> Event {
        Event { value, key: 0, stage: 'a', time: 0, id: None }
    }
}

struct Bench {
    plan: Plan,
    fold: Fold,
}

/// So far in the past that nothing is late.
const NEVER_LATE: i64 = i64::MAX / 4;

impl Bench {
    /// Nothing is late and no window goes.
    fn new(max_state: usize) -> Self {
        Bench::of(&definitions(NEVER_LATE, 10_000), max_state)
    }

    /// Events are late and windows go.
    fn strict(max_state: usize) -> Self {
        Bench::of(&definitions(500_000, 2), max_state)
    }

    fn of(definitions: &Definitions, max_state: usize) -> Self {
        let plan = Plan::new(definitions, "t");
        let fold = Fold::new(definitions, &plan, max_state);
        Bench { plan, fold }
    }

    fn batch(&self, events: &[Event]) -> (Batch, Decoded) {
        self.batch_at(events, |n| n)
    }

    fn batch_at(&self, events: &[Event], offset: impl Fn(usize) -> usize) -> (Batch, Decoded) {
        let mut batch = Batch::new(PartitionId::new("t", 0), Epoch(1), Position(0));
        for (n, Event { value, key, stage, time, id }) in events.iter().enumerate() {
            let id = id.map_or("null".to_owned(), |id| format!("\"i{id}\""));
            let json = format!(r#"{{"id":{id},"type":"{stage}","time":{time},"v":{value},"k":"k{key}"}}"#);
            batch.push(Offset(offset(n) as i64), time + 1000, Some(b"h"), Some(json.as_bytes()), []);
        }
        let mut decoded = Decoded::default();
        self.plan.decode(&batch, &mut decoded);
        assert!(decoded.events.iter().all(|event| event.verdict == Verdict::Event), "{events:?}");
        (batch, decoded)
    }

    /// Folds onto a partial; the partition clock is that of these events alone.
    fn apply(&self, partial: &mut Partial, events: &[Event]) -> Vec<Folded> {
        self.apply_with(partial, events, &mut Delta::default())
    }

    fn apply_with(&self, partial: &mut Partial, events: &[Event], delta: &mut Delta) -> Vec<Folded> {
        let (batch, decoded) = self.batch(events);
        let mut clock = None;
        let mut folded = Vec::new();
        for index in 0..events.len() {
            folded.push(self.fold.apply(partial, &batch, &decoded, index, clock, delta));
            clock = clock.max(Micros::of_record_timestamp(batch.records[index].timestamp_ms));
        }
        folded
    }

    fn fold(&self, events: &[Event]) -> Partial {
        let mut partial = self.fold.start();
        self.apply(&mut partial, events);
        partial
    }

    fn merged(&self, parts: &[&Partial]) -> Partial {
        let mut merged = self.fold.start();
        for part in parts {
            self.fold.merge(&mut merged, part);
        }
        merged
    }

    /// What a reader sees of it, but for the clocks.
    fn seen(&self, partial: &Partial) -> (String, u64, Option<(Micros, Micros)>) {
        (self.fold.view(partial), partial.events, partial.times.map(|t| (t.first, t.last)))
    }
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![0i64..4, 1_700_000_000_000i64..1_700_000_010_000]
}

/// Integers up to the ends, and floats whose sums are exact: quarters.
fn exact_value() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => any::<i64>().prop_map(|i| i.to_string()),
        1 => any::<u64>().prop_map(|u| u.to_string()),
        2 => (-9i64..9).prop_map(|i| i.to_string()),
        1 => Just(u64::MAX.to_string()),
        1 => Just(i64::MIN.to_string()),
        1 => Just("null".to_owned()),
    ]
}

fn quarter() -> impl Strategy<Value = String> {
    prop_oneof![(-1_000_000i64..1_000_000).prop_map(|n| format!("{:?}", n as f64 / 4.0)), (-9i64..9).prop_map(|i| i.to_string())]
}

fn any_value() -> impl Strategy<Value = String> {
    let float = any::<f64>().prop_filter("JSON has finite numbers", |f| f.is_finite()).prop_map(|f| format!("{f:?}"));
    let ends = prop_oneof![Just(1.7e308), Just(-1.7e308), Just(-0.0), Just(0.0), Just(5e-324), Just(9007199254740993.0)];
    prop_oneof![2 => exact_value(), 2 => float, 1 => ends.prop_map(|f: f64| format!("{f:?}"))]
}

fn events(value: impl Strategy<Value = String>, ids: bool) -> impl Strategy<Value = Vec<Event>> {
    let id = if ids { proptest::option::of(0u8..6).boxed() } else { Just(None).boxed() };
    let event = (value, 0u8..9, prop::sample::select(vec!['a', 'b', 'c', 'x']), time(), id);
    proptest::collection::vec(event.prop_map(|(value, key, stage, time, id)| Event { value, key, stage, time, id }), 0..40)
}

/// Integers only, or quarters only: what a sum rounds nowhere.
fn exact_events() -> impl Strategy<Value = Vec<Event>> {
    prop_oneof![events(exact_value(), false), events(quarter(), false)]
}

proptest! {
    // Each case folds 48 aggregates, several times over.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Where no sum rounds. (Where floats do, a merge is the sum of the partials' sums, in their order: see the next law.)
    #[test]
    fn a_merge_of_any_split_equals_the_whole(events in exact_events(), cuts in proptest::collection::vec(0usize..40, 0..4)) {
        let bench = Bench::new(usize::MAX);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(events.len())).collect();
        cuts.extend([0, events.len()]);
        cuts.sort_unstable();
        let parts: Vec<Partial> = cuts.windows(2).map(|ends| bench.fold(&events[ends[0]..ends[1]])).collect();
        let merged = bench.merged(&parts.iter().collect::<Vec<_>>());
        prop_assert_eq!(bench.seen(&merged), bench.seen(&bench.fold(&events)));
    }

    #[test]
    fn floats_merge_as_the_sums_of_their_partials_in_order(parts in proptest::collection::vec(proptest::collection::vec(-1e300f64..1e300, 1..6), 1..5)) {
        let bench = Bench::new(usize::MAX);
        let event = |f: &f64| Event::of(format!("{f:?}"));
        let partials: Vec<Partial> = parts.iter().map(|part| bench.fold(&part.iter().map(event).collect::<Vec<_>>())).collect();
        let view = bench.fold.view(&bench.merged(&partials.iter().collect::<Vec<_>>()));
        // As written: a parser may round.
        let view: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(&view).unwrap();
        let sum_of = |floats: &[f64]| floats.iter().copied().reduce(|a, b| a + b).unwrap_or(0.0);
        let expected = sum_of(&parts.iter().map(|part| sum_of(part)).collect::<Vec<_>>());
        prop_assert_eq!(view["sum"].get().parse().ok(), Some(expected + 0.0).filter(|f| f.is_finite()));
    }

    #[test]
    fn nothing_is_the_identity_of_merging(events in events(any_value(), true)) {
        let bench = Bench::new(usize::MAX);
        let (partial, nothing) = (bench.fold(&events), bench.fold.start());
        for merged in [bench.merged(&[&partial]), bench.merged(&[&nothing, &partial]), bench.merged(&[&partial, &nothing])] {
            prop_assert_eq!(bench.seen(&merged), bench.seen(&partial));
        }
    }

    #[test]
    fn merging_is_associative(a in exact_events(), b in exact_events(), c in exact_events()) {
        let bench = Bench::new(usize::MAX);
        // Integers of 64 bits beside quarters would round.
        prop_assume!([&a, &b, &c].iter().all(|e| e.iter().all(|e| e.value.len() < 12)) || [&a, &b, &c].iter().all(|e| e.iter().all(|e| !e.value.contains('.'))));
        let [a, b, c] = [a, b, c].map(|events| bench.fold(&events));
        let left = bench.merged(&[&bench.merged(&[&a, &b]), &c]);
        let right = bench.merged(&[&a, &bench.merged(&[&b, &c])]);
        prop_assert_eq!(bench.seen(&left), bench.seen(&right));
    }

    /// But for `first` and `last`, between whose equal times the partitions' order decides.
    #[test]
    fn merging_is_commutative_where_order_means_nothing(a in events(exact_value(), false), b in events(exact_value(), false)) {
        let bench = Bench::new(usize::MAX);
        let [a, b] = [a, b].map(|events| bench.fold(&events));
        let ordered = |name: &String| name.starts_with("first") || name.starts_with("last");
        let view = |parts: &[&Partial]| {
            let view = bench.fold.view(&bench.merged(parts));
            let mut view: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(&view).unwrap();
            view.retain(|name, _| !ordered(name));
            view.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect::<Vec<_>>()
        };
        prop_assert_eq!(view(&[&a, &b]), view(&[&b, &a]));
    }

    #[test]
    fn a_snapshot_reads_back_as_the_same_bytes_and_folds_on_alike(before in events(any_value(), true), after in events(any_value(), true)) {
        let bench = Bench::strict(usize::MAX);
        let mut partial = bench.fold(&before);
        let bytes = bench.fold.encode(&partial);
        let mut back = bench.fold.decode(&bytes).unwrap();
        prop_assert_eq!(&bench.fold.encode(&back), &bytes);
        prop_assert_eq!(bench.fold.view(&back), bench.fold.view(&partial));
        prop_assert_eq!(bench.apply(&mut back, &after), bench.apply(&mut partial, &after));
        prop_assert_eq!(bench.fold.encode(&back), bench.fold.encode(&partial));
    }

    #[test]
    fn a_view_is_valid_json_and_no_encoding_is_larger_than_foretold(events in events(any_value(), true), strict: bool) {
        let bench = if strict { Bench::strict(usize::MAX) } else { Bench::new(usize::MAX) };
        let mut partial = bench.fold.start();
        for n in 0..events.len() {
            bench.apply(&mut partial, &events[n..n + 1]);
            prop_assert!(bench.fold.encode(&partial).len() <= bench.fold.bounded + partial.weight);
        }
        let view: serde_json::Value = serde_json::from_str(&bench.fold.view_with(&partial, Some(Finals(None)))).unwrap();
        prop_assert_eq!(view.as_object().map(|members| members.len()), Some(48));
    }

    /// What hunts add to the rollup one by one, in whatever pieces and order, is what they add together.
    #[test]
    fn a_rollup_is_the_same_however_its_events_were_gathered(
        hunts in proptest::collection::vec(events(any_value(), true), 1..4),
        piece in 1usize..9,
        strict: bool,
    ) {
        let bench = if strict { Bench::strict(usize::MAX) } else { Bench::new(usize::MAX) };
        let rollup = bench.fold.rollup();
        let (mut whole, mut pieces) = (Delta::default(), Vec::new());
        for (hunt, events) in hunts.iter().enumerate() {
            // Offsets are a partition's: no two hunts share one.
            let (batch, decoded) = bench.batch_at(events, |n| n * 10 + hunt);
            let mut partial = bench.fold.start();
            let (mut clock, mut delta) = (None, Delta::default());
            for index in 0..events.len() {
                let mut next = partial.clone();
                bench.fold.apply(&mut next, &batch, &decoded, index, clock, &mut whole);
                bench.fold.apply(&mut partial, &batch, &decoded, index, clock, &mut delta);
                clock = clock.max(Micros::of_record_timestamp(batch.records[index].timestamp_ms));
                if index % piece == 0 {
                    pieces.push(std::mem::take(&mut delta));
                }
            }
            pieces.push(delta);
        }
        let mut merged = Delta::default();
        pieces.iter().rev().for_each(|piece| rollup.merge(&mut merged, piece));
        prop_assert_eq!(rollup.encode(&merged), rollup.encode(&whole));
        let back = rollup.decode(&rollup.encode(&merged)).unwrap();
        prop_assert_eq!(rollup.encode(&back), rollup.encode(&merged));
        prop_assert_eq!(rollup.values([&back]), rollup.values([&whole]));
    }

    /// Whatever is read encodes to the very bytes it was read from, shows valid JSON, and can be folded on, merged and measured.
    #[test]
    fn malformed_snapshots_are_refused_or_harmless(
        events in events(any_value(), true),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        noise in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80)),
    ) {
        let bench = Bench::strict(usize::MAX);
        let mut bytes = noise.unwrap_or_else(|| bench.fold.encode(&bench.fold(&events)));
        if !bytes.is_empty() {
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                let cut = cut.index(bytes.len());
                bytes.truncate(cut);
                prop_assert!(cut > 0 || bench.fold.decode(&bytes).is_err());
            }
        }
        if let Ok(mut partial) = bench.fold.decode(&bytes) {
            prop_assert_eq!(bench.fold.encode(&partial), bytes.clone());
            serde_json::from_str::<serde_json::Value>(&bench.fold.view(&partial)).unwrap();
            bench.fold.watermark(&bytes, Some(Micros(i64::MAX)));
            bench.fold.readers(&bench.merged(&[&partial, &partial, &partial]));
            bench.apply(&mut partial, &events);
        }
    }

    #[test]
    fn a_cut_snapshot_is_refused(events in events(any_value(), true)) {
        let bench = Bench::new(usize::MAX);
        let bytes = bench.fold.encode(&bench.fold(&events));
        for len in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
            prop_assert!(bench.fold.decode(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
        }
    }

    /// With a bound that bites, the partial is the fold of the events it applied, never past the bound, and refuses only what would pass it.
    #[test]
    fn max_state_is_never_passed_and_leaves_no_trace(events in events(any_value(), true), max_state in 300usize..9_000) {
        let (bounded, free) = (Bench::strict(max_state), Bench::strict(usize::MAX));
        let (batch, decoded) = bounded.batch(&events);
        let (mut partial, mut plain) = (bounded.fold.start(), free.fold.start());
        let mut clock = None;
        for index in 0..events.len() {
            let mut next = plain.clone();
            let unbounded = free.fold.apply(&mut next, &batch, &decoded, index, clock, &mut Delta::default());
            let would_take = free.fold.encode(&next).len();
            match bounded.fold.apply(&mut partial, &batch, &decoded, index, clock, &mut Delta::default()) {
                Folded::StateFull { bytes } => {
                    prop_assert!(bytes > max_state && bytes == would_take && unbounded != Folded::Duplicate);
                }
                folded => {
                    prop_assert_eq!(folded, unbounded);
                    prop_assert!(folded == Folded::Duplicate || would_take <= max_state);
                    plain = next;
                }
            }
            prop_assert_eq!(bounded.fold.encode(&partial), free.fold.encode(&plain));
            clock = clock.max(Micros::of_record_timestamp(batch.records[index].timestamp_ms));
        }
    }
}

fn view_of(values: &[&str]) -> serde_json::Map<String, serde_json::Value> {
    let bench = Bench::new(usize::MAX);
    let events: Vec<Event> = values.iter().map(|v| Event::of((*v).to_owned())).collect();
    let view = bench.fold.view(&bench.fold(&events));
    // Numbers as they are written, beyond what a parser keeps.
    let raw: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(&view).unwrap();
    raw.into_iter().map(|(name, value)| (name, value.get().into())).collect()
}

#[test]
fn sums_of_integers_are_exact_at_any_size() {
    assert_eq!(view_of(&["18446744073709551615"; 3])["sum"], "55340232221128654845");
    assert_eq!(view_of(&["-9223372036854775808"; 3])["sum"], "-27670116110564327424");
    assert_eq!(view_of(&["9223372036854775807", "1", "-9223372036854775808"])["sum"], "0");
}

#[test]
fn the_ends_of_the_numbers_are_kept_and_compared_exactly() {
    let view = view_of(&["18446744073709551615", "18446744073709551616", "-9223372036854775808", "-9223372036854775809"]);
    assert_eq!(
        view["max"].as_str().unwrap().parse(),
        Ok(18446744073709551616.0),
        "an integer past 2^64-1 is a float, and that float is 2^64"
    );
    assert_eq!(view["min"], "-9223372036854775808", "2^63 below zero as a float is the same value: the first stays");
}

#[test]
fn a_sum_that_leaves_the_floats_is_null_and_minus_zero_is_a_number() {
    let view = view_of(&["1.7e308", "1.7e308"]);
    assert_eq!((&view["sum"], &view["mean"]), (&"null".into(), &"null".into()));
    assert_eq!(view_of(&["1.7e308", "1.7e308", "-1.7e308"])["sum"], "null", "what left does not come back");
    let view = view_of(&["-0.0"]);
    assert_eq!((&view["min"], &view["sum"], &view["first"]), (&"-0.0".into(), &"0.0".into(), &"-0.0".into()));
}
