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

#[cfg(test)]
mod tests {
    /// The content security policy would stop it, and hostile text could ride on it.
    #[test]
    fn the_page_has_no_inline_code_and_sets_text_only() {
        let (page, script) = (include_str!("../console/index.html"), include_str!("../console/app.js"));
        for part in ["<style", " style=", "onclick=", "onload=", "javascript:", "http://", "https://"] {
            let allowed = if part == "http://" { "xmlns='http://www.w3.org/2000/svg'" } else { "" };
            assert!(!page.replace(allowed, "").contains(part), "{part}");
        }
        assert_eq!(page.matches("<script").count(), page.matches("<script src=\"app.js\"").count());
        for part in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("] {
            assert!(!script.contains(part), "{part}");
        }
    }
}
