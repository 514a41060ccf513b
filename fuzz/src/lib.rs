//! What each target does with bytes, shared by libFuzzer's targets and the test that mutates seeds.

use selfextend::ModelFile;
use selfextend::profile::Profile;
use selfextend::tokenizer::SpecialTokens;
use selfextend_eval::{RunFile, RunWriter};
use sha2::{Digest, Sha256};

const CONFIG: &str = include_str!("../../crates/selfextend/tests/checkpoints/llama/config.json");
const WEIGHTS: &[u8] =
    include_bytes!("../../crates/selfextend/tests/checkpoints/llama/model.safetensors");

/// A tokenizer.json beside a model that is fine: what loads encodes and decodes.
///
/// # Panics
/// What a target is to find.
pub fn tokenizer(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), CONFIG).unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), bytes).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), WEIGHTS).unwrap();
    let Ok(file) = ModelFile::open(folder.path()) else {
        return;
    };
    let Ok(tokenizer) = file.tokenizer() else {
        return;
    };
    for text in ["", " a  b", "cafe\u{301} \u{1f600}\0<s>", "<0x41>\r\n\t"] {
        let ids = [tokenizer.encode(text), tokenizer.encode_with_special(text)];
        for ids in ids.into_iter().flatten() {
            let _ = tokenizer.decode(&ids, SpecialTokens::Show);
        }
    }
    let _ = tokenizer.decode(&[0, 1, u32::MAX], SpecialTokens::Skip);
}

/// A request body, for every route of the server that takes one.
///
/// # Panics
/// What a target is to find.
pub fn body(bytes: &[u8]) {
    selfextend_server::readers::body(bytes);
}

/// A file of the disk cache, as it is and with the right checksum, which alone finds most damage.
///
/// # Panics
/// What a target is to find.
pub fn block(bytes: &[u8]) {
    selfextend_server::readers::block_file(bytes);
    let sum = Sha256::digest(bytes);
    selfextend_server::readers::block_file(&[bytes, &sum].concat());
}

/// A results file. What is read can be written and read again, and a run goes on.
///
/// # Panics
/// What a target is to find.
pub fn results(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    std::fs::write(&path, bytes).unwrap();
    let Ok(run) = RunFile::read(&path) else {
        return;
    };
    let _ = RunFile::merge(&[path.clone(), path.clone()]);
    let again = folder.path().join("again.jsonl");
    if let Ok(lines) = run.to_json_lines() {
        std::fs::write(&again, lines).unwrap();
        let read = RunFile::read(&again).expect("what was written is read");
        assert_eq!(read.records.len(), run.records.len());
    }
    RunWriter::open(&path, &run.header).expect("a run goes on under its own header");
}

/// A profile.
///
/// # Panics
/// What a target is to find.
pub fn profile(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.profile.json");
    std::fs::write(&path, bytes).unwrap();
    if let Ok((profile, method)) = Profile::load(&path) {
        let _ = profile.is_better();
        let _ = (method.resolve(0, 10), method.resolve(512, 1 << 20));
    }
}
