//! What a checkpoint writes beside partials: **dead letters** and gaps.
//!
//! Invariant: text that Postgres would refuse never reaches it, so that nothing here can hold up a checkpoint.

use super::super::{Checkpoint, headers};
use super::commit::Commit;
use super::connect::Session;
use super::fault::Fault;
use super::instant::Instant;
use super::partials::{CHUNK_BYTES, CHUNK_ROWS};
use tokio_postgres::types::ToSql;

impl Commit<'_> {
    pub(super) async fn write_dead_letters(&self, session: &mut Session) -> Result<(), Fault> {
        if self.checkpoint.dead_letters.is_empty() {
            return Ok(());
        }
        let write = session
            .prepare(
                r#"INSERT INTO huntline.dead_letters (topic, partition, "offset", hunt_id, reason, detail, key, value, headers, record_at, failed_at, state, applied_at)
                   SELECT $1, $2, v."offset", v.hunt_id, v.reason, v.detail, v.key, v.value, v.headers::jsonb, v.record_at, v.failed_at, v.state, v.applied_at
                   FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::bytea[], $9::text[], $10::timestamptz[], $11::timestamptz[],
                     $12::text[], $13::bigint[])
                     AS v("offset", hunt_id, reason, detail, key, value, headers, record_at, failed_at, state, applied_at)
                   ON CONFLICT (topic, partition, "offset") DO NOTHING"#,
            )
            .await?;
        let partition = &self.checkpoint.partition;
        let mut rest = self.checkpoint.dead_letters.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fit = rest.iter().take(CHUNK_ROWS).take_while(|letter| {
                bytes += letter.value.as_ref().map_or(0, Vec::len) + letter.key.as_ref().map_or(0, Vec::len);
                bytes <= CHUNK_BYTES
            });
            let (letters, after) = rest.split_at(fit.count().max(1));
            rest = after;
            let offsets: Vec<i64> = letters.iter().map(|letter| letter.offset.0).collect();
            let hunts: Vec<Option<&str>> = letters.iter().map(|letter| letter.hunt_id.as_deref()).collect();
            let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
            let details: Vec<String> = letters.iter().map(|letter| without_nul(&letter.detail)).collect();
            let keys: Vec<Option<&[u8]>> = letters.iter().map(|letter| letter.key.as_deref()).collect();
            let values: Vec<Option<&[u8]>> = letters.iter().map(|letter| letter.value.as_deref()).collect();
            let header_texts: Vec<String> = letters.iter().map(|letter| headers::write(&letter.headers)).collect();
            let recorded: Vec<Option<Instant>> = letters.iter().map(|letter| letter.record_at.map(Instant)).collect();
            let failed: Vec<Instant> = letters.iter().map(|letter| Instant(letter.failed_at)).collect();
            let states: Vec<&str> = letters.iter().map(|letter| letter.state.as_str()).collect();
            let applied: Vec<Option<i64>> = letters.iter().map(|letter| letter.applied_at.map(|position| position.0)).collect();
            let parameters: [&(dyn ToSql + Sync); 13] = [
                &&*partition.topic,
                &partition.partition,
                &offsets,
                &hunts,
                &reasons,
                &details,
                &keys,
                &values,
                &header_texts,
                &recorded,
                &failed,
                &states,
                &applied,
            ];
            session.client.execute(&write, &parameters).await?;
        }
        Ok(())
    }

    pub(super) async fn write_gaps(&self, session: &mut Session) -> Result<(), Fault> {
        let Checkpoint { partition, gaps, .. } = self.checkpoint;
        if gaps.is_empty() {
            return Ok(());
        }
        let extend = session
            .prepare(
                "UPDATE huntline.gaps SET to_offset = greatest(to_offset, $5)
                 WHERE topic = $1 AND partition = $2 AND hunt_id IS NOT DISTINCT FROM $3 AND from_offset = $4",
            )
            .await?;
        let write = session
            .prepare(
                "INSERT INTO huntline.gaps (topic, partition, hunt_id, from_offset, to_offset, reason, found_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .await?;
        for gap in gaps {
            let known = session
                .client
                .execute(&extend, &[&&*partition.topic, &partition.partition, &gap.hunt_id, &gap.from.0, &gap.to.0])
                .await?;
            if known > 0 {
                continue;
            }
            let parameters: [&(dyn ToSql + Sync); 7] = [
                &&*partition.topic,
                &partition.partition,
                &gap.hunt_id,
                &gap.from.0,
                &gap.to.0,
                &without_nul(&gap.reason),
                &Instant(gap.found_at),
            ];
            session.client.execute(&write, &parameters).await?;
        }
        Ok(())
    }
}

/// Postgres keeps no U+0000 in text.
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
