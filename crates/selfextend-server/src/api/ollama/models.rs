//! Which models there are.

use super::reply::now;
use crate::api::app::{App, SharedApp};
use crate::api::error::ApiError;
use crate::api::fim;
use crate::api::schema;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

/// The version of Ollama's API that these routes follow: clients look at it.
const FOLLOWS: &str = "0.12.6";

#[derive(Debug, Deserialize)]
struct Show {
    model: Option<String>,
    /// The older name of the field.
    name: Option<String>,
    /// The reply is always as long as it can be.
    #[serde(default, rename = "verbose")]
    _verbose: IgnoredAny,
}

/// `/api/version`
pub async fn version() -> Json<Value> {
    Json(json!({"version": FOLLOWS, "selfextend": env!("CARGO_PKG_VERSION")}))
}

fn names(app: &App) -> impl Iterator<Item = &String> {
    std::iter::once(&app.config.model).chain(&app.config.aliases)
}

fn details(app: &App) -> Value {
    let family = &app.text.model.config().architecture;
    json!({
        "parent_model": "", "format": "gguf", "family": family, "families": [family],
        "parameter_size": "", "quantization_level": "",
    })
}

fn describe(app: &App, name: &str) -> Value {
    let modified = Timestamp::from_second(app.created as i64).unwrap_or_default();
    json!({
        "name": name, "model": name, "modified_at": modified.to_string(),
        "size": app.text.model.weight_bytes(), "digest": "", "details": details(app),
    })
}

/// `/api/tags`: the one model, under each of its names.
pub async fn tags(State(app): State<SharedApp>) -> Json<Value> {
    let models: Vec<Value> = names(&app).map(|name| describe(&app, name)).collect();
    Json(json!({"models": models}))
}

/// `/api/ps`: the model that is loaded, which it stays.
pub async fn ps(State(app): State<SharedApp>) -> Json<Value> {
    let mut model = describe(&app, &app.config.model);
    model["expires_at"] = json!(now());
    model["size_vram"] = json!(0);
    model["context_length"] = json!(app.ladder.context());
    Json(json!({"models": [model]}))
}

/// `/api/show`: what is known of the model.
pub async fn show(State(app): State<SharedApp>, body: Body) -> Result<Json<Value>, ApiError> {
    let body = app.intake.receive(body).await?;
    let asked = app.intake.parse(body, |bytes, _| {
        let asked: Show = schema::parse(bytes)?;
        Ok(asked.model.or(asked.name))
    });
    let asked = asked.await?;
    let asked = asked.ok_or_else(|| ApiError::parameter("model", "model is missing"))?;
    app.check_model(Some(&asked))?;
    let config = app.text.model.config();
    let family = &config.architecture;
    let mut capabilities = vec!["completion"];
    if fim::prompt(&app.text.tokenizer, &[], &[]).is_ok() {
        capabilities.push("insert");
    }
    let of = |name: &str| format!("{family}.{name}");
    let info = Map::from_iter([
        ("general.architecture".to_owned(), json!(family)),
        (of("context_length"), json!(app.ladder.context())),
        (of("trained_context_length"), json!(app.ladder.trained())),
        (of("block_count"), json!(config.layers)),
        (of("embedding_length"), json!(config.hidden)),
        (of("attention.head_count"), json!(config.heads)),
        (of("attention.head_count_kv"), json!(config.kv_heads)),
        (of("vocab_size"), json!(config.vocab)),
    ]);
    let template = app.text.template.as_ref().map(|template| template.source());
    Ok(Json(json!({
        "modelfile": "", "parameters": "", "license": "",
        "template": template.unwrap_or_default(),
        "details": details(&app),
        "model_info": info,
        "capabilities": capabilities,
        "modified_at": describe(&app, &asked)["modified_at"],
    })))
}
