//! The **reading calls**: partials for their owner, and what the API and the commands show.
//!
//! Invariant: what a call gives is one moment of the store (one statement, or one read transaction).

use super::super::{
    DeadLetter, Error, HuntLine, Lag, LagReasons, LetterFilter, LetterState, Loaded, Owner, PartialRow, PartitionLine, Readers,
    Snapshot, Status, StoredHunt, headers,
};
use super::{Fault, read_time};
use crate::outcome::{Counts, Reason};
use crate::position::{Epoch, Offset, Position};
use crate::record::PartitionId;
use crate::time::Micros;
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params, params_from_iter};

type Result<T> = std::result::Result<T, Fault>;

pub(super) fn format(connection: &Connection) -> rusqlite::Result<Option<u8>> {
    if super::schema::version(connection)?.found == 0 {
        return Ok(None);
    }
    let read = "SELECT substr(state, 1, 1) FROM partials WHERE state IS NOT NULL LIMIT 1";
    let first: Option<Vec<u8>> = connection.query_row(read, [], |row| row.get(0)).optional()?;
    Ok(first.and_then(|byte| byte.first().copied()))
}

/// The columns of `partials` that [`snapshot`] reads, in its order.
const SNAPSHOT: &str = "p.hunt_id, p.state, p.view, p.events, p.first_event_at, p.last_event_at, p.hunt_clock, p.partition_clock, \
                        p.watermark_floor, p.lagging, p.position, p.clock, p.held, p.reasons";

fn snapshot(row: &Row<'_>) -> Result<Snapshot> {
    let readers = match row.get::<_, Option<String>>(2)? {
        None => None,
        Some(view) => Some(Readers {
            view,
            events: row.get(3)?,
            first_event_at: time(row, 4)?,
            last_event_at: time(row, 5)?,
            hunt_clock: micros(row, 6)?,
            partition_clock: micros(row, 7)?,
            watermark_floor: micros(row, 8)?,
        }),
    };
    let lag = match row.get(9)? {
        false => None,
        true => Some(Lag {
            position: Position(row.get(10)?),
            clock: micros(row, 11)?,
            held: row.get(12)?,
            reasons: LagReasons::from_bits(row.get(13)?),
        }),
    };
    Ok(Snapshot { hunt: row.get(0)?, state: row.get(1)?, readers, lag })
}

pub(super) fn load(connection: &Connection, partition: &PartitionId, hunts: &[String]) -> Result<Loaded> {
    let sql = format!(
        "SELECT {SNAPSHOT}, p.saved FROM partials p WHERE p.hunt_id IN (SELECT value FROM json_each(?1)) AND p.topic = ?2 AND p.partition = ?3"
    );
    let names = serde_json::to_string(hunts).expect("strings serialise");
    let mut read = connection.prepare_cached(&sql)?;
    let mut rows = read.query(params![names, &*partition.topic, partition.partition])?;
    let mut found = Loaded::default();
    while let Some(row) = rows.next()? {
        found.snapshots.push(snapshot(row)?);
        found.newest = found.newest.max(row.get::<_, Option<i64>>(14)?.unwrap_or_default());
    }
    Ok(found)
}

pub(super) fn hunts(
    connection: &mut Connection,
    after: Option<&str>,
    limit: u32,
    status: Option<Status>,
) -> Result<Vec<HuntLine>> {
    const RANK: &str = "max(CASE WHEN NOT lagging THEN 0 WHEN reasons & 15 <> 0 THEN 2 ELSE 1 END)";
    // The few that lag have an index of their own.
    let few = match status {
        Some(Status::Lagging | Status::Parked) => "AND hunt_id IN (SELECT hunt_id FROM partials WHERE lagging)",
        _ => "",
    };
    let wanted = match status {
        None => "1".to_owned(),
        Some(Status::Live) => format!("{RANK} = 0"),
        Some(Status::Lagging) => format!("{RANK} = 1"),
        Some(Status::Parked) => format!("{RANK} = 2"),
    };
    let sql = format!(
        "SELECT hunt_id, sum(events), {RANK}, max(last_event_at) FROM partials WHERE hunt_id > ?1 {few} GROUP BY hunt_id
         HAVING (sum(events) > 0 OR sum(held) > 0 OR max(lagging AND reasons & 15 <> 0)) AND {wanted} ORDER BY hunt_id LIMIT ?2"
    );
    let mut read = connection.prepare_cached(&sql)?;
    let mut rows = read.query(params![after.unwrap_or_default(), limit])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        lines.push(HuntLine {
            hunt_id: row.get(0)?,
            events: row.get(1)?,
            status: [Status::Live, Status::Lagging, Status::Parked][row.get::<_, usize>(2)?],
            last_event_at: time(row, 3)?,
        });
    }
    Ok(lines)
}

