//! `tune`, and the profile it writes.

use crate::common::{dir, file, on_tiny};

fn text(name: &str, sentences: usize) -> String {
    file(
        name,
        "an ant ran to the barn and hid there. ".repeat(sentences),
    )
}

#[test]
fn what_tune_finds_is_what_a_profile_runs() {
    let path = text("tune.txt", 30);
    let profile = dir().join("profile.json").display().to_string();
    let common = [
        "--file",
        &path,
        "--context",
        "512",
        "--samples",
        "2",
        "-o",
        &profile,
    ];
    let tried = ["--json", "--method", "rerope", "--try", "W=4,16"];
    let done = on_tiny("tune", &[&common[..], &tried].concat()).ok();
    let found = done.json();
    let method = found["method"].as_str().unwrap();
    let candidates = ["rerope:W=4", "rerope:W=16", "selfextend"];
    assert!(candidates.contains(&method), "{found}");
    for losses in ["found", "automatic"] {
        assert!(found[losses]["needle"].as_f64().unwrap() > 0.0, "{found}");
        assert!(found[losses]["text"].as_f64().unwrap() > 0.0, "{found}");
    }
    assert!(
        done.stderr.contains("after 2 sample(s): best of 2 is"),
        "{}",
        done.stderr
    );
    let short = text("short.txt", 2);
    let args = ["--file", &short, "--summary", "--profile", &profile];
    let settings = &on_tiny("score", &args).ok().json()["settings"];
    assert_eq!(
        (settings["method"].as_str(), settings["context"].as_u64()),
        (Some(method), Some(512))
    );
    // The same again, and SelfExtend's own grid as a table.
    let again = on_tiny("tune", &[&common[..], &tried].concat()).ok();
    assert_eq!(again.json(), found);
    let table = on_tiny("tune", &common).ok().stdout;
    assert!(table.contains("selfextend:G=") && table.contains("On text it was not chosen by"));
}

#[test]
fn what_cannot_be_tuned_is_refused() {
    let (path, short) = (text("tune2.txt", 30), text("short2.txt", 2));
    on_tiny("tune", &["--file", &path]).fails(2, &["--context is needed"]);
    on_tiny("tune", &["--file", &short, "--context", "512"]).fails(2, &["at least as many"]);
    on_tiny("tune", &["--file", &path, "--context", "300"]).fails(2, &["no room for a needle"]);
    let untried = ["--file", &path, "--context", "512", "--method", "dca"];
    on_tiny("tune", &untried).fails(2, &["--try chunk="]);
    let nonsense = file("profile.txt", "{}");
    on_tiny("run", &["--profile", &nonsense, "hi"]).fails(1, &["no profile", "profile.txt"]);
}
