//! A **page** of the documentation as a machine reads it: its examples, each a configuration, a table of records and what comes of them.
//!
//! An example begins with a heading `Example: …` and ends with the next heading. It holds one block of TOML, one table with a column
//! `offset`, and blocks of what comes of them, each after a line that says what it shows (see [`Shown`]). The other columns are `partition`, `recorded`, `hunt`, `value`,
//! `outcome`, `partition clock`, `hunt clock`, `watermark` (the last two of the row's hunt, or ``of `NAME` ``) and `why`, which is for people.

use huntline::time::Micros;
use std::path::{Path, PathBuf};

/// The key of records in a table without a column `hunt`.
pub const HUNT: &str = "harbour-42";
const TOPIC: &str = "hunt-events";
/// The day of a time of day.
const DAY: &str = "2026-05-01";

pub struct Example {
    pub title: String,
    /// The headings that it stands under, outermost first.
    pub section: String,
    pub line: usize,
    pub toml: String,
    pub rows: Vec<Row>,
    pub shown: Vec<(Shown, String)>,
}

impl Example {
    /// Shows the exact view too, beside the one that readers get.
    pub fn is_estimate(&self) -> bool {
        self.shown.iter().any(|(shown, _)| *shown == Shown::Exact)
    }
}

/// A record, and what the page says of it. Times in microseconds; a `None` inside: the page says that there is none.
pub struct Row {
    pub partition: (String, i32),
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub key: String,
    pub value: Option<String>,
    pub outcome: Option<Outcome>,
    pub partition_clock: Option<Option<i64>>,
    /// By hunt, as the next.
    pub hunt_clocks: Vec<(String, Option<i64>)>,
    pub watermarks: Vec<(String, Option<i64>)>,
}

impl Row {
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp.map_or(-1, |micros| micros / 1000)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With the aggregates it was late for.
    Applied(Vec<String>),
    Duplicate,
    Ignored,
    DeadLetter(String),
}

/// What a block of JSON shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    View(String),
    /// The view that readers would get without sketches.
    Exact,
    Rollup,
    /// Of a partition, as in the relation `partitions`.
    Counts((String, i32)),
    /// Of a hunt, as in the relation `hunts`.
    Row(String),
    /// What `dead_letters` says was wrong with the record at this offset of partition 0: text, where all others are JSON.
    Detail(i64),
}

/// Reads a page of this project.
pub fn read(page: &str) -> Vec<Example> {
    parse(page, &std::fs::read_to_string(path(page)).expect("a page of the documentation"))
}

pub fn path(page: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(page)
}

/// Panics on what cannot be understood, naming the line.
pub fn parse(path: &str, text: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut headings: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    // The last line of prose, and the columns of the table that it is in.
    let mut said = String::new();
    let mut columns: Option<Vec<Column>> = None;
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    while let Some((number, line)) = lines.next() {
        let here = || format!("{path}:{number}");
        if let Some(language) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            if let (true, Some(example)) = (open, examples.last_mut()) {
                example.block(language, &said, block.join("\n"), &here());
            }
        } else if line.starts_with('#') {
            let title = line.trim_start_matches('#');
            let depth = line.len() - title.len();
            let title = title.trim().to_owned();
            headings.retain(|(above, _)| *above < depth);
            open = title.starts_with("Example: ");
            if open {
                let section = headings.iter().map(|(_, title)| title.as_str()).collect::<Vec<_>>().join(" / ");
                let (toml, rows, shown) = (String::new(), Vec::new(), Vec::new());
                examples.push(Example { title: title.clone(), section, line: number, toml, rows, shown });
            }
            headings.push((depth, title));
            columns = None;
        } else if let Some(cells) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) {
            let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
            match &columns {
                None => {
                    columns = Some(if open { cells.iter().map(|name| Column::read(name, &here())).collect() } else { Vec::new() })
                }
                Some(_) if cells.iter().all(|cell| cell.bytes().all(|byte| byte == b'-')) => {}
                Some(columns) if open => {
                    assert_eq!(cells.len(), columns.len(), "{}: as many cells as columns", here());
                    let row = row(columns, &cells, &here());
                    examples.last_mut().expect("an open example").rows.push(row);
                }
                Some(_) => {}
            }
        } else {
            columns = None;
            if !line.trim().is_empty() {
                said = line.trim().to_owned();
            }
        }
    }
    for example in &examples {
        example.is_whole(path);
    }
    examples
}

impl Example {
    fn block(&mut self, language: &str, said: &str, block: String, here: &str) {
        match language {
            "toml" => {
                assert!(self.toml.is_empty(), "{here}: one configuration an example");
                self.toml = block;
            }
            "json" | "text" => {
                let shown = Shown::read(said, here);
                assert_eq!(matches!(shown, Shown::Detail(_)), language == "text", "{here}: details are text, all else is JSON");
                self.shown.push((shown, block));
            }
            other => panic!("{here}: an example has blocks of toml, json and text, found {other:?}"),
        }
    }

    fn is_whole(&self, path: &str) {
        let here = format!("{path}:{}: {}", self.line, self.title);
        assert!(!self.toml.is_empty(), "{here}: has no configuration");
        assert!((6..=10).contains(&self.rows.len()), "{here}: has {} records, expected 6 to 10", self.rows.len());
        assert!(self.shown.iter().any(|(shown, _)| matches!(shown, Shown::View(_) | Shown::Rollup)), "{here}: shows no view");
        for (i, row) in self.rows.iter().enumerate() {
            let before = self.rows[..i].iter().filter(|other| other.partition == row.partition);
            assert!(before.map(|other| other.offset).all(|offset| offset < row.offset), "{here}: offsets grow in a partition");
        }
    }
}

