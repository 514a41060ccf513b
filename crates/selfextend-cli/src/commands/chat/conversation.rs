//! The state of a conversation: its messages, and which of their tokens the session holds.

use crate::args::chat::ChatArgs;
use crate::commands::answer::{Answer, answer};
use crate::error::{CliError, Result};
use crate::output;
use crate::setup::{Setup, TextCache, as_extension};
use selfextend::chat_template::{ChatTemplate, Message};
use selfextend::speculate::Draft;
use selfextend::{GenerateOptions, Session, TextModel};

/// A conversation with a model.
pub struct Conversation<'a> {
    args: &'a ChatArgs,
    setup: &'a Setup,
    model: &'a TextModel,
    options: GenerateOptions,
    messages: Vec<Message>,
    attached: Option<String>,
    session: Session,
    cache: TextCache<'a>,
    /// It reads the conversation too, and keeps what it read of it.
    draft: Option<Draft>,
    /// The tokens that the session holds.
    held: Vec<u32>,
    totals: Totals,
}

/// The sums over all turns.
#[derive(Default)]
struct Totals {
    turns: usize,
    read: usize,
    reused: usize,
    read_s: f64,
    written: usize,
    write_s: f64,
}

impl<'a> Conversation<'a> {
    /// A conversation without messages.
    pub fn new(
        args: &'a ChatArgs,
        setup: &'a Setup,
        model: &'a TextModel,
        draft: Option<Draft>,
        options: GenerateOptions,
    ) -> Result<Self> {
        if model.template.is_none() {
            return Err(CliError::failure(format!(
                "{} has no chat template, so it cannot chat; `selfextend run --raw` continues a text",
                args.model.load.model
            )));
        }
        if let Some(fault) = model.template.as_ref().and_then(ChatTemplate::fault) {
            return Err(selfextend::Error::from(fault.clone()).into());
        }
        let session = first_session(args, setup, model)?;
        let mut this = Self {
            args,
            setup,
            model,
            options,
            messages: Vec::new(),
            attached: None,
            session,
            cache: TextCache::new(&args.cache, &setup.source),
            draft,
            held: Vec::new(),
            totals: Totals::default(),
        };
        this.messages = this.opening();
        Ok(this)
    }

    /// Attaches a text to the next message.
    pub fn attach(&mut self, text: String) {
        let before = self
            .attached
            .take()
            .map_or(String::new(), |before| format!("{}\n\n", before.trim_end()));
        self.attached = Some(before + &text);
    }

    /// Forgets everything but the user's settings.
    pub fn reset(&mut self) -> Result<()> {
        self.session = first_session(self.args, self.setup, self.model)?;
        self.held.clear();
        self.attached = None;
        self.messages = self.opening();
        self.totals = Totals::default();
        Ok(())
    }

