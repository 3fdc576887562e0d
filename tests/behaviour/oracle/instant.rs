//! **Instants**: times of events as whole microseconds since 1970 UTC, read from RFC 3339 text and written back.
//!
//! Invariant: what it reads lies in 1970-01-01 … 9998-12-31 UTC; anything else reads as nothing.

/// 9998-12-31T23:59:59.999999Z.
pub const LATEST: i128 = days_before_year(9999) * DAY - 1;

const SECOND: i128 = 1_000_000;
const DAY: i128 = 86_400 * SECOND;

/// The instant, if it is one that an event may have.
pub fn within_bounds(micros: i128) -> Option<i128> {
    (0..=LATEST).contains(&micros).then_some(micros)
}

pub fn of_milliseconds(ms: i128) -> Option<i128> {
    within_bounds(ms.checked_mul(1000)?)
}

/// `2024-02-29T12:34:56.789+01:00`; `T`, `t` or a space, `Z`, `z` or an offset. Digits past the sixth are cut off.
///
/// A leap second is a 60th second of the last minute of a day in UTC, and reads as .999999 of the second before.
/// The contract does not say on which minutes it may stand; RFC 3339 (5.6, 5.7) knows it nowhere else.
pub fn read(text: &str) -> Option<i128> {
    let bytes = text.as_bytes();
    if !text.is_ascii() || bytes.len() < 20 {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i128> {
        let digits = &text[from..to];
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().expect("a few digits"))
    };
    let punctuation = [(4, "-"), (7, "-"), (13, ":"), (16, ":")];
    if punctuation.iter().any(|&(at, mark)| &text[at..at + 1] != mark) || !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }

    let mut rest = &text[19..];
    let mut fraction = 0;
    if let Some(after) = rest.strip_prefix('.') {
        let length = after.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 {
            return None;
        }
        let six: String = after[..length].chars().chain("000000".chars()).take(6).collect();
        fraction = six.parse().expect("six digits");
        rest = &after[length..];
    }
    let offset = match rest.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) => {
            let two = |a: &u8, b: &u8| i128::from(a - b'0') * 10 + i128::from(b - b'0');
            let (hours, minutes) = (two(h1, h2), two(m1, m2));
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };

    let days = days_before_year(year) + days_before_month(year, month) + day - 1;
    let minutes = days * 1440 + hour * 60 + minute - offset;
    if second == 60 {
        if minutes.rem_euclid(1440) != 1439 {
            return None;
        }
        return within_bounds((minutes * 60 + 60) * SECOND - 1);
    }
    within_bounds((minutes * 60 + second) * SECOND + fraction)
}

/// RFC 3339 in UTC, with as many of six digits as are needed.
pub fn write(micros: i128) -> String {
    let mut day = micros.div_euclid(DAY);
    let rest = micros.rem_euclid(DAY);
    let mut year = 1970;
    while day < 0 {
        year -= 1;
        day += days_in_year(year);
    }
    while day >= days_in_year(year) {
        day -= days_in_year(year);
        year += 1;
    }
    let mut month = 1;
    while day >= days_in_month(year, month) {
        day -= days_in_month(year, month);
        month += 1;
    }
    let seconds = rest / SECOND;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = match rest % SECOND {
        0 => String::new(),
        f => format!(".{f:06}").trim_end_matches('0').to_owned(),
    };
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z", day + 1)
}

const fn is_leap(year: i128) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in_year(year: i128) -> i128 {
    if is_leap(year) { 366 } else { 365 }
}

const fn days_in_month(year: i128, month: i128) -> i128 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

fn days_before_month(year: i128, month: i128) -> i128 {
    (1..month).map(|m| days_in_month(year, m)).sum()
}

/// Days from 1970-01-01 to the first of January of `year`; counted one year at a time.
const fn days_before_year(year: i128) -> i128 {
    let (mut days, mut y) = (0, 1970);
    while y < year {
        days += days_in_year(y);
        y += 1;
    }
    while y > year {
        y -= 1;
        days -= days_in_year(y);
    }
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_read_as_themselves() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000),
            ("2024-01-01t00:00:00z", 1_704_067_200_000_000),
            ("2024-01-01 00:00:00Z", 1_704_067_200_000_000),
            ("2024-01-01T14:00:00+14:00", 1_704_067_200_000_000),
            ("2023-12-31T10:00:00-14:00", 1_704_067_200_000_000),
            ("2024-01-01T00:00:00-00:00", 1_704_067_200_000_000),
            ("2024-01-01T00:00:00.5Z", 1_704_067_200_500_000),
            ("2024-01-01T00:00:00.1234569Z", 1_704_067_200_123_456),
            ("2024-01-01T00:00:00.000000999999999999999999Z", 1_704_067_200_000_000),
            ("1969-12-31T23:30:00-01:00", 1_800_000_000),
            ("1969-12-31T00:00:00-24:00", -1),
            ("9998-12-31T23:59:59.999999Z", LATEST),
            ("2016-12-31T23:59:60Z", 1_483_228_799_999_999),
            ("2016-12-31T23:59:60.5Z", 1_483_228_799_999_999),
            ("2017-01-01T00:59:60+01:00", 1_483_228_799_999_999),
            ("9998-12-31T23:59:60Z", LATEST),
        ] {
            assert_eq!(read(text), (micros >= 0).then_some(micros), "{text}");
        }
    }

    #[test]
    fn what_is_not_rfc_3339_or_out_of_bounds_reads_as_nothing() {
        for text in [
            "",
            "now",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2024-04-31T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T12:00:60Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00,5Z",
            "2024-01-01T00:00:00+1:00",
            "2024-01-01T00:00:00+0100",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00+00:60",
            "2024-01-01_00:00:00Z",
            "2024-01-01  00:00:00Z",
            " 2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00Z ",
            "+2024-01-01T00:00:00Z",
            "20240101T000000Z",
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:00:00+00:01",
            "9999-01-01T00:00:00Z",
            "9998-12-31T23:59:59-00:01",
            "0000-01-01T00:00:00Z",
            "２024-01-01T00:00:00Z",
            "2024-01-01T00:00:00ZZ",
            "1700000000000",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(of_milliseconds(-1), None);
        assert_eq!(of_milliseconds(LATEST / 1000), Some(LATEST - 999));
        assert_eq!(of_milliseconds(LATEST / 1000 + 1), None);
        assert_eq!(of_milliseconds(i128::MAX), None);
    }

    #[test]
    fn writing_gives_what_reading_took() {
        for text in
            ["1970-01-01T00:00:00Z", "2024-02-29T23:59:59.000001Z", "2100-03-01T12:00:00.5Z", "9998-12-31T23:59:59.999999Z"]
        {
            assert_eq!(write(read(text).unwrap()), text);
        }
        assert_eq!(write(-60 * SECOND), "1969-12-31T23:59:00Z");
    }
}
