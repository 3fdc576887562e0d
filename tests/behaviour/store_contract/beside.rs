//! A store built beside the one in use, and how it takes its place: readers never without one, owners of the old one fenced.

use super::{Fixture, both, fixture::*, owner};
use crate::harness::postgres::shared;
use huntline::position::{Epoch, Position};
use huntline::record::PartitionId;
use huntline::store::{Error, Identity, Store, Target};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

both! {
    a_store_beside_takes_the_place_of_the_old_one
    what_an_earlier_attempt_left_is_dropped
    a_store_of_another_source_is_not_swapped_in
}

async fn bind_to(store: &Store, definitions: &str) {
    let identity = Identity { definitions: definitions.into(), ..identity() };
    store.bind(&identity, Some(60 * MINUTE), MINUTE, EMPTY_VIEW, &[], |_, _| vec![]).await.unwrap();
}

/// Claims and commits the partition's position with one hunt of `n` events.
async fn fold(store: &Store, partition: &PartitionId, who: &str, hunt: &str, n: i64) -> huntline::store::Checkpoint {
    let claimed = store.claim(partition, &owner(who)).await.unwrap();
    let mut commit = checkpoint(partition, &claimed, who);
    (commit.position, commit.partials) = (Position(n), vec![snapshot(hunt, n)]);
    store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();
    commit
}

/// Lets go of the fixture's own store: a SQLite store's daemon has to stop for a swap.
async fn stopped(fixture: Fixture) -> (Target, Option<tempfile::TempDir>) {
    let Fixture { target, store, directory, .. } = fixture;
    drop(store);
    if let Target::Sqlite { .. } = &target {
        await_until(|| async { Store::open(&target, false).await.is_ok() }).await;
    }
    (target, directory)
}

