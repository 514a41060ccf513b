//! Answers whose tokens are guessed are those without guesses, in company, whatever is asked for.

use crate::common::{self, Running, endless, prose, start};
use serde_json::{Value, json};
use std::thread;

fn guessing() -> Running {
    let mut config = common::config();
    config.speculate = true;
    start(config)
}

/// Requests of many kinds, most of whose answers repeat something.
fn bodies() -> Vec<Value> {
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["colours"],
        "properties": {"colours": {
            "type": "array", "minItems": 6, "maxItems": 9, "items": {"enum": ["red red", "blue"]},
        }},
    });
    let format = json!({"type": "json_schema", "json_schema": {"schema": schema}});
    let twice = |len: usize| format!("{0}{0}", prose(len, len));
    vec![
        json!({"prompt": twice(30), "temperature": 0, "logit_bias": endless()}),
        json!({"prompt": twice(100), "temperature": 0, "logprobs": 3, "logit_bias": endless()}),
        json!({"prompt": twice(270), "temperature": 0.7, "seed": 3, "n": 3, "logprobs": 1}),
        json!({"prompt": "the", "temperature": 0, "logit_bias": {"66": 100}}),
        json!({"prompt": twice(200), "temperature": 0.3, "seed": 9, "frequency_penalty": 0.2}),
        json!({"prompt": twice(40), "temperature": 0, "stop": ["e", "k"], "logit_bias": endless()}),
        json!({"prompt": twice(20), "temperature": 1, "seed": 2, "response_format": format}),
        json!({"prompt": twice(150), "temperature": 0.2, "response_format": format, "n": 2}),
        json!({"prompt": "x", "max_tokens": 1}),
        json!({"prompt": twice(90), "temperature": 2, "seed": 4, "logit_bias": endless()}),
    ]
    .into_iter()
    .map(|mut body| {
        if body["max_tokens"].is_null() {
            body["max_tokens"] = json!(150);
        }
        if body["seed"].is_null() {
            body["seed"] = json!(1);
        }
        body
    })
    .collect()
}

fn metric(server: &Running, name: &str) -> f64 {
    let text = server.get_text("/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0.0, |value| value.trim().parse().unwrap())
}

#[test]
fn answers_are_those_without_guesses() {
    let plain = start(common::config());
    let alone: Vec<Value> = (bodies().iter())
        .map(|body| plain.complete(body).body)
        .collect();
    let server = guessing();
    thread::scope(|scope| {
        for (n, body) in bodies().into_iter().enumerate() {
            let (server, alone) = (&server, &alone);
            scope.spawn(move || {
                let reply = server.complete(&body);
                assert_eq!(reply.status, 200, "{reply:?}");
                assert_eq!(reply.body["choices"], alone[n]["choices"], "{n}");
                let tokens = |body: &Value| body["usage"]["completion_tokens"].clone();
                assert_eq!(tokens(&reply.body), tokens(&alone[n]), "{n}");
                let mut streamed = body;
                streamed["stream"] = json!(true);
                let chunks: Vec<Value> = server.open("/v1/completions", &streamed).collect();
                let first = chunks
                    .iter()
                    .filter(|chunk| chunk["choices"][0]["index"] == 0);
                let first: Vec<Value> = first.cloned().collect();
                assert_eq!(
                    common::streamed_text(&first),
                    alone[n]["choices"][0]["text"]
                );
            });
        }
    });
    let [guessed, right] = ["guessed_tokens", "guessed_right"]
        .map(|it| metric(&server, &format!("selfextend_{it}_total ")));
    assert!(guessed >= right && right > 0.0, "{guessed} {right}");
}

#[test]
fn clients_may_go_away_and_memory_is_given_back() {
    let server = guessing();
    for n in 0..6 {
        let body = json!({
            "prompt": "the".repeat(20 + n), "temperature": 0, "stream": true, "max_tokens": 700,
            "logit_bias": {"66": 100}, "n": 2,
        });
        let mut chunks = server.open("/v1/completions", &body);
        assert!(chunks.next().is_some());
        drop(chunks);
    }
    server.wait_until("all are gone", |state| state["running"] == 0);
    let kept = server.complete(&json!({"prompt": "the", "max_tokens": 5}));
    assert_eq!(kept.status, 200, "{kept:?}");
}
