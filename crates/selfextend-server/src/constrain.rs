//! Answers held to a JSON schema, by a grammar that says which tokens may come next.

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{
    ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokRxInfo, TokTrie,
};
use llguidance::{Matcher, ParserFactory};
use selfextend::tokenizer::Tokenizer;
use selfextend::{Error, Result};
use std::sync::Arc;

/// Makes constraints over one vocabulary.
pub struct Constraints {
    factory: ParserFactory,
}

/// What answers are held to.
#[derive(Debug, Clone)]
pub enum Grammar {
    /// One JSON value of a schema.
    Json(serde_json::Value),
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// One of some texts, of which there is at least one and none is empty.
    Choice(Vec<String>),
    /// A text of a grammar in Lark's notation.
    Lark(String),
}

/// The state of one answer in its grammar.
pub struct Constraint(Matcher);

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("Constraint")
    }
}

impl Constraints {
    /// Reads the vocabulary.
    ///
    /// # Errors
    /// A vocabulary without an end token, or one that the grammars cannot use.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        let size = tokenizer.vocab_size();
        let ends: Vec<u32> = tokenizer.end_tokens().iter().copied().collect();
        let &end = ends.first().ok_or("the model has no end token")?;
        let word = |id: u32| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            if tokenizer.is_control(id) {
                // Never part of a text, so no grammar may match its name.
                let marked = std::iter::once(TokTrie::SPECIAL_TOKEN_MARKER);
                marked.chain(bytes.iter().copied()).collect()
            } else {
                bytes.into_owned()
            }
        };
        let words: Vec<Vec<u8>> = (0..size as u32).map(word).collect();
        let info = TokRxInfo::new(size as u32, end);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(&ends);
        let env: Arc<dyn llguidance::toktrie::TokenizerEnv + Sync> =
            Arc::new(ApproximateTokEnv::new(trie));
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices);
        let mut factory = factory.map_err(|error| error.to_string())?;
        factory.quiet();
        Ok(Self { factory })
    }

    /// A constraint to a grammar.
    ///
    /// # Errors
    /// What is wrong with the grammar, or not supported.
    pub fn hold_to(&self, grammar: Grammar) -> Result<Constraint, String> {
        match grammar {
            Grammar::Json(schema) => self.json(schema),
            Grammar::Regex(expression) => self.compile(TopLevelGrammar::from_regex(&expression)),
            Grammar::Choice(texts) => {
                // A text of Lark's is written as one of JSON.
                let quoted = texts
                    .into_iter()
                    .map(|text| serde_json::Value::from(text).to_string());
                let rule = format!("start: {}", quoted.collect::<Vec<_>>().join(" | "));
                self.compile(TopLevelGrammar::from_lark(rule))
            }
            Grammar::Lark(grammar) => self.compile(TopLevelGrammar::from_lark(grammar)),
        }
    }

    /// A constraint to one JSON value of this schema.
    ///
    /// # Errors
    /// What is wrong with the schema, or not supported.
    fn json(&self, mut schema: serde_json::Value) -> Result<Constraint, String> {
        if schema == true {
            // The same, where options can be written.
            schema = serde_json::json!({});
        }
        if let Some(object) = schema.as_object_mut() {
            // Where white space is free, small models may write nothing else.
            let compact = serde_json::json!({
                "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": ",
            });
            object.insert("x-guidance".to_owned(), compact);
        }
        self.compile(TopLevelGrammar::from_json_schema(schema))
    }

    fn compile(&self, grammar: TopLevelGrammar) -> Result<Constraint, String> {
        let matcher = Matcher::new(self.factory.create_parser(grammar));
        match matcher.get_error() {
            Some(error) => Err(error),
            None => Ok(Constraint(matcher)),
        }
    }
}

impl Constraint {
    /// A copy of the state, for another answer.
    pub fn fork(&self) -> Self {
        Self(self.0.deep_clone())
    }

    /// The tokens that may come next; at the end of the value, only end tokens.
    pub fn mask(&mut self) -> Result<SimpleVob> {
        self.0.compute_mask_or_eos().map_err(failed)
    }

    /// Advances by one token.
    pub fn consume(&mut self, token: u32) -> Result<()> {
        self.0.consume_token(token).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Constraint(error.to_string())
}
