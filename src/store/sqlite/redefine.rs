//! A **redefinition** in SQLite: every state converted in one transaction, which holds the write lock from its beginning.
//!
//! Invariant: as in Postgres: all or nothing, every owner's epoch and checkpoint number are history, and readers see the store as it was until
//! then (WAL).

use super::super::redefinition::{self, Redefinition};
use super::super::rollup::Refusals;
use super::super::{Error, LagReasons, Readers};
use super::{Fault, commit, now, read_time, rollup, summary, written};
use crate::position::Position;
use crate::record::PartitionId;
use crate::time::Micros;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

type Result<T> = std::result::Result<T, Fault>;

/// Keys read at once; states are read one by one.
const CHUNK: usize = 1000;

pub(super) fn redefine(connection: &mut Connection, redefinition: &Redefinition, refusals: &Refusals) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let stored: Option<String> = transaction.query_row("SELECT definitions FROM identity", [], |row| row.get(0)).optional()?;
    let Some(stored) = stored else { return Err(Error::Fatal("the store has no definitions yet".to_owned()).into()) };
    if stored == redefinition.new {
        return Ok(());
    }
    if stored != redefinition.old {
        return Err(Error::Redefined { stored, configured: redefinition.new.clone() }.into());
    }
    nothing_lags(&transaction)?;
    let at = now();
    record(&transaction, redefinition, &at)?;
    let of: i64 = transaction.query_row(
        "SELECT (SELECT count(*) FROM partials WHERE state IS NOT NULL) + (SELECT count(*) FROM shared_hunts)",
        [],
        |row| row.get(0),
    )?;
    let (at, mut done) = (read_time(&at)?, 0);
    let mut progress = |rows: usize| {
        done += rows as u64;
        (redefinition.progress)(done, of as u64);
    };
    progress(0);
    convert_partials(&transaction, redefinition, at, &mut progress)?;
    merge_shared(&transaction, redefinition, at, &mut progress)?;
    convert_rollups(&transaction, redefinition, refusals, at)?;
    summary::renew(&transaction, &redefinition.summary)?;
    Ok(transaction.commit()?)
}

