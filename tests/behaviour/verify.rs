//! **Verification and changed definitions**, as operators use them: `verify` says 0 beside a working daemon and finds every damage that
//! is planted, `run --from-now` and `rebuild` lead from one set of definitions to another, and the oracle agrees with what they leave.

mod explain;
mod formats;
mod shown;

use crate::harness::daemon::{Daemon, Setup};
use crate::harness::{Process, Scratch, await_until, postgres};
use crate::oracle::records::{HuntAt, Options, Records, Topic};
use crate::oracle::{Definitions, LeftOut, Log, Said, recompute};
use crate::platform::{Platform, compare_hunts, while_records_flow};
use huntline::source::log::{Log as EmbeddedLog, NewRecord};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const TOPIC: &str = "hunt-events";
const PARTITIONS: i32 = 3;
const MAX_BYTES: usize = 2 << 10;

/// `zz_solved` is the last by name, so its count is the end of a partial's encoding.
const BEFORE: &str = r#"
[rollup]
aggregates = ["board", "events", "per_minute", "players"]
[aggregates.events]
kind = "count"
[aggregates.board]
kind = "top"
on = "clue.solved"
by = "/data/player_id"
limit = 5
[aggregates.players]
kind = "distinct"
of = "/data/player_id"
[aggregates.spread]
kind = "quantiles"
of = "/data/seconds"
[aggregates.steps]
kind = "funnel"
by = "/data/player_id"
stages = ["user.registered", "clue.handed_out", "clue.solved"]
[aggregates.per_minute]
kind = "count"
window = { tumbling = "1m", keep = 4 }
[aggregates.hopping_points]
kind = "sum"
of = "/data/points"
window = { hopping = "10m", every = "2m", keep = 6 }
[aggregates.visits]
kind = "count"
on = "clue.*"
window = { session = "90s", keep = 3 }
[aggregates.points]
kind = "sum"
on = "clue.solved"
of = "/data/points"
[aggregates.zz_solved]
kind = "count"
on = "clue.solved"
"#;

/// Beside those that stay.
const ADDED: &str = r#"
[aggregates.last_clue]
kind = "last"
on = "clue.*"
of = "/data/clue_id"
[aggregates.handed_out]
kind = "count"
on = "clue.handed_out"
"#;

struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n{}{}", self.code, self.out, self.err)
    }
}

