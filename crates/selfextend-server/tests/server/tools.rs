//! Functions that are called, as clients see it.

use crate::common::{config, start};
use serde_json::{Value, json};

fn weather(strict: bool) -> Value {
    json!({"type": "function", "function": {
        "name": "get_weather",
        "description": "The weather.",
        "strict": strict,
        "parameters": {
            "type": "object",
            "properties": {
                "unit": {"enum": ["C", "F"]},
                "days": {"type": "integer", "minimum": 0, "maximum": 9},
            },
            "required": ["unit", "days"],
            "additionalProperties": false,
        },
    }})
}

fn stop() -> Value {
    json!({"type": "function", "function": {"name": "stop"}})
}

fn body(choice: Value) -> Value {
    json!({
        "messages": [{"role": "user", "content": "hi"}], "max_tokens": 250, "seed": 5,
        "tools": [weather(true), stop()], "tool_choice": choice,
    })
}

/// The calls of a stream, put together as clients do.
fn streamed(chunks: &[Value]) -> Vec<Value> {
    let mut calls: Vec<Value> = Vec::new();
    for chunk in chunks {
        for delta in chunk["choices"][0]["delta"]["tool_calls"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let index = delta["index"].as_u64().unwrap() as usize;
            if index == calls.len() {
                assert!(
                    delta["id"].is_string() && delta["type"] == "function",
                    "{delta}"
                );
                calls.push(json!({"name": delta["function"]["name"], "arguments": ""}));
            }
            let more = delta["function"]["arguments"].as_str().unwrap();
            let so_far = calls[index]["arguments"].as_str().unwrap();
            calls[index]["arguments"] = json!(format!("{so_far}{more}"));
        }
    }
    calls
}

fn check_weather(arguments: &Value) {
    let arguments: Value = serde_json::from_str(arguments.as_str().unwrap()).unwrap();
    assert!(
        ["C", "F"].contains(&arguments["unit"].as_str().unwrap()),
        "{arguments}"
    );
    assert!(arguments["days"].as_u64().unwrap() <= 9, "{arguments}");
    assert_eq!(arguments.as_object().unwrap().len(), 2);
}

/// A model without any training calls functions, where it must.
#[test]
fn required_calls_follow_their_schemas_whole_and_streamed() {
    let server = start(config());
    let named = json!({"type": "function", "function": {"name": "get_weather"}});
    let mut body = body(named);
    for seed in 0..3 {
        body["seed"] = json!(seed);
        body["stream"] = json!(false);
        let reply = server.post("/v1/chat/completions", &body);
        assert_eq!(reply.status, 200, "{reply:?}");
        let choice = &reply.body["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
        assert_eq!(choice["message"]["content"], Value::Null);
        let [call] = &choice["message"]["tool_calls"].as_array().unwrap()[..] else {
            panic!("{choice}");
        };
        assert_eq!(call["function"]["name"], "get_weather");
        assert!(call["id"].as_str().unwrap().starts_with("call_"));
        check_weather(&call["function"]["arguments"]);
        body["stream"] = json!(true);
        let chunks: Vec<Value> = server.open("/v1/chat/completions", &body).collect();
        let calls = streamed(&chunks);
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0], call["function"]);
        let pieces = chunks.iter().filter(|chunk| {
            chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].is_string()
        });
        // The name first, then the arguments as they come.
        assert!(pieces.count() > 3, "{chunks:?}");
        let last = &chunks[chunks.len() - 2]["choices"][0];
        assert_eq!(last["finish_reason"], "tool_calls");
    }
}

#[test]
fn any_function_is_called_where_one_is_required() {
    let server = start(config());
    let mut body = body(json!("required"));
    body["parallel_tool_calls"] = json!(false);
    let token = |letter: &str| {
        let tokens = server.post("/tokenize", &json!({"content": letter}));
        tokens.body["tokens"][0].to_string()
    };
    for (letter, name) in [("g", "get_weather"), ("s", "stop")] {
        // The model would rather say nothing else.
        body["logit_bias"] = json!({token(letter): 30});
        let reply = server.post("/v1/chat/completions", &body);
        let calls = reply.body["choices"][0]["message"]["tool_calls"].clone();
        let calls = calls.as_array().unwrap_or_else(|| panic!("{reply:?}"));
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0]["function"]["name"], name, "{reply:?}");
    }
}

