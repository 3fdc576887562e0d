//! Times of day read fast: the usual event time, `YYYY-MM-DDThh:mm:ss[.mmm[mmm]]Z`, of the day that
//! was read before, costs no calendar.
//!
//! The plan hands it the text of an event's time. Invariant: the answer is that of
//! [`Micros::parse_rfc3339`] for the same text, whatever came before.

use crate::time::Micros;

/// The last day read, by the eleven characters up to `T`.
#[derive(Debug, Default)]
pub(super) struct DayMemory {
    date: [u8; 11],
    /// Its first instant.
    start: i64,
}

impl DayMemory {
    pub fn parse(&mut self, text: &[u8]) -> Option<Micros> {
        let within = time_of_day(text);
        if let (Some(within), Some(date)) = (within, text.first_chunk::<11>())
            && *date == self.date
        {
            return Some(Micros(self.start + within));
        }
        let time = Micros::parse_rfc3339(text)?;
        if let (Some(within), Some(date)) = (within, text.first_chunk()) {
            self.date = *date;
            self.start = time.0 - within;
        }
        Some(time)
    }
}

/// Microseconds since midnight of the form above; `None` for every other, leap seconds included.
#[inline]
fn time_of_day(text: &[u8]) -> Option<i64> {
    if !matches!(text.len(), 20 | 24 | 27) || text[text.len() - 1] != b'Z' {
        return None;
    }
    let digit = |at: usize| text[at].wrapping_sub(b'0');
    let mut worst = 0;
    let mut two = |at: usize| {
        let (a, b) = (digit(at), digit(at + 1));
        worst = worst.max(a).max(b);
        i64::from(a) * 10 + i64::from(b)
    };
    let (hour, minute, second) = (two(11), two(14), two(17));
    let mut micros = 0;
    if text.len() > 20 {
        micros = two(20) * 10_000;
        let third = digit(22);
        micros += i64::from(third) * 1000;
        if text.len() == 27 {
            micros += two(23) * 10 + i64::from(digit(25));
            worst = worst.max(digit(25));
        }
        worst = worst.max(third);
    }
    let marks = text[13] == b':' && text[16] == b':' && (text.len() == 20 || text[19] == b'.');
    let fits = marks && worst <= 9 && hour <= 23 && minute <= 59 && second <= 59;
    fits.then_some(((hour * 60 + minute) * 60 + second) * 1_000_000 + micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_fast_way_and_the_plain_way_agree(texts in prop::collection::vec("(1969-12-31|2026-02-28|2026-02-29|20[0-9]{2}-[01][0-9]-[0-3][0-9])[T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,7})?(Z|z|\\+14:00|:)", 1..20)) {
            let mut memory = DayMemory::default();
            for text in &texts {
                for _ in 0..2 {
                    prop_assert_eq!(memory.parse(text.as_bytes()), Micros::parse_rfc3339(text.as_bytes()), "{}", text);
                }
            }
        }
    }
}
