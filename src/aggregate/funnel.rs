//! **funnel**: for each key the set of stages it was seen at; per stage, how many keys were seen at
//! it and at every stage before it, in any order.
//!
//! Up to `exact_up_to` keys all are kept, by fingerprint. Beyond, that many keys are, those of the
//! least fingerprints, and the threshold: the least fingerprint left out. Fingerprints are uniform,
//! so the kept keys are a random sample of all; the estimate is the count in the sample by the share
//! of fingerprints below the threshold (a theta sketch: A. Dasgupta, K. Lang, L. Rhodes, J. Thaler,
//! "A framework for estimating stream expression cardinalities", 2016).
//!
//! Invariant: the state is a function of the set of (key, stage) alone, and exact or not by the set
//! of keys alone: no order of adds and no split into partials matters. What is kept of a kept key is
//! whole, since thresholds only fall and a key once left out never returns.

use super::ordered::{ALL_KEYS, Ordered};
use crate::codec::{Reader, Result, Writer};
use std::fmt::Write as _;
use std::num::NonZeroU64;

const EXACT: u8 = 0;
const SAMPLE: u8 = 1;

/// The longest encoding of 64 stages.
const STAGES_BYTES: usize = 10;

#[derive(Clone, Debug, Default)]
pub struct Funnel(Option<Box<Kept>>);

#[derive(Clone, Debug, Default)]
struct Kept {
    /// Each key's stages, the first in the lowest bit.
    stages: Ordered<u64>,
    /// Beyond the exact range: the least fingerprint left out.
    threshold: Option<NonZeroU64>,
}

impl Funnel {
    /// `stage` counts from 0 and is below 64. The fingerprint 0 is taken as 1, as if the two keys had collided.
    pub fn add(&mut self, key: u64, stage: u32, exact_up_to: u32) {
        let key = key.max(1);
        let kept = self.0.get_or_insert_default();
        if kept.threshold.is_some_and(|threshold| key >= threshold.get()) {
            return;
        }
        *kept.stages.entry(key) |= 1 << stage;
        if kept.stages.len() > exact_up_to as usize
            && let Some((left_out, _)) = kept.stages.pop()
        {
            kept.threshold = NonZeroU64::new(left_out);
        }
    }

    pub fn merge(&mut self, later: &Funnel, exact_up_to: u32) {
        match (&mut self.0, &later.0) {
            (_, None) => {}
            (None, later) => self.0.clone_from(later),
            (Some(kept), Some(later)) => **kept = kept.union(later, exact_up_to),
        }
    }

    /// No add lengthens the encoding by more bytes. In a sample a key only comes when another goes.
    pub fn growth(&self, exact_up_to: u32) -> usize {
        match &self.0 {
            Some(kept) if kept.stages.len() >= exact_up_to as usize => 8 + STAGES_BYTES - 1,
            _ => 8 + STAGES_BYTES + 1,
        }
    }

    pub fn encode(&self, w: &mut Writer) {
        let Some(kept) = &self.0 else {
            w.byte(EXACT);
            return w.unsigned(0);
        };
        match kept.threshold {
            None => w.byte(EXACT),
            Some(threshold) => {
                w.byte(SAMPLE);
                w.fixed(threshold.get());
            }
        }
        w.unsigned(kept.stages.len() as u64);
        for (key, stages) in kept.stages.iter() {
            w.fixed(key);
            w.unsigned(stages);
        }
    }

    /// `stages`: how many the funnel has.
    pub fn decode(r: &mut Reader, stages: u32, exact_up_to: u32) -> Result<Funnel> {
        let threshold = match r.byte("the kind of a funnel")? {
            EXACT => None,
            SAMPLE => match NonZeroU64::new(r.fixed("the threshold of a sample")?) {
                None => return r.expected("a threshold from 1"),
                threshold => threshold,
            },
            _ => return r.expected("a funnel (0 exact, 1 a sample)"),
        };
        let count = r.count("the number of keys")?;
        match threshold {
            None if count > exact_up_to as usize => return r.expected("no more keys than exact_up_to"),
            Some(_) if count != exact_up_to as usize => return r.expected("as many keys in a sample as exact_up_to"),
            None if count == 0 => return Ok(Funnel(None)),
            _ => {}
        }
        let mut keys = Vec::new();
        let mut last = 0;
        for _ in 0..count {
            let key = r.fixed("a key's fingerprint")?;
            if key <= last || threshold.is_some_and(|threshold| key >= threshold.get()) {
                return r.expected("fingerprints in ascending order, from 1, below the threshold");
            }
            let seen = r.unsigned("a key's stages")?;
            if seen == 0 || u64::BITS - seen.leading_zeros() > stages {
                return r.expected("stages that the funnel has");
            }
            keys.push((key, seen));
            last = key;
        }
        Ok(Funnel(Some(Box::new(Kept::of(&keys, threshold)))))
    }

