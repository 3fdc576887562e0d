//! What `verify` reads: one moment of the whole store, digests for states, and the states of those that differ.

use super::{Fixture, both, fixture::*, letter, owner};
use huntline::outcome::{Counts, Reason};
use huntline::position::{Offset, Position};
use huntline::record::PartitionId;
use huntline::store::audit::digest;
use huntline::store::{AuditedLetter, AuditedPartial, DeadLetter, Error, Gap, Lag, LagReasons, Snapshot};
use huntline::time::Micros;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

both! {
    an_audit_tells_all_that_the_store_knows
    an_audit_of_one_hunt_leaves_out_all_others
    an_audit_is_one_moment
    partials_come_with_their_partitions_position
    dead_letters_are_audited_in_pages_by_their_digests
    letters_that_an_operator_settled_are_known
    a_store_remembers_what_it_was_first_built_with
    a_store_of_an_earlier_huntline_gets_its_first_generation
}

async fn an_audit_tells_all_that_the_store_knows(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    assert_eq!(store.audit().await.unwrap().partitions, []);
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let lag =
        Lag { position: Position(4), clock: Some(Micros(9)), held: 2, reasons: LagReasons { gap: true, ..Default::default() } };
    let gap = |from: i64, hunt: Option<&str>| Gap {
        hunt_id: hunt.map(String::from),
        from: Position(from),
        to: Position(from + 2),
        reason: "retention".into(),
        found_at: Micros(5),
    };
    store.begin(&partition, claimed.epoch, "one", Position(2)).await.unwrap();
    let mut commit = checkpoint(&partition, &claimed, "one");
    commit.rollup = Some(b"7".to_vec());
    commit.counts = Counts { records: 10, applied: 5, duplicate: 1, dead_lettered: 3, ignored: 0, held: 1, late: 1 };
    commit.partials = vec![
        snapshot("b", 2),
        Snapshot { lag: Some(lag), ..snapshot("é", 3) },
        Snapshot { hunt: "a".into(), state: None, readers: None, lag: Some(Lag { clock: None, ..lag }) },
        Snapshot { state: Some(vec![]), ..snapshot("Z", 1) },
    ];
    commit.dead_letters = [(7, Reason::StateFull), (3, Reason::NotJson), (5, Reason::Failed)]
        .map(|(offset, reason)| huntline::store::DeadLetter { reason, ..letter(&partition, offset) })
        .into();
    commit.gaps = vec![gap(30, Some("b")), gap(8, None)];
    store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();
    let other = PartitionId::new("b", 3);
    store.claim(&other, &owner("one")).await.unwrap();

    let audit = store.audit().await.unwrap();
    let names: Vec<String> = audit.partitions.iter().map(|found| found.partition.to_string()).collect();
    assert_eq!(names, ["a/0", "b/3"]);
    let found = &audit.partitions[0];
    assert_eq!((found.position, found.clock, found.counts), (Some(commit.position), commit.clock, commit.counts));
    assert_eq!((found.start, found.rollup.as_deref()), (Some(Position(2)), Some(&b"7"[..])));
    let partial = |hunt: &str, state: Option<&[u8]>, lag| AuditedPartial { hunt: hunt.into(), digest: state.map(digest), lag };
    let expected = [
        partial("Z", Some(b""), None),
        partial("a", None, Some(Lag { clock: None, ..lag })),
        partial("b", Some(b"2"), None),
        partial("é", Some(b"3"), Some(lag)),
    ];
    assert_eq!(found.partials, expected);
    let known = [0xd4, 0x73, 0x5e, 0x3a, 0x26, 0x5e, 0x16, 0xee];
    assert_eq!(found.partials[2].digest.unwrap()[..8], known, "the SHA-256 of \"2\"");
    assert_eq!(found.left_out, [(Offset(5), Reason::Failed), (Offset(7), Reason::StateFull)]);
    assert_eq!((found.gaps.as_slice(), found.letters), ([gap(8, None), gap(30, Some("b"))].as_slice(), 3));
    let bare = &audit.partitions[1];
    assert_eq!((bare.position, bare.partials.len(), bare.letters), (None, 0, 0));
    assert_eq!(audit.generations, store.generations().await.unwrap());
}

