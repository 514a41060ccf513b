//! Calls in every format: as models write them, however a stream is cut, and as grammars allow them.

use super::*;
use crate::api::reasoning::Thinking;
use crate::constrain::{Constraints, Grammar};
use crate::test_support::tiny;
use crate::tool_format::ToolFormat;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;

const FORMATS: [ToolFormat; 7] = [
    ToolFormat::Hermes,
    ToolFormat::Qwen3Coder,
    ToolFormat::Llama3Json,
    ToolFormat::Pythonic,
    ToolFormat::Mistral,
    ToolFormat::MistralArgs,
    ToolFormat::Json,
];

fn tools(choice: Value, parallel: bool, strict: bool) -> Result<ToolSet, String> {
    let tool = |name: &str, parameters: Value| {
        let function = json!({"name": name, "parameters": parameters, "strict": strict});
        let tool = json!({"type": "function", "function": function});
        serde_json::value::to_raw_value(&tool).unwrap()
    };
    let place = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "unit": {"enum": ["C", "F"]},
            "now": {"type": "boolean"},
        },
        "required": ["city"],
        "additionalProperties": false,
    });
    let tools = [
        tool("get_weather", place),
        tool("stop", json!({"type": "object", "properties": {}})),
    ];
    let choice = serde_json::value::to_raw_value(&choice).unwrap();
    ToolSet::read(&tools, Some(&choice), Some(parallel)).map_err(|error| error.json().to_string())
}

fn auto() -> Arc<ToolSet> {
    Arc::new(tools("auto".into(), true, false).unwrap())
}

/// Content and calls of a text that comes in pieces.
fn read(format: ToolFormat, sure: bool, pieces: &[&str]) -> (String, Vec<Call>) {
    let mut parser = CallParser::new(format, auto(), sure);
    let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    parts.extend(parser.finish());
    let (mut content, mut calls) = (String::new(), Vec::<Call>::new());
    for part in parts {
        match part {
            Part::Text(text) => content.push_str(&text),
            Part::Call { index, name } => {
                assert_eq!(index, calls.len());
                let arguments = String::new();
                calls.push(Call { name, arguments });
            }
            Part::Arguments { index, text } => {
                assert_eq!(index + 1, calls.len());
                calls[index].arguments.push_str(&text);
            }
        }
    }
    (content, calls)
}

/// The calls as JSON, which has one way of writing them.
fn values(calls: &[Call]) -> Vec<(String, Value)> {
    let value = |call: &Call| {
        let arguments = serde_json::from_str(&call.arguments);
        (call.name.clone(), arguments.unwrap())
    };
    calls.iter().map(value).collect()
}

fn weather(arguments: Value) -> (String, Value) {
    ("get_weather".to_owned(), arguments)
}

/// A format, an answer, its content, and its calls with their arguments.
type Example = (ToolFormat, &'static str, &'static str, Vec<(String, Value)>);

/// What models write, from their own documentation and templates, with the content and calls of it.
fn examples() -> Vec<Example> {
    let paris = || weather(json!({"city": "Paris"}));
    let both = || vec![paris(), weather(json!({"city": "Rom {\"}", "days": 2}))];
    let stop = || ("stop".to_owned(), json!({}));
    use ToolFormat::*;
    vec![
        (
            Hermes,
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>",
            "",
            vec![paris()],
        ),
        (
            Hermes,
            "I look.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Rom {\\\"}\", \"days\": 2}}\n</tool_call>",
            "I look.",
            both(),
        ),
        // As Qwen2.5-Coder writes them.
        (
            Hermes,
            "```json\n{\n  \"name\": \"get_weather\",\n  \"arguments\": {\n    \"city\": \"Paris\"\n  }\n}\n```",
            "",
            vec![paris()],
        ),
        (
            Hermes,
            "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}",
            "",
            vec![paris()],
        ),
        (
            Hermes,
            "<tools>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tools>",
            "",
            vec![paris()],
        ),
        (Hermes, "<tool_call>{\"name\": \"stop\"}", "", vec![stop()]),
        (
            Qwen3Coder,
            "So:\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n2\n</parameter>\n<parameter=now>\nTrue\n</parameter>\n</function>\n</tool_call>",
            "So:",
            vec![weather(json!({"city": "Paris", "days": 2, "now": true}))],
        ),
        (Qwen3Coder, "<function=stop>\n</function>", "", vec![stop()]),
        (
            Llama3Json,
            "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}; {\"name\": \"stop\", \"parameters\": {}}",
            "",
            vec![paris(), stop()],
        ),
        (
            Llama3Json,
            "<|python_tag|>{\"type\": \"function\", \"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}",
            "",
            vec![paris()],
        ),
        (
            Pythonic,
            "[get_weather(city='Paris', days=-2, now=True), stop(), get_weather(city=\"\\u00e9\\n'\", x=[1.5, None, {'a': (1,)}])]",
            "",
            vec![
                weather(json!({"city": "Paris", "days": -2, "now": true})),
                stop(),
                weather(json!({"city": "é\n'", "x": [1.5, null, {"a": [1]}]})),
            ],
        ),
        (
            Mistral,
            "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}, {\"name\": \"stop\", \"arguments\": {}, \"id\": \"abcdefghi\"}]",
            "",
            vec![paris(), stop()],
        ),
        (
            MistralArgs,
            "Well.[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Paris\"}[TOOL_CALLS]stop[CALL_ID]abcdefghi[ARGS]{}",
            "Well.",
            vec![paris(), stop()],
        ),
        (
            MistralArgs,
            "[TOOL_CALLS]get_weather{\"city\": \"Paris\"}",
            "",
            vec![paris()],
        ),
        (
            Json,
            "[{\"name\": \"get_weather\", \"arguments\": \"{\\\"city\\\": \\\"Paris\\\"}\"}]",
            "",
            vec![paris()],
        ),
    ]
}

