//! **top**: the keys with the greatest sums of weights: all keys exactly while they are few, beyond
//! that a summary that knows how wrong it is at most.
//!
//! The rule hands in the key and the weight of each event, 1 where events are counted. Invariant: up
//! to `exact_up_to` keys, k below, every key has its [`Sum`]; one more and the table is a [`Summary`]
//! for good, whose values are off by at most its error, absent keys included (they stand for 0), and
//! the error is at most 2 W / k, W the sum of all |weights|. A state depends on what was added in
//! which order, never on the order its table lies in.
//!
//! Why a new key beyond k halves the table: a reduction visits all of it, and is paid for by the
//! k / 2 new keys until the next. A merge keeps k: it visits everything anyway.

pub mod estimate;
pub mod summary;
pub mod table;

use super::number::Number;
use super::sum::Sum;
use crate::codec::{Reader, Result, Writer};
use estimate::Estimate;
use summary::Summary;
use table::Table;

/// The keys so far and their sums: two machine words, nothing allocated before the first.
#[derive(Clone, Debug, Default)]
pub enum Top {
    #[default]
    Nothing,
    /// Not empty.
    Exact(Box<Table<Sum>>),
    Summary(Box<Summary>),
}

impl Top {
    /// The number of keys kept.
    pub fn len(&self) -> usize {
        match self {
            Top::Nothing => 0,
            Top::Exact(table) => table.len(),
            Top::Summary(summary) => summary.estimates().len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds `weight` to `key`, which is UTF-8; `zero` is what a key's sum begins with. A known key allocates nothing.
    #[inline]
    pub fn add(&mut self, key: &[u8], weight: Number, zero: &Sum, exact_up_to: u32) {
        match self {
            Top::Nothing => {
                *self = Top::Exact(Box::default());
                return self.add(key, weight, zero, exact_up_to);
            }
            Top::Exact(table) => match table.get_mut(key) {
                Some(sum) => return sum.add(weight),
                None => {
                    let mut sum = zero.clone();
                    sum.add(weight);
                    table.insert(key, sum);
                }
            },
            Top::Summary(summary) => summary.add(key, Estimate::of(weight)),
        }
        if self.len() > exact_up_to as usize {
            self.summarize().reduce(exact_up_to as usize / 2);
        }
    }

    /// Adds the sums of a later partial: exactly, if both are exact and their union is in range.
    pub fn merge(&mut self, later: &Top, exact_up_to: u32) {
        match (&mut *self, later) {
            (_, Top::Nothing) => {}
            (Top::Nothing, _) => *self = later.clone(),
            (Top::Exact(table), Top::Exact(more)) => {
                for (key, sum) in more.iter() {
                    match table.get_mut(key) {
                        Some(ours) => ours.merge(sum),
                        None => table.insert(key, sum.clone()),
                    }
                }
            }
            (_, Top::Exact(more)) => self.summarize().merge_sums(more),
            (_, Top::Summary(more)) => self.summarize().merge(more),
        }
        if self.len() > exact_up_to as usize {
            self.summarize().reduce(exact_up_to as usize);
        }
    }

    /// Makes it a summary, if it is none yet.
    fn summarize(&mut self) -> &mut Summary {
        if let Top::Exact(table) = self {
            *self = Top::Summary(Box::new(Summary::of(std::mem::take(table))));
        }
        match self {
            Top::Summary(summary) => summary,
            Top::Exact(_) | Top::Nothing => unreachable!("a table of some keys became a summary"),
        }
    }

    /// Sums or estimates in the order of their keys.
    pub fn encode(&self, w: &mut Writer) {
        match self {
            Top::Nothing => w.byte(0),
            Top::Exact(table) => {
                w.byte(1);
                table.encode(|sum, w| sum.encode(w), w);
            }
            Top::Summary(summary) => {
                w.byte(2);
                summary.encode(w);
            }
        }
    }

    pub fn decode(r: &mut Reader, zero: &Sum, exact_up_to: u32) -> Result<Top> {
        match r.byte("the kind of a top")? {
            0 => Ok(Top::Nothing),
            1 => match Table::decode(r, |r| Sum::decode(r, zero), exact_up_to)? {
                table if table.is_empty() => r.expected("a key"),
                table => Ok(Top::Exact(Box::new(table))),
            },
            2 => Ok(Top::Summary(Box::new(Summary::decode(r, exact_up_to)?))),
            _ => r.expected("a top (0 nothing, 1 exact, 2 a summary)"),
        }
    }

    /// No more bytes than this are added to the encoding by one more weight of `key`, where floats are added in order.
    pub fn growth(&self, key: &[u8], exact_up_to: u32) -> usize {
        // The key's length and the number of keys; an error and an estimate, which is longer than what a sum grows by.
        let one = 10 + key.len() + 2 + summary::GROWTH;
        let is_reduced = self.len() >= exact_up_to as usize
            && match self {
                Top::Nothing => true,
                Top::Exact(table) => !table.contains(key),
                Top::Summary(summary) => !summary.estimates().contains(key),
            };
        // Each estimate that stays may lengthen by all but 2 bytes; for each a key goes that took at least 3.
        if is_reduced { one + exact_up_to as usize / 2 * (estimate::LONGEST - 2 - 3) } else { one }
    }

    /// At most `limit` items, greatest first, equal ones by key; what has left the 64-bit floats is `null` and last.
    pub fn write_json(&self, limit: usize, out: &mut String) {
        match self {
            Top::Nothing => out.push_str("[]"),
            Top::Exact(table) => table.write_json(limit, Sum::compare, Sum::write_json, out),
            Top::Summary(summary) => summary.write_json(limit, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::Floats;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Event = (String, Number);

    const IN_ORDER: Sum = Sum::Small(0);

    fn fold(events: &[Event], zero: &Sum, exact_up_to: u32) -> Top {
        let mut top = Top::default();
        events.iter().for_each(|(key, weight)| top.add(key.as_bytes(), *weight, zero, exact_up_to));
        top
    }

    fn merged(mut a: Top, b: &Top, exact_up_to: u32) -> Top {
        a.merge(b, exact_up_to);
        a
    }

    fn bytes(top: &Top) -> Vec<u8> {
        let mut w = Writer::default();
        top.encode(&mut w);
        w.finish()
    }

    fn read(given: &[u8], zero: &Sum, exact_up_to: u32) -> Result<Top> {
        let mut r = Reader::new(given);
        let top = Top::decode(&mut r, zero, exact_up_to)?;
        r.end().map(|()| top)
    }

    fn json(top: &Top, limit: usize) -> String {
        let mut out = String::new();
        top.write_json(limit, &mut out);
        out
    }

    /// Key, value and error of each item shown.
    fn items(top: &Top) -> Vec<(String, Estimate, Option<Estimate>)> {
        let number = |value: &serde_json::Value| match value.as_i64() {
            Some(int) => Estimate::of(Number::Int(int.into())),
            None => Estimate::of_float(value.as_f64().unwrap()),
        };
        let shown: serde_json::Value = json(top, usize::MAX).parse().unwrap();
        let item = |item: &serde_json::Value| {
            let error = item.get("error").map(number);
            (item["key"].as_str().unwrap().to_owned(), number(&item["value"]), error)
        };
        shown.as_array().unwrap().iter().map(item).collect()
    }

    /// Whether what is shown, and that the rest is not shown, keeps the promise for these events.
    fn keeps_the_bound(top: &Top, events: &[Event], exact_up_to: u32) -> std::result::Result<(), TestCaseError> {
        let mut truth = BTreeMap::<&str, Estimate>::new();
        let mut all = Estimate::default();
        for (key, weight) in events {
            prop_assert_eq!(truth.entry(key).or_default().add(Estimate::of(*weight)), 0.0, "the truth is exact");
            all.raise(Estimate::of(*weight).magnitude());
        }
        let most = 2.0 * all.approximate() / f64::from(exact_up_to);
        let items = items(top);
        for (key, value, error) in &items {
            match error {
                Some(error) => {
                    let mut off = truth[&**key];
                    off.add(value.negated());
                    prop_assert!(off.magnitude().compare(*error).is_le(), "{key}: {value:?} ± {error:?} of {off:?}");
                    prop_assert!(error.approximate() <= most, "{error:?} of {most}");
                }
                None => prop_assert_eq!(truth[&**key].approximate(), value.approximate()),
            }
        }
        let Top::Summary(summary) = top else {
            prop_assert_eq!(items.len(), truth.len());
            return Ok(());
        };
        prop_assert!(items.len() <= exact_up_to as usize);
        prop_assert!(summary.error().approximate() <= most);
        for (key, sum) in &truth {
            if !items.iter().any(|(shown, ..)| shown == key) {
                prop_assert!(sum.magnitude().compare(summary.error()).is_le(), "{key} is missing");
            }
        }
        Ok(())
    }

    fn count() -> BoxedStrategy<Number> {
        Just(Number::Int(1)).boxed()
    }

    fn signed() -> BoxedStrategy<Number> {
        prop_oneof![(-50i128..50).prop_map(Number::Int), any::<i64>().prop_map(|i| Number::Int((i >> 12).into()))].boxed()
    }

    /// Floats that do not add up exactly as floats do, besides integers.
    fn mixed() -> BoxedStrategy<Number> {
        prop_oneof![4 => (-1e3..1e3).prop_map(Number::Float), 1 => (-50i128..50).prop_map(Number::Int)].boxed()
    }

    /// Streams of random, skewed, all distinct and round-robin keys.
    fn events(weight: BoxedStrategy<Number>) -> BoxedStrategy<Vec<Event>> {
        let random = (0u32..40).boxed();
        let skewed = (0.0005f64..1.0).prop_map(|u| (1.0 / u) as u32).boxed();
        let drawn = prop_oneof![Just(random), Just(skewed)].prop_flat_map(|key| proptest::collection::vec(key, 0..300));
        let distinct = (0u32..300).prop_map(|n| (0..n).collect::<Vec<_>>());
        let in_turn = (0u32..300, 1u32..30).prop_map(|(n, keys)| (0..n).map(|i| i % keys).collect::<Vec<_>>());
        prop_oneof![2 => drawn, 1 => distinct, 1 => in_turn]
            .prop_flat_map(move |keys| {
                let weights = proptest::collection::vec(weight.clone(), keys.len());
                (Just(keys), weights).prop_map(|(keys, weights)| {
                    keys.into_iter().zip(weights).map(|(key, weight)| (format!("player-{key}"), weight)).collect()
                })
            })
            .boxed()
    }

    fn any_events() -> BoxedStrategy<Vec<Event>> {
        prop_oneof![events(count()), events(signed()), events(mixed())].boxed()
    }

    fn few_ints() -> BoxedStrategy<Vec<Event>> {
        let key = prop_oneof!["[a-c]", "\\PC{0,3}"];
        let int = prop_oneof![(-3i128..3).prop_map(Number::Int), any::<u64>().prop_map(|u| Number::Int(u.into()))];
        proptest::collection::vec((key, int), 0..40).boxed()
    }

    proptest! {
        #[test]
        fn within_the_exact_range_it_is_a_plain_table(events in few_ints(), limit in 0usize..8) {
            let mut plain = BTreeMap::<&str, i128>::new();
            for (key, weight) in &events {
                let Number::Int(int) = weight else { unreachable!("integers alone") };
                *plain.entry(key).or_default() += int;
            }
            let mut plain: Vec<_> = plain.into_iter().collect();
            plain.sort_by_key(|(key, sum)| (-sum, *key));
            plain.truncate(limit);
            let item = |(key, sum): &(&str, i128)| format!("{{\"key\":{},\"value\":{sum}}}", serde_json::Value::from(*key));
            let expected = plain.iter().map(item).collect::<Vec<_>>().join(",");
            prop_assert_eq!(json(&fold(&events, &IN_ORDER, 40), limit), format!("[{expected}]"));
        }

        #[test]
        fn within_the_exact_range_any_split_and_order_gives_the_same_bytes(a in few_ints(), b in few_ints(), c in few_ints()) {
            let k = 120;
            let whole = bytes(&fold(&[&a[..], &b[..], &c[..]].concat(), &IN_ORDER, k));
            let [a, b, c] = [a, b, c].map(|events| fold(&events, &IN_ORDER, k));
            prop_assert_eq!(&bytes(&merged(merged(a.clone(), &b, k), &c, k)), &whole);
            prop_assert_eq!(&bytes(&merged(a.clone(), &merged(b.clone(), &c, k), k)), &whole);
            prop_assert_eq!(&bytes(&merged(merged(c, &b, k), &a, k)), &whole);
            prop_assert_eq!(bytes(&merged(a.clone(), &Top::default(), k)), bytes(&a));
            prop_assert_eq!(bytes(&merged(Top::default(), &a, k)), bytes(&a));
        }

        #[test]
        fn the_bound_holds_at_every_size(events in any_events(), exact_up_to in 1u32..24) {
            keeps_the_bound(&fold(&events, &Sum::zero(Floats::Exactly), exact_up_to), &events, exact_up_to)?;
        }

        #[test]
        fn the_bound_holds_however_it_was_split_and_merged(
            events in any_events(),
            owners in proptest::collection::vec(0usize..5, 300),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 4),
            exact_up_to in 1u32..24,
        ) {
            let zero = Sum::zero(Floats::Exactly);
            let mut parts = vec![Top::default(); 5];
            for ((key, weight), owner) in events.iter().zip(owners) {
                parts[owner].add(key.as_bytes(), *weight, &zero, exact_up_to);
            }
            for index in order {
                let i = index.index(parts.len() - 1);
                let later = parts.remove(i + 1);
                parts[i].merge(&later, exact_up_to);
            }
            keeps_the_bound(&parts[0], &events, exact_up_to)?;
        }

        #[test]
        fn a_merge_whose_union_is_in_range_is_exact(a in events(signed()), b in events(signed())) {
            let both = [&a[..], &b[..]].concat();
            let keys = both.iter().map(|(key, _)| key).collect::<std::collections::BTreeSet<_>>().len() as u32;
            let whole = merged(fold(&a, &IN_ORDER, keys), &fold(&b, &IN_ORDER, keys), keys);
            prop_assert!(!matches!(whole, Top::Summary(_)));
            prop_assert_eq!(bytes(&whole), bytes(&fold(&both, &IN_ORDER, keys)));
            if keys > 1 {
                let beyond = merged(fold(&a, &IN_ORDER, keys - 1), &fold(&b, &IN_ORDER, keys - 1), keys - 1);
                prop_assert!(matches!(beyond, Top::Summary(_)));
            }
        }

        #[test]
        fn snapshots_read_back_grow_as_said_and_go_on_the_same(events in any_events(), exact_up_to in 1u32..24, later in any_events()) {
            let later = fold(&later, &IN_ORDER, exact_up_to);
            let (mut kept, mut reread) = (Top::default(), Top::default());
            for (key, weight) in events.into_iter().take(100) {
                let before = bytes(&kept).len();
                let growth = kept.growth(key.as_bytes(), exact_up_to);
                kept.add(key.as_bytes(), weight, &IN_ORDER, exact_up_to);
                reread.add(key.as_bytes(), weight, &IN_ORDER, exact_up_to);
                let now = bytes(&kept);
                prop_assert!(now.len() <= before + growth, "{before} and {growth} came to {}", now.len());
                prop_assert_eq!(&now, &bytes(&reread));
                reread = read(&now, &IN_ORDER, exact_up_to).unwrap();
                prop_assert_eq!(json(&kept, 5), json(&reread, 5));
            }
            let merged_before = merged(kept, &later, exact_up_to);
            prop_assert_eq!(bytes(&merged_before), bytes(&merged(reread, &later, exact_up_to)));
            prop_assert!(read(&bytes(&merged_before), &IN_ORDER, exact_up_to).is_ok());
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(kind in 0u8..4, rest in proptest::collection::vec(0u8..9, 0..40)) {
            let given = [&[kind][..], &rest].concat();
            let mut r = Reader::new(&given);
            if let Ok(top) = Top::decode(&mut r, &IN_ORDER, 10) {
                prop_assert!(given.starts_with(&bytes(&top)));
                json(&top, 3);
            }
        }

        #[test]
        fn a_damaged_snapshot_is_read_or_refused(events in any_events(), at: prop::sample::Index, to: u8) {
            let mut given = bytes(&fold(&events, &IN_ORDER, 20));
            let at = at.index(given.len());
            given[at] = to;
            if let Ok(mut top) = read(&given, &IN_ORDER, 20) {
                prop_assert_eq!(bytes(&top), given);
                top.add(b"new", Number::Int(1), &IN_ORDER, 20);
            }
        }
    }

    fn event(key: &str, weight: Number) -> Event {
        (key.to_owned(), weight)
    }

    #[test]
    fn greatest_first_equal_ones_by_key_and_what_left_the_floats_last() {
        let (int, float) = (Number::Int, Number::Float);
        let events = [
            event("é", int(5)),
            event("b", float(5.0)),
            event("gone", float(f64::MAX)),
            event("gone", float(f64::MAX)),
            event("a\"\n", int(5)),
            event("z", int(u64::MAX.into())),
            event("z", int(u64::MAX.into())),
            event("y", float(36893488147419103231.0)),
            event("low", float(-0.5)),
        ];
        let top = fold(&events, &IN_ORDER, 10);
        assert_eq!(
            json(&top, 10),
            concat!(
                r#"[{"key":"y","value":3.6893488147419103e+19},{"key":"z","value":36893488147419103230},"#,
                r#"{"key":"a\"\n","value":5},{"key":"b","value":5.0},{"key":"é","value":5},"#,
                r#"{"key":"low","value":-0.5},{"key":"gone","value":null}]"#
            )
        );
        assert!(json(&top, 3).ends_with(r#"{"key":"a\"\n","value":5}]"#));
        assert_eq!(json(&top, 0), "[]");
        let shown = json(&fold(&events, &IN_ORDER, 6), 10);
        assert_eq!(
            shown,
            concat!(
                r#"[{"key":"y","value":36893488147419103227,"error":5},{"key":"z","value":36893488147419103225,"error":5},"#,
                r#"{"key":"gone","value":null,"error":5}]"#
            )
        );
    }

    #[test]
    fn a_reduction_takes_the_median_and_says_so() {
        let events = [("a", 9), ("b", -7), ("c", 2), ("d", 2), ("e", 1)].map(|(key, weight)| event(key, Number::Int(weight)));
        let top = fold(&events, &IN_ORDER, 4);
        assert_eq!(json(&top, 9), r#"[{"key":"a","value":7,"error":2},{"key":"b","value":-5,"error":2}]"#);
    }

    #[test]
    fn a_reduction_that_lengthens_every_estimate_grows_as_said() {
        let weights = [vec![Number::Int(9); 10], vec![Number::Float(0.7)], vec![Number::Int(0); 9]].concat();
        let events: Vec<_> = ('a'..='t').zip(weights).map(|(key, weight)| event(&key.to_string(), weight)).collect();
        let mut top = fold(&events, &IN_ORDER, 20);
        let (known, new) = (top.growth(b"a", 20), top.growth(b"z", 20));
        let before = bytes(&top).len();
        top.add(b"z", Number::Int(0), &IN_ORDER, 20);
        let grown = bytes(&top).len() - before;
        assert!(known < grown && grown <= new, "grew by {grown}: {known} with a known key, {new} with a new one");
    }

    #[test]
    fn idle_is_two_words() {
        assert!(size_of::<Top>() <= 2 * size_of::<usize>());
        assert_eq!((bytes(&Top::default()), json(&Top::default(), 9)), (vec![0], "[]".to_owned()));
        assert!(read(&[1, 0], &IN_ORDER, 9).is_err(), "an exact table of no keys is nothing");
    }
}
