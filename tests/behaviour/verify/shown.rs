//! **What readers are shown** and **dead letters**, damaged one by one while every state stays what it is: `verify` names each, and finds
//! nothing once it is put back.

use super::*;

/// A hunt of one partition alone; all others wander.
const ALONE: &str = "harbour";

/// A store that a daemon built, as another program reaches it.
enum Reached<'a> {
    Sqlite(&'a Path),
    Postgres(&'a str),
}

impl Reached<'_> {
    /// `sql` names relations without a schema.
    #[track_caller]
    fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        match self {
            Reached::Postgres(url) => {
                let rows = postgres::query(url, &format!("SET search_path = huntline; {sql}"));
                rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
            }
            Reached::Sqlite(path) => {
                let store = rusqlite::Connection::open(path).expect("the store");
                let mut read = store.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
                let width = read.column_count();
                let cell = |row: &rusqlite::Row<'_>, at| {
                    Ok(match row.get(at)? {
                        rusqlite::types::Value::Null => None,
                        rusqlite::types::Value::Integer(number) => Some(number.to_string()),
                        rusqlite::types::Value::Text(text) => Some(text),
                        other => panic!("{other:?}"),
                    })
                };
                let rows = read.query_map([], |row| (0..width).map(|at| cell(row, at)).collect()).expect("rows");
                rows.map(|row| row.expect("a row")).collect()
            }
        }
    }

    /// The cells of the one row there is.
    #[track_caller]
    fn row(&self, sql: &str) -> Vec<String> {
        let rows = self.rows(sql);
        assert_eq!(rows.len(), 1, "{sql}");
        rows[0].iter().map(|cell| cell.clone().unwrap_or_default()).collect()
    }

    #[track_caller]
    fn change(&self, sql: &str) {
        match self {
            Reached::Postgres(_) => drop(self.rows(sql)),
            Reached::Sqlite(path) => {
                rusqlite::Connection::open(path)
                    .and_then(|store| store.execute_batch(sql))
                    .unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
        }
    }

    fn is_sqlite(&self) -> bool {
        matches!(self, Reached::Sqlite(_))
    }
}

/// Damages the store, sees that just these sentences are said, and puts it back.
#[track_caller]
fn finds(store: &Reached, config: &Path, relation: &str, damage: &str, sentences: &[&str]) -> Done {
    store.change(&format!("DROP TABLE IF EXISTS put_aside; CREATE TABLE put_aside AS SELECT * FROM {relation}"));
    store.change(damage);
    let done = verify(config);
    differs(&done, sentences);
    let said = done.out.lines().filter(|line| line.contains(": stored ")).count();
    assert_eq!(said, sentences.len(), "{damage}: {done:?}");
    store.change(&format!("DELETE FROM {relation}; INSERT INTO {relation} SELECT * FROM put_aside; DROP TABLE put_aside"));
    let healed = verify(config);
    assert_eq!(healed.code, Some(0), "{damage}: {healed:?}");
    done
}

