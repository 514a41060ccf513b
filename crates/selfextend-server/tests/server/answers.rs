//! What is answered, and what is refused.

use crate::common::{CONTEXT, WINDOW, config, endless, prose, start, streamed_text};
use crate::seeded;
use serde_json::{Value, json};
use std::thread;

#[test]
fn a_chat_is_answered_whole_and_streamed_alike() {
    let server = start(config());
    let mut body = json!({
        "model": "tiny", "seed": 3, "max_completion_tokens": 20,
        "messages": [{"role": "system", "content": "the"}, {"role": "user", "content": "an ant"}],
    });
    let whole = server.post("/v1/chat/completions", &body);
    assert_eq!(whole.status, 200, "{whole:?}");
    let choice = &whole.body["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert!(["stop", "length"].contains(&choice["finish_reason"].as_str().unwrap()));
    assert_eq!(whole.body["object"], "chat.completion");
    let usage = &whole.body["usage"];
    let number = |key: &str| usage[key].as_u64().unwrap();
    assert_eq!(
        number("total_tokens"),
        number("prompt_tokens") + number("completion_tokens")
    );
    assert_eq!(usage["selfextend"]["group_size"], 1);
    assert_eq!(usage["selfextend"]["trained_window"], WINDOW);

    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let chunks: Vec<Value> = server.open("/v1/chat/completions", &body).collect();
    assert_eq!(streamed_text(&chunks), whole.text());
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let [.., finish, last, done] = &chunks[..] else {
        panic!("{chunks:?}");
    };
    assert_eq!(
        finish["choices"][0]["finish_reason"],
        choice["finish_reason"]
    );
    assert_eq!(last["choices"], json!([]));
    assert_eq!(
        last["usage"]["completion_tokens"],
        usage["completion_tokens"]
    );
    assert_eq!(done, "[DONE]");
}

/// The text of a seeded request does not depend on what runs beside it, on how its prompt is cut,
/// or on what is in the prefix cache.
#[test]
fn texts_do_not_depend_on_company() {
    let lens = [3, 40, 63, 200, 300, 530, 700, 41, 9, 290, 555, 70];
    let prompts: Vec<String> = lens
        .iter()
        .enumerate()
        .map(|(n, len)| prose(n % 3, *len))
        .collect();
    let body = |n: usize| {
        let mut body = seeded(&prompts[n], n as u64);
        body["temperature"] = json!(if n.is_multiple_of(4) { 0.0 } else { 1.0 });
        body
    };
    let alone: Vec<String> = {
        // One at a time, and room for no prefix.
        let mut config = config();
        config.scheduler.parallel = 1;
        config.scheduler.chunk = 1000;
        let server = start(config);
        (0..lens.len())
            .map(|n| server.complete(&body(n)).text().to_owned())
            .collect()
    };
    assert!(alone.iter().all(|text| !text.is_empty()));
    let server = start(config());
    for round in ["first", "cached"] {
        thread::scope(|scope| {
            let asked: Vec<_> = (0..lens.len())
                .map(|n| {
                    scope.spawn({
                        let server = &server;
                        move || server.complete(&body(n))
                    })
                })
                .collect();
            for (n, asked) in asked.into_iter().enumerate() {
                let reply = asked.join().unwrap();
                assert_eq!(reply.text(), alone[n], "{round} {n}");
                let details = &reply.body["usage"]["prompt_tokens_details"];
                let cached = details["cached_tokens"].as_u64().unwrap() as usize;
                if round == "cached" && lens[n] > 30 {
                    assert!(cached + 1 >= lens[n] - lens[n] / 6, "{n}: {cached}");
                }
            }
        });
    }
}

#[test]
fn the_parameters_do_what_openai_says() {
    let server = start(config());
    let ask = |more: Value| {
        let mut body = json!({"prompt": "the ant", "max_tokens": 12, "temperature": 0, "logit_bias": endless()});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        server.complete(&body)
    };
    let plain = ask(json!({}));
    assert_eq!(plain.body["usage"]["completion_tokens"], 12);
    assert_eq!(plain.body["choices"][0]["finish_reason"], "length");
    let text = plain.text();
    // A stop text ends the answer before it.
    let stop = text.chars().nth(4).unwrap().to_string();
    let stopped = ask(json!({"stop": [stop]}));
    assert_eq!(stopped.text(), &text[..text.find(&stop).unwrap()]);
    assert_eq!(stopped.body["choices"][0]["finish_reason"], "stop");
    // Penalties and biases change what is said.
    assert_ne!(
        ask(json!({"frequency_penalty": 2, "presence_penalty": 2})).text(),
        text
    );
    let bias = json!({"logit_bias": {"66": 100}});
    let forced = ask(bias);
    assert!(forced.text().chars().all(|c| forced.text().starts_with(c)));
    // Several answers to several prompts, by seed.
    let many = ask(json!({"prompt": ["the", "an", "x"], "n": 2, "temperature": 1, "seed": 5}));
    let choices = many.body["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 6);
    let second = ask(json!({"prompt": "the", "temperature": 1, "seed": 6}));
    assert_eq!(choices[1]["text"], second.text());
    assert_ne!(choices[0]["text"], choices[1]["text"]);
    assert_eq!(choices[5]["index"], 5);
    // Ids are prompts too, and prompts can be echoed.
    let ids = server
        .post("/tokenize", &json!({"content": "the ant"}))
        .body["tokens"]
        .clone();
    let echoed = ask(json!({"prompt": ids, "echo": true}));
    assert_eq!(echoed.text(), format!("the ant{text}"));
}

#[test]
fn probabilities_are_reported_in_both_shapes() {
    let server = start(config());
    let plain = json!({"prompt": "the ant", "max_tokens": 5, "logprobs": 2, "temperature": 0, "logit_bias": endless()});
    let reply = server.complete(&plain);
    let logprobs = &reply.body["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 5);
    assert_eq!(logprobs["text_offset"][0], 0);
    assert_eq!(logprobs["top_logprobs"][4].as_object().unwrap().len(), 2);
    let chat = json!({
        "messages": [{"role": "user", "content": "hi"}], "logit_bias": endless(),
        "max_tokens": 5, "logprobs": true, "top_logprobs": 3, "temperature": 0, "stream": true,
    });
    let chunks: Vec<Value> = server.open("/v1/chat/completions", &chat).collect();
    let tokens: Vec<&Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .collect();
    assert_eq!(tokens.len(), 5);
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        let logprob = |t: &Value| t["logprob"].as_f64().unwrap();
        assert!(top.len() == 3 && logprob(&top[0]) >= logprob(&top[2]));
        assert!(logprob(token) <= logprob(&top[0]) && logprob(&top[0]) <= 0.0);
    }
}

#[test]
fn no_schema_lets_an_answer_be_endless_white_space() {
    let server = start(config());
    // Strings of JSON do not hold them either.
    for white in ["\n", "\t"] {
        let tokens = server.post("/tokenize", &json!({"content": white}));
        let bias = json!({tokens.body["tokens"][0].to_string(): 100});
        for schema in [json!(true), json!({}), json!({"type": ["array", "object"]})] {
            let body = json!({
                "prompt": "the", "max_tokens": 30, "seed": 1, "logit_bias": bias,
                "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
            });
            let reply = server.complete(&body);
            let text = reply.text();
            assert!(!text.contains(white), "{schema}: {text:?}");
        }
    }
}

#[test]
fn offsets_of_tokens_count_the_characters_of_the_text() {
    let server = start(config());
    let told = "é€😀x";
    let mut body = json!({
        "prompt": "the ant", "max_tokens": 40, "logprobs": 0, "temperature": 0,
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"const": told}}},
    });
    let whole = server.complete(&body);
    assert_eq!(whole.text(), format!("\"{told}\""));
    // The tiny model has a token for each byte, and none for several bytes of these characters.
    let characters = whole.text().chars().enumerate();
    let places: Vec<usize> = characters
        .flat_map(|(place, character)| vec![place; character.len_utf8()])
        .collect();
    let offsets = &whole.body["choices"][0]["logprobs"]["text_offset"];
    assert_eq!(*offsets, json!(places));
    body["stream"] = json!(true);
    let streamed: Vec<Value> = server
        .open("/v1/completions", &body)
        .filter_map(|chunk| {
            Some(
                chunk["choices"][0]["logprobs"]["text_offset"]
                    .as_array()?
                    .clone(),
            )
        })
        .flatten()
        .collect();
    assert_eq!(Value::from(streamed), *offsets);
}

