//! An **estimate**: the number that a summary keeps of a key, to twice a float's precision.
//!
//! Why twice: integers below 2^105 stay exact, with floats among them or not, and a sum of floats
//! strays so little that the bound of a summary's error stays true and as small as promised. What an
//! addition still loses is returned by it, and the summary adds that to its error.

use crate::aggregate::number::{Number, write_float};
use crate::aggregate::sum::Sum;
use crate::codec::{Reader, Result, Writer};
use std::cmp::Ordering;
use std::fmt::Write as _;

/// Invariant: `high` is the float nearest to `high + low`, neither is −0, so equal numbers are equal
/// bits; or `high` is infinite and `low` 0: the number has left the 64-bit floats and stays there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    high: f64,
    low: f64,
}

/// No estimate encodes to more bytes.
pub const LONGEST: usize = 17;

const LEFT: Estimate = Estimate { high: f64::INFINITY, low: 0.0 };
/// Whole numbers smaller than this show all their digits.
const WHOLE: f64 = (1u128 << 106) as f64;

impl Estimate {
    pub fn of(number: Number) -> Estimate {
        match number {
            Number::Int(int) => Estimate::of_int(int),
            Number::Float(float) => Estimate::of_float(float),
        }
    }

    pub fn of_float(float: f64) -> Estimate {
        Estimate { high: float, low: 0.0 }.settled()
    }

    /// Exact for integers below 2^106.
    fn of_int(int: i128) -> Estimate {
        let high = int as f64;
        Estimate { high, low: (int - high as i128) as f64 }.settled()
    }

    /// What a sum shows as, and at most how much of it is lost.
    pub fn of_sum(sum: &Sum) -> (Estimate, f64) {
        let (high, low) = sum.nearest_and_rest();
        let estimate = Estimate { high, low }.settled();
        let lost = if estimate.whole().is_some() { 0.0 } else { estimate.low.abs() * f64::EPSILON };
        (estimate, lost)
    }

    /// The nearest float.
    #[cfg(test)]
    pub fn approximate(self) -> f64 {
        self.high
    }

    /// Adds, and returns at most how much the sum is off: 0 while it fits.
    pub fn add(&mut self, other: Estimate) -> f64 {
        let (sum, a) = two_sum(self.high, other.high);
        let (rest, b) = two_sum(self.low, other.low);
        let (rest, c) = two_sum(a, rest);
        let (sum, rest) = two_sum(sum, rest);
        let (rest, lost) = two_sum(rest, c);
        let (rest, lost_too) = two_sum(rest, b);
        let (high, low) = two_sum(sum, rest);
        let is_left = !self.high.is_finite() || !other.high.is_finite();
        *self = if is_left { LEFT } else { Estimate { high, low }.settled() };
        match lost.abs() + lost_too.abs() {
            lost if lost > 0.0 && self.high.is_finite() => lost.next_up(),
            _ => 0.0,
        }
    }

    /// Grows by `by` or, where the sum does not fit, by a little more. For errors, which are never negative.
    pub fn raise(&mut self, by: Estimate) {
        if self.add(by) > 0.0 {
            // Far more than two additions lose, far less than anybody sees.
            self.add(Estimate::of_float(self.high * 2f64.powi(-90)));
        }
    }

    /// Moves towards 0 by `by`, which is no greater than the magnitude; returns as `add` does.
    pub fn shrink(&mut self, by: Estimate) -> f64 {
        if !self.high.is_finite() {
            return 0.0;
        }
        self.add(if self.high < 0.0 { by } else { by.negated() })
    }

    pub fn magnitude(self) -> Estimate {
        if self.high < 0.0 { self.negated() } else { self }
    }

    pub fn is_zero(self) -> bool {
        self.high == 0.0
    }

    pub fn negated(self) -> Estimate {
        Estimate { high: -self.high, low: -self.low }.settled()
    }

    /// By value; what has left the floats is the greatest.
    pub fn compare(self, other: Estimate) -> Ordering {
        self.high.total_cmp(&other.high).then(self.low.total_cmp(&other.low))
    }

