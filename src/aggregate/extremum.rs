//! **min** and **max**: one number, compared exactly. Of equal ones (5, 5.0; 0.0, -0.0) the integer
//! stays, then the float that is not negative, so that the order of events does not matter.

use super::number::Number;
use crate::codec::{Reader, Result, Writer};
use std::cmp::Ordering;

/// `toward` is the order of a new number to the kept one that makes it the new extremum.
pub fn add(kept: &mut Option<Box<Number>>, number: Number, toward: Ordering) {
    match kept {
        None => *kept = Some(Box::new(number)),
        Some(old) => {
            let order = number.compare(**old);
            if order == toward || (order == Ordering::Equal && plainness(number) < plainness(**old)) {
                **old = number;
            }
        }
    }
}

/// The order among equal numbers: the least is kept.
fn plainness(number: Number) -> u8 {
    match number {
        Number::Int(_) => 0,
        Number::Float(f) if f.is_sign_positive() => 1,
        Number::Float(_) => 2,
    }
}

pub fn encode(kept: &Option<Box<Number>>, w: &mut Writer) {
    w.byte(kept.is_some().into());
    if let Some(number) = kept {
        number.encode(w);
    }
}

pub fn decode(r: &mut Reader) -> Result<Option<Box<Number>>> {
    match r.byte("whether there is an extremum")? {
        0 => Ok(None),
        1 => Ok(Some(Box::new(Number::decode(r)?))),
        _ => r.expected("an extremum (0 none, 1 one)"),
    }
}

pub fn write_json(kept: &Option<Box<Number>>, out: &mut String) {
    match kept {
        None => out.push_str("null"),
        Some(number) => number.write_json(out),
    }
}
