//! `selfextend compare`, on the tiny model and on one that has learnt something.

use crate::common::{dir, file, selfextend, shared, tiny};
use serde_json::Value;

const TEXT: &str = "The ant and the other ants went to the quick brown fox, who was asleep. ";

fn path(folder: &str, name: &str) -> String {
    let folder = dir().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name).display().to_string()
}

fn row<'a>(table: &'a Value, method: &str, length: f64) -> &'a Value {
    let mut rows = table.as_array().unwrap().iter();
    rows.find(|row| row["method"] == method && row["length"] == length)
        .unwrap_or_else(|| panic!("no {method} at {length}: {table}"))
}

#[test]
fn every_method_is_compared_and_shards_join() {
    let text = file("compare.txt", TEXT.repeat(20));
    let (html, whole) = (path("compare", "r.html"), path("compare", "r.jsonl"));
    let model = tiny();
    let run = |more: &[&str]| {
        let args = [
            "compare",
            &text,
            "-m",
            &model,
            "--lengths",
            "64,128,900,5000",
            "--depths",
            "0.5",
            "--trials",
            "1",
            "--chunk",
            "64",
        ];
        selfextend(&[&args[..], more].concat()).ok()
    };
    let done = run(&["--results", &whole, "--html", &html, "--json"]);
    let tables = done.json()["tables"].clone();
    // Shifted positions end at twice the trained window of 64: a gap with its reason.
    let string = row(&tables[0], "string", 900.0);
    assert_eq!(string["perplexity"], "out of reach", "{string}");
    let gaps = tables[3].as_array().unwrap();
    let gap = gaps.iter().find(|gap| gap["method"] == "string");
    assert!(gap.unwrap()["reason"].as_str().unwrap().contains("reaches"));
    let at_128 = row(&tables[0], "rerope", 128.0);
    assert!(at_128["perplexity"].as_f64().unwrap() > 1.0, "{at_128}");
    assert_eq!(at_128["passkey %"], "-");
    let at_900 = row(&tables[0], "selfextend", 900.0);
    assert!(at_900["passkey %"].is_number() && at_900["prefill s"].is_number());
    // What forgets keeps a bounded cache.
    let cache = |method: &str| row(&tables[0], method, 900.0)["KV MiB"].as_f64().unwrap();
    assert!(cache("streaming-llm") < cache("plain"));
    assert!(row(&tables[0], "plain", 5000.0)["perplexity"] == "-");
    for words in [
        "no passkey at 64 tokens",
        "too few for 5000",
        "dynamic-ntk is the same as ntk",
    ] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    let page = std::fs::read_to_string(&html).unwrap();
    for words in [
        "perplexity by length",
        "KV cache (MiB) by length",
        "Out of reach: string at",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert_eq!(page.matches("<figure>").count(), 4);
    assert!(!page.contains("src=") && !page.contains("href="));

    let (one, two) = (path("compare", "1.jsonl"), path("compare", "2.jsonl"));
    run(&["--shard", "1/2", "--results", &one]);
    run(&["--shard", "2/2", "--results", &two]);
    // Shards cut between methods too, not only between samples.
    let lines = |name: &str| std::fs::read_to_string(name).unwrap();
    assert!(
        lines(&one).contains("\"method\":\"plain\"")
            && !lines(&two).contains("\"method\":\"plain\"")
    );
    let joined = path("compare", "joined.jsonl");
    let done = selfextend(&["eval", "merge", &one, &two, "-o", &joined, "--json"]).ok();
    let again = &done.json()["tables"];
    assert_eq!(again[1], tables[1]);
    assert_eq!(again[2], tables[2]);
}

#[test]
fn an_interrupted_comparison_goes_on() {
    let (html, results) = (path("compare2", "r.html"), path("compare2", "r.jsonl"));
    let text = file("compare2.txt", TEXT.repeat(20));
    let model = tiny();
    let args = [
        "compare",
        &text,
        "-m",
        &model,
        "--context",
        "128",
        "--no-passkey",
        "--method",
        "plain",
        "--method",
        "rerope",
        "--results",
        &results,
        "--html",
        &html,
    ];
    let first = selfextend(&args).ok();
    let lines = std::fs::read_to_string(&results).unwrap();
    assert_eq!(lines.lines().count(), 1 + 2 * 2);
    let cut: String = lines
        .lines()
        .take(3)
        .flat_map(|line| [line, "\n"])
        .collect();
    std::fs::write(&results, cut).unwrap();
    let again = selfextend(&args).ok();
    assert!(again.stderr.contains("2 of 4 exist"), "{again:?}");
    let quality = |text: &str| text.split("Perplexity\n").nth(1).unwrap().to_owned();
    assert_eq!(quality(&again.stdout), quality(&first.stdout));
    let other = [&args[..], &["--segments", "2"]].concat();
    selfextend(&other).fails(
        1,
        &[
            &results,
            "other samples",
            "segments",
            "--results OTHER",
            "delete it",
        ],
    );
}

#[test]
fn a_quick_comparison_is_small() {
    let (html, results) = (path("quick", "r.html"), path("quick", "r.jsonl"));
    let text = file("quick.txt", TEXT.repeat(20));
    let model = tiny();
    let quick = ["compare", &text, "-m", &model, "--quick"];
    let files = ["--results", &results, "--html", &html];
    let done = selfextend(&[&quick[..], &files, &["--json"]].concat()).ok();
    let table = done.json()["tables"][0].clone();
    let rows = table.as_array().unwrap().iter();
    let mut rows: Vec<_> = rows
        .map(|row| (row["method"].as_str().unwrap(), row["length"].as_f64()))
        .collect();
    rows.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let lengths = [Some(64.0), Some(128.0)];
    let methods = ["plain", "selfextend", "yarn"];
    let expected: Vec<_> = methods
        .into_iter()
        .flat_map(|method| lengths.map(|length| (method, length)))
        .collect();
    assert_eq!(rows, expected);
    // Flags still apply.
    let more = ["--method", "dca", "--lengths", "80", "--dry-run"];
    let done = selfextend(&[&quick[..], &more].concat()).ok();
    assert!(done.stderr.contains("1 results to compute"), "{done:?}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let results = path("compare3", "r.jsonl");
    let short = file("compare3.txt", "too short");
    let model = tiny();
    let run = |args: &[&str]| {
        selfextend(&[&["compare", "-m", &model, "--results", &results], args].concat())
    };
    run(&["--context", "100"]).fails(2, &["nothing to compare", "no passkey at 100"]);
    run(&["--no-passkey", &short]).fails(2, &["compare3 has", "too few for 64, 128, 256"]);
    run(&["--context", "700", "--depths", "7"]).fails(2, &["depth 7"]);
    run(&["--context", "700", "--plot", "x.gif"]).fails(2, &[".svg or .png"]);
    assert!(!std::path::Path::new(&results).exists());
}

/// Beyond the window plain attention breaks and SelfExtend holds, as in the paper.
#[test]
fn a_comparison_on_stories_shows_who_holds() {
    let model = shared("models/stories260K/stories260K-f32.gguf");
    let stories = shared("data/tinystories/tinystories_val.txt");
    let (Some(model), Some(stories)) = (model, stories) else {
        return;
    };
    let (results, html) = (path("compare4", "r.jsonl"), path("compare4", "r.html"));
    let done = selfextend(&[
        "compare",
        &stories,
        "-m",
        &model,
        "--lengths",
        "512,1536",
        "--depths",
        "0.5",
        "--trials",
        "1",
        "--results",
        &results,
        "--html",
        &html,
        "--json",
    ])
    .ok();
    let table = &done.json()["tables"][0];
    let perplexity = |method: &str, length| row(table, method, length)["perplexity"].as_f64();
    assert_eq!(perplexity("plain", 512.0), perplexity("selfextend", 512.0));
    let (plain, held) = (
        perplexity("plain", 1536.0),
        perplexity("selfextend", 1536.0),
    );
    assert!(held.unwrap() + 0.2 < plain.unwrap(), "{table}");
}
