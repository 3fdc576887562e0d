//! The **writing calls**: claim, begin, and the one transaction that is a checkpoint.
//!
//! A checkpoint locks its partition's row, compares the fence (`epoch`, `owner`, `checkpoint`), upserts the partials in key order,
//! merges the hunts that several partitions share, moves the row on, and brings the rollup up to date. Invariant: all or nothing,
//! once: the lock is waited for, so a COMMIT whose answer was lost is finished, one way or the other, before the same checkpoint looks
//! at the row again.
//!
//! Why READ COMMITTED is enough: whoever waits for the row's lock sees the row as its holder left it.

use super::super::handle::Merge;
use super::super::rollup::Refusals;
use super::super::{Checkpoint, Claimed, Error, LagReasons, Lagging, Owner, Snapshot};
use super::connect::Session;
use super::fault::Fault;
use super::instant::Instant;
use super::letters::without_nul;
use super::partials::{CHUNK_ROWS, Merged, UPSERT};
use crate::position::{Epoch, Position};
use crate::record::PartitionId;
use crate::time::Micros;
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_postgres::types::ToSql;

/// How often a checkpoint that lost a race for locks is tried again before the caller hears of it.
const RACES: usize = 5;

/// How often it may find another owner writing the first partial of a hunt that is new here too. Each time leaves fewer such hunts.
const MEETINGS: usize = 50;

/// `bound`: the definitions that the claimant folds by. A claim that waited for a redefinition or a swap finds them gone: fenced is not
/// enough, for whoever claims again would read states it does not understand.
pub(super) async fn claim(
    session: &mut Session,
    partition: PartitionId,
    owner: Owner,
    bound: Option<Arc<str>>,
) -> Result<Claimed, Fault> {
    let take = session
        .prepare(
            "INSERT INTO huntline.partitions AS p (topic, partition, epoch, owner, advertise) VALUES ($1, $2, 1, $3, $4)
             ON CONFLICT (topic, partition) DO UPDATE SET epoch = p.epoch + 1, owner = excluded.owner, advertise = excluded.advertise, updated_at = now()
             RETURNING epoch, checkpoint, position, clock, records, applied, duplicate, dead_lettered, ignored, held, late,
               rollup, tripped",
        )
        .await?;
    let lagging = session
        .prepare("SELECT hunt_id, position, clock, held, reasons FROM huntline.partials WHERE topic = $1 AND partition = $2 AND lagging ORDER BY hunt_id")
        .await?;
    session.client.batch_execute("BEGIN").await?;
    let row = session.client.query_one(&take, &[&&*partition.topic, &partition.partition, &owner.id, &owner.advertise]).await?;
    if let Some(bound) = bound {
        let row = session.client.query_opt("SELECT definitions FROM huntline.identity", &[]).await?;
        let stored: String = row.map(|row| row.get(0)).unwrap_or_default();
        if *stored != *bound {
            session.client.batch_execute("ROLLBACK").await?;
            return Err(Error::Redefined { stored, configured: bound.as_ref().to_owned() }.into());
        }
    }
    let rows = session.client.query(&lagging, &[&&*partition.topic, &partition.partition]).await?;
    session.client.batch_execute("COMMIT").await?;
    Ok(Claimed {
        epoch: Epoch(row.get(0)),
        checkpoint: row.get(1),
        position: row.get::<_, Option<i64>>(2).map(Position),
        clock: row.get::<_, Option<i64>>(3).map(Micros),
        counts: super::read::counts(&row, 4),
        lagging: rows
            .iter()
            .map(|row| Lagging {
                hunt: row.get(0),
                position: Position(row.get::<_, Option<i64>>(1).unwrap_or_default()),
                clock: row.get::<_, Option<i64>>(2).map(Micros),
                held: row.get(3),
                reasons: LagReasons::from_bits(row.get(4)),
            })
            .collect(),
        rollup: row.get(11),
        tripped: row.get(12),
    })
}

pub(super) async fn begin(
    session: &mut Session,
    partition: PartitionId,
    epoch: Epoch,
    owner: String,
    position: Position,
) -> Result<(), Fault> {
    let write = session
        .prepare(
            "UPDATE huntline.partitions SET position = $5, start = $5, updated_at = now()
             WHERE topic = $1 AND partition = $2 AND epoch = $3 AND owner = $4 AND (position IS NULL OR position = $5)",
        )
        .await?;
    let written =
        session.client.execute(&write, &[&&*partition.topic, &partition.partition, &epoch.0, &owner, &position.0]).await?;
    if written == 1 {
        return Ok(());
    }
    let look = session.prepare(FENCE).await?;
    let row = session.client.query_opt(&look, &[&&*partition.topic, &partition.partition]).await?;
    Err(fenced(partition, row.as_ref()).into())
}

