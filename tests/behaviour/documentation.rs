//! The worked examples of `docs/aggregates.md` and `docs/time.md`, every one of them run: what a page says comes of some records is
//! compared, exactly, with the oracle and with the fold.
//!
//! `page` reads the Markdown, `exact` asks the oracle, `engine` folds as the daemon does. Invariant: whatever an example says in its
//! table and its JSON is checked; a column or a block that nothing checks is a failure, as is a page that lost examples.

mod engine;
mod exact;
mod page;
mod value;

use page::{Example, Outcome, Row, Shown};
use std::collections::BTreeMap;

/// What one way of folding makes of an example, in the words of its page.
#[derive(Default)]
struct Account {
    /// After each row, in the order of the table.
    steps: Vec<Step>,
    /// By what they show, as JSON text.
    shown: BTreeMap<Shown, String>,
    /// At the end, microseconds; a window is final when its end is at or below it.
    watermarks: BTreeMap<String, i64>,
}

/// Where one record leaves its partition. Times in microseconds.
struct Step {
    outcome: Outcome,
    partition_clock: Option<i64>,
    /// Of the hunts that this partition holds a partial of.
    watermarks: BTreeMap<String, i64>,
    /// Likewise; `None` where the teller does not know them.
    hunt_clocks: Option<BTreeMap<String, i64>>,
}

#[test]
fn the_oracle_agrees_with_every_example_of_the_aggregates() {
    each_example("docs/aggregates.md", 24, |example| differences(example, &exact::account(example), Told::ByOracle));
}

#[test]
fn the_fold_agrees_with_every_example_of_the_aggregates() {
    each_example("docs/aggregates.md", 24, |example| differences(example, &engine::account(example), Told::ByFold));
}

#[test]
fn the_oracle_agrees_with_every_example_of_time() {
    each_example("docs/time.md", 16, |example| differences(example, &exact::account(example), Told::ByOracle));
}

#[test]
fn the_fold_agrees_with_every_example_of_time() {
    each_example("docs/time.md", 16, |example| differences(example, &engine::account(example), Told::ByFold));
}

#[test]
fn every_kind_and_window_has_an_example() {
    let examples = page::read("docs/aggregates.md");
    let definitions = |word: &str| examples.iter().filter(|example| example.toml.contains(word)).count();
    for kind in ["count", "sum", "min", "max", "mean", "first", "last", "distinct", "top", "quantiles", "funnel"] {
        assert!(definitions(&format!("kind = \"{kind}\"")) > 0, "no example has the kind {kind}");
    }
    for window in ["tumbling = ", "hopping = ", "session = ", "[rollup]"] {
        assert!(definitions(window) > 0, "no example has {window}");
    }
    // What leaves the exact range is an estimate, and the page says so.
    for kind in ["distinct", "top", "quantiles", "funnel"] {
        let estimates = |example: &&Example| example.is_estimate() && example.toml.contains(&format!("kind = \"{kind}\""));
        assert!(examples.iter().any(|example| estimates(&example)), "no example has an estimate of the kind {kind}");
    }
}

#[test]
fn every_case_of_time_has_an_example() {
    let examples = page::read("docs/time.md");
    for case in ["late", "out of order", "idle", "future", "duplicate", "skewed", "backfill"] {
        let told = examples.iter().any(|example| example.section.to_lowercase().contains(case));
        assert!(told, "no example stands in a section about {case} events");
    }
}

/// At least `least` examples, each without a difference; all that have one are named.
fn each_example(page: &str, least: usize, differences: impl Fn(&Example) -> Vec<String>) {
    let examples = page::read(page);
    assert!(examples.len() >= least, "{page} has {} examples, expected at least {least}", examples.len());
    let mut wrong = Vec::new();
    for example in &examples {
        wrong.extend(differences(example).into_iter().map(|told| format!("{page}:{}: {}: {told}", example.line, example.title)));
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
}

#[derive(Clone, Copy, PartialEq)]
enum Told {
    ByOracle,
    ByFold,
}

fn differences(example: &Example, account: &Account, told: Told) -> Vec<String> {
    let mut found = Vec::new();
    for (row, step) in example.rows.iter().zip(&account.steps) {
        step_differences(row, step, &mut found);
    }
    for (shown, json) in &example.shown {
        // The oracle is always exact: of an estimate it is asked for the exact view alone.
        let asked = match shown {
            Shown::Exact => told == Told::ByOracle,
            Shown::View(_) => told == Told::ByFold || !example.is_estimate(),
            Shown::Rollup | Shown::Counts(_) | Shown::Row(_) => true,
        };
        if !asked {
            continue;
        }
        let hunt = if let Shown::View(hunt) = shown { hunt.as_str() } else { page::HUNT };
        let watermark = account.watermarks.get(hunt).copied();
        match account.shown.get(shown) {
            None => found.push(format!("{shown:?}: expected {json}, found nothing")),
            Some(text) => found.extend(value::difference(json, text, watermark).map(|told| format!("{shown:?}: {told}\n    {text}"))),
        }
    }
    found
}

fn step_differences(row: &Row, step: &Step, found: &mut Vec<String>) {
    let at = format!("{}/{} offset {}", row.partition.0, row.partition.1, row.offset);
    let mut differ = |what: &str, expected: String, said: String| {
        if expected != said {
            found.push(format!("{at}: {what}: the page says {expected}, found {said}"));
        }
    };
    if let Some(outcome) = &row.outcome {
        differ("outcome", format!("{outcome:?}"), format!("{:?}", step.outcome));
    }
    if let Some(clock) = row.partition_clock {
        differ("partition clock", value::time(clock), value::time(step.partition_clock));
    }
    for (hunt, watermark) in &row.watermarks {
        differ(&format!("watermark of {hunt}"), value::time(*watermark), value::time(step.watermarks.get(hunt).copied()));
    }
    for (hunt, clock) in &row.hunt_clocks {
        if let Some(clocks) = &step.hunt_clocks {
            differ(&format!("hunt clock of {hunt}"), value::time(*clock), value::time(clocks.get(hunt).copied()));
        }
    }
}
