//! The **OpenAPI** document: every route, what it takes and what it answers, as a file beside this one. A test holds it against
//! the routes and the answers against its schemas.

use super::parameters::Parameters;
use super::problem::Answer;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};

pub const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`.
pub async fn document(request: HttpRequest) -> Answer {
    Parameters::read(request.query_string(), &[]).done()?;
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "application/json")).body(DOCUMENT))
}
