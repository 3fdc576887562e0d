//! The relation **`rollup`**, brought up to date as the last step of a checkpoint that carries its partition's share.

use super::super::handle::Merge;
use super::super::rollup::Refusals;
use super::super::{Checkpoint, RollupLine};
use super::{Fault, read_time, written};
use crate::time::Micros;
use rusqlite::{Connection, Transaction, params};

type Result<T> = std::result::Result<T, Fault>;

pub(super) fn read(connection: &mut Connection) -> Result<Vec<RollupLine>> {
    let mut read =
        connection.prepare_cached("SELECT aggregate, coalesce(value, 'null'), updated_at FROM rollup ORDER BY aggregate")?;
    let mut rows = read.query([])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        lines.push(RollupLine { aggregate: row.get(0)?, value: row.get(1)?, updated_at: read_time(&row.get::<_, String>(2)?)? });
    }
    Ok(lines)
}

/// After the partition's own share is written.
pub(super) fn write(transaction: &Transaction<'_>, checkpoint: &Checkpoint, merge: &Merge, refusals: &Refusals) -> Result<()> {
    if checkpoint.rollup.is_none() {
        return Ok(());
    }
    let shares: Vec<Vec<u8>> = transaction
        .prepare_cached("SELECT rollup FROM partitions WHERE rollup IS NOT NULL ORDER BY topic, partition")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let values = match (merge.rollup)(&shares) {
        Ok(values) => values,
        Err(why) => {
            refusals.unmerged(&why);
            return Ok(());
        }
    };
    refusals.merged();
    write_values(transaction, &values, checkpoint.at, refusals)
}

/// Makes these the rows of the relation; what is refused stays as it was.
pub(super) fn write_values(
    transaction: &Transaction<'_>,
    values: &[(String, String)],
    at: Micros,
    refusals: &Refusals,
) -> Result<()> {
    let mut write = transaction.prepare_cached(
        "INSERT INTO rollup (aggregate, value, updated_at) VALUES (?, ?, ?)
         ON CONFLICT (aggregate) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
    )?;
    for (aggregate, value) in values {
        // A statement that is refused undoes itself alone.
        match write.execute(params![aggregate, value, written(at)]).map_err(Fault::from) {
            Ok(_) => refusals.taken(aggregate),
            Err(fault) => {
                let words = fault.of_a_row().ok_or(fault)?;
                refusals.refused(aggregate, &words);
            }
        }
    }
    let names: Vec<&str> = values.iter().map(|(aggregate, _)| aggregate.as_str()).collect();
    let names = serde_json::to_string(&names).expect("strings serialise");
    transaction.prepare_cached("DELETE FROM rollup WHERE aggregate NOT IN (SELECT value FROM json_each(?))")?.execute([names])?;
    Ok(())
}