fn nothing_lags(transaction: &Transaction<'_>) -> Result<()> {
    let all: i64 = transaction.query_row("SELECT count(*) FROM partials WHERE lagging", [], |row| row.get(0))?;
    if all == 0 {
        return Ok(());
    }
    let mut read = transaction.prepare(
        "SELECT topic, partition, hunt_id, position, reasons FROM partials WHERE lagging ORDER BY topic, partition, hunt_id LIMIT ?",
    )?;
    let first = read
        .query_map([redefinition::NAMED as i64], |row| {
            let partition = PartitionId::new(&row.get::<_, String>(0)?, row.get(1)?);
            Ok((partition, row.get(2)?, Position(row.get(3)?), LagReasons::from_bits(row.get(4)?)))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Err(redefinition::lagging(all, &first).into())
}

/// Writes the new generation down, and fences whoever knows the old one.
fn record(transaction: &Transaction<'_>, redefinition: &Redefinition, at: &str) -> Result<()> {
    let Redefinition { new, idle, lateness, empty_view, .. } = redefinition;
    let number: i32 = transaction.query_row(
        "INSERT INTO definitions (number, definitions, recorded_at) SELECT coalesce(max(number), 0) + 1, ?, ? FROM definitions RETURNING number",
        params![new, at],
        |row| row.get(0),
    )?;
    transaction.execute(
        "INSERT INTO definition_positions (number, topic, partition, position)
         SELECT ?, topic, partition, position FROM partitions WHERE position IS NOT NULL",
        [number],
    )?;
    transaction.execute(
        "UPDATE identity SET definitions = ?, idle = ?, lateness = ?, empty_view = ?",
        params![new, idle, lateness, empty_view],
    )?;
    // A breaker stands tripped until the definitions change.
    transaction.execute(
        "UPDATE partitions SET epoch = epoch + 1, checkpoint = checkpoint + 1, owner = NULL, advertise = NULL, tripped = NULL, updated_at = ?",
        [at],
    )?;
    Ok(())
}

fn convert_partials(
    transaction: &Transaction<'_>,
    redefinition: &Redefinition,
    at: Micros,
    progress: &mut impl FnMut(usize),
) -> Result<()> {
    let mut keys = transaction.prepare(
        "SELECT hunt_id, topic, partition FROM partials WHERE (hunt_id, topic, partition) > (?, ?, ?) AND state IS NOT NULL
         ORDER BY hunt_id, topic, partition LIMIT ?",
    )?;
    let mut read = transaction.prepare("SELECT state FROM partials WHERE hunt_id = ? AND topic = ? AND partition = ?")?;
    let mut write = transaction.prepare(
        "UPDATE partials SET state = ?4, view = ?5, events = ?6, first_event_at = ?7, last_event_at = ?8, hunt_clock = ?9, partition_clock = ?10,
           watermark_floor = ?11, updated_at = ?12
         WHERE hunt_id = ?1 AND topic = ?2 AND partition = ?3",
    )?;
    let mut after = (String::new(), String::new(), -1);
    loop {
        let chunk: Vec<(String, String, i32)> = keys
            .query_map(params![after.0, after.1, after.2, CHUNK as i64], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let Some(last) = chunk.last().cloned() else { return Ok(()) };
        for (hunt, topic, partition) in &chunk {
            let state: Vec<u8> = read.query_row(params![hunt, topic, partition], |row| row.get(0))?;
            let (state, readers) = (redefinition.convert)(&state)
                .map_err(|why| redefinition::unconvertible(&PartitionId::new(topic, *partition), hunt, &why))?;
            let Readers { view, events, first_event_at, last_event_at, hunt_clock, partition_clock, watermark_floor } = readers;
            let clock = |clock: Option<Micros>| clock.map(|clock| clock.0);
            write.execute(params![
                hunt,
                topic,
                partition,
                state,
                view,
                events,
                first_event_at.map(written),
                last_event_at.map(written),
                clock(hunt_clock),
                clock(partition_clock),
                clock(watermark_floor),
                written(at),
            ])?;
        }
        progress(chunk.len());
        after = last;
    }
}

/// Merges every shared hunt again, from states that are converted by now.
fn merge_shared(
    transaction: &Transaction<'_>,
    redefinition: &Redefinition,
    at: Micros,
    progress: &mut impl FnMut(usize),
) -> Result<()> {
    let mut names = transaction.prepare("SELECT hunt_id FROM shared_hunts WHERE hunt_id > ? ORDER BY hunt_id LIMIT ?")?;
    let mut after = String::new();
    loop {
        let chunk: Vec<String> =
            names.query_map(params![after, CHUNK as i64], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let Some(last) = chunk.last().cloned() else { return Ok(()) };
        for hunt in &chunk {
            let states = commit::states(transaction, hunt)?;
            let merged = match states.is_empty() {
                true => None,
                false => {
                    let merged = (redefinition.merge.hunts)(&states);
                    Some(merged.map_err(|why| redefinition::unmerged(&format!("the partials of hunt {hunt:?}"), &why))?)
                }
            };
            commit::write_merged(transaction, hunt, merged.as_ref(), at)?;
        }
        progress(chunk.len());
        after = last;
    }
}

/// Every partition's rollup, and the relation that is the merge of all.
fn convert_rollups(transaction: &Transaction<'_>, redefinition: &Redefinition, refusals: &Refusals, at: Micros) -> Result<()> {
    let partitions: Vec<PartitionId> = transaction
        .prepare("SELECT topic, partition FROM partitions WHERE rollup IS NOT NULL ORDER BY topic, partition")?
        .query_map([], |row| Ok(PartitionId::new(&row.get::<_, String>(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut read = transaction.prepare("SELECT rollup FROM partitions WHERE topic = ? AND partition = ?")?;
    let mut write = transaction.prepare("UPDATE partitions SET rollup = ?3 WHERE topic = ?1 AND partition = ?2")?;
    let mut shares = Vec::with_capacity(partitions.len());
    for partition in &partitions {
        let share: Vec<u8> = read.query_row(params![&*partition.topic, partition.partition], |row| row.get(0))?;
        let share = (redefinition.convert_rollup)(&share).map_err(|why| redefinition::unconvertible_rollup(partition, &why))?;
        write.execute(params![&*partition.topic, partition.partition, share])?;
        shares.push(share);
    }
    if shares.is_empty() {
        return Ok(());
    }
    let values = (redefinition.merge.rollup)(&shares).map_err(|why| redefinition::unmerged("the partitions' rollups", &why))?;
    rollup::write_values(transaction, &values, at, refusals)
}