fn fatal<T>(result: Result<T, Error>) -> String {
    match result.map(drop) {
        Err(Error::Fatal(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

async fn a_store_beside_takes_the_place_of_the_old_one(fixture: Fixture) {
    let (a, b) = (a0(), PartitionId::new("b", 0));
    for who in ["first", "second"] {
        fixture.store.claim(&a, &owner(who)).await.unwrap();
    }
    let old = fold(&fixture.store, &a, "old", "h", 5).await;
    fold(&fixture.store, &b, "old", "gone", 1).await;
    let asked = match &fixture.target {
        Target::Postgres { .. } => "now()",
        Target::Sqlite { .. } => "'2026-01-01T00:00:00.000000Z'",
    };
    fixture.alter(&format!(
        r#"INSERT INTO acts (act, hunt_id, "by", asked_at) VALUES ('park', 'h', 'ann', {asked}), ('resume', 'h', 'ann', {asked})"#
    ));

    let beside = Store::open_beside(&fixture.target).await.unwrap();
    bind_to(&beside, "d2").await;
    fold(&beside, &a, "rebuild", "h", 7).await;
    fold(&beside, &PartitionId::new("a", 1), "rebuild", "new", 2).await;
    // Neither knows of the other.
    assert_eq!(fixture.store.hunt("h").await.unwrap().unwrap().events, 5);
    assert_eq!(beside.hunt("h").await.unwrap().unwrap().events, 7);
    assert_eq!(beside.hunt("gone").await.unwrap(), None);
    let before = beside.audit().await.unwrap();

    let old_store = fixture.store.clone();
    let postgres = matches!(fixture.target, Target::Postgres { .. });
    if !postgres {
        let sentence = fatal(Store::swap(&fixture.target, beside.clone()).await);
        assert!(sentence.contains("another huntline runs"), "{sentence}");
        assert_eq!(beside.hunt("h").await.unwrap().unwrap().events, 7, "a swap that is refused leaves both");
        drop(old_store);
        let (target, directory) = stopped(fixture).await;
        Store::swap(&target, beside).await.unwrap();
        let fixture = Fixture { store: Store::open(&target, false).await.unwrap(), target, directory };
        return swapped(fixture, before, old, None).await;
    }
    Store::swap(&fixture.target, beside).await.unwrap();
    swapped(fixture, before, old, Some(old_store)).await;
}

/// What stands after the swap; `old_store` is one that was open all along.
async fn swapped(
    fixture: Fixture,
    before: huntline::store::Audit,
    mut old: huntline::store::Checkpoint,
    old_store: Option<Store>,
) {
    let store = &fixture.store;
    let lines = store.hunts(None, 10, None).await.unwrap();
    assert_eq!(lines.iter().map(|line| (line.hunt_id.as_str(), line.events)).collect::<Vec<_>>(), [("h", 7), ("new", 2)]);
    let audit = store.audit().await.unwrap();
    for partition in &before.partitions {
        assert!(audit.partitions.contains(partition), "{}", partition.partition);
    }
    assert_eq!(audit.generations.iter().map(|g| (g.number, g.definitions.as_str())).collect::<Vec<_>>(), [(2, "d2")]);
    assert!(audit.generations[0].since.is_empty());
    // Above every epoch there was, in a partition that the new store never read too.
    let epochs: Vec<_> =
        store.partitions().await.unwrap().into_iter().map(|line| (line.partition.to_string(), line.epoch, line.owner)).collect();
    let expected = [("a/0", 4), ("a/1", 2), ("b/0", 2)].map(|(name, epoch)| (name.to_owned(), Epoch(epoch), None));
    assert_eq!(epochs, expected);
    assert_eq!(fixture.ask("SELECT act FROM acts ORDER BY id"), [Some("park".into()), Some("resume".into())]);
    let asked = match &fixture.target {
        Target::Postgres { .. } => "now()",
        Target::Sqlite { .. } => "'2026-01-01T00:00:00.000000Z'",
    };
    fixture.alter(&format!("INSERT INTO acts (act, asked_at) VALUES ('skip', {asked})"));
    assert_eq!(fixture.ask("SELECT count(*) FROM acts"), [Some("3".into())]);

    if let Some(old_store) = &old_store {
        old.number += 1;
        let fenced = old_store.checkpoint(Arc::new(old.clone()), merge()).await;
        assert!(matches!(fenced, Err(Error::Fenced { .. })), "{fenced:?}");
        let claim = old_store.claim(&a0(), &owner("old")).await;
        assert!(matches!(&claim, Err(Error::Redefined { stored, .. }) if stored == "d2"), "{claim:?}");
    }
    bind_to(store, "d2").await;
    let next = fold(store, &a0(), "next", "h", 9).await;
    assert_eq!(next.epoch, Epoch(5));
    assert_eq!(store.hunt("h").await.unwrap().unwrap().events, 9);
    // And once more from there.
    let beside = Store::open_beside(&fixture.target).await.unwrap();
    bind_to(&beside, "d3").await;
    let (target, directory) = stopped(fixture).await;
    Store::swap(&target, beside).await.unwrap();
    let store = Store::open(&target, false).await.unwrap();
    assert_eq!(store.generations().await.unwrap().iter().map(|g| g.number).collect::<Vec<_>>(), [3]);
    assert_eq!(store.hunts(None, 10, None).await.unwrap(), []);
    drop(directory);
}

async fn what_an_earlier_attempt_left_is_dropped(fixture: Fixture) {
    fold(&fixture.store, &a0(), "one", "h", 1).await;
    let first = Store::open_beside(&fixture.target).await.unwrap();
    bind_to(&first, "d2").await;
    fold(&first, &a0(), "one", "left", 3).await;
    let postgres = matches!(fixture.target, Target::Postgres { .. });
    if postgres {
        // The one that was dropped under its builder is not taken for the one that stands there now.
        let second = Store::open_beside(&fixture.target).await.unwrap();
        bind_to(&second, "d2").await;
        let sentence = fatal(Store::swap(&fixture.target, first).await);
        assert!(sentence.contains("another rebuild"), "{sentence}");
        drop(second);
    } else {
        assert!(fatal(Store::open_beside(&fixture.target).await).contains("another huntline"));
        drop(first);
        await_until(|| async { Store::open_beside(&fixture.target).await.is_ok() }).await;
    }
    let again = async || loop {
        if let Ok(store) = Store::open_beside(&fixture.target).await {
            return store;
        }
    };
    let third = again().await;
    bind_to(&third, "d4").await;
    assert_eq!(third.hunts(None, 10, None).await.unwrap(), []);
    assert_eq!(fixture.store.hunts(None, 10, None).await.unwrap().len(), 1);
}

async fn a_store_of_another_source_is_not_swapped_in(fixture: Fixture) {
    fold(&fixture.store, &a0(), "one", "h", 1).await;
    let (target, directory) = stopped(fixture).await;
    let beside = Store::open_beside(&target).await.unwrap();
    let other = Identity { cluster: "c2".into(), ..identity() };
    beside.bind(&other, None, 0, EMPTY_VIEW, &[], |_, _| vec![]).await.unwrap();
    match Store::swap(&target, beside).await {
        Err(Error::Mismatch(sentences)) => assert!(sentences[0].contains("c1") && sentences[0].contains("c2"), "{sentences:?}"),
        other => panic!("{other:?}"),
    }
    let store = Store::open(&target, false).await.unwrap();
    assert_eq!(store.hunts(None, 10, None).await.unwrap().len(), 1);
    drop(directory);
}

fn url(target: &Target) -> &str {
    match target {
        Target::Postgres { url, .. } => url,
        Target::Sqlite { .. } => panic!("a Postgres store"),
    }
}

#[tokio::test]
async fn who_may_read_the_old_store_may_read_the_new() {
    let fixture = Fixture::postgres().await;
    let url = url(&fixture.target);
    let ask = |sql: &str| shared().query(url, sql);
    ask("CREATE ROLE swap_keeper; CREATE ROLE swap_viewer LOGIN; CREATE ROLE swap_clerk LOGIN;
         ALTER SCHEMA huntline OWNER TO swap_keeper;
         ALTER TABLE huntline.partials OWNER TO swap_keeper; GRANT SELECT ON huntline.partials TO postgres;
         ALTER FUNCTION huntline.watermark OWNER TO swap_keeper;
         GRANT USAGE ON SCHEMA huntline TO swap_viewer WITH GRANT OPTION; GRANT USAGE ON SCHEMA huntline TO PUBLIC;
         GRANT SELECT ON huntline.hunts, huntline.partitions TO swap_viewer; GRANT SELECT (hunt_id, events) ON huntline.partials TO swap_clerk;
         GRANT INSERT, SELECT ON huntline.acts TO swap_clerk WITH GRANT OPTION; GRANT USAGE ON SEQUENCE huntline.acts_id_seq TO swap_clerk;
         ALTER DEFAULT PRIVILEGES IN SCHEMA huntline GRANT SELECT ON TABLES TO swap_viewer");
    let rights = "SELECT 'schema', '', nspowner::regrole::text, acl::text FROM pg_namespace n, unnest(nspacl) AS acl WHERE nspname = 'huntline'
        UNION ALL SELECT 'schema', '', nspowner::regrole::text, NULL FROM pg_namespace WHERE nspname = 'huntline'
        UNION ALL SELECT 'relation', relname, relowner::regrole::text, acl::text FROM pg_class c LEFT JOIN LATERAL unnest(relacl) AS acl ON true
          WHERE relnamespace = 'huntline'::regnamespace AND relkind IN ('r', 'v', 'S') AND (acl IS NULL OR acl::text NOT LIKE relowner::regrole::text || '=%')
        UNION ALL SELECT 'column', attname, '', acl::text FROM pg_attribute, unnest(attacl) AS acl
          WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'huntline'::regnamespace)
        UNION ALL SELECT 'function', proname, proowner::regrole::text, NULL FROM pg_proc WHERE pronamespace = 'huntline'::regnamespace
        UNION ALL SELECT 'default', defaclobjtype::text, defaclrole::regrole::text, defaclacl::text FROM pg_default_acl WHERE defaclnamespace = 'huntline'::regnamespace
        ORDER BY 1, 2, 3, 4";
    let before = ask(rights);
    assert!(before.len() > 20, "{before:?}");
    let beside = Store::open_beside(&fixture.target).await.unwrap();
    bind_to(&beside, "d1").await;
    Store::swap(&fixture.target, beside).await.unwrap();
    let after = ask(rights);
    assert_eq!(after, before, "before {before:#?}\nafter {after:#?}");
    let reader =
        Store::open_reader(&Target::Postgres { url: url.replace("//postgres@", "//swap_viewer@"), password: None }).await;
    // The version stands in a table that this role was never shown.
    assert!(fatal(reader).contains("swap_viewer"));
    shared().query(&url.replace("//postgres@", "//swap_viewer@"), "SELECT * FROM huntline.hunts");
    assert_eq!(ask("SELECT 1 FROM pg_namespace WHERE nspname = 'huntline_rebuild'").len(), 0);
}

#[tokio::test]
async fn what_others_made_on_the_old_store_is_not_dropped_with_it() {
    let fixture = Fixture::postgres().await;
    let ask = |sql: &str| shared().query(url(&fixture.target), sql);
    fold(&fixture.store, &a0(), "one", "h", 1).await;
    for (create, name, drop) in [
        ("CREATE VIEW public.board AS SELECT * FROM huntline.hunts", "public.board", "DROP VIEW public.board"),
        ("CREATE TABLE huntline.notes (n int)", "huntline.notes", "DROP TABLE huntline.notes"),
    ] {
        ask(create);
        assert!(fatal(Store::open_beside(&fixture.target).await).contains(name));
        ask(drop);
        let beside = Store::open_beside(&fixture.target).await.unwrap();
        bind_to(&beside, "d1").await;
        ask(create);
        let sentence = fatal(Store::swap(&fixture.target, beside).await);
        assert!(sentence.contains(name), "{sentence}");
        assert_eq!(fixture.store.hunts(None, 10, None).await.unwrap().len(), 1);
        ask(drop);
    }
}

/// Readers and an owner that never stop, over several swaps.
#[tokio::test]
async fn readers_always_find_a_store_and_no_late_commit_gets_into_the_new_one() {
    let fixture = Fixture::postgres().await;
    fold(&fixture.store, &a0(), "first", "h", 1).await;
    let done = std::sync::atomic::AtomicBool::new(false);
    let over = || done.load(std::sync::atomic::Ordering::Relaxed);
    let reading = async {
        let mut reads = 0;
        while !over() {
            match fixture.store.hunt("h").await {
                Ok(found) => {
                    let found = found.expect("there is always one");
                    assert!(found.events == 1 || found.events >= 1000, "{}", found.events);
                    reads += 1;
                }
                // A deadlock with the swap, or a lock waited for too long: the next read finds it.
                Err(Error::Passing(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        reads
    };
    let writer = fixture.another().await;
    let writing = async {
        let (mut fences, mut number) = (0, 0);
        while !over() {
            let Ok(claimed) = writer.claim(&a0(), &owner("busy")).await else { continue };
            number = claimed.checkpoint.max(number);
            let mut commit = checkpoint(&a0(), &claimed, "busy");
            loop {
                commit.partials = vec![snapshot("h", 1000 * (1 + commit.epoch.0))];
                match writer.checkpoint(Arc::new(commit.clone()), merge()).await {
                    Ok(()) => commit.number += 1,
                    Err(Error::Passing(_)) => {}
                    Err(Error::Fenced { .. }) => {
                        fences += 1;
                        break;
                    }
                    Err(other) => panic!("{other}"),
                }
                if over() {
                    break;
                }
            }
        }
        fences
    };
    let swapping = async {
        for round in 1..=5 {
            let beside = Store::open_beside(&fixture.target).await.unwrap();
            bind_to(&beside, "d1").await;
            fold(&beside, &a0(), "rebuild", "h", 1).await;
            Store::swap(&fixture.target, beside).await.unwrap();
            let epoch = fixture.store.partitions().await.unwrap()[0].epoch;
            assert!(epoch.0 > round, "{epoch}");
            // The busy owner has claimed the new one.
            await_until(|| async { fixture.store.partitions().await.unwrap()[0].owner == Some(owner("busy")) }).await;
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (reads, fences, ()) = tokio::join!(reading, writing, swapping);
    assert!(reads > 10 && fences >= 5, "{reads} reads, {fences} fences");
}

#[tokio::test]
async fn a_role_that_cannot_swap_is_told_before_it_builds() {
    let fixture = Fixture::postgres().await;
    let url = url(&fixture.target);
    let ask = |sql: &str| shared().query(url, sql);
    ask("CREATE ROLE guest LOGIN; CREATE ROLE owning LOGIN; GRANT USAGE ON SCHEMA huntline TO guest");
    let role = |name: &str| Target::Postgres { url: url.replace("//postgres@", &format!("//{name}@")), password: None };
    let sentence = fatal(Store::open_beside(&role("guest")).await);
    assert!(sentence.contains("belongs to postgres") && sentence.contains("guest"), "{sentence}");
    ask("ALTER SCHEMA huntline OWNER TO owning");
    let sentence = fatal(Store::open_beside(&role("owning")).await);
    assert!(sentence.contains("Rights in Postgres"), "{sentence}");

    // A role that made the schema itself needs no more than that.
    let url = shared().create_database();
    let database = url.rsplit('/').next().unwrap();
    shared().query(&url, &format!("GRANT CREATE ON DATABASE {database} TO owning"));
    let target = Target::Postgres { url: url.replace("//postgres@", "//owning@"), password: None };
    let store = Store::open(&target, true).await.unwrap();
    bind_to(&store, "d1").await;
    fold(&store, &a0(), "one", "h", 1).await;
    let beside = Store::open_beside(&target).await.unwrap();
    bind_to(&beside, "d2").await;
    fold(&beside, &a0(), "one", "h", 2).await;
    Store::swap(&target, beside).await.unwrap();
    assert_eq!(store.hunt("h").await.unwrap().unwrap().events, 2);
}

#[tokio::test]
async fn a_sqlite_swap_leaves_one_file_and_nothing_of_the_old() {
    let fixture = Fixture::sqlite().await;
    let directory = fixture.directory.as_ref().unwrap().path().to_owned();
    fold(&fixture.store, &a0(), "one", "h", 1).await;
    let beside = Store::open_beside(&fixture.target).await.unwrap();
    bind_to(&beside, "d2").await;
    fold(&beside, &a0(), "one", "h", 2).await;
    let (target, held) = stopped(fixture).await;

    // A program that reads the old file keeps it where it is.
    let file = directory.join("store.db");
    let reader = rusqlite::Connection::open(&file).unwrap();
    let count =
        |connection: &rusqlite::Connection| connection.query_row("SELECT sum(events) FROM partials", [], |row| row.get(0));
    assert_eq!(count(&reader), Ok(1));
    let sentence = fatal(Store::swap(&target, beside).await);
    assert!(sentence.contains("another program"), "{sentence}");
    assert_eq!(count(&reader), Ok(1));
    drop(reader);

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let beside = Store::open_beside(&target).await.unwrap();
    bind_to(&beside, "d2").await;
    fold(&beside, &a0(), "one", "h", 3).await;
    Store::swap(&target, beside).await.unwrap();
    let names = |directory: &Path| {
        let mut names: Vec<String> =
            directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&directory), ["store.db", "store.db.lock", "store.db.rebuild.lock"]);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(count(&rusqlite::Connection::open(&file).unwrap()), Ok(3));
    Store::open(&target, false).await.unwrap().ping().await.unwrap();
    drop(held);
}
