//! **Explanations**, as operators ask for them: the records that made a value, each with what became of it, beside the store that a
//! daemon made of them.

use super::*;

const TIMED: &str = r#"
[time]
lateness = "10s"
[aggregates.first_player]
kind = "first"
of = "/data/player_id"
[aggregates.per_minute]
kind = "count"
window = { tumbling = "1m", keep = 5 }
[aggregates.points]
kind = "sum"
on = "clue.solved"
of = "/data/points"
"#;

fn explain(config: &Path, args: &[&str]) -> Done {
    let config = config.to_str().expect("UTF-8");
    huntline(&[&["explain", "--config", config], args].concat())
}

fn lines(done: &Done) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    let summary = lines.pop().expect("the last line sums up");
    (lines, summary)
}

impl Site {
    /// Appends to partition 1, record by record: hunt, second after ten o'clock of its timestamp, value.
    pub(super) fn append_all(&mut self, records: &[(&str, i64, Option<String>)]) {
        const TEN: i64 = 1_777_629_600_000;
        for (hunt, second, value) in records {
            let record = NewRecord {
                partition: Some(1),
                key: Some(hunt.as_bytes()),
                value: value.as_deref().map(str::as_bytes),
                headers: &[],
                timestamp_ms: Some(TEN + second * 1000),
            };
            self.appended.append(&[record]).expect("appended");
        }
        self.count += records.len() as i64;
    }
}

