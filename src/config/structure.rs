//! The **structure** of a layer, checked against the schema of [`super::written`]: keys that exist,
//! values of the type their key takes. What does not fit is reported and left out, so that
//! compiling can go on and report the rest.
//!
//! Invariant: what [`fit`] returns deserialises.

use super::layer::{Layer, Node, Path, Value, quote};
use super::problems::Problem;
use super::written::Written;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json, json};

/// The JSON Schema of the configuration as written, with huntline's own `x-expected` notes and without the nulls that Rust's `Option` adds
/// (TOML has none).
pub(super) fn schema() -> Json {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Written>().to_value();
    drop_nulls(&mut schema);
    schema
}

/// The schema as users see it.
pub(super) fn public_schema() -> Json {
    fn strip(schema: &mut Json) {
        match schema {
            Json::Object(map) => {
                map.remove("x-expected");
                map.values_mut().for_each(strip);
            }
            Json::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut schema = schema();
    strip(&mut schema);
    schema["title"] = json!("huntline configuration");
    schema
}

fn drop_nulls(schema: &mut Json) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(drop_nulls),
        Json::Object(map) => {
            map.values_mut().for_each(drop_nulls);
            if map.get("default") == Some(&Json::Null) {
                map.remove("default");
            }
            if let Some(Json::Array(types)) = map.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".into(), only);
                }
            }
            if let Some(Json::Array(values)) = map.get_mut("enum") {
                values.retain(|v| !v.is_null());
            }
            if let Some(Json::Array(any)) = map.get_mut("anyOf") {
                any.retain(|s| s["type"] != "null");
                if let [Json::Object(only)] = any.as_slice() {
                    let only = only.clone();
                    map.remove("anyOf");
                    for (key, value) in only {
                        map.entry(key).or_insert(value);
                    }
                }
            }
        }
        _ => {}
    }
}

/// The part of `layer` that fits the schema; the rest becomes problems.
pub(super) fn fit(layer: &Layer, schema: &Json, problems: &mut Vec<Problem>) -> Map<String, Json> {
    let fitted = Fit { layer, problems }.node(schema, &layer.root, &Path::default());
    match fitted {
        Some(Json::Object(map)) => map,
        _ => Map::new(),
    }
}

struct Fit<'a> {
    layer: &'a Layer,
    problems: &'a mut Vec<Problem>,
}

