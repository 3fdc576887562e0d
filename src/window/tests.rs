//! Windows one at a time: which take an event, which refuse it, which are kept, joined and final.

use super::*;
use crate::decode::{Decoded, Field};
use crate::position::{Epoch, Offset, Position};
use crate::record::{Batch, PartitionId};
use std::cmp::Ordering;

const MINUTE: i64 = 60_000_000;

/// Windows over the least number an event carries.
struct Case {
    windowed: Windowed,
    windows: Windows,
    batch: Batch,
    decoded: Decoded,
    /// Minutes of the windows that took the newest event.
    taken: Vec<i64>,
}

impl Case {
    fn new(shape: Shape, keep: u32) -> Case {
        let windowed = Windowed::new(Rule::Extremum { of: 0, toward: Ordering::Less }, &Window { shape, keep });
        let windows = windowed.start();
        let batch = Batch::new(PartitionId::new("t", 0), Epoch(1), Position(0));
        Case { windowed, windows, batch, decoded: Decoded::default(), taken: Vec::new() }
    }

    /// Minutes; the event carries its time as its number. Whether it is late.
    fn add(&mut self, time: i64, watermark: i64) -> bool {
        let fields = [Field::Int(time)];
        let Case { windowed, windows, batch, decoded, taken } = self;
        let event = Occurrence { time: Micros(time * MINUTE), offset: Offset(0), event_type: 0, fields: &fields, batch, decoded };
        taken.clear();
        let watermark = Some(Micros(watermark * MINUTE));
        let late = windowed.apply(windows, &event, watermark, |start, _| taken.push(start / MINUTE));
        windowed.drop_final(windows, watermark);
        self.reads_back();
        late
    }

    fn reads_back(&self) {
        let mut w = Writer::default();
        self.windowed.encode(&self.windows, &mut w);
        let bytes = w.finish();
        let mut r = Reader::new(&bytes);
        let back = self.windowed.decode(&mut r).expect("an encoding");
        r.end().expect("all of it");
        let mut w = Writer::default();
        self.windowed.encode(&back, &mut w);
        assert_eq!(w.finish(), bytes);
    }

    /// `start-end:least` in minutes, with `!` where it is final at that minute.
    fn said(&self, watermark: i64) -> String {
        let mut json = String::new();
        self.windowed.write_json(&self.windows, Some(Finals(Some(Micros(watermark * MINUTE)))), &mut json);
        let windows: Vec<serde_json::Value> = serde_json::from_str(&json).expect("JSON");
        let minute = |text: &serde_json::Value| {
            let text = text.as_str().expect("a time");
            Micros::parse_rfc3339(text.as_bytes()).map_or("before 1970".to_owned(), |at| (at.0 / MINUTE).to_string())
        };
        let said = windows.iter().map(|window| {
            let is_final = if window["final"].as_bool().expect("said") { "!" } else { "" };
            format!("{}-{}:{}{is_final}", minute(&window["start"]), minute(&window["end"]), window["value"])
        });
        said.collect::<Vec<_>>().join(" ")
    }

    fn merge(&mut self, other: &Case) {
        self.windowed.merge(&mut self.windows, &other.windows, Of::LaterPartition);
        self.reads_back();
    }
}

const TUMBLING: Shape = Shape::Tumbling { length: 10 * MINUTE };
const HOPPING: Shape = Shape::Hopping { length: 10 * MINUTE, every: 4 * MINUTE };
const SESSION: Shape = Shape::Session { gap: 10 * MINUTE };

#[test]
fn a_window_includes_its_start_and_not_its_end_and_is_final_at_its_end() {
    let mut case = Case::new(TUMBLING, 60);
    for time in [9, 0, 10, 25, 19] {
        assert!(!case.add(time, 0));
    }
    assert_eq!(case.said(19), "0-10:0! 10-20:10 20-30:25");
    assert_eq!(case.said(20), "0-10:0! 10-20:10! 20-30:25");
    assert!(!case.add(9, 9));
    assert!(case.add(9, 10));
    assert_eq!(case.taken, [0; 0]);
}

#[test]
fn only_the_newest_windows_are_kept_and_an_older_event_is_late() {
    let mut case = Case::new(TUMBLING, 2);
    assert!(!case.add(30, 0));
    assert!(!case.add(10, 0));
    assert!(case.add(5, 0));
    assert!(!case.add(25, 0), "newer than the oldest that was kept");
    assert_eq!(case.said(0), "20-30:25 30-40:30");
    assert!(case.add(15, 0));
}

