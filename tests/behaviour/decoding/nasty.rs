//! **Nasty records**: what no sane producer sends, and what an attacker does: each value at every place an event is read from.
//!
//! Invariant: the same records every time; each stands alone, so that the first that is judged otherwise names the mistake.

use crate::oracle::Record;
use fastrand::Rng;

pub const NOW_MS: i64 = 1_704_067_200_000;

/// JSON as it is written; some of it is none.
const TOKENS: &[&str] = &[
    "0",
    "-0",
    "-0.0",
    "0.0",
    "1",
    "5",
    "5.0",
    "5e0",
    "50e-1",
    "-1",
    "1.5",
    "9007199254740993",
    "9007199254740993.0",
    "9223372036854775807",
    "9223372036854775808",
    "9223372036854775808.0",
    "9223372036854775809",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "-18446744073709551616",
    "12345678901234567890",
    "98765432109876543210",
    "100000000000000000000",
    "-00",
    "01",
    "1.",
    ".1",
    "+1",
    "1e",
    "1e+",
    "0x10",
    "1_000",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e15",
    "1e16",
    "1E2",
    "1e+2",
    "1e308",
    "1.7976931348623157e308",
    "1.7976931348623159e308",
    "1e309",
    "1e400",
    "-1e400",
    "1e-400",
    "-1e-400",
    "5e-324",
    "2e-324",
    "2.2250738585072014e-308",
    "0.1",
    "0.30000000000000004",
    "123456789.123456789",
    "true",
    "false",
    "null",
    "True",
    "nul",
    "nulll",
    r#""""#,
    r#"" ""#,
    r#""p""#,
    r#""\u0070""#,
    r#""5""#,
    r#""5.0""#,
    r#""null""#,
    r#""\u0000""#,
    r#""a\u0000b""#,
    r#""\u0001""#,
    r#""\u001f""#,
    r#""\u007f""#,
    r#""\u0080""#,
    r#""\u0085""#,
    r#""\u009f""#,
    r#""\u00a0""#,
    r#""\u2028\u2029""#,
    r#""\ufeff""#,
    r#""\ufffe""#,
    r#""\uffff""#,
    r#""\ud800""#,
    r#""\udbff""#,
    r#""\udc00""#,
    r#""\udfff""#,
    r#""\ud800\ud800""#,
    r#""\udc00\ud800""#,
    r#""\ud83d\ude00""#,
    r#""\uD83D\uDE00""#,
    r#""\ud83dx""#,
    r#""\ud83d\n""#,
    r#""\ud83d\\ude00""#,
    r#""\udbff\udfff""#,
    r#""\u00e9\/\b\f\n\r\t\"\\""#,
    r#""\x41""#,
    r#""\u12""#,
    r#""\u12g4""#,
    r#""\""#,
    r#""\u00zz""#,
    "\"\t\"",
    "\"\u{7f}\"",
    "\"\u{85}\"",
    "\"\u{feff}\"",
    "\"\u{10ffff}\"",
    "\"é\"",
    "\"e\u{301}\"",
    "\"😀\"",
    "\"🏴‍☠️\"",
    "\"\u{202e}abc\"",
    "\"'; drop table hunts; --\"",
    "\"{\\\"a\\\":1}\"",
    "[]",
    "{}",
    "[5]",
    "[[]]",
    "[null]",
    "[,]",
    "[1,]",
    "[1 2]",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{a:1}",
    "{'a':1}",
    "{1:1}",
    "[1}",
    "{\"a\":1]",
    r#"{"a":1,"a":2}"#,
    r#"{"a":{"b":1},"\u0061":{"c":[2.0,2.50]}}"#,
    r#"{"c":1,"b":[true,false,null],"a":{"":""}}"#,
    r#" { "b" : [ 1 , 2.50 , -0 , 1E2 ] , "a" : { } } "#,
    r#"[{"a":5,"a":"p"},{"a":[]}]"#,
    r#"{"\u0000":1}"#,
    r#"{"\ud800":1}"#,
    r#"{"\ud800":1,"\ud800":2}"#,
    r#"{"a":"\u0000"}"#,
    r#"["\ud800"]"#,
    "[1e400]",
    "[-1e400,1]",
    r#"{"a":1e-400,"b":98765432109876543210}"#,
    "{\"\\u0061\\/\":0}",
];

