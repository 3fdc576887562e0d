//! **Victims**: events that would be applied, were their folds not to fail; which they do by a hook of the daemon's.
//!
//! The hook knows a hunt and an offset alone. Invariant: no other record of a victim's hunt stands at its offset in another partition.

use crate::harness::Scratch;
use crate::harness::daemon::Setup;
use crate::oracle::{LeftOut, Partition, Record};
use crate::platform::Platform;

/// An event, and its hunt.
#[derive(Clone, Debug)]
pub struct Victim {
    pub hunt: String,
    pub place: (String, i32, i64),
}

impl Victim {
    /// Of a hunt with several partials, this far into a partition.
    pub fn of(platform: &Platform, share: f64) -> Victim {
        let partition = (platform.topics[0].name.clone(), 1);
        let said = platform.said(&LeftOut::new());
        let shared = |victim: &Victim| said.hunts.get(&victim.hunt).is_some_and(|said| said.partials > 1);
        let mut victims = candidates(platform, &partition, share).filter(shared);
        victims.find(|victim| !would_be_applied(platform, std::slice::from_ref(victim)).is_empty()).expect("such an event")
    }

    /// One of each partition of the first topic, this far into it, each of another hunt.
    pub fn in_every_partition(platform: &Platform, share: f64) -> Vec<Victim> {
        let mut victims: Vec<Victim> = Vec::new();
        for number in 0..platform.topics[0].partitions {
            let partition = (platform.topics[0].name.clone(), number);
            let some: Vec<Victim> = candidates(platform, &partition, share)
                .filter(|victim| victims.iter().all(|other| other.hunt != victim.hunt))
                .take(20)
                .collect();
            victims.push(would_be_applied(platform, &some).first().expect("such an event").clone());
        }
        victims
    }
}

/// Where the oracle puts them down as failed, no earlier step had decided.
fn would_be_applied(platform: &Platform, victims: &[Victim]) -> Vec<Victim> {
    let said = platform.said(&left_out(victims));
    let failed = |victim: &&Victim| {
        let (topic, partition, offset) = &victim.place;
        let letters = &said.partitions[&(topic.clone(), *partition)].dead_letters;
        letters.iter().any(|letter| letter.reason == "failed" && letter.offset == *offset)
    };
    victims.iter().filter(failed).cloned().collect()
}

fn candidates<'a>(platform: &'a Platform, partition: &'a Partition, share: f64) -> impl Iterator<Item = Victim> + 'a {
    let records = &platform.log[partition];
    let from = (records.len() as f64 * share) as usize;
    records[from..].iter().filter_map(move |record| {
        let hunt = String::from_utf8(record.key.clone()?).ok()?;
        // Colons part a hook's words.
        let fit = hunt.starts_with("hunt-") && !platform.log.iter().any(|other| names(other, partition, record.offset, &hunt));
        fit.then(|| Victim { hunt, place: (partition.0.clone(), partition.1, record.offset) })
    })
}

/// Whether another partition has a record at this offset that may be of this hunt.
fn names((other, records): (&Partition, &Vec<Record>), partition: &Partition, offset: i64, hunt: &str) -> bool {
    let Ok(at) = records.binary_search_by_key(&offset, |record| record.offset) else { return false };
    let bytes = [records[at].key.as_deref(), records[at].value.as_deref()];
    other != partition && bytes.into_iter().flatten().any(|bytes| String::from_utf8_lossy(bytes).contains(hunt))
}

/// What becomes of victims whose folds always fail.
pub fn left_out(victims: &[Victim]) -> LeftOut {
    victims.iter().map(|victim| (victim.place.clone(), "failed".to_owned())).collect()
}

/// A daemon in which the folds of these fail, `times` or `always`, and lost hunts wait for a file `open` in the directory.
pub fn setup(config: &str, victims: &[Victim], times: &str) -> (Setup, Scratch) {
    let gate = Scratch::new("gate");
    let panics: Vec<String> = victims.iter().map(|victim| format!("{}:{}:{times}", victim.hunt, victim.place.2)).collect();
    let setup = Setup::new(config)
        .env("HUNTLINE_TEST_PANIC", &panics.join(","))
        .env("HUNTLINE_TEST_GATE", gate.join("open").to_str().expect("a path"));
    (setup, gate)
}
