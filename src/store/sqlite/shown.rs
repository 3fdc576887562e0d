//! What readers are **shown**, page by page.
//!
//! Invariant: a page is one read transaction, and ends with the hunt that fills it.

use super::super::shown::{BYTES, Gathered, ShownPage, ShownPartial, ShownRow, Stood};
use super::super::{Lag, LagReasons};
use super::read::{micros, watermark};
use super::{Fault, read_time};
use crate::position::Position;
use crate::record::PartitionId;
use rusqlite::{Connection, Params, Row, Transaction, params};

type Result<T> = std::result::Result<T, Fault>;

/// At most `limit` hunts after `after`.
pub(super) fn page(connection: &mut Connection, after: Option<&str>, limit: u32) -> Result<ShownPage> {
    let transaction = connection.transaction()?;
    let after = after.unwrap_or_default();
    let mut gathered = Gathered::default();
    let room = Some(Room { hunts: limit, bytes: BYTES });
    let next = partials(&transaction, &mut gathered, "hunt_id > ?1", params![after], room)?;
    match &next {
        Some(last) => hunts(&transaction, &mut gathered, "hunt_id > ?1 AND hunt_id <= ?2", params![after, last])?,
        None => hunts(&transaction, &mut gathered, "hunt_id > ?1", params![after])?,
    }
    Ok(ShownPage { generations: generations(&transaction)?, hunts: gathered.finish(), next })
}

/// One hunt alone.
pub(super) fn hunt(connection: &mut Connection, hunt: &str) -> Result<ShownPage> {
    let transaction = connection.transaction()?;
    let mut gathered = Gathered::default();
    partials(&transaction, &mut gathered, "hunt_id = ?1", params![hunt], None)?;
    hunts(&transaction, &mut gathered, "hunt_id = ?1", params![hunt])?;
    Ok(ShownPage { generations: generations(&transaction)?, hunts: gathered.finish(), next: None })
}

fn generations(transaction: &Transaction<'_>) -> Result<usize> {
    let count: i64 = transaction.prepare_cached("SELECT count(*) FROM definitions")?.query_row([], |row| row.get(0))?;
    Ok(count as usize)
}

/// What a page may hold.
struct Room {
    hunts: u32,
    bytes: usize,
}

/// Gathers partials in the order of their hunts until there is no more room; then gives the last hunt that is whole.
fn partials(
    transaction: &Transaction<'_>,
    gathered: &mut Gathered,
    clause: &str,
    parameters: impl Params,
    room: Option<Room>,
) -> Result<Option<String>> {
    let mut read = transaction.prepare_cached(&format!(
        "SELECT p.hunt_id, p.topic, p.partition, p.state, p.view, p.events, p.first_event_at, p.last_event_at, p.hunt_clock,
           p.partition_clock, p.watermark_floor, p.lagging, p.position, p.clock, p.held, p.reasons, q.clock
         FROM partials p CROSS JOIN partitions q ON q.topic = p.topic AND q.partition = p.partition
         WHERE p.{clause} ORDER BY p.hunt_id, p.topic, p.partition"
    ))?;
    let mut rows = read.query(parameters)?;
    let (mut last, mut hunts, mut bytes) = (String::new(), 0, 0);
    while let Some(row) = rows.next()? {
        let hunt = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        if hunt != last {
            if room.as_ref().is_some_and(|room| hunts >= room.hunts || bytes >= room.bytes) {
                return Ok(Some(last));
            }
            hunts += 1;
            hunt.clone_into(&mut last);
        }
        let lag = match row.get(11)? {
            false => None,
            true => Some(Lag {
                position: Position(row.get::<_, Option<i64>>(12)?.unwrap_or_default()),
                clock: micros(row, 13)?,
                held: row.get(14)?,
                reasons: LagReasons::from_bits(row.get(15)?),
            }),
        };
        let partial = ShownPartial {
            partition: PartitionId::new(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?, row.get(2)?),
            state: row.get(3)?,
            view: row.get(4)?,
            events: row.get(5)?,
            first_event_at: stood(row, 6)?,
            last_event_at: stood(row, 7)?,
            hunt_clock: micros(row, 8)?,
            partition_clock: micros(row, 9)?,
            watermark_floor: micros(row, 10)?,
            lag,
            clock: micros(row, 16)?,
        };
        bytes += partial.state.as_ref().map_or(0, Vec::len) + partial.view.as_ref().map_or(0, String::len);
        gathered.of(hunt).partials.push(partial);
    }
    Ok(None)
}

fn hunts(transaction: &Transaction<'_>, gathered: &mut Gathered, clause: &str, parameters: impl Params) -> Result<()> {
    let mut read = transaction.prepare_cached(&format!(
        "SELECT hunt_id, view, events, status, first_event_at, last_event_at, watermark FROM hunts WHERE {clause}"
    ))?;
    let mut rows = read.query(parameters)?;
    while let Some(row) = rows.next()? {
        let shown = ShownRow {
            view: row.get(1)?,
            events: row.get(2)?,
            status: row.get(3)?,
            first_event_at: stood(row, 4)?,
            last_event_at: stood(row, 5)?,
            watermark: watermark(row, 6)?,
        };
        gathered.of(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?).rows.push(shown);
    }
    Ok(())
}

pub(super) fn stood(row: &Row<'_>, column: usize) -> Result<Stood> {
    let text: Option<String> = row.get(column)?;
    Ok(text.map(|text| read_time(&text).map_err(|_| text)).transpose())
}
