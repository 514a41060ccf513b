//! A file of the disk cache, whose checksum is right for any bytes: damage alone is found by it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

fuzz_target!(|bytes: &[u8]| {
    selfextend_server::readers::block_file(bytes);
    let sum = Sha256::digest(bytes);
    selfextend_server::readers::block_file(&[bytes, &sum].concat());
});
