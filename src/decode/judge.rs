//! The **judgement** of one record: steps 2 to 5 of contract section 2, in their order, to the first
//! that refuses it.
//!
//! The plan lays each record on a [`Desk`]. Invariants: the same record gives the same event,
//! whatever came before; a refusal leaves the hunt where a valid one could be read.

use super::clock::DayMemory;
use super::compact::{MAX_COMPACT, Tree, Unfit, fit_text};
use super::condition::{self, Answer};
use super::interest::{Interest, Interests};
use super::number::Number;
use super::plan::{Plan, Site, hash};
use super::scan::{Fault, Raw, scan};
use super::unescape::Unescaped;
use super::{Event, Field, Use, hunt_hash};
use crate::outcome::Reason;
use crate::record::{Batch, Record, Span};
use crate::time::Micros;
use std::io::Write;

/// Longest hunt id, in bytes.
pub(super) const MAX_HUNT: usize = 512;

/// Room to work in. Nothing in it changes what a record decodes to.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub slots: Vec<Raw>,
    scratch: Vec<u8>,
    name: Vec<u8>,
    day: DayMemory,
    unlisted: Interests,
}

impl Memory {
    pub fn new(slots: usize) -> Self {
        Self { slots: vec![Raw::Absent; slots], ..Self::default() }
    }
}

/// One record while it is decoded.
pub(super) struct Desk<'a> {
    pub plan: &'a Plan,
    pub batch: &'a Batch,
    pub record: &'a Record,
    pub value: &'a [u8],
    pub event: &'a mut Event,
    pub fields: &'a mut [Field],
    pub extra: &'a mut Vec<u8>,
}

impl<'a> Desk<'a> {
    /// Steps 2 to 5. On an error the event holds the hunt if a valid one could be read.
    pub fn judge(&mut self, memory: &mut Memory) -> Result<(), Refusal> {
        let plan = self.plan;
        let Memory { slots, scratch, name, day, unlisted } = memory;
        let hunt_inside = matches!(plan.hunt, Site::Slot(_));
        if self.value.len() as u64 > plan.max_bytes {
            if !hunt_inside {
                // What is wrong with the hunt matters no more.
                let _ = self.hunt_outside();
            }
            return Err(Cause::Length.of(Reason::TooLarge));
        }
        if !hunt_inside {
            self.hunt_outside()?;
        }
        let object = self.scan(slots, name)?;
        let hunt = if hunt_inside { self.hunt_inside(slots) } else { Ok(()) };
        if !object {
            return Err(Cause::NotObject.of(Reason::NotObject));
        }
        hunt?;
        let event_type = self.text(plan.event_type.part(self.batch, self.record, slots), scratch);
        let Some(event_type) = event_type.filter(|t| !t.is_empty()) else {
            return Err(Cause::Type.of(Reason::NoType));
        };
        let interest = match plan.interests.get(event_type) {
            Some(interest) => interest,
            None => unlisted.remember(event_type, &plan.aggregates, &plan.asks),
        };
        self.event.event_type = interest.number;
        self.time(slots, scratch, day)?;
        self.id(slots, scratch)?;
        self.matches(interest, slots, scratch)
    }

    /// Says whether the value is an object.
    fn scan(&mut self, slots: &mut [Raw], name: &mut Vec<u8>) -> Result<bool, Refusal> {
        let value = self.value;
        let scanned = match simdutf8::basic::from_utf8(value) {
            Ok(_) => scan(value, &self.plan.trie, slots, name),
            Err(_) => {
                let valid = simdutf8::compat::from_utf8(value).map_or_else(|e| e.valid_up_to(), str::len);
                // Up to there it may be nested too deep already, or be no JSON. Cut short, it may also merely seem unfinished.
                match scan(&value[..valid], &self.plan.trie, slots, name) {
                    Err((fault, at)) if at < valid => Err((fault, at)),
                    _ => return Err(Cause::Json(None, valid).of(Reason::NotJson)),
                }
            }
        };
        scanned.map_err(|(fault, at)| {
            let reason = if fault == Fault::TooDeep { Reason::TooDeep } else { Reason::NotJson };
            Cause::Json(Some(fault), at).of(reason)
        })
    }

