//! **Parts** of a partial: taken apart, so that two can be compared part by part; put together
//! again under other definitions, so that a partial goes on where the definitions change.
//!
//! `verify` hands it a stored and a recomputed partial; `run --from-now` and whoever folds the log
//! across a change hand it every partial. Invariant: partials with equal parts have equal encodings,
//! and converting is a function of the partial and both definitions alone.

use super::{Fold, Partial, Times};
use crate::codec::Writer;
use crate::watermark::Clocks;

/// One part of a partial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// In words: `events`, `event times`, `clocks`, `ids for deduplication` or `aggregate NAME`.
    pub name: String,
    /// Its encoding: equal parts, equal bytes.
    pub bytes: Vec<u8>,
    /// What people see of it: of an aggregate the JSON value of the view.
    pub shown: String,
}

impl Fold {
    /// The parts of a partial, always the same number in the same order.
    pub fn parts(&self, partial: &Partial) -> Vec<Part> {
        let encoded = |encode: &dyn Fn(&mut Writer)| {
            let mut w = Writer::default();
            encode(&mut w);
            w.finish()
        };
        let part = |name: &str, bytes: Vec<u8>, shown: String| Part { name: name.to_owned(), bytes, shown };
        let times = partial.times;
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
        let mut parts = vec![
            part("events", encoded(&|w| w.unsigned(partial.events)), partial.events.to_string()),
            part(
                "event times",
                encoded(&|w| {
                    if let Some(Times { first, last, .. }) = times {
                        w.signed(first.0);
                        w.signed(last.0);
                    }
                }),
                or_none(times.map(|t| format!("{} to {}", t.first, t.last))),
            ),
            part(
                "clocks",
                encoded(&|w| {
                    if let Some(t) = times {
                        t.clocks.encode(w);
                    }
                }),
                or_none(times.map(|t| {
                    let shown = |clock: Option<crate::time::Micros>| or_none(clock.map(|clock| clock.to_string()));
                    let Clocks { hunt, partition, floor } = t.clocks;
                    format!("hunt {hunt}, partition {}, watermark before {}", shown(partition), shown(floor))
                })),
            ),
        ];
        let ids = encoded(&|w| partial.dedup.encode(w));
        let shown = format!("{} ids", partial.dedup.count());
        parts.push(part("ids for deduplication", ids, shown));
        for ((name, rule), state) in self.rules.iter().zip(&partial.states) {
            let mut shown = String::new();
            rule.write_json(state, &mut shown);
            parts.push(part(&format!("aggregate {}", name.trim_matches('"')), encoded(&|w| rule.encode(state, w)), shown));
        }
        parts
    }

    /// The partial as these definitions go on with it: what aggregates of the same name saw stays, new ones have seen nothing, the
    /// newest remembered ids stay as far as they fit. Where the watermark is made otherwise from now on, it is not below what it was at
    /// the last applied event. The aggregates that stay must mean the same in both.
    pub fn convert_from(&self, old: &Fold, partial: &Partial) -> Partial {
        let states = self.rules.iter().map(|(name, rule)| {
            let kept = old.rules.iter().zip(&partial.states).find(|((other, _), _)| other == name);
            kept.map_or_else(|| rule.start(), |(_, state)| state.clone())
        });
        let remade = (old.time.lateness, old.time.idle) != (self.time.lateness, self.time.idle);
        let times = partial.times.map(|times| {
            let floor = if remade { Some(times.clocks.watermark(times.clocks.partition, &old.time)) } else { times.clocks.floor };
            Times { clocks: Clocks { floor, ..times.clocks }, ..times }
        });
        Partial { events: partial.events, times, dedup: partial.dedup.resized(self.dedup_last), states: states.collect() }
    }
}
