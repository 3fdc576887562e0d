//! The **file** of an embedded log: its format, how it is created, checked and connected to, and
//! everything that can be wrong with it.
//!
//! Every connection, of whatever process, comes from [`LogFile::open`]. Invariant: a file that is
//! not a log of this format, topic and number of partitions is refused before a byte of it changes.

use crate::source::{LogIdentity, TopicIdentity};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::fs::{self, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// "HntL" in the file's header, where SQLite keeps the application's mark.
const APPLICATION_ID: i32 = 0x486e_744c;
/// The version of the tables below, in SQLite's `user_version`.
const FORMAT: i32 = 1;
/// More tables than this slow every connection's start.
pub const MAX_PARTITIONS: i32 = 1024;
/// How long a connection waits for another one's write or checkpoint.
const BUSY: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open embedded log {}: {why}", path.display())]
    Unopenable { path: PathBuf, why: String },
    #[error("embedded log {}: found {found}, expected a log written by huntline", path.display())]
    NotALog { path: PathBuf, found: String },
    #[error("embedded log {}: found format {found}, expected at most {FORMAT}: a newer huntline wrote it, use that one", path.display())]
    Newer { path: PathBuf, found: i32 },
    #[error("embedded log {}: found {found} partitions, expected {expected}: say partitions = {found}, or give a new file", path.display())]
    Partitions { path: PathBuf, found: i32, expected: i32 },
    #[error("embedded log {}: found topic {found:?}, expected {expected:?}", path.display())]
    Topic { path: PathBuf, found: String, expected: String },
    #[error("embedded log: found partitions = {found}, expected 1 to {MAX_PARTITIONS}")]
    PartitionCount { found: i32 },
    #[error("embedded log {}: found partition {found}, expected 0 to {}", path.display(), partitions - 1)]
    NoPartition { path: PathBuf, found: i32, partitions: i32 },
    #[error(
        "embedded log {} is read by another daemon{}, which holds {}: stop that one, or give this one a log of its own \
         (one daemon reads an embedded log; several share Kafka)",
        path.display(),
        holder.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        lock.display()
    )]
    Locked { path: PathBuf, lock: PathBuf, holder: Option<String> },
    #[error("{doing} embedded log {}: {source}", path.display())]
    Sql {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: rusqlite::Error,
    },
}

impl Error {
    /// Whether another connection was merely in the way.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Error::Sql { source, .. } if is_busy(source))
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// One connection to the log.
pub(super) struct LogFile {
    pub path: PathBuf,
    pub conn: Connection,
    pub cluster: String,
    pub topic: String,
    pub topic_id: String,
    pub partitions: i32,
}

/// The log a caller expects to find, or to create where there is none.
pub(super) struct Expected<'a> {
    pub topic: &'a str,
    pub partitions: i32,
}

impl LogFile {
    /// Connects to the log at `path`. With `expected` a missing or empty file becomes a new log; without, whatever log is there is taken.
    pub fn open(path: &Path, expected: Option<Expected<'_>>) -> Result<Self, Error> {
        if let Some(Expected { partitions, .. }) = expected
            && !(1..=MAX_PARTITIONS).contains(&partitions)
        {
            return Err(Error::PartitionCount { found: partitions });
        }
        check_place(path, expected.is_some())?;
        // Switching a new file to WAL takes a lock that SQLite does not wait for.
        let deadline = Instant::now() + BUSY;
        loop {
            match Self::connect(path, &expected) {
                Err(e) if e.is_busy() && Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                result => return result,
            }
        }
    }

