//! Comparing what readers are **shown** with the states it is a function of: the readers' columns of `partials`, and the rows of `hunts`.
//!
//! The states themselves are compared with the log elsewhere; a hunt whose state differs is not looked at here, since then neither side is
//! to be trusted. Invariant: nothing but the page, one moment of the store, goes into it.

use super::meaning;
use super::{Difference, or_none};
use crate::partial::{Fold, Partial};
use crate::store::shown::{ShownHunt, ShownPartial, ShownRow, Stood};
use crate::store::{Readers, Status};
use crate::time::Micros;
use serde_json::value::RawValue;
use std::fmt;

/// The differences of one hunt. `fold`: by the newest definitions, which all stored states are of.
pub fn compare(fold: &Fold, hunt: &ShownHunt) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut decoded = Vec::with_capacity(hunt.partials.len());
    for row in &hunt.partials {
        let of_partial = |what: &str, stored: &dyn fmt::Display, recomputed: &dyn fmt::Display| {
            Difference::new(&row.partition, Some(&hunt.hunt), what, stored, recomputed)
        };
        match row.state.as_deref().map(|state| fold.decode(state)).transpose() {
            Ok(partial) => {
                let readers = partial.as_ref().map(|partial| fold.readers(partial));
                compare_partial(row, readers.as_ref(), &mut |what, stored, recomputed| {
                    differences.push(of_partial(what, stored, recomputed));
                });
                decoded.push((row, partial, readers));
            }
            Err(error) => {
                differences.push(of_partial("state", &format!("bytes that cannot be read ({error})"), &"one that can"));
                return differences;
            }
        }
    }
    let expected = Expected::of(fold, decoded);
    let mut differs = |what: &str, stored: &dyn fmt::Display, recomputed: &dyn fmt::Display| {
        differences.push(Difference::merged(Some(&hunt.hunt), what, stored, recomputed));
    };
    match (&hunt.rows[..], expected.is_there()) {
        ([], false) => {}
        ([], true) => differs("row of hunts", &"none", &expected.readers.view),
        ([row], false) => {
            let events = row.events.map_or("no number".to_owned(), |events| events.to_string());
            differs("row of hunts", &format!("{events} events"), &"none");
        }
        ([row], true) => {
            let only = if let [only] = &hunt.partials[..] { Some(only) } else { None };
            compare_row(row, &expected, only, &mut differs);
        }
        (rows, there) => differs("row of hunts", &format!("{} rows", rows.len()), &if there { "one" } else { "none" }),
    }
    differences
}

type Differs<'a> = &'a mut dyn FnMut(&str, &dyn fmt::Display, &dyn fmt::Display);

/// `readers`: what the state gives; `None`: no state was ever saved.
fn compare_partial(row: &ShownPartial, readers: Option<&Readers>, differs: Differs<'_>) {
    compare_view("partials", row.view.as_deref(), readers.map(|readers| &*readers.view), differs);
    let events = readers.map_or(0, |readers| readers.events);
    if row.events != events {
        differs("partials.events", &row.events, &events);
    }
    let of = |column: fn(&Readers) -> Option<Micros>| readers.and_then(column);
    compare_time("partials.first_event_at", &row.first_event_at, of(|readers| readers.first_event_at), differs);
    compare_time("partials.last_event_at", &row.last_event_at, of(|readers| readers.last_event_at), differs);
    for (what, stored, recomputed) in [
        ("partials.hunt_clock", row.hunt_clock, of(|readers| readers.hunt_clock)),
        ("partials.partition_clock", row.partition_clock, of(|readers| readers.partition_clock)),
        ("partials.watermark_floor", row.watermark_floor, of(|readers| readers.watermark_floor)),
    ] {
        if stored != recomputed {
            differs(what, &or_none(stored), &or_none(recomputed));
        }
    }
}

/// What a hunt's row of `hunts` says by its partials.
struct Expected {
    readers: Readers,
    status: Status,
    /// Whether any partial holds an event.
    held: bool,
    watermark: Option<Micros>,
}

