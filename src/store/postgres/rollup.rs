//! The relation **`rollup`**, brought up to date as the last step of a checkpoint that carries its partition's share.
//!
//! Invariant: the shares are read after the store's one row of `identity` is locked, in a statement of their own, so that of two
//! owners the second sees what the first committed. It is the last lock of the transaction: whoever holds it waits for nobody.

use super::super::RollupLine;
use super::super::rollup::Refusals;
use super::commit::Commit;
use super::connect::Session;
use super::fault::Fault;
use super::instant::Instant;
use crate::time::Micros;

pub(super) async fn read(session: &mut Session) -> Result<Vec<RollupLine>, Fault> {
    let read = session
        .prepare("SELECT aggregate, coalesce(value::text, 'null'), updated_at FROM huntline.rollup ORDER BY aggregate")
        .await?;
    let rows = session.client.query(&read, &[]).await?;
    let line = |row: &tokio_postgres::Row| RollupLine {
        aggregate: row.get(0),
        value: row.get(1),
        updated_at: row.get::<_, Instant>(2).0,
    };
    Ok(rows.iter().map(line).collect())
}

impl Commit<'_> {
    /// After the partition's own share is written.
    pub(super) async fn write_rollup(&self, session: &mut Session) -> Result<(), Fault> {
        if self.checkpoint.rollup.is_none() {
            return Ok(());
        }
        let lock = session.prepare("SELECT 1 FROM huntline.identity FOR UPDATE").await?;
        let read =
            session.prepare("SELECT rollup FROM huntline.partitions WHERE rollup IS NOT NULL ORDER BY topic, partition").await?;
        session.client.query(&lock, &[]).await?;
        let rows = session.client.query(&read, &[]).await?;
        let shares: Vec<Vec<u8>> = rows.iter().map(|row| row.get(0)).collect();
        let values = match (self.merge.rollup)(&shares) {
            Ok(values) => values,
            Err(why) => {
                self.refusals.unmerged(&why);
                return Ok(());
            }
        };
        self.refusals.merged();
        write_values(session, &values, self.checkpoint.at, self.refusals).await
    }
}

/// Makes these the rows of the relation; what is refused stays as it was.
pub(super) async fn write_values(
    session: &mut Session,
    values: &[(String, String)],
    at: Micros,
    refusals: &Refusals,
) -> Result<(), Fault> {
    if try_values(session, values, at, refusals).await?.is_some() {
        // Each is tried alone, so that only those at fault stay as they were.
        for value in values {
            if let Some(words) = try_values(session, std::slice::from_ref(value), at, refusals).await? {
                refusals.refused(&value.0, &words);
            }
        }
    }
    let forget = session.prepare("DELETE FROM huntline.rollup WHERE aggregate <> ALL($1)").await?;
    let names: Vec<&str> = values.iter().map(|(aggregate, _)| aggregate.as_str()).collect();
    session.client.execute(&forget, &[&names]).await?;
    Ok(())
}

/// Writes all of these or none; gives the words of a refusal.
async fn try_values(
    session: &mut Session,
    values: &[(String, String)],
    at: Micros,
    refusals: &Refusals,
) -> Result<Option<String>, Fault> {
    let write = session
        .prepare(
            "INSERT INTO huntline.rollup (aggregate, value, updated_at)
             SELECT v.aggregate, v.value::jsonb, $3 FROM unnest($1::text[], $2::text[]) AS v(aggregate, value)
             ON CONFLICT (aggregate) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        )
        .await?;
    let aggregates: Vec<&str> = values.iter().map(|(aggregate, _)| aggregate.as_str()).collect();
    let texts: Vec<&str> = values.iter().map(|(_, value)| value.as_str()).collect();
    session.client.batch_execute("SAVEPOINT rollup").await?;
    match session.client.execute(&write, &[&aggregates, &texts, &Instant(at)]).await {
        Ok(_) => {
            session.client.batch_execute("RELEASE SAVEPOINT rollup").await?;
            aggregates.iter().for_each(|aggregate| refusals.taken(aggregate));
            Ok(None)
        }
        Err(error) => {
            let fault = Fault::from(error);
            let Some(words) = fault.of_a_row() else { return Err(fault) };
            session.client.batch_execute("ROLLBACK TO SAVEPOINT rollup; RELEASE SAVEPOINT rollup").await?;
            Ok(Some(words))
        }
    }
}
