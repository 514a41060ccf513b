//! What templates written for Jinja2 use and minijinja with its `pycompat` lacks, or does
//! otherwise: filters, tests, functions, methods of Python's lists and dictionaries; those of strings
//! are in `strings.rs`.
//! `tests/templates.rs` holds all of it against Jinja2.

use super::float::python_float;
use super::json;
use super::strings::{self, Side, invalid, pad, strip};
use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, filters};
use minijinja_contrib::{filters as contrib, globals, pycompat};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Adds all of it to an environment.
pub(super) fn extend(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(method);
    environment.set_formatter(|out, state, value| match python_float(value) {
        Some(text) => out.write_str(&text).map_err(Error::from),
        None => minijinja::escape_formatter(out, state, value),
    });
    environment.add_filter("tojson", json::to_json);
    environment.add_filter("trim", trim);
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("indent", indent);
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("center", |text: &str, width: Option<usize>| {
        pad(text, width.unwrap_or(80), " ", Side::Both)
    });
    environment.add_filter("wordcount", |text: &str| text.split_whitespace().count());
    environment.add_filter("striptags", contrib::striptags);
    environment.add_filter("truncate", truncate);
    environment.add_test("sequence", is_sequence);
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    // It gives attributes of Python's objects, not items, and here nothing has such attributes.
    environment.remove_filter("attr");
    environment.add_function("cycler", cycler);
    environment.add_function("dict", dict);
    environment.add_function("joiner", globals::joiner);
}

fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let found = match (value.kind(), value.as_str()) {
        (_, Some(text)) => strings::method(text, name, args)?,
        (ValueKind::Seq, _) if name == "index" => {
            let (item,): (&Value,) = from_args(args)?;
            let at = value.try_iter()?.position(|it| it == *item);
            Some(Value::from(
                at.ok_or_else(|| invalid("the value is not in the list"))?,
            ))
        }
        (ValueKind::Seq, _) if name == "copy" => Some(value.try_iter()?.collect()),
        (ValueKind::Map, _) if name == "copy" => Some(Value::from_pairs(pairs(value)?)),
        _ => None,
    };
    found.map_or_else(
        || pycompat::unknown_method_callback(state, value, name, args),
        Ok,
    )
}

fn trim(text: &Value, chars: Option<&str>) -> String {
    strip(&text.to_string(), chars, true, true).to_owned()
}

/// As MarkupSafe writes the five characters.
fn escape(value: &Value) -> Value {
    if value.is_safe() {
        return value.clone();
    }
    let mut escaped = String::new();
    for c in value.to_string().chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    Value::from_safe_string(escaped)
}

/// What cannot be read as a number gives the default, as in Jinja2.
fn int(value: &Value, default: Option<Value>, base: Option<u32>) -> Value {
    let default = default.unwrap_or_else(|| 0.into());
    let Some(text) = value.as_str() else {
        let whole = i64::try_from(value.clone()).ok();
        let cut = || {
            f64::try_from(value.clone())
                .ok()
                .map(|number| number as i64)
        };
        return whole.or_else(cut).map_or(default, Value::from);
    };
    let text = strip(text, None, true, true);
    let base = base.unwrap_or(10);
    let digits = match base {
        2 => text.trim_start_matches("0b"),
        8 => text.trim_start_matches("0o"),
        16 => text.trim_start_matches("0x"),
        _ => text,
    };
    let whole = (2..=36)
        .contains(&base)
        .then(|| i64::from_str_radix(digits, base).ok());
    let cut = || text.parse::<f64>().ok().map(|number| number as i64);
    whole.flatten().or_else(cut).map_or(default, Value::from)
}

fn float(value: &Value, default: Option<Value>) -> Value {
    let default = default.unwrap_or_else(|| 0.0.into());
    let number = match value.as_str() {
        Some(text) => strip(text, None, true, true).parse().ok(),
        None => f64::try_from(value.clone()).ok(),
    };
    number.map_or(default, Value::from)
}