/// The row as its last holder left it; waits for whoever holds it.
const FENCE: &str =
    "SELECT epoch, owner, checkpoint, position FROM huntline.partitions WHERE topic = $1 AND partition = $2 FOR UPDATE";

fn fenced(partition: PartitionId, row: Option<&tokio_postgres::Row>) -> Error {
    let found = match row {
        None => "the store has no row of this partition any more".to_owned(),
        Some(row) => format!(
            "the store has epoch {} of owner {}, checkpoint {}, position {}",
            row.get::<_, i64>(0),
            row.get::<_, Option<&str>>(1).unwrap_or("nobody"),
            row.get::<_, i64>(2),
            row.get::<_, Option<i64>>(3).map_or("none".to_owned(), |position| position.to_string()),
        ),
    };
    Error::Fenced { partition, found }
}

pub(super) async fn checkpoint(
    session: &mut Session,
    checkpoint: Arc<Checkpoint>,
    merge: Merge,
    refusals: Arc<Refusals>,
) -> Result<(), Fault> {
    let commit = Commit::new(&checkpoint, &merge, &refusals);
    let (mut races, mut meetings) = (0, 0);
    loop {
        let mut new = Vec::new();
        let fault = match commit.transact(session, &mut new).await {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        if matches!(fault, Fault::Store(_)) {
            session.client.batch_execute("ROLLBACK").await?;
            return Err(fault);
        }
        if fault.of_a_row().is_some() {
            session.client.batch_execute("ROLLBACK").await?;
            let refused = commit.refused(session).await;
            session.client.batch_execute("ROLLBACK").await?;
            let refused = refused?;
            // None: it was no snapshot, and what the caller sends again would be refused again.
            return Err(if refused.is_empty() { fault } else { Error::Refused(refused).into() });
        }
        let met = fault.is_busy() && !new.is_empty() && meetings < MEETINGS;
        if !met && (!fault.is_race() || races == RACES) {
            return Err(fault);
        }
        session.client.batch_execute("ROLLBACK").await?;
        if met {
            meetings += 1;
            if let Err(fault) = commit.share(session, &new).await {
                session.client.batch_execute("ROLLBACK").await?;
                return Err(fault);
            }
        } else {
            tokio::time::sleep(std::time::Duration::from_millis(fastrand::u64(1..20) << races)).await;
            races += 1;
        }
    }
}

/// A checkpoint in key order, the order in which every writer takes its locks.
pub(super) struct Commit<'c> {
    pub checkpoint: &'c Checkpoint,
    pub merge: &'c Merge,
    pub refusals: &'c Refusals,
    pub rows: Vec<&'c Snapshot>,
}

impl<'c> Commit<'c> {
    fn new(checkpoint: &'c Checkpoint, merge: &'c Merge, refusals: &'c Refusals) -> Self {
        let mut rows: Vec<&Snapshot> = checkpoint.partials.iter().collect();
        rows.sort_unstable_by(|a, b| a.hunt.cmp(&b.hunt));
        Self { checkpoint, merge, refusals, rows }
    }

    /// `new` is told the hunts of which these are the partition's first partials.
    async fn transact(&self, session: &mut Session, new: &mut Vec<String>) -> Result<(), Fault> {
        let fence = session.prepare(FENCE).await?;
        let Checkpoint { partition, epoch, owner, number, .. } = self.checkpoint;
        session.client.batch_execute("BEGIN").await?;
        let row = session.client.query_opt(&fence, &[&&*partition.topic, &partition.partition]).await?;
        let ours = row.as_ref().filter(|row| row.get::<_, i64>(0) == epoch.0 && row.get::<_, Option<&str>>(1) == Some(owner));
        match ours.map(|row| row.get::<_, i64>(2)) {
            Some(found) if found == *number => {}
            // It was committed before; the answer was lost.
            Some(found) if found == number + 1 => return Ok(session.client.batch_execute("ROLLBACK").await?),
            _ => return Err(fenced(partition.clone(), row.as_ref()).into()),
        }
        let upsert = session.prepare(UPSERT).await?;
        let mut shared = BTreeSet::new();
        {
            // The next chunk is on its way while the server works on this one. In order: a fault is that of the first chunk at fault.
            let client = &session.client;
            let mut answers = stream::iter(self.chunks()).map(|chunk| self.upsert(client, &upsert, chunk)).buffered(2);
            while let Some(written) = answers.next().await {
                let written = written?;
                shared.extend(written.shared);
                new.extend(written.new);
            }
        }
        new.sort_unstable();
        for hunts in new.chunks(CHUNK_ROWS) {
            shared.extend(self.settle(session, hunts).await?);
        }
        self.write_shared(session, &shared.into_iter().collect::<Vec<_>>()).await?;
        self.write_dead_letters(session).await?;
        self.write_gaps(session).await?;
        self.write_acts(session).await?;
        self.advance(session).await?;
        // No other owner is met from here on, at whatever lock.
        new.clear();
        self.write_rollup(session).await?;
        session.client.batch_execute("COMMIT").await?;
        Ok(())
    }