fn huntline(args: &[&str]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_huntline"));
    command.args(args).stdin(Stdio::null()).env_remove("HUNTLINE_CONFIG").env_remove("RUST_LOG");
    let output = command.output().expect("run huntline");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[track_caller]
fn verify(config: &Path) -> Done {
    huntline(&["verify", "--config", config.to_str().expect("UTF-8")])
}

/// An embedded log, everything that was appended to it, and stores built from it.
struct Site {
    scratch: Scratch,
    records: Records,
    appended: EmbeddedLog,
    log: Log,
    count: i64,
}

impl Site {
    fn new(name: &str) -> Site {
        let scratch = Scratch::new(name);
        let topics = vec![Topic { name: TOPIC.to_owned(), partitions: PARTITIONS, hunt: HuntAt::Key }];
        let options =
            Options { seed: 5, count: usize::MAX, hunts: 40, topics, max_bytes: MAX_BYTES, wandering: 0.3, ..Options::default() };
        let appended = EmbeddedLog::open(&scratch.join("events.db"), TOPIC, PARTITIONS).expect("a log");
        Site { scratch, records: Records::new(options), appended, log: Log::new(), count: 0 }
    }

    fn append(&mut self, count: usize) {
        let records: Vec<_> = self.records.by_ref().take(count).collect();
        let headers: Vec<Vec<(&[u8], Option<&[u8]>)>> = records
            .iter()
            .map(|(_, record)| record.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect())
            .collect();
        let new: Vec<NewRecord> = records
            .iter()
            .zip(&headers)
            .map(|((partition, record), headers)| NewRecord {
                partition: Some(partition.1),
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers,
                timestamp_ms: Some(record.timestamp_ms),
            })
            .collect();
        self.appended.append(&new).expect("appended");
        for (partition, record) in records {
            self.log.entry(partition).or_default().push(record);
        }
        self.count += count as i64;
    }

    fn store(&self, name: &str) -> PathBuf {
        self.scratch.join(&format!("{name}.db"))
    }

    fn text(&self, store: &str, aggregates: &str) -> String {
        format!(
            "[embedded_log]\npath = \"{}\"\npartitions = {PARTITIONS}\n[store]\nurl = \"sqlite:{}\"\n[snapshot]\ninterval = \"200ms\"\n\
             [event]\nmax_bytes = \"{MAX_BYTES}B\"\n{aggregates}",
            self.scratch.join("events.db").display(),
            self.store(store).display(),
        )
    }

    /// A configuration file of this store and these aggregates.
    fn config(&self, store: &str, aggregates: &str) -> PathBuf {
        let path = self.scratch.join(&format!("{store}.toml"));
        fs::write(&path, self.text(store, aggregates)).expect("written");
        path
    }

    fn daemon(&self, store: &str, aggregates: &str) -> Daemon {
        Daemon::start(&self.text(store, aggregates))
    }

    #[track_caller]
    fn await_saved(&self, store: &str) {
        let path = self.store(store);
        await_until(PATIENCE, "everything appended is saved", || {
            let store = rusqlite::Connection::open(&path).map_err(|error| error.to_string())?;
            let one = |sql: &str| store.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|error| error.to_string());
            let (records, lagging) =
                (one("SELECT sum(records) FROM partitions")?, one("SELECT count(*) FROM partials WHERE lagging")?);
            if (records, lagging) == (self.count, 0) { Ok(()) } else { Err(format!("{records} records, {lagging} lag")) }
        });
    }

    /// A store that a daemon built from the whole log and left.
    fn built(&self, store: &str, aggregates: &str) {
        let mut daemon = self.daemon(store, aggregates);
        self.await_saved(store);
        assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    }

    fn said(&self, aggregates: &str) -> Said {
        recompute(&Definitions::from_toml(&self.text("any", aggregates)), &self.log, &LeftOut::new())
    }

    fn views(&self, store: &str) -> BTreeMap<String, String> {
        let store = rusqlite::Connection::open(self.store(store)).expect("the store");
        let mut read = store.prepare("SELECT hunt_id, view FROM hunts").expect("the relation");
        read.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows").collect::<Result<_, _>>().expect("rows")
    }

    /// Fails at the first thing that the store's readers see otherwise than the oracle.
    #[track_caller]
    fn assert_says(&self, store: &str, said: &Said) {
        assert_eq!(said.compare(&self.views(store)), None);
        let store = rusqlite::Connection::open(self.store(store)).expect("the store");
        let mut read = store.prepare("SELECT aggregate, value FROM rollup").expect("the relation");
        let rollup =
            read.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows").collect::<Result<_, _>>().expect("rows");
        assert_eq!(said.compare_rollup(&rollup), None);
        let sql = "SELECT topic, partition, records, applied, duplicate, dead_lettered, ignored, held, late FROM partitions";
        let mut read = store.prepare(sql).expect("the relation");
        let mut rows = read.query([]).expect("rows");
        let mut letters = 0;
        while let Some(row) = rows.next().expect("a row") {
            let number = |column: usize| row.get::<_, i64>(column).expect("a number");
            let partition: (String, i32) = (row.get(0).expect("a topic"), row.get(1).expect("a partition"));
            let counts = said.partitions[&partition].counts;
            let expected = [
                counts.records,
                counts.applied,
                counts.duplicate,
                counts.dead_lettered,
                counts.ignored,
                counts.held,
                counts.late,
            ];
            assert_eq!(std::array::from_fn(|n| number(n + 2)), expected, "{partition:?}");
            letters += counts.dead_lettered;
        }
        let found: i64 = store.query_row("SELECT count(*) FROM dead_letters", [], |row| row.get(0)).expect("a number");
        assert_eq!(found, letters);
    }

    /// A copy of a store with something done to it, and its configuration.
    fn damaged(&self, name: &str, damage: impl FnOnce(&rusqlite::Connection)) -> PathBuf {
        let base = rusqlite::Connection::open(self.store("base")).expect("the store");
        base.execute("VACUUM INTO ?", [self.store(name).to_str().expect("UTF-8")]).expect("a copy");
        damage(&rusqlite::Connection::open(self.store(name)).expect("the copy"));
        self.config(name, BEFORE)
    }
}

