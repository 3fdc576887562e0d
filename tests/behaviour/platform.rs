//! A **platform** under test: topics in a real Kafka, everything that was sent to them, and whether a store and a daemon say of it
//! what the oracle says.
//!
//! Invariant: the log kept here is what a reader of committed records finds, under the offsets that Kafka gave.

use crate::harness::daemon::Daemon;
use crate::harness::kafka::{self, Kafka, Message, Producer, unique};
use crate::harness::{await_until, postgres};
use crate::oracle::compare::compare;
use crate::oracle::definitions::{Aggregate, Kind, Shape};
use crate::oracle::json::Number;
use crate::oracle::records::{HuntAt, Options, REASONS, Records, Topic};
use crate::oracle::{Definitions, Json, LeftOut, Log, Partition, Record, Said, recompute};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Every kind, whole and in windows of every shape, and what of it is kept over all hunts; under rules of time by which some events
/// come too late.
pub const AGGREGATES: &str = r#"
[dedup]
last = 64
[time]
lateness = "30s"
idle = "10m"
[aggregates.events]
kind = "count"
[aggregates.registrations]
kind = "count"
on = "user.registered"
[aggregates.big_solves]
kind = "count"
on = "clue.solved"
where = "data.points > 50"
[aggregates.points]
kind = "sum"
on = "clue.solved"
of = "/data/points"
[aggregates.fastest]
kind = "min"
on = "clue.solved"
of = "/data/seconds"
[aggregates.slowest]
kind = "max"
of = "/data/seconds"
[aggregates.mean_points]
kind = "mean"
on = ["clue.solved", "clue.skipped"]
of = "/data/points"
[aggregates.first_player]
kind = "first"
on = "user.*"
of = "/data/player_id"
[aggregates.last_clue]
kind = "last"
on = "clue.*"
of = "/data/clue_id"
[aggregates.players]
kind = "distinct"
of = "/data/player_id"
[aggregates.leaders]
kind = "top"
on = "clue.solved"
by = "/data/player_id"
sum = "/data/points"
limit = 5
[aggregates.popular_clues]
kind = "top"
by = "/data/clue_id"
[aggregates.solve_seconds]
kind = "quantiles"
of = "/data/seconds"
[aggregates.progress]
kind = "funnel"
by = "/data/player_id"
stages = ["user.registered", "clue.handed_out", "clue.solved"]

[aggregates.events_per_minute]
kind = "count"
window = { tumbling = "1m", keep = 5 }
[aggregates.points_per_minute]
kind = "sum"
of = "/data/points"
window = { tumbling = "1m", keep = 3 }
[aggregates.players_per_hour]
kind = "distinct"
of = "/data/player_id"
window = { tumbling = "1h", keep = 4 }
[aggregates.last_title]
kind = "last"
of = "/data/title"
window = { tumbling = "10m", keep = 2 }
[aggregates.funnel_per_hour]
kind = "funnel"
by = "/data/player_id"
stages = ["clue.handed_out", "clue.solved"]
window = { tumbling = "1h", keep = 2 }
[aggregates.leaders_lately]
kind = "top"
by = "/data/player_id"
sum = "/data/points"
limit = 3
window = { hopping = "10m", every = "5m", keep = 4 }
[aggregates.fastest_lately]
kind = "min"
of = "/data/seconds"
window = { hopping = "15m", every = "10m", keep = 3 }
[aggregates.seconds_lately]
kind = "quantiles"
of = "/data/seconds"
at = [0.5, 0.9]
window = { hopping = "10m", every = "5m", keep = 2 }
[aggregates.visits]
kind = "count"
window = { session = "2m", keep = 5 }
[aggregates.slowest_of_visit]
kind = "max"
of = "/data/seconds"
window = { session = "2m", keep = 3 }
[aggregates.mean_of_visit]
kind = "mean"
of = "/data/points"
window = { session = "5m", keep = 2 }
[aggregates.first_of_visit]
kind = "first"
of = "/data/clue_id"
window = { session = "2m", keep = 2 }

[rollup]
aggregates = ["events", "points", "fastest", "slowest", "mean_points", "first_player", "last_clue", "players", "leaders", "solve_seconds",
    "progress", "points_per_minute", "players_per_hour", "leaders_lately", "seconds_lately"]
"#;

