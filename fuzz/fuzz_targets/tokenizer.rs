//! A tokenizer.json of any bytes, beside a model that is fine: what loads encodes and decodes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use selfextend::ModelFile;
use selfextend::tokenizer::SpecialTokens;

const CONFIG: &str = include_str!("../../crates/selfextend/tests/checkpoints/llama/config.json");
const WEIGHTS: &[u8] =
    include_bytes!("../../crates/selfextend/tests/checkpoints/llama/model.safetensors");

fuzz_target!(|bytes: &[u8]| {
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
});