    /// Takes a message; `on_text` gets the answer. Returns a line of statistics. After an error the
    /// message is forgotten, but not the text attached to it.
    pub fn turn(
        &mut self,
        message: &str,
        on_text: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<String> {
        let content = match &self.attached {
            Some(text) => format!("{}\n\n{message}", text.trim_end()),
            None => message.to_owned(),
        };
        self.messages.push(Message {
            role: "user".into(),
            content,
        });
        match self.reply(on_text) {
            Ok((text, statistics)) => {
                self.attached = None;
                self.messages.push(Message {
                    role: "assistant".into(),
                    content: text,
                });
                Ok(statistics)
            }
            Err(error) => {
                self.messages.pop();
                Err(error)
            }
        }
    }

    /// How much of the context is used, and the speed so far.
    pub fn statistics(&self) -> String {
        let totals = &self.totals;
        let draft = self.draft.as_ref().map_or(0, Draft::cache_bytes);
        format!(
            "[{} turns | context {}/{} tokens, KV cache {} | {} tokens read ({} more reused), {:.0} tok/s | {} written, {:.1} tok/s | {}]",
            totals.turns,
            self.session.len(),
            self.session.context(),
            output::size(self.session.cache_bytes() + draft),
            totals.read,
            totals.reused,
            output::rate(totals.read, totals.read_s),
            totals.written,
            output::rate(totals.written, totals.write_s),
            self.session.extension(),
        )
    }

    fn opening(&self) -> Vec<Message> {
        let system = |text: &String| Message {
            role: "system".into(),
            content: text.clone(),
        };
        self.args.system.iter().map(system).collect()
    }

    fn reply(&mut self, on_text: &mut dyn FnMut(&str) -> Result<()>) -> Result<(String, String)> {
        let prompt = self.model.encode_chat(&self.messages)?.unwrap_or_default();
        self.make_room(prompt.len())?;
        let kept = self.keep_common(&prompt);
        let result = answer(
            &mut self.session,
            &self.model.tokenizer,
            &prompt,
            &self.options,
            self.draft.as_mut(),
            Some(&self.cache),
            on_text,
        );
        // Even after an error, the session knows how much of this it holds.
        self.held = prompt;
        if let Ok(answer) = &result {
            self.held.extend(&answer.generation.tokens);
        }
        self.held.truncate(self.session.len());
        self.held.truncate(self.session.truncate(self.held.len()));
        let answer = result?;
        self.totals.add(kept, &answer);
        let statistics = answer.statistics(&self.session);
        Ok((answer.generation.text, statistics))
    }

    /// Keeps what the session holds of the prompt, except its last token, whose logits are needed.
    /// Returns how many tokens that is.
    fn keep_common(&mut self, prompt: &[u32]) -> usize {
        let same = self
            .held
            .iter()
            .zip(prompt)
            .take_while(|(held, new)| held == new)
            .count();
        let kept = same.min(prompt.len().saturating_sub(1));
        // A method that forgets keys may have to start over.
        let kept = self.session.truncate(kept);
        self.held.truncate(kept);
        kept
    }

    /// Makes the prompt and its answer fit, by extending the window as far as the user allows. Where
    /// no context was set, the new one is twice what is needed, so that this does not happen at every
    /// turn: keys under other settings must be computed again.
    fn make_room(&mut self, prompt: usize) -> Result<()> {
        let (context, wanted) = (self.session.context(), prompt + self.options.max_tokens);
        if wanted <= context {
            return Ok(());
        }
        let trained = self.model.model.config().trained_window;
        let choice = &self.setup.choice;
        let most = match choice.asked_context(trained) {
            None if self.args.model.no_extend => Some(trained),
            asked => asked,
        };
        if most.is_some_and(|most| context >= most) {
            if prompt < context {
                return Ok(());
            }
            return Err(CliError::usage(format!(
                "{prompt} tokens of conversation do not fit the context of {context}: use /reset, or start with a larger --context"
            )));
        }
        let needed = most.map_or(2 * wanted, |most| wanted.min(most));
        let extension = choice.for_text(needed, trained)?.extension;
        output::note(&format!(
            "note: the conversation outgrows the context of {context} tokens: extended to {} with {}, and read again",
            extension.context(),
            as_extension(&extension),
        ));
        self.session = self
            .model
            .model
            .session(self.setup.source.options(extension))?;
        self.held.clear();
        Ok(())
    }
}

/// A session for a conversation that has just begun: under the method that was asked for, under the
/// group size as far as it reaches, else plain.
fn first_session(args: &ChatArgs, setup: &Setup, model: &TextModel) -> Result<Session> {
    let trained = model.model.config().trained_window;
    let choice = &setup.choice;
    let extension = match choice.asked_context(trained) {
        Some(context) if args.model.group_size.is_some() => choice.for_context(context, trained)?,
        _ => choice.for_text(1, trained)?.extension,
    };
    Ok(model.model.session(setup.source.options(extension))?)
}

impl Totals {
    fn add(&mut self, reused: usize, answer: &Answer) {
        self.turns += 1;
        self.reused += reused;
        self.read += answer.prefill_tokens;
        self.read_s += answer.prefill_s;
        self.written += answer.generation.tokens.len();
        self.write_s += answer.decode_s;
    }
}
