//! L-Eval's closed-ended tasks (An et al., arXiv 2307.11088), with its authors' prompts and
//! scores. A file's name says which task it is, as in its repository.

use super::data::{Line, first, json_lines, stem};
use super::prompt::Prompter;
use crate::error::Result;
use crate::metrics::{exam_choice, exam_judgement, exam_match};
use crate::sample::{Ask, Sample, Score, Tags};
use std::path::PathBuf;

// The instructions before a document.
const COURSERA: &str = "Now you are given a very long document. Please follow the instruction based on this document. For multi-choice questions, there could be a sinlge correct option or multiple correct options. Please only provide the letter corresponding to the answer (like A or AB) when answering. ";
const EXAM: &str = "Now you are given a very long document. Please follow the instruction based on this document. For multi-choice questions, there is only a sinlge correct option. Please only provide the letter corresponding to the answer (like A or B) when answering. For other questions, please directly give the concise and accurate answer. ";
const SCI_FI: &str = "Now you are given a scientific fiction. I will ask you some questions and the answer should be \"True\" or \"False\". Notice that you should answer the question based on the evidence in the document instead of your background knowledge.";
const TOPICS: &str = "Below is a record of our previous conversation on many different topics. You are the ASSISTANT, and I am the USER. At the beginning of each topic, the USER will say 'I would like to discuss the topic of <TOPIC>'. Memorize each <TOPIC>. At the end of the record, I will ask you to retrieve the first/second/third topic names. Now the record start. ";

/// Data files, and how many of their documents are read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LEval {
    /// The `.jsonl` files, named as in the authors' repository.
    pub files: Vec<PathBuf>,
    /// The most documents of a file; 0 for all.
    pub documents: usize,
    /// The most tokens of an answer.
    pub max_tokens: usize,
}

/// How a task is asked and scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Choice { several: bool },
    Judgement,
    Topics,
    Other,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            name if name.contains("coursera") => Self::Choice { several: true },
            name if name.contains("quality") || name.contains("tpo") => {
                Self::Choice { several: false }
            }
            name if name.contains("sci_fi") => Self::Judgement,
            name if name.contains("topic") => Self::Topics,
            _ => Self::Other,
        }
    }

    /// The text of a question, and the words with which its answer begins.
    fn prompt(self, document: &str, question: &str) -> (String, &'static str) {
        let exam = |system: &str| {
            let text = format!(
                "{system}\n\nDocument is as follows. {document} \nQuestion: {question}.  Please directly give answer without any additonal output or explanation "
            );
            (text, "\nAnswer:")
        };
        match self {
            Self::Choice { several: true } => exam(COURSERA),
            Self::Judgement => exam(SCI_FI),
            // The answer is announced in the form of the record.
            Self::Topics => (
                format!("{TOPICS}\n\n{document}\n\n{question}"),
                " \n ASSISTANT:",
            ),
            Self::Choice { several: false } | Self::Other => exam(EXAM),
        }
    }

    fn score(self, expected: String) -> Score {
        match self {
            Self::Choice { several } => {
                Box::new(move |answer| exam_choice(answer.trim_start(), &expected, several))
            }
            Self::Judgement => Box::new(move |answer| exam_judgement(answer, &expected)),
            Self::Topics | Self::Other => Box::new(move |answer| exam_match(answer, &expected)),
        }
    }
}

impl LEval {
    /// All documents of these files, with the authors' answers of at most 512 tokens.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self {
            files,
            documents: 0,
            max_tokens: 512,
        }
    }

    /// The samples, document by document; the questions to a document share it.
    ///
    /// # Errors
    /// Data that is not in L-Eval's format, with file and line.
    pub fn samples(&self, prompter: &Prompter) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for path in &self.files {
            for line in first(&json_lines(path)?, self.documents) {
                samples.append(&mut self.document(prompter, &stem(path), line)?);
            }
        }
        Ok(samples)
    }

    fn document(&self, prompter: &Prompter, name: &str, line: &Line) -> Result<Vec<Sample>> {
        let (document, questions) = (line.text("input")?, line.texts("instructions")?);
        let answers = line.texts("outputs")?;
        if answers.len() != questions.len() {
            let (questions, answers) = (questions.len(), answers.len());
            return Err(line.error(format!("{questions} instructions, but {answers} outputs")));
        }
        let kind = Kind::of(name);
        let mut samples = Vec::new();
        for (n, (question, answer)) in questions.iter().zip(&answers).enumerate() {
            let (text, prefix) = kind.prompt(&document, question);
            let id = format!("{name}/{}/{n}", line.number());
            let Some((loyal, fact)) = judgements(kind, answer) else {
                samples.push(self.sample(name, id, kind, prompter.tokens(&text, prefix)?, answer));
                continue;
            };
            samples.push(self.sample(
                name,
                id.clone(),
                kind,
                prompter.tokens(&text, prefix)?,
                loyal,
            ));
            // The authors also ask what is true outside the story, without the document.
            let question = question.replace(
                "based on the world described in the document.",
                "based on the real-world knowledge and facts up until your last training",
            );
            let tokens = prompter.tokens(&question, "\nAnswer:")?;
            let name = format!("{name}-fact");
            samples.push(self.sample(&name, format!("{id}-fact"), kind, tokens, fact));
        }
        // One context for a document, so that methods that depend on it share its prefix.
        let context = samples
            .iter()
            .map(|sample| sample.context)
            .max()
            .unwrap_or_default();
        samples
            .iter_mut()
            .for_each(|sample| sample.context = context);
        Ok(samples)
    }

    fn sample(
        &self,
        name: &str,
        id: String,
        kind: Kind,
        prompt: Vec<u32>,
        expected: &str,
    ) -> Sample {
        Sample {
            id,
            tags: Tags::from([("task".into(), name.into())]),
            context: prompt.len() + self.max_tokens,
            ask: Ask::Answer {
                prompt,
                without_extension: None,
                max_tokens: self.max_tokens,
                stop: Vec::new(),
                expected: vec![expected.to_owned()],
                score: kind.score(expected.to_owned()),
            },
        }
    }
}

/// What is true in the story and outside it, as in `True [fact: False]`.
fn judgements(kind: Kind, answer: &str) -> Option<(&str, &str)> {
    let (loyal, fact) = answer.split_once("[fact:")?;
    (kind == Kind::Judgement).then(|| (loyal.trim(), fact.trim_end().trim_end_matches(']').trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        assert_eq!(Kind::of("coursera"), Kind::Choice { several: true });
        assert_eq!(Kind::of("tpo"), Kind::Choice { several: false });
        assert_eq!(Kind::of("topic_retrieval_longchat"), Kind::Topics);
        assert_eq!(Kind::of("gsm100"), Kind::Other);
        let (text, prefix) = Kind::Judgement.prompt("DOC", "Q");
        assert!(
            text.contains("scientific fiction") && text.contains("follows. DOC \nQuestion: Q.")
        );
        assert_eq!(prefix, "\nAnswer:");
    }

    #[test]
    fn judgements_have_two_sides() {
        assert_eq!(
            judgements(Kind::Judgement, "True [fact: False]"),
            Some(("True", "False"))
        );
        assert_eq!(judgements(Kind::Judgement, "True"), None);
        assert_eq!(judgements(Kind::Topics, "x [fact: y]"), None);
    }
}