    async fn advance(&self, session: &mut Session) -> Result<(), Fault> {
        let write = session
            .prepare(
                "UPDATE huntline.partitions SET position = $6, checkpoint = $5 + 1, clock = $7, records = $8, applied = $9, duplicate = $10,
                   dead_lettered = $11, ignored = $12, held = $13, late = $14, updated_at = $15,
                   rollup = coalesce($16, rollup), tripped = $17
                 WHERE topic = $1 AND partition = $2 AND epoch = $3 AND owner = $4 AND checkpoint = $5",
            )
            .await?;
        let Checkpoint { partition, epoch, owner, number, position, clock, counts, rollup, tripped, at, .. } = self.checkpoint;
        let parameters: [&(dyn ToSql + Sync); 17] = [
            &&*partition.topic,
            &partition.partition,
            &epoch.0,
            &owner,
            number,
            &position.0,
            &clock.map(|clock| clock.0),
            &counts.records,
            &counts.applied,
            &counts.duplicate,
            &counts.dead_lettered,
            &counts.ignored,
            &counts.held,
            &counts.late,
            &Instant(*at),
            rollup,
            &tripped.as_deref().map(without_nul),
        ];
        match session.client.execute(&write, &parameters).await? {
            1 => Ok(()),
            _ => Err(Error::Fenced { partition: partition.clone(), found: "the row changed under its lock".into() }.into()),
        }
    }

    /// Which snapshots are refused, each with the server's words, found by halves in a transaction that is never committed (the
    /// caller rolls it back).
    async fn refused(&self, session: &mut Session) -> Result<Vec<(String, String)>, Fault> {
        let fence = session.prepare(FENCE).await?;
        let partition = &self.checkpoint.partition;
        session.client.batch_execute("BEGIN").await?;
        session.client.query_opt(&fence, &[&&*partition.topic, &partition.partition]).await?;
        let upsert = session.prepare(UPSERT).await?;
        let (mut refused, mut shared, mut new) = (Vec::new(), BTreeSet::new(), Vec::new());
        let mut open = self.chunks();
        open.reverse();
        while let Some(range) = open.pop() {
            session.client.batch_execute("SAVEPOINT half").await?;
            match self.upsert(&session.client, &upsert, range.clone()).await {
                Ok(written) => {
                    shared.extend(written.shared);
                    new.extend(written.new);
                }
                Err(fault) => {
                    let Some(words) = fault.of_a_row() else { return Err(fault) };
                    session.client.batch_execute("ROLLBACK TO SAVEPOINT half").await?;
                    match range.len() {
                        1 => refused.push((self.rows[range.start].hunt.clone(), words)),
                        len => {
                            open.push(range.start + len / 2..range.end);
                            open.push(range.start..range.start + len / 2);
                        }
                    }
                }
            }
            session.client.batch_execute("RELEASE SAVEPOINT half").await?;
        }
        if refused.is_empty() {
            new.sort_unstable();
            for hunts in new.chunks(CHUNK_ROWS) {
                shared.extend(self.settle(session, hunts).await?);
            }
            let shared: Vec<String> = shared.into_iter().collect();
            self.lock_shared(session, &shared).await?;
            for hunts in shared.chunks(CHUNK_ROWS) {
                let merged = self.merge(session, hunts).await?;
                refused.extend(self.refused_merged(session, &merged).await?);
            }
        }
        Ok(refused)
    }

    async fn refused_merged(&self, session: &mut Session, merged: &[Merged]) -> Result<Vec<(String, String)>, Fault> {
        let mut refused = Vec::new();
        let mut open = vec![merged];
        while let Some(part) = open.pop().filter(|part| !part.is_empty()) {
            session.client.batch_execute("SAVEPOINT half").await?;
            if let Err(fault) = self.write_merged(session, part).await {
                let Some(words) = fault.of_a_row() else { return Err(fault) };
                session.client.batch_execute("ROLLBACK TO SAVEPOINT half").await?;
                match part {
                    [(hunt, _)] => refused.push((hunt.clone(), words)),
                    _ => {
                        let (first, second) = part.split_at(part.len() / 2);
                        open.extend([second, first]);
                    }
                }
            }
            session.client.batch_execute("RELEASE SAVEPOINT half").await?;
        }
        Ok(refused)
    }
}
