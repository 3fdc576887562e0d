//! The API as a client sees it: a real server on a port of its own, spoken to in plain HTTP/1.1, over a fake daemon and store.

use super::fake::{Fake, NEW_YEAR, SECOND, beginnings, letter, line, time};
use super::query::LivePartition;
use super::{Settings, openapi, server};
use crate::metrics;
use crate::outcome::Reason;
use crate::position::{Epoch, Position};
use crate::record::PartitionId;
use crate::store::{Act, Lag, LagReasons, PartialRow, PartitionLine, RollupLine, Snapshot, Status};
use crate::time::Micros;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

struct Served {
    fake: Arc<Fake>,
    address: SocketAddr,
    closing: watch::Sender<bool>,
    handle: actix_web::dev::ServerHandle,
    thread: Option<JoinHandle<()>>,
}

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

impl Served {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let (closing, receiver) = watch::channel(false);
        let mut settings = Settings {
            listen: "127.0.0.1:0".into(),
            advertise: String::new(),
            read_tokens: Vec::new(),
            admin_tokens: Vec::new(),
            time: time(),
            rollup: beginnings(),
            streams: 2,
            closing: receiver,
        };
        change(&mut settings);
        let fake = Arc::new(Fake::new());
        let (of_live, of_stored) = (fake.clone(), fake.clone());
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let (_, exposition) = metrics::recorder();
            actix_web::rt::System::new().block_on(async move {
                let (server, address) = server(settings, of_live, of_stored, exposition).unwrap();
                tell.send((server.handle(), address)).unwrap();
                server.await.unwrap();
            });
        });
        let (handle, address) = told.recv().unwrap();
        Self { fake, address, closing, handle, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let connection = TcpStream::connect(self.address).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        connection
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> Reply {
        let mut connection = self.connect();
        let host = if headers.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.address) };
        write!(connection, "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n").unwrap();
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes).unwrap();
        let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head, body: bytes[split + 4..].to_vec() }
    }

    /// A GET whose answer is as the OpenAPI document says.
    fn get(&self, path: &str) -> Reply {
        let reply = self.ask("GET", path, "");
        documented("get", path, &reply);
        reply
    }

    /// A POST whose answer is as the OpenAPI document says.
    fn post(&self, path: &str, headers: &str) -> Reply {
        let reply = self.ask("POST", path, &format!("{headers}Content-Length: 0\r\n"));
        documented("post", path, &reply);
        reply
    }

    fn refused(&self, method: &str, path: &str, headers: &str, status: u16, kind: &str) -> Value {
        let reply = self.ask(method, path, headers);
        assert_eq!(reply.status, status, "{method} {path}\n{}", String::from_utf8_lossy(&reply.body));
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{method} {path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{method} {path}");
        let problem = reply.json();
        assert_eq!(problem["type"], format!("urn:huntline:problem:{kind}"), "{method} {path}");
        assert_eq!(problem["status"], status);
        conforms(&schema("Problem"), &problem, "problem");
        problem
    }

    /// The events of a stream, each the JSON of a view, as they come.
    fn follow(&self, path: &str) -> impl Iterator<Item = Value> + use<> {
        let mut connection = self.connect();
        write!(connection, "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept-Encoding: gzip\r\n\r\n", self.address).unwrap();
        BufReader::new(connection)
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("data: ").map(|data| serde_json::from_str(data).unwrap()))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        drop(self.handle.stop(true));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(std::thread::panicking() || ended.is_ok(), "the server's thread panicked");
        }
    }
}

fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// As much of JSON Schema as the document uses; also: nothing is answered that the document does not describe.
fn conforms(schema: &Value, value: &Value, at: &str) {
    let document: Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
    fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        if let Some(target) = schema["$ref"].as_str() {
            let target = document.pointer(target.trim_start_matches('#')).ok_or_else(|| format!("no {target}"))?;
            return check(document, target, value, at);
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let tried: Vec<_> = choices.iter().map(|choice| check(document, choice, value, at)).collect();
            return if tried.iter().filter(|tried| tried.is_ok()).count() == 1 {
                Ok(())
            } else {
                Err(format!("{at}: {tried:?}"))
            };
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
            _ => return Ok(()),
        };
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        if !types.contains(&found) {
            return Err(format!("{at}: found {found}, expected {types:?}"));
        }
        if let Some(choices) = schema["enum"].as_array()
            && !choices.contains(value)
        {
            return Err(format!("{at}: found {value}, expected {choices:?}"));
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            check(document, &schema["items"], item, &format!("{at}/{index}"))?;
        }
        if let (Some(members), Some(described)) = (value.as_object(), schema["properties"].as_object()) {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !members.contains_key(name) {
                    return Err(format!("{at}: no {name}"));
                }
            }
            for (name, member) in members {
                let schema = described.get(name).ok_or_else(|| format!("{at}: {name} is not described"))?;
                check(document, schema, member, &format!("{at}/{name}"))?;
            }
        }
        Ok(())
    }
    check(&document, schema, value, at).unwrap_or_else(|error| panic!("{error}\n{value}"));
}

/// The reply's status, type and body are those the document gives for the path.
fn documented(method: &str, path: &str, reply: &Reply) {
    let document: Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
    let asked: Vec<&str> = path.split('?').next().unwrap().split('/').collect();
    let fits = |pattern: &str| {
        let pattern: Vec<&str> = pattern.split('/').collect();
        pattern.len() == asked.len()
            && pattern.iter().zip(&asked).all(|(pattern, asked)| pattern.starts_with('{') || pattern == asked)
    };
    let (_, route) = document["paths"].as_object().unwrap().iter().find(|(pattern, _)| fits(pattern)).expect("a documented path");
    let response = &route[method]["responses"][reply.status.to_string()];
    let media = reply.header("content-type").unwrap().split(';').next().unwrap();
    let content = &response["content"][media];
    assert!(content.is_object(), "{path}: {} {media} is not documented", reply.status);
    if media.ends_with("json") {
        conforms(&content["schema"], &reply.json(), path);
    }
}

#[test]
fn every_route_is_documented_and_every_documented_route_answers() {
    let served = Served::new();
    served.fake.fold("paris", 0, 3);
    served.fake.letters.lock().unwrap().push(letter(7, Reason::NotObject, b"7"));
    *served.fake.lines.lock().unwrap() = vec![PartitionLine { tripped: Some("bad records".into()), ..line(0, 10, Some("me")) }];
    let document: Value = served.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let documented: Vec<(&String, &Value)> = document["paths"].as_object().unwrap().iter().collect();
    for (path, route) in &documented {
        let path =
            path.replace("{id}", "paris").replace("{topic}", "hunt-events").replace("{partition}", "0").replace("{offset}", "7");
        if route["post"].is_object() {
            assert_eq!(served.post(&path, "").status, 202, "{path}");
        } else if path.ends_with("/stream") {
            assert_eq!(served.follow(&path).next().unwrap()["events"], 3);
        } else {
            assert_eq!(served.get(&path).status, 200, "{path}");
        }
        served.refused("DELETE", &path, "", 405, "method");
    }
    // The routes as the source registers them.
    let source = include_str!("mod.rs");
    let mut registered = 0;
    for method in ["get", "post"] {
        for path in source.split(&format!("({method}(\"")).skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document["paths"][path][method].is_object(), "{method} {path}");
            registered += 1;
        }
    }
    assert_eq!(registered, documented.len());
}

