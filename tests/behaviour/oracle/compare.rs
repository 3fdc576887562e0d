//! **Comparison**: the first thing in which what was found differs from what the oracle says.
//!
//! Invariant: member order means nothing, 5 is 5.0, and an integer is exact at any size, by its decimal digits. Where the oracle has
//! a float, a relative 1e-9 is allowed: the contract fixes the order of additions within a partial and of partials, but a sum may
//! be grouped in several ways that keep it (integers beside floats, windows before partials), and each rounds differently in the last bits.

use super::definitions::{Definitions, Kind};
use super::json::{Json, Text};
use super::{HuntSaid, Said, instant};
use std::collections::BTreeMap;

const FLOAT: f64 = 1e-9;

/// Quantiles may be within 1 % of the value.
const QUANTILE: f64 = 0.01 + FLOAT;

impl Said {
    /// All views, by hunt, as JSON text.
    pub fn compare(&self, found: &BTreeMap<String, String>) -> Option<String> {
        for (hunt, said) in &self.hunts {
            let Some(text) = found.get(hunt) else { return Some(format!("hunt {hunt:?}: missing, expected {}", said.view)) };
            if let Some(difference) = self.compare_view(hunt, text) {
                return Some(difference);
            }
        }
        found
            .keys()
            .find(|hunt| !self.hunts.contains_key(*hunt))
            .map(|hunt| format!("hunt {hunt:?}: found, but it applied nothing"))
    }

    /// The rollup, each aggregate's value as JSON text.
    pub fn compare_rollup(&self, found: &BTreeMap<String, String>) -> Option<String> {
        let read =
            |(name, text): (&String, &String)| (Text::from(name.as_str()), Json::read_view(text).unwrap_or(Json::text(text)));
        let found = Json::Object(found.iter().map(read).collect());
        let expected = Json::Object(self.rollup.iter().map(|(name, value)| (Text::from(name.as_str()), value.clone())).collect());
        compare(&self.definitions, &expected, &found).map(|difference| format!("rollup, {difference}"))
    }

    /// One view, as JSON text. A window that says whether it is `final`, as over HTTP, must say it rightly.
    pub fn compare_view(&self, hunt: &str, found: &str) -> Option<String> {
        let said: &HuntSaid = &self.hunts[hunt];
        let difference = match Json::read_view(found) {
            Ok(found) => compare(&self.definitions, &with_finals(said, &found), &found),
            Err(fault) => Some(format!("{fault:?}: {found}")),
        }?;
        let mut message = format!("hunt {hunt:?}, {difference}");
        if said.partials > 1 {
            for ((topic, partition), part) in &self.partitions {
                if let Some(part) = part.hunts.get(hunt) {
                    message += &format!("\n  of {topic}/{partition}: {} events, {}", part.events, part.view);
                }
            }
        }
        Some(message)
    }
}

/// The view with `final` in every window that has it in the view found.
fn with_finals(said: &HuntSaid, found: &Json) -> Json {
    let mut view = said.view.clone();
    let Json::Object(aggregates) = &mut view else { return view };
    for (name, value) in aggregates {
        let Json::Array(items) = value else { continue };
        for (i, item) in items.iter_mut().enumerate() {
            let path = [name.as_str().unwrap_or_default().to_owned(), i.to_string(), "final".to_owned()];
            let Json::Object(window) = item else { continue };
            if let (Some(_), Some(Json::Text(end))) = (found.at(&path), window.get(&Text::from("end"))) {
                let end = end.as_str().and_then(instant::read);
                let is_final = end.is_some_and(|end| end <= i128::from(said.watermark));
                window.insert(Text::from("final"), Json::Bool(is_final));
            }
        }
    }
    view
}

/// Two views: objects of aggregates.
pub fn compare(definitions: &Definitions, expected: &Json, found: &Json) -> Option<String> {
    let (Json::Object(expected), Json::Object(found)) = (expected, found) else {
        return Some(format!("expected the view {expected}, found {found}"));
    };
    for (name, expected) in expected {
        let name_text = name.as_str().unwrap_or_default();
        let Some(found) = found.get(name) else { return Some(format!("aggregate {name_text:?}: missing, expected {expected}")) };
        let slack = match definitions.aggregates.get(name_text) {
            Some(aggregate) if matches!(aggregate.kind, Kind::Quantiles { .. }) => Slack { float: QUANTILE, integers_too: true },
            _ => Slack { float: FLOAT, integers_too: false },
        };
        if let Some(difference) = differ("", expected, found, slack) {
            return Some(format!("aggregate {name_text:?}{difference}"));
        }
    }
    found
        .keys()
        .find(|name| !expected.contains_key(*name))
        .map(|name| format!("aggregate {:?}: found, but not defined", name.as_str()))
}

#[derive(Clone, Copy)]
struct Slack {
    float: f64,
    integers_too: bool,
}

fn differ(path: &str, expected: &Json, found: &Json, slack: Slack) -> Option<String> {
    let differs = || Some(format!("{path}: expected {expected}, found {found}"));
    match (expected, found) {
        (Json::Number(e), Json::Number(f)) => {
            if same_number(e, f, slack) {
                None
            } else {
                differs()
            }
        }
        (Json::Text(e), Json::Text(f)) if path.ends_with("/start") || path.ends_with("/end") => {
            let at = |t: &Text| t.as_str().and_then(instant::read);
            if e == f || (at(e).is_some() && at(e) == at(f)) { None } else { differs() }
        }
        (Json::Array(e), Json::Array(f)) => {
            let inner = e.iter().zip(f).enumerate().find_map(|(i, (e, f))| differ(&format!("{path}/{i}"), e, f, slack));
            inner.or_else(|| if e.len() == f.len() { None } else { differs() })
        }
        (Json::Object(e), Json::Object(f)) => {
            if !e.keys().eq(f.keys()) {
                return differs();
            }
            e.iter().find_map(|(name, e)| differ(&format!("{path}/{}", name.as_str().unwrap_or("?")), e, &f[name], slack))
        }
        _ => {
            if expected == found {
                None
            } else {
                differs()
            }
        }
    }
}