    /// As they print; what has left the floats is less than every other.
    pub fn compare_shown(self, other: Estimate) -> Ordering {
        match (self.high.is_finite(), other.high.is_finite()) {
            (true, true) => self.shown().compare(other.shown()),
            (a, b) => a.cmp(&b),
        }
    }

    /// A whole number entirely, any other as its nearest float.
    fn shown(self) -> Estimate {
        if self.whole().is_some() { self } else { Estimate { low: 0.0, ..self } }
    }

    fn whole(self) -> Option<i128> {
        let is_whole = self.high.abs() < WHOLE && self.high.fract() == 0.0 && self.low.fract() == 0.0;
        is_whole.then(|| self.high as i128 + self.low as i128)
    }

    pub fn write_json(self, out: &mut String) {
        match self.whole() {
            Some(whole) => write!(out, "{whole}").expect("a string takes everything"),
            None => write_float(self.high, out),
        }
    }

    /// `error` of what `write_json` shows: `bound` and what showing leaves out, rounded up.
    pub fn write_error_json(self, mut bound: Estimate, out: &mut String) {
        if self.whole().is_none() {
            bound.raise(Estimate::of_float(self.low.abs()));
        }
        if bound.whole().is_none() && bound.low > 0.0 {
            bound = Estimate::of_float(bound.high.next_up());
        }
        bound.write_json(out);
    }

    pub fn encode(self, w: &mut Writer) {
        match self.whole() {
            Some(whole) => {
                w.byte(0);
                w.wide_signed(whole);
            }
            None if self.low == 0.0 => {
                w.byte(1);
                w.float(self.high);
            }
            None => {
                w.byte(2);
                w.float(self.high);
                w.float(self.low);
            }
        }
    }

    pub fn decode(r: &mut Reader) -> Result<Estimate> {
        let kind = r.byte("the kind of an estimate")?;
        let (estimate, whole) = match kind {
            0 => {
                let whole = r.wide_signed("a whole estimate")?;
                (Estimate::of_int(whole), Some(whole))
            }
            1 => (Estimate { high: r.float("an estimate")?, low: 0.0 }, None),
            2 => (Estimate { high: r.float("an estimate")?, low: r.float("the rest of an estimate")? }, None),
            _ => return r.expected("an estimate (0 whole, 1 float, 2 twice a float)"),
        };
        let is_split = (kind == 2) == (estimate.low != 0.0) || kind == 0;
        if estimate != estimate.settled() || estimate.whole() != whole || !is_split {
            return r.expected("an estimate in its shortest form");
        }
        Ok(estimate)
    }

    /// Keeps the invariant of numbers whose parts may be −0 or overlap.
    fn settled(self) -> Estimate {
        let (high, low) = two_sum(self.high, self.low);
        // NaN too: infinity less infinity.
        if !high.is_finite() || !low.is_finite() {
            return LEFT;
        }
        Estimate { high: high + 0.0, low: low + 0.0 }
    }
}

