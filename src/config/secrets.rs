//! **Secrets**: what must never be shown, how it is told from the rest, and the files it comes from.
//!
//! Invariant: everything this module calls secret is shown as [`MASK`], in messages, excerpts of
//! files, the effective configuration and `Debug`.

use percent_encoding::percent_decode_str;
use serde::{Serialize, Serializer};
use std::fmt;
use std::ops::Range;

/// What stands in place of a secret.
pub(crate) const MASK: &str = "***";

/// A password or token. Only [`Secret::reveal`] gives it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// Whether a librdkafka property holds a secret.
pub(super) fn is_secret_property(name: &str) -> bool {
    let public_file = name.ends_with(".location");
    !public_file
        && ["password", "secret", "key.pem", "ssl_key", "jaas", "oauthbearer.config", "private.key"]
            .iter()
            .any(|part| name.contains(part))
}

/// Whether a key, at whatever place, holds a secret or looks like one that does and is misspelt.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_lowercase();
    if key.ends_with("_file") {
        return false;
    }
    let named = ["password", "passwd", "token", "secret"].iter().any(|part| key.contains(part)) || is_secret_property(&key);
    let near = |name: &str| strsim::damerau_levenshtein(&key, name) <= 2;
    named || ["password", "sasl_password", "sasl.password", "read_tokens", "admin_tokens"].into_iter().any(near)
}

/// The URL with its password, if it has one, masked: that of the authority and that of a `password` parameter.
pub(super) fn mask_url(url: &str) -> String {
    let mut masked = url.to_owned();
    for range in url_passwords(url).into_iter().rev() {
        masked.replace_range(range, MASK);
    }
    masked
}

/// The URL without passwords, and the password it held (the parameter's, if it has both).
pub(super) fn split_url(url: &str) -> (String, Option<Secret>) {
    let mut bare = url.to_owned();
    let ranges = url_passwords(url);
    let password = ranges.last().map(|range| Secret::new(percent_decode_str(&url[range.clone()]).decode_utf8_lossy()));
    for range in ranges.into_iter().rev() {
        let name = bare[..range.start].rfind("password=").filter(|at| at + "password=".len() == range.start);
        match name {
            // `?password=x&a=b` becomes `?a=b`, `?a=b&password=x` becomes `?a=b`.
            Some(at) if bare[range.end..].starts_with('&') => bare.replace_range(at..range.end + 1, ""),
            Some(at) => bare.replace_range(at - 1..range.end, ""),
            None => bare.replace_range(range.start - 1..range.end, ""),
        }
    }
    (bare, password)
}

/// Where passwords stand in a URL.
fn url_passwords(url: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let Some(scheme) = url.find("://") else { return found };
    let start = scheme + 3;
    let query = url[start..].find('?').map(|at| start + at);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    // A password that is not percent-encoded may itself hold a slash or a question mark: the last `@` before the query counts.
    let authority_end = url[start..query.unwrap_or(url.len())].rfind('@').map_or(end, |at| start + at);
    if let Some(colon) = url[start..authority_end].find(':')
        && url[authority_end..].starts_with('@')
    {
        found.push(start + colon + 1..authority_end);
    }
    if let Some(query) = query.filter(|at| *at >= authority_end) {
        let mut at = query + 1;
        for pair in url[at..].split('&') {
            if let Some(value) = pair.strip_prefix("password=") {
                found.push(at + pair.len() - value.len()..at + pair.len());
            }
            at += pair.len() + 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_found_wherever_it_stands() {
        for (url, masked, bare, password) in [
            ("postgres://u:p@h/db", "postgres://u:***@h/db", "postgres://u@h/db", Some("p")),
            ("postgres://u@h:5432/db", "postgres://u@h:5432/db", "postgres://u@h:5432/db", None),
            ("postgres://h:5432/db", "postgres://h:5432/db", "postgres://h:5432/db", None),
            (
                "postgres://u:a%40b@h:1/db?sslmode=require",
                "postgres://u:***@h:1/db?sslmode=require",
                "postgres://u@h:1/db?sslmode=require",
                Some("a@b"),
            ),
            ("postgres://u:a/b@h/db", "postgres://u:***@h/db", "postgres://u@h/db", Some("a/b")),
            ("postgres://h/db?password=x&a=b", "postgres://h/db?password=***&a=b", "postgres://h/db?a=b", Some("x")),
            ("postgres://h/db?a=b&password=x", "postgres://h/db?a=b&password=***", "postgres://h/db?a=b", Some("x")),
            ("postgres://h/db?password=x", "postgres://h/db?password=***", "postgres://h/db", Some("x")),
            ("postgres://u:p@h/db?password=x", "postgres://u:***@h/db?password=***", "postgres://u@h/db", Some("x")),
            ("sqlite:huntline.db", "sqlite:huntline.db", "sqlite:huntline.db", None),
        ] {
            assert_eq!(mask_url(url), masked);
            let (without, found) = split_url(url);
            assert_eq!((without.as_str(), found.as_ref().map(Secret::reveal)), (bare, password), "{url}");
        }
    }

    #[test]
    fn keys_that_hold_secrets_are_known_even_misspelt() {
        for key in
            ["password", "pasword", "sasl_password", "read_tokens", "admin_token", "sasl.password", "ssl.key.pem", "Passwort"]
        {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["password_file", "topics", "brokers", "ssl.key.location", "url", "sasl.mechanism"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), MASK);
        assert_eq!(serde_json::to_string(&secret).expect("a string"), "\"***\"");
    }
}
