//! A **number** as the contract has it: an integer token from −2^63 to 2^64−1 is an integer, every
//! other number a 64-bit float. The scanner and the predicates' parser make them; they compare
//! exactly, without rounding an integer to a float.

use std::cmp::Ordering;

/// Invariant: `Unsigned` holds only what `Int` cannot; a `Float` may be infinite (a token outside 64-bit floats), never NaN.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Int(i64),
    Unsigned(u64),
    Float(f64),
}

impl Number {
    pub fn of_u64(value: u64) -> Self {
        i64::try_from(value).map_or(Number::Unsigned(value), Number::Int)
    }

    /// Reads a token of RFC 8259's grammar.
    pub fn of_token(token: &[u8]) -> Self {
        let text = std::str::from_utf8(token).unwrap_or_default();
        if let Ok(value) = text.parse::<i64>() {
            Number::Int(value)
        } else if let Ok(value) = text.parse::<u64>() {
            Number::Unsigned(value)
        } else {
            Number::Float(text.parse().unwrap_or(f64::INFINITY))
        }
    }

    pub fn exact_cmp(self, other: Self) -> Ordering {
        match (self.integer(), other.integer()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(a), Err(b)) => integer_against_float(a, b),
            (Err(a), Ok(b)) => integer_against_float(b, a).reverse(),
            (Err(a), Err(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        }
    }

    fn integer(self) -> Result<i128, f64> {
        match self {
            Number::Int(value) => Ok(value.into()),
            Number::Unsigned(value) => Ok(value.into()),
            Number::Float(value) => Err(value),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.exact_cmp(*other) == Ordering::Equal
    }
}

/// `integer` lies within 65 bits, so a float beyond saturates to the right side of it.
fn integer_against_float(integer: i128, float: f64) -> Ordering {
    let whole = float.trunc();
    integer.cmp(&(whole as i128)).then_with(|| whole.partial_cmp(&float).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(a: &str, b: &str) -> Ordering {
        Number::of_token(a.as_bytes()).exact_cmp(Number::of_token(b.as_bytes()))
    }

    #[test]
    fn integers_and_floats_compare_exactly() {
        for (a, b, expected) in [
            ("9007199254740993", "9007199254740992.0", Ordering::Greater),
            ("9223372036854775807", "9223372036854775808.0", Ordering::Less),
            ("9223372036854775808", "9.223372036854775808e18", Ordering::Equal),
            ("18446744073709551615", "18446744073709551616", Ordering::Less),
            ("-9223372036854775808", "-9223372036854775808.0", Ordering::Equal),
            ("5", "5.0", Ordering::Equal),
            ("-0", "0", Ordering::Equal),
            ("-0.0", "0", Ordering::Equal),
            ("5", "5.5", Ordering::Less),
            ("-5", "-5.5", Ordering::Greater),
            ("18446744073709551615", "1e400", Ordering::Less),
            ("-9223372036854775808", "-1e400", Ordering::Greater),
            ("1e300", "18446744073709551615", Ordering::Greater),
        ] {
            assert_eq!(compare(a, b), expected, "{a} {b}");
            assert_eq!(compare(b, a), expected.reverse(), "{b} {a}");
        }
    }

    #[test]
    fn a_token_past_the_integers_is_a_float() {
        assert!(matches!(Number::of_token(b"-9223372036854775808"), Number::Int(i64::MIN)));
        assert!(matches!(Number::of_token(b"9223372036854775808"), Number::Unsigned(0x8000_0000_0000_0000)));
        assert!(matches!(Number::of_token(b"18446744073709551615"), Number::Unsigned(u64::MAX)));
        assert!(matches!(Number::of_token(b"18446744073709551616"), Number::Float(_)));
        assert!(matches!(Number::of_token(b"-9223372036854775809"), Number::Float(_)));
        assert!(matches!(Number::of_token(b"-0"), Number::Int(0)));
        assert!(matches!(Number::of_token(b"1e400"), Number::Float(f) if f.is_infinite()));
    }
}
