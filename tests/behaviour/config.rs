//! Configuration through its public doors: every class of mistake with its exact message, all of
//! them at once, the defaults as documented, and no secret anywhere.

use huntline::config::{self, Loaded, OnGap, Policy, Problems, Start, StoreUrl};
use huntline::definitions::{Kind, Place, Pointer, Shape};
use std::collections::BTreeSet;
use std::time::Duration;

fn file(text: &str) -> Result<Loaded, Problems> {
    config::load_from(&[("h.toml".into(), text.into())], [])
}

fn variables(pairs: &[(&str, &str)]) -> Result<Loaded, Problems> {
    config::load_from(&[], pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn loaded(text: &str) -> Loaded {
    file(text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Problems without their excerpts.
fn lines(result: Result<Loaded, Problems>) -> Vec<String> {
    let problems = result.expect_err("problems").0;
    problems.iter().map(|p| p.to_string().lines().next().unwrap_or_default().to_owned()).collect()
}

fn pointer(tokens: &[&str]) -> Pointer {
    Pointer(tokens.iter().map(|token| (*token).to_owned()).collect())
}

#[test]
fn without_a_word_every_default_is_the_documented_one() {
    let settings = loaded("").settings;
    let kafka = settings.kafka.expect("kafka");
    assert_eq!(kafka.brokers, ["localhost:9092"]);
    assert_eq!(kafka.group, "huntline");
    assert_eq!(kafka.topics, ["hunt-events"]);
    assert_eq!((kafka.start, kafka.on_gap), (Start::Beginning, OnGap::Halt));
    assert_eq!((kafka.instance, kafka.sasl_password), (None, None));
    assert_eq!(kafka.librdkafka.0.into_iter().collect::<Vec<_>>(), [("security.protocol".to_owned(), "plaintext".to_owned())]);
    assert_eq!(settings.embedded_log, None);
    assert_eq!(settings.store, StoreUrl::Postgres { url: "postgres://huntline@localhost/huntline".into(), password: None });
    assert_eq!((settings.snapshot.interval, settings.snapshot.max_pending), (Duration::from_secs(5), 256 << 20));
    assert_eq!(settings.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.http.advertise, "http://127.0.0.1:8080");
    assert!(!settings.http.insecure && settings.http.read_tokens.is_empty() && settings.http.admin_tokens.is_empty());
    assert_eq!((settings.failure.policy, settings.failure.max_state), (Policy::DeadLetter, 8 << 20));
    assert_eq!((settings.failure.breaker.records, settings.failure.breaker.share), (1000, 0.5));
    assert_eq!(settings.passivate_idle, Duration::from_secs(600));
    assert_eq!(settings.dead_letters_keep, None);
    assert_eq!((settings.logging.level, settings.logging.format), (config::Level::Info, config::Format::Text));
    let definitions = settings.definitions;
    assert_eq!(definitions.event.hunt, Place::Key);
    assert_eq!(definitions.event.id, [Place::Value(pointer(&["id"]))]);
    assert_eq!(definitions.event.event_type, Place::Value(pointer(&["type"])));
    assert_eq!(definitions.event.time, Some(Place::Value(pointer(&["time"]))));
    assert_eq!(definitions.event.max_bytes, 1 << 20);
    assert_eq!(definitions.dedup_last, 32);
    assert_eq!(definitions.time.lateness, 60_000_000);
    assert_eq!((definitions.time.idle, definitions.time.max_ahead), (Some(3_600_000_000), Some(300_000_000)));
    assert!(definitions.topics.is_empty() && definitions.aggregates.is_empty() && definitions.rollup.is_empty());
}

/// The keys of the schema, by the name of their last table, without what users name themselves.
fn schema_keys(schema: &serde_json::Value, into: &mut BTreeSet<String>) {
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let is_table = inner["type"] == "object";
        if !is_table {
            into.insert(key.clone());
        }
        schema_keys(inner, into);
        schema_keys(&inner["additionalProperties"], into);
    }
}

#[test]
fn every_key_stands_in_the_defaults_with_a_comment() {
    let mut keys = BTreeSet::new();
    schema_keys(&serde_json::from_str(&config::schema_json()).expect("JSON"), &mut keys);
    assert!(keys.len() > 45, "{keys:?}");
    let mut documented = BTreeSet::new();
    let mut above = "";
    for line in config::DEFAULTS.lines() {
        let bare = line.strip_prefix('#').unwrap_or(line);
        if bare.starts_with('[') {
            assert!(above.starts_with("# "), "{line} has no comment above it");
        } else if let Some((key, rest)) = bare.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            let comment = rest.rsplit_once(" # ").map(|(_, comment)| comment.trim()).unwrap_or_default();
            assert!(comment.len() > 3 || key == "hunt", "{line} has no comment");
            documented.insert(key.trim_matches('"').to_owned());
        }
        above = line;
    }
    let missing: Vec<_> = keys.difference(&documented).collect();
    assert!(missing.is_empty(), "default.toml lacks {missing:?}");
}

#[test]
fn what_the_defaults_show_without_setting_can_be_set() {
    // Every commented key of default.toml is one the schema knows.
    let mut text = String::new();
    for line in config::DEFAULTS.lines() {
        match line.strip_prefix('#') {
            Some(bare) if bare.starts_with('[') || bare.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => {
                text += bare
            }
            _ => text += line,
        }
        text.push('\n');
    }
    let problems = lines(file(&text));
    assert!(!problems.iter().any(|p| p.contains("unknown key") || p.contains("syntax")), "{problems:#?}");
}

#[test]
fn the_treasure_hunt_pipeline_loads() {
    let text = include_str!("../../config/huntline.toml");
    let definitions = loaded(text).settings.definitions;
    let names: Vec<_> = definitions.aggregates.iter().map(|a| a.name.as_str()).collect();
    assert!(names.is_sorted() && names.len() >= 8, "{names:?}");
    let kinds: BTreeSet<_> = definitions.aggregates.iter().map(|a| a.kind.name()).collect();
    let all = ["count", "sum", "min", "max", "mean", "first", "last", "distinct", "top", "quantiles", "funnel"];
    assert_eq!(kinds, BTreeSet::from(all));
    let windowed = |shape: fn(&Shape) -> bool| {
        definitions.aggregates.iter().filter_map(|a| a.window.as_ref()).any(|window| shape(&window.shape))
    };
    assert!(windowed(|shape| matches!(shape, Shape::Tumbling { .. })));
    assert!(windowed(|shape| matches!(shape, Shape::Hopping { .. })));
    assert!(windowed(|shape| matches!(shape, Shape::Session { .. })));
    assert!(!definitions.rollup.is_empty());
}

#[test]
fn a_later_layer_counts() {
    let files = [
        ("a".to_owned(), "[time]\nlateness = \"2m\"\nidle = \"2h\"\n".to_owned()),
        ("b".to_owned(), "time.lateness = \"3m\"".to_owned()),
    ];
    let set = [
        ("HUNTLINE__STORE__URL", "sqlite:x.db"),
        ("HUNTLINE__KAFKA__BROKERS", "a:1, b:2"),
        ("HUNTLINE__KAFKA__LIBRDKAFKA__CLIENT__RACK", "east"),
        ("OTHER", "x"),
    ];
    let settings = config::load_from(&files, set.map(|(n, v)| (n.to_owned(), v.to_owned()))).expect("settings").settings;
    assert_eq!((settings.definitions.time.lateness, settings.definitions.time.idle), (180_000_000, Some(7_200_000_000)));
    assert_eq!(settings.store, StoreUrl::Sqlite { path: "x.db".into() });
    let kafka = settings.kafka.expect("kafka");
    assert_eq!(kafka.brokers, ["a:1", "b:2"]);
    assert_eq!(kafka.librdkafka.0.get("client.rack").map(String::as_str), Some("east"));
}

#[test]
fn a_problem_shows_its_line_and_its_place() {
    let text = "[time]\n  latenes = \"1m\"\n\n[kafka]\nstart = \"begining\"\n";
    let problems = file(text).expect_err("problems");
    assert_eq!(
        problems.to_string(),
        "h.toml:2:3: time.latenes: found an unknown key, expected idle, lateness or max_ahead; did you mean `lateness`?\n\
         \x20   latenes = \"1m\"\n\
         \x20   ^^^^^^^\n\
         h.toml:5:9: kafka.start: found \"begining\", expected \"beginning\", \"end\" or an RFC 3339 time such as \"2026-01-01T00:00:00Z\"; did you mean `beginning`?\n\
         \x20 start = \"begining\"\n\
         \x20         ^^^^^^^^^^\n\
         2 problems"
    );
}

#[test]
fn syntax_errors_have_a_place_too() {
    let problems = file("[time]\nlateness = 1m\n").expect_err("problems").to_string();
    assert!(problems.starts_with("h.toml:2:"), "{problems}");
    assert!(problems.contains(": syntax: found ") && problems.contains("\n  lateness = 1m\n"), "{problems}");
    let twice = file("[time]\nidle = \"1h\"\nidle = \"2h\"\n").expect_err("problems").to_string();
    assert!(twice.starts_with("h.toml:3:1: syntax: found duplicate key, expected "), "{twice}");
}

#[test]
fn each_mistake_has_its_message() {
    let duration = "a duration such as \"500ms\", \"5s\" or \"1h30m\" (units ms s m h d)";
    for (text, message) in [
        (
            "kafak = 1",
            "1:1: kafak: found an unknown key, expected aggregates, dead_letters, dedup, embedded_log, event, failure, http, kafka, logging, passivate, rollup, snapshot, store, time or topic; did you mean `kafka`?",
        ),
        ("kafka = 1", "1:9: kafka: found 1, expected a table"),
        ("kafka.brokers = []", "1:17: kafka.brokers: found an empty list, expected at least one broker"),
        ("kafka.brokers = [\"a:1\", \"b\"]", "1:25: kafka.brokers[1]: found \"b\", expected host:port"),
        ("kafka.topics = \"a\"", "1:16: kafka.topics: found \"a\", expected a list of strings"),
        ("kafka.topics = [\"a\", 5]", "1:22: kafka.topics[1]: found 5, expected a string"),
        (
            "kafka.topics = [\"a b\"]",
            "1:17: kafka.topics[0]: found \"a b\", expected a topic's name: 1 to 249 of a-z A-Z 0-9 . _ -",
        ),
        ("kafka.topics = [\"a\", \"a\"]", "1:22: kafka.topics[1]: found \"a\" twice, expected each topic once"),
        ("kafka.on_gap = \"stop\"", "1:16: kafka.on_gap: found \"stop\", expected \"halt\" or \"continue\""),
        (
            "store.url = \"mysql://h/d\"",
            "1:13: store.url: found \"mysql://h/d\", expected a URL such as \"postgres://user@host/database\" or \"sqlite:huntline.db\"",
        ),
        (
            "store.password_file = \"/nowhere/at/all\"",
            "1:23: store.password_file: found \"/nowhere/at/all\" (no such file), expected a file that can be read",
        ),
        (
            "snapshot.interval = 5",
            "1:21: snapshot.interval: found 5, expected a duration such as \"500ms\", \"5s\" or \"1h30m\" (units ms s m h d)",
        ),
        ("snapshot.interval = \"5 s\"", &format!("1:21: snapshot.interval: found \"5 s\", expected {duration}")),
        ("snapshot.interval = \"0s\"", "1:21: snapshot.interval: found \"0s\", expected at least 10ms"),
        ("time.lateness = \"40000d\"", "1:17: time.lateness: found \"40000d\", expected at most 36525d"),
        (
            "time.idle = \"nevr\"",
            &format!("1:13: time.idle: found \"nevr\", expected \"never\" or {duration}; did you mean `never`?"),
        ),
        (
            "snapshot.max_pending = \"1 gig\"",
            "1:24: snapshot.max_pending: found \"1 gig\", expected a size such as \"64KiB\", \"8MiB\" or \"1GB\" (units B KB MB GB KiB MiB GiB)",
        ),
        ("failure.max_state = \"1B\"", "1:21: failure.max_state: found \"1B\", expected between 1KiB and 512MiB"),
        ("failure.breaker.share = 1.5", "1:25: failure.breaker.share: found 1.5, expected a share above 0 and at most 1"),
        ("failure.breaker.records = 0", "1:27: failure.breaker.records: found 0, expected an integer between 1 and 1000000"),
        (
            "http.listen = \"0.0.0.0:8080\"",
            "1:15: http.listen: found \"0.0.0.0:8080\", which others can reach, expected tokens in [http.auth], insecure = true, or a loopback address",
        ),
        (
            "http.listen = \"8080\"",
            "1:15: http.listen: found \"8080\", expected address:port such as \"127.0.0.1:8080\" or \"0.0.0.0:8080\"",
        ),
        ("http.advertise = \"me\"", "1:18: http.advertise: found \"me\", expected a URL such as \"http://10.0.0.5:8080\""),
        ("http.insecure = \"yes\"", "1:17: http.insecure: found \"yes\", expected true or false"),
        (
            "event.hunt = \"hunt_id\"",
            "1:14: event.hunt: found \"hunt_id\", expected \"key\", \"header:NAME\" or a JSON pointer such as \"/data/id\"",
        ),
        (
            "event.time = \"timestap\"",
            "1:14: event.time: found \"timestap\", expected \"timestamp\", \"key\", \"header:NAME\" or a JSON pointer such as \"/data/id\"; did you mean `timestamp`?",
        ),
        ("event.id = [\"/source\", \"/a~2\"]", "1:27: event.id[1]: found a lone ~, expected ~0 for a tilde, ~1 for a slash"),
        (
            "topic.hunt-event.event.hunt = \"key\"",
            "1:7: topic.hunt-event: found a topic that is not read (\"hunt-event\"), expected one of [kafka] topics; did you mean `hunt-events`?",
        ),
        ("dedup.last = -1", "1:14: dedup.last: found -1, expected an integer between 0 and 65536"),
        (
            "logging.level = \"inf\"",
            "1:17: logging.level: found \"inf\", expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\"; did you mean `info`?",
        ),
        (
            "failure.policy = \"park\"",
            "1:18: failure.policy: found \"park\", expected \"dead_letter\": this version does not park yet",
        ),
        (
            "embedded_log.path = \"e.db\"\nkafka.group = \"g\"",
            "2:1: kafka: found [kafka] beside [embedded_log], expected one of the two",
        ),
        ("embedded_log.partitions = 4", "1:1: embedded_log.path: found nothing, expected the path of the log's file"),
        (
            "aggregates.Points.kind = \"count\"",
            "1:12: aggregates.Points: found the name \"Points\", expected a name of a-z, 0-9 and _ that begins with a letter, at most 63 long",
        ),
        (
            "aggregates.hunt_id.kind = \"count\"",
            "1:12: aggregates.hunt_id: found the name \"hunt_id\", expected another name: hunt_summary has a column hunt_id",
        ),
        (
            "aggregates.a.kind = \"cuont\"",
            "1:21: aggregates.a.kind: found \"cuont\", expected \"count\", \"sum\", \"min\", \"max\", \"mean\", \"first\", \"last\", \"distinct\", \"top\", \"quantiles\" or \"funnel\"; did you mean `count`?",
        ),
        (
            "[aggregates.a]\non = \"x\"",
            "1:1: aggregates.a.kind: found nothing, expected count, sum, min, max, mean, first, last, distinct, top, quantiles or funnel",
        ),
        (
            "[aggregates.a]\nkind = \"sum\"",
            "1:1: aggregates.a.of: found nothing, expected the member that kind \"sum\" reads, such as \"/data/points\"",
        ),
        (
            "[aggregates.a]\nkind = \"count\"\nof = \"/data\"",
            "3:1: aggregates.a.of: found a key that kind \"count\" does not take, expected on, where or window",
        ),
        (
            "[aggregates.a]\nkind = \"sum\"\nof = \"data.points\"",
            "3:6: aggregates.a.of: found \"data.points\", expected a JSON pointer such as \"/data/points\"; did you mean `/data/points`?",
        ),
        (
            "[aggregates.a]\nkind = \"count\"\non = []",
            "3:6: aggregates.a.on: found an empty list, expected at least one type or glob; leave the key out for every event",
        ),
        (
            "[aggregates.a]\nkind = \"count\"\non = [\"x\", \"\"]",
            "3:12: aggregates.a.on[1]: found \"\", expected an event type or a glob such as \"clue.*\"",
        ),
        ("rollup.aggregates = [\"a\"]", "1:22: rollup.aggregates[0]: found \"a\", expected the name of an aggregate"),
    ] {
        let found = lines(file(text));
        assert!(
            found.iter().any(|line| line.strip_prefix("h.toml:") == Some(message)),
            "{text}\nexpected {message}\nfound {found:#?}"
        );
        assert!(found.len() == 1, "{text}\n{found:#?}");
    }
}

#[test]
fn properties_that_would_break_the_fold_are_refused_by_name() {
    for name in [
        "enable.auto.commit",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "isolation.level",
        "check.crcs",
        "partition.assignment.strategy",
        "enable.partition.eof",
        "group.id",
        "group.instance.id",
        "bootstrap.servers",
        "metadata.broker.list",
        "group.protocol",
        "max.poll.interval.ms",
        "topic.metadata.refresh.interval.ms",
        "allow.auto.create.topics",
        "plugin.library.paths",
    ] {
        let found = lines(file(&format!("[kafka.librdkafka]\n{name:?} = \"x\"")));
        let start =
            format!("h.toml:2:1: kafka.librdkafka.{name:?}: found {name}, which would break huntline's reading, expected ");
        assert!(found.len() == 1 && found[0].starts_with(&start), "{found:?}");
    }
    assert!(
        file("[kafka.librdkafka]\n\"fetch.wait.max.ms\" = 50\n\"client.rack\" = \"a\"\n\"socket.keepalive.enable\" = true")
            .is_ok()
    );
}

#[test]
fn a_predicate_that_is_the_same_for_every_event_is_refused() {
    for (predicate, column, found) in [
        ("\"a\" < 3", 12, "`\"a\" < 3`, the same for every event"),
        ("1 == 1", 12, "`1 == 1`, the same for every event"),
        ("data.points > 0 && 'x' in ['x']", 31, "`'x' in ['x']`, the same for every event"),
        ("true", 12, "`true`, which reads nothing of the event"),
    ] {
        let found = format!("h.toml:3:{column}: aggregates.a.where: found {found}, expected a member of the event");
        let lines = lines(file(&format!("[aggregates.a]\nkind = \"count\"\nwhere = '''{predicate}'''\n")));
        assert!(lines.len() == 1 && lines[0].starts_with(&found), "{lines:?}");
    }
    for predicate in ["data.flag", "data[\"x-y\"]", "!data.flag || data[\"x-y\"] == 1"] {
        assert!(file(&format!("[aggregates.a]\nkind = \"count\"\nwhere = '{predicate}'\n")).is_ok(), "{predicate}");
    }
}

#[test]
fn a_number_where_a_duration_belongs_is_told_the_key_s_own_word() {
    for (key, word) in [("time.idle", "never"), ("time.max_ahead", "never"), ("dead_letters.keep", "forever")] {
        let found = lines(file(&format!("{key} = 60\n")));
        let end =
            format!("{key}: found 60, expected {word:?} or a duration such as \"500ms\", \"5s\" or \"1h30m\" (units ms s m h d)");
        assert!(found.len() == 1 && found[0].ends_with(&end), "{found:?}");
    }
}

#[test]
fn a_predicate_is_refused_at_its_place() {
    let text = "[aggregates.a]\nkind = \"count\"\nwhere = \"data.points >\"\n";
    let found = lines(file(text));
    assert!(
        found.len() == 1 && found[0].starts_with("h.toml:3:") && found[0].contains("aggregates.a.where: found "),
        "{found:?}"
    );
    let column: usize = found[0].split(':').nth(2).and_then(|c| c.parse().ok()).expect("a column");
    assert!((10..=23).contains(&column), "{found:?}");
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = r#"
[kafka]
brokers = ["nowhere"]
grop = "g"
[snapshot]
interval = 5
[aggregates.a]
kind = "sum"
[aggregates.b]
kind = "cont"
[aggregates.c]
kind = "top"
"#;
    let set =
        [("HUNTLINE__SNAPSHOT__MAX_PENDING".to_owned(), "lots".to_owned()), ("HUNTLINE__KAFKAS".to_owned(), "x".to_owned())];
    let found = lines(config::load_from(&[("h.toml".into(), text.into())], set));
    let places: Vec<_> = found.iter().map(|line| line.split(": found").next().unwrap_or_default()).collect();
    assert_eq!(
        places,
        [
            "h.toml:3:12: kafka.brokers[0]",
            "h.toml:4:1: kafka.grop",
            "h.toml:6:12: snapshot.interval",
            "h.toml:7:1: aggregates.a.of",
            "h.toml:10:8: aggregates.b.kind",
            "h.toml:11:1: aggregates.c.by",
            "HUNTLINE__KAFKAS: kafkas",
            "HUNTLINE__SNAPSHOT__MAX_PENDING: snapshot.max_pending",
        ]
    );
}

#[test]
fn a_mistake_in_a_variable_is_named_by_the_variable() {
    assert_eq!(
        lines(variables(&[("HUNTLINE__DEDUP__LAST", "many")])),
        ["HUNTLINE__DEDUP__LAST: dedup.last: found \"many\", expected an integer"]
    );
    assert_eq!(
        lines(variables(&[("HUNTLINE__STORE__ULR", "x")])),
        ["HUNTLINE__STORE__ULR: store.ulr: found an unknown key, expected password, password_file or url; did you mean `url`?"]
    );
    assert_eq!(lines(variables(&[("HUNTLINE__KAFKA__LIBRDKAFKA__GROUP__ID", "x")])).len(), 1);
}

#[test]
fn several_topics_inherit_what_they_do_not_name() {
    let text = "kafka.topics = [\"hunt-events\", \"other.events\"]\nevent.id = [\"/source\", \"/id\"]\n[topic.\"other.events\".event]\nhunt = \"/data/hunt_id\"\ntime = \"timestamp\"\n";
    let definitions = loaded(text).settings.definitions;
    let (own, usual) = (definitions.places("other.events"), definitions.places("hunt-events"));
    assert_eq!((&own.hunt, &own.time), (&Place::Value(pointer(&["data", "hunt_id"])), &None));
    assert_eq!((&own.id, &own.event_type, own.max_bytes), (&usual.id, &usual.event_type, usual.max_bytes));
    assert_eq!(usual.hunt, Place::Key);
    assert!(usual.time.is_some());
}

#[test]
fn another_address_is_allowed_with_tokens_or_on_request() {
    let dir = tempfile::tempdir().expect("a directory");
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, "# who\nalpha\n\n beta \n").expect("written");
    let file_name = tokens.display();
    let settings = loaded(&format!("[http]\nlisten = \"0.0.0.0:9000\"\n[http.auth]\nadmin_tokens_file = '{file_name}'")).settings;
    let revealed: Vec<_> = settings.http.admin_tokens.iter().map(config::Secret::reveal).collect();
    assert_eq!(revealed, ["alpha", "beta"]);
    assert_eq!(settings.http.advertise, "http://127.0.0.1:9000");
    assert!(loaded("[http]\nlisten = \"[::]:9000\"\ninsecure = true").settings.http.insecure);
    assert_eq!(loaded("http.listen = \"localhost:9000\"").settings.http.advertise, "http://127.0.0.1:9000");
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "# nobody\n").expect("written");
    let found = lines(file(&format!("http.listen = \"0.0.0.0:1\"\nhttp.auth.read_tokens_file = '{}'", empty.display())));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("http.auth.read_tokens_file: found a file without tokens, expected one token a line"), "{found:?}");
}

