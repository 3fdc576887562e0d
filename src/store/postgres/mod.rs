//! The store in **Postgres**, schema `huntline`; one built beside it, schema `huntline_rebuild`.
//!
//! [`Postgres`] holds a few sessions and a runtime of its own; every call is a task on that runtime, with a deadline. The modules:
//! the way to the server (`connect`), the schema it is spoken to in (`client`), what it may say (`fault`), `schema` and binding with the
//! view it makes (`summary`), `commit` (the writing calls) with what it writes (`partials`, `letters`, `rollup`), `acts`, `read`,
//! `audit` and `shown`, and what changes a whole store (`redefine`, `beside`).
//! Invariant: a transaction is ended by its own task, by COMMIT or ROLLBACK, or its connection is closed; a session
//! goes back to the pool only when no transaction is open on it.

mod acts;
mod audit;
mod beside;
mod client;
mod commit;
mod connect;
mod fault;
mod instant;
mod letters;
mod partials;
mod read;
mod redefine;
mod rollup;
mod schema;
mod shown;
mod summary;

use super::handle::{Binding, Merge, SchemaVersion};
use super::rollup::Refusals;
use super::{
    Ask, Audit, AuditedLetter, Checkpoint, Claimed, DeadLetter, Error, Generation, HuntLine, LetterFilter, Loaded, OpenAct,
    Owner, PartitionLine, Redefinition, Result, RollupLine, ShownPage, Snapshot, Status, StoredHunt, SummaryColumn,
};
use crate::position::{Epoch, Offset, Position};
use crate::record::PartitionId;
use client::{BESIDE, HOME};
use connect::{Session, Way};
use fault::Fault;
use futures_util::future::BoxFuture;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// How long anything may take. The first three are the server's to keep, the rest this side's: a stopped server obeys none of its own.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub statement: Duration,
    pub lock: Duration,
    pub idle_in_transaction: Duration,
    pub connect: Duration,
    /// A whole call that reads, claims or begins.
    pub call: Duration,
    /// A whole checkpoint, or a page of what is verified.
    pub checkpoint: Duration,
    /// A whole migration, redefinition, swap or audit.
    pub migration: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            statement: Duration::from_secs(30),
            lock: Duration::from_secs(10),
            idle_in_transaction: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            call: Duration::from_secs(20),
            checkpoint: Duration::from_secs(120),
            migration: Duration::from_secs(600),
        }
    }
}

/// Writers and readers have sessions of their own, so that neither waits for the other.
const WRITERS: usize = 4;
const READERS: usize = 2;

/// How often a swap is tried again whose answer was lost: a whole rebuild hangs on it.
const ATTEMPTS: usize = 5;

#[derive(Clone)]
pub struct Postgres {
    shared: Arc<Shared>,
}

struct Shared {
    /// `Some` until the drop.
    runtime: Option<Runtime>,
    way: Way,
    limits: Limits,
    writers: Pool,
    readers: Pool,
    /// The definitions that this store's user folds by, once bound: it claims nothing where others stand.
    bound: Mutex<Option<Arc<str>>>,
    /// By what relation a store built beside another is known.
    beside: OnceLock<u32>,
    refusals: Arc<Refusals>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A runtime must not be dropped where blocking is forbidden, and the last clone may go anywhere.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Pool {
    places: Semaphore,
    idle: Mutex<Vec<Session>>,
}

impl Pool {
    fn new(size: usize) -> Self {
        Self { places: Semaphore::new(size), idle: Mutex::new(Vec::new()) }
    }

    fn take(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|session| !session.is_closed());
        idle.pop()
    }

    fn give_back(&self, session: Session) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}

#[derive(Clone, Copy)]
enum Use {
    Write,
    Read,
}

impl Postgres {
    pub async fn open(url: &str, password: Option<&str>, migrate: bool) -> Result<Self> {
        Self::open_with(url, password, migrate, Limits::default()).await
    }

    /// [`Postgres::open`] with limits other than the usual ones.
    pub async fn open_with(url: &str, password: Option<&str>, migrate: bool, limits: Limits) -> Result<Self> {
        let store = Self::new(url, password, limits, HOME)?;
        if migrate {
            store.run_migrations().await?;
        } else {
            let place = store.shared.way.place.clone();
            store.read_version().await?.check(&place)?;
        }
        Ok(store)
    }

