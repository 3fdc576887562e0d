//! **sum** and **mean**: integers exactly, at any size; floats in offset order.
//!
//! Why integers are apart from floats: the total of the integers is exact whatever their order, so
//! only the floats' own order matters, and that is the offsets'. The value with any float among
//! them is `integers (rounded once) + floats`. A rollup's sum has no order of its own, so there the
//! floats are added exactly too, and the whole is rounded once.

use super::Floats;
use super::exact::Exact;
use super::number::{Number, write_float};
use crate::codec::{Reader, Result, Writer};
use std::cmp::Ordering;
use std::fmt::Write as _;

/// Two machine words for the usual sum, which has no float and fits 64 bits.
#[derive(Clone, Debug)]
pub enum Sum {
    Small(i64),
    Wide(Box<Wide>),
    /// Begins and stays so: what a rollup adds up.
    Exact(Box<WithoutRounding>),
}

/// 2^56 records (as [`Reader::tally`] has it) of at most 2^64 each; a few such sums, merged, stay within an `i128`.
const LARGEST: u128 = 1 << 120;

/// The integers and the floats apart.
#[derive(Clone, Debug, Default)]
pub struct Wide {
    int: i128,
    float: Option<f64>,
}

/// The integers, and the floats if any came, without any rounding.
#[derive(Clone, Debug, Default)]
pub struct WithoutRounding {
    int: i128,
    floats: Option<Exact>,
}

impl Default for Sum {
    fn default() -> Self {
        Sum::Small(0)
    }
}

impl Sum {
    pub fn zero(floats: Floats) -> Sum {
        match floats {
            Floats::InOrder => Sum::Small(0),
            Floats::Exactly => Sum::Exact(Box::default()),
        }
    }

    #[inline]
    pub fn add(&mut self, number: Number) {
        if let (Sum::Small(sum), Number::Int(i)) = (&mut *self, number)
            && let Ok(small) = i64::try_from(i)
            && let Some(total) = sum.checked_add(small)
        {
            *sum = total;
            return;
        }
        self.add_widely(number);
    }

    fn add_widely(&mut self, number: Number) {
        match (self, number) {
            (Sum::Exact(exact), Number::Int(i)) => exact.int += i,
            (Sum::Exact(exact), Number::Float(f)) => exact.floats.get_or_insert_default().add(f),
            (sum, Number::Int(i)) => sum.widen().int += i,
            (sum, Number::Float(f)) => {
                let wide = sum.widen();
                wide.float = Some(wide.float.map_or(f, |sum| sum + f));
            }
        }
    }

    /// Panics when one of the two adds floats exactly and the other does not.
    pub fn merge(&mut self, other: &Sum) {
        match (self, other) {
            (Sum::Exact(exact), Sum::Exact(other)) => {
                exact.int += other.int;
                if let Some(floats) = &other.floats {
                    exact.floats.get_or_insert_default().merge(floats);
                }
            }
            (Sum::Exact(_), _) | (_, Sum::Exact(_)) => unreachable!("sums of one rule add floats in one way"),
            (sum, Sum::Small(small)) => sum.add(Number::Int(i128::from(*small))),
            (sum, Sum::Wide(other)) => {
                let wide = sum.widen();
                wide.int += other.int;
                if let Some(f) = other.float {
                    wide.float = Some(wide.float.map_or(f, |sum| sum + f));
                }
            }
        }
    }

    fn widen(&mut self) -> &mut Wide {
        if let Sum::Small(int) = *self {
            *self = Sum::Wide(Box::new(Wide { int: int.into(), float: None }));
        }
        match self {
            Sum::Wide(wide) => wide,
            Sum::Small(_) | Sum::Exact(_) => unreachable!("just widened"),
        }
    }

    /// The integers alone, and the whole as a float if a float is among it.
    fn parts(&self) -> (i128, Option<f64>) {
        match self {
            Sum::Small(int) => (i128::from(*int), None),
            Sum::Wide(wide) => (wide.int, wide.float.map(|float| wide.int as f64 + float)),
            Sum::Exact(exact) => (exact.int, exact.floats.as_ref().map(|floats| floats.to_f64_with(exact.int))),
        }
    }

    fn as_float(&self) -> f64 {
        let (int, whole) = self.parts();
        whole.unwrap_or(int as f64)
    }

