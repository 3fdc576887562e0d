//! **`huntline explain`**: folds one hunt's records again and shows what became of each and what it
//! added. It reads beside working daemons and changes nothing.
//!
//! It folds the partitions that have a partial or a dead letter of the hunt, up to where the store
//! stands, and says whether the saved values are what came of it.

mod told;

use super::Files;
use super::history::{self, Folded, History, OnGap, Opened};
use super::progress::Progress;
use crate::config;
use crate::decode::hunt_hash;
use crate::explain::{Explanation, Tally};
use crate::outcome::Counts;
use crate::partial::{Fold, Partial};
use crate::position::Position;
use crate::record::PartitionId;
use crate::refold::Given;
use crate::source::reader::Reader;
use crate::store::{Audit, AuditedPartial, AuditedPartition, Store, StoredHunt};
use anyhow::{Context as _, anyhow, bail};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use told::{Told, Value};

/// Between the two reads of the store a daemon may commit; then they are made again.
const READS: u32 = 20;

#[derive(Clone, Debug, clap::Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    pub files: Files,
    /// The hunt
    #[arg(value_name = "ID")]
    pub id: String,
    /// Only the records that concern this aggregate, with what each adds; else all records of the hunt
    #[arg(value_name = "AGGREGATE")]
    pub aggregate: Option<String>,
    /// Of each partition at most this many records, the newest; 0: all
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
    /// Print JSON: one record a line, then a line that sums up
    #[arg(long)]
    pub json: bool,
}

/// The exit code: 0, 1 for a hunt that is not there, 2 for wrong usage or configuration, 3 where the log no longer reaches back far enough.
pub fn run(args: &ExplainArgs, out: &mut impl Write) -> anyhow::Result<u8> {
    let Some(Opened { settings, runtime, store }) = history::open(&args.files)? else { return Ok(2) };
    let moment = runtime.block_on(Moment::read(&store, &args.id)).context("read what the store says")?;
    let newest = moment.audit.generations.last().context("the store was built with no definitions yet")?;
    if newest.definitions != config::definitions_json(&settings.definitions) {
        eprintln!("the configuration has other definitions than the store; the store's own are explained");
    }
    let definitions = History::definitions(newest)?;
    let names = || definitions.aggregates.iter().map(|aggregate| aggregate.name.as_str());
    if let Some(name) = args.aggregate.as_deref().filter(|name| names().all(|known| known != *name)) {
        let meant = config::nearest(name, names()).map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
        let known: Vec<&str> = names().collect();
        eprintln!("huntline: found the aggregate {name:?}, expected one of {}{meant}", known.join(", "));
        return Ok(2);
    }
    let concerned = |of: &&AuditedPartition| of.position.is_some() && (!of.partials.is_empty() || of.letters > 0);
    let partitions: Vec<&AuditedPartition> = moment.audit.partitions.iter().filter(concerned).collect();
    if partitions.is_empty() {
        bail!("no hunt {:?}: the store has no event and no dead letter of it", args.id);
    }
    let explainer = Explainer { history: History::new(Reader::new(&settings, true), moment.audit.generations.clone()), args };
    let mut told = Told::new(out, args, &definitions);
    let found = explainer.partitions(&partitions, &mut told)?;
    let fold = explainer.history.stages(&partitions[0].partition)?.pop().map(|stage| stage.fold).context("definitions")?;
    let values = found.values(&fold, moment.saved(&fold), args.aggregate.as_deref())?;
    told.summary(&found, &values)?;
    Ok(if found.lost.is_empty() { 0 } else { 3 })
}

/// What the store says of the hunt, at one moment.
struct Moment {
    audit: Audit,
    /// `Err`: the store moved on between every two reads.
    hunt: Result<Option<StoredHunt>, ()>,
}

impl Moment {
    async fn read(store: &Store, id: &str) -> anyhow::Result<Moment> {
        let mut audit = store.audit_of(id).await?;
        for _ in 0..READS {
            let hunt = store.hunt(id).await?;
            let again = store.audit_of(id).await?;
            // What stood before and after stood in between.
            if of_the_hunt(&again).eq(of_the_hunt(&audit)) && again.generations == audit.generations {
                return Ok(Moment { audit, hunt: Ok(hunt) });
            }
            audit = again;
        }
        Ok(Moment { audit, hunt: Err(()) })
    }

    /// The saved view, made of the saved states. The error says why there is none to compare with.
    fn saved(&self, fold: &Fold) -> Result<String, String> {
        let hunt = self.hunt.as_ref().map_err(|()| "the store moved on whenever it was read".to_owned())?;
        let partials = hunt.iter().flat_map(|hunt| &hunt.partials);
        let states = partials.filter_map(|partial| partial.snapshot.state.as_deref());
        fold.merged_readers(states).map(|readers| readers.view).map_err(|error| format!("a saved state cannot be read: {error}"))
    }
}

/// Where its partials stand, and what they are.
fn of_the_hunt(audit: &Audit) -> impl Iterator<Item = (&PartitionId, Option<Position>, &AuditedPartial)> {
    audit.partitions.iter().flat_map(|of| of.partials.iter().map(move |partial| (&of.partition, of.position, partial)))
}

struct Explainer<'a> {
    history: History,
    args: &'a ExplainArgs,
}

