//! A **redefinition** in Postgres: every state converted in chunks, inside one transaction.
//!
//! Invariant: while it runs nobody else is inside a checkpoint or a claim, and when it commits every owner's epoch and checkpoint number
//! are history. Readers see the store as it was until then.
//!
//! Locks: the advisory one, so that nobody binds; then `partitions`, where every checkpoint and every claim begins: those under way are
//! waited for, those to come wait. What else writes partials (the marking of shared hunts) takes `partials` before `shared_hunts`, and so does this.

use super::super::redefinition::{self, Redefinition};
use super::super::rollup::Refusals;
use super::super::{Error, LagReasons, Readers};
use super::connect::Session;
use super::fault::Fault;
use super::instant::Instant;
use super::partials::{self, CHUNK_BYTES, CHUNK_ROWS, Merged};
use super::schema::{self, LOCK};
use super::{rollup, summary};
use crate::position::Position;
use crate::record::PartitionId;
use crate::time::Micros;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// `place` is what an error of the summary names.
pub(super) async fn redefine(
    session: &mut Session,
    redefinition: Redefinition,
    refusals: Arc<Refusals>,
    place: String,
) -> Result<(), Fault> {
    let result = transact(session, &redefinition, &refusals, &place).await;
    if matches!(result, Err(Fault::Store(_))) {
        session.client.batch_execute("ROLLBACK").await?;
    }
    result
}

async fn transact(session: &mut Session, redefinition: &Redefinition, refusals: &Refusals, place: &str) -> Result<(), Fault> {
    schema::begin_long(session).await?;
    session.client.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    session
        .client
        .batch_execute(
            "LOCK TABLE huntline.partitions IN EXCLUSIVE MODE; LOCK TABLE huntline.partials IN EXCLUSIVE MODE;
             LOCK TABLE huntline.shared_hunts IN EXCLUSIVE MODE",
        )
        .await?;
    let row = session.client.query_opt("SELECT definitions FROM huntline.identity", &[]).await?;
    let Some(row) = row else { return Err(Error::Fatal("the store has no definitions yet".to_owned()).into()) };
    let stored: String = row.get(0);
    if stored == redefinition.new {
        return Ok(session.client.batch_execute("ROLLBACK").await?);
    }
    if stored != redefinition.old {
        return Err(Error::Redefined { stored, configured: redefinition.new.clone() }.into());
    }
    nothing_lags(session).await?;
    record(session, redefinition).await?;
    let at = now();
    let row = session.client.query_one(
        "SELECT (SELECT count(*) FROM huntline.partials WHERE state IS NOT NULL), (SELECT count(*) FROM huntline.shared_hunts)",
        &[],
    );
    let row = row.await?;
    let of = row.get::<_, i64>(0) as u64 + row.get::<_, i64>(1) as u64;
    let mut progress = Progress { redefinition, done: 0, of };
    progress.add(0);
    convert_partials(session, &mut progress, at).await?;
    merge_shared(session, &mut progress, at).await?;
    convert_rollups(session, redefinition, refusals, at).await?;
    // Last, for whoever reads the summary waits from here on.
    summary::renew(session, &redefinition.summary, place).await?;
    session.client.batch_execute("COMMIT").await?;
    Ok(())
}

struct Progress<'r> {
    redefinition: &'r Redefinition,
    done: u64,
    of: u64,
}

impl Progress<'_> {
    fn add(&mut self, rows: usize) {
        self.done += rows as u64;
        (self.redefinition.progress)(self.done, self.of);
    }
}

async fn nothing_lags(session: &mut Session) -> Result<(), Fault> {
    let row = session.client.query_one("SELECT count(*) FROM huntline.partials WHERE lagging", &[]).await?;
    let all: i64 = row.get(0);
    if all == 0 {
        return Ok(());
    }
    let named = redefinition::NAMED as i64;
    let rows = session
        .client
        .query(
            "SELECT topic, partition, hunt_id, position, reasons FROM huntline.partials WHERE lagging ORDER BY topic, partition, hunt_id LIMIT $1",
            &[&named],
        )
        .await?;
    let first: Vec<_> = rows
        .iter()
        .map(|row| {
            let position = Position(row.get::<_, Option<i64>>(3).unwrap_or_default());
            (PartitionId::new(row.get(0), row.get(1)), row.get(2), position, LagReasons::from_bits(row.get(4)))
        })
        .collect();
    Err(redefinition::lagging(all, &first).into())
}

