//! **Health**: alive (the process answers), ready (it does its work and the store can be reached), and the figures for Prometheus.

use super::Service;
use super::parameters::Parameters;
use super::problem::{Answer, Problem};
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use std::time::Duration;

/// Longest wait for the store; a probe has a deadline of its own.
const PING: Duration = Duration::from_secs(2);

/// `GET /healthz`.
pub async fn alive(request: HttpRequest) -> Answer {
    Parameters::read(request.query_string(), &[]).done()?;
    Ok(HttpResponse::Ok().json(json!({"alive": true})))
}

/// `GET /readyz`.
pub async fn ready(service: web::Data<Service>, request: HttpRequest) -> Answer {
    Parameters::read(request.query_string(), &[]).done()?;
    let mut reasons = service.query.live.readiness();
    match tokio::time::timeout(PING, service.query.stored.ping()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready: the store does not answer");
            reasons.push("the store does not answer".into());
        }
        Err(_) => reasons.push(format!("the store does not answer within {} s", PING.as_secs())),
    }
    if reasons.is_empty() { Ok(HttpResponse::Ok().json(json!({"ready": true}))) } else { Err(Problem::not_ready(reasons)) }
}

/// `GET /metrics`.
pub async fn metrics(service: web::Data<Service>, request: HttpRequest) -> Answer {
    Parameters::read(request.query_string(), &[]).done()?;
    let text = service.metrics.render();
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")).body(text))
}
