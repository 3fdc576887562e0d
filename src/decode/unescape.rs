//! **Unescaping** of JSON strings that the scanner has found well-formed.
//!
//! The bytes come as UTF-8 except that a lone surrogate, which the grammar allows, comes as the
//! three bytes its code point would have (WTF-8): so unequal strings stay unequal, and a check for
//! UTF-8 finds the lone ones.

/// The bytes of a string whose inside (between the quotes) is given.
#[derive(Clone)]
pub(super) struct Unescaped<'a> {
    rest: &'a [u8],
    /// Bytes of the last escape that are still to come, in the low bytes.
    pending: u32,
}

impl<'a> Unescaped<'a> {
    pub fn new(inside: &'a [u8]) -> Self {
        Self { rest: inside, pending: 0 }
    }

    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.rest.get(at..at + 4)?;
        digits.iter().try_fold(0, |unit, &d| Some(unit << 4 | char::from(d).to_digit(16)?))
    }

    /// The code point of the `\u` escape at the start of `rest`, and how long the escape is.
    fn code_point(&self) -> (u32, usize) {
        let first = self.unit(2).unwrap_or(0xFFFD);
        if (0xD800..0xDC00).contains(&first)
            && self.rest.get(6..8) == Some(b"\\u")
            && let Some(second @ 0xDC00..0xE000) = self.unit(8)
        {
            (0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00), 12)
        } else {
            (first, 6)
        }
    }
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.pending != 0 {
            let byte = self.pending as u8;
            self.pending >>= 8;
            return Some(byte);
        }
        let (&first, rest) = self.rest.split_first()?;
        if first != b'\\' {
            self.rest = rest;
            return Some(first);
        }
        let simple = match rest.first()? {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (point, length) = self.code_point();
                self.rest = &self.rest[length.min(self.rest.len())..];
                let (byte, pending) = encode(point);
                self.pending = pending;
                return Some(byte);
            }
            &other => other,
        };
        self.rest = &self.rest[2..];
        Some(simple)
    }
}

/// The first byte of a code point in UTF-8 (surrogates included), and the others packed, the next lowest. None of those is 0.
fn encode(point: u32) -> (u8, u32) {
    let tail = |shift: u32| 0x80 | (point >> shift & 0x3F);
    match point {
        0..0x80 => (point as u8, 0),
        0x80..0x800 => (0xC0 | (point >> 6) as u8, tail(0)),
        0x800..0x10000 => (0xE0 | (point >> 12) as u8, tail(6) | tail(0) << 8),
        _ => (0xF0 | (point >> 18) as u8, tail(12) | tail(6) << 8 | tail(0) << 16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unescape(inside: &str) -> Vec<u8> {
        Unescaped::new(inside.as_bytes()).collect()
    }

    #[test]
    fn escapes_become_their_characters() {
        assert_eq!(
            unescape(r#"a\"\\\/\b\f\n\r\t\u0041é\u00e9\u20AC\ud83d\uDE00\u0000."#),
            "a\"\\/\u{8}\u{c}\n\r\tAéé€😀\0.".as_bytes()
        );
    }

    #[test]
    fn lone_surrogates_stay_apart_and_are_not_utf_8() {
        let lone = [r"\ud800", r"\ud801", r"\udc00", r"\ud800\ud800", r"\udc00\ud800", r"\ud800x", r"\ud800\u0041"];
        for (i, a) in lone.iter().enumerate() {
            assert!(std::str::from_utf8(&unescape(a)).is_err(), "{a}");
            for b in &lone[i + 1..] {
                assert_ne!(unescape(a), unescape(b));
            }
        }
        assert_eq!(unescape(r"\ud800\ud83d\ude00"), [&[0xED, 0xA0, 0x80], "😀".as_bytes()].concat());
    }
}
