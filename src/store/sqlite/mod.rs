//! The store in one **SQLite** file, for one daemon.
//!
//! [`Sqlite`] hands each call to one of two threads, each with a connection of its own: one writes, one reads, and neither waits for
//! the other (WAL). The modules: `schema` and binding with the view it makes (`summary`), `commit` (the writing calls) with `rollup`,
//! `acts`, `read`, `audit` and `shown`, and what changes a whole store (`redefine`, `beside`). Invariant: one daemon at a time holds the
//! lock on `FILE.lock`; a call that began runs to its end on its thread, whatever becomes of the future that awaits it.

mod acts;
mod audit;
mod beside;
mod commit;
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
use crate::time::Micros;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// How long a statement waits for another process's lock on the file.
const BUSY: Duration = Duration::from_secs(10);

/// How long a caller waits for its answer. The work goes on; the same checkpoint may be sent again.
const DEADLINE: Duration = Duration::from_secs(60);

/// The same of a call that goes through the whole store.
const PATIENCE: Duration = Duration::from_secs(600);

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

#[derive(Clone)]
pub struct Sqlite {
    writer: mpsc::Sender<Work>,
    reader: mpsc::Sender<Work>,
    path: PathBuf,
    place: Arc<str>,
    refusals: Arc<Refusals>,
    /// Held as long as the daemon's store; `None` for a reading command.
    _lock: Option<Arc<File>>,
}

impl Sqlite {
    pub async fn open(path: &Path, migrate: bool) -> Result<Self> {
        let path = path.to_owned();
        aside(move || {
            let lock = lock(&path)?;
            Self::open_locked(&path, lock, migrate)
        })
        .await
    }

    fn open_locked(path: &Path, lock: File, migrate: bool) -> Result<Self> {
        let mut connection = connect(path, migrate)?;
        if migrate {
            schema::migrate(&mut connection, &place(path))?;
        } else {
            schema::version(&connection).map_err(|e| fault(&place(path), &e))?.check(&place(path))?;
        }
        Self::start(path, connection, Some(Arc::new(lock)))
    }

    pub async fn open_reader(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        aside(move || {
            let connection = connect(&path, false)?;
            schema::version(&connection).map_err(|e| fault(&place(&path), &e))?.check(&place(&path))?;
            Self::start(&path, connection, None)
        })
        .await
    }

    pub async fn schema_version(path: &Path) -> Result<SchemaVersion> {
        let path = path.to_owned();
        aside(move || {
            if !path.exists() {
                return Ok(SchemaVersion { found: 0, known: schema::KNOWN });
            }
            schema::version(&connect(&path, false)?).map_err(|e| fault(&place(&path), &e))
        })
        .await
    }

    pub async fn format(path: &Path) -> Result<Option<u8>> {
        let path = path.to_owned();
        aside(move || {
            if !path.exists() {
                return Ok(None);
            }
            read::format(&connect(&path, false)?).map_err(|e| fault(&place(&path), &e))
        })
        .await
    }

    pub async fn migrate(path: &Path) -> Result<SchemaVersion> {
        let path = path.to_owned();
        aside(move || schema::migrate(&mut connect(&path, true)?, &place(&path))).await
    }

    pub(super) async fn summarise(path: &Path, definitions: String, columns: Vec<SummaryColumn>) -> Result<bool> {
        let path = path.to_owned();
        aside(move || {
            let mut connection = connect(&path, false)?;
            schema::version(&connection).map_err(|e| fault(&place(&path), &e))?.check(&place(&path))?;
            schema::summarise(&mut connection, &definitions, &columns).map_err(|e| fault(&place(&path), &e))
        })
        .await
    }

