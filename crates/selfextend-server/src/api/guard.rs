//! Which requests are let in, and how many there were.

use super::app::{App, SharedApp};
use super::error::ApiError;
use super::origin::{LocalAddress, Visitor};
use crate::scheduler::Failure;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;

/// Paths that need no key: health, for supervisors, and the page itself, which holds no secrets and
/// asks for a key before it does anything.
const OPEN: [&str; 3] = ["/", "/health", "/ready"];

/// Paths that are answered while running requests are finished and no new ones are taken.
const TO_THE_END: [&str; 3] = ["/health", "/ready", "/metrics"];

/// Refuses requests for another host, those that pages of other origins make, those without a key,
/// and bodies that are compressed in other ways than gzip and deflate.
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
        preflight(request.headers())
    } else {
        let_in(&app, request, next).await
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let exposed = HeaderValue::from_static("x-request-id, x-selfextend, retry-after");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    response
}

/// The answer to a browser that asks whether a page of an allowed origin may send a request: with the
/// methods there are, and whatever headers its client library adds.
fn preflight(asked: &HeaderMap) -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    let mut response = (StatusCode::NO_CONTENT, headers).into_response();
    let headers = response.headers_mut();
    if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.append(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    // A page of the internet asks for a server of this network.
    if asked.contains_key(PRIVATE_NETWORK_ASKED) {
        headers.insert(PRIVATE_NETWORK_ALLOWED, HeaderValue::from_static("true"));
    }
    response
}

const PRIVATE_NETWORK_ASKED: &str = "access-control-request-private-network";
const PRIVATE_NETWORK_ALLOWED: &str = "access-control-allow-private-network";

async fn let_in(app: &App, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_open = OPEN.contains(&path) || path == "/metrics" && app.config.open_metrics;
    if !is_open && !app.keys.allow(request.headers()) {
        return ApiError::unauthorized().into_response();
    }
    if app.scheduler.is_draining() && !TO_THE_END.contains(&path) {
        let refused = ApiError::from(Failure::ShuttingDown);
        return ([(header::CONNECTION, "close")], refused).into_response();
    }
    if let Some(coding) = unreadable_coding(request.headers()) {
        return ApiError::encoded(&coding).into_response();
    }
    // What reads compressed bodies knows their names in lower case, and no `identity`.
    if let Some(given) = request.headers_mut().remove(header::CONTENT_ENCODING) {
        let is = |coding: &&str| given.as_bytes().eq_ignore_ascii_case(coding.as_bytes());
        if let Some(coding) = ["gzip", "deflate"].into_iter().find(is) {
            let coding = HeaderValue::from_static(coding);
            request
                .headers_mut()
                .insert(header::CONTENT_ENCODING, coding);
        }
    }
    next.run(request).await
}

/// How a body is compressed, where it is and not in one of the ways that are read.
fn unreadable_coding(headers: &HeaderMap) -> Option<String> {
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let text = codings.map(|coding| String::from_utf8_lossy(coding.as_bytes()));
    let text = text.collect::<Vec<_>>().join(", ");
    let readable = ["", "identity", "gzip", "deflate"];
    let is_readable = readable.iter().any(|it| text.eq_ignore_ascii_case(it));
    (!is_readable).then_some(text)
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
