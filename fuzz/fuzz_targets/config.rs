//! A config.json and a tokenizer.json of any bytes, beside weights that are fine.
#![no_main]

use libfuzzer_sys::fuzz_target;
use selfextend::ModelFile;
use selfextend::backend::cpu::Cpu;

const WEIGHTS: &[u8] =
    include_bytes!("../../crates/selfextend/tests/checkpoints/llama/model.safetensors");

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json"] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    std::fs::write(folder.path().join("model.safetensors"), WEIGHTS).unwrap();
    let Ok(file) = ModelFile::open(folder.path()) else {
        return;
    };
    let _ = file.tokenizer();
    if let Ok(config) = file.config() {
        let _ = file.weights(&config, &Cpu::default());
    }
});
