//! Which requests are let in, and how many there were.

use super::app::{App, SharedApp};
use super::error::ApiError;
use super::origin::{LocalAddress, Visitor};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;

/// Paths that need no key: health, for supervisors, and the page itself, which holds no secrets and
/// asks for a key before it does anything.
const OPEN: [&str; 3] = ["/", "/health", "/ready"];

/// Refuses requests for another host, those that pages of other origins make, those without a key,
/// and compressed bodies.
pub async fn check(State(app): State<SharedApp>, request: Request, next: Next) -> Response {
    let local = request.extensions().get::<LocalAddress>().map(|it| it.0);
    let visitor = match app.allowed.check(request.uri(), request.headers(), local) {
        Ok(visitor) => visitor,
        Err(refused) => return refused.into_response(),
    };
    let Visitor::Allowed(origin) = visitor else {
        return let_in(&app, request, next).await;
    };
    let mut response = if request.method() == Method::OPTIONS {
        preflight()
    } else {
        let_in(&app, request, next).await
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    let exposed = HeaderValue::from_static("x-request-id, x-selfextend, retry-after");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    response
}

/// The answer to a browser that asks whether a page may send a request.
fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn let_in(app: &App, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if !OPEN.contains(&path) && !app.keys.allow(request.headers()) {
        return ApiError::unauthorized().into_response();
    }
    if let Some(coding) = coding(request.headers()) {
        return ApiError::encoded(&coding).into_response();
    }
    next.run(request).await
}

/// How a body is compressed, where it is: bodies are read as they are.
fn coding(headers: &HeaderMap) -> Option<String> {
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let text = codings.map(|coding| String::from_utf8_lossy(coding.as_bytes()));
    let text = text.collect::<Vec<_>>().join(", ");
    let plain = |coding: &str| coding.is_empty() || coding.eq_ignore_ascii_case("identity");
    let is_plain = text.split(',').all(|coding| plain(coding.trim()));
    (!is_plain).then_some(text)
}

/// Counts requests by route and outcome.
pub async fn count(request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "other".to_owned());
    // A panic in a handler is the failure of its request.
    let response = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response = response.unwrap_or_else(|_| {
        tracing::error!(route, "a handler panicked");
        ApiError::internal("the server failed while it handled this request").into_response()
    });
    let status = response.status().as_u16().to_string();
    metrics::counter!("selfextend_http_requests_total", "route" => route, "status" => status)
        .increment(1);
    response
}
