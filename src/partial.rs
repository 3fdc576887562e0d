//! A **partial**: what one partition contributed to one hunt, the fold of that partition's records
//! for it. A [`Fold`] is the definitions compiled for folding.
//!
//! A hunt owns its partial and applies events to it; the store keeps its encoding; readers see the
//! merge of a hunt's partials. Invariant: a partial depends on the records it was given, with the
//! partition clock before each, in offset order, and on the definitions: never on batching or a
//! wall clock. Equal partials have equal encodings.

use crate::aggregate::{Floats, Occurrence, Of, Rule};
use crate::codec::{self, Reader, Writer};
use crate::decode::{Decoded, Plan};
use crate::dedup::Dedup;
use crate::definitions::{Definitions, TimeRules};
use crate::record::Batch;
use crate::rollup::{Delta, Rollup};
use crate::store::Readers;
use crate::time::Micros;
use crate::watermark::Clocks;
use crate::window::{Finals, Keeper, Kept};

/// The first byte of every snapshot. Snapshots of other formats do not read: what a kind keeps in them cannot always be made of what
/// it kept before, and the log has all of it.
pub const FORMAT: u8 = 2;

/// Events, times, clocks and the number of aggregates take at most this many bytes.
const HEAD: usize = 76;

/// The definitions compiled for one topic: how its events fold.
pub struct Fold {
    /// In the order of the definitions.
    aggregates: Vec<Aggregate>,
    /// Bit `i`: aggregate `i` has windows. Bit `i`: its encoding has no largest size.
    windowed: u128,
    unbounded: u128,
    /// Aggregates whose windows are sessions.
    sessions: Vec<usize>,
    rollup: Rollup,
    dedup_last: usize,
    time: TimeRules,
    /// No encoding is longer, but for the aggregates of `unbounded`; those take this much before any event.
    bounded: usize,
    empty: usize,
    max_state: usize,
}

struct Aggregate {
    name: String,
    /// As a JSON string.
    quoted: String,
    keeper: Keeper,
}

/// What became of an event that reached the fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folded {
    /// Bit `i` of `late`: at least one window of aggregate `i` refused it.
    Applied {
        late: u128,
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
    kept: Vec<Kept>,
    /// The unbounded aggregates encode to no more than this: what they took when they were last measured, and what could have come since.
    weight: usize,
}

/// What the applied events' times come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub first: Micros,
    pub last: Micros,
    pub clocks: Clocks,
}

impl Fold {
    /// `max_state` in bytes.
    pub fn new(definitions: &Definitions, plan: &Plan, max_state: usize) -> Fold {
        let mut fold = Fold {
            aggregates: Vec::with_capacity(definitions.aggregates.len()),
            windowed: 0,
            unbounded: 0,
            sessions: Vec::new(),
            rollup: Rollup::new(definitions, plan),
            dedup_last: definitions.dedup_last as usize,
            time: definitions.time.clone(),
            bounded: HEAD + 10 + 8 * definitions.dedup_last as usize,
            empty: 0,
            max_state,
        };
        for (i, aggregate) in definitions.aggregates.iter().enumerate() {
            let keeper = Keeper::new(Rule::new(&aggregate.kind, plan, Floats::InOrder), aggregate.window.as_ref());
            if let Keeper::Windowed(windowed) = &keeper {
                fold.windowed |= 1 << i;
                if windowed.has_sessions() {
                    fold.sessions.push(i);
                    // Dropping one may name an end in place of a difference.
                    fold.bounded += 24;
                }
            }
            match keeper.largest_encoding() {
                Some(bytes) => fold.bounded += bytes,
                None => fold.unbounded |= 1 << i,
            }
            let quoted = serde_json::Value::from(aggregate.name.as_str()).to_string();
            fold.aggregates.push(Aggregate { name: aggregate.name.clone(), quoted, keeper });
        }
        fold.empty = fold.weigh(&fold.start());
        fold
    }