/// Largest value sent as an event: small, so that a great many too large ones cost little.
const MAX_BYTES: usize = 2 << 10;

/// How long a quiet daemon may take to save what it was sent.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Platform {
    pub kafka: &'static Kafka,
    pub topics: Vec<Topic>,
    pub group: String,
    /// The part of a configuration that says what comes of records.
    pub definitions_text: String,
    /// What was committed.
    pub log: Log,
    records: Records,
    plain: Producer,
    transactional: Producer,
    rng: Rng,
    pub sent: usize,
    /// Records sent inside transactions that were aborted.
    pub aborted: usize,
}

impl Platform {
    /// Two topics of their own, read by one group; `options` say how many hunts there are and what is sent.
    pub fn new(name: &str, partitions: (i32, i32), options: Options) -> Platform {
        Platform::at(kafka::shared(), name, partitions, options)
    }

    /// As [`new`](Platform::new), in another Kafka than the shared one.
    pub fn at(kafka: &'static Kafka, name: &str, partitions: (i32, i32), options: Options) -> Platform {
        // Timestamps are those of the generator, long past.
        let keep = [("retention.ms", "-1")];
        let topics = vec![
            Topic { name: kafka.create_topic(name, partitions.0, &keep), partitions: partitions.0, hunt: HuntAt::Key },
            Topic {
                name: kafka.create_topic(&format!("{name}-other"), partitions.1, &keep),
                partitions: partitions.1,
                hunt: HuntAt::Value,
            },
        ];
        let definitions_text = format!(
            "[event]\nmax_bytes = \"{MAX_BYTES}B\"\n[topic.\"{}\".event]\nhunt = \"/data/hunt_id\"\n{AGGREGATES}",
            topics[1].name
        );
        let seed = options.seed;
        let options = Options { count: usize::MAX, topics: topics.clone(), max_bytes: MAX_BYTES, ..options };
        Platform {
            kafka,
            topics,
            group: unique(name),
            definitions_text,
            log: Log::new(),
            records: Records::new(options),
            plain: kafka.producer(),
            transactional: kafka.transactional_producer(&unique(name)),
            rng: Rng::with_seed(seed),
            sent: 0,
            aborted: 0,
        }
    }

    /// The configuration of a daemon that reads the topics into the store at `store_url`; `kafka` are further lines of `[kafka]`.
    pub fn config(&self, store_url: &str, snapshot_interval: &str, kafka: &str) -> String {
        format!(
            "[kafka]\nbrokers = [\"{}\"]\ngroup = \"{}\"\ntopics = [\"{}\", \"{}\"]\n{kafka}\n\
             [store]\nurl = \"{store_url}\"\n[snapshot]\ninterval = \"{snapshot_interval}\"\n{}",
            self.kafka.brokers(),
            self.group,
            self.topics[0].name,
            self.topics[1].name,
            self.definitions_text,
        )
    }

    pub fn definitions(&self) -> Definitions {
        Definitions::from_toml(&self.definitions_text)
    }

    /// Sends the next records of the stream and waits until Kafka has them: some alone, some in transactions, and some first in a
    /// transaction that is aborted, as by a producer that failed and tried again.
    pub fn send(&mut self, count: usize) {
        let records: Vec<(Partition, Record)> = self.records.by_ref().take(count).collect();
        self.send_these(records);
    }

    /// As [`send`](Platform::send), of records of the test's own; their offsets are those that Kafka gives.
    pub fn send_these(&mut self, records: Vec<(Partition, Record)>) {
        let mut batches: BTreeMap<String, Vec<(Partition, Record)>> = BTreeMap::new();
        for (partition, record) in records {
            batches.entry(partition.0.clone()).or_default().push((partition, record));
        }
        for (topic, batch) in batches {
            let messages: Vec<Message> = batch.iter().map(|(partition, record)| message(partition.1, record)).collect();
            let places = match self.rng.u8(..10) {
                0..6 => self.plain.send_all(&topic, &messages),
                way => {
                    if way == 9 {
                        self.transactional.begin();
                        self.aborted += self.transactional.send_all(&topic, &messages).len();
                        self.transactional.abort();
                    }
                    self.transactional.begin();
                    let places = self.transactional.send_all(&topic, &messages);
                    self.transactional.commit();
                    places
                }
            };
            for ((partition, record), (found, offset)) in batch.into_iter().zip(places) {
                assert_eq!(partition.1, found, "a record goes to the partition it names");
                self.log.entry(partition).or_default().push(Record { offset, ..record });
                self.sent += 1;
            }
        }
    }

