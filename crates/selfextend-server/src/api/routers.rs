//! What routers in front of several servers ask for, in the shapes of SGLang's server (`/model_info`,
//! `/server_info`, `/get_load`, and the first two with `get_`) and of vLLM's (`/load`, `/version`).

use super::app::SharedApp;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

/// `/model_info`: which model runs.
pub async fn model_info(State(app): State<SharedApp>) -> Json<Value> {
    let sampling = &app.config.sampling;
    Json(json!({
        "model_path": app.config.model,
        "tokenizer_path": app.config.model,
        "served_model_names": names(&app),
        "is_generation": true,
        "preferred_sampling_params": {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
        },
        "max_model_len": app.ladder.context(),
        "trained_window": app.ladder.trained(),
        "vocab_size": app.text.model.config().vocab,
    }))
}

/// `/server_info`: what the server may use.
pub async fn server_info(State(app): State<SharedApp>) -> Json<Value> {
    let config = &app.config;
    Json(json!({
        "version": VERSION,
        "model_path": config.model,
        "served_model_name": config.model,
        "context_length": app.ladder.context(),
        "max_running_requests": config.scheduler.parallel,
        "max_queued_requests": config.scheduler.queue,
        "chunked_prefill_size": config.scheduler.chunk,
        "kv_memory_bytes": config.scheduler.kv_memory,
        "started": app.created,
        "status": if app.scheduler.is_draining() { "draining" } else { "ready" },
    }))
}

/// `/get_load`: requests that run and wait, of the one copy of the model that there is.
pub async fn sequences(State(app): State<SharedApp>) -> Json<Value> {
    let (running, waiting) = (app.scheduler.running(), app.scheduler.queued());
    Json(json!([{
        "dp_rank": 0,
        "num_reqs": running + waiting,
        "num_waiting_reqs": waiting,
        "kv_bytes": app.scheduler.kv_bytes(),
        "kv_budget_bytes": app.config.scheduler.kv_memory,
    }]))
}

/// `/load`: requests that are not answered yet.
pub async fn load(State(app): State<SharedApp>) -> Json<Value> {
    Json(json!({"server_load": app.scheduler.running() + app.scheduler.queued()}))
}

/// `/version`: of selfextend.
pub async fn version() -> Json<Value> {
    Json(json!({"version": VERSION}))
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn names(app: &SharedApp) -> Vec<&str> {
    let aliases = app.config.aliases.iter();
    std::iter::once(&app.config.model)
        .chain(aliases)
        .map(String::as_str)
        .collect()
}
