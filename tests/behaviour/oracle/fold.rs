//! The **fold**: one partition's records in offset order into one partial a hunt, then the merge of a hunt's partials.
//!
//! [`recompute`] is the door. Invariant: a partial depends on the records before it in its partition and on nothing else.

use super::cell::{Cell, Rank};
use super::definitions::{Aggregate, Definitions};
use super::event::{Decision, Event, decide};
use super::json::{Json, Text};
use super::rollup::Rollup;
use super::window::Windows;
use super::{DeadLetter, HuntSaid, LeftOut, Log, Partition, PartitionSaid, Record, Said};
use std::collections::{BTreeMap, VecDeque};

pub fn recompute(definitions: &Definitions, log: &Log, left_out: &LeftOut) -> Said {
    let mut said = Said {
        definitions: definitions.clone(),
        partitions: BTreeMap::new(),
        hunts: BTreeMap::new(),
        rollup: BTreeMap::new(),
        late: BTreeMap::new(),
    };
    // By hunt, its partials in (topic, partition) order.
    let mut hunts: BTreeMap<String, Vec<Partial>> = BTreeMap::new();
    let mut rollup = Rollup::new(definitions);
    for (partition, records) in log {
        let mut folded = Folded::default();
        for record in records {
            folded.take(definitions, partition, record, left_out, &mut rollup);
        }
        for (name, late) in &folded.late {
            *said.late.entry(name.clone()).or_default() += late;
        }
        for (hunt, partial) in &mut folded.partials {
            partial.watermark_at_end = partial.watermark(definitions, folded.clock);
            folded.said.hunts.insert(hunt.clone(), view(definitions, std::slice::from_ref(partial)));
            hunts.entry(hunt.clone()).or_default().push(partial.clone());
        }
        folded.said.clock = folded.clock.map(whole);
        said.partitions.insert(partition.clone(), folded.said);
    }
    said.rollup = rollup.values();
    said.hunts = hunts.into_iter().map(|(hunt, partials)| (hunt, view(definitions, &partials))).collect();
    said
}

/// A record where the fold meets it.
struct Moment<'a> {
    definitions: &'a Definitions,
    partition: &'a Partition,
    record: &'a Record,
    /// The partition's clock without the record, and with it.
    clock_before: Option<i128>,
    clock: Option<i128>,
}

/// One partition, so far.
#[derive(Default)]
struct Folded {
    said: PartitionSaid,
    /// Greatest record timestamp, whatever became of the record.
    clock: Option<i128>,
    partials: BTreeMap<String, Partial>,
    late: BTreeMap<String, u64>,
}

#[derive(Clone, Default)]
struct Partial {
    /// Ids of the last applied events that had one, oldest first.
    ids: VecDeque<Vec<Vec<u8>>>,
    states: BTreeMap<String, State>,
    events: i64,
    first_event_at: i128,
    last_event_at: i128,
    hunt_clock: Option<i128>,
    /// The partition's at the last applied event.
    partition_clock: Option<i128>,
    /// The watermark before the last applied event: it never goes below.
    floor: Option<i128>,
    watermark_at_end: Option<i128>,
}

#[derive(Clone)]
enum State {
    Whole(Cell),
    Windowed(Windows),
}

impl State {
    fn new(aggregate: &Aggregate) -> State {
        match aggregate.window {
            None => State::Whole(Cell::new(&aggregate.kind)),
            Some(_) => State::Windowed(Windows::default()),
        }
    }

    fn merge(&mut self, aggregate: &Aggregate, other: &State) {
        match (self, other, &aggregate.window) {
            (State::Whole(cell), State::Whole(other), None) => cell.merge(&aggregate.kind, other),
            (State::Windowed(windows), State::Windowed(other), Some(window)) => windows.merge(&aggregate.kind, window, other),
            _ => panic!("two states of one aggregate are of one shape"),
        }
    }

    fn value(&self, aggregate: &Aggregate) -> Json {
        match (self, &aggregate.window) {
            (State::Whole(cell), None) => cell.value(&aggregate.kind),
            (State::Windowed(windows), Some(window)) => windows.value(&aggregate.kind, window),
            _ => panic!("a state has the shape of its aggregate"),
        }
    }
}

impl Folded {
    fn take(
        &mut self,
        definitions: &Definitions,
        partition: &Partition,
        record: &Record,
        left_out: &LeftOut,
        rollup: &mut Rollup,
    ) {
        let clock_before = self.clock;
        self.clock = self.clock.max(record.recorded_at());
        let moment = Moment { definitions, partition, record, clock_before, clock: self.clock };
        self.said.counts.records += 1;
        match decide(definitions, definitions.places(&partition.0), record) {
            Decision::Ignored => self.said.counts.ignored += 1,
            Decision::DeadLetter { hunt, reason } => self.dead_letter(record, hunt, reason),
            Decision::Event(event) => self.event(&moment, &event, left_out, rollup),
        }
    }