async fn an_audit_of_one_hunt_leaves_out_all_others(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let gap = |from: i64, hunt: Option<&str>| Gap {
        hunt_id: hunt.map(String::from),
        from: Position(from),
        to: Position(from + 2),
        reason: "retention".into(),
        found_at: Micros(5),
    };
    let mut commit = checkpoint(&partition, &claimed, "one");
    commit.partials = vec![snapshot("h", 2), snapshot("i", 3)];
    let of = |offset: i64, hunt: Option<&str>, reason| huntline::store::DeadLetter {
        hunt_id: hunt.map(String::from),
        reason,
        ..letter(&partition, offset)
    };
    commit.dead_letters = vec![
        of(1, Some("h"), Reason::NotJson),
        of(2, Some("h"), Reason::Failed),
        of(3, Some("i"), Reason::Failed),
        of(4, None, Reason::NoHunt),
    ];
    commit.gaps = vec![gap(8, None), gap(20, Some("i")), gap(30, Some("h"))];
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    let whole = store.audit().await.unwrap();
    let audit = store.audit_of("h").await.unwrap();
    let found = &audit.partitions[0];
    assert_eq!(found.partials, whole.partitions[0].partials[..1]);
    assert_eq!((found.left_out.as_slice(), found.letters), (&[(Offset(2), Reason::Failed)][..], 2));
    assert_eq!(found.gaps, [gap(8, None), gap(30, Some("h"))]);
    assert_eq!((found.position, &audit.generations), (whole.partitions[0].position, &whole.generations));
    let unknown = store.audit_of("never").await.unwrap();
    assert_eq!((unknown.partitions[0].partials.len(), unknown.partitions[0].letters), (0, 0));
}

/// Every checkpoint changes a position, a count, a state and a dead letter together: an audit that saw part of one would disagree with itself.
async fn an_audit_is_one_moment(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let done = AtomicBool::new(false);
    let writing = async {
        for n in 1..=60 {
            let mut commit = checkpoint(&partition, &claimed, "one");
            (commit.number, commit.position) = (n - 1, Position(n));
            commit.counts = Counts { records: n, dead_lettered: n, ..Counts::default() };
            commit.partials = (0..50).map(|hunt| snapshot(&format!("h{hunt:02}"), n)).collect();
            commit.dead_letters = vec![huntline::store::DeadLetter { reason: Reason::Failed, ..letter(&partition, n - 1) }];
            store.checkpoint(Arc::new(commit), merge()).await.unwrap();
        }
        done.store(true, Ordering::Relaxed);
    };
    let reader = fixture.another().await;
    let reading = async {
        let mut positions = std::collections::BTreeSet::new();
        while !done.load(Ordering::Relaxed) {
            let audit = reader.audit().await.unwrap();
            let found = &audit.partitions[0];
            let Some(Position(n)) = found.position else { continue };
            positions.insert(n);
            assert_eq!((found.counts.records, found.letters, found.left_out.len() as i64), (n, n, n));
            assert_eq!(found.partials.len(), 50);
            let state = digest(n.to_string().as_bytes());
            assert!(found.partials.iter().all(|partial| partial.digest == Some(state)), "at {n}");
        }
        positions.len()
    };
    let ((), seen) = tokio::join!(writing, reading);
    assert!(seen > 5, "only {seen} moments were seen between checkpoints");
}

async fn partials_come_with_their_partitions_position(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    match store.partials(&partition, vec!["h".into()]).await {
        Err(Error::Fatal(sentence)) => assert!(sentence.contains("a/0"), "{sentence}"),
        other => panic!("{other:?}"),
    }
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let mut commit = checkpoint(&partition, &claimed, "one");
    commit.partials = vec![snapshot("h", 1), snapshot("i", 2)];
    store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();
    let (position, mut found) = store.partials(&partition, vec!["i".into(), "unknown".into()]).await.unwrap();
    let mut expected = vec![snapshot("i", 2)];
    found.iter_mut().chain(&mut expected).for_each(normalise);
    assert_eq!((position, found), (commit.position, expected));
    assert_eq!(store.partials(&partition, vec![]).await.unwrap(), (commit.position, vec![]));
}

