//! Everything except completions.

use super::app::{App, SharedApp};
use super::error::ApiError;
use crate::scheduler::Health;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// `/health`: whether the model's thread serves. Anything but 200 asks for a restart.
pub async fn health(State(app): State<SharedApp>) -> Response {
    let (status, name) = match app.scheduler.health() {
        Health::Ok => (StatusCode::OK, "ok"),
        Health::Stalled => (StatusCode::SERVICE_UNAVAILABLE, "stalled"),
        Health::Ended => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
    };
    (status, Json(json!({"status": name}))).into_response()
}

/// `/ready`: whether requests are taken, and what is held.
pub async fn ready(State(app): State<SharedApp>) -> Response {
    let scheduler = &app.scheduler;
    let ready = scheduler.health() == Health::Ok && !scheduler.is_draining();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let state = json!({
        "status": if ready { "ready" } else { "not ready" },
        "running": scheduler.running(),
        "queued": scheduler.queued(),
        "kv_bytes": scheduler.kv_bytes(),
        "kv_budget_bytes": app.config.scheduler.kv_memory,
    });
    (status, Json(state)).into_response()
}

/// `/metrics`, in Prometheus' text format.
pub async fn metrics(State(app): State<SharedApp>) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.metrics.render()).into_response()
}

fn describe(app: &App, name: &str) -> Value {
    let rungs = app.ladder.rungs().iter().map(|rung| {
        json!({
            "context": rung.context(),
            "group_size": rung.group_size,
            "neighbor_window": rung.neighbor_window,
        })
    });
    let sampling = &app.config.sampling;
    json!({
        "id": name,
        "object": "model",
        "created": app.created,
        "owned_by": "selfextend",
        "context_length": app.ladder.context(),
        "selfextend": {
            "trained_window": app.ladder.trained(),
            "rungs": rungs.collect::<Vec<_>>(),
            "default_sampling": {
                "temperature": sampling.temperature,
                "top_k": sampling.top_k,
                "top_p": sampling.top_p,
                "min_p": sampling.min_p,
                "repetition_penalty": sampling.repetition_penalty,
            },
        },
    })
}

/// `/v1/models`: the one model, under each of its names.
pub async fn models(State(app): State<SharedApp>) -> Json<Value> {
    let names = std::iter::once(&app.config.model).chain(&app.config.aliases);
    let models: Vec<Value> = names.map(|name| describe(&app, name)).collect();
    Json(json!({"object": "list", "data": models}))
}

/// `/v1/models/NAME`: the same by its name.
pub async fn model(
    State(app): State<SharedApp>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    app.check_model(Some(&id))?;
    Ok(Json(describe(&app, &app.config.model)))
}

/// `/v1/embeddings`: refused.
pub async fn embeddings() -> ApiError {
    ApiError::unsupported(
        "model",
        "this server runs a language model, which gives no embeddings; use an embedding model's server",
    )
}
