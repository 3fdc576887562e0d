//! From a place in a TOML string's meaning to the place in its source.

/// The byte in `raw`, a TOML string with its quotes, at which byte `at` of its value is written.
pub(super) fn raw_offset(raw: &str, at: usize) -> usize {
    let multi_line = raw.starts_with("\"\"\"") || raw.starts_with("'''");
    let basic = raw.starts_with('"');
    let mut place = if multi_line { 3 } else { usize::from(raw.starts_with(['"', '\''])) };
    if multi_line {
        // A newline right after the quotes is not part of the value.
        place += if raw[place..].starts_with("\r\n") { 2 } else { usize::from(raw[place..].starts_with('\n')) };
    }
    let mut value = 0;
    while place < raw.len() {
        let rest = &raw[place..];
        let continues = basic && multi_line && rest.starts_with('\\') && rest[1..].starts_with(char::is_whitespace);
        if value >= at && !continues {
            break;
        }
        let mut chars = rest.chars();
        match (chars.next(), chars.next()) {
            (Some('\\'), Some(escape)) if basic => {
                let hex = |digits: usize| {
                    rest.get(2..2 + digits).and_then(|h| u32::from_str_radix(h, 16).ok()).and_then(char::from_u32)
                };
                match escape {
                    'u' => (value, place) = (value + hex(4).map_or(1, char::len_utf8), place + 6),
                    'U' => (value, place) = (value + hex(8).map_or(1, char::len_utf8), place + 10),
                    c if c.is_whitespace() => {
                        // A backslash at a line's end takes away the white space after it.
                        let body = &rest[1..];
                        place += 1 + body.len() - body.trim_start().len();
                    }
                    _ => (value, place) = (value + 1, place + 2),
                }
            }
            (Some(c), _) => (value, place) = (value + c.len_utf8(), place + c.len_utf8()),
            (None, _) => break,
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use super::raw_offset;

    #[test]
    fn places_in_a_value_are_found_in_its_source() {
        for (raw, at, place) in [
            ("\"abc\"", 0, 1),
            ("\"abc\"", 2, 3),
            ("'a\\c'", 2, 3),
            (r#""a \"x\" b""#, 6, 9),
            (r#""\u00e9b""#, 2, 7),
            ("\"\"\"\nab\"\"\"", 1, 5),
            ("'''ab'''", 1, 4),
            ("\"\"\"a \\\n   b\"\"\"", 2, 10),
            ("\"é=\"", 2, 3),
            ("\"ab\"", 9, 4),
        ] {
            assert_eq!(raw_offset(raw, at), place, "{raw} {at}");
        }
    }
}
