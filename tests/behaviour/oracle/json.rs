//! **JSON** as RFC 8259 writes it, read one character at a time. The event step hands it a record's value;
//! `compare` hands it views.
//!
//! Invariant: nothing is rounded and nothing repaired. A number stays the token it was, a string keeps lone
//! surrogates (as the three bytes that UTF-8 would have for them), and of repeated members the last one stands.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    /// The token as written.
    Number(String),
    Text(Text),
    Array(Vec<Json>),
    Object(BTreeMap<Text, Json>),
}

/// A string unescaped: UTF-8, except that a lone surrogate stands as its three generalised bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(pub Vec<u8>);

impl Text {
    /// `None` when it holds a lone surrogate.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl From<&str> for Text {
    fn from(s: &str) -> Self {
        Text(s.as_bytes().to_vec())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NotJson,
    TooDeep,
}

/// An integer token from −2^63 to 2^64−1, or any other number as the nearest double (infinite when outside).
#[derive(Clone, Copy, Debug)]
pub enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    pub fn of_token(token: &str) -> Number {
        let float = || Number::Float(token.parse().expect("every JSON number is a number to Rust"));
        if token.contains(['.', 'e', 'E']) {
            return float();
        }
        match token.parse::<i128>() {
            Ok(i) if (-(1i128 << 63)..(1i128 << 64)).contains(&i) => Number::Integer(i),
            _ => float(),
        }
    }

    /// By value, without rounding the integer to a double.
    pub fn order(self, other: Number) -> Ordering {
        match (self, other) {
            (Number::Integer(a), Number::Integer(b)) => a.cmp(&b),
            (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b).expect("no NaN in JSON"),
            (Number::Integer(a), Number::Float(b)) => integer_with_float(a, b),
            (Number::Float(a), Number::Integer(b)) => integer_with_float(b, a).reverse(),
        }
    }

    pub fn to_f64(self) -> f64 {
        match self {
            Number::Integer(i) => i as f64,
            Number::Float(f) => f,
        }
    }

    /// `null` when it is outside doubles.
    pub fn to_json(self) -> Json {
        match self {
            Number::Integer(i) => Json::Number(i.to_string()),
            Number::Float(f) if f.is_finite() => Json::Number(format!("{f:?}")),
            Number::Float(_) => Json::Null,
        }
    }
}

fn integer_with_float(i: i128, f: f64) -> Ordering {
    // A cast saturates, which still orders rightly: integers here stay far inside 128 bits.
    let whole = f.trunc() as i128;
    i.cmp(&whole).then_with(|| if f.is_infinite() { whole.cmp(&0).reverse() } else { 0.0f64.partial_cmp(&f.fract()).unwrap() })
}

impl Json {
    /// Of a whole record value: what first goes wrong from left to right.
    pub fn read(bytes: &[u8]) -> Result<Json, Fault> {
        Json::read_within(bytes, DEEPEST)
    }

    /// Of a view, in which a value as deep as a record may be stands deeper.
    pub fn read_view(text: &str) -> Result<Json, Fault> {
        Json::read_within(text.as_bytes(), 2 * DEEPEST)
    }

    fn read_within(bytes: &[u8], deepest: usize) -> Result<Json, Fault> {
        let good = match std::str::from_utf8(bytes) {
            Ok(_) => bytes.len(),
            Err(e) => e.valid_up_to(),
        };
        let mut reader = Reader { bytes: &bytes[..good], at: 0, deepest };
        let read = reader.document();
        if good < bytes.len() && read != Err(Fault::TooDeep) {
            return Err(Fault::NotJson);
        }
        read
    }

    /// What an RFC 6901 pointer (its tokens unescaped) points at.
    pub fn at(&self, tokens: &[String]) -> Option<&Json> {
        let Some((token, rest)) = tokens.split_first() else { return Some(self) };
        let inner = match self {
            Json::Object(members) => members.get(&Text::from(token.as_str()))?,
            Json::Array(items) => {
                let digits = !token.is_empty() && token.bytes().all(|b| b.is_ascii_digit());
                if !digits || (token.len() > 1 && token.starts_with('0')) {
                    return None;
                }
                items.get(token.parse::<usize>().ok()?)?
            }
            _ => return None,
        };
        inner.at(rest)
    }

    pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, Json)>) -> Json {
        Json::Object(members.into_iter().map(|(k, v)| (Text::from(k), v)).collect())
    }

    pub fn text(s: &str) -> Json {
        Json::Text(Text::from(s))
    }

    pub fn integer(i: impl Into<i128>) -> Json {
        Json::Number(i.into().to_string())
    }

    /// The same with its numbers as what they are: integers by their digits, floats by the fewest that read back (an exponent of ten and
    /// more with its sign). `None` where a lone surrogate, U+0000 or a number outside doubles stands anywhere in it, names included.
    pub fn plain(&self) -> Option<Json> {
        let fit = |t: &Text| t.as_str().filter(|s| !s.contains('\0')).map(|_| t.clone());
        Some(match self {
            Json::Null | Json::Bool(_) => self.clone(),
            Json::Number(token) => match Number::of_token(token) {
                Number::Float(f) if !f.is_finite() => return None,
                number => match number.to_json() {
                    Json::Number(token) => Json::Number(token.replace('e', "e+").replace("e+-", "e-")),
                    other => other,
                },
            },
            Json::Text(t) => Json::Text(fit(t)?),
            Json::Array(items) => Json::Array(items.iter().map(Json::plain).collect::<Option<_>>()?),
            Json::Object(members) => {
                Json::Object(members.iter().map(|(k, v)| Some((fit(k)?, v.plain()?))).collect::<Option<_>>()?)
            }
        })
    }

    /// Whether two values are equal by what they are: 5 is 5.0, member order means nothing.
    pub fn equals(&self, other: &Json) -> bool {
        match (self, other) {
            (Json::Number(a), Json::Number(b)) => Number::of_token(a).order(Number::of_token(b)) == Ordering::Equal,
            (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b)),
            (Json::Object(a), Json::Object(b)) => a.keys().eq(b.keys()) && a.iter().all(|(name, value)| value.equals(&b[name])),
            (a, b) => a == b,
        }
    }

    /// As the rest of the tests hold JSON. Integers outside 64 bits become doubles there.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(&self.to_string()).expect("its own text is JSON")
    }
}

