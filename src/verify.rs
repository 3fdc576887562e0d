//! **Verification**: what a store says of a partition, compared with what the log gives.
//!
//! `huntline verify` hands it the audit and a [`Refolded`]; it gives [`Difference`]s, and for hunts
//! that differ, after a second look at their stored states, which part differs and from which record
//! on it can. What readers are shown is compared with the stored states, and dead letters one by one.
//! Invariant: no difference means equal bytes, equal counts and equal clocks; nothing here reads or writes.

mod letters;
mod meaning;
mod rollup;
mod shown;

pub use letters::{LetterCheck, Letters};
pub use shown::compare as compare_shown;

use crate::partial::{Fold, Part, Partial};
use crate::position::{Offset, Position};
use crate::record::PartitionId;
use crate::refold::{Refolded, Witness};
use crate::store::audit::digest;
use crate::store::{AuditedPartial, AuditedPartition, Gap, Snapshot};
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;

/// One thing in which the store and the log are not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// With `partition`; neither: it is of the hunt's merged row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hunt_id: Option<String>,
    /// `applied`, `aggregate points`, `row`, `hunts.events`, `dead letter 17`, …
    pub what: String,
    pub stored: String,
    pub recomputed: String,
    /// The first record after which they can differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_offset: Option<i64>,
}

impl Difference {
    pub fn new(
        partition: &PartitionId,
        hunt: Option<&str>,
        what: &str,
        stored: impl fmt::Display,
        recomputed: impl fmt::Display,
    ) -> Self {
        Difference {
            topic: Some(partition.topic.to_string()),
            partition: Some(partition.partition),
            ..Difference::merged(hunt, what, stored, recomputed)
        }
    }

    /// Of what all partitions together show.
    pub fn merged(hunt: Option<&str>, what: &str, stored: impl fmt::Display, recomputed: impl fmt::Display) -> Self {
        Difference {
            topic: None,
            partition: None,
            hunt_id: hunt.map(str::to_owned),
            what: what.to_owned(),
            stored: stored.to_string(),
            recomputed: recomputed.to_string(),
            from_offset: None,
        }
    }

    pub fn from(self, offset: Option<Offset>) -> Self {
        Difference { from_offset: offset.map(|offset| offset.0), ..self }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(topic), Some(partition)) = (&self.topic, self.partition) {
            write!(f, "{topic}/{partition}: ")?;
        }
        if let Some(hunt) = &self.hunt_id {
            write!(f, "hunt {hunt:?}: ")?;
        }
        write!(f, "{}: stored {}, recomputed {}", self.what, self.stored, self.recomputed)?;
        if let Some(offset) = self.from_offset {
            write!(f, "; can differ from record {offset} on")?;
        }
        Ok(())
    }
}

/// Where reading `start` on needs the log first: past the gaps that are on record there.
pub fn first_needed(start: Position, gaps: &[Gap]) -> Position {
    let mut gaps: Vec<&Gap> = gaps.iter().filter(|gap| gap.hunt_id.is_none()).collect();
    gaps.sort_by_key(|gap| gap.from);
    gaps.iter().fold(start, |at, gap| if gap.from <= at { at.max(gap.to) } else { at })
}

/// What differs about the partition as a whole, and the hunts whose states differ.
#[derive(Debug, Default, PartialEq)]
pub struct Compared {
    pub differences: Vec<Difference>,
    pub hunts: Vec<String>,
    /// Partials looked at.
    pub partials: u64,
}

