//! Options from the environment, read as huggingface_hub reads it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::HubError;
use super::options::PullOptions;

/// Values that huggingface_hub takes for "yes".
const TRUE: [&str; 4] = ["1", "ON", "YES", "TRUE"];

/// Looks up a variable.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl PullOptions {
    /// Options from `SELFEXTEND_CACHE`, `SELFEXTEND_PYTHON`, and the variables of huggingface_hub:
    /// `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_ENDPOINT`,
    /// `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`,
    /// `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`, `HF_HUB_DISABLE_SYMLINKS`, `HF_HUB_ETAG_TIMEOUT`
    /// and `HF_HUB_DOWNLOAD_TIMEOUT`. They mean what they mean there, but that an empty one
    /// counts as not set. Directories that are not named are the usual ones of this platform.
    ///
    /// # Errors
    ///
    /// A variable that has no meaning, or a stored token that cannot be read.
    pub fn from_env() -> Result<Self, HubError> {
        options(&|name| std::env::var_os(name), dirs::home_dir())
    }
}

/// Options from the variables that `lookup` finds, with this home directory.
fn options(lookup: Lookup, home: Option<PathBuf>) -> Result<PullOptions, HubError> {
    let env = Env { lookup, home };
    let hub_home = match env.path("HF_HOME") {
        Some(home) => Some(home),
        None => env
            .path("XDG_CACHE_HOME")
            .or_else(|| Some(env.home.as_ref()?.join(".cache")))
            .map(|cache| cache.join("huggingface")),
    };
    let hub_cache = env
        .path("HF_HUB_CACHE")
        .or_else(|| env.path("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(hub_home.as_ref()?.join("hub")));
    // Any of the two, but the first one that is set decides.
    let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
    let offline = offline.iter().find(|name| env.value(name).is_some());
    Ok(PullOptions {
        cache_dir: env
            .value("SELFEXTEND_CACHE")
            .map(PathBuf::from)
            .or_else(|| Some(dirs::cache_dir()?.join("selfextend"))),
        python: env.value("SELFEXTEND_PYTHON"),
        hub_cache,
        hub_endpoint: env.text("HF_ENDPOINT")?,
        hub_token: env.token(hub_home.as_deref())?,
        hub_offline: offline.is_some_and(|name| env.is_set(name)),
        hub_copies: env.is_set("HF_HUB_DISABLE_SYMLINKS"),
        hub_etag_timeout: env.seconds("HF_HUB_ETAG_TIMEOUT")?,
        hub_download_timeout: env.seconds("HF_HUB_DOWNLOAD_TIMEOUT")?,
    })
}

/// The value of an environment variable as text; an empty one counts as not set.
pub(super) fn text(name: &str) -> Result<Option<String>, HubError> {
    let lookup = |name: &str| std::env::var_os(name);
    let env = Env {
        lookup: &lookup,
        home: None,
    };
    env.text(name)
}

struct Env<'a> {
    lookup: Lookup<'a>,
    home: Option<PathBuf>,
}

impl Env<'_> {
    fn value(&self, name: &str) -> Option<OsString> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &str) -> Result<Option<String>, HubError> {
        let value = self.value(name).map(OsString::into_string).transpose();
        value.map_err(|value| HubError::BadVariable {
            name: name.to_owned(),
            value: value.to_string_lossy().into_owned(),
            expected: "text in UTF-8",
        })
    }

    fn is_set(&self, name: &str) -> bool {
        let value = self.value(name).unwrap_or_default();
        TRUE.contains(&value.to_string_lossy().to_uppercase().as_str())
    }

    fn seconds(&self, name: &str) -> Result<Option<Duration>, HubError> {
        let Some(value) = self.text(name)? else {
            return Ok(None);
        };
        match value.trim().parse() {
            // Zero stands for the default there.
            Ok(0) => Ok(None),
            Ok(seconds @ 1..=86_400) => Ok(Some(Duration::from_secs(seconds))),
            _ => Err(HubError::BadVariable {
                name: name.to_owned(),
                value,
                expected: "a whole number of seconds, up to a day",
            }),
        }
    }

    /// A path, in which `~` and `$NAME` stand for what a shell would put there.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.value(name)?;
        let Some(text) = value.to_str() else {
            return Some(value.into());
        };
        let home = || self.home.as_ref()?.to_str().map(str::to_owned);
        let variable = |name: &str| (self.lookup)(name)?.into_string().ok();
        let text = shellexpand::full_with_context_no_errors(text, home, variable);
        Some(PathBuf::from(text.as_ref()))
    }

    fn token(&self, hub_home: Option<&Path>) -> Result<Option<String>, HubError> {
        if self.is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return Ok(None);
        }
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            if let Some(token) = self.text(name)? {
                return checked(name, &token);
            }
        }
        let path = self
            .path("HF_TOKEN_PATH")
            .or_else(|| Some(hub_home?.join("token")));
        let Some(path) = path else {
            return Ok(None);
        };
        match std::fs::read_to_string(&path) {
            Ok(token) => checked(&path.display().to_string(), &token),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(reason) => Err(HubError::Io { path, reason }),
        }
    }
}

/// The token, without the space around it. It becomes part of a header.
fn checked(from: &str, token: &str) -> Result<Option<String>, HubError> {
    let token = token.trim();
    if !token.chars().all(|it| it.is_ascii_graphic()) {
        return Err(HubError::BadVariable {
            name: from.to_owned(),
            value: "...".into(),
            expected: "an access token: one word of ASCII characters",
        });
    }
    Ok(Some(token.to_owned()).filter(|token| !token.is_empty()))
}

#[cfg(test)]
mod tests;
