//! The **API**: what people, dashboards and scripts ask over HTTP, answered from the running daemon and the store.
//!
//! The daemon hands [`server`] its two ports ([`query::Live`], [`query::Stored`]) and settings, and runs what it gets. Invariants:
//! every error is a problem ([`problem::Problem`]); nothing is answered before [`admit`] has seen the request; everything a
//! caller can make large or slow (heads, bodies, pages, streams, waiting) has a bound; the web framework stays in here.

mod acts;
pub mod auth;
mod console;
mod dead_letters;
mod health;
mod hunts;
mod openapi;
mod parameters;
mod partitions;
mod problem;
pub mod query;
mod rollup;
mod stream;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use crate::definitions::TimeRules;
use crate::metrics::Exposition;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::{Compress, Next, from_fn};
use actix_web::{App, Handler, HttpMessage, HttpRequest, HttpServer, Resource, guard, web};
use auth::{Auth, Origins, Role};
use problem::{Answer, Problem};
use query::{Live, Query, Stored};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const MAX_URI_BYTES: usize = 8 << 10;
const MAX_HEADER_BYTES: usize = 16 << 10;
const MAX_BODY_BYTES: u64 = 64 << 10;
const MAX_CONNECTIONS: usize = 1024;
/// Longest time for a head to arrive, and for an answer to begin.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

pub struct Settings {
    /// `host:port`; port 0 lets the system choose.
    pub listen: String,
    /// The address others reach this instance at; its host is one of our names.
    pub advertise: String,
    /// None of either kind: everyone may do everything.
    pub read_tokens: Vec<String>,
    pub admin_tokens: Vec<String>,
    /// How watermarks move.
    pub time: TimeRules,
    /// Each rolled-up aggregate and its value, JSON, before any event.
    pub rollup: Vec<(String, String)>,
    /// Most streams at once; more are refused.
    pub streams: usize,
    /// True, or the sender gone: streams end, so that a graceful stop of the server does not wait for them.
    pub closing: watch::Receiver<bool>,
}

/// What every route is handed.
struct Service {
    query: Query,
    beginnings: Vec<(String, String)>,
    auth: Auth,
    origins: Origins,
    seats: Arc<stream::Seats>,
    closing: watch::Receiver<bool>,
    metrics: Exposition,
}

/// Binds the address and makes the server, which answers once it is awaited (inside a tokio runtime) and stops by its handle.
pub fn server(
    settings: Settings,
    live: Arc<dyn Live>,
    stored: Arc<dyn Stored>,
    metrics: Exposition,
) -> io::Result<(Server, SocketAddr)> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("[http] listen = {:?}: {error}", settings.listen));
    let listener = TcpListener::bind(&settings.listen).map_err(named)?;
    let address = listener.local_addr().map_err(named)?;
    let auth = Auth::new(&settings.read_tokens, &settings.admin_tokens);
    let service = web::Data::new(Service {
        query: Query::new(live, stored, settings.time),
        beginnings: settings.rollup,
        origins: Origins::new(address, &settings.listen, &settings.advertise, &auth),
        auth,
        seats: stream::Seats::new(settings.streams),
        closing: settings.closing.clone(),
        metrics,
    });
    let server = HttpServer::new(move || {
        App::new()
            .app_data(service.clone())
            .configure(routes)
            .default_service(web::to(not_found))
            .wrap(from_fn(guarded))
            .wrap(Compress::default())
    })
    .workers(1)
    .max_connections(MAX_CONNECTIONS)
    .client_request_timeout(HEAD_DEADLINE)
    .shutdown_timeout(2)
    .disable_signals()
    .listen(listener)
    .map_err(named)?
    .run();
    Ok((server, address))
}