/// Times as a producer writes them.
const TIMES: &[&str] = &[
    "1970-01-01T00:00:00Z",
    "1970-01-01T00:00:00.000000Z",
    "1969-12-31T23:59:59.999999Z",
    "1970-01-01T00:00:00+00:01",
    "1969-12-31T23:59:00-00:01",
    "1969-12-31T10:00:00-14:00",
    "1970-01-01T14:00:00+14:00",
    "1970-01-01T13:59:59+14:00",
    "9998-12-31T23:59:59.999999Z",
    "9998-12-31T23:59:59.9999999Z",
    "9999-01-01T00:00:00Z",
    "9999-01-01T00:00:00+00:01",
    "9998-12-31T23:59:59-00:01",
    "9999-12-31T23:59:60Z",
    "0000-01-01T00:00:00Z",
    "2023-12-31T23:59:60Z",
    "2023-12-31T23:59:60.5Z",
    "2016-12-31T23:59:60Z",
    "2016-06-30T23:59:60Z",
    "2016-06-30T22:59:60Z",
    "2017-01-01T00:59:60+01:00",
    "2016-12-31T09:59:60-14:00",
    "2023-11-11T23:59:61Z",
    "2024-01-01T00:00:00+14:00",
    "2024-01-01T00:00:00-14:00",
    "2024-01-01T00:00:00+23:59",
    "2024-01-01T00:00:00-23:59",
    "2024-01-01T00:00:00+24:00",
    "2024-01-01T00:00:00+00:60",
    "2024-01-01T00:00:00+0100",
    "2024-01-01T00:00:00+01",
    "2024-01-01T00:00:00",
    "2024-01-01 00:00:00Z",
    "2024-01-01t00:00:00z",
    "2024-01-01_00:00:00Z",
    "2024-01-01T00:00Z",
    "2024-01-01",
    "2024-02-29T00:00:00Z",
    "2023-02-29T00:00:00Z",
    "2100-02-29T00:00:00Z",
    "2024-02-30T00:00:00Z",
    "2024-13-01T00:00:00Z",
    "2024-00-01T00:00:00Z",
    "2024-01-00T00:00:00Z",
    "2024-01-01T24:00:00Z",
    "2024-01-01T00:60:00Z",
    "2024-01-01T00:00:00.Z",
    "2024-01-01T00:00:00.1Z",
    "2024-01-01T00:00:00.123456Z",
    "2024-01-01T00:00:00.1234567Z",
    "2024-01-01T00:00:00.99999999999999999999999999Z",
    "2024-01-01T00:00:00,5Z",
    "2024-01-01T00:04:59.999999Z",
    "2024-01-01T00:05:00Z",
    "2024-01-01T00:05:00.000001Z",
    "+2024-01-01T00:00:00Z",
    "-2024-01-01T00:00:00Z",
    "12024-01-01T00:00:00Z",
    " 2024-01-01T00:00:00Z",
    "2024-01-01T00:00:00Z ",
    "２０２４-01-01T00:00:00Z",
    "1704067200000",
];

/// Keys and values of headers.
const BYTES: &[&[u8]] = &[
    b"",
    b" ",
    b"p",
    b"q",
    b"5",
    b"-5",
    b"0",
    b"1704067200000",
    b"1704067200001",
    b"253370764799999",
    b"253370764800000",
    b"9223372036854775807",
    b"9223372036854775808",
    b"99999999999999999999999999",
    b"000001704067200000",
    b"1704067200000.0",
    b"\0",
    b"a\0b",
    b"\t",
    b"\x1f",
    b"\x7f",
    b"\xc2\x80",
    b"\xc2\x85",
    b"\xc2\x9f",
    b"\xc2\xa0",
    b"\xff",
    b"\xc3",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf4\x8f\xbf\xbf",
    b"\xef\xbb\xbf",
    b"\xef\xbf\xbe",
    b"\\u0000",
    "é".as_bytes(),
    "🏴‍☠️".as_bytes(),
    b"..",
    b"a/b?c#d%",
    b"'; drop table hunts; --",
    b"null",
];

/// An event's parts: the members of its data as JSON writes them, and what stands around them.
#[derive(Clone)]
struct Parts {
    members: Vec<(String, String)>,
    data: Vec<(String, String)>,
    key: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    timestamp_ms: i64,
}

