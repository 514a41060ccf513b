//! NoLiMa's needle sets, as its `needlesets/*.json` write them.

use crate::error::{EvalError, Result};
use crate::tasks::data::read_json;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What asks where an experiment has no template of its own (`run_tests.py`).
const TEMPLATE: &str = "You will answer a question based on the following book snippet:\n\n{haystack}\n\nUse the information provided in the book snippet to answer the question. Your answer should be short and based on either explicitly stated facts or strong, logical inferences.\n\nQuestion: {question}\n\n Return only the final answer with no additional explanation or reasoning.";

/// A name in a needle, drawn from the character set.
const CHARACTER: &str = "{CHAR}";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Experiment {
    id: String,
    /// For the paper's tables; it changes nothing.
    #[serde(default, rename = "reasoning_type")]
    _reasoning_type: Option<String>,
    #[serde(default)]
    system_prompt: String,
    task_template: Option<String>,
    needle: String,
    questions: BTreeMap<String, String>,
    tests: BTreeMap<String, Test>,
    #[serde(default)]
    character_set: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    input_args: Vec<String>,
    #[serde(default)]
    gold_answers: Vec<String>,
}

/// A needle with one of its questions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    pub(super) name: String,
    /// The kind of question, as `onehop`.
    pub(super) kind: String,
    pub(super) template: String,
    pub(super) needle: String,
    pub(super) question: String,
    pub(super) characters: Vec<String>,
    pub(super) answers: Vec<String>,
}

/// The cases of a file: every question of every test of every experiment.
pub(super) fn cases(path: &Path) -> Result<Vec<Case>> {
    let experiments: Vec<Experiment> = read_json(path)?;
    let mut cases = Vec::new();
    for experiment in experiments {
        let bad = |what: &str| EvalError::file(path, format!("{}: {what}", experiment.id));
        if !experiment.system_prompt.is_empty() {
            return Err(bad("a system_prompt is not supported"));
        }
        let template = experiment.task_template.as_deref().unwrap_or(TEMPLATE);
        if !template.contains("{haystack}") || !template.contains("{question}") {
            return Err(bad("task_template has no {haystack} or no {question}"));
        }
        for (kind, question) in &experiment.questions {
            for (test, arguments) in &experiment.tests {
                let case = Case {
                    name: format!("{}_{test}_{kind}", experiment.id),
                    kind: kind.clone(),
                    template: template.to_owned(),
                    needle: filled(&experiment.needle, &arguments.input_args),
                    question: filled(question, &arguments.input_args),
                    characters: experiment.character_set.clone(),
                    answers: arguments.gold_answers.clone(),
                };
                let open = case.needle.contains(CHARACTER);
                if (open && case.characters.is_empty()) || (!open && case.answers.is_empty()) {
                    return Err(bad("neither a character_set for {CHAR} nor gold_answers"));
                }
                cases.push(case);
            }
        }
    }
    if cases.is_empty() {
        return Err(EvalError::file(path, "the file asks no questions"));
    }
    Ok(cases)
}

/// A text with `{1}`, `{2}`, ... replaced.
fn filled(text: &str, arguments: &[String]) -> String {
    let numbered = arguments.iter().enumerate();
    numbered.fold(text.to_owned(), |text, (n, argument)| {
        text.replace(&format!("{{{}}}", n + 1), argument)
    })
}

impl Case {
    /// Its needle and question with a character's name, and the right answers.
    pub(super) fn with_character(
        &self,
        character: Option<&String>,
    ) -> (String, String, Vec<String>) {
        match character.filter(|_| self.needle.contains(CHARACTER)) {
            Some(name) => {
                let named = |text: &str| text.replace(CHARACTER, name);
                (
                    named(&self.needle),
                    named(&self.question),
                    vec![name.clone()],
                )
            }
            None => (
                self.needle.clone(),
                self.question.clone(),
                self.answers.clone(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(file: &Value) -> Result<Vec<Case>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("needle_set.json");
        std::fs::write(&path, file.to_string()).unwrap();
        cases(&path)
    }

    fn experiment() -> Value {
        json!({
            "id": "0401", "reasoning_type": "world_knowledge", "system_prompt": "",
            "needle": "Indeed, {CHAR} lives beside {1}.",
            "questions": {"onehop": "Who has been to {2}?", "twohop": "Who knows {3}?"},
            "character_set": ["Ann", "Ben"],
            "tests": {"T1": {"input_args": ["the tower", "Paris", "France"]}},
        })
    }

    #[test]
    fn every_question_of_every_test_is_a_case() {
        let all = read(&json!([experiment()])).unwrap();
        assert_eq!((all.len(), &*all[0].name), (2, "0401_T1_onehop"));
        let (needle, question, answers) = all[1].with_character(Some(&"Ann".into()));
        assert_eq!(needle, "Indeed, Ann lives beside the tower.");
        assert_eq!(
            (&*question, answers),
            ("Who knows France?", vec!["Ann".to_owned()])
        );
    }

    #[test]
    fn what_would_not_be_used_is_refused() {
        for (key, value, says) in [
            ("system_prompt", json!("Be kind."), "system_prompt"),
            ("distractors", json!({"onehop": "x"}), "distractors"),
            ("task_template", json!("{question}"), "{haystack}"),
            ("character_set", json!([]), "character_set"),
        ] {
            let mut broken = experiment();
            broken[key] = value;
            let error = read(&json!([broken])).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
