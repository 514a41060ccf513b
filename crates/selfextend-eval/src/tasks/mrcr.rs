//! Retrieval among near duplicates in the style of OpenAI's MRCR (huggingface.co/datasets/openai/mrcr;
//! Vodrahalli et al., arXiv 2409.12640): in a long conversation the same request is made several times,
//! among others that differ in a word, and the answer to one of them is to be said again behind a hash.
//!
//! Requests, question and score are those of the data set. Its answers were written by a model; ours are
//! sentences of any books, so an answer says nothing about its request, and only its place in the
//! conversation tells.

use super::data::read_text;
use super::fit::fit_units;
use super::haystack::sentences;
use super::prompt::Prompter;
use crate::error::{EvalError, Result};
use crate::metrics::repetition;
use crate::random::Random;
use crate::sample::{Ask, RightAnswer, Sample, Tags};
use selfextend::chat_template::Message;
use std::path::PathBuf;

const FORMS: [&str; 8] = [
    "poem",
    "riddle",
    "blog post",
    "short scene",
    "news article",
    "speech",
    "letter",
    "short essay",
];
const TOPICS: [&str; 24] = [
    "tapirs",
    "lanterns",
    "harbours",
    "violins",
    "glaciers",
    "beekeepers",
    "comets",
    "bakeries",
    "umbrellas",
    "lighthouses",
    "chess",
    "orchards",
    "trains",
    "puppets",
    "deserts",
    "kites",
    "clocks",
    "rivers",
    "mushrooms",
    "bridges",
    "parrots",
    "gardens",
    "islands",
    "mirrors",
];

/// A sweep over lengths and numbers of needles.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Mrcr {
    /// The books whose sentences are the answers of the conversation.
    pub books: Vec<PathBuf>,
    /// How often the request is made whose answer is asked for; the data set has 2, 4 and 8.
    pub needles: Vec<usize>,
    /// Tokens of context, the answer's included.
    pub lengths: Vec<usize>,
    /// Conversations of each number of needles at each length.
    pub samples: usize,
    /// Seed of everything drawn.
    pub seed: u64,
}

impl Mrcr {
    /// Ten conversations with two and with four needles at each length, with seed 42.
    pub fn new(books: Vec<PathBuf>, lengths: Vec<usize>) -> Self {
        Self {
            books,
            needles: vec![2, 4],
            lengths,
            samples: 10,
            seed: 42,
        }
    }

    /// The samples, the fewest needles first.
    ///
    /// # Errors
    /// Books that cannot be read or hold too few sentences, no needle, lengths too short for the
    /// question.
    pub fn samples(&self, prompter: &Prompter) -> Result<Vec<Sample>> {
        let passages = self.passages()?;
        let mut samples = Vec::new();
        for &needles in &self.needles {
            if needles == 0 || needles > passages.len() {
                return Err(EvalError::settings(format!(
                    "{needles} needles: there must be one, and no more than the {} passages of the books",
                    passages.len()
                )));
            }
            for &length in &self.lengths {
                for number in 0..self.samples {
                    let place = (needles, length, number);
                    samples.push(self.sample(prompter, &passages, place)?);
                }
            }
        }
        Ok(samples)
    }

