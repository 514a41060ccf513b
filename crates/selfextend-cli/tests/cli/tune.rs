//! `tune`, and the profile it writes.

use crate::common::{Tiny, dir, file, on_tiny, selfextend, with_stdin};

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
        done.stderr.contains("after 2 samples: the best of 2 is"),
        "{}",
        done.stderr
    );
    assert!(
        done.stderr
            .starts_with("3 settings, at most 9 texts of 512 tokens to read, about "),
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
    assert!(
        table.contains("selfextend:G=") && table.contains("On text that the search did not use")
    );
}

#[test]
fn what_cannot_be_tuned_is_refused() {
    let (path, short) = (text("tune2.txt", 30), text("short2.txt", 2));
    on_tiny("tune", &["--file", &path]).fails(2, &["--context is needed"]);
    on_tiny("tune", &["--file", &short, "--context", "512"]).fails(2, &["at least as many"]);
    on_tiny("tune", &["--file", &path, "--context", "300"]).fails(2, &["no room for a needle"]);
    let untried = ["--file", &path, "--context", "512", "--method", "dca"];
    on_tiny("tune", &untried).fails(2, &["--try chunk="]);
    let long = ["--file", &path, "--context", "512", "--up-to", "1e-7"];
    on_tiny("tune", &long).fails(2, &["--quick", "--up-to 1"]);
    let quick = on_tiny("tune", &[&long[..], &["--quick"]].concat());
    assert!(
        quick
            .stderr
            .starts_with("5 settings, at most 7 texts of 512 tokens"),
        "{quick:?}"
    );
    quick.fails(2, &["--try", "--up-to 1"]);
    let nonsense = file("profile.txt", "{}");
    on_tiny("run", &["--profile", &nonsense, "hi"]).fails(1, &["not a profile", "profile.txt"]);
}

#[test]
fn a_profile_beside_the_model_is_used_beyond_the_window() {
    let folder = dir().join("beside");
    std::fs::create_dir_all(&folder).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let (model, profile) = (at("m.gguf"), at("m.gguf.profile.json"));
    Tiny::default().write(model.as_ref());
    let path = text("tune3.txt", 30);
    let tune = [
        "tune",
        "-m",
        &model,
        "--file",
        &path,
        "--context",
        "512",
        "--samples",
        "1",
        "--method",
        "rerope",
        "--try",
        "W=16",
        "--json",
    ];
    let found = selfextend(&[&tune[..], &["-o", &profile]].concat())
        .ok()
        .json();
    let written = found.to_string().replace(
        &format!("\"method\":{}", found["method"]),
        "\"method\":\"rerope:W=16\"",
    );
    std::fs::write(&profile, &written).unwrap();

    let (long, short) = (text("long.txt", 4), text("short3.txt", 1));
    let score = |file: &str, more: &[&str]| {
        let args = ["score", "-m", &model, "--file", file, "--summary"];
        selfextend(&[&args[..], more].concat()).ok()
    };
    let method = |file: &str, more: &[&str]| score(file, more).json()["settings"]["method"].clone();
    assert_eq!(method(&long, &[]), "rerope:W=16");
    assert_eq!(method(&short, &[]), "plain");
    let automatic = method(&long, &["--no-profile"]);
    assert!(automatic.as_str().unwrap().starts_with("selfextend:G="));
    assert_eq!(method(&long, &["--method", "dca"]), "dca");
    let said = score(&long, &[]).stderr;
    assert!(
        said.contains("m.gguf.profile.json says rerope:W=16"),
        "{said}"
    );
    let run = [
        "run", "-m", &model, "--file", &long, "-n", "1", "--json", "Why?",
    ];
    assert_eq!(
        selfextend(&run).ok().json()["settings"]["method"],
        "rerope:W=16"
    );
    let message = std::fs::read_to_string(&long).unwrap();
    let chat = with_stdin(&["chat", "-m", &model, "-n", "1"], message).ok();
    assert!(chat.stderr.contains("says rerope:W=16"), "{}", chat.stderr);
    let results = at("r.jsonl");
    let eval = [
        "eval",
        "perplexity",
        "-m",
        &model,
        &long,
        "--lengths",
        "80",
        "--results",
        &results,
    ];
    let eval = selfextend(&eval).ok();
    assert!(eval.stdout.contains("rerope:W=16") && eval.stderr.contains("which runs too"));
    let (results, html) = (at("c.jsonl"), at("c.html"));
    let compare = [
        "compare",
        &long,
        "-m",
        &model,
        "--no-passkey",
        "--lengths",
        "80",
        "--results",
        &results,
        "--html",
        &html,
    ];
    assert!(selfextend(&compare).ok().stdout.contains("rerope:W=16"));

    // Settings that do not reach leave the automatic ones.
    std::fs::write(
        &profile,
        written.replace("rerope:W=16", "leaky-rerope:W=16,k=2"),
    )
    .unwrap();
    let left = score(&path, &[]);
    let method = left.json()["settings"]["method"].clone();
    assert!(method.as_str().unwrap().starts_with("selfextend:G="));
    assert!(left.stderr.contains("ignored"), "{}", left.stderr);

    // What is damaged or another model's is refused, unless it is to be ignored.
    std::fs::write(&profile, &written[..written.len() / 2]).unwrap();
    for command in [
        &["run", "-m", &model, "--file", &long, "hi"][..],
        &["serve", "-m", &model],
    ] {
        selfextend(command).fails(1, &["m.gguf.profile.json", "not a profile", "--no-profile"]);
    }
    score(&long, &["--no-profile"]);
    std::fs::write(&profile, &written).unwrap();
    let other = Tiny {
        template: None,
        ..Tiny::default()
    };
    other.write(model.as_ref());
    let foreign = ["score", "-m", &model, "--file", &long];
    selfextend(&foreign).fails(1, &["another model", "--no-profile"]);
    selfextend(&[&foreign[..], &["--profile", &profile]].concat()).fails(1, &["another model"]);
}
