//! L-Eval's closed-ended tasks (An et al., arXiv 2307.11088), with its authors' prompts and
//! scores. A file's name says which task it is, as in its repository.

use super::data::{Line, first, json_lines, stem};
use super::prompt::Prompter;
use crate::error::{EvalError, Result};
use crate::metrics::{Side, exact_match, exam_choice, exam_code, exam_judgement, exam_math};
use crate::sample::{Ask, Sample, Score, Tags};
use std::path::{Path, PathBuf};

// The instructions before a document.
const COURSERA: &str = "Now you are given a very long document. Please follow the instruction based on this document. For multi-choice questions, there could be a sinlge correct option or multiple correct options. Please only provide the letter corresponding to the answer (like A or AB) when answering. ";
const EXAM: &str = "Now you are given a very long document. Please follow the instruction based on this document. For multi-choice questions, there is only a sinlge correct option. Please only provide the letter corresponding to the answer (like A or B) when answering. For other questions, please directly give the concise and accurate answer. ";
const SCI_FI: &str = "Now you are given a scientific fiction. I will ask you some questions and the answer should be \"True\" or \"False\". Notice that you should answer the question based on the evidence in the document instead of your background knowledge.";
const TOPICS: &str = "Below is a record of our previous conversation on many different topics. You are the ASSISTANT, and I am the USER. At the beginning of each topic, the USER will say 'I would like to discuss the topic of <TOPIC>'. Memorize each <TOPIC>. At the end of the record, I will ask you to retrieve the first/second/third topic names. Now the record start. ";

const GSM: &str = "Given several question answer pairs, you need to follow a similar format to answer the last question. Make sure the response is end with The answer is _ . ";
const CODE_U: &str = "Now you are given a code base consisting of a large amount of functions and the corresponding comments. In the end, I will call some functions defined in the code base. Please carefully read these codes and comments and answer the question.";

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
    Math,
    Code,
}

/// The closed-ended tasks.
const TASKS: [(&str, Kind); 7] = [
    ("coursera", Kind::Choice { several: true }),
    ("quality", Kind::Choice { several: false }),
    ("tpo", Kind::Choice { several: false }),
    ("sci_fi", Kind::Judgement),
    ("topic_retrieval_longchat", Kind::Topics),
    ("gsm100", Kind::Math),
    ("codeU", Kind::Code),
];

impl Kind {
    /// The task of a file. The open-ended ones are scored by a judge or by overlap with one
    /// answer of many, which this crate does not do.
    fn of(path: &Path) -> Result<Self> {
        let name = stem(path);
        let found = TASKS.iter().find(|(task, _)| *task == name);
        found.map(|(_, kind)| *kind).ok_or_else(|| {
            let names = TASKS.map(|(task, _)| task).join(", ");
            let reason = format!(
                "{name:?} is not a closed-ended task of L-Eval; files are named after theirs: {names}"
            );
            EvalError::file(path, reason)
        })
    }

    /// The text of a question, and the words with which its answer begins.
    fn prompt(self, document: &str, question: &str) -> (String, &'static str) {
        let exam = |system: &str| {
            let text = format!(
                "{system}\n\nDocument is as follows. {document} \nQuestion: {question}.  Please directly give answer without any additonal output or explanation "
            );
            (text, "\nAnswer:")
        };
        let plain = |system: &str| format!("{system}\n\n{document}\n\n{question}");
        match self {
            Self::Choice { several: true } => exam(COURSERA),
            Self::Choice { several: false } => exam(EXAM),
            Self::Judgement => exam(SCI_FI),
            // The answer is announced in the form of the record.
            Self::Topics => (plain(TOPICS), " \n ASSISTANT:"),
            Self::Math => (plain(GSM), ""),
            Self::Code => (plain(CODE_U), ""),
        }
    }

    fn score(self, expected: String, side: Side) -> Score {
        match self {
            Self::Choice { several } => {
                Box::new(move |answer| exam_choice(answer, &expected, several))
            }
            Self::Judgement => Box::new(move |answer| exam_judgement(answer, &expected, side)),
            Self::Topics => Box::new(move |answer| exact_match(answer, &expected)),
            Self::Math => Box::new(move |answer| exam_math(answer, &expected)),
            Self::Code => Box::new(move |answer| exam_code(answer, &expected)),
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
            let kind = Kind::of(path)?;
            for line in first(&json_lines(path)?, self.documents) {
                samples.append(&mut self.document(prompter, &stem(path), kind, line)?);
            }
        }
        Ok(samples)
    }

    fn document(
        &self,
        prompter: &Prompter,
        name: &str,
        kind: Kind,
        line: &Line,
    ) -> Result<Vec<Sample>> {
        let (document, questions) = (line.text("input")?, line.texts("instructions")?);
        let answers = line.texts("outputs")?;
        if answers.len() != questions.len() {
            let (questions, answers) = (questions.len(), answers.len());
            return Err(line.error(format!("{questions} instructions, but {answers} outputs")));
        }
        let mut samples = Vec::new();
        for (n, (question, answer)) in questions.iter().zip(&answers).enumerate() {
            let (text, prefix) = kind.prompt(&document, question);
            let id = format!("{name}/{}/{n}", line.number());
            let asked = |name: &str, id: String, tokens, answer: &str, side| {
                let score = kind.score(answer.to_owned(), side);
                self.sample(name, id, tokens, answer, score)
            };
            let tokens = prompter.tokens(&text, prefix)?;
            let Some((story, fact)) = judgements(kind, answer) else {
                samples.push(asked(name, id, tokens, answer, Side::Story));
                continue;
            };
            samples.push(asked(name, id.clone(), tokens, story, Side::Story));
            // The authors also ask what is true outside the story, without the document.
            let question = question.replace(
                "based on the world described in the document.",
                "based on the real-world knowledge and facts up until your last training",
            );
            let text = format!(
                "{question}Please directly answer without any additional output or explanation. "
            );
            let tokens = prompter.tokens(&text, "\nAnswer:")?;
            let (name, id) = (format!("{name}-fact"), format!("{id}-fact"));
            samples.push(asked(&name, id, tokens, fact, Side::Fact));
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
        prompt: Vec<u32>,
        expected: &str,
        score: Score,
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
                answer: Default::default(),
                score,
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
        let kind = |name: &str| Kind::of(Path::new(name));
        assert_eq!(
            kind("a/coursera.jsonl").unwrap(),
            Kind::Choice { several: true }
        );
        assert_eq!(kind("gsm100.jsonl").unwrap(), Kind::Math);
        for open in ["news_summ.jsonl", "financial_qa.jsonl", "gsm.jsonl"] {
            let error = kind(open).unwrap_err().to_string();
            assert!(error.contains("not a closed-ended task"), "{error}");
        }
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
