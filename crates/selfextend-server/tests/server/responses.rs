//! `/v1/responses`, as clients see it.

use crate::common::{config, start};
use serde_json::{Value, json};

fn ask(input: Value) -> Value {
    json!({"model": "tiny", "input": input, "max_output_tokens": 12, "temperature": 0})
}

#[test]
fn a_response_is_the_chats_answer_whole_and_streamed() {
    let server = start(config());
    let chat = server.post("/v1/chat/completions", &json!({
        "messages": [{"role": "system", "content": "the"}, {"role": "user", "content": "an ant"}],
        "max_tokens": 12, "temperature": 0,
    }));
    let mut body = ask(json!("an ant"));
    body["instructions"] = json!("the");
    let whole = server.post("/v1/responses", &body);
    assert_eq!(whole.status, 200, "{whole:?}");
    let text = whole.body["output"][0]["content"][0]["text"].clone();
    assert_eq!(text, chat.text());
    let usage = &whole.body["usage"];
    assert_eq!(usage["input_tokens"], chat.body["usage"]["prompt_tokens"]);
    assert_eq!(
        usage["output_tokens"],
        chat.body["usage"]["completion_tokens"]
    );
    let cut = chat.body["choices"][0]["finish_reason"] == "length";
    let status = if cut { "incomplete" } else { "completed" };
    assert_eq!(whole.body["status"], status);

    body["stream"] = json!(true);
    let events: Vec<Value> = server.open("/v1/responses", &body).collect();
    let deltas: String = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .map(|event| event["delta"].as_str().unwrap())
        .collect();
    assert_eq!(text, deltas);
    assert_eq!(events[0]["type"], "response.created");
    let last = events.last().unwrap();
    assert_eq!(last["type"], format!("response.{status}"));
    assert_eq!(
        last["response"]["output"][0]["content"],
        whole.body["output"][0]["content"]
    );
}