/// The rounded sum and, exactly, what rounding took from it (Knuth). Only a sum that overflows loses it.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_taken = sum - a;
    (sum, (a - (sum - b_taken)) + (b - b_taken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(estimate: Estimate) -> String {
        let mut out = String::new();
        estimate.write_json(&mut out);
        out
    }

    fn error_json(estimate: Estimate, bound: Estimate) -> String {
        let mut out = String::new();
        estimate.write_error_json(bound, &mut out);
        out
    }

    fn bytes(estimate: Estimate) -> Vec<u8> {
        let mut w = Writer::default();
        estimate.encode(&mut w);
        w.finish()
    }

    fn number() -> impl Strategy<Value = Number> {
        prop_oneof![
            any::<i64>().prop_map(|i| Number::Int(i.into())),
            any::<u64>().prop_map(|u| Number::Int(u.into())),
            (-9i128..9).prop_map(Number::Int),
            (-1e3..1e3).prop_map(Number::Float),
            any::<f64>().prop_filter("numbers are finite", |f| f.is_finite()).prop_map(Number::Float),
        ]
    }

    proptest! {
        #[test]
        fn integers_add_up_exactly(ints in proptest::collection::vec(-(1i128 << 100)..1 << 100, 0..20)) {
            let mut sum = Estimate::default();
            for int in &ints {
                prop_assert_eq!(sum.add(Estimate::of_int(*int)), 0.0);
            }
            let plain: i128 = ints.iter().sum();
            prop_assert_eq!(sum, Estimate::of_int(plain));
            prop_assert_eq!(json(sum), plain.to_string());
            prop_assert_eq!(Estimate::of_int(plain).compare(Estimate::of_int(1 << 99)), plain.cmp(&(1 << 99)));
        }

        #[test]
        fn shrinking_ends_at_nothing(number in number()) {
            let mut estimate = Estimate::of(number);
            prop_assert_eq!(estimate.shrink(estimate.magnitude()), 0.0);
            prop_assert_eq!(estimate, Estimate::default());
        }

        #[test]
        fn estimates_read_back(numbers in proptest::collection::vec(number(), 0..9)) {
            let mut sum = Estimate::default();
            for number in numbers {
                sum.add(Estimate::of(number));
                let given = bytes(sum);
                prop_assert!(given.len() <= LONGEST);
                prop_assert_eq!(Estimate::decode(&mut Reader::new(&given)), Ok(sum));
            }
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(kind in 0u8..4, rest in proptest::collection::vec(any::<u8>(), 0..20)) {
            let given = [&[kind][..], &rest].concat();
            if let Ok(estimate) = Estimate::decode(&mut Reader::new(&given)) {
                prop_assert!(given.starts_with(&bytes(estimate)));
            }
        }
    }

    #[test]
    fn a_tenth_ten_times_is_one_and_less_than_an_ulp() {
        let mut sum = Estimate::default();
        for _ in 0..10 {
            assert_eq!(sum.add(Estimate::of_float(0.1)), 0.0, "ten of them fit");
        }
        // The float 0.1 is a little more than a tenth. Floats added up would come to 0.9999999999999999.
        assert_eq!(json(sum), "1.0");
        assert_eq!(error_json(sum, Estimate::of_float(2.0)), "2.0000000000000004");
    }

    #[test]
    fn what_shows_the_same_is_equal_as_shown() {
        let mut more = Estimate::of_float(0.3);
        more.add(Estimate::of_float(2f64.powi(-80)));
        assert_eq!(more.compare(Estimate::of_float(0.3)), Ordering::Greater);
        assert_eq!(more.compare_shown(Estimate::of_float(0.3)), Ordering::Equal);
        assert_eq!(Estimate::of_int((1 << 60) + 1).compare_shown(Estimate::of_int(1 << 60)), Ordering::Greater);
    }

    #[test]
    fn what_does_not_fit_is_returned() {
        let mut sum = Estimate::of_float(1e200);
        sum.add(Estimate::of_float(1e100));
        assert_eq!(sum.add(Estimate::of_float(3.0)), 3f64.next_up());
        let mut error = sum;
        error.raise(Estimate::of_float(3.0));
        assert_eq!(error.compare(sum), Ordering::Greater);
    }

    #[test]
    fn what_leaves_the_floats_stays_out() {
        let mut sum = Estimate::of_float(f64::MAX);
        sum.add(Estimate::of_float(f64::MAX));
        assert_eq!(sum, LEFT);
        sum.add(Estimate::of_float(f64::MIN));
        assert_eq!((sum, json(sum)), (LEFT, "null".to_owned()));
        assert_eq!(sum.shrink(Estimate::of_float(1.0)), 0.0);
        assert_eq!(sum, LEFT);
        assert_eq!(Estimate::decode(&mut Reader::new(&bytes(LEFT))), Ok(LEFT));
        assert_eq!(LEFT.compare_shown(Estimate::of_float(f64::MIN)), Ordering::Less);
        assert_eq!(LEFT.compare(Estimate::of_float(f64::MAX)), Ordering::Greater);
    }
}
