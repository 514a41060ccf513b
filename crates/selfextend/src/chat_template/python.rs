//! What templates written for Jinja2 use and minijinja with its `pycompat` lacks, or does
//! otherwise: methods of Python's strings, lists and dictionaries, filters, tests and functions.
//! `tests/templates.rs` holds all of it against Jinja2.

use super::float::python_float;
use super::json;
use minijinja::value::{Kwargs, Rest, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, filters};
use minijinja_contrib::{filters as contrib, globals, pycompat};
use std::ops::Range;

/// The widest that text is padded to.
const MAX_WIDTH: usize = 1 << 16;

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
    environment.add_function("cycler", |items: Rest<Value>| globals::cycler(items.0));
    environment.add_function("joiner", globals::joiner);
}

fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let found = match (value.kind(), value.as_str()) {
        (_, Some(text)) => string_method(text, name, args)?,
        (ValueKind::Seq, _) if name == "index" => {
            let (item,): (&Value,) = from_args(args)?;
            let at = value.try_iter()?.position(|it| it == *item);
            Some(Value::from(
                at.ok_or_else(|| invalid("the value is not in the list"))?,
            ))
        }
        (ValueKind::Seq, _) if name == "copy" => Some(value.try_iter()?.collect()),
        (ValueKind::Map, _) if name == "copy" => {
            let keys = value.try_iter()?;
            let pairs = keys.map(|key| Ok((key.clone(), value.get_item(&key)?)));
            Some(
                pairs
                    .collect::<Result<Vec<_>, Error>>()?
                    .into_iter()
                    .collect(),
            )
        }
        _ => None,
    };
    found.map_or_else(
        || pycompat::unknown_method_callback(state, value, name, args),
        Ok,
    )
}

/// Methods of Python's `str`, by <https://docs.python.org/3/library/stdtypes.html#string-methods>.
fn string_method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match name {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            strip(text, chars, name != "rstrip", name != "lstrip").into()
        }
        "split" | "rsplit" => {
            let [separator, most] = named(args, ["sep", "maxsplit"])?;
            split(text, &separator, &most, name == "rsplit")?
        }
        "splitlines" => {
            let [keep_ends] = named(args, ["keepends"])?;
            lines(text, keep_ends.is_true()).into_iter().collect()
        }
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (before, behind) = text.split_once(separator).unwrap_or((text, ""));
            let found = &text[before.len()..text.len() - behind.len()];
            (before, found, behind).into()
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (before, behind) = text.rsplit_once(separator).unwrap_or(("", text));
            let found = &text[before.len()..text.len() - behind.len()];
            (before, found, behind).into()
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            text.strip_prefix(prefix).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            text.strip_suffix(suffix).unwrap_or(text).into()
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let digits = text.trim_start_matches(['+', '-']);
            let sign = &text[..text.len() - digits.len()];
            let width = width.saturating_sub(sign.len());
            Value::from(format!("{sign}{}", pad(digits, width, "0", Side::Left)?))
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            let side = match name {
                "ljust" => Side::Right,
                "rjust" => Side::Left,
                _ => Side::Both,
            };
            pad(text, width, fill.unwrap_or(" "), side)?.into()
        }
        "find" | "rfind" | "index" | "rindex" | "count" => search(text, name, args)?,
        "startswith" | "endswith" if args.len() > 1 => {
            let (affix, start, end): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
            let part = Value::from(&text[range(text, start, end)]);
            return part_ends_with(&part, name, affix).map(Some);
        }
        "title" => title(text).into(),
        "swapcase" => text.chars().map(swap_case).collect::<String>().into(),
        "isspace" => (!text.is_empty() && text.chars().all(is_space)).into(),
        "isdecimal" => (!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())).into(),
        _ => return Ok(None),
    }))
}

/// Arguments that may be given by position or by name; undefined where they are not given.
fn named<const N: usize>(args: &[Value], names: [&str; N]) -> Result<[Value; N], Error> {
    let (positional, by_name): (Rest<Value>, Kwargs) = from_args(args)?;
    if positional.len() > N {
        return Err(ErrorKind::TooManyArguments.into());
    }
    let mut values = [const { Value::UNDEFINED }; N];
    for (at, name) in names.iter().enumerate() {
        let given: Option<Value> = by_name.get(name)?;
        values[at] = positional.get(at).cloned().or(given).unwrap_or_default();
    }
    by_name.assert_all_used()?;
    Ok(values)
}

/// What Python counts as white space: four separators more than Unicode does.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn strip<'t>(text: &'t str, chars: Option<&str>, left: bool, right: bool) -> &'t str {
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left {
        text.trim_start_matches(goes)
    } else {
        text
    };
    if right {
        text.trim_end_matches(goes)
    } else {
        text
    }
}

