//! **quantiles**: a histogram of the values, each rounded to 8 significant bits, and the quantiles
//! read from it.
//!
//! The rule hands in the number of each event. Invariant: rounding keeps the order of values, so the
//! value of a rank lies in the bucket of that rank; a bucket is within 2^-8 (0.4 %) of each of its
//! values, and an integer up to 256 is its bucket. Counts alone are kept: any order and any split of
//! the same values gives the same state.
//!
//! Why not buckets by logarithm (DDSketch): `ln` may differ in its last bit from one machine or
//! library to the next, and a value on a border would then land in another bucket on replay. The top
//! bits of a float are the same everywhere.

use super::number::{Number, write_float};
use crate::codec::{Reader, Result, Writer};
use std::fmt::Write as _;

/// The values seen so far: one machine word, nothing allocated before the first.
#[derive(Clone, Debug, Default)]
pub struct Quantiles(Option<Box<Histogram>>);

#[derive(Clone, Debug, Default)]
struct Histogram {
    /// In ascending order of buckets; no count is 0.
    counts: Vec<(Bucket, u64)>,
}

/// One quantile of a definition, compiled from `q` = `digits` / 10^`scale`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantile {
    /// `p` and 100 q in shortest decimal: `p99.9`.
    pub name: String,
    digits: u64,
    scale: u32,
}

impl Quantiles {
    pub fn add(&mut self, number: Number) {
        let histogram = self.0.get_or_insert_default();
        histogram.add(Bucket::of(number), 1);
    }

    pub fn merge(&mut self, later: &Quantiles) {
        let Some(more) = &later.0 else { return };
        match &mut self.0 {
            None => self.0 = Some(more.clone()),
            Some(histogram) => histogram.merge(more),
        }
    }

    /// Buckets as distances to the one before, then each one's count.
    pub fn encode(&self, w: &mut Writer) {
        let counts = self.0.as_ref().map_or(&[][..], |histogram| &histogram.counts);
        w.unsigned(counts.len() as u64);
        let mut before = None;
        for (bucket, count) in counts {
            match before {
                None => w.signed(bucket.0.into()),
                // Distances are at least 1.
                Some(Bucket(before)) => w.unsigned((bucket.0 - before - 1) as u64),
            }
            w.unsigned(count - 1);
            before = Some(*bucket);
        }
    }

    pub fn decode(r: &mut Reader) -> Result<Quantiles> {
        let buckets = r.count("the number of buckets")?;
        if buckets == 0 {
            return Ok(Quantiles(None));
        }
        let mut histogram = Histogram::default();
        let mut total = 0u64;
        for _ in 0..buckets {
            let at = match histogram.counts.last() {
                None => Some(r.signed("the first bucket")?),
                Some((Bucket(before), _)) => i64::try_from(r.unsigned("the distance to a bucket")?)
                    .ok()
                    .and_then(|distance| distance.checked_add(i64::from(*before) + 1)),
            };
            let Some(bucket) = at.and_then(Bucket::checked) else { return r.expected("a bucket of 64-bit floats") };
            let count = r.tally("the count of a bucket")? + 1;
            total += count;
            if total > 1 << 56 {
                return r.expected("as many values as a log can hold");
            }
            histogram.counts.push((bucket, count));
        }
        Ok(Quantiles(Some(Box::new(histogram))))
    }

    /// No more bytes than this are added to the encoding by one more value.
    pub fn growth(&self) -> usize {
        // A new bucket: its 3 bytes, its count, 2 more for a neighbour that was near, 1 more for the number of buckets.
        3 + 1 + 2 + 1
    }

    /// An object of the quantiles by name; `null` before the first value.
    pub fn write_json(&self, at: &[Quantile], out: &mut String) {
        let Some(histogram) = &self.0 else { return out.push_str("null") };
        let total = histogram.counts.iter().map(|(_, count)| count).sum();
        out.push('{');
        for (i, quantile) in at.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(out, "{comma}\"{}\":", quantile.name).expect("a string takes everything");
            histogram.of_rank(quantile.rank(total)).write_json(out);
        }
        out.push('}');
    }
}

