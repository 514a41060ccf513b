//! Settings found for a model and a context, kept in a small JSON file.

use crate::error::{Error, Result};
use crate::method::Method;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version of the file format.
const FORMAT: u32 = 1;

/// A method for a model and a context, and how it was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The version of the file format.
    selfextend_profile: u32,
    /// The model's name, for people.
    pub model: String,
    /// The model's trained window in tokens.
    pub trained_window: usize,
    /// The context it was found for, in tokens.
    pub context: usize,
    /// The method with its parameters.
    method: String,
    /// Losses of the method on text it was not chosen by.
    pub found: Losses,
    /// Losses of the automatic rule on the same text.
    pub automatic: Losses,
    /// Samples behind the losses.
    pub samples: usize,
}

/// Mean negative log-likelihoods, in nats a token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Of answers that lie far back in the text (LongRoPE2's needle-driven perplexity, arXiv
    /// 2502.20082, section 3.2).
    pub needle: f64,
    /// Of the text itself at the end of the context.
    pub text: f64,
}

impl Profile {
    /// A profile to be written.
    pub fn new(model: &str, trained_window: usize, context: usize, method: &Method) -> Self {
        let none = Losses {
            needle: f64::NAN,
            text: f64::NAN,
        };
        Self {
            selfextend_profile: FORMAT,
            model: model.to_owned(),
            trained_window,
            context,
            method: method.to_string(),
            found: none,
            automatic: none,
            samples: 0,
        }
    }

    /// Reads a profile and checks that its method can be read.
    ///
    /// # Errors
    /// A file that cannot be read or is no profile of this version.
    pub fn load(path: &Path) -> Result<(Self, Method)> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        let bad = |reason: String| Error::Model {
            path: path.to_owned(),
            reason,
        };
        let profile: Self = serde_json::from_str(&text)
            .map_err(|error| bad(format!("no profile of `selfextend tune`: {error}")))?;
        if profile.selfextend_profile != FORMAT {
            return Err(bad(format!(
                "a profile of version {}, this program reads version {FORMAT}",
                profile.selfextend_profile
            )));
        }
        let method = profile.method.parse();
        let method = method.map_err(|error: crate::method::MethodError| bad(error.to_string()))?;
        Ok((profile, method))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_as_it_was_written() {
        let method: Method = "selfextend:G=4,W=128".parse().unwrap();
        let mut profile = Profile::new("tiny", 512, 1024, &method);
        let losses = Losses {
            needle: 1.5,
            text: 2.0,
        };
        (profile.found, profile.automatic) = (losses, losses);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile.json");
        std::fs::write(&path, serde_json::to_string(&profile).unwrap()).unwrap();
        assert_eq!(Profile::load(&path).unwrap(), (profile, method));
        for text in ["{}", "nothing", r#"{"selfextend_profile": 2}"#] {
            std::fs::write(&path, text).unwrap();
            assert!(Profile::load(&path).is_err());
        }
        assert!(Profile::load(&dir.path().join("missing")).is_err());
    }
}