pub(super) fn event(id: &str, event_type: &str, time: &str, data: &str) -> Option<String> {
    Some(format!(r#"{{"id":"{id}","type":"{event_type}","time":"2026-05-01T{time}Z","data":{data}}}"#))
}

#[test]
fn explain_names_each_record_of_a_hunt_and_what_it_added() {
    let mut site = Site::new("explain");
    site.append_all(&[
        ("harbour", 0, event("e1", "clue.solved", "10:00:00", r#"{"points":10,"player_id":"p-1"}"#)),
        ("harbour", 30, event("e2", "clue.solved", "10:00:30", r#"{"points":5}"#)),
        ("harbour", 31, event("e1", "clue.solved", "10:00:00", r#"{"points":10,"player_id":"p-1"}"#)),
        ("harbour", 120, event("e3", "user.registered", "10:02:00", r#"{"player_id":"p-2"}"#)),
        ("harbour", 121, event("e4", "clue.solved", "10:00:59", r#"{"points":7}"#)),
        ("harbour", 122, event("e5", "clue.solved", "10:02:02", r#"{"points":"seven"}"#)),
        ("harbour", 123, Some("{\"id\":\u{1b}".to_owned())),
        ("forest", 124, event("e6", "clue.solved", "10:02:04", r#"{"points":1}"#)),
        ("harbour", 125, None),
        ("harbour", 126, event("e7", "clue.solved", "10:02:06", "{}")),
    ]);
    let config = site.config("base", TIMED);
    let mut daemon = site.daemon("base", TIMED);
    site.await_saved("base");

    let done = explain(&config, &["harbour", "points"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(
        done.out,
        "hunt-events/1 from 0 up to 10, where the store stands\n\
         RECORD           ID  TYPE         EVENT TIME            ADDS     AFTER  OUTCOME\n\
         hunt-events/1/0  e1  clue.solved  2026-05-01T10:00:00Z  10       10     applied\n\
         hunt-events/1/1  e2  clue.solved  2026-05-01T10:00:30Z  5        15     applied\n\
         hunt-events/1/2  e1  clue.solved  2026-05-01T10:00:00Z  -        -      duplicate of 0\n\
         hunt-events/1/4  e4  clue.solved  2026-05-01T10:00:59Z  7        22     applied\n\
         hunt-events/1/9  e7  clue.solved  2026-05-01T10:02:06Z  nothing  22     applied\n\
         \n\
         5 records: 4 applied, 1 duplicate\n\
         points: 3 have part in it; 1 matches and adds nothing, for a member is absent\n\
         value  22\n\
         the saved view says the same\n"
    );

    let done = explain(&config, &["harbour", "per_minute", "--limit", "3"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    for sentence in [
        "\n3 older records are not shown: --limit 0 shows all\n",
        "hunt-events/1/3  e3  user.registered  2026-05-01T10:02:00Z  1        2026-05-01T10:02:00Z to 2026-05-01T10:03:00Z  1      applied\n",
        "  nothing  -                                             -      applied; late for per_minute: 2026-05-01T10:00:00Z to 2026-05-01T10:01:00Z\n",
        "per_minute: 4 have part in it; 1 came late for a window\n",
        "\nthe saved view says the same\n",
    ] {
        assert!(done.out.contains(sentence), "{sentence:?} in {done:?}");
    }

    let done = explain(&config, &["harbour"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    for sentence in [
        "\nhunt-events/1/5  e5  clue.solved      2026-05-01T10:02:02Z  dead letter wrong_type: /data/points holds the string `seven`",
        "\nhunt-events/1/6  -   -                -                     dead letter not_json: the value at byte 6: found `\\u{1b}`",
        "\n8 records: 5 applied, 1 of them late somewhere, 1 duplicate, 2 dead letters\n",
        "\npoints              3     0  22\n",
        "\nfirst_player        2     0  p-1\n",
        "\nper_minute          4     1  ",
    ] {
        assert!(done.out.contains(sentence), "{sentence:?} in {done:?}");
    }
    assert!(!done.out.contains("hunt-events/1/7") && !done.out.contains("hunt-events/1/8"), "{done:?}");
    assert!(!done.out.contains('\u{1b}'), "{done:?}");

    let done = explain(&config, &["harbour", "pionts"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(
        done.err
            .contains("found the aggregate \"pionts\", expected one of first_player, per_minute, points; did you mean `points`?"),
        "{done:?}"
    );
    let done = explain(&config, &["nowhere"]);
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{done:?}");
    assert!(done.err.contains("no hunt \"nowhere\": the store has no event and no dead letter of it"), "{done:?}");

    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    let damaged = site.damaged("changed", |store| {
        let sql = "UPDATE partials SET state = (SELECT state FROM partials WHERE hunt_id = 'forest') WHERE hunt_id = 'harbour'";
        assert_eq!(store.execute(sql, []).expect("changed"), 1);
    });
    fs::write(&damaged, site.text("changed", TIMED)).expect("written");
    let done = explain(&damaged, &["harbour", "points"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let path = damaged.display();
    let end = format!(
        "points: the saved view says 1, the log gives 22\n`huntline verify --hunt harbour --config {path}` says from which record on it can differ\n"
    );
    assert!(done.out.ends_with(&end), "{done:?}");

    // The log forgets the first event: its second coming is no duplicate any more, and nothing can be compared.
    site.appended.trim(1, huntline::position::Position(1)).expect("trimmed");
    let done = explain(&config, &["harbour", "points"]);
    assert_eq!(done.code, Some(3), "{done:?}");
    for sentence in [
        "hunt-events/1 from 1 up to 10, where the store stands\n",
        "hunt-events/1/2  e1  clue.solved  2026-05-01T10:00:00Z  10       15     applied\n",
        "hunt-events/1: the log no longer has the records below 1: what is shown is folded from there on alone\n",
        "not compared with the saved view: the log has the records of hunt-events/1 from 1 on only\n",
    ] {
        assert!(done.out.contains(sentence), "{sentence:?} in {done:?}");
    }
}

#[test]
fn explain_names_where_a_lagging_hunt_stands_and_what_it_holds() {
    let mut site = Site::new("explain-lagging");
    let records: Vec<_> = (0..4)
        .map(|n| ("harbour", n, event(&format!("e{n}"), "clue.solved", &format!("10:00:0{n}"), r#"{"points":1}"#)))
        .collect();
    site.append_all(&records[..2]);
    site.built("base", TIMED);
    site.append_all(&records[2..]);
    let config = site.damaged("lagging", |store| {
        let sql = "UPDATE partitions SET position = 4, records = 4, held = 2 WHERE partition = 1;
                   UPDATE partials SET lagging = 1, position = 2, held = 2, reasons = 2;";
        store.execute_batch(sql).expect("changed");
    });
    fs::write(&config, site.text("lagging", TIMED)).expect("written");
    let done = explain(&config, &["harbour", "points", "--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let (lines, summary) = lines(&done);
    let outcomes: Vec<&Value> = lines.iter().map(|line| &line["outcome"]).collect();
    assert_eq!(outcomes, ["applied", "applied", "held", "held"]);
    assert_eq!((&summary["held"], &summary["same"]), (&Value::from(2), &Value::from(true)), "{summary}");
    let part = &summary["partitions"][0];
    assert_eq!((&part["position"], &part["lagging"]), (&Value::from(2), &Value::from(true)), "{summary}");
}

/// Of every hunt: exactly its records are listed, with the outcomes that the store counted, and what they added makes its view.
#[test]
fn what_is_explained_of_all_hunts_is_all_that_the_store_counted() {
    let mut site = Site::new("explain-all");
    site.append(2_000);
    let aggregates = format!("{BEFORE}{ADDED}");
    site.built("base", &aggregates);
    let config = site.config("base", &aggregates);
    let store = rusqlite::Connection::open(site.store("base")).expect("the store");
    let sql = "SELECT hunt_id FROM hunts UNION SELECT hunt_id FROM dead_letters WHERE hunt_id IS NOT NULL";
    let mut read = store.prepare(sql).expect("the relations");
    let hunts: Vec<String> = read.query_map([], |row| row.get(0)).expect("rows").collect::<Result<_, _>>().expect("rows");
    let views = site.views("base");
    let mut counted: BTreeMap<&str, i64> = BTreeMap::new();
    for hunt in &hunts {
        let done = explain(&config, &["--json", "--limit", "0", "--", hunt]);
        assert_eq!(done.code, Some(0), "{hunt:?}: {done:?}");
        let (lines, summary) = lines(&done);
        assert_eq!(summary["same"], true, "{hunt:?}: {summary}");
        let mut added: BTreeMap<&str, i64> = BTreeMap::new();
        let mut whole = true;
        for line in &lines {
            let outcome = ["applied", "duplicate", "dead_lettered"].into_iter().find(|outcome| line["outcome"] == *outcome);
            *counted.entry(outcome.expect("an outcome")).or_default() += 1;
            assert_eq!(line["reason"].is_string(), outcome == Some("dead_lettered"), "{line}");
            let contributions = line["contributions"].as_array().map_or(&[][..], Vec::as_slice);
            let late = contributions.iter().any(|added| added["late"].is_array());
            *counted.entry("late").or_default() += i64::from(late);
            for contribution in contributions {
                let name = contribution["aggregate"].as_str().expect("a name");
                match &contribution["adds"] {
                    Value::Null => {}
                    number if number.is_i64() => {
                        let sum = added.entry(name).or_default();
                        *sum = sum.saturating_add(number.as_i64().unwrap_or_default());
                    }
                    _ => whole &= name != "points",
                }
            }
        }
        let Some(view) = views.get(hunt) else { continue };
        let view: Value = serde_json::from_str(view).expect("a view");
        for name in ["events", "zz_solved", "handed_out"] {
            assert_eq!(view[name], added.get(name).copied().unwrap_or_default(), "{hunt:?}: {name}");
            assert_eq!(summary["aggregates"][name]["records"], view[name], "{hunt:?}: {name}");
        }
        if whole && view["points"].is_i64() {
            assert_eq!(view["points"], added.get("points").copied().unwrap_or_default(), "{hunt:?}");
        }
    }
    for column in ["applied", "duplicate", "late"] {
        let sum: i64 = store.query_row(&format!("SELECT sum({column}) FROM partitions"), [], |row| row.get(0)).expect("a number");
        assert_eq!(counted.get(column).copied().unwrap_or_default(), sum, "{column}");
        assert!(sum > 0, "no record was {column}");
    }
    let sql = "SELECT count(*) FROM dead_letters WHERE hunt_id IS NOT NULL";
    let letters: i64 = store.query_row(sql, [], |row| row.get(0)).expect("a number");
    assert_eq!(counted.get("dead_lettered").copied(), Some(letters).filter(|letters| *letters > 0));
}
