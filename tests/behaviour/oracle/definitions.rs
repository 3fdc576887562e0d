//! **Definitions** as the oracle holds them: built by hand in a test, or read from the TOML text a user writes.
//!
//! Invariant: a key left out has the default that the contract prints beside it.

use super::predicate::Predicate;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct Definitions {
    pub event: Places,
    /// Topics with places of their own, complete.
    pub topics: BTreeMap<String, Places>,
    pub dedup_last: usize,
    /// Microseconds, as the next two; `None`: never.
    pub lateness: i128,
    pub idle: Option<i128>,
    pub max_ahead: Option<i128>,
    pub aggregates: BTreeMap<String, Aggregate>,
    /// Names of the aggregates kept over all hunts too.
    pub rollup: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Places {
    pub hunt: Place,
    pub id: Vec<Place>,
    pub event_type: Place,
    /// `None`: the record's timestamp.
    pub time: Option<Place>,
    pub max_bytes: usize,
}

pub type Pointer = Vec<String>;

#[derive(Clone, Debug)]
pub enum Place {
    Key,
    Header(String),
    Value(Pointer),
}

#[derive(Clone, Debug)]
pub struct Aggregate {
    pub kind: Kind,
    /// Types and globs; `None`: every event.
    pub on: Option<Vec<String>>,
    pub filter: Option<Predicate>,
    pub window: Option<Window>,
}

/// No `exact_up_to`: the oracle is always exact.
#[derive(Clone, Debug)]
pub enum Kind {
    Count,
    Sum(Pointer),
    Min(Pointer),
    Max(Pointer),
    Mean(Pointer),
    First(Pointer),
    Last(Pointer),
    Distinct(Pointer),
    Top {
        by: Pointer,
        sum: Option<Pointer>,
        limit: usize,
    },
    /// `at` as decimal text: ranks and names are taken from the digits.
    Quantiles {
        of: Pointer,
        at: Vec<String>,
    },
    Funnel {
        by: Pointer,
        stages: Vec<String>,
    },
}

#[derive(Clone, Debug)]
pub struct Window {
    pub shape: Shape,
    pub keep: usize,
}

/// Microseconds.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Tumbling(i128),
    Hopping { length: i128, every: i128 },
    Session(i128),
}

impl Default for Places {
    fn default() -> Self {
        Places {
            hunt: Place::Key,
            id: vec![place("/id")],
            event_type: place("/type"),
            time: Some(place("/time")),
            max_bytes: 1 << 20,
        }
    }
}

impl Default for Definitions {
    fn default() -> Self {
        Definitions {
            event: Places::default(),
            topics: BTreeMap::new(),
            dedup_last: 32,
            lateness: duration("1m"),
            idle: Some(duration("1h")),
            max_ahead: Some(duration("5m")),
            aggregates: BTreeMap::new(),
            rollup: Vec::new(),
        }
    }
}

impl Definitions {
    pub fn places(&self, topic: &str) -> &Places {
        self.topics.get(topic).unwrap_or(&self.event)
    }

    /// From a configuration that `check` accepts; sections and keys that do not matter to the fold are passed over.
    /// Panics on others: a test wrote them.
    pub fn from_toml(text: &str) -> Definitions {
        let file: Value = toml_edit::de::from_str(text).expect("a test's configuration is TOML");
        let mut it = Definitions::default();
        it.event = places(file.get("event"), &it.event);
        for (topic, section) in members(file.get("topic")) {
            // The contract does not say what a topic leaves out; `[event]` is what a user would expect.
            it.topics.insert(topic.clone(), places(section.get("event"), &it.event));
        }
        if let Some(last) = file.pointer("/dedup/last") {
            it.dedup_last = count(last);
        }
        let time = |key: &str| file.pointer(&format!("/time/{key}")).map(text_of);
        if let Some(lateness) = time("lateness") {
            it.lateness = duration(&lateness);
        }
        let or_never = |text: String| (text != "never").then(|| duration(&text));
        if let Some(idle) = time("idle") {
            it.idle = or_never(idle);
        }
        if let Some(ahead) = time("max_ahead") {
            it.max_ahead = or_never(ahead);
        }
        for (name, section) in members(file.get("aggregates")) {
            it.aggregates.insert(name.clone(), aggregate(section));
        }
        it.rollup = file.pointer("/rollup/aggregates").map(texts).unwrap_or_default();
        it
    }
}

/// `key`, `header:NAME` or a JSON pointer.
pub fn place(text: &str) -> Place {
    match text.strip_prefix("header:") {
        Some(name) => Place::Header(name.to_owned()),
        None if text == "key" => Place::Key,
        None => Place::Value(pointer(text)),
    }
}

/// RFC 6901.
pub fn pointer(text: &str) -> Pointer {
    if text.is_empty() {
        return Vec::new();
    }
    let tokens = text.strip_prefix('/').unwrap_or_else(|| panic!("{text:?} is no JSON pointer"));
    tokens.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
}

/// `(digits unit)+` in microseconds.
pub fn duration(text: &str) -> i128 {
    let mut rest = text;
    let mut micros = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[digits..digits + letters] {
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            other => panic!("{other:?} in {text:?} is no unit of time"),
        };
        micros += rest[..digits].parse::<i128>().expect("digits before a unit") * unit;
        rest = &rest[digits + letters..];
    }
    micros
}

