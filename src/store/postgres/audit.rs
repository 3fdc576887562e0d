//! An **audit** of the store, and what goes with it: generations, and partials beside their partition's position.
//!
//! Invariant: one REPEATABLE READ transaction that writes nothing, so that a checkpoint is wholly in it or not at all. The server hashes the
//! states, so that they need not cross the wire; rows come as they are read, and nobody holds an answer whole but as what it becomes.

use super::super::audit::{Audit, AuditedLetter, AuditedPartial, AuditedPartition, Gathered, Generation, headers_digest};
use super::super::{Error, Gap, Lag, LagReasons, Snapshot};
use super::connect::Session;
use super::fault::Fault;
use super::instant::Instant;
use super::{read, schema};
use crate::outcome::Reason;
use crate::position::{Offset, Position};
use crate::record::PartitionId;
use crate::time::Micros;
use futures_util::TryStreamExt;
use std::pin::pin;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// A read of one moment, however long it takes.
pub(super) async fn begin(session: &mut Session) -> Result<(), Fault> {
    schema::begin_long(session).await?;
    Ok(session.client.batch_execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?)
}

/// With `only`, of partials, dead letters and gaps those that concern this hunt.
pub(super) async fn audit(session: &mut Session, only: Option<String>) -> Result<Audit, Fault> {
    let only = &[&only][..];
    begin(session).await?;
    let generations = read_generations(session).await?;
    let mut gathered = Gathered::default();
    const PARTITIONS: &str =
        "SELECT topic, partition, position, clock, records, applied, duplicate, dead_lettered, ignored, held, late, start, rollup
         FROM huntline.partitions";
    each(session, PARTITIONS, &[], |row| {
        gathered.add(AuditedPartition {
            partition: PartitionId::new(row.get(0), row.get(1)),
            start: row.get::<_, Option<i64>>(11).map(Position),
            position: row.get::<_, Option<i64>>(2).map(Position),
            clock: row.get::<_, Option<i64>>(3).map(Micros),
            counts: super::read::counts(&row, 4),
            rollup: row.get(12),
            partials: Vec::new(),
            left_out: Vec::new(),
            gaps: Vec::new(),
            letters: 0,
        });
        Ok(())
    })
    .await?;
    const PARTIALS: &str =
        "SELECT topic, partition, hunt_id, sha256(state), lagging, position, clock, held, reasons FROM huntline.partials
         WHERE $1::text IS NULL OR hunt_id = $1";
    each(session, PARTIALS, only, |row| {
        let digest: Option<&[u8]> = row.get(3);
        let lagging: bool = row.get(4);
        let partial = AuditedPartial {
            hunt: row.get(2),
            digest: digest.map(|digest| digest.try_into().expect("SHA-256 has 32 bytes")),
            lag: lagging.then(|| Lag {
                position: Position(row.get::<_, Option<i64>>(5).unwrap_or_default()),
                clock: row.get::<_, Option<i64>>(6).map(Micros),
                held: row.get(7),
                reasons: LagReasons::from_bits(row.get(8)),
            }),
        };
        if let Some(partition) = gathered.of(row.get(0), row.get(1)) {
            partition.partials.push(partial);
        }
        Ok(())
    })
    .await?;
    const LEFT_OUT: &str = r#"SELECT topic, partition, "offset", reason FROM huntline.dead_letters WHERE reason IN ('failed', 'state_full')
         AND ($1::text IS NULL OR hunt_id = $1) ORDER BY topic, partition, "offset""#;
    each(session, LEFT_OUT, only, |row| {
        let reason = if row.get::<_, &str>(3) == Reason::Failed.as_str() { Reason::Failed } else { Reason::StateFull };
        if let Some(partition) = gathered.of(row.get(0), row.get(1)) {
            partition.left_out.push((Offset(row.get(2)), reason));
        }
        Ok(())
    })
    .await?;
    const GAPS: &str = "SELECT topic, partition, hunt_id, from_offset, to_offset, reason, found_at FROM huntline.gaps
         WHERE $1::text IS NULL OR hunt_id IS NULL OR hunt_id = $1 ORDER BY topic, partition, from_offset, to_offset, hunt_id NULLS FIRST";
    each(session, GAPS, only, |row| {
        if let Some(partition) = gathered.of(row.get(0), row.get(1)) {
            partition.gaps.push(Gap {
                hunt_id: row.get(2),
                from: Position(row.get(3)),
                to: Position(row.get(4)),
                reason: row.get(5),
                found_at: row.get::<_, Instant>(6).0,
            });
        }
        Ok(())
    })
    .await?;
    const LETTERS: &str = "SELECT topic, partition, count(*) FROM huntline.dead_letters
         WHERE $1::text IS NULL OR hunt_id = $1 GROUP BY topic, partition";
    each(session, LETTERS, only, |row| {
        if let Some(partition) = gathered.of(row.get(0), row.get(1)) {
            partition.letters = row.get(2);
        }
        Ok(())
    })
    .await?;
    session.client.batch_execute("COMMIT").await?;
    Ok(Audit { generations, partitions: gathered.finish() })
}

