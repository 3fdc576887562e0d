//! What a record alone decides, step by step, by hand.

use super::*;
use crate::oracle::definitions::place;

const NOW: i64 = 1_704_067_200_000;

fn record(value: &str) -> Record {
    Record {
        offset: 0,
        timestamp_ms: NOW,
        key: Some(b"h1".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: Vec::new(),
    }
}

/// In words: `ignored`, a reason and its hunt, or the event's hunt, time beyond NOW and id.
fn said_with(definitions: &Definitions, record: &Record) -> String {
    match decide(definitions, &definitions.event, record) {
        Decision::Ignored => "ignored".to_owned(),
        Decision::DeadLetter { hunt, reason } => format!("{reason} {}", hunt.as_deref().unwrap_or("-")),
        Decision::Event(e) => {
            let id = e.id.map_or("-".to_owned(), |id| {
                id.iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect::<Vec<_>>().join("|")
            });
            format!("{} {} {id}", e.hunt, e.time - i128::from(NOW) * 1000)
        }
    }
}

fn said(record: &Record) -> String {
    said_with(&Definitions::default(), record)
}

fn of(value: &str) -> String {
    said(&record(value))
}

fn with(toml: &str, value: &str) -> String {
    said_with(&Definitions::from_toml(toml), &record(value))
}

#[test]
fn a_null_value_is_ignored_whatever_its_key() {
    for key in [None, Some(vec![]), Some(vec![0xff]), Some(b"h1".to_vec())] {
        assert_eq!(said(&Record { value: None, key, ..record("") }), "ignored");
    }
}

#[test]
fn a_value_one_byte_too_long_is_too_large_before_all_else() {
    let small = "[event]\nmax_bytes = 20";
    assert_eq!(with(small, &format!("{:<20}", r#"{"type":"t"}"#)), "h1 0 -");
    assert_eq!(with(small, &format!("{:<21}", r#"{"type":"t"}"#)), "too_large h1");
    let mut r = record(&"x".repeat(21));
    r.key = Some(vec![]);
    assert_eq!(said_with(&Definitions::from_toml(small), &r), "too_large -");
}

#[test]
fn a_hunt_in_the_key_is_judged_before_the_value() {
    let keyed = |key: Option<&[u8]>| said(&Record { key: key.map(<[u8]>::to_vec), ..record("no json") });
    assert_eq!(keyed(None), "no_hunt -");
    for bad in [&b""[..], b"\xff", b"a\0b", b"a\x1f", b"\x7f", b"\xc2\x80", b"\xc2\x9f", b"\xed\xa0\x80", &[b'x'; 513]] {
        assert_eq!(keyed(Some(bad)), "bad_hunt -", "{bad:?}");
    }
    for good in [
        "x".repeat(512),
        " ".to_owned(),
        "é".repeat(256),
        "\u{a0}".to_owned(),
        "\u{200b}".to_owned(),
        "\u{2028}".to_owned(),
        "../x".to_owned(),
    ] {
        assert_eq!(keyed(Some(good.as_bytes())), format!("not_json {good}"));
    }
    assert_eq!(keyed(Some("é".repeat(257).as_bytes())), "bad_hunt -");
}

#[test]
fn a_hunt_in_a_header_is_the_last_of_its_name() {
    let definitions = Definitions { event: Places { hunt: place("header:hunt"), ..Places::default() }, ..Definitions::default() };
    let headed = |headers: &[(&str, Option<&str>)]| {
        let headers = headers.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.map(|v| v.as_bytes().to_vec()))).collect();
        said_with(&definitions, &Record { headers, ..record(r#"{"type":"t"}"#) })
    };
    assert_eq!(headed(&[]), "no_hunt -");
    assert_eq!(headed(&[("Hunt", Some("a"))]), "no_hunt -");
    assert_eq!(headed(&[("hunt", None)]), "no_hunt -");
    assert_eq!(headed(&[("hunt", Some(""))]), "bad_hunt -");
    assert_eq!(headed(&[("hunt", Some("a")), ("x", None), ("hunt", Some("b"))]), "b 0 -");
    assert_eq!(headed(&[("hunt", Some("a")), ("hunt", None)]), "no_hunt -");
}

#[test]
fn a_hunt_in_the_value_is_a_string_or_an_integer() {
    let of = |hunt: &str| with("[event]\nhunt = \"/h\"", &format!(r#"{{"type":"t","h":{hunt}}}"#));
    assert_eq!(with("[event]\nhunt = \"/h\"", r#"{"type":"t"}"#), "no_hunt -");
    assert_eq!(of("null"), "no_hunt -");
    assert_eq!(of("17"), "17 0 -");
    assert_eq!(of("-17"), "-17 0 -");
    assert_eq!(of("9223372036854775808"), "9223372036854775808 0 -");
    assert_eq!(of("18446744073709551615"), "18446744073709551615 0 -");
    assert_eq!(of(r#""\u0041""#), "A 0 -");
    assert_eq!(of(r#"1,"h":2"#), "2 0 -");
    assert_eq!(of(r#"1,"\u0068":null"#), "no_hunt -");
    for bad in [
        "18446744073709551616",
        "1.0",
        "1e2",
        "true",
        "{}",
        "[\"a\"]",
        r#""""#,
        r#""\u0000""#,
        r#""\ud800""#,
        r#""\u0085""#,
        "1e400",
    ] {
        assert_eq!(of(bad), "bad_hunt -", "{bad}");
    }
    assert_eq!(of(&format!("\"{}\"", "x".repeat(513))), "bad_hunt -");
    assert_eq!(with("[event]\nhunt = \"/h\"", "[]"), "not_object -");
}

#[test]
fn a_value_must_be_a_json_object_no_deeper_than_64() {
    for bad in ["", " ", "{", "{\"type\":\"t\",}", "\u{feff}{\"type\":\"t\"}", "{\"type\":\"t\"} x"] {
        assert_eq!(of(bad), "not_json h1", "{bad:?}");
    }
    let nested = |n: usize| format!(r#"{{"type":"t","x":{}{}}}"#, "[".repeat(n), "]".repeat(n));
    assert_eq!(of(&nested(63)), "h1 0 -");
    assert_eq!(of(&nested(64)), "too_deep h1");
    assert_eq!(of(&nested(100_000)), "too_deep h1");
    for other in ["[]", "1", "null", "\"x\"", "true", "[{}]"] {
        assert_eq!(of(other), "not_object h1");
    }
    assert_eq!(said(&Record { value: Some(b"{\"type\":\"t\",\"x\":\"\xff\"}".to_vec()), ..record("") }), "not_json h1");
}

#[test]
fn an_event_has_a_type() {
    for bad in [
        "{}",
        r#"{"type":null}"#,
        r#"{"type":""}"#,
        r#"{"type":5}"#,
        r#"{"type":["t"]}"#,
        r#"{"type":"t","type":null}"#,
        r#"{"type":5,"time":"x"}"#,
    ] {
        assert_eq!(of(bad), "no_type h1", "{bad}");
    }
    assert_eq!(of(r#"{"type":null,"type":"t"}"#), "h1 0 -");
    assert_eq!(of(r#"{"t\u0079pe":"t"}"#), "h1 0 -");
    assert_eq!(of(r#"{"type":"\ud800"}"#), "h1 0 -");
}

#[test]
fn a_time_is_rfc_3339_or_milliseconds_or_the_records() {
    let of = |time: &str| of(&format!(r#"{{"type":"t","time":{time}}}"#));
    assert_eq!(of("null"), "h1 0 -");
    assert_eq!(of(r#""2024-01-01T00:00:01Z""#), "h1 1000000 -");
    assert_eq!(of(r#""2024-01-01 00:00:00.0000019z""#), "h1 1 -");
    assert_eq!(of(r#""2024-01-01t14:00:00+14:00""#), "h1 0 -");
    assert_eq!(of(r#""2023-12-31T10:00:00-14:00""#), "h1 0 -");
    assert_eq!(of(r#""2023-12-31T23:59:60Z""#), "h1 -1 -");
    assert_eq!(of("1704067200001"), "h1 1000 -");
    assert_eq!(of("0"), format!("h1 {} -", -NOW * 1000));
    assert_eq!(of("-0"), format!("h1 {} -", -NOW * 1000));
    assert_eq!(of(r#"5,"time":null"#), "h1 0 -");
    for bad in [
        r#""1704067200001""#,
        "1.0",
        "1704067200001.0",
        "1.7e12",
        "-1",
        "true",
        "{}",
        "[]",
        r#""""#,
        r#""1969-12-31T23:59:59Z""#,
        r#""9999-01-01T00:00:00Z""#,
        "253370764800000",
        "18446744073709551616",
        "9223372036854775808",
        r#""\ud800""#,
        r#""2024-01-01""#,
    ] {
        assert_eq!(of(bad), "bad_time h1", "{bad}");
    }
    let silent = |value: &str| said(&Record { timestamp_ms: -1, ..record(value) });
    assert_eq!(silent(r#"{"type":"t"}"#), "bad_time h1");
    assert_eq!(silent(r#"{"type":"t","time":1704067200000}"#), "h1 0 -");
    assert_eq!(said(&Record { timestamp_ms: i64::MAX, ..record(r#"{"type":"t"}"#) }), "bad_time h1");
}

#[test]
fn a_time_in_a_header_may_be_digits() {
    let definitions =
        Definitions { event: Places { time: Some(place("header:at")), ..Places::default() }, ..Definitions::default() };
    let at = |v: Option<&[u8]>| {
        said_with(&definitions, &Record { headers: vec![(b"at".to_vec(), v.map(<[u8]>::to_vec))], ..record(r#"{"type":"t"}"#) })
    };
    assert_eq!(at(None), "h1 0 -");
    assert_eq!(at(Some(b"1704067200001")), "h1 1000 -");
    assert_eq!(at(Some(b"2024-01-01T00:00:00Z")), "h1 0 -");
    for bad in [&b""[..], b"-5", b"+5", b" 5", b"5.0", b"\xff", b"99999999999999999999999999999999999999999999999"] {
        assert_eq!(at(Some(bad)), "bad_time h1");
    }
    let stamped = Definitions { event: Places { time: None, ..Places::default() }, ..Definitions::default() };
    assert_eq!(said_with(&stamped, &record(r#"{"type":"t","time":"nonsense"}"#)), "h1 0 -");
}

#[test]
fn a_time_more_than_max_ahead_is_ahead() {
    assert_eq!(of(r#"{"type":"t","time":"2024-01-01T00:05:00Z"}"#), "h1 300000000 -");
    assert_eq!(of(r#"{"type":"t","time":"2024-01-01T00:05:00.000001Z"}"#), "ahead h1");
    assert_eq!(
        with("[time]\nmax_ahead = \"never\"", r#"{"type":"t","time":"9998-12-31T00:00:00Z"}"#).split(' ').next(),
        Some("h1")
    );
    assert_eq!(of(r#"{"type":"t","time":"2024-01-02T00:00:00Z","id":{}}"#), "ahead h1", "before the id");
}

#[test]
fn an_id_is_a_string_or_an_integer_part_by_part() {
    let of = |id: &str| of(&format!(r#"{{"type":"t","id":{id}}}"#));
    assert_eq!(of("\"a\""), "h1 0 a");
    assert_eq!(of("5"), "h1 0 5");
    assert_eq!(of("\"\""), "h1 0 -");
    assert_eq!(of("null"), "h1 0 -");
    for bad in ["1.5", "true", "{}", "[]", "18446744073709551616", "1e2"] {
        assert_eq!(of(bad), "wrong_type h1", "{bad}");
    }
    let two = |value: &str| with("[event]\nid = [\"/s\", \"/id\"]", value);
    assert_eq!(two(r#"{"type":"t","s":"a","id":"b"}"#), "h1 0 a|b");
    assert_eq!(two(r#"{"type":"t","s":"","id":"b"}"#), "h1 0 -");
    assert_eq!(two(r#"{"type":"t","id":"b"}"#), "h1 0 -");
    assert_eq!(two(r#"{"type":"t","id":1.5}"#), "wrong_type h1");
}

#[test]
fn what_an_aggregate_reads_must_be_of_its_type_and_the_rest_does_not_matter() {
    let sum = |toml: &str, v: &str| {
        with(&format!("[aggregates.a]\nkind = \"sum\"\nof = \"/v\"\n{toml}"), &format!(r#"{{"type":"clue.solved","v":{v}}}"#))
    };
    for good in ["null", "5", "1e308", "-0.0", "18446744073709551616", "1e-400", "\"x\",\"v\":3", "-9223372036854775809"] {
        assert_eq!(sum("", good), "h1 0 -", "{good}");
    }
    for bad in ["\"5\"", "true", "[]", "1e400", "-1e400", "3,\"v\":\"x\""] {
        assert_eq!(sum("", bad), "wrong_type h1", "{bad}");
        assert_eq!(sum("on = \"other\"", bad), "h1 0 -");
        assert_eq!(sum("where = \"x == 1\"", bad), "h1 0 -");
        assert_eq!(sum("on = [\"other\", \"clue.*\"]", bad), "wrong_type h1");
    }
    assert_eq!(sum("where = \"type > 5\"", "1"), "wrong_type h1");
    assert_eq!(sum("where = \"type > 5\"\non = \"x\"", "1"), "h1 0 -");

    let key = |v: &str| with("[aggregates.a]\nkind = \"distinct\"\nof = \"/v\"", &format!(r#"{{"type":"t","v":{v}}}"#));
    for bad in ["1.0", "true", "{}", r#""\u0000""#, r#""\ud800""#, "18446744073709551616"] {
        assert_eq!(key(bad), "wrong_type h1", "{bad}");
    }
    assert_eq!(key(r#""""#), "h1 0 -");

    let last = |v: &str| with("[aggregates.a]\nkind = \"last\"\nof = \"/v\"", &format!(r#"{{"type":"t","v":{v}}}"#));
    assert_eq!(last(&format!("\"{}\"", "x".repeat(1022))), "h1 0 -");
    assert_eq!(last(&format!("\"{}\"", "x".repeat(1023))), "wrong_type h1");
    assert_eq!(last(&format!("[1{}]", " ".repeat(2000))), "h1 0 -", "the compact form counts");
    for bad in [r#"{"a":"\ud800"}"#, r#"["\u0000"]"#, r#"{"\u0000":1}"#, "[1e400]"] {
        assert_eq!(last(bad), "wrong_type h1");
    }
    assert_eq!(of(r#"{"type":"t","x":["\ud800",1e400,"\u0000"],"\udc00":1}"#), "h1 0 -");
}

#[test]
fn both_members_of_a_top_must_be_of_their_types() {
    let top = |v: &str| with("[aggregates.a]\nkind = \"top\"\nby = \"/k\"\nsum = \"/n\"", &format!(r#"{{"type":"t",{v}}}"#));
    assert_eq!(top(r#""k":"a","n":1"#), "h1 0 -");
    assert_eq!(top(r#""n":1"#), "h1 0 -");
    assert_eq!(top(r#""n":"1""#), "wrong_type h1");
    assert_eq!(top(r#""k":1.5,"n":null"#), "wrong_type h1");
}

#[test]
fn a_star_is_any_run_of_characters() {
    for (pattern, text, matches) in [
        ("clue.*", "clue.solved", true),
        ("clue.*", "clue.", true),
        ("clue.*", "clue", false),
        ("*", "", true),
        ("*.solved", "clue.solved", true),
        ("c*e*d", "clue.solved", true),
        ("c*x*d", "clue.solved", false),
        ("clue.solved", "clue.solved", true),
        ("clue_solved", "clue.solved", false),
    ] {
        assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), matches, "{pattern} {text}");
    }
}
