//! A **problem** is what the API answers instead of an answer: RFC 9457 problem details, for every error, whatever its cause.
//!
//! Routes return it as their `Err`. Invariant: it names the thing, what was found and what was expected where the caller can mend
//! it, and says nothing of the inside (addresses, SQL, file names) where they cannot; that goes to the log.

use super::query::Failure;
use crate::store;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use std::fmt;

#[derive(Debug, Serialize)]
pub struct Problem {
    /// `urn:huntline:problem:NAME`; the names never change.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    /// Each parameter that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Wrong>,
    /// Why the instance is not ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    #[serde(skip)]
    headers: Vec<(header::HeaderName, &'static str)>,
}

/// A parameter that cannot be taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Wrong {
    pub parameter: String,
    pub found: String,
    pub expected: String,
}

pub type Answer = Result<HttpResponse, Problem>;

impl Problem {
    pub fn new(status: StatusCode, name: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:huntline:problem:{name}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            reasons: Vec::new(),
            headers: Vec::new(),
        }
    }

    pub fn parameters(errors: Vec<Wrong>) -> Self {
        let detail = errors
            .iter()
            .map(|wrong| format!("{}: found {}, expected {}", wrong.parameter, wrong.found, wrong.expected))
            .collect::<Vec<_>>()
            .join("; ");
        Self { errors, ..Self::new(StatusCode::BAD_REQUEST, "parameter", detail) }
    }

    pub fn unknown_hunt() -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown-hunt", "no event of this hunt was ever applied or held")
    }

    pub fn not_ready(reasons: Vec<String>) -> Self {
        Self { reasons: reasons.clone(), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", reasons.join("; ")) }
    }

    /// With a header on the answer.
    pub fn header(mut self, name: header::HeaderName, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        for (name, value) in &self.headers {
            response.insert_header((name.clone(), *value));
        }
        let body = serde_json::to_string(self).expect("a problem is strings and numbers");
        response.insert_header((header::CONTENT_TYPE, "application/problem+json")).body(body)
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        tracing::warn!(%error, "a query found the store not answering");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store", "the store does not answer now").header(header::RETRY_AFTER, "1")
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unknown => Self::unknown_hunt(),
            Failure::Store(error) => error.into(),
            Failure::Broken(error) => {
                tracing::error!(%error, "a hunt's view cannot be made");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "defect", "the hunt's view cannot be made; the log says why")
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.title, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        self.response()
    }
}
