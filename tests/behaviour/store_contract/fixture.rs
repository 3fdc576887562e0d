//! A fresh store for one test, and the values that tests hand to it.

use crate::harness::postgres;
use huntline::outcome::Counts;
use huntline::position::Position;
use huntline::record::PartitionId;
use huntline::store::{Checkpoint, Claimed, Identity, Merge, Readers, Snapshot, Store, Target};
use huntline::time::Micros;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const MINUTE: i64 = 60_000_000;
pub const EMPTY_VIEW: &str = r#"{"n":0,"from":[]}"#;

pub struct Fixture {
    pub target: Target,
    pub store: Store,
    pub directory: Option<tempfile::TempDir>,
}

impl Fixture {
    pub async fn postgres() -> Self {
        let target = Target::Postgres { url: postgres::shared().create_database(), password: None };
        Self::open(target, None).await
    }

    pub async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let target = Target::Sqlite { path: directory.path().join("store.db") };
        Self::open(target, Some(directory)).await
    }

    async fn open(target: Target, directory: Option<tempfile::TempDir>) -> Self {
        let store = Store::open(&target, true).await.unwrap();
        bind(&store).await;
        Self { target, store, directory }
    }

    /// The store as another process has it; SQLite has but one.
    pub async fn another(&self) -> Store {
        match &self.target {
            Target::Postgres { .. } => Store::open(&self.target, false).await.unwrap(),
            Target::Sqlite { .. } => self.store.clone(),
        }
    }

    /// A place for a store that does not exist yet.
    pub async fn empty_target(&self) -> Target {
        match &self.directory {
            None => Target::Postgres { url: postgres::shared().create_database(), password: None },
            Some(directory) => Target::Sqlite { path: directory.path().join("empty.db") },
        }
    }

    /// The first column of what another program reads by `sql`, which names relations without a schema.
    pub fn ask(&self, sql: &str) -> Vec<Option<String>> {
        match &self.target {
            Target::Postgres { url, .. } => {
                let rows = postgres::shared().query(url, &format!("SET search_path = huntline; {sql}"));
                rows.into_iter().map(|mut row| row.swap_remove(0)).collect()
            }
            Target::Sqlite { path } => {
                let connection = rusqlite::Connection::open(path).unwrap();
                let mut read = connection.prepare(sql).unwrap();
                let text = |row: &rusqlite::Row<'_>| {
                    Ok(match row.get(0)? {
                        rusqlite::types::Value::Null => None,
                        rusqlite::types::Value::Integer(n) => Some(n.to_string()),
                        rusqlite::types::Value::Text(text) => Some(text),
                        other => panic!("{other:?}"),
                    })
                };
                read.query_map([], text).unwrap().collect::<Result<_, _>>().unwrap()
            }
        }
    }

    /// Does what another program would do to the relations, which `sql` names without a schema.
    pub fn alter(&self, sql: &str) {
        match &self.target {
            Target::Postgres { url, .. } => {
                postgres::shared().query(url, &format!("SET search_path = huntline; {sql}"));
            }
            Target::Sqlite { path } => rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap(),
        }
    }

    /// Rows of a relation, as another program sees them.
    pub async fn count(&self, relation: &str) -> i64 {
        match &self.target {
            Target::Postgres { url, .. } => {
                let rows = postgres::shared().query(url, &format!("SELECT count(*) FROM huntline.{relation}"));
                rows[0][0].as_ref().unwrap().parse().unwrap()
            }
            Target::Sqlite { path } => {
                let connection = rusqlite::Connection::open(path).unwrap();
                connection.query_row(&format!("SELECT count(*) FROM {relation}"), [], |row| row.get(0)).unwrap()
            }
        }
    }

    /// Rows of a relation as another program sees them, in text.
    pub async fn rows(&self, columns: &str, relation: &str, rest: &str) -> Vec<Vec<Option<String>>> {
        match &self.target {
            Target::Postgres { url, .. } => {
                postgres::shared().query(url, &format!("SELECT {columns} FROM huntline.{relation} {rest}"))
            }
            Target::Sqlite { path } => {
                let connection = rusqlite::Connection::open(path).unwrap();
                let mut read = connection.prepare(&format!("SELECT {columns} FROM {relation} {rest}")).unwrap();
                let width = read.column_count();
                let text = |value: rusqlite::types::Value| match value {
                    rusqlite::types::Value::Null => None,
                    rusqlite::types::Value::Integer(number) => Some(number.to_string()),
                    rusqlite::types::Value::Real(number) => Some(format!("{number:?}")),
                    rusqlite::types::Value::Text(text) => Some(text),
                    rusqlite::types::Value::Blob(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                };
                let rows = read.query_map([], |row| (0..width).map(|at| Ok(text(row.get(at)?))).collect()).unwrap();
                rows.map(Result::unwrap).collect()
            }
        }
    }

    /// A view that this store will not take.
    pub fn refused_view(&self) -> &'static str {
        match self.target {
            Target::Postgres { .. } => r#"{"first":"\u0000"}"#,
            Target::Sqlite { .. } => r#"{"first":"#,
        }
    }
}