    pub fn said(&self, left_out: &LeftOut) -> Said {
        recompute(&self.definitions(), &self.log, left_out)
    }

    pub fn ends(&self) -> i64 {
        ends(self.kafka, &self.topics)
    }

    /// Waits until every record is below its partition's saved position and nothing lags.
    #[track_caller]
    pub fn await_saved(&self, store_url: &str) {
        await_until(PATIENCE, "everything sent is saved and nothing lags", || {
            self.passed(store_url)?;
            let lagging = look(store_url, "SELECT count(*) FROM huntline.partials WHERE lagging")?;
            match lagging[0][0].as_deref() {
                Some("0") => Ok(()),
                lagging => Err(format!("{lagging:?} partials lag")),
            }
        });
    }

    /// As [`await_saved`](Platform::await_saved), where hunts may lag.
    #[track_caller]
    pub fn await_passed(&self, store_url: &str) {
        await_until(PATIENCE, "everything sent is passed", || self.passed(store_url));
    }

    /// The error says which partition is behind.
    fn passed(&self, store_url: &str) -> Result<(), String> {
        let positions = positions(store_url)?;
        for (partition, records) in &self.log {
            let last = records.last().map_or(-1, |record| record.offset);
            let position = positions.get(partition).copied().unwrap_or(-1);
            if position <= last {
                return Err(format!("{partition:?} at {position}, its last record at {last}"));
            }
        }
        Ok(())
    }

    /// Fails at the first thing that the store's relations say otherwise than the oracle: counts, dead letters, views, their typed columns, the rollup.
    #[track_caller]
    pub fn assert_store_says(&self, store_url: &str, said: &Said) {
        let differences = self.differences(store_url, said);
        assert!(differences.is_empty(), "the store differs from the oracle:\n{differences}");
    }

    /// The first difference of each relation, a line or more each.
    pub fn differences(&self, store_url: &str, said: &Said) -> String {
        let differences = [
            self.compare_partitions(store_url, said),
            self.compare_letters(store_url, said),
            compare_hunts(store_url, said, None),
            compare_rollup(store_url, said),
            compare_summary(store_url, said),
        ];
        let differences: Vec<String> = differences.into_iter().flatten().collect();
        differences.join("\n")
    }

    fn compare_partitions(&self, store_url: &str, said: &Said) -> Option<String> {
        let columns = "records, applied, duplicate, dead_lettered, ignored, held, late";
        let rows = query(store_url, &format!("SELECT topic, partition, position, {columns} FROM huntline.partitions"));
        let mut differences = String::new();
        let mut seen = 0;
        for row in &rows {
            let partition = (text(row, 0), number(row, 1) as i32);
            let Some(expected) = said.partitions.get(&partition) else {
                if number(row, 3) != 0 {
                    let _ = writeln!(differences, "{partition:?}: {} records of an empty partition", number(row, 3));
                }
                continue;
            };
            seen += 1;
            let counts = expected.counts;
            let wanted = [
                counts.records,
                counts.applied,
                counts.duplicate,
                counts.dead_lettered,
                counts.ignored,
                counts.held,
                counts.late,
            ];
            let found: Vec<i64> = (3..10).map(|column| number(row, column)).collect();
            if found != wanted {
                let _ = writeln!(differences, "{partition:?}: {columns}: expected {wanted:?}, found {found:?}");
            }
            let last = self.log[&partition].last().map_or(-1, |record| record.offset);
            let end = self.kafka.end_offsets(&partition.0)[partition.1 as usize];
            let position = number(row, 2);
            if position <= last || position > end {
                let _ = writeln!(differences, "{partition:?}: position {position}, its last record at {last}, its end {end}");
            }
        }
        if seen != said.partitions.len() {
            let _ = writeln!(differences, "{seen} partitions with records, expected {}", said.partitions.len());
        }
        (!differences.is_empty()).then_some(differences)
    }