    /// The aggregates' names, in the order of the definitions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.aggregates.iter().map(|aggregate| aggregate.name.as_str())
    }

    /// How many ids a partial remembers.
    pub fn dedup_last(&self) -> usize {
        self.dedup_last
    }

    pub fn rollup(&self) -> &Rollup {
        &self.rollup
    }

    /// A partial before any event.
    pub fn start(&self) -> Partial {
        let kept = self.aggregates.iter().map(|a| a.keeper.start()).collect();
        Partial { kept, weight: self.empty, ..Partial::default() }
    }

    /// Folds record `index` of the batch, which decode found to be an event. `clock` is the partition clock before the record; what
    /// the event adds to rolled-up aggregates goes to `delta`.
    #[inline]
    pub fn apply(
        &self,
        partial: &mut Partial,
        batch: &Batch,
        decoded: &Decoded,
        index: usize,
        clock: Option<Micros>,
        delta: &mut Delta,
    ) -> Folded {
        let event = &decoded.events[index];
        if event.id != 0 && self.dedup_last > 0 && partial.dedup.contains(event.id) {
            return Folded::Duplicate;
        }
        let record = &batch.records[index];
        let occurrence = Occurrence {
            time: event.time,
            offset: record.offset,
            event_type: event.event_type,
            fields: decoded.fields(index),
            batch,
            decoded,
        };
        let event = Applied { occurrence, id: event.id, matches: event.matches, timestamp: record.timestamp_ms, clock };
        if self.fits(partial, &event) {
            return Folded::Applied { late: self.add(partial, &event, delta) };
        }
        let (mut next, mut next_delta) = (partial.clone(), delta.clone());
        let late = self.add(&mut next, &event, &mut next_delta);
        let bytes = self.encode(&next).len();
        if bytes > self.max_state {
            return Folded::StateFull { bytes };
        }
        (*partial, *delta) = (next, next_delta);
        Folded::Applied { late }
    }

    /// Whether the state can surely take the event: `max_state` is far. Measures the state only when what could have come since the
    /// last time might have brought it near.
    #[inline]
    fn fits(&self, partial: &mut Partial, event: &Applied) -> bool {
        let growing = event.matches & self.unbounded;
        if growing == 0 {
            return self.bounded.saturating_add(partial.weight) <= self.max_state;
        }
        let growth: usize = bits(growing).map(|i| self.aggregates[i].keeper.growth(&partial.kept[i], &event.occurrence)).sum();
        partial.weight = partial.weight.saturating_add(growth);
        if self.bounded.saturating_add(partial.weight) <= self.max_state {
            return true;
        }
        partial.weight = self.weigh(partial) + growth;
        self.bounded.saturating_add(partial.weight) <= self.max_state
    }

    /// The bytes of the unbounded aggregates.
    fn weigh(&self, partial: &Partial) -> usize {
        let mut w = Writer::default();
        bits(self.unbounded).for_each(|i| self.aggregates[i].keeper.encode(&partial.kept[i], &mut w));
        w.finish().len()
    }

    #[inline]
    fn add(&self, partial: &mut Partial, event: &Applied, delta: &mut Delta) -> u128 {
        let old = partial.times;
        let watermark = old.map(|times| times.clocks.watermark(event.clock, &self.time));
        let mut late = 0;
        for i in bits(event.matches) {
            match (&self.aggregates[i].keeper, &mut partial.kept[i]) {
                (Keeper::Whole(rule), Kept::Whole(state)) => {
                    rule.apply(state, &event.occurrence);
                    if self.rollup.has(i) {
                        self.rollup.add(delta, i, &event.occurrence);
                    }
                }
                (Keeper::Windowed(windowed), Kept::Windowed(windows)) if windowed.rule.takes(&event.occurrence) => {
                    let windows = windows.get_or_insert_with(|| Box::new(windowed.start()));
                    let rolled_up = self.rollup.has(i);
                    let refused = windowed.apply(windows, &event.occurrence, watermark, |start, occurrence| {
                        if rolled_up {
                            self.rollup.add_at(delta, i, start, occurrence);
                        }
                    });
                    late |= u128::from(refused) << i;
                }
                _ => {}
            }
        }
        for &i in &self.sessions {
            if let (Keeper::Windowed(windowed), Kept::Windowed(Some(windows))) =
                (&self.aggregates[i].keeper, &mut partial.kept[i])
            {
                windowed.drop_final(windows, watermark);
            }
        }
        if event.id != 0 && self.dedup_last > 0 {
            partial.dedup.remember(event.id, self.dedup_last);
        }
        let time = event.occurrence.time;
        let timestamp = Micros::of_record_timestamp(event.timestamp);
        partial.times = Some(Times {
            first: old.map_or(time, |t| t.first.min(time)),
            last: old.map_or(time, |t| t.last.max(time)),
            clocks: Clocks::after(old.map(|t| t.clocks), time, timestamp, event.clock.max(timestamp), watermark),
        });
        partial.events += 1;
        late
    }

    /// Adds a later partial, in (topic, partition) order. What readers see of several partials is the merge of all of them; the
    /// dedup memory and the clocks stay with each partial, so the result is for reading only.
    pub fn merge(&self, partial: &mut Partial, later: &Partial) {
        partial.events += later.events;
        partial.times = match (partial.times, later.times) {
            (Some(a), Some(b)) => Some(Times { first: a.first.min(b.first), last: a.last.max(b.last), clocks: a.clocks }),
            (a, b) => a.or(b),
        };
        for (aggregate, (kept, later)) in self.aggregates.iter().zip(partial.kept.iter_mut().zip(&later.kept)) {
            aggregate.keeper.merge(kept, later, Of::LaterPartition);
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
        w.unsigned(partial.kept.len() as u64);
        for (aggregate, kept) in self.aggregates.iter().zip(&partial.kept) {
            aggregate.keeper.encode(kept, &mut w);
        }
        w.finish()
    }

    /// Reads a snapshot of these definitions back. Malformed bytes are an error, never a panic.
    pub fn decode(&self, bytes: &[u8]) -> codec::Result<Partial> {
        let mut r = Reader::new(bytes);
        if r.byte("the format of a snapshot")? != FORMAT {
            return Err(codec::Error { at: 0, expected: "snapshot format 2" });
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
        if r.unsigned("the number of aggregates")? != self.aggregates.len() as u64 {
            return r.expected("as many aggregates as the definitions have");
        }
        let kept = self.aggregates.iter().map(|a| a.keeper.decode(&mut r)).collect::<codec::Result<Vec<_>>>()?;
        r.end()?;
        Ok(Partial { events, times, dedup, kept, weight: bytes.len() })
    }

    /// A partial of `old`'s definitions by these: an aggregate that stands in both, by its name, goes on; any other begins empty. Of the
    /// dedup memory the newest stay that these remember. The caller sees to it that aggregates of one name mean the same.
    pub fn converted_from(&self, old: &Fold, mut partial: Partial) -> Partial {
        let kept = self.aggregates.iter().map(|aggregate| {
            let at = old.aggregates.iter().position(|other| other.name == aggregate.name);
            at.map_or_else(|| aggregate.keeper.start(), |at| std::mem::replace(&mut partial.kept[at], Kept::Windowed(None)))
        });
        let kept = kept.collect();
        // Where the watermark is made otherwise from now on, it is not below what it was at the last applied event.
        let remade = (old.time.lateness, old.time.idle) != (self.time.lateness, self.time.idle);
        if let Some(times) = partial.times.as_mut().filter(|_| remade) {
            times.clocks.floor = Some(times.clocks.watermark(times.clocks.partition, &old.time));
        }
        let mut partial = Partial { kept, dedup: partial.dedup.limited(self.dedup_last), ..partial };
        partial.weight = self.weigh(&partial);
        partial
    }

    /// The view: a JSON object, aggregate → value.
    pub fn view(&self, partial: &Partial) -> String {
        self.view_with(partial, None)
    }

    /// The view; with `finals` each window says whether it is final.
    pub fn view_with(&self, partial: &Partial, finals: Option<Finals>) -> String {
        let mut view = String::with_capacity(32 * self.aggregates.len() + 2);
        view.push('{');
        for (i, (aggregate, kept)) in self.aggregates.iter().zip(&partial.kept).enumerate() {
            if i > 0 {
                view.push(',');
            }
            view.push_str(&aggregate.quoted);
            view.push(':');
            aggregate.keeper.write_json(kept, finals, &mut view);
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
        self.watermark_of(&self.decode(snapshot).ok()?, clock)
    }

    /// The same of a partial.
    pub fn watermark_of(&self, partial: &Partial, clock: Option<Micros>) -> Option<Micros> {
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

/// An event on its way into a partial.
struct Applied<'a> {
    occurrence: Occurrence<'a>,
    id: u64,
    matches: u128,
    timestamp: i64,
    /// The partition clock before its record.
    clock: Option<Micros>,
}

/// The numbers of the bits that are set, least first.
#[inline]
pub fn bits(mut set: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(bit)
    })
}

mod contribution;
mod parts;
pub use contribution::Contribution;
pub use parts::Part;

#[cfg(test)]
mod laws;
