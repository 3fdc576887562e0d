//! An **audit** of the store, and what goes with it: generations, and partials beside their partition's position.
//!
//! Invariant: one read transaction, so that a checkpoint is wholly in it or not at all. States are hashed where they lie, one at a time.

use super::super::audit::{self, Audit, AuditedLetter, AuditedPartial, AuditedPartition, Gathered, Generation};
use super::super::{Error, Gap, Lag, LagReasons, Snapshot};
use super::shown::stood;
use super::{Fault, read, read_time};
use crate::outcome::Reason;
use crate::position::{Offset, Position};
use crate::record::PartitionId;
use crate::time::Micros;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

type Result<T> = std::result::Result<T, Fault>;

/// With `only`, of partials, dead letters and gaps those that concern this hunt.
pub(super) fn audit(connection: &mut Connection, only: Option<&str>) -> Result<Audit> {
    // A clause of its own: as part of another one SQLite would not look it up in an index.
    let of_hunt = |clause: &'static str| if only.is_some() { clause } else { "" };
    let transaction = connection.transaction()?;
    let generations = read_generations(&transaction)?;
    let mut gathered = Gathered::default();
    const PARTITIONS: &str =
        "SELECT topic, partition, position, clock, records, applied, duplicate, dead_lettered, ignored, held, late, start, rollup
         FROM partitions";
    each(&transaction, PARTITIONS, None, |row| {
        gathered.add(AuditedPartition {
            partition: PartitionId::new(&row.get::<_, String>(0)?, row.get(1)?),
            start: row.get::<_, Option<i64>>(11)?.map(Position),
            position: row.get::<_, Option<i64>>(2)?.map(Position),
            clock: row.get::<_, Option<i64>>(3)?.map(Micros),
            counts: super::read::counts(row, 4)?,
            rollup: row.get(12)?,
            partials: Vec::new(),
            left_out: Vec::new(),
            gaps: Vec::new(),
            letters: 0,
        });
        Ok(())
    })?;
    const PARTIALS: &str = "SELECT topic, partition, hunt_id, state, lagging, position, clock, held, reasons FROM partials";
    each(&transaction, &format!("{PARTIALS}{}", of_hunt(" WHERE hunt_id = ?1")), only, |row| {
        let digest = match row.get_ref(3)? {
            ValueRef::Null => None,
            state => Some(audit::digest(state.as_blob().map_err(rusqlite::Error::from)?)),
        };
        let lag = match row.get(4)? {
            false => None,
            true => Some(Lag {
                position: Position(row.get(5)?),
                clock: row.get::<_, Option<i64>>(6)?.map(Micros),
                held: row.get(7)?,
                reasons: LagReasons::from_bits(row.get(8)?),
            }),
        };
        let partial = AuditedPartial { hunt: row.get(2)?, digest, lag };
        if let Some(partition) = gathered.of(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?, row.get(1)?) {
            partition.partials.push(partial);
        }
        Ok(())
    })?;
    let left_out = format!(
        r#"SELECT topic, partition, "offset", reason FROM dead_letters WHERE reason IN ('failed', 'state_full'){}
         ORDER BY topic, partition, "offset""#,
        of_hunt(" AND hunt_id = ?1")
    );
    each(&transaction, &left_out, only, |row| {
        let reason = if row.get::<_, String>(3)? == Reason::Failed.as_str() { Reason::Failed } else { Reason::StateFull };
        let offset = Offset(row.get(2)?);
        if let Some(partition) = gathered.of(&row.get::<_, String>(0)?, row.get(1)?) {
            partition.left_out.push((offset, reason));
        }
        Ok(())
    })?;
    let gaps = format!(
        "SELECT topic, partition, hunt_id, from_offset, to_offset, reason, found_at FROM gaps{}
         ORDER BY topic, partition, from_offset, to_offset, hunt_id NULLS FIRST",
        of_hunt(" WHERE hunt_id IS NULL OR hunt_id = ?1")
    );
    each(&transaction, &gaps, only, |row| {
        let gap = Gap {
            hunt_id: row.get(2)?,
            from: Position(row.get(3)?),
            to: Position(row.get(4)?),
            reason: row.get(5)?,
            found_at: read_time(&row.get::<_, String>(6)?)?,
        };
        if let Some(partition) = gathered.of(&row.get::<_, String>(0)?, row.get(1)?) {
            partition.gaps.push(gap);
        }
        Ok(())
    })?;
    let letters = format!(
        "SELECT topic, partition, count(*) FROM dead_letters{} GROUP BY topic, partition",
        of_hunt(" WHERE hunt_id = ?1")
    );
    each(&transaction, &letters, only, |row| {
        let letters = row.get(2)?;
        if let Some(partition) = gathered.of(&row.get::<_, String>(0)?, row.get(1)?) {
            partition.letters = letters;
        }
        Ok(())
    })?;
    Ok(Audit { generations, partitions: gathered.finish() })
}

