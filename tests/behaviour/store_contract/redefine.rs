//! `run --from-now` at the store: new definitions from the present positions on, all at once, and everybody else fenced.

use super::{Fixture, both, fixture::*, owner};
use huntline::position::{Epoch, Position};
use huntline::record::PartitionId;
use huntline::store::audit::digest;
use huntline::store::{
    Error, Lag, LagReasons, Merge, Readers, Redefinition, Snapshot, Store, SummaryColumn, SummaryType, Target,
};
use huntline::time::Micros;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

both! {
    a_redefinition_converts_every_partial_and_fences_every_owner
    a_lagging_partial_keeps_the_definitions_that_stand
    of_two_redefinitions_the_second_changes_nothing
    a_state_that_cannot_be_converted_leaves_the_store_as_it_was
    many_and_large_states_are_converted_in_chunks
}

const NEW_EMPTY: &str = r#"{"n":0,"new":true}"#;

fn shown(n: i64, from: &[String]) -> Readers {
    Readers { view: serde_json::json!({ "n": n, "new": true, "from": from }).to_string(), ..snapshot("", n).readers.unwrap() }
}

/// States go from digits to digits with a mark behind them.
fn redefinition(old: &str, new: &str) -> Redefinition {
    let number = |state: &[u8]| -> Result<i64, String> {
        let text = std::str::from_utf8(state).map_err(|e| e.to_string())?;
        text.trim_end_matches('!').trim_start_matches('0').parse().map_err(|_| format!("found {text:?}, expected digits"))
    };
    Redefinition {
        old: old.into(),
        new: new.into(),
        idle: None,
        lateness: 2 * MINUTE,
        empty_view: NEW_EMPTY.into(),
        summary: vec![],
        convert: Arc::new(move |state| {
            let n = number(state)?;
            Ok((format!("{n}!").into_bytes(), shown(n, &[])))
        }),
        convert_rollup: Arc::new(|share| {
            let text = std::str::from_utf8(share).map_err(|e| e.to_string())?;
            Ok(format!("\"{text}!\"").into_bytes())
        }),
        merge: Merge {
            hunts: Arc::new(move |states| {
                let mut sum = 0;
                for (_, state) in states {
                    sum += number(state)?;
                }
                let from: Vec<String> =
                    states.iter().map(|(partition, state)| format!("{partition}={}", String::from_utf8_lossy(state))).collect();
                Ok(shown(sum, &from))
            }),
            rollup: Arc::new(|shares| Ok(vec![("renamed".to_owned(), listed(shares))])),
        },
        progress: Arc::new(|_, _| {}),
    }
}

