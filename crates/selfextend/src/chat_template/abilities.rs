//! What a template makes of tools: found by rendering a conversation that has some.

use super::conversation::{Conversation, Ending};
use serde_json::{Value, json};

/// How a template takes tools. Templates that lack something drop it without a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abilities {
    /// It shows the functions that may be called.
    pub tools: bool,
    /// It shows the calls of an assistant's earlier messages.
    pub tool_calls: bool,
    /// It shows messages of the role `tool`.
    pub tool_results: bool,
    /// It shows messages of the role `system`.
    pub system: bool,
    /// It wants the arguments of calls as the text of their JSON; others as objects.
    pub text_arguments: bool,
    /// It wants an empty text, not null, as the content of a message with calls.
    pub text_content: bool,
}

const NAME: &str = "probe_name";
const KEY: &str = "probe_key";
const RESULT: &str = "probe_result";

/// Renders conversations with a template that is given as a function from a conversation to its
/// prompt, if there is one.
pub(super) fn probe(render: &dyn Fn(&Conversation) -> Option<String>) -> Abilities {
    let shown = |conversation: &Conversation, what: &str| {
        render(conversation).is_some_and(|prompt| prompt.contains(what))
    };
    let user = || json!({"role": "user", "content": "Hello"});
    let tool = json!({"type": "function", "function": {
        "name": NAME, "description": "Probes.",
        "parameters": {"type": "object", "properties": {KEY: {"type": "string"}}, "required": [KEY]},
    }});
    let asked = Conversation {
        messages: vec![user()],
        tools: vec![tool.clone()],
        ..Conversation::default()
    };
    let called = |content: &Value, arguments: &Value| Conversation {
        messages: vec![
            user(),
            json!({"role": "assistant", "content": content, "tool_calls": [{
                "id": "abcdefgh1", "type": "function",
                "function": {"name": NAME, "arguments": arguments},
            }]}),
            json!({"role": "tool", "tool_call_id": "abcdefgh1", "name": NAME, "content": RESULT}),
        ],
        tools: vec![tool.clone()],
        ending: Ending::Answer,
        ..Conversation::default()
    };
    let (object, text) = (
        json!({KEY: "value"}),
        json!({KEY: "value"}).to_string().into(),
    );
    let told = Conversation {
        messages: vec![json!({"role": "system", "content": RESULT}), user()],
        ..Conversation::default()
    };
    let mut abilities = Abilities {
        system: shown(&told, RESULT),
        tools: shown(&asked, NAME),
        ..Abilities::default()
    };
    for content in [Value::Null, "".into()] {
        let object = render(&called(&content, &object));
        let text = render(&called(&content, &text));
        let shows = |prompt: &Option<String>| prompt.as_ref().is_some_and(|it| it.contains(KEY));
        // Python's way of writing a dictionary is what a template makes of an object by mistake.
        let mistaken =
            |prompt: &Option<String>| prompt.as_ref().is_none_or(|it| it.contains("{'probe_key'"));
        if !shows(&object) && !shows(&text) {
            continue;
        }
        abilities.tool_calls = true;
        abilities.text_content = !content.is_null();
        abilities.text_arguments = shows(&text) && (!shows(&object) || mistaken(&object));
        let taken = if abilities.text_arguments {
            text
        } else {
            object
        };
        abilities.tool_results = taken.is_some_and(|prompt| prompt.contains(RESULT));
        return abilities;
    }
    let result = Conversation {
        messages: vec![
            user(),
            json!({"role": "assistant", "content": "Hello"}),
            json!({"role": "tool", "content": RESULT}),
        ],
        ..Conversation::default()
    };
    abilities.tool_results = shown(&result, RESULT);
    abilities
}
