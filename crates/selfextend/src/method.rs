//! A context-extension method by name, with its parameters: `plain`, `selfextend:G=8,W=1024`,
//! `yarn:s=4`, `rerope:scale=log-n`.
//!
//! [`table`] lists them all. What a method computes, with its paper and its limits, is in the file
//! of its map in [`selfextend_attention::position`] or in [`selfextend_attention::rope`]. What it
//! comes to on a model is an [`Extension`](crate::Extension).

mod build;
mod change;
mod error;
mod parameter;
pub mod table;

pub use error::MethodError;

use parameter::{Parameters, Value};
use selfextend_attention::{PositionMap, QueryScaling};
use std::fmt;
use std::str::FromStr;
use table::{At, CUSTOM, Change, Entry, METHODS};

/// How a sequence is extended. Read from and written as `name:key=value,...`; parameters that are
/// not given follow from the model's trained window and the context. Every method takes
/// `scale=log-n` or `scale=yarn`, which multiply queries.
///
/// ```
/// use selfextend::Method;
/// let method: Method = "selfextend:G=8,W=1024".parse()?;
/// assert_eq!(method.to_string(), "selfextend:G=8,W=1024");
/// let extension = method.resolve(8192, 16384)?;
/// assert_eq!(extension.map(), selfextend::PositionMap::self_extend(8, 1024).unwrap());
/// let method: Method = "rerope:scale=log-n".parse()?;
/// assert_eq!(method.resolve(8192, 100_000)?.map().reach(8192), None); // without limit
/// # Ok::<(), selfextend::method::MethodError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    entry: &'static Entry,
    parameters: Parameters,
}

impl Method {
    /// Attention as the model was trained, at any length.
    pub fn plain() -> Self {
        Self::named("plain")
    }

    /// SelfExtend with settings that are chosen for the context.
    pub fn automatic() -> Self {
        Self::named("selfextend")
    }

    /// SelfExtend with a group size and a neighbour window.
    pub(crate) fn self_extend(group_size: usize, neighbor_window: usize) -> Self {
        Self {
            parameters: Parameters::new(vec![
                ("G", Value::Tokens(group_size)),
                ("W", Value::Tokens(neighbor_window)),
            ]),
            ..Self::automatic()
        }
    }

    /// What a map given directly is called.
    pub(crate) fn custom() -> Self {
        Self {
            entry: CUSTOM,
            parameters: Parameters::default(),
        }
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

    /// What it changes on a model and in a context, and what queries are multiplied by.
    pub(crate) fn build(&self, at: At) -> Result<(Change, QueryScaling), MethodError> {
        let change = (self.entry.build)(&self.parameters, at)?;
        // Plain positions are those of methods that change frequencies, or the baseline.
        let reach = match change.map {
            PositionMap::Plain => None,
            // Scales are found by what a model retrieves: its authors go beyond the window in bands
            // whose frequencies allow it.
            PositionMap::DimensionWise(_) => None,
            map => map.reach(at.trained),
        };
        if let Some(reach) = reach.filter(|&reach| reach < at.context) {
            return Err(MethodError::Beyond {
                method: self.to_string(),
                context: at.context,
                reach,
                trained: at.trained,
            });
        }
        Ok((change, table::query_scaling(&self.parameters, at)))
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
        let entry = entry.ok_or_else(|| MethodError::Unknown {
            name: text.into(),
            known: METHODS
                .iter()
                .map(|entry| entry.name)
                .collect::<Vec<_>>()
                .join(", "),
        })?;
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
            parameters: Parameters::new(given.collect()),
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}{}", self.entry.name, self.parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
