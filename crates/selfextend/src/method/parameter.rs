//! Parameters of a method: which there are, what was given, and how values are read.

use crate::settings::parse_tokens;
use std::fmt;

/// A parameter.
#[derive(Debug, PartialEq)]
pub struct Key {
    /// Its name; case does not matter.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// What it means, and what it is when left out.
    pub about: &'static str,
}

/// What values of a parameter are.
#[derive(Debug, PartialEq)]
pub enum Kind {
    /// A number of tokens, as `1024` or `1k`.
    Tokens,
    /// A number.
    Number,
    /// A path.
    File,
    /// Whole numbers joined by dashes, as `2-8-2-8-32-32-32-4`.
    Numbers,
    /// One of some words.
    OneOf(&'static [&'static str]),
}

/// The parameters that were given, in the order of the table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parameters(Vec<(&'static str, Value)>);

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Tokens(usize),
    Number(f64),
    Word(String),
}

impl Parameters {
    pub(super) fn new(given: Vec<(&'static str, Value)>) -> Self {
        Self(given)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let mut given = self.0.iter();
        given.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// A number of tokens.
    pub fn tokens(&self, name: &str) -> Option<usize> {
        match self.get(name) {
            Some(&Value::Tokens(tokens)) => Some(tokens),
            _ => None,
        }
    }

    /// A number.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.get(name) {
            Some(&Value::Number(number)) => Some(number),
            _ => None,
        }
    }

    /// A list of whole numbers.
    pub fn numbers(&self, name: &str) -> Option<Vec<usize>> {
        numbers(self.word(name)?)
    }

    /// A word or a path.
    pub fn word(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Value::Word(word)) => Some(word),
            _ => None,
        }
    }
}

/// Whole numbers of at least 1, joined by dashes.
fn numbers(text: &str) -> Option<Vec<usize>> {
    let number = |part: &str| part.parse().ok().filter(|&number| number > 0);
    text.split('-').map(number).collect()
}

impl Kind {
    pub(super) fn read(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Tokens => parse_tokens(text).map(Value::Tokens),
            Self::Number => match text.parse::<f64>() {
                // Beyond any use, and beyond what reaches can be computed for.
                Ok(number) if number.is_finite() && number.abs() > 1e9 => {
                    Err(format!("{text:?} is above 1e9"))
                }
                Ok(number) if number.is_finite() => Ok(Value::Number(number)),
                _ => Err(format!("{text:?} is not a number")),
            },
            Self::Numbers => match numbers(text) {
                Some(_) => Ok(Value::Word(text.into())),
                None => Err(format!(
                    "{text:?} is not a list of whole numbers such as 2-8-32"
                )),
            },
            Self::File if text.is_empty() => Err("a file is needed".into()),
            Self::File => Ok(Value::Word(text.into())),
            Self::OneOf(words) if words.contains(&text) => Ok(Value::Word(text.into())),
            Self::OneOf(words) => Err(format!("{text:?} is not one of {}", words.join(", "))),
        }
    }
}

/// As they are written after a method's name: `:G=8,W=1024`, or nothing.
impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (n, (key, value)) in self.0.iter().enumerate() {
            let before = if n == 0 { ':' } else { ',' };
            match value {
                Value::Tokens(tokens) => write!(f, "{before}{key}={tokens}")?,
                Value::Number(number) => write!(f, "{before}{key}={number}")?,
                Value::Word(word) => write!(f, "{before}{key}={word}")?,
            }
        }
        Ok(())
    }
}
