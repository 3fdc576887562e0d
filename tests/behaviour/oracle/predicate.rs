//! **Predicates**: `where`, the subset of CEL that the contract names, parsed by recursive descent and evaluated over a tree.
//!
//! The event step asks [`Predicate::holds`]. Invariant: an operand that is absent or null decides nothing: the whole is false
//! unless `&&` or `||` is decided by its other side, whichever side that is (as in CEL, where `&&` and `||` commute).

use super::json::{Json, Number, Text};
use std::cmp::Ordering;

#[derive(Clone, Debug)]
pub struct Predicate(Expression);

#[derive(Clone, Debug)]
enum Expression {
    Or(Box<Expression>, Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    Compare(Box<Expression>, Comparison, Box<Expression>),
    In(Box<Expression>, Box<Expression>),
    List(Vec<Expression>),
    Has(Vec<String>),
    Member(Vec<String>),
    Literal(Json),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    Different,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What an expression comes to.
#[derive(Clone, Debug)]
enum Found {
    /// Absent, or null.
    Nothing,
    /// The contract's `wrong_type`.
    Wrong,
    Value(Json),
}

/// `<`, `>` over values of different or unordered types, or a condition that is no boolean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WrongType;

impl Predicate {
    pub fn parse(text: &str) -> Result<Predicate, String> {
        let mut parser = Parser { tokens: tokens(text)?, at: 0 };
        let expression = parser.or()?;
        match parser.tokens.get(parser.at) {
            None => Ok(Predicate(expression)),
            Some(token) => Err(format!("{token:?} after the end")),
        }
    }

    pub fn holds(&self, event: &Json) -> Result<bool, WrongType> {
        match evaluate(&self.0, event) {
            Found::Nothing => Ok(false),
            Found::Value(Json::Bool(b)) => Ok(b),
            Found::Wrong | Found::Value(_) => Err(WrongType),
        }
    }
}

fn evaluate(expression: &Expression, event: &Json) -> Found {
    let boolean = |b| Found::Value(Json::Bool(b));
    match expression {
        Expression::Literal(Json::Null) => Found::Nothing,
        Expression::Literal(value) => Found::Value(value.clone()),
        Expression::Member(path) => match event.at(path) {
            None | Some(Json::Null) => Found::Nothing,
            Some(value) => Found::Value(value.clone()),
        },
        Expression::Has(path) => boolean(!matches!(event.at(path), None | Some(Json::Null))),
        Expression::Not(inner) => match evaluate(inner, event) {
            Found::Value(Json::Bool(b)) => boolean(!b),
            Found::Nothing => Found::Nothing,
            Found::Wrong | Found::Value(_) => Found::Wrong,
        },
        Expression::And(a, b) => decide(evaluate(a, event), evaluate(b, event), false),
        Expression::Or(a, b) => decide(evaluate(a, event), evaluate(b, event), true),
        Expression::Compare(a, comparison, b) => match (evaluate(a, event), evaluate(b, event)) {
            (Found::Nothing, _) | (_, Found::Nothing) => Found::Nothing,
            (Found::Value(a), Found::Value(b)) => compare(&a, *comparison, &b).map_or(Found::Wrong, boolean),
            _ => Found::Wrong,
        },
        Expression::In(item, list) => contains(evaluate(item, event), list, event),
        Expression::List(_) => Found::Wrong,
    }
}

/// `&&` is decided by a false, `||` by a true, on either side. Else what is absent makes the whole absent, before what is wrong.
fn decide(a: Found, b: Found, deciding: bool) -> Found {
    let sides = [a, b];
    if sides.iter().any(|s| matches!(s, Found::Value(Json::Bool(b)) if *b == deciding)) {
        return Found::Value(Json::Bool(deciding));
    }
    if sides.iter().any(|s| matches!(s, Found::Nothing)) {
        return Found::Nothing;
    }
    if sides.iter().all(|s| matches!(s, Found::Value(Json::Bool(_)))) {
        Found::Value(Json::Bool(!deciding))
    } else {
        Found::Wrong
    }
}

/// A list's items are no operands: a null or absent one among them equals nothing, and decides nothing.
fn contains(item: Found, list: &Expression, event: &Json) -> Found {
    let items: Vec<Found> = match list {
        Expression::List(items) => items.iter().map(|i| evaluate(i, event)).collect(),
        other => match evaluate(other, event) {
            Found::Value(Json::Array(items)) => items.into_iter().map(Found::Value).collect(),
            // "Other types: `in` false".
            Found::Value(_) if !matches!(item, Found::Nothing | Found::Wrong) => return Found::Value(Json::Bool(false)),
            Found::Value(_) => return item,
            missing => return missing,
        },
    };
    let item = match item {
        Found::Value(item) => item,
        missing => return missing,
    };
    let held = items.iter().any(|i| matches!(i, Found::Value(i) if compare(&item, Comparison::Equal, i) == Some(true)));
    Found::Value(Json::Bool(held))
}

/// `None`: wrong type.
fn compare(a: &Json, comparison: Comparison, b: &Json) -> Option<bool> {
    let order = match (a, b) {
        (Json::Number(a), Json::Number(b)) => Number::of_token(a).order(Number::of_token(b)),
        (Json::Text(a), Json::Text(b)) => a.cmp(b),
        (Json::Bool(a), Json::Bool(b)) => a.cmp(b),
        _ => {
            return match comparison {
                Comparison::Equal => Some(a.equals(b)),
                Comparison::Different => Some(!a.equals(b)),
                _ => None,
            };
        }
    };
    Some(match comparison {
        Comparison::Equal => order == Ordering::Equal,
        Comparison::Different => order != Ordering::Equal,
        Comparison::Less => order == Ordering::Less,
        Comparison::LessOrEqual => order != Ordering::Greater,
        Comparison::Greater => order == Ordering::Greater,
        Comparison::GreaterOrEqual => order != Ordering::Less,
    })
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Number(String),
    Text(String),
    Mark(&'static str),
}

const MARKS: [&str; 17] = ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ",", ".", "-", "+"];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return Ok(out) };
        let run = |wanted: fn(char) -> bool| rest.chars().take_while(|&c| wanted(c)).count();
        if first == '"' || first == '\'' {
            let (string, length) = string(rest, first)?;
            out.push(Token::Text(string));
            rest = &rest[length..];
        } else if first.is_ascii_digit() {
            let mut length = run(|c| c.is_ascii_digit());
            let bytes = rest.as_bytes();
            let digits_at = |at: usize| bytes[at.min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit()).count();
            if bytes.get(length) == Some(&b'.') && digits_at(length + 1) > 0 {
                length += 1 + digits_at(length + 1);
            }
            if matches!(bytes.get(length), Some(b'e' | b'E')) {
                let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
                if digits_at(length + 1 + sign) > 0 {
                    length += 1 + sign + digits_at(length + 1 + sign);
                }
            }
            out.push(Token::Number(rest[..length].to_owned()));
            rest = &rest[length..];
        } else if first.is_ascii_alphabetic() || first == '_' {
            let length = run(|c| c.is_ascii_alphanumeric() || c == '_');
            out.push(Token::Name(rest[..length].to_owned()));
            rest = &rest[length..];
        } else {
            let mark = MARKS.into_iter().find(|m| rest.starts_with(m)).ok_or_else(|| format!("{first:?} is not understood"))?;
            out.push(Token::Mark(mark));
            rest = &rest[mark.len()..];
        }
    }
}

