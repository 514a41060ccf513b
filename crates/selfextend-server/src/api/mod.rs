//! The routes, and what every request passes before it reaches one.

mod completions;
mod generation;
mod guard;
mod page;
mod reply;
mod schema;
mod service;

use crate::config::Config;
use crate::constrain::{Constraint, Constraints};
use crate::error::ApiError;
use crate::ladder::Ladder;
use crate::scheduler::Scheduler;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::middleware;
use axum::routing::{get, post};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use metrics_exporter_prometheus::PrometheusHandle;
use selfextend::TextModel;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// What handlers share.
pub struct App {
    pub text: Arc<TextModel>,
    pub ladder: Arc<Ladder>,
    pub scheduler: Scheduler,
    pub config: Config,
    pub keys: guard::Keys,
    pub metrics: PrometheusHandle,
    constraints: OnceLock<Result<Constraints, String>>,
    /// Seconds since 1970 when it was started.
    created: u64,
}

/// The application as handlers get it.
pub type Shared = Arc<App>;

impl App {
    /// An application around a running scheduler.
    pub fn new(
        config: Config,
        text: Arc<TextModel>,
        ladder: Arc<Ladder>,
        scheduler: Scheduler,
        metrics: PrometheusHandle,
    ) -> Self {
        Self {
            keys: guard::Keys::new(&config.api_keys),
            text,
            ladder,
            scheduler,
            config,
            metrics,
            constraints: OnceLock::new(),
            created: now(),
        }
    }

    /// A constraint to JSON of a schema. The vocabulary is read when the first one is asked for.
    fn constraint(&self, schema: serde_json::Value) -> Result<Constraint, ApiError> {
        let made = self
            .constraints
            .get_or_init(|| Constraints::new(&self.text.tokenizer));
        let constraints = made.as_ref().map_err(|error| {
            ApiError::internal(format!("this model cannot be constrained: {error}"))
        })?;
        constraints.json(schema).map_err(|error| {
            ApiError::parameter(
                "response_format",
                format!("the schema cannot be used: {error}"),
            )
        })
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// All routes.
pub fn router(app: Shared) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/health", get(service::health))
        .route("/ready", get(service::ready))
        .route("/metrics", get(service::metrics))
        .route("/v1/models", get(service::models))
        .route("/v1/models/{*id}", get(service::model))
        .route("/v1/chat/completions", post(completions::chat))
        .route("/v1/completions", post(completions::plain))
        .route("/v1/embeddings", post(service::embeddings))
        .route("/tokenize", post(service::tokenize))
        .route("/detokenize", post(service::detokenize))
        .fallback(async || ApiError::not_found("nothing is served at this path"))
        .method_not_allowed_fallback(async || ApiError::method())
        .layer(middleware::from_fn_with_state(app.clone(), guard::check))
        .layer(middleware::from_fn(guard::count))
        .with_state(app)
}

/// The whole body of a request, within the limits of size and time.
async fn whole(app: &App, body: Body) -> Result<Bytes, ApiError> {
    let limits = app.config.http;
    let body = Limited::new(body, limits.body).collect();
    match tokio::time::timeout(limits.body_time, body).await {
        Err(_) => Err(ApiError::too_slow()),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::too_large(limits.body)),
        Ok(Err(error)) => Err(ApiError::bad_request(format!(
            "the body broke off: {error}"
        ))),
    }
}