#[test]
fn a_hunts_view_joins_live_partials_with_saved_ones() {
    let served = Served::new();
    served.fake.save("paris", 0, 5);
    let saved = served.get("/v1/hunts/paris").json();
    assert_eq!(
        saved["partials"],
        json!([{"topic": "hunt-events", "partition": 0, "position": 5, "status": "live", "source": "snapshot"}])
    );
    assert_eq!((&saved["view"]["solved"], &saved["view"]["per_minute"][0]["final"]), (&json!(5), &json!(false)));

    served.fake.fold("paris", 1, 2);
    let joined = served.get("/v1/hunts/paris").json();
    assert_eq!(joined["events"], 7);
    let sources: Vec<&Value> = joined["partials"].as_array().unwrap().iter().map(|partial| &partial["source"]).collect();
    assert_eq!(sources, ["snapshot", "live"]);
    assert_eq!(joined["watermark"], "2026-01-01T00:00:59Z");
    assert_eq!(joined["first_event_at"], "2026-01-01T00:00:00Z");

    // The actor here is ahead of what was saved, and replaces it.
    served.fake.fold("paris", 0, 6);
    let reply = served.get("/v1/hunts/paris");
    let live = reply.json();
    assert_eq!(
        (&live["events"], &live["status"], &live["watermark"]),
        (&json!(8), &json!("live"), &json!("2026-01-01T00:02:00Z"))
    );
    assert_eq!(live["view"]["per_minute"][0]["final"], true);
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.contains("\"exact\":123456789012345678901234567890"), "large integers stay exact: {text}");

    served.refused("GET", "/v1/hunts/london", "", 404, "unknown-hunt");
}

#[test]
fn a_hunts_status_is_that_of_its_worst_partial_and_silence_moves_a_saved_watermark() {
    let served = Served::new();
    served.fake.save("paris", 0, 5);
    served.fake.fold("paris", 1, 2);
    let set = |clock: i64, reasons: LagReasons| {
        let lag = Lag { position: Position(4), clock: Some(Micros(NEW_YEAR.0 + clock * SECOND)), held: 1, reasons };
        served.fake.stored.lock().unwrap().get_mut("paris").unwrap().partials[0].snapshot.lag = Some(lag);
        served.get("/v1/hunts/paris").json()
    };
    let lagging = set(59, LagReasons::default());
    assert_eq!((&lagging["status"], &lagging["partials"][0]["position"]), (&json!("lagging"), &json!(4)));
    assert_eq!(lagging["watermark"], "2026-01-01T00:00:59Z");
    // An hour of idle time, and one second more.
    let parked = set(59 + 3601, LagReasons { failed: true, ..LagReasons::default() });
    assert_eq!((&parked["status"], &parked["watermark"]), (&json!("parked"), &json!("2026-01-01T00:01:00Z")));
    assert_eq!(parked["view"]["per_minute"][0]["final"], true);
}

#[test]
fn a_window_is_final_at_the_smallest_watermark_of_all_partials_live_or_saved() {
    let served = Served::new();
    let told = || {
        let hunt = served.get("/v1/hunts/paris").json();
        (hunt["watermark"].clone(), hunt["view"]["per_minute"][0]["final"].clone())
    };
    let final_at = |watermark: &str| (json!(watermark), json!(true));
    // Live alone: its watermark is at 00:02, the window ends at 00:01.
    served.fake.fold("paris", 1, 2);
    assert_eq!(told(), final_at("2026-01-01T00:02:00Z"));
    // A live partial before its first applied event has none, holds nothing, and says nothing.
    served.fake.fold("paris", 2, 0);
    served.fake.live.lock().unwrap().get_mut("paris").unwrap()[1].watermark = None;
    assert_eq!(told(), final_at("2026-01-01T00:02:00Z"));
    // A saved one that is behind keeps the window open; and so it is on the stream and by parameter.
    served.fake.save("paris", 0, 5);
    assert_eq!(told(), (json!("2026-01-01T00:00:59Z"), json!(false)));
    assert_eq!(served.follow("/v1/hunts/paris/stream").next().unwrap()["view"]["per_minute"][0]["final"], false);
    assert_eq!(served.get("/v1/hunts?id=paris").json()["view"]["per_minute"][0]["final"], false);
    // Past an hour of silence on its partition's clock it moves on, to the window's very end.
    let saved = |change: &dyn Fn(&mut PartialRow)| {
        change(&mut served.fake.stored.lock().unwrap().get_mut("paris").unwrap().partials[0]);
        told()
    };
    let silence =
        |row: &mut PartialRow, seconds: i64| row.partition_clock = Some(Micros(NEW_YEAR.0 + (59 + 3600 + seconds) * SECOND));
    assert_eq!(saved(&|row| silence(row, 0)), (json!("2026-01-01T00:00:59Z"), json!(false)));
    assert_eq!(saved(&|row| silence(row, 1)), final_at("2026-01-01T00:01:00Z"));
    // A partial that holds its first events has no watermark, and they may fall into any window.
    let held = saved(&|row| {
        let lag = Lag { position: Position(4), clock: None, held: 3, reasons: LagReasons::default() };
        row.snapshot = Snapshot { state: None, readers: None, lag: Some(lag), ..row.snapshot.clone() };
    });
    assert_eq!(held, (Value::Null, json!(false)));
    served.fake.live.lock().unwrap().clear();
    assert_eq!(told(), (Value::Null, json!(false)));
}

