//! The rollup: what a checkpoint carries of it, the relation that all partitions make together, and a breaker's reason beside it.

use super::postgres::await_waiting_sessions;
use super::{Fixture, both, fixture::*, owner};
use crate::harness::postgres::shared;
use huntline::position::Position;
use huntline::record::PartitionId;
use huntline::store::{Checkpoint, Error, Merge, Status, Store, Target};
use huntline::time::Micros;
use std::sync::Arc;

both! {
    a_claim_finds_rollup_and_breaker_as_committed
    where_reading_began_stays_known
    the_rollup_merges_all_partitions_in_their_order
    two_owners_at_once_are_both_in_the_rollup
    an_aggregate_that_is_no_longer_rolled_up_loses_its_row
    a_value_that_the_store_refuses_leaves_its_own_row_alone
    shares_that_do_not_merge_leave_the_rows_as_they_are
}

/// An owner at work on one partition.
struct Work {
    store: Store,
    next: Checkpoint,
}

impl Work {
    async fn on(store: Store, partition: PartitionId) -> Self {
        let name = format!("owner of {partition}");
        let claimed = store.claim(&partition, &owner(&name)).await.unwrap();
        Self { next: checkpoint(&partition, &claimed, &name), store }
    }

    async fn commit(&mut self, rollup: Option<&str>, merge: Merge) {
        self.next.rollup = rollup.map(|share| share.as_bytes().to_vec());
        self.store.checkpoint(Arc::new(self.next.clone()), merge).await.unwrap();
        self.next.number += 1;
    }
}

/// Aggregates, values and when they were written, as the store tells them.
async fn lines(store: &Store) -> Vec<(String, serde_json::Value, Micros)> {
    let lines = store.rollup().await.unwrap();
    lines.into_iter().map(|line| (line.aggregate, json(&line.value), line.updated_at)).collect()
}

async fn shares(store: &Store) -> serde_json::Value {
    let lines = lines(store).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].0, "shares");
    lines[0].1.clone()
}

/// A rollup that comes to these values, whatever its shares.
fn coming_to(values: &[(&str, &str)]) -> Merge {
    let values: Vec<(String, String)> = values.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Merge { rollup: Arc::new(move |_| Ok(values.clone())), ..merge() }
}

async fn a_claim_finds_rollup_and_breaker_as_committed(fixture: Fixture) {
    let store = &fixture.store;
    let first = store.claim(&a0(), &owner("one")).await.unwrap();
    assert_eq!((first.rollup, first.tripped), (None, None));
    let mut a = Work::on(store.clone(), a0()).await;
    let words = "600 of 1,000 records were dead letters, first a/0@7: no_hunt";
    a.next.tripped = Some(words.into());
    a.commit(Some("1"), merge()).await;
    let second = store.claim(&a0(), &owner("two")).await.unwrap();
    assert_eq!((second.rollup.as_deref(), second.tripped.as_deref()), (Some(&b"1"[..]), Some(words)));

    let lines = store.partitions().await.unwrap();
    assert_eq!(lines[0].tripped.as_deref(), Some(words));

    // No share: the one that stands is kept. No reason: the breaker is reset.
    let mut a = Work::on(store.clone(), a0()).await;
    a.commit(None, merge()).await;
    let third = store.claim(&a0(), &owner("three")).await.unwrap();
    assert_eq!((third.rollup.as_deref(), third.tripped), (Some(&b"1"[..]), None));
    assert_eq!(store.partitions().await.unwrap()[0].tripped, None);
    let other = store.claim(&PartitionId::new("a", 1), &owner("three")).await.unwrap();
    assert_eq!((other.rollup, other.tripped), (None, None));

    // A reason may quote what a record held.
    let mut a = Work::on(store.clone(), a0()).await;
    a.next.tripped = Some("found \"\0\"".into());
    a.commit(None, merge()).await;
    assert!(store.claim(&a0(), &owner("four")).await.unwrap().tripped.unwrap().starts_with("found"));
}

