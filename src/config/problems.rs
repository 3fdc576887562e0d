//! A **problem**: one thing the configuration says that it must not, with its place, what was
//! found and what was expected. Reading and compiling collect them; `huntline check` prints them.
//!
//! Invariant: no problem shows a secret.

use std::fmt;

/// One mistake in one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub place: Place,
    /// The key's whole path, such as `aggregates.points.kind`; `syntax` where there are no keys yet.
    pub key: String,
    pub found: String,
    pub expected: String,
    /// The key that was probably meant.
    pub meant: Option<String>,
    /// The source line, with secrets masked.
    pub excerpt: Option<Excerpt>,
}

/// Where a problem stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// 1-based; columns count characters.
    File { name: String, line: usize, column: usize },
    /// A file as a whole.
    Name(String),
    /// An environment variable.
    Variable(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Excerpt {
    pub line: String,
    /// 0-based, in characters.
    pub column: usize,
    /// In characters, at least one.
    pub width: usize,
}

/// Every problem of a configuration, in the order of their places; never empty when returned as an error.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Place::Name(name) | Place::Variable(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: found {}, expected {}", self.place, self.key, self.found, self.expected)?;
        if let Some(meant) = &self.meant {
            write!(f, "; did you mean `{meant}`?")?;
        }
        if let Some(Excerpt { line, column, width }) = &self.excerpt {
            // Tabs before the place are kept, or the caret line would not stand under it.
            let indent: String = line.chars().take(*column).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            write!(f, "\n  {line}\n  {indent}{}", "^".repeat(*width))?;
        }
        Ok(())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 problem"),
            n => write!(f, "{n} problems"),
        }
    }
}
