//! `selfextend run`.

use crate::common::{Tiny, WINDOW, dir, file, on_tiny, selfextend, tiny, with_stdin};

const LONG: &str =
    "the quick brown fox jumps over the lazy dog and an ant, then the fox jumps again and again.";

#[test]
fn raw_text_is_continued_and_statistics_follow() {
    let done = on_tiny("run", &["--raw", "the ant", "-n", "12"]).ok();
    assert!(done.stdout.ends_with('\n'));
    let last = done.stderr.lines().last().unwrap();
    assert!(
        last.contains("prompt 4 tokens") && last.contains("/64 | plain attention]"),
        "{last}"
    );
}

#[test]
fn the_chat_template_is_used_unless_raw() {
    let chat = on_tiny("run", &["hi", "-n", "4", "--json"]).ok().json();
    let raw = on_tiny("run", &["hi", "-n", "4", "--json", "--raw"])
        .ok()
        .json();
    assert_eq!(raw["prompt_tokens"], 2);
    // Both markers of the user, those of the assistant, `user\nhi`, `\n`, `assistant\n` with its `an`.
    assert_eq!(chat["prompt_tokens"], 1 + 5 + 2 + 1 + 1 + 1 + 9);
    let system = on_tiny("run", &["hi", "-n", "4", "--json", "--system", "x"])
        .ok()
        .json();
    assert!(system["prompt_tokens"].as_u64() > chat["prompt_tokens"].as_u64());
}

#[test]
fn json_says_everything_at_the_end() {
    let json = on_tiny(
        "run",
        &["--raw", "the", "-n", "9", "--json", "--kv-type", "f32"],
    )
    .ok()
    .json();
    assert_eq!(json["tokens"], json["ids"].as_array().unwrap().len());
    assert!(["max_tokens", "end"].contains(&json["finish"].as_str().unwrap()));
    for key in ["prefill_s", "prefill_tok_s", "decode_s", "decode_tok_s"] {
        assert!(
            json[key].as_f64().is_some_and(|value| value >= 0.0),
            "{key}: {json}"
        );
    }
    let settings = &json["settings"];
    assert_eq!(
        (settings["method"].as_str(), settings["context"].as_u64()),
        (Some("plain"), Some(64))
    );
    assert_eq!(
        (
            settings["kv_type"].as_str(),
            settings["trained_window"].as_u64()
        ),
        (Some("f32"), Some(64))
    );
}

#[test]
fn every_storage_of_keys_and_values_answers() {
    for kv_type in ["f32", "f16", "q8_0", "q4"] {
        let args = [
            "--raw",
            "the ant",
            "-n",
            "20",
            "--json",
            "--kv-type",
            kv_type,
        ];
        let json = on_tiny("run", &args).ok().json();
        assert_eq!(json["settings"]["kv_type"], kv_type);
        assert!(
            json["tokens"].as_u64().is_some_and(|tokens| tokens > 0),
            "{kv_type}"
        );
    }
}

#[test]
fn raw_prompts_keep_their_line_ends_wherever_they_come_from() {
    let model = tiny();
    let count = |args: &[&str], stdin: &str| {
        let all = [&["run", "-m", &model, "-n", "1", "--json"], args].concat();
        with_stdin(&all, stdin).ok().json()["prompt_tokens"].clone()
    };
    for text in ["the ant", "the ant\n", "the ant\n\n", "the ant\r\n"] {
        let given = count(&["--raw", text], "");
        assert_eq!(count(&["--raw"], text), given, "{text:?}");
        assert_eq!(count(&["--raw", "--file", "-"], text), given, "{text:?}");
        assert_eq!(
            count(&["--raw", "--file", &file("raw.txt", text)], ""),
            given
        );
    }
    assert_ne!(count(&["--raw"], "the ant\n"), count(&["--raw"], "the ant"));
    // A message does not end with what `echo` adds.
    assert_eq!(count(&[], "the ant\n"), count(&[], "the ant"));
    assert_eq!(count(&[], "the ant\r\n"), count(&[], "the ant"));
    assert_ne!(count(&[], "the ant\n\n"), count(&[], "the ant"));
}

