//! The dashboard and the alert rules: they parse, ask only for metrics that the contract names, and every panel answers.
//!
//! [`every_panel_answers`] is the door for tests of the daemon: a real Prometheus scrapes it and evaluates each panel's queries. Its
//! own test runs it against an exposition made from the contract's list.

use crate::harness::prometheus::Prometheus;
use crate::harness::{Process, Scratch, await_until, free_port};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}
use Kind::{Counter, Gauge, Histogram};

/// Every metric of the contract: name without prefix, kind, labels.
const METRICS: &[(&str, Kind, &[&str])] = &[
    ("records_total", Counter, &["topic", "outcome"]),
    ("replayed_total", Counter, &[]),
    ("late_total", Counter, &["aggregate"]),
    ("dead_letters_total", Counter, &["reason"]),
    ("consumer_lag", Gauge, &["topic", "partition"]),
    ("position", Gauge, &["topic", "partition"]),
    ("hunts", Gauge, &["state"]),
    ("hunt_restarts_total", Counter, &[]),
    ("hunt_passivations_total", Counter, &[]),
    ("held_oldest_seconds", Gauge, &[]),
    ("apply_seconds", Histogram, &[]),
    ("event_to_view_seconds", Histogram, &[]),
    ("event_to_store_seconds", Histogram, &[]),
    ("snapshot_seconds", Histogram, &[]),
    ("snapshot_rows", Histogram, &[]),
    ("snapshot_bytes", Histogram, &[]),
    ("snapshot_age_seconds", Gauge, &["topic", "partition"]),
    ("pending_bytes", Gauge, &[]),
    ("store_errors_total", Counter, &["kind"]),
    ("rebalances_total", Counter, &["kind"]),
    ("fenced_total", Counter, &[]),
    ("stalls_total", Counter, &[]),
    ("breaker_tripped", Gauge, &["topic", "partition"]),
    ("build_info", Gauge, &["version"]),
];

/// Labels that Prometheus adds when it scrapes.
const SCRAPED: [&str; 2] = ["job", "instance"];

fn grafana(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana").join(file)
}

/// Every query of the dashboard as Prometheus gets it, with the title of its panel.
fn queries() -> Vec<(String, String)> {
    let text = fs::read_to_string(grafana("dashboards/huntline.json")).expect("read the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("the dashboard is JSON");
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().expect("a title");
        let targets = panel["targets"].as_array().unwrap_or_else(|| panic!("{title}: no targets"));
        assert!(!targets.is_empty(), "{title}: no query");
        for target in targets {
            let expression = target["expr"].as_str().unwrap_or_else(|| panic!("{title}: a target without expr"));
            let expression = expression.replace("$__rate_interval", "30s").replace("$job", ".*");
            assert!(!expression.contains('$'), "{title}: a variable that this test does not know: {expression}");
            queries.push((title.to_owned(), expression));
        }
    }
    queries
}

/// Lets a real Prometheus scrape `metrics_url` and waits until every query of the dashboard has an answer: at least one series with
/// a number. While it waits, whatever is measured has to go on happening: a quantile of nothing is no number.
#[track_caller]
pub fn every_panel_answers(metrics_url: &str) {
    let prometheus = Prometheus::start(metrics_url);
    let mut unanswered = queries();
    await_until(Duration::from_secs(90), "every panel answers", || {
        unanswered.retain(|(_, expression)| match prometheus.query(expression) {
            Ok(series) => series.iter().all(|series| series.value.is_nan()),
            Err(error) => panic!("{error}"),
        });
        if unanswered.is_empty() { Ok(()) } else { Err(unanswered.clone()) }
    });
}

#[test]
fn every_panel_answers_where_every_metric_is_exposed() {
    every_panel_answers(&serve_every_metric());
}

#[test]
fn the_dashboard_asks_only_for_metrics_of_the_contract() {
    for (title, expression) in queries() {
        let used = used(&expression).unwrap_or_else(|error| panic!("{title}: {error}: {expression}"));
        assert!(!used.is_empty(), "{title} asks for nothing of huntline's: {expression}");
    }
}

#[test]
fn the_dashboard_shows_every_metric_of_the_contract() {
    let shown: BTreeSet<&str> = queries().iter().flat_map(|(_, expression)| used(expression).expect("known metrics")).collect();
    let missing: Vec<_> = METRICS.iter().filter(|(name, _, _)| !shown.contains(name)).map(|(name, _, _)| name).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

#[test]
fn the_dashboard_has_panels_that_do_not_overlap_under_ids_of_their_own() {
    let text = fs::read_to_string(grafana("dashboards/huntline.json")).expect("read the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("the dashboard is JSON");
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "two panels {}", panel["id"]);
        let place = |side: &str| panel["gridPos"][side].as_u64().expect("a place");
        assert!(place("x") + place("w") <= 24, "panel {} is wider than the page", panel["id"]);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(cells.insert((x, y)), "panel {} covers another", panel["id"]);
            }
        }
    }
}