/// Every route, as the OpenAPI document lists them.
fn routes(config: &mut web::ServiceConfig) {
    config
        .service(get("/v1/hunts", hunts::list))
        .service(get("/v1/hunts/{id}", hunts::show))
        .service(get("/v1/hunts/{id}/stream", hunts::stream))
        .service(get("/v1/rollup", rollup::show))
        .service(get("/v1/partitions", partitions::list))
        .service(post("/v1/partitions/{topic}/{partition}/reset", partitions::reset))
        .service(get("/v1/dead-letters", dead_letters::list))
        .service(get("/v1/dead-letters/{topic}/{partition}/{offset}", dead_letters::show))
        .service(get("/healthz", health::alive))
        .service(get("/readyz", health::ready))
        .service(get("/metrics", health::metrics))
        .service(get("/openapi.json", openapi::document))
        .service(get("/", console::page))
        .service(get("/app.js", console::script))
        .service(get("/style.css", console::style));
}

/// What may be asked for without a token.
const OPEN: [&str; 5] = ["/healthz", "/readyz", "/", "/app.js", "/style.css"];

fn get<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args, Output = Answer>,
    Args: actix_web::FromRequest + 'static,
{
    let reads = guard::Any(guard::Get()).or(guard::Head());
    web::resource(path).route(web::route().guard(reads).to(handler)).default_service(web::to(only_read))
}

fn post<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args, Output = Answer>,
    Args: actix_web::FromRequest + 'static,
{
    web::resource(path).route(web::post().to(handler)).default_service(web::to(only_acted))
}

async fn not_found(request: HttpRequest) -> Answer {
    let path: String = request.path().chars().take(200).collect();
    Err(Problem::new(StatusCode::NOT_FOUND, "unknown-path", format!("nothing is at {path:?}; /openapi.json lists what is")))
}

async fn only_read(request: HttpRequest) -> Answer {
    Err(not_allowed(&request, "GET or HEAD").header(header::ALLOW, "GET, HEAD"))
}

async fn only_acted(request: HttpRequest) -> Answer {
    Err(not_allowed(&request, "POST").header(header::ALLOW, "POST"))
}

fn not_allowed(request: &HttpRequest, expected: &str) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", format!("found {}, expected {expected}", request.method()))
}

/// Around every route: [`admit`], a deadline, and the headers that tell browsers what not to do.
async fn guarded(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let mut response = match admit(&request) {
        Err(problem) => request.into_response(problem.response()),
        Ok(role) => {
            request.extensions_mut().insert(role);
            match tokio::time::timeout(ANSWER_DEADLINE, next.call(request)).await {
                Ok(response) => response?.map_into_boxed_body(),
                Err(_) => {
                    let detail = format!("no answer within {} s", ANSWER_DEADLINE.as_secs());
                    return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "deadline", detail).into());
                }
            }
        }
    };
    harden(response.headers_mut());
    Ok(response)
}

/// The role of a request that may be answered.
fn admit(request: &ServiceRequest) -> Result<Role, Problem> {
    let service = request.app_data::<web::Data<Service>>().expect("every app has its service");
    let headers = request.headers();
    if request.uri().path_and_query().map_or(0, |uri| uri.as_str().len()) > MAX_URI_BYTES {
        return Err(Problem::new(StatusCode::URI_TOO_LONG, "uri-too-long", format!("expected at most {MAX_URI_BYTES} bytes")));
    }
    if headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() > MAX_HEADER_BYTES {
        let detail = format!("expected at most {MAX_HEADER_BYTES} bytes of headers");
        return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers-too-large", detail));
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        let detail = format!("expected a body of at most {MAX_BODY_BYTES} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail));
    }
    service.origins.check(request.method(), headers)?;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads && OPEN.contains(&request.path()) {
        return Ok(Role::Anyone);
    }
    let role = service.auth.role(headers)?;
    service.auth.permit(role, if reads { Role::Reader } else { Role::Admin })?;
    Ok(role)
}

/// No script but our own file, no frames, no guessing of types, nothing kept of what the API says.
fn harden(headers: &mut HeaderMap) {
    const ALWAYS: [(&str, &str); 5] = [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ];
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