    fn compare_letters(&self, store_url: &str, said: &Said) -> Option<String> {
        let (key, value) = (hex_of(store_url, "key"), hex_of(store_url, "value"));
        let rows = query(
            store_url,
            &format!(
                "SELECT topic, partition, \"offset\", hunt_id, reason, state, {key}, {value}, headers FROM huntline.dead_letters"
            ),
        );
        let mut found = BTreeMap::new();
        for row in rows {
            found.insert((text(&row, 0), number(&row, 1) as i32, number(&row, 2)), row);
        }
        let mut expected = 0;
        for (partition, of) in &said.partitions {
            for letter in &of.dead_letters {
                expected += 1;
                let place = (partition.0.clone(), partition.1, letter.offset);
                let Some(row) = found.get(&place) else { return Some(format!("no dead letter of {place:?}: {letter:?}")) };
                let what = (row[3].clone(), text(row, 4), text(row, 5));
                let wanted = (letter.hunt_id.clone(), letter.reason.clone(), "rejected".to_owned());
                if what != wanted {
                    return Some(format!("dead letter of {place:?}: expected {wanted:?}, found {what:?}"));
                }
                let record = self.record(partition, letter.offset);
                let bytes = (row[6].clone(), row[7].clone());
                if bytes != (record.key.as_deref().map(hex), record.value.as_deref().map(hex)) {
                    return Some(format!("dead letter of {place:?} ({}) holds other bytes: {bytes:?}", letter.reason));
                }
                if text(row, 8).matches('[').count() != record.headers.len() + 1 {
                    return Some(format!("dead letter of {place:?}: headers {}, sent {:?}", text(row, 8), record.headers));
                }
            }
        }
        (expected != found.len()).then(|| format!("{} dead letters, expected {expected}", found.len()))
    }

    fn record(&self, partition: &Partition, offset: i64) -> &Record {
        let records = &self.log[partition];
        &records[records.binary_search_by_key(&offset, |record| record.offset).expect("a record that was sent")]
    }

    /// Fails at the first hunt of which the daemon's API says otherwise than the oracle.
    #[track_caller]
    pub fn assert_api_says(&self, daemon: &Daemon, said: &Said) {
        for (hunt, expected) in &said.hunts {
            let id = percent_encoding::utf8_percent_encode(hunt, percent_encoding::NON_ALPHANUMERIC).to_string();
            let mut doors = vec![format!("/v1/hunts?id={id}")];
            // Clients take a segment of dots for a step up, however it is encoded.
            if hunt != ".." {
                doors.push(format!("/v1/hunts/{id}"));
            }
            for door in doors {
                let (status, body) = daemon.http_get(&door);
                assert_eq!(status, 200, "{door}: {body}");
                let answer: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(&body).expect("an object");
                if let Some(difference) = said.compare_view(hunt, answer["view"].get()) {
                    panic!("{door}: {difference}");
                }
                assert_eq!(answer["events"].get(), expected.events.to_string(), "{door}: {body}");
                assert_eq!(answer["status"].get(), "\"live\"", "{door}: {body}");
                let partials: Vec<serde_json::Value> = serde_json::from_str(answer["partials"].get()).expect("partials");
                assert_eq!(partials.len(), expected.partials, "{door}: {body}");
            }
        }
        let mut listed = Vec::new();
        let mut door = "/v1/hunts?limit=37".to_owned();
        loop {
            let page = daemon.json(&door);
            listed.extend(
                page["hunts"].as_array().expect("hunts").iter().map(|line| line["hunt_id"].as_str().expect("an id").to_owned()),
            );
            let Some(next) = page["next"].as_str() else { break };
            door = format!("/v1/hunts?limit=37&cursor={next}");
        }
        assert!(listed.iter().eq(said.hunts.keys()), "/v1/hunts lists {listed:?}");
    }
}

/// The sum over all partitions of these topics of what a reader can reach.
pub fn ends(kafka: &Kafka, topics: &[Topic]) -> i64 {
    topics.iter().flat_map(|topic| kafka.end_offsets(&topic.name)).sum()
}

/// Where every partition stands in the store.
pub fn positions(store_url: &str) -> Result<BTreeMap<Partition, i64>, String> {
    let rows = look(store_url, "SELECT topic, partition, coalesce(position, 0) FROM huntline.partitions")?;
    Ok(rows.iter().map(|row| ((text(row, 0), number(row, 1) as i32), number(row, 2))).collect())
}

