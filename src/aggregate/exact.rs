//! The **exact sum of floats**: what a rollup adds up, whose partials come in no order of their own.
//!
//! A float is a whole multiple of 2^-1074, so a sum of floats is one long integer in that unit and
//! no addition rounds; only reading it as a float does, once (a superaccumulator: U. Kulisch,
//! "Computer Arithmetic and Validity", 2008).
//!
//! Invariant: the value, and so the bytes, are a function of the multiset of floats added, whatever
//! their order and split. It takes the memory of the digits between the greatest and the least in use.

use crate::codec::{Reader, Result, Writer};

/// The bit of the unit 2^-1074 at which 1 stands.
const ONE: usize = 1074;

/// 2^64 times the greatest float takes 2098 + 64 bits.
const LONGEST_BYTES: usize = (2098 + 64usize).div_ceil(8);

/// A sum of nothing allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Exact(Option<Box<Integer>>);

/// An integer of any size with a sign: two's complement, without the digits below `first`, which are 0.
#[derive(Clone, Debug, Default)]
struct Integer {
    first: usize,
    digits: Vec<u64>,
}

impl Exact {
    /// Panics in debug builds on what is no finite number: a broken invariant.
    pub fn add(&mut self, float: f64) {
        debug_assert!(float.is_finite());
        let bits = float.to_bits();
        let (exponent, fraction) = ((bits >> 52 & 0x7ff) as usize, (bits & ((1 << 52) - 1)) as i128);
        let (bit, magnitude) = if exponent == 0 { (0, fraction) } else { (exponent - 1, fraction | 1 << 52) };
        if magnitude != 0 {
            self.0.get_or_insert_default().add(if float < 0.0 { -magnitude } else { magnitude }, bit);
        }
    }

    pub fn merge(&mut self, other: &Exact) {
        match (&mut self.0, &other.0) {
            (_, None) => {}
            (None, other) => self.0.clone_from(other),
            (Some(sum), Some(other)) => sum.add_integer(other),
        }
    }

    pub fn is_zero(&self) -> bool {
        self.0.as_ref().is_none_or(|sum| sum.digits.iter().all(|digit| *digit == 0))
    }

    /// The floats and `int` together, rounded once: to the nearest float, of two as near the even one; beyond the greatest infinite.
    pub fn to_f64_with(&self, int: i128) -> f64 {
        let mut sum = self.0.as_deref().cloned().unwrap_or_default();
        sum.add(int, ONE);
        let negative = sum.make_positive();
        let magnitude = sum.to_f64();
        if negative { -magnitude } else { magnitude }
    }

    /// The bytes of the magnitude from the first to the last that is not 0, the place of the first of them, and the sign.
    pub fn encode(&self, w: &mut Writer) {
        let mut sum = self.0.as_deref().cloned().unwrap_or_default();
        let negative = sum.make_positive();
        let bytes: Vec<u8> = sum.digits.iter().flat_map(|digit| digit.to_le_bytes()).collect();
        let Some(from) = bytes.iter().position(|byte| *byte != 0) else {
            return w.text(&[]);
        };
        let to = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(from);
        w.text(&bytes[from..=to]);
        w.unsigned((sum.first * 8 + from) as u64 * 2 + u64::from(negative));
    }

    pub fn decode(r: &mut Reader) -> Result<Exact> {
        let bytes = r.text("the digits of an exact sum")?;
        let (Some(least), Some(greatest)) = (bytes.first(), bytes.last()) else {
            return Ok(Exact(None));
        };
        if *least == 0 || *greatest == 0 {
            return r.expected("an exact sum without zeros around it");
        }
        let place = r.unsigned("the place and sign of an exact sum")?;
        let from = usize::try_from(place >> 1).unwrap_or(usize::MAX);
        if from.saturating_add(bytes.len()) > LONGEST_BYTES {
            return r.expected("an exact sum that a log can come to");
        }
        let mut sum = Integer::default();
        for (at, byte) in bytes.iter().enumerate() {
            let magnitude = i128::from(*byte);
            sum.add(if place & 1 == 1 { -magnitude } else { magnitude }, (from + at) * 8);
        }
        Ok(Exact(Some(Box::new(sum))))
    }
}

impl Integer {
    /// Adds `value` · 2^`bit`.
    fn add(&mut self, value: i128, bit: usize) {
        let (at, shift) = (bit / 64, bit % 64);
        let (low, high) = (value << shift, value >> (128 - shift).min(127));
        self.make_room(at, at + 3);
        self.add_digits(at, &[low as u64, (low >> 64) as u64, high as u64], sign_digit(high < 0));
    }

