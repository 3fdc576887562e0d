//! **Auth**: who may ask. Bearer tokens from the configuration make a [`Role`]; without any configured, everyone is an admin,
//! which the configuration permits on loopback or on `insecure = true` alone.
//!
//! Also here, what keeps a browser from being used against a daemon on loopback: a page elsewhere may make its visitor's browser
//! call 127.0.0.1 (a forged request) or a name that it re-points there (DNS rebinding). Tokens are never sent by a browser on its
//! own, so requests with one need neither check.

use super::problem::Problem;
use actix_web::http::header::{self, HeaderMap};
use actix_web::http::{Method, StatusCode, Uri};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, SocketAddr};

/// What a request may do; each may do what the one before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Ask whether the daemon is alive and ready, and load the console's page, which holds no data.
    Anyone,
    Reader,
    /// Act, and see what dead letters contain.
    Admin,
}

/// The tokens, as digests: comparing digests says nothing about the tokens, however long the comparison takes.
pub struct Auth {
    tokens: Vec<([u8; 32], Role)>,
}

impl Auth {
    pub fn new(read_tokens: &[String], admin_tokens: &[String]) -> Self {
        let of = |tokens: &[String], role| tokens.iter().map(|token| (digest(token), role)).collect::<Vec<_>>();
        Self { tokens: [of(read_tokens, Role::Reader), of(admin_tokens, Role::Admin)].concat() }
    }

    pub fn configured(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// The role of a request; refused when it carries a token that is none of ours.
    pub fn role(&self, headers: &HeaderMap) -> Result<Role, Problem> {
        if !self.configured() {
            return Ok(Role::Admin);
        }
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(Role::Anyone) };
        let token = value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let given = token.map(|(_, token)| digest(token.trim()));
        // Every token is compared, whole, whichever matches.
        let mut role = Role::Anyone;
        for (known, of) in &self.tokens {
            let same = given.is_some_and(|given| known.iter().zip(given).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0);
            if same {
                role = role.max(*of);
            }
        }
        if role == Role::Anyone { Err(unauthorized("the token is none of those configured")) } else { Ok(role) }
    }

    /// Whether `role` reaches `needed`.
    pub fn permit(&self, role: Role, needed: Role) -> Result<(), Problem> {
        match role {
            _ if role >= needed => Ok(()),
            Role::Anyone => Err(unauthorized("a bearer token is needed")),
            _ => Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "an admin token is needed")),
        }
    }
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).header(header::WWW_AUTHENTICATE, "Bearer realm=\"huntline\"")
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Tells requests that a browser was tricked into.
pub struct Origins {
    /// The names this daemon goes by; `None`: any (it does not listen on loopback, or tokens protect it).
    hosts: Option<Vec<String>>,
}

impl Origins {
    /// `listen` and `advertise` as configured: the names in them are ours.
    pub fn new(address: SocketAddr, listen: &str, advertise: &str, auth: &Auth) -> Self {
        let guarded = address.ip().is_loopback() && !auth.configured();
        let advertised: Option<Uri> = advertise.parse().ok();
        let names = [host(listen), advertised.as_ref().and_then(Uri::host).unwrap_or("")];
        let hosts = names.into_iter().filter(|name| !name.is_empty()).map(str::to_ascii_lowercase).collect();
        Self { hosts: guarded.then_some(hosts) }
    }

    pub fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let ours = text(header::HOST);
        if let Some(hosts) = &self.hosts {
            let name = host(ours.unwrap_or("")).to_ascii_lowercase();
            // A page can re-point a name, never an address.
            let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
            if !address && name != "localhost" && !hosts.contains(&name) {
                let detail =
                    format!("found host {name:?}, expected localhost, an address, or the name in [http] listen or advertise");
                return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "host", detail));
            }
        }
        let origin = text(header::ORIGIN);
        let foreign = origin.is_some_and(|origin| origin.split_once("://").map(|(_, authority)| authority) != ours);
        let site = text(header::HeaderName::from_static("sec-fetch-site"));
        // Following a link from elsewhere is how people arrive; anything else from elsewhere is not asked for by a person.
        let link = *method == Method::GET && text(header::HeaderName::from_static("sec-fetch-mode")) == Some("navigate");
        let elsewhere = matches!(site, Some("cross-site" | "same-site")) && !link;
        if (foreign || elsewhere) && !headers.contains_key(header::AUTHORIZATION) {
            return Err(Problem::new(StatusCode::FORBIDDEN, "cross-origin", "requests from other sites' pages are not answered"));
        }
        Ok(())
    }
}

/// The host of `host:port`, brackets kept.
fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn tokens_make_roles() {
        let auth = Auth::new(&["reads".into()], &["acts".into()]);
        assert_eq!(auth.role(&headers(&[])).unwrap(), Role::Anyone);
        assert_eq!(auth.role(&headers(&[("authorization", "Bearer reads")])).unwrap(), Role::Reader);
        assert_eq!(auth.role(&headers(&[("authorization", "bearer acts")])).unwrap(), Role::Admin);
        for wrong in ["Bearer read", "Bearer readss", "Basic reads", "Bearer ", "reads"] {
            assert!(auth.role(&headers(&[("authorization", wrong)])).is_err(), "{wrong}");
        }
        assert_eq!(Auth::new(&[], &[]).role(&headers(&[])).unwrap(), Role::Admin);
        assert_eq!(Auth::new(&[], &["acts".into()]).role(&headers(&[])).unwrap(), Role::Anyone);
    }

    #[test]
    fn on_loopback_only_our_own_names_are_answered() {
        let open = Auth::new(&[], &[]);
        let origins = Origins::new("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:8080", "http://hunts.example:8080", &open);
        for (host, expected) in [
            ("127.0.0.1:8080", true),
            ("localhost:8080", true),
            ("LOCALHOST", true),
            ("[::1]:8080", true),
            ("hunts.example:8080", true),
            ("evil.example", false),
            ("localhost.evil.example:8080", false),
            ("", false),
        ] {
            assert_eq!(origins.check(&Method::GET, &headers(&[("host", host)])).is_ok(), expected, "{host}");
        }
        let anywhere = Origins::new("10.0.0.1:8080".parse().unwrap(), "0.0.0.0:8080", "", &open);
        assert!(anywhere.check(&Method::GET, &headers(&[("host", "huntline:8080")])).is_ok());
        let tokens = Auth::new(&["reads".into()], &[]);
        let proxied = Origins::new("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:8080", "", &tokens);
        assert!(proxied.check(&Method::GET, &headers(&[("host", "hunts.example")])).is_ok());
    }

    #[test]
    fn other_sites_pages_are_refused_but_links_from_them_are_followed() {
        let origins = Origins::new("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:8080", "", &Auth::new(&[], &[]));
        let check = |method: Method, pairs: &[(&'static str, &'static str)]| {
            let mut all = headers(&[("host", "localhost:8080")]);
            for (name, value) in headers(pairs) {
                all.insert(name, value);
            }
            origins.check(&method, &all).is_ok()
        };
        assert!(check(Method::GET, &[("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")]));
        assert!(!check(Method::POST, &[("origin", "http://localhost:3000")]));
        assert!(!check(Method::POST, &[("origin", "null")]));
        assert!(!check(Method::GET, &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]));
        assert!(!check(Method::POST, &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]));
        assert!(check(Method::GET, &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]));
        assert!(check(Method::POST, &[]));
    }
}
