//! **Other definitions**: what the daemon says where the store was built with others than are
//! configured, and how it lets the new ones hold from the present positions on.
//!
//! The start hands it both texts. Invariant: the store is changed only by `--from-now`, and only where
//! every change leaves the states with the meaning they have.

use crate::config::{self, Change};
use crate::decode::Plan;
use crate::definitions::Definitions;
use crate::partial::{FORMAT, Fold};
use crate::store::{self, Merge, Redefinition, Store, Target, summary};
use anyhow::{Context as _, anyhow};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often progress is logged.
const LINES: Duration = Duration::from_secs(2);

/// The store was built with other definitions, or some of the changes cannot hold from now on.
#[derive(Debug)]
pub struct Redefined {
    pub changes: Vec<Change>,
    /// Asked for with `--from-now`: only what is in the way is said.
    pub from_now: bool,
}

impl std::error::Error for Redefined {}

impl fmt::Display for Redefined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from_now {
            f.write_str("these changes of definitions cannot hold from now on:")?;
            for Change { what, from_now } in &self.changes {
                if let Err(why) = from_now {
                    write!(f, "\n  {what}\n    {why}")?;
                }
            }
            return Ok(());
        }
        f.write_str("this store was built with other definitions:")?;
        for Change { what, from_now } in &self.changes {
            match from_now {
                Ok(means) => write!(f, "\n  {what}\n    from now on: {means}")?,
                Err(why) => write!(f, "\n  {what}\n    not from now on: {why}")?,
            }
        }
        Ok(())
    }
}

impl Redefined {
    /// The ways on, each with its command; `options` are those that name the configuration, with a space before each.
    pub fn ways_on(&self, options: &str) -> String {
        let mut ways = String::from("ways on:");
        ways += &format!(
            "\n  huntline rebuild{options}\n    folds the log again from its start into a new view beside this one, then swaps"
        );
        if self.changes.iter().all(|change| change.from_now.is_ok()) {
            ways +=
                &format!("\n  huntline run --from-now{options}\n    lets the new definitions hold from the present positions on");
        }
        ways
    }
}

/// What `stored` and `configured` differ in, as the refusal to start.
pub fn refusal(stored: &str, configured: &str) -> anyhow::Error {
    match config::definitions_diff(stored, configured) {
        Ok(changes) => Redefined { changes, from_now: false }.into(),
        Err(why) => anyhow!("this store was built with other definitions: {why}"),
    }
}

/// Refuses a store whose states another version of huntline wrote in another format: one by one, its hunts would wait for an operator.
/// To be asked before the schema is touched, so that the other version can still go on.
pub async fn readable(target: &Target) -> anyhow::Result<()> {
    match Store::format(target).await? {
        Some(found) if found != FORMAT => Err(anyhow!(
            "this store's states have format {found}, this version of huntline reads and writes format {FORMAT}: `huntline migrate` and \
             then `huntline rebuild` fold the log again into states of its own format; before that, the version that wrote them can go on"
        )),
        _ => Ok(()),
    }
}

/// Lets the configured definitions hold from the store's present positions on. Whoever runs with the old ones is fenced.
pub async fn from_now(
    store: &Store,
    stored: &str,
    definitions: &Definitions,
    topic: &str,
    fold: Arc<Fold>,
    merge: Merge,
) -> anyhow::Result<()> {
    let configured = config::definitions_json(definitions);
    let changes = config::definitions_diff(stored, &configured).map_err(|why| anyhow!(why))?;
    if changes.iter().any(|change| change.from_now.is_err()) {
        return Err(Redefined { changes, from_now: true }.into());
    }
    let old: Definitions = serde_json::from_str(stored).context("read the definitions in the store")?;
    // States are kept by kind alone, whatever topic they came from.
    let old_fold = Arc::new(Fold::new(&old, &Plan::new(&old, topic), usize::MAX));
    for change in &changes {
        tracing::info!(change = %change.what, means = change.from_now.unwrap_or_default(), "from the present positions on");
    }
    let told = Mutex::new(Instant::now());
    let redefinition = Redefinition {
        old: stored.to_owned(),
        new: configured,
        idle: definitions.time.idle,
        lateness: definitions.time.lateness,
        empty_view: fold.view(&fold.start()),
        convert: {
            let (fold, old_fold) = (fold.clone(), old_fold.clone());
            Arc::new(move |state| {
                let partial = old_fold.decode(state).map_err(|error| error.to_string())?;
                let partial = fold.converted_from(&old_fold, partial);
                Ok((fold.encode(&partial), fold.readers(&partial)))
            })
        },
        convert_rollup: Arc::new(move |state| {
            let delta = old_fold.rollup().decode(state).map_err(|error| error.to_string())?;
            Ok(fold.rollup().encode(&fold.rollup().converted_from(old_fold.rollup(), delta)))
        }),
        summary: summary::columns(definitions),
        merge,
        progress: Arc::new(move |done, of| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.elapsed() >= LINES || done == of {
                *told = Instant::now();
                tracing::info!(done, of, "partials converted");
            }
        }),
    };
    match store.redefine(redefinition).await {
        Err(store::Error::Mismatch(sentences)) => {
            Err(anyhow!("the new definitions cannot hold from now on:\n  {}", sentences.join("\n  ")))
        }
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::settings;

    fn said(old: &str, new: &str) -> (String, String) {
        let json = |text: &str| config::definitions_json(&settings(text).definitions);
        let refusal = refusal(&json(old), &json(new));
        let redefined = refusal.downcast_ref::<Redefined>().expect("both read");
        (redefined.to_string(), redefined.ways_on(" --config h.toml"))
    }

    #[test]
    fn the_refusal_says_what_changed_what_it_means_and_each_way_on() {
        let (what, ways) = said("", "aggregates.fresh.kind = \"count\"");
        assert_eq!(
            what,
            "this store was built with other definitions:\n  aggregate fresh (count) was added\n    from now on: starts empty at the present positions"
        );
        assert!(ways.contains("\n  huntline rebuild --config h.toml\n"), "{ways}");
        assert!(ways.contains("\n  huntline run --from-now --config h.toml\n"), "{ways}");
    }

    #[test]
    fn a_way_that_is_closed_is_not_shown() {
        let (what, ways) = said("aggregates.a.kind = \"count\"", "aggregates.a = { kind = \"count\", on = \"x\" }");
        assert!(what.contains("aggregate a: on was none, is [\"x\"]\n    not from now on: "), "{what}");
        assert!(ways.contains("huntline rebuild") && !ways.contains("--from-now"), "{ways}");
    }
}