    fn connect(path: &Path, expected: &Option<Expected<'_>>) -> Result<Self, Error> {
        let sql = |doing: &'static str| move |source| explain(path, doing, source);
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if expected.is_some() {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
        let mut conn = Connection::open_with_flags(path, flags).map_err(sql("open"))?;
        conn.busy_timeout(BUSY).map_err(sql("open"))?;
        let fresh = check_format(path, &conn)?;
        if conn.is_readonly("main").map_err(sql("open"))? {
            return Err(Error::Unopenable {
                path: path.into(),
                why: "found a file that cannot be written, expected a writable one".into(),
            });
        }
        if fresh && expected.is_none() {
            return Err(Error::NotALog { path: path.into(), found: "an empty file".into() });
        }
        let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(sql("open"))?;
        if mode != "wal" {
            let why = format!(
                "found journal mode {mode:?}, expected \"wal\": the file system must allow shared memory (a local disk does)"
            );
            return Err(Error::Unopenable { path: path.into(), why });
        }
        conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864;")
            .map_err(sql("open"))?;
        conn.set_prepared_statement_cache_capacity(4 * MAX_PARTITIONS as usize);
        if fresh && let Some(expected) = expected {
            create(path, &mut conn, expected)?;
        }
        let (cluster, topic, topic_id, partitions) = conn
            .query_row("SELECT cluster, topic, topic_id, partitions FROM log", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .map_err(sql("read the identity of"))?;
        let file = Self { path: path.into(), conn, cluster, topic, topic_id, partitions };
        if let Some(expected) = expected {
            file.check(expected)?;
        }
        Ok(file)
    }

    fn check(&self, expected: &Expected<'_>) -> Result<(), Error> {
        if self.topic != expected.topic {
            return Err(Error::Topic { path: self.path.clone(), found: self.topic.clone(), expected: expected.topic.into() });
        }
        if self.partitions != expected.partitions {
            return Err(Error::Partitions { path: self.path.clone(), found: self.partitions, expected: expected.partitions });
        }
        Ok(())
    }

    pub fn identity(&self) -> LogIdentity {
        LogIdentity {
            cluster: self.cluster.clone(),
            topics: vec![TopicIdentity {
                topic: self.topic.clone(),
                id: Some(self.topic_id.clone()),
                partitions: self.partitions,
            }],
        }
    }

    pub fn sql(&self, doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Error + '_ {
        move |source| explain(&self.path, doing, source)
    }

    pub fn check_partition(&self, partition: i32) -> Result<(), Error> {
        if (0..self.partitions).contains(&partition) {
            return Ok(());
        }
        Err(Error::NoPartition { path: self.path.clone(), found: partition, partitions: self.partitions })
    }

    /// Moves what is committed into the main file, syncing it first: a writer killed between its write and its sync may have left a
    /// commit that only memory holds, and no reader should go past it before the disk has it.
    pub fn settle(&self) -> Result<(), Error> {
        self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).map_err(self.sql("settle"))
    }
}

/// The right to read a log as its one daemon, for as long as it lives; the system gives it back when the process ends, however it ends.
pub(super) struct DaemonLock {
    _file: fs::File,
}

impl DaemonLock {
    pub fn take(path: &Path) -> Result<Self, Error> {
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = PathBuf::from(lock);
        let unopenable =
            |e: std::io::Error| Error::Unopenable { path: path.into(), why: format!("take the lock {}: {e}", lock.display()) };
        let mut file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock).map_err(unopenable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&lock).ok().map(|pid| pid.trim().to_owned()).filter(|pid| !pid.is_empty());
                return Err(Error::Locked { path: path.into(), lock, holder });
            }
            Err(TryLockError::Error(e)) => return Err(unopenable(e)),
        }
        // The number only helps a person who meets the lock; the lock itself is the system's.
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(unopenable)?;
        Ok(Self { _file: file })
    }
}

/// SQLite says "unable to open database file" for all of these.
fn check_place(path: &Path, may_create: bool) -> Result<(), Error> {
    let unopenable = |why: String| Err(Error::Unopenable { path: path.into(), why });
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(Error::NotALog { path: path.into(), found: "a directory".into() }),
        Ok(_) => return Ok(()),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return unopenable(e.to_string()),
        Err(_) if !may_create => return unopenable("found no such file, expected a log".into()),
        Err(_) => {}
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::metadata(parent) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => unopenable(format!("found that {} is no directory, expected a writable directory", parent.display())),
        Err(e) => unopenable(format!("directory {}: {e}; expected a writable directory", parent.display())),
    }
}

/// Whether the file is still to become a log; an error if it is anything but a log.
fn check_format(path: &Path, conn: &Connection) -> Result<bool, Error> {
    let number = |query: &str| conn.query_row(query, [], |row| row.get::<_, i32>(0)).map_err(|e| explain(path, "open", e));
    let application = number("PRAGMA application_id")?;
    let format = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_master")?;
    if application == 0 && format == 0 && tables == 0 {
        return Ok(true);
    }
    if application != APPLICATION_ID {
        let found = format!("an SQLite database of another kind (application_id {application}, {tables} tables and indexes)");
        return Err(Error::NotALog { path: path.into(), found });
    }
    if format > FORMAT {
        return Err(Error::Newer { path: path.into(), found: format });
    }
    Ok(false)
}

fn create(path: &Path, conn: &mut Connection, expected: &Expected<'_>) -> Result<(), Error> {
    let sql = |source| explain(path, "create", source);
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
    if !check_format(path, &transaction)? {
        return Ok(());
    }
    let mut schema = format!(
        r#"PRAGMA application_id = {APPLICATION_ID};
        PRAGMA user_version = {FORMAT};
        CREATE TABLE log (cluster TEXT NOT NULL, topic TEXT NOT NULL, topic_id TEXT NOT NULL, partitions INTEGER NOT NULL) STRICT;
        CREATE TABLE partitions (partition INTEGER PRIMARY KEY, low INTEGER NOT NULL, "end" INTEGER NOT NULL) STRICT;"#
    );
    for partition in 0..expected.partitions {
        schema += &format!(
            r#"INSERT INTO partitions VALUES ({partition}, 0, 0);
            CREATE TABLE records_{partition} ("offset" INTEGER PRIMARY KEY, timestamp_ms INTEGER NOT NULL, key BLOB, value BLOB, headers BLOB) STRICT;"#
        );
    }
    transaction.execute_batch(&schema).map_err(sql)?;
    transaction
        .execute(
            "INSERT INTO log VALUES (lower(hex(randomblob(16))), ?1, lower(hex(randomblob(16))), ?2)",
            (expected.topic, expected.partitions),
        )
        .map_err(sql)?;
    transaction.commit().map_err(sql)
}

fn explain(path: &Path, doing: &'static str, source: rusqlite::Error) -> Error {
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::NotALog { path: path.into(), found: "a file that is no SQLite database".into() },
        Some(ErrorCode::CannotOpen) => Error::Unopenable {
            path: path.into(),
            why: format!(
                "{source}; expected a file and a directory that this user may write (SQLite keeps -wal and -shm files beside it)"
            ),
        },
        _ => Error::Sql { path: path.into(), doing, source },
    }
}
