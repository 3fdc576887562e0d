//! **Compiling**: the configuration as written becomes [`Settings`] as run. What a single value
//! means and what values mean together is checked here; every problem is reported, none ends it.
//!
//! Invariant: settings come out only when nothing was refused.

use super::definitions;
use super::layer::{Layer, Name, Node, Path, Value, quote};
use super::problems::{Place, Problem};
use super::refused::{REFUSED, Trial};
use super::secrets::{MASK, Secret, is_secret_key, mask_url, split_url};
use super::settings::{
    Breaker, EmbeddedLog, Failure, Format, Http, Kafka, Level, Logging, OnGap, Policy, Properties, Settings, Snapshot, Start,
    StoreUrl,
};
use super::structure::nearest;
use super::written::{self, Written};
use crate::time::Micros;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The settings, unless anything was refused. `layers` say where things stand; `problems` already holds what did not fit.
/// `this_version`: refuse what is not built yet.
/// `trial`: asked about librdkafka's properties.
pub(super) fn compile(
    written: &Written,
    layers: &[Layer],
    problems: &mut Vec<Problem>,
    this_version: bool,
    trial: Trial<'_>,
) -> Option<Settings> {
    let mut compiler = Compiler { layers, problems, trial };
    let settings = compiler.settings(written);
    if this_version && settings.failure.policy == Policy::Park {
        compiler.refuse(&Path::of(["failure", "policy"]), "\"park\"", "\"dead_letter\": this version does not park yet");
    }
    compiler.problems.is_empty().then_some(settings)
}

pub(super) struct Compiler<'a> {
    layers: &'a [Layer],
    pub problems: &'a mut Vec<Problem>,
    trial: Trial<'a>,
}