    fn hunt_outside(&mut self) -> Result<(), Refusal> {
        let Some(span) = self.plan.hunt.span(self.batch, self.record) else {
            return Err(Cause::Hunt.of(Reason::NoHunt));
        };
        self.set_hunt(span, span.of(&self.batch.arena).unwrap_or_default())
    }

    fn hunt_inside(&mut self, slots: &[Raw]) -> Result<(), Refusal> {
        let Site::Slot(slot) = self.plan.hunt else { return Ok(()) };
        let mark = self.extra.len();
        match slots[slot] {
            Raw::Absent | Raw::Null => return Err(Cause::Hunt.of(Reason::NoHunt)),
            Raw::Text { start, len, escaped: false } => {
                return self.set_hunt(self.span(start, len), self.bytes(start, len));
            }
            // Escapes take at most six bytes for one.
            Raw::Text { start, len, escaped: true } if len as usize <= 6 * MAX_HUNT => {
                self.extra.extend(Unescaped::new(&self.value[start as usize..(start + len) as usize]));
            }
            Raw::Number(number @ (Number::Int(_) | Number::Unsigned(_))) => write_digits(number, self.extra),
            _ => return Err(Cause::Hunt.of(Reason::BadHunt)),
        }
        let hunt = std::mem::take(self.extra);
        let set = self.set_hunt(self.extra_span(mark, hunt.len()), &hunt[mark..]);
        *self.extra = hunt;
        if set.is_err() {
            self.extra.truncate(mark);
        }
        set
    }

    #[inline]
    fn set_hunt(&mut self, span: Span, hunt: &[u8]) -> Result<(), Refusal> {
        if hunt.is_empty() || hunt.len() > MAX_HUNT || !is_printable(hunt) {
            return Err(Cause::Hunt.of(Reason::BadHunt));
        }
        self.event.hunt = span;
        self.event.hunt_hash = hunt_hash(hunt);
        Ok(())
    }

