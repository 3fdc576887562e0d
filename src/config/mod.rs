//! **Configuration**: layers as written (built-in defaults < files < environment) compile to
//! [`Settings`] as run, and every problem is reported at once, with its place.
//!
//! ```text
//! layer       → structure            → written          → compile            → settings
//! read, spans   fits the schema, each   merged, as written  meaning, together    as run
//! ```
//!
//! The commands hand it names of files; everything else gets its own section of [`Settings`].
//! Invariant: nothing that fails a check runs, and no message shows a secret.

mod aggregates;
mod changes;
mod compile;
mod definitions;
mod excerpt;
mod layer;
mod problems;
mod refused;
mod secrets;
mod settings;
mod structure;
mod values;
mod written;

pub use changes::{Change, definitions_changes, definitions_diff, definitions_json};
pub use problems::{Excerpt, Place, Problem, Problems};
pub use refused::{Trial, Unfit};
pub use secrets::Secret;
pub use settings::*;
pub(crate) use structure::nearest;

use layer::{Clean, Layer, Name, PREFIX};
use std::path::PathBuf;
use written::Written;

/// Every key with its default.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// A configuration without problems: as run, and as written for showing.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    written: Written,
}

/// The settings of this process: defaults, `files` in their order, environment.
pub fn load(files: &[PathBuf]) -> Result<Loaded, Problems> {
    load_tried(files, &|_, _| None)
}

/// As [`load`], and what `trial` does not take of `[kafka.librdkafka]` is a problem too.
pub fn load_tried(files: &[PathBuf], trial: Trial<'_>) -> Result<Loaded, Problems> {
    let mut texts = Vec::new();
    let mut problems = Problems::default();
    for file in files {
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => texts.push((name, text)),
            Err(error) => problems.0.push(Problem {
                place: Place::Name(name),
                key: "--config".into(),
                found: compile::reading(&error),
                expected: "a TOML file".into(),
                meant: None,
                excerpt: None,
            }),
        }
    }
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
        match value.into_string() {
            Ok(value) => Some((name, value)),
            Err(_) => {
                problems.0.push(Problem {
                    place: Place::Variable(name),
                    key: "environment".into(),
                    found: "bytes that are not UTF-8".into(),
                    expected: "text".into(),
                    meant: None,
                    excerpt: None,
                });
                None
            }
        }
    });
    let variables: Vec<_> = variables.collect();
    match read(&texts, variables, true, trial) {
        Ok(loaded) if problems.0.is_empty() => Ok(loaded),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.0.extend(more.0);
            Err(problems)
        }
    }
}

/// The settings that `files` (names and texts, in their order) and `variables` make.
pub fn load_from(files: &[(String, String)], variables: impl IntoIterator<Item = (String, String)>) -> Result<Loaded, Problems> {
    read(files, variables, true, &|_, _| None)
}

/// The settings of one text alone, without this process's environment.
pub fn load_text(text: &str) -> Result<Settings, Problems> {
    load_from(&[("configuration".into(), text.into())], []).map(|loaded| loaded.settings)
}

/// `this_version`: refuse what is not built yet. `trial`: asked about librdkafka's properties.
fn read(
    files: &[(String, String)],
    variables: impl IntoIterator<Item = (String, String)>,
    this_version: bool,
    trial: Trial<'_>,
) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let mut layers = vec![Layer::parse(Name::Defaults, DEFAULTS).expect("the built-in defaults are TOML")];
    for (name, text) in files {
        match Layer::parse(Name::File(name.clone()), text) {
            Ok(layer) => layers.push(layer),
            Err(problem) => problems.push(problem),
        }
    }
    let broken = !problems.is_empty();
    layers.push(Layer::of_environment(variables));

    let schema = structure::schema();
    let mut builder = ::config::Config::builder();
    for layer in &layers {
        builder = builder.add_source(Clean(structure::fit(layer, &schema, &mut problems)));
    }
    if broken {
        // What a file that cannot be read would have said is unknown: no more can be said about the whole.
        return Err(ordered(problems, &layers));
    }
    let written: Written = builder
        .build()
        .and_then(::config::Config::try_deserialize)
        .unwrap_or_else(|error| unreachable!("what fits the schema is read as written: {error}"));
    let settings = compile::compile(&written, &layers, &mut problems, this_version, trial);
    match settings {
        Some(settings) => Ok(Loaded { settings, written }),
        None => Err(ordered(problems, &layers)),
    }
}

/// Problems in the order of the layers, and in a file from top to bottom.
fn ordered(mut problems: Vec<Problem>, layers: &[Layer]) -> Problems {
    let layer_of = |file: &str| layers.iter().position(|l| l.name == Name::File(file.to_owned())).unwrap_or(0);
    problems.sort_by_key(|problem| match &problem.place {
        Place::File { name, line, column } => (0, layer_of(name), *line, *column, String::new()),
        Place::Name(name) => (1, 0, 0, 0, name.clone()),
        Place::Variable(name) => (2, 0, 0, 0, name.clone()),
    });
    Problems(problems)
}

impl Loaded {
    /// The effective configuration as TOML, every key that has a value, secrets masked.
    pub fn effective_toml(&self) -> String {
        let mut written = self.written.clone();
        if self.settings.embedded_log.is_some() {
            written.kafka = None;
        }
        if let Some(http) = &mut written.http {
            http.advertise = Some(self.settings.http.advertise.clone());
        }
        toml_edit::ser::to_string_pretty(&written).expect("the configuration as written is TOML")
    }
}

/// The JSON Schema of a configuration file, pretty-printed.
pub fn schema_json() -> String {
    serde_json::to_string_pretty(&structure::public_schema()).expect("a schema is JSON")
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// The settings of one file, with everything the configuration knows, built or not.
    pub fn settings(text: &str) -> Settings {
        match read(&[("huntline.toml".into(), text.into())], [], false, &|_, _| None) {
            Ok(loaded) => loaded.settings,
            Err(problems) => panic!("{problems}"),
        }
    }

    /// What is wrong with one file, whatever is built.
    pub fn problems(text: &str) -> Vec<String> {
        match read(&[("huntline.toml".into(), text.into())], [], false, &|_, _| None) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.iter().map(Problem::to_string).collect(),
        }
    }
}