#[test]
fn answers_can_be_held_to_a_schema() {
    let server = start(config());
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["colour", "more"],
        "properties": {"colour": {"enum": ["red", "blue"]}, "more": {"$ref": "#/$defs/more"}},
        "$defs": {"more": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}},
    });
    for seed in 0..3 {
        let reply = server.post("/v1/chat/completions", &json!({
            "messages": [{"role": "user", "content": "hi"}], "max_tokens": 400, "seed": seed, "n": 2,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        }));
        for choice in reply.body["choices"].as_array().unwrap() {
            let text = choice["message"]["content"].as_str().unwrap();
            let value: Value =
                serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text:?}"));
            assert!(
                ["red", "blue"].contains(&value["colour"].as_str().unwrap()),
                "{value}"
            );
            assert!(value["more"].as_array().unwrap().len() <= 2, "{value}");
            assert_eq!(choice["finish_reason"], "stop");
        }
    }
    let object = server.complete(&json!({
        "prompt": "x", "max_tokens": 3, "response_format": {"type": "json_object"},
    }));
    assert!(object.text().trim_start().starts_with('{'), "{object:?}");
    let bad = json!({"prompt": "x", "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}}});
    server.complete(&bad).fails(400, "invalid_value");
}

#[test]
fn everything_beside_completions() {
    let server = start(config());
    assert_eq!(server.get("/health").body["status"], "ok");
    assert_eq!(server.get("/ready").body["status"], "ready");
    let models = server.get("/v1/models").body;
    assert_eq!(models["data"][0]["id"], "tiny");
    assert_eq!(models["data"][0]["context_length"], CONTEXT);
    assert_eq!(server.get("/v1/models/tiny").body["object"], "model");
    server.get("/v1/models/gpt-4").fails(404, "model_not_found");
    let text = "the ant <|im_end|> and é 🦀";
    let tokens = server.post("/tokenize", &json!({"content": text})).body["tokens"].clone();
    let special = json!({"content": text, "parse_special": true});
    let special = server.post("/tokenize", &special).body["tokens"].clone();
    let ids = |tokens: &Value| tokens.as_array().unwrap().iter().any(|id| id == 262);
    assert!(ids(&special) && !ids(&tokens));
    let back = server.post("/detokenize", &json!({"tokens": tokens}));
    assert_eq!(back.body["content"], text);
    server
        .post("/detokenize", &json!({"tokens": [9999]}))
        .fails(400, "invalid_value");
    server
        .post("/v1/embeddings", &json!({"input": "x"}))
        .fails(400, "unsupported_parameter");
    server
        .complete(&json!({"prompt": "the", "max_tokens": 2}))
        .text();
    let metrics = server.get_text("/metrics");
    for name in [
        "selfextend_http_requests_total{",
        "selfextend_time_to_first_token_seconds_bucket{",
        "selfextend_generated_tokens_total",
        "selfextend_kv_budget_bytes",
        "selfextend_queued_requests",
    ] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
    assert!(server.get_text("/").contains("<!doctype html>"));
}

#[test]
fn bad_requests_are_told_what_is_wrong() {
    let mut config = config();
    config.http.body = 100_000;
    let server = start(config);
    let chat = |body: &str| server.post_text("/v1/chat/completions", body);
    chat("{").fails(400, "");
    chat("").fails(400, "");
    chat(&"[".repeat(50_000)).fails(400, "");
    chat(r#"{"messages": [{"role": "user", "content": 5}]}"#).fails(400, "invalid_value");
    chat(r#"{"messages": []}"#).fails(400, "invalid_value");
    chat(r#"{"messages": [{"role": "user"}], "model": "gpt-4"}"#).fails(404, "model_not_found");
    chat(r#"{"messages": [{"role": "user"}], "temperature": 9}"#).fails(400, "invalid_value");
    chat(r#"{"messages": [{"role": "user"}], "n": 99}"#).fails(400, "invalid_value");
    chat(r#"{"messages": [{"role": "user"}], "tools": [{}]}"#).fails(400, "unsupported_parameter");
    server
        .complete(&json!({"prompt": "the", "unknown": {"a": [1]}}))
        .fails(400, "unsupported_parameter");
    server
        .post("/tokenize", &json!({"content": "the", "with_pieces": true}))
        .fails(400, "unsupported_parameter");
    server
        .complete(&json!({"prompt": ""}))
        .fails(400, "invalid_value");
    server
        .complete(&json!({"prompt": [99999]}))
        .fails(400, "invalid_value");
    server
        .complete(&json!({"messages": []}))
        .fails(400, "invalid_value");
    server.get("/etc/passwd").fails(404, "");
    server.get("/v1/completions").fails(405, "");
    // What the server refuses without reading it all may also end as a broken connection.
    let large =
        ureq::post(&format!("{}/v1/completions", server.base)).send_string(&"x".repeat(200_000));
    match large {
        Err(ureq::Error::Status(413, _) | ureq::Error::Transport(_)) => {}
        other => panic!("{other:?}"),
    }
    // After all that it serves.
    assert_eq!(
        server
            .complete(&json!({"prompt": "the", "user": {"a": [1]}}))
            .status,
        200
    );
}

#[test]
fn keys_guard_everything_but_health_and_pages_of_others_are_refused() {
    let mut config = config();
    config.api_keys = vec!["first".into(), "second".into()];
    let server = start(config);
    for path in ["/v1/models", "/metrics", "/nowhere"] {
        server.get(path).fails(401, "invalid_api_key");
    }
    let body = json!({"prompt": "the", "max_tokens": 2});
    server.complete(&body).fails(401, "invalid_api_key");
    for (key, status) in [
        ("Bearer first", 200),
        ("Bearer second", 200),
        ("Bearer third", 401),
    ] {
        let reply = server.post_with(("authorization", key), "/v1/completions", &body);
        assert_eq!(reply.status, status, "{key}");
    }
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/ready").status, 200);
    let foreign = server.post_with(("origin", "http://evil.example"), "/v1/completions", &body);
    assert_eq!(foreign.status, 403);
}

#[test]
fn compressed_bodies_are_refused_by_the_name_of_their_coding() {
    let server = start(config());
    let body = json!({"prompt": "the", "max_tokens": 1, "content": "the"});
    for path in [
        "/v1/completions",
        "/v1/chat/completions",
        "/tokenize",
        "/detokenize",
    ] {
        for coding in ["br", "zstd", "identity, deflate", "gzip, gzip", "x-novel"] {
            let reply = server.post_with(("content-encoding", coding), path, &body);
            let message = reply.fails(415, "");
            assert!(message.contains(coding), "{path}: {message}");
        }
    }
    let body = json!({"prompt": "the", "max_tokens": 1});
    for coding in ["identity", "Identity"] {
        let reply = server.post_with(("content-encoding", coding), "/v1/completions", &body);
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}