    fn time(&mut self, slots: &[Raw], scratch: &mut Vec<u8>, day: &mut DayMemory) -> Result<(), Refusal> {
        let stamped = Micros::of_record_timestamp(self.record.timestamp_ms);
        let part = self.plan.time.as_ref().map_or(Part::Missing, |site| site.part(self.batch, self.record, slots));
        let time = match part {
            Part::Missing => stamped,
            Part::Raw(Raw::Number(Number::Int(ms))) => of_millis(ms),
            Part::Bytes(digits) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                let more = |ms: i64, d: &u8| ms.saturating_mul(10).saturating_add(i64::from(d - b'0'));
                of_millis(digits.iter().fold(0, more))
            }
            text => self.text(text, scratch).and_then(|text| day.parse(text)),
        };
        let Some(time) = time.filter(|t| t.in_event_range()) else {
            return Err(Cause::Time.of(Reason::BadTime));
        };
        self.event.time = time;
        if let (Some(max), Some(stamped)) = (self.plan.max_ahead, stamped)
            && time.0.saturating_sub(stamped.0) > max
        {
            return Err(Cause::Ahead(time).of(Reason::Ahead));
        }
        Ok(())
    }

    fn id(&mut self, slots: &[Raw], scratch: &mut Vec<u8>) -> Result<(), Refusal> {
        let wrong = |part: usize| Err(Cause::Id(part).of(Reason::WrongType));
        let sites = &self.plan.id;
        if sites.is_empty() {
            return Ok(());
        }
        if let [Site::Slot(slot)] = sites[..]
            && let Raw::Text { start, len, escaped: false } = slots[slot]
        {
            let id = self.bytes(start, len);
            self.event.id = if id.is_empty() { 0 } else { hash(id).max(1) };
            return Ok(());
        }
        scratch.clear();
        let mut complete = true;
        for (number, site) in sites.iter().enumerate() {
            let mark = scratch.len();
            scratch.extend([0; 4]);
            match site.part(self.batch, self.record, slots) {
                Part::Missing => {}
                Part::Bytes(bytes) if std::str::from_utf8(bytes).is_ok() => scratch.extend(bytes),
                Part::Raw(Raw::Text { start, len, escaped: false }) => scratch.extend(self.bytes(start, len)),
                Part::Raw(Raw::Text { start, len, .. }) => scratch.extend(Unescaped::new(self.bytes(start, len))),
                Part::Raw(Raw::Number(number @ (Number::Int(_) | Number::Unsigned(_)))) => write_digits(number, scratch),
                _ => return wrong(number),
            }
            let length = scratch.len() - mark - 4;
            complete &= length > 0;
            // Its length before each part: parts cannot run together.
            scratch[mark..mark + 4].copy_from_slice(&(length as u32).to_le_bytes());
        }
        if complete {
            let id = if sites.len() == 1 { &scratch[4..] } else { scratch };
            self.event.id = hash(id).max(1);
        }
        Ok(())
    }

    fn matches(&mut self, interest: &Interest, slots: &mut [Raw], scratch: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut matches = interest.always;
        for &field in &interest.fields {
            self.convert(field, slots, scratch)?;
        }
        for conditional in &interest.conditional {
            match condition::evaluate(&self.plan.conditions[conditional.condition], slots, self.value) {
                Answer::Fails => {}
                Answer::WrongType => return Err(Cause::Condition(conditional.condition).of(Reason::WrongType)),
                Answer::Holds => {
                    matches |= conditional.aggregates;
                    for &field in &conditional.fields {
                        self.convert(field, slots, scratch)?;
                    }
                }
            }
        }
        self.event.matches = matches;
        Ok(())
    }

    /// Fills a field. Of several conditions that read it the first does the work.
    #[inline]
    fn convert(&mut self, field: usize, slots: &mut [Raw], scratch: &mut Vec<u8>) -> Result<(), Refusal> {
        let (slot, usage) = self.plan.fields[field];
        if slots[slot].is_missing() || self.fields[field] != Field::Absent {
            return Ok(());
        }
        let converted = match usage {
            Use::Number => condition::number(slots, slot, self.value).ok_or(None).and_then(|number| match number {
                Number::Int(value) => Ok(Field::Int(value)),
                Number::Unsigned(value) => Ok(Field::Unsigned(value)),
                Number::Float(value) if value.is_finite() => Ok(Field::Float(value)),
                Number::Float(_) => Err(Some(Unfit::OutsideFloats)),
            }),
            Use::Key => self.key(slots[slot], scratch),
            Use::Json => self.json(slots[slot]).map_err(Some),
        };
        self.fields[field] = converted.map_err(|unfit| Cause::Field(field, unfit).of(Reason::WrongType))?;
        Ok(())
    }

    fn key(&mut self, raw: Raw, scratch: &mut Vec<u8>) -> Result<Field, Option<Unfit>> {
        match raw {
            // Unescaped it is UTF-8 without control characters as it stands.
            Raw::Text { start, len, escaped: false } => Ok(Field::Text(self.span(start, len))),
            Raw::Text { start, len, escaped: true } => {
                scratch.clear();
                scratch.extend(Unescaped::new(self.bytes(start, len)));
                fit_text(scratch).map_err(Some)?;
                Ok(self.keep(|extra| extra.extend_from_slice(scratch)))
            }
            Raw::Number(number @ (Number::Int(_) | Number::Unsigned(_))) => Ok(self.keep(|extra| write_digits(number, extra))),
            _ => Err(None),
        }
    }

    fn json(&mut self, raw: Raw) -> Result<Field, Unfit> {
        let (start, len) = match raw {
            // With its quotes; an unescaped string is in compact form already.
            Raw::Text { start, len, escaped: false } if len as usize + 2 <= MAX_COMPACT => {
                return Ok(Field::Text(self.span(start - 1, len + 2)));
            }
            Raw::Text { start, len, .. } => (start - 1, len + 2),
            Raw::Decimal { start, len } | Raw::Composite { start, len, .. } => (start, len),
            Raw::Absent | Raw::Null => return Ok(Field::Absent),
            Raw::Bool(value) => return Ok(self.keep(|extra| extra.extend_from_slice(if value { b"true" } else { b"false" }))),
            Raw::Number(Number::Float(value)) => {
                let number = serde_json::Number::from_f64(value).ok_or(Unfit::OutsideFloats)?;
                return Ok(self.keep(|extra| extra.extend_from_slice(number.to_string().as_bytes())));
            }
            Raw::Number(number) => return Ok(self.keep(|extra| write_digits(number, extra))),
        };
        let tree = Tree::of(self.bytes(start, len));
        let mark = self.extra.len();
        match tree.write(self.extra) {
            Ok(()) => Ok(Field::Text(self.extra_span(mark, self.extra.len()))),
            Err(unfit) => {
                self.extra.truncate(mark);
                Err(unfit)
            }
        }
    }

    /// A part as text: UTF-8 but for lone surrogates. `None` where no string stands.
    #[inline]
    fn text<'t>(&self, part: Part<'a>, scratch: &'t mut Vec<u8>) -> Option<&'t [u8]>
    where
        'a: 't,
    {
        match part {
            Part::Bytes(bytes) => std::str::from_utf8(bytes).is_ok().then_some(bytes),
            Part::Raw(Raw::Text { start, len, escaped: false }) => Some(self.bytes(start, len)),
            Part::Raw(Raw::Text { start, len, escaped: true }) => {
                scratch.clear();
                scratch.extend(Unescaped::new(self.bytes(start, len)));
                Some(scratch)
            }
            _ => None,
        }
    }

    fn keep(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Field {
        let mark = self.extra.len();
        write(self.extra);
        Field::Text(self.extra_span(mark, self.extra.len()))
    }

    #[inline]
    fn bytes(&self, start: u32, len: u32) -> &'a [u8] {
        &self.value[start as usize..(start + len) as usize]
    }

    #[inline]
    fn span(&self, start: u32, len: u32) -> Span {
        Span::new(self.record.value.start() + start as usize, len as usize)
    }

    fn extra_span(&self, start: usize, end: usize) -> Span {
        Span::new(self.batch.arena.len() + start, end - start)
    }
}

