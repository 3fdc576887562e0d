//! What a store must do, shown by one suite run against both: Postgres and SQLite. What only a server can do wrong (lost answers,
//! frozen sessions, restarts, rights) stands in `postgres`.

mod acts;
mod audit;
mod beside;
mod fixture;
mod postgres;
mod redefine;
mod reference;
mod rollup;
mod sharing;
mod shown;
mod summary;
mod upgrade;

use fixture::*;
use huntline::outcome::{Counts, Reason};
use huntline::position::{Epoch, Offset, Position};
use huntline::record::PartitionId;
use huntline::store::{
    DeadLetter, Error, Gap, Identity, Lag, LagReasons, LetterFilter, LetterState, Loaded, Owner, Readers, SchemaVersion,
    Snapshot, Status, Store,
};
use huntline::time::Micros;
use std::sync::Arc;

/// Each of these functions as a test of both stores.
macro_rules! both {
    ($($name:ident)*) => {
        mod on_postgres {
            $(#[tokio::test] async fn $name() { super::$name(super::Fixture::postgres().await).await })*
        }
        mod on_sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::Fixture::sqlite().await).await })*
        }
    };
}
pub(crate) use both;

both! {
    a_claim_raises_the_epoch_and_tells_what_stands
    a_start_is_written_under_the_fence_and_once
    an_older_claim_is_fenced
    a_checkpoint_with_another_number_is_fenced
    the_same_checkpoint_sent_again_counts_once
    what_is_committed_comes_back_field_by_field
    a_lagging_partial_comes_with_the_next_claim
    a_hunt_that_begins_to_lag_keeps_the_state_it_has
    refused_snapshots_are_named_and_nothing_is_committed
    a_watermark_moves_with_its_partition_clock_and_stays_within_bounds
    hunts_are_listed_by_id_in_pages_and_by_status
    dead_letters_are_listed_in_pages_and_by_what_is_asked
    a_dead_letter_is_written_once
    a_gap_found_again_is_one_row_that_grows
    ids_of_any_letters_are_kept
    a_store_of_something_else_is_refused_in_sentences
    migrating_at_once_migrates_once
    a_checkpoint_ends_though_nobody_waits_for_it
}

async fn a_claim_raises_the_epoch_and_tells_what_stands(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let first = store.claim(&partition, &owner("one")).await.unwrap();
    assert_eq!((first.epoch, first.checkpoint, first.position, first.clock), (Epoch(1), 0, None, None));
    assert_eq!((first.counts, first.lagging.len()), (Counts::default(), 0));
    store.begin(&partition, first.epoch, "one", Position(0)).await.unwrap();
    let mut commit = checkpoint(&partition, &first, "one");
    commit.position = Position(9);
    commit.clock = Some(Micros(77));
    commit.counts = Counts { records: 9, applied: 3, duplicate: 1, dead_lettered: 2, ignored: 1, held: 2, late: 1 };
    store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();

    let second = store.claim(&partition, &owner("two")).await.unwrap();
    assert_eq!(
        (second.epoch, second.checkpoint, second.position, second.clock),
        (Epoch(2), 1, Some(Position(9)), Some(Micros(77)))
    );
    assert_eq!(second.counts, commit.counts);
    let other = store.claim(&PartitionId::new("a", 1), &owner("two")).await.unwrap();
    assert_eq!((other.epoch, other.position), (Epoch(1), None));

    let lines = store.partitions().await.unwrap();
    let seen: Vec<_> = lines.iter().map(|line| (line.partition.to_string(), line.position, line.epoch, line.counts)).collect();
    let expected =
        [("a/0".to_owned(), Some(Position(9)), Epoch(2), commit.counts), ("a/1".to_owned(), None, Epoch(1), Counts::default())];
    assert_eq!(seen, expected);
    assert_eq!(lines[0].owner, Some(owner("two")));
}

