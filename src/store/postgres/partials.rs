//! The **partials** of a checkpoint as rows: written in chunks, and merged where several partitions share a hunt.
//!
//! No owner asks another. A hunt's first partial registers in `hunt_home`; the loser of that race marks all the hunt's rows `shared`,
//! which every later upsert gives back. Only shared hunts pay for a merged row. Invariant: the partials to merge are read after the
//! merged row is locked, in a statement of their own, so that of two owners the second sees what the first committed.
//!
//! Locks are waited for in one order: the partition's row, partials by hunt, homes by hunt, merged rows by hunt, and last, for the
//! rollup, the one row of `identity`; so no ring of waiting transactions closes. A loser's mark goes against it (it holds homes), and therefore never waits: where the other owner is just writing the
//! partial to be marked, the checkpoint is rolled back, the marks are made in a transaction of their own ([`Commit::share`]), which
//! holds nothing else, and the checkpoint starts again. Many hunts that several partitions meet at once would otherwise deadlock
//! again and again, at a second each.

use super::super::{Checkpoint, Error, Lag, Readers};
use super::client::Client;
use super::commit::Commit;
use super::connect::Session;
use super::fault::Fault;
use super::instant::Instant;
use crate::record::PartitionId;
use crate::time::Micros;
use std::collections::BTreeSet;
use std::ops::Range;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

/// Bounds of one statement: what the server takes fastest, and small enough that the memory of one message serves for the next: what
/// is much larger comes fresh from the system every time, and clearing its pages costs more than filling them.
pub(super) const CHUNK_ROWS: usize = 1000;
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// Writes rows of one partition; gives those that are shared, or new.
pub(super) const UPSERT: &str = "
WITH written AS (
    INSERT INTO huntline.partials AS p (topic, partition, born, updated_at, hunt_id, state, view, events, first_event_at, last_event_at,
    hunt_clock, partition_clock, watermark_floor, lagging, position, clock, held, reasons, saved)
    SELECT $1, $2, $3, $4, v.hunt_id, v.state, v.view::jsonb, v.events, v.first_event_at, v.last_event_at,
    v.hunt_clock, v.partition_clock, v.watermark_floor, v.position IS NOT NULL, v.position, v.clock, v.held, v.reasons, $3
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
    reasons = excluded.reasons, saved = excluded.saved, updated_at = excluded.updated_at
    RETURNING p.hunt_id, p.shared, p.born)
SELECT hunt_id, shared FROM written WHERE shared OR born = $3";

/// Locks the partials of hunts that are to be marked shared; the second waits for nobody.
const LOCK: &str =
    "SELECT 1 FROM huntline.partials WHERE hunt_id = ANY($1) AND NOT shared ORDER BY hunt_id, topic, partition FOR UPDATE";
const LOCK_AT_ONCE: &str =
    "SELECT 1 FROM huntline.partials WHERE hunt_id = ANY($1) AND NOT shared ORDER BY hunt_id, topic, partition FOR UPDATE NOWAIT";
const MARK: &str = "UPDATE huntline.partials SET shared = true WHERE hunt_id = ANY($1) AND NOT shared";

/// What an upsert tells of its rows.
pub(super) struct Written {
    /// Hunts that are known to be shared.
    pub shared: Vec<String>,
    /// Hunts that this partition had no row of.
    pub new: Vec<String>,
}

/// A hunt that several partitions share, as all of them together show it. `None`: no partial has applied anything.
pub(super) type Merged = (String, Option<Readers>);