const SECRETS: [&str; 7] =
    ["s3cret-url", "s3cret-sasl", "s3cret-read", "s3cret-admin", "s3cret-key", "s3cret-param", "s3cret-typo"];

fn shows_no_secret(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what} shows {secret}:\n{text}");
    }
}

#[test]
fn secrets_come_from_files_and_the_environment_and_are_never_shown() {
    let text = r#"
[kafka]
sasl_password = "s3cret-sasl"
[kafka.librdkafka]
"ssl.key.password" = "s3cret-key"
[store]
url = "postgres://u:s3cret-url@h/d?sslmode=require&password=s3cret-param"
[http.auth]
read_tokens = ["s3cret-read"]
admin_tokens = ["s3cret-admin"]
"#;
    let good = loaded(text);
    shows_no_secret("Debug", &format!("{good:#?}"));
    let effective = good.effective_toml();
    shows_no_secret("the effective configuration", &effective);
    assert!(effective.contains("postgres://u:***@h/d?sslmode=require&password=***"), "{effective}");
    let StoreUrl::Postgres { url, password } = &good.settings.store else { panic!("postgres") };
    assert_eq!(
        (url.as_str(), password.as_ref().map(config::Secret::reveal)),
        ("postgres://u@h/d?sslmode=require", Some("s3cret-param"))
    );

    for bad in [
        text.replace("[store]", "[store]\nulr = \"postgres://u:s3cret-url@h/d\""),
        text.replace("[http.auth]", "[http.auth]\nread_token = [\"s3cret-typo\"]"),
        text.replace("sasl_password =", "sasl_pasword ="),
        text.replace("\"s3cret-sasl\"", "[\"s3cret-sasl\"]"),
        text.replace("[\"s3cret-read\"]", "\"s3cret-read\""),
        text.replace("[\"s3cret-read\"]", "[\"s3cret-read\", 5, \"\"]"),
        text.replace("postgres://u", "mysql://u"),
        text.replace("\"s3cret-sasl\"", "s3cret-sasl"),
        text.replace("\"s3cret-sasl\"", "\"s3cret-sasl"),
        text.replace("[\"s3cret-read\"]", "[\n  \"s3cret-read\" \"s3cret-typo\"\n]"),
        text.replace("\"postgres://u:s3cret-url@h/d?sslmode=require&password=s3cret-param\"", "postgres://u:s3cret-url@h/d"),
        text.replace("\n[kafka.librdkafka]", "\n[kafka.librdkafka]\n\"sasl.password\" = \"s3cret-sasl\""),
        "store = { url = \"postgres://u:s3cret-url@h/d\", passwort = \"s3cret-typo\" }".into(),
    ] {
        let problems = file(&bad).expect_err("problems");
        shows_no_secret("check", &problems.to_string());
        shows_no_secret("Debug of problems", &format!("{problems:?}"));
    }
    for (name, value) in [("HUNTLINE__STORE__URL", "mysql://u:s3cret-url@h/d"), ("HUNTLINE__KAFKA__SASL_PASWORD", "s3cret-sasl")]
    {
        shows_no_secret("check", &variables(&[(name, value)]).expect_err("problems").to_string());
    }
}

