//! A request body of any bytes, for every route of the server that takes one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| selfextend_server::readers::body(bytes));
