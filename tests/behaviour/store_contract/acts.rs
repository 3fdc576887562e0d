//! Operators' acts: asked by anybody, open for their partition's owner, done with its checkpoint.

use super::{Fixture, both, fixture::*, owner};
use huntline::position::{Offset, Position};
use huntline::record::PartitionId;
use huntline::store::{Act, Ask, DoneAct, Error, OpenAct};
use huntline::time::Micros;
use std::sync::Arc;

both! {
    an_act_is_open_until_the_checkpoint_that_did_it
    an_act_is_done_once_and_for_its_own_partition
    every_act_can_be_asked_for
}

fn asked(act: Act) -> Ask {
    Ask { act, partition: Some(a0()), hunt: None, offset: None, by: None, at: Micros(1_700_000_000_000_001) }
}

async fn an_act_is_open_until_the_checkpoint_that_did_it(fixture: Fixture) {
    let (store, other) = (&fixture.store, fixture.another().await);
    let full = Ask { hunt: Some("h".into()), offset: Some(Offset(7)), by: Some("ann@127.0.0.1".into()), ..asked(Act::Replay) };
    let first = other.ask(&full).await.unwrap();
    let second = other.ask(&asked(Act::Reset)).await.unwrap();
    let elsewhere = other.ask(&Ask { partition: Some(PartitionId::new("a", 1)), ..asked(Act::Reset) }).await.unwrap();
    let anywhere = other.ask(&Ask { partition: None, hunt: Some("h".into()), ..asked(Act::Park) }).await.unwrap();
    let open = |id, ask: &Ask| OpenAct {
        id,
        act: ask.act,
        hunt: ask.hunt.clone(),
        offset: ask.offset,
        by: ask.by.clone(),
        asked_at: ask.at,
    };
    assert_eq!(store.open_acts(&a0()).await.unwrap(), [open(first, &full), open(second, &asked(Act::Reset))]);
    assert_eq!(store.open_acts(&PartitionId::new("b", 0)).await.unwrap(), []);

    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    let mut commit = checkpoint(&a0(), &claimed, "one");
    commit.acts = vec![DoneAct { id: first, result: "applied".into() }];
    let mut stale = commit.clone();
    stale.owner = "zombie".into();
    assert!(matches!(store.checkpoint(Arc::new(stale), merge()).await, Err(Error::Fenced { .. })));
    assert_eq!(other.act_done(first).await.unwrap(), None);
    store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();
    assert_eq!(store.open_acts(&a0()).await.unwrap(), [open(second, &asked(Act::Reset))]);
    assert_eq!(other.act_done(first).await.unwrap().as_deref(), Some("applied"));
    for id in [second, elsewhere, anywhere, anywhere + 1] {
        assert_eq!(other.act_done(id).await.unwrap(), None);
    }
    let row =
        fixture.rows("act, topic, partition, position, hunt_id, \"offset\", \"by\", result", "acts", "ORDER BY id LIMIT 1").await;
    let expected = ["replay", "a", "0", "10", "h", "7", "ann@127.0.0.1", "applied"].map(|text| Some(text.to_owned()));
    assert_eq!(row, [expected.to_vec()]);
    let untouched = fixture.rows("id", "acts", "WHERE done_at IS NULL AND position IS NULL AND result IS NULL").await;
    assert_eq!(untouched.len(), 3);
}

async fn an_act_is_done_once_and_for_its_own_partition(fixture: Fixture) {
    let store = &fixture.store;
    let mine = store.ask(&asked(Act::Reset)).await.unwrap();
    let elsewhere = store.ask(&Ask { partition: Some(PartitionId::new("a", 1)), ..asked(Act::Reset) }).await.unwrap();
    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    let mut commit = checkpoint(&a0(), &claimed, "one");
    commit.acts = vec![
        DoneAct { id: mine, result: "the breaker found \"\0\" and is reset".into() },
        DoneAct { id: elsewhere, result: "not mine".into() },
    ];
    store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();
    let said = store.act_done(mine).await.unwrap().unwrap();
    assert!(said.ends_with("and is reset"), "{said}");
    assert_eq!(store.act_done(elsewhere).await.unwrap(), None);
    (commit.number, commit.position, commit.acts[0].result) = (1, Position(11), "again".into());
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    assert_eq!(store.act_done(mine).await.unwrap(), Some(said));
    assert_eq!(fixture.rows("position", "acts", "ORDER BY id LIMIT 1").await, [[Some("10".to_owned())]]);
}

async fn every_act_can_be_asked_for(fixture: Fixture) {
    let acts = [Act::Park, Act::Resume, Act::Skip, Act::Replay, Act::Discard, Act::Reset];
    for act in acts {
        fixture.store.ask(&asked(act)).await.unwrap();
    }
    let open = fixture.store.open_acts(&a0()).await.unwrap();
    assert_eq!(open.iter().map(|open| open.act).collect::<Vec<_>>(), acts);
}