/// Hands over the rows of `sql` one by one. With `parameter` it has one.
fn each(
    transaction: &Transaction<'_>,
    sql: &str,
    parameter: Option<&str>,
    mut take: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<()> {
    let mut read = transaction.prepare(sql)?;
    let mut rows = read.query(rusqlite::params_from_iter(parameter))?;
    while let Some(row) = rows.next()? {
        take(row)?;
    }
    Ok(())
}

/// One statement. Keys and values are hashed where they lie.
pub(super) fn letters(
    connection: &mut Connection,
    partition: &PartitionId,
    after: Option<Offset>,
    until: Position,
    limit: u32,
) -> Result<Vec<AuditedLetter>> {
    let mut read = connection.prepare_cached(
        r#"SELECT "offset", hunt_id, reason, key, value, headers, record_at FROM dead_letters
           WHERE topic = ? AND partition = ? AND "offset" > ? AND "offset" < ? ORDER BY "offset" LIMIT ?"#,
    )?;
    let after = after.map_or(i64::MIN, |after| after.0);
    let mut rows = read.query(params![&*partition.topic, partition.partition, after, until.0, limit])?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        let digest = |column: usize| -> Result<Option<[u8; 32]>> {
            let bytes = row.get_ref(column)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
            Ok(bytes.map(audit::digest))
        };
        letters.push(AuditedLetter {
            offset: Offset(row.get(0)?),
            hunt: row.get(1)?,
            reason: row.get(2)?,
            key: digest(3)?,
            value: digest(4)?,
            headers: audit::headers_digest(row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?),
            record_at: stood(row, 6)?,
        });
    }
    Ok(letters)
}

pub(super) fn generations(connection: &mut Connection) -> Result<Vec<Generation>> {
    read_generations(&connection.transaction()?)
}

fn read_generations(transaction: &Transaction<'_>) -> Result<Vec<Generation>> {
    let mut generations: Vec<Generation> = Vec::new();
    each(transaction, "SELECT number, definitions, recorded_at FROM definitions ORDER BY number", None, |row| {
        generations.push(Generation {
            number: row.get(0)?,
            definitions: row.get(1)?,
            since: Default::default(),
            recorded_at: read_time(&row.get::<_, String>(2)?)?,
        });
        Ok(())
    })?;
    each(transaction, "SELECT number, topic, partition, position FROM definition_positions", None, |row| {
        let number: i32 = row.get(0)?;
        let (partition, position) = (PartitionId::new(&row.get::<_, String>(1)?, row.get(2)?), Position(row.get(3)?));
        if let Ok(at) = generations.binary_search_by_key(&number, |generation| generation.number) {
            generations[at].since.insert(partition, position);
        }
        Ok(())
    })?;
    Ok(generations)
}

pub(super) fn partials(
    connection: &mut Connection,
    partition: &PartitionId,
    hunts: &[String],
) -> Result<(Position, Vec<Snapshot>)> {
    let transaction = connection.transaction()?;
    let position: Option<Option<i64>> = transaction
        .prepare_cached("SELECT position FROM partitions WHERE topic = ? AND partition = ?")?
        .query_row(params![&*partition.topic, partition.partition], |row| row.get(0))
        .optional()?;
    let Some(position) = position.flatten() else {
        return Err(Error::Fatal(format!("the store has read nothing of {partition} yet")).into());
    };
    Ok((Position(position), read::load(&transaction, partition, hunts)?.snapshots))
}
