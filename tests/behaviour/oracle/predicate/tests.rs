//! Predicates that hold, do not hold, and cannot be decided.

use super::*;

const EVENT: &str = r#"{"type":"clue.solved","n":null,"data":{"points":5,"half":0.5,"big":18446744073709551615,"name":"Zoë","flag":true,
    "list":[1,"a",null],"obj":{"x":1,"y":[2]},"same":{"y":[2.0],"x":1e0},"neg":-3,"huge":1e400,"a b":7,"s":"\ud800"}}"#;

fn holds(text: &str) -> Result<bool, WrongType> {
    Predicate::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).holds(&Json::read(EVENT.as_bytes()).unwrap())
}

#[test]
fn these_hold() {
    for text in [
        "true",
        "!false",
        "data.points > 0",
        "data.points == 5.0",
        "data.points >= 5",
        "data.half < 1",
        "-3 == data.neg",
        "data.neg < -2.5",
        "data.big == 18446744073709551615",
        "data.big < 18446744073709551616.0",
        "type == \"clue.solved\"",
        "type == 'clue.solved'",
        "data.name > \"Z\"",
        "data.name == \"Zo\\u00eb\"",
        "data.flag",
        "data.flag == true",
        "!(data.points < 5)",
        "!!data.flag",
        "has(data.points)",
        "!has(data.none)",
        "!has(n)",
        "!has(none.none)",
        "data.points in [1, 5]",
        "data.points in [5.0]",
        "\"a\" in data.list",
        "1 in data.list",
        "data.points != \"5\"",
        "data.obj != 1",
        "false || data.points > 0 && true",
        "true || false && false",
        "data.none > 0 || true",
        "true || data.none > 0",
        "true || data.name > 5",
        "data.name > 5 || true",
        "data[\"points\"] == 5",
        "data['a b'] == 7",
        "data.list[0] == 1",
        "data.huge > 1e300",
        "data.s != \"x\"",
        "1 < 2",
        "(1 < 2) == true",
        "data.points in [\"x\", 5,]",
        "data.points == 5e0",
        "(data.none == 1) || data.points == 5",
        "data.flag > false",
        "data.obj == data.obj",
        "data.obj == data.same && data.list != data.obj",
        "!(data.points in [1, null])",
        "data.points in [null, 5]",
    ] {
        assert_eq!(holds(text), Ok(true), "{text}");
    }
}

#[test]
fn these_do_not_hold() {
    for text in [
        "false",
        "data.points == \"5\"",
        "data.points in [\"5\"]",
        "data.obj == 1",
        "data.none > 0",
        "data.none == 1",
        "data.none != 1",
        "n == null",
        "n != null",
        "!(data.none > 0)",
        "!n",
        "n",
        "data.none",
        "data.points == null",
        "data.points != null",
        "data.none > 0 && true",
        "false && data.none > 0",
        "data.none > 0 && false",
        "!(data.none > 0 && true)",
        "data.none > 0 || false",
        "false && data.name > 5",
        "data.name > 5 && false",
        "data.points in []",
        "data.none in [1]",
        "has(data.none)",
        "has(n)",
        "\"z\" in data.list",
        "1 in data.points",
        "data.none > 0 && data.name > 5",
        "data.name > 5 || data.none > 0",
        "data.points in [data.none, 6]",
        "data.points.x == 1",
        "1 in data.none",
        "data.obj == data.list",
        "data.list != data.list",
        "3 in [1, null]",
    ] {
        assert_eq!(holds(text), Ok(false), "{text}");
    }
    assert_eq!(holds("!(data.none > 0 && false)"), Ok(true), "the && was decided");
}

#[test]
fn these_are_of_the_wrong_type() {
    for text in [
        "data.name > 5",
        "data.points < \"x\"",
        "data.obj < 1",
        "data.list >= 1",
        "data.flag < 1",
        "!data.points",
        "data.points",
        "data.points && true",
        "true && data.name",
        "data.name > 5 && true",
        "data.name > 5 || false",
        "!(data.name > 5)",
        "(data.name > 5) == true",
        "data.obj < data.obj",
    ] {
        assert_eq!(holds(text), Err(WrongType), "{text}");
    }
}

#[test]
fn these_are_no_predicates() {
    for text in [
        "", "data.", "1 +", "a == ", "(a", "a)", "[1", "\"x", "a b", "- a", "has(1)", "has()", "a =", "a & b", "\"\\q\"", "a in",
        "&& a",
    ] {
        assert!(Predicate::parse(text).is_err(), "{text}");
    }
}
