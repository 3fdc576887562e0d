//! The **watchdog** of one partition: tells *idle* from *stuck*.
//!
//! The reader shows it the position and the last stable offset every few seconds. Both count
//! transaction markers, so a position below a fresh last stable offset means that records or markers are
//! there and do not come. Invariant: a partition that is not being read (held back, halted) is never
//! called stuck, and a last stable offset that stands still (a hanging transaction) leads to a word, never to a restart.

use crate::position::Position;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
const TRANSACTION_PATIENCE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// Read it again from its position.
    Seek,
    /// Start a new consumer.
    Renew,
    /// Neither helped.
    GiveUp,
    /// The log goes on, but its last stable offset has stood still this long.
    TransactionHangs(Duration),
}

pub(super) struct Watchdog {
    position: Position,
    moved: Instant,
    stable: Position,
    stable_moved: Instant,
    seeks: u32,
}

impl Watchdog {
    pub fn new(position: Position, now: Instant) -> Self {
        Self { position, moved: now, stable: Position(-1), stable_moved: now, seeks: 0 }
    }

    /// `stable` and `high`: the last stable offset and the end of the log, both just seen. `reading`: it
    /// could be read all the time. `renewed`: a new consumer was started for its
    /// sake, and it has not moved since.
    pub fn judge(
        &mut self,
        now: Instant,
        position: Position,
        stable: Position,
        high: Position,
        reading: bool,
        renewed: bool,
    ) -> Verdict {
        if position != self.position || !reading || position >= stable {
            (self.position, self.moved) = (position, now);
            if reading && position >= stable {
                self.seeks = 0;
            }
        }
        if stable != self.stable || high <= stable {
            (self.stable, self.stable_moved) = (stable, now);
        }
        if now.duration_since(self.moved) >= PATIENCE {
            self.moved = now;
            self.seeks += 1;
            return match (self.seeks, renewed) {
                (1, _) => Verdict::Seek,
                (_, false) => Verdict::Renew,
                _ => Verdict::GiveUp,
            };
        }
        let hangs = now.duration_since(self.stable_moved);
        if hangs >= TRANSACTION_PATIENCE {
            self.stable_moved = now;
            return Verdict::TransactionHangs(hangs);
        }
        Verdict::Fine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_partition_at_its_end_or_held_back_is_never_stuck() {
        let start = Instant::now();
        let mut dog = Watchdog::new(Position(5), start);
        for s in 0..1000 {
            assert_eq!(dog.judge(at(start, s), Position(5), Position(5), Position(5), true, false), Verdict::Fine);
        }
        for s in 1000..2000 {
            assert_eq!(dog.judge(at(start, s), Position(5), Position(s as i64), Position(s as i64), false, false), Verdict::Fine);
        }
    }

    #[test]
    fn a_stuck_partition_is_sought_then_read_by_a_new_consumer_then_given_up() {
        let start = Instant::now();
        let mut dog = Watchdog::new(Position(5), start);
        let judge =
            |dog: &mut Watchdog, s, renewed| dog.judge(at(start, s), Position(5), Position(9), Position(9), true, renewed);
        assert_eq!(judge(&mut dog, 3, false), Verdict::Fine);
        assert_eq!(judge(&mut dog, 30, false), Verdict::Seek);
        assert_eq!(judge(&mut dog, 59, false), Verdict::Fine);
        assert_eq!(judge(&mut dog, 60, false), Verdict::Renew);
        let mut dog = Watchdog::new(Position(5), start);
        assert_eq!(judge(&mut dog, 30, true), Verdict::Seek);
        assert_eq!(judge(&mut dog, 60, true), Verdict::GiveUp);
    }

    #[test]
    fn a_hanging_transaction_is_told_and_restarts_nothing() {
        let start = Instant::now();
        let mut dog = Watchdog::new(Position(5), start);
        for s in 0..300 {
            assert_eq!(dog.judge(at(start, s), Position(5), Position(5), Position(50 + s as i64), true, false), Verdict::Fine);
        }
        assert!(matches!(
            dog.judge(at(start, 301), Position(5), Position(5), Position(400), true, false),
            Verdict::TransactionHangs(_)
        ));
    }
}
