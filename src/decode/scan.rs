//! The **scanner**: one pass over a record's value that proves it RFC 8259 JSON, nested at most
//! [`MAX_DEPTH`] deep, and notes the members that the plan's pointers name in numbered slots.
//!
//! The plan hands it bytes that are UTF-8. What no pointer names is skipped, but proven all the
//! same. Invariants: a fault is the first from left to right; of repeated members the last counts,
//! whole; the stack does not grow with the input (skipping is a loop, and reading goes only as deep
//! as the pointers do).

use super::number::Number;
use super::unescape::Unescaped;
use crate::definitions::Pointer;
use std::collections::BTreeSet;
use std::ops::Range;

/// Arrays and objects nested deeper than this are refused. One bit each in a `u64` while skipping.
pub(super) const MAX_DEPTH: u32 = 64;

/// What stands where a pointer points: places count from the start of the value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Raw {
    Absent,
    Null,
    Bool(bool),
    Number(Number),
    /// A number with a fraction or an exponent, or an integer past 64 bits, not converted yet.
    Decimal {
        start: u32,
        len: u32,
    },
    /// A string's inside.
    Text {
        start: u32,
        len: u32,
        escaped: bool,
    },
    /// An array or object, brackets included.
    Composite {
        start: u32,
        len: u32,
        object: bool,
    },
}

impl Raw {
    pub fn is_missing(self) -> bool {
        matches!(self, Raw::Absent | Raw::Null)
    }
}

/// Why the bytes are refused; the place is beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TooDeep,
    Value,
    Name,
    Colon,
    CommaOrEnd,
    Digit,
    Escape,
    Control,
    OpenString,
    Trailing,
}

impl Fault {
    pub fn expected(self) -> &'static str {
        match self {
            Fault::TooDeep => "at most 64 nested arrays and objects",
            Fault::Value => "a JSON value",
            Fault::Name => "a member's name in double quotes",
            Fault::Colon => "':'",
            Fault::CommaOrEnd => "',' or the end of the array or object",
            Fault::Digit => "a digit",
            Fault::Escape => "an escape of JSON",
            Fault::Control => "no unescaped control character in a string",
            Fault::OpenString => "the string's closing '\"'",
            Fault::Trailing => "nothing after the value",
        }
    }
}

/// The pointers of a plan as a tree; slot `i` is the pointer of rank `i` in their order.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    pointers: Vec<Pointer>,
}

#[derive(Debug)]
struct Node {
    slot: Option<usize>,
    /// Slots of the pointers that go through this node and on.
    below: Range<usize>,
    members: Vec<Member>,
    /// The tokens that are array indexes too, with their nodes.
    indexes: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct Member {
    /// The first eight bytes of the name, zeros where it is shorter.
    head: u64,
    name: Box<[u8]>,
    node: usize,
}

impl Trie {
    pub fn new(pointers: &BTreeSet<Pointer>) -> Self {
        let mut trie = Trie { nodes: Vec::new(), pointers: pointers.iter().cloned().collect() };
        trie.grow(0..pointers.len(), 0);
        trie
    }

    pub fn slots(&self) -> usize {
        self.pointers.len()
    }

    pub fn slot(&self, pointer: &Pointer) -> Option<usize> {
        self.pointers.binary_search(pointer).ok()
    }

    pub fn pointer(&self, slot: usize) -> &Pointer {
        &self.pointers[slot]
    }

