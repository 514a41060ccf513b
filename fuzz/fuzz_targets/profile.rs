//! A profile.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selfextend_fuzz::profile(bytes));
