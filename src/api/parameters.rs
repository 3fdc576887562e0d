//! **Parameters**: the query string of a request, read strictly. A route names what it takes; anything else, twice the same, bad
//! escapes, or a value out of its set becomes a [`Wrong`], and all of them are told at once. [`Segments`] does the same for the path.

use super::problem::{Problem, Wrong};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::collections::BTreeMap;

pub const DEFAULT_LIMIT: u32 = 100;
pub const MAX_LIMIT: u32 = 1000;
/// Longest hunt id, in bytes, as for events.
pub const MAX_HUNT: usize = 512;

pub struct Parameters {
    found: BTreeMap<String, String>,
    wrong: Vec<Wrong>,
}

impl Parameters {
    pub fn read(query: &str, known: &[&str]) -> Self {
        let mut parameters = Self { found: BTreeMap::new(), wrong: Vec::new() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = decode(name) else {
                parameters.refuse(&shown(name), "a name that is not UTF-8", &one_of(known));
                continue;
            };
            if !known.contains(&name.as_str()) {
                let expected = if known.is_empty() { "no parameters".to_owned() } else { one_of(known) };
                parameters.refuse(&shown(&name), "an unknown parameter", &expected);
                continue;
            }
            match decode(value) {
                None => parameters.refuse(&name, &quoted(value), "percent-encoded UTF-8"),
                Some(_) if parameters.found.contains_key(&name) => parameters.refuse(&name, "it more than once", "it once"),
                Some(value) => drop(parameters.found.insert(name, value)),
            }
        }
        parameters
    }

    pub fn has(&self, name: &str) -> bool {
        self.found.contains_key(name)
    }

    pub fn refuse(&mut self, parameter: &str, found: &str, expected: &str) {
        self.wrong.push(Wrong { parameter: parameter.into(), found: found.into(), expected: expected.into() });
    }

    /// What the caller sent, whatever it is.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.found.remove(name)
    }

    /// A hunt id: what an event could carry.
    pub fn hunt(&mut self, name: &str) -> Option<String> {
        let id = self.found.remove(name)?;
        match unfit(&id) {
            None => Some(id),
            Some(found) => {
                self.refuse(name, found, HUNT);
                None
            }
        }
    }

    pub fn limit(&mut self) -> u32 {
        let Some(text) = self.found.remove("limit") else { return DEFAULT_LIMIT };
        match text.parse() {
            Ok(limit @ 1..=MAX_LIMIT) => limit,
            _ => {
                self.refuse("limit", &quoted(&text), &format!("a number from 1 to {MAX_LIMIT}"));
                DEFAULT_LIMIT
            }
        }
    }

    pub fn one<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.found.remove(name)?;
        let choice = choices.iter().find(|(choice, _)| *choice == text).map(|(_, value)| *value);
        if choice.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.refuse(name, &quoted(&text), &one_of(&names));
        }
        choice
    }

    /// What [`cursor`] made.
    pub fn cursor<T: DeserializeOwned>(&mut self) -> Option<T> {
        let text = self.found.remove("cursor")?;
        let read = URL_SAFE_NO_PAD.decode(&text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if read.is_none() {
            self.refuse("cursor", &quoted(&text), "the \"next\" of an earlier page");
        }
        read
    }

    pub fn done(self) -> Result<(), Problem> {
        if self.wrong.is_empty() { Ok(()) } else { Err(Problem::parameters(self.wrong)) }
    }
}

/// The segments of a path as it was sent, percent-decoded: the router's own decoding keeps `%2F`.
pub struct Segments<'a> {
    path: &'a str,
    wrong: Vec<Wrong>,
}

impl<'a> Segments<'a> {
    pub fn of(path: &'a str) -> Self {
        Self { path, wrong: Vec::new() }
    }

    /// Segment `at`, the first of which is 1. What is not UTF-8 names nothing.
    pub fn text(&self, at: usize) -> Cow<'a, str> {
        percent_decode_str(self.path.split('/').nth(at).unwrap_or("")).decode_utf8_lossy()
    }

    pub fn number(&mut self, at: usize, name: &str, greatest: i64) -> i64 {
        let text = self.text(at);
        text.parse::<i64>().ok().filter(|number| (0..=greatest).contains(number)).unwrap_or_else(|| {
            self.wrong.push(Wrong { parameter: name.into(), found: quoted(&text), expected: "a number, 0 or greater".into() });
            0
        })
    }

    pub fn done(self) -> Result<(), Problem> {
        if self.wrong.is_empty() { Ok(()) } else { Err(Problem::parameters(self.wrong)) }
    }
}

pub const HUNT: &str = "a hunt id: 1 to 512 bytes of UTF-8 without control characters";

/// What is wrong with a hunt id, if anything.
pub fn unfit(id: &str) -> Option<&'static str> {
    match id {
        "" => Some("an empty id"),
        id if id.len() > MAX_HUNT => Some("an id of more than 512 bytes"),
        id if id.chars().any(char::is_control) => Some("an id with control characters"),
        _ => None,
    }
}

/// Where the next page begins; opaque to callers.
pub fn cursor<T: Serialize>(last: &T) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(last).expect("a cursor is strings and numbers"))
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(&text.replace('+', " ")).decode_utf8().ok().map(|text| text.into_owned())
}

fn one_of(names: &[&str]) -> String {
    names.join(", ")
}

/// At most 80 characters of what the caller sent.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn quoted(text: &str) -> String {
    format!("{:?}", shown(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_parameter_is_told_at_once() {
        let mut read =
            Parameters::read("limit=0&cursor=%21&colour=blue&status=dead&id=%ff&limit=7", &["limit", "cursor", "status", "id"]);
        assert_eq!(read.limit(), DEFAULT_LIMIT);
        assert_eq!(read.cursor::<String>(), None);
        assert_eq!(read.one("status", &[("live", 1), ("parked", 2)]), None);
        assert_eq!(read.hunt("id"), None);
        let mut names: Vec<&str> = read.wrong.iter().map(|wrong| wrong.parameter.as_str()).collect();
        names.sort();
        assert_eq!(names, ["colour", "cursor", "id", "limit", "limit", "status"]);
        assert!(read.done().is_err());
    }

    #[test]
    fn values_are_percent_decoded_and_plus_is_a_space() {
        let mut read = Parameters::read("id=a%2Fb%20c+d%2B&limit=1000", &["limit", "id"]);
        assert_eq!(read.hunt("id").as_deref(), Some("a/b c d+"));
        assert_eq!(read.limit(), 1000);
        assert!(read.done().is_ok());
    }

    #[test]
    fn a_cursor_comes_back() {
        let text = cursor(&("hunt-events", 3, 17i64));
        let mut read = Parameters::read(&format!("cursor={text}"), &["cursor"]);
        assert_eq!(read.cursor::<(String, i32, i64)>(), Some(("hunt-events".into(), 3, 17)));
    }
}
