//! What unit tests share: a tiny random model and its ladder.

#[path = "../../selfextend-cli/tests/common/tiny.rs"]
mod tiny;

use crate::ladder::Ladder;
use selfextend::settings::SettingsError;
use selfextend::{ContextRequest, LoadOptions, Model, TextModel};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// A model with a trained window of 64 tokens.
pub fn tiny() -> Arc<TextModel> {
    static MODEL: OnceLock<Arc<TextModel>> = OnceLock::new();
    let load = || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny.gguf");
        tiny::Tiny::default().write(&path);
        let options = LoadOptions::new().with_threads(2);
        Arc::new(TextModel::load(&path, options).unwrap())
    };
    MODEL.get_or_init(load).clone()
}

/// A tiny checkpoint of a family, in the repository.
pub fn checkpoint(family: &str) -> Model {
    let checkpoints = Path::new(env!("CARGO_MANIFEST_DIR")).join("../selfextend/tests/checkpoints");
    let path = checkpoints.join(family).join("model.gguf");
    Model::load(path, LoadOptions::new().with_threads(2)).unwrap()
}

/// A ladder up to a context.
pub fn ladder(model: &Model, context: usize) -> Ladder {
    let config = model.config();
    let options = |tokens| {
        let request = ContextRequest::new().with_context(tokens);
        Ok::<_, SettingsError>(request.resolve(config.trained_window)?.into())
    };
    Ladder::new(config, context, options).unwrap()
}
