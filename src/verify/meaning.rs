//! Whether two JSON texts **mean** the same, whoever wrote them.
//!
//! `jsonb` gives members in another order, strings in other escapes and numbers in other digits than it was given. So members are
//! compared by name (of repeated ones the last), strings by their characters, and numbers as decimals, digit by digit: none passes
//! through a float, so that neither 1e400 nor a number of twenty digits is rounded into another one.

use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The members of an object; `None`: it is none.
pub fn members(text: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(text).ok()
}

pub fn same(a: &RawValue, b: &RawValue) -> bool {
    let (a, b) = (a.get(), b.get());
    if a == b {
        return true;
    }
    match (a.as_bytes().first(), b.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => match (members(a), members(b)) {
            (Some(a), Some(b)) => {
                a.len() == b.len() && a.iter().zip(&b).all(|((name, a), (other, b))| name == other && same(a, b))
            }
            _ => false,
        },
        (Some(b'['), Some(b'[')) => {
            match (serde_json::from_str::<Vec<&RawValue>>(a), serde_json::from_str::<Vec<&RawValue>>(b)) {
                (Ok(a), Ok(b)) => a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same(a, b)),
                _ => false,
            }
        }
        (Some(b'"'), Some(b'"')) => match (serde_json::from_str::<String>(a), serde_json::from_str::<String>(b)) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        },
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => match (Decimal::read(a), Decimal::read(b)) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        },
        _ => false,
    }
}

/// A number as `digits` × 10^`exponent`, its digits neither beginning nor ending with a zero; zero has none, and no sign.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// `None`: its exponent passes 64 bits.
    fn read(number: &str) -> Option<Decimal> {
        let (negative, number) = number.strip_prefix('-').map_or((false, number), |number| (true, number));
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).skip_while(|digit| *digit == b'0').collect();
        let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
        digits.truncate(digits.len() - zeros);
        if digits.is_empty() {
            return Some(Decimal::default());
        }
        let exponent = exponent.parse::<i64>().ok()?.checked_sub(fraction.len() as i64)?.checked_add(zeros as i64)?;
        Some(Decimal { negative, digits, exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(a: &str, b: &str) -> bool {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).expect("JSON");
        assert_eq!(same(&raw(a), &raw(b)), same(&raw(b), &raw(a)), "{a} {b}");
        same(&raw(a), &raw(b))
    }

    #[test]
    fn numbers_are_the_same_whatever_their_looks() {
        let huge = format!("1{}", "0".repeat(400));
        for (a, b) in [
            ("5", "5.0"),
            ("5", "5.00e0"),
            ("500", "5E+2"),
            ("0.05", "5e-2"),
            ("-0", "0.0"),
            ("0", "0e999999999999999999999"),
            ("-12.50", "-125e-1"),
            ("1e400", &huge),
            ("18446744073709551617", "18446744073709551617.0"),
            ("5e-324", "0.5e-323"),
            ("1e99999999999999999999", "1e99999999999999999999"),
        ] {
            assert!(agree(a, b), "{a} {b}");
        }
    }

    #[test]
    fn numbers_that_a_float_would_make_equal_are_not() {
        for (a, b) in [
            ("18446744073709551616", "18446744073709551617"),
            ("9007199254740993", "9007199254740992.0"),
            ("1e400", "1e401"),
            ("1e400", "2e400"),
            ("1e-400", "0"),
            ("0.1", "0.1000000000000000055511151231257827"),
            ("5", "-5"),
            ("5", "50"),
            ("5", "\"5\""),
            ("0", "null"),
            ("1e99999999999999999999", "1e99999999999999999998"),
        ] {
            assert!(!agree(a, b), "{a} {b}");
        }
    }

    #[test]
    fn members_and_strings_are_the_same_whatever_their_looks() {
        for (a, b) in [
            (r#"{"b":[1,{"x":null}],"a":"é\/"}"#, r#"{ "a": "\u00e9/", "b": [1.0, {"x": null}] }"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            ("[]", "[ ]"),
            (r#""\ud83d\ude00""#, "\"😀\""),
        ] {
            assert!(agree(a, b), "{a} {b}");
        }
        for (a, b) in [
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#),
            (r#"{"a":1}"#, r#"{"b":1}"#),
            ("[1,2]", "[2,1]"),
            ("[1]", "[1,1]"),
            ("[]", "{}"),
            ("true", "false"),
            (r#""a""#, r#""A""#),
        ] {
            assert!(!agree(a, b), "{a} {b}");
        }
    }
}
