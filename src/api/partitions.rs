//! The **partitions**: where each stands and who has it, from the store, with what is live here laid over it.

use super::Service;
use super::parameters::Parameters;
use super::problem::Answer;
use super::query::LivePartition;
use crate::outcome::Counts;
use crate::position::{Epoch, Position};
use crate::record::PartitionId;
use crate::store::PartitionLine;
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
    /// What this instance does with it, or `elsewhere`, or `unclaimed`.
    state: &'static str,
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
            line.epoch = live.epoch;
        }
    }
    Ok(HttpResponse::Ok().json(Page { partitions: lines.into_values().collect(), complete }))
}

fn of_saved(line: PartitionLine) -> Line {
    let (owner, advertise) = line.owner.map(|owner| (owner.id, owner.advertise)).unzip();
    Line {
        topic: line.partition.topic,
        partition: line.partition.partition,
        state: if owner.is_some() { "elsewhere" } else { "unclaimed" },
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
        epoch: live.epoch,
        counts: None,
        updated_at: None,
    }
}
