//! **first** and **last**: the JSON value with the smallest or greatest (event time, topic,
//! partition, offset).
//!
//! Within one partition time and offset decide; partials of several merge in (topic, partition)
//! order, so of equal times `first` keeps the earlier partition's and `last` takes the later's.

use super::Of;
use crate::codec::{Reader, Result, Writer};
use crate::position::Offset;
use crate::time::Micros;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    First,
    Last,
}

/// The value so far: its event time, its record's offset and its compact JSON.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub time: Micros,
    pub offset: Offset,
    pub json: Box<[u8]>,
}

pub fn add(kept: &mut Option<Box<Chosen>>, time: Micros, offset: Offset, json: &[u8], end: End) {
    if let Some(old) = kept {
        let wins = match end {
            End::First => (time, offset) < (old.time, old.offset),
            End::Last => (time, offset) > (old.time, old.offset),
        };
        if !wins {
            return;
        }
    }
    *kept = Some(Box::new(Chosen { time, offset, json: json.into() }));
}

pub fn merge(kept: &mut Option<Box<Chosen>>, other: &Chosen, end: End, of: Of) {
    match (of, kept) {
        (Of::SamePartition, kept) => add(kept, other.time, other.offset, &other.json, end),
        (Of::LaterPartition, Some(old)) => {
            let wins = match end {
                End::First => other.time < old.time,
                End::Last => other.time >= old.time,
            };
            if wins {
                **old = other.clone();
            }
        }
        (Of::LaterPartition, none) => *none = Some(Box::new(other.clone())),
    }
}

pub fn encode(kept: &Option<Box<Chosen>>, w: &mut Writer) {
    w.byte(kept.is_some().into());
    if let Some(chosen) = kept {
        w.signed(chosen.time.0);
        w.signed(chosen.offset.0);
        w.text(&chosen.json);
    }
}

pub fn decode(r: &mut Reader) -> Result<Option<Box<Chosen>>> {
    match r.byte("whether there is a value")? {
        0 => Ok(None),
        1 => {
            let time = Micros(r.signed("the event time of a value")?);
            let offset = Offset(r.signed("the offset of a value")?);
            let json = r.text("a JSON value")?;
            if serde_json::from_slice::<serde_json::Value>(json).is_err() {
                return r.expected("a JSON value");
            }
            Ok(Some(Box::new(Chosen { time, offset, json: json.into() })))
        }
        _ => r.expected("a value (0 none, 1 one)"),
    }
}

pub fn write_json(kept: &Option<Box<Chosen>>, out: &mut String) {
    match kept {
        None => out.push_str("null"),
        Some(chosen) => out.push_str(std::str::from_utf8(&chosen.json).expect("JSON is UTF-8, as decode checked")),
    }
}
