//! **Values** of an example: times as a page writes them, rows of the relations as JSON, and whether two pieces of JSON say the same.
//!
//! Invariant: numbers are the same only if they are equal, 5 and 5.0 included; nothing is rounded to make them so.

use crate::oracle::Json;
use crate::oracle::json::{Number, Text};
use huntline::outcome::Counts;
use huntline::time::Micros;

/// Microseconds as RFC 3339.
pub fn time(micros: Option<i64>) -> String {
    micros.map_or("none".to_owned(), |micros| Micros(micros).to_string())
}

/// What the relation `hunts` says of a hunt beside its view. Times in microseconds.
pub struct Row {
    pub events: i64,
    pub first_event_at: i64,
    pub last_event_at: i64,
    pub watermark: i64,
}

impl Row {
    pub fn to_json(&self) -> String {
        let time = |micros| Json::text(&Micros(micros).to_string());
        let members = [
            ("events", Json::integer(self.events)),
            ("first_event_at", time(self.first_event_at)),
            ("last_event_at", time(self.last_event_at)),
            ("watermark", time(self.watermark)),
        ];
        Json::object(members).to_string()
    }
}

/// As in the relation `partitions`.
pub fn counts(counts: &Counts) -> String {
    serde_json::to_string(counts).expect("numbers are JSON")
}

/// The first thing in which `found` is not what the page says. Where a window on the page says whether it is `final`, as over HTTP, and
/// what was found does not, the hunt's watermark decides.
pub fn difference(page: &str, found: &str, watermark: Option<i64>) -> Option<String> {
    let read = |text: &str| Json::read(text.as_bytes()).unwrap_or_else(|fault| panic!("{fault:?}: {text}"));
    differ("", &read(page), &read(found), watermark)
}

fn differ(path: &str, page: &Json, found: &Json, watermark: Option<i64>) -> Option<String> {
    let differs = || Some(format!("{path}: the page says {page}, found {found}"));
    match (page, found) {
        (Json::Number(p), Json::Number(f)) if same_number(p, f) => None,
        (Json::Text(p), Json::Text(f)) if p == f || same_time(p, f) => None,
        (Json::Array(p), Json::Array(f)) if p.len() == f.len() => {
            p.iter().zip(f).enumerate().find_map(|(i, (p, f))| differ(&format!("{path}/{i}"), p, f, watermark))
        }
        (Json::Object(p), Json::Object(f)) => {
            let (mut p, mut f) = (p.clone(), f.clone());
            let (said, told) = (p.remove(&Text::from("final")), f.remove(&Text::from("final")));
            if let Some(said) = said
                && said != told.unwrap_or_else(|| Json::Bool(ends_by(&f, watermark)))
            {
                return Some(format!("{path}/final: the page says {said}, the watermark is {}", time(watermark)));
            }
            if !p.keys().eq(f.keys()) {
                return differs();
            }
            p.iter().find_map(|(name, p)| differ(&format!("{path}/{}", name.as_str().unwrap_or("?")), p, &f[name], watermark))
        }
        _ if page == found => None,
        _ => differs(),
    }
}

/// The first number of an estimate that is further from the exact one than it may be: the error that an item of
/// `top` states, three times that of a funnel's stage (a standard error), else 1 %.
pub fn beyond_bounds(estimate: &str, exact: &str) -> Option<String> {
    let read = |text: &str| Json::read(text.as_bytes()).unwrap_or_else(|fault| panic!("{fault:?}: {text}"));
    beyond("", &read(estimate), &read(exact), None)
}

fn beyond(path: &str, estimate: &Json, exact: &Json, error: Option<f64>) -> Option<String> {
    let differs = || Some(format!("{path}: {estimate} is no estimate of {exact}"));
    match (estimate, exact) {
        (Json::Number(a), Json::Number(b)) => {
            let (a, b) = (Number::of_token(a).to_f64(), Number::of_token(b).to_f64());
            if (a - b).abs() <= error.unwrap_or(b.abs() / 100.0) { None } else { differs() }
        }
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| beyond(&format!("{path}/{i}"), a, b, None))
        }
        (Json::Object(a), Json::Object(b)) => {
            let mut a = a.clone();
            let of_top = a.contains_key(&Text::from("key"));
            let error = match a.remove(&Text::from("error")) {
                Some(Json::Number(error)) => Some(Number::of_token(&error).to_f64() * if of_top { 1.0 } else { 3.0 }),
                _ => None,
            };
            if !a.keys().eq(b.keys()) {
                return differs();
            }
            a.iter().find_map(|(name, a)| beyond(&format!("{path}/{}", name.as_str().unwrap_or("?")), a, &b[name], error))
        }
        _ if estimate == exact => None,
        _ => differs(),
    }
}

fn same_number(a: &str, b: &str) -> bool {
    match (a.parse::<i128>(), b.parse::<i128>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => Number::of_token(a).order(Number::of_token(b)).is_eq(),
    }
}

fn instant(text: &Text) -> Option<Micros> {
    text.as_str().and_then(|text| Micros::parse_rfc3339(text.as_bytes()))
}

fn same_time(a: &Text, b: &Text) -> bool {
    instant(a).is_some() && instant(a) == instant(b)
}

fn ends_by(window: &std::collections::BTreeMap<Text, Json>, watermark: Option<i64>) -> bool {
    let Some(Json::Text(end)) = window.get(&Text::from("end")) else { return false };
    instant(end).zip(watermark).is_some_and(|(end, watermark)| end.0 <= watermark)
}