impl Site {
    /// What stands at this place; outside the value, null counts as absent.
    #[inline]
    pub fn part<'a>(&self, batch: &'a Batch, record: &Record, slots: &[Raw]) -> Part<'a> {
        match self {
            Site::Slot(slot) => match slots[*slot] {
                raw if raw.is_missing() => Part::Missing,
                raw => Part::Raw(raw),
            },
            outside => outside.span(batch, record).and_then(|span| span.of(&batch.arena)).map_or(Part::Missing, Part::Bytes),
        }
    }

    /// The bytes of a place outside the value.
    #[inline]
    fn span(&self, batch: &Batch, record: &Record) -> Option<Span> {
        let span = match self {
            Site::Key => record.key,
            Site::Header(name) => {
                let (first, count) = record.headers;
                let headers = &batch.headers[first as usize..(first + count) as usize];
                headers.iter().rfind(|h| h.name.of(&batch.arena) == Some(name))?.value
            }
            Site::Slot(_) => return None,
        };
        (!span.is_null()).then_some(span)
    }
}

/// The bytes of a part of an event, or what else stands there.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    Missing,
    /// From the key or a header.
    Bytes(&'a [u8]),
    Raw(Raw),
}

/// Why a record is refused, as far as its dead letter's detail needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub reason: Reason,
    pub cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Length,
    Hunt,
    /// At a byte of the value; without a fault the bytes there are not UTF-8.
    Json(Option<Fault>, usize),
    NotObject,
    Type,
    Time,
    Ahead(Micros),
    /// A part of the id, by its number.
    Id(usize),
    Condition(usize),
    Field(usize, Option<Unfit>),
}

impl Cause {
    fn of(self, reason: Reason) -> Refusal {
        Refusal { reason, cause: self }
    }
}

fn of_millis(ms: i64) -> Option<Micros> {
    ms.checked_mul(1000).map(Micros)
}

fn write_digits(number: Number, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = match number {
        Number::Int(value) => write!(out, "{value}"),
        Number::Unsigned(value) => write!(out, "{value}"),
        Number::Float(value) => write!(out, "{value}"),
    };
}

/// Whether the bytes are UTF-8 without control characters (Unicode Cc).
#[inline]
fn is_printable(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| (0x20..0x7F).contains(b))
        || std::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(char::is_control))
}
