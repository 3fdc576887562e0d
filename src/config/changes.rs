//! **Changes** between two definitions, one sentence each, with what each would mean from the present
//! positions on; and the definitions' canonical form: what the store remembers and the daemon
//! compares at its start.
//!
//! The daemon hands it the store's definitions and its own. Invariant: a change that is allowed from
//! now on leaves every state with the meaning it had, so that what was folded before it stays right.

use crate::definitions::{Aggregate, Definitions, EventPlaces, Kind, Place, Pointer, Shape, Window};
use crate::time::format_duration;
use std::collections::BTreeSet;

/// One difference between two definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// A sentence: what was added, removed or altered, and how.
    pub what: String,
    /// What it means if the new definitions hold from the present positions on, or why they cannot.
    pub from_now: std::result::Result<&'static str, &'static str>,
}

const ADDED: &str = "starts empty at the present positions";
const REMOVED: &str = "goes; what it saw is forgotten";
const LATER_RECORDS: &str = "holds for records from the present positions on";
const KEEPS_MEANING: &str = "what it saw so far keeps its meaning";
const ANOTHER_MEANING: &str =
    "what it saw so far would not be what it says: only a rebuild can make it. Under another name it would start empty";

/// The definitions as canonical JSON: equal definitions, equal text.
pub fn definitions_json(definitions: &Definitions) -> String {
    serde_json::to_string(definitions).expect("definitions hold only text, finite numbers and lists of them")
}

/// One sentence a difference between two definitions as [`definitions_json`] writes them; empty: they mean the same.
pub fn definitions_changes(old_json: &str, new_json: &str) -> Vec<String> {
    match definitions_diff(old_json, new_json) {
        Ok(changes) => changes.into_iter().map(|change| change.what).collect(),
        Err(why) => vec![why],
    }
}

/// Every difference between two definitions as [`definitions_json`] writes them; none: they mean the same. The error says which cannot be read.
pub fn definitions_diff(old_json: &str, new_json: &str) -> std::result::Result<Vec<Change>, String> {
    if old_json == new_json {
        return Ok(Vec::new());
    }
    let read = |json: &str| serde_json::from_str::<Definitions>(json);
    let old = read(old_json).map_err(|error| format!("the definitions of the store cannot be read by this version: {error}"))?;
    let new = read(new_json).map_err(|error| format!("the definitions of the configuration cannot be read: {error}"))?;
    Ok(changes(&old, &new))
}

fn changes(old: &Definitions, new: &Definitions) -> Vec<Change> {
    let mut found = Vec::new();
    let of_places = |key: &str| match key {
        "hunt" => Ok("records from the present positions on go to the hunt that is read there"),
        "id" => Ok(
            "holds for records from the present positions on; one that repeats an event from before them may not be recognised",
        ),
        _ => Ok(LATER_RECORDS),
    };
    compare(&mut found, "[event]", &places(&old.event), &places(&new.event), of_places);
    let topics: BTreeSet<&String> = old.topics.keys().chain(new.topics.keys()).collect();
    for topic in topics {
        // A topic without places of its own had those of [event].
        let (was, is) = (places(old.places(topic)), places(new.places(topic)));
        compare(&mut found, &format!("[topic.{topic:?}.event]"), &was, &is, of_places);
    }
    let last = |definitions: &Definitions| [("last", definitions.dedup_last.to_string())];
    compare(&mut found, "[dedup]", &last(old), &last(new), |_| {
        Ok(if new.dedup_last > old.dedup_last {
            "the memory grows from the ids in it now"
        } else {
            "the newest ids stay in the memory"
        })
    });
    compare(&mut found, "[time]", &time(old), &time(new), |key| {
        let reopens = key == "idle" && new.time.idle.is_none_or(|new| old.time.idle.is_some_and(|old| new > old));
        Ok(if reopens {
            "holds from the present positions on; a window that only silence had closed may take events again"
        } else {
            LATER_RECORDS
        })
    });
    let names: BTreeSet<&str> = old.aggregates.iter().chain(&new.aggregates).map(|a| a.name.as_str()).collect();
    for name in names {
        let find = |definitions: &'_ Definitions| definitions.aggregates.iter().find(|a| a.name == name).cloned();
        match (find(old), find(new)) {
            (None, Some(added)) => {
                found.push(Change { what: format!("aggregate {name} ({}) was added", added.kind.name()), from_now: Ok(ADDED) });
            }
            (Some(removed), None) => {
                found.push(Change {
                    what: format!("aggregate {name} ({}) was removed", removed.kind.name()),
                    from_now: Ok(REMOVED),
                });
            }
            (Some(old), Some(new)) => {
                let of_aggregate = |key: &str| altered(key, &old, &new);
                compare(&mut found, &format!("aggregate {name}"), &keys(&old), &keys(&new), of_aggregate);
            }
            (None, None) => {}
        }
    }
    for name in new.rollup.iter().filter(|name| !old.rollup.contains(name)) {
        found.push(Change { what: format!("[rollup] {name} was added"), from_now: Ok(ADDED) });
    }
    for name in old.rollup.iter().filter(|name| !new.rollup.contains(name)) {
        found.push(Change { what: format!("[rollup] {name} was removed"), from_now: Ok(REMOVED) });
    }
    if found.is_empty() && old.rollup != new.rollup {
        let what = format!("[rollup] aggregates was {:?}, is {:?}", old.rollup, new.rollup);
        found.push(Change { what, from_now: Ok(KEEPS_MEANING) });
    }
    found
}