/// The first hunt whose view is another.
pub fn differing_hunt(store_url: &str, said: &Said) -> Option<String> {
    let rows = query(store_url, "SELECT hunt_id, view FROM huntline.hunts");
    let views: BTreeMap<String, String> = rows.iter().map(|row| (text(row, 0), text(row, 1))).collect();
    let differs = |hunt: &&String| views.get(*hunt).is_none_or(|view| said.compare_view(hunt, view).is_some());
    said.hunts.keys().find(differs).cloned()
}

/// The first difference of a row of `hunts` other than that of `lagging`.
pub fn compare_hunts(store_url: &str, said: &Said, lagging: Option<&str>) -> Option<String> {
    let micros = |column: &str| micros_of(store_url, column);
    let rows = query(
        store_url,
        &format!(
            "SELECT hunt_id, view, events, status, {}, {}, {} FROM huntline.hunts",
            micros("first_event_at"),
            micros("last_event_at"),
            micros("watermark")
        ),
    );
    let mut said = said.clone();
    said.hunts.retain(|hunt, _| lagging != Some(hunt));
    let mut views = BTreeMap::new();
    for row in rows.iter().filter(|row| lagging != row[0].as_deref()) {
        let hunt = text(row, 0);
        let twice = views.insert(hunt.clone(), text(row, 1)).is_some();
        if twice {
            return Some(format!("hunt {hunt:?} has two rows"));
        }
        let Some(expected) = said.hunts.get(&hunt) else { continue };
        let found = (number(row, 2), text(row, 3), number(row, 4), number(row, 5), number(row, 6));
        let wanted = (expected.events, "live".to_owned(), expected.first_event_at, expected.last_event_at, expected.watermark);
        if found != wanted {
            return Some(format!(
                "hunt {hunt:?} of {} partials: events, status, first, last, watermark: expected {wanted:?}, found {found:?}",
                expected.partials
            ));
        }
    }
    said.compare(&views)
}

/// What platforms send: two of a hundred events late, two twice, and one of a hundred records bad.
pub fn options() -> Options {
    Options { late: 0.02, duplicates: 0.02, bad: 0.01, ..Options::default() }
}

/// Fails where a log brings less about than it may: every outcome in every partition, every reason of a dead letter that records alone
/// decide, and events that come too late for windows of every shape.
#[track_caller]
pub fn everything_happens(said: &Said) {
    let counts = said.partitions.values().map(|of| of.counts);
    assert!(counts.clone().all(|c| c.applied > 0 && c.dead_lettered > 0 && c.duplicate > 0 && c.ignored > 0 && c.late > 0));
    let mut reasons = BTreeMap::new();
    for letter in said.partitions.values().flat_map(|of| &of.dead_letters) {
        *reasons.entry(letter.reason.as_str()).or_insert(0) += 1;
    }
    assert!(REASONS.iter().all(|reason| reasons.contains_key(reason)), "{reasons:?}");
    let shapes: BTreeSet<&str> = said
        .late
        .iter()
        .filter(|(_, late)| **late > 0)
        .filter_map(|(name, _)| match said.definitions.aggregates[name].window.as_ref()?.shape {
            Shape::Tumbling(_) => Some("tumbling"),
            Shape::Hopping { .. } => Some("hopping"),
            Shape::Session(_) => Some("session"),
        })
        .collect();
    assert_eq!(shapes.len(), 3, "late for {shapes:?} alone: {:?}", said.late);
}

/// Sends `count` records at a time, each batch as soon as Kafka has acknowledged the one before, for as long as `act` goes on.
pub fn while_records_flow(platform: &mut Platform, count: usize, act: impl FnOnce()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                platform.send(count);
            }
        });
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = acted {
            std::panic::resume_unwind(panic);
        }
    });
}

fn message(partition: i32, record: &Record) -> Message {
    let name = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the generator's headers have names");
    Message {
        partition: Some(partition),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.iter().map(|(header, value)| (name(header), value.clone())).collect(),
        timestamp: Some(record.timestamp_ms),
    }
}

/// The first difference of the relation `rollup`.
fn compare_rollup(store_url: &str, said: &Said) -> Option<String> {
    let rows = query(store_url, "SELECT aggregate, value FROM huntline.rollup");
    let found: BTreeMap<String, String> = rows.iter().map(|row| (text(row, 0), text(row, 1))).collect();
    said.compare_rollup(&found)
}