    pub async fn schema_version(url: &str, password: Option<&str>) -> Result<SchemaVersion> {
        Self::new(url, password, Limits::default(), HOME)?.read_version().await
    }

    pub async fn format(url: &str, password: Option<&str>) -> Result<Option<u8>> {
        let store = Self::new(url, password, Limits::default(), HOME)?;
        store.call(Use::Read, store.shared.limits.call, "look at a state", |session| Box::pin(read::format(session))).await
    }

    pub async fn migrate(url: &str, password: Option<&str>) -> Result<SchemaVersion> {
        Self::new(url, password, Limits::default(), HOME)?.run_migrations().await
    }

    /// Creates an empty store beside the one in use.
    pub async fn open_beside(url: &str, password: Option<&str>) -> Result<Self> {
        let store = Self::new(url, password, Limits::default(), BESIDE)?;
        let deadline = store.shared.limits.migration;
        let created =
            store.call(Use::Write, deadline, "create a schema beside", |session| Box::pin(beside::create(session))).await?;
        store.run_migrations().await?;
        let known_by = store
            .call(Use::Write, deadline, "look at the schema in use", move |session| Box::pin(beside::known_by(session, created)))
            .await?;
        store.shared.beside.set(known_by).expect("a store is opened once");
        Ok(store)
    }

    /// Puts this store, built beside the one at `url`, in its place.
    pub async fn swap(self, url: &str, password: Option<&str>) -> Result<()> {
        let Some(&known_by) = self.shared.beside.get() else {
            return Err(Error::Fatal(format!("{}: this store was not built beside another", self.shared.way.place)));
        };
        let store = Self::new(url, password, self.shared.limits, HOME)?;
        drop(self);
        let mut attempts = 0..ATTEMPTS;
        loop {
            let deadline = store.shared.limits.migration;
            let swapped = store
                .call(Use::Write, deadline, "swap the schemas", move |session| Box::pin(beside::swap(session, known_by)))
                .await;
            match swapped {
                Err(Error::Passing(_)) if attempts.next().is_some() => tokio::time::sleep(Duration::from_secs(1)).await,
                swapped => return swapped,
            }
        }
    }

