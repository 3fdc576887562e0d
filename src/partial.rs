//! A **partial**: what one partition contributed to one hunt, the fold of that partition's records
//! for it. A [`Fold`] is the definitions compiled for folding.
//!
//! A hunt owns its partial and applies events to it; the store keeps its encoding; readers see the
//! merge of a hunt's partials. Invariant: a partial depends on the records it was given, with the
//! partition clock before each, in offset order, and on the definitions: never on batching or a
//! wall clock. Equal partials have equal encodings.

use crate::aggregate::{Occurrence, Rule, State};
use crate::codec::{self, Reader, Writer};
use crate::decode::{Decoded, Plan};
use crate::dedup::Dedup;
use crate::definitions::{Definitions, TimeRules};
use crate::record::Batch;
use crate::store::Readers;
use crate::time::Micros;
use crate::watermark::Clocks;

/// The first byte of every snapshot.
const FORMAT: u8 = 1;

/// The definitions compiled for one topic: how its events fold.
pub struct Fold {
    /// Names as JSON strings, with their rules, in the order of the definitions.
    rules: Vec<(String, Rule)>,
    dedup_last: usize,
    time: TimeRules,
    /// No encoding of a partial is longer: states need no weighing when this is within `max_state`.
    largest: usize,
    max_state: usize,
}

/// What became of an event that reached the fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folded {
    Applied {
        late: bool,
    },
    Duplicate,
    /// The state would pass `max_state`; nothing of the event stays.
    StateFull {
        bytes: usize,
    },
}

#[derive(Clone, Debug, Default)]
pub struct Partial {
    /// Applied events.
    pub events: u64,
    /// `None` before the first applied event.
    pub times: Option<Times>,
    dedup: Dedup,
    states: Vec<State>,
}

/// What the applied events' times come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub first: Micros,
    pub last: Micros,
    pub clocks: Clocks,
}

impl Fold {
    /// `max_state` in bytes. The error names an aggregate whose kind this version does not fold.
    pub fn new(definitions: &Definitions, plan: &Plan, max_state: usize) -> Result<Fold, String> {
        let mut rules = Vec::new();
        for aggregate in &definitions.aggregates {
            let rule = Rule::new(&aggregate.kind, plan)
                .filter(|_| aggregate.window.is_none())
                .ok_or_else(|| format!("aggregate {:?}: this version folds no {} here", aggregate.name, aggregate.kind.name()))?;
            rules.push((serde_json::Value::from(aggregate.name.as_str()).to_string(), rule));
        }
        let dedup_last = definitions.dedup_last as usize;
        let largest = 66 + 10 + 8 * dedup_last + rules.iter().map(|(_, rule)| rule.largest_encoding()).sum::<usize>();
        Ok(Fold { rules, dedup_last, time: definitions.time.clone(), largest, max_state })
    }

    /// A partial before any event.
    pub fn start(&self) -> Partial {
        Partial { states: self.rules.iter().map(|(_, rule)| rule.start()).collect(), ..Partial::default() }
    }

    /// Folds record `index` of the batch, which decode found to be an event. `clock` is the partition clock before the record.
    #[inline]
    pub fn apply(&self, partial: &mut Partial, batch: &Batch, decoded: &Decoded, index: usize, clock: Option<Micros>) -> Folded {
        if self.largest <= self.max_state {
            return self.apply_unweighed(partial, batch, decoded, index, clock);
        }
        let mut next = partial.clone();
        let folded = self.apply_unweighed(&mut next, batch, decoded, index, clock);
        if let Folded::Applied { .. } = folded {
            let bytes = self.encode(&next).len();
            if bytes > self.max_state {
                return Folded::StateFull { bytes };
            }
            *partial = next;
        }
        folded
    }

    #[inline]
    fn apply_unweighed(
        &self,
        partial: &mut Partial,
        batch: &Batch,
        decoded: &Decoded,
        index: usize,
        clock: Option<Micros>,
    ) -> Folded {
        let event = &decoded.events[index];
        let remembers = event.id != 0 && self.dedup_last > 0;
        if remembers && partial.dedup.contains(event.id) {
            return Folded::Duplicate;
        }
        let occurrence = Occurrence { time: event.time, fields: decoded.fields(index), batch, decoded };
        let mut matches = event.matches;
        while matches != 0 {
            let aggregate = matches.trailing_zeros() as usize;
            matches &= matches - 1;
            self.rules[aggregate].1.apply(&mut partial.states[aggregate], &occurrence);
        }
        if remembers {
            partial.dedup.remember(event.id, self.dedup_last);
        }
        let timestamp = Micros::of_record_timestamp(batch.records[index].timestamp_ms);
        let old = partial.times;
        partial.times = Some(Times {
            first: old.map_or(event.time, |t| t.first.min(event.time)),
            last: old.map_or(event.time, |t| t.last.max(event.time)),
            clocks: Clocks::after(old.map(|t| t.clocks), event.time, timestamp, clock, &self.time),
        });
        partial.events += 1;
        Folded::Applied { late: false }
    }

