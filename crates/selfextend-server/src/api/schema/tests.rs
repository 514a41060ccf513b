//! Bodies that are right, wrong and arbitrary.

use super::*;
use crate::api::conversation;
use crate::api::fields::{MOST_BIASES, MOST_PROMPTS};
use crate::api::style::ChatStyle;
use crate::test_support::tiny;
use proptest::prelude::*;
use selfextend::chat_template::ChatTemplate;
use serde_json::{Value, json};

fn read(json: &str) -> Result<Completion, String> {
    parse(json.as_bytes()).map_err(|error| error.json().to_string())
}

/// What a template that takes everything is given of a body's messages.
fn shown(mut body: Completion) -> Result<Value, String> {
    let source = "{{ [tools, messages, enable_thinking is defined] | tojson }}";
    let template = ChatTemplate::new(source, "", "").unwrap();
    let style = ChatStyle::new(Some(&template), &tiny().tokenizer, None);
    let read = conversation::read(&mut body, &template, &style);
    let read = read.map_err(|error| error.json().to_string())?;
    let prompt = template.render_conversation(&read.conversation).unwrap();
    Ok(serde_json::from_str(&prompt).unwrap())
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (json, part) in [
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ("{} x", "after the JSON"),
        (
            r#"{"messages":[{"role":"user","content":5}]}"#,
            "messages[0].content",
        ),
        (r#"{"messages":[{"role":7}]}"#, "messages[0].role"),
        (r#"{"temperature":"hot"}"#, "temperature"),
        (r#"{"n":-1}"#, "n: "),
        (r#"{"prompt":{"a":1}}"#, "prompt must be"),
        (r#"{"prompt":["a",1]}"#, "mixes texts and token ids"),
        (r#"{"prompt":[4294967296]}"#, "no token id is that large"),
        (r#"{"prompt":[-1]}"#, "a token id"),
        (r#"{"logprobs":"yes"}"#, "true or false (chat)"),
        (r#"{"stop":[1]}"#, "stop[0]"),
        ("{\"model\":\"\u{0}\"}", "control character"),
    ] {
        let error = read(json).unwrap_err();
        assert!(error.contains(part), "{json}: {error}");
    }
    assert!(parse::<Completion>(b"{\"model\":\"\xff\"}").is_err());
    let deep = format!("{}{}", "{\"x\":".repeat(5000), "1");
    assert!(read(&deep).is_err());
    assert!(read(r#"{"metadata":[1,{"a":null}],"user":"me"}"#).is_ok());
}

#[test]
fn fields_that_would_not_be_used_are_refused_by_name() {
    let message = |field: &str| {
        let body = format!(r#"{{"messages":[{{"role":"assistant","content":null,{field}}}]}}"#);
        shown(read(&body)?)
    };
    for (field, place) in [
        ("temprature", "temprature"),
        ("grammar", "grammar"),
        ("stop_token_ids", "stop_token_ids"),
        ("repeat_penalty", "repeat_penalty"),
    ] {
        let error = read(&format!(r#"{{"{field}":1}}"#)).unwrap_err();
        assert!(error.contains(&format!(r#""param":"{place}""#)), "{error}");
    }
    let error = message(r#""prefix":true"#).unwrap_err();
    assert!(error.contains(r#""messages[0].prefix""#), "{error}");
    for field in [
        "name",
        "tool_calls",
        "refusal",
        "tool_call_id",
        "function_call",
    ] {
        let error = message(&format!(r#""{field}":"x""#)).unwrap_err();
        assert!(error.contains(&format!("messages[0].{field}")), "{error}");
        assert!(message(&format!(r#""{field}":null"#)).is_ok(), "{field}");
    }
    let error =
        shown(read(r#"{"messages":[{"role":"user","content":"x","reasoning":"x"}]}"#).unwrap());
    assert!(error.unwrap_err().contains("messages[0].reasoning"));
    let audio = read(r#"{"modalities":["text","audio"]}"#).unwrap();
    assert!(audio.refuse_unsupported().is_err());
    let text = read(r#"{"modalities":["text"]}"#).unwrap();
    assert!(text.refuse_unsupported().is_ok());
    let long = "x".repeat(1 << 20);
    assert!(read(&format!(r#"{{"{long}":1}}"#)).unwrap_err().len() < 1000);
}

fn defaults() -> Sampling {
    Sampling::new().with_temperature(1.0)
}

#[test]
fn empty_stop_texts_are_refused() {
    for json in [r#"{"stop":""}"#, r#"{"stop":["x",""]}"#] {
        let error = read(json).unwrap().stops().unwrap_err();
        assert!(
            format!("{error:?}").contains("stop: a text is empty"),
            "{error:?}"
        );
    }
    for json in [
        r#"{"stop":null}"#,
        r#"{"stop":[]}"#,
        r#"{"stop":["x"," "]}"#,
    ] {
        assert!(read(json).unwrap().stops().is_ok());
    }
}

#[test]
fn what_a_request_does_not_say_is_the_servers_default() {
    let recommended = Sampling::new()
        .with_temperature(0.6)
        .with_top_k(20)
        .with_top_p(0.95)
        .with_min_p(0.01)
        .with_repetition_penalty(1.1);
    let sampling = |json: &str| {
        let body = read(json).unwrap();
        body.sampling(50, recommended.clone()).unwrap().with_seed(0)
    };
    assert_eq!(sampling("{}"), recommended);
    let said = sampling(r#"{"temperature":1.5,"top_k":0,"min_p":0.0,"repetition_penalty":1.0}"#);
    assert_eq!(said, Sampling::new().with_temperature(1.5).with_top_p(0.95));
}

#[test]
fn values_outside_their_range_are_refused() {
    for json in [
        r#"{"temperature":2.5}"#,
        r#"{"top_p":-0.1}"#,
        r#"{"presence_penalty":3}"#,
        r#"{"logit_bias":{"99":1}}"#,
        r#"{"logit_bias":{"x":1}}"#,
        r#"{"logit_bias":{"1":101}}"#,
    ] {
        assert!(
            read(json).unwrap().sampling(50, defaults()).is_err(),
            "{json}"
        );
    }
    let sampling = read(r#"{"top_p":0,"seed":-2,"logit_bias":{"7":-100}}"#).unwrap();
    let sampling = sampling.sampling(50, defaults()).unwrap();
    assert_eq!((sampling.temperature, sampling.seed), (0.0, u64::MAX - 1));
    assert_eq!(sampling.bias, [(7, -100.0)]);
    let twice = read(r#"{"logit_bias":{"7":100,"07":-5}}"#).unwrap();
    assert_eq!(twice.sampling(50, defaults()).unwrap().bias, [(7, -5.0)]);
    assert!(
        read(r#"{"max_tokens":0}"#)
            .unwrap()
            .max_tokens(true)
            .is_err()
    );
    assert!(
        read(r#"{"logprobs":3}"#)
            .unwrap()
            .top_logprobs(true)
            .is_err()
    );
    assert!(
        read(r#"{"logprobs":6}"#)
            .unwrap()
            .top_logprobs(false)
            .is_err()
    );
    assert_eq!(
        read(r#"{"logprobs":true}"#)
            .unwrap()
            .top_logprobs(true)
            .unwrap(),
        Some(0)
    );
    assert!(
        read(r#"{"tools":[],"best_of":1}"#)
            .unwrap()
            .refuse_unsupported()
            .is_ok()
    );
}

#[test]
fn minus_one_asks_for_any_seed() {
    let seed = || {
        let body = read(r#"{"seed":-1}"#).unwrap();
        body.sampling(50, defaults()).unwrap().seed
    };
    assert_ne!(seed(), seed());
}

#[test]
fn conversations_are_text_by_known_roles() {
    let messages = |json: &str| {
        let body = format!(r#"{{"messages":{json}}}"#);
        shown(read(&body).unwrap()).map(|shown| shown[1].clone())
    };
    let parts = r#"[{"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]"#;
    let read = messages(parts).unwrap();
    assert_eq!(read, json!([{"role": "system", "content": "a\nb"}]));
    let silent = messages(r#"[{"role":"assistant","content":null}]"#).unwrap();
    assert_eq!(silent[0]["content"], "");
    for bad in [
        "[]",
        r#"[{"role":"function","content":"x"}]"#,
        r#"[{"role":"tool","content":null}]"#,
        r#"[{"role":"user","content":[{"type":"image_url"}]}]"#,
        r#"[{"role":"user","content":null}]"#,
        r#"[{"role":"system"}]"#,
    ] {
        assert!(messages(bad).is_err(), "{bad}");
    }
}

#[test]
fn lists_are_bounded_while_they_are_read() {
    let list = |entry: &str, count: usize| vec![entry; count].join(",");
    let message = r#"{"role":"user","content":"x"}"#;
    let part = r#"{"type":"text","text":"x"}"#;
    let parts = |count| {
        let parts = list(part, count);
        format!(r#"{{"messages":[{{"role":"user","content":[{parts}]}}]}}"#)
    };
    let biases = |count: usize| {
        let entries: Vec<String> = (0..count).map(|id| format!("\"{id}\":1")).collect();
        format!(r#"{{"logit_bias":{{{}}}}}"#, entries.join(","))
    };
    /// A body with a list of so many entries.
    type Body<'a> = Box<dyn Fn(usize) -> String + 'a>;
    let cases: [(Body, usize); 6] = [
        (
            Box::new(|count| format!(r#"{{"messages":[{}]}}"#, list(message, count))),
            MOST_MESSAGES,
        ),
        (Box::new(parts), MOST_PARTS),
        (
            Box::new(|count| format!(r#"{{"stop":[{}]}}"#, list(r#""x""#, count))),
            MOST_STOPS,
        ),
        (
            Box::new(|count| format!(r#"{{"prompt":[{}]}}"#, list(r#""x""#, count))),
            MOST_PROMPTS,
        ),
        (
            Box::new(|count| format!(r#"{{"prompt":[{}]}}"#, list("[1]", count))),
            MOST_PROMPTS,
        ),
        (Box::new(biases), MOST_BIASES),
    ];
    for (body, most) in cases {
        assert!(read(&body(most)).is_ok(), "{most}");
        let error = read(&body(most + 1)).unwrap_err();
        assert!(error.contains(&format!("more than {most}")), "{error}");
    }
}

#[test]
fn schemas_are_bounded_and_read() {
    let schema = |text: &str| {
        let body = format!(
            r#"{{"response_format":{{"type":"json_schema","json_schema":{{"name":"x","schema":{text}}}}}}}"#
        );
        read(&body)?
            .schema()
            .map_err(|error| error.json().to_string())
    };
    assert_eq!(
        schema(r#"{"type":"object"}"#),
        Ok(Some(json!({"type":"object"})))
    );
    let long = format!(
        "{{\"enum\":[{}]}}",
        vec!["1"; crate::api::grammar::LONGEST / 2].join(",")
    );
    assert!(schema(&long).unwrap_err().contains("longer than"));
}

#[test]
fn unsupported_fields_are_refused_whatever_they_hold() {
    for (value, refused) in [
        ("null", false),
        ("[]", false),
        ("{}", false),
        ("[1,[2,{\"a\":null}]]", true),
        ("{\"a\":[]}", true),
        ("true", true),
        ("-1", true),
        ("0.5", true),
        ("\"x\"", true),
    ] {
        for name in ["functions", "function_call", "audio"] {
            let body = read(&format!("{{\"{name}\":{value}}}")).unwrap();
            assert_eq!(
                body.refuse_unsupported().is_err(),
                refused,
                "{name} {value}"
            );
        }
    }
}

/// JSON values of every kind, a few levels deep.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        prop_oneof![
            "user",
            "text",
            "json_schema",
            "function",
            "assistant",
            "tool",
            "7"
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop_oneof![
            "role",
            "content",
            "type",
            "text",
            "json_schema",
            "schema",
            "function",
            "name",
            "parameters",
            "tool_calls",
            "arguments",
            "[0-9]{1,12}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|map| Value::from(serde_json::Map::from_iter(map))),
        ]
    })
}

/// Everything that is made of a body before its text is encoded.
fn read_all(body: &[u8]) {
    for chat in [false, true] {
        let Ok(mut body) = parse::<Completion>(body) else {
            return;
        };
        let _ = body.refuse_unsupported();
        let _ = body.sampling(50, defaults());
        let _ = body.stops();
        let _ = body.max_tokens(true);
        let _ = body.top_logprobs(chat);
        let _ = body.schema();
        let _ = body.refuse_chat();
        let _ = shown(body);
    }
}

proptest! {
    /// No body makes the reader panic, whatever its fields hold.
    #[test]
    fn any_fields_are_read_or_refused(
        fields in prop::collection::btree_map(
            prop_oneof![
                "messages", "prompt", "stream", "stream_options", "n", "best_of", "temperature",
                "top_p", "logit_bias", "seed", "stop", "max_tokens", "logprobs", "top_logprobs",
                "response_format", "tools", "audio", "suffix", "tool_choice",
                "chat_template_kwargs", "reasoning_effort", "continue_final_message"
            ],
            value(),
            0..5,
        ),
    ) {
        let body = Value::from(serde_json::Map::from_iter(fields)).to_string();
        read_all(body.as_bytes());
    }

    /// Nor do bytes that are no JSON, or are cut.
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        value in value(),
        cut in 0usize..200,
    ) {
        read_all(&bytes);
        read_all(&[b"{", &bytes[..]].concat());
        let text = json!({"messages": [{"role": "user", "content": value}]}).to_string();
        read_all(&text.as_bytes()[..cut.min(text.len())]);
        let _ = parse::<Tokenize>(&bytes);
        let _ = parse::<Detokenize>(&bytes);
    }
}
