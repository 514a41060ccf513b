//! A GGUF file of any bytes: header, configuration, tokenizer and weights.
#![no_main]

use libfuzzer_sys::fuzz_target;
use selfextend::ModelFile;
use selfextend::backend::cpu::Cpu;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    let Ok(file) = ModelFile::open(&path) else {
        return;
    };
    let _ = file.tokenizer();
    let _ = file.chat_template();
    if let Ok(config) = file.config() {
        let _ = file.weights(&config, &Cpu::default());
    }
});
