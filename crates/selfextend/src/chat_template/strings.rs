//! Methods of Python's `str` that minijinja's `pycompat` lacks or does otherwise.

use minijinja::value::{Kwargs, Rest, Value, from_args};
use minijinja::{Error, ErrorKind};
use regex_syntax::hir::{Class, HirKind};
use std::ops::Range;
use std::sync::OnceLock;

/// The widest that text is padded to.
const MAX_WIDTH: usize = 1 << 16;

/// Digits that are not decimal: Unicode's `Numeric_Type=Digit`.
const DIGITS: &[(char, char)] = &[
    ('\u{b2}', '\u{b3}'),
    ('\u{b9}', '\u{b9}'),
    ('\u{1369}', '\u{1371}'),
    ('\u{19da}', '\u{19da}'),
    ('\u{2070}', '\u{2070}'),
    ('\u{2074}', '\u{2079}'),
    ('\u{2080}', '\u{2089}'),
    ('\u{2460}', '\u{2468}'),
    ('\u{2474}', '\u{247c}'),
    ('\u{2488}', '\u{2490}'),
    ('\u{24ea}', '\u{24ea}'),
    ('\u{24f5}', '\u{24fd}'),
    ('\u{24ff}', '\u{24ff}'),
    ('\u{2776}', '\u{277e}'),
    ('\u{2780}', '\u{2788}'),
    ('\u{278a}', '\u{2792}'),
    ('\u{10a40}', '\u{10a43}'),
    ('\u{10e60}', '\u{10e68}'),
    ('\u{11052}', '\u{1105a}'),
    ('\u{1f100}', '\u{1f10a}'),
];

/// Methods of Python's `str`, by <https://docs.python.org/3/library/stdtypes.html#string-methods>.
pub(super) fn method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
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
            let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
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
        "isspace" => all(text, is_space),
        "isdecimal" => all(text, is_decimal),
        "isdigit" => all(text, is_digit),
        "isnumeric" => {
            // Characters of words that are numbers have a property that no library here knows.
            if !text
                .chars()
                .all(|c| c.is_numeric() || !c.is_alphabetic() || c.is_ascii())
            {
                return Err(invalid(
                    "isnumeric is known for digits and Latin letters only",
                ));
            }
            all(text, char::is_numeric)
        }
        "istitle" => is_title(text).into(),
        "isidentifier" | "casefold" => return Err(ErrorKind::UnknownMethod.into()),
        "expandtabs" => {
            let [width] = named(args, ["tabsize"])?;
            let width = if width.is_undefined() {
                8
            } else {
                usize::try_from(width)?
            };
            expand_tabs(text, width)?.into()
        }
        "join" => join(text, args)?,
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

pub(super) fn strip<'t>(text: &'t str, chars: Option<&str>, left: bool, right: bool) -> &'t str {
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
pub(super) enum Side {
    Left,
    Right,
    Both,
}

pub(super) fn pad(text: &str, width: usize, fill: &str, side: Side) -> Result<String, Error> {
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

fn all(text: &str, is: fn(char) -> bool) -> Value {
    (!text.is_empty() && text.chars().all(is)).into()
}

/// Unicode's general category Nd.
fn is_decimal(c: char) -> bool {
    static DECIMAL: OnceLock<Vec<(char, char)>> = OnceLock::new();
    let ranges = DECIMAL.get_or_init(|| {
        let parsed = regex_syntax::parse(r"\p{Nd}").map(|hir| hir.into_kind());
        match parsed {
            Ok(HirKind::Class(Class::Unicode(class))) => {
                class.iter().map(|it| (it.start(), it.end())).collect()
            }
            _ => Vec::new(),
        }
    });
    within(ranges, c)
}

/// Whether Python's `str.isdigit` holds for a character: a decimal digit of any script, or a single
/// digit in another form (Unicode's `Numeric_Type=Digit`).
///
/// ```
/// use selfextend::chat_template::is_digit;
/// assert!(is_digit('7') && is_digit('²') && is_digit('٣'));
/// assert!(!is_digit('½') && !is_digit('x'));
/// ```
pub fn is_digit(c: char) -> bool {
    is_decimal(c) || within(DIGITS, c)
}

fn within(ranges: &[(char, char)], c: char) -> bool {
    ranges.iter().any(|&(from, to)| (from..=to).contains(&c))
}

/// Upper case only where a word starts, lower case only within one, and one of them at least.
fn is_title(text: &str) -> bool {
    let (mut in_word, mut found) = (false, false);
    for c in text.chars() {
        let (upper, lower) = (c.is_uppercase(), c.is_lowercase());
        if upper && in_word || lower && !in_word {
            return false;
        }
        in_word = upper || lower;
        found |= in_word;
    }
    found
}

fn expand_tabs(text: &str, width: usize) -> Result<String, Error> {
    let mut result = String::with_capacity(text.len());
    let mut column = 0usize;
    for c in text.chars() {
        if c == '\t' {
            let spaces = column.checked_rem(width).map_or(0, |past| width - past);
            result.push_str(&pad("", spaces, " ", Side::Left)?);
            column += spaces;
        } else {
            result.push(c);
            column = if matches!(c, '\n' | '\r') {
                0
            } else {
                column + 1
            };
        }
    }
    Ok(result)
}

fn join(separator: &str, args: &[Value]) -> Result<Value, Error> {
    let (items,): (&Value,) = from_args(args)?;
    let mut result = String::new();
    for (n, item) in items.try_iter()?.enumerate() {
        if n > 0 {
            result.push_str(separator);
        }
        let text = item.as_str();
        result.push_str(text.ok_or_else(|| invalid("join takes strings only"))?);
    }
    Ok(result.into())
}

pub(super) fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
