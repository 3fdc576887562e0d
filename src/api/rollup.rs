//! The **rollup**: the aggregates kept over all hunts, as the store has them. Until the first checkpoint that carries a share of
//! one, it says what it would of no event, so that every rolled-up aggregate is always there.

use super::Service;
use super::parameters::Parameters;
use super::problem::{Answer, Problem};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Rollup<'a> {
    /// Numbers stay as the store wrote them: a sum may be larger than any machine integer.
    view: BTreeMap<&'a str, Box<RawValue>>,
    /// When a value was last brought up to date; null: none was yet.
    updated_at: Option<String>,
}

/// `GET /v1/rollup`.
pub async fn show(service: web::Data<Service>, request: HttpRequest) -> Answer {
    Parameters::read(request.query_string(), &[]).done()?;
    let mut saved = BTreeMap::new();
    let mut updated_at = None;
    for line in service.query.stored.rollup().await? {
        updated_at = updated_at.max(Some(line.updated_at));
        saved.insert(line.aggregate, line.value);
    }
    let mut view = BTreeMap::new();
    for (aggregate, beginning) in &service.beginnings {
        let value = saved.remove(aggregate).unwrap_or_else(|| beginning.clone());
        let value = RawValue::from_string(value).map_err(|error| {
            tracing::error!(aggregate, %error, "a rollup's value is no JSON");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "defect", "the rollup cannot be read; the log says why")
        })?;
        view.insert(aggregate.as_str(), value);
    }
    Ok(HttpResponse::Ok().json(Rollup { view, updated_at: updated_at.map(|at| at.to_string()) }))
}
