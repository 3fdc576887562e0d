//! A **condition**: a predicate compiled to slots, evaluated on what the scanner found there.
//!
//! Logic is three-valued, and `&&` and `||` do not care for the order of their sides: what is
//! decided without an absent operand, or without a comparison of wrong types, is decided. An absent
//! operand that matters makes the whole predicate false; only then can wrong types matter.

use super::compact::Tree;
use super::number::Number;
use super::predicate::{Comparison, Expression, Literal};
use super::scan::Raw;
use super::unescape::Unescaped;
use std::cmp::Ordering;

pub(super) type Condition = Expression<usize>;

/// What a condition says of an event, or the value of a part of it.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    /// Some absent or null operand decides.
    Missing,
    /// A comparison, or a place for true or false, met a wrong type.
    Wrong,
    Bool(bool),
    Number(Number),
    Text(Text<'a>),
    Composite(&'a [u8]),
}

#[derive(Clone, Copy, Debug)]
enum Text<'a> {
    Plain(&'a [u8]),
    Escaped(&'a [u8]),
}

/// What a condition says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Holds,
    Fails,
    WrongType,
}

/// Evaluates `condition` on the slots of a scanned `text`. Decimals it reads are converted where they stand, once.
pub(super) fn evaluate(condition: &Condition, slots: &mut [Raw], text: &[u8]) -> Answer {
    if let Some(held) = of_integers(condition, slots) {
        return if held { Answer::Holds } else { Answer::Fails };
    }
    match truth(value(condition, slots, text)) {
        Value::Bool(true) => Answer::Holds,
        Value::Wrong => Answer::WrongType,
        _ => Answer::Fails,
    }
}

/// What met a wrong type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Culprit {
    /// The slots that were looked at; none where literals were compared.
    pub slots: Vec<usize>,
    pub expected: &'static str,
}

/// Of a condition that answered [`Answer::WrongType`], the first part that met one. (Slow path.)
pub(super) fn culprit(condition: &Condition, slots: &mut [Raw], text: &[u8]) -> Option<Culprit> {
    if !matches!(truth(value(condition, slots, text)), Value::Wrong) {
        return None;
    }
    let of = |parts: &[Condition]| parts.iter().flat_map(Expression::members).copied().collect();
    let mut inside = |parts: &[Condition]| {
        let mut wrong = parts.iter().filter(|part| !matches!(part, Expression::Member(_) | Expression::Literal(_)));
        wrong.find_map(|part| culprit(part, slots, text))
    };
    match condition {
        Expression::Not(inner) => culprit(inner, slots, text),
        Expression::All(parts) | Expression::Any(parts) => parts.iter().find_map(|part| culprit(part, slots, text)),
        Expression::In(needle, _) => inside(std::slice::from_ref(&**needle)),
        Expression::Compare(_, sides) => {
            Some(inside(&**sides).unwrap_or_else(|| Culprit { slots: of(&**sides), expected: "types that compare" }))
        }
        bare => Some(Culprit { slots: of(std::slice::from_ref(bare)), expected: "true or false" }),
    }
}

/// The usual condition, integers compared with integers, decided at once; `None`: there is more to it.
#[inline]
fn of_integers(condition: &Condition, slots: &[Raw]) -> Option<bool> {
    match condition {
        Expression::Compare(comparison, sides) => {
            let [Expression::Member(slot), Expression::Literal(Literal::Number(Number::Int(literal)))] = &**sides else {
                return None;
            };
            let Raw::Number(Number::Int(found)) = slots[*slot] else { return None };
            Some(holds(*comparison, found.cmp(literal)))
        }
        // What one part decides does not depend on the others.
        Expression::All(parts) => {
            for part in parts {
                if !of_integers(part, slots)? {
                    return Some(false);
                }
            }
            Some(true)
        }
        _ => None,
    }
}

fn holds(comparison: Comparison, order: Ordering) -> bool {
    match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::Unequal => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    }
}

/// The number in `slot`, if one stands there.
#[inline]
pub(super) fn number(slots: &mut [Raw], slot: usize, text: &[u8]) -> Option<Number> {
    match slots[slot] {
        Raw::Number(number) => Some(number),
        Raw::Decimal { start, len } => {
            let number = Number::of_token(&text[start as usize..(start + len) as usize]);
            slots[slot] = Raw::Number(number);
            Some(number)
        }
        _ => None,
    }
}

fn value<'a>(expression: &'a Condition, slots: &mut [Raw], text: &'a [u8]) -> Value<'a> {
    match expression {
        Expression::Literal(literal) => literal_value(literal),
        Expression::Member(slot) => member(*slot, slots, text),
        Expression::Has(slot) => Value::Bool(!slots[*slot].is_missing()),
        Expression::Not(inner) => match truth(value(inner, slots, text)) {
            Value::Bool(held) => Value::Bool(!held),
            other => other,
        },
        Expression::All(parts) => decide(parts, false, slots, text),
        Expression::Any(parts) => decide(parts, true, slots, text),
        Expression::Compare(comparison, sides) => {
            compare(*comparison, value(&sides[0], slots, text), value(&sides[1], slots, text))
        }
        Expression::In(needle, literals) => match value(needle, slots, text) {
            undecided @ (Value::Missing | Value::Wrong) => undecided,
            needle => Value::Bool(literals.iter().any(|literal| equal(needle, literal_value(literal)))),
        },
    }
}

