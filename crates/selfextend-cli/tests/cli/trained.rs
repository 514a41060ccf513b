//! A model that has learnt something, where the shared folder is there.

use crate::common::{file, selfextend, shared};

#[test]
fn stories_beyond_the_window_are_predicted_better_with_selfextend() {
    let model = shared("models/stories260K/stories260K-f32.gguf");
    let stories = shared("data/tinystories/tinystories_val.txt");
    let (Some(model), Some(stories)) = (model, stories) else {
        return;
    };
    let stories = std::fs::read_to_string(stories).unwrap();
    let some: String = stories.chars().take(6500).collect();
    let text = file("stories.txt", some);
    // The window is 512: the third bucket lies well beyond it.
    let beyond = |args: &[&str]| {
        let all = [
            &[
                "score",
                "-m",
                &model,
                "--file",
                &text,
                "--summary",
                "--bucket",
                "768",
            ],
            args,
        ];
        let summary = selfextend(&all.concat()).ok().json();
        assert!(summary["tokens"].as_u64().unwrap() > 3000, "{summary}");
        summary["buckets"][2]["mean_nll"].as_f64().unwrap()
    };
    let (extended, plain) = (beyond(&[]), beyond(&["--plain"]));
    assert!(extended + 0.4 < plain, "{extended} {plain}");
}
