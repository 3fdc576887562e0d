//! The **dead letters**: a page of them with the beginning of each value, and one whole.
//!
//! A reader sees where, when and why; what a record contains (key, value, headers, the detail, which may quote it) is for admins.
//! A page is bounded in bytes as well as in letters, so that a thousand large values never stand in memory at once.

use super::Service;
use super::auth::Role;
use super::parameters::{Parameters, Segments, cursor};
use super::problem::{Answer, Problem};
use super::query::text;
use crate::outcome::Reason;
use crate::position::{Offset, Position};
use crate::record::PartitionId;
use crate::store::{DeadLetter, LetterFilter, LetterState};
use actix_web::http::StatusCode;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use std::sync::Arc;

/// Of each key and value in a list.
const PREVIEW_BYTES: usize = 4096;
/// A page ends early once it holds so much.
const PAGE_BYTES: usize = 4 << 20;
/// Letters asked of the store at a time, each up to `event.max_bytes` long.
const CHUNK: u32 = 16;
const STATES: [(&str, &str); 3] = [("rejected", "rejected"), ("replayed", "replayed"), ("discarded", "discarded")];

#[derive(Serialize)]
struct Page {
    dead_letters: Vec<Letter>,
    /// The cursor of the next page, which may follow a page shorter than asked for; null: this is the last.
    next: Option<String>,
}

#[derive(Serialize)]
struct Letter {
    topic: Arc<str>,
    partition: i32,
    offset: Offset,
    hunt_id: Option<String>,
    reason: Reason,
    state: LetterState,
    record_at: Option<String>,
    failed_at: String,
    applied_at: Option<Position>,
    /// Left out for readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    contents: Option<Contents>,
}

#[derive(Serialize)]
struct Contents {
    detail: String,
    key: Option<Blob>,
    value: Option<Blob>,
    /// Name and base64; null is a header without a value.
    headers: Vec<(String, Option<String>)>,
}

#[derive(Serialize)]
struct Blob {
    base64: String,
    /// Where the bytes are UTF-8.
    text: Option<String>,
    /// How many bytes there are; more than are shown if `truncated`.
    bytes: usize,
    truncated: bool,
}

/// `GET /v1/dead-letters`.
pub async fn list(service: web::Data<Service>, request: HttpRequest) -> Answer {
    let mut parameters = Parameters::read(request.query_string(), &["reason", "hunt", "state", "cursor", "limit"]);
    let reasons = Reason::ALL.map(|reason| (reason.as_str(), reason.as_str()));
    let limit = parameters.limit();
    let after = parameters.cursor::<(String, i32, i64)>();
    let mut filter = LetterFilter {
        reason: parameters.one("reason", &reasons).map(str::to_owned),
        hunt: parameters.hunt("hunt"),
        state: parameters.one("state", &STATES).map(str::to_owned),
        after: after.map(|(topic, partition, offset)| (PartitionId::new(&topic, partition), Offset(offset))),
        limit: 0,
    };
    parameters.done()?;

    let admin = is_admin(&request);
    let mut page = Page { dead_letters: Vec::new(), next: None };
    let mut bytes = 0;
    loop {
        let wanted = (limit as usize - page.dead_letters.len()).min(CHUNK as usize);
        // One more than wanted tells whether there is another page.
        filter.limit = wanted as u32 + 1;
        let mut found = service.query.stored.dead_letters(&filter).await?;
        let more = found.len() > wanted;
        found.truncate(wanted);
        for letter in found {
            filter.after = Some((letter.partition.clone(), letter.offset));
            let letter = shown(letter, admin, PREVIEW_BYTES);
            bytes += letter.contents.as_ref().map_or(0, Contents::weight);
            page.dead_letters.push(letter);
        }
        if !more {
            break;
        }
        if page.dead_letters.len() == limit as usize || bytes >= PAGE_BYTES {
            page.next =
                filter.after.as_ref().map(|(partition, offset)| cursor(&(&*partition.topic, partition.partition, offset.0)));
            break;
        }
    }
    Ok(HttpResponse::Ok().json(page))
}

/// `GET /v1/dead-letters/{topic}/{partition}/{offset}`.
pub async fn show(service: web::Data<Service>, request: HttpRequest) -> Answer {
    Parameters::read(request.query_string(), &[]).done()?;
    let mut segments = Segments::of(request.uri().path());
    let topic = segments.text(3);
    let (partition, offset) = (segments.number(4, "partition", i64::from(i32::MAX)), segments.number(5, "offset", i64::MAX));
    segments.done()?;
    let partition = PartitionId::new(&topic, partition as i32);
    let letter = service.query.stored.dead_letter(&partition, Offset(offset)).await?;
    let letter =
        letter.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "unknown-dead-letter", "this record is no dead letter"))?;
    Ok(HttpResponse::Ok().json(shown(letter, is_admin(&request), usize::MAX)))
}

fn is_admin(request: &HttpRequest) -> bool {
    request.extensions().get::<Role>().is_some_and(|role| *role >= Role::Admin)
}

fn shown(letter: DeadLetter, admin: bool, longest: usize) -> Letter {
    let contents = admin.then(|| Contents {
        detail: letter.detail,
        key: letter.key.map(|bytes| Blob::of(&bytes, longest)),
        value: letter.value.map(|bytes| Blob::of(&bytes, longest)),
        headers: letter.headers.into_iter().map(|(name, value)| (name, value.map(|value| STANDARD.encode(value)))).collect(),
    });
    Letter {
        topic: letter.partition.topic,
        partition: letter.partition.partition,
        offset: letter.offset,
        hunt_id: letter.hunt_id,
        reason: letter.reason,
        state: letter.state,
        record_at: text(letter.record_at),
        failed_at: letter.failed_at.to_string(),
        applied_at: letter.applied_at,
        contents,
    }
}

impl Contents {
    fn weight(&self) -> usize {
        let blob =
            |blob: &Option<Blob>| blob.as_ref().map_or(0, |blob| blob.base64.len() + blob.text.as_ref().map_or(0, String::len));
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len)).sum();
        self.detail.len() + blob(&self.key) + blob(&self.value) + headers
    }
}

impl Blob {
    fn of(bytes: &[u8], longest: usize) -> Self {
        let part = &bytes[..bytes.len().min(longest)];
        // A cut may fall inside a character; only the whole tells whether these bytes are text.
        let text = std::str::from_utf8(bytes).ok().map(|_| match std::str::from_utf8(part) {
            Ok(text) => text.to_owned(),
            Err(error) => String::from_utf8_lossy(&part[..error.valid_up_to()]).into_owned(),
        });
        Self { base64: STANDARD.encode(part), text, bytes: bytes.len(), truncated: part.len() < bytes.len() }
    }
}
