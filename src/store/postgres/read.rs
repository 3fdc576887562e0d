//! The **reading calls**: partials for their owner, and what the API and the commands show.
//!
//! Invariant: each call is one statement, so what it gives is one moment of the store.

use super::super::{
    DeadLetter, Error, HuntLine, Lag, LagReasons, LetterFilter, LetterState, Loaded, Owner, PartialRow, PartitionLine, Readers,
    Snapshot, Status, StoredHunt, headers,
};
use super::connect::Session;
use super::fault::Fault;
use super::instant::Instant;
use super::schema;
use crate::outcome::{Counts, Reason};
use crate::position::{Epoch, Offset, Position};
use crate::record::PartitionId;
use crate::time::Micros;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

pub(super) async fn ping(session: &mut Session) -> Result<(), Fault> {
    session.client.simple_query("SELECT 1").await?;
    Ok(())
}

pub(super) async fn format(session: &mut Session) -> Result<Option<u8>, Fault> {
    if schema::version(session).await?.found == 0 {
        return Ok(None);
    }
    let read = "SELECT substring(state FROM 1 FOR 1) FROM huntline.partials WHERE state IS NOT NULL LIMIT 1";
    let row = session.client.query_opt(read, &[]).await?;
    Ok(row.and_then(|row| row.get::<_, &[u8]>(0).first().copied()))
}

/// The columns of `partials` that [`snapshot`] reads, in its order.
macro_rules! snapshot_columns {
    () => {
        "p.hunt_id, p.state, p.view::text, p.events, p.first_event_at, p.last_event_at, p.hunt_clock, p.partition_clock, p.watermark_floor, \
         p.lagging, p.position, p.clock, p.held, p.reasons"
    };
}

fn snapshot(row: &Row) -> Snapshot {
    let lagging: bool = row.get(9);
    let readers = row.get::<_, Option<String>>(2).map(|view| Readers {
        view,
        events: row.get(3),
        first_event_at: instant(row, 4),
        last_event_at: instant(row, 5),
        hunt_clock: micros(row, 6),
        partition_clock: micros(row, 7),
        watermark_floor: micros(row, 8),
    });
    Snapshot {
        hunt: row.get(0),
        state: row.get(1),
        readers,
        lag: lagging.then(|| Lag {
            position: Position(row.get::<_, Option<i64>>(10).unwrap_or_default()),
            clock: micros(row, 11),
            held: row.get(12),
            reasons: LagReasons::from_bits(row.get(13)),
        }),
    }
}

pub(super) async fn load(session: &mut Session, partition: PartitionId, hunts: Vec<String>) -> Result<Loaded, Fault> {
    let read = session
        .prepare(concat!(
            "SELECT ",
            snapshot_columns!(),
            ", p.saved FROM huntline.partials p WHERE p.hunt_id = ANY($3) AND p.topic = $1 AND p.partition = $2"
        ))
        .await?;
    let rows = session.client.query(&read, &[&&*partition.topic, &partition.partition, &hunts]).await?;
    let newest = rows.iter().filter_map(|row| row.get::<_, Option<i64>>(14)).max().unwrap_or_default();
    Ok(Loaded { snapshots: rows.iter().map(snapshot).collect(), newest })
}

/// Groups the partials themselves: their primary key gives them in order, so that a page costs a page.
pub(super) async fn hunts(
    session: &mut Session,
    after: Option<String>,
    limit: u32,
    status: Option<Status>,
) -> Result<Vec<HuntLine>, Fault> {
    const COLUMNS: &str =
        "sum(events)::bigint, max(CASE WHEN NOT lagging THEN 0 WHEN reasons & 15 <> 0 THEN 2 ELSE 1 END), max(last_event_at)";
    const SHOWN: &str = "(sum(events) > 0 OR sum(held) > 0 OR bool_or(lagging AND reasons & 15 <> 0))";
    // The few that lag have an index of their own.
    let few = match status {
        Some(Status::Lagging | Status::Parked) => "AND hunt_id IN (SELECT hunt_id FROM huntline.partials WHERE lagging)",
        _ => "",
    };
    let wanted = match status {
        None => "true".to_owned(),
        Some(status) => format!("max(CASE WHEN NOT lagging THEN 0 WHEN reasons & 15 <> 0 THEN 2 ELSE 1 END) = {}", rank(status)),
    };
    let sql = format!(
        "SELECT hunt_id, {COLUMNS} FROM huntline.partials WHERE hunt_id > $1 {few} GROUP BY hunt_id HAVING {SHOWN} AND {wanted} ORDER BY hunt_id LIMIT $2"
    );
    let rows = session.client.query(&sql, &[&after.unwrap_or_default(), &i64::from(limit)]).await?;
    Ok(rows
        .iter()
        .map(|row| HuntLine {
            hunt_id: row.get(0),
            events: row.get(1),
            status: [Status::Live, Status::Lagging, Status::Parked][row.get::<_, i32>(2) as usize],
            last_event_at: instant(row, 3),
        })
        .collect())
}

/// The order of badness.
fn rank(status: Status) -> i32 {
    match status {
        Status::Live => 0,
        Status::Lagging => 1,
        Status::Parked => 2,
    }
}

