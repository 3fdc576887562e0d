//! **Rebalances**: several daemons in one group share partitions, and hunts; they come, go, freeze and die under load, and at the
//! end every row is what the oracle says.

use crate::harness::daemon::{Daemon, Setup};
use crate::harness::proxy::{CommitFault, Proxy};
use crate::harness::{await_until, postgres};
use crate::oracle::LeftOut;
use crate::oracle::records::Options;
use crate::platform::{Platform, everything_happens, options, positions, query, while_records_flow};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);
const PARTITIONS: usize = 6;

/// A dead member is missed after this time.
const IMPATIENT: &str = "[kafka.librdkafka]\n\"session.timeout.ms\" = \"6000\"\n\"heartbeat.interval.ms\" = \"500\"";

#[test]
fn members_freeze_join_leave_and_die_and_the_hunts_they_share_stay_exact() {
    let server = postgres::shared();
    let store = server.create_database();
    let proxy = Proxy::start(server.port());
    // Half of all records wander: nearly every hunt stands in partitions of both owners.
    let mut platform =
        Platform::new("rebalance", (4, 2), Options { seed: 41, hunts: 1_500, skew: 1.0, wandering: 0.5, ..options() });
    let mut zombie = Daemon::start(&platform.config(&proxy.url(&store), "300ms", IMPATIENT));
    let mut steady = Daemon::start(&platform.config(&store, "300ms", IMPATIENT));
    let shared = |daemons: &[&Daemon]| shared_by(&store, daemons);

    // The first partials of the same hunts come to both owners at once.
    await_until(SOON, "both have partitions", || shared(&[&zombie, &steady]));
    let before = claims(&store);
    for _ in 0..5 {
        platform.send(2_000);
    }
    platform.await_saved(&store);
    assert_eq!(before, claims(&store), "a partition moved meanwhile");
    for daemon in [&zombie, &steady] {
        assert_eq!(
            daemon.metric("huntline_store_errors_total", &[]),
            0.0,
            "they wait for each other's locks: {}",
            daemon.output()
        );
    }
    assert!(met(&store) > 500, "only {} hunts have partials of both owners", met(&store));
    platform.assert_store_says(&store, &platform.said(&LeftOut::new()));

    // Frozen between a checkpoint and its repetition, until the other has claimed everything.
    while_records_flow(&mut platform, 100, || {
        proxy.arm(CommitFault::RequestLost, "checkpoint = $5 + 1");
        await_until(SOON, "a checkpoint is to be repeated", || (proxy.faults() == 1).then_some(()));
        zombie.sigstop();
        await_until(SOON, "the other has claimed everything", || shared(&[&steady]));
        zombie.sigcont();
        // Whichever it hears first, from the group that its partitions are lost or from the store that they are claimed: it was fenced.
        await_until(SOON, "the zombie is fenced", || match zombie.metric("huntline_fenced_total", &[]) {
            0.0 => Err("no fence"),
            _ => Ok(()),
        });
        await_until(SOON, "both have partitions again", || shared(&[&zombie, &steady]));
    });
    platform.await_saved(&store);
    platform.assert_store_says(&store, &platform.said(&LeftOut::new()));

    // A third joins and leaves.
    let config = platform.config(&store, "300ms", IMPATIENT);
    while_records_flow(&mut platform, 100, || {
        let mut guest = Daemon::start(&config);
        await_until(SOON, "three have partitions", || shared(&[&zombie, &steady, &guest]));
        let before = saved(&store);
        await_until(SOON, "positions move on", || (saved(&store) > before + 2_000).then_some(()));
        assert_eq!(guest.sigterm(), Some(0), "{}", guest.output());
        await_until(SOON, "two have them again", || shared(&[&zombie, &steady]));
        // One leaves without a word.
        steady.kill9();
        await_until(SOON, "one has them all", || shared(&[&zombie]));
        let before = saved(&store);
        await_until(SOON, "positions move on", || (saved(&store) > before + 2_000).then_some(()));
    });
    platform.await_saved(&store);
    let said = platform.said(&LeftOut::new());
    everything_happens(&said);
    platform.assert_api_says(&zombie, &said);
    assert_eq!(zombie.sigterm(), Some(0), "{}", zombie.output());
    platform.assert_store_says(&store, &platform.said(&LeftOut::new()));
}

#[test]
fn a_static_member_that_was_killed_has_its_own_partitions_back_at_once() {
    let store = postgres::shared().create_database();
    let mut platform = Platform::new("static", (4, 2), Options { seed: 42, hunts: 500, wandering: 0.2, ..options() });
    // Nobody may take over within the time of the test.
    let patient = |instance: &str| format!("instance = \"{instance}\"\n[kafka.librdkafka]\n\"session.timeout.ms\" = \"120000\"");
    let mut killed = Daemon::start(&platform.config(&store, "300ms", &patient("one")));
    let mut other = Daemon::start(&platform.config(&store, "300ms", &patient("two")));
    while_records_flow(&mut platform, 100, || {
        for _ in 0..3 {
            await_until(SOON, "both have partitions", || shared_by(&store, &[&killed, &other]));
            let before = claims(&store);
            let at = saved(&store);
            await_until(SOON, "positions move on", || (saved(&store) > at + 1_000).then_some(()));
            let died = Instant::now();
            killed.kill9();
            killed.restart();
            let own = killed.url("");
            await_until(SOON, "its partitions are claimed again, and no other", || {
                let now = claims(&store);
                let as_wanted = before.iter().all(|(partition, (owner, epoch))| match now[partition] {
                    (ref now, again) if *owner == own => *now == own && again > *epoch,
                    (ref now, again) => now == owner && again == *epoch,
                });
                if as_wanted { Ok(()) } else { Err(now) }
            });
            assert!(died.elapsed() < Duration::from_secs(30), "it took {:?}", died.elapsed());
        }
    });
    platform.await_saved(&store);
    for daemon in [&mut killed, &mut other] {
        assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    }
    platform.assert_store_says(&store, &platform.said(&LeftOut::new()));
}

