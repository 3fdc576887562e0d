//! The **embedded log**: one topic in one SQLite file, for one machine and one daemon, behind the
//! same port as Kafka.
//!
//! Writers (`generate`, `demo`, programs that link this crate) append through [`Log`] from any
//! process; the one daemon reads through [`start`] and [`side_read`]. Invariant: a partition's offsets are
//! given in the order of commits, from 0, without holes, and never given twice.
//!
//! One table a partition, its rowid the offset: appending always touches the right edge of a tree,
//! reading is one range scan, and trimming frees pages that the next append takes.
//!
//! Why `synchronous = FULL`: in WAL mode NORMAL would let a crash of the operating system take back
//! the last commits, although a reader has seen them. The store (synced on its own) could then hold
//! a position above the log's end, and other records would be given offsets already folded. With FULL the
//! WAL is synced before its commit becomes visible, so no position ever runs ahead of what the disk has. It
//! costs one sync an [`Log::append`], which is why that takes many records.

mod file;
mod partitioner;
mod read;
mod reader;
mod side;

pub use file::{Error, MAX_PARTITIONS};
pub use partitioner::{murmur2, partition_of};
pub use reader::{Options, start};
pub use side::side_read;

use crate::position::Position;
use crate::source::LogIdentity;
use crate::time::Micros;
use file::{Expected, LogFile};
use rusqlite::{OptionalExtension, TransactionBehavior};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The topic of a log unless another is given.
pub const TOPIC: &str = "hunt-events";

/// A record to be appended.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// `None`: by the key's murmur2, or in turn where there is no key.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    /// `None`: the time of the append.
    pub timestamp_ms: Option<i64>,
}

/// Where a partition never read before begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Beginning,
    End,
    /// At the first record with this timestamp or a later one; at the end where there is none.
    Time(Micros),
}

/// What a partition holds: the records from `low` on, below `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub partition: i32,
    pub low: Position,
    pub end: Position,
}

/// A handle on a log, to append to it, trim it and ask where it begins and ends.
pub struct Log {
    file: LogFile,
    /// The partition of the next record without a key.
    turn: i32,
}

impl Log {
    /// Opens the log at `path`, creating it where there is no file. A log of another topic or number of partitions is an error.
    pub fn open(path: &Path, topic: &str, partitions: i32) -> Result<Self, Error> {
        Ok(Self { file: LogFile::open(path, Some(Expected { topic, partitions }))?, turn: 0 })
    }

    /// Opens the log that is at `path`, whatever its topic and number of partitions.
    pub fn open_existing(path: &Path) -> Result<Self, Error> {
        Ok(Self { file: LogFile::open(path, None)?, turn: 0 })
    }

    pub fn identity(&self) -> LogIdentity {
        self.file.identity()
    }

    pub fn topic(&self) -> &str {
        &self.file.topic
    }

    pub fn partitions(&self) -> i32 {
        self.file.partitions
    }

    /// Appends all of `records` in their order, or none: one transaction, on disk when this returns.
    pub fn append(&mut self, records: &[NewRecord<'_>]) -> Result<(), Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        let partitions = self.file.partitions;
        let mut by_partition = vec![Vec::new(); partitions as usize];
        for record in records {
            let partition = match (record.partition, record.key) {
                (Some(partition), _) => partition,
                (None, Some(key)) => partition_of(key, partitions),
                (None, None) => {
                    self.turn = (self.turn + 1) % partitions;
                    self.turn
                }
            };
            self.file.check_partition(partition)?;
            by_partition[partition as usize].push(record);
        }
        let transaction = rusqlite::Transaction::new_unchecked(&self.file.conn, TransactionBehavior::Immediate)
            .map_err(self.file.sql("append to"))?;
        let mut headers = Vec::new();
        for (partition, records) in by_partition.iter().enumerate().filter(|(_, records)| !records.is_empty()) {
            let mut offset = self.extent(partition as i32)?.end.0;
            let mut insert = transaction
                .prepare_cached(&format!("INSERT INTO records_{partition} VALUES (?1, ?2, ?3, ?4, ?5)"))
                .map_err(self.file.sql("append to"))?;
            for record in records {
                read::encode_headers(record.headers, &mut headers);
                let encoded = (!headers.is_empty()).then_some(headers.as_slice());
                insert
                    .execute((offset, record.timestamp_ms.unwrap_or(now), record.key, record.value, encoded))
                    .map_err(self.file.sql("append to"))?;
                offset += 1;
            }
            transaction
                .prepare_cached(r#"UPDATE partitions SET "end" = ?2 WHERE partition = ?1"#)
                .and_then(|mut update| update.execute((partition as i64, offset)))
                .map_err(self.file.sql("append to"))?;
        }
        transaction.commit().map_err(self.file.sql("append to"))
    }

    /// The position at which a first reader of `partition` begins.
    pub fn resolve_start(&self, partition: i32, start: Start) -> Result<Position, Error> {
        let extent = self.extent(partition)?;
        match start {
            Start::Beginning => Ok(extent.low),
            Start::End => Ok(extent.end),
            Start::Time(time) => {
                // Rounded up to the timestamps' milliseconds.
                let from_ms = time.0.saturating_add(999).div_euclid(1000);
                let query =
                    format!(r#"SELECT "offset" FROM records_{partition} WHERE timestamp_ms >= ?1 ORDER BY "offset" LIMIT 1"#);
                let found = self.file.conn.query_row(&query, [from_ms], |row| row.get(0)).optional();
                Ok(found.map_err(self.file.sql("look up a time in"))?.map_or(extent.end, Position))
            }
        }
    }

    /// What every partition holds now, in their order.
    pub fn extents(&self) -> Result<Vec<Extent>, Error> {
        self.file.extents()
    }

    /// Forgets the records of `partition` below `before`; a reader that is below it then meets a gap. Where `before` lies above the
    /// end, all of them.
    pub fn trim(&mut self, partition: i32, before: Position) -> Result<(), Error> {
        // Bounded steps, so that writers wait for milliseconds at most.
        const STEP: i64 = 10_000;
        loop {
            let transaction = rusqlite::Transaction::new_unchecked(&self.file.conn, TransactionBehavior::Immediate)
                .map_err(self.file.sql("trim"))?;
            let extent = self.extent(partition)?;
            let before = before.min(extent.end);
            if before <= extent.low {
                return Ok(());
            }
            let low = before.0.min(extent.low.0 + STEP);
            transaction
                .execute(&format!(r#"DELETE FROM records_{partition} WHERE "offset" < ?1"#), [low])
                .and_then(|_| transaction.execute("UPDATE partitions SET low = ?2 WHERE partition = ?1", (partition, low)))
                .map_err(self.file.sql("trim"))?;
            transaction.commit().map_err(self.file.sql("trim"))?;
        }
    }

    fn extent(&self, partition: i32) -> Result<Extent, Error> {
        self.file.extent(partition)
    }
}

#[cfg(test)]
mod tests;
