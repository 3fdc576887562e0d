//! The **writing calls**: claim, begin, and the one transaction that is a checkpoint.
//!
//! The same fence as in Postgres (`epoch`, `owner`, `checkpoint`); there is one writer, so nothing is waited for. Invariant: all or
//! nothing, once: a checkpoint whose caller stopped waiting is found done when it is sent again.

use super::super::handle::Merge;
use super::super::rollup::Refusals;
use super::super::{Checkpoint, Claimed, Error, LagReasons, Lagging, Owner, Readers, Snapshot, headers};
use super::{Fault, acts, now, rollup, written};
use crate::position::{Epoch, Position};
use crate::record::PartitionId;
use crate::time::Micros;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

type Result<T> = std::result::Result<T, Fault>;

pub(super) fn claim(connection: &mut Connection, partition: &PartitionId, owner: &Owner) -> Result<Claimed> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut claimed = transaction.query_row(
        "INSERT INTO partitions (topic, partition, epoch, owner, advertise, updated_at) VALUES (?, ?, 1, ?, ?, ?)
         ON CONFLICT (topic, partition) DO UPDATE SET epoch = epoch + 1, owner = excluded.owner, advertise = excluded.advertise, updated_at = excluded.updated_at
         RETURNING epoch, checkpoint, position, clock, records, applied, duplicate, dead_lettered, ignored, held, late,
           rollup, tripped",
        params![&*partition.topic, partition.partition, owner.id, owner.advertise, now()],
        |row| {
            Ok(Claimed {
                epoch: Epoch(row.get(0)?),
                checkpoint: row.get(1)?,
                position: row.get::<_, Option<i64>>(2)?.map(Position),
                clock: row.get::<_, Option<i64>>(3)?.map(Micros),
                counts: super::read::counts(row, 4)?,
                lagging: Vec::new(),
                rollup: row.get(11)?,
                tripped: row.get(12)?,
            })
        },
    )?;
    claimed.lagging = transaction
        .prepare_cached("SELECT hunt_id, position, clock, held, reasons FROM partials WHERE topic = ? AND partition = ? AND lagging ORDER BY hunt_id")?
        .query_map(params![&*partition.topic, partition.partition], |row| {
            Ok(Lagging {
                hunt: row.get(0)?,
                position: Position(row.get(1)?),
                clock: row.get::<_, Option<i64>>(2)?.map(Micros),
                held: row.get(3)?,
                reasons: LagReasons::from_bits(row.get(4)?),
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    transaction.commit()?;
    Ok(claimed)
}

pub(super) fn begin(
    connection: &mut Connection,
    partition: PartitionId,
    epoch: Epoch,
    owner: &str,
    position: Position,
) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let count = transaction.execute(
        "UPDATE partitions SET position = ?5, start = ?5, updated_at = ?6
         WHERE topic = ?1 AND partition = ?2 AND epoch = ?3 AND owner = ?4 AND (position IS NULL OR position = ?5)",
        params![&*partition.topic, partition.partition, epoch.0, owner, position.0, now()],
    )?;
    if count != 1 {
        let fence = Fence::read(&transaction, &partition)?;
        return Err(fenced(partition, fence).into());
    }
    Ok(transaction.commit()?)
}

struct Fence {
    epoch: i64,
    owner: Option<String>,
    checkpoint: i64,
    position: Option<i64>,
}

impl Fence {
    fn read(transaction: &Transaction<'_>, partition: &PartitionId) -> Result<Option<Self>> {
        Ok(transaction
            .prepare_cached("SELECT epoch, owner, checkpoint, position FROM partitions WHERE topic = ? AND partition = ?")?
            .query_row(params![&*partition.topic, partition.partition], |row| {
                Ok(Fence { epoch: row.get(0)?, owner: row.get(1)?, checkpoint: row.get(2)?, position: row.get(3)? })
            })
            .optional()?)
    }
}

fn fenced(partition: PartitionId, fence: Option<Fence>) -> Error {
    let found = match fence {
        None => "the store has no row of this partition any more".to_owned(),
        Some(Fence { epoch, owner, checkpoint, position }) => format!(
            "the store has epoch {epoch} of owner {}, checkpoint {checkpoint}, position {}",
            owner.as_deref().unwrap_or("nobody"),
            position.map_or("none".to_owned(), |position| position.to_string()),
        ),
    };
    Error::Fenced { partition, found }
}

pub(super) fn checkpoint(connection: &mut Connection, checkpoint: &Checkpoint, merge: &Merge, refusals: &Refusals) -> Result<()> {
    // Dropped without a commit it rolls back.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Checkpoint { partition, epoch, owner, number, .. } = checkpoint;
    let fence = Fence::read(&transaction, partition)?;
    let ours = fence.as_ref().filter(|fence| fence.epoch == epoch.0 && fence.owner.as_ref() == Some(owner));
    match ours.map(|fence| fence.checkpoint) {
        Some(found) if found == *number => {}
        Some(found) if found == number + 1 => return Ok(()),
        _ => return Err(fenced(partition.clone(), fence).into()),
    }
    let mut rows: Vec<&Snapshot> = checkpoint.partials.iter().collect();
    rows.sort_unstable_by(|a, b| a.hunt.cmp(&b.hunt));
    let (mut shared, mut refused) = (Vec::new(), Vec::new());
    for row in rows {
        match upsert(&transaction, checkpoint, row) {
            Ok(true) => shared.push(row),
            Ok(false) => {}
            Err(fault) => refused.push((row.hunt.clone(), fault.of_a_row().ok_or(fault)?)),
        }
    }
    for row in shared {
        match merge_shared(&transaction, checkpoint, row, merge) {
            Ok(()) => {}
            Err(Fault::Store(Error::Refused(of))) => refused.extend(of),
            Err(fault) => refused.push((row.hunt.clone(), fault.of_a_row().ok_or(fault)?)),
        }
    }
    if !refused.is_empty() {
        return Err(Error::Refused(refused).into());
    }
    write_dead_letters(&transaction, checkpoint)?;
    write_gaps(&transaction, checkpoint)?;
    acts::write_done(&transaction, checkpoint)?;
    advance(&transaction, checkpoint)?;
    rollup::write(&transaction, checkpoint, merge, refusals)?;
    Ok(transaction.commit()?)
}

/// Whether other partitions have the hunt too.
fn upsert(transaction: &Transaction<'_>, checkpoint: &Checkpoint, row: &Snapshot) -> Result<bool> {
    let Checkpoint { partition, number, at, .. } = checkpoint;
    let readers = row.readers.as_ref();
    let lag = row.lag.as_ref();
    let clock = |of: fn(&Readers) -> Option<Micros>| readers.and_then(of).map(|clock| clock.0);
    let (shared, born): (bool, i64) = transaction
        .prepare_cached(
            "INSERT INTO partials (topic, partition, hunt_id, state, view, events, first_event_at, last_event_at, hunt_clock, partition_clock,
               watermark_floor, lagging, position, clock, held, reasons, born, saved, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?17, ?18)
             ON CONFLICT (hunt_id, topic, partition) DO UPDATE SET
               state = coalesce(excluded.state, state),
               view = iif(excluded.state IS NULL, view, excluded.view),
               events = iif(excluded.state IS NULL, events, excluded.events),
               first_event_at = iif(excluded.state IS NULL, first_event_at, excluded.first_event_at),
               last_event_at = iif(excluded.state IS NULL, last_event_at, excluded.last_event_at),
               hunt_clock = iif(excluded.state IS NULL, hunt_clock, excluded.hunt_clock),
               partition_clock = iif(excluded.state IS NULL, partition_clock, excluded.partition_clock),
               watermark_floor = iif(excluded.state IS NULL, watermark_floor, excluded.watermark_floor),
               lagging = excluded.lagging, position = excluded.position, clock = excluded.clock, held = excluded.held,
               reasons = excluded.reasons, saved = excluded.saved, updated_at = excluded.updated_at
             RETURNING shared, born",
        )?
        .query_row(
            params![
                &*partition.topic,
                partition.partition,
                row.hunt,
                row.state,
                readers.map(|readers| &readers.view),
                readers.map_or(0, |readers| readers.events),
                readers.and_then(|readers| readers.first_event_at).map(written),
                readers.and_then(|readers| readers.last_event_at).map(written),
                clock(|readers| readers.hunt_clock),
                clock(|readers| readers.partition_clock),
                clock(|readers| readers.watermark_floor),
                lag.is_some(),
                lag.map(|lag| lag.position.0),
                lag.and_then(|lag| lag.clock).map(|clock| clock.0),
                lag.map_or(0, |lag| lag.held),
                lag.map_or(0, |lag| lag.reasons.bits()),
                number + 1,
                written(*at),
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
    if shared || born != number + 1 {
        return Ok(shared);
    }
    let marked = transaction
        .prepare_cached(
            "UPDATE partials SET shared = 1 WHERE hunt_id = ?1 AND
               EXISTS (SELECT 1 FROM partials o WHERE o.hunt_id = ?1 AND (o.topic <> ?2 OR o.partition <> ?3))",
        )?
        .execute(params![row.hunt, &*partition.topic, partition.partition])?;
    Ok(marked > 0)
}

fn merge_shared(transaction: &Transaction<'_>, checkpoint: &Checkpoint, row: &Snapshot, merge: &Merge) -> Result<()> {
    let states = states(transaction, &row.hunt)?;
    let merged = match states.is_empty() {
        true => None,
        false => match (merge.hunts)(&states) {
            Ok(readers) => Some(readers),
            // Its merged row stays as it was; the caller already knows.
            Err(_) if row.lag.is_some_and(|lag| lag.reasons.store_refused) => return Ok(()),
            Err(why) => return Err(Error::Refused(vec![(row.hunt.clone(), format!("its partials do not merge: {why}"))]).into()),
        },
    };
    Ok(write_merged(transaction, &row.hunt, merged.as_ref(), checkpoint.at)?)
}

/// The states that a hunt's partials have, in (topic, partition) order.
pub(super) fn states(transaction: &Transaction<'_>, hunt: &str) -> rusqlite::Result<Vec<(PartitionId, Vec<u8>)>> {
    transaction
        .prepare_cached(
            "SELECT topic, partition, state FROM partials WHERE hunt_id = ? AND state IS NOT NULL ORDER BY topic, partition",
        )?
        .query_map([hunt], |row| Ok((PartitionId::new(&row.get::<_, String>(0)?, row.get(1)?), row.get(2)?)))?
        .collect()
}

/// What all partials of a hunt together show; `None`: none has applied anything.
pub(super) fn write_merged(
    transaction: &Transaction<'_>,
    hunt: &str,
    merged: Option<&Readers>,
    at: Micros,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO shared_hunts (hunt_id, view, events, first_event_at, last_event_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (hunt_id) DO UPDATE SET view = excluded.view, events = excluded.events, first_event_at = excluded.first_event_at,
               last_event_at = excluded.last_event_at, updated_at = excluded.updated_at",
        )?
        .execute(params![
            hunt,
            merged.map(|readers| &readers.view),
            merged.map_or(0, |readers| readers.events),
            merged.and_then(|readers| readers.first_event_at).map(written),
            merged.and_then(|readers| readers.last_event_at).map(written),
            written(at),
        ])?;
    Ok(())
}

fn write_dead_letters(transaction: &Transaction<'_>, checkpoint: &Checkpoint) -> Result<()> {
    let partition = &checkpoint.partition;
    let mut write = transaction.prepare_cached(
        r#"INSERT INTO dead_letters (topic, partition, "offset", hunt_id, reason, detail, key, value, headers, record_at, failed_at, state, applied_at)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (topic, partition, "offset") DO NOTHING"#,
    )?;
    for letter in &checkpoint.dead_letters {
        write.execute(params![
            &*partition.topic,
            partition.partition,
            letter.offset.0,
            letter.hunt_id,
            letter.reason.as_str(),
            letter.detail,
            letter.key,
            letter.value,
            headers::write(&letter.headers),
            letter.record_at.map(written),
            written(letter.failed_at),
            letter.state.as_str(),
            letter.applied_at.map(|position| position.0),
        ])?;
    }
    Ok(())
}

fn write_gaps(transaction: &Transaction<'_>, checkpoint: &Checkpoint) -> Result<()> {
    let partition = &checkpoint.partition;
    let mut extend = transaction.prepare_cached(
        "UPDATE gaps SET to_offset = max(to_offset, ?5) WHERE topic = ?1 AND partition = ?2 AND hunt_id IS ?3 AND from_offset = ?4",
    )?;
    let mut write = transaction.prepare_cached(
        "INSERT INTO gaps (topic, partition, hunt_id, from_offset, to_offset, reason, found_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?;
    for gap in &checkpoint.gaps {
        if extend.execute(params![&*partition.topic, partition.partition, gap.hunt_id, gap.from.0, gap.to.0])? > 0 {
            continue;
        }
        write.execute(params![
            &*partition.topic,
            partition.partition,
            gap.hunt_id,
            gap.from.0,
            gap.to.0,
            gap.reason,
            written(gap.found_at),
        ])?;
    }
    Ok(())
}

fn advance(transaction: &Transaction<'_>, checkpoint: &Checkpoint) -> Result<()> {
    let Checkpoint { partition, number, position, clock, counts, rollup, tripped, at, .. } = checkpoint;
    transaction
        .prepare_cached(
            "UPDATE partitions SET position = ?, checkpoint = ?, clock = ?, records = ?, applied = ?, duplicate = ?, dead_lettered = ?, ignored = ?,
               held = ?, late = ?, updated_at = ?, rollup = coalesce(?, rollup), tripped = ? WHERE topic = ? AND partition = ?",
        )?
        .execute(params![
            position.0,
            number + 1,
            clock.map(|clock| clock.0),
            counts.records,
            counts.applied,
            counts.duplicate,
            counts.dead_lettered,
            counts.ignored,
            counts.held,
            counts.late,
            written(*at),
            rollup,
            tripped,
            &*partition.topic,
            partition.partition,
        ])?;
    Ok(())
}