/// The first difference of the relation `hunt_summary`: the numbers of the views, each in a column of its own.
fn compare_summary(store_url: &str, said: &Said) -> Option<String> {
    let typed = |aggregate: &&Aggregate| {
        use Kind::{Count, Distinct, Max, Mean, Min, Sum};
        aggregate.window.is_none() && matches!(aggregate.kind, Count | Distinct(_) | Sum(_) | Min(_) | Max(_) | Mean(_))
    };
    let columns: Vec<&String> =
        said.definitions.aggregates.iter().filter(|(_, aggregate)| typed(aggregate)).map(|(name, _)| name).collect();
    let list: String = columns.iter().map(|name| format!(", \"{name}\"")).collect();
    let rows = query(store_url, &format!("SELECT hunt_id{list} FROM huntline.hunt_summary"));
    let mut hunts = 0;
    for row in &rows {
        let hunt = text(row, 0);
        let Some(expected) = said.hunts.get(&hunt) else { return Some(format!("hunt_summary has {hunt:?}")) };
        hunts += 1;
        let number = |text: &Option<String>| text.as_ref().map_or(Json::Null, |digits| Json::Number(digits.clone()));
        let found = Json::object(columns.iter().zip(&row[1..]).map(|(name, text)| (name.as_str(), number(text))));
        let value = |name: &String| match expected.view.at(std::slice::from_ref(name)) {
            // SQLite has no integers beyond 64 bits: there such a sum reads as the nearest float.
            Some(Json::Number(token)) if store_url.starts_with("sqlite:") && token.parse::<i64>().is_err() => {
                Number::Float(Number::of_token(token).to_f64()).to_json()
            }
            value => value.cloned().unwrap_or(Json::Null),
        };
        let wanted = Json::object(columns.iter().map(|name| (name.as_str(), value(name))));
        if let Some(difference) = compare(&said.definitions, &wanted, &found) {
            return Some(format!("hunt_summary of {hunt:?}, {difference}"));
        }
    }
    (hunts != said.hunts.len()).then(|| format!("hunt_summary has {hunts} hunts, expected {}", said.hunts.len()))
}

#[track_caller]
pub fn query(store_url: &str, sql: &str) -> Vec<Vec<Option<String>>> {
    look(store_url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// The rows of a statement, as text; the file of a SQLite store stands in for the schema `huntline`.
fn look(store_url: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    let Some(file) = store_url.strip_prefix("sqlite:") else { return postgres::query(store_url, sql) };
    let rows = || {
        let connection = rusqlite::Connection::open_in_memory()?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.execute("ATTACH ?1 AS huntline", [file])?;
        let mut statement = connection.prepare(sql)?;
        let columns = statement.column_count();
        let text = |value: rusqlite::types::ValueRef| match value {
            rusqlite::types::ValueRef::Null => None,
            rusqlite::types::ValueRef::Integer(n) => Some(n.to_string()),
            rusqlite::types::ValueRef::Real(n) => Some(format!("{n:?}")),
            rusqlite::types::ValueRef::Text(bytes) | rusqlite::types::ValueRef::Blob(bytes) => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
        };
        let rows = statement.query_map([], |row| (0..columns).map(|at| Ok(text(row.get_ref(at)?))).collect())?;
        rows.collect::<rusqlite::Result<_>>()
    };
    rows().map_err(|error| error.to_string())
}

/// A column of times as microseconds since 1970.
fn micros_of(store_url: &str, column: &str) -> String {
    if store_url.starts_with("sqlite:") {
        format!(
            "CAST(strftime('%s', {column}) AS INTEGER) * 1000000 + CAST(substr({column}, instr({column}, '.') + 1, 6) AS INTEGER)"
        )
    } else {
        format!("(extract(epoch FROM {column}) * 1000000)::bigint")
    }
}

/// A column of bytes as digits, null as null.
fn hex_of(store_url: &str, column: &str) -> String {
    if store_url.starts_with("sqlite:") {
        format!("CASE WHEN {column} IS NOT NULL THEN lower(hex({column})) END")
    } else {
        format!("encode({column}, 'hex')")
    }
}

fn text(row: &[Option<String>], column: usize) -> String {
    row[column].clone().unwrap_or_default()
}

/// A number, -1 for null.
fn number(row: &[Option<String>], column: usize) -> i64 {
    row[column].as_deref().map_or(-1, |digits| digits.parse().expect("a number"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