async fn a_redefinition_converts_every_partial_and_fences_every_owner(fixture: Fixture) {
    let store = &fixture.store;
    let (a, b, unread) = (a0(), PartitionId::new("b", 1), PartitionId::new("b", 2));
    let held = store.claim(&a, &owner("a-owner")).await.unwrap();
    let mut first = checkpoint(&a, &held, "a-owner");
    (first.rollup, first.tripped) = (Some(b"7".to_vec()), Some("too many".into()));
    first.partials = vec![
        snapshot("shared", 1),
        snapshot("only-a", 5),
        Snapshot { hunt: "bare".into(), state: None, readers: None, lag: None },
    ];
    store.checkpoint(Arc::new(first.clone()), merge()).await.unwrap();
    let claimed = store.claim(&b, &owner("b-owner")).await.unwrap();
    let mut second = checkpoint(&b, &claimed, "b-owner");
    (second.position, second.rollup, second.partials) = (Position(33), Some(b"8".to_vec()), vec![snapshot("shared", 10)]);
    store.checkpoint(Arc::new(second), merge()).await.unwrap();
    store.claim(&unread, &owner("b-owner")).await.unwrap();

    let told = Arc::new(Mutex::new(Vec::new()));
    let progress = {
        let told = told.clone();
        Arc::new(move |done, of| told.lock().unwrap().push((done, of)))
    };
    let by = fixture.another().await;
    let summary = vec![SummaryColumn { aggregate: "n".into(), kind: SummaryType::BigInt }];
    by.redefine(Redefinition { progress, summary: summary.clone(), ..redefinition("d1", "d2") }).await.unwrap();
    let told = told.lock().unwrap().clone();
    assert_eq!((told.first(), told.last()), (Some(&(0, 4)), Some(&(4, 4))), "three partials and a merged hunt");
    assert!(told.is_sorted());

    // What readers see is of the new definitions at once.
    let view = async |hunt: &str| {
        let hunt = store.hunt(hunt).await.unwrap().unwrap();
        (hunt.events, json(&hunt.view))
    };
    assert_eq!(view("only-a").await, (5, json(&shown(5, &[]).view)));
    assert_eq!(view("shared").await, (11, json(&shown(11, &["a/0=1!".into(), "b/1=10!".into()]).view)));
    assert_eq!(
        fixture.ask("SELECT empty_view FROM identity").iter().flatten().map(|view| json(view)).collect::<Vec<_>>(),
        [json(NEW_EMPTY)]
    );
    assert_eq!(fixture.ask("SELECT idle FROM identity"), [None]);
    assert_eq!(fixture.ask("SELECT lateness FROM identity"), [Some((2 * MINUTE).to_string())]);
    let audit = store.audit().await.unwrap();
    assert_eq!(
        audit.partitions[0].partials.iter().map(|partial| partial.digest).collect::<Vec<_>>(),
        [None, Some(digest(b"5!")), Some(digest(b"1!"))]
    );

    assert_eq!(fixture.ask("SELECT n FROM hunt_summary ORDER BY hunt_id"), [Some("5".into()), Some("11".into())]);
    let shares: Vec<_> = audit.partitions.iter().map(|partition| partition.rollup.as_deref()).collect();
    assert_eq!(shares, [Some(&b"\"7!\""[..]), Some(b"\"8!\""), None]);
    let lines = store.rollup().await.unwrap();
    assert_eq!(
        lines.iter().map(|line| (line.aggregate.as_str(), json(&line.value))).collect::<Vec<_>>(),
        [("renamed", json(r#"["7!", "8!"]"#))]
    );

    // The generation holds from where each partition is; what was never read has no such place.
    let generations = audit.generations;
    assert_eq!(generations.iter().map(|g| (g.number, g.definitions.as_str())).collect::<Vec<_>>(), [(1, "d1"), (2, "d2")]);
    assert_eq!(generations[0].since, BTreeMap::new());
    assert_eq!(generations[1].since, BTreeMap::from([(a.clone(), Position(10)), (b.clone(), Position(33))]));
    assert!(generations[1].recorded_at >= generations[0].recorded_at);

    // Whoever goes on with what it has is fenced, whatever number it names.
    for number in [1, 2] {
        first.number = number;
        assert!(matches!(store.checkpoint(Arc::new(first.clone()), merge()).await, Err(Error::Fenced { .. })));
    }
    let lines = store.partitions().await.unwrap();
    assert_eq!(lines.iter().map(|line| (line.epoch, line.owner.clone())).collect::<Vec<_>>(), vec![(Epoch(2), None); 3]);

    let identity = |definitions: &str| huntline::store::Identity { definitions: definitions.into(), ..identity() };
    let bind = async |store: &Store, definitions: &str| {
        store.bind(&identity(definitions), None, 2 * MINUTE, NEW_EMPTY, &summary, |_, _| vec![]).await
    };
    assert!(matches!(bind(&by, "d1").await, Err(Error::Redefined { stored, .. }) if stored == "d2"));
    bind(&by, "d2").await.unwrap();
    let claimed = by.claim(&a, &owner("next")).await.unwrap();
    assert_eq!((claimed.epoch, claimed.checkpoint, claimed.position), (Epoch(3), 2, Some(Position(10))));
    assert_eq!(claimed.tripped, None, "other definitions reset a breaker");
    let mut next = checkpoint(&a, &claimed, "next");
    next.position = Position(11);
    by.checkpoint(Arc::new(next), redefinition("", "").merge).await.unwrap();
}

async fn a_lagging_partial_keeps_the_definitions_that_stand(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let lag = |reasons| Some(Lag { position: Position(4), clock: None, held: 1, reasons });
    let mut commit = checkpoint(&partition, &claimed, "one");
    commit.partials = (0..12).map(|n| Snapshot { lag: lag(LagReasons::default()), ..snapshot(&format!("h{n:02}"), 1) }).collect();
    commit.partials[0].lag = lag(LagReasons { operator: true, ..LagReasons::default() });
    commit.partials.push(snapshot("live", 1));
    store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();
    match store.redefine(redefinition("d1", "d2")).await {
        Err(Error::Mismatch(sentences)) => {
            assert_eq!(sentences.len(), 12, "{sentences:#?}");
            assert!(sentences[0].contains("12 "), "{sentences:#?}");
            assert!(sentences[1].contains(r#""h00""#) && sentences[1].contains("a/0") && sentences[1].contains("resume"));
            assert!(
                sentences[10].contains(r#""h09""#) && sentences[10].contains("position 4") && !sentences[10].contains("resume")
            );
            assert!(sentences[11].contains("2 more"));
        }
        other => panic!("{other:?}"),
    }
    // Nothing changed, and the owner goes on.
    assert_eq!(store.generations().await.unwrap().len(), 1);
    commit.number = 1;
    commit.partials.iter_mut().for_each(|row| row.lag = None);
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    store.redefine(redefinition("d1", "d2")).await.unwrap();
}

async fn of_two_redefinitions_the_second_changes_nothing(fixture: Fixture) {
    let store = &fixture.store;
    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    let mut commit = checkpoint(&a0(), &claimed, "one");
    commit.partials = vec![snapshot("h", 7)];
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    let (one, two) = (fixture.another().await, fixture.another().await);
    let (first, second) = tokio::join!(one.redefine(redefinition("d1", "d2")), two.redefine(redefinition("d1", "d3")));
    let (stored, refused) = match (first, second) {
        (Ok(()), refused) => ("d2", refused),
        (refused, Ok(())) => ("d3", refused),
        neither => panic!("{neither:?}"),
    };
    assert!(matches!(&refused, Err(Error::Redefined { stored: found, .. }) if found == stored), "{refused:?}");
    assert_eq!(store.generations().await.unwrap().len(), 2);
    // The same again, as after an answer that was lost, is done already.
    let before = store.audit().await.unwrap();
    store.redefine(redefinition("d1", stored)).await.unwrap();
    assert_eq!(store.audit().await.unwrap(), before);
}

async fn a_state_that_cannot_be_converted_leaves_the_store_as_it_was(fixture: Fixture) {
    let store = &fixture.store;
    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    let mut commit = checkpoint(&a0(), &claimed, "one");
    commit.partials = vec![snapshot("a", 1), Snapshot { state: Some(b"strange".to_vec()), ..snapshot("odd", 2) }];
    store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();
    let before = store.audit().await.unwrap();
    match store.redefine(redefinition("d1", "d2")).await {
        Err(Error::Fatal(sentence)) => {
            assert!(["\"odd\"", "a/0", "strange"].iter().all(|word| sentence.contains(word)), "{sentence}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.audit().await.unwrap(), before);
    commit.number = 1;
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
}

async fn many_and_large_states_are_converted_in_chunks(fixture: Fixture) {
    let store = &fixture.store;
    let claimed = store.claim(&a0(), &owner("one")).await.unwrap();
    let mut commit = checkpoint(&a0(), &claimed, "one");
    commit.partials = (0..2500).map(|n| snapshot(&format!("h{n:04}"), n + 1)).collect();
    // Together more than a statement takes, and not at the beginning of one.
    for n in 100..106 {
        commit.partials[n].state = Some(format!("{}{}", "0".repeat(4 << 20), n + 1).into_bytes());
    }
    store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();
    store.redefine(redefinition("d1", "d2")).await.unwrap();
    let audit = store.audit().await.unwrap();
    let partials = &audit.partitions[0].partials;
    assert_eq!(partials.len(), 2500);
    for (n, partial) in (1..).zip(partials) {
        assert_eq!(partial.digest, Some(digest(format!("{n}!").as_bytes())), "{}", partial.hunt);
    }
    assert!(store.hunt("h0103").await.unwrap().unwrap().updated_at > commit.at);
}

/// A claim that waits while the definitions change must not come out of it with a plan for others.
#[tokio::test]
async fn whoever_folds_by_older_definitions_claims_nothing() {
    let fixture = Fixture::postgres().await;
    let older = fixture.another().await;
    bind(&older).await;
    let claimed = older.claim(&a0(), &owner("older")).await.unwrap();
    let mut commit = checkpoint(&a0(), &claimed, "older");
    commit.partials = vec![snapshot("h", 1)];
    older.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();

    let Target::Postgres { url, .. } = &fixture.target else { unreachable!() };
    let (begun, ready) = tokio::sync::oneshot::channel();
    let (go, gone) = std::sync::mpsc::channel();
    let (begun, gone) = (Mutex::new(Some(begun)), Mutex::new(gone));
    // In the midst of it: everything is locked, nothing committed.
    let progress = Arc::new(move |done, _| {
        if let Some(begun) = begun.lock().unwrap().take().filter(|_| done == 0) {
            begun.send(()).unwrap();
            gone.lock().unwrap().recv().unwrap();
        }
    });
    let by = fixture.store.clone();
    let redefining = tokio::spawn(async move { by.redefine(Redefinition { progress, ..redefinition("d1", "d2") }).await });
    ready.await.unwrap();
    // Readers see the store as it was.
    assert_eq!(older.hunt("h").await.unwrap().unwrap().partials[0].owner, Some(owner("older")));
    let waiting = |partition: PartitionId| {
        let older = older.clone();
        tokio::spawn(async move { older.claim(&partition, &owner("older")).await })
    };
    let claims = [waiting(a0()), waiting(PartitionId::new("a", 5))];
    let database = url.rsplit('/').next().unwrap();
    let sql = format!("SELECT 1 FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'");
    await_until(|| async { crate::harness::postgres::shared().query(url, &sql).len() == 2 }).await;
    go.send(()).unwrap();
    redefining.await.unwrap().unwrap();
    for claim in claims {
        let claim = claim.await.unwrap();
        assert!(matches!(&claim, Err(Error::Redefined { stored, .. }) if stored == "d2"), "{claim:?}");
    }
    assert_eq!(fixture.store.partitions().await.unwrap().len(), 1, "a claim that was refused leaves nothing");
    assert!(matches!(older.checkpoint(Arc::new(commit), merge()).await, Err(Error::Fenced { .. })));
    assert_eq!(fixture.store.hunt("h").await.unwrap().unwrap().last_event_at, Some(Micros(1_600_000_000_000_001)));
}
