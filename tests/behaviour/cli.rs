//! The **commands**, as people and scripts use them: the real binary, its output and its exit code, beside a running demo.

use crate::harness::daemon::request;
use crate::harness::{Process, Scratch, await_until, free_port, kafka, postgres};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a command did.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_huntline"));
    command.args(args).stdin(Stdio::null());
    for name in ["HUNTLINE_URL", "HUNTLINE_CONFIG", "HUNTLINE_TOKEN_FILE", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

fn huntline(args: &[&str]) -> Done {
    let output = command(args).output().expect("run huntline");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Done { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The JSON objects of a command that succeeds.
fn json_lines(args: &[&str]) -> Vec<Value> {
    let done = huntline(args);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{args:?}");
    done.out.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// A running demo and its URL.
struct Demo {
    process: Process,
    url: String,
    _scratch: Scratch,
}

fn demo_in(scratch: Scratch, dir: &Path) -> Demo {
    demo_at("127.0.0.1:0", scratch, dir)
}

fn demo_at(listen: &str, scratch: Scratch, dir: &Path) -> Demo {
    let dir = dir.to_str().expect("a path in UTF-8");
    let output = scratch.join("output");
    let process = Process::start("demo", command(&["demo", "--listen", listen, "--rate", "300", "--dir", dir]), &output);
    let url = await_until(PATIENCE, "the demo prints its address", || {
        let text = fs::read_to_string(&output).unwrap_or_default();
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix("page").map(str::trim));
        line.map(|url| url.trim_end_matches('/').to_owned()).ok_or(text)
    });
    Demo { process, url, _scratch: scratch }
}

/// One demo for all tests that only look at it, with hunts and dead letters saved.
fn demo() -> &'static str {
    static DEMO: OnceLock<Demo> = OnceLock::new();
    let demo = DEMO.get_or_init(|| {
        let scratch = Scratch::new("demo");
        let dir = scratch.join("data");
        let demo = demo_in(scratch, &dir);
        await_until(PATIENCE, "hunts and dead letters are saved", || {
            let hunts = json_lines(&["hunts", "list", "--json", "--url", &demo.url]).len();
            let letters = json_lines(&["dead-letters", "list", "--json", "--url", &demo.url]).len();
            if hunts > 5 && letters > 2 { Ok(()) } else { Err((hunts, letters)) }
        });
        demo
    });
    &demo.url
}

/// A hunt of the demo that many events go to.
fn busy_hunt() -> String {
    let hunts = json_lines(&["hunts", "list", "--json", "--url", demo()]);
    let busiest = hunts.iter().max_by_key(|hunt| hunt["events"].as_i64()).expect("a hunt");
    busiest["hunt_id"].as_str().expect("an id").to_owned()
}

#[test]
fn hunts_are_listed_as_a_table_and_as_json() {
    let table = huntline(&["hunts", "list", "--limit", "3", "--url", demo()]);
    assert_eq!(table.code, Some(0), "{table:?}");
    let lines: Vec<&str> = table.out.lines().collect();
    assert_eq!(lines.len(), 4, "{table:?}");
    assert!(lines[0].starts_with("HUNT") && lines[0].ends_with("LAST EVENT"), "{table:?}");
    assert!(table.err.contains("there are more"), "{table:?}");
    let status = lines[0].find("STATUS").expect("a column");
    assert!(lines[1..].iter().all(|line| line[status..].starts_with("live  ")), "{table:?}");

    let hunts = json_lines(&["hunts", "list", "--json", "--limit", "0", "--url", demo()]);
    let ids: Vec<&str> = hunts.iter().filter_map(|hunt| hunt["hunt_id"].as_str()).collect();
    assert!(ids.len() > 5 && ids.is_sorted(), "{ids:?}");
    assert!(json_lines(&["hunts", "list", "--json", "--status", "parked", "--url", demo()]).is_empty());
    assert_eq!(huntline(&["hunts", "list", "--status", "parked", "--url", demo()]).err, "no hunts\n");
}

#[test]
fn a_hunt_is_shown_for_people_and_exactly_as_the_api_has_it() {
    let id = busy_hunt();
    let shown = huntline(&["hunts", "show", &id, "--url", demo()]);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    for part in [&format!("hunt         {id}\n"), "\nstatus       live\n", "\nclues_solved ", "\nTOPIC "] {
        assert!(shown.out.contains(part), "{part:?} in {}", shown.out);
    }
    let hunt = &json_lines(&["hunts", "show", &id, "--json", "--url", demo()])[0];
    assert_eq!(hunt["hunt_id"], id.as_str());
    assert!(hunt["view"]["clues_handed_out"].is_u64() && hunt["partials"][0]["source"] == "live", "{hunt}");
}

#[test]
fn windows_tops_quantiles_and_funnels_are_tables() {
    let id = busy_hunt();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    // Of many windows the newest are shown, and that is said beside the name.
    let shows = |line: &str, part: &str| line == part || line.starts_with(&format!("{part} the newest "));
    let has = |shown: &str, part: &str| shown.lines().any(|line| shows(&words(line), part));
    await_until(PATIENCE, "every kind has something to show", || {
        let shown = huntline(&["hunts", "show", &id, "--url", demo()]).out;
        let tables = ["key value", "stage count", "start end value state", "leaders_lately"];
        let missing: Vec<_> = tables.into_iter().filter(|part| !has(&shown, part)).collect();
        if missing.is_empty() && shown.contains("p50 ") && !shown.contains(['{', '[']) { Ok(()) } else { Err((missing, shown)) }
    });
    let hunt = &json_lines(&["hunts", "show", &id, "--json", "--url", demo()])[0];
    assert!(hunt["view"]["solved_per_minute"][0]["final"].is_boolean(), "{hunt}");
}

#[test]
fn the_rollup_is_shown() {
    let rollup = await_until(PATIENCE, "every rolled-up aggregate is saved", || {
        let rollup = json_lines(&["rollup", "--json", "--url", demo()]).remove(0);
        let some =
            rollup["view"]["solved_per_minute"][0]["value"].as_i64() > Some(0) && rollup["view"]["players"].as_i64() > Some(0);
        if some { Ok(rollup) } else { Err(rollup) }
    });
    assert_eq!(rollup["view"].as_object().map(serde_json::Map::len), Some(7), "{rollup}");
    assert!(rollup["updated_at"].is_string() && rollup["view"]["solved_per_minute"][0].get("final").is_none(), "{rollup}");
    let shown = huntline(&["rollup", "--url", demo()]);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    assert!(shown.out.starts_with("updated  20") && shown.out.contains("\nleaderboard\n    key "), "{}", shown.out);
}

#[test]
fn partitions_are_listed_and_only_a_tripped_one_is_reset() {
    let lines = json_lines(&["partitions", "list", "--json", "--url", demo()]);
    let states: Vec<&str> = lines.iter().filter_map(|line| line["state"].as_str()).collect();
    assert_eq!(states, ["running"; 4]);
    let table = huntline(&["partitions", "list", "--url", demo()]);
    assert_eq!((table.code, table.err.as_str(), table.out.lines().count()), (Some(0), "", 5), "{table:?}");
    let heading: Vec<&str> =
        table.out.lines().next().unwrap_or_default().split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(heading, ["PARTITION", "STATE", "POSITION", "END", "LAG", "SAVED", "RECORDS", "DEAD LETTERS", "HELD", "OWNER"]);
    let line = &lines[0];
    assert!(line["saved_position"].as_i64() <= line["position"].as_i64(), "{line}");
    assert!(table.out.starts_with("PARTITION ") && table.out.contains("\nhunt-events/3  running "), "{table:?}");

    let done = huntline(&["partitions", "reset", "hunt-events/0", "--url", demo()]);
    assert!(done.code == Some(1) && done.out.is_empty(), "{done:?}");
    assert_eq!(done.err, "huntline: hunt-events/0: the partition's breaker is not tripped\n");
    let done = huntline(&["partitions", "reset", "elsewhere/0", "--url", demo()]);
    assert!(done.code == Some(1) && done.err.contains("elsewhere/0: no instance ever claimed this partition"), "{done:?}");
    assert_eq!(huntline(&["partitions", "reset", "hunt-events", "--url", demo()]).code, Some(2));
}

#[test]
fn every_aggregate_of_the_demo_gets_a_value() {
    let id = busy_hunt();
    await_until(PATIENCE, "no aggregate is 0 or null", || {
        let hunt = json_lines(&["hunts", "show", &id, "--json", "--url", demo()]).remove(0);
        let view = hunt["view"].as_object().expect("a view").clone();
        let empty = |value: &Value| value.is_null() || *value == 0 || *value == Value::Array(Vec::new());
        let without: Vec<String> = view.into_iter().filter(|(_, value)| empty(value)).map(|(name, _)| name).collect();
        if without.is_empty() { Ok(()) } else { Err(without) }
    });
}

#[test]
fn watching_tells_each_change_until_it_is_interrupted() {
    let id = busy_hunt();
    for json in [true, false] {
        let mut watch = command(&["hunts", "watch", &id, "--url", demo()]);
        if json {
            watch.arg("--json");
        }
        let mut child = watch.stdout(Stdio::piped()).spawn().expect("watch");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines().map(|line| line.expect("text"));
        let counts: Vec<u64> = lines
            .filter_map(|line| match json {
                true => serde_json::from_str::<Value>(&line).expect("an object a line")["events"].as_u64(),
                false => line.contains(" events  live  ").then(|| line.split(' ').nth(2)?.parse().ok())?,
            })
            .take(4)
            .collect();
        assert!(counts.is_sorted() && counts[3] > counts[0], "{counts:?}");
        // SAFETY: a plain system call; the child has not been waited for, so the pid is its own.
        unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
        let status = await_until(PATIENCE, "watch ends", || child.try_wait().expect("wait"));
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn what_cannot_be_answered_says_why() {
    let refused = |args: &[&str]| {
        let done = huntline(args);
        assert_eq!(done.out, "", "{args:?}");
        (done.code, done.err)
    };
    let (code, err) = refused(&["hunts", "show", "no/such hunt", "--url", demo()]);
    assert_eq!(code, Some(1));
    assert!(err.starts_with("huntline: no hunt \"no/such hunt\": "), "{err}");
    let (code, err) = refused(&["hunts", "watch", "..", "--url", demo()]);
    assert!(code == Some(1) && err.starts_with("huntline: no hunt \"..\": "), "{err}");
    let (code, err) = refused(&["hunts", "list", "--url", "http://127.0.0.1:1"]);
    assert!(code == Some(1) && err.contains("http://127.0.0.1:1 does not answer") && err.contains("--url"), "{err}");
    let (code, err) = refused(&["hunts", "list", "--url", "https://127.0.0.1:1"]);
    assert!(code == Some(2) && err.contains("TLS is a proxy's work: ask the daemon's own address"), "{err}");
    let (code, err) = refused(&["hunts", "list", "--config", "/nowhere/h.toml"]);
    assert!(code == Some(2) && err.contains("/nowhere/h.toml"), "{err}");
    let (code, err) = refused(&["dead-letters", "list", "--reason", "ugly", "--url", demo()]);
    assert!(code == Some(2) && err.contains("found \"ugly\", expected too_large"), "{err}");
    let (code, err) = refused(&["dead-letters", "show", "hunt-events/0/999999999", "--url", demo()]);
    assert!(code == Some(1) && err.contains("no dead letter hunt-events/0/999999999"), "{err}");
}

#[test]
fn dead_letters_are_listed_and_shown() {
    let letters = json_lines(&["dead-letters", "list", "--json", "--url", demo()]);
    let letter = letters.iter().find(|letter| letter["reason"] != "no_hunt").expect("a letter");
    let record = format!("{}/{}/{}", letter["topic"].as_str().expect("a topic"), letter["partition"], letter["offset"]);
    let reason = letter["reason"].as_str().expect("a reason");

    let none = huntline(&["dead-letters", "list", "--state", "replayed", "--url", demo()]);
    assert_eq!((none.code, none.out.as_str(), none.err.as_str()), (Some(0), "", "no dead letters\n"));
    assert!(!json_lines(&["dead-letters", "list", "--json", "--state", "rejected", "--url", demo()]).is_empty());
    let table = huntline(&["dead-letters", "list", "--reason", reason, "--url", demo()]);
    assert_eq!(table.code, Some(0), "{table:?}");
    assert!(table.out.starts_with("RECORD "), "{table:?}");
    assert!(table.out.lines().skip(1).all(|line| line.contains(reason)), "{table:?}");
    assert!(table.out.contains(&format!("\n{record} ")), "{table:?}");

    let shown = huntline(&["dead-letters", "show", &record, "--url", demo()]);
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    assert!(shown.out.starts_with(&format!("record       {record}\n")) && shown.out.contains(reason), "{shown:?}");
    assert!(shown.out.chars().all(|char| char == '\n' || !char.is_control()), "{shown:?}");
    let whole = &json_lines(&["dead-letters", "show", &record, "--json", "--url", demo()])[0];
    assert_eq!(whole["contents"]["detail"], letter["contents"]["detail"]);
}

#[test]
fn a_pipe_that_closes_early_is_no_error() {
    let mut list = command(&["hunts", "list", "--url", demo()]);
    let mut child = list.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("list");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("its end");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn the_shipped_configuration_is_valid_and_connecting_tells_each_part_that_is_away() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/huntline.toml");
    let done = huntline(&["check", "--config", file]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    assert!(done.out.contains("huntline.toml is valid"), "{done:?}");

    let scratch = Scratch::new("cli");
    let config = scratch.join("h.toml");
    let path = config.to_str().expect("UTF-8");
    let unreachable = "[kafka]\nbrokers = [\"127.0.0.1:1\"]\n[store]\nurl = \"postgres://nobody@127.0.0.1:1/none\"\n";
    fs::write(&config, unreachable).expect("written");
    let done = huntline(&["check", "--connect", "--config", path]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.err.contains("Kafka") && done.err.contains("store: "), "{done:?}");

    fs::write(&config, embedded(scratch.path())).expect("written");
    let done = huntline(&["check", "--connect", "--config", path]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{done:?}");
    assert!(done.out.contains("not there yet"), "{done:?}");
    assert!(!scratch.join("events.db").exists() && !scratch.join("views.db").exists(), "check creates nothing");
}

#[test]
fn connecting_tells_what_kafka_and_the_store_have() {
    let (kafka, database) = (kafka::shared(), postgres::shared().create_database());
    let topic = kafka.create_topic("checked", 3, &[]);
    let scratch = Scratch::new("cli");
    let config = scratch.join("h.toml");
    let check = |topics: &str| {
        let brokers = kafka.brokers();
        let text = format!("[kafka]\nbrokers = [\"{brokers}\"]\ntopics = [{topics}]\n[store]\nurl = \"{database}\"\n");
        fs::write(&config, text).expect("written");
        huntline(&["check", "--connect", "--config", config.to_str().expect("UTF-8")])
    };
    let done = check(&format!("\"{topic}\""));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.contains(&format!("topic {topic} is there, 3 partitions")), "{done:?}");
    assert!(done.out.contains("no schema yet"), "{done:?}");

    assert_eq!(huntline(&["migrate", "--config", config.to_str().expect("UTF-8")]).code, Some(0));
    // The relation whose columns hang on the definitions is made with the others.
    assert!(postgres::query(&database, "SELECT hunt_id FROM huntline.hunt_summary").is_ok());
    let done = check(&format!("\"{topic}\", \"never-made\""));
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.err.contains("never-made") && done.out.contains("current"), "{done:?}");
}

#[test]
fn what_stands_in_the_way_is_named_before_what_helps() {
    let scratch = Scratch::new("cli");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("an address").to_string();
    let dir = scratch.join("data");
    let done = huntline(&["demo", "--listen", &listen, "--dir", dir.to_str().expect("UTF-8")]);
    let sentence =
        format!("huntline: --listen {listen}: another program listens there; --listen 127.0.0.1:0 picks a free port\n");
    assert!(done.code == Some(1) && done.err.ends_with(&sentence) && !done.err.contains("[http]"), "{done:?}");

    let nowhere = scratch.join("nowhere");
    let config = scratch.join("h.toml");
    let text = embedded(scratch.path()).replace("views.db", "nowhere/views.db");
    fs::write(&config, text).expect("written");
    for asked in ["run", "migrate"] {
        let done = huntline(&[asked, "--config", config.to_str().expect("UTF-8")]);
        let sentence = format!("found no directory {}, expected one", nowhere.display());
        assert!(done.code == Some(1) && done.err.contains(&sentence) && !done.err.contains("os error"), "{done:?}");
    }

    let asked = ["hunts", "list", "--url", "http://127.0.0.1:1"];
    let output = command(&asked).env("HUNTLINE_TOKEN_FILE", &nowhere).output().expect("run huntline");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && err.contains("HUNTLINE_TOKEN_FILE: found "), "{err}");
    assert!(!err.contains("--token-file"), "{err}");
    let done = huntline(&[&asked[..], &["--token-file", nowhere.to_str().expect("UTF-8")]].concat());
    assert!(done.code == Some(2) && done.err.contains("--token-file: found "), "{done:?}");
    let output = command(&["hunts", "list"]).env("HUNTLINE_URL", "ftp://x").output().expect("run huntline");
    assert!(String::from_utf8_lossy(&output.stderr).contains("HUNTLINE_URL: found "), "{output:?}");
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let done = huntline(&["completions", shell]);
        assert!(done.code == Some(0) && done.out.contains("dead-letters"), "{shell}: {done:?}");
    }
}

fn embedded(dir: &Path) -> String {
    let dir = dir.display();
    let event = "[aggregates.solved]\nkind = \"count\"\non = \"clue.solved\"\n";
    format!(
        "[embedded_log]\npath = \"{dir}/events.db\"\n[store]\nurl = \"sqlite:{dir}/views.db\"\n[snapshot]\ninterval = \"500ms\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\n{event}"
    )
}

/// A `run` on `config` and the address it logs.
fn run(config: &Path, output: &Path) -> (Process, String) {
    let _ = fs::remove_file(output);
    let process = Process::start("run", command(&["run", "--config", config.to_str().expect("UTF-8")]), output);
    let url = await_until(PATIENCE, "run says where it listens", || {
        let text = fs::read_to_string(output).unwrap_or_default();
        let at = text.find("address=").map(|at| at + "address=".len());
        at.and_then(|at| text[at..].split_whitespace().next()).map(|address| format!("http://{address}")).ok_or(text)
    });
    (process, url)
}

/// Records below the saved positions, by outcome, once all of the log is saved.
fn saved(url: &str, records: i64) -> Value {
    await_until(PATIENCE, "every record is applied and saved", || {
        let (status, body) = request("GET", &format!("{url}/v1/partitions"), &[], None)?;
        let page: Value = serde_json::from_slice(body.as_ref()).map_err(|error| error.to_string())?;
        let lines = page["partitions"].as_array().cloned().unwrap_or_default();
        let sum = |name: &str| lines.iter().filter_map(|line| line["counts"][name].as_i64()).sum::<i64>();
        let seen = (status, sum("records"), sum("applied"), sum("dead_lettered"), sum("duplicate"));
        if seen.1 == records {
            Ok(serde_json::json!({"applied": seen.2, "dead_lettered": seen.3, "duplicate": seen.4}))
        } else {
            Err(format!("{seen:?}"))
        }
    })
}

#[test]
fn a_generated_log_is_folded_saved_and_gone_on_from() {
    let scratch = Scratch::new("cli");
    let config = scratch.join("h.toml");
    fs::write(&config, embedded(scratch.path())).expect("written");
    let log = scratch.join("events.db");
    let generate = |count: &str, seed: &str| {
        let path = log.to_str().expect("UTF-8");
        let done = huntline(&["generate", "--log", path, "--count", count, "--rate", "0", "--hunts", "50", "--seed", seed]);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.out.contains("sent ") && done.out.contains(" good"), "{done:?}");
    };
    let output = scratch.join("output");
    let end = |mut process: Process| {
        process.signal(libc::SIGTERM);
        // As `timeout` does: once to the process, once to its group.
        process.signal(libc::SIGTERM);
        let asked = Instant::now();
        assert_eq!(process.await_exit(PATIENCE).code(), Some(0), "{}", process.tail());
        assert!(asked.elapsed() < Duration::from_secs(10), "stopped after {:?}", asked.elapsed());
    };

    generate("5000", "1");
    let (process, url) = run(&config, &output);
    let first = saved(&url, 5000);
    assert!(first["applied"].as_i64() > Some(4500), "{first}");
    end(process);

    generate("2000", "2");
    let (process, url) = run(&config, &output);
    let second = saved(&url, 7000);
    assert!(second["applied"].as_i64() > Some(6300), "{second}");
    let hunts = json_lines(&["hunts", "list", "--json", "--limit", "0", "--url", &url]);
    let events: i64 = hunts.iter().filter_map(|hunt| hunt["events"].as_i64()).sum();
    assert_eq!(Some(events), second["applied"].as_i64(), "each applied event is in one hunt");
    end(process);
}

#[test]
fn a_demo_goes_on_from_its_data() {
    let data = Scratch::new("demo-data");
    let events = |url: &str| -> i64 {
        let hunts = json_lines(&["hunts", "list", "--json", "--limit", "0", "--url", url]);
        hunts.iter().filter_map(|hunt| hunt["events"].as_i64()).sum()
    };
    let mut before = 0;
    for _ in 0..2 {
        let mut demo = demo_in(Scratch::new("demo"), data.path());
        // What was saved is there from the first answer on.
        let found = events(&demo.url);
        assert!(found >= before, "found {found} events, saved {before}");
        before = await_until(PATIENCE, "new events are saved", || {
            let now = events(&demo.url);
            if now > found + 200 { Ok(now) } else { Err(now) }
        });
        demo.process.signal(libc::SIGINT);
        assert_eq!(demo.process.await_exit(PATIENCE).code(), Some(0), "{}", demo.process.tail());
        assert!(!demo.process.tail().contains("ERROR"), "{}", demo.process.tail());
    }
}

#[test]
fn watching_goes_on_when_the_daemon_comes_back() {
    let data = Scratch::new("demo-data");
    let listen = format!("127.0.0.1:{}", free_port());
    let mut demo = demo_at(&listen, Scratch::new("demo"), data.path());
    let url = demo.url.clone();
    let id = await_until(PATIENCE, "a hunt is saved", || {
        let hunts = json_lines(&["hunts", "list", "--json", "--limit", "1", "--url", &url]);
        hunts.first().and_then(|hunt| hunt["hunt_id"].as_str().map(str::to_owned))
    });
    let output = data.join("watched");
    let mut watch = Process::start("watch", command(&["hunts", "watch", &id, "--json", "--url", &url]), &output);
    let seen = || fs::read_to_string(&output).unwrap_or_default();
    await_until(PATIENCE, "a view is told", || if seen().contains("\"hunt_id\"") { Ok(()) } else { Err(seen()) });

    demo.process.signal(libc::SIGINT);
    assert_eq!(demo.process.await_exit(PATIENCE).code(), Some(0));
    await_until(PATIENCE, "watch says so", || if seen().contains("asking again") { Ok(()) } else { Err(seen()) });
    let _again = demo_at(&listen, Scratch::new("demo"), data.path());
    let after = || seen().rsplit_once("answers again").map(|(_, after)| after.matches("\"hunt_id\"").count());
    await_until(PATIENCE, "more views are told", || if after() >= Some(2) { Ok(()) } else { Err(seen()) });
    assert!(watch.exited().is_none());
}

#[test]
fn a_token_opens_what_it_is_for() {
    let scratch = Scratch::new("cli");
    for (name, token) in [("reads", "may-read"), ("acts", "may-act"), ("wrong", "may-not")] {
        fs::write(scratch.join(name), format!("{token}\n")).expect("written");
    }
    let config = scratch.join("h.toml");
    let dir = scratch.path().display();
    let auth = format!("[http.auth]\nread_tokens_file = \"{dir}/reads\"\nadmin_tokens_file = \"{dir}/acts\"\n");
    fs::write(&config, embedded(scratch.path()) + &auth).expect("written");
    let log = scratch.join("events.db");
    let generated =
        huntline(&["generate", "--log", log.to_str().expect("UTF-8"), "--count", "500", "--rate", "0", "--bad", "0.2"]);
    assert_eq!(generated.code, Some(0), "{generated:?}");
    let (_process, url) = run(&config, &scratch.join("output"));

    let letters = |token: Option<&str>| {
        let file = token.map(|token| scratch.join(token).display().to_string());
        let mut args = vec!["dead-letters", "list", "--json", "--limit", "1", "--url", &url];
        args.extend(file.iter().flat_map(|file| ["--token-file", file]));
        huntline(&args)
    };
    for token in [None, Some("wrong")] {
        let done = letters(token);
        assert!(done.code == Some(1) && done.err.contains("--token-file"), "{done:?}");
    }
    let done = letters(Some("nowhere"));
    assert!(done.code == Some(2) && done.err.contains("nowhere"), "{done:?}");
    await_until(PATIENCE, "a letter is saved", || if letters(Some("reads")).out.is_empty() { None } else { Some(()) });
    assert!(!letters(Some("reads")).out.contains("contents"));
    assert!(letters(Some("acts")).out.contains("contents"));
}