impl Commit<'_> {
    /// Ranges of `rows` that fit a statement.
    pub(super) fn chunks(&self) -> Vec<Range<usize>> {
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

    /// Writes the rows of `chunk` by the prepared [`UPSERT`].
    pub(super) async fn upsert(&self, client: &Client, upsert: &Statement, chunk: Range<usize>) -> Result<Written, Fault> {
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
        for row in client.query(upsert, &parameters).await? {
            if row.get(1) { shared.push(row.get(0)) } else { new.push(row.get(0)) }
        }
        Ok(Written { shared, new })
    }

    /// Registers first partials. Where another partition was first (its transaction is waited for), all the hunt's rows are marked
    /// shared, so that the other owner learns of it by its next upsert. Gives those hunts. A row that somebody is writing is not
    /// waited for: [`Fault::is_busy`].
    pub(super) async fn settle(&self, session: &mut Session, new: &[String]) -> Result<Vec<String>, Fault> {
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
        let lock = session.prepare(LOCK_AT_ONCE).await?;
        session.client.query(&lock, &[&lost]).await?;
        let mark = session.prepare(MARK).await?;
        session.client.execute(&mark, &[&lost]).await?;
        Ok(lost)
    }

    /// Marks those of `hunts` shared that have a home by now, and merges them, in a transaction of its own: what it says of a hunt is
    /// true whether or not a further partial follows.
    pub(super) async fn share(&self, session: &mut Session, hunts: &[String]) -> Result<(), Fault> {
        let settled = session.prepare("SELECT hunt_id FROM huntline.hunt_home WHERE hunt_id = ANY($1)").await?;
        let lock = session.prepare(LOCK).await?;
        let mark = session.prepare(MARK).await?;
        session.client.batch_execute("BEGIN").await?;
        let rows = session.client.query(&settled, &[&hunts]).await?;
        let mut settled: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        settled.sort_unstable();
        session.client.query(&lock, &[&settled]).await?;
        session.client.execute(&mark, &[&settled]).await?;
        self.write_shared(session, &settled).await?;
        Ok(session.client.batch_execute("COMMIT").await?)
    }

    /// Brings the merged rows of `hunts` (sorted) up to date.
    pub(super) async fn write_shared(&self, session: &mut Session, hunts: &[String]) -> Result<(), Fault> {
        self.lock_shared(session, hunts).await?;
        for hunts in hunts.chunks(CHUNK_ROWS) {
            let merged = self.merge(session, hunts).await?;
            self.write_merged(session, &merged).await?;
        }
        Ok(())
    }

    /// Creates the merged rows of `hunts` (sorted) that are missing, then locks all of them: in this order whoever waits for a row
    /// just created holds no lock yet.
    pub(super) async fn lock_shared(&self, session: &mut Session, hunts: &[String]) -> Result<(), Fault> {
        let create = session
            .prepare(
                "INSERT INTO huntline.shared_hunts (hunt_id, updated_at) SELECT v.hunt_id, $2 FROM unnest($1::text[]) AS v(hunt_id)
                 ON CONFLICT (hunt_id) DO NOTHING",
            )
            .await?;
        let lock =
            session.prepare("SELECT 1 FROM huntline.shared_hunts WHERE hunt_id = ANY($1) ORDER BY hunt_id FOR UPDATE").await?;
        for hunts in hunts.chunks(CHUNK_ROWS) {
            session.client.execute(&create, &[&hunts, &Instant(self.checkpoint.at)]).await?;
        }
        for hunts in hunts.chunks(CHUNK_ROWS) {
            session.client.query(&lock, &[&hunts]).await?;
        }
        Ok(())
    }

    /// Merges the partials of `hunts` (sorted, their merged rows locked), which a new statement reads: whoever held a lock has committed.
    pub(super) async fn merge(&self, session: &mut Session, hunts: &[String]) -> Result<Vec<Merged>, Fault> {
        let (mut merged, mut refused) = (Vec::with_capacity(hunts.len()), Vec::new());
        for (hunt, states) in states(session, hunts).await? {
            if states.is_empty() {
                merged.push((hunt, None));
                continue;
            }
            match (self.merge.hunts)(&states) {
                Ok(readers) => merged.push((hunt, Some(readers))),
                // Its merged row stays as it was; the caller already knows.
                Err(_) if self.is_known_refused(&hunt) => {}
                Err(why) => refused.push((hunt, format!("its partials do not merge: {why}"))),
            }
        }
        if refused.is_empty() { Ok(merged) } else { Err(Error::Refused(refused).into()) }
    }

    fn is_known_refused(&self, hunt: &str) -> bool {
        let row = self.rows.binary_search_by(|row| row.hunt.as_str().cmp(hunt)).ok().map(|at| self.rows[at]);
        row.and_then(|row| row.lag).is_some_and(|lag| lag.reasons.store_refused)
    }

    pub(super) async fn write_merged(&self, session: &mut Session, merged: &[Merged]) -> Result<(), Fault> {
        write_merged(session, merged, self.checkpoint.at).await
    }
}

/// The states that the partials of `hunts` (sorted) have, each hunt's in (topic, partition) order.
pub(super) async fn states(session: &mut Session, hunts: &[String]) -> Result<Vec<(String, Vec<(PartitionId, Vec<u8>)>)>, Fault> {
    let read = session
        .prepare(
            "SELECT hunt_id, topic, partition, state FROM huntline.partials WHERE hunt_id = ANY($1) AND state IS NOT NULL
             ORDER BY hunt_id, topic, partition",
        )
        .await?;
    let rows = session.client.query(&read, &[&hunts]).await?;
    let mut rows = rows.iter().peekable();
    let of = |hunt: &String| {
        let mut states = Vec::new();
        while let Some(row) = rows.next_if(|row| row.get::<_, &str>(0) == hunt) {
            states.push((PartitionId::new(row.get(1), row.get(2)), row.get::<_, Vec<u8>>(3)));
        }
        (hunt.clone(), states)
    };
    Ok(hunts.iter().map(of).collect())
}

/// Writes merged rows that exist and are locked.
pub(super) async fn write_merged(session: &mut Session, merged: &[Merged], at: Micros) -> Result<(), Fault> {
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
    session.client.execute(&write, &[&hunts, &views, &events, &first, &last, &Instant(at)]).await?;
    Ok(())
}
