//! **`huntline rebuild`**: folds the whole log with the configured definitions into a new store beside
//! the old one, which keeps serving, then swaps the two.
//!
//! It folds up to where the log ended when it began; what came since is read by the daemons that are
//! started with the new configuration afterwards. Refused where the log no longer reaches back to
//! where the old store began: the new view would silently hold less than the old.

use super::Files;
use super::progress::{Progress, per_second};
use super::screen::plural;
use crate::config::{self, Policy, Settings};
use crate::daemon::{merge_of, owner_id, store_target};
use crate::decode::Plan;
use crate::outcome::Reason;
use crate::partial::Fold;
use crate::position::{Offset, Position};
use crate::rebuild::{Letters, Rebuilt};
use crate::record::PartitionId;
use crate::refold::{Given, Refold, Refolded, Stage};
use crate::source::pass::{Found, Pass};
use crate::source::reader::Reader;
use crate::store::{self, AuditedPartition, Checkpoint, Gap, Identity, Owner, Store, summary};
use crate::time::Micros;
use crate::verify::first_needed;
use anyhow::{Context as _, anyhow, bail};
use indicatif::HumanCount;
use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long a store that is away is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether a daemon has ended.
const LOOK: Duration = Duration::from_millis(200);
const LOST: &str = "the log no longer had these records when the view was rebuilt";

#[derive(Clone, Debug, clap::Args)]
pub struct RebuildArgs {
    #[command(flatten)]
    pub files: Files,
    /// Rebuild even where the log no longer reaches back to where the old store began; what is gone is written to `gaps`
    #[arg(long)]
    pub accept_loss: bool,
}

/// The exit code: 0, 1 where it is refused, 2 for a wrong configuration.
pub fn run(args: &RebuildArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let loaded = match config::load(&args.files.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(2);
        }
    };
    let begun = Instant::now();
    let rebuilder = Rebuilder::new(loaded.settings)?;
    let spans = rebuilder.spans()?;
    let short: Vec<&Span> = spans.iter().filter(|span| span.from < span.low).collect();
    for Span { partition, from, low, .. } in &short {
        eprintln!("{partition}: the old store has records from {from} on, the log begins at {low}");
    }
    if !short.is_empty() && !args.accept_loss {
        bail!(
            "the log no longer reaches back to where the store began: the new view would lack what is gone. \
             `huntline rebuild --accept-loss` builds it all the same and writes what is gone to `gaps`; \
             `huntline run --from-now` keeps what the store has"
        );
    }
    let target = store_target(&rebuilder.settings.store);
    let beside = rebuilder.beside(&target)?;
    let total: i64 = spans.iter().map(|span| (span.end.0 - span.from.max(span.low).0).max(0)).sum();
    let mut progress = Progress::new("rebuilt", total as u64);
    let (mut records, mut hunts) = (0, 0);
    for span in &spans {
        progress.at(&span.partition);
        let came_to = rebuilder.partition(&beside, span, args.accept_loss, &mut progress)?;
        records += came_to.0;
        hunts += came_to.1;
    }
    progress.at("swapping");
    if Store::in_use(&target)? {
        progress.say("the new view is built; stop the daemon on this store: the two are swapped as soon as it has ended");
        while Store::in_use(&target)? {
            std::thread::sleep(LOOK);
        }
    }
    rebuilder.runtime.block_on(Store::swap(&target, beside)).context("put the new store in the place of the old one")?;
    progress.end();
    let took = begun.elapsed();
    writeln!(
        out,
        "{} {}, {} {}, {} {} rebuilt in {:.1} s, {} records/s",
        spans.len(),
        plural(spans.len() as u64, "partition"),
        HumanCount(records),
        plural(records, "record"),
        HumanCount(hunts),
        plural(hunts, "partial"),
        took.as_secs_f64(),
        HumanCount(per_second(records, took)),
    )?;
    writeln!(
        out,
        "the store now has the configured definitions. Daemons that still run with others are fenced and stop: start them with this configuration"
    )?;
    Ok(0)
}

/// What is to be folded of one partition.
struct Span {
    partition: PartitionId,
    /// Where the old store began, or where a new one would.
    start: Position,
    /// The first record that is needed: past the gaps on record.
    from: Position,
    low: Position,
    end: Position,
    /// Those the old store has on record.
    gaps: Vec<Gap>,
}

