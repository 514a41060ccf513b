//! Small templates against what Jinja2 makes of them in the environment of `transformers`:
//! `tools/make_template_cases.py` wrote `templates.json`.

use selfextend::chat_template::ChatTemplate;
use serde_json::Value;

/// Templates that are refused, and why that is not mended. No published template uses them.
const REFUSED: &[(&str, &str)] = &[
    ("{{ 'straße'.casefold() }}", "folding needs tables"),
    ("{{ 'ab_1'.isidentifier() }}", "names need tables"),
    ("{{ '五'.isnumeric() }}", "words for numbers need tables"),
    (
        "{{ '%s is %d' % ('a', 3) }}",
        "minijinja has no operators on text",
    ),
    (
        "{{ '%5.2f|' % 3.14159 }}",
        "minijinja has no operators on text",
    ),
    ("{{ '%s' % 'a' }}", "minijinja has no operators on text"),
    (
        "{{ 'the quick brown fox jumps' | wordwrap(10) }}",
        "no such filter",
    ),
    ("{{ 'a b&c/é' | urlencode }}", "no such filter"),
    ("{{ 1234567 | filesizeformat }}", "no such filter"),
    (
        "{{ ms[0] | attr('role') }}",
        "attributes of Python's objects",
    ),
    (
        "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, a=3) }}",
        "minijinja's macros take the arguments that they name",
    ),
    (
        "{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
        "minijinja sets one variable after the other",
    ),
];

/// Templates that render otherwise, what they render to, and why no prompt differs by it.
const OTHERWISE: &[(&str, &str, &str)] = &[
    (
        "{% for x in none %}x{% endfor %}",
        "",
        "an error in Jinja2: minijinja finds nothing to loop over",
    ),
    (
        "{% macro f(a) %}{{ a }}{% endmacro %}{{ f.name }}{{ f.arguments }}",
        "f['a']",
        "a list instead of a tuple of a macro's own arguments",
    ),
    (
        "{{ {'items': 3}.items is callable }}",
        "False",
        "Jinja2 finds the method; messages have no such keys",
    ),
];

/// What the template renders to; nothing where it fails.
fn render(source: &str) -> Option<String> {
    let template = ChatTemplate::new(source, "", "").ok()?;
    template.render(&[], false).ok()
}

#[test]
fn templates_render_as_in_jinja2_or_are_refused() {
    let cases: Value = serde_json::from_str(include_str!("templates.json")).unwrap();
    let [data, cases @ ..] = cases.as_array().unwrap().as_slice() else {
        panic!("no cases");
    };
    let data = data.as_str().unwrap();
    assert!(cases.len() > 300);
    let (mut wrong, mut known) = (Vec::new(), 0);
    for case in cases {
        let (source, reference) = (case[0].as_str().unwrap(), case[1].as_str());
        let refused = REFUSED.iter().any(|(it, _)| *it == source);
        let otherwise = OTHERWISE.iter().find(|(it, ..)| *it == source);
        let expected = match otherwise {
            _ if refused => None,
            Some((_, ours, _)) => Some(*ours),
            None => reference,
        };
        if refused || otherwise.is_some() {
            assert_ne!(expected, reference, "{source}");
            known += 1;
        }
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
    assert_eq!(known, REFUSED.len() + OTHERWISE.len());
}
