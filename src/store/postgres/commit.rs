//! The **writing calls**: claim, begin, and the one transaction that is a checkpoint.
//!
//! A checkpoint locks its partition's row, compares the fence (`epoch`, `owner`, `checkpoint`), upserts the partials in key order,
//! merges the hunts that several partitions share, and moves the row on. Invariant: all or nothing, once: the lock is waited for, so
//! a COMMIT whose answer was lost is finished, one way or the other, before the same checkpoint looks at the row again.
//!
//! Why READ COMMITTED is enough: whoever waits for the row's lock sees the row as its holder left it.

use super::super::handle::Merge;
use super::super::{Checkpoint, Claimed, Error, Lag, LagReasons, Lagging, Owner, Readers, Snapshot, headers};
use super::connect::Session;
use super::fault::Fault;
use super::instant::Instant;
use crate::outcome::Counts;
use crate::position::{Epoch, Position};
use crate::record::PartitionId;
use crate::time::Micros;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use tokio_postgres::types::ToSql;

/// Bounds of one statement: what the server takes fastest, and far from the largest message it accepts.
const CHUNK_ROWS: usize = 1000;
const CHUNK_BYTES: usize = 16 << 20;

/// How often a checkpoint that lost a race for locks is tried again before the caller hears of it.
const RACES: usize = 5;

