//! A hunt whose events come from two topics, with an owner each and no coordination between them.

use super::{Fixture, both, fixture::*, owner};
use huntline::position::Position;
use huntline::record::PartitionId;
use huntline::store::{Checkpoint, Error, Lag, LagReasons, Snapshot, Status, Store};
use huntline::time::Micros;
use std::sync::Arc;

both! {
    two_partitions_share_a_hunt_in_either_order
    first_partials_at_once_are_merged
    two_owners_at_once_leave_the_merge_of_both
    a_shared_hunt_has_its_worst_status_and_its_smallest_watermark
    partials_that_do_not_merge_refuse_the_hunt_alone
}

/// An owner at work on one partition.
struct Work {
    store: Store,
    next: Checkpoint,
}

impl Work {
    async fn on(store: Store, topic: &str, partition: i32) -> Self {
        let partition = PartitionId::new(topic, partition);
        let name = format!("{topic}-owner");
        let claimed = store.claim(&partition, &owner(&name)).await.unwrap();
        Self { next: checkpoint(&partition, &claimed, &name), store }
    }

    /// Commits; what passes by itself is sent again.
    async fn commit(&mut self, partials: Vec<Snapshot>) {
        self.next.partials = partials;
        let commit = Arc::new(self.next.clone());
        loop {
            match self.store.checkpoint(commit.clone(), merge()).await {
                Ok(()) => break,
                Err(Error::Passing(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        self.next.number += 1;
    }
}

async fn shown(store: &Store, hunt: &str) -> (i64, serde_json::Value, usize) {
    let hunt = store.hunt(hunt).await.unwrap().unwrap();
    (hunt.events, json(&hunt.view), hunt.partials.len())
}

async fn two_partitions_share_a_hunt_in_either_order(fixture: Fixture) {
    let mut a = Work::on(fixture.store.clone(), "a", 0).await;
    let mut b = Work::on(fixture.another().await, "b", 0).await;
    a.commit(vec![snapshot("h1", 1), snapshot("only-a", 5)]).await;
    b.commit(vec![snapshot("h1", 10), snapshot("h2", 20), snapshot("only-b", 6)]).await;
    a.commit(vec![snapshot("h2", 2)]).await;
    let store = &fixture.store;
    let merged = |a: i64, b: i64| (a + b, serde_json::json!({ "n": a + b, "from": [format!("a/0={a}"), format!("b/0={b}")] }), 2);
    assert_eq!(shown(store, "h1").await, merged(1, 10));
    assert_eq!(shown(store, "h2").await, merged(2, 20));
    assert_eq!(shown(store, "only-a").await, (5, serde_json::json!({ "n": 5, "from": [] }), 1));
    // Either owner learns of it and goes on merging.
    a.commit(vec![snapshot("h1", 3)]).await;
    assert_eq!(shown(store, "h1").await, merged(3, 10));
    b.commit(vec![snapshot("h2", 40), snapshot("h1", 11)]).await;
    assert_eq!(shown(store, "h1").await, merged(3, 11));
    assert_eq!(shown(store, "h2").await, merged(2, 40));
    // A third partial joins them.
    let mut c = Work::on(fixture.another().await, "a", 7).await;
    c.commit(vec![snapshot("h1", 100)]).await;
    assert_eq!(shown(store, "h1").await, (114, serde_json::json!({ "n": 114, "from": ["a/0=3", "a/7=100", "b/0=11"] }), 3));
    let lines = store.hunts(None, 10, None).await.unwrap();
    let lines: Vec<_> = lines.iter().map(|line| (line.hunt_id.as_str(), line.events)).collect();
    assert_eq!(lines, [("h1", 114), ("h2", 42), ("only-a", 5), ("only-b", 6)]);
    assert_eq!(fixture.count("hunts").await, 4);
}

async fn first_partials_at_once_are_merged(fixture: Fixture) {
    for round in 0..12 {
        let names: Vec<String> = (0..40).map(|n| format!("r{round}-{n}")).collect();
        let mut a = Work::on(fixture.store.clone(), "a", round).await;
        let mut b = Work::on(fixture.another().await, "b", round).await;
        tokio::join!(
            a.commit(names.iter().map(|name| snapshot(name, 1)).collect()),
            b.commit(names.iter().rev().map(|name| snapshot(name, 2)).collect()),
        );
        for name in &names {
            assert_eq!(
                shown(&fixture.store, name).await,
                (3, serde_json::json!({ "n": 3, "from": [format!("a/{round}=1"), format!("b/{round}=2")] }), 2)
            );
        }
    }
}

async fn two_owners_at_once_leave_the_merge_of_both(fixture: Fixture) {
    let mut a = Work::on(fixture.store.clone(), "a", 0).await;
    let mut b = Work::on(fixture.another().await, "b", 0).await;
    let names: Vec<String> = (0..30).map(|n| format!("h{n:02}")).collect();
    // New hunts appear among old ones all along, so that both kinds of lock meet.
    let work = async |work: &mut Work, value: i64| {
        for round in 1..=20 {
            let known = names.len().min(10 + round as usize);
            work.commit(names[..known].iter().map(|name| snapshot(name, value * round)).collect()).await;
        }
    };
    tokio::join!(work(&mut a, 1), work(&mut b, 1000));
    for name in &names {
        assert_eq!(
            shown(&fixture.store, name).await,
            (20_020, serde_json::json!({ "n": 20_020, "from": ["a/0=20", "b/0=20000"] }), 2)
        );
    }
}

async fn a_shared_hunt_has_its_worst_status_and_its_smallest_watermark(fixture: Fixture) {
    let mut a = Work::on(fixture.store.clone(), "a", 0).await;
    let mut b = Work::on(fixture.another().await, "b", 0).await;
    (a.next.clock, b.next.clock) = (Some(Micros(0)), Some(Micros(0)));
    let at = |n: i64, clock: i64, lag: Option<LagReasons>| {
        let mut row = snapshot("h", n);
        let readers = row.readers.as_mut().unwrap();
        (readers.hunt_clock, readers.partition_clock) = (Some(Micros(clock * MINUTE)), Some(Micros(0)));
        row.lag = lag.map(|reasons| Lag { position: Position(1), clock: Some(Micros(0)), held: 1, reasons });
        row
    };
    let store = &fixture.store;
    let shown = async || {
        let hunt = store.hunt("h").await.unwrap().unwrap();
        (hunt.status, hunt.watermark, hunt.events)
    };
    a.commit(vec![at(1, 10, None)]).await;
    b.commit(vec![at(2, 5, None)]).await;
    assert_eq!(shown().await, (Status::Live, Some(Micros(4 * MINUTE)), 3));
    // The other partition's silence moves its partial's watermark, without an event of the hunt.
    b.next.clock = Some(Micros(63 * MINUTE));
    b.commit(vec![]).await;
    assert_eq!(shown().await, (Status::Live, Some(Micros(7 * MINUTE)), 3));
    a.commit(vec![at(1, 10, Some(LagReasons::default()))]).await;
    assert_eq!(shown().await.0, Status::Lagging);
    b.commit(vec![at(2, 5, Some(LagReasons { gap: true, ..LagReasons::default() }))]).await;
    assert_eq!(shown().await, (Status::Parked, Some(Micros(4 * MINUTE)), 3));
    // A third that holds what it has not applied may still say anything of any time.
    let mut c = Work::on(fixture.another().await, "c", 0).await;
    let lag = Some(Lag { position: Position(0), clock: None, held: 1, reasons: LagReasons::default() });
    c.commit(vec![Snapshot { hunt: "h".into(), state: None, readers: None, lag }]).await;
    assert_eq!(shown().await, (Status::Parked, None, 3));
}

async fn partials_that_do_not_merge_refuse_the_hunt_alone(fixture: Fixture) {
    let mut a = Work::on(fixture.store.clone(), "a", 0).await;
    let mut b = Work::on(fixture.another().await, "b", 0).await;
    a.commit(vec![snapshot("h", 1), snapshot("i", 1)]).await;
    let strange = Snapshot { state: Some(b"strange".to_vec()), ..snapshot("h", 2) };
    b.next.partials = vec![strange, snapshot("i", 2)];
    match b.store.checkpoint(Arc::new(b.next.clone()), merge()).await {
        Err(Error::Refused(refused)) => {
            assert_eq!(refused.len(), 1);
            assert_eq!(refused[0].0, "h");
            assert!(refused[0].1.contains("b/0"), "{refused:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(shown(&fixture.store, "i").await.0, 1);
    let reasons = LagReasons { store_refused: true, ..LagReasons::default() };
    let lag = Some(Lag { position: Position(0), clock: None, held: 1, reasons });
    b.commit(vec![Snapshot { hunt: "h".into(), state: None, readers: None, lag }, snapshot("i", 2)]).await;
    assert_eq!(shown(&fixture.store, "i").await.0, 3);
    let hunt = fixture.store.hunt("h").await.unwrap().unwrap();
    assert_eq!((hunt.status, hunt.events), (Status::Lagging, 1));
}
