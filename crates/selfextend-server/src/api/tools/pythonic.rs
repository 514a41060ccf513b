//! Calls as a list of Python's: `[name(key="value", other=2)]`, as the whole answer.

use super::call::{Body, Call, Found, Place};
use super::python::Reader;
use super::set::ToolSet;
use serde_json::{Map, Value};

/// Calls at the start of the answer.
pub fn read(text: &str, place: Place, tools: &ToolSet) -> Found {
    if !place.start || !text.starts_with('[') {
        return Found::Content(text.len());
    }
    match list(text, tools) {
        Body::Whole(length, calls) => Found::Calls(length, calls),
        Body::More if !place.ended => Found::More,
        _ => Found::Content(text.len()),
    }
}

fn list(text: &str, tools: &ToolSet) -> Body<Vec<Call>> {
    let mut reader = Reader::new(text);
    match calls(&mut reader, tools) {
        Ok(calls) => Body::Whole(reader.at(), calls),
        Err(_) if reader.is_short() => Body::More,
        Err(_) => Body::No,
    }
}

/// The text is not what it should be, or ends too early.
type Read<T> = Result<T, super::python::Wrong>;

fn calls(reader: &mut Reader, tools: &ToolSet) -> Read<Vec<Call>> {
    reader.expect('[')?;
    let mut calls = Vec::new();
    loop {
        calls.push(call(reader, tools)?);
        if reader.end_of(']')? {
            return Ok(calls);
        }
    }
}

fn call(reader: &mut Reader, tools: &ToolSet) -> Read<Call> {
    let name = reader.name(|name| tools.starts_any(name))?;
    if tools.get(&name).is_none() {
        return Err(reader.wrong());
    }
    reader.expect('(')?;
    let mut arguments = Map::new();
    if !reader.take(')')? {
        loop {
            let key = reader.name(|_| true)?;
            reader.expect('=')?;
            arguments.insert(key, reader.value(0)?);
            if reader.end_of(')')? {
                break;
            }
        }
    }
    Ok(Call {
        name,
        arguments: Value::Object(arguments).to_string(),
    })
}

/// Calls as the format has them.
pub fn write(calls: &[Call]) -> String {
    let call = |call: &Call| {
        let arguments: Map<String, Value> =
            serde_json::from_str(&call.arguments).unwrap_or_default();
        let arguments = arguments.iter();
        let arguments = arguments.map(|(key, value)| format!("{key}={}", literal(value)));
        format!(
            "{}({})",
            call.name,
            arguments.collect::<Vec<_>>().join(", ")
        )
    };
    format!(
        "[{}]",
        calls.iter().map(call).collect::<Vec<_>>().join(", ")
    )
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(literal).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(pairs) => {
            let pair = |(key, value): (&String, &Value)| {
                format!("{}: {}", Value::from(key.as_str()), literal(value))
            };
            format!(
                "{{{}}}",
                pairs.iter().map(pair).collect::<Vec<_>>().join(", ")
            )
        }
        other => other.to_string(),
    }
}