impl Compiler<'_> {
    fn settings(&mut self, written: &Written) -> Settings {
        let embedded_log = self.embedded_log(written);
        let kafka = match embedded_log {
            None => Some(self.kafka(&written.kafka.clone().unwrap_or_default())),
            Some(_) => None,
        };
        let definitions = definitions::compile(self, written, kafka.as_ref().map(|k| k.topics.as_slice()));
        let snapshot = written.snapshot.clone().unwrap_or_default();
        let logging = written.logging.clone().unwrap_or_default();
        let letters = written.dead_letters.clone().unwrap_or_default();
        let passivate = written.passivate.clone().unwrap_or_default();
        Settings {
            kafka,
            embedded_log,
            store: self.store(&written.store.clone().unwrap_or_default()),
            snapshot: Snapshot {
                interval: self.duration(
                    &Path::of(["snapshot", "interval"]),
                    snapshot.interval.as_ref().map(|l| l.0.as_str()),
                    10_000,
                ),
                max_pending: self.size(&Path::of(["snapshot", "max_pending"]), snapshot.max_pending.as_ref(), 1 << 20, 1 << 40),
            },
            http: self.http(&written.http.clone().unwrap_or_default()),
            failure: self.failure(&written.failure.clone().unwrap_or_default()),
            passivate_idle: self.duration(
                &Path::of(["passivate", "idle"]),
                passivate.idle.as_ref().map(|l| l.0.as_str()),
                1_000_000,
            ),
            dead_letters_keep: self
                .micros_or(&Path::of(["dead_letters", "keep"]), letters.keep.as_ref().map(|l| l.0.as_str()), "forever", 1_000)
                .map(|micros| Duration::from_micros(micros.unsigned_abs())),
            logging: Logging {
                level: match logging.level {
                    Some(written::Level::Error) => Level::Error,
                    Some(written::Level::Warn) => Level::Warn,
                    Some(written::Level::Debug) => Level::Debug,
                    Some(written::Level::Trace) => Level::Trace,
                    Some(written::Level::Info) | None => Level::Info,
                },
                format: match logging.format {
                    Some(written::Format::Json) => Format::Json,
                    Some(written::Format::Text) | None => Format::Text,
                },
            },
            definitions,
        }
    }

    /// `Some` when the records come from an embedded log; then `[kafka]` may stand in no layer but the defaults.
    fn embedded_log(&mut self, written: &Written) -> Option<EmbeddedLog> {
        let log = written.embedded_log.as_ref()?;
        let path = Path::of(["embedded_log"]);
        if self.is_set(&Path::of(["kafka"])) {
            self.refuse(&Path::of(["kafka"]), "[kafka] beside [embedded_log]", "one of the two");
        }
        if log.path.as_deref().unwrap_or_default().is_empty() {
            self.missing(&path, "path", "the path of the log's file");
        }
        let partitions = self.integer(&path.key("partitions"), Some(log.partitions.unwrap_or(4)), 1, 1024);
        Some(EmbeddedLog { path: PathBuf::from(log.path.clone().unwrap_or_default()), partitions })
    }

    fn kafka(&mut self, kafka: &written::Kafka) -> Kafka {
        let path = Path::of(["kafka"]);
        let brokers = kafka.brokers.clone().unwrap_or_default();
        if brokers.is_empty() {
            self.refuse(&path.key("brokers"), "an empty list", "at least one broker");
        }
        for (i, broker) in brokers.iter().enumerate() {
            let port = broker.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                self.refuse(&path.key("brokers").index(i), quote(broker), "host:port");
            }
        }
        let group = kafka.group.clone().unwrap_or_default();
        if group.is_empty() {
            self.refuse(&path.key("group"), "\"\"", "the name of a consumer group");
        }
        let topics = kafka.topics.clone().unwrap_or_default();
        if topics.is_empty() {
            self.refuse(&path.key("topics"), "an empty list", "at least one topic");
        }
        for (i, topic) in topics.iter().enumerate() {
            let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
            if topic.is_empty() || topic.len() > 249 || !topic.bytes().all(legal) || topic == "." || topic == ".." {
                self.refuse(&path.key("topics").index(i), quote(topic), "a topic's name: 1 to 249 of a-z A-Z 0-9 . _ -");
            } else if topics[..i].contains(topic) {
                self.refuse(&path.key("topics").index(i), format!("{} twice", quote(topic)), "each topic once");
            }
        }
        let start = match kafka.start.as_deref() {
            Some("beginning") | None => Start::Beginning,
            Some("end") => Start::End,
            Some(text) => match Micros::parse_rfc3339(text.as_bytes()) {
                Some(at) => Start::At(at),
                None => {
                    self.refuse(
                        &path.key("start"),
                        quote(text),
                        "\"beginning\", \"end\" or an RFC 3339 time such as \"2026-01-01T00:00:00Z\"",
                    );
                    self.mean(nearest(text, ["beginning", "end"].into_iter()));
                    Start::Beginning
                }
            },
        };
        let sasl_password =
            self.secret(&path, "sasl_password", kafka.sasl_password.as_ref(), kafka.sasl_password_file.as_deref());
        let librdkafka =
            self.librdkafka(&path.key("librdkafka"), kafka.librdkafka.clone().unwrap_or_default(), sasl_password.is_some());
        Kafka {
            brokers,
            group,
            topics,
            start,
            instance: kafka.instance.clone().filter(|name| !name.is_empty()),
            sasl_password,
            on_gap: match kafka.on_gap {
                Some(written::OnGap::Continue) => OnGap::Continue,
                Some(written::OnGap::Halt) | None => OnGap::Halt,
            },
            librdkafka,
        }
    }

    fn librdkafka(&mut self, path: &Path, written: written::Properties, has_password: bool) -> Properties {
        let mut properties = BTreeMap::new();
        for (name, value) in written.0 {
            let at = path.key(&name);
            let value = match value {
                written::Property::Text(text) => text,
                written::Property::Integer(number) => number.to_string(),
                written::Property::Boolean(boolean) => boolean.to_string(),
            };
            let canonical =
                name.strip_prefix("topic.").filter(|n| *n != "metadata.refresh.interval.ms" && REFUSED.iter().any(|r| r.0 == *n));
            if let Some((name, instead)) = REFUSED.iter().find(|(refused, _)| name == *refused || canonical == Some(refused)) {
                self.refuse_key(&at, format!("{name}, which would break huntline's reading"), *instead);
            } else if (name == "sasl.password" || name == "sasl.mechanisms.password") && has_password {
                self.refuse_key(&at, "a second password", "sasl.password here or sasl_password in [kafka], not both");
            } else if let Some(unfit) = (self.trial)(&name, &value) {
                let found = if !unfit.name && is_secret_key(&name) { MASK.to_owned() } else { unfit.found };
                if unfit.name {
                    self.refuse_key(&at, found, unfit.expected);
                } else {
                    self.refuse(&at, found, unfit.expected);
                }
            }
            properties.insert(name, value);
        }
        Properties(properties)
    }

    fn store(&mut self, store: &written::Store) -> StoreUrl {
        let path = Path::of(["store"]);
        let url = store.url.as_ref().map(|url| url.0.as_str()).unwrap_or_default();
        let password = self.secret(&path, "password", store.password.as_ref(), store.password_file.as_deref());
        let expected = "a URL such as \"postgres://user@host/database\" or \"sqlite:huntline.db\"";
        if let Some(file) = url.strip_prefix("sqlite:") {
            let file = file.strip_prefix("//").unwrap_or(file);
            if file.is_empty() || file.contains(":memory:") {
                self.refuse(&path.key("url"), quote(url), "the path of a file after sqlite:");
            }
            if password.is_some() {
                self.refuse(&path.key("password"), "a password", "none: SQLite takes no password");
            }
            return StoreUrl::Sqlite { path: PathBuf::from(file) };
        }
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        if rest.is_none_or(str::is_empty) {
            self.refuse(&path.key("url"), quote(&mask_url(url)), expected);
        }
        let (url, held) = split_url(url);
        StoreUrl::Postgres { url, password: password.or(held) }
    }

    fn http(&mut self, http: &written::Http) -> Http {
        let path = Path::of(["http"]);
        let auth = http.auth.clone().unwrap_or_default();
        let auth_path = path.key("auth");
        let read_tokens = self.tokens(&auth_path, "read_tokens", auth.read_tokens.as_deref(), auth.read_tokens_file.as_deref());
        let admin_tokens =
            self.tokens(&auth_path, "admin_tokens", auth.admin_tokens.as_deref(), auth.admin_tokens_file.as_deref());
        let insecure = http.insecure.unwrap_or(false);
        let text = http.listen.as_deref().unwrap_or("127.0.0.1:8080");
        let local = text
            .strip_prefix("localhost:")
            .and_then(|port| port.parse().ok())
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let listen = local.or_else(|| text.parse::<SocketAddr>().ok());
        let Some(listen) = listen else {
            self.refuse(&path.key("listen"), quote(text), "address:port such as \"127.0.0.1:8080\" or \"0.0.0.0:8080\"");
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
            return Http { listen, advertise: format!("http://{listen}"), insecure, read_tokens, admin_tokens };
        };
        // With tokens of either kind, a request without one may do nothing.
        let guarded = !read_tokens.is_empty() || !admin_tokens.is_empty();
        // A mistake in the tokens themselves has been reported already.
        let auth_refused = self.problems.iter().any(|p| p.key.starts_with("http.auth."));
        if !listen.ip().is_loopback() && !guarded && !insecure && !auth_refused {
            self.refuse(
                &path.key("listen"),
                format!("{}, which others can reach", quote(text)),
                "tokens in [http.auth], insecure = true, or a loopback address",
            );
        }
        let written =
            http.advertise.as_deref().filter(|_| self.is_set(&path.key("advertise")) || !self.is_set(&path.key("listen")));
        let advertise = match written {
            Some(url) => url.trim_end_matches('/').to_owned(),
            // Nobody can ask at an unspecified address; a single instance asks itself.
            None if listen.ip().is_unspecified() => format!("http://127.0.0.1:{}", listen.port()),
            None => format!("http://{listen}"),
        };
        let host = advertise.strip_prefix("http://").or_else(|| advertise.strip_prefix("https://"));
        if host.is_none_or(|host| host.is_empty() || host.contains([' ', '?', '#', '@'])) {
            self.refuse(&path.key("advertise"), quote(&mask_url(&advertise)), "a URL such as \"http://10.0.0.5:8080\"");
        }
        Http { listen, advertise, insecure, read_tokens, admin_tokens }
    }

    fn failure(&mut self, failure: &written::Failure) -> Failure {
        let path = Path::of(["failure"]);
        let breaker = failure.breaker.clone().unwrap_or_default();
        let share = breaker.share.unwrap_or(0.5);
        if !(share > 0.0 && share <= 1.0) {
            self.refuse(&path.key("breaker").key("share"), format!("{share:?}"), "a share above 0 and at most 1");
        }
        Failure {
            policy: match failure.policy {
                Some(written::Policy::Park) => Policy::Park,
                Some(written::Policy::DeadLetter) | None => Policy::DeadLetter,
            },
            max_state: self.size(&path.key("max_state"), failure.max_state.as_ref(), 1 << 10, 512 << 20),
            breaker: Breaker { records: self.integer(&path.key("breaker").key("records"), breaker.records, 1, 1_000_000), share },
        }
    }

    /// A secret from its key or its file; where both are set, the later layer's counts.
    fn secret(&mut self, table: &Path, key: &str, plain: Option<&written::Hidden>, file: Option<&str>) -> Option<Secret> {
        let plain = plain.filter(|secret| !secret.0.is_empty());
        match self.which(table, key, plain.is_some(), file)? {
            Origin::Key => plain.map(|secret| Secret::new(secret.0.clone())),
            Origin::File(text) => Some(Secret::new(text.trim_end_matches(['\n', '\r']))),
        }
    }

    fn tokens(&mut self, table: &Path, key: &str, plain: Option<&[written::Hidden]>, file: Option<&str>) -> Vec<Secret> {
        let plain = plain.unwrap_or_default();
        if plain.iter().any(|token| token.0.is_empty()) {
            self.refuse(&table.key(key), "an empty token", "tokens of at least one character");
        }
        let tokens: Vec<Secret> = match self.which(table, key, !plain.is_empty(), file) {
            None => return Vec::new(),
            Some(Origin::Key) => plain.iter().map(|token| Secret::new(token.0.clone())).collect(),
            Some(Origin::File(text)) => {
                text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(Secret::new).collect()
            }
        };
        if tokens.is_empty() {
            self.refuse(&table.key(&format!("{key}_file")), "a file without tokens", "one token a line");
        }
        tokens
    }

    fn which(&mut self, table: &Path, key: &str, has_plain: bool, file: Option<&str>) -> Option<Origin> {
        let file_key = format!("{key}_file");
        let file = file.filter(|name| !name.is_empty());
        let name = match (has_plain, file) {
            (false, None) => return None,
            (true, None) => return Some(Origin::Key),
            (true, Some(name)) => {
                let (plain_at, file_at) = (self.layer_of(&table.key(key)), self.layer_of(&table.key(&file_key)));
                if plain_at == file_at {
                    self.refuse(&table.key(&file_key), format!("{key} and {file_key}"), "one of the two");
                    return None;
                }
                if plain_at > file_at {
                    return Some(Origin::Key);
                }
                name
            }
            (false, Some(name)) => name,
        };
        match std::fs::read_to_string(name) {
            Ok(text) if text.trim().is_empty() => {
                self.refuse(&table.key(&file_key), format!("{}, which is empty", quote(name)), "a file that holds the secret");
                None
            }
            Ok(text) => Some(Origin::File(text)),
            Err(error) => {
                self.refuse(&table.key(&file_key), format!("{} ({})", quote(name), reading(&error)), "a file that can be read");
                None
            }
        }
    }

    // Where things stand.

    /// Reports what stands at `path`, or the nearest table above it.
    pub fn refuse(&mut self, path: &Path, found: impl Into<String>, expected: impl Into<String>) {
        self.report(path, None, found.into(), expected.into());
    }

    /// Reports the key at `path` rather than its value.
    pub fn refuse_key(&mut self, path: &Path, found: impl Into<String>, expected: impl Into<String>) {
        let key_span = self.locate(path).and_then(|(layer, _)| {
            let (last, above) = path.0.split_last()?;
            let super::layer::Step::Key(last) = last else { return None };
            match &layer.find(&Path(above.to_vec()))?.value {
                Value::Table(entries) => entries.iter().find(|e| e.key == *last).map(|e| e.span.clone()),
                _ => None,
            }
        });
        self.report(path, key_span, found.into(), expected.into());
    }

    /// Reports one place inside the text at `path`, `at` bytes from its start.
    pub fn refuse_within(&mut self, path: &Path, at: usize, found: impl Into<String>, expected: impl Into<String>) {
        let span = self.locate(path).and_then(|(layer, node)| match &node.value {
            Value::Text(text) => {
                let raw = layer.text.get(node.span.clone())?;
                let start = node.span.start + super::excerpt::raw_offset(raw, at);
                let width = text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
                Some(start..start + width)
            }
            _ => None,
        });
        self.report(path, span, found.into(), expected.into());
    }

    /// Reports that `table` lacks `key`, unless what it has there was refused already.
    pub fn missing(&mut self, table: &Path, key: &str, expected: impl Into<String>) {
        let path = table.key(key);
        if !self.has_problem_at(&path) {
            self.report(&path, None, "nothing".into(), expected.into());
        }
    }

    /// Adds "did you mean" to the problem reported last.
    pub fn mean(&mut self, word: Option<String>) {
        if let Some(problem) = self.problems.last_mut() {
            problem.meant = word;
        }
    }

    /// Whether something at or below `path` was refused already.
    pub fn has_problem_at(&self, path: &Path) -> bool {
        let name = path.to_string();
        self.problems
            .iter()
            .any(|p| p.key.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])))
    }

    /// Whether any layer above the defaults says anything at `path`.
    pub fn is_set(&self, path: &Path) -> bool {
        self.layers.iter().any(|layer| layer.name != Name::Defaults && layer.find(path).is_some())
    }

    /// The number of the layer whose value at `path` counts.
    fn layer_of(&self, path: &Path) -> Option<usize> {
        self.layers.iter().rposition(|layer| layer.find(path).is_some())
    }

    fn locate(&self, path: &Path) -> Option<(&Layer, &Node)> {
        self.layers.iter().rev().find_map(|layer| layer.find(path).map(|node| (layer, node)))
    }

    fn report(&mut self, path: &Path, span: Option<std::ops::Range<usize>>, found: String, expected: String) {
        let mut above = path.clone();
        let located = loop {
            match self.locate(&above) {
                Some(located) if !above.0.is_empty() => break Some(located),
                _ if above.0.pop().is_none() => break None,
                _ => {}
            }
        };
        let (place, excerpt) = match (located, span) {
            (Some((layer, _)), Some(span)) => layer.place_of(&span),
            (Some((layer, node)), None) => layer.place(node),
            (None, _) => (Place::Name("configuration".into()), None),
        };
        self.problems.push(Problem { place, key: path.to_string(), found, expected, meant: None, excerpt });
    }
}

enum Origin {
    Key,
    File(String),
}

/// What the operating system says about a file, without its error number.
pub(super) fn reading(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".into(),
        std::io::ErrorKind::PermissionDenied => "not readable for this user".into(),
        std::io::ErrorKind::InvalidData => "not UTF-8".into(),
        kind => kind.to_string(),
    }
}