#[test]
fn the_alert_rules_pass_their_own_tests() {
    let rules = grafana("alerts/huntline.rules.yml");
    promtool(&["check", "rules", rules.to_str().expect("a path")]);
    promtool(&["test", "rules", grafana("alerts/huntline.test.yml").to_str().expect("a path")]);
    let text = fs::read_to_string(rules).expect("read the rules");
    let mut alerts = BTreeSet::new();
    for rule in text.split("- alert: ").skip(1) {
        let (name, rest) = rule.split_once('\n').expect("a rule of several lines");
        assert!(alerts.insert(name), "{name} twice");
        let expression = rest.split("labels: {").next().expect("an expression");
        assert!(
            !used(expression).unwrap_or_else(|error| panic!("{name}: {error}")).is_empty(),
            "{name} asks for nothing of huntline's"
        );
    }
    let tests = fs::read_to_string(grafana("alerts/huntline.test.yml")).expect("read the tests of the rules");
    let untested: Vec<_> = alerts.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(untested.is_empty(), "never seen firing: {untested:?}");
}

#[test]
fn every_query_parses() {
    let mut rules = "groups:\n  - name: panels\n    rules:\n".to_owned();
    for (index, (_, expression)) in queries().iter().enumerate() {
        let quoted = serde_json::to_string(expression).expect("text");
        writeln!(rules, "      - record: panel:{index}\n        expr: {quoted}").expect("write to text");
    }
    let scratch = Scratch::new("promtool");
    let file = scratch.join("panels.yml");
    fs::write(&file, rules).expect("write rules");
    promtool(&["check", "rules", file.to_str().expect("a path")]);
}

fn promtool(args: &[&str]) {
    let scratch = Scratch::new("promtool");
    let mut command = Command::new("promtool");
    command.args(args);
    let mut tool = Process::start("promtool", command, &scratch.join("output"));
    let status = tool.await_exit(Duration::from_secs(60));
    assert!(status.success(), "promtool {args:?}:\n{}", tool.tail());
}

/// The contract's metrics that an expression uses; an error names one that is unknown, or a label that they do not carry.
fn used(expression: &str) -> Result<BTreeSet<&'static str>, String> {
    let mut metrics = BTreeSet::new();
    let mut labels: BTreeSet<&str> = SCRAPED.into();
    for word in expression.split(|character: char| !character.is_ascii_alphanumeric() && character != '_') {
        let Some(name) = word.strip_prefix("huntline_") else { continue };
        let known = METRICS.iter().find(|(metric, kind, _)| match name.strip_prefix(metric) {
            Some("") => *kind != Histogram,
            Some("_bucket" | "_sum" | "_count") => *kind == Histogram,
            _ => false,
        });
        let (metric, kind, carried) = known.ok_or_else(|| format!("{word} is no metric of the contract"))?;
        metrics.insert(*metric);
        labels.extend(*carried);
        if *kind == Histogram {
            labels.insert("le");
        }
    }
    match labels_of(expression).into_iter().find(|label| !labels.contains(label)) {
        Some(label) => Err(format!("none of {metrics:?} carries the label {label}")),
        None => Ok(metrics),
    }
}

/// The labels that selectors match and that `by` and `on` name.
fn labels_of(expression: &str) -> Vec<&str> {
    let mut labels = Vec::new();
    for selector in expression.split('{').skip(1) {
        let inside = selector.split('}').next().unwrap_or_default();
        labels.extend(inside.split(',').filter_map(|matcher| matcher.split(['=', '!']).next()));
    }
    for keyword in [" by (", " on ("] {
        for list in expression.split(keyword).skip(1) {
            labels.extend(list.split(')').next().unwrap_or_default().split(','));
        }
    }
    labels.into_iter().map(str::trim).filter(|label| !label.is_empty()).collect()
}

#[test]
fn unknown_metrics_and_labels_are_noticed() {
    assert!(used("sum by (topic) (rate(huntline_records_total{outcome=\"applied\"}[5m]))").is_ok());
    for wrong in [
        "huntline_record_total",
        "huntline_snapshot_seconds",
        "huntline_position_sum",
        "sum by (topic, reason) (huntline_records_total)",
        "huntline_position{hunt=\"a\"}",
    ] {
        assert!(used(wrong).is_err(), "{wrong}");
    }
}

/// Serves, on a free port for as long as this process lives, an exposition of every metric; each scrape finds the counters higher.
fn serve_every_metric() -> String {
    let port = free_port();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("listen");
    thread::spawn(move || {
        for (scrape, connection) in listener.incoming().flatten().enumerate() {
            let mut reader = BufReader::new(&connection);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                line.clear();
            }
            let body = exposition(scrape as u64 + 1);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = (&connection).write_all(head.as_bytes()).and_then(|()| (&connection).write_all(body.as_bytes()));
        }
    });
    format!("http://127.0.0.1:{port}/metrics")
}

fn exposition(scrape: u64) -> String {
    let mut text = String::new();
    for (name, kind, labels) in METRICS {
        let labels: Vec<String> = labels.iter().map(|label| format!("{label}=\"0\"")).collect();
        let labels = labels.join(",");
        match kind {
            Counter => writeln!(text, "huntline_{name}{{{labels}}} {}", scrape * 10),
            Gauge => writeln!(text, "huntline_{name}{{{labels}}} {scrape}"),
            Histogram => ["0.1", "1", "+Inf"]
                .iter()
                .try_for_each(|bound| writeln!(text, "huntline_{name}_bucket{{le=\"{bound}\"}} {}", scrape * 10))
                .and_then(|()| writeln!(text, "huntline_{name}_sum {scrape}\nhuntline_{name}_count {}", scrape * 10)),
        }
        .expect("write to text");
    }
    text
}
