//! Qwen3-Coder's calls: a tag for the function, and one for each argument around its bare value.

use super::call::{Body, Call, Found, Place, begins, space};
use super::json::to_next;
use super::set::{Tool, ToolSet};
use serde_json::{Map, Value};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
const FUNCTION: &str = "<function=";
const FUNCTION_END: &str = "</function>";
const PARAMETER: &str = "<parameter=";
const PARAMETER_END: &str = "</parameter>";

/// Calls anywhere, with or without the tag around the function.
pub fn read(text: &str, place: Place, tools: &ToolSet) -> Found {
    let opened = match begins(text, OPEN, place.ended) {
        Body::Whole(length, ()) => Some(length),
        Body::More => return Found::More,
        Body::No => None,
    };
    if opened.is_none() {
        match begins(text, FUNCTION, place.ended) {
            Body::Whole(..) => {}
            Body::More => return Found::More,
            Body::No => return Found::Content(to_next(text, &['<'])),
        }
    }
    let start = opened.map_or(0, |length| length + space(&text[length..]));
    let (mut end, call) = match function(&text[start..], place.ended, tools) {
        Body::Whole(length, call) => (start + length, call),
        Body::More => return Found::More,
        Body::No => return Found::Content(opened.unwrap_or(FUNCTION.len())),
    };
    if opened.is_some() {
        let after = end + space(&text[end..]);
        match begins(&text[after..], CLOSE, place.ended) {
            Body::Whole(length, ()) => end = after + length,
            Body::More => return Found::More,
            // The call is complete; what follows is what the model says after it.
            Body::No => {}
        }
    }
    Found::Calls(end, vec![call])
}

fn function(text: &str, ended: bool, tools: &ToolSet) -> Body<Call> {
    let more = || if ended { Body::No } else { Body::More };
    let inside = match begins(text, FUNCTION, ended) {
        Body::Whole(length, ()) => length,
        Body::More => return Body::More,
        Body::No => return Body::No,
    };
    let Some(name_end) = text[inside..].find('>').map(|at| inside + at) else {
        return match tools.starts_any(&text[inside..]) {
            true => more(),
            false => Body::No,
        };
    };
    let Some(tool) = tools.get(&text[inside..name_end]) else {
        return Body::No;
    };
    let mut arguments = Map::new();
    let mut at = name_end + 1;
    loop {
        at += space(&text[at..]);
        match begins(&text[at..], FUNCTION_END, ended) {
            Body::Whole(length, ()) => {
                let call = Call {
                    name: tool.name.clone(),
                    arguments: Value::Object(arguments).to_string(),
                };
                return Body::Whole(at + length, call);
            }
            Body::More => return Body::More,
            Body::No => {}
        }
        match begins(&text[at..], PARAMETER, ended) {
            Body::Whole(length, ()) => at += length,
            Body::More => return Body::More,
            Body::No => return Body::No,
        }
        let Some(length) = text[at..].find(PARAMETER_END) else {
            return more();
        };
        let Some((key, value)) = text[at..at + length].split_once('>') else {
            return Body::No;
        };
        arguments.insert(key.to_owned(), read_value(tool, key, value));
        at += length + PARAMETER_END.len();
    }
}

/// A value by the type that the schema gives it; a text where it is of no such type.
fn read_value(tool: &Tool, key: &str, text: &str) -> Value {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let types = tool.types(key);
    if types.iter().any(|kind| kind == "string") {
        let nullable = types.iter().any(|kind| kind == "null");
        return match text {
            "null" if nullable => Value::Null,
            text => text.into(),
        };
    }
    let read = |text: &str| serde_json::from_str(text).ok();
    let read = read(text).or_else(|| read(&text.to_lowercase()).filter(Value::is_boolean));
    read.unwrap_or_else(|| text.into())
}

/// A call as the format has it.
pub fn write(call: &Call) -> String {
    let arguments: Map<String, Value> = serde_json::from_str(&call.arguments).unwrap_or_default();
    let mut text = format!("{OPEN}\n{FUNCTION}{}>\n", call.name);
    for (key, value) in &arguments {
        let value = match value {
            Value::String(value) => value.clone(),
            other => other.to_string(),
        };
        text.push_str(&format!("{PARAMETER}{key}>\n{value}\n{PARAMETER_END}\n"));
    }
    text + FUNCTION_END + "\n" + CLOSE
}
