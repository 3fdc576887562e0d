//! What readers are **shown**, page by page.
//!
//! Invariant: a page is one short REPEATABLE READ transaction that writes nothing. Its end is found by the sizes of what it would hold,
//! which cost no reading of what is large; and it costs a page, whatever the planner believes of the tables.

use super::super::shown::{BYTES, Gathered, ShownPage, ShownPartial, ShownRow};
use super::super::{Lag, LagReasons};
use super::audit::begin;
use super::connect::Session;
use super::fault::Fault;
use super::read::{instant, micros};
use crate::position::Position;
use crate::record::PartitionId;
use tokio_postgres::types::ToSql;

/// Where statistics are old it would go through the whole table for each page, and compile what runs for a few milliseconds.
const PLAN: &str = "SET LOCAL enable_sort = off; SET LOCAL enable_hashagg = off; SET LOCAL jit = off";

/// At most `limit` hunts after `after`.
pub(super) async fn page(session: &mut Session, after: Option<String>, limit: u32) -> Result<ShownPage, Fault> {
    begin(session).await?;
    session.client.batch_execute(PLAN).await?;
    let after = after.unwrap_or_default();
    let sizes = session
        .prepare(
            "SELECT hunt_id, sum(coalesce(octet_length(state), 0) + coalesce(pg_column_size(view), 0))::bigint
             FROM huntline.partials WHERE hunt_id > $1 GROUP BY hunt_id ORDER BY hunt_id LIMIT $2",
        )
        .await?;
    let rows = session.client.query(&sizes, &[&after, &i64::from(limit)]).await?;
    let mut bytes = 0;
    let fit = rows.iter().take_while(|row| {
        let before = bytes;
        bytes += row.get::<_, i64>(1) as usize;
        before < BYTES
    });
    let fit = fit.count();
    let whole = fit == rows.len() && rows.len() < limit as usize;
    let next: Option<String> = fit.checked_sub(1).filter(|_| !whole).map(|last| rows[last].get(0));
    let page = match &next {
        Some(last) => read(session, "hunt_id > $1 AND hunt_id <= $2", &[&after, last]).await?,
        None => read(session, "hunt_id > $1", &[&after]).await?,
    };
    Ok(ShownPage { next, ..page })
}

/// One hunt alone.
pub(super) async fn hunt(session: &mut Session, hunt: String) -> Result<ShownPage, Fault> {
    begin(session).await?;
    read(session, "hunt_id = $1", &[&hunt]).await
}

/// The hunts of which `clause` holds; ends the transaction. It is asked of each relation by itself, where an index answers it.
async fn read(session: &mut Session, clause: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<ShownPage, Fault> {
    let client = &session.client;
    let generations: i64 = client.query_one("SELECT count(*) FROM huntline.definitions", &[]).await?.get(0);
    let mut gathered = Gathered::default();
    let partials = format!(
        "SELECT p.hunt_id, p.topic, p.partition, p.state, p.view::text, p.events, p.first_event_at, p.last_event_at, p.hunt_clock,
           p.partition_clock, p.watermark_floor, p.lagging, p.position, p.clock, p.held, p.reasons, q.clock
         FROM huntline.partials p JOIN huntline.partitions q ON q.topic = p.topic AND q.partition = p.partition
         WHERE p.{clause}"
    );
    for row in client.query(&partials, parameters).await? {
        let lagging: bool = row.get(11);
        gathered.of(row.get(0)).partials.push(ShownPartial {
            partition: PartitionId::new(row.get(1), row.get(2)),
            state: row.get(3),
            view: row.get(4),
            events: row.get(5),
            first_event_at: Ok(instant(&row, 6)),
            last_event_at: Ok(instant(&row, 7)),
            hunt_clock: micros(&row, 8),
            partition_clock: micros(&row, 9),
            watermark_floor: micros(&row, 10),
            lag: lagging.then(|| Lag {
                position: Position(row.get::<_, Option<i64>>(12).unwrap_or_default()),
                clock: micros(&row, 13),
                held: row.get(14),
                reasons: LagReasons::from_bits(row.get(15)),
            }),
            clock: micros(&row, 16),
        });
    }
    // Comparing a view with the partial's it was made of takes a fraction of what writing it as text once more does. (OFFSET: once.)
    let hunts = format!(
        "SELECT hunt_id, CASE WHEN own THEN NULL ELSE view::text END, events, status, first_event_at, last_event_at, watermark, own
         FROM (SELECT h.*, (SELECT p.view = h.view FROM huntline.partials p WHERE p.hunt_id = h.hunt_id AND NOT p.shared LIMIT 1) AS own
               FROM huntline.hunts h WHERE h.{clause} OFFSET 0) AS shown"
    );
    for row in client.query(&hunts, parameters).await? {
        let hunt = gathered.of(row.get(0));
        let own = row.get::<_, Option<bool>>(7) == Some(true);
        hunt.rows.push(ShownRow {
            view: if own { hunt.partials.first().and_then(|partial| partial.view.clone()) } else { row.get(1) },
            events: row.get(2),
            status: row.get(3),
            first_event_at: Ok(instant(&row, 4)),
            last_event_at: Ok(instant(&row, 5)),
            watermark: instant(&row, 6),
        });
    }
    session.client.batch_execute("COMMIT").await?;
    Ok(ShownPage { generations: generations as usize, hunts: gathered.finish(), next: None })
}