impl Fit<'_> {
    fn node(&mut self, schema: &Json, node: &Node, path: &Path) -> Option<Json> {
        if let Some(any) = schema["anyOf"].as_array() {
            let is_list = matches!(&node.value, Value::Variable { text, .. } if text.contains(','));
            let list = any.iter().find(|s| is_list && s["type"] == "array");
            let fitting = list.or_else(|| any.iter().find(|s| takes(s, &node.value)));
            return match fitting {
                Some(schema) => self.node(schema, node, path),
                None => self.refuse(schema, node, path),
            };
        }
        if let Some(allowed) = schema["enum"].as_array() {
            return match &node.value {
                Value::Text(text) | Value::Variable { text, .. } if allowed.iter().any(|a| a == text) => Some(json!(text)),
                _ => {
                    self.refuse(schema, node, path);
                    if let Value::Text(text) | Value::Variable { text, .. } = &node.value
                        && let Some(problem) = self.problems.last_mut()
                    {
                        problem.meant = nearest(text, allowed.iter().filter_map(Json::as_str));
                    }
                    None
                }
            };
        }
        match (schema["type"].as_str(), &node.value) {
            (Some("object"), Value::Table(_)) => self.table(schema, node, path),
            (Some("array"), Value::List(items)) => {
                let fitted: Vec<_> =
                    items.iter().enumerate().map(|(i, n)| self.node(&schema["items"], n, &path.index(i))).collect();
                // A list that lost an item is not the list that was meant.
                fitted.into_iter().collect::<Option<Vec<_>>>().map(Json::Array)
            }
            (Some("array"), Value::Variable { name, text }) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                let nodes =
                    parts.map(|part| Node { span: 0..0, value: Value::Variable { name: name.clone(), text: part.to_owned() } });
                let nodes: Vec<_> = nodes.collect();
                let fitted: Vec<_> =
                    nodes.iter().enumerate().map(|(i, n)| self.node(&schema["items"], n, &path.index(i))).collect();
                fitted.into_iter().collect::<Option<Vec<_>>>().map(Json::Array)
            }
            (Some("string"), Value::Text(text) | Value::Date(text) | Value::Variable { text, .. }) => Some(json!(text)),
            (Some("boolean"), Value::Boolean(boolean)) => Some(json!(boolean)),
            (Some("integer" | "number"), Value::Integer(number)) => Some(json!(number)),
            (Some("number"), Value::Float(number)) if number.is_finite() => Some(json!(number)),
            (Some(kind @ ("boolean" | "integer" | "number")), Value::Variable { text, .. }) => {
                let parsed = match kind {
                    "boolean" => text.parse::<bool>().ok().map(|b| json!(b)),
                    "integer" => text.parse::<i64>().ok().map(|i| json!(i)),
                    _ => text.parse::<f64>().ok().filter(|x| x.is_finite()).map(|x| json!(x)),
                };
                parsed.or_else(|| self.refuse(schema, node, path))
            }
            _ => self.refuse(schema, node, path),
        }
    }

    fn table(&mut self, schema: &Json, node: &Node, path: &Path) -> Option<Json> {
        let Value::Table(entries) = &node.value else { return None };
        let none = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        let mut fitted = Map::new();
        for entry in entries {
            let path = path.key(&entry.key);
            let schema = properties
                .get(&entry.key)
                .or(schema["additionalProperties"].as_object().map(|_| &schema["additionalProperties"]));
            match schema {
                Some(schema) => {
                    if let Some(value) = self.node(schema, &entry.node, &path) {
                        fitted.insert(entry.key.clone(), value);
                    }
                }
                None => {
                    let (place, excerpt) = match entry.node.value {
                        Value::Variable { .. } => self.layer.place(&entry.node),
                        _ if entry.span.is_empty() => self.layer.place(&entry.node),
                        _ => self.layer.place_of(&entry.span),
                    };
                    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                    self.problems.push(Problem {
                        place,
                        key: path.to_string(),
                        found: "an unknown key".into(),
                        expected: list(&known),
                        meant: nearest(&entry.key, known.iter().copied()),
                        excerpt,
                    });
                }
            }
        }
        Some(Json::Object(fitted))
    }

    fn refuse(&mut self, schema: &Json, node: &Node, path: &Path) -> Option<Json> {
        let (place, excerpt) = self.layer.place(node);
        let expected = expected(schema);
        self.problems.push(Problem { place, key: path.to_string(), found: node.found(path), expected, meant: None, excerpt });
        None
    }
}

/// Whether a value is of the type the schema takes, whatever it holds.
fn takes(schema: &Json, value: &Value) -> bool {
    match schema["type"].as_str() {
        Some("object") => matches!(value, Value::Table(_)),
        Some("array") => matches!(value, Value::List(_)),
        Some("string") => matches!(value, Value::Text(_) | Value::Date(_) | Value::Variable { .. }),
        Some("boolean") => matches!(value, Value::Boolean(_)),
        Some("integer") => matches!(value, Value::Integer(_)),
        Some("number") => matches!(value, Value::Integer(_) | Value::Float(_)),
        _ => false,
    }
}

/// How a message names what the schema takes.
fn expected(schema: &Json) -> String {
    if let Some(expected) = schema["x-expected"].as_str() {
        return expected.into();
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let each: Vec<_> = any.iter().map(expected).collect();
        return each.join(" or ");
    }
    if let Some(allowed) = schema["enum"].as_array() {
        let quoted: Vec<_> = allowed.iter().filter_map(Json::as_str).map(quote).collect();
        return list(&quoted);
    }
    match schema["type"].as_str() {
        Some("object") => "a table".into(),
        Some("array") => match (schema["items"]["x-expected"].as_str(), schema["items"]["type"].as_str()) {
            (Some(each), _) if each != "a string" => format!("a list of such ({each})"),
            (_, Some("number")) => "a list of numbers".into(),
            _ => "a list of strings".into(),
        },
        Some("boolean") => "true or false".into(),
        Some("integer") => "an integer".into(),
        Some("number") => "a number".into(),
        _ => "a string".into(),
    }
}

/// "a, b or c"
pub(super) fn list<S: AsRef<str>>(items: &[S]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match items.as_slice() {
        [] => "nothing".into(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// The word that was probably meant.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let far = (word.chars().count() / 3).clamp(1, 3);
    known
        .map(|k| (strsim::damerau_levenshtein(&word.to_lowercase(), k), k))
        .filter(|(d, _)| *d <= far)
        .min()
        .map(|(_, k)| k.to_owned())
}
