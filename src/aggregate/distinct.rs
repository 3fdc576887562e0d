//! **distinct**: how many different keys there were: the keys' fingerprints while they are at most
//! `exact_up_to`, a [`Hyperloglog`] sketch of them beyond.
//!
//! Invariant: the state is a function of the set of fingerprints alone. Neither the order of adds
//! nor the split into partials matters: a merge is the union, exact while that is within the range.

use super::hyperloglog::Hyperloglog;
use super::ordered::{ALL_KEYS, Ordered};
use crate::codec::{Reader, Result, Writer};
use std::fmt::Write as _;

const EXACT: u8 = 0;
const SKETCH: u8 = 1;

#[derive(Clone, Debug)]
pub enum Distinct {
    Exact(Option<Box<Ordered<()>>>),
    /// There were `more_than` keys and at least one more.
    Sketch {
        more_than: u32,
        keys: Box<Hyperloglog>,
    },
}

impl Default for Distinct {
    fn default() -> Self {
        Distinct::Exact(None)
    }
}

impl Distinct {
    /// The fingerprint 0 is taken as 1, as if the two keys had collided.
    pub fn add(&mut self, key: u64, exact_up_to: u32) {
        let key = key.max(1);
        match self {
            Distinct::Sketch { keys, .. } => keys.add(key),
            Distinct::Exact(kept) => {
                let kept = kept.get_or_insert_default();
                kept.entry(key);
                if kept.len() > exact_up_to as usize {
                    self.sketch(exact_up_to);
                }
            }
        }
    }

    pub fn merge(&mut self, later: &Distinct, exact_up_to: u32) {
        match later {
            Distinct::Exact(None) => {}
            Distinct::Exact(Some(kept)) => kept.iter().for_each(|(key, ())| self.add(key, exact_up_to)),
            Distinct::Sketch { keys, .. } => self.sketch(exact_up_to).merge(keys),
        }
    }

    fn sketch(&mut self, exact_up_to: u32) -> &mut Hyperloglog {
        if let Distinct::Exact(kept) = self {
            let mut keys = Box::<Hyperloglog>::default();
            kept.iter().flat_map(|kept| kept.iter()).for_each(|(key, ())| keys.add(key));
            *self = Distinct::Sketch { more_than: exact_up_to, keys };
        }
        match self {
            Distinct::Sketch { keys, .. } => keys,
            Distinct::Exact(_) => unreachable!("just turned into a sketch"),
        }
    }

    /// Never falls as keys come, at the end of the exact range neither.
    pub fn value(&self) -> u64 {
        match self {
            Distinct::Exact(kept) => kept.as_ref().map_or(0, |kept| kept.len() as u64),
            Distinct::Sketch { more_than, keys } => (keys.estimate().round() as u64).max(u64::from(*more_than) + 1),
        }
    }

    /// No add lengthens the encoding by more bytes. Of as many keys, a sketch is the shorter one.
    pub fn growth(&self, exact_up_to: u32) -> usize {
        match self {
            Distinct::Exact(kept) if kept.as_ref().map_or(0, |kept| kept.len()) < exact_up_to as usize => 8 + 1,
            Distinct::Exact(_) | Distinct::Sketch { .. } => 1 + Hyperloglog::GROWTH,
        }
    }

    pub fn encode(&self, w: &mut Writer) {
        match self {
            Distinct::Exact(kept) => {
                w.byte(EXACT);
                w.unsigned(kept.as_ref().map_or(0, |kept| kept.len() as u64));
                kept.iter().flat_map(|kept| kept.iter()).for_each(|(key, ())| w.fixed(key));
            }
            Distinct::Sketch { keys, .. } => {
                w.byte(SKETCH);
                keys.encode(w);
            }
        }
    }

    pub fn decode(r: &mut Reader, exact_up_to: u32) -> Result<Distinct> {
        match r.byte("the kind of a distinct")? {
            EXACT => {
                let count = r.count("the number of distinct keys")?;
                if count > exact_up_to as usize {
                    return r.expected("no more keys than exact_up_to");
                }
                let keys = (0..count).map(|_| Ok((r.fixed("a key's fingerprint")?, ()))).collect::<Result<Vec<_>>>()?;
                if keys.first().is_some_and(|(least, ())| *least == 0) || !keys.is_sorted_by(|a, b| a < b) {
                    return r.expected("fingerprints in ascending order, from 1");
                }
                Ok(Distinct::Exact((count > 0).then(|| Box::new(Ordered::of(&keys, ALL_KEYS)))))
            }
            SKETCH => {
                let keys = Hyperloglog::decode(r)?;
                if keys.is_empty() {
                    return r.expected("a sketch of something");
                }
                Ok(Distinct::Sketch { more_than: exact_up_to, keys: Box::new(keys) })
            }
            _ => r.expected("a distinct (0 exact, 1 a sketch)"),
        }
    }

