//! An **interest**: which aggregates an event of one type concerns, what they ask of it, and which
//! fields they read. Compiled per type; the plan looks it up by the type's bytes.
//!
//! Types that some `on` (or a funnel's stage) names in full are *listed* and numbered; any other
//! type is compiled when it first comes, and remembered, so that the usual record costs a look-up.

use super::plan::{Asks, hash};
use crate::definitions::{Aggregate, Kind};
use hashbrown::HashTable;
use std::collections::BTreeSet;

/// So many unlisted types are remembered; past it they are forgotten, lest senders fill the memory.
const MAX_REMEMBERED: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Interest {
    /// Number of the type among the listed ones; `u32::MAX`: unlisted.
    pub number: u32,
    /// Aggregates that match by `on` and have no `where`.
    pub always: u128,
    /// The fields they read.
    pub fields: Vec<usize>,
    pub conditional: Vec<Conditional>,
}

/// Aggregates that match by `on` and share one `where`.
#[derive(Debug)]
pub(super) struct Conditional {
    pub condition: usize,
    pub aggregates: u128,
    /// The fields they read, but for those that [`Interest::fields`] has.
    pub fields: Vec<usize>,
}

impl Interest {
    /// Of a type that the aggregates in `on` match.
    fn new(number: u32, on: u128, asks: &[Asks]) -> Self {
        let mut interest = Interest { number, ..Interest::default() };
        let concerned = || asks.iter().enumerate().filter(|(i, _)| on & 1 << i != 0);
        for (i, ask) in concerned().filter(|(_, ask)| ask.condition.is_none()) {
            interest.always |= 1 << i;
            add(&mut interest.fields, &ask.fields, &[]);
        }
        for (i, ask) in concerned() {
            let Some(condition) = ask.condition else { continue };
            let at = interest.conditional.iter().position(|c| c.condition == condition).unwrap_or_else(|| {
                interest.conditional.push(Conditional { condition, aggregates: 0, fields: Vec::new() });
                interest.conditional.len() - 1
            });
            interest.conditional[at].aggregates |= 1 << i;
            add(&mut interest.conditional[at].fields, &ask.fields, &interest.fields);
        }
        interest
    }
}

fn add(fields: &mut Vec<usize>, more: &[usize], but: &[usize]) {
    for field in more {
        if !fields.contains(field) && !but.contains(field) {
            fields.push(*field);
        }
    }
}

/// Interests by type.
#[derive(Debug, Default)]
pub(super) struct Interests {
    table: HashTable<usize>,
    types: Vec<(Box<[u8]>, Interest)>,
}

impl Interests {
    /// Of the types that the definitions name in full, numbered in their order.
    pub fn listed(aggregates: &[Aggregate], asks: &[Asks]) -> Self {
        let mut names = BTreeSet::new();
        for aggregate in aggregates {
            names.extend(aggregate.on.iter().flatten().filter(|on| !on.contains('*')));
            if let Kind::Funnel { stages, .. } = &aggregate.kind {
                names.extend(stages);
            }
        }
        let mut interests = Self::default();
        for (number, name) in names.into_iter().enumerate() {
            interests.add(name.as_bytes(), number as u32, aggregates, asks);
        }
        interests
    }

    #[inline]
    pub fn get(&self, event_type: &[u8]) -> Option<&Interest> {
        self.table.find(hash(event_type), |&i| *self.types[i].0 == *event_type).map(|&i| &self.types[i].1)
    }

    /// The interest of an unlisted type, compiled if it is new here.
    pub fn remember(&mut self, event_type: &[u8], aggregates: &[Aggregate], asks: &[Asks]) -> &Interest {
        if self.get(event_type).is_none() {
            if self.types.len() == MAX_REMEMBERED {
                *self = Self::default();
            }
            self.add(event_type, u32::MAX, aggregates, asks);
        }
        // Found or just added, so the fallback to the newest is never another's.
        let at = self.table.find(hash(event_type), |&i| *self.types[i].0 == *event_type).copied();
        &self.types[at.unwrap_or(self.types.len() - 1)].1
    }

    fn add(&mut self, event_type: &[u8], number: u32, aggregates: &[Aggregate], asks: &[Asks]) {
        let mut on = 0;
        for (i, aggregate) in aggregates.iter().enumerate() {
            let matches = |pattern: &String| matches_glob(pattern.as_bytes(), event_type);
            // A funnel reads nothing of events that are none of its stages.
            let is_stage = match &aggregate.kind {
                Kind::Funnel { stages, .. } => stages.iter().any(|stage| stage.as_bytes() == event_type),
                _ => true,
            };
            if is_stage && aggregate.on.as_ref().is_none_or(|patterns| patterns.iter().any(matches)) {
                on |= 1 << i;
            }
        }
        let interest = Interest::new(number, on, asks);
        self.types.push((event_type.into(), interest));
        let types = &self.types;
        self.table.insert_unique(hash(event_type), types.len() - 1, |&i| hash(&types[i].0));
    }
}

/// Whether `pattern`, in which `*` is any run of characters, matches the whole of `text`.
fn matches_glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when the last star must take one byte more.
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, t) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_run_of_characters() {
        for (pattern, text, expected) in [
            ("clue.*", "clue.solved", true),
            ("clue.*", "clue.", true),
            ("clue.*", "clue", false),
            ("*", "", true),
            ("*.solved", "clue.solved", true),
            ("*.solved", "clue.solved.late", false),
            ("c*e*d", "clue.solved", true),
            ("c*x*d", "clue.solved", false),
            ("**a**", "bab", true),
            ("*ab", "aab", true),
            ("clue", "clue", true),
            ("", "", true),
            ("", "a", false),
            ("a*é", "a–é", true),
        ] {
            assert_eq!(matches_glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
