//! What `run`, `chat` and `score` keep of long texts.

use crate::common::{Done, Tiny, dir, file, on_tiny, selfextend, with_stdin};
use serde_json::Value;
use std::path::Path;

/// A text of about so many tokens of the tiny model.
fn prose(seed: usize, len: usize) -> String {
    let letter = |i: usize| char::from(b'b' + ((i * i * 7 + i / 3 + seed * 11) % 17) as u8);
    let letters = (0..len).map(|i| if i % 6 == 5 { ' ' } else { letter(i) });
    letters.collect()
}

/// A cache of its own for texts of 300 tokens and more.
fn cache(name: &str) -> String {
    dir().join(name).display().to_string()
}

fn kept(cache: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(cache).map(|entries| entries.map(|it| it.unwrap().path()));
    let mut paths: Vec<_> = entries.into_iter().flatten().collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == "kv"));
    paths.sort();
    paths
}

fn run(book: &str, question: &str, more: &[&str]) -> Value {
    let args = [
        &[
            "--raw",
            "--file",
            book,
            question,
            "-n",
            "20",
            "--context",
            "2k",
            "--json",
        ],
        more,
    ];
    on_tiny("run", &args.concat()).ok().json()
}

/// A second question about a text reads little of it, and gets the answer of a fresh run.
#[test]
fn a_text_is_read_once_and_answers_stay_the_same() {
    let book = file("kept.txt", prose(1, 900));
    let cache = cache("texts");
    let kept_in = ["--cache-dir", &cache, "--cache-least-tokens", "300"];
    for (question, cached) in [("the ant", 0), ("an ant", 768), ("the ant", 768)] {
        let fresh = run(&book, question, &["--no-cache"]);
        let answer = run(&book, question, &kept_in);
        assert_eq!(answer["ids"], fresh["ids"], "{question}");
        assert_eq!(answer["prompt_tokens"], fresh["prompt_tokens"]);
        let found = answer["cached_tokens"].as_u64().unwrap();
        assert!(
            found >= cached && (found > 0) == (cached > 0),
            "{question}: {found}"
        );
        assert_eq!(fresh["cached_tokens"], 0);
    }
    // Another map, storage or model finds nothing.
    let more = ["--group-size", "64", "--neighbor-window", "8"];
    for other in [&more[..], &["--kv-type", "f32"], &["--linear", "f32"]] {
        let answer = run(&book, "the ant", &[&kept_in[..], other].concat());
        assert_eq!(answer["cached_tokens"], 0, "{other:?}");
        let fresh = run(&book, "the ant", &[&["--no-cache"], other].concat());
        assert_eq!(answer["ids"], fresh["ids"], "{other:?}");
    }
    let path = dir().join("other.gguf").display().to_string();
    let tiny = Tiny {
        seed: 8,
        ..Tiny::default()
    };
    tiny.write(Path::new(&path));
    let args = [
        &[
            "run",
            "-m",
            &path,
            "--raw",
            "--file",
            &book,
            "the ant",
            "--context",
            "2k",
            "--json",
            "-n",
            "4",
        ],
        &kept_in[..],
    ];
    let other = selfextend(&args.concat()).ok().json();
    assert_eq!(other["cached_tokens"], 0);
    // A short text is not kept.
    let before = kept(&cache).len();
    run(&file("short.txt", prose(3, 200)), "the ant", &kept_in);
    assert_eq!(kept(&cache).len(), before);
}

/// Files that are damaged, cut off or foreign are left out; the answer is the same.
#[test]
fn damaged_files_change_nothing() {
    let book = file("damaged.txt", prose(2, 900));
    let cache = cache("damaged");
    let kept_in = ["--cache-dir", &cache, "--cache-least-tokens", "300"];
    let first = run(&book, "the ant", &kept_in);
    let paths = kept(&cache);
    assert!(paths.len() >= 3);
    for damage in ["flipped", "cut", "empty", "foreign"] {
        for path in kept(&cache) {
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            match damage {
                "flipped" => bytes[middle] ^= 1,
                "cut" => bytes.truncate(middle),
                "empty" => bytes.clear(),
                _ => bytes = b"not a file of the cache".repeat(9),
            }
            std::fs::write(&path, bytes).unwrap();
        }
        let again = run(&book, "the ant", &kept_in);
        assert_eq!(again["ids"], first["ids"], "{damage}");
        assert_eq!(again["cached_tokens"], 0, "{damage}");
        selfextend(&["cache", "clear", "--cache-dir", &cache]).ok();
        run(&book, "the ant", &kept_in);
    }
}

