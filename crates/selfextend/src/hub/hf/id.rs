//! Names of hub models, and of the files in them.

use hf_hub::Repo;

use crate::hub::error::HubError;

/// A model of the hub: `owner/name`, and the file of it, if one was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::hub) struct HubId {
    pub(super) repo: String,
    pub(super) file: Option<String>,
}

impl HubId {
    /// Reads `owner/name[:file]`; `None` for anything else.
    pub(in crate::hub) fn parse(spec: &str) -> Result<Option<Self>, HubError> {
        let (repo, file) = match spec.split_once(':') {
            Some((repo, file)) => (repo, Some(file)),
            None => (spec, None),
        };
        if !repo
            .split_once('/')
            .is_some_and(|(owner, name)| is_id(owner) && is_id(name))
        {
            return Ok(None);
        }
        let repo = repo.to_owned();
        let file = file.map(str::to_owned);
        match file {
            Some(file) if !is_gguf_file(&file) => Err(HubError::BadHubFile { repo, file }),
            file => Ok(Some(Self { repo, file })),
        }
    }

    /// The model as the hub's library names it.
    pub(super) fn repo(&self) -> Repo {
        Repo::model(self.repo.clone())
    }
}

fn is_id(name: &str) -> bool {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    starts_well
        && name
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || "-_.".contains(it))
}

/// Whether this is the path of a GGUF file within a model. It becomes part of URLs and of paths in the
/// cache, so characters with a meaning there are refused.
pub(super) fn is_gguf_file(file: &str) -> bool {
    let plain = file
        .chars()
        .all(|it| it.is_ascii_alphanumeric() || "-_.+=@,()[]~/".contains(it));
    let inside = file.split('/').all(|step| !matches!(step, "" | "." | ".."));
    plain && inside && file.to_ascii_lowercase().ends_with(".gguf")
}

/// The file that says what a folder with safetensors holds.
pub(super) const CONFIG: &str = "config.json";

/// The files of a model without GGUF that make up a folder to load, config.json last; empty if
/// something is missing.
pub(super) fn folder_files(mut files: Vec<String>) -> Vec<String> {
    let others = [
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    ];
    let is_weights = |file: &str| {
        let plain = file
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || "-_.".contains(it));
        let named = file.ends_with(".safetensors") || file.ends_with(".safetensors.index.json");
        plain && file.starts_with("model") && named
    };
    let has_config = files.iter().any(|file| file == CONFIG);
    files.retain(|file| others.contains(&file.as_str()) || is_weights(file));
    files.sort();
    if !has_config || !files.iter().any(|file| is_weights(file)) {
        return Vec::new();
    }
    files.push(CONFIG.to_owned());
    files
}

/// The file that is meant if none is named. Which of several is best depends on the machine and on
/// preference, so the user must choose.
pub(super) fn only_gguf(id: &HubId, mut files: Vec<String>) -> Result<String, HubError> {
    let repo = id.repo.clone();
    match (files.pop(), files.is_empty()) {
        (None, _) => Err(HubError::NoGguf { repo }),
        (Some(file), true) => Ok(file),
        (Some(file), false) => {
            files.push(file);
            Err(HubError::SeveralGguf { repo, files })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_what_loading_needs_and_its_configuration_comes_last() {
        let files = |names: &[&str]| folder_files(names.iter().map(|&name| name.into()).collect());
        let all = [
            "README.md",
            "config.json",
            "generation_config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "original/model.safetensors",
            "model/../x.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
        ];
        let expected = [
            "generation_config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
            "config.json",
        ];
        assert_eq!(files(&all), expected);
        assert!(files(&["config.json", "pytorch_model.bin"]).is_empty());
        assert!(files(&["model.safetensors"]).is_empty());
    }
}
