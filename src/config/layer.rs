//! A **layer** of the configuration, as read: the built-in defaults, one file or the environment,
//! each a tree whose leaves know where they were written.
//!
//! [`super::structure`] checks each layer by itself; the `config` crate merges what is left of them
//! ([`Clean`]). Invariant: spans lie inside the layer's text, on character boundaries.

use super::problems::{Excerpt, Place, Problem};
use super::secrets::{MASK, is_secret_key, mask_url};
use serde_json::Value as Json;
use std::fmt;
use std::ops::Range;
use toml_edit::{Document, Item};

/// The prefix of environment variables that set keys; `__` parts the keys.
pub(super) const PREFIX: &str = "HUNTLINE__";

#[derive(Debug)]
pub(super) struct Layer {
    pub name: Name,
    /// Of a file, its text.
    pub text: String,
    pub root: Node,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Name {
    Defaults,
    File(String),
    Environment,
}

#[derive(Debug)]
pub(super) struct Node {
    /// Where the value stands; of a table with a header, the header.
    pub span: Range<usize>,
    pub value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// A date or time of TOML's own, as written.
    Date(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// An environment variable: text that becomes what its key takes.
    Variable {
        name: String,
        text: String,
    },
}

#[derive(Debug)]
pub(super) struct Entry {
    pub key: String,
    /// Where the key stands.
    pub span: Range<usize>,
    pub node: Node,
}

/// Where a value stands in the tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Path(pub Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    pub fn of<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self(keys.into_iter().map(|key| Step::Key(key.into())).collect())
    }

    pub fn key(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Key(key.into()));
        path
    }

    pub fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Index(index));
        path
    }

    /// Whether a key on the way holds a secret.
    pub fn is_secret(&self) -> bool {
        self.0.iter().any(|step| matches!(step, Step::Key(key) if is_secret_key(key)))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let bare = !key.is_empty() && key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
                    let dot = if i > 0 { "." } else { "" };
                    if bare { write!(f, "{dot}{key}")? } else { write!(f, "{dot}{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

impl Layer {
    /// Reads a TOML document; a syntax error is the layer's only problem.
    pub fn parse(name: Name, text: &str) -> Result<Layer, Problem> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        match Document::parse(text.as_str()) {
            Ok(document) => {
                let root = node_of(document.as_item(), 0..0);
                Ok(Layer { name, text, root })
            }
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let (found, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), "valid TOML"));
                let layer = Layer { name, root: Node { span: 0..0, value: Value::Table(Vec::new()) }, text: text.clone() };
                let (place, excerpt) = layer.place_of(&span);
                let excerpt = excerpt.map(mask_unread_line);
                Err(Problem { place, key: "syntax".into(), found: found.into(), expected: expected.into(), meant: None, excerpt })
            }
        }
    }

    /// The variables whose names begin with [`PREFIX`]; what stands between `__` are keys, in lower case. Names of librdkafka's
    /// properties are written with `__` for their dots.
    pub fn of_environment(variables: impl IntoIterator<Item = (String, String)>) -> Layer {
        let mut variables: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        let mut root = Node { span: 0..0, value: Value::Table(Vec::new()) };
        for (name, text) in variables {
            let mut keys: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_lowercase).collect();
            if keys.len() > 3 && keys[0] == "kafka" && keys[1] == "librdkafka" {
                let property = keys.split_off(2).join(".");
                keys.push(property);
            }
            root.put(&keys, Node { span: 0..0, value: Value::Variable { name, text } });
        }
        Layer { name: Name::Environment, text: String::new(), root }
    }

    /// The value at `path`, if this layer says anything about it.
    pub fn find(&self, path: &Path) -> Option<&Node> {
        path.0.iter().try_fold(&self.root, |node, step| match (step, &node.value) {
            (Step::Key(key), Value::Table(entries)) => entries.iter().find(|e| e.key == *key).map(|e| &e.node),
            (Step::Index(index), Value::List(items)) => items.get(*index),
            // A variable holds a whole list.
            (Step::Index(_), Value::Variable { .. }) => Some(node),
            _ => None,
        })
    }

    /// Where a node stands, and its source line.
    pub fn place(&self, node: &Node) -> (Place, Option<Excerpt>) {
        match node.variable() {
            Some(variable) => (Place::Variable(variable.to_owned()), None),
            None => self.place_of(&node.span),
        }
    }

    /// Where a span stands, and its first line, with secrets masked.
    pub fn place_of(&self, span: &Range<usize>) -> (Place, Option<Excerpt>) {
        let name = match &self.name {
            Name::File(name) => name.clone(),
            Name::Defaults => "default.toml".into(),
            Name::Environment => return (Place::Name("environment".into()), None),
        };
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let line = self.text[..line_start].matches('\n').count() + 1;
        let column = self.text[line_start..start].chars().count() + 1;

        let mut end = span.end.clamp(start, line_end.max(start));
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let mut secrets = Vec::new();
        secret_spans(&self.root, &mut Path::default(), &mut secrets);
        secrets.retain(|s| s.start < line_end && s.end > line_start);
        secrets.sort_by_key(|s| s.start);

        let mut shown = String::new();
        let mut at = line_start;
        for secret in &secrets {
            shown += &self.text[at..secret.start.clamp(at, line_end)];
            shown += MASK;
            at = secret.end.clamp(at, line_end);
        }
        shown += self.text[at..line_end].trim_end_matches('\r');
        let shown_column = |place: usize| {
            let (mut column, mut at) = (0, line_start);
            for secret in secrets.iter().take_while(|s| s.start < place) {
                column += self.text[at..secret.start.max(at)].chars().count();
                if place < secret.end {
                    return column;
                }
                column += MASK.len();
                at = secret.end;
            }
            column + self.text[at..place].chars().count()
        };
        let from = shown_column(start);
        let hidden = secrets.iter().any(|s| s.contains(&start));
        let width = if hidden { MASK.len() } else { shown_column(end).saturating_sub(from) };
        let room = shown.chars().count().saturating_sub(from).max(1);
        let excerpt = Excerpt { column: from, width: width.clamp(1, room), line: shown };
        (Place::File { name, line, column }, Some(excerpt))
    }
}