    /// Whether somebody holds the lock on `FILE.lock`.
    pub fn in_use(path: &Path) -> Result<bool> {
        let name = with_suffix(path, ".lock");
        let file = match File::options().write(true).open(&name) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::Fatal(format!("{}: look at {}: {e}", place(path), name.display()))),
        };
        Ok(matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
    }

    fn start(path: &Path, writer: Connection, lock: Option<Arc<File>>) -> Result<Self> {
        let reader = connect(path, false)?;
        Ok(Self {
            writer: thread("store-write", writer)?,
            reader: thread("store-read", reader)?,
            path: path.to_owned(),
            place: place(path).into(),
            refusals: Arc::default(),
            _lock: lock,
        })
    }

    async fn call<T: Send + 'static>(
        &self,
        thread: &mpsc::Sender<Work>,
        doing: &str,
        work: impl FnOnce(&mut Connection) -> std::result::Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        self.call_within(DEADLINE, thread, doing, work).await
    }

    async fn call_within<T: Send + 'static>(
        &self,
        deadline: Duration,
        thread: &mpsc::Sender<Work>,
        doing: &str,
        work: impl FnOnce(&mut Connection) -> std::result::Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let place = &self.place;
        let (answer, answered) = oneshot::channel();
        let gone = |_| Error::Fatal(format!("{place}: {doing}: the store's thread has ended"));
        thread
            .send(Box::new(move |connection| {
                // Whoever asked may have gone.
                let _ = answer.send(work(connection));
            }))
            .map_err(|_| gone(()))?;
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(result)) => result.map_err(|fault| fault.at(place)),
            Ok(Err(_)) => Err(gone(())),
            Err(_) => Err(Error::Passing(format!("{place}: {doing}: no answer in {} s", deadline.as_secs()))),
        }
    }

    pub(super) async fn bind(&self, binding: Binding) -> Result<()> {
        self.call(&self.writer, "bind the store", move |connection| schema::bind(connection, &binding)).await
    }

    pub(super) async fn claim(&self, partition: PartitionId, owner: Owner) -> Result<Claimed> {
        self.call(&self.writer, "claim a partition", move |connection| commit::claim(connection, &partition, &owner)).await
    }

    pub(super) async fn begin(&self, partition: PartitionId, epoch: Epoch, owner: String, position: Position) -> Result<()> {
        self.call(&self.writer, "write where a partition begins", move |connection| {
            commit::begin(connection, partition, epoch, &owner, position)
        })
        .await
    }

    pub(super) async fn checkpoint(&self, checkpoint: Arc<Checkpoint>, merge: Merge) -> Result<()> {
        let refusals = self.refusals.clone();
        self.call(&self.writer, "commit a checkpoint", move |connection| {
            commit::checkpoint(connection, &checkpoint, &merge, &refusals)
        })
        .await
    }

    pub(super) async fn load(&self, partition: PartitionId, hunts: Vec<String>) -> Result<Loaded> {
        self.call(&self.reader, "load hunts", move |connection| read::load(connection, &partition, &hunts)).await
    }

    pub(super) async fn hunts(&self, after: Option<String>, limit: u32, status: Option<Status>) -> Result<Vec<HuntLine>> {
        self.call(&self.reader, "list hunts", move |connection| read::hunts(connection, after.as_deref(), limit, status)).await
    }

    pub(super) async fn hunt(&self, hunt: String) -> Result<Option<StoredHunt>> {
        self.call(&self.reader, "read a hunt", move |connection| read::hunt(connection, &hunt)).await
    }

    pub(super) async fn partitions(&self) -> Result<Vec<PartitionLine>> {
        self.call(&self.reader, "list partitions", read::partitions).await
    }

    pub(super) async fn dead_letters(&self, filter: LetterFilter) -> Result<Vec<DeadLetter>> {
        self.call(&self.reader, "list dead letters", move |connection| read::dead_letters(connection, &filter)).await
    }

    pub(super) async fn dead_letter(&self, partition: PartitionId, offset: Offset) -> Result<Option<DeadLetter>> {
        self.call(&self.reader, "read a dead letter", move |connection| read::dead_letter(connection, &partition, offset)).await
    }

    pub(super) async fn rollup(&self) -> Result<Vec<RollupLine>> {
        self.call(&self.reader, "read the rollup", rollup::read).await
    }

    pub(super) async fn ask(&self, ask: Ask) -> Result<i64> {
        self.call(&self.writer, "ask for an act", move |connection| acts::ask(connection, &ask)).await
    }

    pub(super) async fn open_acts(&self, partition: PartitionId) -> Result<Vec<OpenAct>> {
        self.call(&self.reader, "look for acts", move |connection| acts::open(connection, &partition)).await
    }

    pub(super) async fn act_done(&self, id: i64) -> Result<Option<String>> {
        self.call(&self.reader, "look at an act", move |connection| acts::done(connection, id)).await
    }

    pub(super) async fn partials(&self, partition: PartitionId, hunts: Vec<String>) -> Result<(Position, Vec<Snapshot>)> {
        self.call(&self.reader, "load partials", move |connection| audit::partials(connection, &partition, &hunts)).await
    }

    pub(super) async fn audit(&self) -> Result<Audit> {
        self.call_within(PATIENCE, &self.reader, "audit the store", |connection| audit::audit(connection, None)).await
    }

    pub(super) async fn audit_of(&self, hunt: String) -> Result<Audit> {
        self.call(&self.reader, "audit a hunt", move |connection| audit::audit(connection, Some(&hunt))).await
    }

    pub(super) async fn audited_letters(
        &self,
        partition: PartitionId,
        after: Option<Offset>,
        until: Position,
        limit: u32,
    ) -> Result<Vec<AuditedLetter>> {
        self.call(&self.reader, "audit dead letters", move |connection| {
            audit::letters(connection, &partition, after, until, limit)
        })
        .await
    }

    pub(super) async fn settled(&self, partition: PartitionId, offsets: Vec<Offset>) -> Result<Vec<Offset>> {
        self.call(&self.reader, "look for acts on dead letters", move |connection| {
            acts::settled(connection, &partition, &offsets)
        })
        .await
    }

    pub(super) async fn shown(&self, after: Option<String>, limit: u32) -> Result<ShownPage> {
        self.call(&self.reader, "read what hunts show", move |connection| shown::page(connection, after.as_deref(), limit)).await
    }

    pub(super) async fn shown_of(&self, hunt: String) -> Result<ShownPage> {
        self.call(&self.reader, "read what a hunt shows", move |connection| shown::hunt(connection, &hunt)).await
    }

    pub(super) async fn generations(&self) -> Result<Vec<Generation>> {
        self.call(&self.reader, "list generations", audit::generations).await
    }

    pub(super) async fn redefine(&self, redefinition: Redefinition) -> Result<()> {
        let refusals = self.refusals.clone();
        self.call_within(PATIENCE, &self.writer, "redefine the store", move |connection| {
            redefine::redefine(connection, &redefinition, &refusals)
        })
        .await
    }

    pub(super) async fn ping(&self) -> Result<()> {
        self.call(&self.reader, "ask the store", |connection| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?)).await
    }
}

