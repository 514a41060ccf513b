//! A context-extension method by name, with its parameters: `plain`, `selfextend:G=8,W=1024`,
//! `yarn:s=4`, `rerope:scale=log-n`.
//!
//! [`table`] lists them all. What a method computes, with its paper and its limits, is in the file
//! of its map in [`selfextend_attention::position`] or in [`selfextend_attention::rope`].

pub mod table;

use crate::session::{DEFAULT_CHUNK, SessionOptions};
use crate::settings::{SettingsError, parse_tokens};
use selfextend_attention::{AttentionError, KvType, PositionMap, QueryScaling};
use std::fmt;
use std::str::FromStr;
use table::{At, Entry, Extension, Kind, METHODS, SCALE};

/// How a sequence is extended. Read from and written as `name:key=value,...`; parameters that are
/// not given follow from the model's trained window and the context. Every method takes
/// `scale=log-n` or `scale=yarn`, which multiply queries.
///
/// ```
/// use selfextend::Method;
/// let method: Method = "selfextend:G=8,W=1024".parse()?;
/// let options = method.options(8192, 16384)?;
/// assert_eq!(options.map, selfextend::PositionMap::self_extend(8, 1024).unwrap());
/// assert_eq!(method.to_string(), "selfextend:G=8,W=1024");
/// let method: Method = "rerope:scale=log-n".parse()?;
/// assert_eq!(method.options(8192, 100_000)?.map.reach(8192), None); // without limit
/// # Ok::<(), selfextend::method::MethodError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    entry: &'static Entry,
    parameters: Parameters,
}

/// A method that cannot be read, or cannot run at a context.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MethodError {
    /// A name no method has.
    #[error("no method is called {name:?}; methods: {}", names())]
    Unknown {
        /// What was written.
        name: String,
    },
    /// Parameters that are misspelt or no numbers.
    #[error("method {method:?}: {reason}")]
    Parameters {
        /// What was written.
        method: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A context in which the method would use positions the model was not trained on.
    #[error(
        "method {method} reaches {reach} tokens on a trained window of {trained}, not {context}; change its parameters, or leave them out to have them chosen"
    )]
    Beyond {
        /// The method.
        method: String,
        /// Tokens asked for.
        context: usize,
        /// The most it reaches.
        reach: usize,
        /// The model's trained window.
        trained: usize,
    },
    /// Settings of SelfExtend that do not work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Settings no position map can have.
    #[error(transparent)]
    Attention(#[from] AttentionError),
}

fn names() -> String {
    let names: Vec<_> = METHODS.iter().map(|entry| entry.name).collect();
    names.join(", ")
}

impl Method {
    /// Attention as the model was trained, at any length.
    pub fn plain() -> Self {
        Self::named("plain")
    }

    /// SelfExtend with the settings [`crate::settings::ContextRequest`] chooses for the context.
    pub fn automatic() -> Self {
        Self::named("selfextend")
    }

    /// A method of the table, with nothing but defaults.
    ///
    /// # Panics
    /// When there is none of that name.
    fn named(name: &str) -> Self {
        name.parse().expect("a name in the table")
    }

    /// Its name, without parameters.
    pub fn name(&self) -> &'static str {
        self.entry.name
    }

    /// What the table says of it.
    pub fn entry(&self) -> &'static Entry {
        self.entry
    }

    /// What a session of `context` tokens needs on a model trained on `trained` positions.
    ///
    /// # Errors
    /// [`MethodError`] when parameters contradict each other, a file of factors cannot be read, or
    /// the method does not reach the context.
    pub fn options(&self, trained: usize, context: usize) -> Result<SessionOptions, MethodError> {
        let at = At { trained, context };
        let Extension { map, frequencies } = (self.entry.build)(&self.parameters, at)?;
        // Plain positions are those of methods that change frequencies, or the baseline.
        let reach = match map {
            PositionMap::Plain => None,
            map => map.reach(trained),
        };
        if let Some(reach) = reach.filter(|&reach| reach < context) {
            return Err(MethodError::Beyond {
                method: self.to_string(),
                context,
                reach,
                trained,
            });
        }
        Ok(SessionOptions {
            context,
            map,
            frequencies,
            query_scaling: self.query_scaling(at),
            kv_type: KvType::default(),
            chunk: DEFAULT_CHUNK,
        })
    }

    fn query_scaling(&self, at: At) -> QueryScaling {
        match self.parameters.word(SCALE.name) {
            Some("log-n") => QueryScaling::LogN { base: at.trained },
            Some("yarn") => QueryScaling::Yarn { factor: at.times() },
            _ => QueryScaling::None,
        }
    }
}

