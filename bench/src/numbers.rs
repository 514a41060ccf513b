//! Numbers as text.

/// `a / b`, where both exist and `b` is positive.
pub fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a? / b.filter(|b| *b > 0.0)?)
}

/// A value as text, or a dash.
pub fn optional(value: Option<f64>, shown: impl Fn(f64) -> String) -> String {
    value.map_or("-".to_owned(), shown)
}

/// With three digits, or all those before the point.
pub fn number(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Without digits after the point.
pub fn whole(value: f64) -> String {
    format!("{value:.0}")
}

/// A share in percent.
pub fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// A ratio as text.
pub fn times(ratio: Option<f64>) -> String {
    optional(ratio, |ratio| format!("{ratio:.2}x"))
}

/// A count in groups of three digits.
pub fn grouped(count: usize) -> String {
    match count / 1000 {
        0 => count.to_string(),
        thousands => format!("{},{:03}", grouped(thousands), count % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(grouped(1_234_007), "1,234,007");
        assert_eq!(grouped(512), "512");
        assert_eq!([123.4, 12.34, 1.234].map(number), ["123", "12.3", "1.23"]);
        assert_eq!(ratio(Some(1.0), Some(0.0)), None);
    }
}
