//! **Records** for tests: a seeded stream of what treasure-hunt platforms send, and of everything that they should not.
//!
//! A test produces them to Kafka (or an embedded log) and hands the same to the oracle. Invariant: equal options, equal records,
//! byte for byte; offsets count from 0 in each partition, and record timestamps never step back.
//!
//! For real Kafka: a broker refuses timestamps more than an hour ahead of its clock and its retention takes old ones, so start in
//! the recent past (or set `retention.ms=-1`). A log spans about `count` · (`step_ms` + `silences` · 90 minutes). Keep `max_bytes`,
//! here and in `[event]`, well below the broker's limit of 1 MB.

use super::json::Json;
use super::{Log, Partition, Record, instant};
use fastrand::Rng;
use std::collections::{BTreeMap, VecDeque};

#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub count: usize,
    pub hunts: usize,
    /// 1: all hunts alike; greater: the first ones get more.
    pub skew: f64,
    pub topics: Vec<Topic>,
    /// Shares of all records, together at most 1; what is left are good, fresh events in their time.
    pub duplicates: f64,
    pub late: f64,
    pub bad: f64,
    pub tombstones: f64,
    /// Share of records that come in another partition than their hunt's own, so that hunts have several partials.
    pub wandering: f64,
    /// Share of records that are of one hunt, each of a player never seen before, so that its state grows and grows.
    pub crowd: f64,
    /// Share of records before which the whole platform was silent for up to three hours.
    pub silences: f64,
    /// Share of good events with strange but harmless members: the limits of numbers, repeated members, unread nonsense.
    pub strange: f64,
    pub start_ms: i64,
    /// Mean time between records.
    pub step_ms: i64,
    /// `event.max_bytes` of the definitions under test: too large records are just beyond it.
    pub max_bytes: usize,
}

#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    pub partitions: i32,
    pub hunt: HuntAt,
}

/// Where a topic's records carry their hunt.
#[derive(Clone, Debug, PartialEq)]
pub enum HuntAt {
    Key,
    Header(String),
    /// At `/data/hunt_id`.
    Value,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            seed: 1,
            count: 10_000,
            hunts: 100,
            skew: 1.5,
            topics: vec![Topic { name: "hunt-events".to_owned(), partitions: 4, hunt: HuntAt::Key }],
            duplicates: 0.05,
            late: 0.05,
            bad: 0.03,
            tombstones: 0.01,
            wandering: 0.05,
            crowd: 0.0,
            silences: 0.001,
            strange: 0.1,
            start_ms: 1_704_067_200_000,
            step_ms: 50,
            max_bytes: 16 << 10,
        }
    }
}

/// All records of the options, by partition.
pub fn log(options: &Options) -> Log {
    let mut log = Log::new();
    for (partition, record) in Records::new(options.clone()) {
        log.entry(partition).or_default().push(record);
    }
    log
}

/// The stream, in the order in which a producer would send it.
pub struct Records {
    options: Options,
    rng: Rng,
    sent: usize,
    now_ms: i64,
    next_offsets: BTreeMap<Partition, i64>,
    /// The newest events of a hunt in a partition, to be sent again.
    recent: BTreeMap<(Partition, String), VecDeque<Record>>,
}

/// Enough to reach outside of a memory of 32 ids.
const RECENT: usize = 60;

/// The hunt of a crowd, the first with a plain name.
const CROWDED: usize = 10;

/// Of steps 2 to 5.
pub const REASONS: [&str; 10] =
    ["too_large", "no_hunt", "bad_hunt", "not_json", "too_deep", "not_object", "no_type", "bad_time", "ahead", "wrong_type"];

impl Iterator for Records {
    type Item = (Partition, Record);