enum Column {
    Partition,
    Offset,
    Recorded,
    Hunt,
    Value,
    Outcome,
    PartitionClock,
    /// Of this hunt, or of the row's, as the next.
    HuntClock(Option<String>),
    Watermark(Option<String>),
    Why,
}

impl Column {
    fn read(name: &str, here: &str) -> Column {
        let (name, hunt) = match name.split_once(" of ") {
            Some((name, hunt)) => (name, Some(bare(hunt).to_owned())),
            None => (name, None),
        };
        match (name, hunt) {
            ("partition", None) => Column::Partition,
            ("offset", None) => Column::Offset,
            ("recorded", None) => Column::Recorded,
            ("hunt", None) => Column::Hunt,
            ("value", None) => Column::Value,
            ("outcome", None) => Column::Outcome,
            ("partition clock", None) => Column::PartitionClock,
            ("hunt clock", hunt) => Column::HuntClock(hunt),
            ("watermark", hunt) => Column::Watermark(hunt),
            ("why", None) => Column::Why,
            (other, hunt) => panic!("{here}: a table of records has no column {other:?} {hunt:?}"),
        }
    }
}

fn row(columns: &[Column], cells: &[&str], here: &str) -> Row {
    let mut offset = None;
    let mut row = Row {
        partition: (TOPIC.to_owned(), 0),
        offset: 0,
        timestamp: None,
        key: HUNT.to_owned(),
        value: None,
        outcome: None,
        partition_clock: None,
        hunt_clocks: Vec::new(),
        watermarks: Vec::new(),
    };
    // First what the record is, then what is said of it.
    for (column, cell) in columns.iter().zip(cells) {
        let cell = bare(cell);
        match column {
            Column::Partition => row.partition = partition(cell, here),
            Column::Offset => offset = Some(cell.parse().unwrap_or_else(|_| panic!("{here}: {cell:?} is no offset"))),
            Column::Recorded => row.timestamp = time(cell, here),
            Column::Hunt => row.key = cell.to_owned(),
            Column::Value => row.value = (cell != "null").then(|| cell.to_owned()),
            _ => {}
        }
    }
    row.offset = offset.unwrap_or_else(|| panic!("{here}: a record has an offset"));
    for (column, cell) in columns.iter().zip(cells) {
        let hunt = |named: &Option<String>| named.clone().unwrap_or(row.key.clone());
        match column {
            Column::Outcome => row.outcome = Some(outcome(cell, here)),
            Column::PartitionClock => row.partition_clock = Some(time(cell, here)),
            Column::HuntClock(named) => row.hunt_clocks.push((hunt(named), time(cell, here))),
            Column::Watermark(named) => row.watermarks.push((hunt(named), time(cell, here))),
            _ => {}
        }
    }
    row
}

/// `applied`, `applied, late for NAME, NAME`, `duplicate`, `ignored` or `dead letter: REASON`.
fn outcome(cell: &str, here: &str) -> Outcome {
    let cell = cell.replace('`', "");
    if let Some(names) = cell.strip_prefix("applied, late for ") {
        return Outcome::Applied(names.split(", ").map(str::to_owned).collect());
    }
    if let Some(reason) = cell.strip_prefix("dead letter: ") {
        return Outcome::DeadLetter(reason.to_owned());
    }
    match cell.as_str() {
        "applied" => Outcome::Applied(Vec::new()),
        "duplicate" => Outcome::Duplicate,
        "ignored" => Outcome::Ignored,
        other => panic!("{here}: {other:?} is no outcome"),
    }
}

impl Shown {
    /// From the line above a block.
    fn read(said: &str, here: &str) -> Shown {
        let named = said.split('`').nth(1);
        let hunt = || named.unwrap_or(HUNT).to_owned();
        if said.starts_with("The view") {
            Shown::View(hunt())
        } else if said.starts_with("The exact view") {
            Shown::Exact
        } else if said.starts_with("The rollup") {
            Shown::Rollup
        } else if said.starts_with("The counts") {
            Shown::Counts(partition(named.unwrap_or("0"), here))
        } else if said.starts_with("The detail") {
            let offset = named.and_then(|offset| offset.parse().ok());
            Shown::Detail(offset.unwrap_or_else(|| panic!("{here}: the detail of which offset?")))
        } else if said.starts_with("The row") {
            Shown::Row(hunt())
        } else {
            panic!("{here}: the line above does not say what the block shows: {said:?}")
        }
    }
}

/// `0` or `other-events/0`.
fn partition(cell: &str, here: &str) -> (String, i32) {
    let (topic, number) = cell.rsplit_once('/').unwrap_or((TOPIC, cell));
    (topic.to_owned(), number.parse().unwrap_or_else(|_| panic!("{here}: {cell:?} is no partition")))
}

/// `10:04:00` of the examples' day, `2026-05-02 10:04:00` or `-`.
fn time(cell: &str, here: &str) -> Option<i64> {
    let cell = bare(cell);
    let text = match cell {
        "-" => return None,
        full if full.contains(' ') => format!("{full}Z"),
        of_day => format!("{DAY} {of_day}Z"),
    };
    Some(Micros::parse_rfc3339(text.as_bytes()).unwrap_or_else(|| panic!("{here}: {cell:?} is no time")).0)
}

fn bare(cell: &str) -> &str {
    cell.trim_matches('`')
}
