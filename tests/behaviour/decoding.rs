//! **Decoding** against the oracle: nasty records, each at every place where it may hurt, and good ones mangled at random, under
//! definitions that read them in every way. Every record comes twice, so that its id is seen at work.
//!
//! `nasty` makes them; `accepted` sends them through a daemon and shows that the stores take whatever is accepted.
//! `HUNTLINE_SEEDS=10000` runs more, `HUNTLINE_SEED=N` replays one.

mod accepted;
mod nasty;

use crate::engine::Case;
use crate::oracle::records::REASONS;
use crate::oracle::{Partition, Record};
use fastrand::Rng;
use std::collections::BTreeSet;

const MANGLED: u64 = 150;

/// By what they read: numbers, keys, values, the hunt and the type inside, everything outside, and predicates.
const DEFINITIONS: [&str; 8] = [
    "[aggregates.a]\nkind = \"sum\"\nof = \"/data/any\"\n[aggregates.b]\nkind = \"min\"\nof = \"/data/any\"\n[aggregates.c]\nkind = \"max\"\nof = \"/data/any\"",
    "[aggregates.a]\nkind = \"top\"\nby = \"/data/any\"\nsum = \"/data/points\"\nlimit = 10000\n[aggregates.b]\nkind = \"distinct\"\nof = \"/data/player\"",
    "[aggregates.a]\nkind = \"first\"\nof = \"/data/any\"\n[aggregates.b]\nkind = \"last\"\nof = \"/data/any\"\n\
     [aggregates.c]\nkind = \"last\"\nof = \"/data/points\"\n[aggregates.d]\nkind = \"first\"\nof = \"/data/any/0/a\"",
    "[event]\nhunt = \"/data/hunt\"\nid = [\"/source\", \"/id\"]\ntype = \"/data/any\"\n[aggregates.a]\nkind = \"count\"\non = [\"p\", \"*é*\"]\n\
     [aggregates.b]\nkind = \"funnel\"\nby = \"/data/player\"\nstages = [\"p\", \"q\", \"\\u0000\"]",
    "[event]\nhunt = \"header:hunt\"\nid = [\"header:id\", \"key\"]\ntype = \"header:type\"\ntime = \"header:time\"\n\
     [aggregates.a]\nkind = \"last\"\nof = \"/id\"\n[aggregates.b]\nkind = \"count\"\nwindow = { tumbling = \"36500d\" }",
    "[event]\ntime = \"/data/any\"\nid = \"/data/player\"\n[time]\nmax_ahead = \"never\"\n[aggregates.a]\nkind = \"quantiles\"\nof = \"/data/points\"\n\
     [aggregates.b]\nkind = \"count\"\nwindow = { hopping = \"2d\", every = \"1d\", keep = 1000 }\n[aggregates.c]\nkind = \"mean\"\nof = \"/data/points\"\nwindow = { session = \"1d\" }",
    "[aggregates.a]\nkind = \"count\"\nwhere = \"data.any > 5 || data.player == 'p'\"\n[aggregates.b]\nkind = \"count\"\nwhere = \"data.any in ['p', 5, 9223372036854775807, null, true, -0.0]\"\n\
     [aggregates.c]\nkind = \"count\"\nwhere = \"!(data.any in ['x', null]) && data.any != data.player\"\n[aggregates.d]\nkind = \"count\"\nwhere = \"data.any == data.same\"",
    "[event]\ntime = \"timestamp\"\nid = \"/data/points\"\nhunt = \"key\"\nmax_bytes = \"60KiB\"\n[dedup]\nlast = 1\n[aggregates.a]\nkind = \"count\"\nwhere = \"has(data.any) && !has(data.player.x)\"\n\
     [aggregates.b]\nkind = \"sum\"\nof = \"/data/player\"\nwhere = \"data.any >= 'p' || data.any < 1e19\"",
];

fn case(name: String, definitions: usize, records: impl IntoIterator<Item = Record>) -> Case {
    let partition: Partition = ("topic".to_owned(), 0);
    let twice = records.into_iter().flat_map(|record| [record.clone(), record]);
    let numbered = twice.enumerate().map(|(offset, record)| (partition.clone(), Record { offset: offset as i64, ..record }));
    Case { seed: definitions as u64, ..Case::new(name, DEFINITIONS[definitions].to_owned(), numbered.collect()) }
}

#[test]
fn whatever_stands_anywhere_decodes_as_the_oracle_says() {
    let records = nasty::records();
    assert!(records.len() > 1_500, "only {} records", records.len());
    let (mut reasons, mut applied, mut duplicate) = (BTreeSet::new(), 0, 0);
    for definitions in 0..DEFINITIONS.len() {
        let case = case(format!("the nasty records under definitions {definitions}"), definitions, records.iter().cloned());
        let (_, said) = case.assert_agreement();
        for of in said.partitions.values() {
            applied += of.counts.applied;
            duplicate += of.counts.duplicate;
            reasons.extend(of.dead_letters.iter().map(|letter| letter.reason.clone()));
        }
    }
    assert!(applied > 3_000 && duplicate > 1_000, "{applied} applied, {duplicate} duplicates");
    assert_eq!(reasons, REASONS.iter().map(|reason| (*reason).to_owned()).collect());
}

#[test]
fn mangled_records_decode_as_the_oracle_says() {
    let records = nasty::records();
    let seeds: Vec<u64> = match std::env::var("HUNTLINE_SEED") {
        Ok(seed) => vec![seed.parse().expect("HUNTLINE_SEED is a number")],
        Err(_) => {
            (0..std::env::var("HUNTLINE_SEEDS").map_or(MANGLED, |n| n.parse().expect("HUNTLINE_SEEDS is a number"))).collect()
        }
    };
    for seed in seeds {
        let mut rng = Rng::with_seed(seed);
        let mangled: Vec<Record> = (0..150).map(|_| nasty::mangled(&mut rng, &records)).collect();
        let definitions = rng.usize(..DEFINITIONS.len());
        case(format!("HUNTLINE_SEED={seed}"), definitions, mangled).assert_agreement();
    }
}
