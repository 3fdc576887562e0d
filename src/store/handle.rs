//! The [`Store`] that everybody holds: one of two implementations, cheap to clone.
//!
//! The daemon opens it; partitions' actors claim and commit through it, the API and the commands read. Invariant: a call
//! runs to its end (or to its deadline) on threads of the store's own, whatever becomes of the future that awaits it.

use super::postgres::Postgres;
use super::sqlite::Sqlite;
use super::{
    Ask, Audit, AuditedLetter, Checkpoint, Claimed, DeadLetter, Generation, HuntLine, Identity, LetterFilter, Loaded, OpenAct,
    Owner, PartitionLine, Readers, Redefinition, Result, RollupLine, ShownPage, Snapshot, Status, StoredHunt, SummaryColumn,
};
use crate::position::{Epoch, Offset, Position};
use crate::record::PartitionId;
use std::path::PathBuf;
use std::sync::Arc;

/// Merges the states of one hunt's partials, in (topic, partition) order, into what readers see. The error says which state cannot be read.
pub type MergeHunts = dyn Fn(&[(PartitionId, Vec<u8>)]) -> std::result::Result<Readers, String> + Send + Sync;

/// Merges all partitions' rollups, in (topic, partition) order, into (aggregate, JSON value). The error says what cannot be read.
pub type MergeRollup = dyn Fn(&[Vec<u8>]) -> std::result::Result<Vec<(String, String)>, String> + Send + Sync;

/// What a checkpoint is merged with where its rows are not the only ones.
#[derive(Clone)]
pub struct Merge {
    pub hunts: Arc<MergeHunts>,
    pub rollup: Arc<MergeRollup>,
}

/// Where a store is.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    Postgres {
        /// `postgres://user@host:port/database?sslmode=…`
        url: String,
        /// Goes before a password in the URL.
        password: Option<String>,
    },
    Sqlite {
        path: PathBuf,
    },
}

impl Target {
    /// Reads `[store] url`. The error says what was found and expected.
    pub fn parse(url: &str, password: Option<String>) -> std::result::Result<Self, String> {
        if let Some(path) = url.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            return Ok(Target::Sqlite { path: path.into() });
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Target::Postgres { url: url.to_owned(), password });
        }
        // The scheme alone: what follows it may hold a password.
        let scheme = url.split(':').next().unwrap_or_default();
        Err(format!("found a URL that begins with {scheme:?}, expected \"postgres://user@host/database\" or \"sqlite:FILE\""))
    }
}

/// The password is left out.
impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Postgres { .. } => f.write_str("Postgres { … }"),
            Target::Sqlite { path } => write!(f, "Sqlite {{ path: {path:?} }}"),
        }
    }
}

/// The version of a store's schema beside the one this program was built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaVersion {
    /// 0: there is none yet.
    pub found: i32,
    pub known: i32,
}

impl SchemaVersion {
    pub fn is_current(self) -> bool {
        self.found == self.known
    }

    /// Whether this program can work on the store as it is; else the sentence that says what to do.
    pub(super) fn check(self, place: &str) -> Result<()> {
        let Self { found, known } = self;
        match found {
            _ if found == known => Ok(()),
            _ if found > known => Err(super::Error::Fatal(format!(
                "{place}: its schema has version {found}, this huntline knows up to {known}: run the newer huntline that upgraded it"
            ))),
            0 => Err(super::Error::Fatal(format!("{place}: there is no huntline schema yet: run `huntline migrate`"))),
            _ => Err(super::Error::Fatal(format!(
                "{place}: its schema has version {found}, this huntline needs {known}: run `huntline migrate`"
            ))),
        }
    }
}

#[derive(Clone)]
pub enum Store {
    Postgres(Postgres),
    Sqlite(Sqlite),
}

/// The same call on whichever implementation it is.
macro_rules! either {
    ($store:expr, $inner:ident => $call:expr) => {
        match $store {
            Store::Postgres($inner) => $call,
            Store::Sqlite($inner) => $call,
        }
    };
}

impl Store {
    /// Opens the store for the daemon. With `migrate` its schema is created or upgraded first (under a lock: several may start at
    /// once), else a schema of another version is `Fatal`. A SQLite store is locked against a second daemon.
    pub async fn open(target: &Target, migrate: bool) -> Result<Self> {
        Ok(match target {
            Target::Postgres { url, password } => Store::Postgres(Postgres::open(url, password.as_deref(), migrate).await?),
            Target::Sqlite { path } => Store::Sqlite(Sqlite::open(path, migrate).await?),
        })
    }