#[test]
fn file_stdin_and_argument_come_in_this_order() {
    let count = |args: &[&str], stdin: &str| {
        let model = tiny();
        let all = [&["run", "-m", &model, "--raw", "--json", "-n", "1"], args].concat();
        with_stdin(&all, stdin).ok().json()["prompt_tokens"]
            .as_u64()
            .unwrap()
    };
    let path = file("xyz.txt", "xyz\n");
    assert_eq!(count(&["--file", &path], ""), 4);
    assert_eq!(count(&[], "uvw\n"), 4);
    assert_eq!(count(&["-"], "uvw\n"), 4);
    assert_eq!(count(&["--file", "-"], "uvw\n"), 4);
    assert_eq!(count(&["q?"], "uvw\n"), 3 + 2 + 2);
    assert_eq!(count(&["--file", &path], "q?\n"), 3 + 2 + 3);
    // With both others given, stdin is left alone unless it is asked for.
    assert_eq!(count(&["--file", &path, "q?"], "uvw\n"), 3 + 2 + 2);
    assert_eq!(count(&["--file", &path, "-"], "uvw\n"), 3 + 2 + 4);
}

#[test]
fn a_stop_text_ends_the_answer_before_it() {
    let args = [
        "--raw",
        "the ant",
        "-n",
        "30",
        "--temperature",
        "1.5",
        "--seed",
        "3",
    ];
    let text = on_tiny("run", &args).ok().stdout;
    let (at, stop) = text
        .char_indices()
        .filter(|(_, c)| c.is_ascii_graphic())
        .nth(2)
        .unwrap();
    let first = text.find(stop).unwrap();
    assert!(first <= at);
    let stop = stop.to_string();
    let stopped = on_tiny("run", &[&args[..], &["--stop", &stop, "--json"]].concat())
        .ok()
        .json();
    assert_eq!(stopped["finish"], "stop");
    assert_eq!(stopped["text"], text[..first]);
    let empty = on_tiny("run", &["hi", "--stop", ""]);
    assert!(
        empty.code == Some(2) && empty.stderr.contains("text is empty"),
        "{empty:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_text_on_any_number_of_threads() {
    let text = |threads, seed| {
        let args = [
            "--raw",
            LONG,
            "-n",
            "40",
            "--temperature",
            "1",
            "--top-p",
            "0.95",
        ];
        on_tiny(
            "run",
            &[&args[..], &["--threads", threads, "--seed", seed]].concat(),
        )
        .ok()
        .stdout
    };
    let one = text("1", "5");
    assert_eq!(one, text("2", "5"));
    assert_ne!(one, text("1", "6"));
}

#[test]
fn a_prompt_beyond_the_window_extends_it_and_says_so() {
    let done = on_tiny("run", &["--raw", LONG, "-n", "8"]).ok();
    let note = done.stderr.lines().next().unwrap();
    for part in [
        "note: ",
        "trained window of 64",
        "group size",
        "neighbour window 16",
        "tokens",
    ] {
        assert!(note.contains(part), "{part}: {note}");
    }
    assert!(
        done.stderr
            .lines()
            .last()
            .unwrap()
            .contains("SelfExtend, group size"),
        "{done:?}"
    );
    let json = on_tiny("run", &["--raw", LONG, "-n", "8", "--json"])
        .ok()
        .json();
    let prompt = json["prompt_tokens"].as_u64().unwrap();
    assert!(prompt > WINDOW as u64);
    assert_eq!(json["settings"]["context"], prompt + 8);
    let method = json["settings"]["method"].as_str().unwrap();
    assert!(method.starts_with("selfextend:G=") && method.ends_with(",W=16"));
}

#[test]
fn an_answer_alone_does_not_extend_the_window() {
    let done = on_tiny("run", &["--raw", &LONG[..70], "-n", "300", "--json"]).ok();
    let json = done.json();
    assert_eq!(json["settings"]["method"], "plain");
    if json["finish"] == "context_full" {
        assert!(done.stderr.contains("--context"), "{done:?}");
    }
    // Unless room for it was asked for, and it needs that.
    let settings = |tokens: &str, more: &[&str]| {
        let args = ["--raw", "the", "-n", tokens, "--context", "1k", "--json"];
        on_tiny("run", &[&args[..], more].concat()).ok().json()["settings"].clone()
    };
    let long = settings("70", &[]);
    assert!(long["method"].as_str().unwrap().starts_with("selfextend:"));
    assert_eq!(long["context"], 1024);
    let short = settings("3", &[]);
    assert_eq!(short["method"], "plain");
    assert_eq!(short["context"], WINDOW);
    // A group size is an order.
    let asked = settings("3", &["--group-size", "30"]);
    assert_eq!(asked["method"], "selfextend:G=30,W=16");
}

#[test]
fn no_extend_refuses_what_does_not_fit() {
    on_tiny("run", &["--raw", LONG, "--no-extend"])
        .fails(2, &["trained window of 64", "--no-extend"]);
    on_tiny("run", &["--raw", "the", "-n", "2", "--no-extend"]).ok();
}

#[test]
fn plain_attention_runs_at_any_length_when_asked_for() {
    let json = on_tiny("run", &["--raw", LONG, "-n", "8", "--plain", "--json"])
        .ok()
        .json();
    assert_eq!(json["settings"]["method"], "plain");
    assert!(json["settings"]["context"].as_u64() > Some(WINDOW as u64));
    on_tiny("run", &["--raw", LONG, "--plain", "--context", "70"])
        .fails(2, &["--context allows 70"]);
}

#[test]
fn impossible_settings_name_possible_ones() {
    let asked = [
        "--raw",
        "the",
        "-n",
        "4",
        "--context",
        "200",
        "--neighbor-window",
        "32",
    ];
    let done = on_tiny("run", &[&asked[..], &["--group-size", "2"]].concat());
    let done = done.fails(2, &["200 tokens", "limit of 96", "--group-size"]);
    let better = done.stderr.trim().rsplit(' ').next().unwrap();
    on_tiny("run", &[&asked[..], &["--group-size", better]].concat()).ok();
    let short = on_tiny("run", &["--raw", LONG, "-n", "4", "--context", "70"]);
    short.fails(2, &["--context allows 70"]);
    on_tiny("run", &["--raw", "the", "--context", "0"]).fails(2, &["--context"]);
    let wide = on_tiny(
        "run",
        &["--raw", "the", "--context", "1k", "--neighbor-window", "64"],
    );
    wide.fails(2, &["smaller than the trained window"]);
}

#[test]
fn the_reference_mode_answers_too() {
    let args = [
        "--raw",
        "the ant",
        "-n",
        "6",
        "--linear",
        "f32",
        "--kv-type",
        "f32",
        "--chunk",
        "2",
    ];
    let json = on_tiny("run", &[&args[..], &["--json"]].concat())
        .ok()
        .json();
    assert_eq!(
        (
            json["settings"]["linear"].as_str(),
            json["settings"]["chunk"].as_u64()
        ),
        (Some("f32"), Some(2))
    );
}

#[test]
fn recommended_sampling_needs_a_recommendation_and_excludes_others() {
    let asked = on_tiny("run", &["hi", "-n", "1", "--recommended-sampling"]);
    asked.fails(2, &["recommends none", "generation_config.json"]);
    let recommended = |name: &str, sampling| {
        let path = dir().join(name).display().to_string();
        let tiny = Tiny {
            sampling,
            ..Default::default()
        };
        tiny.write(path.as_ref());
        path
    };
    let model = recommended("sampling.gguf", &[("temp", 1.5), ("top_k", 9.0)]);
    let shown = selfextend(&["inspect", "-m", &model]).ok().stdout;
    assert!(shown.contains("temp 1.5, top_k 9 (used with"), "{shown}");
    let text = |more: &[&str]| {
        let args = ["run", "-m", &model, "hi", "-n", "9", "--seed", "4"];
        selfextend(&[&args, more].concat()).ok().stdout
    };
    // What the header leaves out is as in llama.cpp.
    let given = "--temperature 1.5 --top-k 9 --top-p 0.95 --min-p 0.05";
    let given: Vec<&str> = given.split(' ').collect();
    assert_eq!(text(&["--recommended-sampling"]), text(&given));
    assert_ne!(text(&["--recommended-sampling"]), text(&[]));
    let model = recommended("mirostat.gguf", &[("mirostat", 2.0)]);
    selfextend(&["run", "-m", &model, "hi", "--recommended-sampling"])
        .fails(1, &["general.sampling.mirostat"]);
    let both = ["hi", "--recommended-sampling", "--temperature", "1"];
    let both = on_tiny("run", &both);
    assert_eq!(both.code, Some(2));
    assert!(both.stderr.contains("cannot be used with"), "{both:?}");
}

#[test]
fn special_tokens_of_raw_prompts_stand_for_themselves_unless_told_otherwise() {
    let count = |more: &[&str]| {
        let args = [
            &["<|im_start|>hi<|im_end|>", "-n", "1", "--json", "--raw"],
            more,
        ]
        .concat();
        let answer = on_tiny("run", &args).ok().json();
        answer["prompt_tokens"].as_u64().unwrap()
    };
    assert_eq!(count(&[]), 4);
    assert!(count(&["--special-as-text"]) > 4);
}
