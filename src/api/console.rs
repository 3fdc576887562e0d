//! The **console**: one page of plain HTML, CSS and JavaScript, compiled in. It holds no data of its own; what it shows it asks of
//! the API like any other client, with the token its user types in.

use super::parameters::Parameters;
use super::problem::Answer;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};

/// `GET /`. What links and bookmarks append is no reason to refuse the page.
pub async fn page() -> Answer {
    Ok(file("text/html; charset=utf-8", include_str!("../console/index.html")))
}

/// `GET /app.js`.
pub async fn script(request: HttpRequest) -> Answer {
    Parameters::read(request.query_string(), &[]).done()?;
    Ok(file("text/javascript; charset=utf-8", include_str!("../console/app.js")))
}

/// `GET /style.css`.
pub async fn style(request: HttpRequest) -> Answer {
    Parameters::read(request.query_string(), &[]).done()?;
    Ok(file("text/css; charset=utf-8", include_str!("../console/style.css")))
}

fn file(content_type: &str, text: &'static str) -> HttpResponse {
    // Small, and another version's script must never meet this version's page.
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(text)
}
