//! What the text of a single key means: durations, sizes, whole numbers, each within its bounds.

use super::compile::Compiler;
use super::layer::{Path, quote};
use super::structure::nearest;
use super::written;
use crate::time::{format_duration, parse_duration};
use std::time::Duration;

/// Longest duration a key takes: a hundred years, so that no sum of clocks leaves 64 bits.
const LONGEST: i64 = 36_525 * 86_400_000_000;

impl Compiler<'_> {
    /// A duration of at least `least` microseconds.
    pub(super) fn duration(&mut self, path: &Path, text: Option<&str>, least: i64) -> Duration {
        Duration::from_micros(self.micros(path, text, least).unsigned_abs())
    }

    /// Microseconds, at least `least`.
    pub(super) fn micros(&mut self, path: &Path, text: Option<&str>, least: i64) -> i64 {
        let Some(text) = text else { return least };
        match parse_duration(text) {
            Ok(micros) if (least..=LONGEST).contains(&micros) => micros,
            Ok(micros) if micros < least => {
                self.refuse(path, quote(text), format!("at least {}", format_duration(least)));
                least
            }
            Ok(_) => {
                self.refuse(path, quote(text), "at most 36525d");
                least
            }
            Err(_) => {
                self.refuse(path, quote(text), "a duration such as \"500ms\", \"5s\" or \"1h30m\" (units ms s m h d)");
                least
            }
        }
    }

    /// Microseconds, or `None` for `word`.
    pub(super) fn micros_or(&mut self, path: &Path, text: Option<&str>, word: &str, least: i64) -> Option<i64> {
        let text = text.filter(|text| *text != word)?;
        if parse_duration(text).is_err() {
            self.refuse(
                path,
                quote(text),
                format!("{word:?} or a duration such as \"500ms\", \"5s\" or \"1h30m\" (units ms s m h d)"),
            );
            self.mean(nearest(text, [word].into_iter()));
            return None;
        }
        Some(self.micros(path, Some(text), least))
    }

    /// Bytes, between `least` and `most`.
    pub(super) fn size(&mut self, path: &Path, size: Option<&written::Size>, least: u64, most: u64) -> u64 {
        let Some(text) = size.map(|size| size.0.as_str()) else { return least };
        match parse_size(text) {
            Some(bytes) if (least..=most).contains(&bytes) => bytes,
            Some(_) => {
                self.refuse(path, quote(text), format!("between {} and {}", format_size(least), format_size(most)));
                least
            }
            None => {
                self.refuse(path, quote(text), "a size such as \"64KiB\", \"8MiB\" or \"1GB\" (units B KB MB GB KiB MiB GiB)");
                least
            }
        }
    }

    /// A whole number between `least` and `most`.
    pub(super) fn integer(&mut self, path: &Path, number: Option<i64>, least: u32, most: u32) -> u32 {
        let Some(number) = number else { return least };
        match u32::try_from(number) {
            Ok(fitting) if (least..=most).contains(&fitting) => fitting,
            _ => {
                self.refuse(path, number.to_string(), format!("an integer between {least} and {most}"));
                least
            }
        }
    }
}

const UNITS: [(&str, u64); 7] =
    [("GiB", 1 << 30), ("GB", 1_000_000_000), ("MiB", 1 << 20), ("MB", 1_000_000), ("KiB", 1 << 10), ("KB", 1000), ("B", 1)];

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = UNITS.iter().find(|(name, _)| *name == &text[digits..])?.1;
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

/// Bytes as [`parse_size`] reads them, in the largest unit that divides them.
pub(super) fn format_size(bytes: u64) -> String {
    let (name, unit) = UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit)).unwrap_or(&("B", 1));
    format!("{}{name}", bytes / unit)
}