    fn next(&mut self) -> Option<(Partition, Record)> {
        if self.sent == self.options.count {
            return None;
        }
        self.sent += 1;
        self.advance();

        let crowding = self.options.crowd > 0.0 && self.chance(self.options.crowd);
        let hunt_number = if crowding { CROWDED } else { self.hunt_number() };
        let hunt = hunt_id(hunt_number);
        let (partition, at) = self.partition(hunt_number);
        let kind = self.rng.f64();
        let Options { duplicates, late, bad, tombstones, .. } = self.options;
        let mut record = if kind < duplicates {
            self.again(&partition, &hunt).unwrap_or_else(|| self.fresh(&hunt, &at, false))
        } else if kind < duplicates + bad {
            self.bad(&hunt, &at)
        } else if kind < duplicates + bad + tombstones {
            Record { value: None, ..self.fresh(&hunt, &at, false) }
        } else {
            let fresh = self.fresh(&hunt, &at, kind < duplicates + bad + tombstones + late);
            let recent = self.recent.entry((partition.clone(), hunt)).or_default();
            recent.push_back(fresh.clone());
            if recent.len() > RECENT {
                recent.pop_front();
            }
            fresh
        };
        let next_offset = self.next_offsets.entry(partition.clone()).or_default();
        record.offset = *next_offset;
        *next_offset += 1;
        record.timestamp_ms = self.now_ms;
        Some((partition, record))
    }
}

/// The first few are all that an id may be; the rest are plain.
pub fn hunt_id(number: usize) -> String {
    const ODD: [&str; 9] =
        ["a b", "a/b?c#d", "100%", "\"quoted\\\"", "Schnitzeljagd-Zürich", "宝探し", "🏴‍☠️", "..", "'; drop table hunts; --"];
    match number {
        n if n < ODD.len() => ODD[n].to_owned(),
        n if n == ODD.len() => "x".repeat(512),
        n => format!("hunt-{n}"),
    }
}

impl Records {
    pub fn new(options: Options) -> Records {
        let rng = Rng::with_seed(options.seed);
        let now_ms = options.start_ms;
        Records { options, rng, sent: 0, now_ms, next_offsets: BTreeMap::new(), recent: BTreeMap::new() }
    }

