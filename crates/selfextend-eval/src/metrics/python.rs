//! What Python's strings do, where the authors' scores depend on it.

use std::sync::LazyLock;

/// Whether `str.isspace` holds: Unicode's white space, and four separators that it does not have.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `str.split()`.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Whether `\w` matches: letters, numbers and the underscore, but no combining marks.
pub(super) fn is_word(c: char) -> bool {
    static MARK: LazyLock<regex::Regex> = LazyLock::new(|| pattern(r"^[\p{M}\p{So}]"));
    let mut buffer = [0; 4];
    c == '_' || (c.is_alphanumeric() && !MARK.is_match(c.encode_utf8(&mut buffer)))
}

/// `float(text)`; `None` where that raises a `ValueError`.
pub(super) fn float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    let mut plain = String::new();
    let mut chars = text.chars().peekable();
    let mut last = None;
    while let Some(c) = chars.next() {
        match c {
            // Between two digits only.
            '_' if last.is_some_and(|c: char| c.is_ascii_digit())
                && chars.peek().is_some_and(|&next| decimal(next).is_some()) => {}
            c => plain.push(decimal(c).unwrap_or(c)),
        }
        last = Some(decimal(c).unwrap_or(c));
    }
    plain.parse().ok()
}

/// A decimal digit of any script as an ASCII digit.
fn decimal(c: char) -> Option<char> {
    if c.is_ascii() {
        return c.is_ascii_digit().then_some(c);
    }
    static DECIMAL: LazyLock<regex::Regex> = LazyLock::new(|| pattern(r"^\p{Nd}$"));
    let is_decimal = |c: char| DECIMAL.is_match(c.encode_utf8(&mut [0; 4]));
    if !is_decimal(c) {
        return None;
    }
    // Digits of a script follow each other from 0 to 9; only mathematical ones have neighbours.
    let first = if ('\u{1d7ce}'..='\u{1d7ff}').contains(&c) {
        0x1d7ce
    } else {
        let mut first = c as u32;
        while char::from_u32(first - 1).is_some_and(is_decimal) {
            first -= 1;
        }
        first
    };
    char::from_digit((c as u32 - first) % 10, 10)
}

/// A pattern of this crate's own.
///
/// # Panics
/// One that is not a regular expression.
pub(super) fn pattern(text: &str) -> regex::Regex {
    regex::Regex::new(text).expect("a pattern of the source")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mathematical_digits_are_five_times_ten() {
        for (at, c) in ('\u{1d7ce}'..='\u{1d7ff}').enumerate() {
            assert_eq!(decimal(c), char::from_digit(at as u32 % 10, 10));
        }
    }

    #[test]
    fn floats_are_read_as_python_does() {
        for (text, number) in [
            ("12", Some(12.0)),
            (" \x1c1_000\n", Some(1000.0)),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("\u{661}\u{662}", Some(12.0)),
            ("\u{ff11}\u{ff12}", Some(12.0)),
            ("+5.", Some(5.0)),
            (".5", Some(0.5)),
            ("1e3", Some(1000.0)),
            ("", None),
            (".", None),
            ("1,200", None),
            ("x", None),
        ] {
            assert_eq!(float(text), number, "{text:?}");
        }
        assert!(float("nan").unwrap().is_nan() && float("-Inf") == Some(f64::NEG_INFINITY));
    }
}
