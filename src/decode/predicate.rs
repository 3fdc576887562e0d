//! A **predicate**: the `where` of an aggregate, written in a subset of CEL (Common Expression
//! Language): members of the event, literals, comparisons, `in`, `&&`, `||`, `!` and `has()`.
//!
//! The configuration parses it, decode compiles it to slots. Invariant: what parses can be
//! evaluated in bounded stack and without allocation; the rest of CEL is refused by name.

use super::number::Number;
use crate::definitions::Pointer;
use serde::{Deserialize, Serialize};

/// Parentheses, `!` and `has` nested deeper than this are refused.
const MAX_NESTING: usize = 64;

/// A parsed predicate. Serialises as its source text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Predicate {
    pub text: String,
    expression: Expression<Pointer>,
}

impl PartialEq for Predicate {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl From<Predicate> for String {
    fn from(predicate: Predicate) -> String {
        predicate.text
    }
}

impl TryFrom<String> for Predicate {
    type Error = Problem;

    fn try_from(text: String) -> Result<Self, Problem> {
        Predicate::parse(&text)
    }
}

/// Where in the text the predicate stops making sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at} of the predicate: found {found}, expected {expected}")]
pub struct Problem {
    /// Byte offset in the text.
    pub at: usize,
    pub found: String,
    pub expected: String,
}

impl Predicate {
    /// Parses `text`; the problem names the first place that cannot be read or that this subset leaves out.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        Self::read(Parser { text, at: 0, nesting: 0, asks_events: false })
    }

    /// Parses the `where` of a configuration, of which every part must ask something of the event.
    ///
    /// Why beside [`Predicate::parse`]: a store keeps definitions that were taken before this was asked of them.
    pub fn of_configuration(text: &str) -> Result<Self, Problem> {
        Self::read(Parser { text, at: 0, nesting: 0, asks_events: true })
    }

    fn read(mut parser: Parser<'_>) -> Result<Self, Problem> {
        let text = parser.text;
        let (at, expression) = parser.located(Parser::either)?;
        parser.space();
        if parser.at < text.len() {
            return Err(parser.problem(parser.at, "an operator (== != < <= > >= in && ||) or the end"));
        }
        parser.condition(at, &expression)?;
        if parser.asks_events && expression.members().is_empty() {
            let found = format!("`{}`, which reads nothing of the event", text[at..].trim_end());
            return Err(Problem { at, found, expected: "a member of the event such as data.points".into() });
        }
        Ok(Self { text: text.to_owned(), expression })
    }

    pub(super) fn expression(&self) -> &Expression<Pointer> {
        &self.expression
    }
}