/// The string and how many bytes it took.
fn string(text: &str, quote: char) -> Result<(String, usize), String> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((out, at + 1));
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        let (_, escaped) = chars.next().ok_or("a string ends in a backslash")?;
        let mut code = |digits: usize| {
            let hex: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
            u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32).ok_or(format!("\\{escaped}{hex} is no character"))
        };
        out.push(match escaped {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            'x' | 'X' => code(2)?,
            'u' => code(4)?,
            'U' => code(8)?,
            '\\' | '"' | '\'' | '`' | '?' => escaped,
            other => return Err(format!("\\{other} is not understood")),
        });
    }
    Err("a string without its end".to_owned())
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn next(&mut self) -> Option<Token> {
        self.at += 1;
        self.tokens.get(self.at - 1).cloned()
    }

    fn take(&mut self, mark: &'static str) -> bool {
        let there = self.tokens.get(self.at) == Some(&Token::Mark(mark));
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, mark: &'static str) -> Result<(), String> {
        if self.take(mark) { Ok(()) } else { Err(format!("{mark:?} expected before {:?}", self.tokens.get(self.at))) }
    }

    fn or(&mut self) -> Result<Expression, String> {
        let mut left = self.and()?;
        while self.take("||") {
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, String> {
        let mut left = self.relation()?;
        while self.take("&&") {
            left = Expression::And(Box::new(left), Box::new(self.relation()?));
        }
        Ok(left)
    }

    fn relation(&mut self) -> Result<Expression, String> {
        let mut left = self.unary()?;
        loop {
            let comparison = match self.tokens.get(self.at) {
                Some(Token::Mark("==")) => Comparison::Equal,
                Some(Token::Mark("!=")) => Comparison::Different,
                Some(Token::Mark("<")) => Comparison::Less,
                Some(Token::Mark("<=")) => Comparison::LessOrEqual,
                Some(Token::Mark(">")) => Comparison::Greater,
                Some(Token::Mark(">=")) => Comparison::GreaterOrEqual,
                Some(Token::Name(name)) if name == "in" => {
                    self.at += 1;
                    left = Expression::In(Box::new(left), Box::new(self.unary()?));
                    continue;
                }
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expression::Compare(Box::new(left), comparison, Box::new(self.unary()?));
        }
    }

    fn unary(&mut self) -> Result<Expression, String> {
        if self.take("!") {
            return Ok(Expression::Not(Box::new(self.unary()?)));
        }
        if self.take("-") {
            return match self.next() {
                Some(Token::Number(token)) => Ok(Expression::Literal(Json::Number(format!("-{token}")))),
                other => Err(format!("a number expected after '-', not {other:?}")),
            };
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Expression, String> {
        match self.next() {
            Some(Token::Number(token)) => Ok(Expression::Literal(Json::Number(token))),
            Some(Token::Text(text)) => Ok(Expression::Literal(Json::Text(Text::from(text.as_str())))),
            Some(Token::Mark("(")) => {
                let inner = self.or()?;
                self.expect(")")?;
                Ok(inner)
            }
            Some(Token::Mark("[")) => self.list(),
            Some(Token::Name(name)) => match name.as_str() {
                "true" => Ok(Expression::Literal(Json::Bool(true))),
                "false" => Ok(Expression::Literal(Json::Bool(false))),
                "null" => Ok(Expression::Literal(Json::Null)),
                "in" => Err("'in' needs something before it".to_owned()),
                "has" if self.take("(") => {
                    let Some(Token::Name(first)) = self.next() else { return Err("has() takes a member".to_owned()) };
                    let path = self.path(first)?;
                    self.expect(")")?;
                    Ok(Expression::Has(path))
                }
                _ => Ok(Expression::Member(self.path(name)?)),
            },
            other => Err(format!("{other:?} is not understood here")),
        }
    }

    fn list(&mut self) -> Result<Expression, String> {
        let mut items = Vec::new();
        if self.take("]") {
            return Ok(Expression::List(items));
        }
        loop {
            items.push(self.unary()?);
            if self.take("]") {
                return Ok(Expression::List(items));
            }
            self.expect(",")?;
            if self.take("]") {
                return Ok(Expression::List(items));
            }
        }
    }

    fn path(&mut self, first: String) -> Result<Vec<String>, String> {
        let mut path = vec![first];
        loop {
            if self.take(".") {
                match self.next() {
                    Some(Token::Name(name)) => path.push(name),
                    other => return Err(format!("a name expected after '.', not {other:?}")),
                }
            } else if self.take("[") {
                match self.next() {
                    Some(Token::Text(name) | Token::Number(name)) => path.push(name),
                    other => return Err(format!("{other:?} is no index")),
                }
                self.expect("]")?;
            } else {
                return Ok(path);
            }
        }
    }
}

#[cfg(test)]
mod tests;