    pub fn write_json(&self, out: &mut String) {
        write!(out, "{}", self.value()).expect("a string takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn bytes(distinct: &Distinct) -> Vec<u8> {
        let mut w = Writer::default();
        distinct.encode(&mut w);
        w.finish()
    }

    fn decode(bytes: &[u8], exact_up_to: u32) -> Result<Distinct> {
        let mut r = Reader::new(bytes);
        let distinct = Distinct::decode(&mut r, exact_up_to)?;
        r.end().map(|()| distinct)
    }

    fn distinct<'a>(keys: impl IntoIterator<Item = &'a u64>, exact_up_to: u32) -> Distinct {
        let mut distinct = Distinct::default();
        keys.into_iter().for_each(|key| distinct.add(*key, exact_up_to));
        distinct
    }

    fn merged(parts: &[&Distinct], exact_up_to: u32) -> Distinct {
        let mut whole = Distinct::default();
        parts.iter().for_each(|part| whole.merge(part, exact_up_to));
        whole
    }

    /// Repeated ones among them.
    fn keys() -> impl Strategy<Value = Vec<u64>> {
        prop_oneof![
            proptest::collection::vec(any::<u64>(), 0..40),
            proptest::collection::vec((0u64..60).prop_map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)), 0..120),
        ]
    }

    #[test]
    fn it_is_two_words_and_says_a_number() {
        assert!(size_of::<Distinct>() <= 2 * size_of::<usize>());
        let mut out = String::new();
        distinct(&[5, 7, 5], 2).write_json(&mut out);
        assert_eq!(out, "2");
    }

    #[test]
    fn it_is_exact_within_its_range_and_never_falls_beyond() {
        for exact_up_to in [1, 9, 1024] {
            let mut distinct = Distinct::default();
            let mut last = 0;
            for i in 1..=2_500u64 {
                let key = xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes());
                for _ in 0..2 {
                    distinct.add(key, exact_up_to);
                }
                let value = distinct.value();
                if i <= u64::from(exact_up_to) {
                    assert_eq!(value, i);
                } else {
                    assert!(value >= last && value > u64::from(exact_up_to), "{value} after {last}");
                    assert!((value as f64 / i as f64 - 1.0).abs() < 0.05, "{value} for {i}");
                }
                last = value;
            }
        }
    }

    proptest! {
        #[test]
        fn within_the_range_it_counts_the_set(a in keys()) {
            let set: BTreeSet<u64> = a.iter().map(|key| *key.max(&1)).collect();
            prop_assert_eq!(distinct(&a, 200).value(), set.len() as u64);
            prop_assert_eq!(bytes(&distinct(&a, 200)), bytes(&distinct(&set, 200)));
        }

        #[test]
        fn merging_is_the_union_whatever_the_split(a in keys(), b in keys(), c in keys(), exact_up_to in 1u32..100) {
            let whole = bytes(&distinct(a.iter().chain(&b).chain(&c), exact_up_to));
            let [a, b, c] = [&a, &b, &c].map(|keys| distinct(keys, exact_up_to));
            let [ab, bc] = [merged(&[&a, &b], exact_up_to), merged(&[&b, &c], exact_up_to)];
            prop_assert_eq!(bytes(&merged(&[&a, &b, &c], exact_up_to)), &whole[..]);
            prop_assert_eq!(bytes(&merged(&[&ab, &c], exact_up_to)), &whole[..]);
            prop_assert_eq!(bytes(&merged(&[&a, &bc], exact_up_to)), &whole[..]);
            prop_assert_eq!(bytes(&merged(&[&c, &b, &a], exact_up_to)), &whole[..]);
            prop_assert_eq!(bytes(&merged(&[&a, &Distinct::default()], exact_up_to)), bytes(&a));
        }

        #[test]
        fn it_reads_back_and_goes_on_the_same(a in keys(), b in keys(), exact_up_to in 1u32..100) {
            let mut on = distinct(&a, exact_up_to);
            let mut back = decode(&bytes(&on), exact_up_to).unwrap();
            prop_assert_eq!(bytes(&back), bytes(&on));
            prop_assert_eq!(back.value(), on.value());
            for key in &b {
                let most = bytes(&on).len() + on.growth(exact_up_to);
                on.add(*key, exact_up_to);
                back.add(*key, exact_up_to);
                prop_assert!(bytes(&on).len() <= most);
            }
            prop_assert_eq!(bytes(&back), bytes(&on));
        }

        #[test]
        fn damaged_bytes_are_read_as_they_stand_or_refused(
            a in keys(), at: prop::sample::Index, to: u8, exact_up_to in 1u32..100,
        ) {
            let mut damaged = bytes(&distinct(&a, exact_up_to));
            let at = at.index(damaged.len());
            damaged[at] = to;
            if let Ok(read) = decode(&damaged, exact_up_to) {
                prop_assert_eq!(bytes(&read), &damaged[..]);
            }
            damaged.truncate(at);
            prop_assert!(decode(&damaged, exact_up_to).is_err());
        }

        #[test]
        fn any_bytes_are_read_as_they_stand_or_refused(kind in 0u8..3, body: Vec<u8>) {
            let all = [&[kind], &body[..]].concat();
            if let Ok(read) = decode(&all, 10) {
                prop_assert_eq!(bytes(&read), all);
            }
        }
    }
}