impl Parts {
    fn good(n: usize) -> Parts {
        let member = |name: &str, value: String| (name.to_owned(), value);
        let header = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), Some(value.to_vec()));
        Parts {
            members: vec![
                member("source", "\"/s\"".to_owned()),
                member("id", format!("\"e{n}\"")),
                member("type", "\"p\"".to_owned()),
                member("time", (NOW_MS + n as i64 % 1000).to_string()),
            ],
            data: vec![
                member("hunt", format!("\"h{}\"", n % 50)),
                member("points", format!("{}", n % 17)),
                member("player", "\"p\"".to_owned()),
                member("any", "\"p\"".to_owned()),
                member("same", "[5,{\"a\":1.0}]".to_owned()),
                member("unread", "0".to_owned()),
            ],
            key: Some(format!("h{}", n % 50).into_bytes()),
            headers: vec![
                header("hunt", format!("h{}", n % 50).as_bytes()),
                header("id", format!("e{n}").as_bytes()),
                header("type", b"p"),
                header("time", (NOW_MS + n as i64 % 1000).to_string().as_bytes()),
            ],
            timestamp_ms: NOW_MS + n as i64,
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        for of in [&mut self.members, &mut self.data] {
            for (_, held) in of.iter_mut().filter(|(n, _)| n == name) {
                *held = value.to_owned();
            }
        }
    }

    fn set_header(&mut self, name: &str, value: Option<&[u8]>) {
        for (_, held) in self.headers.iter_mut().filter(|(n, _)| n == name.as_bytes()) {
            *held = value.map(<[u8]>::to_vec);
        }
    }

    fn text(&self) -> String {
        let object = |members: &[(String, String)]| {
            let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        };
        let mut members = self.members.clone();
        members.push(("data".to_owned(), object(&self.data)));
        object(&members)
    }

    fn record(&self, value: Option<Vec<u8>>) -> Record {
        Record { offset: 0, timestamp_ms: self.timestamp_ms, key: self.key.clone(), value, headers: self.headers.clone() }
    }
}

/// All of them, in one order.
pub fn records() -> Vec<Record> {
    let mut made = Made { records: Vec::new() };
    for place in ["id", "type", "time", "source", "hunt", "points", "player", "any", "unread"] {
        for token in TOKENS.iter().map(|token| (*token).to_owned()).chain(long_tokens()) {
            made.with(|parts| parts.set(place, &token));
        }
        made.with(|parts| {
            parts.members.retain(|(name, _)| name != place);
            parts.data.retain(|(name, _)| name != place);
        });
    }
    for time in TIMES {
        for place in ["time", "any"] {
            made.with(|parts| parts.set(place, &format!("\"{time}\"")));
        }
        made.with(|parts| parts.set_header("time", Some(time.as_bytes())));
    }
    for ms in [-1i64, 0, 1, NOW_MS + 300_000, NOW_MS + 310_000, 253_370_764_799_999, 253_370_764_800_000, i64::MAX, i64::MIN] {
        for place in ["time", "any"] {
            made.with(|parts| parts.set(place, &ms.to_string()));
        }
    }
    for bytes in BYTES.iter().map(|bytes| bytes.to_vec()).chain(long_bytes()) {
        made.with(|parts| parts.key = Some(bytes.clone()));
        for header in ["hunt", "id", "type", "time"] {
            made.with(|parts| parts.set_header(header, Some(&bytes)));
        }
    }
    made.with(|parts| parts.key = None);
    for header in ["hunt", "id", "type", "time"] {
        made.with(|parts| parts.set_header(header, None));
        made.with(|parts| parts.headers.retain(|(name, _)| name != header.as_bytes()));
        // Of repeated headers the last counts; names are bytes.
        made.with(|parts| parts.headers.push((header.as_bytes().to_vec(), Some(b"q".to_vec()))));
        made.with(|parts| parts.headers.insert(0, (header.as_bytes().to_vec(), Some(b"\xff".to_vec()))));
        made.with(|parts| parts.headers.push((header.to_uppercase().into_bytes(), Some(b"\xff".to_vec()))));
    }
    repeated(&mut made);
    made.raw(None);
    for whole in wholes() {
        made.raw(Some(whole));
    }
    made.records
}