    /// Single sentences of 60 to 240 characters, each once, without line ends.
    fn passages(&self) -> Result<Vec<String>> {
        let mut passages = Vec::new();
        for path in &self.books {
            for sentence in sentences(&read_text(path)?) {
                let words: Vec<&str> = sentence.split_whitespace().collect();
                let passage = words.join(" ");
                if (60..=240).contains(&passage.len()) {
                    passages.push(passage);
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        passages.retain(|passage| seen.insert(passage.clone()));
        Ok(passages)
    }

    fn sample(
        &self,
        prompter: &Prompter,
        passages: &[String],
        (needles, length, number): (usize, usize, usize),
    ) -> Result<Sample> {
        let seed = self
            .seed
            .wrapping_mul(1_000_003)
            .wrapping_add((1000 * needles + number) as u64);
        let made = |units| Conversation::new(passages, needles, units, &mut Random::new(seed));
        // The same for every size.
        let Conversation { hash, answer, .. } = made(0);
        let told = RightAnswer {
            lead: prompter.continuation("", &hash)?,
            tokens: prompter.continuation(&hash, &answer)?,
        };
        // Some more than the right answer takes.
        let max_tokens = told.len() + 16;
        let limit = length.saturating_sub(max_tokens);
        let found = fit_units(limit, "the conversation", 60, |units| {
            let tokens = prompter.conversation(&made(units).messages)?;
            Ok(((), tokens))
        })?;
        let expected = vec![format!("{hash}{answer}")];
        Ok(Sample {
            id: format!("{needles}/{length}/{number}"),
            tags: Tags::from([
                ("task".into(), format!("{needles} needles").into()),
                ("length".into(), length.into()),
            ]),
            context: length,
            ask: Ask::Answer {
                prompt: found.tokens,
                without_extension: None,
                max_tokens,
                stop: Vec::new(),
                expected,
                answer: told,
                score: Box::new(move |text| repetition(text, &answer, &hash)),
            },
        })
    }
}

/// A conversation that ends with the question.
struct Conversation {
    messages: Vec<Message>,
    hash: String,
    answer: String,
}

impl Conversation {
    /// With `units` requests beside the needles.
    fn new(passages: &[String], needles: usize, units: usize, random: &mut Random) -> Self {
        let hash = letters(random, 10);
        let form = FORMS[random.below(FORMS.len() as u64) as usize];
        let topic = TOPICS[random.below(TOPICS.len() as u64) as usize];
        let asked = random.below(needles as u64) as usize;
        let mut depths: Vec<f64> = (0..needles).map(|_| random.share()).collect();
        depths.sort_by(f64::total_cmp);
        let mut drawn = random.sample(passages.len(), needles);
        let hidden: Vec<&str> = drawn.iter().map(|&n| &*passages[n]).collect();
        let answer = hidden[asked].to_owned();
        // The others come from elsewhere; where the books end they begin again.
        drawn.sort_unstable();
        let start = random.below(passages.len() as u64) as usize;
        let others = (0..passages.len()).cycle().skip(start);
        let others = others.filter(|n| drawn.binary_search(n).is_err());
        let mut exchanges: Vec<(String, &str)> = if needles < passages.len() {
            let others = others.take(units);
            others
                .map(|n| (near_miss(form, topic, random), &*passages[n]))
                .collect()
        } else {
            Vec::new()
        };
        for (n, (passage, depth)) in hidden.into_iter().zip(depths).enumerate() {
            let place = (units as f64 * depth) as usize + n;
            let place = place.min(exchanges.len());
            exchanges.insert(place, (request(form, topic), passage));
        }
        let message = |role: &str, content: String| Message {
            role: role.into(),
            content,
        };
        let mut messages: Vec<Message> = exchanges
            .into_iter()
            .flat_map(|(asked, said)| [message("user", asked), message("assistant", said.into())])
            .collect();
        messages.push(message(
            "user",
            format!(
                "Prepend {hash} to the {} (1 indexed) {form} about {topic}. Do not include any other text in your response.",
                ordinal(asked + 1)
            ),
        ));
        Self {
            messages,
            hash,
            answer,
        }
    }
}

fn request(form: &str, topic: &str) -> String {
    format!("write a {form} about {topic}")
}

/// A request with another form or topic, or both.
fn near_miss(form: &str, topic: &str, random: &mut Random) -> String {
    loop {
        let other_form = FORMS[random.below(FORMS.len() as u64) as usize];
        let other_topic = TOPICS[random.below(TOPICS.len() as u64) as usize];
        // A third each keeps the form, and the topic.
        let (form_now, topic_now) = match random.below(3) {
            0 => (form, other_topic),
            1 => (other_form, topic),
            _ => (other_form, other_topic),
        };
        if (form_now, topic_now) != (form, topic) {
            return request(form_now, topic_now);
        }
    }
}

fn ordinal(n: usize) -> String {
    let end = match (n % 10, n % 100) {
        (1, not) if not != 11 => "st",
        (2, not) if not != 12 => "nd",
        (3, not) if not != 13 => "rd",
        _ => "th",
    };
    format!("{n}{end}")
}

/// Letters and digits.
fn letters(random: &mut Random, count: usize) -> String {
    const ALL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let one = |_| char::from(ALL[random.below(ALL.len() as u64) as usize]);
    (0..count).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_said_in_order() {
        let said: Vec<_> = [1, 2, 3, 4, 11, 12, 13, 21].map(ordinal).into();
        assert_eq!(
            said,
            ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st"]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// The answer is found by counting requests in the conversation.
        #[test]
        fn the_answer_is_the_one_asked_for(needles in 1usize..9, units in 0usize..200, seed: u64) {
            let passages: Vec<String> = (0..300).map(|n| format!("Passage {n}.")).collect();
            let made = |units| Conversation::new(&passages, needles, units, &mut Random::new(seed));
            let Conversation { messages, hash, answer } = made(units);
            prop_assert_eq!((&made(0).hash, &made(0).answer), (&hash, &answer));
            let (last, before) = messages.split_last().unwrap();
            prop_assert_eq!(before.len(), 2 * (needles + units));
            let question = last.content.strip_prefix(&format!("Prepend {hash} to the ")).unwrap();
            let (number, rest) = question.split_once(" (1 indexed) ").unwrap();
            let number: usize = number[..number.len() - 2].parse().unwrap();
            let wanted = rest.split_once(". Do not").unwrap().0;
            let request = format!("write a {wanted}");
            let same: Vec<&str> = before
                .chunks(2)
                .filter(|pair| pair[0].content == request)
                .map(|pair| &*pair[1].content)
                .collect();
            prop_assert_eq!(same.len(), needles);
            prop_assert_eq!(same[number - 1], &*answer);
            let times = before.iter().filter(|message| message.content == answer).count();
            prop_assert_eq!(times, 1);
        }
    }
}
