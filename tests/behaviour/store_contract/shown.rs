//! What `verify` reads of what readers are shown: pages of hunts, each one moment, with whatever stands there.

use super::{Fixture, both, fixture::*, owner};
use huntline::position::Position;
use huntline::record::PartitionId;
use huntline::store::{Lag, LagReasons, ShownHunt, Snapshot, Store};
use huntline::time::Micros;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

both! {
    a_page_tells_what_stands_of_each_hunt
    pages_follow_one_another_and_hold_no_more_than_fits
    what_another_program_wrote_is_handed_over_as_it_stands
    a_page_is_one_moment
}

async fn all(store: &Store, limit: u32) -> (Vec<ShownHunt>, Vec<usize>) {
    let (mut hunts, mut pages, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = store.shown(after.as_deref(), limit).await.unwrap();
        assert_eq!(page.generations, 1);
        pages.push(page.hunts.len());
        hunts.extend(page.hunts);
        match page.next {
            Some(next) => after = Some(next),
            None => return (hunts, pages),
        }
    }
}

/// Commits to a partition that nobody has claimed yet.
async fn commit(store: &Store, partition: &PartitionId, partials: Vec<Snapshot>) {
    let claimed = store.claim(partition, &owner("one")).await.unwrap();
    let checkpoint = huntline::store::Checkpoint { partials, ..checkpoint(partition, &claimed, "one") };
    store.checkpoint(Arc::new(checkpoint), merge()).await.unwrap();
}

async fn a_page_tells_what_stands_of_each_hunt(fixture: Fixture) {
    let store = &fixture.store;
    assert_eq!(all(store, 10).await, (vec![], vec![0]));
    let parked = LagReasons { failed: true, ..LagReasons::default() };
    let lag = Lag { position: Position(4), clock: Some(Micros(9)), held: 2, reasons: parked };
    let partials = vec![
        snapshot("shared", 2),
        snapshot("alone", 3),
        Snapshot { hunt: "é".into(), state: None, readers: None, lag: Some(lag) },
        Snapshot {
            hunt: "unseen".into(),
            state: None,
            readers: None,
            lag: Some(Lag { held: 0, reasons: LagReasons::default(), ..lag }),
        },
    ];
    commit(store, &a0(), partials).await;
    let b = PartitionId::new("b", 1);
    commit(store, &b, vec![snapshot("shared", 40)]).await;
    let (hunts, _) = all(store, 10).await;
    let names: Vec<&str> = hunts.iter().map(|hunt| &*hunt.hunt).collect();
    assert_eq!(names, ["alone", "shared", "unseen", "é"]);

    let [alone, shared, unseen, waiting] = &hunts[..] else { panic!("{hunts:?}") };
    let readers = snapshot("alone", 3).readers.unwrap();
    let (partial, row) = (&alone.partials[0], &alone.rows[0]);
    assert_eq!((&partial.partition, partial.state.as_deref(), partial.lag), (&a0(), Some(&b"3"[..]), None));
    assert_eq!((partial.view.as_deref().map(json), partial.events), (Some(json(&readers.view)), 3));
    assert_eq!((&partial.first_event_at, &partial.last_event_at), (&Ok(readers.first_event_at), &Ok(readers.last_event_at)));
    assert_eq!(
        (partial.hunt_clock, partial.partition_clock, partial.watermark_floor, partial.clock),
        (readers.hunt_clock, readers.partition_clock, None, Some(Micros(1_700_000_000_000_000)))
    );
    let saved = store.hunt("alone").await.unwrap().unwrap();
    assert_eq!((row.view.as_deref().map(json), row.events), (Some(json(&saved.view)), Some(3)));
    assert_eq!((row.status.as_deref(), row.watermark), (Some("live"), saved.watermark));
    assert!(row.watermark.is_some());
    assert_eq!((&row.first_event_at, &row.last_event_at), (&Ok(saved.first_event_at), &Ok(saved.last_event_at)));

    let of: Vec<(&PartitionId, i64)> = shared.partials.iter().map(|partial| (&partial.partition, partial.events)).collect();
    assert_eq!(of, [(&a0(), 2), (&b, 40)]);
    assert_eq!((shared.rows.len(), shared.rows[0].events), (1, Some(42)));
    assert_eq!((unseen.partials.len(), unseen.rows.len()), (1, 0));
    let (partial, row) = (&waiting.partials[0], &waiting.rows[0]);
    assert_eq!((&partial.state, &partial.view, partial.events, partial.lag), (&None, &None, 0, Some(lag)));
    assert_eq!((row.view.as_deref().map(json), row.status.as_deref()), (Some(json(EMPTY_VIEW)), Some("parked")));
    assert_eq!((row.events, row.watermark), (Some(0), None));

    for hunt in &hunts {
        let page = store.shown_of(&hunt.hunt).await.unwrap();
        assert_eq!((page.hunts, page.next, page.generations), (vec![hunt.clone()], None, 1));
    }
    assert_eq!(store.shown_of("never").await.unwrap().hunts, []);
}

