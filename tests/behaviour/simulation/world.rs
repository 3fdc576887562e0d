//! The **world** of one simulation: a log that the seed decided, and the plain truth about it.

use huntline::decode::{Decoded, Plan, Verdict};
use huntline::definitions::*;
use huntline::hunt::Hook;
use huntline::outcome::Counts;
use huntline::partial::{Fold, Folded};
use huntline::position::{Epoch, Offset, Position};
use huntline::record::{Batch, PartitionId};
use huntline::rollup::Delta;
use huntline::store::Gap;
use huntline::time::Micros;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

pub const HUNTS: usize = 7;

fn definitions() -> Definitions {
    let pointer = |names: &[&str]| Pointer(names.iter().map(|name| (*name).to_owned()).collect());
    let points = || pointer(&["data", "points"]);
    let aggregate = |name: &str, kind: Kind| Aggregate { name: name.into(), kind, on: None, filter: None, window: None };
    let windowed = |name: &str, kind: Kind, shape: Shape, keep: u32| Aggregate {
        window: Some(Window { shape, keep }),
        ..aggregate(name, kind)
    };
    const SECOND: i64 = 1_000_000;
    Definitions {
        event: EventPlaces {
            hunt: Place::Key,
            id: vec![Place::Value(pointer(&["id"]))],
            event_type: Place::Value(pointer(&["type"])),
            time: Some(Place::Value(pointer(&["time"]))),
            max_bytes: 1 << 20,
        },
        topics: BTreeMap::new(),
        dedup_last: 4,
        time: TimeRules { lateness: 2 * SECOND, idle: Some(5 * SECOND), max_ahead: Some(300 * SECOND) },
        aggregates: vec![
            aggregate("events", Kind::Count),
            aggregate("last", Kind::Last { of: points() }),
            windowed("lately", Kind::Sum { of: points() }, Shape::Hopping { length: 4 * SECOND, every: 2 * SECOND }, 3),
            aggregate("points", Kind::Sum { of: points() }),
            windowed("visits", Kind::Count, Shape::Session { gap: SECOND }, 2),
        ],
        rollup: ["events", "last", "lately", "points"].map(str::to_owned).into(),
    }
}

/// One record of the simulated log.
pub struct Entry {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: String,
    pub value: Option<String>,
}

/// What the seed decided about the world, and what must come of it.
pub struct World {
    pub log: Vec<Entry>,
    /// The log's end: past a marker.
    pub end: Position,
    pub plan: Arc<Plan>,
    pub fold: Arc<Fold>,
    /// Records at which the fold panics always.
    pub poison: BTreeSet<i64>,
    /// Records at which it panics a few more times, in whichever process.
    pub flaky: Arc<Mutex<BTreeMap<i64, u32>>>,
    pub partition: PartitionId,
}

impl World {
    pub fn new(rng: &mut fastrand::Rng) -> Self {
        let definitions = definitions();
        let plan = Arc::new(Plan::new(&definitions, "t"));
        let fold = Arc::new(Fold::new(&definitions, &plan, 1 << 20));
        let mut log = Vec::new();
        let (mut poison, mut flaky) = (BTreeSet::new(), BTreeMap::new());
        let mut offset = rng.i64(0..3);
        let mut now = 1_700_000_000_000;
        let behind = if rng.f64() < 0.3 { 0.7 } else { 0.1 };
        let poisonous = if rng.bool() { 0.0 } else { 0.06 };
        // Now and then nothing of what is sent can be read for a while.
        let (mut garbage, garbled) = (0, if rng.f64() < 0.3 { 0.02 } else { 0.0 });
        for n in 0..rng.usize(20..220) {
            now += rng.i64(0..2000);
            if rng.f64() < 0.1 {
                now += 9000;
            }
            let key = format!("h{}", rng.usize(0..HUNTS));
            // Some record clocks are behind.
            let timestamp_ms = now - if rng.f64() < behind { rng.i64(0..60_000) } else { 0 };
            let id = if rng.f64() < 0.2 { n.saturating_sub(rng.usize(0..12)) } else { n };
            garbage = if garbage == 0 && rng.f64() < garbled { rng.u32(5..20) } else { garbage.saturating_sub(1) };
            let value = match rng.usize(0..12) {
                _ if garbage > 0 => Some("{".to_owned()),
                0 => None,
                1 => Some("{".to_owned()),
                _ => Some(format!(
                    r#"{{"id":"e{id}","type":"x","time":{},"data":{{"points":{}}}}}"#,
                    now - rng.i64(0..4000),
                    if rng.bool() { rng.i32(-9..9).to_string() } else { format!("{}.{}", rng.i32(-9..9), rng.u32(0..1000)) },
                )),
            };
            if rng.f64() < poisonous {
                poison.insert(offset);
            } else if rng.f64() < 0.02 {
                flaky.insert(offset, rng.u32(1..3));
            }
            log.push(Entry { offset, timestamp_ms, key, value });
            offset += if rng.f64() < 0.1 { rng.i64(2..5) } else { 1 };
        }
        let partition = PartitionId::new("t", 0);
        World { log, end: Position(offset + 1), plan, fold, poison, flaky: Arc::new(Mutex::new(flaky)), partition }
    }