async fn a_start_is_written_under_the_fence_and_once(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    store.begin(&partition, claimed.epoch, "one", Position(40)).await.unwrap();
    store.begin(&partition, claimed.epoch, "one", Position(40)).await.unwrap();
    for (epoch, who, position) in [(claimed.epoch, "one", 41), (claimed.epoch, "two", 40), (Epoch(7), "one", 40)] {
        let fenced = store.begin(&partition, epoch, who, Position(position)).await;
        assert!(matches!(fenced, Err(Error::Fenced { .. })), "{fenced:?}");
    }
    assert_eq!(store.claim(&partition, &owner("two")).await.unwrap().position, Some(Position(40)));
}

async fn an_older_claim_is_fenced(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let zombie = store.claim(&partition, &owner("zombie")).await.unwrap();
    let living = fixture.another().await.claim(&partition, &owner("living")).await.unwrap();
    let mut late = checkpoint(&partition, &zombie, "zombie");
    late.partials = vec![snapshot("h", 1)];
    match store.checkpoint(Arc::new(late), merge()).await {
        Err(Error::Fenced { partition: found_at, found }) => {
            assert_eq!(found_at, partition);
            assert!(found.contains("epoch 2") && found.contains("living"), "{found}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.load(&partition, vec!["h".into()]).await.unwrap().snapshots, []);
    // An epoch alone does not pass: two processes may have been handed the same one by a store that went back in time.
    let mut stranger = checkpoint(&partition, &living, "zombie");
    stranger.position = Position(5);
    assert!(matches!(store.checkpoint(Arc::new(stranger), merge()).await, Err(Error::Fenced { .. })));
    store.checkpoint(Arc::new(checkpoint(&partition, &living, "living")), merge()).await.unwrap();
}

async fn a_checkpoint_with_another_number_is_fenced(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    for number in [0, 1, 2] {
        let mut commit = checkpoint(&partition, &claimed, "one");
        commit.number = number;
        store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    }
    // 2 was committed last: sent again it is known. Everything else is another history.
    for number in [0, 1, 4, -1] {
        let mut commit = checkpoint(&partition, &claimed, "one");
        commit.number = number;
        commit.partials = vec![snapshot("h", 1)];
        let fenced = store.checkpoint(Arc::new(commit), merge()).await;
        assert!(matches!(fenced, Err(Error::Fenced { .. })), "{number}: {fenced:?}");
    }
    assert_eq!(store.load(&partition, vec!["h".into()]).await.unwrap().snapshots, []);
}

async fn the_same_checkpoint_sent_again_counts_once(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let mut commit = checkpoint(&partition, &claimed, "one");
    commit.partials = vec![snapshot("h", 3)];
    commit.gaps =
        vec![Gap { hunt_id: None, from: Position(1), to: Position(2), reason: "retention".into(), found_at: Micros(5) }];
    let commit = Arc::new(commit);
    for _ in 0..3 {
        store.checkpoint(commit.clone(), merge()).await.unwrap();
    }
    let again = store.claim(&partition, &owner("one")).await.unwrap();
    assert_eq!((again.checkpoint, again.counts), (1, commit.counts));
    assert_eq!(fixture.count("gaps").await, 1);
}

async fn what_is_committed_comes_back_field_by_field(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let full = Readers {
        view: r#"{"a":5,"b":[{"start":"1970-01-01T00:00:00Z","value":1e3}],"c":null,"ü":"\"\\"}"#.into(),
        events: 1 << 60,
        first_event_at: Some(Micros(0)),
        last_event_at: Some(Micros::MAX),
        hunt_clock: Some(Micros(1_700_000_000_123_457)),
        partition_clock: Some(Micros(i64::MAX)),
        watermark_floor: Some(Micros(-60_000_000)),
    };
    let bare = Readers {
        view: "{}".into(),
        events: 0,
        first_event_at: None,
        last_event_at: None,
        hunt_clock: None,
        partition_clock: None,
        watermark_floor: None,
    };
    let every = LagReasons { operator: true, failed: true, state_full: true, gap: true, store_refused: true };
    let mut commit = checkpoint(&partition, &claimed, "one");
    commit.partials = vec![
        Snapshot { hunt: "z".into(), state: Some(vec![0, 255, 1]), readers: Some(full.clone()), lag: None },
        Snapshot { hunt: "b".into(), state: Some(vec![]), readers: Some(bare), lag: None },
        Snapshot {
            hunt: "c".into(),
            state: Some(vec![9; 100_000]),
            readers: Some(full),
            lag: Some(Lag { position: Position(i64::MAX - 1), clock: Some(Micros(1)), held: 12, reasons: every }),
        },
        Snapshot {
            hunt: "a".into(),
            state: None,
            readers: None,
            lag: Some(Lag { position: Position(0), clock: None, held: 1, reasons: LagReasons::default() }),
        },
    ];
    store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();
    let names = ["a", "b", "c", "z", "unknown"].map(String::from).to_vec();
    let mut found = store.load(&partition, names.clone()).await.unwrap().snapshots;
    let mut expected = commit.partials.clone();
    for list in [&mut found, &mut expected] {
        list.sort_by(|a, b| a.hunt.cmp(&b.hunt));
        list.iter_mut().for_each(normalise);
    }
    assert_eq!(found, expected);
    assert_eq!(store.load(&partition, names.clone()).await.unwrap().newest, 1);
    assert_eq!(store.load(&PartitionId::new("a", 1), names).await.unwrap(), Loaded::default());
    assert_eq!(store.load(&partition, vec![]).await.unwrap().snapshots, []);

    let hunt = store.hunt("c").await.unwrap().unwrap();
    assert_eq!((hunt.status, hunt.events, hunt.updated_at), (Status::Parked, 1 << 60, commit.at));
    assert_eq!((hunt.first_event_at, hunt.last_event_at), (Some(Micros(0)), Some(Micros::MAX)));
    assert_eq!(hunt.partials.len(), 1);
    let partial = &hunt.partials[0];
    assert_eq!((&partial.partition, partial.partition_position), (&partition, Some(commit.position)));
    assert_eq!((partial.partition_clock, &partial.owner), (commit.clock, &Some(owner("one"))));
    let mut row = partial.snapshot.clone();
    normalise(&mut row);
    assert_eq!(row, expected[2]);
    assert_eq!(store.hunt("unknown").await.unwrap(), None);
}

async fn a_lagging_partial_comes_with_the_next_claim(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let parked = LagReasons { failed: true, ..LagReasons::default() };
    let lag = |position, reasons| Lag { position: Position(position), clock: Some(Micros(position)), held: position, reasons };
    let mut commit = checkpoint(&partition, &claimed, "one");
    commit.partials = vec![
        snapshot("live", 1),
        Snapshot { lag: Some(lag(4, parked)), ..snapshot("parked", 1) },
        Snapshot { hunt: "fresh".into(), state: None, readers: None, lag: Some(lag(2, LagReasons::default())) },
    ];
    store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();

    let claimed = store.claim(&partition, &owner("two")).await.unwrap();
    let seen: Vec<_> = claimed.lagging.iter().map(|l| (l.hunt.as_str(), l.position.0, l.clock, l.held, l.reasons)).collect();
    assert_eq!(seen, [("fresh", 2, Some(Micros(2)), 2, LagReasons::default()), ("parked", 4, Some(Micros(4)), 4, parked)]);
    assert_eq!(store.claim(&PartitionId::new("b", 0), &owner("two")).await.unwrap().lagging, []);
    // What was never saved is seen with every aggregate at its beginning.
    let fresh = store.hunt("fresh").await.unwrap().unwrap();
    assert_eq!((fresh.status, fresh.events, json(&fresh.view)), (Status::Lagging, 0, json(EMPTY_VIEW)));
    assert_eq!(fresh.watermark, None);

    let mut commit = checkpoint(&partition, &claimed, "two");
    commit.partials = vec![snapshot("parked", 2), snapshot("fresh", 1)];
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    assert_eq!(store.claim(&partition, &owner("two")).await.unwrap().lagging, []);
    assert_eq!(store.hunt("fresh").await.unwrap().unwrap().status, Status::Live);
}

async fn a_hunt_that_begins_to_lag_keeps_the_state_it_has(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let mut commit = checkpoint(&partition, &claimed, "one");
    let saved = snapshot("h", 4);
    commit.partials = vec![saved.clone()];
    store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();
    let lag = Some(Lag { position: Position(3), clock: None, held: 1, reasons: LagReasons::default() });
    commit.number = 1;
    commit.partials = vec![Snapshot { hunt: "h".into(), state: None, readers: None, lag }];
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    let mut found = store.load(&partition, vec!["h".into()]).await.unwrap().snapshots;
    let mut expected = vec![Snapshot { lag, ..saved }];
    found.iter_mut().chain(&mut expected).for_each(normalise);
    assert_eq!(found, expected);
    assert_eq!(store.hunt("h").await.unwrap().unwrap().status, Status::Lagging);
}

async fn refused_snapshots_are_named_and_nothing_is_committed(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let mut commit = checkpoint(&partition, &claimed, "one");
    commit.partials = (0..2500).map(|n| snapshot(&format!("h{n:04}"), n + 1)).collect();
    commit.dead_letters = vec![letter(&partition, 1)];
    let wrong: &[usize] = &[7, 8, 1999, 2499];
    for &n in wrong {
        commit.partials[n].readers.as_mut().unwrap().view = fixture.refused_view().into();
    }
    let refused = match store.checkpoint(Arc::new(commit.clone()), merge()).await {
        Err(Error::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    };
    let names: Vec<&str> = refused.iter().map(|(hunt, _)| hunt.as_str()).collect();
    assert_eq!(names, ["h0007", "h0008", "h1999", "h2499"]);
    assert!(refused.iter().all(|(_, why)| !why.is_empty()));
    assert_eq!(store.hunts(None, 10, None).await.unwrap(), []);
    assert_eq!(store.dead_letters(&letters()).await.unwrap(), []);

    for &n in wrong {
        let reasons = LagReasons { store_refused: true, ..LagReasons::default() };
        let row = &mut commit.partials[n];
        (row.state, row.readers) = (None, None);
        row.lag = Some(Lag { position: Position(1), clock: None, held: 1, reasons });
    }
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    let lagging = store.hunts(None, 10, Some(Status::Lagging)).await.unwrap();
    assert_eq!(lagging.iter().map(|line| line.hunt_id.as_str()).collect::<Vec<_>>(), names);
    assert_eq!(store.hunts(None, 5000, Some(Status::Live)).await.unwrap().len(), 2496);
}

async fn a_watermark_moves_with_its_partition_clock_and_stays_within_bounds(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let with = |hunt: &str, clock: i64, at: i64, floor: Option<i64>, lag: Option<i64>| {
        let mut row = snapshot(hunt, 1);
        let readers = row.readers.as_mut().unwrap();
        readers.hunt_clock = Some(Micros(clock));
        readers.partition_clock = Some(Micros(at));
        readers.watermark_floor = floor.map(Micros);
        row.lag =
            lag.map(|clock| Lag { position: Position(0), clock: Some(Micros(clock)), held: 1, reasons: LagReasons::default() });
        row
    };
    let far = Micros::MAX.0;
    let mut commit = checkpoint(&partition, &claimed, "one");
    commit.partials = vec![
        with("quiet", 10 * MINUTE, 20 * MINUTE, None, None),
        with("floor", 10 * MINUTE, 20 * MINUTE, Some(30 * MINUTE), None),
        with("lagging", 10 * MINUTE, 20 * MINUTE, None, Some(85 * MINUTE)),
        with("beginning", 0, 0, None, Some(0)),
        with("end", far, 0, None, Some(i64::MAX)),
    ];
    let mut expected = vec![("beginning", -MINUTE), ("floor", 30 * MINUTE), ("lagging", 14 * MINUTE)];
    for (number, clock, quiet) in [(0, 20, 9), (1, 80, 9), (2, 81, 10), (3, 200, 129)] {
        commit.number = number;
        commit.clock = Some(Micros(clock * MINUTE));
        store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();
        commit.partials.clear();
        expected.retain(|(hunt, _)| *hunt != "quiet");
        expected.push(("quiet", quiet * MINUTE));
        if number == 3 {
            expected.retain(|(hunt, _)| *hunt != "floor");
            expected.push(("floor", 129 * MINUTE));
        }
        for (hunt, micros) in &expected {
            let found = store.hunt(hunt).await.unwrap().unwrap().watermark.unwrap();
            // Before 1970 nothing closes; SQLite's text says so no more finely than that.
            let expected = Micros(*micros);
            assert!(found == expected || (expected.0 < 0 && found.0 < 0), "{hunt} at {clock}: {found} {expected}");
        }
    }
    assert!(store.hunt("end").await.unwrap().unwrap().watermark > Some(Micros::MAX));
}

async fn hunts_are_listed_by_id_in_pages_and_by_status(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let lag = |reasons, held| Some(Lag { position: Position(1), clock: None, held, reasons });
    let operator = LagReasons { operator: true, ..LagReasons::default() };
    let mut commit = checkpoint(&partition, &claimed, "one");
    // In the order of their bytes: upper case before lower, ASCII before the rest.
    commit.partials = vec![
        snapshot("é", 6),
        snapshot("a", 1),
        Snapshot { lag: lag(LagReasons::default(), 2), ..snapshot("Z", 2) },
        Snapshot { lag: lag(operator, 0), ..snapshot("b", 3) },
        Snapshot { hunt: "c".into(), state: None, readers: None, lag: lag(operator, 0) },
        // Nothing applied, nothing held, not parked: no hunt for readers.
        Snapshot { hunt: "d".into(), state: None, readers: None, lag: None },
    ];
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    let all = store.hunts(None, 100, None).await.unwrap();
    let seen: Vec<_> = all.iter().map(|line| (line.hunt_id.as_str(), line.events, line.status)).collect();
    let expected = [
        ("Z", 2, Status::Lagging),
        ("a", 1, Status::Live),
        ("b", 3, Status::Parked),
        ("c", 0, Status::Parked),
        ("é", 6, Status::Live),
    ];
    assert_eq!(seen, expected);
    assert_eq!(all[1].last_event_at, snapshot("a", 1).readers.unwrap().last_event_at);
    for (status, names) in [(Status::Live, vec!["a", "é"]), (Status::Lagging, vec!["Z"]), (Status::Parked, vec!["b", "c"])] {
        let found = store.hunts(None, 100, Some(status)).await.unwrap();
        assert_eq!(found.iter().map(|line| line.hunt_id.as_str()).collect::<Vec<_>>(), names);
    }
    let mut paged = Vec::new();
    loop {
        let after = paged.last().map(|line: &huntline::store::HuntLine| line.hunt_id.clone());
        let page = store.hunts(after.as_deref(), 2, None).await.unwrap();
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, all);
    let rows = fixture.count("hunts").await;
    assert_eq!(rows, 5, "the relation that readers see has the same hunts");
}

async fn dead_letters_are_listed_in_pages_and_by_what_is_asked(fixture: Fixture) {
    let store = &fixture.store;
    for partition in [PartitionId::new("b", 0), PartitionId::new("a", 10), PartitionId::new("a", 2)] {
        let claimed = store.claim(&partition, &owner("one")).await.unwrap();
        let mut commit = checkpoint(&partition, &claimed, "one");
        commit.dead_letters = (0..3).map(|offset| letter(&partition, offset)).collect();
        commit.dead_letters[1].reason = Reason::TooLarge;
        commit.dead_letters[1].hunt_id = None;
        commit.dead_letters[2].hunt_id = Some("other".into());
        store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    }
    let at = |letters: Vec<DeadLetter>| letters.iter().map(|l| format!("{}@{}", l.partition, l.offset)).collect::<Vec<_>>();
    let all = at(store.dead_letters(&letters()).await.unwrap());
    assert_eq!(all, ["a/2@0", "a/2@1", "a/2@2", "a/10@0", "a/10@1", "a/10@2", "b/0@0", "b/0@1", "b/0@2"]);
    let mut paged = Vec::new();
    let mut filter = LetterFilter { limit: 4, ..letters() };
    loop {
        let page = store.dead_letters(&filter).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.after = Some((last.partition.clone(), last.offset));
        paged.extend(at(page));
    }
    assert_eq!(paged, all);
    let by = |reason: Option<&str>, hunt: Option<&str>, state: Option<&str>| LetterFilter {
        reason: reason.map(Into::into),
        hunt: hunt.map(Into::into),
        state: state.map(Into::into),
        ..letters()
    };
    assert_eq!(at(store.dead_letters(&by(Some("too_large"), None, None)).await.unwrap()), ["a/2@1", "a/10@1", "b/0@1"]);
    assert_eq!(at(store.dead_letters(&by(None, Some("other"), Some("rejected"))).await.unwrap()), ["a/2@2", "a/10@2", "b/0@2"]);
    assert_eq!(at(store.dead_letters(&by(None, None, Some("replayed"))).await.unwrap()), Vec::<String>::new());
    let after =
        LetterFilter { after: Some((PartitionId::new("a", 2), Offset(2))), limit: 1, ..by(Some("too_large"), None, None) };
    assert_eq!(at(store.dead_letters(&after).await.unwrap()), ["a/10@1"]);
}

async fn a_dead_letter_is_written_once(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let mut commit = checkpoint(&partition, &claimed, "one");
    let mut full = letter(&partition, 0);
    full.detail = "found \"\u{1}\" at /data".into();
    full.headers = vec![
        ("trace".into(), Some(vec![0, 159, 146, 150])),
        ("".into(), None),
        ("a\0b%00".into(), Some(vec![])),
        ("trace".into(), None),
    ];
    full.key = Some(vec![]);
    full.value = Some(vec![0xff; 65_536]);
    let mut bare = letter(&partition, 1);
    (bare.hunt_id, bare.key, bare.value, bare.record_at, bare.headers) = (None, None, None, None, vec![]);
    commit.dead_letters = vec![full.clone(), bare.clone()];
    store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();
    assert_eq!(store.dead_letters(&letters()).await.unwrap(), [full.clone(), bare.clone()]);
    // Reading the log again after a partition's position went back finds the same records.
    commit.number = 1;
    commit.dead_letters[0].detail = "again".into();
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    assert_eq!(store.dead_letter(&partition, Offset(0)).await.unwrap(), Some(full));
    assert_eq!(store.dead_letter(&partition, Offset(1)).await.unwrap(), Some(bare));
    assert_eq!(store.dead_letter(&partition, Offset(2)).await.unwrap(), None);
}

async fn a_gap_found_again_is_one_row_that_grows(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let gap = |hunt: Option<&str>, from, to, at| Gap {
        hunt_id: hunt.map(str::to_owned),
        from: Position(from),
        to: Position(to),
        reason: "retention".into(),
        found_at: Micros(at),
    };
    let other = PartitionId::new("a", 1);
    let elsewhere = store.claim(&other, &owner("one")).await.unwrap();
    let mut commit = checkpoint(&other, &elsewhere, "one");
    commit.gaps = vec![gap(None, 10, 15, 5)];
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let mut commit = checkpoint(&partition, &claimed, "one");
    commit.gaps = vec![gap(None, 10, 20, 1_000_000), gap(Some("h"), 10, 12, 1)];
    store.checkpoint(Arc::new(commit.clone()), merge()).await.unwrap();
    commit.number = 1;
    commit.gaps = vec![gap(None, 10, 30, 9_000_000), gap(Some("h"), 10, 11, 9), gap(Some("i"), 10, 12, 1), gap(None, 11, 12, 1)];
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    let rows = fixture
        .rows(
            "partition, hunt_id, from_offset, to_offset",
            "gaps",
            "ORDER BY partition, hunt_id IS NOT NULL, hunt_id, from_offset",
        )
        .await;
    let expected: [[Option<&str>; 4]; 5] = [
        [Some("0"), None, Some("10"), Some("30")],
        [Some("0"), None, Some("11"), Some("12")],
        [Some("0"), Some("h"), Some("10"), Some("12")],
        [Some("0"), Some("i"), Some("10"), Some("12")],
        [Some("1"), None, Some("10"), Some("15")],
    ];
    assert_eq!(rows, expected.map(|row| row.map(|text| text.map(str::to_owned)).to_vec()));
}

async fn ids_of_any_letters_are_kept(fixture: Fixture) {
    let (store, partition) = (&fixture.store, PartitionId::new(&"t".repeat(249), i32::MAX));
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let ids = [
        "x".repeat(512),
        "'; DROP TABLE partials; --".into(),
        "🗝".repeat(128),
        "%_\\".into(),
        " ".into(),
        "{\"a\",b}".into(),
        "NULL".into(),
    ];
    let mut commit = checkpoint(&partition, &claimed, "one");
    commit.partials = ids.iter().map(|id| snapshot(id, 1)).collect();
    store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    assert_eq!(store.load(&partition, ids.to_vec()).await.unwrap().snapshots.len(), ids.len());
    for id in &ids {
        assert_eq!(store.hunt(id).await.unwrap().map(|hunt| hunt.hunt_id).as_ref(), Some(id));
    }
}

async fn a_store_of_something_else_is_refused_in_sentences(fixture: Fixture) {
    let store = &fixture.store;
    let bind = |identity: Identity| async move {
        store.bind(&identity, Some(3600), 60, EMPTY_VIEW, &[], |old, new| vec![format!("definitions: {old} became {new}")]).await
    };
    bind(identity()).await.unwrap();
    let with = |change: fn(&mut Identity)| {
        let mut other = identity();
        change(&mut other);
        other
    };
    for (other, words) in [
        (with(|i| i.cluster = "c2".into()), "c2"),
        (with(|i| i.group = "g2".into()), "g2"),
        (with(|i| i.topics[0].1 = Some("id2".into())), "id2"),
        (with(|i| drop(i.topics.remove(0))), "no longer read"),
    ] {
        match bind(other).await {
            Err(Error::Mismatch(sentences)) => {
                assert_eq!(sentences.len(), 1, "{sentences:?}");
                assert!(sentences[0].contains(words), "{sentences:?}");
            }
            other => panic!("{words}: {other:?}"),
        }
    }
    let all = with(|i| *i = Identity { cluster: "x".into(), group: "x".into(), topics: vec![], definitions: "x".into() });
    assert!(matches!(bind(all).await, Err(Error::Mismatch(sentences)) if sentences.len() == 5));
    match bind(with(|i| i.definitions = "d2".into())).await {
        Err(Error::Redefined { stored, configured }) => assert_eq!((stored.as_str(), configured.as_str()), ("d1", "d2")),
        other => panic!("{other:?}"),
    }
    match bind(with(|i| (i.group, i.definitions) = ("g2".into(), "d2".into()))).await {
        Err(Error::Mismatch(sentences)) => {
            assert!(sentences[0].contains("g2") && sentences[1].contains("d1 became d2"), "{sentences:?}");
        }
        other => panic!("{other:?}"),
    }
    // A topic is added, an id that was not known becomes known, and one that may no longer be asked stays.
    bind(with(|i| i.topics.push(("c".into(), None)))).await.unwrap();
    bind(with(|i| i.topics.push(("c".into(), Some("idc".into()))))).await.unwrap();
    bind(with(|i| i.topics.push(("c".into(), None)))).await.unwrap();
    assert!(matches!(bind(with(|i| i.topics.push(("c".into(), Some("idd".into()))))).await, Err(Error::Mismatch(_))));
    assert!(matches!(bind(identity()).await, Err(Error::Mismatch(_))));
}

async fn migrating_at_once_migrates_once(fixture: Fixture) {
    let target = fixture.empty_target().await;
    let before = Store::schema_version(&target).await.unwrap();
    assert_eq!((before.found, before.is_current()), (0, false));
    match Store::open(&target, false).await.map(drop) {
        Err(Error::Fatal(sentence)) => assert!(sentence.contains("huntline migrate"), "{sentence}"),
        other => panic!("{other:?}"),
    }
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let target = target.clone();
            tokio::spawn(async move { Store::migrate(&target).await })
        })
        .collect();
    let mut found = Vec::new();
    for task in tasks {
        found.push(task.await.unwrap().unwrap().found);
    }
    found.sort();
    assert_eq!(found[..2], [0, before.known], "{found:?}");
    let after = Store::schema_version(&target).await.unwrap();
    assert_eq!(after, SchemaVersion { found: before.known, known: before.known });
    Store::open(&target, false).await.unwrap().ping().await.unwrap();
    Store::open_reader(&target).await.unwrap().ping().await.unwrap();
}

async fn a_checkpoint_ends_though_nobody_waits_for_it(fixture: Fixture) {
    let (store, partition) = (&fixture.store, a0());
    let claimed = store.claim(&partition, &owner("one")).await.unwrap();
    let mut commit = checkpoint(&partition, &claimed, "one");
    commit.partials = (0..3000).map(|n| snapshot(&format!("h{n}"), 1)).collect();
    {
        let mut call = Box::pin(store.checkpoint(Arc::new(commit), merge()));
        // Polled once it is on its way; dropped, it goes on.
        assert!(futures_util::poll!(&mut call).is_pending());
    }
    await_until(|| async { store.partitions().await.unwrap()[0].position == Some(Position(10)) }).await;
    assert_eq!(store.hunts(None, 5000, None).await.unwrap().len(), 3000);
}

#[tokio::test]
async fn a_sqlite_store_serves_one_daemon_and_any_reader() {
    let fixture = Fixture::sqlite().await;
    match Store::open(&fixture.target, true).await.map(drop) {
        Err(Error::Fatal(sentence)) => assert!(sentence.contains("another huntline"), "{sentence}"),
        other => panic!("{other:?}"),
    }
    let reader = Store::open_reader(&fixture.target).await.unwrap();
    let claimed = fixture.store.claim(&a0(), &owner("one")).await.unwrap();
    let mut commit = checkpoint(&a0(), &claimed, "one");
    commit.partials = vec![snapshot("h", 1)];
    fixture.store.checkpoint(Arc::new(commit), merge()).await.unwrap();
    assert_eq!(reader.hunts(None, 10, None).await.unwrap().len(), 1);
    let Fixture { target, store, directory, .. } = fixture;
    drop(store);
    await_until(|| async { Store::open(&target, true).await.is_ok() }).await;
    drop(directory);
}

/// The owner of this name.
fn owner(id: &str) -> Owner {
    Owner { id: id.to_owned(), advertise: format!("http://{id}:8080") }
}

fn letter(partition: &PartitionId, offset: i64) -> DeadLetter {
    DeadLetter {
        partition: partition.clone(),
        offset: Offset(offset),
        hunt_id: Some("h".into()),
        reason: Reason::NotJson,
        detail: "found nothing, expected JSON".into(),
        key: Some(b"h".to_vec()),
        value: Some(vec![]),
        headers: vec![],
        record_at: Some(Micros(1_700_000_000_000_000)),
        failed_at: Micros(1_700_000_000_000_001),
        state: LetterState::Rejected,
        applied_at: None,
    }
}

fn letters() -> LetterFilter {
    LetterFilter { limit: 100, ..LetterFilter::default() }
}
