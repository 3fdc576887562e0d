//! **`huntline partitions`**: lists partitions, resets the breaker of one; asks a running daemon.

use super::client::{self, Client, Error};
use super::screen::{self, Table, left, plain, right};
use super::{PartitionArgs, PartitionsArgs, PartitionsCommand, PartitionsListArgs};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::{self, BufWriter, IsTerminal, Write};

/// How long the daemon is asked to wait for the owner.
const WAIT: &str = "5s";

/// The exit code: 0, 1 for a partition that is not there, a breaker that is not tripped or an owner that does not act, 2 for wrong
/// usage.
pub fn run(args: &PartitionsArgs) -> anyhow::Result<u8> {
    client::exit(match &args.command {
        PartitionsCommand::List(args) => list(args),
        PartitionsCommand::Reset(args) => reset(args),
    })
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    partitions: Vec<&'a RawValue>,
    complete: bool,
}

#[derive(Deserialize)]
struct Line {
    topic: String,
    partition: i32,
    state: String,
    tripped: Option<String>,
    position: Option<i64>,
    end: Option<i64>,
    lag: Option<i64>,
    /// What the counts are at.
    saved_position: Option<i64>,
    owner: Option<String>,
    counts: Option<Counts>,
}

#[derive(Deserialize)]
struct Counts {
    records: i64,
    dead_lettered: i64,
    held: i64,
}

fn list(args: &PartitionsListArgs) -> Result<(), Error> {
    let client = Client::new(&args.from)?;
    let text = client.json("/v1/partitions")?;
    let page: Page<'_> = client.read(&text)?;
    let terminal = io::stdout().is_terminal();
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        for line in &page.partitions {
            writeln!(out, "{}", screen::json(line.get(), terminal))?;
        }
    } else if !page.partitions.is_empty() {
        let lines = page.partitions.iter().map(|line| client.read::<Line>(line.get())).collect::<Result<Vec<_>, _>>()?;
        let room = screen::size().map(|(columns, _)| columns);
        let columns = [
            left("PARTITION"),
            left("STATE"),
            right("POSITION"),
            right("END"),
            right("LAG"),
            right("SAVED"),
            right("RECORDS"),
            right("DEAD LETTERS"),
            right("HELD"),
            left("OWNER").soft(),
        ];
        let rows: Vec<Vec<String>> = lines.iter().map(Line::row).collect();
        for line in Table::new(columns).lines(&rows, room) {
            writeln!(out, "{line}")?;
        }
        for line in &lines {
            if let Some(why) = &line.tripped {
                writeln!(out, "{} is tripped: {}", line.name(), plain(why))?;
            }
        }
    }
    out.flush()?;
    if page.partitions.is_empty() && !args.json {
        eprintln!("no partition was ever claimed");
    }
    if !page.complete {
        eprintln!("the store does not answer: only what {} reads is listed", client.url());
    }
    Ok(())
}

impl Line {
    fn name(&self) -> String {
        format!("{}/{}", plain(&self.topic), self.partition)
    }

    fn row(&self) -> Vec<String> {
        let number = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        let count = |of: fn(&Counts) -> i64| number(self.counts.as_ref().map(of));
        vec![
            self.name(),
            plain(&self.state).into_owned(),
            number(self.position),
            number(self.end),
            number(self.lag),
            number(self.saved_position),
            count(|counts| counts.records),
            count(|counts| counts.dead_lettered),
            count(|counts| counts.held),
            self.owner.as_deref().map_or("-".into(), |owner| plain(owner).into_owned()),
        ]
    }
}

#[derive(Deserialize)]
struct Act {
    id: i64,
    result: Option<String>,
}

fn reset(args: &PartitionArgs) -> Result<(), Error> {
    let client = Client::new(&args.from)?;
    let name = format!("{}/{}", plain(&args.partition.topic), args.partition.partition);
    let text = client.reset(&args.partition, WAIT).map_err(|error| match error {
        Error::Refused(mut problem) if matches!(problem.name.as_str(), "unknown-partition" | "not-tripped") => {
            problem.detail = format!("{name}: {}", problem.detail);
            Error::Refused(problem)
        }
        error => error,
    })?;
    let act: Act = client.read(&text)?;
    let terminal = io::stdout().is_terminal();
    let mut out = BufWriter::new(io::stdout().lock());
    match &act.result {
        _ if args.json => writeln!(out, "{}", screen::json(&text, terminal))?,
        Some(result) => writeln!(out, "{name}: {}", plain(result))?,
        None => {}
    }
    out.flush()?;
    match act.result {
        Some(_) => Ok(()),
        None => Err(Error::Undone(format!(
            "{name}: asked (act {}), and not done within {WAIT}: its owner is away or busy. What is asked stays, and is done by whoever has the partition",
            act.id
        ))),
    }
}