    fn add_integer(&mut self, other: &Integer) {
        if !other.digits.is_empty() {
            self.make_room(other.first, other.first + other.digits.len() + usize::from(other.is_full()));
            self.add_digits(other.first, &other.digits, other.sign());
        }
    }

    /// Puts digits there from `from` to `to`, and one more at the top if the sum could outgrow them.
    fn make_room(&mut self, from: usize, to: usize) {
        if self.digits.is_empty() {
            self.first = from;
        }
        if from < self.first {
            self.digits.splice(0..0, std::iter::repeat_n(0, self.first - from));
            self.first = from;
        }
        let sign = self.sign();
        self.digits.resize((to - self.first).max(self.digits.len()), sign);
        // Both summands then lie within half of what the digits hold.
        if self.is_full() {
            self.digits.push(sign);
        }
    }

    /// Adds what stands from `at` on, continued to the top by its sign.
    fn add_digits(&mut self, at: usize, digits: &[u64], sign: u64) {
        let mut carry = false;
        for (sum, digit) in self.digits[at - self.first..].iter_mut().zip(digits.iter().chain(std::iter::repeat(&sign))) {
            let (partial, first) = sum.overflowing_add(*digit);
            let (total, second) = partial.overflowing_add(carry.into());
            *sum = total;
            carry = first || second;
        }
    }

    fn is_negative(&self) -> bool {
        self.digits.last().is_some_and(|digit| (*digit as i64) < 0)
    }

    /// What would stand on top of the digits.
    fn sign(&self) -> u64 {
        sign_digit(self.is_negative())
    }

    /// Whether the top digit holds more than the sign.
    fn is_full(&self) -> bool {
        self.digits.last().is_some_and(|digit| *digit != self.sign())
    }

    /// Takes the sign away; true if it was negative.
    fn make_positive(&mut self) -> bool {
        let negative = self.is_negative();
        if negative {
            let mut carry = true;
            for digit in &mut self.digits {
                (*digit, carry) = (!*digit).overflowing_add(carry.into());
            }
        }
        negative
    }

    /// Of what is not negative.
    fn to_f64(&self) -> f64 {
        let Some(top) = self.digits.iter().rposition(|digit| *digit != 0) else {
            return 0.0;
        };
        let length = (self.first + top) * 64 + (64 - self.digits[top].leading_zeros() as usize);
        // Up to 53 bits fit as they are, and so far an integer is its own encoding as a float.
        let dropped = length.saturating_sub(53);
        if dropped > 2045 {
            return f64::INFINITY;
        }
        let mantissa = self.bits_from(dropped);
        let half = dropped > 0 && self.bits_from(dropped - 1) & 1 == 1;
        let more = dropped > 0 && self.any_below(dropped - 1);
        let up = half && (more || mantissa & 1 == 1);
        // The mantissa's leading bit adds one to the exponent, and so does rounding up to 2^53, in the end to infinity.
        f64::from_bits(((dropped as u64) << 52) + mantissa + u64::from(up))
    }

    fn digit(&self, at: usize) -> u64 {
        at.checked_sub(self.first).and_then(|at| self.digits.get(at)).copied().unwrap_or(0)
    }

    fn bits_from(&self, bit: usize) -> u64 {
        let (at, shift) = (bit / 64, bit % 64);
        ((u128::from(self.digit(at + 1)) << 64 | u128::from(self.digit(at))) >> shift) as u64
    }

    fn any_below(&self, bit: usize) -> bool {
        let (at, shift) = (bit / 64, bit % 64);
        self.digit(at) & ((1 << shift) - 1) != 0
            || self.digits.iter().take(at.saturating_sub(self.first)).any(|digit| *digit != 0)
    }
}