/// A predicate as a tree; `M` says how a member of the event is named.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression<M> {
    Literal(Literal),
    Member(M),
    Has(M),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
    Compare(Comparison, Box<[Self; 2]>),
    In(Box<Self>, Vec<Literal>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl<M> Expression<M> {
    /// Every member it names, as often as it names it.
    pub fn members(&self) -> Vec<&M> {
        match self {
            Expression::Literal(_) => vec![],
            Expression::Member(member) | Expression::Has(member) => vec![member],
            Expression::Not(inner) | Expression::In(inner, _) => inner.members(),
            Expression::All(parts) | Expression::Any(parts) => parts.iter().flat_map(Self::members).collect(),
            Expression::Compare(_, sides) => sides.iter().flat_map(Self::members).collect(),
        }
    }

    /// The same expression with its members named otherwise.
    pub fn map<N>(&self, name: &mut impl FnMut(&M) -> N) -> Expression<N> {
        match self {
            Expression::Literal(literal) => Expression::Literal(literal.clone()),
            Expression::Member(member) => Expression::Member(name(member)),
            Expression::Has(member) => Expression::Has(name(member)),
            Expression::Not(inner) => Expression::Not(Box::new(inner.map(name))),
            Expression::All(parts) => Expression::All(parts.iter().map(|p| p.map(name)).collect()),
            Expression::Any(parts) => Expression::Any(parts.iter().map(|p| p.map(name)).collect()),
            Expression::Compare(how, sides) => Expression::Compare(*how, Box::new([sides[0].map(name), sides[1].map(name)])),
            Expression::In(needle, literals) => Expression::In(Box::new(needle.map(name)), literals.clone()),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    nesting: usize,
    /// Comparisons of what stands in the text alone are refused.
    asks_events: bool,
}

type Parsed = Result<Expression<Pointer>, Problem>;

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']).len();
    }

    /// Takes `symbol` if it comes next.
    fn take(&mut self, symbol: &str) -> bool {
        self.space();
        let there = self.rest().starts_with(symbol);
        self.at += if there { symbol.len() } else { 0 };
        there
    }

    /// The identifier here, which is not taken.
    fn word(&self) -> &'a str {
        let rest = self.rest();
        if rest.starts_with(|c: char| c.is_ascii_digit()) {
            return "";
        }
        &rest[..rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len())]
    }

    fn problem(&self, at: usize, expected: &str) -> Problem {
        let rest = &self.text[at..];
        let mut chars = rest.chars();
        let found = match chars.next() {
            None => "the end of the predicate".to_owned(),
            Some(c @ ('+' | '-' | '*' | '/' | '%')) => format!("'{c}' (arithmetic is not part of the subset)"),
            Some('?') => "'?' (the conditional operator is not part of the subset)".to_owned(),
            Some('=') if !rest.starts_with("==") => "'=' (equality is written ==)".to_owned(),
            Some(c) if c.is_alphanumeric() || c == '_' => {
                format!("{:?}", rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default())
            }
            Some(c) => format!("'{c}'"),
        };
        Problem { at, found, expected: expected.to_owned() }
    }

    fn located(&mut self, parse: fn(&mut Self) -> Parsed) -> Result<(usize, Expression<Pointer>), Problem> {
        self.space();
        let at = self.at;
        Ok((at, parse(self)?))
    }

    /// Refuses what can never be true or false.
    fn condition(&self, at: usize, expression: &Expression<Pointer>) -> Result<(), Problem> {
        match expression {
            Expression::Literal(Literal::Number(_) | Literal::Text(_)) => {
                Err(self.problem(at, "a condition, not a mere number or string"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a comparison, begun at `at`, that is the same for every event.
    fn asking(&self, at: usize, sides: &[&Expression<Pointer>]) -> Result<(), Problem> {
        if self.asks_events && sides.iter().all(|side| matches!(side, Expression::Literal(_))) {
            let found = format!("`{}`, the same for every event", self.text[at..self.at].trim_end());
            return Err(Problem { at, found, expected: "a member of the event on one side, such as data.points".into() });
        }
        Ok(())
    }

    fn deeper(&mut self, at: usize, parse: fn(&mut Self) -> Parsed) -> Parsed {
        if self.nesting == MAX_NESTING {
            return Err(self.problem(at, "at most 64 levels of nesting"));
        }
        self.nesting += 1;
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }

    fn either(&mut self) -> Parsed {
        self.chain("||", Self::both, Expression::Any)
    }

    fn both(&mut self) -> Parsed {
        self.chain("&&", Self::relation, Expression::All)
    }

    fn chain(
        &mut self,
        symbol: &str,
        part: fn(&mut Self) -> Parsed,
        join: fn(Vec<Expression<Pointer>>) -> Expression<Pointer>,
    ) -> Parsed {
        let (mut at, first) = self.located(part)?;
        let mut parts = vec![first];
        while self.take(symbol) {
            if let Some(last) = parts.last() {
                self.condition(at, last)?;
            }
            let (next, part) = self.located(part)?;
            self.condition(next, &part)?;
            at = next;
            parts.push(part);
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { join(parts) })
    }

    fn relation(&mut self) -> Parsed {
        let (begin, left) = self.located(Self::unary)?;
        let Some(comparison) = self.comparison() else {
            if !self.take_in() {
                return Ok(left);
            }
            let list = self.list()?;
            self.asking(begin, &[&left])?;
            return Ok(Expression::In(Box::new(left), list));
        };
        let right = self.unary()?;
        self.asking(begin, &[&left, &right])?;
        let at = self.at;
        if self.comparison().is_some() || self.take_in() {
            self.at = at;
            self.space();
            return Err(self.problem(self.at, "&&, || or the end; comparisons do not chain"));
        }
        Ok(Expression::Compare(comparison, Box::new([left, right])))
    }

    fn comparison(&mut self) -> Option<Comparison> {
        const SYMBOLS: [(&str, Comparison); 6] = [
            ("==", Comparison::Equal),
            ("!=", Comparison::Unequal),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        SYMBOLS.into_iter().find(|(symbol, _)| self.take(symbol)).map(|(_, comparison)| comparison)
    }

    fn take_in(&mut self) -> bool {
        self.space();
        let there = self.word() == "in";
        self.at += if there { 2 } else { 0 };
        there
    }

    fn list(&mut self) -> Result<Vec<Literal>, Problem> {
        if !self.take("[") {
            return Err(self.problem(self.at, "a list of literals in brackets"));
        }
        let mut literals = Vec::new();
        while !self.take("]") {
            let (at, part) = self.located(Self::unary)?;
            let Expression::Literal(literal) = part else { return Err(self.problem(at, "a literal")) };
            literals.push(literal);
            if !self.take(",") {
                if self.take("]") {
                    break;
                }
                return Err(self.problem(self.at, "',' or ']'"));
            }
        }
        Ok(literals)
    }

    fn unary(&mut self) -> Parsed {
        self.space();
        let at = self.at;
        if self.rest().starts_with('!') {
            self.at += 1;
            let (inner_at, inner) = {
                self.space();
                (self.at, self.deeper(at, Self::unary)?)
            };
            self.condition(inner_at, &inner)?;
            return Ok(Expression::Not(Box::new(inner)));
        }
        if self.take("(") {
            let inner = self.deeper(at, Self::either)?;
            return if self.take(")") { Ok(inner) } else { Err(self.problem(self.at, "')'")) };
        }
        let word = self.word();
        match word {
            "" => self.literal(),
            "true" | "false" | "null" => {
                self.at += word.len();
                let literal = if word == "null" { Literal::Null } else { Literal::Bool(word == "true") };
                Ok(Expression::Literal(literal))
            }
            "in" => Err(self.problem(at, "a member or a literal")),
            "r" | "R" if self.rest()[1..].starts_with(['"', '\'']) => self.literal(),
            "b" | "B" | "br" | "rb" if self.rest()[word.len()..].starts_with(['"', '\'']) => {
                Err(self.problem(at, "a string (bytes are not part of the subset)"))
            }
            _ => self.member_or_has(at, word),
        }
    }

    fn member_or_has(&mut self, at: usize, word: &str) -> Parsed {
        self.at += word.len();
        if self.take("(") {
            if word != "has" {
                return Err(self.problem(at, "a member, a literal or has(member); no other function is part of the subset"));
            }
            self.space();
            let (inner_at, inner) = (self.at, self.word());
            if matches!(inner, "" | "true" | "false" | "null" | "in") {
                return Err(self.problem(inner_at, "a member such as data.points"));
            }
            self.at += inner.len();
            let path = self.path(inner)?;
            return if self.take(")") { Ok(Expression::Has(path)) } else { Err(self.problem(self.at, "')'")) };
        }
        Ok(Expression::Member(self.path(word)?))
    }

    /// The rest of a member's path after its first name.
    fn path(&mut self, first: &str) -> Result<Pointer, Problem> {
        let mut tokens = vec![first.to_owned()];
        loop {
            if self.take(".") {
                self.space();
                let (at, word) = (self.at, self.word());
                if matches!(word, "" | "true" | "false" | "null" | "in") {
                    return Err(self.problem(at, "a member's name"));
                }
                self.at += word.len();
                if self.take("(") {
                    return Err(self.problem(at, "a member (functions and macros are not part of the subset)"));
                }
                tokens.push(word.to_owned());
            } else if self.take("[") {
                self.space();
                let at = self.at;
                let Expression::Literal(Literal::Text(name)) = self.unary()? else {
                    return Err(self.problem(at, "a member's name in quotes"));
                };
                tokens.push(name);
                if !self.take("]") {
                    return Err(self.problem(self.at, "']'"));
                }
            } else {
                return Ok(Pointer(tokens));
            }
        }
    }

    fn literal(&mut self) -> Parsed {
        let rest = self.rest();
        let at = self.at;
        let literal = match rest.as_bytes().first() {
            Some(b'"' | b'\'' | b'r' | b'R') => Literal::Text(self.string()?),
            Some(b'0'..=b'9' | b'.') => Literal::Number(self.number()?),
            Some(b'-') if rest[1..].starts_with(|c: char| c.is_ascii_digit() || c == '.') => Literal::Number(self.number()?),
            Some(b'[') => return Err(self.problem(at, "a member or a literal; a list stands only after `in`")),
            _ => return Err(self.problem(at, "a member, a literal, has(), ! or '('")),
        };
        Ok(Expression::Literal(literal))
    }

    fn number(&mut self) -> Result<Number, Problem> {
        let (at, bytes) = (self.at, self.text.as_bytes());
        let digits = |mut i: usize, hex: bool| {
            while bytes.get(i).is_some_and(|b| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() }) {
                i += 1;
            }
            i
        };
        let first = at + usize::from(bytes[at] == b'-');
        let hex = self.text[first..].starts_with("0x") || self.text[first..].starts_with("0X");
        let mut end = digits(if hex { first + 2 } else { first }, hex);
        let mut float = false;
        if !hex {
            if bytes.get(end) == Some(&b'.') && digits(end + 1, false) > end + 1 {
                float = true;
                end = digits(end + 1, false);
            }
            if matches!(bytes.get(end), Some(b'e' | b'E')) {
                let exponent = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
                if digits(exponent, false) > exponent {
                    float = true;
                    end = digits(exponent, false);
                }
            }
        }
        let token = &self.text[at..end];
        let unsigned = !float && matches!(bytes.get(end), Some(b'u' | b'U'));
        self.at = end + usize::from(unsigned);
        if let Some(next) = self.rest().chars().next().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '.')) {
            let end = self.at + next.len_utf8();
            return Err(Problem { at, found: format!("{:?}", &self.text[at..end]), expected: "a number".into() });
        }
        let radix = if hex { 16 } else { 10 };
        let plain = if hex { token.replacen("0x", "", 1).replacen("0X", "", 1) } else { token.to_owned() };
        let number = if float {
            plain.parse().ok().filter(|f: &f64| f.is_finite()).map(Number::Float)
        } else if unsigned {
            u64::from_str_radix(&plain, radix).ok().map(Number::of_u64)
        } else {
            i64::from_str_radix(&plain, radix).ok().map(Number::Int)
        };
        number.ok_or_else(|| Problem {
            at,
            found: format!("{:?}", &self.text[at..self.at]),
            expected: "a 64-bit integer (unsigned: with a trailing u) or a 64-bit float".into(),
        })
    }

    fn string(&mut self) -> Result<String, Problem> {
        let at = self.at;
        let raw = self.rest().starts_with(['r', 'R']);
        self.at += usize::from(raw);
        let quote = self.rest().chars().next().unwrap_or('"');
        self.at += 1;
        let mut string = String::new();
        loop {
            let here = self.at;
            let Some(c) = self.rest().chars().next().filter(|c| !matches!(c, '\n' | '\r')) else {
                return Err(Problem { at, found: "a string without end".into(), expected: format!("a closing {quote}") });
            };
            self.at += c.len_utf8();
            if c == quote {
                return Ok(string);
            }
            if c == '\\' && !raw {
                string.push(self.escape(here)?);
            } else {
                string.push(c);
            }
        }
    }

    /// The character of an escape whose backslash stands at `at` and is taken.
    fn escape(&mut self, at: usize) -> Result<char, Problem> {
        let wrong = |found: &str| Problem { at, found: format!("the escape {found:?}"), expected: "an escape of CEL".into() };
        let letter = self.rest().chars().next().ok_or_else(|| wrong("\\"))?;
        let (digits, radix, skip) = match letter {
            'x' | 'X' => (2, 16, 1),
            'u' => (4, 16, 1),
            'U' => (8, 16, 1),
            '0'..='3' => (3, 8, 0),
            _ => {
                self.at += letter.len_utf8();
                return match letter {
                    'a' => Ok('\u{7}'),
                    'b' => Ok('\u{8}'),
                    'f' => Ok('\u{c}'),
                    'n' => Ok('\n'),
                    'r' => Ok('\r'),
                    't' => Ok('\t'),
                    'v' => Ok('\u{b}'),
                    '\\' | '?' | '"' | '\'' | '`' => Ok(letter),
                    _ => Err(wrong(&format!("\\{letter}"))),
                };
            }
        };
        let token = self.rest().get(skip..skip + digits).filter(|t| t.chars().all(|c| c.is_digit(radix)));
        let code = token.and_then(|t| u32::from_str_radix(t, radix).ok()).and_then(char::from_u32);
        self.at += skip + digits;
        code.ok_or_else(|| wrong(&format!("\\{letter}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subset_parses() {
        for text in [
            "data.points > 0",
            "data[\"points\"] >= 1u && type == 'clue.solved'",
            "has(data.a.b) || !(data.x != -1.5e3)",
            "data.kind in [\"a\", 'b', 3, 4u, null, true,]",
            "data.kind in []",
            "!!data.flag",
            "true",
            "(data.a > 1) == false",
            "0x1F <= data.n && .5 < data.m",
            r#"data.s == "\x41\u00e9\U0001F600\101\n\'" || data.s == r'\d'"#,
            "1 < 2",
            "data . points\n==\t5",
            "inner.index == 1",
            "has (data.x)",
        ] {
            let predicate = Predicate::parse(text).unwrap_or_else(|p| panic!("{text}: {p}"));
            let json = serde_json::to_string(&predicate).unwrap();
            assert_eq!(json, serde_json::to_string(text).unwrap());
            assert_eq!(serde_json::from_str::<Predicate>(&json).unwrap(), predicate);
        }
    }

    #[test]
    fn a_configuration_is_refused_what_asks_nothing_of_the_event() {
        for (text, at, found) in [
            ("\"a\" < 3", 0, "`\"a\" < 3`, the same for every event"),
            ("1 == 1", 0, "`1 == 1`, the same for every event"),
            ("data.a > 1 && 'x' != null || data.b", 14, "`'x' != null`, the same for every event"),
            ("data.a && !(2 <= (3))", 12, "`2 <= (3)`, the same for every event"),
            ("data.a || 'x' in ['x', 'y']", 10, "`'x' in ['x', 'y']`, the same for every event"),
            (" true ", 1, "`true`, which reads nothing of the event"),
            ("null", 0, "`null`, which reads nothing of the event"),
            ("!(true && false)", 0, "`!(true && false)`, which reads nothing of the event"),
        ] {
            let problem = Predicate::of_configuration(text).expect_err(text);
            assert_eq!((problem.at, problem.found.as_str()), (at, found), "{text}");
            assert!(problem.expected.starts_with("a member of the event"), "{problem}");
            // A store may hold it.
            assert!(Predicate::parse(text).is_ok(), "{text}");
        }
        for text in
            ["data.flag", "data[\"x-y\"]", "has(data.a)", "3 < data.a", "data.a || true", "(data.a > 1) == false", "data.a in []"]
        {
            assert!(Predicate::of_configuration(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn precedence_is_that_of_cel() {
        let expression = |text| Predicate::parse(text).unwrap().expression;
        assert_eq!(expression("a == 1 || b == 2 && !c"), expression("(a == 1) || ((b == 2) && (!c))"));
        assert_ne!(expression("a || b && c"), expression("(a || b) && c"));
        assert_eq!(expression("!a == b"), expression("(!a) == b"));
        assert_eq!(expression("a['b']"), expression("a.b"));
        assert_eq!(expression(r#"a == "\x41\101\u0041""#), expression("a == 'AAA'"));
    }

    #[test]
    fn everything_else_is_refused_at_its_place() {
        for (text, at) in [
            ("", 0),
            ("   ", 3),
            ("data.points >", 13),
            ("data.points + 1 > 2", 12),
            ("data.points > 1 - 2", 16),
            ("-data.points > 1", 0),
            ("size(data.items) > 1", 0),
            ("data.name.startsWith('a')", 10),
            ("data.items.all(x, x > 1)", 11),
            ("data.a > 1 ? true : false", 11),
            ("data.a = 1", 7),
            ("data.a == 1 &", 12),
            ("data.a & 1", 7),
            ("(data.a == 1", 12),
            ("data.a == 1)", 11),
            ("data.a == 'x", 10),
            ("data.a == '\\q'", 11),
            ("data.a == '\\ud800'", 11),
            ("data.a in data.b", 10),
            ("data.a in [data.b]", 11),
            ("data.a in [1 2]", 13),
            ("data.items[0] == 1", 11),
            ("data. == 1", 6),
            ("1 < data.a < 3", 11),
            ("9223372036854775808 > data.a", 0),
            ("18446744073709551616u > data.a", 0),
            ("1e400 > data.a", 0),
            ("5x > data.a", 0),
            ("data.a == b'x'", 10),
            ("data.a == [1]", 10),
            ("data.a == {}", 10),
            ("data.a && 5", 10),
            ("'x'", 0),
            ("!5", 1),
            ("has(5)", 4),
            ("has(data.a", 10),
            ("data.a == é", 10),
            ("in", 0),
        ] {
            let problem = Predicate::parse(text).expect_err(text);
            assert_eq!(problem.at, at, "{text}: {problem}");
            assert!(!problem.found.is_empty() && !problem.expected.is_empty());
        }
        let deep = format!("{}true{}", "(".repeat(100_000), ")".repeat(100_000));
        assert_eq!(Predicate::parse(&deep).expect_err("too deep").at, MAX_NESTING);
        assert!(Predicate::parse(&"!".repeat(100_000)).is_err());
    }
}