/// Compares a partition. With `only`, that hunt alone: the counts then mean nothing.
pub fn compare(audited: &AuditedPartition, refolded: &Refolded, only: Option<&str>) -> Compared {
    let mut compared = Compared::default();
    let partition = &audited.partition;
    if only.is_none() {
        compared.differences.extend(totals(audited, refolded));
    }
    let rows = audited.partials.iter().filter(|row| only.is_none_or(|only| only == row.hunt));
    let mut seen = 0;
    for row in rows {
        compared.partials += 1;
        let found = refolded.get(&row.hunt);
        seen += usize::from(found.is_some_and(|(partial, stop)| partial.events > 0 || stop.is_some_and(|stop| stop.held > 0)));
        if !same_state(row, found.map(|(partial, _)| partial), &refolded.fold) {
            compared.hunts.push(row.hunt.clone());
        }
        if let Some(lag) = &row.lag {
            let stop = found.and_then(|(_, stop)| stop);
            let held = stop.map_or(0, |stop| stop.held);
            let hunt = Some(&*row.hunt);
            if held != lag.held {
                compared.differences.push(Difference::new(partition, hunt, "held", lag.held, held));
            }
            let clock = stop.and_then(|stop| stop.clock);
            if clock != lag.clock {
                let what = "partition clock at its position";
                compared.differences.push(Difference::new(partition, hunt, what, or_none(lag.clock), or_none(clock)));
            }
        }
    }
    // Rows that are not there; looked for only where the numbers say so.
    let made = || refolded.partials().filter(|(id, ..)| only.is_none_or(|only| only == *id));
    if made().count() > seen {
        let stored: std::collections::HashSet<&str> = audited.partials.iter().map(|row| &*row.hunt).collect();
        for (id, _, _) in made().filter(|(id, ..)| !stored.contains(id)) {
            compared.partials += 1;
            compared.hunts.push(id.to_owned());
        }
    }
    compared.hunts.sort();
    compared
}

/// A hunt that has applied nothing may have a row or none.
fn same_state(row: &AuditedPartial, found: Option<&Partial>, fold: &Fold) -> bool {
    match (row.digest, found) {
        (None, found) => found.is_none_or(|partial| partial.events == 0),
        (Some(stored), Some(partial)) => stored == digest(&fold.encode(partial)),
        (Some(stored), None) => stored == digest(&fold.encode(&fold.start())),
    }
}

fn totals(audited: &AuditedPartition, refolded: &Refolded) -> Vec<Difference> {
    let (stored, found) = (&audited.counts, &refolded.counts);
    let counts = [
        ("records", stored.records, found.records),
        ("applied", stored.applied, found.applied),
        ("duplicate", stored.duplicate, found.duplicate),
        ("dead_lettered", stored.dead_lettered, found.dead_lettered),
        ("ignored", stored.ignored, found.ignored),
        ("held", stored.held, found.held),
        ("late", stored.late, found.late),
    ];
    let mut differences: Vec<Difference> = counts
        .into_iter()
        .filter(|(_, stored, found)| stored != found)
        .map(|(name, stored, found)| Difference::new(&audited.partition, None, name, stored, found))
        .collect();
    if audited.clock != refolded.clock {
        let (stored, found) = (or_none(audited.clock), or_none(refolded.clock));
        differences.push(Difference::new(&audited.partition, None, "partition clock", stored, found));
    }
    differences.extend(rollup::compare(&audited.partition, audited.rollup.as_deref(), refolded));
    differences
}

fn or_none(value: Option<impl fmt::Display>) -> String {
    value.map_or("none".to_owned(), |value| value.to_string())
}

/// The **second look** at hunts that differ: it watches their fold and remembers, for every part of the stored state, since which record
/// it is another one.
pub struct SecondLook {
    hunts: HashMap<String, Watched>,
}

struct Watched {
    stored: Stored,
    /// Of each stored part, its track; of a state that is not there, one for all.
    tracks: Vec<Track>,
}

enum Stored {
    Parts(Vec<Part>),
    Unreadable(String),
    Nothing,
}

#[derive(Default)]
struct Track {
    now: Vec<u8>,
    equal: bool,
    from: Option<Offset>,
    first: Option<Offset>,
}

impl Track {
    fn see(&mut self, offset: Offset, bytes: &[u8], stored: Option<&[u8]>) {
        if self.now == bytes {
            return;
        }
        self.now = bytes.to_vec();
        self.first.get_or_insert(offset);
        let equal = stored.is_some_and(|stored| stored == bytes);
        if equal {
            self.from = None;
        } else if self.equal {
            self.from = Some(offset);
        }
        self.equal = equal;
    }
}

