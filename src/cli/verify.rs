//! **`huntline verify`**: folds the log again, one partition at a time, and compares every partial
//! with the store's, byte for byte, and every dead letter. Beside that it makes from the stored states
//! what readers are shown, page by page. It reads beside working daemons and changes nothing.
//!
//! What the store says is read in one short transaction at the beginning. Where states differ their
//! hunts are looked at again, each alone, to say which part differs and from which record on. What is
//! compared later is read later: it does not change below the positions read first, or is one moment.

mod report;
mod shown;

use super::Files;
use super::history::{self, Folded, History, OnGap, Opened};
use super::progress::{Progress, per_second};
use crate::config;
use crate::decode::Plan;
use crate::decode::hunt_hash;
use crate::outcome::Reason;
use crate::partial::Fold;
use crate::position::{Offset, Position};
use crate::record::PartitionId;
use crate::refold::Given;
use crate::source::reader::Reader;
use crate::store::{AuditedLetter, AuditedPartition, LetterFilter, Store};
use crate::verify::{self, Difference, LetterCheck, Letters, SecondLook};
use anyhow::{Context as _, bail};
use report::{Report, TooShort};
use shown::ShownPass;
use std::collections::HashSet;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Of one partition, so many hunts that differ are looked at again; the others are only named.
const DETAILED: usize = 100;
/// Dead letters in a page.
const LETTERS: u32 = 5000;
/// Offsets in one question.
const OFFSETS: usize = 1000;

#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub files: Files,
    /// Verify this hunt alone; the partitions' counts are then not compared
    #[arg(long, value_name = "ID")]
    pub hunt: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The exit code: 0 the same, 1 any difference or a hunt that is not there, 3 where the log no longer reaches back far enough, 2 for a wrong configuration.
pub fn run(args: &VerifyArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let Some(Opened { settings, runtime, store }) = history::open(&args.files)? else { return Ok(2) };
    let audit = runtime.block_on(store.audit()).context("read what the store says")?;
    let configured = config::definitions_json(&settings.definitions);
    if audit.generations.last().is_some_and(|newest| newest.definitions != configured) {
        eprintln!("the configuration has other definitions than the store; the store's own are verified");
    }
    let verifier = Verifier {
        history: History::new(Reader::new(&settings, true), audit.generations),
        runtime,
        store,
        hunt: args.hunt.clone(),
        letters_are_kept: settings.dead_letters_keep.is_none(),
    };
    let begun = Instant::now();
    let mut report = Report::default();
    let partitions: Vec<&AuditedPartition> = audit.partitions.iter().filter(|of| of.position.is_some()).collect();
    let records: i64 = partitions.iter().map(|of| of.counts.records).sum();
    let mut progress = Progress::new("verified", records.max(0) as u64);
    let pass = audit.partitions.first().map(|first| verifier.shown(&first.partition.topic)).transpose()?;
    let (mut differing, stop) = (HashSet::new(), AtomicBool::new(false));
    let shown = std::thread::scope(|scope| {
        let shown = pass.as_ref().map(|pass| scope.spawn(|| pass.run(&stop)));
        for partition in partitions {
            progress.at(&partition.partition);
            let folded = verifier.partition(partition, &mut report, &mut differing, &mut progress);
            folded.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
        }
        progress.at("what readers are shown");
        shown.map(|shown| shown.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).transpose()
    })?;
    if let Some(shown) = shown {
        shown.tell(&differing, &mut report);
    }
    verifier.same_generations()?;
    progress.end();
    if let Some(hunt) = args.hunt.as_ref().filter(|_| report.met_nothing()) {
        bail!("no hunt {hunt:?}: neither the store nor the log has an event or a dead letter of it");
    }
    report.seconds = begun.elapsed().as_secs_f64();
    report.records_per_second = per_second(report.records, begun.elapsed());
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?
    } else {
        report.print(out)?
    }
    Ok(report.exit_code())
}

