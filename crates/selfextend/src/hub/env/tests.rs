//! Variables against what huggingface_hub 2.4 makes of them.

use std::collections::HashMap;

use super::*;

fn read(variables: &[(&str, &str)]) -> Result<PullOptions, HubError> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let lookup = |name: &str| variables.get(name).map(OsString::from);
    options(&lookup, Some("/home/me".into()))
}

/// The first column was printed by `huggingface_hub.constants.HF_HUB_CACHE` under these variables,
/// with `HOME=/home/me`.
#[test]
fn the_cache_is_where_huggingface_hub_has_it() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)]);
    let cases: &[Case] = &[
        ("/home/me/.cache/huggingface/hub", &[]),
        ("/x/huggingface/hub", &[("XDG_CACHE_HOME", "/x")]),
        ("/h/hub", &[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")]),
        ("/home/me/h/hub", &[("HF_HOME", "~/h")]),
        ("/d/h/hub", &[("HF_HOME", "$DATA/h"), ("DATA", "/d")]),
        ("/d/h", &[("HF_HUB_CACHE", "${DATA}/h"), ("DATA", "/d")]),
        ("$NONE/h", &[("HF_HUB_CACHE", "$NONE/h")]),
        (
            "/old",
            &[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/h")],
        ),
        (
            "/new",
            &[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")],
        ),
    ];
    for (expected, variables) in cases {
        let options = read(variables).unwrap();
        assert_eq!(
            options.hub_cache.unwrap(),
            Path::new(expected),
            "{variables:?}"
        );
    }
}

#[test]
fn switches_have_the_values_that_huggingface_hub_takes_for_yes() {
    let offline = |variables: &[(&str, &str)]| read(variables).unwrap().hub_offline;
    for yes in ["1", "on", "YES", "True"] {
        assert!(offline(&[("HF_HUB_OFFLINE", yes)]), "{yes}");
        assert!(offline(&[("TRANSFORMERS_OFFLINE", yes)]), "{yes}");
        assert!(offline(&[
            ("HF_HUB_OFFLINE", ""),
            ("TRANSFORMERS_OFFLINE", yes)
        ]));
        assert!(
            read(&[("HF_HUB_DISABLE_SYMLINKS", yes)])
                .unwrap()
                .hub_copies
        );
    }
    for no in ["0", "off", "y", ""] {
        assert!(!offline(&[("HF_HUB_OFFLINE", no)]), "{no}");
    }
    assert!(!offline(&[
        ("HF_HUB_OFFLINE", "0"),
        ("TRANSFORMERS_OFFLINE", "1")
    ]));
}

#[test]
fn the_token_is_the_one_that_huggingface_hub_sends() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().to_str().unwrap();
    std::fs::write(dir.path().join("token"), " hf_file\n").unwrap();
    std::fs::write(dir.path().join("other"), "hf_other").unwrap();
    let other = format!("{home}/other");
    let token = |more: &[(&str, &str)]| {
        let mut variables = vec![("HF_HOME", home)];
        variables.extend(more);
        read(&variables).unwrap().hub_token
    };
    assert_eq!(token(&[]).as_deref(), Some("hf_file"));
    assert_eq!(
        token(&[("HF_TOKEN_PATH", &other)]).as_deref(),
        Some("hf_other")
    );
    assert_eq!(token(&[("HF_TOKEN", "hf_env ")]).as_deref(), Some("hf_env"));
    let both = [("HUGGING_FACE_HUB_TOKEN", "hf_old"), ("HF_TOKEN", "hf_env")];
    assert_eq!(token(&both[..1]).as_deref(), Some("hf_old"));
    assert_eq!(token(&both).as_deref(), Some("hf_env"));
    let without = [
        ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"),
        ("HF_TOKEN", "hf_env"),
    ];
    assert_eq!(token(&without), None);
    assert_eq!(token(&[("HF_TOKEN_PATH", "/no/such/file")]), None);
}

#[test]
fn values_that_mean_nothing_are_refused_by_name() {
    for (name, value) in [
        ("HF_HUB_ETAG_TIMEOUT", "soon"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "1.5"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "-1"),
        ("HF_TOKEN", "hf_a\r\nX-Evil: 1"),
    ] {
        let error = read(&[(name, value)]).unwrap_err().to_string();
        assert!(error.contains(name) && !error.contains("hf_a"), "{error}");
    }
    let options = read(&[
        ("HF_HUB_ETAG_TIMEOUT", "30"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "0"),
    ]);
    let options = options.unwrap();
    assert_eq!(options.hub_etag_timeout, Some(Duration::from_secs(30)));
    assert_eq!(options.hub_download_timeout, None);
}
