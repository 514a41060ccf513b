//! Calls as JSON objects: `{"name": ..., "arguments": {...}}`, between markers or as the whole answer.

use super::call::{Body, Call, Found, Place, begins, space};
use super::set::ToolSet;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What models of the Hermes format write around a call. Small ones forget the first.
const MARKERS: [(&str, &str); 4] = [
    ("<tool_call>", "</tool_call>"),
    ("<tools>", "</tools>"),
    ("<function_call>", "</function_call>"),
    ("```json", "```"),
];

/// Keys that a call may begin with.
const FIRST_KEYS: [&str; 5] = ["name", "arguments", "parameters", "id", "type"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCall<'t> {
    #[serde(borrow)]
    name: Cow<'t, str>,
    #[serde(borrow, alias = "parameters")]
    arguments: Option<&'t RawValue>,
    #[serde(default, rename = "id")]
    _id: IgnoredAny,
    #[serde(default, rename = "type")]
    _type: IgnoredAny,
}

/// Calls between markers anywhere, or as JSON at the start of the answer.
pub fn read_marked(text: &str, place: Place, tools: &ToolSet) -> Found {
    if place.start && text.starts_with(['{', '[']) {
        match read_bare(text, place, tools) {
            Found::Content(_) => {}
            found => return found,
        }
    }
    for (open, close) in MARKERS {
        let inside = match begins(text, open, place.ended) {
            Body::Whole(length, ()) => length,
            Body::More => return Found::More,
            Body::No => continue,
        };
        return match between(text, inside, close, place.ended, tools) {
            Body::Whole(length, calls) => Found::Calls(length, calls),
            Body::More => Found::More,
            Body::No => Found::Content(open.len()),
        };
    }
    Found::Content(to_next(text, &['<', '`']))
}

/// The text up to the next place where a call could begin.
pub fn to_next(text: &str, first: &[char]) -> usize {
    let mut rest = text.char_indices().skip(1);
    rest.find(|(_, c)| first.contains(c))
        .map_or(text.len(), |(at, _)| at)
}

fn between(
    text: &str,
    inside: usize,
    close: &str,
    ended: bool,
    tools: &ToolSet,
) -> Body<Vec<Call>> {
    let start = inside + space(&text[inside..]);
    let (length, calls) = match read_calls(&text[start..], ended, tools) {
        Body::Whole(length, calls) => (start + length, calls),
        Body::More => return Body::More,
        Body::No => return Body::No,
    };
    let end = length + space(&text[length..]);
    match begins(&text[end..], close, ended) {
        Body::Whole(closed, ()) => Body::Whole(end + closed, calls),
        // The model ended its answer instead.
        Body::No if ended && end == text.len() => Body::Whole(end, calls),
        Body::More => Body::More,
        Body::No => Body::No,
    }
}

/// Calls as the whole answer, or as its beginning; several are a list, or stand one after the other.
pub fn read_bare(text: &str, place: Place, tools: &ToolSet) -> Found {
    if !place.start {
        return Found::Content(text.len());
    }
    let separated = place.after_call && text.starts_with([';', ',']);
    let from = if separated { 1 + space(&text[1..]) } else { 0 };
    if separated && from == text.len() && !place.ended {
        return Found::More;
    }
    match read_calls(&text[from..], place.ended, tools) {
        Body::Whole(length, calls) => Found::Calls(from + length, calls),
        Body::More => Found::More,
        Body::No => Found::Content(text.len()),
    }
}

/// The same, or in a fence of Markdown.
pub fn read_bare_or_fenced(text: &str, place: Place, tools: &ToolSet) -> Found {
    let (open, close) = MARKERS[3];
    match begins(text, open, place.ended) {
        Body::Whole(inside, ()) => match between(text, inside, close, place.ended, tools) {
            Body::Whole(length, calls) => Found::Calls(length, calls),
            Body::More => Found::More,
            Body::No => Found::Content(text.len()),
        },
        Body::More => Found::More,
        Body::No => read_bare(text, place, tools),
    }
}

/// A call, or a list of calls.
pub fn read_calls(text: &str, ended: bool, tools: &ToolSet) -> Body<Vec<Call>> {
    if text.is_empty() && !ended {
        return Body::More;
    }
    let object = match text.strip_prefix('[') {
        Some(list) => list.trim_start(),
        None => text,
    };
    if !may_be_call(object) {
        return Body::No;
    }
    let end = match extent(text) {
        Body::Whole(end, ()) => end,
        Body::More if !ended => return Body::More,
        _ => return Body::No,
    };
    let whole = &text[..end];
    let raw = if whole.starts_with('[') {
        serde_json::from_str::<Vec<RawCall>>(whole)
    } else {
        serde_json::from_str::<RawCall>(whole).map(|call| vec![call])
    };
    let calls = raw.ok().and_then(|raw| {
        let calls = raw.iter().map(|call| accept(call, tools));
        calls.collect::<Option<Vec<Call>>>()
    });
    match calls {
        Some(calls) if !calls.is_empty() => Body::Whole(end, calls),
        _ => Body::No,
    }
}

/// A call of a known function with an object of arguments.
fn accept(raw: &RawCall, tools: &ToolSet) -> Option<Call> {
    tools.get(&raw.name)?;
    let arguments = raw.arguments.map_or("{}", RawValue::get);
    let arguments = match serde_json::from_str(arguments).ok()? {
        Value::Object(_) => arguments.to_owned(),
        // Some models write the object as a text.
        Value::String(text) if is_object(&text) => text,
        _ => return None,
    };
    Some(Call {
        name: raw.name.clone().into_owned(),
        arguments,
    })
}

/// Whether a text is one JSON object.
pub fn is_object(text: &str) -> bool {
    matches!(serde_json::from_str(text), Ok(Value::Object(_)))
}

/// Whether an object's text, as far as it goes, begins like a call.
fn may_be_call(text: &str) -> bool {
    let mut rest = text;
    for expected in ["{", "\""] {
        rest = rest.trim_start();
        if rest.is_empty() {
            return true;
        }
        let Some(next) = rest.strip_prefix(expected) else {
            return false;
        };
        rest = next;
    }
    match rest.split_once('"') {
        Some((key, _)) => FIRST_KEYS.contains(&key),
        None => FIRST_KEYS.iter().any(|key| key.starts_with(rest)),
    }
}

/// The bytes of the object or list that a text begins with.
pub fn extent(text: &str) -> Body<()> {
    let mut open = Vec::new();
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'{' => open.push(b'}'),
            b'[' => open.push(b']'),
            b'}' | b']' if open.pop() != Some(byte) => return Body::No,
            _ => {}
        }
        if open.is_empty() {
            return if at == 0 {
                Body::No
            } else {
                Body::Whole(at + 1, ())
            };
        }
    }
    Body::More
}
