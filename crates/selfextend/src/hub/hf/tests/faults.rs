//! Connections that break, mirrors that say less than the hub, refusals.

use super::server::{Length, Range, Tag};
use super::*;

#[test]
fn a_short_body_is_continued_and_never_taken_for_the_whole() {
    for file in ["a.gguf", "config.json"] {
        for range in [
            Range::Told,
            Range::Untold,
            Range::Ignored,
            Range::Shifted,
            Range::Refused,
        ] {
            for length in [Length::Told, Length::Chunks, Length::Untold] {
                let rules = Rules {
                    cut: (5, 2),
                    range,
                    length,
                    ..Rules::default()
                };
                let lab = Lab::new(&[file], rules);
                let mut client = Client::new(&lab.options).unwrap();
                client.pause = Duration::from_millis(1);
                let mut pull = Pull {
                    id: &id("o/n"),
                    client: &client,
                    cache: &cache_of(&id("o/n"), &lab.options).unwrap(),
                    progress: &mut |_| {},
                    verified: Vec::new(),
                };
                let listing = pull.client.listing("o/n").unwrap();
                let (path, _) = pull.fetch(file, Some(&listing)).unwrap();
                assert_eq!(fs::read(path).unwrap(), TEXT);
            }
        }
    }
}

#[test]
fn a_connection_that_always_breaks_leaves_a_part_to_continue_from() {
    let rules = Rules {
        cut: (0, usize::MAX),
        ..Rules::default()
    };
    let lab = Lab::new(&["a.gguf"], rules);
    let part = lab.home().join("blobs").join(format!("{SHA}.incomplete"));
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, &TEXT[..4]).unwrap();
    let error = lab.pull("o/n").unwrap_err();
    assert!(matches!(error, HubError::HubNetwork { .. }), "{error}");
    assert_eq!(lab.locate("o/n:a.gguf"), None);
    assert_eq!(fs::read(part).unwrap(), &TEXT[..4]);
}

#[test]
fn a_part_of_an_earlier_pull_is_continued() {
    let lab = Lab::new(&["a.gguf"], Rules::default());
    let part = lab.home().join("blobs").join(format!("{SHA}.incomplete"));
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    // What another pull began, what is no beginning of the file, and what is longer than it.
    for (begun, requests) in [(&TEXT[..6], 1), (b"HTML", 2), (b"longer than the file", 1)] {
        let _ = fs::remove_dir_all(lab.home().join("snapshots"));
        let _ = fs::remove_file(lab.home().join("blobs").join(SHA));
        fs::write(&part, begun).unwrap();
        let before = lab.server.count("/store/");
        let path = lab.pull("o/n").unwrap();
        assert_eq!(fs::read(path).unwrap(), TEXT);
        assert_eq!(lab.server.count("/store/") - before, requests);
        assert!(!part.exists());
    }
    let log = lab.server.log();
    let range = log.iter().find(|head| head.contains("/store/")).unwrap();
    assert!(
        range.to_ascii_lowercase().contains("range: bytes=6-"),
        "{range}"
    );
}

#[test]
fn a_file_with_another_checksum_is_refused_and_removed() {
    for file in ["a.gguf", "config.json"] {
        for list in [Some(true), Some(false), None] {
            let rules = Rules {
                damage: true,
                list,
                ..Rules::default()
            };
            let lab = Lab::with_files(
                [(file, TEXT.to_vec()), ("model.safetensors", TEXT.to_vec())].into_iter(),
                rules,
            );
            let id = HubId {
                repo: "o/n".into(),
                file: Some(file.into()),
                pattern: None,
            };
            let error = pull(&id, &lab.options, &mut |_| {}).unwrap_err();
            assert!(matches!(error, HubError::Mismatch { .. }), "{error}");
            let left = lab.tree();
            assert!(
                left.iter().all(|path| !path.contains("/blobs/")),
                "{left:?}"
            );
            assert!(left.iter().all(|path| !path.contains("/refs/")), "{left:?}");
        }
    }
}

