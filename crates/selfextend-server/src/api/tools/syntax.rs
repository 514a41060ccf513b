//! Which file knows a format, and what formats have in common.

use super::call::{Call, Found, Place};
use super::set::ToolSet;
use super::{json, mistral, pythonic, xml};
use crate::tool_format::ToolFormat;

/// What a text, which does not begin with white space, begins with. What is decided stays so whatever
/// follows: calls do not depend on where a stream is cut.
pub fn read(format: ToolFormat, text: &str, place: Place, tools: &ToolSet) -> Found {
    match format {
        ToolFormat::Hermes => json::read_marked(text, place, tools),
        ToolFormat::Qwen3Coder => xml::read(text, place, tools),
        ToolFormat::Mistral | ToolFormat::MistralArgs => mistral::read(text, place, tools),
        ToolFormat::Pythonic => after_tag(text, place, tools, pythonic::read),
        ToolFormat::Llama3Json | ToolFormat::Json => {
            after_tag(text, place, tools, json::read_bare_or_fenced)
        }
    }
}

/// Llama writes this token before some calls.
pub const PYTHON_TAG: &str = "<|python_tag|>";

fn after_tag(
    text: &str,
    place: Place,
    tools: &ToolSet,
    read: fn(&str, Place, &ToolSet) -> Found,
) -> Found {
    use super::call::{Body, begins, space};
    if !place.start {
        return Found::Content(text.len());
    }
    let inside = match begins(text, PYTHON_TAG, place.ended) {
        Body::Whole(length, ()) => length + space(&text[length..]),
        Body::More => return Found::More,
        Body::No => return read(text, place, tools),
    };
    if inside == text.len() {
        return if place.ended {
            Found::Content(inside)
        } else {
            Found::More
        };
    }
    match read(&text[inside..], place, tools) {
        Found::Calls(length, calls) => Found::Calls(inside + length, calls),
        Found::More => Found::More,
        Found::Content(_) => Found::Content(text.len()),
    }
}

/// Texts of a format that may be control tokens, which are left out of other answers.
pub fn markers(format: ToolFormat) -> &'static [&'static str] {
    match format {
        ToolFormat::Hermes | ToolFormat::Qwen3Coder => &["<tool_call>", "</tool_call>"],
        ToolFormat::Mistral | ToolFormat::MistralArgs => {
            &[mistral::CALLS, mistral::ARGS, "[CALL_ID]"]
        }
        ToolFormat::Llama3Json | ToolFormat::Pythonic => &[PYTHON_TAG],
        ToolFormat::Json => &[],
    }
}

/// What stands around the parts of a call whose arguments are JSON.
pub struct Frame {
    /// Before the first call, between two, and behind the last.
    pub around: [&'static str; 3],
    /// Before the name, between name and arguments, and behind them.
    pub call: [&'static str; 3],
}

/// The frame of a format, for those whose arguments are JSON.
pub fn frame(format: ToolFormat) -> Option<Frame> {
    let named = "{\"name\": \"";
    let arguments = "\", \"arguments\": ";
    Some(match format {
        ToolFormat::Hermes => Frame {
            around: ["", "\n", ""],
            call: ["<tool_call>\n{\"name\": \"", arguments, "}\n</tool_call>"],
        },
        ToolFormat::Llama3Json => Frame {
            around: ["", "; ", ""],
            call: [named, "\", \"parameters\": ", "}"],
        },
        ToolFormat::Mistral => Frame {
            around: ["[TOOL_CALLS][", ", ", "]"],
            call: [named, arguments, "}"],
        },
        ToolFormat::MistralArgs => Frame {
            around: ["", "", ""],
            call: [mistral::CALLS, mistral::ARGS, ""],
        },
        ToolFormat::Json => Frame {
            around: ["", ", ", ""],
            call: [named, arguments, "}"],
        },
        ToolFormat::Qwen3Coder | ToolFormat::Pythonic => return None,
    })
}

/// Calls as a model writes them.
pub fn write_calls(format: ToolFormat, calls: &[Call]) -> String {
    let Some(Frame {
        around,
        call: parts,
    }) = frame(format)
    else {
        return match format {
            ToolFormat::Pythonic => pythonic::write(calls),
            _ => calls.iter().map(xml::write).collect::<Vec<_>>().join("\n"),
        };
    };
    let call = |call: &Call| {
        let Call { name, arguments } = call;
        [parts[0], name, parts[1], arguments, parts[2]].concat()
    };
    let calls: Vec<String> = calls.iter().map(call).collect();
    [around[0], &calls.join(around[1]), around[2]].concat()
}

/// The calls whose names a text that follows the format's frame has told so far, with their arguments
/// as far as they go.
pub fn told(format: ToolFormat, text: &str) -> Vec<(&str, &str)> {
    use super::call::Body;
    let Some(Frame { call: parts, .. }) = frame(format) else {
        return Vec::new();
    };
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((_, after)) = rest.split_once(parts[0]) {
        let Some((name, after)) = after.split_once(parts[1]) else {
            break;
        };
        match json::extent(after) {
            Body::Whole(end, ()) => {
                found.push((name, &after[..end]));
                rest = &after[end..];
            }
            _ => {
                found.push((name, after));
                break;
            }
        }
    }
    found
}
