//! A **view** for people, a hunt's or the rollup: the API's answer as sections of aligned lines.
//!
//! Invariant: numbers are shown as the API wrote them, however large.

use super::screen::{Column, Table, fitting, left, plain, plural, right};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// One hunt as the API answers.
#[derive(Deserialize)]
pub struct Hunt<'a> {
    hunt_id: String,
    status: String,
    events: i64,
    first_event_at: Option<String>,
    last_event_at: Option<String>,
    watermark: Option<String>,
    #[serde(borrow)]
    view: BTreeMap<String, &'a RawValue>,
    partials: Vec<Partial>,
}

#[derive(Deserialize)]
struct Partial {
    topic: String,
    partition: i32,
    position: Option<i64>,
    status: String,
    source: String,
}

/// The aggregates kept over all hunts as the API answers.
#[derive(Deserialize)]
pub struct Rollup<'a> {
    #[serde(borrow)]
    view: BTreeMap<String, &'a RawValue>,
    updated_at: Option<String>,
}

/// Members of the items of lists, in the order people read them, and their columns.
const ITEMS: [(&str, Column); 8] = [
    ("start", left("start")),
    ("end", left("end")),
    ("stage", left("stage")),
    ("key", left("key")),
    ("value", right("value")),
    ("count", right("count")),
    ("error", right("error")),
    ("final", left("state")),
];

/// How many items of a list are shown.
#[derive(Clone, Copy)]
pub struct Most {
    pub items: usize,
    /// Windows of numbers; the newest are shown.
    pub windows: usize,
    /// Windows that hold lists themselves.
    pub lists: usize,
}

impl Most {
    pub const ALL: Most = Most { items: usize::MAX, windows: usize::MAX, lists: usize::MAX };
    /// `--json` has them all.
    pub const SHOWN: Most = Most { items: usize::MAX, windows: 12, lists: 3 };
    /// So that a watched hunt fits a screen.
    pub const WATCHED: Most = Most { items: 8, windows: 5, lists: 1 };
}

impl Rollup<'_> {
    pub fn is_empty(&self) -> bool {
        self.view.is_empty()
    }

    pub fn lines(&self, room: Option<usize>) -> Vec<String> {
        let updated = self.updated_at.as_deref().map_or("-".into(), |at| plain(at).into_owned());
        let mut lines = vec![format!("updated  {updated}"), String::new()];
        lines.extend(named(&values(&self.view), Most::SHOWN, room));
        lines
    }
}

impl Hunt<'_> {
    /// The whole hunt, of each list so many items, in `room` columns.
    pub fn lines(&self, most: Most, room: Option<usize>) -> Vec<String> {
        let time = |time: &Option<String>| time.as_deref().map_or("-".into(), |time| plain(time).into_owned());
        let facts = [
            ("hunt", plain(&self.hunt_id).into_owned()),
            ("status", plain(&self.status).into_owned()),
            ("events", self.events.to_string()),
            ("first event", time(&self.first_event_at)),
            ("last event", time(&self.last_event_at)),
            ("watermark", time(&self.watermark)),
        ];
        let facts: Vec<(String, Value)> = facts.into_iter().map(|(name, text)| (name.to_owned(), Value::Line(text))).collect();
        let mut lines = named(&facts, most, room);
        let values = values(&self.view);
        if !values.is_empty() {
            lines.push(String::new());
            lines.extend(named(&values, most, room));
        }
        if !self.partials.is_empty() {
            lines.push(String::new());
            let mut table = Table::new([left("TOPIC"), right("PARTITION"), right("POSITION"), left("STATUS"), left("SOURCE")]);
            let rows: Vec<Vec<String>> = self.partials.iter().map(Partial::row).collect();
            lines.extend(table.lines(&rows, room));
        }
        lines
    }

    /// What is new since `before`: how far the hunt is, and each value that differs. Empty: nothing is.
    pub fn changes(&self, before: Option<&Hunt<'_>>) -> Vec<String> {
        let same =
            |name: &str, raw: &RawValue| before.and_then(|hunt| hunt.view.get(name)).is_some_and(|old| old.get() == raw.get());
        let changed: Vec<(String, Value)> = self
            .view
            .iter()
            .filter(|(name, raw)| !same(name, raw))
            .map(|(name, raw)| (format!("  {}", plain(name)), Value::read(raw)))
            .collect();
        let reached = self.reached();
        if changed.is_empty() && before.is_some_and(|hunt| hunt.reached() == reached) {
            return Vec::new();
        }
        let mut lines = vec![reached];
        lines.extend(named(&changed, Most::SHOWN, None));
        lines
    }

    fn reached(&self) -> String {
        let last = self.last_event_at.as_deref().unwrap_or("no event yet");
        let events = plural(self.events.unsigned_abs(), "event");
        format!("{}  {} {events}  {}  {}", plain(last), self.events, plain(&self.status), plain(&self.hunt_id))
    }
}