#[test]
fn a_call_that_its_limit_cuts_off_says_so() {
    let server = start(config());
    let mut body = body(json!("required"));
    body["tools"] = json!([weather(true)]);
    // As many as the name takes, and a few.
    body["max_tokens"] = json!(60);
    let reply = server.post("/v1/chat/completions", &body);
    let choice = &reply.body["choices"][0];
    assert_eq!(choice["finish_reason"], "length", "{choice}");
    let function = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!(function["name"], "get_weather", "{choice}");
    assert!(
        function["arguments"].as_str().unwrap().starts_with("{"),
        "{choice}"
    );
}

#[test]
fn histories_with_calls_are_taken_and_change_the_prompt() {
    let server = start(config());
    let ask = |more: Value, tools: Value| {
        let mut messages = vec![json!({"role": "user", "content": "hi"})];
        messages.extend(more.as_array().unwrap().iter().cloned());
        let reply = server.post(
            "/v1/chat/completions",
            &json!({
                "messages": messages, "tools": tools, "max_tokens": 1,
            }),
        );
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let plain = ask(json!([]), json!([]));
    let tools = ask(json!([]), json!([stop()]));
    let call = json!({"id": "call_1", "type": "function",
        "function": {"name": "stop", "arguments": "{\"a\": 1}"}});
    let called = json!([
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    ]);
    assert!(plain < tools);
    assert!(plain + 20 < ask(called.clone(), json!([])));
    assert!(tools + 20 < ask(called, json!([stop()])));
}

#[test]
fn what_cannot_be_done_with_tools_is_refused_by_name() {
    let server = start(config());
    let ask = |field: &str, value: Value| {
        let mut body = body(json!("auto"));
        body[field] = value;
        server.post("/v1/chat/completions", &body)
    };
    ask("tools", json!([{"type": "web_search"}])).fails(400, "unsupported_parameter");
    ask("tools", json!({})).fails(400, "invalid_value");
    ask("tools", json!("x")).fails(400, "invalid_value");
    ask("tool_choice", json!("sometimes")).fails(400, "invalid_value");
    ask(
        "tool_choice",
        json!({"type": "function", "function": {"name": "x"}}),
    )
    .fails(400, "invalid_value");
    ask("parallel_tool_calls", json!("yes")).fails(400, "invalid_value");
    ask("functions", json!([{"name": "f"}])).fails(400, "unsupported_parameter");
    ask("reasoning_effort", json!("high")).fails(400, "unsupported_parameter");
    ask("reasoning_effort", json!("total")).fails(400, "invalid_value");
    ask("chat_template_kwargs", json!({"enable_thinking": false}))
        .fails(400, "unsupported_parameter");
    ask("chat_template_kwargs", json!({"messages": []})).fails(400, "invalid_value");
    ask("chat_template_kwargs", json!(7)).fails(400, "invalid_value");
    ask("continue_final_message", json!(true)).fails(400, "invalid_value");
    let bad = json!([{"type": "function", "function": {
        "name": "f", "strict": true, "parameters": {"type": "object", "properties": {"a": {"type": "nonsense"}}},
    }}]);
    let error = ask("tools", bad);
    assert!(error.fails(400, "invalid_value").contains("tools"));
    let many: Vec<Value> = (0..1100)
        .map(|n| json!({"type": "function", "function": {"name": format!("f{n}")}}))
        .collect();
    ask("tools", json!(many)).fails(400, "invalid_value");
    let long = "x".repeat(200_000);
    ask(
        "tools",
        json!([{"type": "function", "function": {"name": "f", "description": long}}]),
    )
    .fails(400, "invalid_value");
    let mut deep = json!({"type": "string"});
    for _ in 0..60 {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    let deep = json!([{"type": "function", "function": {"name": "f", "parameters": deep}}]);
    // It is read, and longer than this small context.
    ask("tools", deep).fails(400, "context_length_exceeded");
    let completion = json!({"prompt": "x", "tools": [stop()]});
    server
        .complete(&completion)
        .fails(400, "unsupported_parameter");
}

#[test]
fn a_message_is_continued() {
    let server = start(config());
    let ask = |more: Value| {
        let mut body = json!({
            "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "the an"}],
            "max_tokens": 4, "temperature": 0,
        });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        server.post("/v1/chat/completions", &body)
    };
    let answered = ask(json!({}));
    let continued = ask(json!({"continue_final_message": true}));
    let ended = ask(json!({"add_generation_prompt": false}));
    let tokens = |reply: &crate::common::Reply| {
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    assert!(tokens(&continued) < tokens(&ended) && tokens(&ended) < tokens(&answered));
    ask(json!({"continue_final_message": true, "add_generation_prompt": true}))
        .fails(400, "invalid_value");
}
