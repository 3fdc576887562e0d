//! [`Micros`]: an instant in whole microseconds since 1970-01-01T00:00:00Z, as every clock, event
//! time and window bound in this crate is kept; and durations as the configuration writes them.
//!
//! Invariant: what [`Micros::parse_rfc3339`] accepts lies in [`Micros::MIN`]..=[`Micros::MAX`],
//! the range an event time may have.

use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub i64);

const DAY: i64 = 86_400_000_000;

impl Micros {
    /// 1970-01-01T00:00:00Z
    pub const MIN: Micros = Micros(0);
    /// 9998-12-31T23:59:59.999999Z
    pub const MAX: Micros = Micros(253_370_764_800_000_000 - 1);

    /// The instant of a Kafka timestamp; `None` where the record has none (a negative one).
    pub fn of_record_timestamp(timestamp_ms: i64) -> Option<Micros> {
        (timestamp_ms >= 0).then(|| Micros(timestamp_ms.saturating_mul(1000)))
    }

    pub fn in_event_range(self) -> bool {
        Self::MIN <= self && self <= Self::MAX
    }

    /// Reads RFC 3339 as the contract has it: `T`, `t` or a space between date and time; `Z`, `z` or an offset up to ±23:59; a leap second
    /// reads as .999999 of the second before; digits past microseconds are cut off. `None` for anything else or an instant out of range.
    pub fn parse_rfc3339(text: &[u8]) -> Option<Micros> {
        let two = |at: usize| -> Option<i64> {
            let (a, b) = (text.get(at)?, text.get(at + 1)?);
            (a.is_ascii_digit() && b.is_ascii_digit()).then(|| i64::from(a - b'0') * 10 + i64::from(b - b'0'))
        };
        let is = |at: usize, any: &[u8]| text.get(at).is_some_and(|c| any.contains(c));
        if text.len() < 20 || !is(4, b"-") || !is(7, b"-") || !is(10, b"Tt ") || !is(13, b":") || !is(16, b":") {
            return None;
        }
        let year = two(0)? * 100 + two(2)?;
        let (month, day) = (two(5)?, two(8)?);
        let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let mut at = 19;
        let mut fraction = 0;
        if is(at, b".") {
            at += 1;
            let digits = text[at..].iter().take_while(|c| c.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            for i in 0..6 {
                let digit = if i < digits { i64::from(text[at + i] - b'0') } else { 0 };
                fraction = fraction * 10 + digit;
            }
            at += digits;
        }
        let offset_minutes = match text.get(at)? {
            b'Z' | b'z' if text.len() == at + 1 => 0,
            sign @ (b'+' | b'-') if text.len() == at + 6 && is(at + 3, b":") => {
                let (hours, minutes) = (two(at + 1)?, two(at + 4)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let minutes = hours * 60 + minutes;
                if *sign == b'-' { -minutes } else { minutes }
            }
            _ => return None,
        };
        let (second, fraction) = if second == 60 {
            // A leap second stands at the end of a UTC day's last minute, wherever the offset puts that.
            if (hour * 60 + minute - offset_minutes).rem_euclid(1440) != 1439 {
                return None;
            }
            (59, 999_999)
        } else {
            (second, fraction)
        };
        let seconds = (hour * 60 + minute - offset_minutes) * 60 + second;
        let instant = Micros(days_from_civil(year, month, day) * DAY + seconds * 1_000_000 + fraction);
        instant.in_event_range().then_some(instant)
    }
}

impl fmt::Display for Micros {
    /// RFC 3339 in UTC, with as many fraction digits as it needs in threes: none, 3 or 6.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.0.div_euclid(DAY));
        let rest = self.0.rem_euclid(DAY);
        let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
        let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}")?;
        match micros {
            0 => {}
            _ if micros % 1000 == 0 => write!(f, ".{:03}", micros / 1000)?,
            _ => write!(f, ".{micros:06}")?,
        }
        f.write_str("Z")
    }
}

impl fmt::Debug for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Days since 1970-01-01 of a proleptic Gregorian date (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y - era * 400;
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Reads a duration, `(digits unit)+` with units ms s m h d (`"1m30s"`), as microseconds.
/// The error says what was found and expected.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let wrong = || format!("found {text:?}, expected a duration such as \"500ms\", \"5s\" or \"1h30m\" (units ms s m h d)");
    let mut total = 0i64;
    let mut rest = text;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[..letters] {
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => DAY,
            _ => return Err(wrong()),
        };
        rest = &rest[letters..];
        total = number
            .checked_mul(unit)
            .and_then(|n| total.checked_add(n))
            .ok_or_else(|| format!("found {text:?}, which is longer than 292,000 years"))?;
    }
    Ok(total)
}

/// Writes microseconds as [`parse_duration`] reads them, largest units first.
pub fn format_duration(micros: i64) -> String {
    let mut rest = micros / 1000;
    if rest == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")] {
        if rest >= unit {
            text += &format!("{}{name}", rest / unit);
            rest %= unit;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<String> {
        Micros::parse_rfc3339(text.as_bytes()).map(|t| t.to_string())
    }

    #[test]
    fn rfc_3339_reads_in_every_form_the_contract_names() {
        for (text, expected) in [
            ("2026-01-01T00:00:00.123Z", "2026-01-01T00:00:00.123Z"),
            ("2026-01-01t00:00:00z", "2026-01-01T00:00:00Z"),
            ("2026-01-01 00:00:00+14:00", "2025-12-31T10:00:00Z"),
            ("2026-01-01T00:00:00-14:00", "2026-01-01T14:00:00Z"),
            ("2026-01-01T00:00:00.1234569Z", "2026-01-01T00:00:00.123456Z"),
            ("2016-12-31T23:59:60.5Z", "2016-12-31T23:59:59.999999Z"),
            ("2017-01-01T00:59:60+01:00", "2016-12-31T23:59:59.999999Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00Z"),
            ("9998-12-31T23:59:59.999999Z", "9998-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(parse(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "1969-12-31T23:59:59Z",
            "9999-01-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00Z",
            "2026-01-01T00:00:00+1400",
            "2026-01-01_00:00:00Z",
            "2026-1-01T00:00:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T12:30:60Z",
            "2026-01-01T00:00:00Z ",
            "",
            "١970-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn days_and_dates_are_inverse() {
        for days in (-800_000..3_000_000).step_by(37) {
            let (y, m, d) = civil_from_days(days);
            assert_eq!(days_from_civil(y, m, d), days);
        }
    }

    #[test]
    fn durations_read_and_write() {
        assert_eq!(parse_duration("1h30m"), Ok(5_400_000_000));
        assert_eq!(parse_duration("500ms"), Ok(500_000));
        assert_eq!(format_duration(5_400_500_000), "1h30m500ms");
        for bad in ["", "5", "s", "5 s", "-1s", "1.5s", "5w", "99999999999999999999s", "9999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
