//! Numbers that must not be swapped: an [`Offset`] names a record that exists, a [`Position`] the
//! *next* offset to read (never the last one read), an [`Epoch`] a claim on a partition.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Where a record stands in its partition.
    Offset
}
number! {
    /// The next offset to read.
    Position
}
number! {
    /// Number of a claim on a partition; with the owner's id it fences zombies.
    Epoch
}

impl Offset {
    /// The position of a reader that has read this record.
    pub fn next(self) -> Position {
        Position(self.0 + 1)
    }
}

impl Position {
    /// Whether the record at `offset` is still to be read.
    pub fn is_before(self, offset: Offset) -> bool {
        self.0 <= offset.0
    }

    /// Whether the record at `offset` has been read.
    pub fn is_after(self, offset: Offset) -> bool {
        !self.is_before(offset)
    }
}