    /// `stages`: the stages' names as JSON strings, in their order.
    pub fn write_json(&self, stages: &[String], out: &mut String) {
        // By how many stages, from the first, a key was seen at without a gap.
        let mut reached = [0u64; 65];
        for (_, seen) in self.0.iter().flat_map(|kept| kept.stages.iter()) {
            reached[seen.trailing_ones() as usize] += 1;
        }
        let threshold = self.0.as_ref().and_then(|kept| kept.threshold);
        for (number, stage) in stages.iter().enumerate() {
            out.push(if number == 0 { '[' } else { ',' });
            let count = reached[number + 1..].iter().sum();
            match threshold {
                None => write!(out, r#"{{"stage":{stage},"count":{count}}}"#),
                Some(threshold) => {
                    let (count, error) = estimate(count, threshold.get() as f64 / ALL_KEYS);
                    write!(out, r#"{{"stage":{stage},"count":{count},"error":{error}}}"#)
                }
            }
            .expect("a string takes everything");
        }
        out.push(']');
    }
}

impl Kept {
    fn of(keys: &[(u64, u64)], threshold: Option<NonZeroU64>) -> Kept {
        let bound = threshold.map_or(ALL_KEYS, |threshold| threshold.get() as f64);
        Kept { stages: Ordered::of(keys, bound), threshold }
    }

    fn union(&self, later: &Kept, exact_up_to: u32) -> Kept {
        let mut threshold = [self.threshold, later.threshold].into_iter().flatten().min();
        let (mut ours, mut theirs) = (self.stages.iter().peekable(), later.stages.iter().peekable());
        let mut union = Vec::new();
        while let Some(key) = [ours.peek(), theirs.peek()].into_iter().flatten().map(|(key, _)| *key).min() {
            if threshold.is_some_and(|threshold| key >= threshold.get()) {
                break;
            }
            if union.len() == exact_up_to as usize {
                threshold = NonZeroU64::new(key);
                break;
            }
            let seen = [&mut ours, &mut theirs].map(|side| side.next_if(|(other, _)| *other == key).map_or(0, |(_, seen)| seen));
            union.push((key, seen[0] | seen[1]));
        }
        Kept::of(&union, threshold)
    }
}

/// What so many keys in a sample stand for, and its standard error, both whole. `theta`: the share of all keys that the sample
/// takes. No key in the sample does not mean none at all: its error is that of one.
fn estimate(count: u64, theta: f64) -> (u64, u64) {
    let error = (count.max(1) as f64 * (1.0 - theta)).sqrt() / theta;
    ((count as f64 / theta).round() as u64, error.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const STAGES: u32 = 9;

    fn bytes(funnel: &Funnel) -> Vec<u8> {
        let mut w = Writer::default();
        funnel.encode(&mut w);
        w.finish()
    }

    fn decode(bytes: &[u8], exact_up_to: u32) -> Result<Funnel> {
        let mut r = Reader::new(bytes);
        let funnel = Funnel::decode(&mut r, STAGES, exact_up_to)?;
        r.end().map(|()| funnel)
    }

    fn funnel(seen: &[(u64, u32)], exact_up_to: u32) -> Funnel {
        let mut funnel = Funnel::default();
        seen.iter().for_each(|(key, stage)| funnel.add(*key, *stage, exact_up_to));
        funnel
    }

    fn merged(parts: &[&Funnel], exact_up_to: u32) -> Funnel {
        let mut whole = Funnel::default();
        parts.iter().for_each(|part| whole.merge(part, exact_up_to));
        whole
    }

    fn json(funnel: &Funnel, stages: usize) -> String {
        let mut out = String::new();
        let names: Vec<_> = (0..stages).map(|stage| format!("\"{stage}\"")).collect();
        funnel.write_json(&names, &mut out);
        out
    }

    fn hash(key: u64) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&key.to_le_bytes())
    }

    /// Few keys at many stages, and many keys; the least and the greatest fingerprint too.
    fn seen() -> impl Strategy<Value = Vec<(u64, u32)>> {
        let few = (0u64..30).prop_map(hash);
        let key = prop_oneof![6 => few, 6 => any::<u64>(), 1 => Just(0), 1 => Just(1), 1 => Just(u64::MAX)];
        proptest::collection::vec((key, 0..STAGES), 0..120)
    }

    /// The definition itself: all keys sorted, the first of them kept.
    fn plain(seen: &[(u64, u32)], exact_up_to: u32) -> Vec<u8> {
        let mut keys = BTreeMap::<u64, u64>::new();
        for (key, stage) in seen {
            *keys.entry(*key.max(&1)).or_default() |= 1 << stage;
        }
        let mut w = Writer::default();
        match keys.keys().nth(exact_up_to as usize) {
            None => w.byte(EXACT),
            Some(left_out) => {
                w.byte(SAMPLE);
                w.fixed(*left_out);
            }
        }
        w.unsigned(keys.len().min(exact_up_to as usize) as u64);
        for (key, stages) in keys.iter().take(exact_up_to as usize) {
            w.fixed(*key);
            w.unsigned(*stages);
        }
        w.finish()
    }

    #[test]
    fn it_is_one_word_and_of_nothing_all_stages_with_zero() {
        assert_eq!(size_of::<Funnel>(), size_of::<usize>());
        assert_eq!(json(&Funnel::default(), 2), r#"[{"stage":"0","count":0},{"stage":"1","count":0}]"#);
    }

    #[test]
    fn a_stage_counts_those_seen_at_every_stage_before_it_in_any_order() {
        let of = funnel(&[(7, 2), (7, 0), (7, 1), (8, 0), (8, 2), (9, 1), (7, 2)], 10);
        assert_eq!(json(&of, 3), r#"[{"stage":"0","count":2},{"stage":"1","count":1},{"stage":"2","count":1}]"#);
    }

    #[test]
    fn all_sixty_four_stages_count() {
        let seen: Vec<_> = (0..64).rev().map(|stage| (5, stage)).collect();
        assert_eq!(json(&funnel(&seen, 10), 64).matches(r#""count":1"#).count(), 64);
        let all = bytes(&funnel(&seen, 10));
        assert!(Funnel::decode(&mut Reader::new(&all), 64, 10).is_ok());
        assert!(Funnel::decode(&mut Reader::new(&all), 63, 10).is_err());
    }

    #[test]
    fn beyond_the_range_the_estimate_and_its_error_stand_beside_the_count() {
        let half = 1 << 63;
        let of = funnel(&[(1, 0), (2, 0), (2, 1), (half, 0), (half + 1, 1)], 2);
        let expected = [
            r#"[{"stage":"0","count":4,"error":2},"#, // √(2 · ½) / ½
            r#"{"stage":"1","count":2,"error":2},"#,  // √(1 · ½) / ½ = 1.41
            r#"{"stage":"2","count":0,"error":2}]"#,
        ];
        assert_eq!(json(&of, 3), expected.concat());
    }

    /// In units of the error it states: centred on the truth, and as wide as it says.
    #[test]
    fn estimates_are_unbiased_and_err_by_their_standard_error() {
        const SEEDS: u64 = 80;
        for keys in [500u64, 8_000] {
            let truth = [keys, keys / 2, keys / 8];
            let mut errors = vec![];
            for seed in 0..SEEDS {
                let mut funnel = Funnel::default();
                for i in 0..keys {
                    let key = hash(seed << 32 | i);
                    for (stage, few) in truth.iter().enumerate() {
                        if i < *few {
                            funnel.add(key, stage as u32, 400);
                        }
                    }
                }
                let kept = funnel.0.as_ref().unwrap();
                let theta = kept.threshold.unwrap().get() as f64 / ALL_KEYS;
                for (stage, truth) in truth.iter().enumerate() {
                    let count = kept.stages.iter().filter(|(_, seen)| seen.trailing_ones() as usize > stage).count();
                    let (estimate, error) = estimate(count as u64, theta);
                    errors.push((estimate as f64 - *truth as f64) / error as f64);
                }
            }
            for stage in 0..truth.len() {
                let of_stage = errors.iter().skip(stage).step_by(truth.len());
                let mean = of_stage.clone().sum::<f64>() / SEEDS as f64;
                let spread = (of_stage.map(|e| e * e).sum::<f64>() / SEEDS as f64).sqrt();
                assert!(mean.abs() < 4.0 / (SEEDS as f64).sqrt(), "mean {mean}");
                assert!((spread - 1.0).abs() < 4.0 / (2.0 * SEEDS as f64).sqrt(), "spread {spread}");
            }
        }
    }

    #[test]
    fn a_long_exact_part_merges_into_a_deep_sample() {
        let many: Vec<_> = (0..60_000).map(|i| (hash(i), (i % 3) as u32)).collect();
        let (few, rest) = many.split_at(900);
        let mut whole = funnel(few, 1_000);
        whole.merge(&funnel(rest, 1_000), 1_000);
        assert_eq!(bytes(&whole), plain(&many, 1_000));
        let more: Vec<_> = (60_000..200_000).map(|i| (hash(i), 1)).collect();
        more.iter().for_each(|(key, stage)| whole.add(*key, *stage, 1_000));
        assert_eq!(bytes(&whole), plain(&[many, more].concat(), 1_000));
    }

    proptest! {
        #[test]
        fn the_state_is_what_the_definition_says(seen in seen(), exact_up_to in 1u32..150) {
            prop_assert_eq!(bytes(&funnel(&seen, exact_up_to)), plain(&seen, exact_up_to));
        }

        #[test]
        fn merging_is_the_union_whatever_the_split(a in seen(), b in seen(), c in seen(), exact_up_to in 1u32..150) {
            let whole = plain(&[&a[..], &b, &c].concat(), exact_up_to);
            let [a, b, c] = [&a, &b, &c].map(|seen| funnel(seen, exact_up_to));
            let [ab, bc] = [merged(&[&a, &b], exact_up_to), merged(&[&b, &c], exact_up_to)];
            prop_assert_eq!(bytes(&merged(&[&ab, &c], exact_up_to)), &whole[..]);
            prop_assert_eq!(bytes(&merged(&[&a, &bc], exact_up_to)), &whole[..]);
            prop_assert_eq!(bytes(&merged(&[&c, &b, &a], exact_up_to)), &whole[..]);
            prop_assert_eq!(bytes(&merged(&[&a, &Funnel::default()], exact_up_to)), bytes(&a));
        }

        #[test]
        fn it_reads_back_and_goes_on_the_same(a in seen(), b in seen(), exact_up_to in 1u32..150) {
            let mut on = funnel(&a, exact_up_to);
            let mut back = decode(&bytes(&on), exact_up_to).unwrap();
            prop_assert_eq!(bytes(&back), bytes(&on));
            for (key, stage) in b {
                let most = bytes(&on).len() + on.growth(exact_up_to);
                on.add(key, stage, exact_up_to);
                back.add(key, stage, exact_up_to);
                prop_assert!(bytes(&on).len() <= most);
            }
            prop_assert_eq!(bytes(&back), bytes(&on));
        }

        #[test]
        fn damaged_bytes_are_read_as_they_stand_or_refused(
            a in seen(), at: prop::sample::Index, to: u8, exact_up_to in 1u32..150,
        ) {
            let mut damaged = bytes(&funnel(&a, exact_up_to));
            let at = at.index(damaged.len());
            damaged[at] = to;
            if let Ok(read) = decode(&damaged, exact_up_to) {
                prop_assert_eq!(bytes(&read), &damaged[..]);
                json(&read, STAGES as usize);
            }
            damaged.truncate(at);
            prop_assert!(decode(&damaged, exact_up_to).is_err());
        }

        #[test]
        fn any_bytes_are_read_as_they_stand_or_refused(kind in 0u8..3, body: Vec<u8>, exact_up_to in 1u32..4) {
            let all = [&[kind], &body[..]].concat();
            if let Ok(read) = decode(&all, exact_up_to) {
                prop_assert_eq!(bytes(&read), all);
            }
        }
    }
}