/// The busiest hunt of partition 0 whose count of solved clues can grow by one in place.
fn busiest(store: &rusqlite::Connection) -> (String, Vec<u8>) {
    store
        .query_row(
            "SELECT hunt_id, state FROM partials WHERE topic = ? AND partition = 0 AND events BETWEEN 5 AND 100 ORDER BY events DESC, hunt_id LIMIT 1",
            [TOPIC],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .expect("a hunt of many events")
}

#[track_caller]
fn differs(done: &Done, sentences: &[&str]) {
    assert_eq!(done.code, Some(1), "{done:?}");
    for sentence in sentences {
        assert!(done.out.contains(sentence), "{sentence:?} in {done:?}");
    }
}

#[test]
fn planted_damage_is_found_and_named() {
    let mut site = Site::new("planted-damage");
    site.append(4_000);
    site.built("base", BEFORE);
    let healthy = verify(&site.config("base", BEFORE));
    assert_eq!(healthy.code, Some(0), "{healthy:?}");
    assert!(
        healthy.out.contains("3 partitions, 4,000 records, ") && healthy.out.ends_with("the store is what the log gives\n"),
        "{healthy:?}"
    );

    let mut hunt = String::new();
    let number = site.damaged("number", |store| {
        let mut state;
        (hunt, state) = busiest(store);
        *state.last_mut().expect("a state") += 1;
        store.execute("UPDATE partials SET state = ? WHERE hunt_id = ? AND partition = 0", (&state, &hunt)).expect("changed");
    });
    let done = verify(&number);
    let line = done.out.lines().next().expect("a difference").to_owned();
    assert!(line.starts_with(&format!("hunt-events/0: hunt {hunt:?}: aggregate zz_solved: stored ")), "{done:?}");
    assert!(line.contains("; can differ from record "), "{done:?}");
    differs(&done, &["1 difference\n"]);
    let shown = huntline(&["verify", "--json", "--hunt", &hunt, "--config", number.to_str().expect("UTF-8")]);
    let report: Value = serde_json::from_str(&shown.out).expect("one object");
    assert_eq!(shown.code, Some(1), "{shown:?}");
    let difference = &report["differences"][0];
    assert_eq!((&difference["hunt_id"], &difference["what"]), (&Value::from(hunt.as_str()), &Value::from("aggregate zz_solved")));
    let number_of = |name: &str| difference[name].as_str().and_then(|text| text.parse::<i64>().ok()).expect("a number");
    assert_eq!(number_of("stored"), number_of("recomputed") + 1);
    // Of the records that count for it, the one that the stored number would have needed does not exist: it can differ from the first on.
    let solved = site.log[&(TOPIC.to_owned(), 0)].iter().any(|record| Some(record.offset) == difference["from_offset"].as_i64());
    assert!(solved, "{report}");
    let other = huntline(&["verify", "--hunt", "no such hunt", "--config", number.to_str().expect("UTF-8")]);
    let sentence = "no hunt \"no such hunt\": neither the store nor the log has an event or a dead letter of it";
    assert_eq!((other.code, other.out.as_str()), (Some(1), ""), "{other:?}");
    assert!(other.err.contains(sentence), "{other:?}");

    let row = site.damaged("row", |store| {
        let (hunt, _) = busiest(store);
        store.execute("DELETE FROM partials WHERE hunt_id = ? AND partition = 0", [&hunt]).expect("deleted");
    });
    differs(&verify(&row), &[&format!("hunt-events/0: hunt {hunt:?}: row: stored none, recomputed {{"), "1 difference\n"]);

    let unknown = site.damaged("unknown", |store| {
        let (hunt, _) = busiest(store);
        let sql = format!(
            "CREATE TEMP TABLE copied AS SELECT * FROM partials WHERE partition = 0 AND hunt_id = '{hunt}';
             UPDATE copied SET hunt_id = 'never'; INSERT INTO partials SELECT * FROM copied;"
        );
        store.execute_batch(&sql).expect("inserted");
    });
    differs(&verify(&unknown), &["hunt \"never\": row: stored ", "none: the log has no event of it"]);

    for (name, by, sentence) in [("back", -1, "records: stored "), ("ahead", 1_000, "position: stored ")] {
        let moved = site.damaged(name, |store| {
            let changed =
                store.execute("UPDATE partitions SET position = position + ? WHERE partition = 1", [by]).expect("moved");
            assert_eq!(changed, 1);
        });
        differs(&verify(&moved), &[&format!("hunt-events/1: {sentence}")]);
    }

    let letter = site.damaged("counts", |store| {
        store
            .execute("UPDATE partitions SET duplicate = duplicate - 1, applied = applied + 1 WHERE partition = 2", [])
            .expect("changed");
    });
    differs(&verify(&letter), &["hunt-events/2: applied: stored ", "hunt-events/2: duplicate: stored ", "2 differences\n"]);

    let rollup = site.damaged("rollup", |store| {
        let sql = "UPDATE partitions SET rollup = (SELECT rollup FROM partitions WHERE partition = 0) WHERE partition = 2";
        assert_eq!(store.execute(sql, []).expect("changed"), 1);
    });
    differs(&verify(&rollup), &["hunt-events/2: rollup events: stored ", "hunt-events/2: rollup per_minute: stored "]);
}

#[test]
fn what_could_not_be_compared_prints_nothing_but_why() {
    let mut site = Site::new("not-compared");
    site.append(200);
    site.built("base", BEFORE);
    let config = site.config("base", BEFORE);
    let text = site.text("base", BEFORE);
    let compared = |text: &str, more: &[&str]| {
        fs::write(&config, text).expect("written");
        huntline(&[&["verify", "--config", config.to_str().expect("UTF-8")], more].concat())
    };
    let done = compared(&text, &["--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(serde_json::from_str::<Value>(&done.out).expect("one object").is_object());
    let away = [
        text.replace("base.db", "nowhere.db"),
        text.replace("events.db", "nowhere.db"),
        text.replace(&format!("sqlite:{}", site.store("base").display()), "postgres://nobody@127.0.0.1:1/none"),
    ];
    for text in &away {
        for more in [&["--json"][..], &[]] {
            let done = compared(text, more);
            assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{done:?}");
            assert!(done.err.contains("huntline: "), "{done:?}");
        }
    }
    let log = text.find("[store]").expect("a table");
    let kafka = format!("[kafka]\nbrokers = [\"127.0.0.1:1\"]\n{}", &text[log..]);
    let done = compared(&kafka, &["--json"]);
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{done:?}");
}

#[test]
fn an_event_that_was_folded_twice_is_found() {
    let mut site = Site::new("folded-twice");
    site.append(2_000);
    site.built("base", BEFORE);
    let healthy = site.views("base");
    // The same log, with one event a second time under an id of its own, makes the states of a store that folded it twice.
    let doubled = {
        let (partition, records) = site.log.iter().next().expect("a partition");
        let applied = |record: &&crate::oracle::Record| {
            let text = record.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            record.key.as_deref() == Some(b"hunt-12") && text.contains("\"clue.solved\"") && text.contains("\"id\":\"")
        };
        let record = records.iter().rfind(applied).expect("an event").clone();
        let text =
            String::from_utf8(record.value.clone().expect("a value")).expect("text").replacen("\"id\":\"", "\"id\":\"again-", 1);
        (partition.1, record, text)
    };
    let twice = EmbeddedLog::open(&site.scratch.join("twice.db"), TOPIC, PARTITIONS);
    let mut twice = twice.expect("a log");
    for ((_, partition), records) in &site.log {
        for record in records {
            let headers: Vec<(&[u8], Option<&[u8]>)> =
                record.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
            let new = NewRecord {
                partition: Some(*partition),
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
                timestamp_ms: Some(record.timestamp_ms),
            };
            let again = NewRecord { value: Some(doubled.2.as_bytes()), ..new };
            let is_it = *partition == doubled.0 && record.offset == doubled.1.offset;
            let both = [new, again];
            twice.append(if is_it { &both } else { &both[..1] }).expect("appended");
        }
    }
    drop(twice);
    site.count += 1;
    let text = site.text("twice-store", BEFORE).replace("events.db", "twice.db");
    let mut daemon = Daemon::start(&text);
    site.await_saved("twice-store");
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    assert_ne!(site.views("twice-store"), healthy);

    let path = site.store("twice-store");
    let config = site.damaged("damaged", |store| {
        store.execute("ATTACH ? AS twice", [path.to_str().expect("UTF-8")]).expect("attached");
        let sql = "UPDATE partials SET state = (SELECT state FROM twice.partials t WHERE t.hunt_id = partials.hunt_id AND t.partition = partials.partition)
                   WHERE hunt_id = 'hunt-12' AND partition = ?";
        assert_eq!(store.execute(sql, [doubled.0]).expect("changed"), 1);
    });
    let done = verify(&config);
    differs(
        &done,
        &["hunt \"hunt-12\": events: stored ", "hunt \"hunt-12\": aggregate points: stored ", "aggregate zz_solved: stored "],
    );
    assert!(done.out.lines().all(|line| !line.contains(": hunt ") || line.contains("hunt \"hunt-12\"")), "{done:?}");
}

#[test]
fn verify_says_that_the_log_no_longer_reaches_back() {
    let mut site = Site::new("cut-log");
    site.append(2_000);
    site.built("base", BEFORE);
    let end = site.appended.extents().expect("extents")[1].end;
    site.appended.trim(1, huntline::position::Position(end.0 / 2)).expect("trimmed");
    let done = verify(&site.config("base", BEFORE));
    assert_eq!(done.code, Some(3), "{done:?}");
    let sentence = format!("hunt-events/1: cannot be verified: it began at 0, the log begins at {}\n", end.0 / 2);
    assert!(done.out.contains(&sentence) && done.out.contains("2 partitions, "), "{done:?}");

    // A difference elsewhere goes before.
    let changed = site.damaged("changed", |store| {
        store.execute("UPDATE partitions SET ignored = ignored + 1 WHERE partition = 0", []).expect("changed");
    });
    assert_eq!(verify(&changed).code, Some(1));

    let config = site.config("base", &format!("{BEFORE}{ADDED}"));
    let refused = huntline(&["rebuild", "--config", config.to_str().expect("UTF-8")]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains(&format!("hunt-events/1: the old store has records from 0 on, the log begins at {}", end.0 / 2)),
        "{refused:?}"
    );
    assert!(refused.err.contains("--accept-loss"), "{refused:?}");
    let before = site.views("base");
    assert_eq!(before, site.views("base"));

    let accepted = huntline(&["rebuild", "--accept-loss", "--config", config.to_str().expect("UTF-8")]);
    assert_eq!(accepted.code, Some(0), "{accepted:?}");
    let gaps: (i64, i64, i64) = rusqlite::Connection::open(site.store("base"))
        .and_then(|store| {
            store.query_row("SELECT partition, from_offset, to_offset FROM gaps", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
        })
        .expect("the one gap");
    assert_eq!(gaps, (1, 0, end.0 / 2));
    for records in site.log.iter_mut().filter(|(partition, _)| partition.1 == 1).map(|(_, records)| records) {
        records.retain(|record| record.offset >= end.0 / 2);
    }
    let said = site.said(&format!("{BEFORE}{ADDED}"));
    assert_eq!(said.compare(&site.views("base")), None);
    // What is gone is on record: from there on the store is what the log gives.
    let done = verify(&config);
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn from_now_on_added_aggregates_start_empty_and_the_others_go_on() {
    let mut site = Site::new("from-now");
    site.append(2_000);
    site.built("base", BEFORE);
    let now = format!("{}{ADDED}dedup.last = 64\n", BEFORE.replace("[aggregates.points]", "[aggregates.renamed_points]"));
    let now = format!("[dedup]\nlast = 64\n{}", now.replace("dedup.last = 64\n", ""));

    let refused = |config: &str, argument: Option<&str>| {
        let mut setup = Setup::new(config);
        if let Some(argument) = argument {
            setup = setup.arg(argument);
        }
        let mut daemon = setup.spawn();
        assert_eq!(daemon.await_exit().code(), Some(1), "{}", daemon.output());
        daemon.output()
    };
    let said = refused(&site.text("base", &now), None);
    for sentence in [
        "this store was built with other definitions:",
        "aggregate last_clue (last) was added\n    from now on: starts empty at the present positions",
        "aggregate points (sum) was removed\n    from now on: goes",
        "aggregate renamed_points (sum) was added",
        "[dedup]: last was 32, is 64\n    from now on: the memory grows from the ids in it now",
        "huntline rebuild --config ",
        "huntline run --from-now --config ",
    ] {
        assert!(said.contains(sentence), "{sentence:?} in {said}");
    }
    let altered = BEFORE.replace("of = \"/data/points\"", "of = \"/data/seconds\"");
    let said = refused(&site.text("base", &altered), Some("--from-now"));
    assert!(said.contains("these changes of definitions cannot hold from now on:\n"), "{said}");
    for name in ["points", "hopping_points"] {
        assert!(said.contains(&format!("\n  aggregate {name}: of was \"/data/points\", is \"/data/seconds\"\n")), "{said}");
    }
    assert_eq!(verify(&site.config("base", BEFORE)).code, Some(0), "nothing was changed");

    let before = site.said(BEFORE);
    let mut daemon = Setup::new(&site.text("base", &now)).arg("--from-now").start();
    site.await_saved("base");
    let views = site.views("base");
    let value = |views: &BTreeMap<String, String>, hunt: &str, name: &str| -> Value {
        let view: Value = serde_json::from_str(&views[hunt]).expect("a view");
        view.get(name).cloned().unwrap_or_else(|| panic!("{hunt}: no {name} in {view}"))
    };
    for (hunt, of) in &before.hunts {
        assert_eq!(value(&views, hunt, "events"), Value::from(of.events), "{hunt}");
        assert_eq!(value(&views, hunt, "handed_out"), Value::from(0), "{hunt}");
        assert_eq!(value(&views, hunt, "last_clue"), Value::Null, "{hunt}");
        assert_eq!(value(&views, hunt, "renamed_points"), Value::from(0), "{hunt}");
        assert!(!views[hunt].contains("\"points\""), "{hunt}");
    }
    let at = site.log.iter().map(|(partition, records)| (partition.clone(), records.len())).collect::<BTreeMap<_, _>>();
    site.append(2_000);
    site.await_saved("base");
    let done = verify(&site.config("base", &now));
    assert_eq!(done.code, Some(0), "beside the daemon: {done:?}");
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());

    // What was added has seen what came since alone. (A count shows it without the dedup memory's part, since what came since is
    // counted as applied by the whole log's fold too.)
    let views = site.views("base");
    let whole = site.said(&now);
    let mut log = site.log.clone();
    log.iter_mut().for_each(|(partition, records)| records.truncate(at[partition]));
    let early = recompute(&Definitions::from_toml(&site.text("any", &now)), &log, &LeftOut::new());
    let of_view = |said: &Said, hunt: &str| -> i64 {
        said.hunts.get(hunt).map_or(0, |hunt| {
            let view: Value = serde_json::from_str(&hunt.view.to_string()).expect("a view");
            view["handed_out"].as_i64().expect("a count")
        })
    };
    let mut some = 0;
    for hunt in whole.hunts.keys() {
        let since = of_view(&whole, hunt) - of_view(&early, hunt);
        let found = value(&views, hunt, "handed_out").as_i64().expect("a count");
        // A repeated event that a memory of 32 had forgotten by then may have been applied: never fewer, seldom more.
        assert!(found >= since && found <= since + 2, "{hunt}: {found} handed out, {since} since");
        some += since;
    }
    assert!(some > 20, "{some}");

    // A third generation, after which all three are folded again.
    let later = now.replace("[aggregates.handed_out]", "[aggregates.passed_over]");
    let mut daemon = Setup::new(&site.text("base", &later)).arg("--from-now").start();
    site.append(500);
    site.await_saved("base");
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    let done = verify(&site.config("base", &later));
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn a_hunt_that_lags_is_verified_as_far_as_it_came_and_keeps_the_definitions() {
    let mut site = Site::new("lagging");
    site.append(2_000);
    let (partition, offset) = site
        .log
        .iter()
        .find_map(|((_, partition), records)| {
            let of_hunt = |record: &&crate::oracle::Record| {
                let text = record.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                record.key.as_deref() == Some(b"hunt-12") && text.contains("\"clue.solved\"")
            };
            let mut events = records.iter().filter(of_hunt);
            events.nth(5).map(|record| (*partition, record.offset))
        })
        .expect("an event");
    let gate = site.scratch.join("gate");
    let failing = |text: &str| Setup::new(text).env("HUNTLINE_TEST_PANIC", &format!("hunt-12:{offset}:always"));
    let mut daemon = failing(&site.text("base", BEFORE)).env("HUNTLINE_TEST_GATE", gate.to_str().expect("UTF-8")).start();
    let store = site.store("base");
    let lagging = || {
        let store = rusqlite::Connection::open(&store).expect("the store");
        let sql = "SELECT sum(records), sum(held), (SELECT count(*) FROM partials WHERE lagging) FROM partitions";
        store
            .query_row(sql, [], |row| Ok::<(i64, i64, i64), _>((row.get(0)?, row.get(1)?, row.get(2)?)))
            .map_err(|e| e.to_string())
    };
    await_until(PATIENCE, "all is saved but one hunt, which lags", || match lagging() {
        Ok((records, held, 1)) if records == site.count && held > 0 => Ok(()),
        other => Err(other),
    });
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    let config = site.config("base", BEFORE);
    let done = verify(&config);
    assert_eq!(done.code, Some(0), "{done:?}");

    let mut refused = Setup::new(&site.text("base", &format!("{BEFORE}{ADDED}"))).arg("--from-now").spawn();
    assert_eq!(refused.await_exit().code(), Some(1), "{}", refused.output());
    let said = refused.output();
    assert!(said.contains("the new definitions cannot hold from now on:") && said.contains("\"hunt-12\""), "{said}");

    // It catches up; the record that no fold can take is left out, and on record as such.
    let mut daemon = failing(&site.text("base", BEFORE)).start();
    site.await_saved("base");
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    let left_out = LeftOut::from([((TOPIC.to_owned(), partition, offset), "failed".to_owned())]);
    let said = recompute(&Definitions::from_toml(&site.text("any", BEFORE)), &site.log, &left_out);
    site.assert_says("base", &said);
    let done = verify(&config);
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn a_rebuilt_store_is_what_the_oracle_says_by_the_new_definitions() {
    let mut site = Site::new("rebuild");
    site.append(3_000);
    site.built("base", BEFORE);
    let new = format!("{}{ADDED}", BEFORE.replace("of = \"/data/points\"", "of = \"/data/seconds\""));
    let config = site.config("base", &new);
    // The old daemon keeps serving until the new view is built.
    let mut old = site.daemon("base", BEFORE);
    let mut command = Command::new(env!("CARGO_BIN_EXE_huntline"));
    command.arg("rebuild").arg("--config").arg(&config).env_remove("RUST_LOG");
    let mut rebuild = Process::start("rebuild", command, &site.scratch.join("rebuild.output"));
    await_until(PATIENCE, "the new view is built", || {
        if rebuild.tail().contains("stop the daemon") { Ok(()) } else { Err(rebuild.tail()) }
    });
    assert_eq!(old.http_get("/v1/hunts").0, 200);
    site.assert_says("base", &site.said(BEFORE));
    assert_eq!(old.sigterm(), Some(0), "{}", old.output());
    assert_eq!(rebuild.await_exit(PATIENCE).code(), Some(0), "{}", rebuild.tail());
    assert!(rebuild.tail().contains("3 partitions, 3,000 records, "), "{}", rebuild.tail());
    site.assert_says("base", &site.said(&new));
    assert_eq!(verify(&config).code, Some(0));

    // The daemon of the new definitions goes on from there, that of the old ones is refused.
    site.append(1_000);
    let mut old = Setup::new(&site.text("base", BEFORE)).spawn();
    assert_eq!(old.await_exit().code(), Some(1), "{}", old.output());
    site.built("base", &new);
    site.assert_says("base", &site.said(&new));
    assert_eq!(verify(&config).code, Some(0));
}

#[test]
fn on_kafka_and_postgres_verify_works_beside_the_daemon_and_a_rebuild_fences_it() {
    let store = postgres::shared().create_database();
    let options = Options { seed: 11, hunts: 80, wandering: 0.3, bad: 0.06, ..Options::default() };
    let mut platform = Platform::new("verify", (3, 2), options);
    platform.send(6_000);
    let scratch = Scratch::new("verify");
    let config = scratch.join("h.toml");
    let text = platform.config(&store, "300ms", "");
    fs::write(&config, &text).expect("written");
    let mut daemon = Daemon::start(&text);
    platform.await_saved(&store);
    while_records_flow(&mut platform, 40, || {
        for _ in 0..3 {
            let done = verify(&config);
            assert_eq!(done.code, Some(0), "beside the daemon: {done:?}");
        }
    });
    platform.await_saved(&store);

    let sql = |text: &str| postgres::query(&store, text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let quiet = sql(
        "SELECT topic, partition, hunt_id, octet_length(state) FROM huntline.partials WHERE events > 20 ORDER BY 1, 2, 3 LIMIT 1",
    );
    let [topic, partition, hunt, length] = &quiet[0].iter().map(|cell| cell.clone().expect("not null")).collect::<Vec<_>>()[..]
    else {
        panic!("{quiet:?}")
    };
    let at = format!("topic = '{topic}' AND partition = {partition} AND hunt_id = '{}'", hunt.replace('\'', "''"));
    let before = sql(&format!("SELECT encode(state, 'hex') FROM huntline.partials WHERE {at}"))[0][0].clone().expect("a state");
    let last = length.parse::<i64>().expect("a number") - 1;
    sql(&format!("UPDATE huntline.partials SET state = set_byte(state, {last}, get_byte(state, {last}) # 1) WHERE {at}"));
    differs(&verify(&config), &[&format!("{topic}/{partition}: hunt {hunt:?}: ")]);
    sql(&format!("UPDATE huntline.partials SET state = decode('{before}', 'hex') WHERE {at}"));
    assert_eq!(verify(&config).code, Some(0));

    let new =
        text.replace("[aggregates.big_solves]", "[aggregates.bigger_solves]").replace("data.points > 50", "data.points > 90");
    assert_ne!(new, text);
    fs::write(&config, &new).expect("written");
    let done = huntline(&["rebuild", "--config", config.to_str().expect("UTF-8")]);
    assert_eq!(done.code, Some(0), "{done:?}");
    // No record comes to the old daemon: it finds by itself that its claims stand no more, claims again, and finds other definitions.
    let ended = daemon.await_exit();
    assert_eq!(ended.code(), Some(1), "{}", daemon.output());
    assert!(daemon.output().contains("of owner nobody stands in the store"), "{}", daemon.output());
    platform.send(200);
    let mut daemon = Daemon::start(&new);
    platform.await_saved(&store);
    let said = recompute(&Definitions::from_toml(&new), &platform.log, &LeftOut::new());
    assert_eq!(compare_hunts(&store, &said, None), None);
    assert_eq!(verify(&config).code, Some(0));
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
}
