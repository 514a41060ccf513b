//! A profile of any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use selfextend::profile::Profile;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.profile.json");
    std::fs::write(&path, bytes).unwrap();
    if let Ok((profile, method)) = Profile::load(&path) {
        let _ = profile.is_better();
        let _ = (method.resolve(0, 10), method.resolve(512, 1 << 20));
    }
});
