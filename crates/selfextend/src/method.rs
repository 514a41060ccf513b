//! A context-extension method by name, with its parameters: `plain`, `selfextend:G=8,W=1024`,
//! `selfextend:auto`.

use crate::session::{DEFAULT_CHUNK, SessionOptions};
use crate::settings::{ContextRequest, SettingsError};
use selfextend_attention::{AttentionError, KvType, PositionMap, QueryScaling};
use std::fmt;
use std::str::FromStr;

/// How a sequence is extended. Read from and written as `name:key=value,...`.
///
/// ```
/// use selfextend::Method;
/// let method: Method = "selfextend:G=8,W=1024".parse()?;
/// let options = method.options(8192, 16384)?;
/// assert_eq!(options.map, selfextend::PositionMap::self_extend(8, 1024).unwrap());
/// assert_eq!(method.to_string(), "selfextend:G=8,W=1024");
/// # Ok::<(), selfextend::method::MethodError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// Attention as the model was trained, at any length.
    Plain,
    /// SelfExtend with given settings, both in tokens.
    SelfExtend {
        /// `G`.
        group_size: usize,
        /// `W`.
        neighbor_window: usize,
    },
    /// SelfExtend with the settings [`ContextRequest::settings`] chooses for the context.
    Auto,
}

/// A method that cannot be read, or cannot run at a context.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MethodError {
    /// A name no method has.
    #[error("no method is called {name:?}; methods: plain, selfextend:auto, selfextend:G=8,W=1024")]
    Unknown {
        /// What was written.
        name: String,
    },
    /// Parameters that are missing, misspelt or no numbers.
    #[error("method {method:?}: {reason}")]
    Parameters {
        /// What was written.
        method: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Settings that do not reach the context.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Settings no position map can have.
    #[error(transparent)]
    Attention(#[from] AttentionError),
}

impl Method {
    /// What a session of `context` tokens needs on a model trained on `trained` positions.
    ///
    /// # Errors
    /// [`MethodError`] when the settings do not reach the context.
    pub fn options(&self, trained: usize, context: usize) -> Result<SessionOptions, MethodError> {
        let map = match *self {
            Self::Plain => PositionMap::Plain,
            Self::SelfExtend {
                group_size,
                neighbor_window,
            } => {
                let asked = ContextRequest {
                    context: Some(context),
                    group_size: Some(group_size),
                    neighbor_window: Some(neighbor_window),
                    ..Default::default()
                };
                asked.settings(trained)?.map
            }
            Self::Auto => {
                let asked = ContextRequest {
                    context: Some(context),
                    ..Default::default()
                };
                asked.settings(trained)?.map
            }
        };
        Ok(SessionOptions {
            context,
            map,
            query_scaling: QueryScaling::None,
            kv_type: KvType::default(),
            chunk: DEFAULT_CHUNK,
        })
    }
}

impl FromStr for Method {
    type Err = MethodError;

    fn from_str(text: &str) -> Result<Self, MethodError> {
        match text.split_once(':') {
            None if text == "plain" => Ok(Self::Plain),
            None if text == "selfextend" => Ok(Self::Auto),
            Some(("selfextend", "auto")) => Ok(Self::Auto),
            Some(("selfextend", parameters)) => self_extend(text, parameters),
            _ => Err(MethodError::Unknown { name: text.into() }),
        }
    }
}

fn self_extend(method: &str, parameters: &str) -> Result<Method, MethodError> {
    let bad = |reason: String| MethodError::Parameters {
        method: method.into(),
        reason,
    };
    let (mut group_size, mut neighbor_window) = (None, None);
    for parameter in parameters.split(',') {
        let (key, value) = parameter
            .split_once('=')
            .ok_or_else(|| bad(format!("{parameter:?} is not of the form G=8")))?;
        let value = crate::settings::parse_tokens(value)
            .map_err(|reason| bad(format!("{key}: {reason}")))?;
        match key {
            "G" | "g" => group_size = Some(value),
            "W" | "w" => neighbor_window = Some(value),
            _ => return Err(bad(format!("{key:?} is neither G nor W"))),
        }
    }
    match (group_size, neighbor_window) {
        (Some(group_size), Some(neighbor_window)) => Ok(Method::SelfExtend {
            group_size,
            neighbor_window,
        }),
        _ => Err(bad("both G and W are needed, or auto".into())),
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Plain => write!(f, "plain"),
            Self::Auto => write!(f, "selfextend:auto"),
            Self::SelfExtend {
                group_size,
                neighbor_window,
            } => write!(f, "selfextend:G={group_size},W={neighbor_window}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for text in ["plain", "selfextend:auto", "selfextend:G=8,W=1024"] {
            assert_eq!(text.parse::<Method>().unwrap().to_string(), text);
        }
        assert_eq!(
            "selfextend:w=1k,g=4".parse::<Method>().unwrap().to_string(),
            "selfextend:G=4,W=1024"
        );
        for text in [
            "",
            "yarn2",
            "selfextend:",
            "selfextend:G=8",
            "selfextend:G=x,W=2",
            "selfextend:Q=1,W=2",
        ] {
            assert!(text.parse::<Method>().is_err(), "{text}");
        }
    }

    #[test]
    fn settings_beyond_their_reach_are_refused() {
        let method: Method = "selfextend:G=2,W=1024".parse().unwrap();
        assert!(matches!(
            method.options(2048, 100_000),
            Err(MethodError::Settings(SettingsError::TooLong { .. }))
        ));
        assert_eq!(
            Method::Plain.options(2048, 100_000).unwrap().map,
            PositionMap::Plain
        );
    }
}
