//! The **schema**: its migrations, each applied once and in order, and what the store is bound to.

use super::super::handle::{Binding, Bound, SchemaVersion};
use super::super::{Result, SummaryColumn};
use super::{Fault, fault, now, summary};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/sqlite/0001_store.sql"),
    include_str!("../migrations/sqlite/0002_rollup.sql"),
    include_str!("../migrations/sqlite/0003_definitions.sql"),
    include_str!("../migrations/sqlite/0004_saved.sql"),
];
pub(super) const KNOWN: i32 = MIGRATIONS.len() as i32;

pub(super) fn version(connection: &Connection) -> rusqlite::Result<SchemaVersion> {
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(SchemaVersion { found, known: KNOWN })
}

/// Several may migrate at once: the write lock is waited for, and the version read under it.
pub(super) fn migrate(connection: &mut Connection, place: &str) -> Result<SchemaVersion> {
    let found = apply(connection).map_err(|e| fault(place, &e))?;
    if found.found > found.known {
        found.check(place)?;
    }
    Ok(found)
}

fn apply(connection: &mut Connection) -> rusqlite::Result<SchemaVersion> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version(&transaction)?;
    if found.found < found.known {
        for sql in MIGRATIONS.iter().skip(found.found.max(0) as usize) {
            transaction.execute_batch(sql)?;
        }
        transaction.pragma_update(None, "user_version", KNOWN)?;
    }
    transaction.commit()?;
    Ok(found)
}

pub(super) fn bind(connection: &mut Connection, binding: &Binding) -> std::result::Result<(), Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let topics = match bound(&transaction)? {
        Some(bound) => binding.compare(&bound)?,
        None => {
            let identity = &binding.identity;
            transaction.execute(
                r#"INSERT INTO identity (cluster, "group", definitions, idle, lateness, empty_view) VALUES (?, ?, ?, ?, ?, ?)"#,
                params![
                    identity.cluster,
                    identity.group,
                    identity.definitions,
                    binding.idle,
                    binding.lateness,
                    binding.empty_view
                ],
            )?;
            transaction.execute(
                "INSERT INTO definitions (number, definitions, recorded_at) VALUES (1, ?, ?)",
                params![identity.definitions, now()],
            )?;
            identity.topics.clone()
        }
    };
    for (topic, id) in topics {
        transaction.execute(
            "INSERT INTO topics (topic, topic_id) VALUES (?, ?) ON CONFLICT (topic) DO UPDATE SET topic_id = excluded.topic_id",
            params![topic, id],
        )?;
    }
    summary::renew(&transaction, &binding.summary)?;
    Ok(transaction.commit()?)
}

/// Makes `hunt_summary` as binding would, unless the store is bound to other definitions.
pub(super) fn summarise(connection: &mut Connection, definitions: &str, columns: &[SummaryColumn]) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let ours = bound(&transaction)?.is_none_or(|bound| bound.definitions == definitions);
    if ours {
        summary::renew(&transaction, columns)?;
    }
    transaction.commit()?;
    Ok(ours)
}

fn bound(transaction: &Transaction<'_>) -> rusqlite::Result<Option<Bound>> {
    let row = transaction
        .query_row(r#"SELECT cluster, "group", definitions FROM identity"#, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((cluster, group, definitions)) = row else { return Ok(None) };
    let mut topics = transaction.prepare("SELECT topic, topic_id FROM topics ORDER BY topic")?;
    let topics = topics.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    Ok(Some(Bound { cluster, group, definitions, topics }))
}
