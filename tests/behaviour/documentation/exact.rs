//! An example as the **oracle** tells it: the log up to each row computed anew, so that what changed is what the row's record did.

use super::page::{Example, Outcome, Row, Shown};
use super::{Account, Step, value};
use crate::oracle::{self, Definitions, LeftOut, Log, Record, Said};
use std::collections::BTreeMap;

pub fn account(example: &Example) -> Account {
    let definitions = Definitions::from_toml(&example.toml);
    let mut log = Log::new();
    let mut said = oracle::recompute(&definitions, &log, &LeftOut::new());
    let mut account = Account::default();
    for row in &example.rows {
        let record = Record {
            offset: row.offset,
            timestamp_ms: row.timestamp_ms(),
            key: Some(row.key.clone().into_bytes()),
            value: row.value.clone().map(String::into_bytes),
            headers: Vec::new(),
        };
        log.entry(row.partition.clone()).or_default().push(record);
        let now = oracle::recompute(&definitions, &log, &LeftOut::new());
        account.steps.push(step(row, &said, &now));
        said = now;
    }
    for (hunt, it) in &said.hunts {
        account.watermarks.insert(hunt.clone(), it.watermark);
        account.shown.insert(Shown::View(hunt.clone()), it.view.to_string());
        let row = value::Row {
            events: it.events,
            first_event_at: it.first_event_at,
            last_event_at: it.last_event_at,
            watermark: it.watermark,
        };
        account.shown.insert(Shown::Row(hunt.clone()), row.to_json());
    }
    if let Some(view) = account.shown.get(&Shown::View(super::page::HUNT.to_owned())) {
        account.shown.insert(Shown::Exact, view.clone());
    }
    let members = said.rollup.iter().map(|(name, value)| (name.as_str(), value.clone()));
    account.shown.insert(Shown::Rollup, oracle::Json::object(members).to_string());
    for (partition, it) in &said.partitions {
        let oracle::Counts { records, applied, duplicate, dead_lettered, ignored, held, late } = it.counts;
        let counts = huntline::outcome::Counts { records, applied, duplicate, dead_lettered, ignored, held, late };
        account.shown.insert(Shown::Counts(partition.clone()), value::counts(&counts));
    }
    account
}

fn step(row: &Row, before: &Said, after: &Said) -> Step {
    let now = &after.partitions[&row.partition];
    let counts = |said: &Said| said.partitions.get(&row.partition).map(|it| it.counts).unwrap_or_default();
    let (old, new) = (counts(before), counts(after));
    let outcome = if new.applied > old.applied {
        let late = after.late.iter().filter(|(name, count)| before.late.get(*name).copied().unwrap_or_default() < **count);
        Outcome::Applied(late.map(|(name, _)| name.clone()).collect())
    } else if new.duplicate > old.duplicate {
        Outcome::Duplicate
    } else if new.ignored > old.ignored {
        Outcome::Ignored
    } else {
        Outcome::DeadLetter(now.dead_letters.last().expect("the record has an outcome").reason.clone())
    };
    let watermarks: BTreeMap<_, _> = now.hunts.iter().map(|(hunt, it)| (hunt.clone(), it.watermark)).collect();
    Step { outcome, partition_clock: now.clock, watermarks, hunt_clocks: None }
}
