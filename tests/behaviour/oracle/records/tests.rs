//! The generator keeps its promises, as the oracle sees them.

use super::*;
use crate::oracle::{Definitions, LeftOut, recompute};
use std::collections::BTreeSet;

const TOML: &str = r#"
    [event]
    max_bytes = "16KiB"
    [topic.headed.event]
    hunt = "header:hunt"
    [topic.inside.event]
    hunt = "/data/hunt_id"
    [aggregates.points]
    kind = "sum"
    of = "/data/points"
    on = "clue.solved"
    [aggregates.solved]
    kind = "count"
    on = "clue.solved"
    window = { tumbling = "1m" }
    [aggregates.play]
    kind = "count"
    window = { session = "5m" }
"#;

fn three_topics() -> Vec<Topic> {
    let topic = |name: &str, partitions, hunt| Topic { name: name.to_owned(), partitions, hunt };
    vec![topic("keyed", 2, HuntAt::Key), topic("headed", 1, HuntAt::Header("hunt".to_owned())), topic("inside", 1, HuntAt::Value)]
}

#[test]
fn every_bad_record_is_bad_for_the_reason_it_was_made_for() {
    let definitions = Definitions::from_toml(TOML);
    for seed in 0..40 {
        let mut records = Records::new(Options { seed, ..Options::default() });
        for topic in three_topics() {
            for reason in REASONS {
                let record = records.bad_for(reason, "h", &topic.hunt);
                let shown = format!("{record:?}").chars().take(600).collect::<String>();
                let log = Log::from([((topic.name.clone(), 0), vec![record])]);
                let said = recompute(&definitions, &log, &LeftOut::new());
                let letters = &said.partitions[&(topic.name.clone(), 0)].dead_letters;
                assert_eq!(letters.first().map(|l| l.reason.as_str()), Some(reason), "seed {seed}, {}: {shown}", topic.name);
            }
        }
    }
}

#[test]
fn a_log_holds_every_outcome_every_reason_and_late_events_and_no_bad_one_by_mistake() {
    let definitions = Definitions::from_toml(TOML);
    let options = Options { topics: three_topics(), hunts: 30, ..Options::default() };
    let said = recompute(&definitions, &log(&options), &LeftOut::new());
    let mut reasons = BTreeSet::new();
    let mut dead = 0;
    for partition in said.partitions.values() {
        let counts = partition.counts;
        assert_eq!(counts.records, counts.applied + counts.duplicate + counts.dead_lettered + counts.ignored);
        assert!(counts.applied > 0 && counts.duplicate > 0 && counts.ignored > 0 && counts.late > 0, "{counts:?}");
        reasons.extend(partition.dead_letters.iter().map(|l| l.reason.clone()));
        dead += counts.dead_lettered;
    }
    assert_eq!(said.partitions.values().map(|p| p.counts.records).sum::<i64>(), 10_000);
    assert_eq!(reasons, REASONS.map(String::from).into());
    assert!((200..400).contains(&dead), "3 % of 10,000, not {dead}");
    assert!(said.hunts.values().any(|hunt| hunt.partials > 1));
    assert!(said.late["solved"] > 0 && said.late["play"] > 0);
}

#[test]
fn without_bad_records_no_letter_is_dead() {
    let definitions = Definitions::from_toml(TOML);
    let options = Options { bad: 0.0, strange: 0.5, topics: three_topics(), ..Options::default() };
    let said = recompute(&definitions, &log(&options), &LeftOut::new());
    for ((topic, partition), one) in &said.partitions {
        assert_eq!(one.dead_letters, [], "{topic}/{partition}");
    }
}

#[test]
fn equal_options_give_equal_records_and_clocks_that_do_not_step_back() {
    let all = |seed| Records::new(Options { seed, count: 2000, ..Options::default() }).collect::<Vec<_>>();
    let (a, b) = (all(7), all(7));
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
    assert_ne!(format!("{a:?}"), format!("{:?}", all(8)));
    assert!(a.windows(2).all(|w| w[0].1.timestamp_ms <= w[1].1.timestamp_ms));
    for (partition, records) in log(&Options { seed: 7, count: 2000, ..Options::default() }) {
        assert!(records.iter().enumerate().all(|(i, r)| r.offset == i as i64), "{partition:?}");
    }
}