/// Whether an aggregate with this key altered may go on with what it saw.
fn altered(key: &str, old: &Aggregate, new: &Aggregate) -> std::result::Result<&'static str, &'static str> {
    match (key, &old.window, &new.window) {
        ("limit" | "at", ..) => Ok(KEEPS_MEANING),
        ("window", Some(was), Some(is)) if was.shape == is.shape && is.keep > was.keep => {
            Ok("windows dropped so far do not come back; from the present positions on more are kept")
        }
        _ => Err(ANOTHER_MEANING),
    }
}

/// One change for every key whose text differs; `none` where one side lacks it.
fn compare(
    found: &mut Vec<Change>,
    what: &str,
    old: &[(&'static str, String)],
    new: &[(&'static str, String)],
    from_now: impl Fn(&str) -> std::result::Result<&'static str, &'static str>,
) {
    let names: Vec<&str> = old.iter().chain(new).map(|(name, _)| *name).collect();
    for name in names.iter().enumerate().filter(|(i, name)| !names[..*i].contains(name)).map(|(_, name)| name) {
        let text = |side: &[(&'static str, String)]| {
            side.iter().find(|(n, _)| n == name).map_or("none".to_owned(), |(_, text)| text.clone())
        };
        let (was, is) = (text(old), text(new));
        if was != is {
            found.push(Change { what: format!("{what}: {name} was {was}, is {is}"), from_now: from_now(name) });
        }
    }
}

fn places(event: &EventPlaces) -> Vec<(&'static str, String)> {
    let id: Vec<_> = event.id.iter().map(place).collect();
    vec![
        ("hunt", place(&event.hunt)),
        ("id", format!("[{}]", id.join(", "))),
        ("type", place(&event.event_type)),
        ("time", event.time.as_ref().map_or("\"timestamp\"".to_owned(), place)),
        ("max_bytes", format!("{:?}", super::values::format_size(event.max_bytes))),
    ]
}

fn place(place: &Place) -> String {
    match place {
        Place::Key => "\"key\"".into(),
        Place::Header(name) => format!("{:?}", format!("header:{name}")),
        Place::Value(at) => pointer(at),
    }
}

fn pointer(Pointer(tokens): &Pointer) -> String {
    let text: String = tokens.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1"))).collect();
    format!("{text:?}")
}

fn length(micros: i64) -> String {
    format!("{:?}", format_duration(micros))
}

fn time(definitions: &Definitions) -> Vec<(&'static str, String)> {
    let or_never = |micros: Option<i64>| micros.map_or("\"never\"".to_owned(), length);
    let rules = &definitions.time;
    vec![("lateness", length(rules.lateness)), ("idle", or_never(rules.idle)), ("max_ahead", or_never(rules.max_ahead))]
}

/// An aggregate's keys and what they say, as they are written.
fn keys(aggregate: &Aggregate) -> Vec<(&'static str, String)> {
    let mut keys = vec![("kind", format!("{:?}", aggregate.kind.name()))];
    if let Some(types) = &aggregate.on {
        keys.push(("on", format!("{types:?}")));
    }
    if let Some(filter) = &aggregate.filter {
        keys.push(("where", serde_json::to_string(filter).unwrap_or_default()));
    }
    match &aggregate.kind {
        Kind::Count => {}
        Kind::Sum { of } | Kind::Min { of } | Kind::Max { of } | Kind::Mean { of } | Kind::First { of } | Kind::Last { of } => {
            keys.push(("of", pointer(of)));
        }
        Kind::Distinct { of, exact_up_to } => keys.extend([("of", pointer(of)), ("exact_up_to", exact_up_to.to_string())]),
        Kind::Top { by, sum, limit, exact_up_to } => {
            keys.push(("by", pointer(by)));
            keys.extend(sum.as_ref().map(|sum| ("sum", pointer(sum))));
            keys.extend([("limit", limit.to_string()), ("exact_up_to", exact_up_to.to_string())]);
        }
        Kind::Quantiles { of, at } => keys.extend([("of", pointer(of)), ("at", format!("{at:?}"))]),
        Kind::Funnel { by, stages, exact_up_to } => {
            keys.extend([("by", pointer(by)), ("stages", format!("{stages:?}")), ("exact_up_to", exact_up_to.to_string())]);
        }
    }
    keys.extend(aggregate.window.as_ref().map(|w| ("window", window(w))));
    keys
}

fn window(window: &Window) -> String {
    let shape = match window.shape {
        Shape::Tumbling { length: l } => format!("tumbling = {}", length(l)),
        Shape::Hopping { length: l, every } => format!("hopping = {}, every = {}", length(l), length(every)),
        Shape::Session { gap } => format!("session = {}", length(gap)),
    };
    format!("{{ {shape}, keep = {} }}", window.keep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::settings;

    fn changes_between(old: &str, new: &str) -> Vec<String> {
        let json = |text: &str| definitions_json(&settings(text).definitions);
        definitions_changes(&json(old), &json(new))
    }

    #[test]
    fn every_difference_is_one_sentence() {
        let old = r#"
            [aggregates.points]
            kind = "sum"
            of = "/data/points"
            on = "clue.solved"
            [aggregates.gone]
            kind = "count"
        "#;
        let new = r#"
            kafka.topics = ["hunt-events", "other"]
            event.id = ["/source", "/id"]
            topic.other.event.hunt = "/data/a~1b"
            dedup.last = 64
            time.idle = "never"
            [aggregates.points]
            kind = "max"
            of = "/data/points"
            where = "data.points > 0"
            [aggregates.fresh]
            kind = "count"
        "#;
        assert_eq!(
            changes_between(old, new),
            [
                "[event]: id was [\"/id\"], is [\"/source\", \"/id\"]",
                "[topic.\"other\".event]: hunt was \"key\", is \"/data/a~1b\"",
                "[topic.\"other\".event]: id was [\"/id\"], is [\"/source\", \"/id\"]",
                "[dedup]: last was 32, is 64",
                "[time]: idle was \"1h\", is \"never\"",
                "aggregate fresh (count) was added",
                "aggregate gone (count) was removed",
                "aggregate points: kind was \"sum\", is \"max\"",
                "aggregate points: on was [\"clue.solved\"], is none",
                "aggregate points: where was none, is \"data.points > 0\"",
            ]
        );
    }

    #[test]
    fn equal_definitions_have_equal_text_and_no_changes() {
        let one = "time.lateness = \"60s\"\n[aggregates.b]\nkind = \"count\"\n[aggregates.a]\nkind = \"count\"";
        let two = "[aggregates.a]\nkind = \"count\"\n[aggregates.b]\nkind = \"count\"";
        assert_eq!(definitions_json(&settings(one).definitions), definitions_json(&settings(two).definitions));
        assert!(changes_between(one, two).is_empty());
    }

    #[test]
    fn what_keeps_the_meaning_of_states_may_hold_from_now_on_and_nothing_else() {
        let one = |aggregate: &str| format!("[aggregates.a]\n{aggregate}\n");
        let refused = |old: &str, new: &str| -> Vec<String> {
            let json = |text: &str| definitions_json(&settings(text).definitions);
            let changes = definitions_diff(&json(old), &json(new)).expect("both read");
            assert!(!changes.is_empty(), "{old} {new}");
            changes.into_iter().filter(|change| change.from_now.is_err()).map(|change| change.what).collect()
        };
        let top = one("kind = \"top\"\nby = \"/p\"\nlimit = 10");
        let quantiles = one("kind = \"quantiles\"\nof = \"/v\"");
        let window = |window: &str| one(&format!("kind = \"count\"\nwindow = {{ {window} }}"));
        for (old, new) in [
            (top.clone(), top.replace("10", "3")),
            (quantiles.clone(), quantiles.clone() + "at = [0.1]"),
            (window("tumbling = \"1m\", keep = 5"), window("tumbling = \"1m\", keep = 6")),
            (one("kind = \"count\""), String::new()),
            (String::new(), one("kind = \"count\"")),
            ("dedup.last = 5".into(), "dedup.last = 2".into()),
            ("time.lateness = \"1s\"".into(), "time.idle = \"never\"\nevent.id = \"/other\"".into()),
        ] {
            assert_eq!(refused(&old, &new), [""; 0], "{old} {new}");
        }
        for (old, new, key) in [
            (top.clone(), top.replace("/p", "/q"), "by"),
            (top.clone(), top.clone() + "sum = \"/s\"", "sum"),
            (top.clone(), top + "exact_up_to = 77", "exact_up_to"),
            (one("kind = \"count\""), one("kind = \"count\"\non = \"x\""), "on"),
            (one("kind = \"count\""), one("kind = \"count\"\nwhere = \"a > 1\""), "where"),
            (one("kind = \"count\""), window("tumbling = \"1m\""), "window"),
            (window("tumbling = \"1m\", keep = 5"), window("tumbling = \"1m\", keep = 4"), "window"),
            (window("tumbling = \"1m\", keep = 5"), window("tumbling = \"2m\", keep = 6"), "window"),
        ] {
            let refused = refused(&old, &new);
            assert!(refused.len() == 1 && refused[0].starts_with(&format!("aggregate a: {key} was ")), "{refused:?}");
        }
    }

    #[test]
    fn definitions_that_cannot_be_read_are_named() {
        let new = definitions_json(&settings("").definitions);
        let found = definitions_changes("{\"event\":1}", &new);
        assert!(found[0].starts_with("the definitions of the store cannot be read by this version: "), "{found:?}");
    }
}
