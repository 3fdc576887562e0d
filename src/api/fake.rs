//! A daemon and a store in a few maps, for the API's tests. A partial's state is the number of its events in digits; its view is
//! `solved`, that number, and `per_minute`, one window that holds it. An act is done as soon as anybody asks, unless `idle`.

use super::query::{Answer, Live, LiveHunt, LivePartition, Merged, Stored};
use crate::definitions::TimeRules;
use crate::outcome::{Counts, Reason};
use crate::position::{Epoch, Offset, Position};
use crate::record::PartitionId;
use crate::store::StoredHunt;
use crate::store::{
    self, Ask, DeadLetter, HuntLine, LetterFilter, LetterState, Owner, PartialRow, PartitionLine, Readers, RollupLine, Snapshot,
    Status,
};
use crate::time::Micros;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Bound::{Excluded, Unbounded};
use std::pin::Pin;
use std::sync::Mutex;
use tokio::sync::watch;

pub const SECOND: i64 = 1_000_000;
/// 2026-01-01T00:00:00Z
pub const NEW_YEAR: Micros = Micros(1_767_225_600 * SECOND);

pub struct Fake {
    pub live: Mutex<BTreeMap<String, Vec<LiveHunt>>>,
    pub partitions: Mutex<Vec<LivePartition>>,
    pub stored: Mutex<BTreeMap<String, StoredHunt>>,
    pub lines: Mutex<Vec<PartitionLine>>,
    pub letters: Mutex<Vec<DeadLetter>>,
    pub rollup: Mutex<Vec<RollupLine>>,
    /// What was asked; the act's id is its place.
    pub asked: Mutex<Vec<Ask>>,
    /// Nobody carries out what is asked.
    pub idle: Mutex<bool>,
    pub unready: Mutex<Vec<String>>,
    pub down: Mutex<bool>,
    changes: watch::Sender<u64>,
}

impl Fake {
    pub fn new() -> Self {
        Self {
            live: Mutex::default(),
            partitions: Mutex::default(),
            stored: Mutex::default(),
            lines: Mutex::default(),
            letters: Mutex::default(),
            rollup: Mutex::default(),
            asked: Mutex::default(),
            idle: Mutex::default(),
            unready: Mutex::default(),
            down: Mutex::new(false),
            changes: watch::Sender::new(0),
        }
    }

    /// The hunt's actor at partition `partition` has folded `events`.
    pub fn fold(&self, hunt: &str, partition: i32, events: i64) {
        let partial = LiveHunt {
            partition: PartitionId::new("hunt-events", partition),
            position: Position(events),
            status: Status::Live,
            state: events.to_string().into_bytes(),
            watermark: Some(Micros(NEW_YEAR.0 + 120 * SECOND)),
        };
        let mut live = self.live.lock().unwrap();
        let partials = live.entry(hunt.into()).or_default();
        partials.retain(|other| other.partition != partial.partition);
        partials.push(partial);
        drop(live);
        self.changes.send_modify(|change| *change += 1);
    }

    /// The store has one partial of this hunt, at partition `partition`, of `events`.
    pub fn save(&self, hunt: &str, partition: i32, events: i64) {
        let readers = readers(events);
        let row = PartialRow {
            partition: PartitionId::new("hunt-events", partition),
            snapshot: Snapshot {
                hunt: hunt.into(),
                state: Some(events.to_string().into_bytes()),
                readers: Some(readers.clone()),
                lag: None,
            },
            partition_position: Some(Position(events)),
            partition_clock: Some(Micros(NEW_YEAR.0 + 90 * SECOND)),
            owner: None,
        };
        let saved = StoredHunt {
            hunt_id: hunt.to_owned(),
            status: Status::Live,
            events,
            view: readers.view,
            first_event_at: readers.first_event_at,
            last_event_at: readers.last_event_at,
            watermark: Some(Micros(NEW_YEAR.0 + 59 * SECOND)),
            updated_at: NEW_YEAR,
            partials: vec![row],
        };
        self.stored.lock().unwrap().insert(hunt.into(), saved);
    }

    fn answer<T: Send + 'static>(&self, value: T) -> Answer<'static, T> {
        let answer =
            if *self.down.lock().unwrap() { Err(store::Error::Passing("secret-host refused".into())) } else { Ok(value) };
        Box::pin(async { answer })
    }
}

fn readers(events: i64) -> Readers {
    Readers {
        view: format!(
            "{{\"solved\":{events},\"exact\":123456789012345678901234567890,\"per_minute\":[\
             {{\"start\":\"2026-01-01T00:00:00Z\",\"end\":\"2026-01-01T00:01:00Z\",\"value\":{events}}}]}}"
        ),
        events,
        first_event_at: Some(NEW_YEAR),
        last_event_at: Some(Micros(NEW_YEAR.0 + 59 * SECOND)),
        hunt_clock: Some(Micros(NEW_YEAR.0 + 59 * SECOND)),
        partition_clock: Some(Micros(NEW_YEAR.0 + 59 * SECOND)),
        watermark_floor: None,
    }
}

impl Live for Fake {
    fn hunt<'a>(&'a self, id: &'a str) -> Pin<Box<dyn Future<Output = Vec<LiveHunt>> + Send + 'a>> {
        let found = self.live.lock().unwrap().get(id).cloned().unwrap_or_default();
        Box::pin(async { found })
    }

    fn partitions(&self) -> Vec<LivePartition> {
        self.partitions.lock().unwrap().clone()
    }

