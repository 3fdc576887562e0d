//! What is JSON and what is not, by hand.

use super::*;

fn read(text: &str) -> Result<Json, Fault> {
    Json::read(text.as_bytes())
}

fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

#[test]
fn what_rfc_8259_does_not_allow_is_not_json() {
    for bad in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" 1}",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "--1",
        "NaN",
        "Infinity",
        "nul",
        "nullx",
        "tru",
        "'a'",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"a\nb\"",
        "\"\u{1}\"",
        "1 2",
        "{}{}",
        "\u{feff}{}",
        "/**/1",
        "[1 2]",
        "\u{a0}1",
        "\"\\ud800\\u12\"",
        "{\"a\":}",
        "{\"a\"}",
        "[,1]",
        "-a",
        "0x1",
    ] {
        assert_eq!(read(bad), Err(Fault::NotJson), "{bad:?}");
    }
    for good in [
        "0",
        "-0",
        "-0.0",
        "1e400",
        "1E-3",
        "1e+3",
        " [ ] ",
        "{ }",
        "\"\\/\"",
        "\"\u{7f}\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\t\r\n1 ",
    ] {
        assert!(read(good).is_ok(), "{good:?}");
    }
}

#[test]
fn sixty_four_deep_is_the_deepest() {
    assert!(read(&nested(64)).is_ok());
    assert_eq!(read(&nested(65)), Err(Fault::TooDeep));
    assert_eq!(read(&nested(100_000)), Err(Fault::TooDeep));
    assert_eq!(read(&"{\"a\":".repeat(65)), Err(Fault::TooDeep));
    assert_eq!(read(&"{\"a\":".repeat(64)), Err(Fault::NotJson));
    assert!(read(&format!("[{}{}]", "[],".repeat(100), nested(63))).is_ok(), "siblings are not depth");
}

#[test]
fn what_comes_first_from_left_to_right_decides() {
    assert_eq!(read(&("[x".to_owned() + &"[".repeat(70))), Err(Fault::NotJson));
    assert_eq!(read(&("[".repeat(70) + "x")), Err(Fault::TooDeep));
    let mut late = "[".repeat(70).into_bytes();
    late.push(0xff);
    assert_eq!(Json::read(&late), Err(Fault::TooDeep));
    let mut early = b"[\"\xff\",".to_vec();
    early.extend("[".repeat(70).into_bytes());
    assert_eq!(Json::read(&early), Err(Fault::NotJson));
    for bad in [&b"{\"a\":\"\xff\"}"[..], b"\"\xc0\x80\"", b"\"\xed\xa0\x80\"", b"{}\xff", b"\xff{}", b"\"\xf4\x90\x80\x80\""] {
        assert_eq!(Json::read(bad), Err(Fault::NotJson));
    }
}

