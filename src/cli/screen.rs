//! The **screen**: what people read. Text that cannot harm a terminal, aligned tables, and a frame that is drawn over itself.
//!
//! The commands hand it what an answer says. Invariant: no control character of an answer reaches the terminal as it is, and on a
//! terminal no line is wider than it.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

/// Between two columns.
const GAP: usize = 2;
/// What a column is never cut below.
const NARROW: usize = 8;

/// `text` with everything a terminal might obey, or that would reorder or hide the rest, written as `\u{…}`.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(obeyed) {
        return Cow::Borrowed(text);
    }
    let escape = |char: char| if obeyed(char) { char.escape_unicode().to_string() } else { char.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

fn obeyed(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `noun` for one of it, else with an s.
pub fn plural(count: u64, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

/// JSON as it came; for a terminal with the control characters that JSON allows in strings escaped, which says the same.
pub fn json(text: &str, terminal: bool) -> Cow<'_, str> {
    let obeyed = |char: char| matches!(char, '\u{7f}'..='\u{9f}');
    if !terminal || !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let escape = |char: char| if obeyed(char) { format!("\\u{:04x}", u32::from(char)) } else { char.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// Columns and lines of the terminal on standard output; `None`: it is none.
pub fn size() -> Option<(usize, usize)> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills the structure it is given, which lives until the call returns.
    let told = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) } == 0;
    let or = |told_size: u16, usual| if told && told_size > 0 { usize::from(told_size) } else { usual };
    Some((or(size.ws_col, 80), or(size.ws_row, 24)))
}

/// Columns a text takes. Wide characters take two, those that combine none.
pub fn width(text: &str) -> usize {
    let wide = |char: char| {
        matches!(u32::from(char), 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f
            | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1f64f | 0x1f680..=0x1faff | 0x20000..=0x3fffd)
    };
    let none = |char: char| matches!(u32::from(char), 0x300..=0x36f | 0x1ab0..=0x1aff | 0x20d0..=0x20ff | 0xfe00..=0xfe0f);
    text.chars().map(|char| if none(char) { 0 } else { 1 + usize::from(wide(char)) }).sum()
}

/// `text` in at most `room` columns, `…` in place of what does not fit.
pub fn cut(text: &str, room: usize) -> Cow<'_, str> {
    if width(text) <= room {
        return Cow::Borrowed(text);
    }
    let mut taken = String::new();
    for char in text.chars() {
        taken.push(char);
        if width(&taken) >= room {
            taken.pop();
            break;
        }
    }
    taken.push('…');
    Cow::Owned(taken)
}

/// Rows under one heading. Widths only grow, so that pages of one list stay aligned.
pub struct Table {
    columns: Vec<Column>,
    widths: Vec<usize>,
    headed: bool,
}

#[derive(Clone, Copy)]
pub struct Column {
    pub title: &'static str,
    pub right: bool,
    /// Cut before others when the terminal is narrow.
    pub soft: bool,
}

impl Column {
    pub const fn soft(self) -> Self {
        Self { soft: true, ..self }
    }
}

/// Text begins at its column's left, numbers end at its right.
pub const fn left(title: &'static str) -> Column {
    Column { title, right: false, soft: false }
}

pub const fn right(title: &'static str) -> Column {
    Column { title, right: true, soft: false }
}

