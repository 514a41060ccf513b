//! Mistral's calls: `[TOOL_CALLS]` and a list of objects, or names each with `[ARGS]` and an object.

use super::call::{Body, Call, Found, Place, begins, space};
use super::json::{extent, is_object, read_calls, to_next};
use super::set::ToolSet;

pub const CALLS: &str = "[TOOL_CALLS]";
pub const ARGS: &str = "[ARGS]";
const ID: &str = "[CALL_ID]";
/// The longest identifier that may stand between a name and its arguments.
const LONGEST_ID: usize = 64;

/// Calls anywhere.
pub fn read(text: &str, place: Place, tools: &ToolSet) -> Found {
    let inside = match begins(text, CALLS, place.ended) {
        Body::Whole(length, ()) => length,
        Body::More => return Found::More,
        Body::No => return Found::Content(to_next(text, &['['])),
    };
    let start = inside + space(&text[inside..]);
    let rest = &text[start..];
    let body = if rest.is_empty() {
        if place.ended { Body::No } else { Body::More }
    } else if rest.starts_with(['[', '{']) {
        read_calls(rest, place.ended, tools)
    } else {
        named(rest, place.ended, tools)
    };
    match body {
        Body::Whole(length, calls) => Found::Calls(start + length, calls),
        Body::More => Found::More,
        Body::No => Found::Content(CALLS.len()),
    }
}

/// `name[ARGS]{...}`, with an identifier before the arguments or without `[ARGS]`.
fn named(text: &str, ended: bool, tools: &ToolSet) -> Body<Vec<Call>> {
    let more = || if ended { Body::No } else { Body::More };
    let Some(end) = text.find(['[', '{']) else {
        return match tools.starts_any(text.trim_end()) {
            true => more(),
            false => Body::No,
        };
    };
    let name = text[..end].trim_end();
    if tools.get(name).is_none() {
        return Body::No;
    }
    let mut at = end;
    match begins(&text[at..], ID, ended) {
        Body::Whole(length, ()) => {
            let id = &text[at + length..];
            match id.find(['[', '{']) {
                Some(end) if end <= LONGEST_ID => at += length + end,
                None if id.len() <= LONGEST_ID => return more(),
                _ => return Body::No,
            }
        }
        Body::More if text.len() > at + 1 => return Body::More,
        _ => {}
    }
    match begins(&text[at..], ARGS, ended) {
        Body::Whole(length, ()) => at += length,
        Body::More => return Body::More,
        Body::No => {}
    }
    at += space(&text[at..]);
    if at == text.len() {
        return more();
    }
    match extent(&text[at..]) {
        Body::Whole(length, ()) if is_object(&text[at..at + length]) => {
            let call = Call {
                name: name.to_owned(),
                arguments: text[at..at + length].to_owned(),
            };
            Body::Whole(at + length, vec![call])
        }
        Body::More => more(),
        _ => Body::No,
    }
}