    fn dead_letter(&mut self, record: &Record, hunt_id: Option<String>, reason: &str) {
        self.said.counts.dead_lettered += 1;
        self.said.dead_letters.push(DeadLetter { offset: record.offset, hunt_id, reason: reason.to_owned() });
    }

    /// Steps 7 to 9.
    fn event(&mut self, moment: &Moment, event: &Event, left_out: &LeftOut, rollup: &mut Rollup) {
        let Moment { partition, record, .. } = moment;
        let known = self.partials.get(&event.hunt);
        if event.id.as_ref().is_some_and(|id| known.is_some_and(|partial| partial.ids.contains(id))) {
            self.said.counts.duplicate += 1;
            return;
        }
        if let Some(reason) = left_out.get(&(partition.0.clone(), partition.1, record.offset)) {
            self.dead_letter(record, Some(event.hunt.clone()), reason);
            return;
        }
        self.said.counts.applied += 1;
        let partial = self.partials.entry(event.hunt.clone()).or_default();
        let refused_by = partial.apply(moment, event, rollup);
        self.said.counts.late += i64::from(!refused_by.is_empty());
        for name in refused_by {
            *self.late.entry(name).or_default() += 1;
        }
    }
}

impl Partial {
    /// The aggregates that found it late.
    fn apply(&mut self, moment: &Moment, event: &Event, rollup: &mut Rollup) -> Vec<String> {
        let Moment { definitions, partition, record, .. } = moment;
        let watermark = self.watermark(definitions, moment.clock_before);
        let rank: Rank = (event.time, partition.0.clone(), partition.1, record.offset);
        let mut refused_by = Vec::new();
        for (name, contribution) in &event.contributions {
            let aggregate = &definitions.aggregates[name];
            let state = self.states.entry(name.clone()).or_insert_with(|| State::new(aggregate));
            match (state, &aggregate.window) {
                (State::Windowed(windows), Some(window)) => {
                    let added = windows.add(&aggregate.kind, window, contribution, &rank, watermark);
                    rollup.add(name, contribution, &rank, &added.windows);
                    if added.late {
                        refused_by.push(name.clone());
                    }
                }
                (State::Whole(cell), _) => {
                    cell.add(&aggregate.kind, contribution, &rank);
                    rollup.add(name, contribution, &rank, &[]);
                }
                (State::Windowed(_), None) => panic!("a state has the shape of its aggregate"),
            }
        }
        for (name, state) in &mut self.states {
            if let (State::Windowed(windows), Some(window)) = (state, &definitions.aggregates[name].window) {
                windows.drop_final_sessions(window.keep, watermark);
            }
        }

        if let Some(id) = &event.id {
            self.ids.push_back(id.clone());
            while self.ids.len() > definitions.dedup_last {
                self.ids.pop_front();
            }
        }
        self.first_event_at = if self.events == 0 { event.time } else { self.first_event_at.min(event.time) };
        self.last_event_at = self.last_event_at.max(event.time);
        self.events += 1;
        let seen = record.recorded_at().map_or(event.time, |recorded| event.time.min(recorded));
        self.hunt_clock = self.hunt_clock.max(Some(seen));
        self.partition_clock = moment.clock;
        self.floor = watermark;
        refused_by
    }

    /// With the partition's clock at some moment after the last applied event; `None` before the first.
    fn watermark(&self, definitions: &Definitions, partition_clock: Option<i128>) -> Option<i128> {
        let hunt_clock = self.hunt_clock?;
        let silence = match (definitions.idle, partition_clock, self.partition_clock) {
            (Some(idle), Some(now), Some(then)) => (now - then - idle).max(0),
            _ => 0,
        };
        Some(hunt_clock + silence - definitions.lateness).max(self.floor)
    }
}

/// What readers see of one hunt.
fn view(definitions: &Definitions, partials: &[Partial]) -> HuntSaid {
    let members = definitions.aggregates.iter().map(|(name, aggregate)| {
        let mut merged = State::new(aggregate);
        for state in partials.iter().filter_map(|partial| partial.states.get(name)) {
            merged.merge(aggregate, state);
        }
        (Text::from(name.as_str()), merged.value(aggregate))
    });
    let over = |of: fn(&Partial) -> i128| partials.iter().map(of);
    HuntSaid {
        view: Json::Object(members.collect()),
        events: partials.iter().map(|p| p.events).sum(),
        first_event_at: over(|p| p.first_event_at).min().map(whole).expect("a hunt has a partial"),
        last_event_at: over(|p| p.last_event_at).max().map(whole).expect("a hunt has a partial"),
        watermark: partials.iter().filter_map(|p| p.watermark_at_end).min().map(whole).expect("a partial has applied something"),
        partials: partials.len(),
    }
}

/// Microseconds as the store holds them.
fn whole(micros: i128) -> i64 {
    micros.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

#[cfg(test)]
mod tests;
