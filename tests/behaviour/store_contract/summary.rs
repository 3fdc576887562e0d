//! `hunt_summary`: the columns that definitions ask for, their types and values, and who may read and make it.

use super::{Fixture, both, fixture::*, owner};
use crate::harness::postgres::shared;
use huntline::position::Position;
use huntline::store::{
    Error, Lag, LagReasons, Readers, Snapshot, Store, SummaryColumn,
    SummaryType::{self, BigInt, Double, Numeric},
    Target,
};
use std::sync::Arc;

both! {
    every_scalar_aggregate_is_a_typed_column
    numbers_at_the_edge_of_their_types_are_read
    the_summary_follows_the_definitions
    a_summary_is_made_for_no_other_definitions
}

const EMPTY: &str = r#"{"best":null,"mean_time":null,"points":0,"solved":0}"#;

fn columns(columns: &[(&str, SummaryType)]) -> Vec<SummaryColumn> {
    columns.iter().map(|&(name, kind)| SummaryColumn { aggregate: name.to_owned(), kind }).collect()
}

fn usual() -> Vec<SummaryColumn> {
    columns(&[("best", Numeric), ("mean_time", Double), ("points", Numeric), ("solved", BigInt)])
}

async fn bind_with(store: &Store, summary: &[SummaryColumn]) -> Result<(), Error> {
    store.bind(&identity(), None, 0, EMPTY, summary, |_, _| vec![]).await
}

/// A store whose empty view is [`EMPTY`], in place of the usual one.
async fn bound(fixture: &Fixture) -> (Target, Store) {
    let target = fixture.empty_target().await;
    let store = Store::open(&target, true).await.unwrap();
    bind_with(&store, &usual()).await.unwrap();
    (target, store)
}

fn viewed(hunt: &str, view: &str) -> Snapshot {
    let row = snapshot(hunt, 1);
    Snapshot { readers: row.readers.map(|readers| Readers { view: view.into(), ..readers }), ..row }
}

async fn save(store: &Store, partials: Vec<Snapshot>) {
    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    let mut commit = checkpoint(&a0(), &claimed, "one");
    commit.partials = partials;
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
}

/// The names of the columns, and their types where the store has any.
fn described(target: &Target) -> Vec<String> {
    match target {
        Target::Postgres { url, .. } => {
            let sql = "SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute
                       WHERE attrelid = 'huntline.hunt_summary'::regclass ORDER BY attnum";
            shared().query(url, sql).into_iter().map(|row| row[0].clone().unwrap()).collect()
        }
        Target::Sqlite { path } => {
            let connection = rusqlite::Connection::open(path).unwrap();
            let read = connection.prepare("SELECT * FROM hunt_summary").unwrap();
            read.column_names().into_iter().map(str::to_owned).collect()
        }
    }
}

/// What `described` says of these columns in this store.
fn expected(target: &Target, columns: &[&str]) -> Vec<String> {
    let name = |column: &&str| column.split_once(' ').unwrap().0.to_owned();
    match target {
        Target::Postgres { .. } => columns.iter().map(|column| column.to_string()).collect(),
        Target::Sqlite { .. } => columns.iter().map(name).collect(),
    }
}

fn rows(fixture: &Fixture, target: Target) -> Fixture {
    Fixture { target, store: fixture.store.clone(), directory: None }
}

