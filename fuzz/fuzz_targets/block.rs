//! A file of the disk cache, as it is and with the right checksum, which alone finds most damage.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selfextend_fuzz::block(bytes));
