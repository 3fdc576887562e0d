//! The **client**: how a command asks a running daemon, over its HTTP API.
//!
//! A command hands it the options that say which daemon; it hands back the API's own JSON. Invariant: whatever goes wrong says
//! which URL was asked and what to do, and nothing an answer contains reaches a message with control characters in it.

use super::screen::plain;
use super::{Daemon, PartitionName, RecordName};
use crate::config;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(5);
/// Longer than the daemon gives itself for an answer.
const ANSWER: Duration = Duration::from_secs(40);
/// A stream says something every 15 s even when nothing changes; after so long without a word the connection is dead.
const SILENCE: Duration = Duration::from_secs(45);
/// Of one answer, or one event of a stream.
const LONGEST: u64 = 256 << 20;
/// The longest page the API gives.
const PAGE: u64 = 1000;
/// Everything but what RFC 3986 leaves alone everywhere.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Wrong options or a wrong configuration.
    #[error("{0}")]
    Usage(String),
    #[error(
        "{url} does not answer: {why}. Is a daemon running there? `huntline run` or `huntline demo` starts one; --url asks another"
    )]
    Unreachable { url: String, why: String },
    #[error("{0}")]
    Refused(Problem),
    #[error("{url} answers, but not as huntline does: {found}. Is --url the daemon's own address?")]
    Foreign { url: String, found: String },
    /// Asked for, and not done in time.
    #[error("{0}")]
    Undone(String),
    #[error("print: {0}")]
    Print(#[from] io::Error),
}

/// A problem document (RFC 9457), its text fit to be printed.
#[derive(Debug)]
pub struct Problem {
    pub status: u16,
    /// The last part of its type, such as `unknown-hunt`.
    pub name: String,
    pub detail: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)?;
        match self.status {
            401 | 403 => f.write_str("; --token-file names the file that holds one"),
            _ => Ok(()),
        }
    }
}

