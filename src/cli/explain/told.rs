//! What is **told** of a hunt's records: tables for people, or one JSON object a line.
//!
//! The command hands it lines as they are folded and values at the end. Invariant: nothing from a record
//! reaches a terminal as it is.

use super::{ExplainArgs, Found, Stretch};
use crate::cli::screen::{self, Table, fitting, left, plain, plural, right};
use crate::cli::view;
use crate::definitions::{Aggregate, Definitions};
use crate::explain::{Added, Line, Tally};
use crate::outcome::Outcome;
use crate::window::Bounds;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

/// Of a value in the table of all values, so much is shown.
const SHORT: usize = 60;

pub struct Told<'a, W> {
    out: &'a mut W,
    args: &'a ExplainArgs,
    definitions: &'a Definitions,
    table: Table,
    room: Option<usize>,
    /// Said before the next lines.
    heading: Option<String>,
}

/// The value of one aggregate.
pub struct Value {
    pub name: String,
    pub folded: Box<RawValue>,
    /// The error says why there is none to compare with.
    pub saved: Result<Box<RawValue>, String>,
    pub tally: Tally,
}

impl Value {
    /// `None`: it cannot be said.
    fn same(&self) -> Option<bool> {
        self.saved.as_ref().ok().map(|saved| saved.get() == self.folded.get())
    }
}

impl<'a, W: Write> Told<'a, W> {
    pub fn new(out: &'a mut W, args: &'a ExplainArgs, definitions: &'a Definitions) -> Self {
        let room = screen::size().map(|(columns, _)| columns);
        let aggregate = definitions.aggregates.iter().find(|aggregate| Some(&aggregate.name) == args.aggregate.as_ref());
        let table = Self::columns(aggregate);
        Told { out, args, definitions, table, room, heading: None }
    }

    fn columns(aggregate: Option<&Aggregate>) -> Table {
        let mut columns = vec![left("RECORD"), left("ID").soft(), left("TYPE").soft(), left("EVENT TIME")];
        if let Some(aggregate) = aggregate {
            columns.push(left("ADDS"));
            columns.extend(aggregate.window.as_ref().map(|_| left("WINDOW")));
            columns.push(left("AFTER"));
        }
        columns.push(left("OUTCOME"));
        Table::new(columns)
    }

    pub fn stretch(&mut self, stretch: &Stretch) {
        let Stretch { partition, from, until, lagging } = stretch;
        let stands = if *lagging { "where the hunt lags" } else { "where the store stands" };
        self.heading = Some(format!("{partition} from {from} up to {until}, {stands}"));
    }

    /// Records in the order of their offsets; `hidden` older ones gave way to them.
    pub fn lines(&mut self, lines: &[Line], hidden: u64) -> anyhow::Result<()> {
        if self.args.json {
            let terminal = io::stdout().is_terminal();
            for line in lines {
                writeln!(self.out, "{}", screen::json(&serde_json::to_string(line)?, terminal))?;
            }
            return Ok(());
        }
        if let Some(heading) = self.heading.take() {
            writeln!(self.out, "{}", plain(&heading))?;
        }
        if hidden > 0 {
            writeln!(
                self.out,
                "{hidden} older {} not shown: --limit 0 shows all",
                if hidden == 1 { "record is" } else { "records are" }
            )?;
        }
        let rows: Vec<Vec<String>> = lines.iter().map(|line| self.row(line)).collect();
        if !rows.is_empty() {
            for line in self.table.lines(&rows, self.room) {
                writeln!(self.out, "{line}")?;
            }
        }
        Ok(())
    }

    fn row(&self, line: &Line) -> Vec<String> {
        let text = |text: &str| plain(text).into_owned();
        let or_none = |value: Option<String>| value.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
        let mut row = vec![
            text(&format!("{}/{}/{}", line.topic, line.partition, line.offset)),
            or_none(Some(text(&line.id.join(" ")))),
            or_none(line.event_type.as_deref().map(text)),
            or_none(line.time.clone()),
        ];
        if let Some(name) = &self.args.aggregate {
            let windowed = self.definitions.aggregates.iter().any(|a| a.name == *name && a.window.is_some());
            let added = line.contributions.first();
            row.push(or_none(added.map(adds)));
            if windowed {
                row.push(or_none(added.map(|added| windows(&added.windows))));
            }
            row.push(or_none(added.and_then(|added| added.after.as_deref()).map(view::line)));
        }
        row.push(text(&outcome(line)));
        row
    }