    /// The records in `[from, to)`, as a source would hand them over.
    pub fn batch(&self, from: Position, to: Position, epoch: Epoch) -> (Arc<Batch>, Decoded) {
        self.batch_without(&[], from, to, epoch)
    }

    pub fn batch_without(&self, gaps: &[Gap], from: Position, to: Position, epoch: Epoch) -> (Arc<Batch>, Decoded) {
        let mut batch = Batch::new(self.partition.clone(), epoch, to);
        let gone = |offset: i64| gaps.iter().any(|gap| gap.hunt_id.is_none() && gap.from.0 <= offset && offset < gap.to.0);
        for entry in self.log.iter().filter(|e| from.0 <= e.offset && e.offset < to.0 && !gone(e.offset)) {
            let value = entry.value.as_ref().map(|v| v.as_bytes());
            batch.push(Offset(entry.offset), entry.timestamp_ms, Some(entry.key.as_bytes()), value, []);
        }
        batch.next = to;
        let mut decoded = Decoded::default();
        self.plan.decode(&batch, &mut decoded);
        (Arc::new(batch), decoded)
    }

    pub fn hook(&self) -> Hook {
        let (poison, flaky) = (self.poison.clone(), self.flaky.clone());
        Arc::new(move |_, offset| {
            assert!(!poison.contains(&offset.0), "poison");
            let fails = flaky.lock().expect("no panic under the lock").get_mut(&offset.0).is_some_and(|left| {
                let fails = *left > 0;
                *left = left.saturating_sub(1);
                fails
            });
            if fails {
                std::panic::panic_any("flaky");
            }
        })
    }

    /// The plain truth below `position` for one hunt, leaving out `failed` records and those in `gaps` of the whole partition: the
    /// encoding and what the records came to. What they add to the rollup is added to `rollup`.
    pub fn truth(
        &self,
        hunt: &str,
        position: Position,
        failed: &BTreeSet<i64>,
        gaps: &[Gap],
        rollup: &mut Delta,
    ) -> (Option<Vec<u8>>, Counts) {
        let (batch, decoded) = self.batch_without(gaps, Position(0), position, Epoch(0));
        let mut partial = self.fold.start();
        let mut counts = Counts::default();
        let mut clock = None;
        for index in 0..batch.records.len() {
            let record = &batch.records[index];
            if decoded.events[index].verdict == Verdict::Event && batch.key(record) == Some(hunt.as_bytes()) {
                counts.records += 1;
                if failed.contains(&record.offset.0) {
                    counts.dead_lettered += 1;
                } else {
                    match self.fold.apply(&mut partial, &batch, &decoded, index, clock, rollup) {
                        Folded::Applied { late } => {
                            counts.applied += 1;
                            counts.late += i64::from(late != 0);
                        }
                        Folded::Duplicate => counts.duplicate += 1,
                        Folded::StateFull { .. } => unreachable!("the states are small"),
                    }
                }
            }
            clock = clock.max(Micros::of_record_timestamp(record.timestamp_ms));
        }
        ((counts.records > 0).then(|| self.fold.encode(&partial)), counts)
    }
}