impl Partial {
    fn row(&self) -> Vec<String> {
        let position = self.position.map_or("-".to_owned(), |position| position.to_string());
        let text = |text: &str| plain(text).into_owned();
        vec![text(&self.topic), self.partition.to_string(), position, text(&self.status), text(&self.source)]
    }
}

/// The aggregates by their names.
fn values(view: &BTreeMap<String, &RawValue>) -> Vec<(String, Value)> {
    view.iter().map(|(name, raw)| (plain(name).into_owned(), Value::read(raw))).collect()
}

/// One aggregate's value.
pub(super) enum Value {
    Line(String),
    /// A list of objects: top, funnel, windows of what fits a line.
    Items {
        columns: Vec<Column>,
        rows: Vec<Vec<String>>,
        newest_last: bool,
    },
    /// Windows of lists, each under its times.
    Windows(Vec<(String, Value)>),
}

type Item<'a> = BTreeMap<String, &'a RawValue>;

impl Value {
    pub fn read(raw: &RawValue) -> Value {
        let items: Vec<Item<'_>> = match serde_json::from_str(raw.get()) {
            Ok(items) if raw.get() != "[]" => items,
            _ => return Value::Line(line(raw)),
        };
        Value::windows(&items).or_else(|| Value::items(&items)).unwrap_or_else(|| Value::Line(line(raw)))
    }

    /// `None` where the items are no windows, or none of them holds a list.
    fn windows(items: &[Item<'_>]) -> Option<Value> {
        let window = |item: &Item<'_>| {
            let (start, end, value) = (item.get("start")?, item.get("end")?, Value::read(item.get("value")?));
            let times = format!("{} to {}  {}", line(start), line(end), item.get("final").map_or("", |raw| state(raw)));
            Some((times.trim_end().to_owned(), value))
        };
        let windows = items.iter().map(window).collect::<Option<Vec<_>>>()?;
        let lists = windows.iter().any(|(_, value)| !matches!(value, Value::Line(_)));
        lists.then_some(Value::Windows(windows))
    }

    /// `None` where an item has a member that has no column.
    fn items(items: &[Item<'_>]) -> Option<Value> {
        let used: Vec<(&str, Column)> =
            ITEMS.into_iter().filter(|(member, _)| items.iter().any(|item| item.contains_key(*member))).collect();
        let known = |name: &String| used.iter().any(|(member, _)| member == name);
        if used.is_empty() || !items.iter().flat_map(BTreeMap::keys).all(known) {
            return None;
        }
        let cell = |item: &Item<'_>, member: &str| match item.get(member) {
            Some(raw) if member == "final" => state(raw).to_owned(),
            Some(raw) => line(raw),
            None => String::new(),
        };
        let rows = items.iter().map(|item| used.iter().map(|(member, _)| cell(item, member)).collect()).collect();
        Some(Value::Items { newest_last: used[0].0 == "start", columns: used.iter().map(|(_, column)| *column).collect(), rows })
    }
}

/// What a window's `final` says.
fn state(is_final: &RawValue) -> &'static str {
    if is_final.get() == "true" { "final" } else { "open" }
}

/// A value in one line: strings without quotes, what has no value yet as `-`, members of an object side by side.
pub(super) fn line(raw: &RawValue) -> String {
    match raw.get() {
        "null" | "[]" => "-".to_owned(),
        text => {
            if let Ok(text) = serde_json::from_str::<String>(text) {
                return plain(&text).into_owned();
            }
            match serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
                Ok(members) if !members.is_empty() => {
                    let members: Vec<String> =
                        members.iter().map(|(name, raw)| format!("{} {}", plain(name), line(raw))).collect();
                    members.join("   ")
                }
                _ => plain(text).into_owned(),
            }
        }
    }
}

/// Names at the left, values beside them, lists below their names.
pub(super) fn named(values: &[(String, Value)], most: Most, room: Option<usize>) -> Vec<String> {
    let wide = values.iter().map(|(name, _)| name.len()).max().unwrap_or(0).min(40);
    let mut lines = Vec::new();
    for (name, value) in values {
        let indent = name.len() - name.trim_start().len() + 4;
        let inside = room.map(|room| room.saturating_sub(indent));
        let (told, below) = match value {
            Value::Line(text) => (text.clone(), Vec::new()),
            Value::Items { columns, rows, newest_last: true } => {
                let (told, shown) = newest(rows, most.windows);
                (told, Table::new(columns.clone()).lines(shown, inside))
            }
            Value::Items { columns, rows, newest_last: false } => {
                let shown = &rows[..rows.len().min(most.items)];
                let all = shown.len() == rows.len();
                let told = if all { String::new() } else { format!("the first {} of {}", shown.len(), rows.len()) };
                (told, Table::new(columns.clone()).lines(shown, inside))
            }
            Value::Windows(windows) => {
                let (told, shown) = newest(windows, most.lists);
                (told, named(shown, most, inside))
            }
        };
        lines.push(fitting(format!("{name:wide$}  {told}").trim_end().to_owned(), room));
        lines.extend(below.into_iter().map(|line| format!("{:indent$}{line}", "")));
    }
    lines
}