/// Hands over the rows of `sql` one by one.
async fn each(
    session: &mut Session,
    sql: &'static str,
    parameters: &[&Option<String>],
    mut take: impl FnMut(Row) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let read = session.prepare(sql).await?;
    let mut rows = pin!(session.client.query_raw(&read, parameters.to_vec()).await?);
    while let Some(row) = rows.try_next().await? {
        take(row)?;
    }
    Ok(())
}

/// One statement. Rows become digests as they come, for headers may be large too.
pub(super) async fn letters(
    session: &mut Session,
    partition: PartitionId,
    after: Option<Offset>,
    until: Position,
    limit: u32,
) -> Result<Vec<AuditedLetter>, Fault> {
    let read = session
        .prepare(
            r#"SELECT "offset", hunt_id, reason, sha256(key), sha256(value), headers::text, record_at FROM huntline.dead_letters
               WHERE topic = $1 AND partition = $2 AND "offset" > $3 AND "offset" < $4 ORDER BY "offset" LIMIT $5"#,
        )
        .await?;
    let after = after.map_or(i64::MIN, |after| after.0);
    let limit = i64::from(limit);
    let topic = &*partition.topic;
    let parameters: Vec<&(dyn ToSql + Sync)> = vec![&topic, &partition.partition, &after, &until.0, &limit];
    let mut rows = pin!(session.client.query_raw(&read, parameters).await?);
    let mut letters = Vec::new();
    let digest = |bytes: Option<&[u8]>| bytes.map(|digest| digest.try_into().expect("SHA-256 has 32 bytes"));
    while let Some(row) = rows.try_next().await? {
        letters.push(AuditedLetter {
            offset: Offset(row.get(0)),
            hunt: row.get(1),
            reason: row.get(2),
            key: digest(row.get(3)),
            value: digest(row.get(4)),
            headers: headers_digest(row.get(5)),
            record_at: Ok(read::instant(&row, 6)),
        });
    }
    Ok(letters)
}

pub(super) async fn generations(session: &mut Session) -> Result<Vec<Generation>, Fault> {
    begin(session).await?;
    let generations = read_generations(session).await?;
    session.client.batch_execute("COMMIT").await?;
    Ok(generations)
}

async fn read_generations(session: &mut Session) -> Result<Vec<Generation>, Fault> {
    let rows =
        session.client.query("SELECT number, definitions, recorded_at FROM huntline.definitions ORDER BY number", &[]).await?;
    let mut generations: Vec<Generation> = rows
        .iter()
        .map(|row| Generation {
            number: row.get(0),
            definitions: row.get(1),
            since: Default::default(),
            recorded_at: row.get::<_, Instant>(2).0,
        })
        .collect();
    let rows = session.client.query("SELECT number, topic, partition, position FROM huntline.definition_positions", &[]).await?;
    for row in &rows {
        if let Ok(at) = generations.binary_search_by_key(&row.get(0), |generation| generation.number) {
            generations[at].since.insert(PartitionId::new(row.get(1), row.get(2)), Position(row.get(3)));
        }
    }
    Ok(generations)
}

pub(super) async fn partials(
    session: &mut Session,
    partition: PartitionId,
    hunts: Vec<String>,
) -> Result<(Position, Vec<Snapshot>), Fault> {
    begin(session).await?;
    let look = session.prepare("SELECT position FROM huntline.partitions WHERE topic = $1 AND partition = $2").await?;
    let row = session.client.query_opt(&look, &[&&*partition.topic, &partition.partition]).await?;
    let position: Option<i64> = row.and_then(|row| row.get(0));
    let Some(position) = position else {
        return Err(Error::Fatal(format!("the store has read nothing of {partition} yet")).into());
    };
    let found = read::load(session, partition, hunts).await?.snapshots;
    session.client.batch_execute("COMMIT").await?;
    Ok((Position(position), found))
}