    /// Adds a later partial, in (topic, partition) order. What readers see of several partials is the merge of all of them; the
    /// dedup memory and the clocks stay with each partial, so the result is for reading only.
    pub fn merge(&self, partial: &mut Partial, later: &Partial) {
        partial.events += later.events;
        partial.times = match (partial.times, later.times) {
            (Some(a), Some(b)) => Some(Times { first: a.first.min(b.first), last: a.last.max(b.last), clocks: a.clocks }),
            (a, b) => a.or(b),
        };
        for ((_, rule), (state, later)) in self.rules.iter().zip(partial.states.iter_mut().zip(&later.states)) {
            rule.merge(state, later);
        }
    }

    /// The snapshot.
    pub fn encode(&self, partial: &Partial) -> Vec<u8> {
        let mut w = Writer::with_capacity(128);
        w.byte(FORMAT);
        w.unsigned(partial.events);
        if let Some(times) = &partial.times {
            w.signed(times.first.0);
            w.signed(times.last.0);
            times.clocks.encode(&mut w);
        }
        partial.dedup.encode(&mut w);
        w.unsigned(partial.states.len() as u64);
        for ((_, rule), state) in self.rules.iter().zip(&partial.states) {
            rule.encode(state, &mut w);
        }
        w.finish()
    }

    /// Reads a snapshot of these definitions back. Malformed bytes are an error, never a panic.
    pub fn decode(&self, bytes: &[u8]) -> codec::Result<Partial> {
        let mut r = Reader::new(bytes);
        if r.byte("the format of a snapshot")? != FORMAT {
            return Err(codec::Error { at: 0, expected: "snapshot format 1" });
        }
        let events = r.tally("the number of events")?;
        let times = if events == 0 {
            None
        } else {
            let first = Micros(r.signed("the first event time")?);
            let last = Micros(r.signed("the last event time")?);
            Some(Times { first, last, clocks: Clocks::decode(&mut r)? })
        };
        let dedup = Dedup::decode(&mut r, self.dedup_last)?;
        if r.unsigned("the number of aggregates")? != self.rules.len() as u64 {
            return r.expected("as many aggregates as the definitions have");
        }
        let states = self.rules.iter().map(|(_, rule)| rule.decode(&mut r)).collect::<codec::Result<Vec<_>>>()?;
        r.end()?;
        Ok(Partial { events, times, dedup, states })
    }

    /// The view: a JSON object, aggregate → value.
    pub fn view(&self, partial: &Partial) -> String {
        let mut view = String::with_capacity(32 * self.rules.len() + 2);
        view.push('{');
        for (i, ((name, rule), state)) in self.rules.iter().zip(&partial.states).enumerate() {
            if i > 0 {
                view.push(',');
            }
            view.push_str(name);
            view.push(':');
            rule.write_json(state, &mut view);
        }
        view.push('}');
        view
    }

    /// The readers' columns of one partial.
    pub fn readers(&self, partial: &Partial) -> Readers {
        let clocks = partial.times.map(|t| t.clocks);
        Readers {
            view: self.view(partial),
            events: partial.events as i64,
            first_event_at: partial.times.map(|t| t.first),
            last_event_at: partial.times.map(|t| t.last),
            hunt_clock: clocks.map(|c| c.hunt),
            partition_clock: clocks.and_then(|c| c.partition),
            watermark_floor: clocks.and_then(|c| c.floor),
        }
    }

    /// The watermark of a snapshot's partial when the partition clock stands at `clock`; `None` before its first applied event.
    pub fn watermark(&self, snapshot: &[u8], clock: Option<Micros>) -> Option<Micros> {
        let partial = self.decode(snapshot).ok()?;
        Some(partial.times?.clocks.watermark(clock, &self.time))
    }

    /// The readers' columns of several partials, given in (topic, partition) order. The clocks are the first partial's: a merged
    /// watermark is made of every partial's own.
    pub fn merged_readers<'b>(&self, snapshots: impl IntoIterator<Item = &'b [u8]>) -> codec::Result<Readers> {
        let mut merged = self.start();
        for bytes in snapshots {
            self.merge(&mut merged, &self.decode(bytes)?);
        }
        Ok(self.readers(&merged))
    }
}

mod parts;
pub use parts::Part;

#[cfg(test)]
mod laws;
