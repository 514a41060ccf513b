//! The routes, and what every request passes before it reaches one.

mod anthropic;
mod app;
mod body;
mod completions;
mod conversation;
mod dialect;
mod error;
mod fields;
mod fim;
mod grammar;
mod guard;
mod harmless;
mod keys;
mod numbers;
mod ollama;
mod origin;
mod output;
mod page;
mod path;
mod reasoning;
mod reply;
mod responses;
mod routers;
mod schema;
mod service;
mod style;
mod submission;
mod texts;
mod tokens;
mod tools;

pub use app::App;
pub use origin::LocalAddress;
pub use path::mend as mend_path;

use app::SharedApp;
use axum::Router;
use axum::middleware;
use axum::routing::{get, post};
use error::ApiError;
use tower_http::decompression::RequestDecompressionLayer;

/// The routes whose requests are counted from the start.
pub const ROUTES: [&str; 4] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/models",
    "/tokenize",
];

/// All routes.
pub fn router(app: SharedApp) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/health", get(service::health))
        .route("/ready", get(service::ready))
        .route("/metrics", get(service::metrics))
        .route("/model_info", get(routers::model_info))
        .route("/get_model_info", get(routers::model_info))
        .route("/server_info", get(routers::server_info))
        .route("/get_server_info", get(routers::server_info))
        .route("/get_load", get(routers::sequences))
        .route("/load", get(routers::load))
        .route("/version", get(routers::version))
        .route("/v1/models", get(service::models))
        .route("/v1/models/{*id}", get(service::model))
        .route("/v1/chat/completions", post(completions::chat))
        .route("/v1/completions", post(completions::plain))
        .route("/v1/responses", post(responses::create))
        .route(
            "/v1/responses/{id}",
            get(responses::retrieve).delete(responses::delete),
        )
        .route("/v1/messages", post(anthropic::messages))
        .route("/v1/messages/count_tokens", post(anthropic::count))
        .route("/api/chat", post(ollama::chat))
        .route("/api/generate", post(ollama::generate))
        .route("/api/tags", get(ollama::tags))
        .route("/api/ps", get(ollama::ps))
        .route("/api/show", post(ollama::show))
        .route("/api/version", get(ollama::version))
        .route("/v1/embeddings", post(service::embeddings))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/tokenizer_info", get(tokens::info))
        .fallback(async || ApiError::not_found("nothing is served at this path"))
        .method_not_allowed_fallback(async || ApiError::method())
        .layer(RequestDecompressionLayer::new())
        .layer(middleware::from_fn_with_state(app.clone(), guard::check))
        .layer(middleware::from_fn(dialect::shape_errors))
        .layer(middleware::from_fn(guard::count))
        .with_state(app)
}

/// Reads a body as each of the routes would, and everything in it.
#[cfg(feature = "unstable")]
pub fn read_all(body: &[u8]) {
    schema::read_all(body);
    anthropic::read(body);
    ollama::read(body);
}