pub(super) async fn hunt(session: &mut Session, hunt: String) -> Result<Option<StoredHunt>, Fault> {
    let read = session
        .prepare(concat!(
            "SELECT ",
            snapshot_columns!(),
            ", p.topic, p.partition, q.position, q.clock, q.owner, q.advertise,
               h.status, h.events, h.view::text, h.first_event_at, h.last_event_at, h.watermark, h.updated_at
             FROM huntline.hunts h
             JOIN huntline.partials p ON p.hunt_id = h.hunt_id
             JOIN huntline.partitions q ON q.topic = p.topic AND q.partition = p.partition
             WHERE h.hunt_id = $1 ORDER BY p.topic, p.partition"
        ))
        .await?;
    let rows = session.client.query(&read, &[&hunt]).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let status: &str = first.get(20);
    Ok(Some(StoredHunt {
        hunt_id: hunt,
        status: Status::parse(status).ok_or_else(|| strange("a hunt's status", status))?,
        events: first.get(21),
        view: first.get(22),
        first_event_at: instant(first, 23),
        last_event_at: instant(first, 24),
        watermark: instant(first, 25),
        updated_at: first.get::<_, Instant>(26).0,
        partials: rows
            .iter()
            .map(|row| PartialRow {
                partition: PartitionId::new(row.get(14), row.get(15)),
                snapshot: snapshot(row),
                partition_position: row.get::<_, Option<i64>>(16).map(Position),
                partition_clock: micros(row, 17),
                owner: owner(row, 18),
            })
            .collect(),
    }))
}

pub(super) async fn partitions(session: &mut Session) -> Result<Vec<PartitionLine>, Fault> {
    let read = session
        .prepare(
            "SELECT topic, partition, position, epoch, owner, advertise, records, applied, duplicate, dead_lettered, ignored, held, late, updated_at,
                    tripped
             FROM huntline.partitions ORDER BY topic, partition",
        )
        .await?;
    let rows = session.client.query(&read, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| PartitionLine {
            partition: PartitionId::new(row.get(0), row.get(1)),
            position: row.get::<_, Option<i64>>(2).map(Position),
            epoch: Epoch(row.get(3)),
            owner: owner(row, 4),
            counts: counts(row, 6),
            updated_at: row.get::<_, Instant>(13).0,
            tripped: row.get(14),
        })
        .collect())
}

const LETTER: &str =
    r#"topic, partition, "offset", hunt_id, reason, detail, key, value, headers::text, record_at, failed_at, state, applied_at"#;

pub(super) async fn dead_letters(session: &mut Session, filter: LetterFilter) -> Result<Vec<DeadLetter>, Fault> {
    let mut sql = format!("SELECT {LETTER} FROM huntline.dead_letters WHERE true");
    let limit = i64::from(filter.limit);
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&limit];
    for (column, wanted) in [("reason", &filter.reason), ("hunt_id", &filter.hunt), ("state", &filter.state)] {
        if let Some(wanted) = wanted {
            parameters.push(wanted);
            sql += &format!(" AND {column} = ${}", parameters.len());
        }
    }
    let after = filter.after.as_ref().map(|(partition, offset)| (&*partition.topic, partition.partition, offset.0));
    if let Some((topic, partition, offset)) = &after {
        let first = parameters.len() + 1;
        parameters.extend([topic as &(dyn ToSql + Sync), partition, offset]);
        sql += &format!(r#" AND (topic, partition, "offset") > (${first}, ${}, ${})"#, first + 1, first + 2);
    }
    sql += r#" ORDER BY topic, partition, "offset" LIMIT $1"#;
    let rows = session.client.query(&sql, &parameters).await?;
    rows.iter().map(letter).collect()
}

pub(super) async fn dead_letter(
    session: &mut Session,
    partition: PartitionId,
    offset: Offset,
) -> Result<Option<DeadLetter>, Fault> {
    let sql = format!(r#"SELECT {LETTER} FROM huntline.dead_letters WHERE topic = $1 AND partition = $2 AND "offset" = $3"#);
    let row = session.client.query_opt(&sql, &[&&*partition.topic, &partition.partition, &offset.0]).await?;
    row.as_ref().map(letter).transpose()
}

fn letter(row: &Row) -> Result<DeadLetter, Fault> {
    let (reason, state): (&str, &str) = (row.get(4), row.get(11));
    Ok(DeadLetter {
        partition: PartitionId::new(row.get(0), row.get(1)),
        offset: Offset(row.get(2)),
        hunt_id: row.get(3),
        reason: Reason::ALL
            .into_iter()
            .find(|known| known.as_str() == reason)
            .ok_or_else(|| strange("a dead letter's reason", reason))?,
        detail: row.get(5),
        key: row.get(6),
        value: row.get(7),
        headers: headers::read(row.get(8)).map_err(Error::Fatal)?,
        record_at: instant(row, 9),
        failed_at: row.get::<_, Instant>(10).0,
        state: LetterState::parse(state).ok_or_else(|| strange("a dead letter's state", state))?,
        applied_at: row.get::<_, Option<i64>>(12).map(Position),
    })
}

fn strange(what: &str, found: &str) -> Error {
    Error::Fatal(format!("{what} in the store is {found:?}, which this huntline does not know"))
}

pub(super) fn instant(row: &Row, column: usize) -> Option<Micros> {
    row.get::<_, Option<Instant>>(column).map(|instant| instant.0)
}

/// The columns `records` to `late`, in the order of [`Counts`], from `first` on.
pub(super) fn counts(row: &Row, first: usize) -> Counts {
    let at = |n: usize| row.get::<_, i64>(first + n);
    Counts { records: at(0), applied: at(1), duplicate: at(2), dead_lettered: at(3), ignored: at(4), held: at(5), late: at(6) }
}

pub(super) fn micros(row: &Row, column: usize) -> Option<Micros> {
    row.get::<_, Option<i64>>(column).map(Micros)
}

/// The owner in `column` and where it may be asked in the next.
fn owner(row: &Row, column: usize) -> Option<Owner> {
    let id: Option<String> = row.get(column);
    id.map(|id| Owner { id, advertise: row.get::<_, Option<String>>(column + 1).unwrap_or_default() })
}
