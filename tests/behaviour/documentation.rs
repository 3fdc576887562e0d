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

/// How many examples the pages have: one that is lost, or no longer read as one, fails.
const AGGREGATES: usize = 21;
const TIME: usize = 19;

/// What one way of folding makes of an example, in the words of its page.
#[derive(Default)]
struct Account {
    /// After each row, in the order of the table.
    steps: Vec<Step>,
    /// By what they show, as the page has it.
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
    each_example("docs/aggregates.md", AGGREGATES, by_oracle);
}

#[test]
fn the_fold_agrees_with_every_example_of_the_aggregates() {
    each_example("docs/aggregates.md", AGGREGATES, by_fold);
}

#[test]
fn the_oracle_agrees_with_every_example_of_time() {
    each_example("docs/time.md", TIME, by_oracle);
}

#[test]
fn the_fold_agrees_with_every_example_of_time() {
    each_example("docs/time.md", TIME, by_fold);
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
fn every_estimate_is_within_its_bound() {
    let examples = page::read("docs/aggregates.md");
    let estimates: Vec<&Example> = examples.iter().filter(|example| example.is_estimate()).collect();
    assert!(estimates.len() >= 4, "only {} estimates", estimates.len());
    for example in estimates {
        let shown = |wanted: Shown| example.shown.iter().find(|(shown, _)| *shown == wanted).map(|(_, json)| json.as_str());
        let (view, exact) = (shown(Shown::View(page::HUNT.to_owned())), shown(Shown::Exact));
        let (view, exact) = view.zip(exact).expect("an estimate stands beside the exact view");
        assert_eq!(value::beyond_bounds(view, exact), None, "{}", example.title);
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

#[test]
fn a_page_that_says_something_else_is_found_out() {
    let text = std::fs::read_to_string(page::path("docs/time.md")).expect("a page");
    let found = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} stands in docs/time.md");
        let examples = page::parse("docs/time.md", &text.replacen(from, to, 1));
        examples.iter().flat_map(by_oracle).collect::<Vec<_>>()
    };
    assert_eq!(found("# Time", "# Time"), [""; 0]);
    for (from, to) in [
        ("\"value\": 3, \"final\": true", "\"value\": 4, \"final\": true"),
        ("\"value\": 3, \"final\": true", "\"value\": 3, \"final\": false"),
        ("\"end\": \"2026-05-01T10:10:00Z\"", "\"end\": \"2026-05-01T10:10:01Z\""),
        ("\"late\": 1}", "\"late\": 2}"),
        ("\"watermark\": \"2026-05-01T10:48:30Z\"", "\"watermark\": \"2026-05-01T10:48:31Z\""),
        ("| 10:02:00 | 10:00:00 | 09:58:00 |", "| 10:02:00 | 10:00:00 | - |"),
        ("| 10:02:00 | 10:00:00 | 09:58:00 |", "| 10:02:01 | 10:00:00 | 09:58:00 |"),
        ("| applied, late for `points_per_10m` |", "| applied |"),
        ("| applied, late for `points_per_10m` |", "| applied, late for `points` |"),
        ("| dead letter: `ahead` |", "| dead letter: `bad_time` |"),
        ("| duplicate |", "| applied |"),
    ] {
        assert_ne!(found(from, to), [""; 0], "{to}");
    }
}

#[test]
fn an_example_that_would_show_nothing_is_refused() {
    let row = "| 0 | 10:00:00 | `{\"type\":\"t\"}` |\n";
    let rows: String = (0..6).map(|offset| row.replacen('0', &offset.to_string(), 1)).collect();
    let whole = |toml: &str, columns: &str, rows: &str, view: &str| {
        format!("### Example: e\n```toml\n{toml}```\n{columns}\n|---|---|---|\n{rows}\n{view}\n```json\n{{\"n\": 6}}\n```\n")
    };
    let toml = "[aggregates.n]\nkind = \"count\"\n";
    let columns = "| offset | recorded | value |";
    let sound = whole(toml, columns, &rows, "The view:");
    assert_eq!(page::parse("p", &sound).len(), 1);
    for unsound in [
        whole(toml, columns, "", "The view:"),
        whole(toml, columns, row, "The view:"),
        whole("", columns, &rows, "The view:"),
        whole(toml, columns, &rows, "It gives:"),
        whole(toml, columns, &rows, "The counts:"),
        whole(toml, "| offset | recorded | valeu |", &rows, "The view:"),
        whole(toml, columns, &row.repeat(6), "The view:"),
        whole(toml, columns, &rows, "The view:").replace("```json", "```"),
    ] {
        let parsed = std::panic::catch_unwind(|| page::parse("p", &unsound).len());
        assert!(parsed.is_err(), "{unsound}");
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

fn by_oracle(example: &Example) -> Vec<String> {
    differences(example, &exact::account(example), Told::ByOracle)
}

fn by_fold(example: &Example) -> Vec<String> {
    match engine::account(example) {
        Ok(account) => differences(example, &account, Told::ByFold),
        Err(problem) => vec![problem],
    }
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
            // The words are the daemon's own.
            Shown::Detail(_) => told == Told::ByFold,
        };
        if !asked {
            continue;
        }
        let hunt = if let Shown::View(hunt) = shown { hunt.as_str() } else { page::HUNT };
        let watermark = account.watermarks.get(hunt).copied();
        match account.shown.get(shown) {
            None => found.push(format!("{shown:?}: expected {json}, found nothing")),
            Some(text) if matches!(shown, Shown::Detail(_)) => {
                found.extend((text != json).then(|| format!("{shown:?}: the page says {json}, found {text}")));
            }
            Some(text) => {
                found.extend(value::difference(json, text, watermark).map(|told| format!("{shown:?}: {told}\n    {text}")))
            }
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
