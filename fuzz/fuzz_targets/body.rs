//! A request body, for every route of the server that takes one.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selfextend_fuzz::body(bytes));
