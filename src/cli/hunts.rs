//! **`huntline hunts`**: lists hunts, shows one, watches one; asks a running daemon.

use super::client::{self, Client, Error};
use super::screen::{self, Frame, Table, left, plain, right};
use super::view::{Hunt, Most};
use super::{HuntArgs, HuntsArgs, HuntsCommand, HuntsListArgs};
use serde::Deserialize;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::Duration;

/// Between two tries to reach a daemon that went away.
const AGAIN: Duration = Duration::from_secs(1);

/// The exit code: 0, 1 for a hunt that is not there or a daemon that does not answer, 2 for wrong usage.
pub fn run(args: &HuntsArgs) -> anyhow::Result<u8> {
    client::exit(match &args.command {
        HuntsCommand::List(args) => list(args),
        HuntsCommand::Show(args) => show(args),
        HuntsCommand::Watch(args) => watch(args),
    })
}

#[derive(Deserialize)]
struct Line {
    hunt_id: String,
    events: i64,
    status: String,
    last_event_at: Option<String>,
}

fn list(args: &HuntsListArgs) -> Result<(), Error> {
    let client = Client::new(&args.from)?;
    let terminal = io::stdout().is_terminal();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut table = Table::new([left("HUNT").soft(), right("EVENTS"), left("STATUS"), left("LAST EVENT")]);
    let mut count = 0;
    let status = args.status.map(|status| ("status", status.as_str()));
    let more = client.list("/v1/hunts", status.as_slice(), "hunts", args.limit, |page| {
        count += page.len();
        if args.json {
            for line in page {
                writeln!(out, "{}", screen::json(line.get(), terminal))?;
            }
        } else if !page.is_empty() {
            let lines = page.iter().map(|line| client.read::<Line>(line.get())).collect::<Result<Vec<_>, _>>()?;
            let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
            for line in table.lines(&rows, screen::size().map(|(columns, _)| columns)) {
                writeln!(out, "{line}")?;
            }
        }
        Ok(out.flush()?)
    })?;
    match (count, more) {
        _ if args.json => {}
        (0, _) => eprintln!("no hunts"),
        (_, true) => eprintln!("there are more: --limit 0 lists all"),
        _ => {}
    }
    Ok(())
}

fn row(line: &Line) -> Vec<String> {
    let text = |text: &str| plain(text).into_owned();
    let last = line.last_event_at.as_deref().unwrap_or("-");
    vec![text(&line.hunt_id), line.events.to_string(), text(&line.status), text(last)]
}

fn show(args: &HuntArgs) -> Result<(), Error> {
    let client = Client::new(&args.from)?;
    let text = client.hunt(&args.id).map_err(|error| named(&args.id, error))?;
    let terminal = io::stdout().is_terminal();
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        writeln!(out, "{}", screen::json(&text, terminal))?;
    } else {
        let hunt: Hunt<'_> = client.read(&text)?;
        for line in hunt.lines(Most::SHOWN, screen::size().map(|(columns, _)| columns)) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(out.flush()?)
}

/// Says which hunt is not there.
fn named(id: &str, error: Error) -> Error {
    match error {
        Error::Refused(mut problem) if problem.name == "unknown-hunt" => {
            problem.detail = format!("no hunt \"{}\": {}", plain(id), problem.detail);
            Error::Refused(problem)
        }
        error => error,
    }
}

fn watch(args: &HuntArgs) -> Result<(), Error> {
    let client = Client::new(&args.from)?;
    let mut events = client.follow(&args.id).map_err(|error| named(&args.id, error))?;
    end_on_interrupt()?;
    let mut shown = Shown::new(args.json);
    loop {
        match events.next() {
            Ok(Some(text)) => shown.view(&client, text)?,
            Ok(None) => {
                shown.note(&format!("{} ended the stream; asking again until it answers", client.url()))?;
                events = again(&client, &args.id)?;
                shown.note("")?;
            }
            Err(error) => {
                shown.note(&format!("{} went away ({error}); asking again until it answers", client.url()))?;
                events = again(&client, &args.id)?;
                shown.note("")?;
            }
        }
    }
}

/// Follows the hunt again once the daemon is back. A hunt that is not there yet may be read again by a daemon that was killed.
fn again(client: &Client, id: &str) -> Result<client::Events, Error> {
    loop {
        std::thread::sleep(AGAIN);
        match client.follow(id) {
            Ok(events) => return Ok(events),
            Err(Error::Unreachable { .. }) => {}
            Err(Error::Refused(problem)) if problem.status == 404 || problem.status >= 500 => {}
            Err(error) => return Err(error),
        }
    }
}

/// Where a watched hunt is shown: over itself on a terminal, one after the other elsewhere.
struct Shown {
    json: bool,
    terminal: bool,
    frame: Frame,
    /// The view as it came last.
    last: Option<String>,
    note: String,
}

impl Shown {
    fn new(json: bool) -> Self {
        Self { json, terminal: io::stdout().is_terminal(), frame: Frame::default(), last: None, note: String::new() }
    }

    fn view(&mut self, client: &Client, text: String) -> Result<(), Error> {
        if self.json || !self.terminal {
            let mut out = BufWriter::new(io::stdout().lock());
            if self.json {
                writeln!(out, "{}", screen::json(&text, self.terminal))?;
            } else {
                let before: Option<Hunt<'_>> = self.last.as_deref().map(|last| client.read(last)).transpose()?;
                let lines = client.read::<Hunt<'_>>(&text)?.changes(before.as_ref());
                if !lines.is_empty() {
                    writeln!(out, "{}\n", lines.join("\n"))?;
                }
            }
            out.flush()?;
        }
        client.read::<Hunt<'_>>(&text)?;
        self.last = Some(text);
        self.draw()
    }

    /// Says something about the connection; empty: all is well again.
    fn note(&mut self, note: &str) -> Result<(), Error> {
        self.note = plain(note).into_owned();
        if self.json || !self.terminal {
            eprintln!("huntline: {}", if note.is_empty() { "it answers again" } else { &self.note });
        }
        self.draw()
    }

    fn draw(&mut self) -> Result<(), Error> {
        let Some(size) = screen::size().filter(|_| !self.json) else { return Ok(()) };
        let Some(hunt) = self.last.as_deref().and_then(|last| serde_json::from_str::<Hunt<'_>>(last).ok()) else { return Ok(()) };
        // What tells how it goes stands above what may not fit.
        let told = if self.note.is_empty() { "watching; ctrl-c ends".to_owned() } else { self.note.clone() };
        let mut lines = vec![told, String::new()];
        lines.extend(hunt.lines(Most::WATCHED, Some(size.0)));
        Ok(self.frame.draw(&lines, size)?)
    }
}

/// Ends the process at ctrl-c with exit code 0: that is how watching ends.
fn end_on_interrupt() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            std::process::exit(0);
        }
    })?;
    Ok(())
}