    /// Opens the store for a command that reads beside a running daemon. Never migrates, takes no lock.
    pub async fn open_reader(target: &Target) -> Result<Self> {
        Ok(match target {
            Target::Postgres { url, password } => Store::Postgres(Postgres::open(url, password.as_deref(), false).await?),
            Target::Sqlite { path } => Store::Sqlite(Sqlite::open_reader(path).await?),
        })
    }

    /// The schema's version, contacting the store but changing nothing.
    pub async fn schema_version(target: &Target) -> Result<SchemaVersion> {
        match target {
            Target::Postgres { url, password } => Postgres::schema_version(url, password.as_deref()).await,
            Target::Sqlite { path } => Sqlite::schema_version(path).await,
        }
    }

    /// The first byte of a state, of whichever partial, under any version of the schema: its format. `None`: no state was ever saved.
    pub async fn format(target: &Target) -> Result<Option<u8>> {
        match target {
            Target::Postgres { url, password } => Postgres::format(url, password.as_deref()).await,
            Target::Sqlite { path } => Sqlite::format(path).await,
        }
    }

    /// Creates or upgrades the schema; says what was found before.
    pub async fn migrate(target: &Target) -> Result<SchemaVersion> {
        match target {
            Target::Postgres { url, password } => Postgres::migrate(url, password.as_deref()).await,
            Target::Sqlite { path } => Sqlite::migrate(path).await,
        }
    }

    /// Brings the relation `hunt_summary` up to these columns for a daemon whose role may not, where the store is bound to no other
    /// definitions than these (canonical JSON). Whether it did. [`Store::bind`] does the same for a role that may.
    pub async fn summarise(target: &Target, definitions: &str, summary: &[SummaryColumn]) -> Result<bool> {
        let (definitions, summary) = (definitions.to_owned(), summary.to_vec());
        match target {
            Target::Postgres { url, password } => {
                Postgres::open(url, password.as_deref(), false).await?.summarise(definitions, summary).await
            }
            Target::Sqlite { path } => Sqlite::summarise(path, definitions, summary).await,
        }
    }

    /// Binds the store to what it serves at its first use, and compares ever after. New topics may be added, and a topic id that was
    /// not known before. `idle` (`None`: never) and `lateness`, microseconds, make the watermark that readers see; `empty_view` is the
    /// view of a hunt that has applied nothing; `summary` are the columns of `hunt_summary`, which is made or changed where it is not
    /// so; `compare(old, new)` says in sentences how two definitions differ. Where only they differ it is `Redefined`, else
    /// `Mismatch`. A store that bound definitions claims for nobody once others stand there.
    pub async fn bind(
        &self,
        identity: &Identity,
        idle: Option<i64>,
        lateness: i64,
        empty_view: &str,
        summary: &[SummaryColumn],
        compare: fn(&str, &str) -> Vec<String>,
    ) -> Result<()> {
        let binding = Binding {
            identity: identity.clone(),
            idle,
            lateness,
            empty_view: empty_view.to_owned(),
            summary: summary.to_vec(),
            compare,
        };
        either!(self, store => store.bind(binding).await)
    }

    /// Takes the partition: from now on only this epoch and owner can commit it.
    pub async fn claim(&self, partition: &PartitionId, owner: &Owner) -> Result<Claimed> {
        either!(self, store => store.claim(partition.clone(), owner.clone()).await)
    }

    /// Records where a partition that was never read begins, for good, under the fence of the claim. Writing the same again is fine.
    pub async fn begin(&self, partition: &PartitionId, epoch: Epoch, owner: &str, position: Position) -> Result<()> {
        either!(self, store => store.begin(partition.clone(), epoch, owner.to_owned(), position).await)
    }

    /// Commits all of `checkpoint` or nothing. After `Passing` the same value may be sent again: it is committed once.
    pub async fn checkpoint(&self, checkpoint: Arc<Checkpoint>, merge: Merge) -> Result<()> {
        either!(self, store => store.checkpoint(checkpoint, merge).await)
    }

    /// The partials of these hunts that the partition has.
    pub async fn load(&self, partition: &PartitionId, hunts: Vec<String>) -> Result<Loaded> {
        either!(self, store => store.load(partition.clone(), hunts).await)
    }

