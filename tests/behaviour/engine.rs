//! The **engine** in this process: the daemon's own way from records to views, without Kafka, actors or a store. A test hands it a
//! [`Case`] and is told the first thing in which engine and oracle differ.
//!
//! Records come in batches of any size, and now and then a hunt goes through its snapshot and the partition's rollup through its
//! bytes, as by a restart. Invariant: what is seen here is what a daemon that saw these records would store.

use crate::oracle::{self, Counts, DeadLetter, LeftOut, Log, Partition, Record, Said, recompute};
use fastrand::Rng;
use huntline::config;
use huntline::decode::{Decoded, Plan, Verdict};
use huntline::definitions::Definitions;
use huntline::partial::{Fold, Folded, Partial};
use huntline::position::{Epoch, Offset, Position};
use huntline::record::{Batch, PartitionId};
use huntline::rollup::Delta;
use huntline::time::Micros;
use huntline::window::Finals;
use std::collections::BTreeMap;

/// So many records are gone through one by one.
const FEW: usize = 200;

/// What is folded, and how it comes.
pub struct Case {
    /// How a failure names it, so that it can be repeated.
    pub name: String,
    pub toml: String,
    /// In the order in which they were sent.
    pub stream: Vec<(Partition, Record)>,
    /// Records at which the fold is to fail.
    pub failing: LeftOut,
    pub max_state: usize,
    /// A hunt goes through its snapshot at one of so many events; 0: at none.
    pub saved_every: u8,
    /// Decides how records are batched and when snapshots are taken.
    pub seed: u64,
}

impl Case {
    pub fn new(name: String, toml: String, stream: Vec<(Partition, Record)>) -> Case {
        Case { name, toml, stream, failing: LeftOut::new(), max_state: 8 << 20, saved_every: 8, seed: 0 }
    }

    /// Folds it both ways. Panics at a difference, with the record after which it first shows.
    pub fn assert_agreement(&self) -> (Engine, Said) {
        let definitions = oracle::Definitions::from_toml(&self.toml);
        match self.folded(&definitions) {
            Ok(folded) => folded,
            Err(difference) => panic!("{difference}"),
        }
    }

    /// With the oracle's definitions given apart, so that a test can show that a difference is found.
    pub fn folded(&self, definitions: &oracle::Definitions) -> Result<(Engine, Said), String> {
        let engine = Engine::of(self);
        let said = recompute(definitions, &logged(&self.stream), &engine.left_out);
        match engine.difference(&said) {
            None => Ok((engine, said)),
            Some(difference) => {
                let Case { name, toml, .. } = self;
                Err(format!("{name}: {difference}\n{}\nwith the definitions\n{toml}", self.first_difference(definitions)))
            }
        }
    }

    /// The first record after which engine and oracle differ. Of many records it is sought by halves: a difference is taken to last.
    pub fn first_difference(&self, definitions: &oracle::Definitions) -> String {
        let differs = |count: usize| {
            let engine = Engine::of(&Case {
                name: String::new(),
                toml: self.toml.clone(),
                stream: self.stream[..count].to_vec(),
                failing: self.failing.clone(),
                ..*self
            });
            engine.difference(&recompute(definitions, &logged(&self.stream[..count]), &engine.left_out))
        };
        let (mut same, mut other) = (0, self.stream.len());
        let Some(mut difference) = differs(other) else {
            return "By these records they do not differ.".to_owned();
        };
        while other - same > 1 {
            let count = if other <= FEW { same + 1 } else { same + (other - same) / 2 };
            match differs(count) {
                Some(found) => (other, difference) = (count, found),
                None => same = count,
            }
        }
        let (partition, record) = &self.stream[same];
        format!(
            "They first differ after record {same} of the stream, {}/{} at {}: {difference}\n  timestamp {}, key {}\n  value {}\n  headers {}",
            partition.0,
            partition.1,
            record.offset,
            record.timestamp_ms,
            shown(record.key.as_deref()),
            shown(record.value.as_deref()),
            record
                .headers
                .iter()
                .map(|(name, value)| format!("{}: {}; ", shown(Some(name)), shown(value.as_deref())))
                .collect::<String>(),
        )
    }

