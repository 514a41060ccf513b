//! How the values of flags are read.

use selfextend::Method;
use selfextend::settings::parse_tokens;
use std::path::PathBuf;

/// Reads a parameter and the values to try for it: `W=512,1k`.
pub fn parse_tried(text: &str) -> Result<(String, Vec<String>), String> {
    match text.split_once('=') {
        Some((key, values)) if !key.is_empty() && !values.is_empty() => {
            let values = values.split(',').map(str::to_owned);
            Ok((key.to_owned(), values.collect()))
        }
        _ => Err("write KEY=VALUE,VALUE,...".to_owned()),
    }
}

/// Reads a method with its parameters: `rerope:W=1024`.
pub fn parse_method(text: &str) -> Result<Method, String> {
    text.parse()
        .map_err(|error: selfextend::method::MethodError| error.to_string())
}

/// Reads a number of bytes: `2g`, `800m`, `64k` (of 1024 each) or a bare number.
pub fn bytes(text: &str) -> Result<usize, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(['k', 'm', 'g']);
    let factor = match &lower[digits.len()..] {
        "" => 1usize,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => {
            return Err(format!(
                "{text:?} is not a number of bytes; write 2g or 800m"
            ));
        }
    };
    let number: usize = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a number of bytes; write 2g or 800m"))?;
    match number.checked_mul(factor) {
        Some(0) => Err("must be at least 1".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err(format!("{text:?} is more than any memory holds")),
    }
}

/// Reads a text that is not empty.
pub fn some_text(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("the text is empty, so it would end every answer at once".to_owned());
    }
    Ok(text.to_owned())
}

/// The largest number of things that are counted one by one.
const MOST: usize = 1 << 24;

/// Reads a whole number of things.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number <= MOST => Ok(number),
        Ok(_) => Err(format!("must be at most {MOST}")),
        Err(_) => Err("not a whole number".to_owned()),
    }
}

/// Reads a whole number of things that is not 0.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match count(text)? {
        0 => Err("must be at least 1".to_owned()),
        number => Ok(number),
    }
}

/// Reads a number of tokens that is not 0: `16384` or `16k`.
pub fn tokens_at_least_one(text: &str) -> Result<usize, String> {
    match parse_tokens(text)? {
        0 => Err("must be at least 1".to_owned()),
        tokens => Ok(tokens),
    }
}

/// Reads the size of a matrix that fits a screen.
pub fn matrix_size(text: &str) -> Result<usize, String> {
    at_least_one(text).and_then(|size| {
        if size <= 200 {
            Ok(size)
        } else {
            Err("must be at most 200".to_owned())
        }
    })
}

/// Reads a label and a file: `LABEL=FILE`.
pub fn labelled(text: &str) -> Result<(String, PathBuf), String> {
    // A label such as `G=4` is more likely than a file name with a `=` in it.
    match text.rsplit_once('=') {
        Some((label, file)) if !label.is_empty() && !file.is_empty() => {
            Ok((label.to_owned(), file.into()))
        }
        _ => Err("write LABEL=FILE".to_owned()),
    }
}

/// Reads a number of hours above 0, `inf` included.
pub fn hours(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(hours) if hours > 0.0 => Ok(hours),
        Ok(_) => Err("must be more than 0".to_owned()),
        Err(_) => Err("not a number of hours".to_owned()),
    }
}
