//! **Gaps**: Kafka deletes records that were not read yet. The range is on record, once, whether the partition halts before it, halts
//! again, or reads on; and everything else is what the oracle says of the records that are left.

use crate::harness::daemon::{Daemon, Setup};
use crate::harness::{await_until, postgres};
use crate::oracle::LeftOut;
use crate::oracle::records::Options;
use crate::platform::{Platform, positions, query};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_gap_is_written_once_however_often_its_partition_halts_and_reading_goes_on_after_it_when_told() {
    let store = postgres::shared().create_database();
    let mut platform = Platform::new("gaps", (2, 1), Options { seed: 51, hunts: 80, wandering: 0.3, ..Options::default() });
    let partition = (platform.topics[0].name.clone(), 0);
    let instance = "instance = \"gaps\"";
    let config = platform.config(&store, "200ms", instance);
    platform.send(3_000);
    let mut daemon = Daemon::start(&config);
    platform.await_saved(&store);
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    let from = positions(&store).expect("the store answers")[&partition];

    platform.send(3_000);
    let unread: Vec<i64> = platform.log[&partition].iter().map(|record| record.offset).filter(|offset| *offset >= from).collect();
    let (first, grown) = (unread[unread.len() / 4], unread[unread.len() / 2]);
    platform.kafka.delete_records(&partition.0, partition.1, first);
    let mut halting = Setup::new(&config).spawn();
    await_until(SOON, "the gap is on record", || gaps_are(&store, &[(from, first)]));
    halts(&halting, &partition, from, first);
    await_until(SOON, "the other partitions go on", || others_passed(&platform, &store, &partition));
    assert_eq!(positions(&store).expect("the store answers")[&partition], from, "its position stays before the gap");
    halting.kill9();

    // It halts again before the same gap; then before one that has grown.
    let mut halting = Setup::new(&config).spawn();
    await_until(SOON, "it halts again", || halted(&halting));
    halts(&halting, &partition, from, first);
    assert_eq!(halting.sigterm(), Some(0), "{}", halting.output());
    gaps_are(&store, &[(from, first)]).expect("one row of it");
    platform.kafka.delete_records(&partition.0, partition.1, grown);
    let mut halting = Setup::new(&config).spawn();
    await_until(SOON, "the gap on record has grown", || gaps_are(&store, &[(from, grown)]));
    assert_eq!(halting.sigterm(), Some(0), "{}", halting.output());
    assert_eq!(positions(&store).expect("the store answers")[&partition], from, "its position stays before the gap");

    let mut daemon = Daemon::start(&platform.config(&store, "200ms", &format!("{instance}\non_gap = \"continue\"")));
    platform.log.get_mut(&partition).expect("its records").retain(|record| !(from..grown).contains(&record.offset));
    platform.await_saved(&store);
    let said = platform.said(&LeftOut::new());
    platform.assert_store_says(&store, &said);
    platform.assert_api_says(&daemon, &said);
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    gaps_are(&store, &[(from, grown)]).expect("one row of it");
}

/// Whether these, of the whole partition, are all the gaps on record.
fn gaps_are(store: &str, expected: &[(i64, i64)]) -> Result<(), String> {
    let rows = query(store, "SELECT from_offset, to_offset FROM huntline.gaps WHERE hunt_id IS NULL ORDER BY 1, 2");
    let number = |digits: &Option<String>| digits.as_deref().and_then(|digits| digits.parse::<i64>().ok()).expect("a number");
    let found: Vec<(i64, i64)> = rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect();
    let all = query(store, "SELECT count(*) FROM huntline.gaps").remove(0).remove(0);
    if found == expected && all == Some(expected.len().to_string()) { Ok(()) } else { Err(format!("{found:?}, {all:?} in all")) }
}

/// The daemon's reasons not to be ready, once one partition stands still and nothing else is amiss.
fn halted(daemon: &Daemon) -> Result<String, String> {
    let answer = crate::harness::daemon::request("GET", &daemon.url("/readyz"), &[], None)?;
    if answer.0 == 503 && answer.1.contains("stands still") && !answer.1.contains("not claimed") {
        Ok(answer.1)
    } else {
        Err(format!("{answer:?}"))
    }
}

fn halts(daemon: &Daemon, partition: &(String, i32), from: i64, to: i64) {
    let why = await_until(SOON, "the daemon says that the partition stands still", || halted(daemon));
    assert!(why.contains(&format!("no longer has {from} to {to}")), "{why}");
    let answer = daemon.json("/v1/partitions");
    let states: Vec<&str> = answer["partitions"]
        .as_array()
        .expect("partitions")
        .iter()
        .filter(|line| line["topic"] == *partition.0 && line["partition"] == partition.1)
        .map(|line| line["state"].as_str().expect("a state"))
        .collect();
    assert_eq!(states, ["halted"], "{answer}");
}

fn others_passed(platform: &Platform, store: &str, halted: &(String, i32)) -> Result<(), String> {
    let positions = positions(store)?;
    for (partition, records) in platform.log.iter().filter(|(partition, _)| *partition != halted) {
        let last = records.last().map_or(-1, |record| record.offset);
        if positions.get(partition).is_none_or(|position| *position <= last) {
            return Err(format!("{partition:?} at {:?}, its last record at {last}", positions.get(partition)));
        }
    }
    Ok(())
}
