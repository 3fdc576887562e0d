//! A store built **beside** the one in use, in `FILE.rebuild`, and how it takes its place.
//!
//! The daemon may go on with `FILE` while the other is built; for the swap it must have stopped, for the lock on `FILE.lock` is needed.
//!
//! Invariant: whenever the machine stops, `FILE` is one whole store, the old or the new. Both files are first made to stand alone: their
//! write-ahead logs are copied into them and removed (`journal_mode = DELETE`), and the new one is on disk. Then one rename puts it in the
//! place of the old, while an exclusive lock keeps every other program out of that. Stopped before the rename, `FILE` is the old store, to
//! which nothing was done, and the next rebuild begins anew; stopped after, it is the new one. At no moment does a log stand beside a file
//! that it is not of: SQLite would copy it into the wrong one.

use super::super::Error;
use super::super::Result;
use super::{Fault, Sqlite, aside, connect, fault, lock, now, place, schema, with_suffix};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, ffi};
use std::fs::File;
use std::path::{Path, PathBuf};

/// How often another program may come between making the old file stand alone and locking it.
const MEETINGS: usize = 20;

impl Sqlite {
    pub async fn open_beside(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        aside(move || {
            schema::version(&connect(&path, false)?).map_err(|e| fault(&place(&path), &e))?.check(&place(&path))?;
            let beside = with_suffix(&real(&path)?, ".rebuild");
            // Of two rebuilds the second ends here, before it drops anything.
            let lock = lock(&beside)?;
            for suffix in ["-wal", "-shm", "-journal", ""] {
                remove(&with_suffix(&beside, suffix))?;
            }
            Self::open_locked(&beside, lock, true)
        })
        .await
    }

    /// Puts this store, built beside the one at `path`, in its place.
    pub async fn swap(self, path: &Path) -> Result<()> {
        let named = path.to_owned();
        let path = real(path)?;
        let beside = with_suffix(&path, ".rebuild");
        if self.path != beside || self._lock.is_none() {
            return Err(Error::Fatal(format!("{}: this store was not built beside {}", self.place, place(&path))));
        }
        // Held to the end. The old store's own lock file goes with neither store.
        let _lock = aside(move || lock(&named)).await?;
        // The threads stay with an empty store each; what they had is closed here.
        let reader = self.call(&self.reader, "close the store", take).await?;
        let writer = self.call(&self.writer, "close the store", take).await?;
        aside(move || {
            drop(reader);
            carry_over(writer, &path, &beside).map_err(|fault| fault.at(&place(&beside)))?;
            replace(&path, &beside)
        })
        .await
    }
}

/// The file itself, whatever links lead to it: a rename must not replace a link.
fn real(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|e| Error::Fatal(format!("{}: {e}: run `huntline migrate`, or see [store] url", place(path))))
}

fn take(connection: &mut Connection) -> std::result::Result<Connection, Fault> {
    Ok(std::mem::replace(connection, Connection::open_in_memory()?))
}

fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Fatal(format!("remove what an earlier rebuild left: {}: {e}", file.display())))
        }
        _ => Ok(()),
    }
}

/// Writes into the new store what it takes over, and makes its file stand alone on the disk.
fn carry_over(mut new: Connection, path: &Path, beside: &Path) -> std::result::Result<(), Fault> {
    new.execute("ATTACH ? AS old", [path.to_string_lossy()])?;
    let transaction = new.transaction_with_behavior(TransactionBehavior::Immediate)?;
    same_source(&transaction)?;
    transaction.execute(
        "INSERT INTO main.partitions (topic, partition, epoch, updated_at) SELECT topic, partition, epoch, updated_at FROM old.partitions WHERE true
         ON CONFLICT (topic, partition) DO UPDATE SET epoch = max(epoch, excluded.epoch)",
        [],
    )?;
    transaction
        .execute("UPDATE main.partitions SET epoch = epoch + 1, owner = NULL, advertise = NULL, updated_at = ?", [now()])?;
    transaction.execute(
        r#"INSERT INTO main.acts (id, topic, partition, position, hunt_id, "offset", act, "by", asked_at, done_at, result)
           SELECT id, topic, partition, position, hunt_id, "offset", act, "by", asked_at, done_at, result FROM old.acts"#,
        [],
    )?;
    for (table, number) in [
        ("definition_positions", "-number"),
        ("definitions", "-number"),
        ("definition_positions", "(SELECT coalesce(max(number), 0) FROM old.definitions) - number"),
        ("definitions", "(SELECT coalesce(max(number), 0) FROM old.definitions) - number"),
    ] {
        transaction.execute(&format!("UPDATE main.{table} SET number = {number}"), [])?;
    }
    transaction.commit()?;
    new.execute("DETACH old", [])?;
    alone(&new)?;
    new.close().map_err(|(_, e)| e)?;
    // Who may read the old file may read the new.
    let rights = std::fs::metadata(path).and_then(|old| std::fs::set_permissions(beside, old.permissions()));
    let on_disk = rights.and_then(|()| File::open(beside)?.sync_all());
    Ok(on_disk.map_err(|e| Error::Fatal(format!("write {} to the disk: {e}", beside.display())))?)
}

/// Both hold views of the same events.
fn same_source(new: &Connection) -> std::result::Result<(), Fault> {
    let read = |schema: &str| {
        new.query_row(&format!(r#"SELECT cluster, "group" FROM {schema}.identity"#), [], |row| {
            Ok([("cluster", row.get::<_, String>(0)?), ("consumer group", row.get(1)?)])
        })
        .optional()
    };
    let Some(new) = read("main")? else { return Err(Error::Fatal("the store built beside was never bound".to_owned()).into()) };
    let Some(old) = read("old")? else { return Ok(()) };
    let differences: Vec<String> = old
        .iter()
        .zip(&new)
        .filter(|(old, new)| old != new)
        .map(|((what, old), (_, new))| format!("its {what} is {old:?}, that of the store built beside it {new:?}"))
        .collect();
    if differences.is_empty() { Ok(()) } else { Err(Error::Mismatch(differences).into()) }
}

/// Copies the write-ahead log into the file and removes it. Fails while any other connection is open.
fn alone(connection: &Connection) -> rusqlite::Result<()> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))?;
    if mode == "delete" { Ok(()) } else { Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)) }
}

/// The rename, with nobody else at the old file.
fn replace(path: &Path, beside: &Path) -> Result<()> {
    let busy =
        || Error::Fatal(format!("{}: another program has the file open: close it; the old store stands as it was", place(path)));
    let told = |e: rusqlite::Error| match fault(&place(path), &e) {
        Error::Passing(_) => busy(),
        other => other,
    };
    let old = connect(path, false)?;
    for _ in 0..MEETINGS {
        alone(&old).map_err(told)?;
        old.execute_batch("BEGIN EXCLUSIVE").map_err(told)?;
        let mode: String = old.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(told)?;
        if mode == "delete" {
            let failed =
                |e: std::io::Error| Error::Fatal(format!("put {} in the place of {}: {e}", beside.display(), path.display()));
            std::fs::rename(beside, path).map_err(failed)?;
            return sync_directory(path).map_err(failed);
        }
        // Whoever opened it in between uses the log again.
        old.execute_batch("ROLLBACK").map_err(told)?;
    }
    Err(busy())
}

/// The new name on the disk too.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    File::open(directory)?.sync_all()
}