impl SecondLook {
    /// `hunts`: all to be watched; `snapshots`: what the store has of them, in states of `fold`.
    pub fn new(hunts: &[String], snapshots: Vec<Snapshot>, fold: &Fold) -> SecondLook {
        let mut stored: HashMap<String, Snapshot> = snapshots.into_iter().map(|row| (row.hunt.clone(), row)).collect();
        let start = fold.parts(&fold.start());
        let watched = hunts.iter().map(|hunt| {
            let stored = match stored.remove(hunt).and_then(|row| row.state) {
                None => Stored::Nothing,
                Some(bytes) => match fold.decode(&bytes) {
                    Ok(partial) => Stored::Parts(fold.parts(&partial)),
                    Err(error) => Stored::Unreadable(error.to_string()),
                },
            };
            let tracks = match &stored {
                Stored::Parts(parts) => {
                    let track = |(stored, start): (&Part, &Part)| Track {
                        now: start.bytes.clone(),
                        equal: stored.bytes == start.bytes,
                        ..Track::default()
                    };
                    parts.iter().zip(&start).map(track).collect()
                }
                _ => vec![Track::default()],
            };
            (hunt.clone(), Watched { stored, tracks })
        });
        SecondLook { hunts: watched.collect() }
    }

    /// What differs of the watched hunts, now that the fold has come to where the snapshots were read.
    pub fn differences(&self, partition: &PartitionId, refolded: &Refolded) -> Vec<Difference> {
        let fold = &refolded.fold;
        let mut differences = Vec::new();
        let mut hunts: Vec<(&String, &Watched)> = self.hunts.iter().collect();
        hunts.sort_by_key(|(hunt, _)| *hunt);
        for (hunt, watched) in hunts {
            let nothing = fold.start();
            let partial = refolded.get(hunt).map_or(&nothing, |(partial, _)| partial);
            let difference = |what: &str, stored: &dyn fmt::Display, recomputed: &dyn fmt::Display| {
                Difference::new(partition, Some(hunt), what, stored, recomputed)
            };
            let whole = || if partial.events == 0 { "none: the log has no event of it".to_owned() } else { fold.view(partial) };
            let first = watched.tracks[0].first;
            match &watched.stored {
                Stored::Nothing if partial.events == 0 => {}
                Stored::Nothing => differences.push(difference("row", &"none", &whole()).from(first)),
                Stored::Unreadable(why) => {
                    differences.push(difference("state", &format!("bytes that cannot be read ({why})"), &whole()).from(first));
                }
                Stored::Parts(parts) if partial.events == 0 && fold.parts(&nothing) != *parts => {
                    let events = parts.first().map_or("", |events| &events.shown);
                    differences.push(difference("row", &format!("{events} events"), &whole()));
                }
                Stored::Parts(parts) => {
                    for ((stored, found), track) in parts.iter().zip(fold.parts(partial)).zip(&watched.tracks) {
                        if stored.bytes != found.bytes {
                            let (stored_shown, found_shown) = if stored.shown == found.shown {
                                (inner(stored), inner(&found))
                            } else {
                                (stored.shown.clone(), found.shown)
                            };
                            let from = track.from.or(track.first);
                            differences.push(difference(&stored.name, &stored_shown, &found_shown).from(from));
                        }
                    }
                }
            }
        }
        differences
    }
}

/// A part whose value does not show the difference.
fn inner(part: &Part) -> String {
    let digest: String = digest(&part.bytes)[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} (inner state {digest}…)", part.shown)
}

impl Witness for SecondLook {
    const WANTS_LETTERS: bool = false;

    fn applied(&mut self, hunt: &str, offset: Offset, fold: &Fold, partial: &Partial) {
        let Some(watched) = self.hunts.get_mut(hunt) else { return };
        match &watched.stored {
            Stored::Parts(stored) => {
                let parts = fold.parts(partial);
                for (stored, track) in stored.iter().zip(&mut watched.tracks) {
                    // Other definitions may have held then.
                    if let Some(part) = parts.iter().find(|part| part.name == stored.name) {
                        track.see(offset, &part.bytes, Some(&stored.bytes));
                    }
                }
            }
            _ => drop(watched.tracks[0].first.get_or_insert(offset)),
        }
    }
}

#[cfg(test)]
mod tests;