struct Verifier {
    history: History,
    runtime: tokio::runtime::Runtime,
    store: Store,
    hunt: Option<String>,
    /// No time takes dead letters away.
    letters_are_kept: bool,
}

impl Verifier {
    /// `differing` is told the hunts whose states differ.
    fn partition(
        &self,
        audited: &AuditedPartition,
        report: &mut Report,
        differing: &mut HashSet<String>,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let id = &audited.partition;
        let (low, end) = self.history.extent(id)?;
        let (start, from) = self.history.beginning(audited)?;
        let position = audited.position.unwrap_or(start);
        let mut too_short = |first_offset| {
            let (topic, partition) = (id.topic.to_string(), id.partition);
            report.too_short.push(TooShort { topic, partition, start, first_offset });
        };
        if from < low && from < position {
            too_short(low);
            return Ok(());
        }
        let mut differences = Vec::new();
        if position > end {
            differences.push(Difference::new(id, None, "position", position, format!("at most {end}: the log ends there")));
        }
        let stops = audited.partials.iter().filter_map(|row| Some((row.hunt.clone(), row.lag?.position))).collect();
        let given = Given {
            until: Some(position),
            left_out: audited.left_out.clone(),
            stops,
            only: self.hunt.as_ref().map(|hunt| [hunt_hash(hunt.as_bytes())].into_iter().collect()),
            park: false,
        };
        let mut folded_records = 0;
        let until = position.min(end);
        let mut letters = Letters::default();
        let folded = self.history.fold(id, from, until, given, OnGap::Stop, &mut letters, |_, count| {
            folded_records += count;
            progress.add(count);
            Ok(())
        })?;
        report.records += folded_records;
        report.partitions += 1;
        match folded {
            Folded::TooShort(low) => too_short(low),
            Folded::Panicked(offset) => differences.push(panicked(id, offset)),
            Folded::All(refolded, _) => {
                let compared = verify::compare(audited, &refolded, self.hunt.as_deref());
                report.partials += compared.partials;
                differences.extend(compared.differences);
                let (again, named) = compared.hunts.split_at(compared.hunts.len().min(DETAILED));
                if !again.is_empty() {
                    progress.say(&match compared.hunts.len() {
                        1 => format!("{id}: 1 hunt differs; looking again"),
                        hunts => format!("{id}: {hunts} hunts differ; looking again"),
                    });
                    differences.extend(self.look_again(audited, from, position, again)?);
                }
                differences.extend(named.iter().map(|hunt| Difference::new(id, Some(hunt), "state", "another", "another")));
                differences.extend(self.letters(audited, until, letters, report)?);
                differing.extend(compared.hunts);
            }
        }
        report.differences.extend(differences);
        Ok(())
    }

    /// Compares the dead letters below `until` with those that the log gives.
    fn letters(
        &self,
        audited: &AuditedPartition,
        until: Position,
        given: Letters,
        report: &mut Report,
    ) -> anyhow::Result<Vec<Difference>> {
        let id = &audited.partition;
        let mut check = LetterCheck::new(id, self.hunt.as_deref(), &audited.left_out, given);
        let mut after = None;
        loop {
            let page: Vec<AuditedLetter> = self.runtime.block_on(self.store.audited_letters(id, after, until, LETTERS))?;
            check.take(&page);
            match page.last() {
                Some(last) if page.len() == LETTERS as usize => after = Some(last.offset),
                _ => break,
            }
        }
        check.end();
        report.dead_letters += check.compared;
        let mut accounted = Vec::new();
        if !self.letters_are_kept {
            let missing: Vec<Offset> = check.missing.iter().map(|letter| letter.offset).collect();
            for offsets in missing.chunks(OFFSETS) {
                accounted.extend(self.runtime.block_on(self.store.settled(id, offsets.to_vec()))?);
            }
        }
        Ok(check.finish(&accounted))
    }