    fn readiness(&self) -> Vec<String> {
        self.unready.lock().unwrap().clone()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn merge(&self, states: &[(PartitionId, Vec<u8>)], watermark: Option<Micros>) -> Result<Merged, String> {
        assert!(states.is_sorted_by(|a, b| a.0 < b.0), "merged out of order");
        let mut events = 0;
        for (_, state) in states {
            events += std::str::from_utf8(state).ok().and_then(|text| text.parse::<i64>().ok()).ok_or("a state of no digits")?;
        }
        let readers = readers(events);
        let end = Micros(NEW_YEAR.0 + 60 * SECOND);
        let told = format!("\"value\":{events},\"final\":{}}}]", watermark.is_some_and(|watermark| end <= watermark));
        Ok(Merged {
            events,
            view: readers.view.replace(&format!("\"value\":{events}}}]"), &told),
            first_event_at: readers.first_event_at,
            last_event_at: readers.last_event_at,
        })
    }
}

impl Stored for Fake {
    fn hunts<'a>(&'a self, after: Option<&'a str>, limit: u32, status: Option<Status>) -> Answer<'a, Vec<HuntLine>> {
        let stored = self.stored.lock().unwrap();
        let lines = stored
            .range::<str, _>((after.map_or(Unbounded, Excluded), Unbounded))
            .filter(|(_, hunt)| status.is_none_or(|status| status == hunt.status))
            .take(limit as usize)
            .map(|(id, hunt)| HuntLine {
                hunt_id: id.clone(),
                events: hunt.events,
                status: hunt.status,
                last_event_at: hunt.last_event_at,
            })
            .collect();
        self.answer(lines)
    }

    fn hunt<'a>(&'a self, id: &'a str) -> Answer<'a, Option<StoredHunt>> {
        self.answer(self.stored.lock().unwrap().get(id).cloned())
    }

    fn partitions(&self) -> Answer<'_, Vec<PartitionLine>> {
        self.answer(self.lines.lock().unwrap().clone())
    }

    fn dead_letters<'a>(&'a self, filter: &'a LetterFilter) -> Answer<'a, Vec<DeadLetter>> {
        let key = |letter: &DeadLetter| (letter.partition.clone(), letter.offset);
        let letters = self.letters.lock().unwrap();
        let found = letters
            .iter()
            .filter(|letter| filter.after.as_ref().is_none_or(|after| key(letter) > *after))
            .filter(|letter| filter.reason.as_ref().is_none_or(|reason| reason == letter.reason.as_str()))
            .filter(|letter| filter.hunt.is_none() || filter.hunt == letter.hunt_id)
            .filter(|letter| {
                filter.state.as_ref().is_none_or(|state| (state == "rejected") == (letter.state == LetterState::Rejected))
            })
            .take(filter.limit as usize)
            .cloned()
            .collect();
        self.answer(found)
    }

    fn dead_letter<'a>(&'a self, partition: &'a PartitionId, offset: Offset) -> Answer<'a, Option<DeadLetter>> {
        let letters = self.letters.lock().unwrap();
        self.answer(letters.iter().find(|letter| letter.partition == *partition && letter.offset == offset).cloned())
    }

    fn rollup(&self) -> Answer<'_, Vec<RollupLine>> {
        self.answer(self.rollup.lock().unwrap().clone())
    }

    fn ask<'a>(&'a self, ask: &'a Ask) -> Answer<'a, i64> {
        let mut asked = self.asked.lock().unwrap();
        asked.push(ask.clone());
        self.answer(asked.len() as i64)
    }

    fn act_done(&self, id: i64) -> Answer<'_, Option<String>> {
        assert!((1..=self.asked.lock().unwrap().len() as i64).contains(&id), "act {id} was never asked");
        let idle = *self.idle.lock().unwrap();
        self.answer((!idle).then(|| "reset".to_owned()))
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.answer(())
    }
}

pub fn letter(offset: i64, reason: Reason, value: &[u8]) -> DeadLetter {
    DeadLetter {
        partition: PartitionId::new("hunt-events", 0),
        offset: Offset(offset),
        hunt_id: Some("paris".into()),
        reason,
        detail: "found a number, expected an object".into(),
        key: Some(vec![0xff, 0x00]),
        value: Some(value.to_vec()),
        headers: vec![("trace".into(), Some(b"abc".to_vec())), ("empty".into(), None)],
        record_at: Some(NEW_YEAR),
        failed_at: NEW_YEAR,
        state: LetterState::Rejected,
        applied_at: None,
    }
}

pub fn line(partition: i32, position: i64, owner: Option<&str>) -> PartitionLine {
    PartitionLine {
        partition: PartitionId::new("hunt-events", partition),
        position: Some(Position(position)),
        epoch: Epoch(3),
        owner: owner.map(|id| Owner { id: id.into(), advertise: format!("http://{id}:8080") }),
        counts: Counts { records: position, applied: position, ..Counts::default() },
        tripped: None,
        updated_at: NEW_YEAR,
    }
}

/// Watermarks stand still for an hour of silence at most.
pub fn time() -> TimeRules {
    TimeRules { lateness: 0, idle: Some(3600 * SECOND), max_ahead: None }
}

/// Two rolled-up aggregates before any event.
pub fn beginnings() -> Vec<(String, String)> {
    vec![("per_minute".into(), "[]".into()), ("solved".into(), "0".into())]
}