impl Histogram {
    fn add(&mut self, bucket: Bucket, count: u64) {
        match self.counts.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(i) => self.counts[i].1 += count,
            Err(i) => self.counts.insert(i, (bucket, count)),
        }
    }

    fn merge(&mut self, more: &Histogram) {
        let mut merged = Vec::with_capacity(self.counts.len().max(more.counts.len()));
        let (mut ours, mut theirs) = (self.counts.iter().peekable(), more.counts.iter().peekable());
        while let (Some((a, n)), Some((b, m))) = (ours.peek(), theirs.peek()) {
            merged.push(match a.cmp(b) {
                std::cmp::Ordering::Equal => (*a, n + m),
                std::cmp::Ordering::Less => (*a, *n),
                std::cmp::Ordering::Greater => (*b, *m),
            });
            let (a, b) = (*a, *b);
            ours.next_if(|(bucket, _)| *bucket <= b);
            theirs.next_if(|(bucket, _)| *bucket <= a);
        }
        merged.extend(ours.chain(theirs));
        self.counts = merged;
    }

    /// The bucket of the value of this rank, from 1 to the number of values.
    fn of_rank(&self, rank: u64) -> Bucket {
        let mut below = 0;
        for (bucket, count) in &self.counts {
            below += count;
            if below >= rank {
                return *bucket;
            }
        }
        unreachable!("rank {rank} of {below} values")
    }
}

impl Quantile {
    /// `q` is from 0 to 1, as the configuration checks.
    pub fn new(q: f64) -> Quantile {
        assert!((0.0..=1.0).contains(&q), "a quantile at {q}");
        // Shortest decimal, as "9.99e-1". Of the float 0.07 that is 7e-2: what was written is meant, not 0.07000000000000000666.
        let text = format!("{:e}", q.abs());
        let (mantissa, exponent) = text.split_once('e').expect("LowerExp writes an exponent");
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}").parse().expect("a float has at most 17 digits");
        let exponent: i32 = exponent.parse().expect("LowerExp writes a small exponent");
        let scale = fraction.len() as u32 + exponent.unsigned_abs();
        Quantile { name: name(digits, scale), digits, scale }
    }

    /// ⌈q n⌉, exactly; at least 1. `n` is at least 1.
    fn rank(&self, n: u64) -> u64 {
        let product = u128::from(self.digits) * u128::from(n);
        match 10u128.checked_pow(self.scale) {
            Some(power) => (product.div_ceil(power) as u64).max(1),
            // Smaller than any product of 17 digits and 64 bits.
            None => 1,
        }
    }
}

fn name(digits: u64, scale: u32) -> String {
    match scale.checked_sub(2) {
        None => format!("p{}", digits * 10u64.pow(2 - scale)),
        Some(0) => format!("p{digits}"),
        Some(fraction) => {
            let fraction = fraction as usize;
            let padded = format!("{digits:0>width$}", width = fraction + 1);
            let (whole, fraction) = padded.split_at(padded.len() - fraction);
            format!("p{whole}.{fraction}")
        }
    }
}

/// All values that round to the same 8 significant bits, by sign and magnitude: buckets are in the
/// order of their values, and 0 is that of zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bucket(i32);

/// Bits of a float's mantissa that a bucket leaves out.
const DROPPED: u32 = 52 - 7;
/// Subnormal floats, times 2 to this, are normal.
const LIFT: u32 = 54;
const LIFTED: i32 = (LIFT as i32) << 7;
/// Exponent and 7 bits of the largest finite float.
const LARGEST: i32 = (0x7ff << 7) - 1;

impl Bucket {
    fn of(number: Number) -> Bucket {
        let value = match number {
            Number::Int(int) => int as f64,
            Number::Float(float) => float,
        };
        let magnitude = value.abs();
        let index = match magnitude {
            0.0 => 0,
            ..f64::MIN_POSITIVE => round(magnitude * 2f64.powi(LIFT as i32)),
            // The largest would round up to infinity.
            _ => round(magnitude).min(LARGEST) + LIFTED,
        };
        Bucket(if value < 0.0 { -index } else { index })
    }

    /// `None`: no value rounds to it.
    fn checked(index: i64) -> Option<Bucket> {
        let bucket = Bucket(i32::try_from(index).ok().filter(|index| index.unsigned_abs() <= (LARGEST + LIFTED) as u32)?);
        (Bucket::of(Number::Float(bucket.value())) == bucket).then_some(bucket)
    }

    /// What stands for the values.
    fn value(self) -> f64 {
        let index = self.0.unsigned_abs();
        let lifted = LIFTED as u32;
        let magnitude = match index {
            0 => 0.0,
            _ if index < lifted + (1 << 7) => float(index) * 2f64.powi(-(LIFT as i32)),
            _ => float(index - lifted),
        };
        if self.0 < 0 { -magnitude } else { magnitude }
    }

    /// A whole number that floats hold exactly as an integer, any other as a float.
    fn write_json(self, out: &mut String) {
        let value = self.value();
        if value.fract() == 0.0 && value.abs() < (1u64 << 53) as f64 {
            write!(out, "{}", value as i64).expect("a string takes everything");
        } else {
            write_float(value, out);
        }
    }
}