    /// Adds the node of the pointers in `range`, which share their first `depth` tokens. A pointer sorts before those it is a prefix of,
    /// so whatever lies below a node is a range of slots.
    fn grow(&mut self, range: Range<usize>, depth: usize) -> usize {
        let ends_here = self.pointers.get(range.start).is_some_and(|p| p.0.len() == depth) && !range.is_empty();
        let below = range.start + usize::from(ends_here)..range.end;
        let this = self.nodes.len();
        let slot = ends_here.then_some(range.start);
        self.nodes.push(Node { slot, below: below.clone(), members: Vec::new(), indexes: Vec::new() });
        let mut first = below.start;
        while first < below.end {
            let token = self.pointers[first].0[depth].clone();
            let count = self.pointers[first..below.end].iter().take_while(|p| p.0[depth] == token).count();
            let node = self.grow(first..first + count, depth + 1);
            if let Some(index) = array_index(&token) {
                self.nodes[this].indexes.push((index, node));
            }
            let name = token.into_bytes().into_boxed_slice();
            self.nodes[this].members.push(Member { head: head(&name), name, node });
            first += count;
        }
        this
    }
}

impl Node {
    #[inline(always)]
    fn member(&self, name: &[u8]) -> Option<usize> {
        let head = head(name);
        let same = |m: &&Member| m.head == head && m.name.len() == name.len() && (name.len() <= 8 || m.name[8..] == name[8..]);
        self.members.iter().find(same).map(|m| m.node)
    }
}

/// RFC 6901: digits without leading zeros.
fn array_index(token: &str) -> Option<usize> {
    let digits = token.bytes().all(|b| b.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    if digits { token.parse().ok() } else { None }
}

#[inline(always)]
fn head(name: &[u8]) -> u64 {
    let len = name.len();
    if let Some(eight) = name.first_chunk() {
        u64::from_le_bytes(*eight)
    } else if let (Some(low), Some(high)) = (name.first_chunk(), name.last_chunk()) {
        u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << ((len - 4) * 8)
    } else {
        name.iter().rev().fold(0, |head, &b| head << 8 | u64::from(b))
    }
}

/// Scans `text` from its start to its end and fills `slots` (one for each of the trie's). Says whether the whole is an object, or gives
/// the fault and the byte it stands at.
pub(super) fn scan(text: &[u8], trie: &Trie, slots: &mut [Raw], name: &mut Vec<u8>) -> Result<bool, (Fault, usize)> {
    slots.fill(Raw::Absent);
    let mut scanner = Scanner { text, at: 0, trie, slots, name };
    scanner.whole().map_err(|fault| (fault, scanner.at))
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    trie: &'a Trie,
    slots: &'a mut [Raw],
    /// Names with escapes are unescaped here.
    name: &'a mut Vec<u8>,
}

impl<'a> Scanner<'a> {
    fn whole(&mut self) -> Result<bool, Fault> {
        self.space();
        let object = self.peek() == b'{';
        self.value(0, 0)?;
        self.space();
        if self.at < self.text.len() { Err(Fault::Trailing) } else { Ok(object) }
    }

    /// The byte here; 0, which the grammar allows nowhere, past the end.
    #[inline(always)]
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn space(&mut self) {
        if self.peek() <= b' ' {
            self.more_space();
        }
    }

    #[cold]
    fn more_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// The value here, at a place some pointer names or passes through, under `depth` open brackets.
    fn value(&mut self, node: usize, depth: u32) -> Result<(), Fault> {
        let trie = self.trie;
        let node = &trie.nodes[node];
        for slot in &mut self.slots[node.below.clone()] {
            *slot = Raw::Absent;
        }
        let start = self.at;
        let raw = match self.peek() {
            b'"' => {
                self.at += 1;
                let escaped = self.string()?;
                Raw::Text { start: start as u32 + 1, len: (self.at - start - 2) as u32, escaped }
            }
            b'-' | b'0'..=b'9' => self.number()?,
            open @ (b'{' | b'[') => {
                let object = open == b'{';
                let unread = if object { node.members.is_empty() } else { node.indexes.is_empty() };
                if unread {
                    self.skip_brackets(depth)?;
                } else if depth == MAX_DEPTH {
                    return Err(Fault::TooDeep);
                } else if object {
                    self.object(node, depth + 1)?;
                } else {
                    self.array(node, depth + 1)?;
                }
                Raw::Composite { start: start as u32, len: (self.at - start) as u32, object }
            }
            _ => self.word()?,
        };
        if let Some(slot) = node.slot {
            self.slots[slot] = raw;
        }
        Ok(())
    }

    fn object(&mut self, node: &'a Node, depth: u32) -> Result<(), Fault> {
        self.at += 1;
        self.space();
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != b'"' {
                return Err(Fault::Name);
            }
            self.at += 1;
            let start = self.at;
            let escaped = self.string()?;
            let name = &self.text[start..self.at - 1];
            let child = if escaped { self.escaped_member(node, name) } else { node.member(name) };
            self.colon()?;
            match child {
                Some(child) => self.value(child, depth)?,
                None => self.skip(depth)?,
            }
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Fault::CommaOrEnd),
            }
            self.space();
        }
    }

    #[cold]
    fn escaped_member(&mut self, node: &Node, name: &[u8]) -> Option<usize> {
        self.name.clear();
        self.name.extend(Unescaped::new(name));
        node.member(self.name)
    }

    fn array(&mut self, node: &'a Node, depth: u32) -> Result<(), Fault> {
        self.at += 1;
        self.space();
        if self.peek() == b']' {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            match node.indexes.iter().find(|(i, _)| *i == index) {
                Some(&(_, child)) => self.value(child, depth)?,
                None => self.skip(depth)?,
            }
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    break;
                }
                _ => return Err(Fault::CommaOrEnd),
            }
            self.space();
        }
        Ok(())
    }

    /// Proves the value here, under `depth` open brackets, and keeps nothing of it.
    #[inline(always)]
    fn skip(&mut self, depth: u32) -> Result<(), Fault> {
        match self.peek() {
            b'"' => {
                self.at += 1;
                self.string().map(drop)
            }
            b'-' | b'0'..=b'9' => self.digits_and_point().map(drop),
            b'{' | b'[' => self.skip_brackets(depth),
            _ => self.word().map(drop),
        }
    }

    /// The same for an array or object: a loop, however deep it goes.
    fn skip_brackets(&mut self, depth: u32) -> Result<(), Fault> {
        let mut open = depth;
        // The lowest bit says whether the innermost bracket is an object's.
        let mut objects = 0u64;
        loop {
            let mut closed = true;
            match self.peek() {
                bracket @ (b'{' | b'[') => {
                    if open == MAX_DEPTH {
                        return Err(Fault::TooDeep);
                    }
                    open += 1;
                    let object = bracket == b'{';
                    objects = objects << 1 | u64::from(object);
                    self.at += 1;
                    self.space();
                    // The closing brackets have the codes of the opening ones plus 2.
                    closed = self.peek() == bracket + 2;
                    if !closed && object {
                        self.member_name()?;
                    }
                }
                _ => self.skip(open)?,
            }
            while closed {
                self.space();
                let object = objects & 1 == 1;
                match self.peek() {
                    b',' => {
                        self.at += 1;
                        self.space();
                        if object {
                            self.member_name()?;
                        }
                        closed = false;
                    }
                    end @ (b'}' | b']') if (end == b'}') == object => {
                        self.at += 1;
                        open -= 1;
                        objects >>= 1;
                        if open == depth {
                            return Ok(());
                        }
                    }
                    _ => return Err(Fault::CommaOrEnd),
                }
            }
        }
    }

    fn member_name(&mut self) -> Result<(), Fault> {
        if self.peek() != b'"' {
            return Err(Fault::Name);
        }
        self.at += 1;
        self.string()?;
        self.colon()
    }

    #[inline(always)]
    fn colon(&mut self) -> Result<(), Fault> {
        self.space();
        if self.peek() != b':' {
            return Err(Fault::Colon);
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    fn word(&mut self) -> Result<Raw, Fault> {
        let rest = &self.text[self.at..];
        for (word, raw) in [(&b"true"[..], Raw::Bool(true)), (b"false", Raw::Bool(false)), (b"null", Raw::Null)] {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(raw);
            }
        }
        Err(Fault::Value)
    }

    /// Goes from the first byte inside a string past its closing quote; says whether it holds escapes.
    #[inline(always)]
    fn string(&mut self) -> Result<bool, Fault> {
        let end = special(self.text, self.at);
        self.at = end;
        if self.peek() == b'"' {
            self.at = end + 1;
            return Ok(false);
        }
        self.string_with_escapes()
    }

    #[cold]
    fn string_with_escapes(&mut self) -> Result<bool, Fault> {
        loop {
            self.at = special(self.text, self.at);
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(true);
                }
                b'\\' => self.escape()?,
                _ if self.at < self.text.len() => return Err(Fault::Control),
                _ => return Err(Fault::OpenString),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        let length = match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if self.text.get(self.at + 2..self.at + 6).is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) => 6,
            _ => return Err(Fault::Escape),
        };
        self.at += length;
        Ok(())
    }

    #[inline(always)]
    fn number(&mut self) -> Result<Raw, Fault> {
        let start = self.at;
        let whole = self.digits_and_point()?;
        let token = &self.text[start..self.at];
        if !whole || token.len() > 20 {
            return Ok(Raw::Decimal { start: start as u32, len: token.len() as u32 });
        }
        let digits = token.strip_prefix(b"-").unwrap_or(token);
        if digits.len() > 18 {
            return Ok(Raw::Number(Number::of_token(token)));
        }
        let magnitude = digits.iter().fold(0, |n, &d| n * 10 + i64::from(d - b'0'));
        Ok(Raw::Number(Number::Int(if digits.len() < token.len() { -magnitude } else { magnitude })))
    }

    /// Goes past a number; says whether it is an integer token.
    #[inline(always)]
    fn digits_and_point(&mut self) -> Result<bool, Fault> {
        self.at += usize::from(self.peek() == b'-');
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        let mut whole = true;
        if self.peek() == b'.' {
            whole = false;
            self.at += 1;
            self.digits()?;
        }
        if self.peek() | 0x20 == b'e' {
            whole = false;
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), b'+' | b'-'));
            self.digits()?;
        }
        Ok(whole)
    }

    #[inline(always)]
    fn digits(&mut self) -> Result<(), Fault> {
        let mut at = self.at;
        while self.text.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        let some = at > self.at;
        self.at = at;
        if some { Ok(()) } else { Err(Fault::Digit) }
    }
}