pub(super) fn hunt(connection: &mut Connection, hunt: &str) -> Result<Option<StoredHunt>> {
    let sql = format!(
        "SELECT {SNAPSHOT}, p.topic, p.partition, q.position, q.clock, q.owner, q.advertise,
           h.status, h.events, h.view, h.first_event_at, h.last_event_at, h.watermark, h.updated_at
         FROM hunts h JOIN partials p ON p.hunt_id = h.hunt_id JOIN partitions q ON q.topic = p.topic AND q.partition = p.partition
         WHERE h.hunt_id = ? ORDER BY p.topic, p.partition"
    );
    let mut read = connection.prepare_cached(&sql)?;
    let mut rows = read.query([hunt])?;
    let mut found: Option<StoredHunt> = None;
    while let Some(row) = rows.next()? {
        let partial = PartialRow {
            partition: PartitionId::new(&row.get::<_, String>(14)?, row.get(15)?),
            snapshot: snapshot(row)?,
            partition_position: row.get::<_, Option<i64>>(16)?.map(Position),
            partition_clock: micros(row, 17)?,
            owner: owner(row, 18)?,
        };
        if let Some(found) = &mut found {
            found.partials.push(partial);
            continue;
        }
        let status: String = row.get(20)?;
        found = Some(StoredHunt {
            hunt_id: hunt.to_owned(),
            status: Status::parse(&status).ok_or_else(|| strange("a hunt's status", &status))?,
            events: row.get(21)?,
            view: row.get(22)?,
            first_event_at: time(row, 23)?,
            last_event_at: time(row, 24)?,
            watermark: watermark(row, 25)?,
            updated_at: read_time(&row.get::<_, String>(26)?)?,
            partials: vec![partial],
        });
    }
    Ok(found)
}

/// A watermark may lie before 1970 or after what an event time may be, where RFC 3339 text still orders but does not parse as an
/// event's; it becomes the nearest bound.
pub(super) fn watermark(row: &Row<'_>, column: usize) -> Result<Option<Micros>> {
    let Some(text) = row.get::<_, Option<String>>(column)? else { return Ok(None) };
    let bound = if text.as_str() < "1970" { Micros(-1) } else { Micros(Micros::MAX.0 + 1) };
    Ok(Some(Micros::parse_rfc3339(text.as_bytes()).unwrap_or(bound)))
}

pub(super) fn partitions(connection: &mut Connection) -> Result<Vec<PartitionLine>> {
    let mut read = connection.prepare_cached(
        "SELECT topic, partition, position, epoch, owner, advertise, records, applied, duplicate, dead_lettered, ignored, held, late, updated_at,
                tripped
         FROM partitions ORDER BY topic, partition",
    )?;
    let mut rows = read.query([])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        lines.push(PartitionLine {
            partition: PartitionId::new(&row.get::<_, String>(0)?, row.get(1)?),
            position: row.get::<_, Option<i64>>(2)?.map(Position),
            epoch: Epoch(row.get(3)?),
            owner: owner(row, 4)?,
            counts: counts(row, 6)?,
            updated_at: read_time(&row.get::<_, String>(13)?)?,
            tripped: row.get(14)?,
        });
    }
    Ok(lines)
}

const LETTER: &str =
    r#"topic, partition, "offset", hunt_id, reason, detail, key, value, headers, record_at, failed_at, state, applied_at"#;