#[test]
fn the_rollup_is_whole_before_anything_was_saved_and_says_what_the_store_says_after() {
    let served = Served::new();
    assert_eq!(served.get("/v1/rollup").json(), json!({"view": {"per_minute": [], "solved": 0}, "updated_at": null}));
    let line = |aggregate: &str, value: &str, seconds| RollupLine {
        aggregate: aggregate.into(),
        value: value.into(),
        updated_at: Micros(NEW_YEAR.0 + seconds * SECOND),
    };
    *served.fake.rollup.lock().unwrap() = vec![line("solved", "123456789012345678901234567890", 3)];
    let reply = served.get("/v1/rollup");
    let text = String::from_utf8(reply.body.clone()).unwrap();
    assert!(text.contains("\"solved\":123456789012345678901234567890"), "large integers stay exact: {text}");
    let window = r#"[{"start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:01:00Z","value":7}]"#;
    *served.fake.rollup.lock().unwrap() = vec![line("per_minute", window, 9), line("solved", "7", 4), line("unknown", "1", 2)];
    let rollup = served.get("/v1/rollup").json();
    assert_eq!(rollup["updated_at"], "2026-01-01T00:00:09Z");
    let window: Value = serde_json::from_str(window).unwrap();
    assert_eq!(rollup["view"], json!({"per_minute": window, "solved": 7}), "windows of a rollup are never final");
    served.refused("GET", "/v1/rollup?x=1", "", 400, "parameter");
    *served.fake.down.lock().unwrap() = true;
    served.refused("GET", "/v1/rollup", "", 503, "store");
}

#[test]
fn a_tripped_breaker_is_told_and_reset() {
    let served = Served::new();
    let tripped = |partition, words: &str| PartitionLine { tripped: Some(words.into()), ..line(partition, 20, Some("other")) };
    *served.fake.lines.lock().unwrap() = vec![line(0, 10, Some("me")), tripped(1, "saved words"), line(2, 10, Some("me"))];
    let live = LivePartition {
        partition: PartitionId::new("hunt-events", 0),
        position: Some(Position(50)),
        end: Some(Position(75)),
        state: "tripped",
        tripped: Some("words of this moment".into()),
        epoch: Epoch(3),
    };
    *served.fake.partitions.lock().unwrap() = vec![live];
    let page = served.get("/v1/partitions").json();
    let told: Vec<(&Value, &Value)> =
        page["partitions"].as_array().unwrap().iter().map(|line| (&line["state"], &line["tripped"])).collect();
    let text = |state: &str| json!(state);
    assert_eq!(
        told,
        [
            (&text("tripped"), &text("words of this moment")),
            (&text("tripped"), &text("saved words")),
            (&text("elsewhere"), &Value::Null)
        ]
    );

    // Asked and not waited for; waited for; waited for in vain.
    let reset = |partition: i32, query: &str| served.post(&format!("/v1/partitions/hunt%2Devents/{partition}/reset{query}"), "");
    let reply = reset(1, "");
    assert_eq!((reply.status, reply.json()), (202, json!({"id": 1, "act": "reset", "done": false, "result": null})));
    let reply = reset(0, "?wait=5s");
    assert_eq!((reply.status, reply.json()), (202, json!({"id": 2, "act": "reset", "done": true, "result": "reset"})));
    *served.fake.idle.lock().unwrap() = true;
    let begun = Instant::now();
    let reply = reset(0, "?wait=300ms");
    assert_eq!((reply.status, &reply.json()["done"]), (202, &json!(false)));
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    {
        let asked = served.fake.asked.lock().unwrap();
        let partitions: Vec<i32> = asked.iter().map(|ask| ask.partition.as_ref().unwrap().partition).collect();
        assert_eq!(partitions, [1, 0, 0]);
        assert!(asked.iter().all(|ask| ask.act == Act::Reset && ask.by.as_deref() == Some("the API, from 127.0.0.1")));
    }

    for (path, status, kind) in [
        ("/v1/partitions/hunt-events/2/reset", 409, "not-tripped"),
        ("/v1/partitions/hunt-events/9/reset", 404, "unknown-partition"),
        ("/v1/partitions/other/1/reset", 404, "unknown-partition"),
        ("/v1/partitions/hunt-events/x/reset", 400, "parameter"),
        ("/v1/partitions/hunt-events/1/reset?wait=9s", 400, "parameter"),
        ("/v1/partitions/hunt-events/1/reset?wait=soon", 400, "parameter"),
        ("/v1/partitions/hunt-events/1/reset?now", 400, "parameter"),
    ] {
        served.refused("POST", path, "Content-Length: 0\r\n", status, kind);
    }
    served.refused("GET", "/v1/partitions/hunt-events/1/reset", "", 405, "method");
    assert_eq!(served.ask("GET", "/v1/partitions/hunt-events/1/reset", "").header("allow"), Some("POST"));
    served.refused("POST", "/v1/partitions/hunt-events/1/reset", "Origin: http://evil.example\r\n", 403, "cross-origin");
    *served.fake.down.lock().unwrap() = true;
    served.refused("POST", "/v1/partitions/hunt-events/1/reset", "", 503, "store");
    assert_eq!(served.fake.asked.lock().unwrap().len(), 3, "what is refused is not asked");
}

