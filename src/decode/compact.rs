//! The **compact form** of a JSON value: no spaces, repeated members resolved, members in the order
//! of their names, strings minimally escaped, numbers in the shortest form that reads back. Equal
//! values have equal compact forms, but that 5 and 5.0 keep their looks.
//!
//! The plan hands over values that the scanner has proven, so what it meets is well-formed and at
//! most [`MAX_DEPTH`](super::scan::MAX_DEPTH) deep, which bounds the recursion.

use super::number::Number;
use super::unescape::Unescaped;
use std::collections::BTreeMap;

/// A value of `first` or `last` longer than this in compact form is refused.
pub(super) const MAX_COMPACT: usize = 1024;

/// A value as a tree; strings as [`Unescaped`] gives them.
#[derive(Debug, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(Vec<u8>),
    List(Vec<Tree>),
    Members(BTreeMap<Vec<u8>, Tree>),
}

/// Why a value cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    TooLong,
    LoneSurrogate,
    Nul,
    OutsideFloats,
}

impl Unfit {
    pub fn found(self) -> &'static str {
        match self {
            Unfit::TooLong => "a value longer than 1 KiB in compact form",
            Unfit::LoneSurrogate => "a lone surrogate",
            Unfit::Nul => "the character U+0000",
            Unfit::OutsideFloats => "a number outside 64-bit floats",
        }
    }
}

/// Whether a string may be kept: characters only, U+0000 not among them.
pub(super) fn fit_text(text: &[u8]) -> Result<&str, Unfit> {
    let text = std::str::from_utf8(text).map_err(|_| Unfit::LoneSurrogate)?;
    if text.contains('\0') { Err(Unfit::Nul) } else { Ok(text) }
}

impl Tree {
    /// The tree of a value the scanner has proven.
    pub fn of(proven: &[u8]) -> Tree {
        Reader { rest: proven }.value()
    }

    /// Appends the compact form; on an error `out` may hold a part of it.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Unfit> {
        let limit = out.len() + MAX_COMPACT;
        self.write_below(out, limit)
    }

    fn write_below(&self, out: &mut Vec<u8>, limit: usize) -> Result<(), Unfit> {
        match self {
            Tree::Null => out.extend(b"null"),
            Tree::Bool(value) => out.extend(if *value { &b"true"[..] } else { b"false" }),
            Tree::Number(Number::Int(value)) => out.extend(value.to_string().bytes()),
            Tree::Number(Number::Unsigned(value)) => out.extend(value.to_string().bytes()),
            Tree::Number(Number::Float(value)) => {
                let number = serde_json::Number::from_f64(*value).ok_or(Unfit::OutsideFloats)?;
                out.extend(number.to_string().bytes());
            }
            Tree::Text(text) => write_text(text, out)?,
            Tree::List(items) => {
                out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    item.write_below(out, limit)?;
                }
                out.push(b']');
            }
            Tree::Members(members) => {
                out.push(b'{');
                for (i, (name, value)) in members.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    write_text(name, out)?;
                    out.push(b':');
                    value.write_below(out, limit)?;
                }
                out.push(b'}');
            }
        }
        if out.len() > limit { Err(Unfit::TooLong) } else { Ok(()) }
    }
}

fn write_text(text: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
    let text = fit_text(text)?;
    // Writing a string to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
    Ok(())
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// Takes `byte` if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let there = self.rest.first() == Some(&byte);
        self.rest = &self.rest[usize::from(there)..];
        there
    }

    fn text(&mut self) -> Vec<u8> {
        let mut end = 0;
        while end < self.rest.len() && self.rest[end] != b'"' {
            end += if self.rest[end] == b'\\' { 2 } else { 1 };
        }
        let (inside, rest) = self.rest.split_at(end.min(self.rest.len()));
        self.rest = rest.get(1..).unwrap_or_default();
        Unescaped::new(inside).collect()
    }

    fn value(&mut self) -> Tree {
        self.space();
        if self.take(b'"') {
            return Tree::Text(self.text());
        }
        if self.take(b'[') {
            let mut items = Vec::new();
            while !self.take(b']') && !self.rest.is_empty() {
                items.push(self.value());
                self.take(b',');
            }
            return Tree::List(items);
        }
        if self.take(b'{') {
            let mut members = BTreeMap::new();
            while self.take(b'"') {
                let name = self.text();
                self.take(b':');
                members.insert(name, self.value());
                self.take(b',');
            }
            self.take(b'}');
            return Tree::Members(members);
        }
        let end = self.rest.iter().position(|b| b",]} \t\r\n".contains(b)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            b"null" => Tree::Null,
            b"true" => Tree::Bool(true),
            b"false" => Tree::Bool(false),
            number => Tree::Number(Number::of_token(number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compact(text: &str) -> Result<String, Unfit> {
        let mut out = Vec::new();
        Tree::of(text.as_bytes()).write(&mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_value_is_written_without_what_means_nothing() {
        for (text, expected) in [
            (r#" { "b" : [ 1 , 2.50 , -0 , 1E2 ] , "a" : { } } "#, r#"{"a":{},"b":[1,2.5,0,100.0]}"#),
            (r#"{"a":1e400,"\u0061":"\u00e9\/\u000a"}"#, r#"{"a":"é/\n"}"#),
            ("[[],[[]],null,true,false]", "[[],[[]],null,true,false]"),
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "1.8446744073709552e+19"),
            (r#""\"\\""#, r#""\"\\""#),
        ] {
            assert_eq!(compact(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_the_store_cannot_keep_is_unfit_wherever_it_stands() {
        assert_eq!(compact(r#"[{"a":["\ud800"]}]"#), Err(Unfit::LoneSurrogate));
        assert_eq!(compact(r#"{"\udc00":1}"#), Err(Unfit::LoneSurrogate));
        assert_eq!(compact(r#"{"a\u0000":1}"#), Err(Unfit::Nul));
        assert_eq!(compact("[1,-1e400]"), Err(Unfit::OutsideFloats));
    }

    #[test]
    fn the_limit_is_on_the_compact_form() {
        let spaced = format!("[{}\"{}\"]", " ".repeat(5000), "x".repeat(MAX_COMPACT - 4));
        assert_eq!(compact(&spaced).unwrap().len(), MAX_COMPACT);
        assert_eq!(compact(&format!("[\"{}\"]", "x".repeat(MAX_COMPACT - 3))), Err(Unfit::TooLong));
    }
}
