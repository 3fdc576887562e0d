//! **Sessions**: windows that events make, each from its first event to the gap after its last;
//! events less than the gap apart share one.

use super::FAR;
use crate::aggregate::{Occurrence, Of, Rule, State};
use crate::codec::{Reader, Result, Writer};
use crate::time::Micros;
use std::ops::Range;

/// Sessions in the order of their starts; they never overlap, so that is the order of their ends too.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    sessions: Vec<Session>,
    /// The newest end of a session that was dropped: what lies before it is late.
    dropped: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub start: i64,
    /// The last event and the gap after it.
    pub end: i64,
    pub state: State,
}

impl Sessions {
    /// Whether the event was refused: it lies before the end of a final session, or the session it would make or join is final itself.
    pub(super) fn apply(&mut self, rule: &Rule, gap: i64, event: &Occurrence, watermark: Option<Micros>) -> bool {
        let time = event.time.0;
        let is_final = |end: i64| watermark.is_some_and(|watermark| end <= watermark.0);
        let finals = self.sessions.partition_point(|session| is_final(session.end));
        let newest_final = self.sessions[..finals].last().map(|session| session.end).max(self.dropped);
        if newest_final.is_some_and(|end| time < end) {
            return true;
        }
        let joined = self.joined_by(time, time + gap);
        let (start, end) = self.sessions[joined.clone()]
            .iter()
            .fold((time, time + gap), |(start, end), session| (start.min(session.start), end.max(session.end)));
        if is_final(end) {
            return true;
        }
        let mut states = self.sessions.drain(joined.clone()).map(|session| session.state);
        let mut state = states.next().unwrap_or_else(|| rule.start());
        states.for_each(|later| rule.merge(&mut state, &later, Of::SamePartition));
        rule.apply(&mut state, event);
        self.sessions.insert(joined.start, Session { start, end, state });
        false
    }

    /// Whether an event of this time is refused, and the session it makes or joins, or would.
    pub(super) fn place(&self, gap: i64, time: i64, watermark: Option<Micros>) -> (bool, i64, i64) {
        let is_final = |end: i64| watermark.is_some_and(|watermark| end <= watermark.0);
        let before_final = self.sessions.iter().any(|session| is_final(session.end) && time < session.end);
        let joined = &self.sessions[self.joined_by(time, time + gap)];
        let start = joined.first().map_or(time, |session| session.start.min(time));
        let end = joined.last().map_or(time + gap, |session| session.end.max(time + gap));
        (before_final || self.dropped.is_some_and(|end| time < end) || is_final(end), start, end)
    }

    /// The sessions that overlap `[start, end)`.
    fn joined_by(&self, start: i64, end: i64) -> Range<usize> {
        let first = self.sessions.partition_point(|session| session.end <= start);
        let count = self.sessions[first..].partition_point(|session| session.start < end);
        first..first + count
    }

    pub(super) fn drop_final(&mut self, keep: usize, watermark: i64) {
        let beyond = self.sessions.len().saturating_sub(keep);
        let finals = self.sessions[..beyond].partition_point(|session| session.end <= watermark);
        if let Some(newest) = self.sessions.drain(..finals).map(|session| session.end).next_back() {
            self.dropped = self.dropped.max(Some(newest));
        }
    }

    pub(super) fn merge(&mut self, rule: &Rule, other: &Sessions, of: Of) {
        self.dropped = self.dropped.max(other.dropped);
        for Session { start, end, state } in &other.sessions {
            let joined = self.joined_by(*start, *end);
            let mut whole: Option<Session> = None;
            for session in self.sessions.drain(joined.clone()) {
                match &mut whole {
                    None => whole = Some(session),
                    Some(whole) => {
                        whole.end = whole.end.max(session.end);
                        // They are of one state already, whatever partitions it came from.
                        rule.merge(&mut whole.state, &session.state, Of::LaterPartition);
                    }
                }
            }
            let whole = match whole {
                None => Session { start: *start, end: *end, state: state.clone() },
                Some(mut whole) => {
                    whole.start = whole.start.min(*start);
                    whole.end = whole.end.max(*end);
                    rule.merge(&mut whole.state, state, of);
                    whole
                }
            };
            self.sessions.insert(joined.start, whole);
        }
    }

    /// What joining may add: the states joined stand in the encoding already, and a sketch that begins is bounded by its kind's own growth.
    pub(super) fn growth(&self, rule: &Rule, gap: i64, event: &Occurrence) -> usize {
        let joined = self.joined_by(event.time.0, event.time.0 + gap);
        rule.growth(&rule.start(), event)
            + self.sessions[joined].iter().map(|session| rule.growth(&session.state, event)).sum::<usize>()
    }

    /// Nothing was ever in it.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.dropped.is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter()
    }

    /// Each start from the end before it, each length beyond the least there is.
    pub(super) fn encode(&self, rule: &Rule, w: &mut Writer) {
        w.byte(self.dropped.is_some().into());
        self.dropped.iter().for_each(|end| w.signed(*end));
        w.unsigned(self.sessions.len() as u64);
        let mut before = 0;
        for session in &self.sessions {
            w.signed(session.start - before);
            w.unsigned((session.end - session.start) as u64);
            rule.encode(&session.state, w);
            before = session.end;
        }
    }

    pub(super) fn decode(rule: &Rule, gap: i64, r: &mut Reader) -> Result<Sessions> {
        let near = |r: &Reader, at: i64| if at.abs() > FAR { r.expected("a time within the range of times") } else { Ok(at) };
        let dropped = match r.byte("whether a session was dropped")? {
            0 => None,
            1 => {
                let end = r.signed("the end of a dropped session")?;
                Some(near(r, end)?)
            }
            _ => return r.expected("a dropped session (0 none, 1 one)"),
        };
        let count = r.count("the number of sessions")?;
        let mut sessions: Vec<Session> = Vec::new();
        let mut before = 0;
        for _ in 0..count {
            let step = r.signed("the start of a session")?;
            let start = near(r, before + near(r, step)?)?;
            let length = r.unsigned("the length of a session")?;
            if (step < 0 && !sessions.is_empty()) || length < gap as u64 || length > FAR as u64 {
                return r.expected("a session after the one before, at least its gap long");
            }
            let end = near(r, start + length as i64)?;
            sessions.push(Session { start, end, state: rule.decode(r)? });
            before = end;
        }
        Ok(Sessions { sessions, dropped })
    }
}