/// Where a partition was folded.
struct Stretch {
    partition: PartitionId,
    from: Position,
    /// Where the hunt stands: below the partition's position while it lags.
    until: Position,
    lagging: bool,
}

/// What came of all partitions.
#[derive(Default)]
struct Found {
    stretches: Vec<Stretch>,
    /// Partitions of which the log has records only from here on.
    lost: Vec<(PartitionId, Position)>,
    counts: Counts,
    tallies: BTreeMap<String, Tally>,
    merged: Option<(Arc<Fold>, Partial)>,
}

impl Explainer<'_> {
    fn partitions<W: Write>(&self, partitions: &[&AuditedPartition], told: &mut Told<W>) -> anyhow::Result<Found> {
        let mut stretches = Vec::new();
        let mut total = 0;
        for audited in partitions {
            let (_, from) = self.history.beginning(audited)?;
            let until = audited.position.unwrap_or(from);
            total += (until.0 - from.0).max(0);
            stretches.push((from, until));
        }
        let mut found = Found::default();
        let mut progress = Progress::new("folded", total as u64);
        for (audited, (from, until)) in partitions.iter().zip(stretches) {
            progress.at(&audited.partition);
            self.partition(audited, from, until, &mut found, told, &mut progress)?;
        }
        progress.end();
        Ok(found)
    }

    fn partition<W: Write>(
        &self,
        audited: &AuditedPartition,
        from: Position,
        until: Position,
        found: &mut Found,
        told: &mut Told<W>,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let id = &audited.partition;
        let (low, end) = self.history.extent(id)?;
        if until > end {
            eprintln!("{id}: the store stands at {until}, the log ends at {end}");
        }
        let lag = audited.partials.iter().find_map(|row| row.lag);
        let stretch = Stretch {
            partition: id.clone(),
            from: if from < until { from.max(low) } else { from },
            until: lag.map_or(until, |lag| lag.position),
            lagging: lag.is_some(),
        };
        let given = Given {
            until: Some(until),
            left_out: audited.left_out.clone(),
            stops: lag.map(|lag| (self.args.id.clone(), lag.position)).into_iter().collect(),
            only: Some([hunt_hash(self.args.id.as_bytes())].into_iter().collect()),
            ..Given::default()
        };
        let most = if self.args.limit == 0 { usize::MAX } else { self.args.limit };
        let stages = self.history.stages(id)?;
        let mut explanation = Explanation::new(&self.args.id, id, &stages, self.args.aggregate.as_deref(), most);
        told.stretch(&stretch);
        let folded =
            self.history.fold(id, from, until.min(end), given, OnGap::ReadOn, &mut explanation, |explanation, count| {
                progress.add(count);
                match self.args.limit {
                    // They need not wait for newer ones.
                    0 => progress.aside(|| told.lines(&explanation.take(), 0)),
                    _ => Ok(()),
                }
            })?;
        let hidden = explanation.hidden;
        progress.aside(|| told.lines(&explanation.take(), hidden))?;
        let (refolded, lost) = match folded {
            Folded::All(refolded, lost) => (refolded, lost),
            Folded::TooShort(to) => bail!("{id}: the log begins at {to}"),
            Folded::Panicked(offset) => {
                let hint =
                    format!("`huntline verify --hunt {:?}{}` compares what is saved", self.args.id, self.args.files.named());
                bail!("{id}: the fold fails at record {offset}, a defect: {hint}");
            }
        };
        found.lost.extend(lost.map(|to| (id.clone(), to)));
        found.counts += explanation.counts;
        for (name, tally) in explanation.tallies {
            *found.tallies.entry(name).or_default() += tally;
        }
        if let Some((partial, _)) = refolded.get(&self.args.id) {
            match &mut found.merged {
                Some((fold, merged)) => fold.merge(merged, partial),
                none => *none = Some((refolded.fold.clone(), partial.clone())),
            }
        }
        found.stretches.push(stretch);
        Ok(())
    }
}

impl Found {
    /// The values as folded, each beside the saved one. With `only` of this aggregate alone.
    fn values(&self, fold: &Fold, saved: Result<String, String>, only: Option<&str>) -> anyhow::Result<Vec<Value>> {
        let folded = match &self.merged {
            Some((fold, merged)) => fold.view(merged),
            None => fold.view(&fold.start()),
        };
        let saved = match &self.lost[..] {
            [] => saved,
            [(partition, to), ..] => Err(format!("the log has the records of {partition} from {to} on only")),
        };
        let mut folded: BTreeMap<String, _> = serde_json::from_str(&folded).context("read the view that was folded")?;
        let mut read: Result<BTreeMap<String, _>, String> =
            saved.and_then(|saved| serde_json::from_str(&saved).map_err(|error| error.to_string()));
        let names = fold.names().filter(|name| only.is_none_or(|only| only == *name));
        names
            .map(|name| {
                Ok(Value {
                    name: name.to_owned(),
                    folded: folded.remove(name).ok_or_else(|| anyhow!("no value of {name}"))?,
                    saved: match &mut read {
                        Ok(saved) => saved.remove(name).ok_or_else(|| "the saved view has no such value".to_owned()),
                        Err(why) => Err(why.clone()),
                    },
                    tally: self.tallies.get(name).cloned().unwrap_or_default(),
                })
            })
            .collect()
    }
}
