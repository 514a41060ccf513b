//! Small templates against what Jinja2 makes of them in the environment of `transformers`:
//! `tools/make_template_cases.py` wrote `templates.json`.

use selfextend::chat_template::ChatTemplate;
use serde_json::Value;

/// What the template renders to; nothing where it fails.
fn render(source: &str) -> Option<String> {
    let template = ChatTemplate::new(source, "", "").ok()?;
    template.render(&[], false).ok()
}

#[test]
fn templates_render_as_in_jinja2() {
    let cases: Value = serde_json::from_str(include_str!("templates.json")).unwrap();
    let [data, cases @ ..] = cases.as_array().unwrap().as_slice() else {
        panic!("no cases");
    };
    let data = data.as_str().unwrap();
    assert!(cases.len() > 300);
    let mut wrong = Vec::new();
    for case in cases {
        let (source, expected) = (case[0].as_str().unwrap(), case[1].as_str());
        let found = render(&format!("{data}{source}"));
        if found.as_deref() != expected {
            wrong.push(format!("{source}: {found:?}, not {expected:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
