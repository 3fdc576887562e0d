//! What only a server, and the way to it, can do wrong: answers lost, sessions frozen, restarts, rights.

use super::proxy::{Fault, Proxy};
use super::server::{Database, Server, shared};
use super::{Fixture, fixture::*, owner};
use huntline::position::{Epoch, Position};
use huntline::store::postgres::{Limits, Postgres};
use huntline::store::{Error, Store, Target};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A bound store, and another that reaches it through a proxy.
async fn behind_a_proxy(limits: Limits) -> (Fixture, Store, Proxy) {
    let fixture = Fixture::postgres().await;
    let proxy = Proxy::before(shared().port);
    let url = url(&fixture.target).replace(&format!(":{}/", shared().port), &format!(":{}/", proxy.port));
    let store = Store::Postgres(Postgres::open_with(&url, None, false, limits).await.unwrap());
    (fixture, store, proxy)
}

fn url(target: &Target) -> String {
    match target {
        Target::Postgres { url, .. } => url.clone(),
        Target::Sqlite { .. } => panic!("a Postgres store"),
    }
}

fn as_user(url: &str, user: &str, password: &str) -> Target {
    Target::Postgres { url: url.replace("//postgres@", &format!("//{user}@")), password: Some(password.to_owned()) }
}

fn fatal<T>(result: Result<T, Error>) -> String {
    match result.map(drop) {
        Err(Error::Fatal(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

fn passing<T>(result: Result<T, Error>) -> String {
    match result.map(drop) {
        Err(Error::Passing(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_counts_once() {
    let (fixture, store, proxy) = behind_a_proxy(Limits::default()).await;
    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    for (number, fault) in [(0, Fault::LoseCommitAnswer), (1, Fault::LoseCommit), (2, Fault::LoseCommitAnswer)] {
        let mut commit = checkpoint(&a0(), &claimed, "one");
        commit.number = number;
        commit.position = Position(100 + number);
        commit.partials = vec![snapshot("h", 1 + number)];
        let commit = Arc::new(commit);
        proxy.set(fault);
        passing(store.checkpoint(commit.clone(), merge()).await);
        assert_eq!(proxy.happened(), number as u32 + 1);
        await_until(|| async { store.checkpoint(commit.clone(), merge()).await.is_ok() }).await;
        let line = &fixture.store.partitions().await.unwrap()[0];
        assert_eq!(line.position, Some(Position(100 + number)));
        let found = fixture.store.claim(&huntline::record::PartitionId::new("z", number as i32), &owner("x")).await.unwrap();
        assert_eq!(found.epoch, Epoch(1));
    }
    assert_eq!(fixture.store.claim(&a0(), &owner("two")).await.unwrap().checkpoint, 3);
    assert_eq!(fixture.store.hunt("h").await.unwrap().unwrap().events, 3);
}

#[tokio::test]
async fn a_zombie_frozen_inside_its_transaction_is_thrown_out_and_fenced() {
    let (fixture, zombie, proxy) =
        behind_a_proxy(Limits { idle_in_transaction: Duration::from_secs(1), ..Limits::default() }).await;
    let claimed = zombie.claim(&a0(), &owner("zombie")).await.unwrap();
    let mut commit = checkpoint(&a0(), &claimed, "zombie");
    commit.partials = vec![snapshot("h", 1)];
    let commit = Arc::new(commit);
    proxy.set(Fault::HoldCommit);
    let frozen = tokio::spawn({
        let (zombie, commit) = (zombie.clone(), commit.clone());
        async move { zombie.checkpoint(commit, merge()).await }
    });
    await_until(|| async { proxy.happened() == 1 }).await;
    // The claim waits for the row that the zombie holds, until the server ends its session.
    let next = fixture.store.claim(&a0(), &owner("next")).await.unwrap();
    assert_eq!((next.epoch, next.checkpoint), (Epoch(2), 0));
    proxy.set(Fault::None);
    passing(frozen.await.unwrap());
    await_until(|| async { !matches!(zombie.checkpoint(commit.clone(), merge()).await, Err(Error::Passing(_))) }).await;
    assert!(matches!(zombie.checkpoint(commit.clone(), merge()).await, Err(Error::Fenced { .. })));
    assert_eq!(fixture.store.hunts(None, 10, None).await.unwrap(), []);
}

#[tokio::test]
async fn a_server_that_stands_still_is_given_up_at_the_deadline() {
    let short = Duration::from_millis(700);
    let limits = Limits { call: short, checkpoint: short, connect: short, ..Limits::default() };
    let (_fixture, store, proxy) = behind_a_proxy(limits).await;
    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    let commit = Arc::new(checkpoint(&a0(), &claimed, "one"));
    proxy.set(Fault::HoldAll);
    let started = Instant::now();
    let sentence = passing(store.checkpoint(commit.clone(), merge()).await);
    assert!(sentence.contains("127.0.0.1") && sentence.contains("no answer"), "{sentence}");
    passing(store.ping().await);
    passing(store.claim(&a0(), &owner("one")).await);
    assert!(started.elapsed() < Duration::from_secs(20));
    proxy.set(Fault::None);
    await_until(|| async { store.ping().await.is_ok() }).await;
    await_until(|| async { store.checkpoint(commit.clone(), merge()).await.is_ok() }).await;
}

#[tokio::test]
async fn a_server_may_stop_and_come_back() {
    let server = Server::start(&[]);
    let target = Target::Postgres { url: server.create_database().await, password: None };
    let store = Store::open(&target, true).await.unwrap();
    bind(&store).await;
    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    let commit = Arc::new(checkpoint(&a0(), &claimed, "one"));
    server.stop();
    for _ in 0..3 {
        let sentence = passing(store.checkpoint(commit.clone(), merge()).await);
        assert!(sentence.contains(&format!("127.0.0.1:{}", server.port)), "{sentence}");
        passing(store.ping().await);
    }
    passing(Store::open(&target, true).await);
    server.restart();
    await_until(|| async { store.checkpoint(commit.clone(), merge()).await.is_ok() }).await;
    assert_eq!(store.claim(&a0(), &owner("one")).await.unwrap().checkpoint, 1);
}

#[tokio::test]
async fn a_read_only_database_is_said_to_be_one() {
    let fixture = Fixture::postgres().await;
    let database = url(&fixture.target).rsplit('/').next().unwrap().to_owned();
    Database(shared().url("postgres")).run(&format!("ALTER DATABASE {database} SET default_transaction_read_only = on")).await;
    let sentence = fatal(Store::open(&fixture.target, true).await);
    assert!(sentence.contains("read-only") && sentence.contains(&database), "{sentence}");
    let store = Store::open(&fixture.target, false).await.unwrap();
    assert!(fatal(store.claim(&a0(), &owner("one")).await).contains("read-only"));
    assert_eq!(store.hunts(None, 10, None).await.unwrap(), []);
}

#[tokio::test]
async fn a_plain_role_needs_the_documented_rights_and_no_more() {
    let admin = shared().url("postgres");
    let roles =
        "CREATE ROLE keeper LOGIN PASSWORD 'k'; CREATE ROLE viewer LOGIN PASSWORD 'v'; CREATE ROLE made LOGIN PASSWORD 'm'";
    Database(admin.clone()).run(roles).await;

    // The schema is created for the role, which may create nothing else.
    let url = shared().create_database().await;
    let (keeper, viewer) = (as_user(&url, "keeper", "k"), as_user(&url, "viewer", "v"));
    let sentence = fatal(Store::open(&keeper, true).await);
    assert!(sentence.contains("keeper") && sentence.contains("Rights in Postgres"), "{sentence}");
    Database(url.clone()).run("CREATE SCHEMA huntline AUTHORIZATION keeper").await;
    let store = Store::open(&keeper, true).await.unwrap();
    bind(&store).await;
    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    let mut commit = checkpoint(&a0(), &claimed, "one");
    commit.partials = vec![snapshot("h", 1)];
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    Store::open(&keeper, true).await.unwrap();

    // Whoever reads needs two grants.
    assert!(fatal(Store::open_reader(&viewer).await).contains("viewer"));
    Database(url.clone())
        .run("GRANT USAGE ON SCHEMA huntline TO viewer; GRANT SELECT ON ALL TABLES IN SCHEMA huntline TO viewer")
        .await;
    let reader = Store::open_reader(&viewer).await.unwrap();
    assert_eq!(reader.hunt("h").await.unwrap().unwrap().events, 1);
    assert!(fatal(reader.claim(&a0(), &owner("viewer")).await).contains("Rights in Postgres"));

    // Or the role may create the schema itself.
    let url = shared().create_database().await;
    let database = url.rsplit('/').next().unwrap();
    Database(admin).run(&format!("GRANT CREATE ON DATABASE {database} TO made")).await;
    bind(&Store::open(&as_user(&url, "made", "m"), true).await.unwrap()).await;
}

#[tokio::test]
async fn a_wrong_way_to_the_server_is_explained() {
    Database(shared().url("postgres")).run("CREATE ROLE known LOGIN PASSWORD 'right'").await;
    let url = shared().create_database().await;
    for (target, words) in [
        (as_user(&url, "known", "wrong"), "user known"),
        (Target::Postgres { url: url.replace("//postgres@", "//known@"), password: None }, "password"),
        (as_user(&url, "nobody_knows", "x"), "user nobody_knows"),
        (Target::Postgres { url: shared().url("no_such_database"), password: None }, "no_such_database"),
        (Target::Postgres { url: format!("{url}?sslmode=require"), password: None }, "TLS"),
        (
            Target::Postgres { url: format!("{url}?sslmode=verify-full&sslrootcert=/no/such/file"), password: None },
            "/no/such/file",
        ),
        (Target::Postgres { url: format!("{url}?nonsense=1"), password: None }, "nonsense"),
    ] {
        let sentence = fatal(Store::open(&target, true).await);
        assert!(sentence.contains(words) && !sentence.contains("wrong"), "{words}: {sentence}");
    }
    let sentence =
        passing(Store::open(&Target::Postgres { url: "postgres://u@127.0.0.1:1/d".into(), password: None }, true).await);
    assert!(sentence.contains("127.0.0.1:1"), "{sentence}");
    for mode in ["disable", "allow", "prefer"] {
        Store::open(&Target::Postgres { url: format!("{url}?sslmode={mode}"), password: None }, true).await.unwrap();
    }
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    Database(shared().url("postgres")).run("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0").await;
    let sentence = fatal(Store::open(&Target::Postgres { url: shared().url("latin"), password: None }, true).await);
    assert!(sentence.contains("LATIN1") && sentence.contains("UTF8"), "{sentence}");
}

/// What lets Postgres update a row on its page (HOT), which a checkpoint's speed stands on: room, and no index over what changes.
#[tokio::test]
async fn no_index_holds_what_changes_in_a_live_hunt() {
    let fixture = Fixture::postgres().await;
    let database = Database(url(&fixture.target));
    let indexed = database
        .query(
            "SELECT DISTINCT a.attname::text FROM pg_index i
             JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND (a.attnum = d.refobjsubid OR a.attnum = ANY(i.indkey))
             WHERE i.indrelid = 'huntline.partials'::regclass ORDER BY 1",
        )
        .await;
    let indexed: Vec<String> = indexed.iter().map(|row| row.get(0)).collect();
    assert_eq!(indexed, ["hunt_id", "lagging", "partition", "topic"]);
    let options = database.query("SELECT reloptions FROM pg_class WHERE oid = 'huntline.partials'::regclass").await;
    assert_eq!(options[0].get::<_, Vec<String>>(0), ["fillfactor=50"]);
}