pub async fn bind(store: &Store) {
    store.bind(&identity(), Some(60 * MINUTE), MINUTE, EMPTY_VIEW, &[], |_, _| vec![]).await.unwrap();
}

pub fn identity() -> Identity {
    Identity {
        cluster: "c1".into(),
        group: "g1".into(),
        topics: vec![("a".into(), Some("id1".into())), ("b".into(), None)],
        definitions: "d1".into(),
    }
}

pub fn a0() -> PartitionId {
    PartitionId::new("a", 0)
}

/// A checkpoint that moves the claimed partition to position 10.
pub fn checkpoint(partition: &PartitionId, claimed: &Claimed, owner: &str) -> Checkpoint {
    Checkpoint {
        partition: partition.clone(),
        epoch: claimed.epoch,
        owner: owner.to_owned(),
        number: claimed.checkpoint,
        position: Position(10),
        clock: Some(Micros(1_700_000_000_000_000)),
        counts: Counts { records: 10, applied: 10, ..Counts::default() },
        partials: vec![],
        dead_letters: vec![],
        gaps: vec![],
        rollup: None,
        tripped: None,
        acts: vec![],
        at: Micros(1_700_000_001_000_000),
    }
}

/// A partial that has applied `n` events: its state is that number, as digits.
pub fn snapshot(hunt: &str, n: i64) -> Snapshot {
    let readers = readers(n, &[]);
    Snapshot { hunt: hunt.to_owned(), state: Some(n.to_string().into_bytes()), readers: Some(readers), lag: None }
}

fn readers(n: i64, from: &[String]) -> Readers {
    Readers {
        view: serde_json::json!({ "n": n, "from": from }).to_string(),
        events: n,
        first_event_at: Some(Micros(1_600_000_000_000_000)),
        last_event_at: Some(Micros(1_600_000_000_000_000 + n)),
        hunt_clock: Some(Micros(1_600_000_000_000_000)),
        partition_clock: Some(Micros(1_600_000_000_000_000)),
        watermark_floor: None,
    }
}

/// Of hunts, adds the partials' numbers, and tells from where in which order. A rollup lists its shares, which are JSON values.
pub fn merge() -> Merge {
    Merge { hunts: Arc::new(merge_hunts), rollup: Arc::new(|shares| Ok(vec![("shares".to_owned(), listed(shares))])) }
}

pub fn listed(shares: &[Vec<u8>]) -> String {
    let shares: Vec<&str> = shares.iter().map(|share| std::str::from_utf8(share).unwrap()).collect();
    format!("[{}]", shares.join(","))
}

fn merge_hunts(states: &[(PartitionId, Vec<u8>)]) -> Result<Readers, String> {
    let mut sum = 0;
    for (partition, state) in states {
        let text = std::str::from_utf8(state).map_err(|e| e.to_string())?;
        sum += text.parse::<i64>().map_err(|e| format!("{partition}: {e}"))?;
    }
    let from: Vec<String> =
        states.iter().map(|(partition, state)| format!("{partition}={}", String::from_utf8_lossy(state))).collect();
    Ok(readers(sum, &from))
}

pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// Stores may write the same JSON in other words.
pub fn normalise(snapshot: &mut Snapshot) {
    if let Some(readers) = &mut snapshot.readers {
        readers.view = json(&readers.view).to_string().replace("1000.0", "1000");
    }
}

/// Asks again until it is so, for at most 60 s.
pub async fn await_until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < Duration::from_secs(60), "it never became so");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