#[test]
fn calls_are_read_as_models_write_them() {
    for (format, text, content, calls) in examples() {
        let (said, found) = read(format, false, &[text]);
        assert_eq!((said.as_str(), values(&found)), (content, calls), "{text}");
    }
}

#[test]
fn what_is_no_call_is_content() {
    let mut texts = vec![
        "",
        " Hi\n there \n",
        "<tool_call>\n{\"name\": \"unknown\", \"arguments\": {}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"stop\", \"arguments\": [1]}\n</tool_call>",
        "<tool_call>\n{\"name\": \"stop\", \"arguments\": {}",
        "<tool_call>nothing</tool_call> more",
        "{\"name\": \"Ada\", \"age\": 36}",
        "```json\n{\"a\": 1}\n```\n",
        "[stop(]",
        "[unknown()]",
        "[1, 2, 3]",
        "[TOOL_CALLS]unknown[ARGS]{}",
        "[TOOL_CALLS]stop[ARGS]{",
        "<function=stop>\n<parameter=a>\n1",
        "<function=unknown></function>",
        "<|python_tag|>print(1)",
        "a < b [ c ` d <tool",
    ];
    let deep = format!(
        "{{\"name\": \"stop\", \"arguments\": {}",
        "{\"a\":".repeat(5000)
    );
    let nested = format!("[stop(a={}", "[".repeat(5000));
    texts.extend([&*deep, &*nested]);
    for format in FORMATS {
        for text in &texts {
            let (content, calls) = read(format, false, &[text]);
            assert_eq!((content.as_str(), calls.len()), (*text, 0), "{format}");
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c<>/{}\\[\\]\"'\\\\ é\n]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]{1,2}", inner, 0..3)
                .prop_map(|map| Value::from(serde_json::Map::from_iter(map))),
        ]
    })
}

fn call() -> impl Strategy<Value = Call> {
    let arguments = prop::collection::btree_map("[a-c]{1,2}", value(), 0..3);
    arguments.prop_map(|arguments| Call {
        name: "stop".to_owned(),
        arguments: Value::from(serde_json::Map::from_iter(arguments)).to_string(),
    })
}

/// Pieces of a text, cut where the mask says.
fn cut(text: &str, cuts: &[bool]) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for (n, c) in text.chars().enumerate() {
        if cuts[n % cuts.len()] {
            pieces.push(String::new());
        }
        pieces.last_mut().unwrap().push(c);
    }
    pieces
}

fn cuts() -> impl Strategy<Value = Vec<bool>> {
    prop::collection::vec(any::<bool>(), 1..40)
}