    fn chance(&mut self, share: f64) -> bool {
        self.rng.f64() < share
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.rng.usize(..of.len())]
    }

    fn advance(&mut self) {
        self.now_ms += self.rng.i64(0..=2 * self.options.step_ms);
        if self.chance(self.options.silences) {
            self.now_ms += self.rng.i64(60_000..=3 * 3_600_000);
        }
    }

    fn hunt_number(&mut self) -> usize {
        (self.rng.f64().powf(self.options.skew) * self.options.hunts as f64) as usize
    }

    fn partition(&mut self, hunt_number: usize) -> (Partition, HuntAt) {
        let all: usize = self.options.topics.iter().map(|t| t.partitions as usize).sum();
        let mut number = if self.chance(self.options.wandering) { self.rng.usize(..all) } else { hunt_number % all };
        for topic in &self.options.topics {
            if number < topic.partitions as usize {
                return ((topic.name.clone(), number as i32), topic.hunt.clone());
            }
            number -= topic.partitions as usize;
        }
        unreachable!("a number below the count of partitions is in one of the topics")
    }

    /// The bytes of an earlier event, mostly one of the newest.
    fn again(&mut self, partition: &Partition, hunt: &str) -> Option<Record> {
        let back = if self.chance(0.85) { self.rng.usize(..8) } else { self.rng.usize(..RECENT) };
        let recent = self.recent.get(&(partition.clone(), hunt.to_owned()))?;
        recent.get(recent.len().checked_sub(1 + back)?).cloned()
    }

    fn fresh(&mut self, hunt: &str, at: &HuntAt, late: bool) -> Record {
        let mut draft = self.draft(hunt, late);
        if self.chance(self.options.strange) {
            self.make_strange(&mut draft);
        }
        self.record(&draft, hunt, at)
    }

    fn record(&mut self, draft: &Draft, hunt: &str, at: &HuntAt) -> Record {
        let mut headers = vec![(b"content-type".to_vec(), Some(b"application/json".to_vec()))];
        if self.chance(0.1) {
            headers.push((b"empty".to_vec(), None));
        }
        let key = match at {
            HuntAt::Key => Some(hunt.as_bytes().to_vec()),
            HuntAt::Header(name) => {
                headers.push((name.as_bytes().to_vec(), Some(hunt.as_bytes().to_vec())));
                None
            }
            HuntAt::Value => self.rng.bool().then(|| vec![0xff, self.rng.u8(..)]),
        };
        Record { offset: 0, timestamp_ms: self.now_ms, key, value: Some(draft.text().into_bytes()), headers }
    }

    fn draft(&mut self, hunt: &str, late: bool) -> Draft {
        let kind = match self.rng.u8(..100) {
            0..15 => "user.registered",
            15..20 => "hunt.created",
            20..60 => "clue.handed_out",
            _ => "clue.solved",
        };
        let player = self.rng.usize(..50);
        let player = if self.chance(0.1) { player.to_string() } else { format!("\"player-{player}\"") };
        let newcomer = self.options.crowd > 0.0 && hunt == hunt_id(CROWDED);
        let player = if newcomer { format!("\"newcomer-{}\"", self.sent) } else { player };
        let clue = format!("\"clue-{}\"", self.rng.usize(..20));
        let mut data = vec![("hunt_id".to_owned(), Json::text(hunt).to_string())];
        match kind {
            "hunt.created" => data.push(("title".to_owned(), "\"The \\\"Lost\\\" Lantern\"".to_owned())),
            "user.registered" => {
                data.push(("player_id".to_owned(), player));
                data.push(("name".to_owned(), "\"Zo\\u00eb \\ud83d\\ude00\"".to_owned()));
            }
            "clue.handed_out" => {
                data.push(("player_id".to_owned(), player));
                data.push(("clue_id".to_owned(), clue));
            }
            _ => {
                data.push(("player_id".to_owned(), player));
                data.push(("clue_id".to_owned(), clue));
                data.push(("points".to_owned(), self.points()));
                data.push(("seconds".to_owned(), format!("{}.{:03}", self.rng.u32(1..3000), self.rng.u32(..1000))));
            }
        }
        let id = match self.rng.u8(..100) {
            0..3 => String::new(),
            3..5 => "\"\"".to_owned(),
            5..7 => "null".to_owned(),
            7..17 => format!("{}", self.rng.u64(..)),
            _ => format!("\"{:016x}\"", self.rng.u64(..)),
        };
        let mut members =
            vec![("specversion".to_owned(), "\"1.0\"".to_owned()), ("source".to_owned(), "\"/platform\"".to_owned())];
        if !id.is_empty() {
            members.push(("id".to_owned(), id));
        }
        members.push(("type".to_owned(), format!("\"{kind}\"")));
        if let Some(time) = self.time(late) {
            members.push(("time".to_owned(), time));
        }
        Draft { members, data }
    }

    /// Mostly whole, some with quarters (which add up without rounding), some with tenths (which do not), a few absent or null.
    fn points(&mut self) -> String {
        match self.rng.u8(..100) {
            0..70 => self.rng.u32(0..500).to_string(),
            70..80 => format!("{}.{}", self.rng.u32(0..500), self.one_of(&["25", "5", "75", "0"])),
            80..90 => format!("{}.{}", self.rng.u32(0..500), self.rng.u32(1..10)),
            90..95 => format!("-{}", self.rng.u32(0..50)),
            95..98 => "null".to_owned(),
            _ => format!("{}e{}", self.rng.u32(1..10), self.rng.u32(0..3)),
        }
    }

    /// A token; `None`: the member is absent.
    fn time(&mut self, late: bool) -> Option<String> {
        let behind_us = match (late, self.rng.u8(..10)) {
            (false, 0) => -self.rng.i64(0..240_000_000),
            (false, _) => self.rng.i64(0..30_000_000),
            (true, 0..5) => self.rng.i64(60_000_000..600_000_000),
            (true, 5..9) => self.rng.i64(600_000_000..4 * 3_600_000_000),
            (true, _) => self.rng.i64(86_400_000_000..30 * 86_400_000_000),
        };
        let at = (i128::from(self.now_ms) * 1000 - i128::from(behind_us)).max(0);
        let utc = instant::write(at);
        if late {
            return Some(format!("\"{utc}\""));
        }
        match self.rng.u8(..100) {
            0..4 => None,
            4..6 => Some("null".to_owned()),
            6..16 => Some((at / 1000).to_string()),
            16..20 => Some(format!("\"{}\"", utc.replace('T', " "))),
            20..24 => Some(format!("\"{}\"", utc.to_lowercase())),
            24..30 => Some(format!("\"{}999{}\"", with_six_digits(at), "Z")),
            30..40 => {
                let minutes = self.rng.i128(-14 * 60..=14 * 60);
                let local = instant::write(at + minutes * 60_000_000);
                let sign = if minutes < 0 { '-' } else { '+' };
                let offset = format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60);
                Some(format!("\"{}{offset}\"", local.trim_end_matches('Z')))
            }
            _ => Some(format!("\"{utc}\"")),
        }
    }

    /// Good still: at the limits, or where nobody reads.
    fn make_strange(&mut self, draft: &mut Draft) {
        let has_points = draft.data.iter().any(|(name, _)| name == "points");
        match self.rng.u8(..10) {
            0 if has_points => {
                let limit = self.one_of(&[
                    "9223372036854775807",
                    "9223372036854775808",
                    "18446744073709551615",
                    "18446744073709551616",
                    "-0",
                    "-0.0",
                    "1e-400",
                ]);
                draft.set_data("points", limit.to_owned());
            }
            1 if has_points => {
                let points = self.rng.u32(1..100);
                draft.data.insert(0, ("points".to_owned(), "\"not these\"".to_owned()));
                draft.set_data("\\u0070oints", points.to_string());
            }
            2 => draft.members.insert(0, ("type".to_owned(), "17".to_owned())),
            3 => draft.members.push((
                "unread".to_owned(),
                self.one_of(&["1e400", "-1e999", "\"\\ud800\"", "\"\\u0000\"", "\"\\udc00\\ud800\""]).to_owned(),
            )),
            4 => draft.members.push(("deep".to_owned(), "[".repeat(63) + &"]".repeat(63))),
            5 => draft.members.push(("\\ud800".to_owned(), "{\"\":[true,false,null,-1.5E-3]}".to_owned())),
            6 => draft.members.insert(0, ("data".to_owned(), "\"an earlier one\"".to_owned())),
            7 => draft.members.push((" ".to_owned(), format!("\"{}\"", "é".repeat(self.rng.usize(..300))))),
            8 => draft.set_data("player_id", "\"𝔭𝔩𝔞𝔶𝔢𝔯 \\/ \\t\"".to_owned()),
            _ => draft.members.push(("big".to_owned(), "9".repeat(self.rng.usize(20..400)))),
        }
    }

    fn bad(&mut self, hunt: &str, at: &HuntAt) -> Record {
        let reason = REASONS[self.rng.usize(..REASONS.len())];
        self.bad_for(reason, hunt, at)
    }

    /// A record that becomes a dead letter with this reason.
    pub fn bad_for(&mut self, reason: &str, hunt: &str, at: &HuntAt) -> Record {
        let mut draft = self.draft(hunt, false);
        match reason {
            "no_hunt" | "bad_hunt" => return self.with_hunt(reason, draft, hunt, at),
            "no_type" => match self.rng.u8(..3) {
                0 => draft.members.retain(|(name, _)| name != "type"),
                1 => draft
                    .members
                    .push(("type".to_owned(), self.one_of(&["\"\"", "null", "7", "true", "{}", "[\"clue.solved\"]"]).to_owned())),
                _ => draft.set("type", "\"\"".to_owned()),
            },
            "bad_time" => {
                let time = self.one_of(&[
                    "\"yesterday\"",
                    "\"\"",
                    "\"2024-02-30T00:00:00Z\"",
                    "\"2024-01-01T00:00:00\"",
                    "\"1969-12-31T23:59:59Z\"",
                    "\"9999-01-01T00:00:00Z\"",
                    "-1",
                    "1.5",
                    "true",
                    "{}",
                    "\"1704067200000\"",
                    "\"2024-01-01T25:00:00Z\"",
                    "253370764800000",
                    "\"\\ud800\"",
                ]);
                draft.set("time", time.to_owned());
            }
            "ahead" => {
                let ahead = self.rng.i128(301_000_000..30 * 86_400_000_000);
                draft.set("time", format!("\"{}\"", instant::write(i128::from(self.now_ms) * 1000 + ahead)));
            }
            "wrong_type" => {
                // A wrong id is wrong under any aggregates.
                let id = self.one_of(&["1.5", "true", "{}", "[]", "18446744073709551616", "1e2", "[\"a\"]"]);
                draft.set("id", id.to_owned());
                draft.set("time", "null".to_owned());
            }
            _ => {}
        }
        let mut record = self.record(&draft, hunt, at);
        let text = draft.text();
        let value = match reason {
            "too_large" => {
                let padding = self.options.max_bytes + 1 + self.rng.usize(..100);
                format!("{text:padding$}").into_bytes()
            }
            "not_json" => self.not_json(&text),
            "too_deep" => {
                let depth: usize = self.one_of(&["64", "65", "1000", "100000"]).parse().expect("digits");
                // Each level takes up to six bytes, and the whole must not be too large.
                let depth = depth.min(self.options.max_bytes / 8);
                let (open, close) = if self.rng.bool() { ("[", "]") } else { ("{\"a\":", "}") };
                let inner = if open == "[" { "" } else { "1" };
                format!("{{\"x\":{}{inner}{},{}", open.repeat(depth), close.repeat(depth), &text[1..]).into_bytes()
            }
            "not_object" => self
                .one_of(&["[]", "null", "7", "\"clue.solved\"", "true", "[{\"type\":\"clue.solved\"}]", " -0.5 "])
                .as_bytes()
                .to_vec(),
            _ => return record,
        };
        record.value = Some(value);
        record
    }

    fn not_json(&mut self, text: &str) -> Vec<u8> {
        match self.rng.u8(..9) {
            0 => Vec::new(),
            1 => text.as_bytes()[..text.len() - 1].to_vec(),
            2 => format!("\u{feff}{text}").into_bytes(),
            3 => format!("{text},").into_bytes(),
            4 => {
                let mut bytes = text.as_bytes().to_vec();
                bytes.splice(1..1, b"\"x\":\"\xff\",".iter().copied());
                bytes
            }
            5 => format!("{{'a':1,{}", &text[1..]).into_bytes(),
            6 => format!("{{\"a\":01,{}", &text[1..]).into_bytes(),
            7 => format!("{{\"a\":NaN,{}", &text[1..]).into_bytes(),
            _ => format!("{{\"a\":\"\n\",{}", &text[1..]).into_bytes(),
        }
    }

    fn with_hunt(&mut self, reason: &str, mut draft: Draft, hunt: &str, at: &HuntAt) -> Record {
        let absent = reason == "no_hunt";
        let bytes = match self.rng.u8(..6) {
            0 => Vec::new(),
            1 => vec![b'x'; 513],
            2 => b"\xff\xfe".to_vec(),
            3 => b"tab\there".to_vec(),
            4 => b"nul\0".to_vec(),
            _ => "\u{85}".as_bytes().to_vec(),
        };
        if *at == HuntAt::Value {
            let token =
                self.one_of(&["\"\"", "1.5", "true", "{}", "\"\\u0000\"", "\"\\ud800\"", "18446744073709551616", "\"\\u0085\""]);
            if absent && self.rng.bool() {
                draft.data.retain(|(name, _)| name != "hunt_id");
            } else {
                draft.set_data("hunt_id", if absent { "null" } else { token }.to_owned());
            }
        }
        let mut record = self.record(&draft, hunt, at);
        match at {
            HuntAt::Key => record.key = (!absent).then_some(bytes),
            HuntAt::Header(name) => {
                record.headers.retain(|(n, _)| n != name.as_bytes());
                if !absent {
                    record.headers.push((name.as_bytes().to_vec(), Some(bytes)));
                } else if self.rng.bool() {
                    record.headers.push((name.as_bytes().to_vec(), None));
                }
            }
            HuntAt::Value => {}
        }
        record
    }
}

/// An event as members in the order in which they are written; names and values as JSON writes them.
struct Draft {
    members: Vec<(String, String)>,
    data: Vec<(String, String)>,
}

impl Draft {
    fn set(&mut self, name: &str, value: String) {
        self.members.retain(|(n, _)| n != name);
        self.members.push((name.to_owned(), value));
    }

    fn set_data(&mut self, name: &str, value: String) {
        self.data.retain(|(n, _)| n != name);
        self.data.push((name.to_owned(), value));
    }

    fn text(&self) -> String {
        let object = |members: &[(String, String)]| {
            let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        };
        let mut members = self.members.clone();
        members.push(("data".to_owned(), object(&self.data)));
        object(&members)
    }
}

/// RFC 3339 up to its sixth digit, without the `Z`.
fn with_six_digits(at: i128) -> String {
    let whole = instant::write(at - at % 1_000_000);
    format!("{}.{:06}", whole.trim_end_matches('Z'), at % 1_000_000)
}

#[cfg(test)]
mod tests;
