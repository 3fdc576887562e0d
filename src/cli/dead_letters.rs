//! **`huntline dead-letters`**: lists dead letters and shows one whole; asks a running daemon.

use super::client::{self, Client, Error};
use super::screen::{self, Table, fitting, left, plain, plural};
use super::{DeadLetterArgs, DeadLettersArgs, DeadLettersCommand, DeadLettersListArgs};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::io::{self, BufWriter, IsTerminal, Write};

/// Of bytes that are no text; `--json` has all.
const DUMPED: usize = 512;

/// The exit code: 0, 1 for a letter that is not there or a daemon that does not answer, 2 for wrong usage.
pub fn run(args: &DeadLettersArgs) -> anyhow::Result<u8> {
    client::exit(match &args.command {
        DeadLettersCommand::List(args) => list(args),
        DeadLettersCommand::Show(args) => show(args),
    })
}

#[derive(Deserialize)]
struct Letter {
    topic: String,
    partition: i32,
    offset: i64,
    hunt_id: Option<String>,
    reason: String,
    state: String,
    record_at: Option<String>,
    failed_at: String,
    applied_at: Option<i64>,
    /// Only admins see it.
    contents: Option<Contents>,
}

#[derive(Deserialize)]
struct Contents {
    detail: String,
    key: Option<Blob>,
    value: Option<Blob>,
    headers: Vec<(String, Option<String>)>,
}

#[derive(Deserialize)]
struct Blob {
    base64: String,
    text: Option<String>,
    bytes: usize,
}

fn list(args: &DeadLettersListArgs) -> Result<(), Error> {
    let client = Client::new(&args.from)?;
    let terminal = io::stdout().is_terminal();
    let mut out = BufWriter::new(io::stdout().lock());
    let room = screen::size().map(|(columns, _)| columns);
    let mut columns = vec![left("RECORD"), left("HUNT").soft(), left("REASON"), left("STATE"), left("FAILED AT")];
    // On a terminal the detail stands below its letter: beside it there is hardly ever room.
    columns.extend(room.is_none().then(|| left("DETAIL")));
    let mut table = Table::new(columns);
    let mut count = 0;
    let filters = [("reason", &args.reason), ("hunt", &args.hunt), ("state", &args.state)];
    let filters: Vec<(&str, &str)> = filters.into_iter().filter_map(|(name, of)| Some((name, of.as_deref()?))).collect();
    let more = client.list("/v1/dead-letters", &filters, "dead_letters", args.limit, |page| {
        count += page.len();
        if args.json {
            for letter in page {
                writeln!(out, "{}", screen::json(letter.get(), terminal))?;
            }
        } else if !page.is_empty() {
            let letters = page.iter().map(|letter| client.read::<Letter>(letter.get())).collect::<Result<Vec<_>, _>>()?;
            let mut rows: Vec<Vec<String>> = letters.iter().map(Letter::row).collect();
            let details: Vec<String> = rows.iter_mut().filter_map(|row| room.and_then(|_| row.pop())).collect();
            let lines = table.lines(&rows, room);
            let headings = lines.len() - rows.len();
            for (at, line) in lines.into_iter().enumerate() {
                writeln!(out, "{line}")?;
                if let Some(detail) = at.checked_sub(headings).and_then(|at| details.get(at)) {
                    writeln!(out, "{}", fitting(format!("    {detail}"), room))?;
                }
            }
        }
        Ok(out.flush()?)
    })?;
    match (count, more) {
        _ if args.json => {}
        (0, _) => eprintln!("no dead letters"),
        (_, true) => eprintln!("there are more: --limit 0 lists all"),
        _ => {}
    }
    Ok(())
}

fn show(args: &DeadLetterArgs) -> Result<(), Error> {
    let client = Client::new(&args.from)?;
    let name = format!("{}/{}/{}", plain(&args.record.topic), args.record.partition, args.record.offset);
    let text = client.dead_letter(&args.record).map_err(|error| match error {
        Error::Refused(mut problem) if problem.name == "unknown-dead-letter" => {
            problem.detail = format!("no dead letter {name}: {}", problem.detail);
            Error::Refused(problem)
        }
        error => error,
    })?;
    let terminal = io::stdout().is_terminal();
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        writeln!(out, "{}", screen::json(&text, terminal))?;
    } else {
        let letter: Letter = client.read(&text)?;
        for line in letter.lines() {
            writeln!(out, "{line}")?;
        }
    }
    Ok(out.flush()?)
}