    /// By value, exactly, as they print; one that has left the 64-bit floats is less than every other.
    pub fn compare(&self, other: &Sum) -> Ordering {
        match (self.value(), other.value()) {
            (Some(a), Some(b)) => a.compare(b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        }
    }

    fn value(&self) -> Option<Number> {
        match self.parts() {
            (int, None) => Some(Number::Int(int)),
            (_, Some(whole)) => whole.is_finite().then_some(Number::Float(whole)),
        }
    }

    /// The float nearest to the value, and what the value is beside it, rounded: together some 106 bits of it.
    pub fn nearest_and_rest(&self) -> (f64, f64) {
        match (self, self.parts()) {
            (_, (int, None)) => {
                let nearest = int as f64;
                (nearest, (int - nearest as i128) as f64)
            }
            (Sum::Exact(exact), (int, Some(nearest))) if nearest.is_finite() => {
                let mut rest = exact.floats.clone().unwrap_or_default();
                rest.add(-nearest);
                (nearest, rest.to_f64_with(int))
            }
            (_, (_, Some(whole))) => (whole, 0.0),
        }
    }

    pub fn encode(&self, w: &mut Writer) {
        let kind = match self {
            Sum::Small(_) => 0,
            Sum::Wide(wide) => u8::from(wide.float.is_some()),
            Sum::Exact(exact) => 2 + u8::from(exact.floats.is_some()),
        };
        w.byte(kind);
        w.wide_signed(self.parts().0);
        match self {
            Sum::Wide(wide) => wide.float.iter().for_each(|float| w.float(*float)),
            Sum::Exact(exact) => exact.floats.iter().for_each(|floats| floats.encode(w)),
            Sum::Small(_) => {}
        }
    }

    /// A sum that begins with `zero`.
    pub fn decode(r: &mut Reader, zero: &Sum) -> Result<Sum> {
        let kind = r.byte("the kind of a sum")?;
        let int = r.wide_signed("the sum of the integers")?;
        if int.unsigned_abs() > LARGEST {
            return r.expected("a sum that a log can come to");
        }
        match (zero, kind, i64::try_from(int)) {
            (Sum::Exact(_), 2, _) => Ok(Sum::Exact(Box::new(WithoutRounding { int, floats: None }))),
            (Sum::Exact(_), 3, _) => Ok(Sum::Exact(Box::new(WithoutRounding { int, floats: Some(Exact::decode(r)?) }))),
            (Sum::Exact(_), ..) => r.expected("a sum (2 integers, 3 with exact floats)"),
            (_, 0, Ok(small)) => Ok(Sum::Small(small)),
            (_, 0, Err(_)) => Ok(Sum::Wide(Box::new(Wide { int, float: None }))),
            (_, 1, _) => Ok(Sum::Wide(Box::new(Wide { int, float: Some(r.float("the sum of the floats")?) }))),
            _ => r.expected("a sum (0 integers, 1 with floats)"),
        }
    }

    pub fn write_json(&self, out: &mut String) {
        match self.parts() {
            (int, None) => write!(out, "{int}").expect("a string takes everything"),
            (_, Some(whole)) => write_float(whole, out),
        }
    }
}

/// The sum of what came, and how many came.
#[derive(Clone, Debug, Default)]
pub struct Mean {
    sum: Sum,
    count: u64,
}

impl Mean {
    /// Of nothing yet; `zero` is what its sum begins with.
    pub fn of(zero: &Sum) -> Mean {
        Mean { sum: zero.clone(), count: 0 }
    }

    pub fn add(&mut self, number: Number) {
        self.sum.add(number);
        self.count += 1;
    }

    pub fn merge(&mut self, other: &Mean) {
        self.sum.merge(&other.sum);
        self.count += other.count;
    }

    pub fn encode(&self, w: &mut Writer) {
        w.unsigned(self.count);
        if self.count > 0 {
            self.sum.encode(w);
        }
    }

    /// `None`: a mean of nothing, which is kept as no mean at all.
    pub fn decode(r: &mut Reader, zero: &Sum) -> Result<Option<Mean>> {
        match r.tally("the count of a mean")? {
            0 => Ok(None),
            count => Ok(Some(Mean { sum: Sum::decode(r, zero)?, count })),
        }
    }

    pub fn write_json(&self, out: &mut String) {
        match self.count {
            0 => out.push_str("null"),
            n => write_float(self.sum.as_float() / n as f64, out),
        }
    }
}
