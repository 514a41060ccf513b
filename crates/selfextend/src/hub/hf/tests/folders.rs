//! Folders with safetensors: which files belong to them, and when one is whole.

use super::*;

const INDEX_TEXT: &str = r#"{"weight_map": {"a": "model-00001-of-00002.safetensors",
    "b": "model-00002-of-00002.safetensors", "c": "model-00001-of-00002.safetensors"}}"#;

/// The files of a model in two shards, with some that are of no use here.
fn sharded() -> Vec<(&'static str, Vec<u8>)> {
    let index = ("model.safetensors.index.json", INDEX_TEXT.into());
    let names = [
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "original/model.safetensors",
        "pytorch_model.bin",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    let others = names.map(|name| (name, name.as_bytes().to_vec()));
    others.into_iter().chain([index]).collect()
}

const WANTED: [&str; 8] = [
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

fn in_folder(config: &Path) -> Vec<String> {
    let entries = fs::read_dir(config.parent().unwrap()).unwrap();
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn a_folder_has_all_that_changes_an_answer_and_nothing_else() {
    let lab = Lab::with_files(sharded().into_iter(), Rules::default());
    assert_eq!(lab.locate("o/n"), None);
    let config = lab.pull("o/n").unwrap();
    assert!(config.ends_with("config.json"));
    assert_eq!(in_folder(&config), WANTED);
    assert_eq!(lab.locate("o/n"), Some(config));

    let single = ["config.json", "model.safetensors", "tokenizer.json"];
    let lab = Lab::new(&single, Rules::default());
    let config = lab.pull("o/n").unwrap();
    assert_eq!(in_folder(&config), single);
    assert_eq!(lab.locate("o/n"), Some(config));
}

#[test]
fn whichever_file_of_a_snapshot_lacks_is_fetched() {
    let lab = Lab::with_files(sharded().into_iter(), Rules::default());
    let config = lab.pull("o/n").unwrap();
    for file in WANTED {
        let path = config.with_file_name(file);
        fs::remove_file(&path).unwrap();
        assert_eq!(lab.locate("o/n"), None, "{file}");
        assert_eq!(lab.pull("o/n").unwrap(), config);
        assert_eq!(lab.locate("o/n"), Some(config.clone()));
        // A short file, and a link that leads nowhere.
        let blob = path.canonicalize().unwrap();
        fs::write(&blob, b"x").unwrap();
        assert_eq!(lab.locate("o/n"), None, "{file}");
        lab.pull("o/n").unwrap();
        fs::remove_file(&blob).unwrap();
        assert_eq!(lab.locate("o/n"), None, "{file}");
        lab.pull("o/n").unwrap();
    }
    assert_eq!(in_folder(&config), WANTED);
}

/// What other programs leave: `config.json` alone, with the branch it was read from.
#[test]
fn a_partial_snapshot_of_another_program_is_completed() {
    for listed in [true, false] {
        let rules = Rules {
            list: Some(listed),
            ..Rules::default()
        };
        let lab = Lab::with_files(sharded().into_iter(), rules);
        let snapshot = lab.home().join("snapshots").join(COMMIT);
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir_all(lab.home().join("refs")).unwrap();
        fs::write(lab.home().join("refs/main"), COMMIT).unwrap();
        fs::write(snapshot.join("config.json"), "config.json").unwrap();
        assert_eq!(lab.locate("o/n"), None);
        let config = lab.pull("o/n").unwrap();
        assert_eq!(in_folder(&config), WANTED);
        assert_eq!(
            lab.server.count("resolve/main"),
            0,
            "one commit for all files"
        );
    }
}

/// Another program has fetched a whole folder, but left no listing: it notes what does not exist.
#[test]
fn a_folder_of_another_program_is_whole_if_nothing_is_unknown() {
    let lab = Lab::new(&[], Rules::default());
    let snapshot = lab.home().join("snapshots").join(COMMIT);
    let absent = lab.home().join(".no_exist").join(COMMIT);
    for dir in [&snapshot, &absent, &lab.home().join("refs")] {
        fs::create_dir_all(dir).unwrap();
    }
    fs::write(lab.home().join("refs/main"), COMMIT).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::write(snapshot.join(file), file).unwrap();
        assert_eq!(lab.locate("o/n"), None);
    }
    for file in ["chat_template.jinja", "generation_config.json"] {
        fs::write(absent.join(file), "").unwrap();
        assert_eq!(lab.locate("o/n"), None);
    }
    fs::write(absent.join("tokenizer_config.json"), "").unwrap();
    assert_eq!(lab.locate("o/n"), Some(snapshot.join("config.json")));
}

#[test]
fn a_model_that_has_its_weights_twice_is_refused() {
    let mut files = sharded();
    files.push(("model.safetensors", b"others".to_vec()));
    let lab = Lab::with_files(files.into_iter(), Rules::default());
    let error = lab.pull("o/n").unwrap_err().to_string();
    for words in [
        "weights twice",
        "model.safetensors",
        "model.safetensors.index.json",
    ] {
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(lab.locate("o/n"), None);
    // An index that names that one file says the same as without it.
    let index = br#"{"weight_map": {"a": "model.safetensors"}}"#;
    let files = [
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", b"weights".to_vec()),
        ("model.safetensors.index.json", index.to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
    ];
    let lab = Lab::with_files(files.into_iter(), Rules::default());
    lab.pull("o/n").unwrap();
}

#[test]
fn an_index_that_leads_out_of_the_folder_is_refused() {
    for name in [
        "../x.safetensors",
        "/x.safetensors",
        "a/x.safetensors",
        "x.bin",
    ] {
        let index = format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#);
        let files = [
            ("config.json", b"{}".to_vec()),
            ("model.safetensors.index.json", index.into_bytes()),
        ];
        let lab = Lab::with_files(files.into_iter(), Rules::default());
        let error = lab.pull("o/n").unwrap_err().to_string();
        assert!(
            error.contains(name) && error.contains("no file of the folder"),
            "{error}"
        );
    }
    let index = (
        "model.safetensors.index.json",
        INDEX_TEXT.as_bytes().to_vec(),
    );
    let files = [("config.json", b"{}".to_vec()), index];
    let lab = Lab::with_files(files.into_iter(), Rules::default());
    let error = lab.pull("o/n").unwrap_err();
    assert!(matches!(error, HubError::HubNotFound { .. }), "{error}");
}