/// Members that come again, at every level, by other spellings of their names.
fn repeated(made: &mut Made) {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for (name, value) in [
        ("id", "1.5"),
        ("type", "17"),
        ("time", "true"),
        ("data", "\"gone\""),
        ("data", "{\"any\":1e400,\"hunt\":\"other\"}"),
        ("data", "[]"),
        ("\\u0069d", "\"another\""),
        ("typ\\u0065", "\"q\""),
        ("dat\\u0061", "{\"hunt\":\"other\",\"any\":5}"),
    ] {
        made.with(|parts| parts.members.insert(0, pair(name, value)));
        made.with(|parts| parts.members.push(pair(name, value)));
        // After everything, `data` too.
        made.with_text(|text| format!("{},\"{name}\":{value}}}", &text[..text.len() - 1]));
    }
    for (name, value) in [
        ("any", "5"),
        ("\\u0061ny", "[1]"),
        ("an\\u0079", "null"),
        ("points", "\"p\""),
        ("hunt", "null"),
        ("hun\\u0074", "\"h2\""),
    ] {
        made.with(|parts| parts.data.insert(0, pair(name, value)));
        made.with(|parts| parts.data.push(pair(name, value)));
    }
    for (name, value) in [
        ("", "1e400"),
        ("\\ud800", "1"),
        ("\\udc00\\ud800", "\"\\ud800\""),
        ("\\u0000", "\"\\u0000\""),
        ("any\\u0000", "1e400"),
        ("\u{feff}any", "[]"),
        ("é", "{\"é\":1}"),
        ("\\", "1"),
        ("a\tb", "1"),
        ("\\x", "1"),
    ] {
        made.with(|parts| parts.members.insert(0, pair(name, value)));
        made.with(|parts| parts.data.insert(0, pair(name, value)));
    }
}

/// Values that are not made of members.
fn wholes() -> Vec<Vec<u8>> {
    let mut wholes: Vec<Vec<u8>> = TOKENS.iter().map(|token| token.as_bytes().to_vec()).collect();
    let good = Parts::good(3).text();
    let deep = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    for (open, close) in [("[", "]"), ("{\"any\":", "}"), ("{\"data\":", "}"), ("[{\"a\":", "}]")] {
        for n in [31, 32, 33, 62, 63, 64, 65, 10_000] {
            wholes.push(deep(open, close, n).into_bytes());
            wholes.push(format!("{{\"x\":{},{}", deep(open, close, n), &good[1..]).into_bytes());
            wholes.push(format!("{{\"data\":{},{}", deep(open, close, n), &good[1..]).into_bytes());
            wholes.push(format!("{{\"x\":{}", open.repeat(n)).into_bytes());
        }
    }
    wholes.push("[".repeat(100_000).into_bytes());
    wholes.push(deep("[", "]", 100_000).into_bytes());
    wholes.push("{\"a\":".repeat(20_000).into_bytes());
    for text in [
        format!("\u{feff}{good}"),
        format!(" \t\r\n{good}\n "),
        format!("\u{a0}{good}"),
        format!("{good}\0"),
        format!("{good}{good}"),
        format!("{good},"),
        format!("// no\n{good}"),
        good[..good.len() - 1].to_owned(),
        good[1..].to_owned(),
        String::new(),
        " ".to_owned(),
        "[".repeat(64) + &"]".repeat(64),
        format!("{}{}", &good[..good.len() - 1], ",}"),
    ] {
        wholes.push(text.into_bytes());
    }
    // Bytes that are no UTF-8, inside a string, between tokens, cut short, and after what is too deep.
    for bad in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xf0\x9f\x98"] {
        let good = good.as_bytes();
        wholes.push([b"{\"x\":\"", bad, b"\",", &good[1..]].concat());
        wholes.push([b"{\"", bad, b"\":1,", &good[1..]].concat());
        wholes.push([b"{", bad, &good[1..]].concat());
        wholes.push([good, bad].concat());
        wholes.push([b"{\"x\":\"", bad, b"\",\"y\":", "[".repeat(65).as_bytes()].concat());
        wholes.push([b"{\"y\":", "[".repeat(65).as_bytes(), bad].concat());
        wholes.push([b"{\"y\":", "[".repeat(63).as_bytes(), bad].concat());
        wholes.push([&good[..good.len() - 1], bad].concat());
    }
    wholes
}