/// Writes the new generation down, and fences whoever knows the old one.
async fn record(session: &mut Session, redefinition: &Redefinition) -> Result<(), Fault> {
    let Redefinition { new, idle, lateness, empty_view, .. } = redefinition;
    let row = session
        .client
        .query_one(
            "INSERT INTO huntline.definitions (number, definitions) SELECT coalesce(max(number), 0) + 1, $1 FROM huntline.definitions
             RETURNING number",
            &[new],
        )
        .await?;
    let number: i32 = row.get(0);
    session
        .client
        .execute(
            "INSERT INTO huntline.definition_positions (number, topic, partition, position)
             SELECT $1, topic, partition, position FROM huntline.partitions WHERE position IS NOT NULL",
            &[&number],
        )
        .await?;
    session
        .client
        .execute(
            "UPDATE huntline.identity SET definitions = $1, idle = $2, lateness = $3, empty_view = $4::text::jsonb",
            &[new, idle, lateness, empty_view],
        )
        .await?;
    // A breaker stands tripped until the definitions change.
    let fence = "UPDATE huntline.partitions
         SET epoch = epoch + 1, checkpoint = checkpoint + 1, owner = NULL, advertise = NULL, tripped = NULL, updated_at = now()";
    session.client.execute(fence, &[]).await?;
    Ok(())
}

/// A partial's key, in the order of the primary key.
type Key = (String, String, i32);

async fn convert_partials(session: &mut Session, progress: &mut Progress<'_>, at: Micros) -> Result<(), Fault> {
    let keys = session
        .prepare(
            "SELECT hunt_id, topic, partition, octet_length(state) FROM huntline.partials
             WHERE (hunt_id, topic, partition) > ($1, $2, $3) AND state IS NOT NULL ORDER BY hunt_id, topic, partition LIMIT $4",
        )
        .await?;
    let mut after: Key = (String::new(), String::new(), -1);
    loop {
        let rows = session.client.query(&keys, &[&after.0, &after.1, &after.2, &(CHUNK_ROWS as i64)]).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let sized: Vec<(Key, usize)> =
            rows.iter().map(|row| ((row.get(0), row.get(1), row.get(2)), row.get::<_, i32>(3) as usize)).collect();
        for part in parts(&sized) {
            let last = part.last().expect("a part has rows").0.clone();
            convert(session, progress.redefinition, &after, &last, at).await?;
            progress.add(part.len());
            after = last;
        }
    }
}

