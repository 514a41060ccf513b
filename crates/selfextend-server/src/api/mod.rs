//! The routes, and what every request passes before it reaches one.

mod app;
mod body;
mod completions;
mod conversation;
mod error;
mod fields;
mod guard;
mod keys;
mod origin;
mod output;
mod page;
mod reasoning;
mod reply;
mod responses;
mod schema;
mod service;
mod style;
mod submission;
mod tools;

pub use app::App;
pub use origin::LocalAddress;
#[cfg(feature = "unstable")]
pub use schema::read_all;

use app::SharedApp;
use axum::Router;
use axum::middleware;
use axum::routing::{get, post};
use error::ApiError;

/// All routes.
pub fn router(app: SharedApp) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/health", get(service::health))
        .route("/ready", get(service::ready))
        .route("/metrics", get(service::metrics))
        .route("/v1/models", get(service::models))
        .route("/v1/models/{*id}", get(service::model))
        .route("/v1/chat/completions", post(completions::chat))
        .route("/v1/completions", post(completions::plain))
        .route("/v1/responses", post(responses::create))
        .route(
            "/v1/responses/{id}",
            get(responses::retrieve).delete(responses::delete),
        )
        .route("/v1/embeddings", post(service::embeddings))
        .route("/tokenize", post(service::tokenize))
        .route("/detokenize", post(service::detokenize))
        .fallback(async || ApiError::not_found("nothing is served at this path"))
        .method_not_allowed_fallback(async || ApiError::method())
        .layer(middleware::from_fn_with_state(app.clone(), guard::check))
        .layer(middleware::from_fn(guard::count))
        .with_state(app)
}