fn literal_value(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Missing,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Number(number) => Value::Number(*number),
        Literal::Text(text) => Value::Text(Text::Plain(text.as_bytes())),
    }
}

fn member<'a>(slot: usize, slots: &mut [Raw], text: &'a [u8]) -> Value<'a> {
    let bytes = |start: u32, len: u32| &text[start as usize..(start + len) as usize];
    match slots[slot] {
        Raw::Absent | Raw::Null => Value::Missing,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Number(number) => Value::Number(number),
        Raw::Decimal { .. } => number(slots, slot, text).map_or(Value::Wrong, Value::Number),
        Raw::Text { start, len, escaped: false } => Value::Text(Text::Plain(bytes(start, len))),
        Raw::Text { start, len, escaped: true } => Value::Text(Text::Escaped(bytes(start, len))),
        Raw::Composite { start, len, .. } => Value::Composite(bytes(start, len)),
    }
}

/// A value where true or false belongs.
fn truth(value: Value) -> Value {
    match value {
        Value::Bool(_) | Value::Missing => value,
        _ => Value::Wrong,
    }
}

/// `||` when `decisive` is true, `&&` when it is false.
fn decide<'a>(parts: &'a [Condition], decisive: bool, slots: &mut [Raw], text: &'a [u8]) -> Value<'a> {
    let mut verdict = Value::Bool(!decisive);
    for part in parts {
        match truth(value(part, slots, text)) {
            Value::Bool(held) if held == decisive => return Value::Bool(decisive),
            Value::Bool(_) => {}
            Value::Missing => verdict = Value::Missing,
            _ if matches!(verdict, Value::Missing) => {}
            wrong => verdict = wrong,
        }
    }
    verdict
}

fn compare<'a>(comparison: Comparison, left: Value, right: Value) -> Value<'a> {
    if matches!(left, Value::Missing) || matches!(right, Value::Missing) {
        return Value::Missing;
    }
    if matches!(left, Value::Wrong) || matches!(right, Value::Wrong) {
        return Value::Wrong;
    }
    let order = match comparison {
        Comparison::Equal => return Value::Bool(equal(left, right)),
        Comparison::Unequal => return Value::Bool(!equal(left, right)),
        _ => match order(left, right) {
            Some(order) => order,
            None => return Value::Wrong,
        },
    };
    Value::Bool(holds(comparison, order))
}

fn equal(left: Value, right: Value) -> bool {
    match (left, right) {
        (Value::Composite(a), Value::Composite(b)) => Tree::of(a) == Tree::of(b),
        _ => order(left, right) == Some(Ordering::Equal),
    }
}

