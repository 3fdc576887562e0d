//! What is scraped: the text format read as [`Samples`], and a real [`Prometheus`] that scrapes and answers queries.

use super::daemon::request;
use super::{Process, Scratch, await_until, free_port};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// One scrape, in the order of its lines.
#[derive(Debug)]
pub struct Samples(Vec<Sample>);

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Samples {
    /// Reads the Prometheus text format.
    #[track_caller]
    pub fn parse(text: &str) -> Samples {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Samples(lines.map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}"))).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.0.iter()
    }

    /// The sum of the samples of this name that carry these labels, and perhaps others; `None` if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let carries =
            |sample: &Sample| labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value));
        let mut found =
            self.0.iter().filter(|sample| sample.name == name && carries(sample)).map(|sample| sample.value).peekable();
        found.peek()?;
        Some(found.sum())
    }
}

/// `name{label="value",…} value [timestamp]`
fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.to_owned(), value);
            rest = after;
        }
    }
    let value = match rest.split_whitespace().next()? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().ok()?,
    };
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The text up to the closing quote, unescaped, and what follows the quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

/// One series of an answer, now.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A Prometheus server that scrapes one target, twice a second, as the job `huntline`.
pub struct Prometheus {
    port: u16,
    process: Process,
    _scratch: Scratch,
}

impl Prometheus {
    /// Starts it and returns when it has scraped `metrics_url` once.
    #[track_caller]
    pub fn start(metrics_url: &str) -> Prometheus {
        let (host, path) = metrics_url
            .strip_prefix("http://")
            .and_then(|url| url.split_once('/'))
            .unwrap_or_else(|| panic!("{metrics_url} is not http://HOST:PORT/PATH"));
        let scratch = Scratch::new("prometheus");
        let config = format!(
            "global:\n  scrape_interval: 500ms\n  scrape_timeout: 500ms\n\
             scrape_configs:\n  - job_name: huntline\n    metrics_path: /{path}\n    static_configs:\n      - targets: [\"{host}\"]\n"
        );
        let config_file = scratch.join("prometheus.yml");
        fs::write(&config_file, config).expect("write prometheus.yml");
        let port = free_port();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config_file.display()));
        command.arg(format!("--storage.tsdb.path={}", scratch.join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = Process::start("Prometheus", command, &scratch.join("output"));
        let mut prometheus = Prometheus { port, process, _scratch: scratch };
        await_until(Duration::from_secs(60), "Prometheus has scraped its target", || {
            if let Some(status) = prometheus.process.exited() {
                panic!("Prometheus ended ({status}):\n{}", prometheus.process.tail());
            }
            match prometheus.query("up == 1")?.as_slice() {
                [] => Err(format!("{metrics_url} is not up")),
                _ => Ok(()),
            }
        });
        prometheus
    }

    /// The series that an expression has now. The error is Prometheus's own, or that it cannot be reached.
    pub fn query(&self, expression: &str) -> Result<Vec<Series>, String> {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let query = percent_encoding::utf8_percent_encode(expression, percent_encoding::NON_ALPHANUMERIC);
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let (_, body) = request("POST", &url, &form, Some(&format!("query={query}")))?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        if answer["status"] != "success" {
            return Err(format!("{expression}: {}", answer["error"].as_str().unwrap_or(&body)));
        }
        let result = &answer["data"]["result"];
        match answer["data"]["resultType"].as_str() {
            Some("scalar") => Ok(vec![Series { labels: BTreeMap::new(), value: number(&result[1])? }]),
            Some("vector") => result
                .as_array()
                .into_iter()
                .flatten()
                .map(|series| {
                    let labels = serde_json::from_value(series["metric"].clone()).map_err(|error| error.to_string())?;
                    Ok(Series { labels, value: number(&series["value"][1])? })
                })
                .collect(),
            other => Err(format!("{expression}: a {other:?} is neither a vector nor a scalar")),
        }
    }
}

/// Prometheus writes numbers as text, NaN and infinities included.
fn number(value: &Value) -> Result<f64, String> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| format!("{value} is no number"))
}

#[test]
fn samples_are_read_with_their_labels() {
    let samples = Samples::parse(
        "# TYPE a_total counter\na_total{topic=\"x\\\"y\\n\",outcome=\"applied\"} 3\na_total{topic=\"z\",outcome=\"applied\"} 4 1700000000000\n\nb 1e3\nb_bucket{le=\"+Inf\"} +Inf\n",
    );
    assert_eq!(samples.iter().count(), 4);
    assert_eq!(samples.sum("a_total", &[("outcome", "applied")]), Some(7.0));
    assert_eq!(samples.sum("a_total", &[("topic", "x\"y\n")]), Some(3.0));
    assert_eq!(samples.sum("a_total", &[("topic", "none")]), None);
    assert_eq!((samples.sum("b", &[]), samples.sum("b_bucket", &[])), (Some(1000.0), Some(f64::INFINITY)));
}
