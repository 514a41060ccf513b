//! A results file. What is read can be written and read again, and a run goes on.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selfextend_fuzz::results(bytes));