impl Table {
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        let columns = columns.into();
        let widths = columns.iter().map(|column| width(column.title)).collect();
        Self { columns, widths, headed: false }
    }

    /// The lines of `rows`, cells already plain; the first call's begin with the heading. `room`: columns of the terminal.
    pub fn lines(&mut self, rows: &[Vec<String>], room: Option<usize>) -> Vec<String> {
        for row in rows {
            for (at, cell) in row.iter().enumerate() {
                self.widths[at] = self.widths[at].max(width(cell));
            }
        }
        if let Some(room) = room {
            self.fit(room);
        }
        let titled = self.columns.iter().any(|column| !column.title.is_empty());
        let heading = (titled && !self.headed).then(|| self.columns.iter().map(|column| column.title.to_owned()).collect());
        self.headed = true;
        heading.iter().chain(rows).map(|row: &Vec<String>| self.line(row)).map(|line| fitting(line, room)).collect()
    }

    /// Narrows the widest columns until all fit, soft ones first.
    fn fit(&mut self, room: usize) {
        let gaps = GAP * (self.widths.len().saturating_sub(1));
        while self.widths.iter().sum::<usize>() + gaps > room {
            let columns = self.widths.iter_mut().zip(&self.columns);
            let widest = columns.filter(|(wide, _)| **wide > NARROW).max_by_key(|(wide, column)| (column.soft, **wide));
            let Some((widest, _)) = widest else { return };
            *widest -= 1;
        }
    }

    fn line(&self, row: &[String]) -> String {
        let mut line = String::new();
        for ((cell, wide), column) in row.iter().zip(&self.widths).zip(&self.columns) {
            let cell = cut(cell, *wide);
            let pad = " ".repeat(wide - width(&cell).min(*wide));
            let parts = if column.right { [&pad, &*cell] } else { [&*cell, &pad] };
            line.extend(parts);
            line.push_str(&" ".repeat(GAP));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// A line cut to the terminal.
pub fn fitting(line: String, room: Option<usize>) -> String {
    match room {
        Some(room) => cut(&line, room).into_owned(),
        None => line,
    }
}

/// Lines that the next ones are drawn over.
#[derive(Default)]
pub struct Frame {
    /// How many lines stand there.
    drawn: usize,
}

impl Frame {
    /// Draws `lines` in place of the last ones, as many as the terminal has room for.
    pub fn draw(&mut self, lines: &[String], (columns, rows): (usize, usize)) -> io::Result<()> {
        let room = rows.saturating_sub(1).max(1);
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A\r", self.drawn));
        }
        let fits = lines.len() <= room;
        let shown = if fits { lines } else { &lines[..room - 1] };
        for line in shown {
            text.push_str(&cut(line, columns));
            text.push_str("\x1b[K\n");
        }
        if !fits {
            text.push_str(&cut(&format!("… {} more lines", lines.len() - shown.len()), columns));
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        self.drawn = shown.len() + usize::from(!fits);
        // In one write, so that nobody sees half a frame.
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(plain("harbour-42 é 宝"), "harbour-42 é 宝");
        assert_eq!(plain("a\u{1b}[2J\r\nb\u{9b}c\u{202e}"), "a\\u{1b}[2J\\u{d}\\u{a}b\\u{9b}c\\u{202e}");
        assert_eq!(json("{\"a\":\"\u{9b}\u{7f}é\"}", true), "{\"a\":\"\\u009b\\u007fé\"}");
        assert_eq!(json("{\"a\":\"\u{9b}\"}", false), "{\"a\":\"\u{9b}\"}");
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|count| plural(count, "record")), ["records", "record", "records"]);
    }

    #[test]
    fn rows_are_aligned_and_fit() {
        let mut table = Table::new([left("HUNT"), right("EVENTS"), left("STATUS")]);
        let row = |hunt: &str, events: &str| vec![hunt.to_owned(), events.to_owned(), "live".to_owned()];
        let lines = table.lines(&[row("harbour-42", "7"), row("宝", "1234567")], None);
        assert_eq!(lines, ["HUNT         EVENTS  STATUS", "harbour-42        7  live", "宝          1234567  live"]);
        let lines = table.lines(&[row(&"x".repeat(300), "1")], Some(40));
        assert_eq!(lines.len(), 1, "one heading a list");
        assert!(width(&lines[0]) <= 40 && lines[0].contains("x…") && lines[0].ends_with("1  live"), "{lines:?}");
    }

    #[test]
    fn a_cut_text_says_so() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
        assert_eq!(cut("宝宝宝宝", 6), "宝宝…");
    }
}