pub(super) fn dead_letters(connection: &mut Connection, filter: &LetterFilter) -> Result<Vec<DeadLetter>> {
    let mut sql = format!("SELECT {LETTER} FROM dead_letters WHERE 1");
    let mut parameters: Vec<&dyn ToSql> = Vec::new();
    for (column, wanted) in [("reason", &filter.reason), ("hunt_id", &filter.hunt), ("state", &filter.state)] {
        if let Some(wanted) = wanted {
            sql += &format!(" AND {column} = ?");
            parameters.push(wanted);
        }
    }
    let after = filter.after.as_ref().map(|(partition, offset)| (&*partition.topic, partition.partition, offset.0));
    if let Some((topic, partition, offset)) = &after {
        sql += r#" AND (topic, partition, "offset") > (?, ?, ?)"#;
        parameters.extend([topic as &dyn ToSql, partition, offset]);
    }
    sql += r#" ORDER BY topic, partition, "offset" LIMIT ?"#;
    parameters.push(&filter.limit);
    let mut read = connection.prepare_cached(&sql)?;
    let mut rows = read.query(params_from_iter(parameters))?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        letters.push(letter(row)?);
    }
    Ok(letters)
}

pub(super) fn dead_letter(connection: &mut Connection, partition: &PartitionId, offset: Offset) -> Result<Option<DeadLetter>> {
    let sql = format!(r#"SELECT {LETTER} FROM dead_letters WHERE topic = ? AND partition = ? AND "offset" = ?"#);
    let mut read = connection.prepare_cached(&sql)?;
    let mut rows = read.query(params![&*partition.topic, partition.partition, offset.0])?;
    rows.next()?.map(letter).transpose()
}

fn letter(row: &Row<'_>) -> Result<DeadLetter> {
    let (reason, state): (String, String) = (row.get(4)?, row.get(11)?);
    Ok(DeadLetter {
        partition: PartitionId::new(&row.get::<_, String>(0)?, row.get(1)?),
        offset: Offset(row.get(2)?),
        hunt_id: row.get(3)?,
        reason: Reason::ALL
            .into_iter()
            .find(|known| known.as_str() == reason)
            .ok_or_else(|| strange("a dead letter's reason", &reason))?,
        detail: row.get(5)?,
        key: row.get(6)?,
        value: row.get(7)?,
        headers: headers::read(&row.get::<_, String>(8)?).map_err(Error::Fatal)?,
        record_at: time(row, 9)?,
        failed_at: read_time(&row.get::<_, String>(10)?)?,
        state: LetterState::parse(&state).ok_or_else(|| strange("a dead letter's state", &state))?,
        applied_at: row.get::<_, Option<i64>>(12)?.map(Position),
    })
}

fn strange(what: &str, found: &str) -> Error {
    Error::Fatal(format!("{what} in the store is {found:?}, which this huntline does not know"))
}

fn time(row: &Row<'_>, column: usize) -> Result<Option<Micros>> {
    row.get::<_, Option<String>>(column)?.map(|text| read_time(&text)).transpose()
}

/// The columns `records` to `late`, in the order of [`Counts`], from `first` on.
pub(super) fn counts(row: &Row<'_>, first: usize) -> rusqlite::Result<Counts> {
    let at = |n: usize| row.get::<_, i64>(first + n);
    Ok(Counts {
        records: at(0)?,
        applied: at(1)?,
        duplicate: at(2)?,
        dead_lettered: at(3)?,
        ignored: at(4)?,
        held: at(5)?,
        late: at(6)?,
    })
}

pub(super) fn micros(row: &Row<'_>, column: usize) -> Result<Option<Micros>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Micros))
}

/// The owner in `column` and where it may be asked in the next.
fn owner(row: &Row<'_>, column: usize) -> Result<Option<Owner>> {
    let id: Option<String> = row.get(column)?;
    let advertise: Option<String> = row.get(column + 1)?;
    Ok(id.map(|id| Owner { id, advertise: advertise.unwrap_or_default() }))
}