#[test]
fn a_score_is_kept_and_continued() {
    let cache = cache("scores");
    let kept_in = [
        "--cache-dir",
        &cache,
        "--cache-least-tokens",
        "300",
        "--context",
        "2k",
    ];
    let long = prose(4, 1100);
    let score = |len: usize, more: &[&str]| -> Done {
        let path = file(&format!("scored-{len}.txt"), &long[..len]);
        on_tiny("score", &[&["--file", &path], more].concat()).ok()
    };
    let plain = ["--no-cache", "--context", "2k"];
    for len in [700, 700, 1100, 1100, 500] {
        assert_eq!(
            score(len, &kept_in).stdout,
            score(len, &plain).stdout,
            "{len}"
        );
        let summary = |more: &[&str]| {
            let mut json = score(len, &[more, &["--summary"]].concat()).json();
            json["seconds"] = Value::Null;
            json["tok_s"] = Value::Null;
            json
        };
        assert_eq!(summary(&kept_in), summary(&plain), "{len}");
    }
    // Where a fresh run's last pass is short, its numbers are of other kernels.
    let chunked = [&kept_in[..], &["--chunk", "64"]].concat();
    let plain = [&plain[..], &["--chunk", "64"]].concat();
    for len in [760, 641, 644, 648, 653, 657, 660, 705, 710, 760, 644] {
        assert_eq!(
            score(len, &chunked).stdout,
            score(len, &plain).stdout,
            "{len}"
        );
    }
    // What is kept is used: without the keys and values, and without the model's reading again.
    let count = kept(&cache).len();
    score(1100, &kept_in);
    assert_eq!(kept(&cache).len(), count);
}

#[test]
fn a_conversation_about_a_text_begins_where_it_was_read() {
    let book = file("talked.txt", prose(5, 600));
    let cache = cache("talks");
    let say = |more: &[&str]| {
        let model = crate::common::tiny();
        let args = [
            &[
                "chat",
                "-m",
                &model,
                "--file",
                &book,
                "-n",
                "12",
                "--context",
                "2k",
            ],
            more,
        ];
        with_stdin(&args.concat(), "the ant\nand then\n").ok()
    };
    let fresh = say(&["--no-cache"]);
    let kept_in = ["--cache-dir", &cache, "--cache-least-tokens", "300"];
    assert_eq!(say(&kept_in).stdout, fresh.stdout);
    let again = say(&kept_in);
    assert_eq!(again.stdout, fresh.stdout);
    assert!(again.stderr.contains("cached ones"), "{}", again.stderr);
}

#[test]
fn the_cache_is_listed_bounded_and_cleared() {
    let cache = cache("listed");
    let list = || {
        selfextend(&["cache", "list", "--cache-dir", &cache, "--json"])
            .ok()
            .json()
    };
    assert_eq!(list()["files"], 0);
    let kept_in = ["--cache-dir", &cache, "--cache-least-tokens", "300"];
    run(&file("listed.txt", prose(6, 900)), "the ant", &kept_in);
    let listed = list();
    assert!(listed["files"].as_u64().unwrap() >= 3, "{listed}");
    let bytes = listed["bytes"].as_u64().unwrap();
    assert_eq!(listed["models"][0]["bytes"], bytes);
    assert!(listed["models"][0]["longest_text"].as_u64().unwrap() > 768);
    let words = selfextend(&["cache", "list", "--cache-dir", &cache])
        .ok()
        .stdout;
    assert!(words.contains("last used"), "{words}");
    // The least recently used files go first.
    let most = (bytes / 2).to_string();
    let small = [&kept_in[..], &["--cache-size", &most]].concat();
    run(&file("later.txt", prose(7, 900)), "the ant", &small);
    assert!(list()["bytes"].as_u64().unwrap() <= bytes / 2);
    let cleared = selfextend(&["cache", "clear", "--cache-dir", &cache, "--json"])
        .ok()
        .json();
    assert!(cleared["files"].as_u64().unwrap() > 0);
    assert_eq!(list()["files"], 0);
    // A directory that cannot be made is named where it was asked for.
    let file = file("a-file", "x");
    let wrong = [
        "--raw",
        "--cache-dir",
        &file,
        "--cache-least-tokens",
        "1",
        "the ant",
    ];
    on_tiny("run", &wrong).fails(1, &["--cache-dir", "a-file"]);
    let both = on_tiny("run", &["--raw", "--no-cache", "--cache-dir", &file, "x"]);
    assert!(
        both.code == Some(2) && both.stderr.contains("--no-cache"),
        "{both:?}"
    );
}

#[cfg(unix)]
#[test]
fn only_its_user_can_read_the_cache() {
    use std::os::unix::fs::PermissionsExt;
    let cache = cache("private");
    let kept_in = ["--cache-dir", &cache, "--cache-least-tokens", "300"];
    run(&file("private.txt", prose(8, 400)), "the ant", &kept_in);
    let mode = std::fs::metadata(&cache).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
}
