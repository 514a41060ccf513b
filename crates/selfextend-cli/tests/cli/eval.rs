//! `selfextend eval`, on the tiny model and on what has learnt something.

use crate::common::{dir, file, selfextend, shared, tiny};
use std::path::PathBuf;

const TEXT: &str = "The ant and the other ants went to the quick brown fox, who was asleep. ";

/// A folder of its own for a test.
fn folder(name: &str) -> PathBuf {
    let path = dir().join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn path(folder: &std::path::Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

fn eval(task: &str, args: &[&str]) -> crate::common::Done {
    let model = tiny();
    selfextend(&[&["eval", task, "-m", &model], args].concat())
}

#[test]
fn a_run_is_kept_resumed_and_reported() {
    let folder = folder("perplexity");
    let text = file("perplexity/book.txt", TEXT.repeat(20));
    let results = path(&folder, "r.jsonl");
    let (html, csv, svg, png) = (
        path(&folder, "r.html"),
        path(&folder, "r.csv"),
        path(&folder, "r.svg"),
        path(&folder, "r.png"),
    );
    let args = [
        &*text,
        "--lengths",
        "40,100",
        "--segments",
        "2",
        "--results",
        &results,
    ];
    let first = eval(
        "perplexity",
        &[&args[..], &["--html", &html, "--csv", &csv, "--plot", &svg]].concat(),
    )
    .ok();
    assert!(first.stdout.contains("perplexity") && first.stdout.contains("selfextend"));
    let lines = std::fs::read_to_string(&results).unwrap();
    assert_eq!(lines.lines().count(), 1 + 2 * 4);
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("<svg") && page.contains("trained window"));
    assert!(std::fs::read_to_string(&svg).unwrap().starts_with("<svg"));
    assert!(
        std::fs::read_to_string(&csv)
            .unwrap()
            .starts_with("method,length,")
    );

    // Cut in the middle of the sixth line: the rest is computed again, with the same results.
    let cut = lines.lines().take(5).map(str::len).sum::<usize>() + 5 + 40;
    std::fs::write(&results, &lines[..cut]).unwrap();
    let again = eval("perplexity", &[&args[..], &["--json"]].concat()).ok();
    assert!(again.stderr.contains("4 of 8 exist"), "{again:?}");
    let numbers = |text: &str| -> Vec<String> {
        let values = text
            .lines()
            .skip(1)
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        values
            .map(|value| format!("{} {} {}", value["id"], value["method"], value["outcome"]))
            .collect()
    };
    assert_eq!(
        numbers(&std::fs::read_to_string(&results).unwrap()),
        numbers(&lines)
    );
    assert_eq!(again.json()["tables"][0][0]["texts"], 2.0);

    // Other settings are refused, and nothing is lost.
    let other = [&*text, "--lengths", "40", "--results", &results];
    eval("perplexity", &other).fails(1, &["another run", "lengths"]);
    assert_eq!(
        std::fs::read_to_string(&results).unwrap().lines().count(),
        9
    );
    if std::path::Path::new("/usr/share/fonts").exists() {
        selfextend(&[
            "eval", "report", &results, "--plot", &png, "--figure", "length",
        ])
        .ok();
        assert!(std::fs::read(&png).unwrap().starts_with(b"\x89PNG"));
    }
    selfextend(&["eval", "report", &results, "--plot", &svg, "--figure", "x"])
        .fails(2, &["position, length"]);
}

#[test]
fn shards_join_to_the_whole_run() {
    let folder = folder("shards");
    let run = |name: &str, shard: &str| {
        let results = path(&folder, name);
        eval(
            "passkey",
            &[
                "--lengths",
                "600,700",
                "--depths",
                "0.2,0.8",
                "--trials",
                "2",
                "--shard",
                shard,
                "--results",
                &results,
            ],
        )
        .ok();
        results
    };
    let (one, two, whole) = (
        run("1.jsonl", "1/2"),
        run("2.jsonl", "2/2"),
        run("all.jsonl", "1/1"),
    );
    let joined = path(&folder, "joined.jsonl");
    let done = selfextend(&["eval", "merge", &two, &one, "-o", &joined]).ok();
    let outcomes = |name: &str| -> Vec<String> {
        let text = std::fs::read_to_string(name).unwrap();
        let values = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        values
            .map(|value| format!("{} {} {}", value["id"], value["method"], value["outcome"]))
            .collect()
    };
    // A run writes in the order that computes least.
    let sorted = |name| {
        let mut lines = outcomes(name);
        lines.sort();
        lines
    };
    assert_eq!(sorted(&joined), sorted(&whole));
    let report = selfextend(&["eval", "report", &whole]).ok();
    assert_eq!(done.stdout, report.stdout);

    let nowhere = path(&folder, "x.jsonl");
    selfextend(&["eval", "merge", &one, "-o", &nowhere]).fails(2, &["missing"]);
    selfextend(&["eval", "merge", &one, &two, &one, "-o", &nowhere]).fails(2, &["overlap"]);
    assert!(!std::path::Path::new(&nowhere).exists());
}

#[test]
fn what_cannot_be_run_is_refused_before_it_starts() {
    let folder = folder("refused");
    let results = path(&folder, "r.jsonl");
    let empty = file("refused/empty.txt", " \n");
    let short = file("refused/short.txt", "too short");
    eval("perplexity", &[&empty, "--results", &results]).fails(1, &["empty.txt", "no text"]);
    eval("perplexity", &[&short, "--results", &results]).fails(1, &["short.txt", "too short"]);
    let broken = file(
        "refused/arc.jsonl",
        "{\"query\": \"Question: a\", \"choices\": [\"b\"], \"gold\": 0}\n{\"query\"\n",
    );
    eval("choice", &[&broken, "--results", &results]).fails(1, &["arc.jsonl, line 2", "JSON"]);
    eval(
        "passkey",
        &[
            "--lengths",
            "5000",
            "--method",
            "selfextend:G=2,W=16",
            "--results",
            &results,
        ],
    )
    .fails(2, &["selfextend:G=2,W=16", "5000"]);
    eval("passkey", &["--lengths", "50", "--results", &results])
        .fails(2, &["takes at least", "tokens"]);
    eval("passkey", &["--depths", "2", "--results", &results]).fails(2, &["depth 2"]);
    eval("passkey", &["--lengths", "600", "--plot", "x.gif"]).fails(2, &[".svg or .png"]);
    eval(
        "ruler",
        &["--tasks", "niah_single_2", "--results", &results],
    )
    .fails(2, &["--essays"]);
    let asked = ["--tasks", "qa_1", "--results", &results];
    eval("ruler", &asked).fails(2, &["qa_1", "SQuAD", "--squad"]);
    let unused = ["--tasks", "vt", "--squad", "q.json", "--results", &results];
    eval("ruler", &unused).fails(2, &["--squad", "none of the --tasks"]);
    let own = ["--haystack", "x.txt", "--needle", "A pin is here."];
    let missing = eval("needle", &own);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    let named = ["--question <TEXT>", "--answer <TEXT>"];
    assert!(named.iter().all(|option| missing.stderr.contains(option)));
    assert!(!std::path::Path::new(&results).exists());
    let dry = eval(
        "passkey",
        &["--lengths", "600", "--trials", "1", "--dry-run"],
    )
    .ok();
    assert!(
        dry.stderr.contains("10 results to compute") && dry.stdout.is_empty(),
        "{dry:?}"
    );
}

#[test]
fn a_run_above_the_limit_is_refused_with_both_ways_out() {
    let folder = folder("limit");
    let (results, html) = (path(&folder, "r.jsonl"), path(&folder, "r.html"));
    let passkey = ["--lengths", "600", "--trials", "1", "--results", &results];
    let little = ["--up-to", "0.0000001"];
    let refused = eval("passkey", &[&passkey[..], &little].concat());
    assert!(refused.stderr.contains("10 results to compute"));
    refused.fails(2, &["--lengths", "--trials 1", "--up-to 1"]);
    let text = file("limit/book.txt", TEXT.repeat(20));
    let model = tiny();
    let compare = [
        "compare",
        &text,
        "-m",
        &model,
        "--results",
        &results,
        "--html",
        &html,
    ];
    selfextend(&[&compare[..], &little].concat()).fails(2, &["--quick", "--up-to 1"]);
    selfextend(&[&compare[..], &["--quick"], &little].concat())
        .fails(2, &["--lengths", "--up-to 1"]);
    // What was refused leaves nothing for the next run to stop at.
    assert!(!std::path::Path::new(&results).exists());
    eval("passkey", &passkey).ok();
    for hours in ["0", "-1", "NaN", "long"] {
        let flag = format!("--up-to={hours}");
        let done = eval("passkey", &[&flag]);
        assert!(
            done.code == Some(2) && done.stderr.contains("--up-to"),
            "{done:?}"
        );
    }
}

#[test]
fn every_task_runs() {
    let folder = folder("tasks");
    let results = |name: &str| path(&folder, name);
    let essay = file("tasks/essay.txt", TEXT.repeat(10));
    eval(
        "needle",
        &[
            "--haystack",
            &essay,
            "--lengths",
            "400",
            "--depths",
            "0,1",
            "-n",
            "2",
            "--results",
            &results("needle.jsonl"),
        ],
    )
    .ok();
    let ruler = [
        "--essays",
        &essay,
        "--lengths",
        "3000",
        "--samples",
        "1",
        "--results",
        &results("ruler.jsonl"),
        "--method",
        "plain",
    ];
    let done = eval("ruler", &ruler).ok();
    assert!(
        ["niah_multiquery", "vt", "cwe", "fwe"]
            .iter()
            .all(|name| done.stdout.contains(name)),
        "{done:?}"
    );
    let choice = file(
        "tasks/openbook.jsonl",
        "{\"query\": \"The ant\", \"choices\": [\"sat\", \"ate\"], \"gold\": 1}\n",
    );
    let lambada = file(
        "tasks/lambada.jsonl",
        "{\"context\": \"The ant\", \"continuation\": \"sat\"}\n",
    );
    let done = eval(
        "choice",
        &[&choice, &lambada, "--results", &results("choice.jsonl")],
    )
    .ok();
    assert!(done.stdout.contains("acc_norm"));
    let leval = file(
        "tasks/sci_fi.jsonl",
        "{\"input\": \"An ant.\", \"instructions\": [\"Is it? True or False?\"], \"outputs\": [\"True [fact: False]\"]}\n",
    );
    let done = eval(
        "leval",
        &[&leval, "-n", "2", "--results", &results("leval.jsonl")],
    )
    .ok();
    assert!(done.stdout.contains("sci_fi-fact"));
    let prompts = file(
        "tasks/dataset2prompt.json",
        "{\"hotpotqa\": \"{context}\\nQuestion: {input}\\nAnswer:\"}",
    );
    file("tasks/dataset2maxlen.json", "{\"hotpotqa\": 4}");
    let qa = file(
        "tasks/hotpotqa.jsonl",
        format!(
            "{{\"context\": \"{}\", \"input\": \"Who?\", \"answers\": [\"an ant\"]}}\n",
            TEXT.repeat(3)
        ),
    );
    eval(
        "longbench",
        &[
            &qa,
            "--prompts",
            &prompts,
            "--results",
            &results("longbench.jsonl"),
        ],
    )
    .ok();
    // Plain attention is asked without the middle, SelfExtend with all of it.
    let lines = std::fs::read_to_string(results("longbench.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines[0]["cut"].as_u64().unwrap() > 100 && lines[1]["cut"].is_null(),
        "{lines:?}"
    );
    assert_eq!(
        lines[0]["cut"].as_u64().unwrap() + lines[0]["tokens"].as_u64().unwrap(),
        lines[1]["tokens"].as_u64().unwrap()
    );
}

/// The paper's finding on a small scale: within its window both are the same, beyond it only
/// SelfExtend holds; settings that do not reach a length are left out of the grid.
#[test]
fn an_ablation_of_stories_shows_the_extension() {
    let model = shared("models/stories260K/stories260K-f32.gguf");
    let stories = shared("data/tinystories/tinystories_val.txt");
    let (Some(model), Some(stories)) = (model, stories) else {
        return;
    };
    let folder = folder("ablation");
    let (results, png) = (path(&folder, "r.jsonl"), path(&folder, "grid.svg"));
    let done = selfextend(&[
        "eval",
        "ablation",
        &stories,
        "-m",
        &model,
        "--lengths",
        "512,1536",
        "--group-sizes",
        "2,4",
        "--neighbor-windows",
        "64,128",
        "--results",
        &results,
        "--plot",
        &png,
        "--json",
    ])
    .ok();
    let table = done.json()["tables"][0].clone();
    let perplexity = |method: &str, length: f64| {
        let rows = table.as_array().unwrap();
        let row = rows
            .iter()
            .find(|row| row["method"] == method && row["length"] == length);
        row.unwrap()["perplexity"].clone()
    };
    let number = |value: serde_json::Value| value.as_f64().unwrap();
    assert!(
        number(perplexity("selfextend:G=4,W=128", 1536.0)) + 0.2
            < number(perplexity("plain", 1536.0))
    );
    assert_eq!(perplexity("selfextend:G=2,W=64", 1536.0), "out of reach");
}