async fn dead_letters_are_audited_in_pages_by_their_digests(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let headers = vec![("trace\0%00".to_owned(), Some(vec![0, 255])), ("é".to_owned(), None)];
    let letters: Vec<DeadLetter> = [
        DeadLetter { hunt_id: None, key: None, value: None, record_at: None, ..letter(&partition, 0) },
        DeadLetter { value: Some(vec![7; 100_000]), headers, reason: Reason::WrongType, ..letter(&partition, 3) },
        DeadLetter { record_at: Some(Micros(i64::MAX)), ..letter(&partition, 4) },
        DeadLetter { key: Some(vec![]), ..letter(&partition, 9) },
    ]
    .into();
    for (partition, letters) in [(partition.clone(), letters.clone()), (PartitionId::new("a", 1), vec![letter(&partition, 5)])] {
        let claimed = store.claim(&partition, &owner("one")).await.unwrap();
        let mut commit = checkpoint(&partition, &claimed, "one");
        commit.dead_letters = letters;
        store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    }
    let expected: Vec<AuditedLetter> = letters.iter().map(AuditedLetter::of).collect();
    let page = async |after: Option<i64>, until, limit| {
        store.audited_letters(&partition, after.map(Offset), Position(until), limit).await.unwrap()
    };
    assert_eq!(page(None, 10, 10).await, expected);
    assert_eq!(page(None, 10, 2).await, expected[..2]);
    assert_eq!(page(Some(0), 9, 10).await, expected[1..3]);
    assert_eq!(page(Some(9), 100, 10).await, []);
    assert_eq!((expected[1].value, expected[0].key), (Some(digest(&vec![7; 100_000])), None));

    fixture.alter(r#"UPDATE dead_letters SET reason = 'other', headers = '{"a": 1}', key = NULL WHERE "offset" = 3"#);
    let changed = &page(Some(0), 4, 10).await[0];
    assert_eq!((changed.reason.as_str(), changed.key, changed.value), ("other", None, expected[1].value));
    assert_ne!(changed.headers, expected[1].headers);
}

async fn letters_that_an_operator_settled_are_known(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let act = |offset: i64, act: &str, topic: &str, done: &str| {
        fixture.alter(&format!(
            r#"INSERT INTO acts (topic, partition, "offset", act, asked_at, done_at) VALUES ('{topic}', 0, {offset}, '{act}', '2026-01-01T00:00:00.000000Z', {done})"#
        ));
    };
    const DONE: &str = "'2026-01-01T00:00:01.000000Z'";
    act(3, "replay", "a", DONE);
    act(3, "discard", "a", DONE);
    act(4, "discard", "a", "NULL");
    act(5, "skip", "a", DONE);
    act(6, "discard", "b", DONE);
    act(8, "discard", "a", DONE);
    act(9, "discard", "a", DONE);
    let asked = [9, 3, 4, 5, 6, 7].map(Offset).to_vec();
    assert_eq!(store.settled(&partition, asked).await.unwrap(), [Offset(3), Offset(9)]);
    assert_eq!(store.settled(&partition, vec![]).await.unwrap(), []);
}

async fn a_store_remembers_what_it_was_first_built_with(fixture: Fixture) {
    let generations = fixture.store.generations().await.unwrap();
    assert_eq!(generations.len(), 1);
    assert_eq!((generations[0].number, generations[0].definitions.as_str(), generations[0].since.len()), (1, "d1", 0));
    assert!(generations[0].recorded_at > Micros(1_700_000_000_000_000));
    bind(&fixture.store).await;
    assert_eq!(fixture.store.generations().await.unwrap(), generations);
}

async fn a_store_of_an_earlier_huntline_gets_its_first_generation(fixture: Fixture) {
    let target = fixture.target.clone();
    // The second version knew neither generations nor which checkpoint saved a partial.
    let forget = match &target {
        huntline::store::Target::Postgres { .. } => "DELETE FROM migrations WHERE version > 2",
        huntline::store::Target::Sqlite { .. } => "PRAGMA user_version = 2",
    };
    fixture.alter(&format!(
        "DROP TABLE definition_positions; DROP TABLE definitions; ALTER TABLE partials DROP COLUMN saved; {forget}"
    ));
    huntline::store::Store::migrate(&target).await.unwrap();
    let generations = fixture.store.generations().await.unwrap();
    assert_eq!((generations.len(), generations[0].number, generations[0].definitions.as_str()), (1, 1, "d1"));
    bind(&fixture.store).await;
}
