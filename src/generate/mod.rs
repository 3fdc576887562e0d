//! A **stream** of generated hunt events: realistic, endless, and the same for the same seed and options.
//!
//! `generate` and `demo` send it, benchmarks and tests read it. Invariant: a stream whose clock is not set from
//! outside gives the same records, byte for byte, for the same [`Options`]; ids are unique but for duplicates.

mod bad;
mod life;
mod popularity;
mod text;
mod workload;

pub use bad::Bad;
pub use workload::Workload;

use crate::source::log::NewRecord;
use life::{Facts, Life, Spoil, Step};
use popularity::Popularity;
use text::{Dates, push_padded};

/// What kind of stream. The shares are of all records, from 0 to 1, together at most 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub seed: u64,
    pub hunts: u32,
    /// How unequal hunts are: the exponent of Zipf's law, 0 for all alike.
    pub skew: f64,
    /// Players on the platform.
    pub players: u32,
    /// Records sent again soon after the first time.
    pub duplicates: f64,
    /// Records whose event lies 2 to 30 minutes back.
    pub late: f64,
    /// Records that cannot be applied.
    pub bad: f64,
    /// `event.max_bytes` of the receiver, which too large records pass.
    pub max_bytes: usize,
    /// When the stream begins, in milliseconds since 1970, and how many events a second of its own time has.
    pub start_ms: i64,
    pub events_per_second: f64,
    /// The fixed records of a workload instead of the lives of hunts.
    pub workload: Option<Workload>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            hunts: 1000,
            skew: 1.0,
            players: 50_000,
            duplicates: 0.0,
            late: 0.0,
            bad: 0.0,
            max_bytes: 1 << 20,
            start_ms: workload::START_MS,
            events_per_second: 1000.0,
            workload: None,
        }
    }
}

impl Options {
    /// The stream of a workload.
    pub fn workload(workload: Workload, seed: u64) -> Self {
        Self {
            seed,
            hunts: workload.hunts(),
            skew: workload.skew(),
            events_per_second: workload::EVENTS_PER_SECOND,
            workload: Some(workload),
            ..Self::default()
        }
    }

    /// The first option that makes no sense, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        let share = |name: &str, share: f64| match share {
            0.0..=1.0 => Ok(()),
            _ => Err(format!("{name}: found {share}, expected a share from 0 to 1")),
        };
        share("duplicates", self.duplicates)?;
        share("late", self.late)?;
        share("bad", self.bad)?;
        let together = self.duplicates + self.late + self.bad;
        if together > 1.0 {
            return Err(format!("duplicates, late and bad: found {together} together, expected at most 1"));
        }
        if !(0.0..=10.0).contains(&self.skew) {
            return Err(format!("skew: found {}, expected 0 to 10", self.skew));
        }
        if self.hunts == 0 || self.players == 0 {
            return Err("hunts and players: found 0, expected at least 1".into());
        }
        if !(self.events_per_second > 0.0 && self.events_per_second.is_finite()) {
            return Err(format!("events per second: found {}, expected more than 0", self.events_per_second));
        }
        Ok(())
    }
}

/// What a generated record is meant to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Nature {
    #[default]
    Good,
    /// A good one again, at most [`RECENT`] good records after the first time.
    Duplicate,
    /// Good, but its event lies minutes back.
    Late,
    Bad(Bad),
}

/// A generated record. Its buffers are used again by [`Stream::next_into`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    key: Vec<u8>,
    key_is_null: bool,
    value: Vec<u8>,
    value_is_null: bool,
    pub headers: &'static [(&'static [u8], Option<&'static [u8]>)],
    pub timestamp_ms: i64,
    pub nature: Nature,
}

impl Record {
    pub fn key(&self) -> Option<&[u8]> {
        (!self.key_is_null).then_some(&self.key)
    }

    pub fn value(&self) -> Option<&[u8]> {
        (!self.value_is_null).then_some(&self.value)
    }
}

impl<'a> From<&'a Record> for NewRecord<'a> {
    /// To be appended where its key belongs, at its own time.
    fn from(record: &'a Record) -> Self {
        NewRecord {
            partition: None,
            key: record.key(),
            value: record.value(),
            headers: record.headers,
            timestamp_ms: Some(record.timestamp_ms),
        }
    }
}

/// How many of the last good records a duplicate may be of; fewer than any sensible dedup memory holds, though all were one hunt's.
pub const RECENT: usize = 16;

const HEADERS: &[(&[u8], Option<&[u8]>)] = &[(b"content-type", Some(b"application/cloudevents+json"))];

/// See the module.
pub struct Stream {
    options: Options,
    rng: fastrand::Rng,
    popularity: Popularity,
    lives: Vec<Life>,
    dates: Dates,
    /// How many records there were.
    number: u64,
    /// Set from outside; `None`: by the number and the options.
    clock_ms: Option<i64>,
    /// Key and value of the newest good records, a ring.
    recent: Vec<(Vec<u8>, Vec<u8>)>,
    good: usize,
}

impl Stream {
    /// Panics where [`Options::check`] finds fault.
    pub fn new(options: Options) -> Self {
        options.check().expect("options that make sense");
        let lives = if options.workload.is_some() { Vec::new() } else { vec![Life::default(); options.hunts as usize] };
        Self {
            rng: fastrand::Rng::with_seed(options.seed),
            popularity: Popularity::new(options.hunts, options.skew),
            lives,
            dates: Dates::default(),
            number: 0,
            clock_ms: None,
            recent: Vec::new(),
            good: 0,
            options,
        }
    }

