//! Floats as Python writes them.

use minijinja::value::{Value, ValueKind};

/// How Python writes a float; `None` for what is not one.
pub(super) fn python_float(value: &Value) -> Option<String> {
    if value.kind() != ValueKind::Number || value.is_integer() {
        return None;
    }
    let number = f64::try_from(value.clone()).ok()?;
    let size = number.abs();
    if size == 0.0 || (1e-4..1e16).contains(&size) || !number.is_finite() {
        return None;
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let sign = if exponent < 0 { '-' } else { '+' };
    Some(format!("{digits}e{sign}{:02}", exponent.abs()))
}