struct Rebuilder {
    settings: Settings,
    reader: Reader,
    runtime: tokio::runtime::Runtime,
    identity: crate::source::LogIdentity,
    stages: BTreeMap<String, Stage>,
    owner: Owner,
}

impl Rebuilder {
    fn new(settings: Settings) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("start a runtime")?;
        let reader = Reader::new(&settings, true);
        let (identity, warnings) = reader.identity().map_err(|why| anyhow!(why))?;
        warnings.iter().for_each(|warning| eprintln!("{warning}"));
        let mut stages = BTreeMap::new();
        for topic in reader.topics() {
            let plan = Arc::new(Plan::new(&settings.definitions, &topic));
            let max_state = usize::try_from(settings.failure.max_state).unwrap_or(usize::MAX);
            let fold = Arc::new(Fold::new(&settings.definitions, &plan, max_state));
            stages.insert(topic, Stage { from: None, plan, fold });
        }
        let owner = Owner { id: format!("rebuild-{}", owner_id()), advertise: settings.http.advertise.clone() };
        Ok(Self { settings, reader, runtime, identity, stages, owner })
    }

    /// Every partition of the log, with where the old store began.
    fn spans(&self) -> anyhow::Result<Vec<Span>> {
        let audited: Vec<AuditedPartition> = {
            let store = self.runtime.block_on(Store::open_reader(&store_target(&self.settings.store)))?;
            self.runtime.block_on(store.audit()).context("read where the old store began")?.partitions
        };
        let mut spans = Vec::new();
        for topic in &self.identity.topics {
            for number in 0..topic.partitions {
                let partition = PartitionId::new(&topic.topic, number);
                let old = audited.iter().find(|old| old.partition == partition);
                let start = match old.and_then(|old| old.start) {
                    Some(start) => start,
                    None => {
                        let resolved = self.reader.resolve_start(&partition).map_err(|why| anyhow!(why))?;
                        // An older store did not write down where it began; it was not after where it is.
                        old.and_then(|old| old.position).map_or(resolved, |position| position.min(resolved))
                    }
                };
                let gaps: Vec<Gap> =
                    old.map_or(Vec::new(), |old| old.gaps.iter().filter(|gap| gap.hunt_id.is_none()).cloned().collect());
                let (low, end) = self.reader.extent(&partition).map_err(|why| anyhow!(why))?;
                let from = first_needed(start, &gaps);
                spans.push(Span { partition, start, from, low: if from < end { low } else { from }, end: end.max(from), gaps });
            }
        }
        Ok(spans)
    }

    /// An empty store beside the old one, bound as the daemon would bind it.
    fn beside(&self, target: &store::Target) -> anyhow::Result<Store> {
        let fold = self.any_fold()?;
        let time = &self.settings.definitions.time;
        let bound = Identity {
            cluster: self.identity.cluster.clone(),
            group: self.reader.group().to_owned(),
            topics: self.identity.topics.iter().map(|topic| (topic.topic.clone(), topic.id.clone())).collect(),
            definitions: config::definitions_json(&self.settings.definitions),
        };
        self.runtime.block_on(async {
            let store = Store::open_beside(target).await.context("make a store beside the old one")?;
            let summary = summary::columns(&self.settings.definitions);
            let empty_view = fold.view(&fold.start());
            store.bind(&bound, time.idle, time.lateness, &empty_view, &summary, config::definitions_changes).await?;
            Ok(store)
        })
    }

    fn any_fold(&self) -> anyhow::Result<Arc<Fold>> {
        self.stages.values().next().map(|stage| stage.fold.clone()).context("at least one topic")
    }

    /// Folds one partition into the new store; how many records and partials it came to.
    fn partition(&self, beside: &Store, span: &Span, accept_loss: bool, progress: &mut Progress) -> anyhow::Result<(u64, u64)> {
        let id = &span.partition;
        let claimed = self.patiently(|| self.runtime.block_on(beside.claim(id, &self.owner)))?;
        self.patiently(|| self.runtime.block_on(beside.begin(id, claimed.epoch, &self.owner.id, span.start)))?;
        let mut rebuilt = Rebuilt {
            partition: id.clone(),
            epoch: claimed.epoch,
            owner: self.owner.id.clone(),
            number: claimed.checkpoint,
            start: span.start,
        };
        let mut failed = Vec::new();
        let (refolded, gaps) = loop {
            match self.fold(beside, &mut rebuilt, span, &failed, accept_loss, progress)? {
                Ok(done) => break done,
                Err(offset) => {
                    if failed.contains(&(offset, Reason::Failed)) {
                        bail!("{id}: folding record {offset} fails although it is left out: a defect");
                    }
                    progress.say(&format!("{id}: folding record {offset} fails: it is left out, and the partition folded again"));
                    failed.push((offset, Reason::Failed));
                }
            }
        };
        let partials = refolded.partials().count() as u64;
        let checkpoints = rebuilt.partials(&refolded, span.end, gaps, now());
        for checkpoint in checkpoints {
            self.commit(beside, checkpoint)?;
        }
        Ok((refolded.counts.records as u64, partials))
    }

    /// One fold over the partition. `Err`: the record at which it panicked.
    fn fold(
        &self,
        beside: &Store,
        rebuilt: &mut Rebuilt,
        span: &Span,
        failed: &[(Offset, Reason)],
        accept_loss: bool,
        progress: &mut Progress,
    ) -> anyhow::Result<Result<(Refolded, Vec<Gap>), Offset>> {
        let id = &span.partition;
        let park = self.settings.failure.policy == Policy::Park;
        let given = Given { until: Some(span.end), left_out: failed.to_vec(), park, ..Given::default() };
        let stage = self.stages.get(&*id.topic).context("the topic is configured")?;
        let mut refold = Refold::new(vec![stage.clone()], given);
        let mut gaps = span.gaps.clone();
        let mut letters = Letters::default();
        for found in Pass::new(&self.reader, id, span.from, span.end) {
            match found.map_err(|why| anyhow!(why))? {
                Found::Gap { from, to } if accept_loss => {
                    lost(&mut gaps, from, to);
                }
                Found::Gap { from, to } => {
                    bail!("{id}: the log has lost {from} to {to} meanwhile: rebuild again, or --accept-loss")
                }
                Found::Batch(batch) => {
                    if catch_unwind(AssertUnwindSafe(|| refold.take(&batch, now(), &mut letters))).is_err() {
                        return Ok(Err(refold.in_hand()));
                    }
                    progress.add(batch.records.len() as u64);
                    if let Some(full) = letters.take_if_full() {
                        let checkpoint = rebuilt.letters(full, now());
                        self.commit(beside, checkpoint)?;
                    }
                }
            }
        }
        let checkpoint = rebuilt.letters(letters.take(), now());
        self.commit(beside, checkpoint)?;
        Ok(Ok((refold.finish(), gaps)))
    }

    fn commit(&self, beside: &Store, checkpoint: Checkpoint) -> anyhow::Result<()> {
        let merge = merge_of(self.any_fold()?);
        let checkpoint = Arc::new(checkpoint);
        self.patiently(|| self.runtime.block_on(beside.checkpoint(checkpoint.clone(), merge.clone())))
    }

    /// Tries a call again while the store is away.
    fn patiently<T>(&self, call: impl Fn() -> store::Result<T>) -> anyhow::Result<T> {
        let since = Instant::now();
        loop {
            match call() {
                Err(store::Error::Passing(why)) if since.elapsed() < PATIENCE => {
                    eprintln!("the store will be tried again: {why}");
                    std::thread::sleep(Duration::from_millis(500 + fastrand::u64(..500)));
                }
                done => return Ok(done?),
            }
        }
    }
}

/// The wall clock, for the columns that say when something was written.
fn now() -> Micros {
    Micros(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64))
}

/// Puts `[from, to)` on record in place of what was on record within it: a range has one row.
fn lost(gaps: &mut Vec<Gap>, from: Position, to: Position) {
    gaps.retain(|gap| gap.from < from || gap.to > to);
    gaps.push(Gap { hunt_id: None, from, to, reason: LOST.to_owned(), found_at: now() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_takes_the_place_of_what_was_lost_within_it() {
        let gap = |from, to| Gap {
            hunt_id: None,
            from: Position(from),
            to: Position(to),
            reason: "before".to_owned(),
            found_at: Micros(0),
        };
        let mut gaps = vec![gap(101, 110), gap(200, 210)];
        lost(&mut gaps, Position(0), Position(110));
        let ranges: Vec<(i64, i64)> = gaps.iter().map(|gap| (gap.from.0, gap.to.0)).collect();
        assert_eq!(ranges, [(200, 210), (0, 110)]);
    }
}