/// The parameters that were given, in the order of the table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parameters(Vec<(&'static str, Value)>);

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Tokens(usize),
    Number(f64),
    Word(String),
}

impl Parameters {
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

    /// A word or a path.
    pub fn word(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Value::Word(word)) => Some(word),
            _ => None,
        }
    }
}

impl Kind {
    fn read(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Tokens => parse_tokens(text).map(Value::Tokens),
            Self::Number => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Value::Number(number)),
                _ => Err(format!("{text:?} is no number")),
            },
            Self::File if text.is_empty() => Err("a file is needed".into()),
            Self::File => Ok(Value::Word(text.into())),
            Self::OneOf(words) if words.contains(&text) => Ok(Value::Word(text.into())),
            Self::OneOf(words) => Err(format!("{text:?} is none of {}", words.join(", "))),
        }
    }
}

impl FromStr for Method {
    type Err = MethodError;

    fn from_str(text: &str) -> Result<Self, MethodError> {
        let (name, given) = match text.split_once(':') {
            Some((name, given)) => (name, Some(given)),
            None => (text, None),
        };
        let entry = METHODS.iter().find(|entry| entry.name == name);
        let entry = entry.ok_or_else(|| MethodError::Unknown { name: text.into() })?;
        let bad = |reason: String| MethodError::Parameters {
            method: text.into(),
            reason,
        };
        // `auto` says what leaving everything out says.
        let given = given.filter(|given| *given != "auto");
        let mut values: Vec<Option<Value>> = vec![None; entry.keys.len() + 1];
        for parameter in given.into_iter().flat_map(|given| given.split(',')) {
            let keys: Vec<_> = entry.keys().map(|key| key.name).collect();
            let one_of = || format!("its parameters are {}", keys.join(", "));
            let (key, value) = parameter.split_once('=').ok_or_else(|| {
                bad(format!(
                    "{parameter:?} is not of the form key=value; {}",
                    one_of()
                ))
            })?;
            let at = keys.iter().position(|name| name.eq_ignore_ascii_case(key));
            let at = at.ok_or_else(|| bad(format!("it has no {key:?}; {}", one_of())))?;
            let kind = &entry.keys().nth(at).expect("a key of the entry").kind;
            let value = kind
                .read(value)
                .map_err(|why| bad(format!("{key}: {why}")))?;
            if values[at].replace(value).is_some() {
                return Err(bad(format!("{key} is given twice")));
            }
        }
        let named = entry.keys().map(|key| key.name).zip(values);
        let given = named.filter_map(|(name, value)| Some((name, value?)));
        Ok(Self {
            entry,
            parameters: Parameters(given.collect()),
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.entry.name)?;
        for (n, (key, value)) in self.parameters.0.iter().enumerate() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use selfextend_attention::Frequencies;

    fn method(text: &str) -> Method {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_read_and_written() {
        for text in [
            "plain",
            "selfextend",
            "selfextend:G=8,W=1024",
            "yarn:s=2.5",
            "dca:scale=log-n",
        ] {
            assert_eq!(method(text).to_string(), text);
        }
        assert_eq!(
            method("selfextend:w=1k,g=4").to_string(),
            "selfextend:G=4,W=1024"
        );
        assert_eq!(method("selfextend:auto"), Method::automatic());
        for text in [
            "",
            "yarn2",
            "selfextend:",
            "selfextend:G=x,W=2",
            "selfextend:Q=1,W=2",
            "selfextend:G=2,g=3",
            "rerope:scale=big",
            "yarn:s=inf",
        ] {
            assert!(text.parse::<Method>().is_err(), "{text}");
        }
    }

    #[test]
    fn settings_beyond_their_reach_are_refused() {
        let short = method("selfextend:G=2,W=1024").options(2048, 100_000);
        assert!(matches!(
            short,
            Err(MethodError::Settings(SettingsError::TooLong { .. }))
        ));
        let short = method("leaky-rerope:W=512,k=2").options(2048, 100_000);
        assert!(matches!(short, Err(MethodError::Beyond { .. })));
        let plain = Method::plain().options(2048, 100_000).unwrap();
        assert_eq!(plain.map, PositionMap::Plain);
    }

    /// The promise behind every default: whatever the context, no position the model never saw, or
    /// a refusal.
    #[test]
    fn by_default_every_method_fits_every_context() {
        for entry in METHODS.iter().filter(|entry| entry.name != "longrope") {
            for trained in [64, 512, 8192] {
                for times in [1, 2, 3, 8, 30] {
                    let context = trained * times + times;
                    let options = match method(entry.name).options(trained, context) {
                        Ok(options) => options,
                        // Shifted positions end at twice the window.
                        Err(MethodError::Beyond { .. }) if entry.name == "string" && times > 1 => {
                            continue;
                        }
                        Err(error) => panic!("{} at {times} x {trained}: {error}", entry.name),
                    };
                    let plain = options.map == PositionMap::Plain
                        && options.frequencies == Frequencies::Trained;
                    assert_eq!(
                        plain,
                        entry.name == "plain",
                        "{} at {times} x {trained}",
                        entry.name
                    );
                }
            }
        }
    }

    /// The last query of a text about twice the trained window long, by hand.
    #[test]
    fn defaults_are_those_of_the_papers() {
        let relative = |name: &str, j: usize| {
            let map = method(name).options(4096, 8192).unwrap().map;
            map.positions().relative(8191, j)
        };
        assert_eq!(relative("rerope", 0), Some(512.0));
        assert_eq!(relative("rerope", 8000), Some(191.0));
        // S = 7000 + 128 - 4096.
        let string = method("string").options(4096, 7000).unwrap().map;
        assert_eq!(string.relative(6999, 0), Some((6999 - 3032 + 128) as f64));
        // The key's chunk of 3072 is two before the query's.
        assert_eq!(relative("dca", 10), Some((4095 - 10) as f64));
        assert_eq!(relative("jet-long", 0), Some(4095.0));
        assert_eq!(relative("streaming-llm", 4), None);
        assert_eq!(relative("streaming-llm", 3), Some((4095 - 3) as f64));
        assert_eq!(relative("lm-infinite", 9), Some(4096.0));
        assert_eq!(relative("lm-infinite", 10), None);
        let yarn = method("yarn").options(4096, 8192).unwrap().frequencies;
        assert!(matches!(yarn, Frequencies::Yarn(yarn) if yarn.factor == 2.0));
    }

    #[test]
    fn longrope_needs_a_file_of_factors() {
        assert!(method("longrope").options(512, 1024).is_err());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("factors.json");
        for (text, works) in [
            ("[1.0, 2.0]", true),
            (
                r#"{"long_factor": [1.0, 2.0], "short_factor": [1, 1]}"#,
                true,
            ),
            (r#"{"long": [1.0]}"#, false),
            ("[0.0]", false),
        ] {
            std::fs::write(&path, text).unwrap();
            let longrope = method(&format!("longrope:factors={}", path.display()));
            assert_eq!(longrope.options(512, 1024).is_ok(), works, "{text}");
        }
    }
}
