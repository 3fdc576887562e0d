//! The **schema**: its migrations, each applied once and in order, and what the store is bound to.
//!
//! Invariant: however many instances start at once, one migrates at a time, all of it in one transaction.

use super::super::handle::{Binding, Bound, SchemaVersion};
use super::super::{Error, SummaryColumn};
use super::connect::Session;
use super::fault::Fault;
use super::summary;
use std::time::Duration;

const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/postgres/0001_store.sql"),
    include_str!("../migrations/postgres/0002_rollup.sql"),
    include_str!("../migrations/postgres/0003_definitions.sql"),
    include_str!("../migrations/postgres/0004_saved.sql"),
    include_str!("../migrations/postgres/0005_compression.sql"),
];

/// The advisory lock that migrating, binding and whatever changes the definitions take: "huntline" as a number.
pub(super) const LOCK: i64 = 0x6875_6e74_6c69_6e65;

/// A schema may take long to upgrade, and the others wait for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

pub(super) async fn version(session: &mut Session) -> Result<SchemaVersion, Fault> {
    let known = MIGRATIONS.len() as i32;
    let row = session.client.query_one("SELECT to_regclass('huntline.migrations') IS NOT NULL", &[]).await?;
    if !row.get::<_, bool>(0) {
        return Ok(SchemaVersion { found: 0, known });
    }
    let row = session.client.query_one("SELECT coalesce(max(version), 0) FROM huntline.migrations", &[]).await?;
    Ok(SchemaVersion { found: row.get(0), known })
}

pub(super) async fn migrate(session: &mut Session, place: String) -> Result<SchemaVersion, Fault> {
    let found = version(session).await?;
    let encoding: String = session.client.query_one("SHOW server_encoding", &[]).await?.get(0);
    if encoding != "UTF8" {
        return Err(Error::Fatal(format!(
            "{place}: its encoding is {encoding}, huntline needs UTF8: create the database with it"
        ))
        .into());
    }
    if found.is_current() {
        writable(session).await?;
        return Ok(found);
    }
    if found.found > found.known {
        found.check(&place)?;
    }
    begin_long(session).await?;
    session.client.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    // IF NOT EXISTS would ask for the right to create schemas even where one stands.
    let schema = session.client.schema;
    if session.client.query("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1", &[&schema]).await?.is_empty() {
        session.client.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
    }
    let found = version(session).await?;
    if found.found == 0 {
        session
            .client
            .batch_execute(
                "CREATE TABLE huntline.migrations (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
            )
            .await?;
    }
    for (version, sql) in (1..).zip(MIGRATIONS).skip(found.found.max(0) as usize) {
        session.client.batch_execute(sql).await?;
        session.client.execute("INSERT INTO huntline.migrations (version) VALUES ($1)", &[&version]).await?;
    }
    session.client.batch_execute("COMMIT").await?;
    Ok(found)
}

/// Begins a transaction that may take long, and whose client may think between two statements for longer than others may.
pub(super) async fn begin_long(session: &mut Session) -> Result<(), Fault> {
    let patience = PATIENCE.as_millis();
    let limits = ["lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"];
    let limits: String = limits.iter().map(|limit| format!("; SET LOCAL {limit} = {patience}")).collect();
    Ok(session.client.batch_execute(&format!("BEGIN{limits}")).await?)
}

/// Asks for the right to write, so that a read-only database is known at the start.
async fn writable(session: &mut Session) -> Result<(), Fault> {
    Ok(session.client.batch_execute("BEGIN; UPDATE huntline.partitions SET epoch = epoch WHERE false; ROLLBACK").await?)
}

/// `place` is what an error of the summary names.
pub(super) async fn bind(session: &mut Session, binding: Binding, place: String) -> Result<(), Fault> {
    session.client.batch_execute("BEGIN").await?;
    session.client.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let topics = match bound(session).await? {
        Some(bound) => match binding.compare(&bound) {
            Ok(topics) => topics,
            Err(difference) => {
                session.client.batch_execute("ROLLBACK").await?;
                return Err(difference.into());
            }
        },
        None => {
            let identity = &binding.identity;
            session
                .client
                .execute(
                    r#"INSERT INTO huntline.identity (cluster, "group", definitions, idle, lateness, empty_view) VALUES ($1, $2, $3, $4, $5, $6::text::jsonb)"#,
                    &[&identity.cluster, &identity.group, &identity.definitions, &binding.idle, &binding.lateness, &binding.empty_view],
                )
                .await?;
            let first = "INSERT INTO huntline.definitions (number, definitions) VALUES (1, $1)";
            session.client.execute(first, &[&identity.definitions]).await?;
            identity.topics.clone()
        }
    };
    for (topic, id) in topics {
        session
            .client
            .execute(
                "INSERT INTO huntline.topics (topic, topic_id) VALUES ($1, $2) ON CONFLICT (topic) DO UPDATE SET topic_id = excluded.topic_id",
                &[&topic, &id],
            )
            .await?;
    }
    summary::renew(session, &binding.summary, &place).await?;
    session.client.batch_execute("COMMIT").await?;
    Ok(())
}

/// Makes `hunt_summary` as binding would, unless the store is bound to other definitions.
pub(super) async fn summarise(
    session: &mut Session,
    definitions: String,
    summary: Vec<SummaryColumn>,
    place: String,
) -> Result<bool, Fault> {
    session.client.batch_execute("BEGIN").await?;
    session.client.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let ours = bound(session).await?.is_none_or(|bound| bound.definitions == definitions);
    if ours {
        summary::renew(session, &summary, &place).await?;
    }
    session.client.batch_execute("COMMIT").await?;
    Ok(ours)
}

async fn bound(session: &mut Session) -> Result<Option<Bound>, Fault> {
    let Some(row) = session.client.query_opt(r#"SELECT cluster, "group", definitions FROM huntline.identity"#, &[]).await? else {
        return Ok(None);
    };
    let topics = session.client.query("SELECT topic, topic_id FROM huntline.topics ORDER BY topic", &[]).await?;
    Ok(Some(Bound {
        cluster: row.get(0),
        group: row.get(1),
        definitions: row.get(2),
        topics: topics.iter().map(|row| (row.get(0), row.get(1))).collect(),
    }))
}