async fn every_scalar_aggregate_is_a_typed_column(fixture: Fixture) {
    let (target, store) = bound(&fixture).await;
    let held =
        Lag { position: Position(1), clock: None, held: 1, reasons: LagReasons { operator: true, ..LagReasons::default() } };
    save(
        &store,
        vec![
            viewed("a", r#"{"best":12.5,"mean_time":5,"points":7,"solved":3}"#),
            viewed("b", r#"{"best":null,"mean_time":null,"points":-0.25,"solved":0}"#),
            // Parked before its first event: as a hunt that has seen nothing.
            Snapshot { hunt: "c".into(), state: None, readers: None, lag: Some(held) },
        ],
    )
    .await;
    let columns = ["hunt_id text", "best numeric", "mean_time double precision", "points numeric", "solved bigint"];
    assert_eq!(described(&target), expected(&target, &columns));
    let rows = rows(&fixture, target).rows("hunt_id, best, mean_time, points, solved", "hunt_summary", "ORDER BY hunt_id").await;
    let of = |texts: [Option<&str>; 5]| texts.map(|text| text.map(String::from)).to_vec();
    let five = if fixture.directory.is_some() { "5.0" } else { "5" };
    let expected = [
        of([Some("a"), Some("12.5"), Some(five), Some("7"), Some("3")]),
        of([Some("b"), None, None, Some("-0.25"), Some("0")]),
        of([Some("c"), None, None, Some("0"), Some("0")]),
    ];
    assert_eq!(rows, expected);
}

async fn numbers_at_the_edge_of_their_types_are_read(fixture: Fixture) {
    let (target, store) = bound(&fixture).await;
    let far = "170141183460469231731687303715884105727";
    let texts = [
        format!(r#"{{"best":1e300,"mean_time":1.7976931348623157e308,"points":{far},"solved":9223372036854775807}}"#),
        r#"{"best":-1.7976931348623157e308,"mean_time":-5e-324,"points":-1e300,"solved":0}"#.into(),
        r#"{"best":5e-324,"mean_time":-0.0,"points":-0.0,"solved":0}"#.into(),
        r#"{"best":18446744073709551615,"mean_time":0.1,"points":9007199254740993,"solved":1}"#.into(),
    ];
    save(&store, texts.iter().zip(["a", "b", "c", "d"]).map(|(text, hunt)| viewed(hunt, text)).collect()).await;
    let rows = rows(&fixture, target).rows("best, mean_time, points, solved", "hunt_summary", "ORDER BY hunt_id").await;
    assert_eq!(rows.len(), 4);
    let whole = |text: &str| text.parse::<f64>().unwrap();
    for (row, text) in rows.iter().zip(&texts) {
        for (at, name) in ["best", "mean_time", "points", "solved"].into_iter().enumerate() {
            let (found, wanted) = (whole(row[at].as_ref().unwrap()), json(text)[name].as_f64().unwrap());
            assert!(found == wanted, "{name} of {text}: {found}");
        }
    }
    assert_eq!(rows[0][3].as_deref(), Some("9223372036854775807"));
    assert_eq!(rows[3][2].as_deref(), Some("9007199254740993"));
    if fixture.directory.is_none() {
        assert_eq!((rows[0][2].as_deref(), rows[3][0].as_deref()), (Some(far), Some("18446744073709551615")));
    }
}

async fn the_summary_follows_the_definitions(fixture: Fixture) {
    let (store, target) = (&fixture.store, &fixture.target);
    assert_eq!(described(target), expected(target, &["hunt_id text"]));
    for (wanted, columns) in [
        (vec![("solved", BigInt)], vec!["hunt_id text", "solved bigint"]),
        (vec![("solved", BigInt)], vec!["hunt_id text", "solved bigint"]),
        (vec![("best", Numeric), ("solved", BigInt)], vec!["best numeric", "hunt_id text", "solved bigint"]),
        (vec![("best", BigInt), ("solved", BigInt)], vec!["best bigint", "hunt_id text", "solved bigint"]),
        (vec![("best", BigInt)], vec!["best bigint", "hunt_id text"]),
        (vec![], vec!["hunt_id text"]),
    ] {
        bind_with(store, &self::columns(&wanted)).await.unwrap();
        let mut found = described(target);
        found.sort();
        assert_eq!(found, expected(target, &columns), "{wanted:?}");
    }
}

async fn a_summary_is_made_for_no_other_definitions(fixture: Fixture) {
    let target = fixture.empty_target().await;
    Store::migrate(&target).await.unwrap();
    // Not bound yet: to whatever definitions it will be.
    assert!(Store::summarise(&target, "d0", &columns(&[("other", BigInt)])).await.unwrap());
    let store = Store::open(&target, true).await.unwrap();
    bind_with(&store, &usual()).await.unwrap();
    let made = described(&target);
    assert!(!Store::summarise(&target, "d2", &columns(&[("other", BigInt)])).await.unwrap());
    assert_eq!(described(&target), made);
    assert!(Store::summarise(&target, &identity().definitions, &columns(&[("other", BigInt)])).await.unwrap());
    assert_eq!(described(&target), expected(&target, &["hunt_id text", "other bigint"]));
}

fn url(fixture: &Fixture) -> &str {
    match &fixture.target {
        Target::Postgres { url, .. } => url,
        Target::Sqlite { .. } => panic!("a Postgres store"),
    }
}

fn as_user(url: &str, user: &str) -> Target {
    Target::Postgres { url: url.replace("//postgres@", &format!("//{user}@")), password: None }
}

fn fatal<T>(result: Result<T, Error>) -> String {
    match result.map(drop) {
        Err(Error::Fatal(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whoever_reads_the_summary_still_can_when_it_is_made_anew() {
    let fixture = Fixture::postgres().await;
    let url = url(&fixture);
    let query = |sql: &str| shared().query(url, sql);
    query("CREATE ROLE \"summary reader\" LOGIN; CREATE ROLE summary_granter LOGIN");
    // Made for the first time, it is for those who may read the hunts.
    query("DROP VIEW huntline.hunt_summary");
    query("GRANT USAGE ON SCHEMA huntline TO PUBLIC; GRANT SELECT ON huntline.hunts TO \"summary reader\", summary_granter");
    bind_with(&fixture.store, &usual()).await.unwrap();
    query("GRANT SELECT ON huntline.hunt_summary TO summary_granter WITH GRANT OPTION");
    let reads = |user: &str| {
        let readable = format!("SELECT has_table_privilege('{user}', 'huntline.hunt_summary', 'SELECT')");
        shared().query(url, &readable)[0][0].as_deref() == Some("t")
    };
    assert!(reads("summary reader") && reads("summary_granter"));
    // A column goes, and one changes its type: those made anew keep their readers, the public among them.
    query("GRANT SELECT ON huntline.hunt_summary TO PUBLIC");
    bind_with(&fixture.store, &columns(&[("best", BigInt)])).await.unwrap();
    assert!(reads("summary reader") && reads("summary_granter") && reads("public"));
    query("SET ROLE summary_granter; GRANT SELECT ON huntline.hunt_summary TO \"summary reader\"");
    query("SET ROLE summary_granter; SELECT best FROM huntline.hunt_summary");
    query("REVOKE SELECT ON huntline.hunt_summary FROM PUBLIC, summary_granter CASCADE");
    bind_with(&fixture.store, &columns(&[("best", Numeric)])).await.unwrap();
    assert!(reads("summary reader") && !reads("summary_granter") && !reads("public"));
}

#[tokio::test]
async fn what_is_built_on_the_summary_stands_until_a_column_goes() {
    let fixture = Fixture::postgres().await;
    let url = url(&fixture);
    bind_with(&fixture.store, &columns(&[("solved", BigInt)])).await.unwrap();
    shared().query(url, "CREATE VIEW ranking AS SELECT hunt_id, solved FROM huntline.hunt_summary ORDER BY solved DESC");
    bind_with(&fixture.store, &usual()).await.unwrap();
    assert_eq!(shared().query(url, "SELECT count(*) FROM ranking")[0][0].as_deref(), Some("0"));
    let sentence = fatal(bind_with(&fixture.store, &columns(&[("best", Numeric)])).await);
    assert!(sentence.contains("ranking") && sentence.contains("drop that"), "{sentence}");
    // It was refused as a whole, and the store goes on as it was.
    bind_with(&fixture.store, &usual()).await.unwrap();
    shared().query(url, "DROP VIEW ranking");
    bind_with(&fixture.store, &columns(&[("best", Numeric)])).await.unwrap();
}

#[tokio::test]
async fn a_role_that_may_not_make_the_summary_says_who_must() {
    let fixture = Fixture::postgres().await;
    let target = fixture.empty_target().await;
    let Target::Postgres { url, .. } = &target else { panic!("a Postgres store") };
    let database = url.rsplit('/').next().unwrap();
    let roles = "CREATE ROLE summary_keeper LOGIN; CREATE ROLE summary_worker LOGIN";
    shared().query(url, &format!("{roles}; GRANT CREATE ON DATABASE {database} TO summary_keeper"));
    let keeper = as_user(url, "summary_keeper");
    Store::migrate(&keeper).await.unwrap();
    let rights =
        "USAGE ON SCHEMA huntline TO summary_worker; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA huntline";
    shared().query(url, &format!("GRANT {rights} TO summary_worker"));
    let worker = Store::open(&as_user(url, "summary_worker"), false).await.unwrap();
    let sentence = fatal(bind_with(&worker, &usual()).await);
    for words in ["summary_worker", "no view hunt_summary yet", "huntline migrate", "Rights in Postgres"] {
        assert!(sentence.contains(words), "{words}: {sentence}");
    }
    assert!(Store::summarise(&keeper, "d1", &usual()).await.unwrap());
    bind_with(&worker, &usual()).await.unwrap();
    save(&worker, vec![viewed("a", EMPTY)]).await;
    let read = "SET ROLE summary_worker; SELECT count(*) FROM huntline.hunt_summary";
    assert_eq!(shared().query(url, read)[0][0].as_deref(), Some("1"));
    let sentence = fatal(bind_with(&worker, &columns(&[("best", Numeric)])).await);
    assert!(sentence.contains("other columns") && sentence.contains("huntline migrate"), "{sentence}");
    // Made by an administrator for once, it still belongs to the schema's owner.
    let administrator = Store::open(&target, false).await.unwrap();
    bind_with(&administrator, &columns(&[("best", Numeric)])).await.unwrap();
    assert!(Store::summarise(&keeper, "d1", &usual()).await.unwrap());
    bind_with(&worker, &usual()).await.unwrap();
}
