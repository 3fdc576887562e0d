//! The **headers** of a dead letter as both stores keep them: `[[name, base64 or null], …]` as JSON text.
//!
//! Invariant: [`read`] of [`write`] gives the same headers. `jsonb` refuses U+0000, so a NUL in a name is written `%00`; to tell it
//! from a name that says so itself, a `%` before `00` or `25` is written `%25`. Every other name stands as it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub(super) type Header = (String, Option<Vec<u8>>);

pub(super) fn write(headers: &[Header]) -> String {
    let rows: Vec<(String, Option<String>)> =
        headers.iter().map(|(name, value)| (escape(name), value.as_ref().map(|bytes| STANDARD.encode(bytes)))).collect();
    serde_json::to_string(&rows).expect("strings serialise")
}

/// The error says what was found instead of headers.
pub(super) fn read(text: &str) -> Result<Vec<Header>, String> {
    let rows: Vec<(String, Option<String>)> =
        serde_json::from_str(text).map_err(|e| format!("headers of a dead letter are not [[name, base64 or null], …]: {e}"))?;
    rows.into_iter()
        .map(|(name, value)| {
            let value = value
                .map(|value| STANDARD.decode(value))
                .transpose()
                .map_err(|e| format!("a dead letter's header {name:?}: {e}"))?;
            Ok((unescape(&name), value))
        })
        .collect()
}

fn escape(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for (at, c) in name.char_indices() {
        match c {
            '\0' => text.push_str("%00"),
            '%' if name[at + 1..].starts_with("00") || name[at + 1..].starts_with("25") => text.push_str("%25"),
            c => text.push(c),
        }
    }
    text
}

fn unescape(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        name.push_str(&rest[..at]);
        let (c, taken) = match &rest[at + 1..] {
            after if after.starts_with("00") => ('\0', 3),
            after if after.starts_with("25") => ('%', 3),
            _ => ('%', 1),
        };
        name.push(c);
        rest = &rest[at + taken..];
    }
    name + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_went() {
        for name in ["", "trace", "100%", "a%00b", "%25", "%2500", "a\0b", "%\0", "%%25%00\0", "ключ", "%FF"] {
            let headers = vec![(name.to_owned(), Some(vec![0, 255])), (name.to_owned(), None), (name.to_owned(), Some(vec![]))];
            let text = write(&headers);
            assert!(!text.contains("\\u0000"), "{text}");
            assert_eq!(read(&text), Ok(headers), "{text}");
        }
        assert_eq!(write(&[("100%".into(), None)]), r#"[["100%",null]]"#);
        assert!(read("{}").is_err());
    }
}
