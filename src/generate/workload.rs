//! **Workloads**: streams of one fixed record, for comparing engines side by side. Everything is drawn from
//! the seed; the event time starts at 2026-01-01T01:00:00Z and advances 10,000 events a second.

use super::text::{Dates, push_decimal, push_id, push_number, push_padded};

/// 2026-01-01T01:00:00Z
pub const START_MS: i64 = 1_767_229_200_000;
pub const EVENTS_PER_SECOND: f64 = 10_000.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// 10,000 hunts, all alike
    W1,
    /// 100,000 hunts, Zipf 1.3
    W2,
    /// 1,000,000 hunts, all alike
    W3,
    /// as w1, event times shifted back by 0 to 5 s, 2 % of them by 60 to 120 s
    W4,
    /// as w1
    W5,
}

impl Workload {
    pub fn hunts(self) -> u32 {
        match self {
            Workload::W1 | Workload::W4 | Workload::W5 => 10_000,
            Workload::W2 => 100_000,
            Workload::W3 => 1_000_000,
        }
    }

    /// The exponent of Zipf's law; 0: all alike.
    pub fn skew(self) -> f64 {
        if self == Workload::W2 { 1.3 } else { 0.0 }
    }

    /// How far the next event's time lies behind the stream's, in milliseconds.
    pub fn behind(self, rng: &mut fastrand::Rng) -> i64 {
        match self {
            Workload::W4 if rng.u8(..100) < 2 => rng.i64(60_000..=120_000),
            Workload::W4 => rng.i64(0..=5000),
            _ => 0,
        }
    }
}

pub fn write(into: &mut Vec<u8>, seed: u64, number: u64, time_ms: i64, dates: &mut Dates, rng: &mut fastrand::Rng) {
    into.extend_from_slice(br#"{"id":""#);
    push_id(into, time_ms, seed, number);
    into.extend_from_slice(br#"","type":"clue.solved","time":""#);
    dates.push(into, time_ms);
    into.extend_from_slice(br#"","data":{"player_id":"p-"#);
    push_padded(into, rng.u64(..50_000), 7);
    into.extend_from_slice(br#"","clue_id":"c-"#);
    push_padded(into, rng.u64(..1000), 4);
    into.extend_from_slice(br#"","points":"#);
    push_number(into, rng.u64(1..=2000));
    into.extend_from_slice(br#","seconds":"#);
    push_decimal(into, rng.i64(100..60_000), 2);
    into.extend_from_slice(br#","lat":"#);
    push_decimal(into, 4_820_817 + rng.i64(-5000..5000), 5);
    into.extend_from_slice(br#","lon":"#);
    push_decimal(into, 1_637_382 + rng.i64(-5000..5000), 5);
    into.extend_from_slice(b"}}");
}