    /// Hunts by id, those after `after`, at most `limit`.
    pub async fn hunts(&self, after: Option<&str>, limit: u32, status: Option<Status>) -> Result<Vec<HuntLine>> {
        either!(self, store => store.hunts(after.map(str::to_owned), limit, status).await)
    }

    /// One hunt with its partials, in one consistent read.
    pub async fn hunt(&self, hunt: &str) -> Result<Option<StoredHunt>> {
        either!(self, store => store.hunt(hunt.to_owned()).await)
    }

    /// Every partition ever claimed, in order.
    pub async fn partitions(&self) -> Result<Vec<PartitionLine>> {
        either!(self, store => store.partitions().await)
    }

    /// Dead letters by (topic, partition, offset).
    pub async fn dead_letters(&self, filter: &LetterFilter) -> Result<Vec<DeadLetter>> {
        either!(self, store => store.dead_letters(filter.clone()).await)
    }

    pub async fn dead_letter(&self, partition: &PartitionId, offset: Offset) -> Result<Option<DeadLetter>> {
        either!(self, store => store.dead_letter(partition.clone(), offset).await)
    }

    /// The aggregates kept over all hunts, by name.
    pub async fn rollup(&self) -> Result<Vec<RollupLine>> {
        either!(self, store => store.rollup().await)
    }

    /// Writes down what an operator asks for; gives the id of the act. The owner of its partition finds it open.
    pub async fn ask(&self, ask: &Ask) -> Result<i64> {
        either!(self, store => store.ask(ask.clone()).await)
    }

    /// What was asked of this partition and is not done, in the order of asking.
    pub async fn open_acts(&self, partition: &PartitionId) -> Result<Vec<OpenAct>> {
        either!(self, store => store.open_acts(partition.clone()).await)
    }

    /// What came of an act; `None`: it is not done.
    pub async fn act_done(&self, id: i64) -> Result<Option<String>> {
        either!(self, store => store.act_done(id).await)
    }

    /// The partition's position and the partials of these hunts, in one moment. A partition that was never read is `Fatal`.
    pub async fn partials(&self, partition: &PartitionId, hunts: Vec<String>) -> Result<(Position, Vec<Snapshot>)> {
        either!(self, store => store.partials(partition.clone(), hunts).await)
    }

    /// All that the store knows, in one short read of one moment.
    pub async fn audit(&self) -> Result<Audit> {
        either!(self, store => store.audit().await)
    }

    /// What of an audit concerns one hunt: every partition, with the partials, the records left out, the gaps and the number of dead
    /// letters of this hunt alone.
    pub async fn audit_of(&self, hunt: &str) -> Result<Audit> {
        either!(self, store => store.audit_of(hunt.to_owned()).await)
    }

    /// Dead letters of a partition by offset, those after `after` and below `until`, at most `limit`; what is large of them as a digest.
    pub async fn audited_letters(
        &self,
        partition: &PartitionId,
        after: Option<Offset>,
        until: Position,
        limit: u32,
    ) -> Result<Vec<AuditedLetter>> {
        either!(self, store => store.audited_letters(partition.clone(), after, until, limit).await)
    }

    /// Which of these dead letters an operator's `replay` or `discard` that is done names.
    pub async fn settled(&self, partition: &PartitionId, offsets: Vec<Offset>) -> Result<Vec<Offset>> {
        either!(self, store => store.settled(partition.clone(), offsets).await)
    }

    /// What readers are shown of hunts, by id, those after `after`: at most `limit`, and no more than fit in memory.
    pub async fn shown(&self, after: Option<&str>, limit: u32) -> Result<ShownPage> {
        either!(self, store => store.shown(after.map(str::to_owned), limit).await)
    }

    /// What readers are shown of one hunt.
    pub async fn shown_of(&self, hunt: &str) -> Result<ShownPage> {
        either!(self, store => store.shown_of(hunt.to_owned()).await)
    }

    /// Every definitions the store was built with, by number.
    pub async fn generations(&self) -> Result<Vec<Generation>> {
        either!(self, store => store.generations().await)
    }

    /// Gives the store new definitions from its present positions on, in one transaction that fences every owner. `Mismatch` while a
    /// partial lags, `Redefined` where the stored definitions are neither the old nor the new ones; where the new ones stand
    /// already (an answer was lost) it is done.
    pub async fn redefine(&self, redefinition: Redefinition) -> Result<()> {
        either!(self, store => store.redefine(redefinition).await)
    }

