//! Where tests find data that is not part of the repository, and tiny models that are.

use crate::tensor::TensorFormat;
use crate::{LoadOptions, Model};
use std::path::PathBuf;

/// The path of a file under the shared data folder (`SELFEXTEND_SHARED`, or
/// `shared` beside the workspace); `None`, with a line on stderr, when it is absent.
pub(crate) fn shared(relative: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SELFEXTEND_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")));
    let path = root.join(relative);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: ../shared/{relative} is absent");
    None
}

/// The GGUF file of SmolLM2-135M-Instruct named by `SELFEXTEND_SMOLLM2`; `None`, with a
/// line on stderr, when it is absent.
pub(crate) fn smollm2() -> Option<PathBuf> {
    let path = std::env::var_os("SELFEXTEND_SMOLLM2").map(PathBuf::from);
    let found = path.filter(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: SELFEXTEND_SMOLLM2 does not name a SmolLM2 GGUF file");
    }
    found
}

/// Random blocks of a format and their numbers, as tools/make_blocks.py wrote them.
pub(crate) fn blocks(format: TensorFormat) -> (Vec<u8>, Vec<f32>) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/blocks");
    let mut bytes = std::fs::read(format!("{root}/{format}.bin")).unwrap();
    let count = bytes.len() / (format.block_bytes() + 4 * format.block_len());
    let floats = bytes.split_off(count * format.block_bytes());
    let words = floats.as_chunks().0.iter();
    (bytes, words.map(|word| f32::from_le_bytes(*word)).collect())
}

/// A tiny model of the checkpoints with a first token whose embedding is no number.
pub(crate) fn damaged(name: &str) -> Model {
    let root = format!("{}/tests/checkpoints/{name}", env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let to = |name: &str| folder.path().join(name);
    std::fs::copy(format!("{root}/config.json"), to("config.json")).unwrap();
    let mut bytes = std::fs::read(format!("{root}/model.safetensors")).unwrap();
    let at = {
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let embedding = file.tensor("model.embed_tokens.weight").unwrap();
        embedding.data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(to("model.safetensors"), bytes).unwrap();
    Model::load(folder.path(), LoadOptions::new().with_threads(1)).unwrap()
}

/// A tiny model of the checkpoints.
pub(crate) fn checkpoint(name: &str) -> Model {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/checkpoints");
    let path = format!("{root}/{name}/model.gguf");
    Model::load(path, LoadOptions::new().with_threads(1)).unwrap()
}