/// Runs of rows whose sizes fit a statement; one that is larger alone makes a run.
fn parts<K>(sized: &[(K, usize)]) -> impl Iterator<Item = &[(K, usize)]> {
    let mut rest = sized;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fit = rest.iter().take_while(|(_, size)| {
            bytes += size;
            bytes <= CHUNK_BYTES
        });
        let (part, after) = rest.split_at(fit.count().max(1).min(rest.len()));
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

/// Converts the partials after one key and up to another.
async fn convert(session: &mut Session, redefinition: &Redefinition, after: &Key, last: &Key, at: Micros) -> Result<(), Fault> {
    let read = session
        .prepare(
            "SELECT hunt_id, topic, partition, state FROM huntline.partials
             WHERE (hunt_id, topic, partition) > ($1, $2, $3) AND (hunt_id, topic, partition) <= ($4, $5, $6) AND state IS NOT NULL",
        )
        .await?;
    let write = session
        .prepare(
            "UPDATE huntline.partials AS p SET state = v.state, view = v.view::jsonb, events = v.events, first_event_at = v.first_event_at,
               last_event_at = v.last_event_at, hunt_clock = v.hunt_clock, partition_clock = v.partition_clock,
               watermark_floor = v.watermark_floor, updated_at = $12
             FROM unnest($1::text[], $2::text[], $3::integer[], $4::bytea[], $5::text[], $6::bigint[], $7::timestamptz[], $8::timestamptz[],
               $9::bigint[], $10::bigint[], $11::bigint[])
               AS v(hunt_id, topic, partition, state, view, events, first_event_at, last_event_at, hunt_clock, partition_clock, watermark_floor)
             WHERE p.hunt_id = v.hunt_id AND p.topic = v.topic AND p.partition = v.partition",
        )
        .await?;
    let rows = session.client.query(&read, &[&after.0, &after.1, &after.2, &last.0, &last.1, &last.2]).await?;
    let (mut hunts, mut topics, mut partitions) = (Vec::new(), Vec::new(), Vec::new());
    let (mut states, mut readers) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    for row in &rows {
        let (hunt, topic, partition): (&str, &str, i32) = (row.get(0), row.get(1), row.get(2));
        let (state, shown) = (redefinition.convert)(row.get(3))
            .map_err(|why| redefinition::unconvertible(&PartitionId::new(topic, partition), hunt, &why))?;
        hunts.push(hunt);
        topics.push(topic);
        partitions.push(partition);
        states.push(state);
        readers.push(shown);
    }
    let instants = |of: fn(&Readers) -> Option<Micros>| -> Vec<Option<Instant>> {
        readers.iter().map(|readers| of(readers).map(Instant)).collect()
    };
    let clocks = |of: fn(&Readers) -> Option<Micros>| -> Vec<Option<i64>> {
        readers.iter().map(|readers| of(readers).map(|clock| clock.0)).collect()
    };
    let views: Vec<&str> = readers.iter().map(|readers| readers.view.as_str()).collect();
    let events: Vec<i64> = readers.iter().map(|readers| readers.events).collect();
    session
        .client
        .execute(
            &write,
            &[
                &hunts,
                &topics,
                &partitions,
                &states,
                &views,
                &events,
                &instants(|readers| readers.first_event_at),
                &instants(|readers| readers.last_event_at),
                &clocks(|readers| readers.hunt_clock),
                &clocks(|readers| readers.partition_clock),
                &clocks(|readers| readers.watermark_floor),
                &Instant(at),
            ],
        )
        .await?;
    Ok(())
}

/// Merges every shared hunt again, from states that are converted by now.
async fn merge_shared(session: &mut Session, progress: &mut Progress<'_>, at: Micros) -> Result<(), Fault> {
    let names = session
        .prepare(
            "SELECT s.hunt_id, (SELECT coalesce(sum(octet_length(p.state)), 0) FROM huntline.partials p WHERE p.hunt_id = s.hunt_id)
             FROM huntline.shared_hunts s WHERE s.hunt_id > $1 ORDER BY s.hunt_id LIMIT $2",
        )
        .await?;
    let mut after = String::new();
    loop {
        let rows = session.client.query(&names, &[&after, &(CHUNK_ROWS as i64)]).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.get(0);
        let sized: Vec<(String, usize)> = rows.iter().map(|row| (row.get(0), row.get::<_, i64>(1) as usize)).collect();
        for part in parts(&sized) {
            let hunts: Vec<String> = part.iter().map(|(hunt, _)| hunt.clone()).collect();
            let mut merged: Vec<Merged> = Vec::with_capacity(hunts.len());
            for (hunt, states) in partials::states(session, &hunts).await? {
                let readers = match states.is_empty() {
                    true => None,
                    false => {
                        let merged = (progress.redefinition.merge.hunts)(&states);
                        Some(merged.map_err(|why| redefinition::unmerged(&format!("the partials of hunt {hunt:?}"), &why))?)
                    }
                };
                merged.push((hunt, readers));
            }
            partials::write_merged(session, &merged, at).await?;
            progress.add(part.len());
        }
    }
}

/// Every partition's rollup, one at a time, and the relation that is the merge of all.
async fn convert_rollups(
    session: &mut Session,
    redefinition: &Redefinition,
    refusals: &Refusals,
    at: Micros,
) -> Result<(), Fault> {
    let named = "SELECT topic, partition FROM huntline.partitions WHERE rollup IS NOT NULL ORDER BY topic, partition";
    let rows = session.client.query(named, &[]).await?;
    let mut shares = Vec::with_capacity(rows.len());
    let read = session.prepare("SELECT rollup FROM huntline.partitions WHERE topic = $1 AND partition = $2").await?;
    let write = session.prepare("UPDATE huntline.partitions SET rollup = $3 WHERE topic = $1 AND partition = $2").await?;
    for row in &rows {
        let partition = PartitionId::new(row.get(0), row.get(1));
        let row = session.client.query_one(&read, &[&&*partition.topic, &partition.partition]).await?;
        let share =
            (redefinition.convert_rollup)(row.get(0)).map_err(|why| redefinition::unconvertible_rollup(&partition, &why))?;
        session.client.execute(&write, &[&&*partition.topic, &partition.partition, &share]).await?;
        shares.push(share);
    }
    if shares.is_empty() {
        return Ok(());
    }
    let values = (redefinition.merge.rollup)(&shares).map_err(|why| redefinition::unmerged("the partitions' rollups", &why))?;
    rollup::write_values(session, &values, at, refusals).await
}

/// Wall clock, for `updated_at` alone.
fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(since.as_micros() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fit_a_statement_and_leave_nothing_out() {
        let sizes = |sizes: &[usize]| sizes.iter().map(|&size| ((), size)).collect::<Vec<_>>();
        let lengths = |sized: &[((), usize)]| parts(sized).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&sizes(&[1, 2, 3])), [3]);
        let big = CHUNK_BYTES;
        assert_eq!(lengths(&sizes(&[big + 1, big - 1, 1, 1, big, big + 1])), [1, 2, 1, 1, 1]);
    }
}
