//! **Windows**: what one windowed aggregate of one partial keeps, and which events it refuses as late.
//!
//! The fold hands in an event's time and the watermark *before* its record. Invariant: tumbling and hopping windows are cut to
//! the newest `keep` after each event; of sessions beyond the newest `keep` only final ones go.

use super::cell::{Cell, Rank};
use super::definitions::{Kind, Shape, Window};
use super::event::Contribution;
use super::instant;
use super::json::Json;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct Windows {
    /// Tumbling and hopping, by their start.
    aligned: BTreeMap<i128, Cell>,
    /// By their first event.
    sessions: Vec<Session>,
    /// The newest end of a session that was dropped.
    dropped: Option<i128>,
}

#[derive(Clone, Debug)]
struct Session {
    start: i128,
    /// The last event and the gap after it.
    end: i128,
    cell: Cell,
}

/// What became of an event in one windowed aggregate.
#[derive(Debug, PartialEq)]
pub struct Added {
    /// At least one window refused it.
    pub late: bool,
    /// The starts of the tumbling or hopping windows it was added to.
    pub windows: Vec<i128>,
}

impl Windows {
    pub fn add(
        &mut self,
        kind: &Kind,
        window: &Window,
        contribution: &Contribution,
        rank: &Rank,
        watermark: Option<i128>,
    ) -> Added {
        let is_final = |end: i128| watermark.is_some_and(|w| end <= w);
        match window.shape {
            Shape::Session(gap) => Added { late: !self.joined(kind, gap, contribution, rank, is_final), windows: Vec::new() },
            Shape::Tumbling(length) | Shape::Hopping { length, .. } => {
                let every = if let Shape::Hopping { every, .. } = window.shape { every } else { length };
                let kept_before: Vec<i128> = self.aligned.keys().copied().collect();
                let too_old =
                    |start: i128| kept_before.len() >= window.keep && kept_before.first().is_none_or(|&oldest| start < oldest);
                let (refused, taken): (Vec<i128>, Vec<i128>) =
                    starts(rank.0, length, every).into_iter().partition(|&start| is_final(start + length) || too_old(start));
                for start in &taken {
                    self.aligned.entry(*start).or_insert_with(|| Cell::new(kind)).add(kind, contribution, rank);
                }
                self.cut(window.keep);
                Added { late: !refused.is_empty(), windows: taken }
            }
        }
    }

    /// Whether a session took the event.
    fn joined(
        &mut self,
        kind: &Kind,
        gap: i128,
        contribution: &Contribution,
        rank: &Rank,
        is_final: impl Fn(i128) -> bool,
    ) -> bool {
        let time = rank.0;
        let finals = self.sessions.iter().map(|s| s.end).filter(|&end| is_final(end)).chain(self.dropped);
        if finals.max().is_some_and(|newest| time < newest) {
            return false;
        }
        let joins = |s: &Session| s.start < time + gap && time < s.end;
        let (mut start, mut end) = (time, time + gap);
        for session in self.sessions.iter().filter(|s| joins(s)) {
            start = start.min(session.start);
            end = end.max(session.end);
        }
        if is_final(end) {
            return false;
        }
        let (near, far): (Vec<Session>, Vec<Session>) = std::mem::take(&mut self.sessions).into_iter().partition(joins);
        let mut cell = united(kind, near);
        cell.add(kind, contribution, rank);
        self.sessions = far;
        self.put(Session { start, end, cell });
        true
    }

    fn put(&mut self, session: Session) {
        self.sessions.push(session);
        self.sessions.sort_by_key(|s| s.start);
    }

    fn cut(&mut self, keep: usize) {
        while self.aligned.len() > keep {
            self.aligned.pop_first();
        }
    }

    /// After every applied event of the partial, whether or not it was one for this aggregate.
    pub fn drop_final_sessions(&mut self, keep: usize, watermark: Option<i128>) {
        let beyond = self.sessions.len().saturating_sub(keep);
        let mut index = 0;
        let mut dropped = self.dropped;
        self.sessions.retain(|session| {
            index += 1;
            let goes = index <= beyond && watermark.is_some_and(|w| session.end <= w);
            if goes {
                dropped = dropped.max(Some(session.end));
            }
            !goes
        });
        self.dropped = dropped;
    }

