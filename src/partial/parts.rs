//! **Parts** of a partial: taken apart, so that two can be compared part by part.
//!
//! `verify` hands it a stored and a recomputed partial. Invariant: partials with equal parts have equal
//! encodings.

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
        for (aggregate, kept) in self.aggregates.iter().zip(&partial.kept) {
            let mut shown = String::new();
            aggregate.keeper.write_json(kept, None, &mut shown);
            parts.push(part(&format!("aggregate {}", aggregate.name), encoded(&|w| aggregate.keeper.encode(kept, w)), shown));
        }
        parts
    }
}
