//! The examples that the documentation points to, run on a small trained model. Skipped, with a
//! message, where it is absent.

#[allow(dead_code)]
#[path = "../examples/answer.rs"]
mod answer;
mod common;
#[allow(dead_code)]
#[path = "../examples/long_document.rs"]
mod long_document;

fn model() -> Option<String> {
    let path = common::shared("models/stories260K/stories260K-f32.gguf")?;
    Some(path.display().to_string())
}

#[test]
fn a_question_is_answered() {
    let Some(model) = model() else {
        return;
    };
    let mut out = Vec::new();
    answer::answer(&model, "Once upon a time, there was a little", &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    // A storyteller that has no chat template continues a text; without the beginning-of-text token
    // it does not get a sentence right.
    assert!(text.starts_with(" girl named"), "{text}");
    assert!(answer::answer("no/such/model.gguf", "", &mut Vec::new()).is_err());
}

#[test]
fn a_document_beyond_the_trained_window_is_continued() {
    let Some(model) = model() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("story.txt");
    let story = "Lily and Tom went to the park. They saw a big dog. The dog was happy. ";
    std::fs::write(&file, story.repeat(40)).unwrap();
    let mut out = Vec::new();
    let file = file.display().to_string();
    long_document::ask(&model, &file, "Lily said, \"", &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let letters = text.chars().filter(|c| c.is_ascii_alphabetic()).count();
    assert!(letters > 100, "{text}");
}
