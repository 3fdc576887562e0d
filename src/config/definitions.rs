//! The part of the configuration that says what views mean compiles to
//! [`Definitions`] here: places, time and rollups; [`aggregates`] has the rest.

use super::aggregates;
use super::compile::Compiler;
use super::layer::{Path, quote};
use super::structure::nearest;
use super::written::{self, PlaceText, Written};
use crate::definitions::{Aggregate, Definitions, EventPlaces, Place, Pointer, Shape, TimeRules, Window};
use std::collections::BTreeMap;

pub(super) fn compile(c: &mut Compiler<'_>, written: &Written, topics_read: Option<&[String]>) -> Definitions {
    let inherited = written.event.clone().unwrap_or_default();
    let event = places(c, &Path::of(["event"]), &inherited);
    let mut topics = BTreeMap::new();
    for (name, topic) in written.topic.iter().flatten() {
        let path = Path::of(["topic"]).key(name);
        if topics_read.is_some_and(|read| !read.contains(name)) {
            c.refuse_key(&path, format!("a topic that is not read ({})", quote(name)), "one of [kafka] topics");
            c.mean(nearest(name, topics_read.unwrap_or_default().iter().map(String::as_str)));
        }
        let own = topic.event.clone().unwrap_or_default();
        // What it does not name has been checked where it stands.
        let inherits = EventPlacesOf { own: &own, inherited: &event };
        topics.insert(name.clone(), inherits.places(c, &path.key("event")));
    }
    let time = written.time.clone().unwrap_or_default();
    let time_path = Path::of(["time"]);
    let aggregates = aggregates::compile(c, written);
    let rollup = rollup(c, written, &aggregates);
    let dedup = written.dedup.clone().unwrap_or_default();
    Definitions {
        event,
        topics,
        dedup_last: c.integer(&Path::of(["dedup", "last"]), dedup.last, 0, 65_536),
        time: TimeRules {
            lateness: c.micros(&time_path.key("lateness"), time.lateness.as_ref().map(|l| l.0.as_str()), 0),
            idle: c.micros_or(&time_path.key("idle"), time.idle.as_ref().map(|l| l.0.as_str()), "never", 0),
            max_ahead: c.micros_or(&time_path.key("max_ahead"), time.max_ahead.as_ref().map(|l| l.0.as_str()), "never", 0),
        },
        aggregates,
        rollup,
    }
}

fn places(c: &mut Compiler<'_>, path: &Path, event: &written::Event) -> EventPlaces {
    let fallback = EventPlaces { hunt: Place::Key, id: Vec::new(), event_type: Place::Key, time: None, max_bytes: 1 << 20 };
    EventPlacesOf { own: event, inherited: &fallback }.places(c, path)
}

/// A topic's own places over those it inherits.
struct EventPlacesOf<'a> {
    own: &'a written::Event,
    inherited: &'a EventPlaces,
}

impl EventPlacesOf<'_> {
    fn places(&self, c: &mut Compiler<'_>, path: &Path) -> EventPlaces {
        let Self { own, inherited } = self;
        let mut one = |key: &str, text: Option<&PlaceText>, inherited: &Place| match text {
            Some(text) => place(c, &path.key(key), &text.0, false).unwrap_or_else(|| inherited.clone()),
            None => inherited.clone(),
        };
        let hunt = one("hunt", own.hunt.as_ref(), &inherited.hunt);
        let event_type = one("type", own.event_type.as_ref(), &inherited.event_type);
        let id = match &own.id {
            None => inherited.id.clone(),
            Some(written::OneOrMore::One(text)) => place(c, &path.key("id"), &text.0, false).into_iter().collect(),
            Some(written::OneOrMore::More(parts)) => {
                let at = path.key("id");
                let parts = parts.iter().enumerate();
                parts.filter_map(|(i, text)| place(c, &at.index(i), &text.0, false)).collect()
            }
        };
        let time = match &own.time {
            None => inherited.time.clone(),
            Some(text) if text.0 == "timestamp" => None,
            Some(text) => place(c, &path.key("time"), &text.0, true),
        };
        let max_bytes = match &own.max_bytes {
            None => inherited.max_bytes,
            size => c.size(&path.key("max_bytes"), size.as_ref(), 1, 1 << 30),
        };
        EventPlaces { hunt, id, event_type, time, max_bytes }
    }
}

fn place(c: &mut Compiler<'_>, path: &Path, text: &str, is_time: bool) -> Option<Place> {
    if text == "key" {
        return Some(Place::Key);
    }
    if let Some(name) = text.strip_prefix("header:").filter(|name| !name.is_empty()) {
        return Some(Place::Header(name.to_owned()));
    }
    if text.starts_with('/') {
        return pointer(c, path, text).map(Place::Value);
    }
    let timestamp = if is_time { "\"timestamp\", " } else { "" };
    c.refuse(path, quote(text), format!("{timestamp}\"key\", \"header:NAME\" or a JSON pointer such as \"/data/id\""));
    let words: &[&str] = if is_time { &["timestamp", "key"] } else { &["key"] };
    c.mean(nearest(text, words.iter().copied()));
    None
}

/// RFC 6901: each token after a slash, `~0` for `~` and `~1` for `/`.
pub(super) fn pointer(c: &mut Compiler<'_>, path: &Path, text: &str) -> Option<Pointer> {
    if text.is_empty() {
        return Some(Pointer(Vec::new()));
    }
    let Some(tokens) = text.strip_prefix('/') else {
        c.refuse(path, quote(text), "a JSON pointer such as \"/data/points\"");
        let meant = text.split(['.', '/']).collect::<Vec<_>>().join("/");
        c.mean((!meant.is_empty()).then(|| format!("/{meant}")));
        return None;
    };
    if let Some(at) = text.match_indices('~').map(|(at, _)| at).find(|at| !text[at + 1..].starts_with(['0', '1'])) {
        c.refuse_within(path, at, "a lone ~", "~0 for a tilde, ~1 for a slash");
        return None;
    }
    Some(Pointer(tokens.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect()))
}

fn rollup(c: &mut Compiler<'_>, written: &Written, aggregates: &[Aggregate]) -> Vec<String> {
    let names = written.rollup.clone().unwrap_or_default().aggregates.unwrap_or_default();
    let path = Path::of(["rollup", "aggregates"]);
    for (i, name) in names.iter().enumerate() {
        let at = path.index(i);
        let is_written = written.aggregates.as_ref().is_some_and(|all| all.contains_key(name));
        let aggregate = aggregates.iter().find(|a| a.name == *name);
        if !is_written {
            c.refuse(&at, quote(name), "the name of an aggregate");
            c.mean(nearest(name, aggregates.iter().map(|a| a.name.as_str())));
        } else if names[..i].contains(name) {
            c.refuse(&at, format!("{} twice", quote(name)), "each aggregate once");
        } else if aggregate.is_some_and(|a| matches!(a.window, Some(Window { shape: Shape::Session { .. }, .. }))) {
            c.refuse(
                &at,
                format!("{}, whose windows are sessions", quote(name)),
                "an aggregate without session windows: sessions cannot be rolled up",
            );
        }
    }
    names
}
