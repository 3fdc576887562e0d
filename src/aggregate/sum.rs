//! **sum** and **mean**: integers exactly, at any size; floats in offset order.
//!
//! Why integers are apart from floats: the total of the integers is exact whatever their order, so
//! only the floats' own order matters, and that is the offsets'. The value with any float among
//! them is `integers (rounded once) + floats`.

use super::number::{Number, write_float};
use crate::codec::{Reader, Result, Writer};
use std::fmt::Write as _;

/// Two machine words for the usual sum, which has no float and fits 64 bits.
#[derive(Clone, Debug)]
pub enum Sum {
    Small(i64),
    Wide(Box<Wide>),
}

/// 2^56 records (as [`Reader::tally`] has it) of at most 2^64 each; a few such sums, merged, stay within an `i128`.
const LARGEST: u128 = 1 << 120;

/// The integers and the floats apart.
#[derive(Clone, Debug, Default)]
pub struct Wide {
    int: i128,
    float: Option<f64>,
}

impl Default for Sum {
    fn default() -> Self {
        Sum::Small(0)
    }
}

impl Sum {
    pub fn add(&mut self, number: Number) {
        if let (Sum::Small(sum), Number::Int(i)) = (&mut *self, number)
            && let Ok(small) = i64::try_from(i)
            && let Some(total) = sum.checked_add(small)
        {
            *sum = total;
            return;
        }
        let wide = self.widen();
        match number {
            Number::Int(i) => wide.int += i,
            Number::Float(f) => wide.float = Some(wide.float.map_or(f, |sum| sum + f)),
        }
    }

    pub fn merge(&mut self, other: &Sum) {
        let (int, float) = other.parts();
        let wide = self.widen();
        wide.int += int;
        if let Some(f) = float {
            wide.float = Some(wide.float.map_or(f, |sum| sum + f));
        }
    }

    fn widen(&mut self) -> &mut Wide {
        if let Sum::Small(int) = *self {
            *self = Sum::Wide(Box::new(Wide { int: int.into(), float: None }));
        }
        match self {
            Sum::Wide(wide) => wide,
            Sum::Small(_) => unreachable!("just widened"),
        }
    }

    fn parts(&self) -> (i128, Option<f64>) {
        match self {
            Sum::Small(int) => (i128::from(*int), None),
            Sum::Wide(wide) => (wide.int, wide.float),
        }
    }

    fn as_float(&self) -> f64 {
        match self.parts() {
            (int, None) => int as f64,
            (int, Some(float)) => int as f64 + float,
        }
    }

    pub fn encode(&self, w: &mut Writer) {
        let (int, float) = self.parts();
        w.byte(float.is_some().into());
        w.wide_signed(int);
        if let Some(float) = float {
            w.float(float);
        }
    }

    pub fn decode(r: &mut Reader) -> Result<Sum> {
        let has_float = r.byte("the kind of a sum")?;
        let int = r.wide_signed("the sum of the integers")?;
        if int.unsigned_abs() > LARGEST {
            return r.expected("a sum that a log can come to");
        }
        match (has_float, i64::try_from(int)) {
            (0, Ok(small)) => Ok(Sum::Small(small)),
            (0, Err(_)) => Ok(Sum::Wide(Box::new(Wide { int, float: None }))),
            (1, _) => Ok(Sum::Wide(Box::new(Wide { int, float: Some(r.float("the sum of the floats")?) }))),
            _ => r.expected("a sum (0 integers, 1 with floats)"),
        }
    }

    pub fn write_json(&self, out: &mut String) {
        match self.parts() {
            (int, None) => write!(out, "{int}").expect("a string takes everything"),
            (_, Some(_)) => write_float(self.as_float(), out),
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
        self.sum.encode(w);
    }

    /// `None`: a mean of nothing, which is kept as no mean at all.
    pub fn decode(r: &mut Reader) -> Result<Option<Mean>> {
        let count = r.tally("the count of a mean")?;
        let sum = Sum::decode(r)?;
        match (count, &sum) {
            (0, Sum::Small(0)) => Ok(None),
            (0, _) => r.expected("no sum for a mean of nothing"),
            _ => Ok(Some(Mean { sum, count })),
        }
    }

    pub fn write_json(&self, out: &mut String) {
        match self.count {
            0 => out.push_str("null"),
            n => write_float(self.sum.as_float() / n as f64, out),
        }
    }
}
