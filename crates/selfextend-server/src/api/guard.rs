//! Which requests are let in, and how many there were.

use super::app::SharedApp;
use super::error::ApiError;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Paths that need no key: health, for supervisors, and the page itself, which holds no secrets and
/// asks for a key before it does anything.
const OPEN: [&str; 3] = ["/", "/health", "/ready"];

/// Refuses requests without a key, and those that pages of other origins make.
pub async fn check(State(app): State<SharedApp>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if !same_origin(request.headers()) {
        return ApiError::foreign_origin().into_response();
    }
    if !OPEN.contains(&path) && !app.keys.allow(request.headers()) {
        return ApiError::unauthorized().into_response();
    }
    next.run(request).await
}

/// Whether the request comes from no web page, or from one that this server sent: otherwise any page
/// could use a server on the reader's own machine.
fn same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let authority = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.parse::<Uri>().ok());
    let authority = authority
        .as_ref()
        .and_then(|uri| uri.authority())
        .map(|a| a.as_str());
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    authority.is_some() && authority == host
}

/// Counts requests by route and outcome.
pub async fn count(request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "other".to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("selfextend_http_requests_total", "route" => route, "status" => status)
        .increment(1);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn foreign_pages_are_told_apart() {
        let with = |origin: &str| {
            let mut all = headers(header::ORIGIN, origin);
            all.extend(headers(header::HOST, "127.0.0.1:8080"));
            all
        };
        assert!(same_origin(&with("http://127.0.0.1:8080")));
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1",
            "http://127.0.0.1:80801",
        ] {
            assert!(!same_origin(&with(origin)), "{origin}");
        }
        assert!(same_origin(&headers(header::HOST, "x")));
    }
}