#[test]
fn of_repeated_members_the_last_counts_whole() {
    let json = read(r#"{"d":{"a":1,"b":2},"d":{"a":3,"\u0061":4}}"#).unwrap();
    assert_eq!(json.to_string(), r#"{"d":{"a":4}}"#);
    assert_eq!(json.at(&["d".into(), "b".into()]), None);
}

#[test]
fn strings_are_unescaped_and_lone_surrogates_kept() {
    let text = |s: &str| match read(s).unwrap() {
        Json::Text(t) => t,
        other => panic!("{other}"),
    };
    assert_eq!(text(r#""\ud83d\ude00\n\u00e9""#).as_str(), Some("😀\né"));
    for lone in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#""\ud800\ud800""#, r#""\udc00\ud800""#, r#""a\uD83Dz""#] {
        assert_eq!(text(lone).as_str(), None, "{lone}");
        assert!(read(lone).unwrap().plain().is_none());
    }
    assert!(read(r#"{"a":["\u0000"]}"#).unwrap().plain().is_none());
    assert!(read(r#"{"\u0000":1}"#).unwrap().plain().is_none());
    assert!(read("[1e400]").unwrap().plain().is_none());
    assert!(read(r#"{"a":[1e-400,"x",null]}"#).unwrap().plain().is_some());
}

#[test]
fn integers_are_tokens_in_64_bits_and_the_rest_are_floats() {
    let integer = |t| match Number::of_token(t) {
        Number::Integer(i) => Some(i),
        Number::Float(_) => None,
    };
    assert_eq!(integer("9223372036854775808"), Some(1 << 63));
    assert_eq!(integer("18446744073709551615"), Some((1 << 64) - 1));
    assert_eq!(integer("18446744073709551616"), None);
    assert_eq!(integer("-9223372036854775808"), Some(-(1 << 63)));
    assert_eq!(integer("-9223372036854775809"), None);
    assert_eq!(integer("-0"), Some(0));
    assert_eq!(integer("1.0"), None);
    assert_eq!(integer("1e2"), None);
    assert_eq!(integer(&"9".repeat(400)), None);
    assert!(Number::of_token("1e400").to_f64().is_infinite());
    assert!(Number::of_token(&"9".repeat(400)).to_f64().is_infinite());
}

#[test]
fn integers_and_floats_order_exactly() {
    use Number::{Float, Integer};
    assert_eq!(Integer((1 << 53) + 1).order(Float((1i64 << 53) as f64)), Ordering::Greater);
    assert_eq!(Integer((1 << 64) - 1).order(Float(18446744073709551616.0)), Ordering::Less);
    assert_eq!(Float(-0.0).order(Integer(0)), Ordering::Equal);
    assert_eq!(Float(0.5).order(Integer(0)), Ordering::Greater);
    assert_eq!(Float(-0.5).order(Integer(0)), Ordering::Less);
    assert_eq!(Integer(5).order(Float(5.0)), Ordering::Equal);
    assert_eq!(Integer(5).order(Float(f64::INFINITY)), Ordering::Less);
    assert_eq!(Integer(5).order(Float(f64::NEG_INFINITY)), Ordering::Greater);
    assert_eq!(Integer(5).order(Float(1e300)), Ordering::Less);
}

#[test]
fn pointers_go_through_members_and_indexes() {
    let json = read(r#"{"a":[10,{"":1,"0":2}],"x":null}"#).unwrap();
    let at = |tokens: &[&str]| json.at(&tokens.iter().map(|t| t.to_string()).collect::<Vec<_>>()).map(|j| j.to_string());
    assert_eq!(at(&["a", "0"]).as_deref(), Some("10"));
    assert_eq!(at(&["a", "1", ""]).as_deref(), Some("1"));
    assert_eq!(at(&["a", "1", "0"]).as_deref(), Some("2"));
    for absent in [&["a", "00"][..], &["a", "-"], &["a", "2"], &["a", "+0"], &["x", "y"], &["b"], &["a", ""]] {
        assert_eq!(at(absent), None);
    }
    assert_eq!(at(&["x"]).as_deref(), Some("null"));
}

/// `IgnoredAny` checks the grammar alone: numbers of any size and lone surrogates pass it, as they pass here.
#[test]
fn what_is_json_here_is_json_to_serde_json() {
    let mut rng = fastrand::Rng::with_seed(1);
    let seeds = [
        r#"{"id":"a","type":"clue.solved","data":{"points":-12.5e+3,"list":[1,2,{"x":null}],"ok":true,"no":false,"s":"\u00e9\ud83d\ude00\\\"\n"}}"#,
        r#"[0,-0.0,1e400,"\ud800",{},[],"","é宝🏴"]"#,
        " { \"a\" : [ 1 , 2 ] } ",
    ];
    let splices: [&[u8]; 24] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\\",
        b"u",
        b"0",
        b"1",
        b"-",
        b"+",
        b".",
        b"e",
        b"E",
        b" ",
        b"\n",
        b"\0",
        b"null",
        b"tru",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
    ];
    let (mut good, mut bad) = (0, 0);
    for _ in 0..200_000 {
        let mut bytes = seeds[rng.usize(..seeds.len())].as_bytes().to_vec();
        for _ in 0..rng.usize(0..4) {
            let at = rng.usize(..=bytes.len());
            let until = (at + rng.usize(0..3)).min(bytes.len());
            let splice = if rng.bool() { splices[rng.usize(..splices.len())] } else { b"" };
            bytes.splice(at..until, splice.iter().copied());
        }
        let theirs = std::str::from_utf8(&bytes).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        let ours = Json::read(&bytes);
        assert_eq!(ours.is_ok(), theirs, "{:?}", String::from_utf8_lossy(&bytes));
        if let Ok(json) = &ours
            && json.plain().is_some()
        {
            assert_eq!(
                json.to_value(),
                serde_json::from_slice::<serde_json::Value>(&bytes).unwrap(),
                "{:?}",
                String::from_utf8_lossy(&bytes)
            );
        }
        if theirs { good += 1 } else { bad += 1 }
    }
    assert!(good > 20_000 && bad > 20_000, "{good} {bad}");
}
