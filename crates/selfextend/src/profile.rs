//! Settings found for a model and a context, kept in a small JSON file.

use crate::error::{Error, Result};
use crate::fingerprint::fingerprint;
use crate::method::Method;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The version of the file format.
const FORMAT: u32 = 2;
/// Suffix of the profile beside a model.
const SUFFIX: &str = ".profile.json";

/// A method for a model and a context, and how it was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The version of the file format.
    selfextend_profile: u32,
    /// The model's name, for display.
    pub model: String,
    /// The model's [`fingerprint`].
    pub fingerprint: String,
    /// The model's trained window in tokens.
    pub trained_window: usize,
    /// The context it was found for, in tokens.
    pub context: usize,
    /// The method with its parameters.
    method: String,
    /// Losses of the method on held-out text.
    pub found: Losses,
    /// Losses of the automatic rule on the same text.
    pub automatic: Losses,
    /// Samples that the losses are means of.
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
    /// A new profile for the model in the file or folder `path`.
    ///
    /// # Errors
    /// A model that cannot be read.
    pub fn new(
        model: &str,
        path: &Path,
        trained_window: usize,
        context: usize,
        method: &Method,
    ) -> Result<Self> {
        let none = Losses {
            needle: f64::NAN,
            text: f64::NAN,
        };
        Ok(Self {
            selfextend_profile: FORMAT,
            model: model.to_owned(),
            fingerprint: named(path)?,
            trained_window,
            context,
            method: method.to_string(),
            found: none,
            automatic: none,
            samples: 0,
        })
    }

    /// The path of the profile that is used without being asked for: beside the model's file or folder,
    /// as in `model.gguf.profile.json`.
    pub fn beside(model: &Path) -> PathBuf {
        let mut name = model.file_name().unwrap_or_default().to_os_string();
        name.push(SUFFIX);
        model.with_file_name(name)
    }

    /// Reads a profile and checks that it belongs to the model in the file or folder `model`.
    ///
    /// # Errors
    /// As [`load`](Self::load); the profile of another model.
    pub fn load_for(path: &Path, model: &Path) -> Result<(Self, Method)> {
        let (profile, method) = Self::load(path)?;
        if profile.fingerprint != named(model)? {
            return Err(Error::Model {
                path: path.to_owned(),
                reason: format!(
                    "a profile of another model: it was made for {}, trained on {} tokens, and {} is not that file",
                    profile.model,
                    profile.trained_window,
                    model.display()
                ),
            });
        }
        Ok((profile, method))
    }

    /// Whether its method is at least as good as the automatic rule at the needle task.
    pub fn is_better(&self) -> bool {
        self.found.needle <= self.automatic.needle
    }

    /// Reads a profile and checks that its method can be read.
    ///
    /// # Errors
    /// A file that cannot be read or is not a profile of this version.
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
            .map_err(|error| bad(format!("not a profile of this format: {error}")))?;
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

fn named(model: &Path) -> Result<String> {
    fingerprint(model).map_err(|source| Error::Read {
        path: model.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_as_it_was_written() {
        let method: Method = "selfextend:G=4,W=128".parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (model, other) = (dir.path().join("a.gguf"), dir.path().join("b.gguf"));
        std::fs::write(&model, "weights").unwrap();
        std::fs::write(&other, "other weights").unwrap();
        let mut profile = Profile::new("tiny", &model, 512, 1024, &method).unwrap();
        let losses = Losses {
            needle: 1.5,
            text: 2.0,
        };
        (profile.found, profile.automatic) = (losses, losses);
        let path = Profile::beside(&model);
        assert_eq!(path, dir.path().join("a.gguf.profile.json"));
        std::fs::write(&path, serde_json::to_string(&profile).unwrap()).unwrap();
        assert_eq!(Profile::load_for(&path, &model).unwrap(), (profile, method));
        let error = Profile::load_for(&path, &other).unwrap_err().to_string();
        assert!(
            error.contains("another model") && error.contains("tiny"),
            "{error}"
        );
        for text in ["{}", "nothing", r#"{"selfextend_profile": 3}"#] {
            std::fs::write(&path, text).unwrap();
            assert!(Profile::load(&path).is_err());
        }
        assert!(Profile::load(&dir.path().join("missing")).is_err());
    }
}