fn indent(text: &str, args: Rest<Value>, by_name: Kwargs) -> Result<String, Error> {
    let argument = |at: usize, name: &str| -> Result<Value, Error> {
        let given: Option<Value> = by_name.get(name)?;
        Ok(args.get(at).cloned().or(given).unwrap_or_default())
    };
    let (width, first, blank) = (
        argument(0, "width")?,
        argument(1, "first")?.is_true(),
        argument(2, "blank")?.is_true(),
    );
    by_name.assert_all_used()?;
    let indention = match width.as_str() {
        Some(text) => text.to_owned(),
        None if width.is_undefined() => " ".repeat(4),
        None => pad("", usize::try_from(width)?, " ", Side::Left)?,
    };
    let mut result = String::with_capacity(text.len() * 2);
    for (n, line) in text.split('\n').enumerate() {
        if n > 0 {
            result.push('\n');
        }
        let indents = if n == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        if indents {
            result.push_str(&indention);
        }
        result.push_str(line);
    }
    Ok(result)
}

/// The filter of minijinja takes its options by name only.
fn dictsort(value: &Value, args: Rest<Value>, by_name: Kwargs) -> Result<Value, Error> {
    let names = ["case_sensitive", "by", "reverse"];
    let positional = names.into_iter().zip(args.iter().cloned());
    let given = by_name.args().map(|name| Ok((name, by_name.get(name)?)));
    let given = given.collect::<Result<Vec<(&str, Value)>, Error>>()?;
    filters::dictsort(value, positional.chain(given).collect())
}

/// The filter of minijinja-contrib takes its options by name only.
fn truncate(
    state: &mut State,
    value: &Value,
    args: Rest<Value>,
    by_name: Kwargs,
) -> Result<Value, Error> {
    let names = ["length", "killwords", "end", "leeway"];
    let positional = names.into_iter().zip(args.iter().cloned());
    let given = by_name.args().map(|name| Ok((name, by_name.get(name)?)));
    let given = given.collect::<Result<Vec<(&str, Value)>, Error>>()?;
    contrib::truncate(state, value, positional.chain(given).collect())
}

fn pairs(map: &Value) -> Result<Vec<(Value, Value)>, Error> {
    let pair = |key: Value| Ok((key.clone(), map.get_item(&key)?));
    map.try_iter()?.map(pair).collect()
}

/// `dict` of a mapping or of pairs, and of named arguments.
fn dict(from: Option<&Value>, by_name: Kwargs) -> Result<Value, Error> {
    let mut all = match from {
        None => Vec::new(),
        Some(map) if map.kind() == ValueKind::Map => pairs(map)?,
        Some(list) => {
            let pair = |item: Value| match item.len() {
                Some(2) => Ok((item.get_item(&0.into())?, item.get_item(&1.into())?)),
                _ => Err(invalid("dict takes a mapping or pairs")),
            };
            list.try_iter()?.map(pair).collect::<Result<_, _>>()?
        }
    };
    for name in by_name.args() {
        all.push((name.into(), by_name.get(name)?));
    }
    Ok(Value::from_pairs(all))
}

fn cycler(items: Rest<Value>) -> Result<Value, Error> {
    if items.is_empty() {
        return Err(invalid("cycler takes at least one item"));
    }
    Ok(Value::from_object(Cycler {
        items: items.0,
        at: AtomicUsize::new(0),
    }))
}

/// Gives its items in turn, for ever.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let current = self.items.get(self.at.load(Ordering::Relaxed));
        current.filter(|_| key.as_str() == Some("current")).cloned()
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        name: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        let () = from_args(args)?;
        let at = self.at.load(Ordering::Relaxed);
        match name {
            "next" => {
                self.at
                    .store((at + 1) % self.items.len(), Ordering::Relaxed);
                Ok(self.items[at].clone())
            }
            "reset" => {
                self.at.store(0, Ordering::Relaxed);
                Ok(().into())
            }
            _ => Err(ErrorKind::UnknownMethod.into()),
        }
    }
}

/// Jinja2 asks for a length and items: strings and dictionaries have both.
fn is_sequence(value: &Value) -> bool {
    let kind = value.kind();
    matches!(kind, ValueKind::String | ValueKind::Seq | ValueKind::Map)
        || kind == ValueKind::Iterable && value.len().is_some()
}
