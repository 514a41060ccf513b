//! The filter `tojson` of transformers: Python's `json.dumps` without HTML escapes.

use super::float::python_float;
use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use std::fmt::Write;

/// The deepest nesting that is written: Python gives up at a thousand.
const MAX_DEPTH: usize = 500;

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn to_json(value: &Value, args: Rest<Value>, by_name: Kwargs) -> Result<Value, Error> {
    let argument = |at: usize, name: &str| -> Result<Value, Error> {
        let given: Option<Value> = by_name.get(name)?;
        Ok(args.get(at).cloned().or(given).unwrap_or_default())
    };
    let ensure_ascii = argument(0, "ensure_ascii")?.is_true();
    let indent = indention(&argument(1, "indent")?)?;
    let (item, key) = separators(&argument(2, "separators")?, indent.is_some())?;
    let sort_keys = argument(3, "sort_keys")?.is_true();
    by_name.assert_all_used()?;
    if args.len() > 4 {
        return Err(ErrorKind::TooManyArguments.into());
    }
    let mut writer = Writer {
        ensure_ascii,
        indent,
        item,
        key,
        sort_keys,
        out: String::new(),
    };
    writer.value(value, 0)?;
    Ok(Value::from(writer.out))
}

fn indention(indent: &Value) -> Result<Option<String>, Error> {
    if indent.is_none() || indent.is_undefined() {
        return Ok(None);
    }
    if let Some(text) = indent.as_str() {
        return Ok(Some(text.to_owned()));
    }
    let width = i64::try_from(indent.clone())?.clamp(0, 64);
    Ok(Some(" ".repeat(width as usize)))
}

fn separators(given: &Value, indented: bool) -> Result<(String, String), Error> {
    if given.is_none() || given.is_undefined() {
        let item = if indented { "," } else { ", " };
        return Ok((item.to_owned(), ": ".to_owned()));
    }
    let text = |at| given.get_item_by_index(at).map(|it| it.to_string());
    Ok((text(0)?, text(1)?))
}

struct Writer {
    ensure_ascii: bool,
    indent: Option<String>,
    /// Stands between items.
    item: String,
    /// Stands between a key and its value.
    key: String,
    sort_keys: bool,
    out: String,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(refused("is nested too deeply"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool | ValueKind::Number => self.out.push_str(&scalar(value)),
            ValueKind::String => self.string(&value.to_string()),
            ValueKind::Seq => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list(['[', ']'], items.len(), depth, |writer, at| {
                    writer.value(&items[at], depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.list(['{', '}'], keys.len(), depth, |writer, at| {
                    writer.string(&key_text(&keys[at])?);
                    writer.out.push_str(&writer.key.clone());
                    writer.value(&value.get_item(&keys[at])?, depth + 1)
                })?;
            }
            _ => return Err(refused("is neither data nor text")),
        }
        Ok(())
    }

    fn list(
        &mut self,
        brackets: [char; 2],
        length: usize,
        depth: usize,
        mut write: impl FnMut(&mut Self, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(brackets[0]);
        for at in 0..length {
            if at > 0 {
                self.out.push_str(&self.item);
            }
            self.line(depth + 1);
            write(self, at)?;
        }
        if length > 0 {
            self.line(depth);
        }
        self.out.push(brackets[1]);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\x08' => self.out.push_str("\\b"),
                '\x0c' => self.out.push_str("\\f"),
                c if c < ' ' || self.ensure_ascii && c > '~' => self.escape(c),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, c: char) {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let _ = write!(self.out, "\\u{unit:04x}");
        }
    }
}

fn scalar(value: &Value) -> String {
    match value.kind() {
        ValueKind::Bool if value.is_true() => "true".to_owned(),
        ValueKind::Bool => "false".to_owned(),
        _ => python_float(value).unwrap_or_else(|| value.to_string()),
    }
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.to_string()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool | ValueKind::Number => Ok(scalar(key)),
        _ => Err(refused(
            "has a key that is not text, a number, true, false or none",
        )),
    }
}

fn refused(why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!("tojson: the value {why}"),
    )
}