/// The place of the next quote, backslash or control character from `at` on, or the end.
#[inline(always)]
fn special(text: &[u8], mut at: usize) -> usize {
    while let Some(block) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let found = special_in(block);
        if found != 0 {
            return at + found.trailing_zeros() as usize;
        }
        at += 16;
    }
    while text.get(at).is_some_and(|b| !matches!(b, 0..0x20 | b'"' | b'\\')) {
        at += 1;
    }
    at
}

/// A bit for each such byte of sixteen.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn special_in(block: &[u8; 16]) -> u32 {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is part of x86-64, and sixteen bytes are there to be loaded.
    unsafe {
        let bytes = _mm_loadu_si128(block.as_ptr().cast());
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_max_epu8(bytes, _mm_set1_epi8(0x1F)), _mm_set1_epi8(0x1F));
        _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control)) as u32
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn special_in(block: &[u8; 16]) -> u32 {
    let special = |b: &u8| matches!(b, 0..0x20 | b'"' | b'\\');
    block.iter().rev().fold(0, |bits, b| bits << 1 | u32::from(special(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use serde_json::Value;

    fn pointer(text: &str) -> Pointer {
        Pointer(text.split('/').skip(1).map(|t| t.replace("~1", "/").replace("~0", "~")).collect())
    }

    fn read(text: &str, pointers: &[&str]) -> Result<Vec<Raw>, (Fault, usize)> {
        let set: BTreeSet<Pointer> = pointers.iter().map(|p| pointer(p)).collect();
        let trie = Trie::new(&set);
        // What an earlier record left must not show.
        let mut slots = vec![Raw::Bool(true); trie.slots()];
        scan(text.as_bytes(), &trie, &mut slots, &mut Vec::new())?;
        Ok(pointers.iter().map(|p| slots[trie.slot(&pointer(p)).unwrap()]).collect())
    }

    /// What a slot holds, as a value; `None` for nothing.
    fn value(raw: Raw, text: &str) -> Option<Value> {
        let parse = |start: u32, len: u32| serde_json::from_str(&text[start as usize..(start + len) as usize]).unwrap();
        match raw {
            Raw::Absent => None,
            Raw::Null => Some(Value::Null),
            Raw::Bool(b) => Some(b.into()),
            Raw::Number(Number::Int(n)) => Some(n.into()),
            Raw::Number(Number::Unsigned(n)) => Some(n.into()),
            Raw::Number(Number::Float(n)) => Some(n.into()),
            Raw::Text { start, len, escaped } => {
                let inside = &text[start as usize..(start + len) as usize];
                assert_eq!(escaped, inside.contains('\\'));
                Some(String::from_utf8(Unescaped::new(inside.as_bytes()).collect()).unwrap().into())
            }
            Raw::Decimal { start, len } | Raw::Composite { start, len, .. } => Some(parse(start, len)),
        }
    }

    #[test]
    fn the_grammar_is_that_of_rfc_8259() {
        for good in [
            "{}",
            "[]",
            " \t\r\n[ ] ",
            "0",
            "-0",
            "-0.0e-0",
            "1E+2",
            "1e400",
            "\"\"",
            "\"\u{7f}é\"",
            r#""\ud800""#,
            r#"{"\ud800":1}"#,
            "true",
            "null",
            r#"{"":{"":""}}"#,
            "[1,2]",
            r#"{"a":1,"a":2}"#,
            r#""\"\\\/\b\f\n\r\t\u00aF""#,
            "123456789012345678901234567890",
        ] {
            assert!(read(good, &[]).is_ok(), "{good}");
            assert!(read(good, &["/a/b", "/0", ""]).is_ok(), "{good}");
        }
        for (bad, at) in [
            ("", 0),
            (" ", 1),
            ("\u{feff}{}", 0),
            ("{", 1),
            ("[", 1),
            ("{]", 1),
            ("[}", 1),
            ("{}x", 2),
            ("{} {}", 3),
            ("[1,]", 3),
            ("[,1]", 1),
            ("{\"a\"}", 4),
            ("{\"a\":}", 5),
            ("{\"a\":1,}", 7),
            ("{a:1}", 1),
            ("{'a':1}", 1),
            ("[1 2]", 3),
            ("01", 1),
            ("+1", 0),
            (".5", 0),
            ("1.", 2),
            ("1.e5", 2),
            ("1e", 2),
            ("1e+", 3),
            ("-", 1),
            ("-x", 1),
            ("--1", 1),
            ("0x1", 1),
            ("NaN", 0),
            ("Infinity", 0),
            ("tru", 0),
            ("True", 0),
            ("nul", 0),
            ("\"a", 2),
            ("\"\\\"", 3),
            ("\"\\x\"", 1),
            ("\"\\u12g4\"", 1),
            ("\"\\u12\"", 1),
            ("\"\t\"", 1),
            ("\"aaaaaaaaaaaa\n\"", 13),
            ("\"\0\"", 1),
            ("// c\n1", 0),
            ("[1]]", 3),
            ("\u{a0}1", 0),
            ("1\0", 1),
            ("{\"a\":1 \"b\":2}", 7),
            ("{1:2}", 1),
            ("{\"a\":[}", 6),
        ] {
            for pointers in [&[][..], &["/a/b"], &["/0", ""]] {
                let (fault, found) = read(bad, pointers).expect_err(bad);
                assert_eq!((found, fault == Fault::TooDeep), (at, false), "{bad:?} {fault:?}");
            }
        }
    }

    #[test]
    fn nesting_ends_at_64() {
        let nested = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
        let deep = "/a".repeat(70);
        for pointers in [&[][..], &["/a", "/0"], &["/a/a/a", "/0/0/b"], &[deep.as_str()]] {
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
                assert!(read(&nested(open, close, 64), pointers).is_ok());
                for n in [65, 66, 100_000] {
                    assert_eq!(read(&nested(open, close, n), pointers), Err((Fault::TooDeep, 64 * open.len())));
                    assert_eq!(read(&open.repeat(n), pointers), Err((Fault::TooDeep, 64 * open.len())));
                }
            }
            assert_eq!(read(&format!("[x{}", "[".repeat(100)), pointers), Err((Fault::Value, 1)));
            // Brackets that closed again do not count.
            let wide = format!("[{}{}]", "[[]],".repeat(1000), nested("[", "]", 63));
            assert!(read(&wide, pointers).is_ok());
        }
    }

    #[test]
    fn of_repeated_members_the_last_counts_whole() {
        for (text, pointers, expected) in [
            (r#"{"data":{"a":1,"b":2},"data":{"a":3}}"#, &["/data/a", "/data/b"][..], "[3,null]"),
            (r#"{"data":{"a":1},"data":7}"#, &["/data/a", "/data"], "[null,7]"),
            (r#"{"data":{"a":1},"d\u0061ta":{}}"#, &["/data/a"], "[null]"),
            (r#"{"x":{"y":{"z":1},"y":{"w":2}},"x":{"y":{"z":[5]}}}"#, &["/x/y/z/0", "/x/y/w"], "[5,null]"),
            (r#"{"x":{"y":{"z":1},"y":{"w":2}}}"#, &["/x/y/z", "/x/y/w"], "[null,2]"),
            (r#"{"a":{"b":1},"a":[{"b":2}]}"#, &["/a/b", "/a/0/b"], "[null,2]"),
            (r#"{"a":1,"a":null}"#, &["/a"], "[null]"),
            (r#"{"":{"":1},"":{"":2}}"#, &["//", "/"], r#"[2,{"":2}]"#),
        ] {
            let found: Vec<Value> =
                read(text, pointers).unwrap().into_iter().map(|raw| value(raw, text).unwrap_or_default()).collect();
            assert_eq!(serde_json::to_string(&found).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn pointers_are_those_of_rfc_6901() {
        let text = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"m~n":8,"k\"l":6,"0":{"1":9},"longer than eight":10,"longer than eighT":11,"list":[[1],[2,3]]}"#;
        let whole: Value = serde_json::from_str(text).unwrap();
        for p in [
            "",
            "/foo",
            "/foo/0",
            "/foo/1",
            "/foo/2",
            "/foo/01",
            "/foo/-",
            "/foo/+1",
            "/",
            "/a~1b",
            "/c%d",
            "/m~0n",
            "/k\"l",
            "/0/1",
            "/longer than eight",
            "/longer than eighT",
            "/longer than",
            "/list/1/1",
            "/list/0/1",
            "/list/18446744073709551616",
        ] {
            assert_eq!(value(read(text, &[p]).unwrap()[0], text).as_ref(), whole.pointer(p), "{p}");
        }
    }

    fn json() -> impl Strategy<Value = String> {
        let names = prop_oneof![Just("a"), Just("b"), Just("data"), Just("\\u0061"), Just("longer than 8"), Just("0"), Just("")]
            .prop_map(str::to_owned);
        let texts = prop::collection::vec(
            prop_oneof![
                "[a-z]{0,12}",
                Just("\\ud83d\\ude00".to_owned()),
                Just("\\\"".to_owned()),
                Just("é".to_owned()),
                Just("\\\\".to_owned()),
                Just("\\u0000".to_owned())
            ],
            0..4,
        )
        .prop_map(|parts| format!("\"{}\"", parts.concat()));
        let numbers = prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<u64>().prop_map(|n| n.to_string()),
            "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        ];
        let leaf = prop_oneof![texts, numbers, Just("true".to_owned()), Just("false".to_owned()), Just("null".to_owned())];
        leaf.prop_recursive(5, 48, 6, move |inner| {
            let member = (names.clone(), inner.clone(), "[ \n]{0,2}").prop_map(|(n, v, s)| format!("{s}\"{n}\"{s}:{s}{v}{s}"));
            prop_oneof![
                prop::collection::vec(inner, 0..6).prop_map(|v| format!("[{}]", v.join(","))),
                prop::collection::vec(member, 0..6).prop_map(|v| format!("{{{}}}", v.join(","))),
            ]
        })
    }

    const POINTERS: [&str; 12] =
        ["", "/a", "/a/a", "/a/0", "/b/0/a", "/data/a", "/data/b/1", "/longer than 8", "/0", "/0/0", "/", "/a/b/data"];

    fn agrees(text: &str) -> Result<(), TestCaseError> {
        let depth_ok = |e: &(Fault, usize)| e.0 == Fault::TooDeep;
        let (none, some) = (read(text, &[]), read(text, &POINTERS));
        prop_assert_eq!(none.as_ref().err(), some.as_ref().err());
        if some.as_ref().err().is_some_and(depth_ok) {
            return Ok(());
        }
        prop_assert_eq!(some.is_ok(), serde_json::from_str::<IgnoredAny>(text).is_ok(), "{}", text);
        if let (Ok(slots), Ok(whole)) = (some, serde_json::from_str::<Value>(text)) {
            for (slot, p) in slots.into_iter().zip(POINTERS) {
                let found = value(slot, text);
                let expected = whole.pointer(p);
                // The token -0 is the integer 0 here, a float there.
                let same = found.as_ref() == expected || found == Some(0.into()) && expected.and_then(Value::as_f64) == Some(0.0);
                prop_assert!(same, "{} {}: {:?}", text, p, found);
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn random_json_reads_as_serde_json_reads_it(text in json()) {
            prop_assert!(read(&text, &[]).is_ok());
            agrees(&text)?;
        }

        #[test]
        fn mutated_json_is_accepted_exactly_when_serde_json_accepts_it(
            text in json(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3usize, prop::sample::select("{}[]:,\"\\u019-+.eEtfn \n\t\0é".chars().collect::<Vec<_>>())), 1..4),
        ) {
            let mut chars: Vec<char> = text.chars().collect();
            for (place, edit, c) in edits {
                let at = place.index(chars.len() + 1);
                match edit {
                    0 => chars.insert(at, c),
                    1 if at < chars.len() => chars[at] = c,
                    _ if at < chars.len() => drop(chars.remove(at)),
                    _ => {}
                }
            }
            agrees(&chars.into_iter().collect::<String>())?;
        }

        #[test]
        fn soup_is_accepted_exactly_when_serde_json_accepts_it(text in "[\\[\\]{}:,\"a0-9eE.\\\\u\\- ]{0,12}") {
            agrees(&text)?;
        }
    }
}