    fn shown(&self, topic: &str) -> anyhow::Result<ShownPass> {
        let newest = self.history.generations.last().context("a generation of definitions")?;
        let definitions = History::definitions(newest)?;
        Ok(ShownPass {
            store: self.store.clone(),
            runtime: self.runtime.handle().clone(),
            fold: Fold::new(&definitions, &Plan::new(&definitions, topic), usize::MAX),
            generations: self.history.generations.len(),
            hunt: self.hunt.clone(),
        })
    }

    fn same_generations(&self) -> anyhow::Result<()> {
        if self.runtime.block_on(self.store.generations())?.len() != self.history.generations.len() {
            bail!("the store's definitions were changed meanwhile: verify again");
        }
        Ok(())
    }

    /// The log may have grown and the store have moved on since the audit: the hunts are folded up to where they are now.
    fn look_again(
        &self,
        audited: &AuditedPartition,
        from: Position,
        then: Position,
        hunts: &[String],
    ) -> anyhow::Result<Vec<Difference>> {
        let id = &audited.partition;
        let (position, snapshots) = self.runtime.block_on(self.store.partials(id, hunts.to_vec()))?;
        self.same_generations()?;
        let mut left_out = Vec::new();
        for hunt in hunts {
            left_out.extend(self.left_out(id, hunt)?);
        }
        let (_, end) = self.history.extent(id)?;
        let stops = snapshots.iter().filter_map(|row| Some((row.hunt.clone(), row.lag?.position))).collect();
        let only = Some(hunts.iter().map(|hunt| hunt_hash(hunt.as_bytes())).collect());
        let given = Given { until: Some(position), left_out, stops, only, park: false };
        let stages = self.history.stages(id)?;
        let newest = stages.last().map(|stage| stage.fold.clone()).context("a generation of definitions")?;
        let mut look = SecondLook::new(hunts, snapshots, &newest);
        match self.history.fold(id, from, position.min(end), given, OnGap::Stop, &mut look, |_, _| Ok(()))? {
            Folded::TooShort(low) => bail!("{id}: the log began at {low} by the second look: verify again"),
            Folded::Panicked(offset) => Ok(vec![panicked(id, offset)]),
            Folded::All(refolded, _) => {
                let mut found = look.differences(id, &refolded);
                let named: Vec<&String> =
                    hunts.iter().filter(|hunt| !found.iter().any(|d| d.hunt_id.as_ref() == Some(hunt))).collect();
                let gone = named.into_iter().map(|hunt| {
                    let stored = format!("another at {then}, the log's at {position}");
                    Difference::new(id, Some(hunt), "state", stored, "the same again by the second look")
                });
                found.extend(gone.collect::<Vec<_>>());
                Ok(found)
            }
        }
    }

    /// The records of a hunt that are on record as left out.
    fn left_out(&self, id: &PartitionId, hunt: &str) -> anyhow::Result<Vec<(Offset, Reason)>> {
        const PAGE: u32 = 1000;
        let mut found = Vec::new();
        for reason in [Reason::Failed, Reason::StateFull] {
            let mut after = None;
            loop {
                let filter = LetterFilter {
                    reason: Some(reason.as_str().to_owned()),
                    hunt: Some(hunt.to_owned()),
                    after: after.clone(),
                    limit: PAGE,
                    ..LetterFilter::default()
                };
                let page = self.runtime.block_on(self.store.dead_letters(&filter))?;
                found.extend(page.iter().filter(|letter| letter.partition == *id).map(|letter| (letter.offset, reason)));
                match page.last() {
                    Some(last) if page.len() == PAGE as usize => after = Some((last.partition.clone(), last.offset)),
                    _ => break,
                }
            }
        }
        Ok(found)
    }
}

fn panicked(id: &PartitionId, offset: Offset) -> Difference {
    Difference::new(id, None, "record", format!("{offset} folded"), "a defect: the fold fails there").from(Some(offset))
}
