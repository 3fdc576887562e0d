//! The hunts, a page at a time, and one **hunt**: `/v1/hunts`, `/v1/hunts/{id}`, `/v1/hunts?id=`, each also as a stream.

use super::parameters::{self, Parameters, cursor};
use super::problem::{Answer, Problem, Wrong};
use super::query::text;
use super::{Service, not_allowed, stream};
use crate::store::Status;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use percent_encoding::percent_decode_str;
use serde::Serialize;

#[derive(Serialize)]
struct Page {
    hunts: Vec<Line>,
    /// The cursor of the next page; null: this is the last.
    next: Option<String>,
}

#[derive(Serialize)]
struct Line {
    hunt_id: String,
    events: i64,
    status: Status,
    last_event_at: Option<String>,
}

/// `GET /v1/hunts`: a page, or with `id` one hunt.
pub async fn list(service: web::Data<Service>, request: HttpRequest) -> Answer {
    let mut parameters = Parameters::read(request.query_string(), &["limit", "cursor", "status", "id", "stream"]);
    if parameters.has("id") {
        for name in ["limit", "cursor", "status"] {
            if parameters.has(name) {
                parameters.refuse(name, "it beside id", "id, and stream at most");
            }
        }
        let id = parameters.hunt("id");
        let streamed = parameters.one("stream", &[("true", true), ("false", false)]) == Some(true);
        parameters.done()?;
        let id = id.unwrap_or_default();
        return if streamed { stream::follow(&service, &request, id).await } else { one(&service, &id).await };
    }
    if parameters.has("stream") {
        parameters.refuse("stream", "it without id", "it beside id");
    }
    let limit = parameters.limit();
    let after = parameters.cursor::<String>();
    let status = parameters.one("status", &[("live", Status::Live), ("lagging", Status::Lagging), ("parked", Status::Parked)]);
    parameters.done()?;

    // One more than asked for tells whether there is another page.
    let mut found = service.query.stored.hunts(after.as_deref(), limit + 1, status).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|last| cursor(&last.hunt_id));
    let hunts = found
        .into_iter()
        .map(|line| Line {
            hunt_id: line.hunt_id,
            events: line.events,
            status: line.status,
            last_event_at: text(line.last_event_at),
        })
        .collect();
    Ok(HttpResponse::Ok().json(Page { hunts, next }))
}

/// `GET /v1/hunts/{id}`.
pub async fn show(service: web::Data<Service>, request: HttpRequest) -> Answer {
    Parameters::read(request.query_string(), &[]).done()?;
    one(&service, &named(&request)?).await
}

/// `GET /v1/hunts/{id}/stream`.
pub async fn stream(service: web::Data<Service>, request: HttpRequest) -> Answer {
    Parameters::read(request.query_string(), &[]).done()?;
    stream::follow(&service, &request, named(&request)?).await
}

async fn one(service: &Service, id: &str) -> Answer {
    Ok(HttpResponse::Ok().json(service.query.hunt(id).await?))
}

/// The hunt id in the path. Read from the path as it was sent: the router's own decoding keeps `%2F` and mends what is not UTF-8.
fn named(request: &HttpRequest) -> Result<String, Problem> {
    let segment = request.uri().path().split('/').nth(3).unwrap_or("");
    let wrong = |found: &str| {
        Problem::parameters(vec![Wrong { parameter: "id".into(), found: found.into(), expected: parameters::HUNT.into() }])
    };
    let id = percent_decode_str(segment).decode_utf8().map_err(|_| wrong("bytes that are not UTF-8"))?;
    match parameters::unfit(&id) {
        None => Ok(id.into_owned()),
        Some(found) => Err(wrong(found)),
    }
}

/// A stream has no head without its body.
pub fn must_be_get(request: &HttpRequest) -> Result<(), Problem> {
    if request.method() == Method::GET {
        return Ok(());
    }
    Err(not_allowed(request, "GET").header(actix_web::http::header::ALLOW, "GET"))
}
