//! **Bad** records: one of every reason a record alone decides, as careless senders make them.
//!
//! Invariant: each has the one fault it is named for, whatever the aggregates, given the default places of
//! an event's parts and the options' `max_bytes`.

use crate::outcome::Reason;

/// How a record is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bad {
    /// A null value: ignored, not a dead letter.
    Tombstone,
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
}

impl Bad {
    pub const ALL: [Bad; 11] = [
        Bad::Tombstone,
        Bad::TooLarge,
        Bad::NoHunt,
        Bad::BadHunt,
        Bad::NotJson,
        Bad::TooDeep,
        Bad::NotObject,
        Bad::NoType,
        Bad::BadTime,
        Bad::Ahead,
        Bad::WrongType,
    ];

    /// Any of them, too large ones seldom: each weighs as much as thousands of others.
    pub fn draw(rng: &mut fastrand::Rng) -> Bad {
        match Bad::ALL[rng.usize(..Bad::ALL.len())] {
            Bad::TooLarge if rng.u8(..8) != 0 => Bad::NotJson,
            bad => bad,
        }
    }

    /// The reason of its dead letter; `None` for a tombstone.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Bad::Tombstone => None,
            Bad::TooLarge => Some(Reason::TooLarge),
            Bad::NoHunt => Some(Reason::NoHunt),
            Bad::BadHunt => Some(Reason::BadHunt),
            Bad::NotJson => Some(Reason::NotJson),
            Bad::TooDeep => Some(Reason::TooDeep),
            Bad::NotObject => Some(Reason::NotObject),
            Bad::NoType => Some(Reason::NoType),
            Bad::BadTime => Some(Reason::BadTime),
            Bad::Ahead => Some(Reason::Ahead),
            Bad::WrongType => Some(Reason::WrongType),
        }
    }

    pub fn as_str(self) -> &'static str {
        self.reason().map_or("tombstone", Reason::as_str)
    }
}

/// JSON in place of a sound type; empty: the member is left out.
pub const TYPES: [&[u8]; 5] = [b"", br#""""#, b"null", b"4", br#"["clue.solved"]"#];

/// JSON in place of a sound time.
pub const TIMES: [&[u8]; 8] = [
    br#""yesterday""#,
    br#""1969-12-31T23:59:59Z""#,
    br#""9999-01-01T00:00:00Z""#,
    br#""2026-02-30T12:00:00Z""#,
    br#""1767225600000""#,
    b"-1",
    b"1767225600.5",
    b"true",
];

/// JSON in place of a sound id.
pub const IDS: [&[u8]; 4] = [b"1.5", b"true", br#"{"uuid":"6f1c"}"#, br#"["6f1c"]"#];

/// Values that are JSON, but no objects.
pub const NOT_OBJECTS: [&[u8]; 5] = [b"[]", b"17", br#""clue.solved""#, b"null", b"true"];

/// Replaces a sound hunt by an unfit one.
pub fn spoil_hunt(hunt: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    match rng.u8(..4) {
        0 => hunt.clear(),
        1 => hunt.resize(513, b'0'),
        2 => hunt.push(0xff),
        _ => hunt.push(b'\n'),
    }
}

/// Makes sound JSON unreadable.
pub fn spoil_json(value: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    match rng.u8(..5) {
        0 => value.clear(),
        1 => value.truncate(value.len() / 2),
        2 => value.extend_from_slice(b"}"),
        3 => value[0] = b'<',
        _ => {
            let at = value.len() - 3;
            value.splice(at..at, *b",\"note\":\"\xff\"");
        }
    }
}

/// Nests something in the event deeper than 64.
pub fn deepen(value: &mut Vec<u8>) {
    const LEVELS: usize = 80;
    value.pop();
    value.extend_from_slice(br#","history":"#);
    value.resize(value.len() + LEVELS, b'[');
    value.resize(value.len() + LEVELS, b']');
    value.push(b'}');
}

/// Pads the event past `max_bytes`.
pub fn enlarge(value: &mut Vec<u8>, max_bytes: usize) {
    value.pop();
    value.extend_from_slice(br#","photo":""#);
    value.resize(value.len().max(max_bytes), b'A');
    value.extend_from_slice(br#""}"#);
}