impl Site {
    fn append_alone(&mut self) {
        let solved = |n: i64| (ALONE, n * 10, explain::event(&format!("e{n}"), "clue.solved", "10:00:00", r#"{"points":10}"#));
        self.append_all(&[solved(1), solved(2), solved(3), solved(4)]);
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Every damage, on whichever store; `count` is an aggregate of kind `count` in the definitions.
fn every_damage_is_found(store: &Reached, config: &Path, count: &str) {
    let healthy = verify(config);
    assert_eq!(healthy.code, Some(0), "{healthy:?}");

    // A hunt of one partition: its row of `hunts` is its partial's.
    let alone = format!("SELECT topic, partition, hunt_id, events FROM partials WHERE NOT shared AND hunt_id = '{ALONE}'");
    let [topic, partition, hunt, events] = &store.row(&alone)[..] else { panic!() };
    let at = format!("topic = '{topic}' AND partition = {partition} AND hunt_id = {}", quoted(hunt));
    let of = format!("{topic}/{partition}: hunt {hunt:?}");
    let plus_one = |column: &str| match store.is_sqlite() {
        true => format!("json_set({column}, '$.{count}', json_extract({column}, '$.{count}') + 1)"),
        false => format!("jsonb_set({column}, '{{{count}}}', to_jsonb(({column} ->> '{count}')::bigint + 1))"),
    };
    let value = |relation: &str, hunt: &str| {
        let sql = format!("SELECT view ->> '{count}' FROM {relation} WHERE hunt_id = {}", quoted(hunt));
        store.row(&sql)[0].parse::<i64>().expect("a count")
    };
    let number = value("partials", hunt);
    let sentence = format!("{of}: aggregate {count} of partials.view: stored {}, recomputed {number}\n", number + 1);
    let changed = format!("UPDATE partials SET view = {} WHERE {at}", plus_one("view"));
    finds(store, config, "partials", &changed, &[&sentence]);
    // The same number in other digits is no damage, another one that a float could not tell from it is.
    let respelt = |number: &str| match store.is_sqlite() {
        true => format!("UPDATE partials SET view = json_set(view, '$.points', json('{number}')) WHERE {at}"),
        false => format!("UPDATE partials SET view = jsonb_set(view, '{{points}}', '{number}') WHERE {at}"),
    };
    store.change(&respelt("40.00"));
    assert_eq!(verify(config).code, Some(0));
    for number in ["40.00000000000000000001", "1e400"] {
        let sentence = format!("{of}: aggregate points of partials.view: stored ");
        finds(store, config, "partials", &respelt(number), &[&sentence]);
    }
    store.change(&respelt("40"));
    let shown = {
        store.change(&format!("UPDATE partials SET events = events + 1 WHERE {at}"));
        let done = huntline(&["verify", "--json", "--hunt", hunt, "--config", config.to_str().expect("UTF-8")]);
        let sound = store.row(&format!("SELECT hunt_id FROM hunts WHERE hunt_id <> {} ORDER BY hunt_id LIMIT 1", quoted(hunt)));
        let other = huntline(&["verify", "--hunt", &sound[0], "--config", config.to_str().expect("UTF-8")]);
        assert_eq!(other.code, Some(0), "{other:?}");
        store.change(&format!("UPDATE partials SET events = events - 1 WHERE {at}"));
        done
    };
    let report: Value = serde_json::from_str(&shown.out).expect("one object");
    assert_eq!((shown.code, report["hunts"].as_i64()), (Some(1), Some(1)), "{shown:?}");
    let events: i64 = events.parse().expect("a number");
    let expected = serde_json::json!([{"topic": topic, "partition": partition.parse::<i32>().expect("a number"), "hunt_id": hunt,
        "what": "partials.events", "stored": (events + 1).to_string(), "recomputed": events.to_string()}]);
    assert_eq!(report["differences"], expected);

    let time = if store.is_sqlite() { "'2001-01-01T00:00:00.000000Z'" } else { "timestamptz '2001-01-01T00:00:00Z'" };
    for column in ["first_event_at", "last_event_at"] {
        let sentence = format!("{of}: partials.{column}: stored 2001-01-01T00:00:00Z, recomputed ");
        finds(store, config, "partials", &format!("UPDATE partials SET {column} = {time} WHERE {at}"), &[&sentence]);
    }
    // What moves the hunt clock moves the watermark.
    let clock = [format!("{of}: partials.hunt_clock: stored "), format!("hunt {hunt:?}: hunts.watermark: stored ")];
    let damage = format!("UPDATE partials SET hunt_clock = hunt_clock + 86400000000 WHERE {at}");
    finds(store, config, "partials", &damage, &[&clock[0], &clock[1]]);
    // The floor lies below the watermark, which therefore stands.
    for column in ["partition_clock", "watermark_floor"] {
        let sentence = format!("{of}: partials.{column}: stored ");
        finds(store, config, "partials", &format!("UPDATE partials SET {column} = {column} - 7 WHERE {at}"), &[&sentence]);
    }

    // A hunt of several partitions has a merged row.
    let several = "SELECT hunt_id, events FROM shared_hunts WHERE events > 3 ORDER BY hunt_id LIMIT 1";
    let [hunt, events] = &store.row(several)[..] else { panic!() };
    let at = format!("hunt_id = {}", quoted(hunt));
    let number = value("hunts", hunt);
    let sentence = format!("hunt {hunt:?}: aggregate {count} of hunts.view: stored {}, recomputed {number}\n", number + 1);
    let changed = format!("UPDATE shared_hunts SET view = {} WHERE {at}", plus_one("view"));
    let done = finds(store, config, "shared_hunts", &changed, &[&sentence]);
    assert!(done.out.starts_with("hunt "), "{done:?}");
    let events: i64 = events.parse().expect("a number");
    let sentence = format!("hunt {hunt:?}: hunts.events: stored {}, recomputed {events}\n", events - 1);
    finds(store, config, "shared_hunts", &format!("UPDATE shared_hunts SET events = events - 1 WHERE {at}"), &[&sentence]);
    let sentence = format!("hunt {hunt:?}: hunts.last_event_at: stored none, recomputed ");
    finds(store, config, "shared_hunts", &format!("UPDATE shared_hunts SET last_event_at = NULL WHERE {at}"), &[&sentence]);
    let sentence = format!("hunt {hunt:?}: row of hunts: stored none, recomputed {{");
    finds(store, config, "shared_hunts", &format!("DELETE FROM shared_hunts WHERE {at}"), &[&sentence]);
    let damage = format!(
        "INSERT INTO shared_hunts (hunt_id, events, updated_at) SELECT 'zz-never', 4, updated_at FROM shared_hunts WHERE {at}"
    );
    finds(store, config, "shared_hunts", &damage, &["hunt \"zz-never\": row of hunts: stored 4 events, recomputed none\n"]);

    let letter = r#"SELECT topic, partition, "offset", hunt_id, reason FROM dead_letters WHERE reason = 'no_type' AND hunt_id IS NOT NULL AND key IS NOT NULL
                    ORDER BY topic, partition, "offset" LIMIT 1"#;
    let [topic, partition, offset, hunt, _] = &store.row(letter)[..] else { panic!() };
    let at = format!(r#"topic = '{topic}' AND partition = {partition} AND "offset" = {offset}"#);
    let of = format!("{topic}/{partition}: hunt {hunt:?}: dead letter {offset}");
    let other = if store.is_sqlite() { "x'00ff'" } else { r"'\x00ff'" };
    for (damage, sentence) in [
        (format!("DELETE FROM dead_letters WHERE {at}"), ": stored none, recomputed no_type with value SHA-256 "),
        (format!("UPDATE dead_letters SET reason = 'bad_time' WHERE {at}"), ": reason: stored bad_time, recomputed no_type\n"),
        (format!("UPDATE dead_letters SET value = {other} WHERE {at}"), ": value: stored SHA-256 "),
        (format!("UPDATE dead_letters SET key = NULL WHERE {at}"), ": key: stored null, recomputed SHA-256 "),
        (format!("UPDATE dead_letters SET hunt_id = NULL WHERE {at}"), ": hunt_id: stored none, recomputed \""),
    ] {
        finds(store, config, "dead_letters", &damage, &[&format!("{of}{sentence}")]);
    }
    // What an operator may do to it is no damage.
    store.change(&format!("UPDATE dead_letters SET state = 'discarded' WHERE {at}"));
    assert_eq!(verify(config).code, Some(0));
    store.change(&format!("UPDATE dead_letters SET state = 'rejected' WHERE {at}"));

    // Of a value that is too large so much is kept, and no more is compared.
    let large = r#"SELECT topic, partition, "offset" FROM dead_letters WHERE reason = 'too_large' ORDER BY 1, 2, 3 LIMIT 1"#;
    assert_eq!(store.rows(large).len(), 1);
    // A record that was applied has no letter.
    let free = format!(
        r#"SELECT max("offset") + 1 FROM dead_letters l WHERE topic = '{topic}' AND partition = {partition}
           AND NOT EXISTS (SELECT 1 FROM dead_letters n WHERE n.topic = l.topic AND n.partition = l.partition AND n."offset" = l."offset" + 1)
           AND "offset" + 1 < (SELECT position FROM partitions p WHERE p.topic = l.topic AND p.partition = l.partition)"#
    );
    let free = store.row(&free).remove(0);
    let added = format!(
        r#"INSERT INTO dead_letters (topic, partition, "offset", hunt_id, reason, detail, headers, failed_at)
           SELECT topic, partition, {free}, hunt_id, reason, detail, headers, failed_at FROM dead_letters WHERE {at}"#
    );
    let sentence = format!(
        "{topic}/{partition}: hunt {hunt:?}: dead letter {free}: stored no_type with value null, recomputed none: the log gives none there\n"
    );
    finds(store, config, "dead_letters", &added, &[&sentence]);
}

#[test]
fn on_sqlite_what_readers_are_shown_and_dead_letters_are_verified() {
    let mut site = Site::new("shown");
    site.append(4_000);
    site.append_alone();
    site.built("base", BEFORE);
    let path = site.store("base");
    let config = site.config("base", BEFORE);
    let store = Reached::Sqlite(&path);
    every_damage_is_found(&store, &config, "zz_solved");

    // A letter that an operator settled may go in time, but only where the configuration gives it one.
    let row = store.row(r#"SELECT topic, partition, "offset" FROM dead_letters ORDER BY 1, 2, 3 LIMIT 1"#);
    let [topic, partition, offset] = &row[..] else { panic!() };
    store.change(&format!(
        r#"DELETE FROM dead_letters WHERE topic = '{topic}' AND partition = {partition} AND "offset" = {offset};
           INSERT INTO acts (topic, partition, "offset", act, asked_at, done_at)
           VALUES ('{topic}', {partition}, {offset}, 'discard', '2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:01.000000Z')"#
    ));
    differs(&verify(&config), &[&format!("dead letter {offset}: stored none"), "1 difference\n"]);
    let limited = site.config("base", &format!("[dead_letters]\nkeep = \"1h\"\n{BEFORE}"));
    assert_eq!(verify(&limited).code, Some(0));
    store.change("DELETE FROM acts");
    differs(&verify(&limited), &[&format!("dead letter {offset}: stored none"), "1 difference\n"]);
}

#[test]
fn on_postgres_what_readers_are_shown_and_dead_letters_are_verified() {
    let mut site = Site::new("shown-postgres");
    site.append(4_000);
    site.append_alone();
    let url = postgres::shared().create_database();
    let sqlite = format!("sqlite:{}", site.store("base").display());
    let text = site.text("base", BEFORE).replace(&sqlite, &url);
    assert!(text.contains(&url), "{text}");
    let mut daemon = Daemon::start(&text);
    let store = Reached::Postgres(&url);
    await_until(PATIENCE, "everything appended is saved", || {
        let sql = "SELECT sum(records), (SELECT count(*) FROM partials WHERE lagging) FROM partitions";
        let row = store.row(sql);
        if row == [site.count.to_string(), "0".to_owned()] { Ok(()) } else { Err(format!("{row:?}")) }
    });
    assert_eq!(daemon.sigterm(), Some(0), "{}", daemon.output());
    let config = site.scratch.join("postgres.toml");
    fs::write(&config, &text).expect("written");
    every_damage_is_found(&store, &config, "zz_solved");
}