async fn where_reading_began_stays_known(fixture: Fixture) {
    let store = &fixture.store;
    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    store.begin(&a0(), claimed.epoch, "one", Position(40)).await.unwrap();
    let mut commit = checkpoint(&a0(), &claimed, "one");
    commit.position = Position(90);
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    store.claim(&PartitionId::new("a", 1), &owner("one")).await.unwrap();
    let rows = fixture.rows("partition, start, position", "partitions", "ORDER BY partition").await;
    let of = |texts: [Option<&str>; 3]| texts.map(|text| text.map(String::from)).to_vec();
    assert_eq!(rows, [of([Some("0"), Some("40"), Some("90")]), of([Some("1"), None, None])]);
}

async fn the_rollup_merges_all_partitions_in_their_order(fixture: Fixture) {
    let store = &fixture.store;
    assert_eq!(store.rollup().await.unwrap(), []);
    for (topic, partition, share) in [("b", 0, "\"b0\""), ("a", 10, "\"a10\""), ("a", 2, "\"a2\"")] {
        Work::on(store.clone(), PartitionId::new(topic, partition)).await.commit(Some(share), merge()).await;
    }
    // One that has none yet takes no place among them.
    let mut silent = Work::on(store.clone(), PartitionId::new("a", 3)).await;
    silent.next.at = Micros(1_800_000_000_000_000);
    silent.commit(None, merge()).await;
    let before = lines(store).await;
    assert_eq!(before, [("shares".into(), serde_json::json!(["a2", "a10", "b0"]), Micros(1_700_000_001_000_000))]);
    silent.commit(Some("\"a3\""), merge()).await;
    let after = lines(store).await;
    assert_eq!(after, [("shares".into(), serde_json::json!(["a2", "a3", "a10", "b0"]), Micros(1_800_000_000_000_000))]);
}

async fn two_owners_at_once_are_both_in_the_rollup(fixture: Fixture) {
    let mut a = Work::on(fixture.store.clone(), a0()).await;
    let mut b = Work::on(fixture.another().await, PartitionId::new("b", 0)).await;
    for round in 0..40 {
        let (of_a, of_b) = (format!("{round}"), format!("{}", 1000 + round));
        tokio::join!(a.commit(Some(&of_a), merge()), b.commit(Some(&of_b), merge()));
        assert_eq!(shares(&fixture.store).await, serde_json::json!([round, 1000 + round]));
    }
}

/// The same, with both of them held up where they would read the other's share.
#[tokio::test]
async fn the_second_of_two_owners_reads_what_the_first_committed() {
    let fixture = Fixture::postgres().await;
    let Target::Postgres { url, .. } = &fixture.target else { panic!("a Postgres store") };
    let mut a = Work::on(fixture.store.clone(), a0()).await;
    let mut b = Work::on(fixture.another().await, PartitionId::new("b", 0)).await;
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute("BEGIN; SELECT 1 FROM huntline.identity FOR UPDATE").await.unwrap();
    let release = async {
        await_waiting_sessions(url, 2).await;
        client.batch_execute("ROLLBACK").await.unwrap();
    };
    tokio::join!(a.commit(Some("1"), merge()), b.commit(Some("2"), merge()), release);
    assert_eq!(shares(&fixture.store).await, serde_json::json!([1, 2]));
    drop(client);
    connection.await.unwrap().unwrap();
}

async fn an_aggregate_that_is_no_longer_rolled_up_loses_its_row(fixture: Fixture) {
    let mut a = Work::on(fixture.store.clone(), a0()).await;
    let names =
        async || lines(&fixture.store).await.into_iter().map(|(name, value, _)| format!("{name}={value}")).collect::<Vec<_>>();
    a.commit(Some(""), coming_to(&[("solved", "3"), ("points", "1e300"), ("best", "null")])).await;
    let mut seen = names().await;
    assert_eq!(
        seen.remove(1).split_once('=').map(|(name, value)| (name.to_owned(), json(value))),
        Some(("points".into(), json("1e300")))
    );
    assert_eq!(seen, ["best=null", "solved=3"]);
    a.commit(Some(""), coming_to(&[("solved", "4")])).await;
    assert_eq!(names().await, ["solved=4"]);
    a.commit(None, coming_to(&[])).await;
    assert_eq!(names().await, ["solved=4"]);
    a.commit(Some(""), coming_to(&[])).await;
    assert_eq!(names().await, Vec::<String>::new());
}