fn same_number(expected: &str, found: &str, slack: Slack) -> bool {
    if exact(expected) == exact(found) {
        return true;
    }
    let is_float = expected.contains(['.', 'e', 'E']);
    if !is_float && !slack.integers_too {
        return false;
    }
    let (e, f): (f64, f64) = (expected.parse().expect("a number"), found.parse().expect("a number"));
    e.is_finite() && f.is_finite() && (e - f).abs() <= slack.float * e.abs().max(f.abs())
}

/// The sign, the digits without zeros at either end, and the power of ten of the last digit.
fn exact(token: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = token.split_once(['e', 'E']).unwrap_or((token, "0"));
    let negative = mantissa.starts_with('-');
    let mantissa = mantissa.trim_start_matches('-');
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let trimmed = digits.trim_end_matches('0');
    if trimmed.is_empty() {
        return (false, String::new(), 0);
    }
    let power = exponent.parse::<i64>().unwrap_or(i64::MAX / 2) - fraction.len() as i64 + (digits.len() - trimmed.len()) as i64;
    (negative, trimmed.to_owned(), power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(expected: &str, found: &str) -> Option<String> {
        let definitions = Definitions::from_toml("[aggregates.q]\nkind = \"quantiles\"\nof = \"/v\"");
        compare(&definitions, &Json::read(expected.as_bytes()).unwrap(), &Json::read(found.as_bytes()).unwrap())
    }

    #[test]
    fn these_are_the_same() {
        for (a, b) in [
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#),
            (r#"{"a":5}"#, r#"{"a":5.0}"#),
            (r#"{"a":5.0}"#, r#"{"a":5}"#),
            (r#"{"a":500}"#, r#"{"a":5e2}"#),
            (r#"{"a":-0.0}"#, r#"{"a":0}"#),
            (r#"{"a":0.1}"#, r#"{"a":0.10000000000001}"#),
            (r#"{"a":1.8446744073709552e19}"#, r#"{"a":18446744073709551616}"#),
            (r#"{"a":36893488147419103231}"#, r#"{"a":36893488147419103231}"#),
            (r#"{"q":{"p50":100}}"#, r#"{"q":{"p50":100.9}}"#),
            (r#"{"a":[{"start":"2024-01-01T00:00:00Z"}]}"#, r#"{"a":[{"start":"2024-01-01T00:00:00.000000+00:00"}]}"#),
        ] {
            assert_eq!(difference(a, b), None, "{a} {b}");
        }
    }

    #[test]
    fn windows_that_say_whether_they_are_final_must_say_it_rightly() {
        let toml = "[time]\nlateness = \"0s\"\n[aggregates.w]\nkind = \"count\"\nwindow = { tumbling = \"10s\" }";
        let record = |offset, timestamp_ms| crate::oracle::Record {
            offset,
            timestamp_ms,
            key: Some(b"h".to_vec()),
            value: Some(br#"{"type":"t"}"#.to_vec()),
            headers: Vec::new(),
        };
        let log = BTreeMap::from([(("t".to_owned(), 0), vec![record(0, 1_000), record(1, 11_000)])]);
        let said = crate::oracle::recompute(&Definitions::from_toml(toml), &log, &BTreeMap::new());
        let found = |first: &str, second: &str| {
            format!(
                r#"{{"w":[{{"start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:00:10Z","value":1{first}}},
                {{"start":"1970-01-01T00:00:10Z","end":"1970-01-01T00:00:20Z","value":1{second}}}]}}"#
            )
        };
        assert_eq!(said.compare_view("h", &found("", "")), None);
        assert_eq!(said.compare_view("h", &found(r#","final":true"#, r#","final":false"#)), None);
        assert!(said.compare_view("h", &found(r#","final":true"#, r#","final":true"#)).is_some());
        assert!(said.compare_view("h", &found(r#","final":false"#, r#","final":false"#)).is_some());
    }

    #[test]
    fn these_differ_and_the_first_difference_is_named() {
        for (a, b) in [
            (r#"{"a":1}"#, r#"{"a":2}"#),
            (r#"{"a":1}"#, r#"{}"#),
            (r#"{}"#, r#"{"a":1}"#),
            (r#"{"a":null}"#, r#"{"a":0}"#),
            (r#"{"a":[]}"#, r#"{"a":[1]}"#),
            (r#"{"a":36893488147419103231}"#, r#"{"a":36893488147419103232}"#),
            (r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992.0}"#),
            (r#"{"a":0.1}"#, r#"{"a":0.100001}"#),
            (r#"{"a":"1"}"#, r#"{"a":1}"#),
            (r#"{"q":{"p50":100}}"#, r#"{"q":{"p50":102}}"#),
            (r#"{"a":[{"start":"2024-01-01T00:00:00Z"}]}"#, r#"{"a":[{"start":"2024-01-01T00:00:01Z"}]}"#),
            (r#"{"a":1000000}"#, r#"{"a":1000000.0001}"#),
        ] {
            assert!(difference(a, b).is_some(), "{a} {b}");
        }
        assert_eq!(
            difference(r#"{"a":[{"key":"x","value":1}]}"#, r#"{"a":[{"value":2,"key":"x"}]}"#).unwrap(),
            r#"aggregate "a"/0/value: expected 1, found 2"#
        );
    }
}
