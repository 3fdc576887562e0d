//! An **act** of an operator: asked by any instance as a row of `acts`, carried out by the owner of its partition, done with
//! the checkpoint that commits what it changed.
//!
//! Invariant: an act is done once, by the checkpoint that says so; until then every claim of its partition finds it open.

use crate::position::Offset;
use crate::record::PartitionId;
use crate::time::Micros;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    Park,
    Resume,
    Skip,
    Replay,
    Discard,
    /// Of a partition's breaker.
    Reset,
}

impl Act {
    pub fn as_str(self) -> &'static str {
        match self {
            Act::Park => "park",
            Act::Resume => "resume",
            Act::Skip => "skip",
            Act::Replay => "replay",
            Act::Discard => "discard",
            Act::Reset => "reset",
        }
    }

    /// The act that [`Act::as_str`] writes so.
    pub fn parse(text: &str) -> Option<Self> {
        [Act::Park, Act::Resume, Act::Skip, Act::Replay, Act::Discard, Act::Reset].into_iter().find(|act| act.as_str() == text)
    }
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub act: Act,
    /// `None`: every partition that has, or will have, the hunt.
    pub partition: Option<PartitionId>,
    pub hunt: Option<String>,
    /// Of a dead letter.
    pub offset: Option<Offset>,
    /// Who asks, as far as that is known.
    pub by: Option<String>,
    pub at: Micros,
}

/// An act that was asked of one partition and is not done.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenAct {
    pub id: i64,
    pub act: Act,
    pub hunt: Option<String>,
    pub offset: Option<Offset>,
    pub by: Option<String>,
    pub asked_at: Micros,
}

/// An act that a checkpoint has carried out, or found that it cannot.
#[derive(Clone, Debug, PartialEq)]
pub struct DoneAct {
    pub id: i64,
    /// For whoever asked, in words.
    pub result: String,
}