impl Letter {
    fn record(&self) -> String {
        format!("{}/{}/{}", plain(&self.topic), self.partition, self.offset)
    }

    fn row(&self) -> Vec<String> {
        let text = |text: &str| plain(text).into_owned();
        let detail = self.contents.as_ref().map_or("(for admins)", |contents| &contents.detail);
        let hunt = self.hunt_id.as_deref().unwrap_or("-");
        // To the second: a list has little room.
        let failed_at = match self.failed_at.split_once('.') {
            Some((seconds, _)) => format!("{seconds}Z"),
            None => self.failed_at.clone(),
        };
        vec![self.record(), text(hunt), text(&self.reason), text(&self.state), text(&failed_at), text(detail)]
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut fact = |name: &str, text: &str| lines.push(format!("{name:11}  {}", plain(text)).trim_end().to_owned());
        fact("record", &self.record());
        fact("hunt", self.hunt_id.as_deref().unwrap_or("-"));
        fact("reason", &self.reason);
        fact("state", &self.state);
        fact("record at", self.record_at.as_deref().unwrap_or("-"));
        fact("failed at", &self.failed_at);
        if let Some(position) = self.applied_at {
            fact("replayed at", &format!("position {position}"));
        }
        let Some(contents) = &self.contents else {
            fact("contents", "for admins: --token-file with an admin token");
            return lines;
        };
        fact("detail", &contents.detail);
        lines.extend(blob("key", contents.key.as_ref()));
        if !contents.headers.is_empty() {
            lines.push("headers".to_owned());
            for (name, value) in &contents.headers {
                let value =
                    value.as_ref().map_or("(null)".to_owned(), |value| match STANDARD.decode(value).map(String::from_utf8) {
                        Ok(Ok(text)) => plain(&text).into_owned(),
                        _ => format!("base64 {}", plain(value)),
                    });
                lines.push(format!("  {}  {value}", plain(name)));
            }
        }
        lines.extend(blob("value", contents.value.as_ref()));
        lines
    }
}

/// Short text stands beside its name, longer text below it, other bytes as a dump.
fn blob(name: &str, blob: Option<&Blob>) -> Vec<String> {
    let Some(blob) = blob else { return vec![format!("{name:11}  (null)")] };
    let bytes = format!("{} {}", blob.bytes, plural(blob.bytes as u64, "byte"));
    match &blob.text {
        Some(text) if name == "key" => vec![format!("{name:11}  {}", plain(text))],
        Some(text) => {
            let mut lines = vec![format!("{name:11}  {bytes}")];
            // A line end is the one control character that people want obeyed.
            lines.extend(text.lines().map(|line| plain(line).into_owned()));
            lines
        }
        None => {
            let shown = STANDARD.decode(&blob.base64).unwrap_or_default();
            let dumped = &shown[..shown.len().min(DUMPED)];
            let more = if dumped.len() < blob.bytes { format!(", the first {DUMPED}; --json has all") } else { String::new() };
            let mut lines = vec![format!("{name:11}  {bytes}, not UTF-8{more}")];
            lines.extend(dumped.chunks(16).enumerate().map(|(line, bytes)| dump(line * 16, bytes)));
            lines
        }
    }
}

fn dump(at: usize, bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let text: String =
        bytes.iter().map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' }).collect();
    format!("{at:06x}  {:47}  {text}", hex.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_shown_whole_and_harmless() {
        let letter: Letter = serde_json::from_str(
            r#"{"topic":"t","partition":1,"offset":7,"hunt_id":null,"reason":"not_json","state":"rejected","record_at":null,
                "failed_at":"2026-05-01T10:00:00Z","applied_at":null,"contents":{"detail":"found \"\u001b\"","key":null,
                "value":{"base64":"/xtb","text":null,"bytes":3,"truncated":false},"headers":[["a","aGk="],["b",null],["c","/w=="]]}}"#,
        )
        .expect("a letter");
        assert_eq!(
            letter.lines().join("\n"),
            "record       t/1/7\nhunt         -\nreason       not_json\nstate        rejected\nrecord at    -\n\
             failed at    2026-05-01T10:00:00Z\ndetail       found \"\\u{1b}\"\nkey          (null)\nheaders\n  a  hi\n  b  (null)\n\
             \x20 c  base64 /w==\nvalue        3 bytes, not UTF-8\n000000  ff 1b 5b                                         ..["
        );
    }
}
