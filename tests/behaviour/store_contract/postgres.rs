//! What only a server, and the way to it, can do wrong: answers lost, sessions frozen, restarts, rights.

use super::{Fixture, fixture::*, owner};
use crate::harness::Scratch;
use crate::harness::postgres::{Options, Postgres as Server, Stop, shared};
use crate::harness::proxy::{CommitFault, Proxy};
use huntline::position::{Epoch, Position};
use huntline::store::postgres::{Limits, Postgres};
use huntline::store::{Error, Store, Target};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A bound store, and another that reaches it through a proxy.
async fn behind_a_proxy(limits: Limits) -> (Fixture, Store, Proxy) {
    let fixture = Fixture::postgres().await;
    let proxy = Proxy::start(shared().port());
    let store = Postgres::open_with(&proxy.url(&url(&fixture.target)), None, false, limits).await.unwrap();
    (fixture, Store::Postgres(store), proxy)
}

fn at(url: &str) -> Target {
    Target::Postgres { url: url.to_owned(), password: None }
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

/// A server that lets `postgres` in, and others by the rules in `hba`.
fn guarded(scratch: &Scratch, hba: &str, mut settings: Vec<(&'static str, String)>) -> Server {
    let file = scratch.join("hba.conf");
    std::fs::write(&file, format!("host all postgres 127.0.0.1/32 trust\n{hba}\n")).unwrap();
    settings.push(("hba_file", file.display().to_string()));
    Server::start(&Options { fsync: false, settings })
}

/// Until a session of this database waits for a lock.
async fn await_a_waiting_session(url: &str) {
    await_waiting_sessions(url, 1).await;
}

pub async fn await_waiting_sessions(url: &str, count: usize) {
    let database = url.rsplit('/').next().unwrap();
    let sql = format!("SELECT 1 FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'");
    await_until(|| async { shared().query(url, &sql).len() == count }).await;
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
    for (number, fault) in [(0, CommitFault::AnswerLost), (1, CommitFault::RequestLost), (2, CommitFault::AnswerLost)] {
        let mut commit = checkpoint(&a0(), &claimed, "one");
        commit.number = number;
        commit.position = Position(100 + number);
        commit.partials = vec![snapshot("h", 1 + number)];
        let commit = Arc::new(commit);
        proxy.arm(fault, "huntline.partials");
        passing(store.checkpoint(commit.clone(), merge()).await);
        assert_eq!(proxy.faults(), number as u64 + 1);
        await_until(|| async { store.checkpoint(commit.clone(), merge()).await.is_ok() }).await;
        assert_eq!(fixture.store.partitions().await.unwrap()[0].position, Some(Position(100 + number)));
    }
    assert_eq!(fixture.store.claim(&a0(), &owner("two")).await.unwrap().checkpoint, 3);
    assert_eq!(fixture.store.hunt("h").await.unwrap().unwrap().events, 3);
}

#[tokio::test]
async fn a_commit_still_on_its_way_is_waited_for() {
    let (fixture, store, proxy) = behind_a_proxy(Limits::default()).await;
    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    let mut commit = checkpoint(&a0(), &claimed, "one");
    commit.partials = vec![snapshot("h", 7)];
    let commit = Arc::new(commit);
    proxy.arm(CommitFault::InFlight, "huntline.partials");
    passing(store.checkpoint(commit.clone(), merge()).await);
    assert_eq!((proxy.faults(), proxy.in_flight()), (1, 1));
    // A look without a lock still finds the row as it was.
    assert_eq!(fixture.store.partitions().await.unwrap()[0].position, None);
    let again = tokio::spawn({
        let commit = commit.clone();
        async move { store.checkpoint(commit, merge()).await }
    });
    await_a_waiting_session(&url(&fixture.target)).await;
    proxy.deliver();
    again.await.unwrap().unwrap();
    let after = fixture.store.claim(&a0(), &owner("two")).await.unwrap();
    assert_eq!((after.checkpoint, after.counts), (1, commit.counts));
    assert_eq!(fixture.store.hunt("h").await.unwrap().unwrap().events, 7);
}

#[tokio::test]
async fn a_zombie_frozen_inside_its_transaction_is_thrown_out_and_fenced() {
    let (fixture, zombie, proxy) =
        behind_a_proxy(Limits { idle_in_transaction: Duration::from_secs(1), ..Limits::default() }).await;
    let url = url(&fixture.target);
    let claimed = zombie.claim(&a0(), &owner("zombie")).await.unwrap();
    let mut commit = checkpoint(&a0(), &claimed, "zombie");
    commit.partials = vec![snapshot("h", 1)];
    zombie.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();
    commit.number = 1;
    commit.partials = vec![snapshot("h", 2)];
    let commit = Arc::new(commit);

    // It stops at a locked row, in the midst of its transaction, and hears nothing more.
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute("BEGIN; SELECT 1 FROM huntline.partials FOR UPDATE").await.unwrap();
    let frozen = tokio::spawn({
        let (zombie, commit) = (zombie.clone(), commit.clone());
        async move { zombie.checkpoint(commit, merge()).await }
    });
    await_a_waiting_session(&url).await;
    proxy.block();
    client.batch_execute("ROLLBACK").await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();

    // The claim waits for the row that the zombie holds, until the server ends its session.
    let next = fixture.store.claim(&a0(), &owner("next")).await.unwrap();
    assert_eq!((next.epoch, next.checkpoint), (Epoch(2), 1));
    proxy.restore();
    passing(frozen.await.unwrap());
    await_until(|| async { !matches!(zombie.checkpoint(commit.clone(), merge()).await, Err(Error::Passing(_))) }).await;
    assert!(matches!(zombie.checkpoint(commit.clone(), merge()).await, Err(Error::Fenced { .. })));
    assert_eq!(fixture.store.hunt("h").await.unwrap().unwrap().events, 1);
}

#[tokio::test]
async fn a_server_that_stands_still_is_given_up_at_the_deadline() {
    let short = Duration::from_millis(700);
    let limits = Limits { call: short, checkpoint: short, connect: short, ..Limits::default() };
    let (_fixture, store, proxy) = behind_a_proxy(limits).await;
    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    let commit = Arc::new(checkpoint(&a0(), &claimed, "one"));
    proxy.block();
    let started = Instant::now();
    let sentence = passing(store.checkpoint(commit.clone(), merge()).await);
    assert!(sentence.contains("127.0.0.1") && sentence.contains("no answer"), "{sentence}");
    passing(store.ping().await);
    passing(store.claim(&a0(), &owner("one")).await);
    assert!(started.elapsed() < Duration::from_secs(20));
    proxy.restore();
    await_until(|| async { store.ping().await.is_ok() }).await;
    // What had left before the deadline may still arrive: a claim of ours would fence this checkpoint.
    await_until(|| async { !matches!(store.checkpoint(commit.clone(), merge()).await, Err(Error::Passing(_))) }).await;
}

#[tokio::test]
async fn a_server_may_stop_and_come_back() {
    let server = Server::start(&Options { fsync: false, ..Options::default() });
    let target = at(&server.create_database());
    let store = Store::open(&target, true).await.unwrap();
    bind(&store).await;
    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    let commit = Arc::new(checkpoint(&a0(), &claimed, "one"));
    server.stop(Stop::Immediate);
    for _ in 0..3 {
        let sentence = passing(store.checkpoint(commit.clone(), merge()).await);
        assert!(sentence.contains(&format!("127.0.0.1:{}", server.port())), "{sentence}");
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
    shared().query(&shared().url("postgres"), &format!("ALTER DATABASE {database} SET default_transaction_read_only = on"));
    let sentence = fatal(Store::open(&fixture.target, true).await);
    assert!(sentence.contains("read-only") && sentence.contains(&database), "{sentence}");
    let store = Store::open(&fixture.target, false).await.unwrap();
    assert!(fatal(store.claim(&a0(), &owner("one")).await).contains("read-only"));
    assert_eq!(store.hunts(None, 10, None).await.unwrap(), []);
}

#[tokio::test]
async fn a_plain_role_needs_the_documented_rights_and_no_more() {
    let scratch = Scratch::new("rights");
    let server = guarded(&scratch, "host all all 127.0.0.1/32 scram-sha-256", vec![]);
    let roles =
        "CREATE ROLE keeper LOGIN PASSWORD 'k'; CREATE ROLE viewer LOGIN PASSWORD 'v'; CREATE ROLE made LOGIN PASSWORD 'm'";
    server.query(&server.url("postgres"), roles);

    // The schema is created for the role, which may create nothing else.
    let url = server.create_database();
    let (keeper, viewer) = (as_user(&url, "keeper", "k"), as_user(&url, "viewer", "v"));
    let sentence = fatal(Store::open(&keeper, true).await);
    assert!(sentence.contains("keeper") && sentence.contains("Rights in Postgres"), "{sentence}");
    server.query(&url, "CREATE SCHEMA huntline AUTHORIZATION keeper");
    let store = Store::open(&keeper, true).await.unwrap();
    bind(&store).await;
    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    let mut commit = checkpoint(&a0(), &claimed, "one");
    commit.partials = vec![snapshot("h", 1)];
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    Store::open(&keeper, true).await.unwrap();

    // Whoever reads needs two grants.
    assert!(fatal(Store::open_reader(&viewer).await).contains("viewer"));
    server.query(&url, "GRANT USAGE ON SCHEMA huntline TO viewer; GRANT SELECT ON ALL TABLES IN SCHEMA huntline TO viewer");
    let reader = Store::open_reader(&viewer).await.unwrap();
    assert_eq!(reader.hunt("h").await.unwrap().unwrap().events, 1);
    assert!(fatal(reader.claim(&a0(), &owner("viewer")).await).contains("Rights in Postgres"));

    // A daemon that must not change the schema needs a few more.
    let rights = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA huntline";
    server.query(
        &url,
        &format!("CREATE ROLE worker LOGIN PASSWORD 'w'; GRANT USAGE ON SCHEMA huntline TO worker; GRANT {rights} TO worker"),
    );
    let worker = Store::open(&as_user(&url, "worker", "w"), false).await.unwrap();
    bind(&worker).await;
    let claimed = worker.claim(&a0(), &owner("worker")).await.unwrap();
    worker.checkpoint(Arc::new(checkpoint(&a0(), &claimed, "worker")), merge()).await.unwrap();

    // Or the role may create the schema itself.
    let url = server.create_database();
    let database = url.rsplit('/').next().unwrap();
    server.query(&url, &format!("GRANT CREATE ON DATABASE {database} TO made"));
    bind(&Store::open(&as_user(&url, "made", "m"), true).await.unwrap()).await;
}

#[tokio::test]
async fn a_wrong_way_to_the_server_is_explained() {
    let scratch = Scratch::new("ways");
    let server = guarded(&scratch, "host all known 127.0.0.1/32 scram-sha-256", vec![]);
    server.query(&server.url("postgres"), "CREATE ROLE known LOGIN PASSWORD 'right'");
    let url = server.create_database();
    for (target, words) in [
        (as_user(&url, "known", "wrong"), "user known"),
        (at(&url.replace("//postgres@", "//known@")), "password"),
        (as_user(&url, "stranger", "x"), "user stranger"),
        (at(&server.url("no_such_database")), "no_such_database"),
        (at(&format!("{url}?sslmode=require")), "TLS"),
        (at(&format!("{url}?sslmode=verify-full&sslrootcert=/no/such/file")), "/no/such/file"),
        (at(&format!("{url}?nonsense=1")), "nonsense"),
    ] {
        let sentence = fatal(Store::open(&target, true).await);
        assert!(sentence.contains(words) && !sentence.contains("wrong"), "{words}: {sentence}");
    }
    let sentence = passing(Store::open(&at("postgres://u@127.0.0.1:1/d"), true).await);
    assert!(sentence.contains("127.0.0.1:1"), "{sentence}");
    for mode in ["disable", "allow", "prefer"] {
        Store::open(&at(&format!("{url}?sslmode={mode}")), true).await.unwrap();
    }
}

#[tokio::test]
async fn sslmode_means_what_libpq_means_by_it() {
    let scratch = Scratch::new("tls");
    let root = certificates(&scratch);
    let file = |name: &str| scratch.join(name).display().to_string();
    let settings = vec![("ssl", "on".into()), ("ssl_cert_file", file("server.pem")), ("ssl_key_file", file("server.key"))];
    let server = guarded(&scratch, "hostssl all known 127.0.0.1/32 scram-sha-256", settings);
    let url = server.create_database();
    let database = url.rsplit('/').next().unwrap();
    server.query(&url, &format!("CREATE ROLE known LOGIN PASSWORD 'right'; GRANT CREATE ON DATABASE {database} TO known"));
    // The certificate names the address alone; by its name the server is another.
    let by_name = url.replace("127.0.0.1", "localhost");
    let other = file("other.pem");
    for (base, query, opens) in [
        (&url, "sslmode=disable".to_owned(), false),
        (&url, "sslmode=allow".into(), true),
        (&url, "sslmode=prefer".into(), true),
        (&url, "sslmode=require".into(), true),
        (&by_name, format!("sslmode=require&sslrootcert={root}"), true),
        (&by_name, format!("sslmode=verify-ca&sslrootcert={root}"), true),
        (&url, format!("sslmode=verify-full&sslrootcert={root}"), true),
        (&by_name, format!("sslmode=verify-full&sslrootcert={root}"), false),
        (&url, format!("sslmode=verify-ca&sslrootcert={other}"), false),
        (&url, format!("sslmode=require&sslrootcert={other}"), false),
        (&url, "sslmode=verify-full".into(), false),
    ] {
        let opened = Store::open(&as_user(&format!("{base}?{query}"), "known", "right"), true).await;
        if opens {
            opened.map(drop).unwrap_or_else(|error| panic!("{query}: {error}"));
        } else {
            fatal(opened);
        }
    }
}

/// A root and what it signed for 127.0.0.1, and a root of nobody's; gives the first root's file.
fn certificates(scratch: &Scratch) -> String {
    let openssl = |arguments: &str| {
        let done = Command::new("openssl").args(arguments.split(' ')).current_dir(scratch.path()).output().unwrap();
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(&format!("req -x509 {key} -keyout root.key -out root.pem -subj /CN=root"));
    openssl(&format!("req -x509 {key} -keyout other.key -out other.pem -subj /CN=other"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=server -addext subjectAltName=IP:127.0.0.1"));
    openssl(
        "x509 -req -in server.csr -CA root.pem -CAkey root.key -CAcreateserial -days 2 -copy_extensions copy -out server.pem",
    );
    hand_over(&scratch.join("server.key"));
    scratch.join("root.pem").display().to_string()
}

/// The server reads a key only where it owns it, or root does and its group may.
fn hand_over(key: &Path) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let mode = if std::fs::metadata(key).unwrap().uid() == 0 {
        assert!(Command::new("chgrp").arg("postgres").arg(key).status().unwrap().success());
        0o640
    } else {
        0o600
    };
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    shared().query(&shared().url("postgres"), "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0");
    let sentence = fatal(Store::open(&at(&shared().url("latin")), true).await);
    assert!(sentence.contains("LATIN1") && sentence.contains("UTF8"), "{sentence}");
}

/// What lets Postgres update a row on its page (HOT), which a checkpoint's speed stands on: room, and no index over what changes.
#[tokio::test]
async fn no_index_holds_what_changes_in_a_live_hunt() {
    let fixture = Fixture::postgres().await;
    let ask = |sql: &str| -> Vec<String> {
        shared().query(&url(&fixture.target), sql).into_iter().map(|row| row[0].clone().unwrap()).collect()
    };
    let indexed = ask("SELECT DISTINCT a.attname FROM pg_index i
         JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND (a.attnum = d.refobjsubid OR a.attnum = ANY(i.indkey))
         WHERE i.indrelid = 'huntline.partials'::regclass ORDER BY 1");
    assert_eq!(indexed, ["hunt_id", "lagging", "partition", "topic"]);
    assert_eq!(ask("SELECT reloptions::text FROM pg_class WHERE oid = 'huntline.partials'::regclass"), ["{fillfactor=50}"]);
}
