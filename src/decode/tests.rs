//! Steps 1 to 5 of contract section 2, case by case, through [`Plan::decode`].

use super::predicate::Predicate;
use super::*;
use crate::definitions::{Aggregate, Definitions, EventPlaces, Kind, Place, Pointer, TimeRules};
use crate::position::{Epoch, Offset, Position};
use crate::record::PartitionId;
use std::collections::BTreeMap;

const NOW_MS: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

fn pointer(text: &str) -> Pointer {
    Pointer(text.split('/').skip(1).map(str::to_owned).collect())
}

fn place(text: &str) -> Place {
    match text.strip_prefix("header:") {
        Some(name) => Place::Header(name.into()),
        None if text == "key" => Place::Key,
        None => Place::Value(pointer(text)),
    }
}

fn aggregate(name: &str, kind: Kind, on: Option<&[&str]>, filter: Option<&str>) -> Aggregate {
    let on = on.map(|on| on.iter().map(|&t| t.to_owned()).collect());
    Aggregate { name: name.into(), kind, on, filter: filter.map(|f| Predicate::parse(f).unwrap()), window: None }
}

fn definitions(aggregates: Vec<Aggregate>) -> Definitions {
    let event = EventPlaces {
        hunt: Place::Key,
        id: vec![place("/id")],
        event_type: place("/type"),
        time: Some(place("/time")),
        max_bytes: 2_000_000,
    };
    let time = TimeRules { lateness: 60_000_000, idle: None, max_ahead: Some(300_000_000) };
    Definitions { event, topics: BTreeMap::new(), dedup_last: 32, time, aggregates, rollup: vec![] }
}

type Headers<'a> = Vec<(&'a [u8], Option<&'a [u8]>)>;

/// One decoded record with what stands around it.
struct Decode {
    plan: Plan,
    batch: Batch,
    out: Decoded,
}

