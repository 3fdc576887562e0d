//! **Events**: steps 1 to 5, what a record alone decides. The fold hands a record in and takes a [`Decision`].
//!
//! Invariant: the steps stand here in the contract's order, and nothing but the record and the definitions is looked at.

use super::Record;
use super::definitions::{Aggregate, Definitions, Kind, Place, Places};
use super::instant;
use super::json::{Fault, Json, Number};
use super::predicate::WrongType;

pub enum Decision {
    /// A tombstone.
    Ignored,
    DeadLetter {
        hunt: Option<String>,
        reason: &'static str,
    },
    Event(Event),
}

pub struct Event {
    pub hunt: String,
    /// Its parts; `None`: no id, or an empty part.
    pub id: Option<Vec<Vec<u8>>>,
    /// Microseconds.
    pub time: i128,
    /// By name of aggregate; those that do not match, or to which it adds nothing, are left out.
    pub contributions: Vec<(String, Contribution)>,
}

#[derive(Clone, Debug)]
pub enum Contribution {
    One,
    Number(Number),
    Value(Json),
    Key(String),
    Weight(String, Number),
    /// The key, and the funnel's stages of this event's type.
    Stages(String, Vec<usize>),
}

/// What stands at a place.
enum Part<'a> {
    Nothing,
    Bytes(&'a [u8]),
    Json(&'a Json),
}

pub fn decide(definitions: &Definitions, places: &Places, record: &Record) -> Decision {
    // 1.
    let Some(value) = &record.value else { return Decision::Ignored };

    let outside = match &places.hunt {
        Place::Value(_) => None,
        place => Some(hunt_outside(find(place, record, &Json::Null))),
    };
    let readable = outside.as_ref().and_then(|h| h.as_ref().ok()).cloned();
    let dead = |hunt: &Option<String>, reason| Decision::DeadLetter { hunt: hunt.clone(), reason };

    // 2.
    if value.len() > places.max_bytes {
        return dead(&readable, "too_large");
    }
    // 3.
    if let Some(Err(reason)) = outside {
        return dead(&None, reason);
    }
    // 4.
    let json = match Json::read(value) {
        Ok(json @ Json::Object(_)) => json,
        Ok(_) => return dead(&readable, "not_object"),
        Err(Fault::NotJson) => return dead(&readable, "not_json"),
        Err(Fault::TooDeep) => return dead(&readable, "too_deep"),
    };
    let hunt = match readable {
        Some(hunt) => hunt,
        None => match hunt_inside(find(&places.hunt, record, &json)) {
            Ok(hunt) => hunt,
            Err(reason) => return dead(&None, reason),
        },
    };
    // 5.
    match parts(definitions, places, record, &json) {
        Ok((id, time, contributions)) => Decision::Event(Event { hunt, id, time, contributions }),
        Err(reason) => dead(&Some(hunt), reason),
    }
}

type Parts = (Option<Vec<Vec<u8>>>, i128, Vec<(String, Contribution)>);

fn parts(definitions: &Definitions, places: &Places, record: &Record, json: &Json) -> Result<Parts, &'static str> {
    let event_type = event_type(find(&places.event_type, record, json)).ok_or("no_type")?;
    let time = match &places.time {
        None => None,
        Some(place) => time(find(place, record, json))?,
    };
    // A record without a timestamp has nothing that a time could be ahead of.
    let recorded = record.recorded_at();
    let time = match time {
        Some(time) => time,
        None => recorded.and_then(instant::within_bounds).ok_or("bad_time")?,
    };
    if let (Some(recorded), Some(max_ahead)) = (recorded, definitions.max_ahead)
        && time > recorded + max_ahead
    {
        return Err("ahead");
    }
    let id = id(places, record, json)?;
    let mut contributions = Vec::new();
    for (name, aggregate) in &definitions.aggregates {
        if let Some(contribution) = contribution(aggregate, &event_type, json).map_err(|WrongType| "wrong_type")? {
            contributions.push((name.clone(), contribution));
        }
    }
    Ok((id, time, contributions))
}

fn find<'a>(place: &Place, record: &'a Record, json: &'a Json) -> Part<'a> {
    let bytes = |found: Option<&'a Vec<u8>>| found.map_or(Part::Nothing, |b| Part::Bytes(b));
    match place {
        Place::Key => bytes(record.key.as_ref()),
        // Of repeated headers the last counts, as of repeated members.
        Place::Header(name) => {
            bytes(record.headers.iter().rev().find(|(n, _)| n == name.as_bytes()).and_then(|(_, v)| v.as_ref()))
        }
        Place::Value(pointer) => match json.at(pointer) {
            None | Some(Json::Null) => Part::Nothing,
            Some(value) => Part::Json(value),
        },
    }
}

fn hunt_outside(part: Part) -> Result<String, &'static str> {
    match part {
        Part::Bytes(bytes) => fit(bytes),
        _ => Err("no_hunt"),
    }
}

fn hunt_inside(part: Part) -> Result<String, &'static str> {
    match part {
        Part::Nothing => Err("no_hunt"),
        Part::Json(Json::Text(text)) => fit(&text.0),
        Part::Json(Json::Number(token)) => integer(token).ok_or("bad_hunt"),
        _ => Err("bad_hunt"),
    }
}