    /// Of another partial of the same hunt, the next in (topic, partition) order.
    pub fn merge(&mut self, kind: &Kind, window: &Window, other: &Windows) {
        for (start, cell) in &other.aligned {
            self.aligned.entry(*start).or_insert_with(|| Cell::new(kind)).merge(kind, cell);
        }
        self.cut(window.keep);
        for session in &other.sessions {
            let joins = |s: &Session| s.start < session.end && session.start < s.end;
            let (mut near, far): (Vec<Session>, Vec<Session>) = std::mem::take(&mut self.sessions).into_iter().partition(joins);
            near.push(session.clone());
            self.sessions = far;
            let start = near.iter().map(|s| s.start).min().expect("at least the one");
            let end = near.iter().map(|s| s.end).max().expect("at least the one");
            self.put(Session { start, end, cell: united(kind, near) });
        }
    }

    /// `[{"start","end","value"}]`, oldest first.
    pub fn value(&self, kind: &Kind, window: &Window) -> Json {
        match window.shape {
            Shape::Tumbling(length) | Shape::Hopping { length, .. } => aligned_value(kind, length, self.aligned.iter()),
            Shape::Session(_) => Json::Array(self.sessions.iter().map(|s| item(kind, s.start, s.end, &s.cell)).collect()),
        }
    }
}

/// The same of tumbling or hopping windows, by their starts.
pub fn aligned_value<'a>(kind: &Kind, length: i128, windows: impl Iterator<Item = (&'a i128, &'a Cell)>) -> Json {
    Json::Array(windows.map(|(start, cell)| item(kind, *start, start + length, cell)).collect())
}

fn item(kind: &Kind, start: i128, end: i128, cell: &Cell) -> Json {
    Json::object([
        ("start", Json::text(&instant::write(start))),
        ("end", Json::text(&instant::write(end))),
        ("value", cell.value(kind)),
    ])
}

/// The cells of sessions, in their order, as one.
fn united(kind: &Kind, sessions: Vec<Session>) -> Cell {
    let mut cells = sessions.into_iter().map(|s| s.cell);
    let mut first = cells.next().unwrap_or_else(|| Cell::new(kind));
    for cell in cells {
        first.merge(kind, &cell);
    }
    first
}