    /// From now on the stream's time is what was last said here, in milliseconds since 1970, instead of going by the options.
    pub fn set_clock(&mut self, now_ms: i64) {
        self.clock_ms = Some(now_ms);
    }

    /// Makes the next record in place of `record`.
    pub fn next_into(&mut self, record: &mut Record) {
        let advanced = || self.options.start_ms + (self.number as f64 * 1000.0 / self.options.events_per_second) as i64;
        let now_ms = self.clock_ms.unwrap_or_else(advanced);
        record.key.clear();
        record.value.clear();
        (record.key_is_null, record.value_is_null) = (false, false);
        record.timestamp_ms = now_ms;
        match self.options.workload {
            Some(workload) => self.next_of_workload(workload, now_ms, record),
            None => self.next_of_life(now_ms, record),
        }
        self.number += 1;
    }

    fn next_of_workload(&mut self, workload: Workload, now_ms: i64, record: &mut Record) {
        let hunt = self.popularity.draw(&mut self.rng);
        let time_ms = now_ms - workload.behind(&mut self.rng);
        push_hunt(&mut record.key, hunt);
        workload::write(&mut record.value, self.options.seed, self.number, time_ms, &mut self.dates, &mut self.rng);
        record.headers = &[];
        record.timestamp_ms = time_ms;
        record.nature = Nature::Good;
    }

    fn next_of_life(&mut self, now_ms: i64, record: &mut Record) {
        record.headers = HEADERS;
        let Options { duplicates, late, bad, .. } = self.options;
        let draw = self.rng.f64();
        record.nature = if draw < duplicates && !self.recent.is_empty() {
            Nature::Duplicate
        } else if (duplicates..duplicates + late).contains(&draw) {
            Nature::Late
        } else if (duplicates + late..duplicates + late + bad).contains(&draw) {
            Nature::Bad(Bad::draw(&mut self.rng))
        } else {
            Nature::Good
        };
        match record.nature {
            Nature::Duplicate => {
                let (key, value) = &self.recent[self.rng.usize(..self.recent.len())];
                record.key.extend_from_slice(key);
                record.value.extend_from_slice(value);
            }
            Nature::Bad(bad) => self.write_bad(bad, now_ms, record),
            Nature::Good | Nature::Late => {
                let behind_ms =
                    if record.nature == Nature::Late { self.rng.i64(120_000..=1_800_000) } else { self.rng.i64(5..=1500) };
                self.write_good(now_ms - behind_ms, record);
            }
        }
    }

    fn write_good(&mut self, time_ms: i64, record: &mut Record) {
        let hunt = self.popularity.draw(&mut self.rng);
        let step = self.lives[hunt as usize].step(hunt, self.options.players, &mut self.rng);
        push_hunt(&mut record.key, hunt);
        let facts = Facts { seed: self.options.seed, number: self.number, hunt, time_ms: time_ms.max(0) };
        life::write(&mut record.value, &facts, step, Spoil::default(), &mut self.dates, &mut self.rng);
        if self.options.duplicates > 0.0 {
            if self.recent.len() < RECENT {
                self.recent.push(Default::default());
            }
            let (key, value) = &mut self.recent[self.good % RECENT];
            key.clone_from(&record.key);
            value.clone_from(&record.value);
            self.good += 1;
        }
    }

    fn write_bad(&mut self, bad: Bad, now_ms: i64, record: &mut Record) {
        let hunt = self.popularity.draw(&mut self.rng);
        push_hunt(&mut record.key, hunt);
        // An hour to a day beyond what any record's timestamp says: more than a sensible `max_ahead`.
        let time_ms = if bad == Bad::Ahead { now_ms + self.rng.i64(3_600_000..86_400_000) } else { now_ms };
        let mut pick = |any: &[&'static [u8]]| Some(any[self.rng.usize(..any.len())]);
        let mut spoil = Spoil::default();
        match bad {
            Bad::NoType => spoil.event_type = pick(&bad::TYPES),
            Bad::BadTime => spoil.time = pick(&bad::TIMES),
            Bad::WrongType => spoil.id = pick(&bad::IDS),
            _ => {}
        }
        let step = Step::Solved { player: hunt % self.options.players, clue: hunt % 1000 };
        let facts = Facts { seed: self.options.seed, number: self.number, hunt, time_ms };
        life::write(&mut record.value, &facts, step, spoil, &mut self.dates, &mut self.rng);
        match bad {
            Bad::Tombstone => {
                record.value.clear();
                record.value_is_null = true;
            }
            Bad::TooLarge => bad::enlarge(&mut record.value, self.options.max_bytes),
            Bad::NoHunt => {
                record.key.clear();
                record.key_is_null = true;
            }
            Bad::BadHunt => bad::spoil_hunt(&mut record.key, &mut self.rng),
            Bad::NotJson => bad::spoil_json(&mut record.value, &mut self.rng),
            Bad::TooDeep => bad::deepen(&mut record.value),
            Bad::NotObject => {
                record.value.clear();
                record.value.extend_from_slice(bad::NOT_OBJECTS[self.rng.usize(..bad::NOT_OBJECTS.len())]);
            }
            Bad::NoType | Bad::BadTime | Bad::Ahead | Bad::WrongType => {}
        }
    }
}

impl Iterator for Stream {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let mut record = Record::default();
        self.next_into(&mut record);
        Some(record)
    }
}

fn push_hunt(into: &mut Vec<u8>, hunt: u32) {
    into.extend_from_slice(b"h-");
    push_padded(into, u64::from(hunt), 10);
}

#[cfg(test)]
mod tests;
