//! Names of models, and what they are taken for.

use std::fs;

use super::*;

fn options(dir: &std::path::Path) -> PullOptions {
    PullOptions {
        cache_dir: Some(dir.join("cache")),
        hub_cache: Some(dir.join("hub")),
        ..PullOptions::default()
    }
}

fn error(spec: &str) -> HubError {
    let dir = tempfile::tempdir().unwrap();
    locate(spec, &options(dir.path())).unwrap_err()
}

#[test]
fn an_existing_file_wins() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    fs::write(&path, b"GGUF").unwrap();
    let spec = path.to_str().unwrap();
    let found = resolve(spec, &PullOptions::default(), &mut |_| {
        panic!("no download")
    });
    assert_eq!(found.unwrap(), path);
}

#[test]
fn a_cached_model_is_not_downloaded() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    assert_eq!(locate(DEFAULT_MODEL, &options).unwrap(), None);
    let model = known::find(DEFAULT_MODEL).unwrap();
    let path = dir.path().join("cache/models").join(model.file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // A file of the right size that takes no room.
    fs::File::create(&path)
        .unwrap()
        .set_len(model.bytes)
        .unwrap();
    for name in [DEFAULT_MODEL, "SmolLM2-135M", "smollm2-135m-instruct"] {
        let found = resolve(name, &options, &mut |_| panic!("no download"));
        assert_eq!(found.unwrap(), path);
    }
}

#[test]
fn paths_to_nothing_are_errors() {
    for spec in [
        "./x",
        "../x",
        "/no/such/x",
        "~/no such x",
        "x.gguf",
        "a/x.GGUF",
        "C:\\x.gguf",
    ] {
        let error = error(spec);
        assert!(
            matches!(error, HubError::NoSuchFile { .. }),
            "{spec}: {error}"
        );
    }
    assert!(matches!(error("/"), HubError::IsDirectory { .. }));
    assert!(matches!(error(".."), HubError::IsDirectory { .. }));
}

#[test]
fn names_of_nothing_are_errors() {
    for spec in [
        "", "llama", "a/b/c", "a b/c", "owner/", "/:x", "o/n?x", "é/n", "-o/n", "o/..",
    ] {
        let error = error(spec);
        let known = matches!(
            error,
            HubError::UnknownModel { .. } | HubError::NoSuchFile { .. }
        );
        assert!(known, "{spec}: {error}");
    }
    assert!(error("llama").to_string().contains(DEFAULT_MODEL));
    for file in [
        "",
        "x.bin",
        "../x.gguf",
        "/x.gguf",
        "a//x.gguf",
        "x y.gguf",
        "x?.gguf",
    ] {
        let error = error(&format!("owner/name:{file}"));
        assert!(
            matches!(error, HubError::BadHubFile { .. }),
            "{file}: {error}"
        );
    }
}

#[test]
fn no_directory_is_an_error() {
    let nowhere = PullOptions::default();
    for (spec, setting) in [
        (DEFAULT_MODEL, "SELFEXTEND_CACHE"),
        ("owner/name", "HF_HUB_CACHE"),
    ] {
        let error = locate(spec, &nowhere).unwrap_err();
        assert!(error.to_string().contains(setting), "{error}");
    }
}

#[test]
fn the_token_is_not_shown() {
    let hub_token = Some("hf_secret".to_owned());
    let shown = format!(
        "{:?}",
        PullOptions {
            hub_token,
            ..PullOptions::default()
        }
    );
    assert!(!shown.contains("secret"), "{shown}");
}
