//! **Isolation**: one hunt's fold fails; while that hunt waits, every other hunt goes on and is saved at its partition's position,
//! and afterwards the hunt is right again, or its one event is a dead letter.
//!
//! The failure and the wait are planted in the daemon by its test hooks.

use crate::harness::daemon::Daemon;
use crate::harness::{Scratch, await_until, postgres};
use crate::oracle::LeftOut;
use crate::oracle::records::Options;
use crate::platform::{Platform, compare_hunts, query};
use crate::victims::{self, Victim};
use std::fs;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

#[test]
#[cfg_attr(not(feature = "test-hooks"), ignore = "needs the feature test-hooks")]
fn a_hunt_that_fails_once_waits_alone_and_is_right_again() {
    let store = postgres::shared().create_database();
    let mut platform = Platform::new("isolation", (2, 1), options(31));
    platform.send(8_000);
    let victim = Victim::of(&platform, 0.5);
    let (mut daemon, gate) = start(&platform, &store, &victim, "1");
    everybody_else_goes_on(&mut platform, &store, &daemon, &victim);

    fs::write(gate.join("open"), "").expect("open the gate");
    platform.await_saved(&store);
    platform.assert_store_says(&store, &platform.said(&LeftOut::new()));
    platform.assert_api_says(&daemon, &platform.said(&LeftOut::new()));
    assert_eq!(daemon.metric("huntline_hunt_restarts_total", &[]), 1.0);
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
}

#[test]
#[cfg_attr(not(feature = "test-hooks"), ignore = "needs the feature test-hooks")]
fn an_event_that_always_fails_becomes_a_dead_letter_and_its_hunt_goes_on() {
    let store = postgres::shared().create_database();
    let mut platform = Platform::new("isolation-always", (2, 1), options(32));
    platform.send(4_000);
    // The hunts have saved states to come back to.
    let mut before = Daemon::start(&platform.config(&store, "200ms", ""));
    platform.await_saved(&store);
    assert_eq!(before.sigterm(), Some(0), "{}", before.output());
    platform.send(6_000);

    let victim = Victim::of(&platform, 0.8);
    let (mut daemon, gate) = start(&platform, &store, &victim, "always");
    everybody_else_goes_on(&mut platform, &store, &daemon, &victim);

    fs::write(gate.join("open"), "").expect("open the gate");
    platform.await_saved(&store);
    let left_out = victims::left_out(std::slice::from_ref(&victim));
    platform.assert_store_says(&store, &platform.said(&left_out));
    platform.assert_api_says(&daemon, &platform.said(&left_out));
    assert!(daemon.metric("huntline_hunt_restarts_total", &[]) >= 2.0, "it is tried once more from clean state");
    await_until(SOON, "the letter is counted", || match daemon.metric("huntline_dead_letters_total", &[("reason", "failed")]) {
        1.0 => Ok(()),
        other => Err(other),
    });
    let detail = query(&store, "SELECT detail FROM huntline.dead_letters WHERE reason = 'failed'");
    assert!(detail[0][0].as_deref().is_some_and(|detail| detail.contains("planted by a test")), "{detail:?}");

    platform.send(2_000);
    platform.await_saved(&store);
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    platform.assert_store_says(&store, &platform.said(&left_out));
}

fn options(seed: u64) -> Options {
    Options { seed, hunts: 80, wandering: 0.2, ..Options::default() }
}

/// A daemon in which the victim fails, and lost hunts wait for a file `open` in the directory.
fn start(platform: &Platform, store: &str, victim: &Victim, times: &str) -> (Daemon, Scratch) {
    let (setup, gate) = victims::setup(&platform.config(store, "200ms", ""), std::slice::from_ref(victim), times);
    (setup.start(), gate)
}

/// While the victim waits, all that is sent passes, and all other hunts are saved as they should be.
fn everybody_else_goes_on(platform: &mut Platform, store: &str, daemon: &Daemon, victim: &Victim) {
    for _ in 0..3 {
        platform.await_passed(store);
        let said = platform.said(&LeftOut::new());
        if let Some(difference) = compare_hunts(store, &said, Some(&victim.hunt)) {
            panic!("while {:?} waits: {difference}", victim.hunt);
        }
        // Behind its partition, and what it holds is counted.
        let (topic, partition, offset) = &victim.place;
        let of_it = format!("hunt_id = '{}' AND topic = '{topic}' AND partition = {partition}", victim.hunt);
        let row = query(store, &format!("SELECT lagging, position, held FROM huntline.partials WHERE {of_it}")).remove(0);
        let number = |column: usize| row[column].as_deref().and_then(|digits| digits.parse::<i64>().ok()).expect("a number");
        assert_eq!(row[0].as_deref(), Some("t"));
        assert!(number(1) <= *offset, "its position is {}, the event that failed at {offset}", number(1));
        let status = query(store, &format!("SELECT status FROM huntline.hunts WHERE hunt_id = '{}'", victim.hunt));
        assert_eq!(status, [[Some("lagging".to_owned())]]);
        let counts = query(
            store,
            "SELECT sum(held), sum(records), sum(applied + duplicate + dead_lettered + ignored + held), sum(dead_lettered) FROM huntline.partitions",
        );
        let count = |column: usize| counts[0][column].as_deref().expect("a sum").parse::<i64>().expect("a number");
        assert_eq!(count(0), number(2), "held");
        assert!(count(0) > 0, "nothing is held");
        assert_eq!((count(1), count(2)), (platform.sent as i64, platform.sent as i64));
        let letters: usize = said.partitions.values().map(|of| of.dead_letters.len()).sum();
        assert_eq!(count(3), letters as i64, "dead letters are those of the log alone");

        assert_eq!(daemon.metric("huntline_hunt_restarts_total", &[]), 1.0);
        await_until(SOON, "the figures say that one hunt lags", || {
            let lagging = daemon.metric("huntline_hunts", &[("state", "lagging")]);
            let oldest = daemon.metric("huntline_held_oldest_seconds", &[]);
            if lagging == 1.0 && oldest > 0.0 { Ok(()) } else { Err((lagging, oldest)) }
        });
        assert_eq!(daemon.json(&format!("/v1/hunts/{}", victim.hunt))["status"], "lagging");
        platform.send(1_000);
    }
}