/// Opening a file blocks: it is done on a thread of its own, not on the caller's runtime.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}

fn place(path: &Path) -> String {
    format!("sqlite {}", path.display())
}

/// The file of this name with something after it.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// An error where the directory of a file that is to be created is not there.
fn has_directory(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
            Err(Error::Fatal(format!("{}: found no directory {}, expected one", place(path), parent.display())))
        }
        _ => Ok(()),
    }
}

fn lock(path: &Path) -> Result<File> {
    has_directory(path)?;
    let name = with_suffix(path, ".lock");
    let cannot = |e: &dyn std::fmt::Display| Error::Fatal(format!("{}: lock {}: {e}", place(path), name.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(|e| cannot(&e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(cannot(&"another huntline runs on this store; stop it first (a SQLite store serves one daemon)"))
        }
        Err(std::fs::TryLockError::Error(e)) => Err(cannot(&e)),
    }
}

fn connect(path: &Path, create: bool) -> Result<Connection> {
    let place = place(path);
    if !create && !path.exists() {
        return Err(Error::Fatal(format!("{place}: there is no such file: run `huntline migrate`, or see [store] url")));
    }
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if create {
        has_directory(path)?;
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(connection)
    };
    // The switch to WAL does not wait for others who open a new file at the same moment, whatever `busy_timeout` says.
    let began = Instant::now();
    loop {
        match open() {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && began.elapsed() < BUSY => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.map_err(|e| fault(&place, &e)),
        }
    }
}

/// A thread that does what it is sent, in order, until the last sender is gone.
fn thread(name: &str, mut connection: Connection) -> Result<mpsc::Sender<Work>> {
    let (sender, receiver) = mpsc::channel::<Work>();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            for work in receiver {
                work(&mut connection);
            }
        })
        .map_err(|e| Error::Fatal(format!("start the store's thread: {e}")))?;
    Ok(sender)
}

/// What a step of a call fails with.
#[derive(Debug)]
enum Fault {
    Lite(rusqlite::Error),
    Store(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Lite(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Store(error)
    }
}

impl Fault {
    fn at(self, place: &str) -> Error {
        match self {
            Fault::Store(error) => error,
            Fault::Lite(error) => fault(place, &error),
        }
    }

    /// The words of a refusal that belongs to a row.
    fn of_a_row(&self) -> Option<String> {
        let Fault::Lite(error) = self else { return None };
        let row = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch | ErrorCode::ParameterOutOfRange)
        );
        row.then(|| error.to_string())
    }
}

fn fault(place: &str, error: &rusqlite::Error) -> Error {
    let sentence = format!("{place}: {error}");
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::OutOfMemory
            | ErrorCode::SystemIoFailure
            | ErrorCode::OperationInterrupted
            | ErrorCode::FileLockingProtocolFailed,
        ) => Error::Passing(sentence),
        Some(ErrorCode::ReadOnly) => {
            Error::Fatal(format!("{sentence}: give this user the right to write the file and its directory"))
        }
        _ => Error::Fatal(sentence),
    }
}

/// RFC 3339 in UTC with microseconds, so that text compares as time does. Beyond what an event time may be it is the bound.
fn written(time: Micros) -> String {
    let text = time.clamp(Micros::MIN, Micros::MAX).to_string();
    let seconds = text.trim_end_matches('Z');
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    format!("{seconds}.{fraction:0<6}Z")
}

/// Wall clock, for `updated_at` and its like alone.
fn now() -> String {
    written(Micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64))
}

fn read_time(text: &str) -> std::result::Result<Micros, Fault> {
    let strange = || Error::Fatal(format!("a time in the store reads {text:?}, expected RFC 3339").to_owned());
    Ok(Micros::parse_rfc3339(text.as_bytes()).ok_or_else(strange)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_six_digits() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_500_000, "1970-01-01T00:00:01.500000Z"),
            (1, "1970-01-01T00:00:00.000001Z"),
            (-5, "1970-01-01T00:00:00.000000Z"),
            (i64::MAX, "9998-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(written(Micros(micros)), text);
        }
    }
}
