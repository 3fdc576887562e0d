//! Operators' **acts** as rows: asked, looked for by the owner of their partition, and done with its checkpoint.

use super::super::{Act, Ask, Checkpoint, Error, OpenAct};
use super::commit::Commit;
use super::connect::Session;
use super::fault::Fault;
use super::instant::Instant;
use super::letters::without_nul;
use crate::position::Offset;
use crate::record::PartitionId;
use tokio_postgres::types::ToSql;

pub(super) async fn ask(session: &mut Session, ask: Ask) -> Result<i64, Fault> {
    let write = session
        .prepare(
            r#"INSERT INTO huntline.acts (topic, partition, hunt_id, "offset", act, "by", asked_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
               RETURNING id"#,
        )
        .await?;
    let parameters: [&(dyn ToSql + Sync); 7] = [
        &ask.partition.as_ref().map(|partition| &*partition.topic),
        &ask.partition.as_ref().map(|partition| partition.partition),
        &ask.hunt,
        &ask.offset.map(|offset| offset.0),
        &ask.act.as_str(),
        &ask.by.as_deref().map(without_nul),
        &Instant(ask.at),
    ];
    Ok(session.client.query_one(&write, &parameters).await?.get(0))
}

pub(super) async fn open(session: &mut Session, partition: PartitionId) -> Result<Vec<OpenAct>, Fault> {
    let read = session
        .prepare(
            r#"SELECT id, act, hunt_id, "offset", "by", asked_at FROM huntline.acts
               WHERE topic = $1 AND partition = $2 AND done_at IS NULL ORDER BY id"#,
        )
        .await?;
    let rows = session.client.query(&read, &[&&*partition.topic, &partition.partition]).await?;
    let open = rows.iter().map(|row| {
        let act: &str = row.get(1);
        Ok(OpenAct {
            id: row.get(0),
            act: Act::parse(act).ok_or_else(|| strange(act))?,
            hunt: row.get(2),
            offset: row.get::<_, Option<i64>>(3).map(Offset),
            by: row.get(4),
            asked_at: row.get::<_, Instant>(5).0,
        })
    });
    open.collect()
}

fn strange(act: &str) -> Error {
    Error::Fatal(format!("an act in the store is {act:?}, which this huntline does not know"))
}

pub(super) async fn done(session: &mut Session, id: i64) -> Result<Option<String>, Fault> {
    let read = session.prepare("SELECT coalesce(result, '') FROM huntline.acts WHERE id = $1 AND done_at IS NOT NULL").await?;
    Ok(session.client.query_opt(&read, &[&id]).await?.map(|row| row.get(0)))
}

pub(super) async fn settled(session: &mut Session, partition: PartitionId, offsets: Vec<Offset>) -> Result<Vec<Offset>, Fault> {
    let read = session
        .prepare(
            r#"SELECT DISTINCT "offset" FROM huntline.acts WHERE topic = $1 AND partition = $2 AND "offset" = ANY($3)
               AND act IN ('replay', 'discard') AND done_at IS NOT NULL ORDER BY "offset""#,
        )
        .await?;
    let offsets: Vec<i64> = offsets.iter().map(|offset| offset.0).collect();
    let rows = session.client.query(&read, &[&&*partition.topic, &partition.partition, &offsets]).await?;
    Ok(rows.iter().map(|row| Offset(row.get(0))).collect())
}

impl Commit<'_> {
    /// An act that was done before keeps what it says.
    pub(super) async fn write_acts(&self, session: &mut Session) -> Result<(), Fault> {
        let Checkpoint { partition, position, acts, at, .. } = self.checkpoint;
        if acts.is_empty() {
            return Ok(());
        }
        let write = session
            .prepare(
                "UPDATE huntline.acts AS a SET position = $3, done_at = $4, result = v.result
                 FROM unnest($5::bigint[], $6::text[]) AS v(id, result)
                 WHERE a.id = v.id AND a.topic = $1 AND a.partition = $2 AND a.done_at IS NULL",
            )
            .await?;
        let ids: Vec<i64> = acts.iter().map(|act| act.id).collect();
        let results: Vec<String> = acts.iter().map(|act| without_nul(&act.result)).collect();
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&&*partition.topic, &partition.partition, &position.0, &Instant(*at), &ids, &results];
        session.client.execute(&write, &parameters).await?;
        Ok(())
    }
}