    /// Of a log, what concerns this hunt: records that may be of it, and tombstones in place of the others, one where the partition's
    /// clock would move.
    pub fn of_hunt(self, log: &Log, hunt: &str) -> Case {
        let names = |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| String::from_utf8_lossy(bytes).contains(hunt));
        let mut stream = Vec::new();
        for (partition, records) in log {
            let mut clock: Option<&Record> = None;
            for record in records {
                if names(record.key.as_deref()) || names(record.value.as_deref()) {
                    let before =
                        clock.take().map(|record| Record { key: None, value: None, headers: Vec::new(), ..record.clone() });
                    stream.extend(before.map(|record| (partition.clone(), record)));
                    stream.push((partition.clone(), record.clone()));
                } else if clock.is_none_or(|clock| clock.timestamp_ms <= record.timestamp_ms) {
                    clock = Some(record);
                }
            }
        }
        Case { stream, ..self }
    }
}

fn shown(bytes: Option<&[u8]>) -> String {
    bytes.map_or("null".to_owned(), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.chars().take(2000).collect()
    })
}

fn logged(stream: &[(Partition, Record)]) -> Log {
    let mut log = Log::new();
    for (partition, record) in stream {
        log.entry(partition.clone()).or_default().push(record.clone());
    }
    log
}

pub struct Engine {
    definitions: Definitions,
    max_state: usize,
    saved_every: u8,
    shards: BTreeMap<Partition, Shard>,
    /// By aggregate, applied events that one of its windows refused.
    late: BTreeMap<String, u64>,
    /// Records that are to fail, and those that found a state full.
    pub left_out: LeftOut,
    rng: Rng,
}

/// One partition.
struct Shard {
    id: PartitionId,
    plan: Plan,
    fold: Fold,
    clock: Option<Micros>,
    counts: Counts,
    letters: Vec<DeadLetter>,
    seats: BTreeMap<String, Seat>,
    /// What its hunts handed over.
    rollup: Delta,
}

/// One hunt's partial, and what it has not handed over to the rollup yet.
#[derive(Clone)]
struct Seat {
    partial: Partial,
    delta: Delta,
}

impl Engine {
    /// Before any record.
    pub fn new(case: &Case) -> Engine {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("huntline.toml");
        std::fs::write(&file, &case.toml).expect("write the configuration");
        let settings =
            config::load(&[file]).unwrap_or_else(|problems| panic!("{}: {problems}\n{}", case.name, case.toml)).settings;
        Engine {
            definitions: settings.definitions,
            max_state: case.max_state,
            saved_every: case.saved_every,
            shards: BTreeMap::new(),
            late: BTreeMap::new(),
            left_out: case.failing.clone(),
            rng: Rng::with_seed(case.seed),
        }
    }

    /// After all of them.
    pub fn of(case: &Case) -> Engine {
        let mut engine = Engine::new(case);
        let mut partitions: BTreeMap<&Partition, Vec<&Record>> = BTreeMap::new();
        for (partition, record) in &case.stream {
            partitions.entry(partition).or_default().push(record);
        }
        for (partition, records) in partitions {
            let mut rest = &records[..];
            while !rest.is_empty() {
                let (batch, later) = rest.split_at(engine.rng.usize(1..60).min(rest.len()));
                engine.take(partition, batch);
                rest = later;
            }
        }
        engine
    }

