//! A model that has learnt something, where the shared folder is there.

use crate::common::{file, selfextend, stories};

#[test]
fn stories_are_predicted_better_beyond_the_window_with_selfextend() {
    let Some(model) = stories() else { return };
    let start = "Once upon a time, there was a little girl named Lily. ";
    let text = selfextend(&["run", "-m", &model, "--raw", start, "-n", "400", "--temperature", "0.7"]);
    let text = file("story.txt", format!("{start}{}", text.ok().stdout).repeat(4));
    let mean = |args: &[&str]| {
        let all = [&["score", "-m", &model, "--file", &text, "--summary"], args].concat();
        let summary = selfextend(&all).ok().json();
        assert!(summary["tokens"].as_u64().unwrap() > 1024, "{summary}");
        summary["mean_nll"].as_f64().unwrap()
    };
    let extended = mean(&[]);
    // A group size of 1 is plain attention; a window of 1 of 512 lets the context pass.
    assert!(extended < 2.0, "{extended}");
    let smaller = mean(&["--group-size", "4", "--neighbor-window", "64"]);
    assert!((extended - smaller).abs() < 1.0, "{extended} {smaller}");
}