fn fit(bytes: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "bad_hunt")?;
    let cc = |c: char| matches!(c as u32, 0..=0x1f | 0x7f..=0x9f);
    if bytes.is_empty() || bytes.len() > 512 || text.chars().any(cc) { Err("bad_hunt") } else { Ok(text.to_owned()) }
}

/// Its digits: those of its value, so -0 is "0".
fn integer(token: &str) -> Option<String> {
    match Number::of_token(token) {
        Number::Integer(i) => Some(i.to_string()),
        Number::Float(_) => None,
    }
}

/// As bytes: a lone surrogate in it matches nothing but a glob's star.
fn event_type(part: Part) -> Option<Vec<u8>> {
    let bytes = match part {
        Part::Bytes(bytes) if std::str::from_utf8(bytes).is_ok() => bytes.to_vec(),
        Part::Json(Json::Text(text)) => text.0.clone(),
        _ => return None,
    };
    (!bytes.is_empty()).then_some(bytes)
}

/// `None`: absent or null.
fn time(part: Part) -> Result<Option<i128>, &'static str> {
    let read = match part {
        Part::Nothing => return Ok(None),
        Part::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().and_then(instant::of_milliseconds)
            }
            Ok(text) => instant::read(text),
            Err(_) => None,
        },
        Part::Json(Json::Text(text)) => text.as_str().and_then(instant::read),
        Part::Json(Json::Number(token)) => match Number::of_token(token) {
            Number::Integer(ms) => instant::of_milliseconds(ms),
            Number::Float(_) => None,
        },
        Part::Json(_) => None,
    };
    read.map(Some).ok_or("bad_time")
}

/// All parts are looked at: one of the wrong type is wrong beside an absent one too.
fn id(places: &Places, record: &Record, json: &Json) -> Result<Option<Vec<Vec<u8>>>, &'static str> {
    let mut id = Vec::new();
    let mut whole = !places.id.is_empty();
    for place in &places.id {
        let part = match find(place, record, json) {
            Part::Nothing => Vec::new(),
            Part::Bytes(bytes) if std::str::from_utf8(bytes).is_ok() => bytes.to_vec(),
            Part::Json(Json::Text(text)) => text.0.clone(),
            Part::Json(Json::Number(token)) => integer(token).ok_or("wrong_type")?.into_bytes(),
            Part::Bytes(_) | Part::Json(_) => return Err("wrong_type"),
        };
        whole &= !part.is_empty();
        id.push(part);
    }
    Ok(whole.then_some(id))
}

fn contribution(aggregate: &Aggregate, event_type: &[u8], json: &Json) -> Result<Option<Contribution>, WrongType> {
    if aggregate.on.as_ref().is_some_and(|on| !on.iter().any(|pattern| glob(pattern.as_bytes(), event_type))) {
        return Ok(None);
    }
    // A funnel reads only events of its stages: an event of another type needs no `by` for it.
    let stages: Vec<usize> = match &aggregate.kind {
        Kind::Funnel { stages, .. } => (0..stages.len()).filter(|&i| stages[i].as_bytes() == event_type).collect(),
        _ => Vec::new(),
    };
    if matches!(aggregate.kind, Kind::Funnel { .. }) && stages.is_empty() {
        return Ok(None);
    }
    if let Some(filter) = &aggregate.filter
        && !filter.holds(json)?
    {
        return Ok(None);
    }
    Ok(match &aggregate.kind {
        Kind::Count => Some(Contribution::One),
        Kind::Sum(of) | Kind::Min(of) | Kind::Max(of) | Kind::Mean(of) | Kind::Quantiles { of, .. } => {
            number(json.at(of))?.map(Contribution::Number)
        }
        Kind::First(of) | Kind::Last(of) => match json.at(of) {
            None | Some(Json::Null) => None,
            Some(value) => match value.plain() {
                Some(plain) if plain.to_string().len() <= 1024 => Some(Contribution::Value(plain)),
                _ => return Err(WrongType),
            },
        },
        Kind::Distinct(of) => key(json.at(of))?.map(Contribution::Key),
        Kind::Top { by, sum: None, .. } => key(json.at(by))?.map(|k| Contribution::Weight(k, Number::Integer(1))),
        Kind::Top { by, sum: Some(sum), .. } => match (key(json.at(by))?, number(json.at(sum))?) {
            (Some(key), Some(weight)) => Some(Contribution::Weight(key, weight)),
            _ => None,
        },
        Kind::Funnel { by, .. } => key(json.at(by))?.map(|k| Contribution::Stages(k, stages)),
    })
}

fn number(value: Option<&Json>) -> Result<Option<Number>, WrongType> {
    match value {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Number(token)) => match Number::of_token(token) {
            Number::Float(f) if f.is_infinite() => Err(WrongType),
            number => Ok(Some(number)),
        },
        Some(_) => Err(WrongType),
    }
}

fn key(value: Option<&Json>) -> Result<Option<String>, WrongType> {
    match value {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Text(text)) => match text.as_str() {
            Some(key) if !key.contains('\0') => Ok(Some(key.to_owned())),
            _ => Err(WrongType),
        },
        Some(Json::Number(token)) => integer(token).map(Some).ok_or(WrongType),
        Some(_) => Err(WrongType),
    }
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skip| glob(rest, &text[skip..])),
        Some((byte, rest)) => text.split_first().is_some_and(|(first, left)| first == byte && glob(rest, left)),
    }
}

#[cfg(test)]
mod tests;
