//! A **description** of one record: its id, type and time as they stand in it, for people.
//!
//! `explain` asks for it of the records it lists. Slow path: the record is decoded again. Invariant: it names only what was
//! read before the record was refused, if it was.

use super::judge::{Cause, Part};
use super::plan::{Plan, Site};
use super::scan::Raw;
use super::unescape::Unescaped;
use super::{Decoded, Field};
use crate::record::Batch;
use crate::time::Micros;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The parts of the id; none where any part is absent or empty, so that the event has no id.
    pub id: Vec<String>,
    pub event_type: Option<String>,
    pub time: Option<Micros>,
}

impl Plan {
    /// Of record `index` of the batch.
    pub fn describe(&self, batch: &Batch, index: usize) -> Description {
        let Some(record) = batch.records.get(index) else { return Description::default() };
        let Some(value) = batch.value(record) else { return Description::default() };
        let mut room = Decoded { fields: vec![Field::Absent; self.fields.len()], ..Decoded::default() };
        self.with_memory(|memory| {
            let (event, refusal) = self.record(batch, record, memory, &mut room.fields, &mut room.extra);
            let cause = refusal.map(|refusal| refusal.cause);
            // Before these the value was not read to its end, or is no object.
            if matches!(cause, Some(Cause::Length | Cause::Hunt | Cause::Json(..) | Cause::NotObject)) {
                return Description::default();
            }
            let text = |site: &Site| text(site.part(batch, record, &memory.slots), value);
            let id: Vec<String> = self.id.iter().map_while(text).filter(|part| !part.is_empty()).collect();
            Description {
                id: if id.len() == self.id.len() { id } else { Vec::new() },
                event_type: text(&self.event_type),
                time: (!matches!(cause, Some(Cause::Type | Cause::Time))).then_some(event.time),
            }
        })
    }
}

/// A string, or an integer as its digits.
fn text(part: Part, value: &[u8]) -> Option<String> {
    match part {
        Part::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Part::Raw(Raw::Text { start, len, .. }) => {
            let inside = Unescaped::new(value.get(start as usize..(start + len) as usize)?);
            Some(String::from_utf8_lossy(&inside.collect::<Vec<u8>>()).into_owned())
        }
        Part::Raw(Raw::Number(super::number::Number::Int(number))) => Some(number.to_string()),
        Part::Raw(Raw::Number(super::number::Number::Unsigned(number))) => Some(number.to_string()),
        _ => None,
    }
}
