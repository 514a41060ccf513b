//! `--method` everywhere, and the pictures of positions.

use crate::common::{WINDOW, dir, file, on_tiny, selfextend};

const METHODS: [&str; 18] = [
    "plain",
    "pi",
    "ntk",
    "dynamic-ntk",
    "yarn",
    "mrrope",
    "cope",
    "selfextend",
    "dpe:scales=2-4,W=16",
    "rerope",
    "leaky-rerope",
    "string",
    "dca",
    "jet-long",
    "self",
    "lampe",
    "streaming-llm",
    "lm-infinite",
];

/// About 110 tokens: longer than the trained window, within what every method reaches.
fn long_text() -> String {
    file(
        "long.txt",
        &"an ant and the other ants ran to the barn. ".repeat(4)[..150],
    )
}

#[test]
fn every_method_scores_a_text_beyond_the_window_whatever_the_chunks() {
    let path = long_text();
    let mut means = Vec::new();
    for method in METHODS {
        let nll = |chunk: &str| -> Vec<f64> {
            let args = ["--file", &path, "--method", method, "--chunk", chunk];
            let lines = on_tiny("score", &args).ok().json_lines();
            assert!(lines.len() > WINDOW, "{} tokens", lines.len());
            lines
                .iter()
                .map(|line| line["nll"].as_f64().unwrap())
                .collect()
        };
        let whole = nll("512");
        // Chunks of one token go through the decode kernels.
        for chunk in ["24", "1"] {
            for (a, b) in whole.iter().zip(nll(chunk)) {
                assert!(
                    (a - b).abs() < 0.02,
                    "{method} in chunks of {chunk}: {a}, {b}"
                );
            }
        }
        means.push(whole.iter().sum::<f64>());
    }
    // They are methods of their own: no two give the same sum, but those that are one by default.
    let same = |a: &str, b: &str| {
        ["ntk", "dynamic-ntk"].contains(&a) && ["ntk", "dynamic-ntk"].contains(&b)
    };
    for (i, a) in METHODS.iter().enumerate() {
        for (j, b) in METHODS.iter().enumerate().skip(i + 1) {
            assert_eq!(means[i] == means[j], same(a, b), "{a}, {b}: {means:?}");
        }
    }
}

#[test]
fn a_method_runs_everywhere_a_model_does() {
    let path = long_text();
    let run = [
        "--file",
        &path,
        "--method",
        "rerope:W=8,scale=log-n",
        "-n",
        "4",
        "--json",
    ];
    let json = on_tiny("run", &run).ok().json();
    assert_eq!(json["settings"]["method"], "rerope:W=8,scale=log-n");
    let bench = [
        "--depths",
        "100",
        "--decode-tokens",
        "3",
        "--json",
        "--method",
        "dca",
    ];
    assert_eq!(on_tiny("bench", &bench).ok().json()["method"], "dca");
    let text = on_tiny(
        "score",
        &[
            "--file",
            &path,
            "--summary",
            "--method",
            "streaming-llm:recent=9",
        ],
    );
    let done = text.ok();
    assert!(
        done.stderr.contains("StreamingLLM, sinks 4, recent 9"),
        "{}",
        done.stderr
    );
}

#[test]
fn methods_that_do_not_work_are_refused() {
    for (method, says) in [
        ("nope", "methods: plain, pi"),
        ("rerope:Q=1", "its parameters are W, scale"),
        ("rerope:W=0", "at least 1"),
        ("yarn:s=0.5", "at least 1"),
        ("dca:chunk=10,reach=30", "at most twice"),
        ("cope:pairs=99", "99 pairs to taper"),
        ("mrrope:alpha=40", "below beta 32"),
        ("dpe", "scales=S-S"),
        ("dpe:scales=2-0", "list of whole numbers"),
        ("longrope", "factors=FILE"),
        ("longrope:factors=/no/such/file", "/no/such/file"),
    ] {
        let args = ["--method", method, "--context", "100", "hi", "-n", "1"];
        let done = on_tiny("run", &args);
        assert_ne!(done.code, Some(0), "{method}");
        assert!(done.stderr.contains(says), "{method}: {}", done.stderr);
    }
    let beyond = ["--method", "leaky-rerope:W=32,k=2", "--context", "1k", "hi"];
    on_tiny("run", &beyond).fails(2, &["reaches 95 tokens", "not 1024"]);
    let both = on_tiny("run", &["--method", "dca", "--plain", "hi"]);
    assert!(both.code == Some(2) && both.stderr.contains("cannot be used with"));
    let factors = file("factors.json", "[1.0, 2.0]");
    let longrope = format!("longrope:factors={factors}");
    on_tiny("run", &["--method", &longrope, "hi"]).fails(1, &["2 frequency factors", "pairs"]);
}

#[test]
fn positions_are_drawn_and_the_untrained_marked() {
    let window = [
        "inspect",
        "--positions",
        "--trained-window",
        "7",
        "--context",
        "10",
    ];
    let with = |more: &[&str]| selfextend(&[&window[..], more].concat()).ok();
    let plain = with(&["--method", "plain"]).stdout;
    assert!(plain.ends_with("\n!!!8754210\n"), "{plain}");
    let figure = with(&["--method", "selfextend:G=2,W=4"]).stdout;
    assert!(figure.contains("largest relative position 6; trained window 7, none beyond it"));
    let path = dir().join("positions.svg").display().to_string();
    let json = with(&["--method", "dca:chunk=5", "--svg", &path, "--json"]).json();
    assert_eq!(json["rows"][9][0], 5.0 + 1.0);
    assert!(std::fs::read_to_string(&path).unwrap().contains("<svg"));
    let listed = selfextend(&["inspect", "--methods"]).ok().stdout;
    let names = METHODS.iter().map(|method| method.split(':').next());
    assert!(names.flatten().all(|name| listed.contains(name)));
}