/// The order of two values of one type that has an order.
fn order(left: Value, right: Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => Some(a.exact_cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(&b)),
        (Value::Text(a), Value::Text(b)) => Some(match (a, b) {
            (Text::Plain(a), Text::Plain(b)) => a.cmp(b),
            (Text::Plain(a), Text::Escaped(b)) => a.iter().copied().cmp(Unescaped::new(b)),
            (Text::Escaped(a), Text::Plain(b)) => Unescaped::new(a).cmp(b.iter().copied()),
            (Text::Escaped(a), Text::Escaped(b)) => Unescaped::new(a).cmp(Unescaped::new(b)),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::predicate::Predicate;
    use super::super::scan::{Trie, scan};
    use super::*;
    use crate::definitions::Pointer;
    use std::collections::BTreeSet;

    fn ask(predicate: &str, event: &str) -> Answer {
        let predicate = Predicate::parse(predicate).unwrap();
        let pointers: BTreeSet<Pointer> = predicate.expression().members().into_iter().cloned().collect();
        let trie = Trie::new(&pointers);
        let condition = predicate.expression().map(&mut |p| trie.slot(p).unwrap());
        let mut slots = vec![Raw::Absent; trie.slots()];
        scan(event.as_bytes(), &trie, &mut slots, &mut Vec::new()).unwrap();
        evaluate(&condition, &mut slots, event.as_bytes())
    }

    const EVENT: &str = r#"{"type":"clue.solved","data":{"points":7,"half":0.5,"big":18446744073709551615,"name":"A\u00e9\n","flag":true,
        "nil":null,"list":[1,{"a":2}],"same":[1.0,{"a":2.0}],"objects":{"x":[],"y":null},"huge":1e400,"lone":"\ud800","five":5.0}}"#;

    #[test]
    fn comparisons_hold_or_fail() {
        for predicate in [
            "data.points > 0",
            "data.points == 7.0 && data.points != 7.5",
            "data.five == 5 && data.five == 5u",
            "data.big == 18446744073709551615u && data.big > 9223372036854775807",
            "data.half < 1 && data.half >= .5",
            "data.name == 'Aé\\n' && data.name > 'A' && data.name < 'B'",
            "data.flag && data.flag == true && data.flag > false",
            "type in ['x', 'clue.solved']",
            "!(data.points in [1, 2, 'seven'])",
            // The items of a list are no operands: a null among them is merely another value.
            "!(data.points in [1, null])",
            "data.points in [null, 7]",
            "7 == data.points && 'clue.solved' == type",
            "data.list == data.same",
            "data.list != data.objects && data.objects == data.objects",
            "data.huge > 1e308",
            "data.lone != 'x'",
            "has(data.points) && !has(data.nil) && !has(data.absent) && !has(data.points.more)",
            "(data.points > 1) == true",
        ] {
            assert_eq!(ask(predicate, EVENT), Answer::Holds, "{predicate}");
            assert_eq!(ask(&format!("!({predicate})"), EVENT), Answer::Fails, "{predicate}");
        }
    }

    #[test]
    fn an_absent_or_null_operand_makes_the_whole_predicate_false_unless_it_does_not_matter() {
        for absent in [
            "data.none > 1",
            "data.nil == 1",
            "data.none != 1",
            "data.none in [1]",
            "data.points == null",
            "data.none",
            "data.none < 'x'",
        ] {
            for predicate in [
                "X",
                "!(X)",
                "X && true",
                "true && X",
                "X || false",
                "false || X",
                "!(X && data.flag)",
                "(X) == false",
                "!(X) || false",
            ] {
                let predicate = predicate.replace('X', absent);
                assert_eq!(ask(&predicate, EVENT), Answer::Fails, "{predicate}");
            }
            for predicate in ["X || true", "true || X", "!(X && false)", "!(false && X)", "data.flag || (X)"] {
                let predicate = predicate.replace('X', absent);
                assert_eq!(ask(&predicate, EVENT), Answer::Holds, "{predicate}");
            }
        }
    }

    #[test]
    fn the_first_part_that_met_a_wrong_type_is_told() {
        for (predicate, member, expected) in [
            ("data.points", "/data/points", "true or false"),
            ("data.flag && !data.name", "/data/name", "true or false"),
            ("data.flag && (data.name > 1)", "/data/name", "types that compare"),
            ("data.points == 7 && 'a' > data.list", "/data/list", "types that compare"),
            ("(data.name > 1) == true", "/data/name", "types that compare"),
            ("!(data.list || data.name) in [true]", "/data/list", "true or false"),
            ("(data.name < 1 || true) && data.points", "/data/points", "true or false"),
            ("(data.flag && data.flag) > 3", "/data/flag", "types that compare"),
        ] {
            let predicate = Predicate::parse(predicate).unwrap();
            let pointers: BTreeSet<Pointer> = predicate.expression().members().into_iter().cloned().collect();
            let trie = Trie::new(&pointers);
            let condition = predicate.expression().map(&mut |p| trie.slot(p).unwrap());
            let mut slots = vec![Raw::Absent; trie.slots()];
            scan(EVENT.as_bytes(), &trie, &mut slots, &mut Vec::new()).unwrap();
            let culprit = culprit(&condition, &mut slots, EVENT.as_bytes()).unwrap();
            let tokens = member.split('/').skip(1).map(str::to_owned).collect();
            assert_eq!(culprit.slots[0], trie.slot(&Pointer(tokens)).unwrap(), "{}", predicate.text);
            assert_eq!(culprit.expected, expected, "{}", predicate.text);
        }
    }

    #[test]
    fn other_types_are_unequal_and_have_no_order() {
        for (predicate, answer) in [
            ("data.points == '7'", Answer::Fails),
            ("data.points != '7'", Answer::Holds),
            ("data.name in [1]", Answer::Fails),
            ("data.list != 1", Answer::Holds),
            ("data.points < '7'", Answer::WrongType),
            ("data.name > 1", Answer::WrongType),
            ("data.list > 1", Answer::WrongType),
            ("data.list > data.same", Answer::WrongType),
            ("data.flag >= 1", Answer::WrongType),
            ("!(data.name > 1)", Answer::WrongType),
            ("data.name > 1 && true", Answer::WrongType),
            ("data.name > 1 && false", Answer::Fails),
            ("false && data.name > 1", Answer::Fails),
            ("data.name > 1 || data.flag", Answer::Holds),
            ("data.name > 1 && data.none > 1", Answer::Fails),
            ("data.none > 1 && data.name > 1", Answer::Fails),
            ("data.points && true", Answer::WrongType),
            ("data.name", Answer::WrongType),
        ] {
            assert_eq!(ask(predicate, EVENT), answer, "{predicate}");
        }
    }
}
