//! `--draft`: the same text, whoever drafts.

use crate::common::{Tiny, dir, file, selfextend, shared, tiny, with_stdin};

const STORY: &str = "Lily and Tom went to the park. They saw a big dog. The dog was happy. ";

/// A model of the same vocabulary with other weights: its 32-bit numbers in the opposite order.
fn scrambled(model: &str) -> String {
    let mut bytes = std::fs::read(model).unwrap();
    // Nearly all of the file, without the header.
    let numbers = (bytes.len() - 32_768) / 4 * 4;
    let at = bytes.len() - numbers;
    let reversed: Vec<u8> = (bytes[at..].chunks(4).rev().flatten()).copied().collect();
    bytes.truncate(at);
    bytes.extend(reversed);
    file("scrambled.gguf", bytes)
}

#[test]
fn a_story_is_told_alike_with_drafts() {
    let Some(model) = shared("models/stories260K/stories260K-f32.gguf") else {
        return;
    };
    let other = scrambled(&model);
    // Within the draft's window of 512 tokens, and beyond.
    let prompts = [STORY.repeat(2), STORY.repeat(20)];
    let (mut right, mut guessed) = (0, 0);
    for (prompt, sampling) in [
        (0, &[][..]),
        (
            0,
            &["--temperature", "0.7", "--top-p", "0.9", "--seed", "5"],
        ),
        (0, &["--temperature", "0.2", "--repetition-penalty", "1.1"]),
        (
            0,
            &["--stop", "was happy", "--kv-type", "q8_0", "--speculate"],
        ),
        (0, &["--kv-type", "f32", "--linear", "f32", "--chunk", "16"]),
        (1, &["--context", "1200", "--group-size", "4"]),
        (
            1,
            &["--kv-type", "q4", "--temperature", "1", "--context", "1200"],
        ),
        (
            1,
            &[
                "--method",
                "streaming-llm",
                "--context",
                "700",
                "--speculate",
            ],
        ),
    ] {
        let prompt = &prompts[prompt];
        let all = ["run", "-m", &model, "--raw", prompt, "-n", "150", "--json"];
        let without: Vec<&str> = sampling.to_vec();
        let without = without.into_iter().filter(|flag| *flag != "--speculate");
        let without: Vec<&str> = all.into_iter().chain(without).collect();
        let plain = selfextend(&without).ok().json();
        for draft in [&model, &other] {
            let args = [&all, sampling, &["--draft", draft]].concat();
            let drafted = selfextend(&args).ok();
            let json = drafted.json();
            for key in ["ids", "text", "finish", "context_used", "settings"] {
                assert_eq!(json[key], plain[key], "{sampling:?} {draft}");
            }
            let count = |key| json["speculated"][key].as_u64().unwrap();
            let (proposed, accepted) = (count("proposed"), count("accepted"));
            let told = format!("| {accepted} of {proposed} proposed tokens accepted |");
            assert!(drafted.stderr.contains(&told), "{drafted:?}");
            guessed += proposed;
            right += if *draft == model { accepted } else { 0 };
        }
    }
    // How many depends on what passes take on this machine. Before anything was measured some are.
    assert!(right > 0 && guessed > right, "{right} {guessed}");
}

#[test]
fn a_conversation_goes_alike_with_a_draft() {
    let (model, path) = (tiny(), dir().join("drafting.gguf"));
    Tiny {
        seed: 8,
        ..Tiny::default()
    }
    .write(&path);
    let lines = "the ant the ant the ant\nand the ant the ant\n/reset\nthe ant\n";
    let args = ["chat", "-m", &model, "-n", "20", "--context", "300"];
    let plain = with_stdin(&args, lines).ok();
    for draft in [&model, &path.display().to_string()] {
        let drafted = with_stdin(&[&args[..], &["--draft", draft]].concat(), lines).ok();
        assert_eq!(drafted.stdout, plain.stdout);
        let told = drafted.stderr.matches("proposed tokens accepted").count();
        assert_eq!(told, 3, "{drafted:?}");
        assert!(drafted.stderr.contains("drafts: "), "{drafted:?}");
    }
}

#[test]
fn drafts_that_do_not_fit_are_refused() {
    let (model, path) = (tiny(), dir().join("renamed.gguf"));
    Tiny {
        renamed: Some((98, "Zebra")),
        ..Tiny::default()
    }
    .write(&path);
    let renamed = path.display().to_string();
    for (command, rest) in [("run", &["hi"][..]), ("chat", &[]), ("serve", &[])] {
        let with = |more: &[&str]| selfextend(&[&[command, "-m", &model], more, rest].concat());
        let words = ["--draft", "renamed.gguf", "token 98", "Zebra", "\"b\""];
        with(&["--draft", &renamed]).fails(2, &words);
        with(&["--draft", "/no/such.gguf"]).fails(1, &["/no/such.gguf"]);
        let device = ["--draft", &model, "--device", "cuda:1"];
        with(&device).fails(2, &["--draft", "cuda:1", "CPU"]);
    }
    if let Some(stories) = shared("models/stories260K/stories260K-f32.gguf") {
        let run = ["run", "-m", &model, "--draft", &stories, "hi"];
        selfextend(&run).fails(2, &["--draft", "stories260K", "token 0"]);
        let run = ["run", "-m", &stories, "--draft", &model, "hi"];
        selfextend(&run).fails(2, &["--draft", "tiny.gguf", "token 0"]);
    }
}

/// Rows that fill up an embedding do not make another vocabulary.
#[test]
fn padding_does_not_matter() {
    let (model, path) = (tiny(), dir().join("padded.gguf"));
    Tiny {
        renamed: Some((98, "[PAD98]")),
        ..Tiny::default()
    }
    .write(&path);
    let padded = path.display().to_string();
    for (model, draft) in [(&model, &padded), (&padded, &model)] {
        let args = [
            "run", "-m", model, "--raw", "the ant", "-n", "30", "--seed", "3",
        ];
        let plain = selfextend(&args).ok();
        let drafted = selfextend(&[&args[..], &["--draft", draft]].concat()).ok();
        assert_eq!(drafted.stdout, plain.stdout);
    }
}
