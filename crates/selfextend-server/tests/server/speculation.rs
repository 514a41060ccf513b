//! Answers whose tokens are guessed are those without guesses, in company, whatever is asked for.

use crate::common::{self, Running, Tiny, endless, prose, start};
use serde_json::{Value, json};
use std::thread;

fn guessing() -> Running {
    let mut config = common::config();
    config.speculate = true;
    start(config)
}

/// The model drafts for itself, or one with other weights does.
fn drafting(seed: u64, speculate: bool) -> Running {
    let mut config = common::config();
    config.speculate = speculate;
    // The tiny model itself is as slow as its draft.
    config.scheduler.prices = Some((0.01, 0.01));
    let tiny = Tiny {
        seed,
        ..Tiny::default()
    };
    config.draft = Some(common::draft(&tiny));
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
    compare(&guessing());
}

/// Most prompts are longer than the draft's window of 64 tokens.
#[test]
fn answers_are_those_without_a_draft() {
    for (seed, speculate) in [(7, false), (8, false), (7, true)] {
        compare(&drafting(seed, speculate));
    }
}

/// Asks for all answers at once, and one by one of a server that guesses nothing.
fn compare(server: &Running) {
    let (guessed_before, right_before) = guesses(server);
    let plain = start(common::config());
    let alone: Vec<Value> = (bodies().iter())
        .map(|body| plain.complete(body).body)
        .collect();
    thread::scope(|scope| {
        for (n, body) in bodies().into_iter().enumerate() {
            let alone = &alone;
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
    let (guessed, right) = guesses(server);
    let (guessed, right) = (guessed - guessed_before, right - right_before);
    assert!(guessed >= right && right > 0.0, "{guessed} {right}");
}

/// How many tokens were guessed by the servers of this process, and how many of them rightly.
fn guesses(server: &Running) -> (f64, f64) {
    let [guessed, right] = ["guessed_tokens", "guessed_right"]
        .map(|it| metric(server, &format!("selfextend_{it}_total ")));
    (guessed, right)
}

#[test]
fn a_draft_is_part_of_the_memory() {
    let (text, draft) = (
        common::load(&Tiny::default()),
        common::draft(&Tiny::default()),
    );
    let ladder = || common::ladder(&text);
    let full = |draft| selfextend_server::full_context_bytes(&text, draft, &ladder()).unwrap();
    let own = draft.session_bytes(common::CONTEXT).unwrap().full();
    assert!(own > 0);
    assert_eq!(full(Some(&draft)), full(None) + own);
    // A request that fits without a draft does not with one.
    let mut config = common::config();
    config.scheduler.kv_memory = full(Some(&draft));
    let body = json!({"prompt": prose(300, 1), "n": 2, "max_tokens": 500, "seed": 1});
    let plain = start(config.clone());
    assert_eq!(plain.complete(&body).status, 200);
    config.draft = Some(draft);
    let server = start(config);
    server.complete(&body).fails(400, "kv_memory_exceeded");
}

#[test]
fn clients_may_go_away_and_memory_is_given_back() {
    go_away(&guessing());
    go_away(&drafting(7, false));
}

fn go_away(server: &Running) {
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