impl Node {
    /// How a message names what was found; secrets are named by their kind alone.
    pub fn found(&self, path: &Path) -> String {
        let secret = path.is_secret();
        match &self.value {
            Value::List(_) => "a list".into(),
            Value::Table(_) => "a table".into(),
            _ if secret => MASK.into(),
            Value::Boolean(b) => b.to_string(),
            Value::Integer(i) => i.to_string(),
            Value::Float(x) => format!("{x:?}"),
            Value::Date(text) => text.clone(),
            Value::Text(text) | Value::Variable { text, .. } => quote(&mask_url(text)),
        }
    }

    /// The first environment variable at or below this node.
    fn variable(&self) -> Option<&str> {
        match &self.value {
            Value::Variable { name, .. } => Some(name),
            Value::Table(entries) => entries.iter().find_map(|e| e.node.variable()),
            _ => None,
        }
    }

    fn put(&mut self, keys: &[String], leaf: Node) {
        let Some((first, rest)) = keys.split_first() else {
            *self = leaf;
            return;
        };
        if !matches!(self.value, Value::Table(_)) {
            self.value = Value::Table(Vec::new());
        }
        let Value::Table(entries) = &mut self.value else { unreachable!("it was made a table") };
        let at = entries.iter().position(|e| e.key == *first).unwrap_or_else(|| {
            entries.push(Entry { key: first.clone(), span: 0..0, node: Node { span: 0..0, value: Value::Table(Vec::new()) } });
            entries.len() - 1
        });
        entries[at].node.put(rest, leaf);
    }
}

/// Text in quotes, shortened past 80 characters.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn node_of(item: &Item, fallback: Range<usize>) -> Node {
    let span = item.span().unwrap_or(fallback);
    let value = match item {
        Item::None => Value::Table(Vec::new()),
        Item::Value(value) => value_of(value),
        Item::Table(table) => Value::Table(entries_of(table)),
        Item::ArrayOfTables(tables) => {
            let nodes =
                tables.iter().map(|t| Node { span: t.span().unwrap_or(span.clone()), value: Value::Table(entries_of(t)) });
            Value::List(nodes.collect())
        }
    };
    Node { span, value }
}