    /// One batch.
    pub fn take(&mut self, partition: &Partition, records: &[&Record]) {
        let Engine { definitions, max_state, shards, .. } = self;
        let shard = shards.entry(partition.clone()).or_insert_with(|| Shard::new(definitions, partition, *max_state));
        let mut batch = Batch::new(shard.id.clone(), Epoch(1), Position(0));
        for record in records {
            let headers = record.headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref()));
            batch.push(Offset(record.offset), record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers);
        }
        let mut decoded = Decoded::default();
        shard.plan.decode(&batch, &mut decoded);
        for index in 0..records.len() {
            self.step(partition, &batch, &decoded, index);
        }
    }

    fn step(&mut self, partition: &Partition, batch: &Batch, decoded: &Decoded, index: usize) {
        let Engine { definitions, shards, late, left_out, rng, max_state, saved_every } = self;
        let shard = shards.get_mut(partition).expect("the batch's partition");
        let (event, record) = (&decoded.events[index], &batch.records[index]);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("a hunt is UTF-8");
        let hunt = (!event.hunt.is_null()).then(|| text(decoded.text(batch, event.hunt)));
        shard.counts.records += 1;
        let reason = match (event.verdict, &hunt) {
            (Verdict::Ignored, _) => {
                shard.counts.ignored += 1;
                None
            }
            (Verdict::Rejected(reason), _) => {
                let detail = shard.plan.explain(batch, index);
                assert!(!detail.is_empty(), "{reason} at {} of {partition:?} has no detail", record.offset);
                Some(reason.as_str().to_owned())
            }
            (Verdict::Event, None) => panic!("an event without a hunt at {} of {partition:?}", record.offset),
            (Verdict::Event, Some(hunt)) => {
                let place = (partition.0.clone(), partition.1, record.offset.0);
                let mut seat = shard.seats.remove(hunt).unwrap_or_else(|| Seat::new(&shard.fold));
                let failing = left_out.get(&place).cloned();
                let before = failing.is_some().then(|| seat.clone());
                let folded = shard.fold.apply(&mut seat.partial, batch, decoded, index, shard.clock, &mut seat.delta);
                let reason = match (folded, failing) {
                    (Folded::Duplicate, _) => {
                        shard.counts.duplicate += 1;
                        None
                    }
                    (_, Some(reason)) => {
                        seat = before.expect("kept for this");
                        Some(reason)
                    }
                    (Folded::Applied { late: bits }, None) => {
                        shard.counts.applied += 1;
                        shard.counts.late += i64::from(bits != 0);
                        for (_, aggregate) in definitions.aggregates.iter().enumerate().filter(|(bit, _)| bits & 1 << bit != 0) {
                            *late.entry(aggregate.name.clone()).or_default() += 1;
                        }
                        None
                    }
                    (Folded::StateFull { bytes }, None) => {
                        assert!(bytes > *max_state, "{bytes} bytes are within {max_state}");
                        left_out.insert(place, "state_full".to_owned());
                        Some("state_full".to_owned())
                    }
                };
                let saves = *saved_every > 0 && rng.u8(..*saved_every) == 0;
                let seat = if saves { shard.saved(seat, *max_state) } else { seat };
                if seat.partial.events > 0 {
                    shard.seats.insert(hunt.clone(), seat);
                }
                reason
            }
        };
        if let Some(reason) = reason {
            shard.counts.dead_lettered += 1;
            shard.letters.push(DeadLetter { offset: record.offset.0, hunt_id: hunt, reason });
        }
        shard.clock = shard.clock.max(Micros::of_record_timestamp(record.timestamp_ms));
    }

    /// What each hunt's readers see, and the rollup; by hunt and by aggregate, as JSON.
    pub fn views(&self) -> BTreeMap<String, String> {
        let mut merged: BTreeMap<&str, Partial> = BTreeMap::new();
        for shard in self.shards.values() {
            for (hunt, seat) in &shard.seats {
                let partial = merged.entry(hunt).or_insert_with(|| shard.fold.start());
                shard.fold.merge(partial, &seat.partial);
            }
        }
        let fold = self.shards.values().next().map(|shard| &shard.fold);
        merged.iter().filter_map(|(hunt, partial)| Some(((*hunt).to_owned(), fold?.view(partial)))).collect()
    }

    pub fn rollup(&self) -> BTreeMap<String, String> {
        let Some(first) = self.shards.values().next() else { return BTreeMap::new() };
        let whole: Vec<Delta> = self
            .shards
            .values()
            .map(|shard| {
                let mut whole = shard.rollup.clone();
                shard.seats.values().for_each(|seat| shard.fold.rollup().merge(&mut whole, &seat.delta));
                whole
            })
            .collect();
        first.fold.rollup().values(&whole).into_iter().collect()
    }

    /// The first thing that the oracle says otherwise.
    pub fn difference(&self, said: &Said) -> Option<String> {
        for (partition, shard) in &self.shards {
            let Some(expected) = said.partitions.get(partition) else { return Some(format!("{partition:?} has no records")) };
            for (found, expected) in shard.letters.iter().zip(&expected.dead_letters) {
                if found != expected {
                    return Some(format!("{partition:?}: expected the dead letter {expected:?}, found {found:?}"));
                }
            }
            let clock = shard.clock.map(|clock| clock.0);
            if (shard.counts, clock) != (expected.counts, expected.clock) {
                let (counts, expected_clock) = (&expected.counts, expected.clock);
                return Some(format!(
                    "{partition:?}: expected {counts:?}, clock {expected_clock:?}, found {:?}, clock {clock:?}",
                    shard.counts
                ));
            }
        }
        said.compare(&self.views())
            .or_else(|| self.rows_difference(said))
            .or_else(|| {
                let late: BTreeMap<_, _> =
                    said.late.iter().filter(|(_, n)| **n > 0).map(|(name, n)| (name.clone(), *n)).collect();
                if late == self.late { None } else { Some(format!("late: expected {late:?}, found {:?}", self.late)) }
            })
            .or_else(|| said.compare_rollup(&self.rollup()))
    }

    /// What stands beside the view: events, times, the watermark, and which windows it makes final.
    fn rows_difference(&self, said: &Said) -> Option<String> {
        for (hunt, expected) in &said.hunts {
            let mine = || self.shards.values().filter_map(|shard| Some((shard, &shard.seats.get(hunt)?.partial)));
            let (first, _) = mine().next()?;
            let fold = &first.fold;
            let mut merged = fold.start();
            mine().for_each(|(_, partial)| fold.merge(&mut merged, partial));
            let watermark =
                mine().filter_map(|(shard, partial)| shard.fold.watermark(&shard.fold.encode(partial), shard.clock)).min();
            let readers = fold.readers(&merged);
            let micros = |at: Option<Micros>| at.map(|at| at.0);
            let found = (readers.events, micros(readers.first_event_at), micros(readers.last_event_at), micros(watermark));
            let wanted = (expected.events, Some(expected.first_event_at), Some(expected.last_event_at), Some(expected.watermark));
            if found != wanted {
                return Some(format!("hunt {hunt:?}: events, first, last, watermark: expected {wanted:?}, found {found:?}"));
            }
            let difference = said.compare_view(hunt, &fold.view_with(&merged, Some(Finals(watermark))));
            if difference.is_some() {
                return difference;
            }
        }
        None
    }
}

