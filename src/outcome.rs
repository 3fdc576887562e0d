//! What becomes of a record: exactly one [`Outcome`], and for a dead letter its [`Reason`].
//!
//! [`Counts`] keeps, per partition, `applied + duplicate + dead_lettered + ignored + held = records`.

use serde::Serialize;
use std::fmt;
use std::ops::{AddAssign, SubAssign};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Applied,
    Duplicate,
    DeadLettered,
    Ignored,
    Held,
}

impl Outcome {
    pub const ALL: [Outcome; 5] = [Outcome::Applied, Outcome::Duplicate, Outcome::DeadLettered, Outcome::Ignored, Outcome::Held];

    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Applied => "applied",
            Outcome::Duplicate => "duplicate",
            Outcome::DeadLettered => "dead_lettered",
            Outcome::Ignored => "ignored",
            Outcome::Held => "held",
        }
    }
}

/// Why a record became a dead letter. The first eleven are decided by the record alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    TooLarge,
    NoHunt,
    BadHunt,
    NotJson,
    TooDeep,
    NotObject,
    NoType,
    BadTime,
    Ahead,
    WrongType,
    /// The fold failed twice, once from clean state.
    Failed,
    /// The partial's encoded state would have passed `failure.max_state`.
    StateFull,
}

impl Reason {
    pub const ALL: [Reason; 12] = [
        Reason::TooLarge,
        Reason::NoHunt,
        Reason::BadHunt,
        Reason::NotJson,
        Reason::TooDeep,
        Reason::NotObject,
        Reason::NoType,
        Reason::BadTime,
        Reason::Ahead,
        Reason::WrongType,
        Reason::Failed,
        Reason::StateFull,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::TooLarge => "too_large",
            Reason::NoHunt => "no_hunt",
            Reason::BadHunt => "bad_hunt",
            Reason::NotJson => "not_json",
            Reason::TooDeep => "too_deep",
            Reason::NotObject => "not_object",
            Reason::NoType => "no_type",
            Reason::BadTime => "bad_time",
            Reason::Ahead => "ahead",
            Reason::WrongType => "wrong_type",
            Reason::Failed => "failed",
            Reason::StateFull => "state_full",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Exact figures of one partition below its position, as in the `partitions` relation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub records: i64,
    pub applied: i64,
    pub duplicate: i64,
    pub dead_lettered: i64,
    pub ignored: i64,
    pub held: i64,
    /// Applied events that at least one window refused.
    pub late: i64,
}

impl Counts {
    /// Whether every record has exactly one outcome.
    pub fn balanced(&self) -> bool {
        self.applied + self.duplicate + self.dead_lettered + self.ignored + self.held == self.records
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, o: Self) {
        self.records += o.records;
        self.applied += o.applied;
        self.duplicate += o.duplicate;
        self.dead_lettered += o.dead_lettered;
        self.ignored += o.ignored;
        self.held += o.held;
        self.late += o.late;
    }
}

impl SubAssign for Counts {
    fn sub_assign(&mut self, o: Self) {
        self.records -= o.records;
        self.applied -= o.applied;
        self.duplicate -= o.duplicate;
        self.dead_lettered -= o.dead_lettered;
        self.ignored -= o.ignored;
        self.held -= o.held;
        self.late -= o.late;
    }
}