async fn a_value_that_the_store_refuses_leaves_its_own_row_alone(fixture: Fixture) {
    let store = &fixture.store;
    let mut a = Work::on(store.clone(), a0()).await;
    a.commit(Some("1"), coming_to(&[("first", "\"ok\""), ("solved", "1")])).await;
    let began = a.next.at;
    a.next.at = Micros(began.0 + 7);
    a.next.position = Position(20);
    a.next.partials = vec![snapshot("h", 1)];
    a.commit(Some("2"), coming_to(&[("first", fixture.refused_view()), ("gone", fixture.refused_view()), ("solved", "2")])).await;
    let expected = [("first".into(), json("\"ok\""), began), ("solved".into(), json("2"), a.next.at)];
    assert_eq!(lines(store).await, expected);
    // Nothing else noticed.
    let claimed = store.claim(&a0(), &owner("next")).await.unwrap();
    assert_eq!((claimed.position, claimed.rollup.as_deref(), claimed.lagging.len()), (Some(Position(20)), Some(&b"2"[..]), 0));
    assert_eq!(store.hunt("h").await.unwrap().unwrap().status, Status::Live);

    let mut a = Work::on(store.clone(), a0()).await;
    a.commit(Some("3"), coming_to(&[("first", fixture.refused_view())])).await;
    assert_eq!(lines(store).await, [("first".into(), json("\"ok\""), began)]);
    a.commit(Some("4"), coming_to(&[("first", "\"again\"")])).await;
    assert_eq!(lines(store).await, [("first".into(), json("\"again\""), a.next.at)]);
}

async fn shares_that_do_not_merge_leave_the_rows_as_they_are(fixture: Fixture) {
    let store = &fixture.store;
    let mut a = Work::on(store.clone(), a0()).await;
    a.commit(Some("1"), merge()).await;
    let before = lines(store).await;
    a.next.at = Micros(a.next.at.0 + 7);
    a.next.position = Position(20);
    let unmerged = Merge { rollup: Arc::new(|_| Err("version 9, expected 1".into())), ..merge() };
    a.commit(Some("2"), unmerged).await;
    assert_eq!(lines(store).await, before);
    let claimed = store.claim(&a0(), &owner("next")).await.unwrap();
    assert_eq!((claimed.position, claimed.rollup.as_deref()), (Some(Position(20)), Some(&b"2"[..])));
    // A fenced checkpoint leaves no trace in it either.
    a.next.rollup = Some(b"3".to_vec());
    assert!(matches!(store.checkpoint(Arc::new(a.next.clone()), merge()).await, Err(Error::Fenced { .. })));
    assert_eq!(lines(store).await, before);
}

/// Whoever waits for a lock that never comes hears of it in time, and the same checkpoint passes afterwards.
#[tokio::test]
async fn a_rollup_that_stays_locked_holds_a_checkpoint_up_and_no_longer() {
    use huntline::store::postgres::{Limits, Postgres};
    use std::time::Duration;
    let fixture = Fixture::postgres().await;
    let Target::Postgres { url, .. } = &fixture.target else { panic!("a Postgres store") };
    let limits = Limits { lock: Duration::from_millis(300), ..Limits::default() };
    let store = Store::Postgres(Postgres::open_with(url, None, false, limits).await.unwrap());
    let mut a = Work::on(store.clone(), a0()).await;
    a.next.partials = vec![snapshot("new here", 1)];
    a.next.rollup = Some(b"1".to_vec());
    let commit = Arc::new(a.next.clone());
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute("BEGIN; SELECT 1 FROM huntline.identity FOR UPDATE").await.unwrap();
    match store.checkpoint(commit.clone(), merge()).await {
        Err(Error::Passing(sentence)) => assert!(sentence.contains("lock timeout"), "{sentence}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.partitions().await.unwrap()[0].position, None);
    client.batch_execute("ROLLBACK").await.unwrap();
    store.checkpoint(commit, merge()).await.unwrap();
    assert_eq!(shares(&fixture.store).await, serde_json::json!([1]));
    drop(client);
    connection.await.unwrap().unwrap();
    assert!(shared().query(url, "SELECT 1 FROM huntline.hunt_home").len() == 1);
}