#[test]
fn a_member_whose_name_another_took_gives_way_and_says_so() {
    let store = postgres::shared().create_database();
    let mut platform = Platform::new("namesake", (4, 2), Options { seed: 43, hunts: 500, wandering: 0.3, ..options() });
    let config = platform.config(&store, "300ms", "instance = \"namesake\"");
    let mut old = Daemon::start(&config);
    let mut new = Setup::new(&config);
    let mut heir = None;
    await_until(SOON, "one has them all", || shared_by(&store, &[&old]));
    while_records_flow(&mut platform, 100, || {
        let before = saved(&store);
        await_until(SOON, "positions move on", || (saved(&store) > before + 1_000).then_some(()));
        let new = heir.insert(std::mem::replace(&mut new, Setup::new("")).spawn());
        assert_eq!(old.await_exit().code(), Some(1), "{}", old.output());
        assert!(old.output().contains("another process took over kafka.instance \"namesake\""), "{}", old.output());
        await_until(SOON, "the new one has them all", || shared_by(&store, &[new]));
        let before = saved(&store);
        await_until(SOON, "positions move on", || (saved(&store) > before + 1_000).then_some(()));
    });
    let mut new = heir.expect("the new one");
    platform.await_saved(&store);
    platform.assert_api_says(&new, &platform.said(&LeftOut::new()));
    assert_eq!(new.sigterm(), Some(0), "{}", new.output());
    platform.assert_store_says(&store, &platform.said(&LeftOut::new()));
}

#[test]
fn the_late_claim_of_a_zombie_fences_the_owner_which_claims_again_and_gives_way_to_one_who_insists() {
    let store = postgres::shared().create_database();
    let mut platform = Platform::new("late-claim", (4, 2), Options { seed: 44, hunts: 500, wandering: 0.3, ..options() });
    let mut owner = Daemon::start(&platform.config(&store, "200ms", ""));
    await_until(SOON, "it has them all", || shared_by(&store, &[&owner]));
    // What a process does that asked for its claim, was frozen, and is no member any more when the claim is carried out.
    let claim = |of: &str| {
        query(
            &store,
            &format!("UPDATE huntline.partitions SET epoch = epoch + 1, owner = 'a zombie', advertise = '' WHERE {of}"),
        );
    };
    let (first, fenced) = ("partition = 0", |daemon: &Daemon| daemon.metric("huntline_fenced_total", &[]));
    while_records_flow(&mut platform, 100, || {
        claim(first);
        await_until(SOON, "both partitions 0 are fenced", || (fenced(&owner) >= 2.0).then_some(()));
        await_until(SOON, "it has them all again", || shared_by(&store, &[&owner]));
        // All of them at once are one mishap, not many.
        claim("true");
        await_until(SOON, "all are fenced", || (fenced(&owner) >= 8.0).then_some(()));
        await_until(SOON, "it has them all again", || shared_by(&store, &[&owner]));
        let before = saved(&store);
        await_until(SOON, "positions move on", || (saved(&store) > before + 1_000).then_some(()));
    });
    platform.await_saved(&store);
    platform.assert_store_says(&store, &platform.said(&LeftOut::new()));
    platform.assert_api_says(&owner, &platform.said(&LeftOut::new()));

    while_records_flow(&mut platform, 100, || {
        // However long ago the first fences were: three within a minute now.
        for _ in 0..3 {
            claim(first);
            await_until(SOON, "it has them all again, or gives way", || {
                if owner.exited().is_some() { Ok(()) } else { shared_by(&store, &[&owner]) }
            });
        }
        assert_eq!(owner.await_exit().code(), Some(1), "{}", owner.output());
        assert!(owner.output().contains("was fenced 3 times within a minute"), "{}", owner.output());
        assert!(owner.output().contains("of owner a zombie"), "the other owner is named: {}", owner.output());
    });
    owner.restart();
    platform.await_saved(&store);
    assert_eq!(owner.sigterm(), Some(0), "{}", owner.output());
    platform.assert_store_says(&store, &platform.said(&LeftOut::new()));
}

/// Each partition's owner, by the address it announces, and the epoch of its claim.
fn claims(store: &str) -> BTreeMap<(String, String), (String, i64)> {
    let rows =
        query(store, "SELECT topic, partition, coalesce(advertise, ''), epoch FROM huntline.partitions WHERE owner IS NOT NULL");
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    rows.iter().map(|row| ((text(&row[0]), text(&row[1])), (text(&row[2]), text(&row[3]).parse().expect("an epoch")))).collect()
}

/// Whether every partition is claimed by one of these daemons, and each of them has at least one.
fn shared_by(store: &str, daemons: &[&Daemon]) -> Result<(), String> {
    let claims = claims(store);
    let owners: BTreeSet<String> = claims.values().map(|(owner, _)| owner.clone()).collect();
    let wanted: BTreeSet<String> = daemons.iter().map(|daemon| daemon.url("")).collect();
    if claims.len() == PARTITIONS && owners == wanted { Ok(()) } else { Err(format!("{claims:?}, expected {wanted:?}")) }
}

/// Hunts with partials in partitions of two owners.
fn met(store: &str) -> usize {
    let met = "SELECT hunt_id FROM huntline.partials JOIN huntline.partitions USING (topic, partition) GROUP BY hunt_id HAVING count(DISTINCT owner) > 1";
    query(store, met).len()
}

/// The sum of all saved positions.
fn saved(store: &str) -> i64 {
    positions(store).expect("the store answers").values().sum()
}
