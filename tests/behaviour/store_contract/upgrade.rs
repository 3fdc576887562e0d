//! A store as its first version left it, upgraded: what stood in it stands, and what is new works.

use super::{fixture::*, owner};
use crate::harness::postgres::shared;
use huntline::position::{Epoch, Position};
use huntline::record::PartitionId;
use huntline::store::{Act, Ask, Store, Target};
use huntline::time::Micros;
use std::sync::Arc;

const POSTGRES: &str = include_str!("../../../src/store/migrations/postgres/0001_store.sql");
const SQLITE: &str = include_str!("../../../src/store/migrations/sqlite/0001_store.sql");

/// Rows of the first version, with the schema's name before each relation.
fn rows(schema: &str) -> String {
    let at = "'2024-01-01T00:00:00.000000Z'";
    format!(
        "INSERT INTO {schema}identity (cluster, \"group\", definitions, idle, lateness, empty_view) VALUES ('c1', 'g1', 'd1', NULL, 0, '{{}}');
         INSERT INTO {schema}partitions (topic, partition, position, epoch, owner, checkpoint, records, applied, updated_at)
           VALUES ('a', 0, 10, 3, 'old', 7, 10, 10, {at});
         INSERT INTO {schema}acts (topic, partition, act, asked_at) VALUES ('a', 0, 'park', {at});
         INSERT INTO {schema}acts (topic, partition, act, asked_at, done_at, result) VALUES ('a', 0, 'resume', {at}, {at}, 'done');"
    )
}

#[tokio::test]
async fn a_postgres_store_of_the_first_version_is_upgraded() {
    let url = shared().create_database();
    let made = "CREATE SCHEMA huntline; CREATE TABLE huntline.migrations (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());
                INSERT INTO huntline.migrations VALUES (1);";
    shared().query(&url, &format!("{made} {POSTGRES}; {}", rows("huntline.")));
    upgraded(Target::Postgres { url, password: None }).await;
}

#[tokio::test]
async fn a_sqlite_store_of_the_first_version_is_upgraded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(&format!("{SQLITE}; {} PRAGMA user_version = 1", rows(""))).unwrap();
    drop(connection);
    upgraded(Target::Sqlite { path }).await;
}

async fn upgraded(target: Target) {
    let before = Store::schema_version(&target).await.unwrap();
    assert_eq!(before.found, 1);
    let store = Store::open(&target, true).await.unwrap();
    assert!(Store::schema_version(&target).await.unwrap().is_current());
    bind(&store).await;
    let claimed = store.claim(&a0(), &owner("new")).await.unwrap();
    assert_eq!((claimed.epoch, claimed.checkpoint, claimed.position), (Epoch(4), 7, Some(Position(10))));
    assert_eq!((claimed.counts.records, claimed.rollup.as_deref(), claimed.tripped.as_deref()), (10, None, None));
    let open = store.open_acts(&a0()).await.unwrap();
    assert_eq!(open.iter().map(|open| (open.id, open.act)).collect::<Vec<_>>(), [(1, Act::Park)]);
    assert_eq!(store.act_done(2).await.unwrap().as_deref(), Some("done"));
    let partition = Some(PartitionId::new("a", 0));
    let reset = Ask { act: Act::Reset, partition, hunt: None, offset: None, by: None, at: Micros(0) };
    assert_eq!(store.ask(&reset).await.unwrap(), 3);
    let mut commit = checkpoint(&a0(), &claimed, "new");
    commit.rollup = Some(b"1".to_vec());
    commit.partials = vec![snapshot("h", 7)];
    assert_eq!(Store::format(&target).await.unwrap(), None);
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    assert_eq!(Store::format(&target).await.unwrap(), Some(b'7'));
    assert_eq!(json(&store.rollup().await.unwrap()[0].value), json("[1]"));
}
