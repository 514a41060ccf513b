//! Tags of templates that are rewritten or refused before minijinja reads them.

use minijinja::{Error, ErrorKind};

/// A template without the tags that minijinja does not know or reads otherwise.
pub(super) fn adapt(source: &str) -> Result<String, Error> {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let end = rest[start..]
            .find("%}")
            .map_or(rest.len(), |end| start + end);
        result.push_str(&rest[..start]);
        let tag = &rest[start..end];
        let words = tag.trim_matches(|c: char| c.is_whitespace() || "{%-+".contains(c));
        match words {
            // Templates for training mark what the assistant says with a tag of transformers' own.
            // It only encloses text, in a scope of its own, so `with` does the same.
            "generation" => result.push_str(&tag.replace("generation", "with")),
            "endgeneration" => result.push_str(&tag.replace("endgeneration", "endwith")),
            _ => {
                check_with(words)?;
                result.push_str(tag);
            }
        }
        rest = &rest[end..];
    }
    result.push_str(rest);
    Ok(result)
}

/// Jinja2 gives all variables of a `with` their values before any of them can be used, minijinja one
/// after the other.
fn check_with(tag: &str) -> Result<(), Error> {
    let Some(variables) = tag.strip_prefix("with").filter(|it| it.starts_with(' ')) else {
        return Ok(());
    };
    let text = without_strings(variables);
    let mut rest = text.as_str();
    let mut set: Vec<&str> = Vec::new();
    while let Some(start) = rest.find(is_name) {
        let word = &rest[start..];
        let (word, behind) = word.split_at(word.find(|c| !is_name(c)).unwrap_or(word.len()));
        if set.contains(&word) {
            let message =
                format!("a `with` that sets `{word}` and uses it in the same tag is not supported");
            return Err(Error::new(ErrorKind::SyntaxError, message));
        }
        let assigned = behind.trim_start().strip_prefix('=');
        if assigned.is_some_and(|it| !it.starts_with('=')) {
            set.push(word);
        }
        rest = behind;
    }
    Ok(())
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn without_strings(expression: &str) -> String {
    let mut result = String::with_capacity(expression.len());
    let mut quote = None;
    let mut chars = expression.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(_) if c == '\\' => {
                chars.next();
            }
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None => result.push(c),
            Some(_) => {}
        }
    }
    result
}