    fn new(url: &str, password: Option<&str>, limits: Limits, schema: &'static str) -> Result<Self> {
        let way = Way::new(url, password, limits, schema)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("store")
            .enable_all()
            .build()
            .map_err(|e| Error::Fatal(format!("start the store's threads: {e}")))?;
        let shared = Shared {
            runtime: Some(runtime),
            way,
            limits,
            writers: Pool::new(WRITERS),
            readers: Pool::new(READERS),
            bound: Mutex::new(None),
            beside: OnceLock::new(),
            refusals: Arc::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Runs `work` in a task of its own on a session, and gives what it came to. On any fault but a verdict the session is closed.
    async fn call<T, F>(&self, usage: Use, deadline: Duration, doing: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'s> FnOnce(&'s mut Session) -> BoxFuture<'s, std::result::Result<T, Fault>> + Send + 'static,
    {
        let shared = self.shared.clone();
        // The task holds the sessions' owner, not the runtime's handle alone: a call that was started ends.
        let task = async move {
            let place = shared.way.place.clone();
            match tokio::time::timeout(deadline, shared.perform(usage, work)).await {
                Ok(result) => result,
                Err(_) => Err(Error::Passing(format!("{place}: {doing}: no answer in {} s", deadline.as_secs_f64()))),
            }
        };
        let runtime = self.shared.runtime.as_ref().expect("the runtime stays until the drop");
        match runtime.spawn(task).await {
            Ok(result) => result,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => Err(Error::Passing(format!("{}: {doing}: the store is shutting down", self.shared.way.place))),
        }
    }

    pub(super) async fn bind(&self, binding: Binding) -> Result<()> {
        let place = self.shared.way.place.clone();
        let definitions: Arc<str> = binding.identity.definitions.as_str().into();
        self.call(Use::Write, self.shared.limits.call, "bind the store", |session| {
            Box::pin(schema::bind(session, binding, place))
        })
        .await?;
        *self.shared.bound.lock().unwrap_or_else(PoisonError::into_inner) = Some(definitions);
        Ok(())
    }

    pub(super) async fn summarise(&self, definitions: String, summary: Vec<SummaryColumn>) -> Result<bool> {
        let place = self.shared.way.place.clone();
        self.call(Use::Write, self.shared.limits.call, "make hunt_summary", |session| {
            Box::pin(schema::summarise(session, definitions, summary, place))
        })
        .await
    }

    pub(super) async fn claim(&self, partition: PartitionId, owner: Owner) -> Result<Claimed> {
        let bound = self.shared.bound.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.call(Use::Write, self.shared.limits.call, "claim a partition", |session| {
            Box::pin(commit::claim(session, partition, owner, bound))
        })
        .await
    }

    pub(super) async fn begin(&self, partition: PartitionId, epoch: Epoch, owner: String, position: Position) -> Result<()> {
        self.call(Use::Write, self.shared.limits.call, "write where a partition begins", move |session| {
            Box::pin(commit::begin(session, partition, epoch, owner, position))
        })
        .await
    }

    pub(super) async fn checkpoint(&self, checkpoint: Arc<Checkpoint>, merge: Merge) -> Result<()> {
        let refusals = self.shared.refusals.clone();
        self.call(Use::Write, self.shared.limits.checkpoint, "commit a checkpoint", |session| {
            Box::pin(commit::checkpoint(session, checkpoint, merge, refusals))
        })
        .await
    }

    pub(super) async fn load(&self, partition: PartitionId, hunts: Vec<String>) -> Result<Loaded> {
        self.call(Use::Read, self.shared.limits.call, "load hunts", |session| Box::pin(read::load(session, partition, hunts)))
            .await
    }

    pub(super) async fn hunts(&self, after: Option<String>, limit: u32, status: Option<Status>) -> Result<Vec<HuntLine>> {
        self.call(Use::Read, self.shared.limits.call, "list hunts", move |session| {
            Box::pin(read::hunts(session, after, limit, status))
        })
        .await
    }

    pub(super) async fn hunt(&self, hunt: String) -> Result<Option<StoredHunt>> {
        self.call(Use::Read, self.shared.limits.call, "read a hunt", |session| Box::pin(read::hunt(session, hunt))).await
    }

    pub(super) async fn partitions(&self) -> Result<Vec<PartitionLine>> {
        self.call(Use::Read, self.shared.limits.call, "list partitions", |session| Box::pin(read::partitions(session))).await
    }

    pub(super) async fn dead_letters(&self, filter: LetterFilter) -> Result<Vec<DeadLetter>> {
        self.call(Use::Read, self.shared.limits.call, "list dead letters", |session| {
            Box::pin(read::dead_letters(session, filter))
        })
        .await
    }

    pub(super) async fn dead_letter(&self, partition: PartitionId, offset: Offset) -> Result<Option<DeadLetter>> {
        self.call(Use::Read, self.shared.limits.call, "read a dead letter", move |session| {
            Box::pin(read::dead_letter(session, partition, offset))
        })
        .await
    }

    pub(super) async fn rollup(&self) -> Result<Vec<RollupLine>> {
        self.call(Use::Read, self.shared.limits.call, "read the rollup", |session| Box::pin(rollup::read(session))).await
    }

    pub(super) async fn ask(&self, ask: Ask) -> Result<i64> {
        self.call(Use::Write, self.shared.limits.call, "ask for an act", |session| Box::pin(acts::ask(session, ask))).await
    }

    pub(super) async fn open_acts(&self, partition: PartitionId) -> Result<Vec<OpenAct>> {
        self.call(Use::Read, self.shared.limits.call, "look for acts", |session| Box::pin(acts::open(session, partition))).await
    }

    pub(super) async fn act_done(&self, id: i64) -> Result<Option<String>> {
        self.call(Use::Read, self.shared.limits.call, "look at an act", move |session| Box::pin(acts::done(session, id))).await
    }

    pub(super) async fn partials(&self, partition: PartitionId, hunts: Vec<String>) -> Result<(Position, Vec<Snapshot>)> {
        self.call(Use::Read, self.shared.limits.call, "load partials", |session| {
            Box::pin(audit::partials(session, partition, hunts))
        })
        .await
    }

    pub(super) async fn audit(&self) -> Result<Audit> {
        self.call(Use::Read, self.shared.limits.migration, "audit the store", |session| Box::pin(audit::audit(session, None)))
            .await
    }

    pub(super) async fn audit_of(&self, hunt: String) -> Result<Audit> {
        self.call(Use::Read, self.shared.limits.call, "audit a hunt", |session| Box::pin(audit::audit(session, Some(hunt)))).await
    }

    pub(super) async fn audited_letters(
        &self,
        partition: PartitionId,
        after: Option<Offset>,
        until: Position,
        limit: u32,
    ) -> Result<Vec<AuditedLetter>> {
        self.call(Use::Read, self.shared.limits.checkpoint, "audit dead letters", move |session| {
            Box::pin(audit::letters(session, partition, after, until, limit))
        })
        .await
    }

    pub(super) async fn settled(&self, partition: PartitionId, offsets: Vec<Offset>) -> Result<Vec<Offset>> {
        self.call(Use::Read, self.shared.limits.call, "look for acts on dead letters", |session| {
            Box::pin(acts::settled(session, partition, offsets))
        })
        .await
    }

    pub(super) async fn shown(&self, after: Option<String>, limit: u32) -> Result<ShownPage> {
        self.call(Use::Read, self.shared.limits.checkpoint, "read what hunts show", move |session| {
            Box::pin(shown::page(session, after, limit))
        })
        .await
    }

    pub(super) async fn shown_of(&self, hunt: String) -> Result<ShownPage> {
        self.call(Use::Read, self.shared.limits.call, "read what a hunt shows", |session| Box::pin(shown::hunt(session, hunt)))
            .await
    }

    pub(super) async fn generations(&self) -> Result<Vec<Generation>> {
        self.call(Use::Read, self.shared.limits.call, "list generations", |session| Box::pin(audit::generations(session))).await
    }

    pub(super) async fn redefine(&self, redefinition: Redefinition) -> Result<()> {
        let (refusals, place) = (self.shared.refusals.clone(), self.shared.way.place.clone());
        self.call(Use::Write, self.shared.limits.migration, "redefine the store", |session| {
            Box::pin(redefine::redefine(session, redefinition, refusals, place))
        })
        .await
    }

    pub(super) async fn ping(&self) -> Result<()> {
        self.call(Use::Read, self.shared.limits.connect, "ask the store", |session| Box::pin(read::ping(session))).await
    }

    async fn read_version(&self) -> Result<SchemaVersion> {
        self.call(Use::Read, self.shared.limits.call, "read the schema's version", |session| Box::pin(schema::version(session)))
            .await
    }

    async fn run_migrations(&self) -> Result<SchemaVersion> {
        let place = self.shared.way.place.clone();
        self.call(Use::Write, self.shared.limits.migration, "migrate the schema", |session| {
            Box::pin(schema::migrate(session, place))
        })
        .await
    }
}

impl Shared {
    async fn perform<T, F>(&self, usage: Use, work: F) -> Result<T>
    where
        F: for<'s> FnOnce(&'s mut Session) -> BoxFuture<'s, std::result::Result<T, Fault>>,
    {
        let pool = match usage {
            Use::Write => &self.writers,
            Use::Read => &self.readers,
        };
        let place = &self.way.place;
        let _turn = pool.places.acquire().await.map_err(|_| Error::Passing(format!("{place}: the store is shutting down")))?;
        let mut session = match pool.take() {
            Some(session) => session,
            None => self.way.connect().await.map_err(|fault| fault.at(place))?,
        };
        let result = work(&mut session).await;
        match &result {
            // A verdict leaves no transaction open.
            Ok(_)
            | Err(Fault::Store(Error::Fenced { .. } | Error::Refused(_) | Error::Mismatch(_) | Error::Redefined { .. })) => {
                pool.give_back(session)
            }
            Err(_) => drop(session),
        }
        result.map_err(|fault| fault.at(place))
    }
}