#[test]
fn conversations_go_on_from_what_is_kept() {
    let server = start(config());
    let first = server.post("/v1/responses", &ask(json!("an ant")));
    let id = first.body["id"].as_str().unwrap();
    let said = &first.body["output"][0]["content"][0]["text"];
    let mut next = ask(json!("the"));
    next["previous_response_id"] = json!(id);
    let next = server.post("/v1/responses", &next);
    let whole = server.post("/v1/responses", &ask(json!([
        {"role": "user", "content": "an ant"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": said}]},
        {"role": "user", "content": [{"type": "input_text", "text": "the"}]},
    ])));
    assert_eq!(
        next.body["output"][0]["content"],
        whole.body["output"][0]["content"]
    );
    assert_eq!(
        next.body["usage"]["input_tokens"],
        whole.body["usage"]["input_tokens"]
    );
    let path = format!("/v1/responses/{id}");
    assert_eq!(server.get(&path).body, first.body);

    let mut secret = ask(json!("an ant"));
    secret["store"] = json!(false);
    let secret = server.post("/v1/responses", &secret);
    let mut lost = ask(json!("the"));
    lost["previous_response_id"] = secret.body["id"].clone();
    server
        .post("/v1/responses", &lost)
        .fails(404, "previous_response_not_found");
    assert_eq!(server.get("/v1/responses/none").status, 404);
}

#[test]
fn functions_are_called_and_answered() {
    let server = start(config());
    let tool = json!({"type": "function", "name": "pick", "strict": true, "parameters": {
        "type": "object", "properties": {"colour": {"enum": ["red", "blue"]}},
        "required": ["colour"], "additionalProperties": false,
    }});
    let mut body = ask(json!("an ant"));
    body["max_output_tokens"] = json!(300);
    body["tools"] = json!([tool]);
    body["tool_choice"] = json!({"type": "function", "name": "pick"});
    let reply = server.post("/v1/responses", &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    let call = &reply.body["output"][0];
    assert_eq!(
        (&call["type"], &call["name"]),
        (&json!("function_call"), &json!("pick"))
    );
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(["red", "blue"].contains(&arguments["colour"].as_str().unwrap()));
    body["stream"] = json!(true);
    let events: Vec<Value> = server.open("/v1/responses", &body).collect();
    let names: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(names[2], "response.output_item.added");
    assert_eq!(names[3], "response.function_call_arguments.delta");
    assert_eq!(
        names[names.len() - 3..],
        [
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let mut next = ask(json!([
        {"type": "function_call_output", "call_id": call["call_id"], "output": "done"},
    ]));
    next["previous_response_id"] = reply.body["id"].clone();
    let next = server.post("/v1/responses", &next);
    assert_eq!(next.status, 200, "{next:?}");
    let used = next.body["usage"]["input_tokens"].as_u64().unwrap();
    assert!(used > 60, "{next:?}");
}

#[test]
fn text_is_held_to_a_schema() {
    let server = start(config());
    let mut body = ask(json!("an ant"));
    body["max_output_tokens"] = json!(200);
    body["text"] = json!({"format": {"type": "json_schema", "name": "x", "strict": true,
        "schema": {"enum": ["red", "blue"]}}});
    let reply = server.post("/v1/responses", &body);
    let text = reply.body["output"][0]["content"][0]["text"]
        .as_str()
        .unwrap();
    assert!(["\"red\"", "\"blue\""].contains(&text), "{reply:?}");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let server = start(config());
    for (field, value, code) in [
        ("background", json!(true), "unsupported_parameter"),
        ("truncation", json!("auto"), "unsupported_parameter"),
        ("prompt", json!({"id": "x"}), "unsupported_parameter"),
        ("conversation", json!("x"), "unsupported_parameter"),
        (
            "include",
            json!(["file_search_call.results"]),
            "unsupported_parameter",
        ),
        ("top_logprobs", json!(3), "unsupported_parameter"),
        (
            "reasoning",
            json!({"summary": "auto"}),
            "unsupported_parameter",
        ),
        (
            "reasoning",
            json!({"effort": "high"}),
            "unsupported_parameter",
        ),
        ("text", json!({"verbosity": "low"}), "unsupported_parameter"),
        ("text", json!({"format": {"type": "xml"}}), "invalid_value"),
        (
            "tools",
            json!([{"type": "web_search"}]),
            "unsupported_parameter",
        ),
        ("tools", json!([{"type": "function"}]), "invalid_value"),
        (
            "tool_choice",
            json!({"type": "function", "name": "none"}),
            "invalid_value",
        ),
        (
            "tool_choice",
            json!({"type": "file_search"}),
            "unsupported_parameter",
        ),
        ("input", json!([]), "invalid_value"),
        (
            "input",
            json!([{"type": "item_reference", "id": "x"}]),
            "unsupported_parameter",
        ),
        (
            "input",
            json!([{"type": "computer_call"}]),
            "unsupported_parameter",
        ),
        (
            "input",
            json!([{"role": "user", "content": [{"type": "input_image"}]}]),
            "unsupported_parameter",
        ),
        (
            "input",
            json!([{"role": "critic", "content": "x"}]),
            "invalid_value",
        ),
        ("input", json!(7), "invalid_value"),
        ("max_output_tokens", json!(0), "invalid_value"),
        ("temprature", json!(1), "unsupported_parameter"),
        (
            "previous_response_id",
            json!("resp_x"),
            "previous_response_not_found",
        ),
    ] {
        let mut body = ask(json!("hi"));
        body[field] = value;
        let reply = server.post("/v1/responses", &body);
        let status = if code == "previous_response_not_found" {
            404
        } else {
            400
        };
        reply.fails(status, code);
    }
    for known in [
        "user",
        "metadata",
        "service_tier",
        "prompt_cache_key",
        "max_tool_calls",
    ] {
        let mut body = ask(json!("hi"));
        body[known] = json!(null);
        assert_eq!(server.post("/v1/responses", &body).status, 200, "{known}");
    }
}