impl Shard {
    fn new(definitions: &Definitions, (topic, partition): &Partition, max_state: usize) -> Shard {
        let plan = Plan::new(definitions, topic);
        let fold = Fold::new(definitions, &plan, max_state);
        let id = PartitionId::new(topic, *partition);
        let (counts, letters, seats) = (Counts::default(), Vec::new(), BTreeMap::new());
        Shard { id, plan, fold, clock: None, counts, letters, seats, rollup: Delta::default() }
    }

    /// As a checkpoint leaves it and the next owner finds it: the partial from its snapshot, its delta in the partition's rollup.
    fn saved(&mut self, seat: Seat, max_state: usize) -> Seat {
        let fold = &self.fold;
        let snapshot = fold.encode(&seat.partial);
        assert!(snapshot.len() <= max_state, "a state of {} bytes passes {max_state}", snapshot.len());
        let partial = fold.decode(&snapshot).expect("its own snapshot");
        assert_eq!(fold.encode(&partial), snapshot, "a snapshot encodes to itself");
        fold.rollup().merge(&mut self.rollup, &seat.delta);
        let rollup = fold.rollup().encode(&self.rollup);
        self.rollup = fold.rollup().decode(&rollup).expect("its own rollup");
        assert_eq!(fold.rollup().encode(&self.rollup), rollup, "a rollup encodes to itself");
        Seat { partial, delta: Delta::default() }
    }
}

impl Seat {
    fn new(fold: &Fold) -> Seat {
        Seat { partial: fold.start(), delta: Delta::default() }
    }
}
