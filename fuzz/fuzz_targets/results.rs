//! A results file of any bytes. What is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use selfextend_eval::{RunFile, RunWriter};

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    std::fs::write(&path, bytes).unwrap();
    let Ok(run) = RunFile::read(&path) else {
        return;
    };
    let _ = RunFile::merge(&[path.clone(), path.clone()]);
    let again = folder.path().join("again.jsonl");
    if let Ok(lines) = run.to_json_lines() {
        std::fs::write(&again, lines).unwrap();
        let read = RunFile::read(&again).expect("what was written is read");
        assert_eq!(read.records.len(), run.records.len());
    }
    RunWriter::open(&path, &run.header).expect("a run goes on under its own header");
});
