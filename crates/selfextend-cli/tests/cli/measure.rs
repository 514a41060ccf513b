//! `score`, `plot`, `inspect`, `bench` and `demo`.

use crate::common::{Tiny, dir, file, on_tiny, selfextend, tiny, with_stdin};

const TEXT: &str = "the ant and the other ants went to the quick brown fox, who was asleep";

fn nll(lines: &[serde_json::Value]) -> f64 {
    lines.iter().map(|line| line["nll"].as_f64().unwrap()).sum()
}

/// As in `transformers`, which decides by the length of the text.
#[test]
fn short_texts_have_the_short_factors_of_longrope() {
    let path = dir().join("longrope.gguf");
    let model = Tiny {
        short_context: Some(32),
        ..Tiny::default()
    };
    model.write(&path);
    let (path, text) = (path.display().to_string(), file("short.txt", "the ant ran"));
    let score = |more: &[&str]| {
        let args = [&["score", "-m", &path, "--file", &text], more].concat();
        nll(&selfextend(&args).ok().json_lines())
    };
    assert_eq!(score(&[]), score(&["--context", "32"]));
    assert_ne!(score(&[]), score(&["--context", "64"]));
}

#[test]
fn every_token_but_the_first_is_scored() {
    let path = file("score.txt", TEXT);
    let lines = on_tiny("score", &["--file", &path]).ok().json_lines();
    let ids: Vec<_> = lines
        .iter()
        .map(|line| line["id"].as_u64().unwrap())
        .collect();
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(line["position"], i + 1);
        assert!(line["nll"].as_f64().unwrap() >= 0.0);
    }
    // `the` is one token, so the text starts with ` an`: space, then the merged pair.
    assert_eq!(ids[1], 256 + 3);
    let piped = with_stdin(&["score", "-m", &tiny()], TEXT).ok();
    assert_eq!(piped.json_lines(), lines);
}

#[test]
fn the_chunk_does_not_change_the_scores() {
    let path = file("chunks.txt", TEXT.repeat(3));
    let score = |chunk| {
        let args = [
            "--file",
            &path,
            "--chunk",
            chunk,
            "--kv-type",
            "f32",
            "--linear",
            "f32",
        ];
        nll(&on_tiny("score", &args).ok().json_lines())
    };
    let (small, large) = (score("7"), score("64"));
    assert!((small - large).abs() < 1e-3, "{small} {large}");
}

#[test]
fn ids_are_scored_as_they_are_and_summed_up_by_bucket() {
    let ids = file(
        "ids.json",
        format!("{:?}", (0..100).map(|n| n * 7 % 256).collect::<Vec<_>>()),
    );
    let lines = on_tiny("score", &["--ids", &ids]).ok().json_lines();
    assert_eq!((lines.len(), lines[9]["id"].as_u64()), (99, Some(70)));
    let summary = on_tiny("score", &["--ids", &ids, "--summary", "--bucket", "40"])
        .ok()
        .json();
    assert_eq!(
        (summary["tokens"].as_u64(), summary["scored"].as_u64()),
        (Some(100), Some(99))
    );
    let mean = summary["mean_nll"].as_f64().unwrap();
    assert!((mean - nll(&lines) / 99.0).abs() < 1e-5);
    assert!((summary["perplexity"].as_f64().unwrap() / mean.exp() - 1.0).abs() < 1e-4);
    let buckets = summary["buckets"].as_array().unwrap();
    assert_eq!(buckets.len(), 3);
    assert_eq!(
        (
            buckets[2]["first_position"].as_u64(),
            buckets[2]["last_position"].as_u64()
        ),
        (Some(81), Some(99))
    );
    assert!((buckets[2]["mean_nll"].as_f64().unwrap() - nll(&lines[80..]) / 19.0).abs() < 1e-5);
    let method = summary["settings"]["method"].as_str().unwrap();
    assert!(method.starts_with("selfextend:G="), "{method}");
    // A text within the window runs plain, whatever the context.
    let short = file("short.json", "[1, 2, 3, 4]");
    let short = ["--ids", &short, "--context", "1k", "--summary"];
    let short = on_tiny("score", &short).ok().json();
    assert_eq!(short["settings"]["method"], "plain");
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let outside = file("outside.json", "[1, 2, 9999]");
    on_tiny("score", &["--ids", &outside]).fails(1, &["9999", "position 2", "vocabulary"]);
    let text = file("no.json", "{\"ids\": 3}");
    on_tiny("score", &["--ids", &text]).fails(1, &["JSON array of token ids"]);
    let negative = file("negative.json", "[1, -2]");
    on_tiny("score", &["--ids", &negative]).fails(1, &["JSON array of token ids"]);
    on_tiny("score", &["--ids", &file("one.json", "[1]")]).fails(2, &["nothing to score"]);
    on_tiny("score", &[]).fails(2, &["empty"]);
}

