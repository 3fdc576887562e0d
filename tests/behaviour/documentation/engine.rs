//! An example as the **daemon** folds it: the configuration read from a file, the records decoded in a batch, each event folded with the
//! partition clock before it, the partials of a hunt merged for its view.
//!
//! Every partial goes through its snapshot after every record, so that what a page says also holds after a restart.

use super::page::{Example, Outcome, Row, Shown};
use super::{Account, Step, value};
use huntline::config;
use huntline::decode::{Decoded, Plan, Verdict};
use huntline::definitions::Definitions;
use huntline::outcome::Counts;
use huntline::partial::{Fold, Folded, Partial};
use huntline::position::{Epoch, Offset, Position};
use huntline::record::{Batch, PartitionId};
use huntline::rollup::Delta;
use huntline::time::Micros;
use huntline::window::Finals;
use std::collections::{BTreeMap, BTreeSet};

/// The error says why the daemon would not start with the example's configuration.
pub fn account(example: &Example) -> Result<Account, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("huntline.toml");
    std::fs::write(&file, &example.toml).expect("write the configuration");
    let settings = config::load(&[file]).map_err(|problems| problems.to_string())?.settings;

    let mut account = Account::default();
    let mut steps: BTreeMap<usize, Step> = BTreeMap::new();
    let mut partitions = Vec::new();
    for id in example.rows.iter().map(|row| &row.partition).collect::<BTreeSet<_>>() {
        let rows: Vec<(usize, &Row)> = example.rows.iter().enumerate().filter(|(_, row)| row.partition == *id).collect();
        let mut partition = Partition::new(&settings.definitions, id, settings.failure.max_state as usize);
        steps.extend(partition.fold(&rows));
        account.shown.insert(Shown::Counts(id.clone()), value::counts(&partition.counts));
        if id.1 == 0 {
            let details = partition.details.iter().map(|(offset, detail)| (Shown::Detail(*offset), detail.clone()));
            account.shown.extend(details);
        }
        partitions.push(partition);
    }
    account.steps = steps.into_values().collect();

    let members: Vec<String> = partitions[0]
        .fold
        .rollup()
        .values(partitions.iter().map(|partition| &partition.rollup))
        .into_iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    account.shown.insert(Shown::Rollup, format!("{{{}}}", members.join(",")));

    for hunt in partitions.iter().flat_map(|partition| partition.partials.keys()).collect::<BTreeSet<_>>() {
        let mine = || partitions.iter().filter_map(|partition| Some((partition, partition.partials.get(hunt)?)));
        let fold = &partitions[0].fold;
        let mut merged = fold.start();
        for (_, partial) in mine() {
            fold.merge(&mut merged, partial);
        }
        let readers = fold.readers(&merged);
        let watermark =
            mine().filter_map(|(partition, partial)| partition.watermark(partial)).min().expect("a hunt has a partial");
        let row = value::Row {
            events: readers.events,
            first_event_at: readers.first_event_at.expect("something applied").0,
            last_event_at: readers.last_event_at.expect("something applied").0,
            watermark: watermark.0,
        };
        let view = fold.view_with(&merged, Some(Finals(Some(watermark))));
        account.shown.insert(Shown::View(hunt.clone()), view);
        account.shown.insert(Shown::Row(hunt.clone()), row.to_json());
        account.watermarks.insert(hunt.clone(), watermark.0);
    }
    Ok(account)
}

struct Partition<'a> {
    id: PartitionId,
    definitions: &'a Definitions,
    plan: Plan,
    fold: Fold,
    clock: Option<Micros>,
    counts: Counts,
    /// What was wrong with its dead letters, by offset.
    details: BTreeMap<i64, String>,
    /// By hunt.
    partials: BTreeMap<String, Partial>,
    /// What the partition's hunts applied.
    rollup: Delta,
}

