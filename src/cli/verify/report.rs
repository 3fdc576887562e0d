//! What a verification came to, as lines for people or as one JSON object.

use crate::cli::screen::plural;
use crate::position::Position;
use crate::verify::Difference;
use indicatif::HumanCount;
use serde::Serialize;
use std::io::Write;
use std::time::Duration;

#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub partitions: u64,
    pub records: u64,
    pub partials: u64,
    /// Of which what readers are shown was compared.
    pub hunts: u64,
    pub dead_letters: u64,
    pub seconds: f64,
    pub records_per_second: u64,
    pub differences: Vec<Difference>,
    pub too_short: Vec<TooShort>,
}

/// A partition whose records the log no longer has from where it began.
#[derive(Debug, Serialize)]
pub struct TooShort {
    pub topic: String,
    pub partition: i32,
    pub start: Position,
    pub first_offset: Position,
}

impl Report {
    pub fn exit_code(&self) -> u8 {
        match (self.differences.is_empty(), self.too_short.is_empty()) {
            (false, _) => 1,
            (true, false) => 3,
            (true, true) => 0,
        }
    }

    /// Nothing was compared, and nowhere could anything have been missed.
    pub fn met_nothing(&self) -> bool {
        let compared = self.partials + self.hunts + self.dead_letters;
        compared == 0 && self.differences.is_empty() && self.too_short.is_empty()
    }

    pub fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        for difference in &self.differences {
            writeln!(out, "{difference}")?;
        }
        for TooShort { topic, partition, start, first_offset } in &self.too_short {
            writeln!(out, "{topic}/{partition}: cannot be verified: it began at {start}, the log begins at {first_offset}")?;
        }
        let took = Duration::from_secs_f64(self.seconds);
        let counted = |count: u64, noun: &str| format!("{} {}", HumanCount(count), plural(count, noun));
        writeln!(
            out,
            "{}, {}, {}, {}, {} compared in {:.1} s, {} records/s",
            counted(self.partitions, "partition"),
            counted(self.records, "record"),
            counted(self.partials, "partial"),
            counted(self.hunts, "hunt"),
            counted(self.dead_letters, "dead letter"),
            took.as_secs_f64(),
            HumanCount(self.records_per_second),
        )?;
        match (self.differences.len(), self.too_short.len()) {
            (0, 0) => writeln!(out, "the store is what the log gives"),
            (0, short) => {
                let partitions = plural(short as u64, "partition");
                writeln!(out, "no difference where the log reaches back; {short} {partitions} could not be verified")
            }
            (differences, _) => writeln!(out, "{differences} {}", plural(differences as u64, "difference")),
        }
    }
}
