//! **Aggregates** against the oracle: many logs that a seed decided, under definitions that it decided too, folded by the engine and
//! by the oracle, and compared in everything that either says.
//!
//! `written` makes definitions of a seed, `bounds` holds estimates against what is exact. `HUNTLINE_SEEDS=10000` runs more,
//! `HUNTLINE_SEED=N` replays one.

mod bounds;
mod written;

use crate::engine::Case;
use crate::oracle::records::{HuntAt, Options, REASONS, Records, Topic};
use crate::oracle::{Definitions, LeftOut};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};

const LOGS: u64 = 200;

fn seeds() -> Vec<u64> {
    match std::env::var("HUNTLINE_SEED") {
        Ok(seed) => vec![seed.parse().expect("HUNTLINE_SEED is a number")],
        Err(_) => (0..std::env::var("HUNTLINE_SEEDS").map_or(LOGS, |n| n.parse().expect("HUNTLINE_SEEDS is a number"))).collect(),
    }
}

/// The log and the definitions of a seed.
fn case(seed: u64) -> Case {
    let mut rng = Rng::with_seed(seed);
    let one_of = |rng: &mut Rng, of: &[f64]| of[rng.usize(..of.len())];
    let topic = |rng: &mut Rng, name: &str, hunt: HuntAt| Topic { name: name.to_owned(), partitions: rng.i32(1..=3), hunt };
    let at = if rng.bool() { HuntAt::Value } else { HuntAt::Header("hunt".to_owned()) };
    let mut topics = vec![topic(&mut rng, "events", HuntAt::Key)];
    if rng.u8(..3) > 0 {
        topics.push(topic(&mut rng, "others", at.clone()));
    }
    let options = Options {
        seed: rng.u64(..),
        count: rng.usize(50..700),
        hunts: rng.usize(1..40),
        skew: one_of(&mut rng, &[1.0, 1.5, 3.0]),
        duplicates: one_of(&mut rng, &[0.0, 0.02, 0.2]),
        late: one_of(&mut rng, &[0.0, 0.02, 0.2, 0.5]),
        bad: one_of(&mut rng, &[0.01, 0.1]),
        tombstones: one_of(&mut rng, &[0.0, 0.02]),
        wandering: one_of(&mut rng, &[0.0, 0.05, 0.5]),
        silences: one_of(&mut rng, &[0.0, 0.002, 0.03]),
        strange: one_of(&mut rng, &[0.0, 0.1, 0.3]),
        step_ms: [20, 1_000, 30_000, 600_000][rng.usize(..4)],
        max_bytes: 4 << 10,
        topics,
        ..Options::default()
    };
    let toml = written::definitions(&mut rng, &options, &at);
    let stream: Vec<_> = Records::new(options).collect();
    let failing: LeftOut = match rng.u8(..4) {
        0 => (0..rng.usize(1..20))
            .map(|_| {
                let (partition, record) = &stream[rng.usize(..stream.len())];
                ((partition.0.clone(), partition.1, record.offset), "failed".to_owned())
            })
            .collect(),
        _ => LeftOut::new(),
    };
    let max_state = match rng.u8(..6) {
        0 => rng.usize(700..4_000),
        _ => 8 << 20,
    };
    Case { failing, max_state, seed, ..Case::new(format!("HUNTLINE_SEED={seed}"), toml, stream) }
}

#[test]
fn whatever_the_log_and_the_definitions_the_engine_says_what_the_oracle_says() {
    let seeds = seeds();
    let mut happened = Happened::default();
    for &seed in &seeds {
        let case = case(seed);
        let (_, said) = case.assert_agreement();
        happened.note(&said);
    }
    if seeds.len() as u64 >= LOGS {
        happened.everything();
    }
}

/// What the logs brought about, all together: a test in which nothing happens shows nothing.
#[derive(Default)]
struct Happened {
    applied: i64,
    duplicate: i64,
    ignored: i64,
    shared: usize,
    reasons: BTreeMap<String, usize>,
    /// Kinds and shapes of windows that held something other than before any event.
    filled: BTreeSet<(&'static str, &'static str)>,
    late: BTreeSet<&'static str>,
    rolled_up: BTreeSet<(&'static str, &'static str)>,
}

impl Happened {
    fn note(&mut self, said: &crate::oracle::Said) {
        for of in said.partitions.values() {
            self.applied += of.counts.applied;
            self.duplicate += of.counts.duplicate;
            self.ignored += of.counts.ignored;
            for letter in &of.dead_letters {
                *self.reasons.entry(letter.reason.clone()).or_default() += 1;
            }
        }
        self.shared += said.hunts.values().filter(|hunt| hunt.partials > 1).count();
        let nothing = ["0", "[]", "null"];
        let forms = written::forms(&said.definitions);
        for (name, form) in &forms {
            let of = |view: &crate::oracle::Json| view.at(std::slice::from_ref(name)).map(ToString::to_string);
            if said.hunts.values().filter_map(|hunt| of(&hunt.view)).any(|value| !nothing.contains(&value.as_str())) {
                self.filled.insert(*form);
            }
            if said.late.get(name).is_some_and(|late| *late > 0) {
                self.late.insert(form.1);
            }
            if said.rollup.get(name).is_some_and(|value| !nothing.contains(&value.to_string().as_str())) {
                self.rolled_up.insert(*form);
            }
        }
    }

    fn everything(&self) {
        assert!(self.applied > 20_000 && self.duplicate > 400 && self.ignored > 400, "{} applied", self.applied);
        assert!(self.shared > 400, "{} hunts stood in several partitions", self.shared);
        for reason in REASONS.into_iter().chain(["failed", "state_full"]) {
            assert!(self.reasons.get(reason).is_some_and(|n| *n > 5), "{reason}: {:?}", self.reasons);
        }
        for kind in written::KINDS {
            for shape in written::SHAPES {
                assert!(self.filled.contains(&(kind, shape)), "nothing was ever in {kind} over {shape}");
                assert!(shape == "session" || self.rolled_up.contains(&(kind, shape)), "{kind} over {shape} was never rolled up");
            }
        }
        assert_eq!(self.late, BTreeSet::from(["tumbling", "hopping", "session"]));
    }
}

#[test]
fn a_difference_names_its_seed_and_the_first_record_after_which_it_shows() {
    let case = case(7);
    let mut definitions = Definitions::from_toml(&case.toml);
    definitions.max_ahead = Some(1);
    let difference = case.folded(&definitions).err().expect("they differ");
    assert!(difference.starts_with("HUNTLINE_SEED=7: "), "{difference}");
    assert!(difference.contains("They first differ after record "), "{difference}");
    assert!(difference.contains("\"ahead\""), "{difference}");
}