#[test]
fn acting_takes_an_admin_token() {
    let served = Served::with(|settings| {
        settings.read_tokens = vec!["reads".into()];
        settings.admin_tokens = vec!["acts".into()];
    });
    *served.fake.lines.lock().unwrap() = vec![PartitionLine { tripped: Some("words".into()), ..line(1, 20, Some("other")) }];
    let path = "/v1/partitions/hunt-events/1/reset";
    served.refused("POST", path, "", 401, "unauthorized");
    served.refused("POST", path, "Authorization: Bearer reads\r\n", 403, "forbidden");
    assert!(served.fake.asked.lock().unwrap().is_empty());
    assert_eq!(served.post(path, "Authorization: Bearer acts\r\n").status, 202);
    assert_eq!(served.fake.asked.lock().unwrap().len(), 1);
}

#[test]
fn hunt_ids_are_any_text_an_event_can_carry() {
    let served = Served::new();
    for id in ["a/b", "..", ".", "a b+c%2F", "zürich \u{1F5FA}", "<script>alert(1)</script>", "stream", "?id=&", "100%"] {
        served.fake.save(id, 0, 1);
        let encoded: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(served.get(&format!("/v1/hunts?id={encoded}")).json()["hunt_id"], id);
        assert_eq!(served.get(&format!("/v1/hunts/{encoded}")).json()["hunt_id"], id);
    }
    for path in
        ["/v1/hunts/%FF", "/v1/hunts/a%00b", "/v1/hunts?id=", "/v1/hunts?id=%C3%28", &format!("/v1/hunts/{}", "x".repeat(513))]
    {
        let problem = served.refused("GET", path, "", 400, "parameter");
        assert_eq!(problem["errors"][0]["parameter"], "id", "{path}");
    }
    for path in ["/v1/hunts/", "/v1/hunts/a/b/c", "/v1", "/v2/hunts", "/v1/hunts/a/stream/"] {
        served.refused("GET", path, "", 404, "unknown-path");
    }
}

