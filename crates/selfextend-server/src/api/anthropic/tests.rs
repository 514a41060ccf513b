//! Bodies and events as Anthropic's API reference has them.

use super::request::{translate, translate_to_count};
use super::{read, reply, stream};
use crate::api::completions::Chunk;
use crate::api::error::ApiError;
use proptest::prelude::*;
use serde_json::{Value, json};

fn translated(body: &Value) -> Result<Value, String> {
    let bytes = translate(body.to_string().as_bytes());
    let bytes = bytes.map_err(|error| error.json().to_string())?;
    Ok(serde_json::from_slice(&bytes).unwrap())
}

#[test]
fn a_conversation_with_tools_becomes_one_of_openais() {
    let body = json!({
        "model": "m", "max_tokens": 1024, "stream": true, "temperature": 0.5, "top_k": 40,
        "stop_sequences": ["END"], "metadata": {"user_id": "me"}, "service_tier": "auto",
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "tools": [{
            "name": "get_weather", "description": "Weather of a place.",
            "input_schema": {"type": "object", "properties": {"location": {"type": "string"}}},
        }],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "messages": [
            {"role": "user", "content": "What is the weather in Paris?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "I should look.", "signature": "x"},
                {"type": "text", "text": "I'll look."},
                {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"location": "Paris"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "15 degrees"}]},
                {"type": "text", "text": "And now?"},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A text."}, "title": "T"},
            ]},
        ],
    });
    let expected = json!({
        "model": "m", "max_tokens": 1024, "stream": true, "stream_options": {"include_usage": true},
        "temperature": 0.5, "top_k": 40, "stop": ["END"],
        "tools": [{"type": "function", "function": {
            "name": "get_weather", "description": "Weather of a place.",
            "parameters": {"type": "object", "properties": {"location": {"type": "string"}}},
        }}],
        "tool_choice": "required", "parallel_tool_calls": false,
        "chat_template_kwargs": {"enable_thinking": true},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is the weather in Paris?"},
            {"role": "assistant", "content": "I'll look.", "reasoning_content": "I should look.",
             "tool_calls": [{"id": "toolu_1", "type": "function", "function": {
                 "name": "get_weather", "arguments": "{\"location\":\"Paris\"}",
             }}]},
            {"role": "tool", "tool_call_id": "toolu_1", "content": "15 degrees"},
            {"role": "user", "content": "And now?\nT\n\nA text."},
        ],
    });
    assert_eq!(translated(&body).unwrap(), expected);
}

#[test]
fn a_begun_answer_is_continued_and_an_output_format_is_a_schema() {
    let body = json!({
        "model": "m", "max_tokens": 5, "messages": [
            {"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "It is"},
        ],
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    });
    let chat = translated(&body).unwrap();
    assert_eq!(chat["continue_final_message"], true);
    assert_eq!(chat["add_generation_prompt"], false);
    assert_eq!(
        chat["response_format"]["json_schema"]["schema"],
        json!({"type": "object"})
    );
}

#[test]
fn what_has_no_counterpart_is_refused_by_name() {
    let ask = |more: Value| {
        let mut body = json!({
            "model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}],
        });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        translated(&body)
    };
    assert!(ask(json!({"container": null, "inference_geo": "eu"})).is_ok());
    let image = json!([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aa"}}]);
    for (more, part) in [
        (json!({"mcp_servers": [{"type": "url"}]}), "mcp_servers"),
        (json!({"unheard_of": 1}), "unheard_of"),
        (
            json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
            "tools[0]",
        ),
        (json!({"tool_choice": {"type": "tool"}}), "tool_choice"),
        (json!({"thinking": {"type": "maybe"}}), "thinking"),
        (
            json!({"messages": [{"role": "system", "content": "x"}]}),
            "messages[0].role",
        ),
        (
            json!({"messages": [{"role": "user", "content": image}]}),
            "image",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "bold": 1}]}]}),
            "bold",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": {}}]}]}),
            "tool_use",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "b", "input": {}}]}]}),
            "no id",
        ),
        (json!({"max_tokens": null}), "max_tokens"),
    ] {
        let error = ask(more.clone()).unwrap_err();
        assert!(error.contains(part), "{more}: {error}");
    }
    // Counting needs no limit.
    assert!(translate_to_count(br#"{"messages": [{"role": "user", "content": "x"}]}"#).is_ok());
}

fn read_of() -> reply::Read {
    reply::Read::for_test(100, 60)
}

#[test]
fn a_reply_has_blocks_for_what_was_thought_said_and_called() {
    let whole = json!({
        "choices": [{"finish_reason": "tool_calls", "stop_reason": null, "message": {
            "role": "assistant", "content": "I'll look.", "reasoning_content": "Hm.",
            "tool_calls": [{"id": "c1", "type": "function", "function": {
                "name": "get_weather", "arguments": "{\"location\": \"Paris\"}",
            }}],
        }}],
        "usage": {"completion_tokens": 7},
    });
    let expected = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": ""},
            {"type": "text", "text": "I'll look."},
            {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"location": "Paris"}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {
            "input_tokens": 40, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 60,
            "output_tokens": 7,
        },
    });
    assert_eq!(reply::message(&whole, &read_of()), expected);
}

#[test]
fn a_stream_opens_and_closes_its_blocks() {
    let delta = |delta: Value| json!({"choices": [{"delta": delta, "finish_reason": null}]});
    let parts = [
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"content": "Hel"})),
        delta(json!({"content": "lo"})),
        delta(
            json!({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}]}),
        ),
        delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\":1}"}}]})),
        json!({"choices": [{"delta": {}, "finish_reason": "tool_calls", "stop_reason": null}]}),
        json!({"choices": [], "usage": {"completion_tokens": 9}}),
    ];
    let mut writer = stream::Writer::new(read_of());
    let mut events = writer.start();
    let chunks = parts.into_iter().map(Chunk::Part).chain([Chunk::End]);
    events.extend(chunks.flat_map(|chunk| writer.take(&chunk)));
    let expected = json!([
        {"type": "message_start", "message": read_of().message(Vec::new(), 0)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "c1", "name": "f", "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":1}"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": read_of().usage(9)},
        {"type": "message_stop"},
    ]);
    assert_eq!(Value::from(events), expected);
    let mut writer = stream::Writer::new(read_of());
    let failed = writer.take(&Chunk::Failed(ApiError::busy()));
    assert_eq!(failed[0]["error"]["type"], "rate_limit_error");
    assert!(writer.take(&Chunk::End).is_empty());
}

proptest! {
    #[test]
    fn arbitrary_bodies_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&bytes);
    }

    #[test]
    fn arbitrary_contents_do_not_panic(kind in "[a-z_]{0,12}", text in ".{0,20}", role in "(user|assistant|tool)") {
        let block = json!({"type": kind, "text": text, "id": text, "content": [{"type": kind}]});
        let body = json!({"max_tokens": 1, "messages": [{"role": role, "content": [block]}]});
        read(body.to_string().as_bytes());
    }
}
