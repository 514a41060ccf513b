//! RULER's question-answering tasks (`qa_1`, `qa_2`): a question whose own documents lie among others,
//! from any file in SQuAD's or HotpotQA's format.
//!
//! As in its `qa.py`, documents of the same article come before those of others. Three things differ:
//! questions are drawn from the whole file (there: the first ones, many of one paragraph), a question's
//! documents keep their depths whatever the length, and where the file's documents do not fill a
//! length only the others are repeated, never the question's own.

use super::question::Question;
use crate::error::{EvalError, Result};
use crate::random::Random;
use crate::tasks::data::read_json;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// Documents, and questions about them.
#[derive(Debug, Default)]
pub(super) struct Library {
    documents: Vec<String>,
    asked: Vec<Asked>,
}

/// A question of a library; documents by number.
#[derive(Debug)]
struct Asked {
    query: String,
    answers: Vec<String>,
    own: Vec<usize>,
    /// Documents of the same article.
    related: Vec<usize>,
}

#[derive(Deserialize)]
struct Squad {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<SquadQuestion>,
}

#[derive(Deserialize)]
struct SquadQuestion {
    question: String,
    answers: Vec<SquadAnswer>,
    /// SQuAD 2.0 has questions without an answer; RULER leaves them out.
    #[serde(default)]
    is_impossible: bool,
}

#[derive(Deserialize)]
struct SquadAnswer {
    text: String,
}

#[derive(Deserialize)]
struct HotpotQuestion {
    question: String,
    answer: String,
    /// Titles and sentences.
    context: Vec<(String, Vec<String>)>,
}

impl Library {
    /// Reads a file in SQuAD's format.
    pub(super) fn squad(path: &Path) -> Result<Self> {
        let file: Squad = read_json(path)?;
        let (mut library, mut numbers) = (Self::default(), HashMap::new());
        for article in &file.data {
            let contexts = article.paragraphs.iter().map(|it| &*it.context);
            let all: Vec<usize> = contexts
                .map(|text| library.number(&mut numbers, text.to_owned()))
                .collect();
            for (paragraph, &own) in article.paragraphs.iter().zip(&all) {
                let possible = paragraph.qas.iter().filter(|it| !it.is_impossible);
                for question in possible {
                    let mut related: Vec<usize> =
                        all.iter().copied().filter(|&n| n != own).collect();
                    related.dedup();
                    let answers = question.answers.iter().map(|it| it.text.clone());
                    library.asked.push(Asked {
                        query: question.question.clone(),
                        answers: answers.collect(),
                        own: vec![own],
                        related,
                    });
                }
            }
        }
        library.checked(path)
    }

    /// Reads a file in HotpotQA's format (distractor setting).
    pub(super) fn hotpot(path: &Path) -> Result<Self> {
        let file: Vec<HotpotQuestion> = read_json(path)?;
        let (mut library, mut numbers) = (Self::default(), HashMap::new());
        for question in file {
            let texts = question.context.iter();
            let texts = texts.map(|(title, sentences)| format!("{title}\n{}", sentences.concat()));
            let mut own: Vec<usize> = texts
                .map(|text| library.number(&mut numbers, text))
                .collect();
            own.dedup();
            library.asked.push(Asked {
                query: question.question,
                answers: vec![question.answer],
                own,
                related: Vec::new(),
            });
        }
        library.checked(path)
    }

    /// The number of a document, which is kept once.
    fn number(&mut self, numbers: &mut HashMap<String, usize>, text: String) -> usize {
        let next = self.documents.len();
        let number = *numbers.entry(text.clone()).or_insert(next);
        if number == next {
            self.documents.push(text);
        }
        number
    }

    fn checked(self, path: &Path) -> Result<Self> {
        if self.asked.is_empty() {
            return Err(EvalError::file(path, "the file holds no questions"));
        }
        let empty = |asked: &&Asked| {
            asked.own.is_empty() || asked.answers.iter().all(|answer| answer.trim().is_empty())
        };
        if let Some(asked) = self.asked.iter().find(empty) {
            let reason = format!("no answer or no document for {:?}", asked.query);
            return Err(EvalError::file(path, reason));
        }
        Ok(self)
    }

