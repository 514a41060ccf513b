//! `--speculate`: the same text.

use crate::common::{on_tiny, selfextend, shared, tiny, with_stdin};

const STORY: &str = "Lily and Tom went to the park. They saw a big dog. The dog was happy. ";

#[test]
fn a_story_is_told_alike_with_guesses() {
    let Some(model) = shared("models/stories260K/stories260K-f32.gguf") else {
        return;
    };
    let prompt = STORY.repeat(10);
    let mut right = 0;
    for sampling in [
        &[][..],
        &["--temperature", "0.7", "--top-p", "0.9", "--seed", "5"],
        &["--temperature", "0.2", "--repetition-penalty", "1.1"],
        &[
            "--stop",
            "was happy",
            "--kv-type",
            "q8_0",
            "--linear",
            "f32",
        ],
        &["--context", "1200", "--group-size", "4"],
        &["--kv-type", "q4", "--context", "1200", "--group-size", "4"],
        &["--method", "streaming-llm", "--context", "700"],
    ] {
        let all = ["run", "-m", &model, "--raw", &prompt, "-n", "150", "--json"];
        let plain = selfextend(&[&all, sampling].concat()).ok().json();
        let guessed = selfextend(&[&all, sampling, &["--speculate"]].concat()).ok();
        let json = guessed.json();
        for key in ["ids", "text", "finish", "context_used", "settings"] {
            assert_eq!(json[key], plain[key], "{sampling:?}");
        }
        assert!(plain.get("speculated").is_none());
        let count = |key| json["speculated"][key].as_u64().unwrap();
        let (proposed, accepted) = (count("proposed"), count("accepted"));
        assert!(accepted <= proposed);
        let told = format!("| {accepted} of {proposed} proposed tokens accepted |");
        assert!(guessed.stderr.contains(&told), "{guessed:?}");
        right += accepted;
    }
    // How many depends on what passes take on this machine.
    assert!(right > 0);
}

#[test]
fn a_conversation_goes_alike_with_guesses() {
    let model = tiny();
    let lines = "the ant the ant the ant\nand the ant the ant\nthe ant\n";
    let args = ["chat", "-m", &model, "-n", "20", "--context", "300"];
    let plain = with_stdin(&args, lines).ok();
    let guessed = with_stdin(&[&args[..], &["--speculate"]].concat(), lines).ok();
    assert_eq!(guessed.stdout, plain.stdout);
    assert_eq!(
        guessed.stderr.matches("proposed tokens accepted").count(),
        3
    );
}

#[test]
fn a_device_where_it_could_change_the_text_is_refused() {
    for (command, rest) in [("run", &["hi"][..]), ("chat", &[]), ("serve", &[])] {
        let done = on_tiny(
            command,
            &[&["--speculate", "--device", "cuda:1"], rest].concat(),
        );
        done.fails(2, &["--speculate", "cuda:1", "CPU"]);
    }
}