fn long_tokens() -> impl Iterator<Item = String> {
    let text = |of: &str, n: usize| format!("\"{}\"", of.repeat(n));
    let strings = [512, 513, 1021, 1022, 1023, 1024, 1025].into_iter().map(move |n| text("x", n));
    let others = [
        text("é", 256),
        text("é", 257),
        text("\\u0078", 512),
        text("\\u0078", 513),
        text("\\u00e9", 511),
        text("\\u00e9", 512),
        text("\\n", 511),
        text("\\n", 512),
        text("\\u0001", 170),
        text("\\u0001", 171),
        text("\\ud83d\\ude00", 255),
        text("\\ud83d\\ude00", 256),
        format!("[{}1]", "1,".repeat(510)),
        format!("[{}1]", "1,".repeat(511)),
        format!("[{}\"{}\"]", " ".repeat(3000), "x".repeat(1020)),
        format!("[{}\"{}\"]", " ".repeat(3000), "x".repeat(1021)),
        format!("[{}1]", "1.50, ".repeat(255)),
        format!("{{\"a\":0,{}\"a\":1}}", "\"b\":[1,2,3],".repeat(200)),
        "9".repeat(20),
        "9".repeat(308),
        "9".repeat(309),
        format!("-{}", "9".repeat(400)),
        format!("0.{}1", "0".repeat(400)),
        format!("1{}.0e-400", "0".repeat(400)),
        format!("1e-{}", "9".repeat(30)),
        format!("1e{}", "9".repeat(30)),
        format!("0e{}", "9".repeat(30)),
        text("a\\u0000", 3),
        "[".repeat(62) + &"]".repeat(62),
        "[".repeat(63) + &"]".repeat(63),
        "{\"a\":".repeat(62) + "5" + &"}".repeat(62),
        "{\"a\":".repeat(63) + "5" + &"}".repeat(63),
    ];
    strings.chain(others)
}

fn long_bytes() -> impl Iterator<Item = Vec<u8>> {
    [vec![b'h'; 512], vec![b'h'; 513], "é".repeat(256).into_bytes(), "é".repeat(257).into_bytes(), vec![b'1'; 600]].into_iter()
}

/// Good events whose keys are as long as values may be.
pub fn huge() -> Vec<Record> {
    let mut made = Made { records: Vec::new() };
    for of in ["x", "é", "\\u00e9", "\\n", "\\\\", "😀"] {
        made.with(|parts| parts.set("player", &format!("\"{}\"", of.repeat(100_000 / of.len()))));
    }
    made.records
}

struct Made {
    records: Vec<Record>,
}

impl Made {
    fn with(&mut self, change: impl FnOnce(&mut Parts)) {
        let mut parts = Parts::good(self.records.len());
        change(&mut parts);
        let text = parts.text();
        self.records.push(parts.record(Some(text.into_bytes())));
    }

    fn with_text(&mut self, change: impl FnOnce(&str) -> String) {
        let parts = Parts::good(self.records.len());
        self.records.push(parts.record(Some(change(&parts.text()).into_bytes())));
    }

    fn raw(&mut self, value: Option<Vec<u8>>) {
        self.records.push(Parts::good(self.records.len()).record(value));
    }
}

/// One of them with a few bytes other than they were, here and there without a timestamp.
pub fn mangled(rng: &mut Rng, records: &[Record]) -> Record {
    const SPLICES: [&[u8]; 34] = [
        b"",
        b"",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"\"",
        b"\\",
        b"\\u",
        b"\\ud800",
        b"\\u0000",
        b"0",
        b"-",
        b".",
        b"e",
        b"E5",
        b"1e400",
        b" ",
        b"\n",
        b"\0",
        b"null",
        b"true",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\"any\":",
        b"\"data\":{",
        b"\"id\":5,",
        b"\"any\":[[[[",
        b"9999999999",
        b"\xc3\xa9",
        b"'",
    ];
    let mut record = records[rng.usize(..records.len())].clone();
    if rng.u8(..10) == 0 {
        record.timestamp_ms = [-1, 0, NOW_MS - 1, NOW_MS + 86_400_000][rng.usize(..4)];
    }
    let edits = rng.usize(1..4);
    if let Some(value) = record.value.as_mut().filter(|value| value.len() < 5_000) {
        for _ in 0..edits {
            // Mostly near what is read.
            let at = rng.usize(..=value.len());
            let until = (at + rng.usize(0..3)).min(value.len());
            let splice = SPLICES[rng.usize(..SPLICES.len())];
            value.splice(at..until, splice.iter().copied());
        }
    }
    record
}