fn decode(definitions: &Definitions, key: Option<&[u8]>, value: Option<&[u8]>, headers: Headers, timestamp_ms: i64) -> Decode {
    let mut batch = Batch::new(PartitionId::new("t", 0), Epoch(1), Position(0));
    // A neighbour on each side, lest a place is counted from the wrong end.
    batch.push(Offset(0), NOW_MS, Some(b"other"), Some(br#"{"type":"\u0061","id":"\u0062","data":{"k":"\u0063"}}"#), []);
    batch.push(Offset(1), timestamp_ms, key, value, headers);
    batch.push(Offset(2), NOW_MS, Some(b"other"), Some(b"{"), []);
    let plan = Plan::new(definitions, "t");
    let mut out = Decoded::default();
    plan.decode(&batch, &mut out);
    plan.decode(&batch, &mut out);
    assert!(matches!(out.events[2].verdict, Verdict::Rejected(_)));
    Decode { plan, batch, out }
}

impl Decode {
    fn event(&self) -> Event {
        self.out.events[1]
    }

    fn verdict(&self) -> Verdict {
        let detail = self.plan.explain(&self.batch, 1);
        assert_eq!(detail.is_empty(), !matches!(self.event().verdict, Verdict::Rejected(_)), "{detail}");
        self.event().verdict
    }

    fn hunt(&self) -> Option<&[u8]> {
        let hunt = self.event().hunt;
        let text = (!hunt.is_null()).then(|| self.out.text(&self.batch, hunt));
        assert_eq!(self.event().hunt_hash, text.map_or(0, hunt_hash));
        text
    }

    fn text(&self, field: usize) -> &str {
        match self.out.fields(1)[field] {
            Field::Text(span) => std::str::from_utf8(self.out.text(&self.batch, span)).unwrap(),
            other => panic!("{other:?} is no text"),
        }
    }
}

fn json(definitions: &Definitions, value: &str) -> Decode {
    decode(definitions, Some(b"h"), Some(value.as_bytes()), vec![], NOW_MS)
}

const EVENT: Verdict = Verdict::Event;

fn rejected(reason: Reason) -> Verdict {
    Verdict::Rejected(reason)
}

#[test]
fn a_tombstone_is_ignored_whatever_its_key() {
    let d = definitions(vec![]);
    assert_eq!(decode(&d, None, None, vec![], NOW_MS).verdict(), Verdict::Ignored);
    assert_eq!(decode(&d, Some(b"h"), None, vec![], NOW_MS).verdict(), Verdict::Ignored);
    assert_eq!(decode(&d, Some(b"h"), Some(b""), vec![], NOW_MS).verdict(), rejected(Reason::NotJson));
}

#[test]
fn a_value_past_the_limit_is_too_large_before_all_else() {
    let mut d = definitions(vec![]);
    d.event.max_bytes = 12;
    assert_eq!(json(&d, r#"{"type":"a"}"#).verdict(), EVENT);
    let large = json(&d, "not json at all");
    assert_eq!((large.verdict(), large.hunt()), (rejected(Reason::TooLarge), Some(&b"h"[..])));
    let detail = large.plan.explain(&large.batch, 1);
    assert!(detail.contains("15 bytes") && detail.contains("at most 12") && detail.contains("SHA-256"), "{detail}");
    for key in [None, Some(&b""[..])] {
        let large = decode(&d, key, Some(&[b'x'; 13]), vec![], NOW_MS);
        assert_eq!((large.verdict(), large.hunt()), (rejected(Reason::TooLarge), None));
    }
}

#[test]
fn a_hunt_in_the_key_or_a_header_is_judged_before_the_json() {
    let mut d = definitions(vec![]);
    let long = [b'h'; 513];
    for header in [false, true] {
        d.event.hunt = place(if header { "header:hunt" } else { "key" });
        for (hunt, expected) in [
            (None, rejected(Reason::NoHunt)),
            (Some(&b""[..]), rejected(Reason::BadHunt)),
            (Some(&long[..]), rejected(Reason::BadHunt)),
            (Some(b"a\xff"), rejected(Reason::BadHunt)),
            (Some(b"a\0"), rejected(Reason::BadHunt)),
            (Some(b"a\x7f"), rejected(Reason::BadHunt)),
            (Some("a\u{85}".as_bytes()), rejected(Reason::BadHunt)),
            (Some(&long[..512]), rejected(Reason::NotJson)),
            (Some("a\u{a0} é😀".as_bytes()), rejected(Reason::NotJson)),
            (Some(b" "), rejected(Reason::NotJson)),
        ] {
            let headers: Headers =
                vec![(b"hunt", Some(b"first")), (b"Hunt", Some(b"other")), (b"hunt", hunt), (b"x", Some(b"y"))];
            let decoded = if header {
                decode(&d, Some(b"key"), Some(b"{"), headers, NOW_MS)
            } else {
                decode(&d, hunt, Some(b"{"), vec![], NOW_MS)
            };
            assert_eq!(decoded.verdict(), expected, "{hunt:?}");
            assert_eq!(decoded.hunt(), hunt.filter(|_| expected == rejected(Reason::NotJson)));
        }
    }
}

#[test]
fn what_comes_first_from_left_to_right_decides_between_not_json_and_too_deep() {
    let d = definitions(vec![aggregate("a", Kind::Sum { of: pointer("/data/a") }, None, None)]);
    let deep = "[".repeat(65);
    for (value, reason) in [
        (format!("{{\"x\":{deep}").into_bytes(), Reason::TooDeep),
        (format!("{{\"x\":{deep}\u{ff}").into_bytes(), Reason::TooDeep),
        ([format!("{{\"x\":{deep}").as_bytes(), b"\xff"].concat(), Reason::TooDeep),
        ([b"{\"x\":\"\xff\",\"y\":", deep.as_bytes()].concat(), Reason::NotJson),
        ([b"\xff", deep.as_bytes()].concat(), Reason::NotJson),
        (format!("{{\"x\" {deep}").into_bytes(), Reason::NotJson),
        ("[".repeat(100_000).into_bytes(), Reason::TooDeep),
        (b"\xef\xbb\xbf{\"type\":\"a\"}".to_vec(), Reason::NotJson),
        (b"{\"type\":\"a\"}\xff".to_vec(), Reason::NotJson),
        (b"{\"type\":\"a\",\"x\":\"\xc3\"}".to_vec(), Reason::NotJson),
        (b"{\"type\":\"a\",\"x\":\"\xed\xa0\x80\"}".to_vec(), Reason::NotJson),
        (format!("{}{}", "[".repeat(64), "]".repeat(64)).into_bytes(), Reason::NotObject),
        (b"{\"type\":\"a\"} 1".to_vec(), Reason::NotJson),
        (b"5".to_vec(), Reason::NotObject),
        (b" null ".to_vec(), Reason::NotObject),
    ] {
        let decoded = decode(&d, Some(b"h"), Some(&value), vec![], NOW_MS);
        assert_eq!(decoded.verdict(), rejected(reason), "{}", String::from_utf8_lossy(&value));
        assert_eq!(decoded.hunt(), Some(&b"h"[..]));
    }
}

#[test]
fn a_hunt_in_the_value_is_a_string_or_an_integer() {
    let mut d = definitions(vec![]);
    d.event.hunt = place("/data/hunt");
    let long = format!("\"{}\"", "h".repeat(513));
    for (hunt, expected) in [
        (r#""h-1""#, Ok("h-1")),
        (r#""\u0068\u00e9\ud83d\ude00""#, Ok("hé😀")),
        ("5", Ok("5")),
        ("-0", Ok("0")),
        ("-7", Ok("-7")),
        ("18446744073709551615", Ok("18446744073709551615")),
        ("9223372036854775808", Ok("9223372036854775808")),
        ("18446744073709551616", Err(Reason::BadHunt)),
        ("5.0", Err(Reason::BadHunt)),
        ("1e400", Err(Reason::BadHunt)),
        ("true", Err(Reason::BadHunt)),
        ("[]", Err(Reason::BadHunt)),
        ("\"\"", Err(Reason::BadHunt)),
        (r#""\ud800""#, Err(Reason::BadHunt)),
        (r#""a\u0000""#, Err(Reason::BadHunt)),
        (r#""a\n""#, Err(Reason::BadHunt)),
        (r#""\u0085""#, Err(Reason::BadHunt)),
        (&long, Err(Reason::BadHunt)),
        (&long.replacen('h', "", 1), Ok(&long[2..514])),
        ("null", Err(Reason::NoHunt)),
    ] {
        let decoded = json(&d, &format!(r#"{{"type":"a","data":{{"hunt":{hunt}}}}}"#));
        assert_eq!(decoded.verdict(), expected.map_or_else(rejected, |_| EVENT), "{hunt}");
        assert_eq!(decoded.hunt(), expected.ok().map(str::as_bytes));
        // It is read for a dead letter too, and comes before the type.
        let decoded = json(&d, &format!(r#"{{"data":{{"hunt":{hunt}}}}}"#));
        assert_eq!(decoded.verdict(), rejected(expected.err().unwrap_or(Reason::NoType)));
        assert_eq!(decoded.hunt(), expected.ok().map(str::as_bytes));
    }
    let escaped = format!(r#"{{"type":"a","data":{{"hunt":"{}"}}}}"#, "\\u0068".repeat(512));
    assert_eq!(json(&d, &escaped).hunt(), Some(&[b'h'; 512][..]));
    assert_eq!(json(&d, &escaped.replacen("\\u0068", "\\u0068h", 1)).verdict(), rejected(Reason::BadHunt));
    assert_eq!(json(&d, r#"{"type":"a"}"#).verdict(), rejected(Reason::NoHunt));
    assert_eq!(json(&d, r#"{"type":"a","data":{"hunt":"x"},"data":{}}"#).verdict(), rejected(Reason::NoHunt));
    assert_eq!(json(&d, "[1]").verdict(), rejected(Reason::NotObject));
    assert_eq!(json(&d, "[1").verdict(), rejected(Reason::NotJson));
}

#[test]
fn a_type_is_a_string_that_is_not_empty() {
    let d = definitions(vec![]);
    for (member, expected) in [
        (r#""type":"a""#, EVENT),
        (r#""type":"\ud800""#, EVENT),
        (r#""x":1"#, rejected(Reason::NoType)),
        (r#""type":"""#, rejected(Reason::NoType)),
        (r#""type":null"#, rejected(Reason::NoType)),
        (r#""type":5"#, rejected(Reason::NoType)),
        (r#""type":["a"]"#, rejected(Reason::NoType)),
        (r#""type":"a","type":1"#, rejected(Reason::NoType)),
        // Before bad_time, ahead and wrong_type.
        (r#""type":1,"time":1.5,"id":[]"#, rejected(Reason::NoType)),
    ] {
        assert_eq!(json(&d, &format!("{{{member}}}")).verdict(), expected, "{member}");
    }
    let mut d = definitions(vec![aggregate("a", Kind::Count, Some(&["clue.*"]), None)]);
    d.event.event_type = place("header:ce_type");
    for (header, expected, matches) in [
        (Some(&b"clue.solved"[..]), EVENT, 1),
        (Some(b"other"), EVENT, 0),
        (Some(b""), rejected(Reason::NoType), 0),
        (Some(b"\xff"), rejected(Reason::NoType), 0),
        (None, rejected(Reason::NoType), 0),
    ] {
        let decoded = decode(&d, Some(b"h"), Some(b"{}"), vec![(b"ce_type", header)], NOW_MS);
        assert_eq!((decoded.verdict(), decoded.event().matches), (expected, matches), "{header:?}");
    }
}

#[test]
fn a_time_is_rfc_3339_or_milliseconds_or_the_record_s() {
    let mut d = definitions(vec![]);
    d.time.max_ahead = None;
    let at = |text: &str| Ok(Micros::parse_rfc3339(text.as_bytes()).unwrap());
    let now = Ok(Micros(NOW_MS * 1000));
    let bad = Err(Reason::BadTime);
    for (time, expected) in [
        ("null", now),
        (r#""2026-01-01T00:00:00.1239999Z""#, at("2026-01-01T00:00:00.123999Z")),
        (r#""2026-01-01t00:00:00z""#, now),
        (r#""2026-01-01 14:00:00+14:00""#, now),
        (r#""2025-12-31T10:00:00-14:00""#, now),
        (r#""2016-12-31T23:59:60Z""#, at("2016-12-31T23:59:59.999999Z")),
        (r#""2026-01-01T00:00:00\u005a""#, now),
        ("1767225600000", now),
        ("0", Ok(Micros(0))),
        ("-0", Ok(Micros(0))),
        ("-1", bad),
        ("253370764799999", at("9998-12-31T23:59:59.999Z")),
        ("253370764800000", bad),
        ("9223372036854775807", bad),
        ("18446744073709551615", bad),
        ("1e400", bad),
        ("1767225600000.0", bad),
        ("1.5e3", bad),
        (r#""1767225600000""#, bad),
        (r#""1969-12-31T23:59:59.999999Z""#, bad),
        (r#""1970-01-01T00:00:00+00:01""#, bad),
        (r#""9999-01-01T00:00:00Z""#, bad),
        (r#""""#, bad),
        ("true", bad),
        ("{}", bad),
    ] {
        let decoded = json(&d, &format!(r#"{{"type":"a","time":{time}}}"#));
        assert_eq!(decoded.verdict(), expected.map_or_else(rejected, |_| EVENT), "{time}");
        if let Ok(time) = expected {
            assert_eq!(decoded.event().time, time);
        }
    }
    d.event.time = Some(place("header:time"));
    for (time, expected) in [
        (Some("1767225600000"), now),
        (Some("2026-01-01T00:00:00Z"), now),
        (None, now),
        (Some("0"), Ok(Micros(0))),
        (Some(""), bad),
        (Some("-1"), bad),
        (Some("+1"), bad),
        (Some("1.0"), bad),
        (Some("99999999999999999999999999"), bad),
        (Some("٣"), bad),
    ] {
        let decoded = decode(&d, Some(b"h"), Some(br#"{"type":"a"}"#), vec![(b"time", time.map(str::as_bytes))], NOW_MS);
        assert_eq!(decoded.verdict(), expected.map_or_else(rejected, |_| EVENT), "{time:?}");
    }
    d.event.time = None;
    let value = Some(&br#"{"type":"a","time":"rubbish"}"#[..]);
    assert_eq!(decode(&d, Some(b"h"), value, vec![], 5).event().time, Micros(5000));
    assert_eq!(decode(&d, Some(b"h"), value, vec![], -1).verdict(), rejected(Reason::BadTime));
    assert_eq!(decode(&d, Some(b"h"), value, vec![], i64::MAX).verdict(), rejected(Reason::BadTime));
}

#[test]
fn a_time_beyond_the_record_s_by_more_than_max_ahead_is_ahead() {
    let d = definitions(vec![]);
    let ms = |ms: i64, stamped| {
        decode(&d, Some(b"h"), Some(format!(r#"{{"type":"a","time":{ms},"id":[]}}"#).as_bytes()), vec![], stamped).verdict()
    };
    assert_eq!(ms(NOW_MS + 300_000, NOW_MS), rejected(Reason::WrongType));
    assert_eq!(ms(NOW_MS + 300_001, NOW_MS), rejected(Reason::Ahead));
    assert_eq!(ms(NOW_MS + 300_001, -1), rejected(Reason::WrongType));
    assert_eq!(ms(0, NOW_MS), rejected(Reason::WrongType));
    // Microseconds count, and the offset is taken into account first.
    for (time, expected) in [
        ("2026-01-01T00:05:00Z", EVENT),
        ("2026-01-01T00:05:00.0000009Z", EVENT),
        ("2026-01-01T00:05:00.000001Z", rejected(Reason::Ahead)),
        ("2026-01-01T14:05:00+14:00", EVENT),
        ("2026-01-01T14:05:01+14:00", rejected(Reason::Ahead)),
        ("2025-12-31T10:05:01-14:00", rejected(Reason::Ahead)),
        ("9998-12-31T23:59:59Z", rejected(Reason::Ahead)),
        ("9999-01-01T00:00:00Z", rejected(Reason::BadTime)),
    ] {
        assert_eq!(json(&d, &format!(r#"{{"type":"a","time":"{time}"}}"#)).verdict(), expected, "{time}");
    }
    let mut never = definitions(vec![]);
    never.time.max_ahead = None;
    assert_eq!(json(&never, r#"{"type":"a","time":"9998-12-31T23:59:59Z"}"#).verdict(), EVENT);
}

#[test]
fn names_with_escapes_surrogates_or_nothing_in_them_are_names() {
    let d = definitions(vec![
        aggregate("a", Kind::Sum { of: pointer("/data/") }, None, None),
        aggregate("b", Kind::Last { of: pointer("/data/é") }, None, None),
    ]);
    for (data, expected) in [
        (r#"{"":5}"#, EVENT),
        (r#"{"":"5"}"#, rejected(Reason::WrongType)),
        (r#"{"":"5","":5}"#, EVENT),
        (r#"{"\u00e9":"\u0000"}"#, rejected(Reason::WrongType)),
        (r#"{"é":1,"\u00e9":1e400}"#, rejected(Reason::WrongType)),
        (r#"{"\u00e9":1e400,"é":1}"#, EVENT),
        (r#"{"\ud800":1e400,"\udc00\ud800":"\ud800","\u0000":1}"#, EVENT),
        (r#"{"\ud83d\ude00":[]}"#, EVENT),
        (r#"{"\x":1}"#, rejected(Reason::NotJson)),
    ] {
        assert_eq!(json(&d, &format!(r#"{{"type":"a","data":{data}}}"#)).verdict(), expected, "{data}");
    }
}

#[test]
fn an_id_is_a_string_or_an_integer_from_one_or_several_places() {
    let mut d = definitions(vec![]);
    let id = |d: &Definitions, members: &str| json(d, &format!(r#"{{"type":"a",{members}}}"#)).event().id;
    assert_eq!(id(&d, r#""id":"5""#), id(&d, r#""id":5"#));
    assert_eq!(id(&d, r#""id":"5""#), id(&d, r#""id":"\u0035""#));
    assert_eq!(id(&d, r#""id":"0""#), id(&d, r#""id":-0"#));
    assert_ne!(id(&d, r#""id":"5""#), id(&d, r#""id":6"#));
    assert_ne!(id(&d, r#""id":"\ud800""#), id(&d, r#""id":"\ud801""#));
    for none in [r#""id":null"#, r#""x":1"#, r#""id":"""#] {
        assert_eq!(id(&d, none), 0);
    }
    for wrong in ["true", "5.0", "1e400", "[]", "{}", "18446744073709551616"] {
        assert_eq!(json(&d, &format!(r#"{{"type":"a","id":{wrong}}}"#)).verdict(), rejected(Reason::WrongType), "{wrong}");
    }
    d.event.id = vec![place("/a"), place("/b")];
    assert_eq!(id(&d, r#""a":"5","b":7"#), id(&d, r#""a":5,"b":"\u0037""#));
    assert_ne!(id(&d, r#""a":"5","b":"67""#), id(&d, r#""a":"56","b":"7""#));
    assert_ne!(id(&d, r#""a":"5","b":"6""#), id(&d, r#""a":"6","b":"5""#));
    for none in [r#""a":"5""#, r#""a":"5","b":null"#, r#""a":"","b":"5""#] {
        assert_eq!(id(&d, none), 0, "{none}");
    }
    d.event.id = vec![place("key"), place("header:id")];
    // What is no UTF-8 is no string.
    for (header, expected) in
        [(Some(&b"x"[..]), EVENT), (None, EVENT), (Some(b""), EVENT), (Some(b"\xff"), rejected(Reason::WrongType))]
    {
        let decoded = decode(&d, Some(b"h"), Some(br#"{"type":"a"}"#), vec![(b"id", header)], NOW_MS);
        assert_eq!((decoded.verdict(), decoded.event().id != 0), (expected, header == Some(b"x")));
    }
    d.event.id = vec![];
    assert_eq!(id(&d, r#""id":"5""#), 0);
}

#[test]
fn fields_are_converted_for_their_use() {
    let of = pointer("/data/v");
    let number = definitions(vec![aggregate("a", Kind::Sum { of: of.clone() }, None, None)]);
    let key = definitions(vec![aggregate("a", Kind::Distinct { of: of.clone(), exact_up_to: 9 }, None, None)]);
    let any = definitions(vec![aggregate("a", Kind::Last { of }, None, None)]);
    let event = |v: &str| format!(r#"{{"type":"a","data":{{"w":1,"v":{v}}}}}"#);
    for (v, as_number, as_key, as_json) in [
        ("5", Some(Field::Int(5)), Some("5"), Some("5")),
        ("-0", Some(Field::Int(0)), Some("0"), Some("0")),
        ("-0.0", Some(Field::Float(-0.0)), None, Some("-0.0")),
        ("1.0", Some(Field::Float(1.0)), None, Some("1.0")),
        ("-9223372036854775808", Some(Field::Int(i64::MIN)), Some("-9223372036854775808"), Some("-9223372036854775808")),
        ("-9223372036854775809", Some(Field::Float(-9223372036854775809.0)), None, Some("-9.223372036854776e+18")),
        ("9223372036854775808", Some(Field::Unsigned(1 << 63)), Some("9223372036854775808"), Some("9223372036854775808")),
        ("18446744073709551615", Some(Field::Unsigned(u64::MAX)), Some("18446744073709551615"), Some("18446744073709551615")),
        ("18446744073709551616", Some(Field::Float(18446744073709551616.0)), None, Some("1.8446744073709552e+19")),
        ("1e400", None, None, None),
        ("1e-400", Some(Field::Float(0.0)), None, Some("0.0")),
        (r#""p""#, None, Some("p"), Some(r#""p""#)),
        (r#""\u00e9\/""#, None, Some("é/"), Some(r#""é/""#)),
        (r#""""#, None, Some(""), Some(r#""""#)),
        (r#""\u0000""#, None, None, None),
        (r#""\ud800""#, None, None, None),
        ("true", None, None, Some("true")),
        (r#"{ "b" : 1, "a" : [ ] , "b" : 2 }"#, None, None, Some(r#"{"a":[],"b":2}"#)),
        (r#"[{"\ud800":1}]"#, None, None, None),
        (r#"[{"a":"\u0000"}]"#, None, None, None),
        ("[1e400]", None, None, None),
    ] {
        let value = event(v);
        let numbers = json(&number, &value);
        assert_eq!(numbers.verdict(), as_number.map_or(rejected(Reason::WrongType), |_| EVENT), "{v}");
        assert_eq!(numbers.out.fields(1)[0], as_number.unwrap_or(Field::Absent));
        for (definitions, expected) in [(&key, as_key), (&any, as_json)] {
            let decoded = json(definitions, &value);
            assert_eq!(decoded.verdict(), expected.map_or(rejected(Reason::WrongType), |_| EVENT), "{v}");
            if let Some(expected) = expected {
                assert_eq!(decoded.text(0), expected);
            }
        }
    }
    for absent in [r#"{"type":"a"}"#.to_owned(), event("null"), event("5,\"v\":null"), r#"{"type":"a","data":[5]}"#.to_owned()] {
        for definitions in [&number, &key, &any] {
            let decoded = json(definitions, &absent);
            assert_eq!((decoded.verdict(), decoded.out.fields(1), decoded.event().matches), (EVENT, &[Field::Absent][..], 1));
        }
    }
    for (length, expected) in [(1024, EVENT), (1025, rejected(Reason::WrongType))] {
        let text = "x".repeat(length - 2);
        assert_eq!(json(&any, &event(&format!("\"{text}\""))).verdict(), expected);
        assert_eq!(json(&any, &event(&format!("\"\\u0078{}\"", &text[1..]))).verdict(), expected);
        assert_eq!(json(&key, &event(&format!("\"{text}\""))).verdict(), EVENT);
    }
}

#[test]
fn what_no_field_reads_does_not_matter() {
    let d = definitions(vec![
        aggregate("a", Kind::Sum { of: pointer("/data/v") }, Some(&["a"]), None),
        aggregate("b", Kind::Sum { of: pointer("/data/w") }, Some(&["b"]), Some("data.read")),
    ]);
    let unread = r#""data":{"w":"x","lone":"\ud800","\udc00":1e400,"x":{"y":[null,"\u0000"]},"v":"#;
    assert_eq!(json(&d, &format!(r#"{{"type":"a",{unread}1}}}}"#)).verdict(), EVENT);
    assert_eq!(json(&d, &format!(r#"{{"type":"a",{unread}"1"}}}}"#)).verdict(), rejected(Reason::WrongType));
    for (read, expected) in
        [("false", EVENT), ("null", EVENT), ("true", rejected(Reason::WrongType)), ("1", rejected(Reason::WrongType))]
    {
        assert_eq!(json(&d, &format!(r#"{{"type":"b",{unread}"1","read":{read}}}}}"#)).verdict(), expected, "{read}");
        assert_eq!(json(&d, &format!(r#"{{"type":"c",{unread}"1","read":{read}}}}}"#)).verdict(), EVENT);
    }
}

#[test]
fn an_event_matches_by_type_and_predicate() {
    let sum = |p: &str| Kind::Sum { of: pointer(p) };
    let d = definitions(vec![
        aggregate("every", Kind::Count, None, None),
        aggregate("one", Kind::Count, Some(&["clue.solved"]), None),
        aggregate("glob", sum("/data/points"), Some(&["clue.*", "user.*"]), None),
        aggregate("small", sum("/data/points"), Some(&["clue.solved"]), Some("data.points < 100")),
        aggregate("large", sum("/data/seconds"), Some(&["clue.*"]), Some("data.points >= 100")),
        aggregate("again", Kind::Count, Some(&["*"]), Some("data['points'] >= 100.0")),
        aggregate(
            "funnel",
            Kind::Funnel { by: pointer("/data/player"), stages: vec!["seen".into(), "clue.solved".into()], exact_up_to: 9 },
            None,
            None,
        ),
        aggregate("none", Kind::Count, Some(&[]), None),
    ]);
    let plan = Plan::new(&d, "t");
    assert_eq!(plan.conditions.len(), 2);
    assert_eq!((plan.type_number("clue.solved"), plan.type_number("seen"), plan.type_number("clue.*")), (Some(0), Some(1), None));
    for (value, matches, number) in [
        (r#"{"type":"clue.solved","data":{"points":7,"seconds":"x"}}"#, 0b0100_1111, 0),
        (r#"{"type":"clue.solved","data":{"points":100.0,"seconds":1.5}}"#, 0b0111_0111, 0),
        (r#"{"type":"clu\u0065.solved"}"#, 0b0100_0111, 0),
        (r#"{"type":"clue.given","data":{"points":700}}"#, 0b0011_0101, u32::MAX),
        (r#"{"type":"user.registered","data":{"points":700}}"#, 0b0010_0101, u32::MAX),
        (r#"{"type":"seen"}"#, 0b0100_0001, 1),
        (r#"{"type":"other"}"#, 0b0000_0001, u32::MAX),
    ] {
        let decoded = json(&d, value);
        assert_eq!(decoded.verdict(), EVENT, "{value}");
        assert_eq!((decoded.event().matches, decoded.event().event_type), (matches, number), "{value}");
    }
    let decoded = json(&d, r#"{"type":"clue.solved","data":{"points":100.5,"seconds":2,"player":12}}"#);
    let field = |p: &str, usage| plan.field(&pointer(p), usage);
    assert_eq!(decoded.out.fields(1)[field("/data/points", Use::Number)], Field::Float(100.5));
    assert_eq!(decoded.out.fields(1)[field("/data/seconds", Use::Number)], Field::Int(2));
    assert_eq!(decoded.text(field("/data/player", Use::Key)), "12");
    let wrong = json(&d, r#"{"type":"clue.given","data":{"points":"7"}}"#);
    assert_eq!((wrong.verdict(), wrong.event().matches), (rejected(Reason::WrongType), 0));
    assert_eq!(json(&d, r#"{"type":"x","data":{"points":"7"}}"#).verdict(), rejected(Reason::WrongType));
    assert_eq!(json(&d, r#"{"type":"x","data":{"points":null}}"#).verdict(), EVENT);
}

#[test]
fn a_topic_has_its_own_places_and_the_same_fields() {
    let kind = Kind::Top { by: pointer("/z"), sum: Some(pointer("/a")), limit: 3, exact_up_to: 9 };
    let mut d = definitions(vec![aggregate("a", kind, None, None)]);
    let places = EventPlaces { hunt: place("/a"), id: vec![], event_type: place("/m"), time: None, max_bytes: 100 };
    d.topics.insert("t".into(), places);
    for topic in ["t", "u"] {
        let plan = Plan::new(&d, topic);
        assert_eq!((plan.field(&pointer("/z"), Use::Key), plan.field(&pointer("/a"), Use::Number)), (0, 1));
    }
    let decoded = json(&d, r#"{"m":"x","a":5,"z":"k"}"#);
    assert_eq!((decoded.verdict(), decoded.hunt()), (EVENT, Some(&b"5"[..])));
    assert_eq!((decoded.text(0), decoded.out.fields(1)[1]), ("k", Field::Int(5)));
}

#[test]
fn details_say_what_was_found_and_expected_and_where() {
    let d = definitions(vec![
        aggregate("total", Kind::Sum { of: pointer("/data/points") }, None, None),
        aggregate("fast", Kind::Count, None, Some("data.seconds < 5")),
        aggregate("flagged", Kind::Count, None, Some("data.seconds == 1 && !data.flag || data.flag == 'yes'")),
        // A store may hold what no configuration is allowed to say any more.
        aggregate("old", Kind::Count, Some(&["old"]), Some("\"a\" < 3")),
    ]);
    for (value, expected) in [
        ("{\"a\":x}", "the value at byte 5: found `x}`, expected a JSON value"),
        ("", "the value at byte 0: found the end of the value, expected a JSON value"),
        (r#"{"type":7}"#, "the type: /type holds the integer 7, expected a string that is not empty"),
        (r#"{"type":"a","time":"noon"}"#, "the time: /time holds the string `noon`, expected RFC 3339"),
        (r#"{"type":"a","id":[1]}"#, "the id: /id holds the array `[1]`, expected a string or an integer"),
        (
            r#"{"type":"a","data":{"points":"12"}}"#,
            "/data/points holds the string `12`, expected a number within 64-bit floats (aggregate total)",
        ),
        (
            r#"{"type":"a","data":{"seconds":"1"}}"#,
            "where `data.seconds < 5` of aggregate fast: /data/seconds holds the string `1`, expected types that compare",
        ),
        (
            r#"{"type":"a","data":{"seconds":1,"flag":1000}}"#,
            "where `data.seconds == 1 && !data.flag || data.flag == 'yes'` of aggregate flagged: /data/flag holds the integer 1000, expected true or false",
        ),
        (
            r#"{"type":"old"}"#,
            "where `\"a\" < 3` of aggregate old: it compares literals of different types, expected types that compare",
        ),
        (
            r#"{"type":"a","time":"2026-01-01T00:06:00Z"}"#,
            "the time is 2026-01-01T00:06:00Z, 6m beyond the record's timestamp, expected at most 5m",
        ),
    ] {
        let decoded = json(&d, value);
        let detail = decoded.plan.explain(&decoded.batch, 1);
        assert!(detail.starts_with(expected), "{detail}");
    }
    let decoded = decode(&d, Some(b"a\nb"), Some(b"{}"), vec![], NOW_MS);
    assert_eq!(
        decoded.plan.explain(&decoded.batch, 1),
        "the hunt: the key holds 3 bytes `a\\nb`, expected a string or an integer of 1 to 512 bytes in UTF-8 without control characters"
    );
}
