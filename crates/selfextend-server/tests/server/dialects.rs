//! Anthropic's and Ollama's APIs, over HTTP.

use crate::common::{CONTEXT, config, prose, start};
use serde_json::{Value, json};
use std::io::Read;

fn post_lines(base: &str, path: &str, body: &Value) -> Vec<String> {
    let response = ureq::post(&format!("{base}{path}")).send_string(&body.to_string());
    let mut text = String::new();
    response
        .unwrap()
        .into_reader()
        .read_to_string(&mut text)
        .unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The same conversation says the same in every dialect, whole and streamed.
#[test]
fn all_dialects_say_the_same() {
    let server = start(config());
    let text = prose(1, 400);
    let messages = json!([{"role": "user", "content": text}]);
    let openai = server.post(
        "/v1/chat/completions",
        &json!({
            "messages": messages, "temperature": 0, "max_tokens": 30,
        }),
    );
    let expected = openai.text();

    let mut body =
        json!({"model": "tiny", "max_tokens": 30, "temperature": 0, "messages": messages});
    let whole = server.post("/v1/messages", &body);
    assert_eq!(whole.status, 200, "{whole:?}");
    assert_eq!(whole.body["content"][0]["text"], expected);
    let usage = &whole.body["usage"];
    let number = |name: &str| usage[name].as_u64().unwrap();
    let prompt = number("input_tokens") + number("cache_read_input_tokens");
    assert_eq!(json!(prompt), openai.body["usage"]["prompt_tokens"]);
    assert!(
        number("cache_read_input_tokens") > 256,
        "the prompt was read before: {usage}"
    );
    let counted = server.post("/v1/messages/count_tokens", &json!({"messages": messages}));
    assert_eq!(counted.body["input_tokens"], prompt);
    body["stream"] = json!(true);
    let lines = post_lines(&server.base, "/v1/messages", &body);
    let data = lines.iter().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = data
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let streamed: String = events
        .iter()
        .filter_map(|event| event["delta"]["text"].as_str())
        .collect();
    assert_eq!(streamed, expected);
    assert_eq!(events[0]["type"], "message_start");
    assert_eq!(events.last().unwrap()["type"], "message_stop");

    let mut body = json!({
        "model": "tiny", "messages": messages, "stream": false,
        "options": {"temperature": 0, "num_predict": 30},
    });
    let whole = server.post("/api/chat", &body);
    assert_eq!(whole.body["message"]["content"], expected, "{whole:?}");
    assert_eq!(whole.body["prompt_eval_count"], prompt);
    body.as_object_mut().unwrap().remove("stream");
    let lines = post_lines(&server.base, "/api/chat", &body);
    let parts: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let streamed: String = parts
        .iter()
        .filter_map(|part| part["message"]["content"].as_str())
        .collect();
    assert_eq!(streamed, expected);
    assert_eq!(parts.last().unwrap()["done"], true);
    let generated = server.post("/api/generate", &json!({
        "model": "tiny", "prompt": text, "stream": false, "options": {"temperature": 0, "num_predict": 30},
    }));
    assert_eq!(generated.body["response"], expected);
    let raw = json!({"prompt": "the ant", "raw": true, "stream": false, "options": {"temperature": 0, "num_predict": 9}});
    let plain = server.complete(&json!({"prompt": "the ant", "temperature": 0, "max_tokens": 9}));
    assert_eq!(
        server.post("/api/generate", &raw).body["response"],
        plain.text()
    );
}

#[test]
fn stops_and_limits_are_reported_in_each_dialect() {
    let server = start(config());
    let messages = json!([{"role": "user", "content": "the ant"}]);
    let mut body = json!({"max_tokens": 12, "temperature": 0, "messages": messages});
    let whole = server.post("/v1/messages", &body);
    let text = whole.body["content"][0]["text"]
        .as_str()
        .unwrap()
        .to_owned();
    let stop: String = text.chars().skip(3).take(2).collect();
    body["stop_sequences"] = json!([stop]);
    let stopped = server.post("/v1/messages", &body);
    assert_eq!(stopped.body["stop_reason"], "stop_sequence", "{stopped:?}");
    assert_eq!(stopped.body["stop_sequence"], stop);
    let nothing = server.post("/api/generate", &json!({"model": "tiny"}));
    assert_eq!(nothing.body["done_reason"], "load");
}

#[test]
fn errors_have_the_shape_of_their_dialect() {
    let mut config = config();
    config.api_keys = vec!["key".into()];
    let server = start(config);
    let keyed = ("x-api-key", "key");
    let body = json!({"max_tokens": 1, "messages": [{"role": "user", "content": "x"}]});
    let refused = server.post("/v1/messages", &body);
    assert_eq!(refused.status, 401);
    assert_eq!(refused.body["error"]["type"], "authentication_error");
    let refused = server.post("/api/chat", &body);
    assert!(refused.status == 401 && refused.body["error"].is_string());
    let long = json!({"max_tokens": 1, "messages": [{"role": "user", "content": "x ".repeat(4 * CONTEXT)}]});
    let refused = server.post_with(keyed, "/v1/messages", &long);
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(refused.body["type"], "error");
    assert_eq!(refused.body["error"]["type"], "invalid_request_error");
    let mut other = body.clone();
    other["model"] = json!("claude");
    let refused = server.post_with(keyed, "/v1/messages", &other);
    assert_eq!(
        (refused.status, &refused.body["error"]["type"]),
        (404, &json!("not_found_error"))
    );
    let refused = server.post_with(keyed, "/api/show", &json!({"model": "llama3"}));
    assert!(
        refused.status == 404 && refused.body["error"].is_string(),
        "{refused:?}"
    );
    // Broken bodies get an error of the same shape.
    for path in ["/v1/messages", "/v1/messages/count_tokens"] {
        for text in ["", "{", "[]", "{\"messages\": 5}", "{\"messages\": []}"] {
            let body: Value = serde_json::from_str(text).unwrap_or(json!(text));
            let refused = server.post_with(keyed, path, &body);
            assert_eq!(refused.status, 400, "{path} {text}");
            assert_eq!(refused.body["type"], "error", "{path} {text}: {refused:?}");
        }
    }
    for path in ["/api/chat", "/api/generate", "/api/show"] {
        for body in [
            json!([]),
            json!({"messages": 5}),
            json!({"prompt": {}}),
            json!("x"),
        ] {
            let refused = server.post_with(keyed, path, &body);
            assert!((400..500).contains(&refused.status), "{path} {body}");
            assert!(
                refused.body["error"].is_string(),
                "{path} {body}: {refused:?}"
            );
        }
    }
}

#[test]
fn ollamas_clients_find_the_model() {
    let server = start(config());
    let tags = server.get("/api/tags").body;
    assert_eq!(tags["models"][0]["name"], "tiny");
    assert!(tags["models"][0]["size"].as_u64().unwrap() > 0);
    assert_eq!(
        server.get("/api/ps").body["models"][0]["context_length"],
        CONTEXT
    );
    for field in ["model", "name"] {
        let shown = server
            .post("/api/show", &json!({field: "tiny:latest"}))
            .body;
        assert_eq!(shown["model_info"]["llama.context_length"], CONTEXT);
        assert_eq!(shown["capabilities"], json!(["completion"]));
        assert!(shown["template"].as_str().unwrap().contains("im_start"));
    }
    assert!(server.get("/api/version").body["version"].is_string());
}