/// The exit code of a command that asked a daemon. Wrong usage is told here; the rest is an error for `main` to tell.
pub fn exit(done: Result<(), Error>) -> anyhow::Result<u8> {
    match done {
        Ok(()) => Ok(0),
        // The reader of a pipe has seen enough.
        Err(Error::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        Err(Error::Usage(why)) => {
            eprintln!("{why}");
            Ok(2)
        }
        Err(Error::Refused(problem)) if problem.status == 400 => {
            eprintln!("huntline: {problem}");
            Ok(2)
        }
        Err(error) => Err(error.into()),
    }
}

pub struct Client {
    agent: ureq::Agent,
    /// Without a slash at its end.
    url: String,
    token: Option<String>,
}

impl Client {
    /// The daemon at `--url`, else at the configured address.
    pub fn new(daemon: &Daemon) -> Result<Self, Error> {
        let url = match &daemon.url {
            Some(url) => checked(url, said_by("--url", "HUNTLINE_URL", url.as_ref()))?,
            None => {
                let loaded = config::load(&daemon.files.config).map_err(|problems| Error::Usage(problems.to_string()))?;
                checked(&loaded.settings.http.advertise, "[http] advertise")?
            }
        };
        let token = daemon.token_file.as_deref().map(token).transpose()?;
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A daemon never points elsewhere, and a token must not follow.
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("huntline/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .build()
            .new_agent();
        Ok(Self { agent, url, token })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// One hunt, as JSON.
    pub fn hunt(&self, id: &str) -> Result<String, Error> {
        // By parameter: a path cannot carry every id.
        self.json(&format!("/v1/hunts?{}", query(&[("id", id)])))
    }

    /// One dead letter, as JSON.
    pub fn dead_letter(&self, record: &RecordName) -> Result<String, Error> {
        let topic = utf8_percent_encode(&record.topic, ESCAPED);
        self.json(&format!("/v1/dead-letters/{topic}/{}/{}", record.partition, record.offset))
    }

    /// Asks for a partition's breaker to be reset and waits so long for its owner; what came of it, as JSON.
    pub fn reset(&self, partition: &PartitionName, wait: &str) -> Result<String, Error> {
        let topic = utf8_percent_encode(&partition.topic, ESCAPED);
        let path = format!("/v1/partitions/{topic}/{}/reset?{}", partition.partition, query(&[("wait", wait)]));
        let mut request = self.agent.post(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.config().timeout_global(Some(ANSWER)).build().send_empty();
        self.whole(self.answered(answer)?)
    }

    /// Hands each page of the list at `path` to `each`, until `limit` items (0: all). Whether there are more.
    pub fn list(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        member: &str,
        limit: u64,
        mut each: impl FnMut(&[&RawValue]) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let mut left = if limit == 0 { u64::MAX } else { limit };
        let mut cursor: Option<String> = None;
        loop {
            let size = left.min(PAGE).to_string();
            let mut asked = parameters.to_vec();
            asked.push(("limit", &size));
            asked.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let text = self.json(&format!("{path}?{}", query(&asked)))?;
            let page: BTreeMap<String, &RawValue> = self.read(&text)?;
            let items: Vec<&RawValue> = self.read(page.get(member).map_or("null", |items| items.get()))?;
            each(&items)?;
            left = left.saturating_sub(items.len() as u64);
            cursor = self.read(page.get("next").map_or("null", |next| next.get()))?;
            if cursor.is_none() || left == 0 {
                return Ok(cursor.is_some());
            }
        }
    }

    /// Follows one hunt's view.
    pub fn follow(&self, id: &str) -> Result<Events, Error> {
        let path = format!("/v1/hunts?{}", query(&[("id", id), ("stream", "true")]));
        let body = self.ask(&path, Some(SILENCE))?.into_with_config().limit(u64::MAX).reader();
        Ok(Events { body: BufReader::new(Box::new(body)) })
    }

    /// What `text`, an answer, says.
    pub fn read<'a, T: Deserialize<'a>>(&self, text: &'a str) -> Result<T, Error> {
        serde_json::from_str(text).map_err(|error| self.foreign(format!("found JSON of another shape ({error})")))
    }

    /// What is at `path`, as JSON.
    pub fn json(&self, path: &str) -> Result<String, Error> {
        self.whole(self.ask(path, None)?)
    }

    fn whole(&self, body: ureq::Body) -> Result<String, Error> {
        body.into_with_config().limit(LONGEST).read_to_string().map_err(|error| self.unreachable(&error))
    }

    /// The body of a good answer.
    fn ask(&self, path: &str, silence: Option<Duration>) -> Result<ureq::Body, Error> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = match silence {
            Some(_) => request.config().timeout_per_read(silence).build(),
            None => request.config().timeout_global(Some(ANSWER)).build(),
        };
        self.answered(request.call())
    }

    fn answered(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<ureq::Body, Error> {
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status().as_u16();
        let kind = answer.body().mime_type().unwrap_or("no content type").to_owned();
        match (status, kind.as_str()) {
            (200 | 202, "application/json" | "text/event-stream") => Ok(answer.into_body()),
            (400.., "application/problem+json") => {
                #[derive(Deserialize)]
                struct Written {
                    #[serde(rename = "type")]
                    kind: String,
                    detail: String,
                }
                let text = answer.body_mut().read_to_string().map_err(|error| self.unreachable(&error))?;
                let written: Written = self.read(&text)?;
                let name = written.kind.rsplit(':').next().unwrap_or_default().to_owned();
                Err(Error::Refused(Problem { status, name, detail: plain(&written.detail).into_owned() }))
            }
            _ => Err(self.foreign(format!("found status {status} and {}", plain(&kind)))),
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Error {
        let why = match error {
            ureq::Error::HostNotFound => "there is no such host".to_owned(),
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            ureq::Error::ConnectionFailed => "connection refused".to_owned(),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => return Error::Usage(format!("{} is no URL: {error}", self.url)),
            ureq::Error::Protocol(_) => return self.foreign(error.to_string()),
            error => error.to_string(),
        };
        Error::Unreachable { url: self.url.clone(), why: plain(&why).into_owned() }
    }

    fn foreign(&self, found: String) -> Error {
        Error::Foreign { url: self.url.clone(), found: plain(&found).into_owned() }
    }
}

/// The views of a stream, each as JSON.
pub struct Events {
    body: BufReader<Box<dyn Read>>,
}

impl Events {
    /// The next view; `None`: the stream has ended, as it does when the daemon stops.
    pub fn next(&mut self) -> io::Result<Option<String>> {
        let (mut data, mut line) = (String::new(), String::new());
        loop {
            line.clear();
            if self.body.by_ref().take(LONGEST).read_line(&mut line)? == 0 {
                return Ok(None);
            }
            match line.trim_end_matches(['\r', '\n']) {
                "" if !data.is_empty() => return Ok(Some(data)),
                line => {
                    if let Some(part) = line.strip_prefix("data:") {
                        data.push_str(part.strip_prefix(' ').unwrap_or(part));
                    }
                }
            }
        }
    }
}

/// A URL a daemon can be asked at.
fn checked(url: &str, from: &str) -> Result<String, Error> {
    let shown = plain(url);
    match url.split_once("://") {
        Some(("http", rest)) if !rest.trim_matches('/').is_empty() => Ok(url.trim_end_matches('/').to_owned()),
        Some(("https", _)) => Err(Error::Usage(format!(
            "{from}: found {shown}, expected http://HOST:PORT. TLS is a proxy's work: ask the daemon's own address (--url)"
        ))),
        _ => Err(Error::Usage(format!("{from}: found {shown:?}, expected a URL such as http://127.0.0.1:8080"))),
    }
}

/// The name of what gave `value`: the option, or the variable that stands for it where it is not there.
fn said_by(option: &'static str, variable: &'static str, value: &OsStr) -> &'static str {
    if std::env::var_os(variable).is_some_and(|set| set == value) { variable } else { option }
}

/// The first token of a file as `[http.auth]` names it: one a line.
fn token(file: &Path) -> Result<String, Error> {
    let from = said_by("--token-file", "HUNTLINE_TOKEN_FILE", file.as_os_str());
    let wrong =
        |found: &str| Error::Usage(format!("{from}: found {found} ({}), expected a file with a bearer token", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error.to_string()))?;
    let token = text.lines().map(str::trim).find(|line| !line.is_empty()).ok_or_else(|| wrong("an empty file"))?;
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(token.to_owned())
    } else {
        Err(wrong("a token with other than ASCII letters, digits and signs"))
    }
}

fn query(parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ESCAPED))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_is_asked() {
        assert_eq!(checked("http://127.0.0.1:8080/", "--url").expect("a URL"), "http://127.0.0.1:8080");
        let refused = |url: &str| checked(url, "--url").expect_err(url).to_string();
        assert!(refused("https://hunts.example").contains("TLS is a proxy's work: ask the daemon's own address"));
        for wrong in ["", "127.0.0.1:8080", "http://", "ftp://x", "\u{1b}[2J"] {
            assert!(refused(wrong).contains("expected a URL such as"), "{wrong}");
        }
        assert!(!refused("\u{1b}[2J").contains('\u{1b}'));
    }

    #[test]
    fn any_id_becomes_a_parameter() {
        assert_eq!(query(&[("id", "a/b c&d=é.."), ("stream", "true")]), "id=a%2Fb%20c%26d%3D%C3%A9..&stream=true");
    }

    #[test]
    fn events_are_told_apart_and_comments_passed_over() {
        let text =
            "retry: 2000\n\nevent: view\ndata: {\"a\":1}\n\n: still here\n\nevent: view\r\ndata: {\"a\":2}\r\n\r\ndata: cut";
        let mut events = Events { body: BufReader::new(Box::new(io::Cursor::new(text))) };
        let mut seen = Vec::new();
        while let Some(event) = events.next().expect("read") {
            seen.push(event);
        }
        assert_eq!(seen, ["{\"a\":1}", "{\"a\":2}"]);
    }
}