async fn pages_follow_one_another_and_hold_no_more_than_fits(fixture: Fixture) {
    let store = &fixture.store;
    let names: Vec<String> = (0..7).map(|n| format!("h{n}")).collect();
    commit(store, &a0(), names.iter().map(|name| snapshot(name, 1)).collect()).await;
    commit(store, &PartitionId::new("b", 0), names[2..4].iter().map(|name| snapshot(name, 1)).collect()).await;
    let (whole, pages) = all(store, 100).await;
    assert_eq!(pages, [7]);
    let partials: Vec<usize> = whole.iter().map(|hunt| hunt.partials.len()).collect();
    assert_eq!(partials, [1, 1, 2, 2, 1, 1, 1]);
    for (limit, expected) in [(1, &[1; 7][..]), (2, &[2, 2, 2, 1]), (3, &[3, 3, 1])] {
        let (hunts, mut pages) = all(store, limit).await;
        // Whether there is more after a full page may take another page to know.
        pages.retain(|hunts| *hunts > 0);
        assert_eq!((&hunts, &pages[..]), (&whole, expected), "{limit}");
    }

    // A page is full with the hunt that passes its bytes.
    let large = |name: &str| Snapshot { state: Some(vec![b'1'; 9 << 20]), ..snapshot(name, 1) };
    commit(store, &PartitionId::new("b", 2), names[..4].iter().map(|name| large(&format!("{name}-large"))).collect()).await;
    let (hunts, pages) = all(store, 100).await;
    assert_eq!((hunts.len(), pages.iter().sum::<usize>()), (11, 11));
    // The large ones stand at 1, 3, 5 and 7.
    assert_eq!(pages[..2], [4, 4], "{pages:?}");
}

async fn what_another_program_wrote_is_handed_over_as_it_stands(fixture: Fixture) {
    let store = &fixture.store;
    commit(store, &a0(), vec![snapshot("h", 2), snapshot("shared", 2)]).await;
    commit(store, &PartitionId::new("b", 0), vec![snapshot("shared", 5)]).await;
    fixture.alter("UPDATE shared_hunts SET events = 8");
    fixture.alter(r#"UPDATE partials SET view = NULL, events = 9 WHERE hunt_id = 'h'"#);
    fixture.alter("INSERT INTO shared_hunts (hunt_id, events, updated_at) VALUES ('zz', 3, '2026-01-01T00:00:00Z')");
    let (hunts, _) = all(store, 2).await;
    let told: Vec<_> = hunts.iter().map(|hunt| (&*hunt.hunt, hunt.partials.len(), hunt.rows[0].events)).collect();
    assert_eq!(told, [("h", 1, Some(9)), ("shared", 2, Some(8)), ("zz", 0, Some(3))]);
    assert_eq!((&hunts[0].partials[0].view, hunts[0].partials[0].events), (&None, 9));
    // A hunt whose partials are no longer marked has a row for each.
    fixture.alter("UPDATE partials SET shared = (1 = 0)");
    let shared = store.shown_of("shared").await.unwrap();
    assert_eq!(shared.hunts[0].rows.len(), 3);
    if fixture.directory.is_some() {
        fixture.alter("UPDATE partials SET first_event_at = 'never' WHERE hunt_id = 'h'");
        let page = store.shown_of("h").await.unwrap();
        assert_eq!(page.hunts[0].partials[0].first_event_at, Err("never".to_owned()));
    }
}

/// Two owners write a hunt that they share, each checkpoint all of its hunts: a page that saw part of one would disagree with itself.
async fn a_page_is_one_moment(fixture: Fixture) {
    let (store, other) = (&fixture.store, fixture.another().await);
    let done = AtomicBool::new(false);
    let write = async |store: &Store, topic: &str| {
        let partition = PartitionId::new(topic, 0);
        let claimed = store.claim(&partition, &owner("one")).await.unwrap();
        for n in 1..=40 {
            let mut commit = checkpoint(&partition, &claimed, "one");
            (commit.number, commit.clock) = (n - 1, Some(Micros(n)));
            commit.partials = (0..20).map(|hunt| snapshot(&format!("h{hunt:02}"), n)).collect();
            loop {
                match store.checkpoint(Arc::new(commit.clone()), merge()).await {
                    Ok(()) => break,
                    Err(huntline::store::Error::Passing(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
    };
    let writing = async {
        tokio::join!(write(store, "a"), write(&other, "b"));
        done.store(true, Ordering::Relaxed);
    };
    let reader = fixture.another().await;
    let reading = async {
        let mut moments = std::collections::BTreeSet::new();
        while !done.load(Ordering::Relaxed) {
            let page = reader.shown(None, 100).await.unwrap();
            for hunt in &page.hunts {
                for partial in &hunt.partials {
                    let state = partial.events.to_string().into_bytes();
                    assert_eq!((partial.state.as_ref(), partial.clock), (Some(&state), Some(Micros(partial.events))));
                }
                let sum: i64 = hunt.partials.iter().map(|partial| partial.events).sum();
                assert_eq!((hunt.rows.len(), hunt.rows[0].events), (1, Some(sum)), "{hunt:?}");
                moments.insert(sum);
            }
        }
        moments.len()
    };
    let ((), seen) = tokio::join!(writing, reading);
    assert!(seen > 5, "only {seen} moments were seen between checkpoints");
}