#[test]
fn hunts_come_in_pages() {
    let served = Served::new();
    for n in 0..7 {
        served.fake.save(&format!("hunt-{n}"), 0, n);
    }
    served.fake.stored.lock().unwrap().get_mut("hunt-3").unwrap().status = Status::Parked;
    let (mut ids, mut path) = (Vec::new(), "/v1/hunts?limit=3".to_owned());
    let mut pages = 0;
    loop {
        let page = served.get(&path).json();
        ids.extend(page["hunts"].as_array().unwrap().iter().map(|line| line["hunt_id"].as_str().unwrap().to_owned()));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/hunts?limit=3&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((ids.len(), pages), (7, 3));
    assert!(ids.is_sorted());
    let parked = served.get("/v1/hunts?status=parked").json();
    assert_eq!(
        parked["hunts"],
        json!([{"hunt_id": "hunt-3", "events": 3, "status": "parked", "last_event_at": "2026-01-01T00:00:59Z"}])
    );
    assert_eq!(served.get("/v1/hunts?limit=7").json()["next"], Value::Null);
}

#[test]
fn wrong_requests_are_problems_that_say_what_was_found_and_expected() {
    let served = Served::new();
    for (path, parameter) in [
        ("/v1/hunts?limit=0", "limit"),
        ("/v1/hunts?limit=1001", "limit"),
        ("/v1/hunts?cursor=nope", "cursor"),
        ("/v1/hunts?status=dead", "status"),
        ("/v1/hunts?colour=blue", "colour"),
        ("/v1/hunts?limit=1&limit=2", "limit"),
        ("/v1/hunts?id=a&limit=3", "limit"),
        ("/v1/hunts?stream=true", "stream"),
        ("/v1/hunts/a?x=1", "x"),
        ("/v1/partitions?limit=1", "limit"),
        ("/v1/dead-letters?reason=bored", "reason"),
        ("/v1/dead-letters?state=gone", "state"),
        ("/v1/dead-letters?hunt=", "hunt"),
        ("/v1/dead-letters/t/-1/0", "partition"),
        ("/v1/dead-letters/t/0/x", "offset"),
        ("/healthz?verbose", "verbose"),
        ("/metrics?name=x", "name"),
    ] {
        let problem = served.refused("GET", path, "", 400, "parameter");
        assert_eq!(problem["errors"][0]["parameter"], parameter, "{path}");
        assert!(!problem["errors"][0]["expected"].as_str().unwrap().is_empty());
    }
    served.refused("GET", "/nothing", "", 404, "unknown-path");
    served.refused("GET", "/v1/dead-letters/t/0/0", "", 404, "unknown-dead-letter");
    served.refused("POST", "/v1/hunts", "Content-Length: 0\r\n", 405, "method");
    served.refused("GET", &format!("/v1/hunts?id={}", "x".repeat(9000)), "", 414, "uri-too-long");
    served.refused("GET", "/v1/hunts", &format!("X-Big: {}\r\n", "x".repeat(17_000)), 431, "headers-too-large");
    served.refused("POST", "/v1/hunts", "Content-Length: 70000\r\n", 413, "body-too-large");
    let reply = served.ask("HEAD", "/v1/hunts", "");
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    let reply = served.ask("DELETE", "/v1/hunts", "");
    assert_eq!(reply.header("allow"), Some("GET, HEAD"));
}

#[test]
fn partitions_join_what_is_read_here_with_what_is_saved() {
    let served = Served::new();
    *served.fake.lines.lock().unwrap() = vec![line(0, 10, Some("me")), line(1, 20, Some("other")), line(2, 30, None)];
    let live = |partition, epoch, state| LivePartition {
        partition: PartitionId::new("hunt-events", partition),
        position: Some(Position(50)),
        end: Some(Position(75)),
        state,
        tripped: None,
        epoch: Epoch(epoch),
    };
    // Partition 1 was taken from us under a newer epoch; partition 3 is claimed but not in the store's answer yet.
    *served.fake.partitions.lock().unwrap() = vec![live(0, 3, "running"), live(1, 2, "running"), live(3, 1, "claiming")];
    let page = served.get("/v1/partitions").json();
    let told: Vec<Value> = page["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| json!([line["partition"], line["position"], line["lag"], line["state"], line["owner"]]))
        .collect();
    assert_eq!(
        told,
        [
            json!([0, 50, 25, "running", "me"]),
            json!([1, 20, null, "elsewhere", "other"]),
            json!([2, 30, null, "unclaimed", null]),
            json!([3, 50, 25, "claiming", null]),
        ]
    );
    *served.fake.down.lock().unwrap() = true;
    let page = served.get("/v1/partitions").json();
    assert_eq!((&page["complete"], page["partitions"].as_array().unwrap().len()), (&json!(false), 3));
}

#[test]
fn dead_letters_are_listed_in_part_and_shown_whole() {
    let served = Served::new();
    let long = "é".repeat(4000);
    *served.fake.letters.lock().unwrap() = (0..40)
        .map(|n| {
            letter(n, if n == 39 { Reason::TooLarge } else { Reason::NotObject }, if n == 0 { long.as_bytes() } else { b"7" })
        })
        .collect();
    let page = served.get("/v1/dead-letters?limit=39").json();
    assert_eq!(page["dead_letters"].as_array().unwrap().len(), 39);
    let value = &page["dead_letters"][0]["contents"]["value"];
    assert_eq!((&value["bytes"], &value["truncated"], value["text"].as_str().unwrap().len()), (&json!(8000), &json!(true), 4096));
    assert_eq!(
        page["dead_letters"][1]["contents"]["key"],
        json!({"base64": "/wA=", "text": null, "bytes": 2, "truncated": false})
    );
    assert_eq!(page["dead_letters"][1]["contents"]["headers"], json!([["trace", "YWJj"], ["empty", null]]));
    let last = served.get(&format!("/v1/dead-letters?cursor={}", page["next"].as_str().unwrap())).json();
    assert_eq!((last["dead_letters"].as_array().unwrap().len(), &last["next"]), (1, &Value::Null));
    assert_eq!(served.get("/v1/dead-letters?reason=too_large&state=rejected&hunt=paris").json()["dead_letters"][0]["offset"], 39);
    let whole = served.get("/v1/dead-letters/hunt-events/0/0").json();
    assert_eq!(whole["contents"]["value"]["text"], long);

    // A page of large letters ends early rather than large.
    let large = [b'x'; 4096];
    *served.fake.letters.lock().unwrap() = (0..600).map(|n| letter(n, Reason::TooLarge, &large)).collect();
    let page = served.get("/v1/dead-letters?limit=1000");
    assert!(page.body.len() < 6 << 20, "{}", page.body.len());
    assert!(page.json()["next"].is_string());
}

#[test]
fn tokens_decide_what_is_answered() {
    let served = Served::with(|settings| {
        settings.read_tokens = vec!["reads".into()];
        settings.admin_tokens = vec!["acts".into()];
    });
    served.fake.letters.lock().unwrap().push(letter(7, Reason::NotObject, b"7"));
    for open in ["/healthz", "/readyz", "/", "/app.js", "/style.css"] {
        assert_eq!(served.get(open).status, 200, "{open}");
    }
    for closed in ["/v1/hunts", "/v1/partitions", "/v1/dead-letters", "/metrics", "/openapi.json", "/nothing"] {
        served.refused("GET", closed, "", 401, "unauthorized");
        served.refused("GET", closed, "Authorization: Bearer guessed\r\n", 401, "unauthorized");
    }
    let reply = served.ask("GET", "/v1/hunts", "");
    assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"huntline\""));
    let reader = served.ask("GET", "/v1/dead-letters", "Authorization: Bearer reads\r\n").json();
    assert_eq!((&reader["dead_letters"][0]["offset"], reader["dead_letters"][0].get("contents")), (&json!(7), None));
    let admin = served.ask("GET", "/v1/dead-letters", "Authorization: Bearer acts\r\n").json();
    assert_eq!(admin["dead_letters"][0]["contents"]["value"]["text"], "7");
    served.refused("POST", "/v1/hunts", "Authorization: Bearer reads\r\nContent-Length: 0\r\n", 403, "forbidden");
    served.refused("POST", "/v1/hunts", "Authorization: Bearer acts\r\nContent-Length: 0\r\n", 405, "method");
}

