//! A tokenizer.json beside a model that is fine: what loads encodes and decodes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selfextend_fuzz::tokenizer(bytes));
