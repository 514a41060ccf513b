//! README's lists of models are those of the readers' tables.

use crate::{gguf, safetensors};
use std::path::Path;

const BEGIN: &str = "<!-- begin: the readers' tables -->\n";
const END: &str = "<!-- end -->\n";

/// The lists, wrapped as the rest of the file is.
fn lists() -> String {
    let [types, nesting] = safetensors::model_types();
    let sentences = [
        format!(
            "Architectures of GGUF files: {}.",
            named(gguf::architectures())
        ),
        format!(
            "Model types of config.json: {}; and the language models within {}.",
            named(types),
            named(nesting)
        ),
    ];
    sentences.map(|text| wrapped(&text)).join("\n")
}

fn named(mut names: Vec<&str>) -> String {
    names.sort_unstable();
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn wrapped(text: &str) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for word in text.split(' ') {
        if column > 0 && column + 1 + word.len() > 100 {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out + "\n"
}

/// `SELFEXTEND_WRITE_README=1` writes them.
#[test]
fn the_lists_of_models_are_those_of_the_readers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let Ok(text) = std::fs::read_to_string(&path) else {
        return; // A crate from its package has none.
    };
    let (before, rest) = text.split_once(BEGIN).expect("README.md has no begin");
    let (found, after) = rest.split_once(END).expect("README.md has no end");
    let lists = lists();
    if std::env::var_os("SELFEXTEND_WRITE_README").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{lists}{END}{after}")).unwrap();
    } else {
        assert_eq!(
            found, lists,
            "run this test with SELFEXTEND_WRITE_README=1, and see that the table above the lists is true"
        );
    }
}