#[test]
fn a_browser_is_not_used_against_a_daemon_on_loopback() {
    let served = Served::new();
    served.refused("GET", "/v1/hunts", "Host: evil.example\r\n", 421, "host");
    served.refused("GET", "/v1/hunts", "Origin: http://evil.example\r\n", 403, "cross-origin");
    served.refused("GET", "/v1/hunts", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", 403, "cross-origin");
    assert_eq!(served.ask("GET", "/", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n").status, 200);
    let own = format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", served.address);
    assert_eq!(served.ask("GET", "/v1/hunts", &own).status, 200);
    let page = served.get("/");
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'; script-src 'self'"));
    assert_eq!(served.get("/v1/hunts").header("cache-control"), Some("no-store"));
}

#[test]
fn readiness_names_every_reason() {
    let served = Served::new();
    assert_eq!(served.get("/readyz").status, 200);
    served.fake.unready.lock().unwrap().push("hunt-events/3 is not claimed yet".into());
    *served.fake.down.lock().unwrap() = true;
    documented("get", "/readyz", &served.ask("GET", "/readyz", ""));
    let problem = served.refused("GET", "/readyz", "", 503, "not-ready");
    assert_eq!(problem["reasons"], json!(["hunt-events/3 is not claimed yet", "the store does not answer"]));
    assert_eq!(served.get("/healthz").status, 200);
    let problem = served.refused("GET", "/v1/hunts", "", 503, "store");
    assert!(!problem.to_string().contains("secret-host"), "the inside stays inside");
}

#[test]
fn a_stream_tells_each_change_and_no_more_than_four_a_second() {
    let served = Served::new();
    served.fake.fold("paris", 0, 1);
    let begun = Instant::now();
    let mut events = served.follow("/v1/hunts/paris/stream");
    assert_eq!(events.next().unwrap()["events"], 1);
    let mut told = 1;
    let mut last = 1;
    for n in 2..=500 {
        served.fake.fold("paris", 0, n);
    }
    while last < 500 {
        last = events.next().unwrap()["events"].as_i64().unwrap();
        told += 1;
    }
    assert!(u128::try_from(told - 1).unwrap() <= 1 + begun.elapsed().as_millis() / 250, "{told} events in {:?}", begun.elapsed());
    // What only the store knows comes too.
    served.fake.save("paris", 1, 10);
    assert_eq!(events.next().unwrap()["events"], 510);
    // The store going away ends nothing.
    *served.fake.down.lock().unwrap() = true;
    served.fake.fold("paris", 0, 501);
    *served.fake.down.lock().unwrap() = false;
    assert_eq!(events.next().unwrap()["events"], 511);
    served.closing.send_replace(true);
    assert_eq!(events.next(), None, "it ends with the daemon");
}

#[test]
fn streams_are_bounded_and_seats_come_back() {
    let served = Served::new();
    served.fake.fold("..", 0, 1);
    served.refused("GET", "/v1/hunts/nobody/stream", "", 404, "unknown-hunt");
    assert_eq!(served.ask("HEAD", "/v1/hunts?id=..&stream=true", "").status, 405);
    let mut first = served.follow("/v1/hunts?id=..&stream=true");
    let mut second = served.follow("/v1/hunts?id=..&stream=true");
    assert!(first.next().is_some() && second.next().is_some());
    let reply = served.ask("GET", "/v1/hunts?id=..&stream=true", "");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut events = 1;
    loop {
        // The server learns of a closed connection when it writes to it.
        events += 1;
        served.fake.fold("..", 0, events);
        second.next();
        let mut third = served.follow("/v1/hunts?id=..&stream=true");
        if third.next().is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "no seat came back");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let served = Served::new();
    let (_closing, receiver) = watch::channel(false);
    let settings = Settings {
        listen: served.address.to_string(),
        advertise: String::new(),
        read_tokens: Vec::new(),
        admin_tokens: Vec::new(),
        time: time(),
        rollup: Vec::new(),
        streams: 1,
        closing: receiver,
    };
    let (_, exposition) = metrics::recorder();
    let error = server(settings, served.fake.clone(), served.fake.clone(), exposition).err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&served.address.to_string()), "{error}");
}
