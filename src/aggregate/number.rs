//! A **number** as events carry them: an integer token from −2^63 to 2^64−1, or any other as a
//! 64-bit float. Integers and floats compare exactly, by value.

use crate::codec::{Reader, Result, Writer};
use crate::decode::Field;
use std::cmp::Ordering;
use std::fmt::Write as _;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Of an event always within −2^63 ..= 2^64−1; a sum compared may be wider.
    Int(i128),
    /// Always finite.
    Float(f64),
}

impl Number {
    /// `None`: the field is absent. Panics on a text field: decode checks types.
    pub fn of(field: Field) -> Option<Number> {
        match field {
            Field::Absent => None,
            Field::Int(i) => Some(Number::Int(i.into())),
            Field::Unsigned(u) => Some(Number::Int(u.into())),
            Field::Float(f) => Some(Number::Float(f)),
            Field::Text(_) => unreachable!("decode converts number fields to numbers"),
        }
    }

    /// By value: 5 equals 5.0, and 2^53 + 1 is greater than the float 2^53.
    pub fn compare(self, other: Number) -> Ordering {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(&b),
            (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Number::Int(a), Number::Float(b)) => int_with_float(a, b),
            (Number::Float(a), Number::Int(b)) => int_with_float(b, a).reverse(),
        }
    }

    pub fn encode(self, w: &mut Writer) {
        match self {
            Number::Int(i) => {
                w.byte(0);
                w.wide_signed(i);
            }
            Number::Float(f) => {
                w.byte(1);
                w.float(f);
            }
        }
    }

    pub fn decode(r: &mut Reader) -> Result<Number> {
        match r.byte("the kind of a number")? {
            0 => {
                let int = r.wide_signed("an integer")?;
                if int < i64::MIN.into() || int > u64::MAX.into() {
                    return r.expected("an integer from -2^63 to 2^64-1");
                }
                Ok(Number::Int(int))
            }
            1 => {
                let float = r.float("a float")?;
                if float.is_finite() { Ok(Number::Float(float)) } else { r.expected("a finite float") }
            }
            _ => r.expected("a number (0 integer, 1 float)"),
        }
    }

    pub fn write_json(self, out: &mut String) {
        match self {
            Number::Int(i) => write!(out, "{i}").expect("a string takes everything"),
            Number::Float(f) => write_float(f, out),
        }
    }
}

fn int_with_float(int: i128, float: f64) -> Ordering {
    // Beyond this every float is larger than every integer here, and below it `as` is exact on whole floats.
    if float.abs() >= 2f64.powi(127) {
        return if float > 0.0 { Ordering::Less } else { Ordering::Greater };
    }
    let whole = float.trunc();
    int.cmp(&(whole as i128)).then_with(|| 0.0f64.partial_cmp(&(float - whole)).unwrap_or(Ordering::Equal))
}

/// The shortest JSON number that reads back as the same float; `null` for what has left the floats.
pub fn write_float(float: f64, out: &mut String) {
    match serde_json::Number::from_f64(float) {
        Some(number) => write!(out, "{number}").expect("a string takes everything"),
        None => out.push_str("null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_floats_compare_by_value() {
        let (int, float) = (Number::Int, Number::Float);
        assert_eq!(int(5).compare(float(5.0)), Ordering::Equal);
        assert_eq!(int((1 << 53) + 1).compare(float((1u64 << 53) as f64)), Ordering::Greater);
        assert_eq!(int(u64::MAX.into()).compare(float(18446744073709551616.0)), Ordering::Less);
        assert_eq!(float(-0.5).compare(int(0)), Ordering::Less);
        assert_eq!(float(0.5).compare(int(0)), Ordering::Greater);
        assert_eq!(float(-0.0).compare(int(0)), Ordering::Equal);
        assert_eq!(float(1e300).compare(int(u64::MAX.into())), Ordering::Greater);
        assert_eq!(float(-1e300).compare(int(i64::MIN.into())), Ordering::Less);
        assert_eq!(int(1 << 120).compare(float(1e30)), Ordering::Greater);
        assert_eq!(int(1 << 120).compare(float(2f64.powi(120))), Ordering::Equal);
        assert_eq!(int(1 << 120).compare(float(2f64.powi(127))), Ordering::Less);
    }
}
