//! `/tokenize`, `/detokenize` and `/tokenizer_info`, in the shapes of llama.cpp's server and of vLLM.

use super::app::SharedApp;
use super::body::Client;
use super::error::ApiError;
use super::schema;
use super::texts::{Detokenize, Tokenize};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use selfextend::tokenizer::SpecialTokens;
use serde_json::{Value, json};

/// `/tokenize`: the tokens of a text.
pub async fn tokenize(State(app): State<SharedApp>, body: Body) -> Result<Json<Value>, ApiError> {
    let body = app.intake.receive(body).await?;
    let reader = app.clone();
    let work = move |body: &[u8], client: &Client| {
        let app = reader;
        let mut body: Tokenize = schema::parse(body)?;
        app.check_model(body.model.as_deref())?;
        let asked = body.asked()?;
        client.check()?;
        let tokens = app.encode(&asked.text, asked.add_bos, asked.parse_special);
        let tokens = tokens.map_err(|error| ApiError::internal(error.to_string()))?;
        let mut reply = json!({
            "count": tokens.len(), "max_model_len": app.ladder.context(), "tokens": tokens,
        });
        if body.return_token_strs.unwrap_or(false) {
            let text = |id: &u32| app.text.tokenizer.token_text(*id).unwrap_or_default();
            reply["token_strs"] = tokens.iter().map(text).collect();
        }
        Ok(Json(reply))
    };
    app.intake.parse(body, work).await
}

/// `/detokenize`: the text of tokens.
pub async fn detokenize(State(app): State<SharedApp>, body: Body) -> Result<Json<Value>, ApiError> {
    let body = app.intake.receive(body).await?;
    let reader = app.clone();
    let work = move |body: &[u8], _: &Client| {
        let app = reader;
        let body: Detokenize = schema::parse(body)?;
        app.check_model(body.model.as_deref())?;
        let text = app.text.tokenizer.decode(&body.tokens, SpecialTokens::Show);
        let text = text.map_err(|error| ApiError::parameter("tokens", error.to_string()))?;
        Ok(Json(json!({"content": text, "prompt": text})))
    };
    app.intake.parse(body, work).await
}

/// `/tokenizer_info`: what a client needs to render prompts by itself.
pub async fn info(State(app): State<SharedApp>) -> Json<Value> {
    let tokenizer = &app.text.tokenizer;
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id));
    Json(json!({
        "tokenizer_class": "selfextend",
        "bos_token": text(tokenizer.bos()),
        "eos_token": text(tokenizer.eos()),
        "add_bos_token": tokenizer.add_bos(),
        "vocab_size": tokenizer.vocab_size(),
        "model_max_length": app.ladder.context(),
        "chat_template": app.text.template.as_ref().map(|template| template.source()),
    }))
}