impl Expected {
    fn of(fold: &Fold, decoded: Vec<(&ShownPartial, Option<Partial>, Option<Readers>)>) -> Expected {
        let mut expected = Expected {
            readers: fold.readers(&fold.start()),
            status: Status::Live,
            held: decoded.iter().any(|(row, ..)| row.lag.is_some_and(|lag| lag.held > 0)),
            watermark: None,
        };
        let lags = || decoded.iter().filter_map(|(row, ..)| row.lag);
        if lags().any(|lag| lag.reasons.park()) {
            expected.status = Status::Parked;
        } else if lags().next().is_some() {
            expected.status = Status::Lagging;
        }
        let applied = |partial: &Option<Partial>| partial.as_ref().is_some_and(|partial| partial.events > 0);
        // What such a partial holds may still fall anywhere.
        let open = decoded.iter().any(|(row, partial, _)| row.lag.is_some() && !applied(partial));
        let clocks = decoded.iter().filter_map(|(row, partial, _)| {
            let clock = row.lag.map_or(row.clock, |lag| lag.clock);
            fold.watermark_of(partial.as_ref()?, clock)
        });
        expected.watermark = clocks.min().filter(|_| !open);
        if let [(_, _, readers)] = &decoded[..] {
            expected.readers = readers.clone().unwrap_or(expected.readers);
        } else {
            let mut merged = fold.start();
            decoded.iter().filter_map(|(_, partial, _)| partial.as_ref()).for_each(|partial| fold.merge(&mut merged, partial));
            expected.readers = fold.readers(&merged);
        }
        expected
    }

    fn is_there(&self) -> bool {
        self.readers.events > 0 || self.held || self.status == Status::Parked
    }
}

/// `only`: the hunt's only partial. What its columns say was compared before, and is not said again of this row.
fn compare_row(row: &ShownRow, expected: &Expected, only: Option<&ShownPartial>, differs: Differs<'_>) {
    let Expected { readers, status, watermark, .. } = expected;
    if !only.is_some_and(|only| only.view.is_some() && only.view == row.view) {
        compare_view("hunts", row.view.as_deref(), Some(&readers.view), differs);
    }
    if row.events != Some(readers.events) && only.is_none_or(|only| row.events != Some(only.events)) {
        differs("hunts.events", &or_none(row.events), &readers.events);
    }
    if row.status.as_deref() != Some(status.as_str()) {
        differs("hunts.status", &or_none(row.status.as_deref()), &status.as_str());
    }
    if only.is_none_or(|only| only.first_event_at != row.first_event_at) {
        compare_time("hunts.first_event_at", &row.first_event_at, readers.first_event_at, differs);
    }
    if only.is_none_or(|only| only.last_event_at != row.last_event_at) {
        compare_time("hunts.last_event_at", &row.last_event_at, readers.last_event_at, differs);
    }
    // Outside of what an event time may be the stores stop at bounds of their own.
    let bounded = |watermark: Option<Micros>| watermark.map(|at| at.clamp(Micros(Micros::MIN.0 - 1), Micros(Micros::MAX.0 + 1)));
    if bounded(row.watermark) != bounded(*watermark) {
        differs("hunts.watermark", &or_none(row.watermark), &or_none(*watermark));
    }
}

fn compare_time(what: &str, stored: &Stood, recomputed: Option<Micros>, differs: Differs<'_>) {
    match stored {
        Ok(stored) if *stored == recomputed => {}
        Ok(stored) => differs(what, &or_none(*stored), &or_none(recomputed)),
        Err(text) => differs(what, &format!("{text:?}, which is no time"), &or_none(recomputed)),
    }
}

/// Aggregate by aggregate, each by what its value means.
fn compare_view<'v>(relation: &str, stored: Option<&'v str>, recomputed: Option<&'v str>, differs: Differs<'_>) {
    if stored == recomputed {
        return;
    }
    let read = |text: Option<&'v str>| text.and_then(meaning::members);
    let (Some(stored), Some(recomputed)) = (read(stored), read(recomputed)) else {
        return differs(&format!("{relation}.view"), &or_none(stored), &or_none(recomputed));
    };
    let shown = |value: Option<&&RawValue>| or_none(value.map(|value| value.get()));
    let names = recomputed.keys().chain(stored.keys().filter(|name| !recomputed.contains_key(*name)));
    for name in names {
        let (stored, recomputed) = (stored.get(name), recomputed.get(name));
        if !stored.zip(recomputed).is_some_and(|(stored, recomputed)| meaning::same(stored, recomputed)) {
            differs(&format!("aggregate {name} of {relation}.view"), &shown(stored), &shown(recomputed));
        }
    }
}

#[cfg(test)]
mod tests;
