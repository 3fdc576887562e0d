//! A daemon reduced to its dealings with the source: it claims what is assigned, keeps what it gets and checks, always,
//! that the batches of an assignment follow one another without hole or overlap.

use huntline::position::{Epoch, Position};
use huntline::record::{Batch, PartitionId};
use huntline::source::kafka::{Settings, identity, start};
use huntline::source::{Command, Event};
use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What the members of a group share: positions, epochs, and the numbers that were read.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<HashMap<PartitionId, Line>>>);

#[derive(Default)]
struct Line {
    epoch: i64,
    position: i64,
    numbers: Vec<u64>,
}

impl Ledger {
    /// Where a partition begins at its first claim (else 0).
    pub fn begin(&self, id: &PartitionId, position: Position) {
        self.0.lock().unwrap().entry(id.clone()).or_default().position = position.0;
    }

    pub fn numbers(&self, id: &PartitionId) -> Vec<u64> {
        self.0.lock().unwrap().get(id).map(|l| l.numbers.clone()).unwrap_or_default()
    }

    pub fn total(&self) -> usize {
        self.0.lock().unwrap().values().map(|l| l.numbers.len()).sum()
    }

    pub fn position(&self, id: &PartitionId) -> i64 {
        self.0.lock().unwrap().get(id).map_or(0, |l| l.position)
    }

    fn claim(&self, id: &PartitionId) -> (Epoch, Position) {
        let mut lines = self.0.lock().unwrap();
        let line = lines.entry(id.clone()).or_default();
        line.epoch += 1;
        (Epoch(line.epoch), Position(line.position))
    }

    /// Commits a batch, unless it is fenced.
    fn commit(&self, batch: &Batch) {
        let mut lines = self.0.lock().unwrap();
        let line = lines.entry(batch.partition.clone()).or_default();
        if line.epoch != batch.epoch.0 {
            return;
        }
        for record in &batch.records {
            assert!(record.offset.0 >= line.position, "{}: {} below {}", batch.partition, record.offset, line.position);
            line.position = record.offset.0 + 1;
            let value = String::from_utf8_lossy(batch.value(record).unwrap_or_default()).into_owned();
            line.numbers.extend(value.split(' ').next().and_then(|n| n.parse::<u64>().ok()));
        }
        assert!(batch.next.0 >= line.position);
        line.position = batch.next.0;
    }
}

pub struct Member {
    pub commands: Sender<Command>,
    events: UnboundedReceiver<Event>,
    runtime: tokio::runtime::Runtime,
    pub ledger: Ledger,
    /// The open claims, with the position each has come to.
    pub claims: BTreeMap<PartitionId, (Epoch, Position)>,
    /// Batches that are kept, and so in flight.
    pub kept: Option<Vec<Batch>>,
    /// Everything but batches and ends, as text.
    pub said: Vec<String>,
    pub ends: HashMap<PartitionId, Position>,
    pub revocations: usize,
    pub records: usize,
    pub batches: usize,
    pub stopped: bool,
}

impl Member {
    pub fn start(settings: &Settings, ledger: &Ledger) -> Self {
        let log = identity(settings).expect("an identity").log;
        let (sender, events) = unbounded_channel();
        let (commands, _thread) = start(settings.clone(), log, sender);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Self {
            commands,
            events,
            runtime,
            ledger: ledger.clone(),
            claims: BTreeMap::new(),
            kept: None,
            said: Vec::new(),
            ends: HashMap::new(),
            revocations: 0,
            records: 0,
            batches: 0,
            stopped: false,
        }
    }

    /// Takes events until `done`, for at most a minute.
    pub fn until(&mut self, what: &str, done: impl FnMut(&Self) -> bool) {
        assert!(self.within(Duration::from_secs(60), done), "{what} did not happen; said: {:#?}", self.said);
    }

    /// Takes events until `done` or the time is over; whether it is done.
    pub fn within(&mut self, time: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let deadline = Instant::now() + time;
        while !done(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let events = &mut self.events;
            let event =
                self.runtime.block_on(async { tokio::time::timeout(left.min(Duration::from_millis(20)), events.recv()).await });
            match event {
                Ok(Some(event)) => self.take(event),
                Ok(None) => panic!("the source went away; said: {:#?}", self.said),
                Err(_) => {}
            }
        }
        true
    }

    pub fn claim(&mut self, partition: PartitionId) {
        let (epoch, position) = self.ledger.claim(&partition);
        self.claims.insert(partition.clone(), (epoch, position));
        self.commands.send(Command::Assign { partition, position, epoch }).expect("the source listens");
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Assigned(partitions) => {
                self.said.push(format!("assigned {}", names(&partitions)));
                for partition in partitions {
                    self.claim(partition);
                }
            }
            Event::Revoked { partitions, lost, done } => {
                self.said.push(format!("revoked {} lost={lost}", names(&partitions)));
                self.revocations += 1;
                for partition in partitions {
                    self.claims.remove(&partition);
                }
                let _ = done.send(());
            }
            Event::Batch(batch) => {
                let Some((epoch, position)) = self.claims.get_mut(&batch.partition) else {
                    panic!("a batch of {}, which is not ours", batch.partition);
                };
                // A batch under way while the claim was renewed.
                if *epoch != batch.epoch {
                    return;
                }
                for record in &batch.records {
                    assert!(record.offset.0 >= position.0, "overlap in {}: {} below {position}", batch.partition, record.offset);
                    *position = record.offset.next();
                }
                assert!(batch.next >= *position, "{} below {position}", batch.next);
                *position = batch.next;
                self.records += batch.records.len();
                self.batches += 1;
                self.ledger.commit(&batch);
                if let Some(kept) = &mut self.kept {
                    kept.push(batch);
                }
            }
            Event::End { partition, end } => drop(self.ends.insert(partition, end)),
            Event::Gap { partition, from, to, .. } => {
                self.said.push(format!("gap {partition} {from}..{to}"));
                self.claims.get_mut(&partition).expect("a claim").1 = to;
            }
            Event::Stopped => self.stopped = true,
            other => self.said.push(format!("{other:?}")),
        }
    }

    pub fn stop(mut self) {
        self.commands.send(Command::Stop).expect("the source listens");
        self.until("the stop", |m| m.stopped);
    }
}

fn names(partitions: &[PartitionId]) -> String {
    let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    names.join(" ")
}