#[test]
fn a_secret_of_a_later_layer_counts() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("password");
    std::fs::write(&path, "from-file\n").expect("written");
    let text = format!("store.password_file = '{}'", path.display());
    let password = |loaded: Loaded| match loaded.settings.store {
        StoreUrl::Postgres { password, .. } => password.map(|p| p.reveal().to_owned()),
        StoreUrl::Sqlite { .. } => None,
    };
    assert_eq!(password(loaded(&text)).as_deref(), Some("from-file"));
    let set = [("HUNTLINE__STORE__PASSWORD".to_owned(), "from-environment".to_owned())];
    let over = config::load_from(&[("h.toml".into(), text.clone())], set).expect("settings");
    assert_eq!(password(over).as_deref(), Some("from-environment"));
    let both = lines(file(&format!("{text}\nstore.password = 'x'")));
    assert_eq!(both, ["h.toml:1:23: store.password_file: found password and password_file, expected one of the two"]);
}

#[test]
fn the_effective_configuration_loads_to_the_same() {
    let text = include_str!("../../config/huntline.toml");
    let first = loaded(text);
    let again = loaded(&first.effective_toml());
    assert_eq!(first.settings, again.settings);
    let log = loaded("embedded_log.path = \"e.db\"\nstore.url = \"sqlite:s.db\"");
    assert_eq!(loaded(&log.effective_toml()).settings, log.settings);
}

#[test]
fn aggregates_compile_to_their_kinds() {
    let definitions = loaded("[aggregates.a]\nkind = \"first\"\nof = \"\"\n[aggregates.b]\nkind = \"sum\"\nof = \"/a~1b/~0c/0\"\non = [\"x\", \"y.*\"]").settings.definitions;
    assert_eq!(definitions.aggregates[0].kind, Kind::First { of: Pointer(Vec::new()) });
    assert_eq!(definitions.aggregates[1].kind, Kind::Sum { of: pointer(&["a/b", "~c", "0"]) });
    assert_eq!(definitions.aggregates[1].on.as_deref(), Some(&["x".to_owned(), "y.*".to_owned()][..]));
}