proptest! {
    /// Texts of all that formats are made of, most of them no calls.
    #[test]
    fn any_cut_gives_the_same(
        words in prop::collection::vec(prop_oneof![
            "[ a-c\n;,]{1,3}",
            Just("<tool_call>".to_owned()), Just("</tool_call>".to_owned()),
            Just("{\"name\": \"stop\", \"arguments\": {}}".to_owned()),
            Just("{\"name\": \"stop\", \"parameters\": ".to_owned()),
            Just("{\"a\": 1}".to_owned()), Just("{}".to_owned()), Just("}".to_owned()),
            Just("[".to_owned()), Just("]".to_owned()), Just("[TOOL_CALLS]".to_owned()),
            Just("[ARGS]".to_owned()), Just("[CALL_ID]".to_owned()), Just("stop".to_owned()),
            Just("<function=stop>".to_owned()), Just("</function>".to_owned()),
            Just("<parameter=a>".to_owned()), Just("</parameter>".to_owned()),
            Just("stop(a=1)".to_owned()), Just("\"".to_owned()), Just("```json\n".to_owned()),
            Just("```".to_owned()), Just("<|python_tag|>".to_owned()), Just("<tools>".to_owned()),
        ], 0..8),
        cuts in cuts(),
        format in prop::sample::select(&FORMATS[..]),
    ) {
        let text = words.concat();
        let pieces = cut(&text, &cuts);
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let whole = read(format, false, &[&text]);
        prop_assert_eq!(read(format, false, &pieces), whole.clone());
        if whole.1.is_empty() {
            prop_assert_eq!(whole.0, text);
        }
    }

    /// What a format writes is read back, whether or not arguments are told as they come.
    #[test]
    fn what_is_written_is_read(
        calls in prop::collection::vec(call(), 1..4),
        cuts in cuts(),
        format in prop::sample::select(&FORMATS[..]),
        sure: bool,
    ) {
        // Tags have no way to write these.
        let tagged = format == ToolFormat::Qwen3Coder;
        prop_assume!(!tagged || calls.iter().all(|call| !call.arguments.contains(['<', '"', '\\'])));
        let text = write_calls(format, &calls);
        let pieces = cut(&text, &cuts);
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let (content, found) = read(format, sure, &pieces);
        prop_assert_eq!(content, "", "{}", text);
        prop_assert_eq!(values(&found), values(&calls), "{}", text);
    }
}

#[test]
fn arguments_are_told_as_they_come_where_a_grammar_holds_them() {
    let call = |arguments: &str| Call {
        name: "stop".to_owned(),
        arguments: arguments.to_owned(),
    };
    let text = write_calls(ToolFormat::Hermes, &[call("{\"a\": \"long\"}")]);
    let at = text.find("ng\"").unwrap();
    let mut parser = CallParser::new(ToolFormat::Hermes, auto(), true);
    let name = "stop".to_owned();
    let text_so_far = "{\"a\": \"lo".to_owned();
    let expected = [
        Part::Call { index: 0, name },
        Part::Arguments {
            index: 0,
            text: text_so_far,
        },
    ];
    assert_eq!(parser.push(&text[..at]), expected);
    // Cut off by the answer's limit, it stays the call that it was told to be.
    assert_eq!(parser.finish(), []);
    let mut unsure = CallParser::new(ToolFormat::Hermes, auto(), false);
    assert_eq!(unsure.push(&text[..at]), []);
    assert_eq!(unsure.finish(), [Part::Text(text[..at].to_owned())]);
}

/// Whether a grammar lets a model write a text and end there.
fn allows(constraints: &Constraints, grammar: &str, text: &str) -> bool {
    let tiny = tiny();
    let tokenizer = &tiny.tokenizer;
    let grammar = Grammar::Lark(grammar.to_owned());
    let mut constraint = constraints
        .hold_to(grammar)
        .unwrap_or_else(|error| panic!("{error}"));
    let allowed = |mask: &[u32], id: u32| mask[id as usize / 32] >> (id % 32) & 1 == 1;
    for id in tokenizer.encode(text).unwrap() {
        let mask = constraint.mask().unwrap();
        if !allowed(mask.as_slice(), id) {
            return false;
        }
        constraint.consume(id).unwrap();
    }
    let end = *tokenizer.end_tokens().iter().next().unwrap();
    allowed(constraint.mask().unwrap().as_slice(), end)
}

fn lark(set: &ToolSet, format: ToolFormat, thinking: Option<(Thinking, bool)>) -> Option<String> {
    grammar(&Wanted {
        tools: Some((set, format)),
        content: None,
        thinking,
        token: &|_| None,
    })
}

fn one(arguments: Value) -> Call {
    Call {
        name: "get_weather".to_owned(),
        // With the spaces that the grammars want.
        arguments: arguments
            .to_string()
            .replace("\":", "\": ")
            .replace(",\"", ", \""),
    }
}

#[test]
fn grammars_allow_right_calls_and_nothing_else() {
    let constraints = Constraints::new(&tiny().tokenizer).unwrap();
    let right = one(json!({"city": "Paris", "days": 2, "unit": "C", "now": true}));
    let short = one(json!({"city": "Paris"}));
    let wrong = [
        one(json!({"days": 2})),
        one(json!({"city": "Paris", "unit": "K"})),
        one(json!({"city": "Paris", "else": 1})),
    ];
    for format in FORMATS {
        let set = |choice: Value, parallel| tools(choice, parallel, true).unwrap();
        let write = |calls: &[&Call]| {
            let calls: Vec<Call> = calls.iter().map(|call| (*call).clone()).collect();
            write_calls(format, &calls)
        };
        let required = lark(&set("required".into(), true), format, None).unwrap();
        let named = json!({"type": "function", "function": {"name": "get_weather"}});
        let named = lark(&set(named, true), format, None).unwrap();
        let single = lark(&set("required".into(), false), format, None).unwrap();
        let free = lark(&set("auto".into(), true), format, None).unwrap();
        let stop = Call {
            name: "stop".to_owned(),
            arguments: "{}".to_owned(),
        };
        for grammar in [&required, &named, &single, &free] {
            assert!(
                allows(&constraints, grammar, &write(&[&right])),
                "{format} {grammar}"
            );
            assert!(
                allows(&constraints, grammar, &write(&[&short])),
                "{format} {grammar}"
            );
            for wrong in &wrong {
                let text = write(&[wrong]);
                assert!(
                    !allows(&constraints, grammar, &text),
                    "{format} {text} {grammar}"
                );
            }
        }
        assert!(
            allows(&constraints, &required, &write(&[&right, &stop])),
            "{format}"
        );
        assert!(
            !allows(&constraints, &single, &write(&[&right, &stop])),
            "{format}"
        );
        assert!(!allows(&constraints, &named, &write(&[&stop])), "{format}");
        assert!(!allows(&constraints, &required, "Hi"), "{format}");
        assert!(allows(&constraints, &free, "Hi (there), you"), "{format}");
    }
}

