//! **Text** of generated records: digits, times and ids written straight into a buffer, since a
//! generator that feeds benchmarks must not be what they measure.

use crate::time::Micros;

const DAY_MS: i64 = 86_400_000;

/// Writes `number` in `width` digits, zeros in front; digits that do not fit are left out.
pub fn push_padded(into: &mut Vec<u8>, mut number: u64, width: usize) {
    let at = into.len();
    into.resize(at + width, b'0');
    for digit in into[at..].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

pub fn push_number(into: &mut Vec<u8>, number: u64) {
    let width = number.checked_ilog10().unwrap_or(0) as usize + 1;
    push_padded(into, number, width);
}

/// Writes `scaled` / 10^`decimals`, with all its decimals.
pub fn push_decimal(into: &mut Vec<u8>, scaled: i64, decimals: u32) {
    if scaled < 0 {
        into.push(b'-');
    }
    let scale = 10u64.pow(decimals);
    push_number(into, scaled.unsigned_abs() / scale);
    into.push(b'.');
    push_padded(into, scaled.unsigned_abs() % scale, decimals as usize);
}

/// Writes RFC 3339 times with milliseconds, keeping the date of the last one.
#[derive(Clone, Debug, Default)]
pub struct Dates {
    day: i64,
    text: Vec<u8>,
}

impl Dates {
    pub fn push(&mut self, into: &mut Vec<u8>, time_ms: i64) {
        let day = time_ms.div_euclid(DAY_MS);
        if self.text.is_empty() || day != self.day {
            self.day = day;
            self.text.clear();
            self.text.extend_from_slice(&Micros(day * DAY_MS * 1000).to_string().as_bytes()[..10]);
        }
        let ms = time_ms.rem_euclid(DAY_MS) as u64;
        into.extend_from_slice(&self.text);
        into.push(b'T');
        push_padded(into, ms / 3_600_000, 2);
        into.push(b':');
        push_padded(into, ms / 60_000 % 60, 2);
        into.push(b':');
        push_padded(into, ms / 1000 % 60, 2);
        into.push(b'.');
        push_padded(into, ms % 1000, 3);
        into.push(b'Z');
    }
}

/// A 64-bit permutation (the finalizer of SplitMix64): different in, different out.
pub fn scramble(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Writes an id in the form of a ULID: 48 bits of time, then 80 that are unique to `number` within `seed`.
pub fn push_id(into: &mut Vec<u8>, time_ms: i64, seed: u64, number: u64) {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let high = u128::from(time_ms as u64 & 0xffff_ffff_ffff) << 80;
    let middle = u128::from(scramble(seed) as u16) << 64;
    let id = high | middle | u128::from(scramble(seed ^ number));
    into.extend((0..26).rev().map(|digit| DIGITS[(id >> (5 * digit)) as usize & 31]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut text = Vec::new();
        write(&mut text);
        String::from_utf8(text).expect("UTF-8")
    }

    #[test]
    fn digits_are_written_as_they_are_read() {
        for (number, text) in [(0, "0"), (9, "9"), (10, "10"), (u64::MAX, "18446744073709551615")] {
            assert_eq!(written(|t| push_number(t, number)), text);
        }
        assert_eq!(written(|t| push_padded(t, 42, 7)), "0000042");
        assert_eq!(written(|t| push_decimal(t, -4_820_817, 5)), "-48.20817");
        assert_eq!(written(|t| push_decimal(t, 7, 2)), "0.07");
    }

    #[test]
    fn times_are_those_the_crate_reads() {
        let mut dates = Dates::default();
        for time_ms in [0, 1_767_225_600_123, 1_767_225_599_999, 1_709_164_800_000, 253_370_764_799_999] {
            let text = written(|t| dates.push(t, time_ms));
            assert_eq!(text.len(), 24, "{text}");
            assert_eq!(Micros::parse_rfc3339(text.as_bytes()), Some(Micros(time_ms * 1000)), "{text}");
        }
    }
}
