//! BABILong's prompts, from `babilong/prompts.py` of the authors' code, with instructions, examples
//! and post-prompt.

use super::task::BabiTask;
use crate::error::{EvalError, Result};
use crate::sample::RightAnswer;
use crate::tasks::prompt::Prompter;

/// What answers of the first three tasks name.
pub(super) const LABELS: [&str; 6] = [
    "bathroom", "bedroom", "garden", "hallway", "kitchen", "office",
];

const QA1: [&str; 3] = [
    "I will give you context with the facts about positions of different persons hidden in some random text and a question. You need to answer the question based only on the information from the facts. If a person was in different locations, use the latest location to answer the question.",
    "<example>\nCharlie went to the hallway. Judith come back to the kitchen. Charlie travelled to balcony. Where is Charlie?\nAnswer: The most recent location of Charlie is balcony.\n</example>\n\n<example>\nAlan moved to the garage. Charlie went to the beach. Alan went to the shop. Rouse travelled to balcony. Where is Alan?\nAnswer: The most recent location of Alan is shop.\n</example>",
    "Always return your answer in the following format: The most recent location of ’person’ is ’location’. Do not write anything else after that.",
];

const QA2: [&str; 3] = [
    "I give you context with the facts about locations and actions of different persons hidden in some random text and a question.You need to answer the question based only on the information from the facts.\nIf a person got an item in the first location and travelled to the second location the item is also in the second location. If a person dropped an item in the first location and moved to the second location the item remains in the first location.",
    "<example>\nCharlie went to the kitchen. Charlie got a bottle. Charlie moved to the balcony. Where is the bottle?\nAnswer: The bottle is in the balcony.\n</example>\n<example>\nAlan moved to the garage. Alan got a screw driver. Alan moved to the kitchen. Where is the screw driver?\nAnswer: The screw driver is in the kitchen.\n</example>",
    "Always return your answer in the following format: The ’item’ is in ’location’. Do not write anything else after that.",
];

const QA3: [&str; 3] = [
    "I give you context with the facts about locations and actions of different persons hidden in some random text and a question. You need to answer the question based only on the information from the facts.\nIf a person got an item in the first location and travelled to the second location the item is also in the second location. If a person dropped an item in the first location and moved to the second location the item remains in the first location.",
    "<example>\nJohn journeyed to the bedroom. Mary grabbed the apple. Mary went back to the bathroom. Daniel journeyed to the bedroom. Daniel moved to the garden. Mary travelled to the kitchen. Where was the apple before the kitchen?\nAnswer: Before the kitchen the apple was in the bathroom.\n</example>\n<example>\nJohn went back to the bedroom. John went back to the garden. John went back to the kitchen. Sandra took the football. Sandra travelled to the garden. Sandra journeyed to the bedroom. Where was the football before the bedroom?\nAnswer: Before the bedroom the football was in the garden.\n</example>",
    "Always return your answer in the following format: Before the $location_1$ the $item$ was in the $location_2$. Do not write anything else after that.",
];

/// A question of a task.
pub(super) struct Prompt<'a> {
    parts: [&'static str; 3],
    question: &'a str,
    /// The words that the right answer begins with, in the form the examples have.
    lead: String,
}

impl<'a> Prompt<'a> {
    /// # Errors
    /// A question that the task does not ask.
    pub(super) fn new(task: BabiTask, question: &'a str) -> Result<Self> {
        let (parts, lead) = match task {
            BabiTask::Qa1 => (
                QA1,
                between(question, "Where is ")
                    .map(|person| format!("The most recent location of {person} is")),
            ),
            BabiTask::Qa2 => (
                QA2,
                between(question, "Where is the ").map(|item| format!("The {item} is in the")),
            ),
            BabiTask::Qa3 => {
                let asked = between(question, "Where was the ");
                let asked = asked.and_then(|asked| asked.split_once(" before the "));
                (
                    QA3,
                    asked.map(|(item, place)| format!("Before the {place} the {item} was in the")),
                )
            }
        };
        let lead = lead.ok_or_else(|| {
            let task = task.name();
            EvalError::settings(format!("{question:?} is not a question of bAbI's {task}"))
        })?;
        Ok(Self {
            parts,
            question,
            lead,
        })
    }

    /// All of it, with the facts and their noise.
    pub(super) fn text(&self, context: &str) -> String {
        let [instruction, examples, post_prompt] = self.parts;
        format!(
            "{instruction}\n\n{examples}\n\n{post_prompt}\n\n<context>\n{}\n</context>\n\nQuestion: {}",
            context.trim(),
            self.question
        )
    }

    /// The tokens of the answer, after those of the words it begins with.
    pub(super) fn told(&self, prompter: &Prompter, answer: &str) -> Result<RightAnswer> {
        // Under a chat template the answer is a message of its own.
        let (before, lead) = if prompter.is_chat() {
            ("", self.lead.clone())
        } else {
            (self.question, format!("\nAnswer: {}", self.lead))
        };
        Ok(RightAnswer {
            lead: prompter.continuation(before, &lead)?,
            tokens: prompter.continuation(&lead, &format!(" {answer}"))?,
        })
    }
}

/// What a question asks for, without its beginning and its mark.
fn between<'a>(question: &'a str, start: &str) -> Option<&'a str> {
    question.strip_prefix(start)?.strip_suffix('?')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_begin_as_in_the_examples() {
        for (task, question, lead) in [
            (
                BabiTask::Qa1,
                "Where is Alan?",
                "The most recent location of Alan is",
            ),
            (
                BabiTask::Qa2,
                "Where is the bottle?",
                "The bottle is in the",
            ),
            (
                BabiTask::Qa3,
                "Where was the apple before the kitchen?",
                "Before the kitchen the apple was in the",
            ),
        ] {
            let prompt = Prompt::new(task, question).unwrap();
            assert_eq!(prompt.lead, lead);
            assert!(prompt.parts[1].contains(&format!("{question}\nAnswer: {lead} ")));
            let text = prompt.text(" A fact. ");
            let end = format!("\n\n<context>\nA fact.\n</context>\n\nQuestion: {question}");
            assert!(text.ends_with(&end), "{text}");
        }
        assert!(Prompt::new(BabiTask::Qa3, "Where is Alan?").is_err());
    }
}