fn size(value: &Value) -> usize {
    let Some(text) = value.as_str() else { return count(value) };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => panic!("{other:?} in {text:?} is no unit of size"),
    };
    text[..digits].parse::<usize>().expect("digits before a unit") * unit
}

fn places(section: Option<&Value>, otherwise: &Places) -> Places {
    let mut it = otherwise.clone();
    for (key, value) in members(section) {
        match key.as_str() {
            "hunt" => it.hunt = place(&text_of(value)),
            "id" => it.id = texts(value).iter().map(|t| place(t)).collect(),
            "type" => it.event_type = place(&text_of(value)),
            "time" => it.time = (value != "timestamp").then(|| place(&text_of(value))),
            "max_bytes" => it.max_bytes = size(value),
            other => panic!("[event] has no key {other:?}"),
        }
    }
    it
}

fn aggregate(section: &Value) -> Aggregate {
    let text = |key: &str| section.get(key).map(text_of);
    let at = |key: &str| pointer(&text(key).unwrap_or_else(|| panic!("{section} needs {key:?}")));
    let kind = match text("kind").expect("an aggregate has a kind").as_str() {
        "count" => Kind::Count,
        "sum" => Kind::Sum(at("of")),
        "min" => Kind::Min(at("of")),
        "max" => Kind::Max(at("of")),
        "mean" => Kind::Mean(at("of")),
        "first" => Kind::First(at("of")),
        "last" => Kind::Last(at("of")),
        "distinct" => Kind::Distinct(at("of")),
        // The example's 10 stands in for a default that the contract does not give.
        "top" => Kind::Top { by: at("by"), sum: text("sum").map(|t| pointer(&t)), limit: section.get("limit").map_or(10, count) },
        "quantiles" => {
            let at_list =
                section.get("at").map(|at| at.as_array().expect("`at` is a list").iter().map(|q| q.to_string()).collect());
            Kind::Quantiles { of: at("of"), at: at_list.unwrap_or_else(|| ["0.5", "0.95", "0.99"].map(String::from).to_vec()) }
        }
        "funnel" => Kind::Funnel { by: at("by"), stages: section.get("stages").map(texts).expect("a funnel has stages") },
        other => panic!("no kind {other:?}"),
    };
    Aggregate {
        kind,
        on: section.get("on").map(texts),
        filter: text("where").map(|t| Predicate::parse(&t).unwrap_or_else(|e| panic!("{t:?}: {e}"))),
        window: section.get("window").map(window),
    }
}

fn window(section: &Value) -> Window {
    let length = |key: &str| section.get(key).map(|v| duration(&text_of(v)));
    let shape = match (length("tumbling"), length("hopping"), length("session")) {
        (Some(length), None, None) => Shape::Tumbling(length),
        (None, Some(hop), None) => Shape::Hopping { length: hop, every: length("every").expect("a hopping window has `every`") },
        (None, None, Some(gap)) => Shape::Session(gap),
        _ => panic!("{section} is no window"),
    };
    Window { shape, keep: section.get("keep").map_or(60, count) }
}

fn members(section: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    section.and_then(Value::as_object).into_iter().flatten()
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} should be text")).to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(text_of).collect(),
        one => vec![text_of(one)],
    }
}

fn count(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("{value} should be a number")) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_file_reads_as_written() {
        let it = Definitions::from_toml(
            r#"
            [kafka]
            topics = ["a", "b"]
            [event]
            hunt = "header:hunt"
            id = ["/source", "/id"]
            max_bytes = "2KiB"
            [topic."b".event]
            hunt = "/data/hunt~1id"
            time = "timestamp"
            [dedup]
            last = 0
            [time]
            lateness = "1h30m"
            idle = "never"
            [aggregates.n]
            kind = "count"
            on = "clue.*"
            window = { hopping = "10m", every = "1m", keep = 5 }
            [aggregates.q]
            kind = "quantiles"
            of = "/data/points"
            at = [0.5, 0.999]
            where = "data.points > 0"
            [rollup]
            aggregates = ["n"]
            "#,
        );
        assert!(matches!(&it.event.hunt, Place::Header(name) if name == "hunt"));
        assert_eq!(it.event.id.len(), 2);
        assert_eq!(it.event.max_bytes, 2048);
        let b = it.places("b");
        assert!(matches!(&b.hunt, Place::Value(p) if *p == ["data", "hunt/id"]));
        assert!(b.time.is_none() && b.id.len() == 2 && it.places("a").time.is_some());
        assert_eq!((it.dedup_last, it.lateness, it.idle, it.max_ahead), (0, 5_400_000_000, None, Some(300_000_000)));
        let n = &it.aggregates["n"];
        assert!(matches!(n.window, Some(Window { shape: Shape::Hopping { length: 600_000_000, every: 60_000_000 }, keep: 5 })));
        assert!(matches!(&it.aggregates["q"].kind, Kind::Quantiles { at, .. } if *at == ["0.5", "0.999"]));
        assert_eq!(it.rollup, ["n"]);
    }

    #[test]
    fn durations_add_up_their_units() {
        assert_eq!(duration("1d2h3m4s5ms"), 93_784_005_000);
        assert_eq!(duration("250ms"), 250_000);
    }
}
