//! The **partitions**: where each stands and who has it, from the store, with what is live here laid over it; and the operator's
//! act on one, resetting its breaker.

use super::parameters::{Parameters, Segments};
use super::problem::{Answer, Problem};
use super::query::LivePartition;
use super::{Service, acts};
use crate::outcome::Counts;
use crate::position::{Epoch, Position};
use crate::record::PartitionId;
use crate::store::{Act, Ask, PartitionLine};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Serialize)]
struct Page {
    partitions: Vec<Line>,
    /// False: the store does not answer, and only what this instance has is listed.
    complete: bool,
}

#[derive(Serialize)]
struct Line {
    topic: Arc<str>,
    partition: i32,
    /// The owner's id; null: nobody has claimed it, or only this instance knows of the claim.
    owner: Option<String>,
    /// The address the owner may be asked at.
    advertise: Option<String>,
    /// Null: never read.
    position: Option<Position>,
    /// Where the last checkpoint left it.
    saved_position: Option<Position>,
    /// How far it can be read; known where it is read.
    end: Option<Position>,
    lag: Option<i64>,
    /// What this instance does with it, or `elsewhere`, or `unclaimed`; `tripped` wherever its breaker stands so.
    state: &'static str,
    /// Why the breaker stands tripped; null: it does not.
    tripped: Option<String>,
    epoch: Epoch,
    /// At `saved_position`.
    counts: Option<Counts>,
    updated_at: Option<String>,
}

/// `GET /v1/partitions`.
pub async fn list(service: web::Data<Service>, request: HttpRequest) -> Answer {
    Parameters::read(request.query_string(), &[]).done()?;
    let saved = service.query.stored.partitions().await;
    if let Err(error) = &saved {
        tracing::warn!(%error, "the store does not answer; only this instance's partitions are listed");
    }
    let complete = saved.is_ok();
    let mut lines: BTreeMap<PartitionId, Line> =
        saved.unwrap_or_default().into_iter().map(|line| (line.partition.clone(), of_saved(line))).collect();
    for live in service.query.live.partitions() {
        let line = lines.entry(live.partition.clone()).or_insert_with(|| unsaved(&live));
        // A higher epoch in the store: somebody else has claimed it since, and what we know is past.
        if live.epoch >= line.epoch {
            line.position = live.position.or(line.position);
            line.end = live.end;
            line.lag = line.position.zip(live.end).map(|(position, end)| (end.0 - position.0).max(0));
            line.state = live.state;
            line.tripped = live.tripped;
            line.epoch = live.epoch;
        }
    }
    Ok(HttpResponse::Ok().json(Page { partitions: lines.into_values().collect(), complete }))
}

/// `POST /v1/partitions/{topic}/{partition}/reset`: asks the owner to read on although the breaker tripped.
pub async fn reset(service: web::Data<Service>, request: HttpRequest) -> Answer {
    let mut parameters = Parameters::read(request.query_string(), &["wait"]);
    let wait = acts::wait(&mut parameters);
    parameters.done()?;
    let mut segments = Segments::of(request.uri().path());
    let topic = segments.text(3);
    let number = segments.number(4, "partition", i64::from(i32::MAX));
    segments.done()?;
    let partition = PartitionId::new(&topic, number as i32);

    let saved = service.query.stored.partitions().await?.into_iter().find(|line| line.partition == partition);
    let saved = saved.ok_or_else(|| {
        let detail = "no instance ever claimed this partition; GET /v1/partitions lists those there are";
        Problem::new(StatusCode::NOT_FOUND, "unknown-partition", detail)
    })?;
    let here = service.query.live.partitions().into_iter().find(|live| live.partition == partition);
    // What has tripped just now may not be saved yet. An act that finds nothing to reset would stay open, and end the next trip unseen.
    if saved.tripped.is_none() && here.is_none_or(|live| live.tripped.is_none()) {
        return Err(Problem::new(StatusCode::CONFLICT, "not-tripped", "the partition's breaker is not tripped"));
    }
    let ask =
        Ask { act: Act::Reset, partition: Some(partition), hunt: None, offset: None, by: acts::by(&request), at: acts::now() };
    acts::ask(&service, ask, wait).await
}

fn of_saved(line: PartitionLine) -> Line {
    let (owner, advertise) = line.owner.map(|owner| (owner.id, owner.advertise)).unzip();
    Line {
        topic: line.partition.topic,
        partition: line.partition.partition,
        state: match (&line.tripped, &owner) {
            (Some(_), _) => "tripped",
            (None, Some(_)) => "elsewhere",
            (None, None) => "unclaimed",
        },
        tripped: line.tripped,
        owner,
        advertise,
        position: line.position,
        saved_position: line.position,
        end: None,
        lag: None,
        epoch: line.epoch,
        counts: Some(line.counts),
        updated_at: Some(line.updated_at.to_string()),
    }
}

fn unsaved(live: &LivePartition) -> Line {
    Line {
        topic: live.partition.topic.clone(),
        partition: live.partition.partition,
        owner: None,
        advertise: None,
        position: None,
        saved_position: None,
        end: None,
        lag: None,
        state: live.state,
        tripped: live.tripped.clone(),
        epoch: live.epoch,
        counts: None,
        updated_at: None,
    }
}
