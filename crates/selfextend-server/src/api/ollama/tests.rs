//! Bodies and lines as Ollama's API reference has them.

use super::read;
use super::reply::{Shape, Writer};
use super::request::{Kind, chat, kind, message, raw};
use crate::api::error::ApiError;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Instant;

type Translated = Result<Vec<u8>, ApiError>;

fn translated(translate: fn(&[u8]) -> Translated, body: &Value) -> Result<Value, String> {
    let bytes = translate(body.to_string().as_bytes());
    let bytes = bytes.map_err(|error| error.json().to_string())?;
    Ok(serde_json::from_slice(&bytes).unwrap())
}

#[test]
fn a_conversation_with_tools_becomes_one_of_openais() {
    let body = json!({
        "model": "m:latest", "keep_alive": "5m", "think": true,
        "options": {"temperature": 0, "num_predict": 40.0, "top_k": -1, "repeat_penalty": 1.1, "seed": 7, "num_ctx": 2048, "stop": ["a"]},
        "format": {"type": "object"},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
            {"role": "tool", "content": "11", "tool_name": "f"},
        ],
    });
    let expected = json!({
        "model": "m:latest", "stream": true, "stream_options": {"include_usage": true},
        "temperature": 0.0, "max_tokens": 40, "top_k": 0, "seed": 7, "stop": ["a"],
        "repetition_penalty": 1.1f32, "chat_template_kwargs": {"enable_thinking": true},
        "response_format": {"type": "json_schema", "json_schema": {"name": "format", "schema": {"type": "object"}}},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [
                {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
            ]},
            {"role": "tool", "content": "11", "tool_call_id": "call_0"},
        ],
    });
    assert_eq!(translated(chat, &body).unwrap(), expected);
}

#[test]
fn a_prompt_is_a_message_a_raw_text_or_a_gap() {
    let of = |body: Value| kind(body.to_string().as_bytes()).unwrap().1;
    assert_eq!(
        of(json!({"model": "m"})),
        Kind::Nothing { model: "m".into() }
    );
    assert_eq!(of(json!({"prompt": "x"})), Kind::Message);
    assert_eq!(of(json!({"prompt": "x", "raw": true})), Kind::Raw);
    assert_eq!(of(json!({"prompt": "x", "suffix": "y"})), Kind::Raw);
    let body = json!({"model": "m", "prompt": "x", "system": "s", "stream": false, "format": "json", "options": {"num_predict": -2}});
    let expected = json!({
        "model": "m", "stream": false, "max_tokens": -1, "response_format": {"type": "json_object"},
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}],
    });
    assert_eq!(translated(message, &body).unwrap(), expected);
    let body = json!({"prompt": "x", "suffix": "y", "raw": true, "stream": false});
    let expected = json!({"prompt": "x", "suffix": "y", "stream": false});
    assert_eq!(translated(raw, &body).unwrap(), expected);
}

#[test]
fn what_has_no_counterpart_is_refused_by_name() {
    let user = json!([{"role": "user", "content": "x"}]);
    for (body, part) in [
        (
            json!({"messages": user, "options": {"mirostat": 1}}),
            "options.mirostat",
        ),
        (
            json!({"messages": user, "options": {"repeat_last_n": 64}}),
            "repeat_last_n",
        ),
        (json!({"messages": user, "prompt": "x"}), "prompt"),
        (json!({"messages": user, "unheard_of": 1}), "unheard_of"),
        (json!({"messages": user, "think": 5}), "think"),
        (json!({"messages": user, "format": "yaml"}), "format"),
        (json!({"messages": user, "logprobs": true}), "logprobs"),
        (
            json!({"messages": [{"role": "user", "content": "x", "images": ["aa"]}]}),
            "images",
        ),
    ] {
        let error = translated(chat, &body).unwrap_err();
        assert!(error.contains(part), "{body}: {error}");
    }
    for (body, part) in [
        (json!({"prompt": "x", "template": "t"}), "template"),
        (json!({"prompt": "x", "context": [1]}), "context"),
        (json!({"prompt": "x", "images": ["a"]}), "images"),
    ] {
        let error = translated(message, &body).unwrap_err();
        assert!(error.contains(part), "{body}: {error}");
    }
}

#[test]
fn lines_carry_the_answer_and_the_last_one_its_counts() {
    let mut writer = Writer::new(Shape::Chat, "m".into(), 12, Instant::now());
    let part = |delta: Value| json!({"choices": [{"delta": delta, "finish_reason": null}]});
    let mut lines = Vec::new();
    for part in [
        part(json!({"role": "assistant", "content": ""})),
        part(json!({"content": "Hi"})),
        part(
            json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{\"a\""}}]}),
        ),
        part(json!({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]})),
        json!({"choices": [{"delta": {}, "finish_reason": "length"}]}),
        json!({"choices": [], "usage": {"completion_tokens": 3}}),
    ] {
        lines.extend(writer.part(&part));
    }
    lines.extend(writer.end());
    assert_eq!(lines.len(), 3);
    assert_eq!(
        lines[0]["message"],
        json!({"role": "assistant", "content": "Hi"})
    );
    assert_eq!(lines[0]["done"], false);
    assert_eq!(
        lines[1]["message"]["tool_calls"],
        json!([{"function": {"name": "f", "arguments": {"a": 1}}}])
    );
    let last = &lines[2];
    assert_eq!(
        (&last["done"], &last["done_reason"]),
        (&json!(true), &json!("length"))
    );
    assert_eq!(
        (&last["prompt_eval_count"], &last["eval_count"]),
        (&json!(12), &json!(3))
    );
    for name in [
        "total_duration",
        "load_duration",
        "prompt_eval_duration",
        "eval_duration",
    ] {
        assert!(last[name].is_u64(), "{name}");
    }
    let time = last["created_at"].as_str().unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
}

proptest! {
    #[test]
    fn arbitrary_bodies_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&bytes);
    }
}