/// Exponent and 7 bits of a positive normal float, rounded to nearest, ties to even: the carry of a
/// mantissa that rounds up to 2 lands in the exponent, where it belongs.
fn round(magnitude: f64) -> i32 {
    let bits = magnitude.to_bits();
    let odd = (bits >> DROPPED) & 1;
    ((bits + (1 << (DROPPED - 1)) - 1 + odd) >> DROPPED) as i32
}

fn float(exponent_and_mantissa: u32) -> f64 {
    f64::from_bits(u64::from(exponent_and_mantissa) << DROPPED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(numbers: &[Number]) -> Quantiles {
        let mut quantiles = Quantiles::default();
        numbers.iter().for_each(|number| quantiles.add(*number));
        quantiles
    }

    fn bytes(quantiles: &Quantiles) -> Vec<u8> {
        let mut w = Writer::default();
        quantiles.encode(&mut w);
        w.finish()
    }

    fn merged(mut a: Quantiles, b: &Quantiles) -> Quantiles {
        a.merge(b);
        a
    }

    fn json(quantiles: &Quantiles, at: &[f64]) -> String {
        let at: Vec<_> = at.iter().map(|q| Quantile::new(*q)).collect();
        let mut out = String::new();
        quantiles.write_json(&at, &mut out);
        out
    }

    fn rounded(value: f64) -> f64 {
        Bucket::of(Number::Float(value)).value()
    }

    fn number() -> impl Strategy<Value = Number> {
        prop_oneof![
            any::<i64>().prop_map(|i| Number::Int(i.into())),
            any::<u64>().prop_map(|u| Number::Int(u.into())),
            (-300i128..300).prop_map(Number::Int),
            (-1e3..1e3).prop_map(Number::Float),
            any::<f64>().prop_filter("numbers are finite", |f| f.is_finite()).prop_map(Number::Float),
            (0u64..1 << 52).prop_map(|bits| Number::Float(f64::from_bits(bits))),
        ]
    }

    fn numbers() -> impl Strategy<Value = Vec<Number>> {
        proptest::collection::vec(number(), 0..80)
    }

    proptest! {
        #[test]
        fn a_value_is_within_a_256th_of_what_stands_for_it(number in number()) {
            let value = match number { Number::Int(i) => i as f64, Number::Float(f) => f };
            let shown = rounded(value);
            prop_assert!(shown.is_finite());
            // Halves: neither side leaves the floats.
            prop_assert!((shown / 2.0 - value / 2.0).abs() <= value.abs() / 512.0, "{value:e} as {shown:e}");
        }

        #[test]
        fn buckets_are_in_the_order_of_values(a in number(), b in number()) {
            let (low, high) = if a.compare(b).is_le() { (a, b) } else { (b, a) };
            prop_assert!(Bucket::of(low) <= Bucket::of(high));
            prop_assert!(Bucket::of(low).value() <= Bucket::of(high).value());
        }

        #[test]
        fn every_bucket_is_that_of_its_own_value(number in number()) {
            let bucket = Bucket::of(number);
            prop_assert_eq!(Bucket::checked(bucket.0.into()), Some(bucket));
        }

        #[test]
        fn any_order_and_split_gives_the_same_bytes(a in numbers(), b in numbers(), c in numbers()) {
            let all = [&a[..], &b[..], &c[..]].concat();
            let backwards: Vec<_> = all.iter().rev().copied().collect();
            let (a, b, c) = (of(&a), of(&b), of(&c));
            let whole = bytes(&of(&all));
            prop_assert_eq!(&bytes(&of(&backwards)), &whole);
            prop_assert_eq!(&bytes(&merged(merged(a.clone(), &b), &c)), &whole);
            prop_assert_eq!(&bytes(&merged(a.clone(), &merged(b.clone(), &c))), &whole);
            prop_assert_eq!(&bytes(&merged(merged(c, &b), &a)), &whole);
            prop_assert_eq!(bytes(&merged(a.clone(), &Quantiles::default())), bytes(&a));
            prop_assert_eq!(bytes(&merged(Quantiles::default(), &a)), bytes(&a));
        }

        #[test]
        fn a_quantile_is_the_value_of_its_rank(numbers in proptest::collection::vec(number(), 1..80), thousandths in 0u64..=1000) {
            let mut sorted = numbers.clone();
            sorted.sort_by(|a, b| a.compare(*b));
            let rank = (thousandths as usize * sorted.len()).div_ceil(1000).max(1);
            let mut expected = String::new();
            Bucket::of(sorted[rank - 1]).write_json(&mut expected);
            let shown = json(&of(&numbers), &[thousandths as f64 / 1000.0]);
            prop_assert_eq!(shown.split_once(':').unwrap().1, format!("{expected}}}"));
        }

        #[test]
        fn snapshots_read_back_and_grow_as_said(numbers in numbers()) {
            let mut quantiles = Quantiles::default();
            for number in numbers {
                let before = bytes(&quantiles).len();
                let growth = quantiles.growth();
                quantiles.add(number);
                let now = bytes(&quantiles);
                prop_assert!(now.len() <= before + growth);
                let mut r = Reader::new(&now);
                let back = Quantiles::decode(&mut r).unwrap();
                prop_assert_eq!(r.end(), Ok(()));
                prop_assert_eq!(&bytes(&back), &now);
            }
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(mut given in proptest::collection::vec(any::<u8>(), 0..40), few in 0u8..8) {
            if let Some(first) = given.first_mut() { *first = few; }
            let mut r = Reader::new(&given);
            if let Ok(quantiles) = Quantiles::decode(&mut r) {
                let again = bytes(&quantiles);
                prop_assert!(given.starts_with(&again));
                json(&quantiles, &[0.0, 0.5, 1.0]);
            }
        }

        #[test]
        fn a_damaged_snapshot_is_read_or_refused(numbers in numbers(), at: prop::sample::Index, to: u8) {
            let mut given = bytes(&of(&numbers));
            let at = at.index(given.len());
            given[at] = to;
            let mut r = Reader::new(&given);
            if let Ok(quantiles) = Quantiles::decode(&mut r) {
                prop_assert!(given.starts_with(&bytes(&quantiles)));
            }
        }
    }

    #[test]
    fn integers_up_to_256_are_exact() {
        for i in -256..=256 {
            assert_eq!(rounded(f64::from(i)), f64::from(i));
        }
        assert_eq!(rounded(257.0), 256.0, "a tie goes to the even one");
        assert_eq!(rounded(259.0), 260.0, "a tie goes to the even one");
    }

    #[test]
    fn the_ends_of_the_floats_have_buckets() {
        assert_eq!(rounded(f64::MAX), float(LARGEST as u32));
        assert_eq!(rounded(f64::MIN), -float(LARGEST as u32));
        assert_eq!(rounded(5e-324), 5e-324);
        assert_eq!(rounded(-255.0 * 5e-324), -255.0 * 5e-324);
        assert_eq!(rounded(f64::MIN_POSITIVE.next_down()), f64::MIN_POSITIVE);
        assert_eq!(Bucket::of(Number::Float(-0.0)), Bucket::of(Number::Int(0)));
        assert_eq!(Bucket::checked(1), None);
        assert_eq!(Bucket::checked(i64::from(LARGEST + LIFTED) + 1), None);
        assert_eq!(Bucket::checked(i64::MIN), None);
    }

    #[test]
    fn names_and_ranks_come_from_the_digits() {
        let names = [0.5, 0.95, 0.99, 0.999, 0.07, 0.001, 0.0, 1.0, 0.123456, 0.3].map(|q| Quantile::new(q).name);
        assert_eq!(names, ["p50", "p95", "p99", "p99.9", "p7", "p0.1", "p0", "p100", "p12.3456", "p30"]);
        assert_eq!(Quantile::new(0.07).rank(100), 7);
        assert_eq!(Quantile::new(0.99).rank(1 << 56), 71_337_018_097_548_657);
        assert_eq!(Quantile::new(0.0).rank(10), 1);
        assert_eq!(Quantile::new(1.0).rank(u64::MAX), u64::MAX);
        assert_eq!(Quantile::new(5e-324).rank(u64::MAX), 1);
    }

    #[test]
    fn values_are_null_before_the_first_and_whole_without_a_fraction() {
        assert_eq!(json(&Quantiles::default(), &[0.5]), "null");
        let ints: Vec<_> = (1..=200).map(Number::Int).collect();
        assert_eq!(json(&of(&ints), &[0.5, 0.95, 0.99, 0.999]), r#"{"p50":100,"p95":190,"p99":198,"p99.9":200}"#);
        assert_eq!(json(&of(&[Number::Float(-2.5)]), &[0.5]), r#"{"p50":-2.5}"#);
        assert_eq!(json(&of(&[Number::Float(-0.0)]), &[0.5]), r#"{"p50":0}"#);
        assert_eq!(
            json(&of(&[Number::Float(1e300)]), &[1.0]).parse::<serde_json::Value>().unwrap()["p100"].as_f64(),
            Some(rounded(1e300))
        );
    }

    #[test]
    fn idle_is_one_word() {
        assert_eq!(size_of::<Quantiles>(), size_of::<usize>());
        assert_eq!(bytes(&Quantiles::default()), [0]);
    }
}
