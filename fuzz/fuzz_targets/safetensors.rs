//! A safetensors file of any bytes, beside a config.json that is fine.
#![no_main]

use libfuzzer_sys::fuzz_target;
use selfextend::ModelFile;
use selfextend::backend::cpu::Cpu;

const CONFIG: &str = include_str!("../../crates/selfextend/tests/checkpoints/llama/config.json");

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), CONFIG).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    if let Ok(file) = ModelFile::open(folder.path()) {
        let _ = file.tensors();
        let _ = file.weights(&file.config().unwrap(), &Cpu::default());
    }
});