pub(super) async fn claim(session: &mut Session, partition: PartitionId, owner: Owner) -> Result<Claimed, Fault> {
    let take = session
        .prepare(
            "INSERT INTO huntline.partitions AS p (topic, partition, epoch, owner, advertise) VALUES ($1, $2, 1, $3, $4)
             ON CONFLICT (topic, partition) DO UPDATE SET epoch = p.epoch + 1, owner = excluded.owner, advertise = excluded.advertise, updated_at = now()
             RETURNING epoch, checkpoint, position, clock, records, applied, duplicate, dead_lettered, ignored, held, late",
        )
        .await?;
    let lagging = session
        .prepare("SELECT hunt_id, position, clock, held, reasons FROM huntline.partials WHERE topic = $1 AND partition = $2 AND lagging ORDER BY hunt_id")
        .await?;
    session.client.batch_execute("BEGIN").await?;
    let row = session.client.query_one(&take, &[&&*partition.topic, &partition.partition, &owner.id, &owner.advertise]).await?;
    let rows = session.client.query(&lagging, &[&&*partition.topic, &partition.partition]).await?;
    session.client.batch_execute("COMMIT").await?;
    Ok(Claimed {
        epoch: Epoch(row.get(0)),
        checkpoint: row.get(1),
        position: row.get::<_, Option<i64>>(2).map(Position),
        clock: row.get::<_, Option<i64>>(3).map(Micros),
        counts: Counts {
            records: row.get(4),
            applied: row.get(5),
            duplicate: row.get(6),
            dead_lettered: row.get(7),
            ignored: row.get(8),
            held: row.get(9),
            late: row.get(10),
        },
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
            "UPDATE huntline.partitions SET position = $5, updated_at = now()
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

pub(super) async fn checkpoint(session: &mut Session, checkpoint: Arc<Checkpoint>, merge: Merge) -> Result<(), Fault> {
    let commit = Commit::new(&checkpoint, &merge);
    for race in 0.. {
        let fault = match commit.transact(session).await {
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
        if !fault.is_race() || race == RACES {
            return Err(fault);
        }
        session.client.batch_execute("ROLLBACK").await?;
        tokio::time::sleep(std::time::Duration::from_millis(fastrand::u64(1..20) << race)).await;
    }
    unreachable!("the last race returns")
}

/// A checkpoint in key order, the order in which every writer takes its locks.
struct Commit<'c> {
    checkpoint: &'c Checkpoint,
    merge: &'c Merge,
    rows: Vec<&'c Snapshot>,
}

/// A hunt that several partitions share, as all of them together show it. `None`: no partial has applied anything.
type Merged = (String, Option<Readers>);

impl<'c> Commit<'c> {
    fn new(checkpoint: &'c Checkpoint, merge: &'c Merge) -> Self {
        let mut rows: Vec<&Snapshot> = checkpoint.partials.iter().collect();
        rows.sort_unstable_by(|a, b| a.hunt.cmp(&b.hunt));
        Self { checkpoint, merge, rows }
    }

    async fn transact(&self, session: &mut Session) -> Result<(), Fault> {
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
        let mut shared = BTreeSet::new();
        for chunk in self.chunks() {
            shared.extend(self.upsert(session, chunk).await?);
        }
        let shared: Vec<String> = shared.into_iter().collect();
        for hunts in shared.chunks(CHUNK_ROWS) {
            let merged = self.merge(session, hunts).await?;
            self.write_merged(session, &merged).await?;
        }
        self.write_dead_letters(session).await?;
        self.write_gaps(session).await?;
        self.advance(session).await?;
        session.client.batch_execute("COMMIT").await?;
        Ok(())
    }

    /// Ranges of `rows` that fit a statement.
    fn chunks(&self) -> Vec<Range<usize>> {
        let mut chunks = Vec::new();
        let (mut start, mut bytes) = (0, 0);
        for (at, row) in self.rows.iter().enumerate() {
            let size = row.state.as_ref().map_or(0, Vec::len) + row.readers.as_ref().map_or(0, |readers| readers.view.len());
            if at > start && (at - start == CHUNK_ROWS || bytes + size > CHUNK_BYTES) {
                chunks.push(start..at);
                (start, bytes) = (at, 0);
            }
            bytes += size;
        }
        if start < self.rows.len() {
            chunks.push(start..self.rows.len());
        }
        chunks
    }

    /// Writes the rows of `chunk`; gives those hunts among them that other partitions have too.
    async fn upsert(&self, session: &mut Session, chunk: Range<usize>) -> Result<Vec<String>, Fault> {
        let upsert = session
            .prepare(
                "WITH written AS (
                   INSERT INTO huntline.partials AS p (topic, partition, born, updated_at, hunt_id, state, view, events, first_event_at, last_event_at,
                     hunt_clock, partition_clock, watermark_floor, lagging, position, clock, held, reasons)
                   SELECT $1, $2, $3, $4, v.hunt_id, v.state, v.view::jsonb, v.events, v.first_event_at, v.last_event_at,
                     v.hunt_clock, v.partition_clock, v.watermark_floor, v.position IS NOT NULL, v.position, v.clock, v.held, v.reasons
                   FROM unnest($5::text[], $6::bytea[], $7::text[], $8::bigint[], $9::timestamptz[], $10::timestamptz[], $11::bigint[], $12::bigint[],
                     $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::integer[])
                     AS v(hunt_id, state, view, events, first_event_at, last_event_at, hunt_clock, partition_clock, watermark_floor, position, clock, held, reasons)
                   ON CONFLICT (hunt_id, topic, partition) DO UPDATE SET
                     state = coalesce(excluded.state, p.state),
                     view = CASE WHEN excluded.state IS NULL THEN p.view ELSE excluded.view END,
                     events = CASE WHEN excluded.state IS NULL THEN p.events ELSE excluded.events END,
                     first_event_at = CASE WHEN excluded.state IS NULL THEN p.first_event_at ELSE excluded.first_event_at END,
                     last_event_at = CASE WHEN excluded.state IS NULL THEN p.last_event_at ELSE excluded.last_event_at END,
                     hunt_clock = CASE WHEN excluded.state IS NULL THEN p.hunt_clock ELSE excluded.hunt_clock END,
                     partition_clock = CASE WHEN excluded.state IS NULL THEN p.partition_clock ELSE excluded.partition_clock END,
                     watermark_floor = CASE WHEN excluded.state IS NULL THEN p.watermark_floor ELSE excluded.watermark_floor END,
                     lagging = excluded.lagging, position = excluded.position, clock = excluded.clock, held = excluded.held,
                     reasons = excluded.reasons, updated_at = excluded.updated_at
                   RETURNING p.hunt_id, p.shared, p.born)
                 SELECT hunt_id, shared FROM written WHERE shared OR born = $3",
            )
            .await?;
        let Checkpoint { partition, number, at, .. } = self.checkpoint;
        let born = number + 1;
        let rows = &self.rows[chunk];
        let readers = |of: fn(&Readers) -> Option<i64>| -> Vec<Option<i64>> {
            rows.iter().map(|row| row.readers.as_ref().and_then(of)).collect()
        };
        let instants = |of: fn(&Readers) -> Option<Micros>| -> Vec<Option<Instant>> {
            rows.iter().map(|row| row.readers.as_ref().and_then(of).map(Instant)).collect()
        };
        let lag =
            |of: fn(&Lag) -> Option<i64>| -> Vec<Option<i64>> { rows.iter().map(|row| row.lag.as_ref().and_then(of)).collect() };
        let hunts: Vec<&str> = rows.iter().map(|row| row.hunt.as_str()).collect();
        let states: Vec<Option<&[u8]>> = rows.iter().map(|row| row.state.as_deref()).collect();
        let views: Vec<Option<&str>> = rows.iter().map(|row| row.readers.as_ref().map(|readers| readers.view.as_str())).collect();
        let events: Vec<i64> = rows.iter().map(|row| row.readers.as_ref().map_or(0, |readers| readers.events)).collect();
        let held: Vec<i64> = rows.iter().map(|row| row.lag.map_or(0, |lag| lag.held)).collect();
        let reasons: Vec<i32> = rows.iter().map(|row| row.lag.map_or(0, |lag| lag.reasons.bits())).collect();
        let parameters: [&(dyn ToSql + Sync); 17] = [
            &&*partition.topic,
            &partition.partition,
            &born,
            &Instant(*at),
            &hunts,
            &states,
            &views,
            &events,
            &instants(|readers| readers.first_event_at),
            &instants(|readers| readers.last_event_at),
            &readers(|readers| readers.hunt_clock.map(|clock| clock.0)),
            &readers(|readers| readers.partition_clock.map(|clock| clock.0)),
            &readers(|readers| readers.watermark_floor.map(|floor| floor.0)),
            &lag(|lag| Some(lag.position.0)),
            &lag(|lag| lag.clock.map(|clock| clock.0)),
            &held,
            &reasons,
        ];
        let (mut shared, mut new) = (Vec::new(), Vec::new());
        for row in session.client.query(&upsert, &parameters).await? {
            if row.get(1) { shared.push(row.get(0)) } else { new.push(row.get::<_, String>(0)) }
        }
        if !new.is_empty() {
            new.sort_unstable();
            shared.extend(self.settle(session, &new).await?);
        }
        Ok(shared)
    }

    /// Registers first partials. Where another partition was first (its transaction is waited for), all the hunt's rows are marked
    /// shared, so that the other owner learns of it by its next upsert. Gives those hunts.
    async fn settle(&self, session: &mut Session, new: &[String]) -> Result<Vec<String>, Fault> {
        let register = session
            .prepare(
                "INSERT INTO huntline.hunt_home (hunt_id, topic, partition) SELECT v.hunt_id, $1, $2 FROM unnest($3::text[]) AS v(hunt_id)
                 ON CONFLICT (hunt_id) DO NOTHING RETURNING hunt_id",
            )
            .await?;
        let partition = &self.checkpoint.partition;
        let won = session.client.query(&register, &[&&*partition.topic, &partition.partition, &new]).await?;
        if won.len() == new.len() {
            return Ok(Vec::new());
        }
        let won: BTreeSet<&str> = won.iter().map(|row| row.get(0)).collect();
        let lost: Vec<String> = new.iter().filter(|hunt| !won.contains(hunt.as_str())).cloned().collect();
        let mark = session.prepare("UPDATE huntline.partials SET shared = true WHERE hunt_id = ANY($1) AND NOT shared").await?;
        session.client.execute(&mark, &[&lost]).await?;
        Ok(lost)
    }

    /// Locks the merged rows of `hunts` (sorted) and merges their partials, which a new statement reads: whoever held a lock has committed.
    async fn merge(&self, session: &mut Session, hunts: &[String]) -> Result<Vec<Merged>, Fault> {
        let create = session
            .prepare(
                "INSERT INTO huntline.shared_hunts (hunt_id, updated_at) SELECT v.hunt_id, $2 FROM unnest($1::text[]) AS v(hunt_id)
                 ON CONFLICT (hunt_id) DO NOTHING",
            )
            .await?;
        let lock =
            session.prepare("SELECT 1 FROM huntline.shared_hunts WHERE hunt_id = ANY($1) ORDER BY hunt_id FOR UPDATE").await?;
        let read = session
            .prepare(
                "SELECT hunt_id, topic, partition, state FROM huntline.partials WHERE hunt_id = ANY($1) AND state IS NOT NULL
                 ORDER BY hunt_id, topic, partition",
            )
            .await?;
        session.client.execute(&create, &[&hunts, &Instant(self.checkpoint.at)]).await?;
        session.client.query(&lock, &[&hunts]).await?;
        let rows = session.client.query(&read, &[&hunts]).await?;
        let mut rows = rows.iter().peekable();
        let (mut merged, mut refused) = (Vec::with_capacity(hunts.len()), Vec::new());
        for hunt in hunts {
            let mut states = Vec::new();
            while let Some(row) = rows.next_if(|row| row.get::<_, &str>(0) == hunt) {
                states.push((PartitionId::new(row.get(1), row.get(2)), row.get::<_, Vec<u8>>(3)));
            }
            if states.is_empty() {
                merged.push((hunt.clone(), None));
                continue;
            }
            match (self.merge)(&states) {
                Ok(readers) => merged.push((hunt.clone(), Some(readers))),
                // Its merged row stays as it was; the caller already knows.
                Err(_) if self.is_known_refused(hunt) => {}
                Err(why) => refused.push((hunt.clone(), format!("its partials do not merge: {why}"))),
            }
        }
        if refused.is_empty() { Ok(merged) } else { Err(Error::Refused(refused).into()) }
    }

    fn is_known_refused(&self, hunt: &str) -> bool {
        let row = self.rows.binary_search_by(|row| row.hunt.as_str().cmp(hunt)).ok().map(|at| self.rows[at]);
        row.and_then(|row| row.lag).is_some_and(|lag| lag.reasons.store_refused)
    }

    async fn write_merged(&self, session: &mut Session, merged: &[Merged]) -> Result<(), Fault> {
        let write = session
            .prepare(
                "UPDATE huntline.shared_hunts AS s SET view = v.view::jsonb, events = v.events, first_event_at = v.first_event_at,
                   last_event_at = v.last_event_at, updated_at = $6
                 FROM unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[])
                   AS v(hunt_id, view, events, first_event_at, last_event_at)
                 WHERE s.hunt_id = v.hunt_id",
            )
            .await?;
        let hunts: Vec<&str> = merged.iter().map(|(hunt, _)| hunt.as_str()).collect();
        let of = |readers: &'_ Option<Readers>| readers.as_ref().map(|readers| readers.view.clone());
        let views: Vec<Option<String>> = merged.iter().map(|(_, readers)| of(readers)).collect();
        let events: Vec<i64> = merged.iter().map(|(_, readers)| readers.as_ref().map_or(0, |readers| readers.events)).collect();
        let instants = |of: fn(&Readers) -> Option<Micros>| -> Vec<Option<Instant>> {
            merged.iter().map(|(_, readers)| readers.as_ref().and_then(of).map(Instant)).collect()
        };
        let (first, last) = (instants(|readers| readers.first_event_at), instants(|readers| readers.last_event_at));
        session.client.execute(&write, &[&hunts, &views, &events, &first, &last, &Instant(self.checkpoint.at)]).await?;
        Ok(())
    }

    async fn write_dead_letters(&self, session: &mut Session) -> Result<(), Fault> {
        if self.checkpoint.dead_letters.is_empty() {
            return Ok(());
        }
        let write = session
            .prepare(
                r#"INSERT INTO huntline.dead_letters (topic, partition, "offset", hunt_id, reason, detail, key, value, headers, record_at, failed_at, state, applied_at)
                   SELECT $1, $2, v."offset", v.hunt_id, v.reason, v.detail, v.key, v.value, v.headers::jsonb, v.record_at, v.failed_at, v.state, v.applied_at
                   FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bytea[], $9::text[], $10::timestamptz[], $11::timestamptz[],
                     $12::text[], $13::bigint[])
                     AS v("offset", hunt_id, reason, detail, key, value, headers, record_at, failed_at, state, applied_at)
                   ON CONFLICT (topic, partition, "offset") DO NOTHING"#,
            )
            .await?;
        let partition = &self.checkpoint.partition;
        let mut rest = self.checkpoint.dead_letters.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fit = rest.iter().take(CHUNK_ROWS).take_while(|letter| {
                bytes += letter.value.as_ref().map_or(0, Vec::len) + letter.key.as_ref().map_or(0, Vec::len);
                bytes <= CHUNK_BYTES
            });
            let (letters, after) = rest.split_at(fit.count().max(1));
            rest = after;
            let offsets: Vec<i64> = letters.iter().map(|letter| letter.offset.0).collect();
            let hunts: Vec<Option<&str>> = letters.iter().map(|letter| letter.hunt_id.as_deref()).collect();
            let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
            let details: Vec<String> = letters.iter().map(|letter| without_nul(&letter.detail)).collect();
            let keys: Vec<Option<&[u8]>> = letters.iter().map(|letter| letter.key.as_deref()).collect();
            let values: Vec<Option<&[u8]>> = letters.iter().map(|letter| letter.value.as_deref()).collect();
            let header_texts: Vec<String> = letters.iter().map(|letter| headers::write(&letter.headers)).collect();
            let recorded: Vec<Option<Instant>> = letters.iter().map(|letter| letter.record_at.map(Instant)).collect();
            let failed: Vec<Instant> = letters.iter().map(|letter| Instant(letter.failed_at)).collect();
            let states: Vec<&str> = letters.iter().map(|letter| letter.state.as_str()).collect();
            let applied: Vec<Option<i64>> = letters.iter().map(|letter| letter.applied_at.map(|position| position.0)).collect();
            let parameters: [&(dyn ToSql + Sync); 13] = [
                &&*partition.topic,
                &partition.partition,
                &offsets,
                &hunts,
                &reasons,
                &details,
                &keys,
                &values,
                &header_texts,
                &recorded,
                &failed,
                &states,
                &applied,
            ];
            session.client.execute(&write, &parameters).await?;
        }
        Ok(())
    }

    async fn write_gaps(&self, session: &mut Session) -> Result<(), Fault> {
        let Checkpoint { partition, gaps, .. } = self.checkpoint;
        if gaps.is_empty() {
            return Ok(());
        }
        let write = session
            .prepare(
                "INSERT INTO huntline.gaps (topic, partition, hunt_id, from_offset, to_offset, reason, found_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .await?;
        for gap in gaps {
            let parameters: [&(dyn ToSql + Sync); 7] = [
                &&*partition.topic,
                &partition.partition,
                &gap.hunt_id,
                &gap.from.0,
                &gap.to.0,
                &without_nul(&gap.reason),
                &Instant(gap.found_at),
            ];
            session.client.execute(&write, &parameters).await?;
        }
        Ok(())
    }

    async fn advance(&self, session: &mut Session) -> Result<(), Fault> {
        let write = session
            .prepare(
                "UPDATE huntline.partitions SET position = $6, checkpoint = $5 + 1, clock = $7, records = $8, applied = $9, duplicate = $10,
                   dead_lettered = $11, ignored = $12, held = $13, late = $14, updated_at = $15
                 WHERE topic = $1 AND partition = $2 AND epoch = $3 AND owner = $4 AND checkpoint = $5",
            )
            .await?;
        let Checkpoint { partition, epoch, owner, number, position, clock, counts, at, .. } = self.checkpoint;
        let parameters: [&(dyn ToSql + Sync); 15] = [
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
        let (mut refused, mut shared) = (Vec::new(), BTreeSet::new());
        let mut open = self.chunks();
        open.reverse();
        while let Some(range) = open.pop() {
            session.client.batch_execute("SAVEPOINT half").await?;
            match self.upsert(session, range.clone()).await {
                Ok(hunts) => shared.extend(hunts),
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
            let shared: Vec<String> = shared.into_iter().collect();
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

/// Postgres keeps no U+0000 in text.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