    /// How many questions there are.
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    /// Question `number` in an order that the seed gives, with `units` documents beside its own.
    pub(super) fn question(&self, units: usize, number: usize, seed: u64) -> Question {
        let drawn = Random::new(seed).sample(self.asked.len(), number + 1);
        let asked = &self.asked[drawn[number]];
        let mut random = Random::new(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        let depths = random.sample(40, asked.own.len());
        let mut related = asked.related.clone();
        random.shuffle(&mut related);
        let mut others: Vec<usize> = (0..self.documents.len())
            .filter(|n| !asked.own.contains(n) && !related.contains(n))
            .collect();
        random.shuffle(&mut others);
        let distractors = related.into_iter().chain(others).collect::<Vec<_>>();
        let mut all: Vec<usize> = distractors.iter().copied().cycle().take(units).collect();
        random.shuffle(&mut all);
        let mut places: Vec<(usize, usize)> = depths
            .iter()
            .zip(&asked.own)
            .map(|(&depth, &own)| (all.len() * depth / 39, own))
            .collect();
        places.sort_unstable();
        for (place, own) in places.into_iter().rev() {
            all.insert(place, own);
        }
        let documents = all.iter().enumerate();
        let documents =
            documents.map(|(n, &at)| format!("Document {}:\n{}", n + 1, self.documents[at]));
        let mut expected = Vec::new();
        for answer in &asked.answers {
            if !expected.contains(answer) {
                expected.push(answer.clone());
            }
        }
        const TASK: &str = "Answer the question based on the given documents. Only give me the answer and do not output any other words.";
        Question {
            text: format!(
                "{TASK}\n\nThe following are given documents.\n\n{}\n\n{TASK}\n\nQuestion: {}",
                documents.collect::<Vec<_>>().join("\n\n"),
                asked.query
            ),
            prefix: " Answer:".into(),
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn squad() -> Library {
        let paragraph = |n: usize, article: usize| {
            json!({"context": format!("Text {article}-{n}."), "qas": [
                {"question": format!("Which {article}-{n}?"), "id": "x", "answers": [
                    {"text": format!("{article}-{n}"), "answer_start": 5},
                    {"text": format!("{article}-{n}"), "answer_start": 5}]},
                {"question": "Never?", "answers": [], "is_impossible": true},
            ]})
        };
        let article = |a| json!({"title": "t", "paragraphs": (0..4).map(|n| paragraph(n, a)).collect::<Vec<_>>()});
        let file = json!({"version": "1", "data": (0..5).map(article).collect::<Vec<_>>()});
        read(&file, Library::squad).unwrap()
    }

    fn read(
        file: &serde_json::Value,
        reader: impl Fn(&Path) -> Result<Library>,
    ) -> Result<Library> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("questions.json");
        std::fs::write(&path, file.to_string()).unwrap();
        reader(&path)
    }

    #[test]
    fn documents_of_the_article_come_first_and_the_own_is_there_once() {
        let library = squad();
        assert_eq!(library.len(), 20);
        for number in 0..20 {
            for units in [0, 2, 3, 10, 50] {
                let made = library.question(units, number, 7);
                assert_eq!(made, library.question(units, number, 7));
                let answer = &made.expected[0];
                assert_eq!(made.expected.len(), 1);
                let own = format!(":\nText {answer}.");
                assert_eq!(made.text.matches(&own).count(), 1, "{}", made.text);
                assert_eq!(made.text.matches("\nText ").count(), units + 1);
                assert!(made.text.contains(&format!("Document {}:\n", units + 1)));
                let article = &answer[..2];
                let related = made.text.matches(&format!("\nText {article}")).count();
                assert!(related > units.min(3), "{units}: {}", made.text);
                assert!(
                    made.text
                        .ends_with(&format!("\n\nQuestion: Which {answer}?"))
                );
            }
        }
        let all: std::collections::HashSet<_> = (0..20)
            .map(|n| library.question(0, n, 7).expected)
            .collect();
        assert_eq!(all.len(), 20);
    }

    #[test]
    fn hotpot_questions_have_several_documents() {
        let question = |n: usize| {
            json!({"_id": "x", "question": format!("Q{n}?"), "answer": format!("a{n}"), "context":
                [[format!("T{n}"), ["One. ", "Two."]], ["Shared", ["Both."]]]})
        };
        let file = json!([question(0), question(1)]);
        let library = read(&file, Library::hotpot).unwrap();
        let made = library.question(1, 0, 3);
        assert_eq!(made.text.matches("\nOne. Two.").count(), 2);
        assert_eq!(made.text.matches("Shared\nBoth.").count(), 1);
    }

    #[test]
    fn files_without_questions_or_answers_are_refused() {
        let none = json!({"data": []});
        let error = read(&none, Library::squad).unwrap_err().to_string();
        assert!(error.contains("no questions"), "{error}");
        let file = json!([{"question": "Why?", "answer": " ", "context": [["T", ["S."]]]}]);
        let error = read(&file, Library::hotpot).unwrap_err().to_string();
        assert!(error.contains("Why?"), "{error}");
        let error = read(&json!({"data": 1}), Library::squad).unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