#[test]
fn a_mirror_that_says_less_than_the_hub_is_used_if_the_rest_can_be_known() {
    for tag in [Tag::Hub, Tag::None, Tag::Other] {
        for list in [Some(true), Some(false), None] {
            for head in [true, false] {
                for length in [Length::Told, Length::Chunks] {
                    let rules = Rules {
                        tag,
                        list,
                        head,
                        length,
                        ..Rules::default()
                    };
                    let lab = Lab::new(&["a.gguf"], rules);
                    let pulled = lab.pull("o/n:a.gguf");
                    // Without a list, only the head of the file names the commit.
                    if list.is_none() && !head {
                        let error = pulled.unwrap_err().to_string();
                        assert!(error.contains("X-Repo-Commit"), "{error}");
                        continue;
                    }
                    let path = pulled.unwrap();
                    assert_eq!(fs::read(&path).unwrap(), TEXT);
                    // Whoever tells it or not, it is named by its contents.
                    assert!(path.canonicalize().unwrap().ends_with(SHA));
                    assert_eq!(lab.locate("o/n:a.gguf"), Some(path));
                }
            }
        }
    }
}

#[test]
fn a_file_whose_end_nobody_tells_is_refused() {
    let rules = Rules {
        tag: Tag::None,
        list: Some(false),
        length: Length::Untold,
        ..Rules::default()
    };
    let lab = Lab::new(&["a.gguf", "config.json"], rules);
    let id = HubId {
        repo: "o/n".into(),
        file: Some("config.json".into()),
        pattern: None,
    };
    let error = pull(&id, &lab.options, &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("neither the size nor a checksum"), "{error}");
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let rules = Rules {
        token: Some("secret"),
        list: Some(false),
        ..Rules::default()
    };
    let mut lab = Lab::new(&["a.gguf"], rules);
    lab.options.hub_token = Some("secret".into());
    lab.pull("o/n:a.gguf").unwrap();
    let log = lab.server.log();
    assert_eq!(log.len(), 4, "{log:?}");
    for head in log {
        let is_sent = head.to_ascii_lowercase().contains("authorization");
        assert_eq!(is_sent, !head.contains("/store/"), "{head}");
    }
}

#[test]
fn missing_and_gated_models_are_told_apart() {
    let lab = Lab::new(&["a.gguf"], Rules::default());
    for spec in ["o/other", "o/other:a.gguf", "o/n:b.gguf"] {
        let error = lab.pull(spec).unwrap_err();
        assert!(matches!(error, HubError::HubNotFound { .. }), "{error}");
    }
    for (code, words) in [
        ("X-Error-Code: GatedRepo\r\n", "accept its terms"),
        (
            "X-Error-Code: RepoNotFound\r\n",
            "private, or there is no such",
        ),
        ("", "gated or private"),
    ] {
        let rules = Rules {
            token: Some("secret"),
            refusal: code,
            ..Rules::default()
        };
        let mut lab = Lab::new(&["a.gguf"], rules);
        for spec in ["o/n", "o/n:a.gguf"] {
            let error = lab.pull(spec).unwrap_err();
            assert!(matches!(error, HubError::HubDenied { status: 401, .. }));
            let text = error.to_string();
            assert!(text.contains(words) && text.contains("HF_TOKEN"), "{text}");
        }
        lab.options.hub_token = Some("secret".into());
        lab.pull("o/n:a.gguf").unwrap();
    }
}

#[test]
fn a_busy_hub_is_asked_again_and_then_reported() {
    let busy = ["429 Slow down", "503 Busy", "504 Late", "500 Oops"];
    let rules = Rules {
        first: busy.to_vec(),
        ..Rules::default()
    };
    let lab = Lab::new(&["a.gguf"], rules);
    lab.pull("o/n").unwrap();
    assert_eq!(lab.server.count("/api/"), busy.len() + 1);

    let rules = Rules {
        first: vec!["429 Slow down"; 6],
        ..Rules::default()
    };
    let error = Lab::new(&["a.gguf"], rules).pull("o/n").unwrap_err();
    assert!(matches!(error, HubError::Hub { .. }), "{error}");
    assert!(error.to_string().contains("too many requests"), "{error}");
}