    /// Creates an empty store beside the one at `target`, which goes on serving: the Postgres schema `huntline_rebuild`, or `FILE.rebuild`.
    /// Whatever an earlier attempt left there is dropped. `Fatal` where [`Store::swap`] could not take the old one's place.
    pub async fn open_beside(target: &Target) -> Result<Self> {
        Ok(match target {
            Target::Postgres { url, password } => Store::Postgres(Postgres::open_beside(url, password.as_deref()).await?),
            Target::Sqlite { path } => Store::Sqlite(Sqlite::open_beside(path).await?),
        })
    }

    /// Whether a daemon has the store to itself at the moment, so that [`Store::swap`] would be refused. Only with SQLite.
    pub fn in_use(target: &Target) -> Result<bool> {
        match target {
            Target::Postgres { .. } => Ok(false),
            Target::Sqlite { path } => Sqlite::in_use(path),
        }
    }

    /// Puts `beside` in the place of the store at `target`, which is dropped: all or nothing. Epochs go above the old ones, so that
    /// every owner is fenced; operators' acts, who may read what, and the numbers of generations are carried over. `beside` and its clones are of
    /// no use afterwards. A SQLite store's daemon must have stopped.
    pub async fn swap(target: &Target, beside: Self) -> Result<()> {
        match (target, beside) {
            (Target::Postgres { url, password }, Store::Postgres(beside)) => beside.swap(url, password.as_deref()).await,
            (Target::Sqlite { path }, Store::Sqlite(beside)) => beside.swap(path).await,
            _ => Err(super::Error::Fatal("a store and the one built beside it are of the same kind".to_owned())),
        }
    }

    /// Whether the store answers.
    pub async fn ping(&self) -> Result<()> {
        either!(self, store => store.ping().await)
    }
}

/// What [`Store::bind`] hands to an implementation.
pub(super) struct Binding {
    pub identity: Identity,
    pub idle: Option<i64>,
    pub lateness: i64,
    pub empty_view: String,
    pub summary: Vec<SummaryColumn>,
    pub compare: fn(&str, &str) -> Vec<String>,
}

/// What a store says it is bound to.
pub(super) struct Bound {
    pub cluster: String,
    pub group: String,
    pub definitions: String,
    pub topics: Vec<(String, Option<String>)>,
}

impl Binding {
    /// Compares with what stands in the store. `Ok`: the topics to write, new ones and those whose id is known only now.
    pub fn compare(&self, bound: &Bound) -> Result<Vec<(String, Option<String>)>> {
        let mut differences = Vec::new();
        let Identity { cluster, group, topics, definitions } = &self.identity;
        if *cluster != bound.cluster {
            differences.push(format!("its events came from the cluster {:?}, these come from {cluster:?}", bound.cluster));
        }
        if *group != bound.group {
            differences.push(format!("it belongs to the consumer group {:?}, this is {group:?}", bound.group));
        }
        let mut write = Vec::new();
        for (topic, id) in topics {
            match bound.topics.iter().find(|(name, _)| name == topic) {
                None => write.push((topic.clone(), id.clone())),
                Some((_, Some(old))) => {
                    if let Some(new) = id.as_ref().filter(|new| *new != old) {
                        differences.push(format!(
                            "the topic {topic:?} had the id {old}, now it has {new}: it was deleted and created again"
                        ));
                    }
                }
                Some((_, None)) if id.is_some() => write.push((topic.clone(), id.clone())),
                Some((_, None)) => {}
            }
        }
        for (topic, _) in &bound.topics {
            if !topics.iter().any(|(name, _)| name == topic) {
                differences.push(format!("it holds events of the topic {topic:?}, which is no longer read"));
            }
        }
        let redefined = *definitions != bound.definitions;
        match (differences.is_empty(), redefined) {
            (true, false) => Ok(write),
            (true, true) => Err(super::Error::Redefined { stored: bound.definitions.clone(), configured: definitions.clone() }),
            (false, _) => {
                if redefined {
                    differences.extend((self.compare)(&bound.definitions, definitions));
                }
                Err(super::Error::Mismatch(differences))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_from_its_url() {
        assert_eq!(Target::parse("sqlite:a/b.db", None), Ok(Target::Sqlite { path: "a/b.db".into() }));
        assert!(matches!(Target::parse("postgres://h/d", Some("p".into())), Ok(Target::Postgres { password: Some(_), .. })));
        for wrong in ["sqlite:", "mysql://u:secret@h/d", "huntline.db", ""] {
            let error = Target::parse(wrong, None).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
