//! The pass over **what readers are shown**, page by page, on a thread of its own beside the fold of the log.
//!
//! It has the states at hand that it compares with, and needs no log. Invariant: it holds two pages, the differences of so many hunts,
//! and the ids of the others that differ.

use super::report::Report;
use crate::partial::Fold;
use crate::store::{self, ShownPage, Store};
use crate::verify::{self, Difference};
use anyhow::Context as _;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Of so many hunts it is told what differs; how many more there are is said in one line.
const DETAILED: usize = 1000;
/// Hunts in a page.
const HUNTS: u32 = 1000;

pub struct ShownPass {
    pub store: Store,
    pub runtime: Handle,
    /// By the newest definitions. States merge by kind alone, whatever topic they came from.
    pub fold: Fold,
    /// How many definitions the store has been built with.
    pub generations: usize,
    /// Only this hunt.
    pub hunt: Option<String>,
}

/// What it came to.
#[derive(Default)]
pub struct Found {
    hunts: u64,
    told: Vec<(String, Vec<Difference>)>,
    further: Vec<String>,
}

impl ShownPass {
    /// `stop`: nobody needs the rest.
    pub fn run(&self, stop: &AtomicBool) -> anyhow::Result<Found> {
        let mut found = Found::default();
        let mut next = Some(self.page(None));
        while let Some(page) = next.filter(|_| !stop.load(Ordering::Relaxed)) {
            let page = self.runtime.block_on(page).context("read what hunts show")??;
            if page.generations != self.generations {
                anyhow::bail!("the store's definitions were changed meanwhile: verify again");
            }
            // The store reads the next page while this one is compared.
            next = page.next.map(|after| self.page(Some(after)));
            for hunt in page.hunts {
                found.hunts += 1;
                let differences = verify::compare_shown(&self.fold, &hunt);
                match differences.is_empty() {
                    true => {}
                    false if found.told.len() < DETAILED => found.told.push((hunt.hunt, differences)),
                    false => found.further.push(hunt.hunt),
                }
            }
        }
        Ok(found)
    }

    fn page(&self, after: Option<String>) -> JoinHandle<store::Result<ShownPage>> {
        let (store, hunt) = (self.store.clone(), self.hunt.clone());
        self.runtime.spawn(async move {
            match hunt {
                Some(hunt) => store.shown_of(&hunt).await,
                None => store.shown(after.as_deref(), HUNTS).await,
            }
        })
    }
}

impl Found {
    /// But for hunts whose states differ: there neither side is to be trusted.
    pub fn tell(self, differing: &HashSet<String>, report: &mut Report) {
        report.hunts = self.hunts;
        let told = self.told.into_iter().filter(|(hunt, _)| !differing.contains(hunt));
        report.differences.extend(told.flat_map(|(_, differences)| differences));
        let further = self.further.iter().filter(|hunt| !differing.contains(*hunt)).count();
        if further > 0 {
            let what = format!("what readers are shown of {further} more hunts");
            report.differences.push(Difference::merged(None, &what, "another", "not listed one by one"));
        }
    }
}