#[test]
fn thoughts_come_before_what_is_held() {
    let constraints = Constraints::new(&tiny().tokenizer).unwrap();
    let thinking = Thinking {
        open: "<think>",
        close: "</think>",
    };
    let required = tools("required".into(), true, false).unwrap();
    let call = write_calls(ToolFormat::Hermes, &[one(json!({"city": "Paris"}))]);
    let opened = lark(&required, ToolFormat::Hermes, Some((thinking, true))).unwrap();
    assert!(allows(
        &constraints,
        &opened,
        &format!("hm\n</think>\n\n{call}")
    ));
    assert!(!allows(&constraints, &opened, &call));
    let may = lark(&required, ToolFormat::Hermes, Some((thinking, false))).unwrap();
    assert!(allows(
        &constraints,
        &may,
        &format!("<think>hm</think>\n{call}")
    ));
    assert!(allows(&constraints, &may, &call));
    assert!(!allows(&constraints, &may, "<think>hm</think>\nHi"));
}

#[test]
fn what_is_wrong_with_tools_is_said() {
    let read = |tools: &str, choice: &str| {
        let tools: Vec<Box<RawValue>> = serde_json::from_str(tools).unwrap();
        let choice: Option<Box<RawValue>> = serde_json::from_str(choice).unwrap();
        let set = ToolSet::read(&tools, choice.as_deref(), None);
        set.map(|_| ()).map_err(|error| error.json().to_string())
    };
    let f = r#"{"type":"function","function":{"name":"f"}}"#;
    for (tools, choice, part) in [
        ("[1]", "null", "tools[0]"),
        (r#"[{"type":"web_search"}]"#, "null", "tools[0].type"),
        (r#"[{"type":"function"}]"#, "null", "tools[0].function"),
        (
            r#"[{"type":"function","function":{"name":""}}]"#,
            "null",
            "tools[0].function.name",
        ),
        (
            r#"[{"type":"function","function":{"name":"a b"}}]"#,
            "null",
            "tools[0].function.name",
        ),
        (
            r#"[{"type":"function","function":{"name":"f","x":1}}]"#,
            "null",
            "unknown field",
        ),
        (
            r#"[{"type":"function","function":{"name":"f","parameters":[]}}]"#,
            "null",
            "parameters",
        ),
        (
            r#"[{"type":"function","function":{"name":"f","parameters":{"type":"array"}}}]"#,
            "null",
            "parameters",
        ),
        (&*format!("[{f},{f}]"), "null", "two functions"),
        ("[]", r#""required""#, "no tools"),
        (&*format!("[{f}]"), r#""sometimes""#, "tool_choice"),
        (
            &*format!("[{f}]"),
            r#"{"type":"function","function":{"name":"g"}}"#,
            "no function",
        ),
        (&*format!("[{f}]"), r#"{"type":"mcp"}"#, "mcp"),
        (&*format!("[{f}]"), "7", "tool_choice"),
    ] {
        let error = read(tools, choice).unwrap_err();
        assert!(error.contains(part), "{tools} {choice}: {error}");
    }
    assert!(read(&format!("[{f}]"), r#""none""#).is_ok());
    let long = format!(
        r#"[{{"type":"function","function":{{"name":"f","description":"{}"}}}}]"#,
        "x".repeat(1 << 20)
    );
    assert!(read(&long, "null").unwrap_err().contains("longer than"));
    let deep = format!(
        r#"{{"type":"function","function":{{"name":"f","parameters":{{"a":{}1{}}}}}}}"#,
        "[".repeat(300),
        "]".repeat(300)
    );
    let deep: Vec<Box<RawValue>> = serde_json::from_str(&format!("[{deep}]")).unwrap_or_default();
    assert!(ToolSet::read(&deep, None, None).is_err() || deep.is_empty());
}
