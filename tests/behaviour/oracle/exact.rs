//! The **exact sum** of floats that a rollup shows: no float added to it is rounded, only the whole, once.
//!
//! Every double is a whole number of 2^-1074. The sum is kept as such a number, in limbs of 32 bits.

/// 2^1024 is bit 2098; the rest is room for a great many of the greatest.
const LIMBS: usize = 72;

#[derive(Clone, Debug)]
pub struct Exact {
    /// Least first, each within 32 bits and a sign; what is beyond is carried at once.
    limbs: [i64; LIMBS],
}

impl Exact {
    pub fn zero() -> Exact {
        Exact { limbs: [0; LIMBS] }
    }

    pub fn add_float(&mut self, f: f64) {
        let bits = f.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as usize;
        let fraction = (bits & ((1 << 52) - 1)) as i128;
        let (mantissa, shift) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        self.add(if f.is_sign_negative() { -mantissa } else { mantissa }, shift);
    }

    pub fn add_integer(&mut self, i: i128) {
        // Halves, so that shifting inside the limb does not leave 128 bits.
        self.add(i & 0xffff_ffff_ffff_ffff, 1074);
        self.add(i >> 64, 1074 + 64);
    }

    /// Adds `n` · 2^`shift` of the smallest unit; `n` has at most 64 bits and a sign.
    fn add(&mut self, n: i128, shift: usize) {
        let mut carry = n << (shift % 32);
        for limb in &mut self.limbs[shift / 32..] {
            carry += i128::from(*limb);
            *limb = (carry & 0xffff_ffff) as i64;
            carry >>= 32;
        }
        // Two's complement: what is carried out of the top is the sign.
        self.limbs[LIMBS - 1] += (carry << 32) as i64;
    }

    /// The nearest double, to a few parts in 2^53; infinite when outside.
    pub fn to_f64(&self) -> f64 {
        let mut limbs = self.limbs;
        let negative = limbs[LIMBS - 1] < 0;
        if negative {
            let mut carry = 0;
            for limb in &mut limbs[..LIMBS - 1] {
                carry -= *limb;
                *limb = carry & 0xffff_ffff;
                carry >>= 32;
            }
            limbs[LIMBS - 1] = carry - limbs[LIMBS - 1];
        }
        // From the greatest down; each limb in two steps, as 2^-1074 · 2^32i alone may leave the doubles.
        let sum: f64 = limbs.iter().enumerate().rev().map(|(i, &limb)| scaled(limb as f64, 32 * i as i32 - 1074)).sum();
        if negative { -sum } else { sum }
    }
}

fn scaled(f: f64, power: i32) -> f64 {
    let half = power / 2;
    f * 2f64.powi(half) * 2f64.powi(power - half)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(floats: &[f64]) -> f64 {
        let mut exact = Exact::zero();
        floats.iter().for_each(|f| exact.add_float(*f));
        exact.to_f64()
    }

    #[test]
    fn nothing_is_lost_on_the_way() {
        assert_eq!(sum(&[]), 0.0);
        assert_eq!(sum(&[0.5, 0.25, -0.75]), 0.0);
        assert_eq!(sum(&[1e300, 1.0, -1e300]), 1.0);
        assert_eq!(sum(&[1.0, 1e300, -1e300, 1e-300]), 1.0);
        assert_eq!(sum(&[1e308, 1e308, -1e308]), 1e308);
        assert_eq!(sum(&[-1e308, -1e308, 1e308]), -1e308);
        assert_eq!(sum(&[5e-324, 5e-324]), 1e-323);
        assert_eq!(sum(&[-5e-324]), -5e-324);
        assert_eq!(sum(&[-1.5, 0.25]), -1.25);
        assert_eq!(sum(&[f64::MAX]), f64::MAX);
        assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(sum(&[0.1; 10]), 1.0);
    }

    #[test]
    fn integers_add_up_with_floats() {
        let mut exact = Exact::zero();
        exact.add_integer((1 << 64) - 1);
        exact.add_float(-18446744073709551616.0);
        exact.add_float(0.5);
        assert_eq!(exact.to_f64(), -0.5);
        let mut negative = Exact::zero();
        negative.add_integer(-7);
        negative.add_integer(-(1 << 90));
        negative.add_integer(1 << 90);
        assert_eq!(negative.to_f64(), -7.0);
    }
}
