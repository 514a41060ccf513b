//! No crate of the workspace has an import cycle.

use std::path::Path;
use std::process::Command;

use import_cycles::cycles;
use serde_json::Value;

/// The root files of every crate of the workspace: libraries, binaries, examples and benchmarks.
fn root_files() -> Vec<(String, String)> {
    // The cargo that runs the tests; the one that built them may be gone.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let mut files = Vec::new();
    for package in list(&metadata["packages"]) {
        for target in list(&package["targets"]) {
            if !list(&target["kind"]).contains(&"test".into()) {
                files.push((text(&package["name"]), text(&target["src_path"])));
            }
        }
    }
    files
}

#[test]
fn no_crate_has_an_import_cycle() {
    let files = root_files();
    assert!(files.iter().any(|(name, _)| name == "selfextend"));
    let mut found = Vec::new();
    for (package, file) in files {
        for cycle in cycles(Path::new(&file)).unwrap_or_else(|error| panic!("{error}")) {
            found.push(format!("{package}: {cycle}"));
        }
    }
    assert!(
        found.is_empty(),
        "{} import cycles (move what both sides need below them):\n{}",
        found.len(),
        found.join("\n")
    );
}
