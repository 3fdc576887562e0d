//! The **detail** of a dead letter that decode refused: what was found, what was expected, where.
//!
//! The partition's actor asks for it when it writes the dead letter. Slow path: the record is
//! decoded again. Found values are quoted in part only.

use super::condition;
use super::judge::{Cause, MAX_HUNT, Part, Refusal};
use super::plan::{Plan, Site};
use super::scan::{Fault, Raw};
use super::{Decoded, Field};
use crate::definitions::{Aggregate, Pointer};
use crate::outcome::Reason;
use crate::record::{Batch, Record};
use crate::time::{Micros, format_duration};
use sha2::{Digest, Sha256};

/// Longest quotation of what was found, in characters.
const MAX_QUOTE: usize = 80;

impl Plan {
    /// For a rejected record, a sentence for its dead letter's `detail`: what was found and what was expected, with the place. (Slow path: it decodes again.)
    pub fn explain(&self, batch: &Batch, index: usize) -> String {
        let Some(record) = batch.records.get(index) else { return String::new() };
        let mut room = Decoded { fields: vec![Field::Absent; self.fields.len()], ..Decoded::default() };
        self.with_memory(|memory| {
            let (_, refusal) = self.record(batch, record, memory, &mut room.fields, &mut room.extra);
            refusal.map_or_else(String::new, |refusal| self.sentence(batch, record, refusal, &memory.slots))
        })
    }

    fn sentence(&self, batch: &Batch, record: &Record, refusal: Refusal, slots: &[Raw]) -> String {
        let value = batch.value(record).unwrap_or_default();
        let part = |site: &Site| self.found(batch, record, site, slots);
        match refusal.cause {
            Cause::Length => {
                let digest: String = Sha256::digest(value).iter().map(|b| format!("{b:02x}")).collect();
                format!("the value is {} bytes long, expected at most {}; SHA-256 {digest}", value.len(), self.max_bytes)
            }
            Cause::Hunt if refusal.reason == Reason::NoHunt => {
                format!("the hunt: {}, expected an id", part(&self.hunt))
            }
            Cause::Hunt => format!(
                "the hunt: {}, expected a string or an integer of 1 to {MAX_HUNT} bytes in UTF-8 without control characters",
                part(&self.hunt)
            ),
            Cause::Json(Some(fault), at) => {
                let found = match value.get(at) {
                    None => "the end of the value".to_owned(),
                    Some(_) => quote(&value[at..]),
                };
                let found = if fault == Fault::TooDeep { "one bracket more".to_owned() } else { found };
                format!("the value at byte {at}: found {found}, expected {}", fault.expected())
            }
            Cause::Json(None, at) => {
                format!("the value at byte {at}: found the byte 0x{:02x}, expected UTF-8", value.get(at).copied().unwrap_or(0))
            }
            Cause::NotObject => format!("the value: found {}, expected a JSON object", quote(value.trim_ascii())),
            Cause::Type => format!("the type: {}, expected a string that is not empty", part(&self.event_type)),
            Cause::Time => match &self.time {
                Some(site) if !matches!(site.part(batch, record, slots), Part::Missing) => format!(
                    "the time: {}, expected RFC 3339 or integer epoch milliseconds, from {} to {}",
                    part(site),
                    Micros::MIN,
                    Micros::MAX
                ),
                _ => format!(
                    "the time: the record's timestamp is {} ms, expected one from {} to {}",
                    record.timestamp_ms,
                    Micros::MIN,
                    Micros::MAX
                ),
            },
            Cause::Ahead(time) => format!(
                "the time is {time}, {} beyond the record's timestamp, expected at most {}",
                Micros::of_record_timestamp(record.timestamp_ms)
                    .map_or_else(String::new, |stamped| format_duration(time.0 - stamped.0)),
                format_duration(self.max_ahead.unwrap_or_default())
            ),
            Cause::Id(number) => format!("the id: {}, expected a string or an integer", part(&self.id[number])),
            Cause::Condition(condition) => {
                let asks = |i: usize| self.asks[i].condition == Some(condition);
                let aggregate = (0..self.aggregates.len()).find(|&i| asks(i)).map(|i| &self.aggregates[i]);
                let filter = |a: &Aggregate| format!("`{}` of aggregate {}", a.filter.as_ref().map_or("", |f| &f.text), a.name);
                let culprit = condition::culprit(&self.conditions[condition], &mut slots.to_vec(), value);
                let (looked_at, expected) =
                    culprit.map_or((Vec::new(), "types that compare"), |culprit| (culprit.slots, culprit.expected));
                let mut members = Vec::new();
                for slot in looked_at {
                    let member = self.found(batch, record, &Site::Slot(slot), slots);
                    if !members.contains(&member) {
                        members.push(member);
                    }
                }
                if members.is_empty() {
                    members.push("it compares literals of different types".to_owned());
                }
                format!("where {}: {}, expected {expected}", aggregate.map_or_else(String::new, filter), members.join(", "))
            }
            Cause::Field(field, unfit) => {
                let (slot, usage) = self.fields[field];
                let expected = match usage {
                    super::Use::Number => "a number within 64-bit floats",
                    super::Use::Key => "a string without U+0000 and lone surrogates, or an integer",
                    super::Use::Json => {
                        "a JSON value of at most 1 KiB in compact form, without U+0000, lone surrogates and numbers outside 64-bit floats"
                    }
                };
                let aggregate = self.asks.iter().position(|a| a.fields.contains(&field)).map_or("", |i| &self.aggregates[i].name);
                let holds = unfit.map_or_else(String::new, |unfit| format!(" ({})", unfit.found()));
                format!("{}{holds}, expected {expected} (aggregate {aggregate})", part(&Site::Slot(slot)))
            }
        }
    }

