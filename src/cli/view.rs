//! A hunt's **view** for people: the API's answer as sections of aligned lines.
//!
//! Invariant: numbers are shown as the API wrote them, however large.

use super::screen::{Column, Table, fitting, left, plain, right};
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

/// Members of the items of lists, in the order people read them.
const ITEMS: [Column; 8] =
    [left("start"), left("end"), left("stage"), left("key"), right("value"), right("count"), right("error"), left("final")];

impl Hunt<'_> {
    /// The whole hunt, of each list at most `most` items, in `room` columns.
    pub fn lines(&self, most: usize, room: Option<usize>) -> Vec<String> {
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
        let values: Vec<(String, Value)> =
            self.view.iter().map(|(name, raw)| (plain(name).into_owned(), Value::read(raw))).collect();
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

    /// What is new since `before`: how far the hunt is, and each value that differs.
    pub fn changes(&self, before: Option<&Hunt<'_>>) -> Vec<String> {
        let last = self.last_event_at.as_deref().unwrap_or("no event yet");
        let mut lines =
            vec![format!("{}  {} events  {}  {}", plain(last), self.events, plain(&self.status), plain(&self.hunt_id))];
        let same =
            |name: &str, raw: &RawValue| before.and_then(|hunt| hunt.view.get(name)).is_some_and(|old| old.get() == raw.get());
        let changed: Vec<(String, Value)> = self
            .view
            .iter()
            .filter(|(name, raw)| !same(name, raw))
            .map(|(name, raw)| (format!("  {}", plain(name)), Value::read(raw)))
            .collect();
        lines.extend(named(&changed, usize::MAX, None));
        lines
    }
}

impl Partial {
    fn row(&self) -> Vec<String> {
        let position = self.position.map_or("-".to_owned(), |position| position.to_string());
        let text = |text: &str| plain(text).into_owned();
        vec![text(&self.topic), self.partition.to_string(), position, text(&self.status), text(&self.source)]
    }
}

/// One aggregate's value.
pub(super) enum Value {
    Line(String),
    /// A list of objects: top, funnel, windows.
    Items {
        columns: Vec<Column>,
        rows: Vec<Vec<String>>,
        newest_last: bool,
    },
}

impl Value {
    pub fn read(raw: &RawValue) -> Value {
        let items: Vec<BTreeMap<String, &RawValue>> = match serde_json::from_str(raw.get()) {
            Ok(items) if raw.get() != "[]" => items,
            _ => return Value::Line(line(raw)),
        };
        let columns: Vec<Column> =
            ITEMS.into_iter().filter(|column| items.iter().any(|item| item.contains_key(column.title))).collect();
        if columns.is_empty()
            || items.iter().flat_map(BTreeMap::keys).any(|name| columns.iter().all(|column| column.title != name))
        {
            return Value::Line(line(raw));
        }
        let cell =
            |item: &BTreeMap<String, &RawValue>, column: &Column| item.get(column.title).map_or(String::new(), |raw| line(raw));
        let rows = items.iter().map(|item| columns.iter().map(|column| cell(item, column)).collect()).collect();
        Value::Items { newest_last: columns[0].title == "start", columns, rows }
    }
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
pub(super) fn named(values: &[(String, Value)], most: usize, room: Option<usize>) -> Vec<String> {
    let wide = values.iter().map(|(name, _)| name.len()).max().unwrap_or(0).min(40);
    let mut lines = Vec::new();
    for (name, value) in values {
        match value {
            Value::Line(text) => lines.push(fitting(format!("{name:wide$}  {text}"), room)),
            Value::Items { columns, rows, newest_last } => {
                let hidden = rows.len().saturating_sub(most);
                let shown = if *newest_last { &rows[hidden..] } else { &rows[..rows.len() - hidden] };
                let more = match (hidden, newest_last) {
                    (0, _) => String::new(),
                    (_, true) => format!("{hidden} older ones, then"),
                    (_, false) => format!("the first {} of {}", shown.len(), rows.len()),
                };
                lines.push(fitting(format!("{name:wide$}  {more}").trim_end().to_owned(), room));
                let indent = name.len() - name.trim_start().len() + 4;
                let table = Table::new(columns.clone()).lines(shown, room.map(|room| room.saturating_sub(indent)));
                lines.extend(table.into_iter().map(|line| format!("{:indent$}{line}", "")));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUNT: &str = r#"{"hunt_id":"h\u001b[2J","status":"live","events":3,"view":{
        "best":null,"name":"Treasure \u0007hunt","points":99999999999999999999999999,"quick":{"p50":1.5,"p99":9},
        "leaders":[{"key":"p-2","value":12},{"key":"p-1","value":7},{"key":"p-3","value":1}],"none":[],
        "minutes":[{"start":"2026-05-01T10:00:00Z","end":"2026-05-01T10:01:00Z","value":1,"final":true},
                   {"start":"2026-05-01T10:01:00Z","end":"2026-05-01T10:02:00Z","value":20,"final":false}]},
        "partials":[{"topic":"t","partition":0,"position":null,"status":"live","source":"live"}],
        "first_event_at":null,"last_event_at":"2026-05-01T10:01:30Z","watermark":null}"#;

    #[test]
    fn a_hunt_reads_in_sections() {
        let hunt: Hunt<'_> = serde_json::from_str(HUNT).expect("a hunt");
        let text = hunt.lines(2, None).join("\n");
        assert_eq!(
            text,
            "hunt         h\\u{1b}[2J\nstatus       live\nevents       3\nfirst event  -\nlast event   2026-05-01T10:01:30Z\nwatermark    -\n\
             \n\
             best     -\nleaders  the first 2 of 3\n    key  value\n    p-2     12\n    p-1      7\n\
             minutes\n    start                 end                   value  final\n    \
             2026-05-01T10:00:00Z  2026-05-01T10:01:00Z      1  true\n    2026-05-01T10:01:00Z  2026-05-01T10:02:00Z     20  false\n\
             name     Treasure \\u{7}hunt\nnone     -\npoints   99999999999999999999999999\nquick    p50 1.5   p99 9\n\
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
        assert_eq!(later.changes(Some(&hunt)), ["2026-05-01T10:01:30Z  4 events  live  h\\u{1b}[2J", "  best  17"]);
    }
}
