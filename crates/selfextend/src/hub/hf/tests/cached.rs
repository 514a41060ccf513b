//! The cache: its layout, what is in it before, and no network at all.

use super::*;

/// The paths that `snapshot_download` of huggingface_hub 2.4 wrote when it fetched this model from a
/// server that answers as the one here; `hf_hub_download` wrote the same but for the listing.
#[cfg(unix)]
#[test]
fn the_layout_is_that_of_huggingface_hub() {
    let lab = Lab::new(&["sub/a.gguf"], Rules::default());
    lab.pull("o/n").unwrap();
    let expected = [
        format!(".locks/models--o--n/{SHA}.lock"),
        "CACHEDIR.TAG".to_owned(),
        format!("models--o--n/blobs/{SHA}"),
        "models--o--n/refs/main".to_owned(),
        format!("models--o--n/snapshots/{COMMIT}/sub/a.gguf -> ../../../blobs/{SHA}"),
        format!("models--o--n/trees/{COMMIT}.json"),
    ];
    assert_eq!(lab.tree(), expected);
    let read = |path: &str| fs::read_to_string(lab.home().join(path)).unwrap();
    assert_eq!(read("refs/main"), COMMIT);
    let listing: serde_json::Value =
        serde_json::from_str(&read(&format!("trees/{COMMIT}.json"))).unwrap();
    assert_eq!(listing["format_version"], 1);
    let file = &listing["files"]["sub/a.gguf"];
    assert_eq!((&file["size"], &file["lfs_size"]), (&15.into(), &15.into()));
    assert_eq!(file["lfs_sha256"], SHA);
    assert_eq!(file["blob_id"].as_str().unwrap().len(), 40);
}

/// Values of `git hash-object`, `sha1sum` and `sha256sum`.
#[test]
fn checksums_are_those_of_git_and_of_large_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fs::write(&path, TEXT).unwrap();
    let compare = |digest: &str| {
        let digest = Expected::digest_in(digest);
        let expected = Expected { size: None, digest };
        expected.compare(&path, &mut |_| {}).unwrap()
    };
    for right in [GIT, PLAIN, SHA] {
        assert_eq!(compare(right), None);
        let wrong = right.replace(['0', '1'], "2");
        assert!(compare(&wrong).unwrap().expected.contains(&wrong));
    }
    assert_eq!(compare("5f3a-1b"), None);
    assert_eq!(
        Expected::digest_in("d41d8cd98f00b204e9800998ecf8427e"),
        None
    );
}

const GIT: &str = "8ea7be6816cb000a7151c51ed6db2c6f1471e6f9";
const PLAIN: &str = "b7b1adcbe729161ff52fea3b88bf5fdda8e7d938";

#[test]
fn without_links_the_snapshot_holds_the_files() {
    let mut lab = Lab::new(&["a.gguf"], Rules::default());
    lab.options.hub_copies = true;
    let path = lab.pull("o/n").unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
    assert_eq!(lab.pull("o/n").unwrap(), path);
    assert_eq!(lab.server.count("/store/"), 1);
    fs::write(&path, b"GGUF tiny m0del").unwrap();
    assert_eq!(lab.pull("o/n").unwrap(), path);
    assert_eq!(fs::read(&path).unwrap(), TEXT);
}

#[test]
fn what_is_in_the_cache_is_verified_and_replaced_if_it_is_damaged() {
    for listed in [Some(true), Some(false), None] {
        let rules = Rules {
            list: listed,
            ..Rules::default()
        };
        let mut lab = Lab::new(&["a.gguf"], rules);
        let path = lab.pull("o/n:a.gguf").unwrap();
        for (text, downloads) in [(TEXT, 1), (b"GGUF tiny m0del", 2), (b"GGUF", 3)] {
            fs::write(&path, text).unwrap();
            if text != TEXT {
                lab.options.hub_offline = true;
                let error = lab.pull("o/n:a.gguf").unwrap_err();
                assert!(matches!(error, HubError::Damaged { .. }), "{error}");
                assert_eq!(fs::read(&path).unwrap(), text, "offline nothing is removed");
                lab.options.hub_offline = false;
            }
            assert_eq!(lab.pull("o/n:a.gguf").unwrap(), path);
            assert_eq!(fs::read(&path).unwrap(), TEXT);
            assert_eq!(lab.server.count("GET /store/"), downloads);
        }
    }
}

#[test]
fn offline_the_cache_is_used_and_the_network_is_not() {
    let files = ["config.json", "model.safetensors", "tokenizer.json"];
    let mut lab = Lab::new(&files, Rules::default());
    lab.options.hub_offline = true;
    let error = lab.pull("o/n").unwrap_err();
    assert!(matches!(error, HubError::Offline { .. }), "{error}");
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    assert_eq!(lab.server.log().len(), 0);

    lab.options.hub_offline = false;
    let config = lab.pull("o/n").unwrap();
    let requests = lab.server.log().len();
    lab.options.hub_offline = true;
    assert_eq!(lab.pull("o/n").unwrap(), config);
    // A folder of another program, which has left no listing.
    fs::remove_dir_all(lab.home().join("trees")).unwrap();
    assert_eq!(lab.pull("o/n").unwrap(), config);
    for file in files {
        fs::rename(config.with_file_name(file), lab.dir.path().join(file)).unwrap();
        let error = lab.pull("o/n").unwrap_err().to_string();
        assert!(error.contains(&format!("o/n:{file}")), "{error}");
        fs::rename(lab.dir.path().join(file), config.with_file_name(file)).unwrap();
    }
    assert_eq!(lab.server.log().len(), requests);
}

#[test]
fn pulls_at_once_download_once() {
    let lab = Lab::new(&["a.gguf"], Rules::default());
    std::thread::scope(|scope| {
        // Each reads its file while others still put it in place.
        let read = || fs::read(lab.pull("o/n").unwrap()).unwrap();
        let pulls: Vec<_> = (0..8).map(|_| scope.spawn(read)).collect();
        for pull in pulls {
            assert_eq!(pull.join().unwrap(), TEXT);
        }
    });
    assert_eq!(lab.server.count("/store/"), 1);
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let mut lab = Lab::new(&["a.gguf"], Rules::default());
    let file = lab.dir.path().join("file");
    fs::write(&file, "").unwrap();
    lab.options.hub_cache = Some(file.join("hub"));
    let error = lab.pull("o/n").unwrap_err();
    assert!(matches!(error, HubError::Io { .. }), "{error}");
    assert!(error.to_string().contains("hub"), "{error}");
}