fn sign_digit(negative: bool) -> u64 {
    if negative { u64::MAX } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(sum: &Exact) -> Vec<u8> {
        let mut w = Writer::default();
        sum.encode(&mut w);
        w.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Exact> {
        let mut r = Reader::new(bytes);
        let sum = Exact::decode(&mut r)?;
        r.end().map(|()| sum)
    }

    fn sum(floats: &[f64]) -> Exact {
        let mut sum = Exact::default();
        floats.iter().for_each(|float| sum.add(*float));
        sum
    }

    /// The sum bit by bit, as decimal text, read by the standard library.
    fn plain(floats: &[f64], int: i128) -> f64 {
        let mut bits = vec![0i64; 2300];
        let mut count = |magnitude: u128, from: usize, sign: i64| {
            (0..128).filter(|bit| magnitude >> bit & 1 == 1).for_each(|bit| bits[from + bit as usize] += sign);
        };
        for float in floats {
            let exponent = (float.to_bits() >> 52 & 0x7ff) as usize;
            let fraction = u128::from(float.to_bits() & ((1 << 52) - 1));
            let leading = u128::from(exponent > 0) << 52;
            count(fraction | leading, exponent.max(1) - 1, if float.is_sign_negative() { -1 } else { 1 });
        }
        count(int.unsigned_abs(), 1074, int.signum() as i64);
        let mut negative = false;
        while !carried(&mut bits) {
            negative = !negative;
            bits.iter_mut().for_each(|bit| *bit = -*bit);
        }
        let mut decimal = Vec::new();
        for bit in bits.iter().rev() {
            times_plus(&mut decimal, 2, *bit as u64);
        }
        (0..1074).for_each(|_| times_plus(&mut decimal, 5, 0));
        let digits: String = decimal.iter().rev().map(|digits| format!("{digits:018}")).collect();
        format!("{}{digits}0e-1075", if negative { "-" } else { "" }).parse().unwrap()
    }

    /// Makes every bit 0 or 1; false if that cannot be, the number being negative.
    fn carried(bits: &mut [i64]) -> bool {
        let mut carry = 0;
        for bit in bits.iter_mut() {
            let total = *bit + carry;
            (*bit, carry) = (total & 1, total >> 1);
        }
        if carry < 0 {
            let top = bits.len() - 1;
            bits[top] += 2 * carry;
        }
        carry == 0
    }

    fn times_plus(decimal: &mut Vec<u64>, factor: u64, plus: u64) {
        let mut carry = plus;
        for digits in decimal.iter_mut() {
            let total = *digits * factor + carry;
            (*digits, carry) = (total % 1_000_000_000_000_000_000, total / 1_000_000_000_000_000_000);
        }
        if carry > 0 {
            decimal.push(carry);
        }
    }

    /// Of all sizes, some near each other, some the opposite of others, subnormal and greatest ones.
    fn floats() -> impl Strategy<Value = Vec<f64>> {
        let float = prop_oneof![
            4 => any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |float| float.is_finite()),
            4 => -1e6..1e6,
            2 => (-1e6..1e6).prop_map(f64::round),
            2 => (0u64..1 << 53).prop_map(f64::from_bits),
            2 => (-60i32..60, any::<bool>()).prop_map(|(power, minus)| if minus { -2f64.powi(power) } else { 2f64.powi(power) }),
            1 => prop::sample::select(vec![f64::MAX, f64::MIN, 5e-324, -5e-324, 0.0, -0.0, f64::MIN_POSITIVE]),
        ];
        (proptest::collection::vec(float, 0..24), 0usize..12).prop_map(|(mut floats, undone)| {
            let opposite: Vec<f64> = floats.iter().take(undone).map(|float| -float).collect();
            floats.extend(opposite);
            floats
        })
    }

    fn int() -> impl Strategy<Value = i128> {
        prop_oneof![Just(0), any::<i64>().prop_map(i128::from), any::<i128>(), Just(i128::MIN), Just(i128::MAX)]
    }

    #[track_caller]
    fn check(floats: &[f64], int: i128, expected: f64) {
        assert_eq!(sum(floats).to_f64_with(int).to_bits(), expected.to_bits(), "{floats:?} + {int}");
        let opposite: Vec<f64> = floats.iter().map(|float| -float).collect();
        if expected != 0.0 {
            assert_eq!(sum(&opposite).to_f64_with(-int), -expected);
        }
    }

    #[test]
    fn a_sum_of_nothing_is_a_word_a_byte_and_zero() {
        assert_eq!(size_of::<Exact>(), size_of::<usize>());
        assert_eq!(bytes(&Exact::default()), [0]);
        assert!(Exact::default().is_zero());
        assert!(sum(&[0.0, -0.0]).is_zero());
        check(&[], 0, 0.0);
        check(&[], -7, -7.0);
    }

    #[test]
    fn what_cancels_leaves_nothing() {
        let gone = sum(&[1e300, 1.0, -1e300, 5e-324, -1.0, -5e-324]);
        assert!(gone.is_zero());
        assert_eq!(bytes(&gone), [0]);
        check(&[1e300, 5e-324, -1e300], 0, 5e-324);
        check(&[0.5, 1e17], -100_000_000_000_000_000, 0.5);
        check(&[-1.5, 0.5], 1, 0.0);
    }

    #[test]
    fn ties_go_to_the_even_float_and_anything_more_breaks_them() {
        let even = 9007199254740992.0; // 2^53: the next float is 2 away
        check(&[even, 1.0], 0, even);
        check(&[even, 2.0, 1.0], 0, even + 4.0);
        check(&[even, 1.0, 5e-324], 0, even + 2.0);
        check(&[even, 1.0, -5e-324], 0, even);
        check(&[1.0, 5e-324], 1 << 53, even + 2.0);
        check(&[0.1, 0.2], 0, 0.30000000000000004);
        check(&[0.1; 10], 0, 1.0);
        // At the border between subnormal and normal floats every sum of two is a float.
        check(&[f64::MIN_POSITIVE, -5e-324], 0, f64::from_bits((1 << 52) - 1));
        check(&[f64::from_bits((1 << 52) - 1), 5e-324], 0, f64::MIN_POSITIVE);
        check(&[f64::from_bits((1 << 53) - 1), 5e-324], 0, f64::from_bits(1 << 53));
    }

    #[test]
    fn beyond_the_greatest_float_it_is_infinite_until_it_comes_back() {
        let half_step = 2f64.powi(970);
        check(&[f64::MAX, half_step], 0, f64::INFINITY);
        check(&[f64::MAX, half_step, -5e-324], 0, f64::MAX);
        check(&[f64::MAX, f64::MAX], 0, f64::INFINITY);
        check(&[f64::MAX, f64::MAX, -f64::MAX], 0, f64::MAX);
        check(&vec![f64::MAX; 5_000], i128::MAX, f64::INFINITY);
        let mut far = sum(&[f64::MAX]);
        for _ in 0..64 {
            far.merge(&far.clone());
        }
        assert_eq!(far.to_f64_with(0), f64::INFINITY);
        assert_eq!(bytes(&decode(&bytes(&far)).unwrap()), bytes(&far));
        // The bits up to a whole byte, and one more.
        for _ in 0..7 {
            far.merge(&far.clone());
        }
        assert!(decode(&bytes(&far)).is_err(), "more than 2^64 of the greatest float");
    }

    #[test]
    fn small_sums_take_few_bytes() {
        assert!(bytes(&sum(&[1.5, 2.25, -0.5])).len() <= 5);
        assert!(bytes(&sum(&[0.1; 1000])).len() <= 12);
        assert!(sum(&[0.1; 1000]).0.unwrap().digits.len() <= 5);
    }

    proptest! {
        #[test]
        fn it_is_the_true_sum_rounded_once(floats in floats(), int in int()) {
            prop_assert_eq!(sum(&floats).to_f64_with(int), plain(&floats, int));
        }

        #[test]
        fn neither_order_nor_split_matters(
            floats in floats().prop_shuffle(), at: prop::sample::Index, other: prop::sample::Index,
        ) {
            let whole = bytes(&sum(&floats));
            let reversed: Vec<f64> = floats.iter().rev().copied().collect();
            prop_assert_eq!(&bytes(&sum(&reversed)), &whole);
            let (mut from, mut to) = (at.index(floats.len() + 1), other.index(floats.len() + 1));
            if from > to {
                (from, to) = (to, from);
            }
            let parts = [&floats[..from], &floats[from..to], &floats[to..]].map(sum);
            for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
                let mut merged = Exact::default();
                order.iter().for_each(|part| merged.merge(&parts[*part]));
                prop_assert_eq!(&bytes(&merged), &whole);
                let mut right = parts[order[1]].clone();
                right.merge(&parts[order[2]]);
                let mut merged = parts[order[0]].clone();
                merged.merge(&right);
                prop_assert_eq!(&bytes(&merged), &whole);
            }
        }

        #[test]
        fn it_reads_back_and_goes_on_the_same(a in floats(), b in floats()) {
            let mut on = sum(&a);
            let mut back = decode(&bytes(&on)).unwrap();
            prop_assert_eq!(bytes(&back), bytes(&on));
            prop_assert_eq!(back.is_zero(), on.is_zero());
            for float in b {
                on.add(float);
                back.add(float);
            }
            prop_assert_eq!(bytes(&back), bytes(&on));
        }

        #[test]
        fn damaged_bytes_are_read_as_they_stand_or_refused(a in floats(), at: prop::sample::Index, to: u8) {
            let mut damaged = bytes(&sum(&a));
            let at = at.index(damaged.len());
            damaged[at] = to;
            if let Ok(read) = decode(&damaged) {
                prop_assert_eq!(bytes(&read), &damaged[..]);
            }
            damaged.truncate(at);
            prop_assert!(decode(&damaged).is_err());
        }

        #[test]
        fn any_bytes_are_read_as_they_stand_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300), place: u64) {
            let mut w = Writer::default();
            w.text(&body);
            w.unsigned(place >> (place % 64));
            for bytes_of_it in [w.finish(), body] {
                if let Ok(read) = decode(&bytes_of_it) {
                    prop_assert_eq!(bytes(&read), bytes_of_it);
                }
            }
        }
    }
}
