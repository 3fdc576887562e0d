//! Operators' **acts** as rows: asked, looked for by the owner of their partition, and done with its checkpoint.

use super::super::{Act, Ask, Checkpoint, Error, OpenAct};
use super::{Fault, read_time, written};
use crate::position::Offset;
use crate::record::PartitionId;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

type Result<T> = std::result::Result<T, Fault>;

pub(super) fn ask(connection: &mut Connection, ask: &Ask) -> Result<i64> {
    Ok(connection
        .prepare_cached(
            r#"INSERT INTO acts (topic, partition, hunt_id, "offset", act, "by", asked_at) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id"#,
        )?
        .query_row(
            params![
                ask.partition.as_ref().map(|partition| &*partition.topic),
                ask.partition.as_ref().map(|partition| partition.partition),
                ask.hunt,
                ask.offset.map(|offset| offset.0),
                ask.act.as_str(),
                ask.by,
                written(ask.at),
            ],
            |row| row.get(0),
        )?)
}

pub(super) fn open(connection: &mut Connection, partition: &PartitionId) -> Result<Vec<OpenAct>> {
    let mut read = connection.prepare_cached(
        r#"SELECT id, act, hunt_id, "offset", "by", asked_at FROM acts WHERE topic = ? AND partition = ? AND done_at IS NULL ORDER BY id"#,
    )?;
    let mut rows = read.query(params![&*partition.topic, partition.partition])?;
    let mut open = Vec::new();
    while let Some(row) = rows.next()? {
        let act: String = row.get(1)?;
        open.push(OpenAct {
            id: row.get(0)?,
            act: Act::parse(&act).ok_or_else(|| strange(&act))?,
            hunt: row.get(2)?,
            offset: row.get::<_, Option<i64>>(3)?.map(Offset),
            by: row.get(4)?,
            asked_at: read_time(&row.get::<_, String>(5)?)?,
        });
    }
    Ok(open)
}

fn strange(act: &str) -> Error {
    Error::Fatal(format!("an act in the store is {act:?}, which this huntline does not know"))
}

pub(super) fn done(connection: &mut Connection, id: i64) -> Result<Option<String>> {
    Ok(connection
        .prepare_cached("SELECT coalesce(result, '') FROM acts WHERE id = ? AND done_at IS NOT NULL")?
        .query_row([id], |row| row.get(0))
        .optional()?)
}

pub(super) fn settled(connection: &mut Connection, partition: &PartitionId, offsets: &[Offset]) -> Result<Vec<Offset>> {
    let offsets: Vec<i64> = offsets.iter().map(|offset| offset.0).collect();
    let offsets = serde_json::to_string(&offsets).expect("numbers serialise");
    let mut read = connection.prepare_cached(
        r#"SELECT DISTINCT "offset" FROM acts WHERE topic = ? AND partition = ? AND "offset" IN (SELECT value FROM json_each(?))
           AND act IN ('replay', 'discard') AND done_at IS NOT NULL ORDER BY "offset""#,
    )?;
    let rows = read.query_map(params![&*partition.topic, partition.partition, offsets], |row| Ok(Offset(row.get(0)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// An act that was done before keeps what it says.
pub(super) fn write_done(transaction: &Transaction<'_>, checkpoint: &Checkpoint) -> Result<()> {
    let Checkpoint { partition, position, acts, at, .. } = checkpoint;
    let mut write = transaction.prepare_cached(
        "UPDATE acts SET position = ?, done_at = ?, result = ? WHERE id = ? AND topic = ? AND partition = ? AND done_at IS NULL",
    )?;
    for act in acts {
        write.execute(params![position.0, written(*at), act.result, act.id, &*partition.topic, partition.partition])?;
    }
    Ok(())
}