#[test]
fn an_event_lies_in_every_hopping_window_around_it() {
    let mut case = Case::new(HOPPING, 60);
    assert!(!case.add(3, -99));
    assert_eq!(case.taken, [0, -4], "and -8 ended at 2");
    assert!(!case.add(12, 0));
    assert_eq!(case.taken, [12, 8, 4]);
    assert!(case.add(13, 14), "the oldest of its three windows is final");
    assert_eq!(case.taken, [12, 8]);
    assert_eq!(case.said(14), "before 1970-6:3! 0-10:3! 4-14:12! 8-18:12 12-22:12");
    let mut few = Case::new(HOPPING, 1);
    assert!(!few.add(12, 0), "what was kept before the event decides");
    assert_eq!((few.taken.as_slice(), few.said(0).as_str()), (&[12, 8, 4][..], "12-22:12"));
}

#[test]
fn events_less_than_the_gap_apart_share_a_session_and_one_may_join_two() {
    let mut case = Case::new(SESSION, 60);
    for time in [0, 9, 19, 40, 33] {
        assert!(!case.add(time, 0));
    }
    assert_eq!(case.said(0), "0-19:0 19-29:19 33-50:33");
    assert!(!case.add(26, 0));
    assert_eq!(case.said(0), "0-19:0 19-50:19");
}

#[test]
fn an_event_before_the_end_of_a_final_session_or_in_one_that_would_be_final_is_late() {
    let mut case = Case::new(SESSION, 60);
    assert!(case.add(20, 30), "its own session would end at 30");
    assert!(!case.add(20, 0));
    assert!(!case.add(50, 0));
    assert!(case.add(29, 30));
    assert!(case.add(5, 30), "before a final session is before its end");
    assert!(!case.add(30, 30));
    assert!(case.add(45, 60), "50-60 is final now");
    assert!(!case.add(60, 60));
    assert_eq!(case.said(60), "20-30:20! 30-40:30! 50-60:50! 60-70:60");
}

#[test]
fn final_sessions_beyond_keep_are_dropped_and_what_lies_before_them_stays_late() {
    let mut case = Case::new(SESSION, 1);
    for time in [0, 20, 40] {
        case.add(time, -99);
    }
    assert_eq!(case.said(0), "0-10:0 20-30:20 40-50:40", "none is final");
    case.add(41, 10);
    assert_eq!(case.said(10), "20-30:20 40-51:40");
    assert!(case.add(9, 0), "before the end that was dropped");
    assert!(!case.add(10, 0));
}

#[test]
fn merged_windows_are_cut_again_and_merged_sessions_that_overlap_are_joined() {
    let (mut a, mut b) = (Case::new(TUMBLING, 2), Case::new(TUMBLING, 2));
    a.add(5, 0);
    a.add(16, 0);
    b.add(15, 0);
    b.add(25, 0);
    a.merge(&b);
    assert_eq!(a.said(0), "10-20:15 20-30:25");

    let (mut a, mut b) = (Case::new(SESSION, 60), Case::new(SESSION, 60));
    a.add(1, 0);
    a.add(15, 0);
    a.add(60, 0);
    b.add(8, 0);
    b.add(25, 0);
    b.add(0, 0);
    a.merge(&b);
    assert_eq!(a.said(0), "0-25:0 25-35:25 60-70:60");
}

#[test]
fn malformed_windows_are_refused() {
    let encoded = |write: &dyn Fn(&mut Writer)| {
        let mut w = Writer::default();
        write(&mut w);
        w.finish()
    };
    let least = |w: &mut Writer| w.byte(0);
    let decode = |shape, bytes: &[u8]| {
        let windowed = Case::new(shape, 2).windowed;
        windowed.decode(&mut Reader::new(bytes)).is_ok()
    };
    let windows = |numbers: &[i64]| {
        encoded(&|w: &mut Writer| {
            w.unsigned(numbers.len() as u64);
            for (i, number) in numbers.iter().enumerate() {
                if i == 0 {
                    w.signed(*number)
                } else {
                    w.unsigned(*number as u64)
                }
                least(w);
            }
        })
    };
    assert!(decode(TUMBLING, &windows(&[3, 1])));
    assert!(!decode(TUMBLING, &windows(&[3, 0])), "the same window twice");
    assert!(!decode(TUMBLING, &windows(&[3, 1, 1])), "more than are kept");
    assert!(!decode(TUMBLING, &windows(&[i64::MAX / 2])));
    assert!(!decode(TUMBLING, &windows(&[3, i64::MAX])));
    let sessions = |bounds: &[(i64, u64)]| {
        encoded(&|w: &mut Writer| {
            w.byte(0);
            w.unsigned(bounds.len() as u64);
            for (step, length) in bounds {
                w.signed(*step);
                w.unsigned(*length);
                least(w);
            }
        })
    };
    let gap = 10 * MINUTE as u64;
    assert!(decode(SESSION, &sessions(&[(-5, gap), (0, gap + 1)])));
    assert!(!decode(SESSION, &sessions(&[(5, gap), (-1, gap)])), "they overlap");
    assert!(!decode(SESSION, &sessions(&[(5, gap - 1)])), "shorter than the gap");
    assert!(!decode(SESSION, &sessions(&[(i64::MAX, gap)])));
}
