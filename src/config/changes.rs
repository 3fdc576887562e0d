//! **Changes** between two definitions, one sentence each, and their canonical form: what the
//! store remembers and the daemon compares at its start.

use crate::definitions::{Aggregate, Definitions, EventPlaces, Kind, Place, Pointer, Shape, Window};
use crate::time::format_duration;
use std::collections::BTreeSet;

/// The definitions as canonical JSON: equal definitions, equal text.
pub fn definitions_json(definitions: &Definitions) -> String {
    serde_json::to_string(definitions).expect("definitions hold only text, finite numbers and lists of them")
}

/// One sentence a difference between two definitions as [`definitions_json`] writes them; empty: they mean the same.
pub fn definitions_changes(old_json: &str, new_json: &str) -> Vec<String> {
    if old_json == new_json {
        return Vec::new();
    }
    let read = |json: &str| serde_json::from_str::<Definitions>(json);
    match (read(old_json), read(new_json)) {
        (Ok(old), Ok(new)) => changes(&old, &new),
        (Err(error), _) => vec![format!("the definitions of the store cannot be read by this version: {error}")],
        (_, Err(error)) => vec![format!("the definitions of the configuration cannot be read: {error}")],
    }
}

fn changes(old: &Definitions, new: &Definitions) -> Vec<String> {
    let mut found = Vec::new();
    compare(&mut found, "[event]", &places(&old.event), &places(&new.event));
    let topics: BTreeSet<&String> = old.topics.keys().chain(new.topics.keys()).collect();
    for topic in topics {
        // A topic without places of its own had those of [event].
        compare(&mut found, &format!("[topic.{topic:?}.event]"), &places(old.places(topic)), &places(new.places(topic)));
    }
    compare(&mut found, "[dedup]", &[("last", old.dedup_last.to_string())], &[("last", new.dedup_last.to_string())]);
    compare(&mut found, "[time]", &time(old), &time(new));
    let names: BTreeSet<&str> = old.aggregates.iter().chain(&new.aggregates).map(|a| a.name.as_str()).collect();
    for name in names {
        let find = |definitions: &'_ Definitions| definitions.aggregates.iter().find(|a| a.name == name).cloned();
        match (find(old), find(new)) {
            (None, Some(added)) => found.push(format!("aggregate {name} ({}) was added", added.kind.name())),
            (Some(removed), None) => found.push(format!("aggregate {name} ({}) was removed", removed.kind.name())),
            (Some(old), Some(new)) => compare(&mut found, &format!("aggregate {name}"), &keys(&old), &keys(&new)),
            (None, None) => {}
        }
    }
    for name in new.rollup.iter().filter(|name| !old.rollup.contains(name)) {
        found.push(format!("[rollup] {name} was added"));
    }
    for name in old.rollup.iter().filter(|name| !new.rollup.contains(name)) {
        found.push(format!("[rollup] {name} was removed"));
    }
    if found.is_empty() && old.rollup != new.rollup {
        found.push(format!("[rollup] aggregates was {:?}, is {:?}", old.rollup, new.rollup));
    }
    found
}

/// One sentence for every key whose text differs; `none` where one side lacks it.
fn compare(found: &mut Vec<String>, what: &str, old: &[(&'static str, String)], new: &[(&'static str, String)]) {
    let names: Vec<&str> = old.iter().chain(new).map(|(name, _)| *name).collect();
    for (i, name) in names.iter().enumerate().filter(|(i, name)| !names[..*i].contains(name)) {
        let _ = i;
        let text = |side: &[(&'static str, String)]| {
            side.iter().find(|(n, _)| n == name).map_or("none".to_owned(), |(_, text)| text.clone())
        };
        let (was, is) = (text(old), text(new));
        if was != is {
            found.push(format!("{what}: {name} was {was}, is {is}"));
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
    fn definitions_that_cannot_be_read_are_named() {
        let new = definitions_json(&settings("").definitions);
        let found = definitions_changes("{\"event\":1}", &new);
        assert!(found[0].starts_with("the definitions of the store cannot be read by this version: "), "{found:?}");
    }
}
