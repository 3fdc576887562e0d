//! An **act** asked over HTTP: written down in the store, carried out by the owner of its partition at its next checkpoint, and
//! waited for as long as the caller wants, up to a bound.
//!
//! Invariant: the answer is 202 once the act is written down, whatever comes of it or of the wait: it is not asked twice because
//! somebody lost patience.

use super::Service;
use super::parameters::Parameters;
use super::problem::Answer;
use crate::store::Ask;
use crate::time::{Micros, format_duration, parse_duration};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep_until};

/// Longest wait; with what else a request takes it stays below the deadline of an answer.
const LONGEST: Duration = Duration::from_secs(8);
/// Between two looks.
const PACE: Duration = Duration::from_millis(100);

#[derive(Serialize)]
struct Asked {
    id: i64,
    act: &'static str,
    done: bool,
    /// What came of it, in words; null: it is not done yet.
    result: Option<String>,
}

/// `wait=`: how long to wait for the act to be done; without it not at all.
pub fn wait(parameters: &mut Parameters) -> Duration {
    let Some(text) = parameters.text("wait") else { return Duration::ZERO };
    let wait = parse_duration(&text).ok().and_then(|micros| u64::try_from(micros).ok()).map(Duration::from_micros);
    match wait.filter(|wait| *wait <= LONGEST) {
        Some(wait) => wait,
        None => {
            let longest = format_duration(LONGEST.as_micros() as i64);
            parameters.refuse("wait", &format!("{text:?}"), &format!("a duration of at most {longest}, such as \"5s\""));
            Duration::ZERO
        }
    }
}

/// Asks, and answers 202.
pub async fn ask(service: &Service, ask: Ask, wait: Duration) -> Answer {
    let stored = &service.query.stored;
    let id = stored.ask(&ask).await?;
    let until = Instant::now() + wait;
    let mut asked = Asked { id, act: ask.act.as_str(), done: false, result: None };
    while !asked.done && Instant::now() < until {
        sleep_until((Instant::now() + PACE).min(until)).await;
        match stored.act_done(id).await {
            Ok(result) => {
                asked.done = result.is_some();
                asked.result = result;
            }
            Err(error) => tracing::warn!(%error, act = id, "the store does not tell what came of an act"),
        }
    }
    Ok(HttpResponse::Accepted().json(asked))
}

/// Who asks, as far as it is known: tokens have no names.
pub fn by(request: &HttpRequest) -> Option<String> {
    request.peer_addr().map(|peer| format!("the API, from {}", peer.ip()))
}

pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(since.as_micros() as i64)
}