/// Of all windows that a time lies in: start included, end not.
pub fn starts(time: i128, length: i128, every: i128) -> Vec<i128> {
    let mut starts = Vec::new();
    let mut start = time.div_euclid(every) * every;
    while time < start + length {
        starts.insert(0, start);
        start -= every;
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i128 = 60_000_000;

    struct Case {
        window: Window,
        windows: Windows,
        offset: i64,
    }

    impl Case {
        fn new(shape: Shape, keep: usize) -> Case {
            Case { window: Window { shape, keep }, windows: Windows::default(), offset: 0 }
        }

        /// Minutes; whether it is late.
        fn add(&mut self, time: i128, watermark: i128) -> bool {
            self.offset += 1;
            let rank = (time * MINUTE, String::new(), 0, self.offset);
            let late = self.windows.add(&Kind::Count, &self.window, &Contribution::One, &rank, Some(watermark * MINUTE)).late;
            self.windows.drop_final_sessions(self.window.keep, Some(watermark * MINUTE));
            late
        }

        /// `start-end:count`, in minutes after 1970.
        fn said(&self) -> String {
            let Json::Array(items) = self.windows.value(&Kind::Count, &self.window) else { panic!("windows are a list") };
            let minute = |item: &Json, name: &str| match item.at(&[name.to_owned()]) {
                Some(Json::Text(t)) => {
                    instant::read(t.as_str().unwrap()).map_or("before".to_owned(), |at| (at / MINUTE).to_string())
                }
                other => panic!("{other:?}"),
            };
            let said = items
                .iter()
                .map(|i| format!("{}-{}:{}", minute(i, "start"), minute(i, "end"), i.at(&["value".to_owned()]).unwrap()));
            said.collect::<Vec<_>>().join(" ")
        }
    }

    #[test]
    fn tumbling_windows_include_their_start_and_not_their_end() {
        let mut case = Case::new(Shape::Tumbling(10 * MINUTE), 60);
        for time in [0, 9, 10, 25, 19] {
            assert!(!case.add(time, 0));
        }
        assert_eq!(case.said(), "0-10:2 10-20:2 20-30:1");
    }

    #[test]
    fn a_window_is_final_when_its_end_is_at_the_watermark() {
        let mut case = Case::new(Shape::Tumbling(10 * MINUTE), 60);
        assert!(!case.add(9, 9));
        assert!(case.add(9, 10));
        assert!(!case.add(10, 10));
        assert_eq!(case.said(), "0-10:1 10-20:1");
    }

    #[test]
    fn older_than_the_windows_kept_is_late_even_before_the_watermark() {
        let mut case = Case::new(Shape::Tumbling(10 * MINUTE), 2);
        assert!(!case.add(30, 0));
        assert!(!case.add(10, 0));
        assert!(case.add(5, 0));
        assert!(!case.add(25, 0), "newer than the oldest kept");
        assert_eq!(case.said(), "20-30:1 30-40:1");
        assert!(case.add(15, 0));
    }

    #[test]
    fn an_event_lies_in_every_hopping_window_around_it_and_is_late_once() {
        let hopping = Shape::Hopping { length: 10 * MINUTE, every: 5 * MINUTE };
        let mut case = Case::new(hopping, 60);
        assert!(!case.add(12, 0));
        assert_eq!(case.said(), "5-15:1 10-20:1");
        assert!(case.add(13, 15), "one of its two windows is final");
        assert_eq!(case.said(), "5-15:1 10-20:2");
        assert_eq!(starts(0, 10, 5), [-5, 0]);
        assert_eq!(starts(7, 10, 4), [0, 4]);
        assert_eq!(starts(9, 4, 6), [6]);
        assert!(starts(11, 4, 6).is_empty(), "windows shorter than their step leave gaps");
        let mut few = Case::new(hopping, 1);
        assert!(!few.add(12, 0), "what is kept before the event decides");
        assert_eq!(few.said(), "10-20:1");
    }

    #[test]
    fn events_less_than_the_gap_apart_share_a_session() {
        let mut case = Case::new(Shape::Session(10 * MINUTE), 60);
        for time in [0, 9, 19, 40] {
            assert!(!case.add(time, 0));
        }
        assert_eq!(case.said(), "0-19:2 19-29:1 40-50:1");
        assert!(!case.add(33, 0));
        assert_eq!(case.said(), "0-19:2 19-29:1 33-50:2");
        assert!(!case.add(26, 0), "one event joins two sessions");
        assert_eq!(case.said(), "0-19:2 19-50:4");
    }

    #[test]
    fn an_event_before_the_end_of_a_final_session_is_late() {
        let mut case = Case::new(Shape::Session(10 * MINUTE), 60);
        assert!(!case.add(20, 0));
        assert!(!case.add(50, 0));
        assert!(case.add(29, 30));
        assert!(case.add(5, 30), "before a final session is before its end");
        assert!(!case.add(30, 30));
        assert!(case.add(35, 60), "both sessions are final now");
        assert!(!case.add(60, 60));
        assert_eq!(case.said(), "20-30:1 30-40:1 50-60:1 60-70:1");
    }

    #[test]
    fn an_event_whose_session_would_end_at_the_watermark_is_late() {
        let mut case = Case::new(Shape::Session(10 * MINUTE), 60);
        assert!(case.add(20, 30));
        assert!(!case.add(21, 30));
        assert!(!case.add(15, 30), "it joins a session that is still open");
        assert_eq!(case.said(), "15-31:2");
    }

    #[test]
    fn only_final_sessions_beyond_keep_are_dropped_and_their_newest_end_is_remembered() {
        let mut case = Case::new(Shape::Session(10 * MINUTE), 1);
        case.add(0, -99);
        case.add(20, -99);
        case.add(40, -99);
        assert_eq!(case.said(), "0-10:1 20-30:1 40-50:1", "none is final");
        case.add(41, 10);
        assert_eq!(case.said(), "20-30:1 40-51:2");
        assert!(case.add(9, 0));
        assert!(!case.add(10, 0), "not before the end that was dropped");
    }

    #[test]
    fn merged_windows_add_up_and_merged_sessions_join_where_they_overlap() {
        let mut a = Case::new(Shape::Tumbling(10 * MINUTE), 2);
        let mut b = Case::new(Shape::Tumbling(10 * MINUTE), 2);
        a.add(5, 0);
        a.add(15, 0);
        b.add(15, 0);
        b.add(25, 0);
        a.windows.merge(&Kind::Count, &a.window, &b.windows);
        assert_eq!(a.said(), "10-20:2 20-30:1");

        let mut a = Case::new(Shape::Session(10 * MINUTE), 60);
        let mut b = Case::new(Shape::Session(10 * MINUTE), 60);
        a.add(0, 0);
        a.add(15, 0);
        b.add(8, 0);
        b.add(25, 0);
        a.windows.merge(&Kind::Count, &a.window, &b.windows);
        assert_eq!(a.said(), "0-25:3 25-35:1");
    }
}
