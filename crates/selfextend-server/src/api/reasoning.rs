//! What a model thinks before it answers, apart from its answer.

/// The markers around a model's thoughts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thinking {
    pub open: &'static str,
    pub close: &'static str,
}

/// The markers that templates show.
const KNOWN: [(&str, &str); 6] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
];

impl Thinking {
    /// The markers of a template; none where it shows none.
    pub fn of_template(template: &str) -> Option<Self> {
        let shown =
            |(open, close): &(&str, &str)| template.contains(open) || template.contains(close);
        let found = KNOWN.into_iter().find(shown);
        found.map(|(open, close)| Self { open, close })
    }

    /// Whether a prompt that ends so has begun the thoughts.
    pub fn is_open(self, end_of_prompt: &str) -> bool {
        end_of_prompt.trim_end().ends_with(self.open)
    }
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thought {
    /// Thoughts.
    Inner(String),
    /// The answer.
    Said(String),
}

/// Splits a stream of text. Thoughts are at the beginning of an answer alone; white space around them
/// is part of neither.
pub struct Splitter {
    thinking: Thinking,
    state: State,
    held: String,
    /// White space of thoughts that may be their last.
    space: String,
    /// Whether anything of what is told now was told.
    told: bool,
}

#[derive(PartialEq)]
enum State {
    Before,
    Inside,
    /// Behind the thoughts.
    After,
    /// There were none.
    Without,
}

impl Splitter {
    /// For an answer that follows a prompt which may have begun the thoughts.
    pub fn new(thinking: Thinking, opened: bool) -> Self {
        Self {
            thinking,
            state: if opened { State::Inside } else { State::Before },
            held: String::new(),
            space: String::new(),
            told: false,
        }
    }

    /// Whether what comes next is, as far as is known, a thought.
    pub fn is_inside(&self) -> bool {
        self.state == State::Inside
    }

    /// Takes text and returns what is certain with it.
    pub fn push(&mut self, text: &str) -> Vec<Thought> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while self.step(&mut parts, false) {}
        parts
    }

    /// The rest, once nothing follows.
    pub fn finish(&mut self) -> Vec<Thought> {
        let mut parts = Vec::new();
        while self.step(&mut parts, true) {}
        parts
    }

    /// Whether there is more to do.
    fn step(&mut self, parts: &mut Vec<Thought>, ended: bool) -> bool {
        match self.state {
            State::Before => {
                let text = self.held.trim_start();
                let open = self.thinking.open;
                if let Some(rest) = text.strip_prefix(open) {
                    self.held = rest.to_owned();
                    self.state = State::Inside;
                    return true;
                }
                if open.starts_with(text) && !ended {
                    return false;
                }
                self.state = State::Without;
                true
            }
            State::Inside => {
                let close = self.thinking.close;
                let (end, closed) = match self.held.find(close) {
                    Some(at) => (at, true),
                    None if ended => (self.held.len(), false),
                    None => (self.held.len() - partial(&self.held, close), false),
                };
                let text: String = self.held.drain(..end).collect();
                self.think(&text, parts);
                if closed {
                    self.held.drain(..close.len());
                    (self.state, self.told) = (State::After, false);
                }
                closed
            }
            State::After | State::Without => {
                let mut text = std::mem::take(&mut self.held);
                if self.state == State::After && !self.told {
                    text = text.trim_start().to_owned();
                }
                if !text.is_empty() {
                    self.told = true;
                    parts.push(Thought::Said(text));
                }
                false
            }
        }
    }

    fn think(&mut self, text: &str, parts: &mut Vec<Thought>) {
        let text = if self.told { text } else { text.trim_start() };
        let kept = text.trim_end().len();
        if kept > 0 {
            let mut all = std::mem::take(&mut self.space);
            all.push_str(&text[..kept]);
            parts.push(Thought::Inner(all));
            self.told = true;
        }
        self.space.push_str(&text[kept..]);
    }
}

/// Bytes at the end of a text that begin a marker.
fn partial(text: &str, marker: &str) -> usize {
    let starts = (1..marker.len())
        .rev()
        .filter(|n| marker.is_char_boundary(*n));
    starts
        .into_iter()
        .find(|n| text.ends_with(&marker[..*n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THINK: Thinking = Thinking {
        open: "<think>",
        close: "</think>",
    };

    /// Thoughts and answer of a text that comes in pieces.
    fn split(pieces: &[&str], opened: bool) -> (String, String) {
        let mut splitter = Splitter::new(THINK, opened);
        let mut all: Vec<Thought> = Vec::new();
        for piece in pieces {
            all.extend(splitter.push(piece));
        }
        all.extend(splitter.finish());
        let (mut inner, mut said) = (String::new(), String::new());
        for thought in all {
            match thought {
                Thought::Inner(text) => inner.push_str(&text),
                Thought::Said(text) => said.push_str(&text),
            }
        }
        (inner, said)
    }

    #[test]
    fn thoughts_are_apart_from_what_is_said() {
        let cases = [
            ("<think>\na b\n</think>\n\nYes", false, "a b", "Yes"),
            ("a </think>Yes", true, "a", "Yes"),
            ("a", true, "a", ""),
            ("Yes <think>a</think>", false, "", "Yes <think>a</think>"),
            ("\n<think>\n\n</think>\n\n Hi ", false, "", "Hi "),
            ("<thin", false, "", "<thin"),
            (" Hi", false, "", " Hi"),
        ];
        for (text, opened, inner, said) in cases {
            assert_eq!(
                split(&[text], opened),
                (inner.to_owned(), said.to_owned()),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(
            words in proptest::collection::vec("<think>|</think>|</|<|a|\n| |é", 0..12),
            cuts in proptest::collection::vec(any::<bool>(), 40),
            opened: bool,
        ) {
            let text = words.concat();
            let mut pieces = vec![String::new()];
            for (n, c) in text.chars().enumerate() {
                if cuts.get(n).copied().unwrap_or(true) {
                    pieces.push(String::new());
                }
                pieces.last_mut().unwrap().push(c);
            }
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(split(&pieces, opened), split(&[&text], opened));
        }
    }
}