fn split(text: &str, separator: &Value, most: &Value, right: bool) -> Result<Value, Error> {
    let most = most.as_i64().and_then(|most| usize::try_from(most).ok());
    let most = most.map_or(usize::MAX, |most| most.saturating_add(1));
    let mut parts: Vec<&str> = match separator.as_str() {
        Some("") => return Err(invalid("the separator is empty")),
        Some(separator) if right => text.rsplitn(most, separator).collect(),
        Some(separator) => text.splitn(most, separator).collect(),
        None => split_space(text, most, right),
    };
    if right {
        parts.reverse();
    }
    Ok(parts.into_iter().collect())
}

/// The words of a text, from the right if asked; the last of `most` parts is the whole rest.
fn split_space(text: &str, most: usize, right: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = strip(text, None, !right, right);
    while !rest.is_empty() {
        let end = match (parts.len() + 1 == most, right) {
            (true, _) => None,
            (false, false) => rest.find(is_space),
            (false, true) => rest.rfind(is_space),
        };
        let Some(end) = end else {
            parts.push(rest);
            break;
        };
        let wide = rest[end..].chars().next().map_or(1, char::len_utf8);
        if right {
            parts.push(&rest[end + wide..]);
            rest = strip(&rest[..end], None, false, true);
        } else {
            parts.push(&rest[..end]);
            rest = strip(&rest[end + wide..], None, true, false);
        }
    }
    parts
}

fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let is_end = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(is_end) {
        let one = rest[end..].chars().next().map_or(1, char::len_utf8);
        let wide = if rest[end..].starts_with("\r\n") {
            2
        } else {
            one
        };
        lines.push(&rest[..if keep_ends { end + wide } else { end }]);
        rest = &rest[end + wide..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    Both,
}

fn pad(text: &str, width: usize, fill: &str, side: Side) -> Result<String, Error> {
    if width > MAX_WIDTH {
        return Err(invalid("text is padded to 65536 characters at most"));
    }
    let length = text.chars().count();
    let missing = width.saturating_sub(length);
    let left = match side {
        Side::Left => missing,
        Side::Right => 0,
        // As CPython rounds: the odd one goes to the left where the width is odd.
        Side::Both => missing / 2 + (missing & width & 1),
    };
    Ok(fill.repeat(left) + text + &fill.repeat(missing - left))
}

/// The bytes of `text[start:end]`.
fn range(text: &str, start: Option<i64>, end: Option<i64>) -> Range<usize> {
    let count = text.chars().count() as i64;
    let clamp = |at: i64| (if at < 0 { at + count } else { at }).clamp(0, count);
    let byte = |at: i64| {
        let nth = usize::try_from(at).ok();
        nth.and_then(|nth| text.char_indices().nth(nth))
            .map_or(text.len(), |(byte, _)| byte)
    };
    let start = clamp(start.unwrap_or(0));
    let end = clamp(end.unwrap_or(count)).max(start);
    byte(start)..byte(end)
}

fn search(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (what, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
    let range = range(text, start, end);
    let part = &text[range.clone()];
    if name == "count" {
        return Ok(part.matches(what).count().into());
    }
    let found = if name.starts_with('r') {
        part.rfind(what)
    } else {
        part.find(what)
    };
    match found {
        Some(at) => Ok(text[..range.start + at].chars().count().into()),
        None if name.ends_with("find") => Ok((-1).into()),
        None => Err(invalid("substring not found")),
    }
}

fn part_ends_with(part: &Value, name: &str, affix: &Value) -> Result<Value, Error> {
    let text = part.as_str().unwrap_or_default();
    let fits = |affix: &str| {
        if name == "endswith" {
            text.ends_with(affix)
        } else {
            text.starts_with(affix)
        }
    };
    if let Some(affix) = affix.as_str() {
        return Ok(fits(affix).into());
    }
    Ok(affix
        .try_iter()?
        .any(|affix| affix.as_str().is_some_and(fits))
        .into())
}

/// Python's `title`: a letter after anything that is not one is upper case, others lower.
fn title(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            result.extend(c.to_lowercase());
        } else {
            result.extend(c.to_uppercase());
        }
        in_word = c.is_lowercase() || c.is_uppercase();
    }
    result
}

fn swap_case(c: char) -> String {
    if c.is_uppercase() {
        c.to_lowercase().collect()
    } else {
        c.to_uppercase().collect()
    }
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

/// Jinja2 asks for a length and items: strings and dictionaries have both.
fn is_sequence(value: &Value) -> bool {
    let kind = value.kind();
    matches!(kind, ValueKind::String | ValueKind::Seq | ValueKind::Map)
        || kind == ValueKind::Iterable && value.len().is_some()
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