/// The newest of a list's windows, and a word about the rest.
fn newest<T>(windows: &[T], most: usize) -> (String, &[T]) {
    match windows.len().saturating_sub(most) {
        0 => (String::new(), windows),
        hidden => (format!("the newest {most} of {}", windows.len()), &windows[hidden..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUNT: &str = r#"{"hunt_id":"h\u001b[2J","status":"live","events":3,"view":{
        "best":null,"name":"Treasure \u0007hunt","points":99999999999999999999999999,"quick":{"p50":1.5,"p99":9},
        "leaders":[{"key":"p-2","value":12},{"key":"p-1","value":7},{"key":"p-3","value":1}],"none":[],
        "minutes":[{"start":"2026-05-01T10:00:00Z","end":"2026-05-01T10:01:00Z","value":1,"final":true},
                   {"start":"2026-05-01T10:01:00Z","end":"2026-05-01T10:02:00Z","value":20,"final":false}],
        "pace":[{"start":"2026-05-01T10:00:00Z","end":"2026-05-01T10:01:00Z","value":{"p50":2,"p99":41.5},"final":true}],
        "steps":[{"stage":"clue.handed_out","count":12},{"stage":"clue.solved","count":7,"error":0.4}],
        "weekly":[{"start":"2026-04-20T00:00:00Z","end":"2026-04-27T00:00:00Z","value":[],"final":true},
                  {"start":"2026-04-27T00:00:00Z","end":"2026-05-04T00:00:00Z","value":[{"key":"p-9","value":3,"error":1}],"final":false}]},
        "partials":[{"topic":"t","partition":0,"position":null,"status":"live","source":"live"}],
        "first_event_at":null,"last_event_at":"2026-05-01T10:01:30Z","watermark":null}"#;

    #[test]
    fn a_hunt_reads_in_sections() {
        let hunt: Hunt<'_> = serde_json::from_str(HUNT).expect("a hunt");
        let text = hunt.lines(Most { items: 2, windows: 2, lists: 1 }, None).join("\n");
        assert_eq!(
            text,
            "hunt         h\\u{1b}[2J\nstatus       live\nevents       3\nfirst event  -\nlast event   2026-05-01T10:01:30Z\nwatermark    -\n\
             \n\
             best     -\nleaders  the first 2 of 3\n    key  value\n    p-2     12\n    p-1      7\n\
             minutes\n    start                 end                   value  state\n    \
             2026-05-01T10:00:00Z  2026-05-01T10:01:00Z      1  final\n    2026-05-01T10:01:00Z  2026-05-01T10:02:00Z     20  open\n\
             name     Treasure \\u{7}hunt\nnone     -\n\
             pace\n    start                 end                              value  state\n    \
             2026-05-01T10:00:00Z  2026-05-01T10:01:00Z  p50 2   p99 41.5  final\n\
             points   99999999999999999999999999\nquick    p50 1.5   p99 9\n\
             steps\n    stage            count  error\n    clue.handed_out     12\n    clue.solved          7    0.4\n\
             weekly   the newest 1 of 2\n    2026-04-27T00:00:00Z to 2026-05-04T00:00:00Z  open\n        key  value  error\n        p-9      3      1\n\
             \n\
             TOPIC  PARTITION  POSITION  STATUS  SOURCE\nt              0         -  live    live"
        );
    }

    #[test]
    fn only_changes_are_told_again() {
        let hunt: Hunt<'_> = serde_json::from_str(HUNT).expect("a hunt");
        let later = HUNT.replace("\"events\":3", "\"events\":4").replace("\"best\":null", "\"best\":17");
        let later: Hunt<'_> = serde_json::from_str(&later).expect("a hunt");
        assert!(hunt.changes(None).len() > 10);
        assert!(hunt.changes(Some(&hunt)).is_empty(), "nothing is new");
        assert_eq!(later.changes(Some(&hunt)), ["2026-05-01T10:01:30Z  4 events  live  h\\u{1b}[2J", "  best  17"]);
    }

    #[test]
    fn a_rollup_says_when_it_was_saved() {
        let text = r#"{"view":{"minutes":[{"start":"2026-05-01T10:00:00Z","end":"2026-05-01T10:01:00Z","value":4}],"players":17},
            "updated_at":"2026-05-01T10:01:30Z"}"#;
        let rollup: Rollup<'_> = serde_json::from_str(text).expect("a rollup");
        assert_eq!(
            rollup.lines(None).join("\n"),
            "updated  2026-05-01T10:01:30Z\n\nminutes\n    start                 end                   value\n    \
             2026-05-01T10:00:00Z  2026-05-01T10:01:00Z      4\nplayers  17"
        );
    }
}