/// Compact form.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(b) => write!(f, "{b}"),
            Json::Number(token) => f.write_str(token),
            Json::Text(t) => write_text(t, f),
            Json::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Json::Object(members) => {
                f.write_str("{")?;
                for (i, (name, value)) in members.iter().enumerate() {
                    f.write_str(if i > 0 { "," } else { "" })?;
                    write_text(name, f)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_text(text: &Text, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for c in String::from_utf8_lossy(&text.0).chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\u{8}' => f.write_str("\\b")?,
            '\u{c}' => f.write_str("\\f")?,
            c if c < ' ' => write!(f, "\\u{:04x}", c as u32)?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

const DEEPEST: usize = 64;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    deepest: usize,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<Json, Fault> {
        let value = self.value(0)?;
        self.space();
        if self.at == self.bytes.len() { Ok(value) } else { Err(Fault::NotJson) }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, text: &str) -> Result<(), Fault> {
        if !self.bytes[self.at..].starts_with(text.as_bytes()) {
            return Err(Fault::NotJson);
        }
        self.at += text.len();
        Ok(())
    }

    fn value(&mut self, around: usize) -> Result<Json, Fault> {
        self.space();
        match self.peek().ok_or(Fault::NotJson)? {
            b'{' | b'[' if around == self.deepest => Err(Fault::TooDeep),
            b'{' => self.members(around + 1),
            b'[' => self.items(around + 1),
            b'"' => Ok(Json::Text(self.string()?)),
            b'n' => self.expect("null").map(|()| Json::Null),
            b't' => self.expect("true").map(|()| Json::Bool(true)),
            b'f' => self.expect("false").map(|()| Json::Bool(false)),
            _ => self.number(),
        }
    }

    fn members(&mut self, depth: usize) -> Result<Json, Fault> {
        let mut members = BTreeMap::new();
        self.expect("{")?;
        self.space();
        if self.take(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.space();
            let name = self.string()?;
            self.space();
            self.expect(":")?;
            let value = self.value(depth)?;
            members.insert(name, value);
            self.space();
            if self.take(b'}') {
                return Ok(Json::Object(members));
            }
            self.expect(",")?;
        }
    }

    fn items(&mut self, depth: usize) -> Result<Json, Fault> {
        let mut items = Vec::new();
        self.expect("[")?;
        self.space();
        if self.take(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.space();
            if self.take(b']') {
                return Ok(Json::Array(items));
            }
            self.expect(",")?;
        }
    }

    fn string(&mut self) -> Result<Text, Fault> {
        self.expect("\"")?;
        let mut out = Vec::new();
        loop {
            let byte = self.peek().ok_or(Fault::NotJson)?;
            self.at += 1;
            match byte {
                b'"' => return Ok(Text(out)),
                0..=0x1f => return Err(Fault::NotJson),
                b'\\' => self.escape(&mut out)?,
                other => out.push(other),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let byte = self.peek().ok_or(Fault::NotJson)?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' => out.push(byte),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let high = self.four_hex()?;
                let after = self.at;
                if (0xd800..0xdc00).contains(&high) && self.expect("\\u").is_ok() {
                    let low = self.four_hex()?;
                    if (0xdc00..0xe000).contains(&low) {
                        push_code_point(out, 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
                        return Ok(());
                    }
                    self.at = after;
                }
                push_code_point(out, high);
            }
            _ => return Err(Fault::NotJson),
        }
        Ok(())
    }

    fn four_hex(&mut self) -> Result<u32, Fault> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or(Fault::NotJson)?;
        let mut code = 0;
        for &d in digits {
            code = code * 16 + (d as char).to_digit(16).ok_or(Fault::NotJson)?;
        }
        self.at += 4;
        Ok(code)
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let first = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > first { Ok(()) } else { Err(Fault::NotJson) }
    }

    fn number(&mut self) -> Result<Json, Fault> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(Json::Number(String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned()))
    }
}

/// UTF-8 as it would be if surrogates were characters.
fn push_code_point(out: &mut Vec<u8>, code: u32) {
    match char::from_u32(code) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => out.extend([0xe0 | (code >> 12) as u8, 0x80 | (code >> 6 & 0x3f) as u8, 0x80 | (code & 0x3f) as u8]),
    }
}

#[cfg(test)]
mod tests;