#[test]
fn a_picture_is_drawn_from_scores() {
    let ids = file(
        "plot.json",
        format!("{:?}", (0..300).map(|n| n * 11 % 256).collect::<Vec<_>>()),
    );
    let scores = on_tiny("score", &["--ids", &ids]).ok().stdout;
    let scores = file("plot.jsonl", scores);
    let picture = dir().join("plot.svg");
    let output = picture.display().to_string();
    let (a, b) = (
        format!("plain={scores}"),
        format!("SelfExtend G=4={scores}"),
    );
    let args = [
        "plot",
        &a,
        &b,
        "-o",
        &output,
        "--bucket",
        "50",
        "--trained-window",
        "64",
    ];
    selfextend(&args).ok();
    let svg = std::fs::read_to_string(&picture).unwrap();
    for part in [
        "<svg",
        "</svg>",
        "SelfExtend G=4",
        "trained window",
        "perplexity",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    let piped = selfextend(&["plot", &a, "-o", "-"]).ok();
    assert!(piped.stdout.starts_with("<svg"));
}

#[test]
fn a_picture_that_cannot_be_written_leaves_nothing() {
    let scores = file("one.jsonl", "{\"position\":1,\"id\":3,\"nll\":2.5}\n");
    let series = format!("one={scores}");
    let folder = dir().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let path = |path: &std::path::Path| path.display().to_string();
    selfextend(&["plot", &series, "-o", &path(&folder)]).fails(1, &["is a directory"]);
    selfextend(&["plot", &series, "-o", &path(&folder.join("no/a.svg"))])
        .fails(1, &["cannot write"]);
    if cfg!(target_os = "linux") {
        selfextend(&["plot", &series, "-o", "/dev/full"]).fails(1, &["/dev/full", "No space left"]);
        assert!(std::path::Path::new("/dev/full").exists());
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    let broken = file(
        "broken.jsonl",
        "{\"position\":1,\"id\":3,\"nll\":2.5}\nnonsense\n",
    );
    let series = format!("broken={broken}");
    selfextend(&["plot", &series, "-o", &path(&folder.join("a.svg"))])
        .fails(1, &["line 2 of", "score"]);
    selfextend(&["plot", "nothing", "-o", "x.svg"]).fails_usage("LABEL=FILE");
}

impl crate::common::Done {
    /// A usage error that the parser of the arguments found; it says more than one line.
    #[track_caller]
    fn fails_usage(self, word: &str) {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert!(
            self.stderr.starts_with("error: ") && self.stderr.contains(word),
            "{self:?}"
        );
        assert_eq!(self.stdout, "", "{self:?}");
    }
}

#[test]
fn flags_out_of_range_are_usage_errors() {
    on_tiny("run", &["hi", "--chunk", "0"]).fails_usage("--chunk");
    on_tiny("run", &["hi", "--context", "many"]).fails_usage("--context");
    on_tiny("run", &["hi", "--kv-type", "f8"]).fails_usage("--kv-type");
    on_tiny("score", &["--bucket", "0"]).fails_usage("--bucket");
    on_tiny("run", &["hi", "--top-p", "1.5"]).fails(2, &["top-p"]);
    on_tiny("run", &["hi", "--temperature", "-1"]).fails_usage("-1");
    on_tiny("run", &["hi", "--temperature=-1"]).fails(2, &["temperature"]);
    on_tiny("demo", &["--depths", "1.5"]).fails(2, &["--depths"]);
}

#[test]
fn a_file_is_inspected_as_text_and_as_json() {
    let text = on_tiny("inspect", &[]).ok().stdout;
    for part in [
        "llama",
        "64 tokens",
        "byte-level BPE",
        "Q8_0 (5 tensors",
        "(L - W) * G + W",
        "chat template   yes",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.ends_with("\n6 6 5 5 4 4 3 2 1 0\n"), "{text}");
    let json = on_tiny("inspect", &["--json", "--context", "256"])
        .ok()
        .json();
    assert_eq!(
        (json["layers"].as_u64(), json["heads"].as_u64()),
        (Some(2), Some(4))
    );
    assert_eq!(json["formats"]["Q4_0"]["tensors"], 6);
    let reach = &json["max_context"][0];
    assert_eq!(
        (
            reach["group_size"].as_u64(),
            reach["neighbor_window"].as_u64()
        ),
        (Some(2), Some(4))
    );
    assert_eq!(reach["context"], (64 - 4) * 2 + 4);
    assert_eq!(json["automatic"][1], json["automatic"][1]);
    assert_eq!(
        (
            json["automatic"][1]["context"].as_u64(),
            json["automatic"][1]["group_size"].as_u64()
        ),
        (Some(256), Some(15))
    );
    assert_eq!(json["automatic"].as_array().unwrap().len(), 5);
    assert_eq!(
        json["matrix"]["rows"][9],
        serde_json::json!([6, 6, 5, 5, 4, 4, 3, 2, 1, 0])
    );
}

#[test]
fn the_matrix_takes_other_settings() {
    let args = [
        "--json",
        "--matrix",
        "6",
        "--group-size",
        "3",
        "--neighbor-window",
        "2",
    ];
    let matrix = &on_tiny("inspect", &args).ok().json()["matrix"];
    assert_eq!(matrix["rows"][5], serde_json::json!([3, 3, 3, 2, 1, 0]));
    on_tiny("inspect", &["--group-size", "0"]).fails(2, &["at least 1"]);
    let beyond = [
        "--context",
        "300",
        "--group-size",
        "2",
        "--neighbor-window",
        "16",
    ];
    on_tiny("inspect", &beyond).fails(2, &["300 tokens", "--group-size"]);
}

#[test]
fn bench_writes_a_line_for_each_depth() {
    let done = on_tiny(
        "bench",
        &["--depths", "0,32,200", "--decode-tokens", "4", "--json"],
    )
    .ok();
    let rows = done.json_lines();
    assert_eq!(rows.len(), 3);
    assert!(rows[0]["prefill_tok_s"].is_null() && rows[0]["decode_tok_s"].as_f64().unwrap() > 0.0);
    assert!(rows[1]["prefill_tok_s"].as_f64().unwrap() > 0.0);
    assert_eq!(rows[1]["method"], "plain");
    let method = rows[2]["method"].as_str().unwrap();
    assert!(method.starts_with("selfextend:G="), "{method}");
    assert_eq!(
        (
            rows[2]["depth"].as_u64(),
            rows[2]["neighbor_window"].as_u64()
        ),
        (Some(200), Some(16))
    );
    if cfg!(target_os = "linux") {
        assert!(rows[2]["peak_rss_mib"].as_f64().unwrap() > 1.0);
    }
    let table = on_tiny("bench", &["--depths", "16", "--decode-tokens", "0"])
        .ok()
        .stdout;
    assert_eq!(table.lines().count(), 2, "{table}");
    on_tiny("bench", &["--depths", "16,500", "--no-extend"]).fails(2, &["--no-extend"]);
}

#[test]
fn the_demo_asks_twice() {
    let args = ["--tokens", "600", "--seed", "4"];
    let json = on_tiny("demo", &[&args[..], &["--json"]].concat())
        .ok()
        .json();
    let keys = json["keys"].as_array().unwrap();
    let depths: Vec<_> = keys.iter().map(|key| key["depth"].as_f64()).collect();
    assert_eq!(depths, [Some(0.9), Some(0.5), Some(0.1)]);
    for key in keys {
        let tokens = key["tokens"].as_u64().unwrap();
        assert!((500..=600).contains(&tokens), "{json}");
        assert_eq!(key["passkey"].as_str().unwrap().len(), 5);
    }
    assert_eq!(json["plain"]["answers"].as_array().unwrap().len(), 3);
    assert_eq!(json["plain"]["settings"]["method"], "plain");
    let method = json["selfextend"]["settings"]["method"].as_str().unwrap();
    assert!(method.starts_with("selfextend:G="), "{method}");
    let done = on_tiny("demo", &args).ok();
    // In a pipe: the cost first, then a line for each way, and no drawing.
    let notes: Vec<_> = done.stderr.lines().collect();
    assert!(
        notes[1].starts_with("reading ") && notes[1].contains(" tokens twice, about "),
        "{notes:?}"
    );
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert!(!done.stderr.contains(['\r', '\x1b']), "{notes:?}");
    let table = done.stdout;
    let found = keys.iter().map(|key| key["passkey"].as_str().unwrap());
    for part in ["plain attention", "SelfExtend G=", "keys found"]
        .into_iter()
        .chain(found)
    {
        assert!(table.contains(part), "{part}: {table}");
    }
    // What the texts share is read once: the last answer is that of its text read alone.
    let args = [
        "--tokens", "600", "--seed", "6", "--depths", "0.1", "--json",
    ];
    let alone = on_tiny("demo", &args).ok().json();
    assert_eq!(alone["keys"][0], keys[2]);
    for way in ["plain", "selfextend"] {
        assert_eq!(alone[way]["answers"][0], json[way]["answers"][2], "{way}");
    }
    on_tiny("demo", &["--tokens", "50"]).fails(2, &["--tokens 50 is too short"]);
}