    /// What stands at a place, and the place.
    fn found(&self, batch: &Batch, record: &Record, site: &Site, slots: &[Raw]) -> String {
        let place = match site {
            Site::Key => "the key".to_owned(),
            Site::Header(name) => format!("header {}", quote(name)),
            Site::Slot(slot) => match write_pointer(self.trie.pointer(*slot)) {
                pointer if pointer.is_empty() => "the whole value".to_owned(),
                pointer => pointer,
            },
        };
        let value = batch.value(record).unwrap_or_default();
        let bytes = |start: u32, len: u32| quote(&value[start as usize..(start + len) as usize]);
        let found = match site.part(batch, record, slots) {
            Part::Missing => match site {
                Site::Slot(slot) if slots[*slot] == Raw::Null => "null".to_owned(),
                _ => "nothing".to_owned(),
            },
            Part::Bytes([]) | Part::Raw(Raw::Text { len: 0, .. }) => "an empty string".to_owned(),
            Part::Bytes(text) => format!("{} bytes {}", text.len(), quote(text)),
            Part::Raw(raw) => match raw {
                Raw::Absent | Raw::Null => "nothing".to_owned(),
                Raw::Bool(value) => value.to_string(),
                Raw::Number(number) => match number {
                    super::number::Number::Int(value) => format!("the integer {value}"),
                    super::number::Number::Unsigned(value) => format!("the integer {value}"),
                    super::number::Number::Float(value) => format!("the float {value:?}"),
                },
                Raw::Decimal { start, len } => format!("the float {}", bytes(start, len)),
                Raw::Text { start, len, .. } => format!("the string {}", bytes(start, len)),
                Raw::Composite { start, len, object: true } => format!("the object {}", bytes(start, len)),
                Raw::Composite { start, len, object: false } => format!("the array {}", bytes(start, len)),
            },
        };
        format!("{place} holds {found}")
    }
}

fn quote(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * MAX_QUOTE)]);
    let short: String =
        text.chars().take(MAX_QUOTE).flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
    let more = if text.chars().count() > MAX_QUOTE || bytes.len() > 4 * MAX_QUOTE { "…" } else { "" };
    format!("`{short}`{more}")
}

/// As RFC 6901 writes it.
fn write_pointer(pointer: &Pointer) -> String {
    pointer.0.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1"))).collect()
}