impl<'a> Partition<'a> {
    fn new(definitions: &'a Definitions, (topic, partition): &(String, i32), max_state: usize) -> Self {
        let plan = Plan::new(definitions, topic);
        let fold = Fold::new(definitions, &plan, max_state);
        Partition {
            id: PartitionId::new(topic, *partition),
            definitions,
            plan,
            fold,
            clock: None,
            counts: Counts::default(),
            details: BTreeMap::new(),
            partials: BTreeMap::new(),
            rollup: Delta::default(),
        }
    }

    /// Rows with their numbers in the table.
    fn fold(&mut self, rows: &[(usize, &Row)]) -> Vec<(usize, Step)> {
        let mut batch = Batch::new(self.id.clone(), Epoch(1), Position(0));
        for (_, row) in rows {
            let value = row.value.as_ref().map(String::as_bytes);
            batch.push(Offset(row.offset), row.timestamp_ms(), Some(row.key.as_bytes()), value, []);
        }
        let mut decoded = Decoded::default();
        self.plan.decode(&batch, &mut decoded);
        rows.iter().enumerate().map(|(index, (number, _))| (*number, self.step(&batch, &decoded, index))).collect()
    }

    fn step(&mut self, batch: &Batch, decoded: &Decoded, index: usize) -> Step {
        let event = &decoded.events[index];
        let hunt = String::from_utf8_lossy(decoded.text(batch, event.hunt)).into_owned();
        self.counts.records += 1;
        let outcome = match event.verdict {
            Verdict::Ignored => {
                self.counts.ignored += 1;
                Outcome::Ignored
            }
            Verdict::Rejected(reason) => {
                self.details.insert(batch.records[index].offset.0, self.plan.explain(batch, index));
                self.dead_letter(reason.as_str())
            }
            Verdict::Event => self.apply(hunt, batch, decoded, index),
        };
        self.clock = self.clock.max(Micros::of_record_timestamp(batch.records[index].timestamp_ms));
        let watermarks = self.partials.iter().filter_map(|(hunt, partial)| Some((hunt.clone(), self.watermark(partial)?.0)));
        let hunt_clocks = self.partials.iter().filter_map(|(hunt, partial)| Some((hunt.clone(), partial.times?.clocks.hunt.0)));
        Step {
            outcome,
            partition_clock: self.clock.map(|clock| clock.0),
            watermarks: watermarks.collect(),
            hunt_clocks: Some(hunt_clocks.collect()),
        }
    }

    fn apply(&mut self, hunt: String, batch: &Batch, decoded: &Decoded, index: usize) -> Outcome {
        let mut partial = self.partials.remove(&hunt).unwrap_or_else(|| self.fold.start());
        let mut delta = Delta::default();
        let folded = self.fold.apply(&mut partial, batch, decoded, index, self.clock, &mut delta);
        self.fold.rollup().merge(&mut self.rollup, &delta);
        let snapshot = self.fold.encode(&partial);
        let restored = self.fold.decode(&snapshot).expect("its own snapshot");
        assert_eq!(self.fold.encode(&restored), snapshot, "a snapshot encodes to itself");
        if restored.events > 0 {
            self.partials.insert(hunt, restored);
        }
        match folded {
            Folded::Applied { late } => {
                self.counts.applied += 1;
                self.counts.late += i64::from(late != 0);
                let aggregates = self.definitions.aggregates.iter().enumerate();
                let refused_by = aggregates.filter(|(bit, _)| late & 1 << bit != 0);
                Outcome::Applied(refused_by.map(|(_, aggregate)| aggregate.name.clone()).collect())
            }
            Folded::Duplicate => {
                self.counts.duplicate += 1;
                Outcome::Duplicate
            }
            Folded::StateFull { .. } => self.dead_letter("state_full"),
        }
    }

    fn dead_letter(&mut self, reason: &str) -> Outcome {
        self.counts.dead_lettered += 1;
        Outcome::DeadLetter(reason.to_owned())
    }

    fn watermark(&self, partial: &Partial) -> Option<Micros> {
        self.fold.watermark(&self.fold.encode(partial), self.clock)
    }
}
