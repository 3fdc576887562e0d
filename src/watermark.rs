//! The **watermark** of a partial and the clocks that make it (contract 2, "Time").
//!
//! The hunt clock is the greatest min(event time, record timestamp) of the applied events; the
//! partition clock the greatest record timestamp of all records, whatever their outcome. The
//! watermark is `hunt clock + max(0, partition clock − partition clock at the last applied event − idle) − lateness`,
//! and never less than it was before that event: `floor` keeps what it was.
//! Invariant: as the partition clock grows and events are applied, the watermark never steps back.

use crate::codec::{Reader, Result, Writer};
use crate::definitions::TimeRules;
use crate::time::Micros;

/// The clocks of a partial after its first applied event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    pub hunt: Micros,
    /// The partition clock at the last applied event, that event's record included. `None`: no record so far had a timestamp.
    pub partition: Option<Micros>,
    /// The watermark before the last applied event. `None`: that was the first.
    pub floor: Option<Micros>,
}

impl Clocks {
    /// The watermark when the partition clock stands at `partition`.
    pub fn watermark(&self, partition: Option<Micros>, rules: &TimeRules) -> Micros {
        let silence = match (partition, self.partition, rules.idle) {
            (Some(now), Some(then), Some(idle)) => now.0.saturating_sub(then.0).saturating_sub(idle).max(0),
            _ => 0,
        };
        let open = Micros(self.hunt.0.saturating_add(silence).saturating_sub(rules.lateness));
        self.floor.map_or(open, |floor| floor.max(open))
    }

    /// The clocks after one more applied event: `time` its event time, `timestamp` its record's, `partition` the partition clock with
    /// that record, `watermark` the partial's before it.
    pub fn after(
        clocks: Option<Clocks>,
        time: Micros,
        timestamp: Option<Micros>,
        partition: Option<Micros>,
        watermark: Option<Micros>,
    ) -> Clocks {
        let at = timestamp.map_or(time, |timestamp| time.min(timestamp));
        let hunt = clocks.map_or(at, |old| old.hunt.max(at));
        Clocks { hunt, partition, floor: watermark }
    }

    pub fn encode(&self, w: &mut Writer) {
        w.signed(self.hunt.0);
        for clock in [self.partition, self.floor] {
            w.byte(clock.is_some().into());
            if let Some(clock) = clock {
                w.signed(clock.0);
            }
        }
    }

    pub fn decode(r: &mut Reader) -> Result<Clocks> {
        let hunt = Micros(r.signed("the hunt clock")?);
        let mut clock = |expected| match r.byte(expected)? {
            0 => Ok(None),
            1 => Ok(Some(Micros(r.signed(expected)?))),
            _ => r.expected(expected),
        };
        Ok(Clocks { hunt, partition: clock("the partition clock")?, floor: clock("the watermark's floor")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: TimeRules = TimeRules { lateness: 60, idle: Some(3600), max_ahead: None };

    /// The clocks after an event at `time` in a record of `timestamp`, with the partition clock `before`.
    fn after(clocks: Option<Clocks>, time: i64, timestamp: i64, before: Option<i64>) -> Clocks {
        let (timestamp, before) = (Some(Micros(timestamp)), before.map(Micros));
        let watermark = clocks.map(|clocks| clocks.watermark(before, &RULES));
        Clocks::after(clocks, Micros(time), timestamp, before.max(timestamp), watermark)
    }

    #[test]
    fn the_watermark_follows_the_hunt_and_then_the_partitions_silence() {
        let first = after(None, 1000, 1010, None);
        assert_eq!(first, Clocks { hunt: Micros(1000), partition: Some(Micros(1010)), floor: None });
        assert_eq!(first.watermark(Some(Micros(1010)), &RULES), Micros(940));
        assert_eq!(first.watermark(Some(Micros(1010 + 3600)), &RULES), Micros(940));
        assert_eq!(first.watermark(Some(Micros(1010 + 3600 + 5)), &RULES), Micros(945));
    }

    #[test]
    fn the_watermark_never_steps_back_when_an_event_ends_a_silence() {
        let first = after(None, 1000, 1000, None);
        let before = first.watermark(Some(Micros(9000)), &RULES);
        assert_eq!(before, Micros(1000 + 8000 - 3600 - 60));
        let second = after(Some(first), 1500, 9001, Some(9000));
        assert_eq!(second.hunt, Micros(1500));
        assert_eq!(second.watermark(Some(Micros(9001)), &RULES), before);
    }

    #[test]
    fn an_event_from_the_future_moves_the_clock_to_its_record_only() {
        assert_eq!(after(None, 99_000, 1000, None).hunt, Micros(1000));
    }
}