    pub fn summary(&mut self, found: &Found, values: &[Value]) -> anyhow::Result<()> {
        if self.args.json {
            return Ok(writeln!(self.out, "{}", serde_json::to_string(&Summary::of(&self.args.id, found, values))?)?);
        }
        for (partition, to) in &found.lost {
            writeln!(
                self.out,
                "{partition}: the log no longer has the records below {to}: what is shown is folded from there on alone"
            )?;
        }
        let counts = &found.counts;
        let mut of = vec![format!("{} applied", counts.applied)];
        let others = [
            (counts.late, "of them late somewhere"),
            (counts.duplicate, "duplicate"),
            (counts.dead_lettered, if counts.dead_lettered == 1 { "dead letter" } else { "dead letters" }),
            (counts.held, "held"),
        ];
        of.extend(others.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
        writeln!(self.out, "\n{} {}: {}", counts.records, plural(counts.records.unsigned_abs(), "record"), of.join(", "))?;
        match values {
            [value] if self.args.aggregate.is_some() => self.value(value)?,
            values => self.values(values)?,
        }
        self.verdict(values)
    }

    fn value(&mut self, value: &Value) -> anyhow::Result<()> {
        let Tally { since, records, absent, late } = &value.tally;
        let mut made = vec![format!("{records} {} part in it", if *records == 1 { "has" } else { "have" })];
        if *absent > 0 {
            let matched = if *absent == 1 { "matches and adds" } else { "match and add" };
            made.push(format!("{absent} {matched} nothing, for a member is absent"));
        }
        if *late > 0 {
            made.push(format!("{late} came late for a window"));
        }
        writeln!(self.out, "{}: {}", value.name, made.join("; "))?;
        if let Some(since) = since {
            writeln!(self.out, "it holds from position {since} on: records below are of older definitions")?;
        }
        for line in view::named(&[("value".to_owned(), view::Value::read(&value.folded))], view::Most::ALL, self.room) {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    fn values(&mut self, values: &[Value]) -> anyhow::Result<()> {
        let mut table = Table::new([left("AGGREGATE"), right("RECORDS"), right("LATE"), left("VALUE").soft()]);
        let row = |value: &Value| {
            let Tally { records, late, .. } = &value.tally;
            let shown = screen::cut(&view::line(&value.folded), SHORT).into_owned();
            vec![value.name.clone(), records.to_string(), late.to_string(), shown]
        };
        let rows: Vec<Vec<String>> = values.iter().map(row).collect();
        for line in table.lines(&rows, self.room) {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    fn verdict(&mut self, values: &[Value]) -> anyhow::Result<()> {
        if let Some(why) = values.iter().find_map(|value| value.saved.as_ref().err()) {
            writeln!(self.out, "not compared with the saved view: {why}")?;
            return Ok(());
        }
        let mut differ = false;
        for value in values.iter().filter(|value| value.same() == Some(false)) {
            differ = true;
            let saved = value.saved.as_ref().map_or(String::new(), |saved| plain(saved.get()).into_owned());
            let line = format!("{}: the saved view says {saved}, the log gives {}", value.name, plain(value.folded.get()));
            writeln!(self.out, "{}", fitting(line, self.room))?;
        }
        if differ {
            let id = plain(&self.args.id).into_owned();
            let files = self.args.files.named();
            writeln!(self.out, "`huntline verify --hunt {id}{files}` says from which record on it can differ")?;
        } else {
            writeln!(self.out, "the saved view says the same")?;
        }
        Ok(())
    }
}

fn adds(added: &Added) -> String {
    match &added.adds {
        Some(adds) if added.late.is_empty() || !added.windows.is_empty() => view::line(adds),
        _ => "nothing".to_owned(),
    }
}

/// One window by its bounds, several by those of all.
fn windows(windows: &[Bounds]) -> String {
    match windows {
        [] => String::new(),
        [one] => format!("{} to {}", one.start, one.end),
        [first, .., last] => format!("{} windows, {} to {}", windows.len(), first.start, last.end),
    }
}

fn outcome(line: &Line) -> String {
    let mut text = match line.outcome {
        Outcome::DeadLettered => "dead letter".to_owned(),
        Outcome::Duplicate => line.repeats.map_or("duplicate".to_owned(), |of| format!("duplicate of {of}")),
        outcome => outcome.as_str().to_owned(),
    };
    if let Some(reason) = line.reason {
        text.push_str(&format!(" {reason}: {}", line.detail.as_deref().unwrap_or_default()));
    }
    for added in line.contributions.iter().filter(|added| !added.late.is_empty()) {
        text.push_str(&format!("; late for {}: {}", added.aggregate, windows(&added.late)));
    }
    text
}

/// The last line of JSON.
#[derive(Serialize)]
struct Summary<'a> {
    hunt_id: &'a str,
    partitions: Vec<Part>,
    records: i64,
    applied: i64,
    duplicate: i64,
    dead_lettered: i64,
    held: i64,
    late: i64,
    aggregates: BTreeMap<&'a str, Aggregated<'a>>,
    /// `null`: it could not be compared.
    same: Option<bool>,
}

#[derive(Serialize)]
struct Part {
    topic: String,
    partition: i32,
    from: i64,
    position: i64,
    lagging: bool,
    /// The log no longer has what lies below.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_begins: Option<i64>,
}

#[derive(Serialize)]
struct Aggregated<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
    records: u64,
    absent: u64,
    late: u64,
    value: &'a RawValue,
    /// Where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    saved: Option<&'a RawValue>,
}

impl<'a> Summary<'a> {
    fn of(hunt_id: &'a str, found: &'a Found, values: &'a [Value]) -> Summary<'a> {
        let part = |stretch: &Stretch| Part {
            topic: stretch.partition.topic.to_string(),
            partition: stretch.partition.partition,
            from: stretch.from.0,
            position: stretch.until.0,
            lagging: stretch.lagging,
            log_begins: found.lost.iter().find(|(id, _)| *id == stretch.partition).map(|(_, to)| to.0),
        };
        let aggregated = |value: &'a Value| {
            let Tally { since, records, absent, late } = value.tally;
            let saved = value.saved.as_deref().ok().filter(|_| value.same() == Some(false));
            (value.name.as_str(), Aggregated { since: since.map(|at| at.0), records, absent, late, value: &value.folded, saved })
        };
        let counts = &found.counts;
        Summary {
            hunt_id,
            partitions: found.stretches.iter().map(part).collect(),
            records: counts.records,
            applied: counts.applied,
            duplicate: counts.duplicate,
            dead_lettered: counts.dead_lettered,
            held: counts.held,
            late: counts.late,
            aggregates: values.iter().map(aggregated).collect(),
            same: values.iter().map(Value::same).collect::<Option<Vec<bool>>>().map(|same| same.iter().all(|same| *same)),
        }
    }
}