fn value_of(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => Value::Text(text.value().clone()),
        toml_edit::Value::Integer(number) => Value::Integer(*number.value()),
        toml_edit::Value::Float(number) => Value::Float(*number.value()),
        toml_edit::Value::Boolean(boolean) => Value::Boolean(*boolean.value()),
        toml_edit::Value::Datetime(date) => Value::Date(date.value().to_string()),
        toml_edit::Value::Array(items) => {
            let nodes = items.iter().map(|v| Node { span: v.span().unwrap_or(0..0), value: value_of(v) });
            Value::List(nodes.collect())
        }
        toml_edit::Value::InlineTable(table) => Value::Table(entries_of(table)),
    }
}

fn entries_of(table: &dyn toml_edit::TableLike) -> Vec<Entry> {
    table
        .iter()
        .map(|(key, item)| {
            let span = table.key(key).and_then(|k| k.span()).unwrap_or(0..0);
            Entry { key: key.to_owned(), node: node_of(item, span.clone()), span }
        })
        .collect()
}

/// Where secrets stand in a document.
fn secret_spans(node: &Node, path: &mut Path, into: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Table(entries) => {
            for entry in entries {
                path.0.push(Step::Key(entry.key.clone()));
                secret_spans(&entry.node, path, into);
                path.0.pop();
            }
        }
        Value::List(items) => items.iter().for_each(|item| secret_spans(item, path, into)),
        Value::Text(text) if path.is_secret() || mask_url(text) != *text => into.push(node.span.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date(_) if path.is_secret() => {
            into.push(node.span.clone())
        }
        _ => {}
    }
}

/// Masks what may be a secret on a line of a document that could not be read: the value of a key that looks like a secret's, a URL
/// with a password, and a line that belongs to a value begun above it.
fn mask_unread_line(excerpt: Excerpt) -> Excerpt {
    let Excerpt { line, column, width } = excerpt;
    let (key, value) = match line.split_once('=') {
        Some((key, value)) => (key, value),
        None => ("", line.as_str()),
    };
    let plain_key = !key.is_empty() && !key.split(['.', '{', ',', ' ', '"', '\'']).any(is_secret_key);
    let inner = value.split([' ', ',', '{', '"', '\'', '=']).any(is_secret_key);
    let header = key.is_empty() && line.trim_start().starts_with('[') && !line.contains(['"', '\'']);
    let word = key.is_empty() && line.trim().chars().all(|c| c.is_ascii_lowercase() || c == '_') && line.trim().len() < 32;
    if (plain_key && !inner && !(value.contains("://") && value.contains('@'))) || header || word {
        return Excerpt { line, column, width };
    }
    let kept = if key.is_empty() { line.len() - line.trim_start().len() } else { key.len() + 1 };
    let shown = format!("{}{}{MASK}", &line[..kept], if key.is_empty() { "" } else { " " });
    let last = shown.chars().count() - 1;
    Excerpt {
        column: column.min(last - 2),
        width: if column < kept { width.min(kept - column) } else { MASK.len() },
        line: shown,
    }
}

/// What [`super::structure`] leaves of a layer, for the `config` crate to merge.
#[derive(Clone, Debug)]
pub(super) struct Clean(pub serde_json::Map<String, Json>);

impl ::config::Source for Clean {
    fn clone_into_box(&self) -> Box<dyn ::config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<::config::Map<String, ::config::Value>, ::config::ConfigError> {
        Ok(self.0.iter().map(|(key, value)| (key.clone(), mergeable(value))).collect())
    }
}

fn mergeable(value: &Json) -> ::config::Value {
    use ::config::ValueKind;
    let kind = match value {
        Json::Null => ValueKind::Nil,
        Json::Bool(boolean) => ValueKind::Boolean(*boolean),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => ValueKind::I64(integer),
            None => ValueKind::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => ValueKind::String(text.clone()),
        Json::Array(items) => ValueKind::Array(items.iter().map(mergeable).collect()),
        Json::Object(map) => ValueKind::Table(map.iter().map(|(key, value)| (key.clone(), mergeable(value))).collect()),
    };
    ::config::Value::new(None, kind)
}
