//! A session that reads an answer token by token, some of them ahead of time.

use crate::error::{Error, Result};
use crate::session::Session;
use crate::speculate::{Costs, Draft, Guessing, Speculated, Speculation, guess};
use std::time::Instant;

/// Reads the tokens of an answer as they are drawn, and has the logits after the last one.
pub(crate) struct Reader<'a> {
    session: &'a mut Session,
    guesses: Option<Guesses>,
    /// Where the draft goes in the end.
    lent: Option<&'a mut Draft>,
    /// Tokens that the session holds beyond those that were drawn, if they are.
    ahead: Vec<u32>,
    /// How many of them were drawn since.
    drawn: usize,
    /// After the token before the first of them, and after each of them.
    logits: Vec<f32>,
}

/// Where proposals come from, and what they cost.
struct Guesses {
    speculation: Speculation,
    costs: Costs,
}

impl<'a> Reader<'a> {
    /// A session whose last token gave these logits.
    pub fn new(session: &'a mut Session, logits: Vec<f32>) -> Self {
        Self {
            session,
            guesses: None,
            lent: None,
            ahead: Vec::new(),
            drawn: 0,
            logits,
        }
    }

    /// Reads ahead from now on, by repetitions or by a draft. `prompt` is what the session holds.
    ///
    /// # Errors
    /// A device where tokens that pass together get other logits than each alone.
    pub fn speculate(
        &mut self,
        prompt: &[u32],
        from_repeats: bool,
        mut draft: Option<&'a mut Draft>,
    ) -> Result<()> {
        self.session.model().check_exact_steps()?;
        let taken = draft.as_mut().map(|draft| draft.take());
        self.lent = draft;
        self.guesses = Some(Guesses {
            speculation: Speculation::new(prompt, from_repeats, taken),
            costs: Costs::new(self.session.options().chunk),
        });
        Ok(())
    }

    /// What became of the guesses.
    pub fn speculated(&self) -> Option<Speculated> {
        let guesses = self.guesses.as_ref();
        guesses.map(|guesses| guesses.speculation.counts)
    }

    /// Why the draft guesses no more, where it failed.
    pub fn draft_fault(&self) -> Option<&Error> {
        self.guesses.as_ref()?.speculation.fault()
    }

    /// After the last token that was read.
    pub fn logits(&self) -> &[f32] {
        let width = self.logits.len() / (self.ahead.len() + 1);
        &self.logits[self.drawn * width..][..width]
    }

    /// Reads the next token; `left` tokens may follow it. False where the context is full.
    ///
    /// # Errors
    /// Those of [`Session::append`].
    pub fn read(&mut self, token: u32, left: usize) -> Result<bool> {
        if let Some(guesses) = &mut self.guesses {
            guesses.speculation.saw(token);
        }
        if self.ahead.get(self.drawn) == Some(&token) {
            self.drawn += 1;
            if let Some(guesses) = &mut self.guesses {
                guesses.speculation.counts.accepted += 1;
            }
            return Ok(true);
        }
        self.take_back();
        let room = self.session.context() - self.session.len();
        if room == 0 {
            return Ok(false);
        }
        // The last of the tokens that may follow is drawn and not read.
        let most = left.saturating_sub(1).min(room - 1);
        let mut tokens = vec![token];
        if let Some(guesses) = &mut self.guesses {
            tokens.append(&mut guesses.proposals(most));
        }
        match self.pass(&tokens) {
            // A wrong guess must not fail what is right without it.
            Err(Error::NotFinite { .. } | Error::NotFiniteIn { .. }) if tokens.len() > 1 => {
                tokens.truncate(1);
                self.pass(&tokens)?;
            }
            read => read?,
        }
        self.ahead.extend_from_slice(&tokens[1..]);
        Ok(true)
    }

    /// One pass over a token that was drawn and the proposals after it.
    fn pass(&mut self, tokens: &[u32]) -> Result<()> {
        let Self {
            session, logits, ..
        } = self;
        logits.clear();
        let start = Instant::now();
        session.append_steps(tokens, |_, row| logits.extend_from_slice(row))?;
        if let Some(guesses) = &mut self.guesses {
            let seconds = start.elapsed().as_secs_f64();
            guesses.costs.pass.note(tokens.len(), seconds);
            guesses.speculation.counts.proposed += tokens.len() - 1;
        }
        Ok(())
    }

    /// Takes back tokens that were not drawn.
    fn take_back(&mut self) {
        let wrong = self.ahead.len() - self.drawn;
        if wrong > 0 {
            let len = self.session.len() - wrong;
            let left = self.session.truncate(len);
            // Fewer than a page can always be taken back.
            debug_assert_eq!(left, len);
        }
        self.ahead.clear();
        self.drawn = 0;
    }
}

/// The session ends as it would without guesses.
impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.take_back();
        let guesses = self.guesses.take();
        let draft = guesses.and_then(|guesses| guesses.speculation.into_draft());
        if let (Some(lent), Some(draft)) = (self.lent.take(), draft) {
            *lent = draft;
        }
    }
}

impl Guesses {
    fn proposals(&mut self, most: usize) -> Vec<u32> {
        let sequence = Guessing {
            speculation: Some(&mut self.speculation),
            most,
        };
        let proposed = guess(&mut [sequence], &mut self.costs, &|| {});
        proposed.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::{Sampler, Sampling};
    use crate::{Extension, LoadOptions, Model, PositionMap, SessionOptions};

    fn checkpoint(name: &str) -> Model {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/checkpoints");
        let path = format!("{root}/{name}/model.gguf");
        Model::load(path, LoadOptions::new().with_threads(1)).unwrap()
    }

    fn start(model: &Model, prompt: &[u32]) -> (Session, Vec<f32>) {
        let map = PositionMap::self_extend(4, 16).unwrap();
        let extension = Extension::from_map(map, 64, 1000);
        let mut session = model.session(SessionOptions::new(extension)).unwrap();
        let logits = session.append(prompt).unwrap();
        (session, logits)
    }

    fn text(len: usize) -> Vec<u32> {
        (0..len as u32).map(|i| i * i * 7 % 23 + i % 3).collect()
    }

    /// Rows are cheap, so that all guesses are tried, right or wrong.
    fn guessing(reader: &mut Reader, prompt: &[u32]) {
        reader.speculate(prompt, true, None).unwrap();
        cheap(reader);
    }

    fn cheap(reader: &mut Reader) {
        if let Some(guesses) = &mut reader.guesses {
            guesses.costs = Costs::known(0.001, 0.001, 32);
        }
    }

    #[test]
    fn logits_and_session_are_those_of_single_steps() {
        for (name, temperature) in [
            ("llama", 0.0),
            ("qwen2", 0.0),
            ("llama", 0.4),
            ("gemma3", 2.0),
        ] {
            let (model, prompt) = (checkpoint(name), text(90));
            let sampling = Sampling::new().with_temperature(temperature).with_seed(3);
            let (mut single, mut logits) = start(&model, &prompt);
            let (mut session, first) = start(&model, &prompt);
            let mut sampler = Sampler::new(sampling).unwrap();
            let mut reader = Reader::new(&mut session, first);
            guessing(&mut reader, &prompt);
            let mut ends = Vec::new();
            for n in 0..200 {
                assert!(reader.logits() == logits, "{name} {temperature}: step {n}");
                let token = sampler.draw(&logits);
                logits = single.append(&[token]).unwrap();
                assert!(reader.read(token, 1000).unwrap());
                ends.push(reader.ahead.len() - reader.drawn);
            }
            let Speculated { proposed, accepted } = reader.speculated().unwrap();
            assert!(proposed >= accepted && proposed > 30, "{name}: {proposed}");
            if temperature == 0.0 {
                assert!(accepted > 20, "{name}: {accepted}");
            }
            // It ends where tokens are ahead as where none are.
            drop(reader);
            assert_eq!(session.len(), single.len());
            let next = [5, 6, 7];
            assert_eq!(
                session.append(&next).unwrap(),
                single.append(&next).unwrap()
            );
            assert!(ends.contains(&0) && ends.iter().any(|&ahead| ahead > 0));
        }
    }

    #[test]
    fn no_more_is_read_than_may_be() {
        let (model, prompt) = (checkpoint("llama"), [1, 2].repeat(30));
        for room in 0..5 {
            for left in 0..4 {
                let extension = Extension::plain(64, prompt.len() + room);
                let mut session = model.session(extension).unwrap();
                let logits = session.append(&prompt).unwrap();
                let mut reader = Reader::new(&mut session, logits);
                guessing(&mut reader, &prompt);
                assert_eq!(reader.read(1, left).unwrap(), room > 0);
                let expected = room.saturating_sub(1).min(left.saturating_sub(1));
                assert_eq!(reader.ahead.len(), expected, "{room} {left}");
            }
        }
    }

    /// A token that the model has no numbers for is guessed and never drawn.
    #[test]
    fn a_guess_that_gives_no_numbers_fails_nothing() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/checkpoints/qwen2");
        let folder = tempfile::tempdir().unwrap();
        let copy = |name: &str| std::fs::copy(format!("{root}/{name}"), folder.path().join(name));
        copy("config.json").unwrap();
        let mut bytes = std::fs::read(format!("{root}/model.safetensors")).unwrap();
        let at = {
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let embedding = file.tensor("model.embed_tokens.weight").unwrap();
            embedding.data().as_ptr() as usize - bytes.as_ptr() as usize
        };
        bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        let model = Model::load(folder.path(), LoadOptions::new().with_threads(1)).unwrap();
        let (mut session, logits) = start(&model, &[3, 4, 5]);
        let mut single = session.fork().unwrap();
        let mut reader = Reader::new(&mut session, logits);
        // After 8 and 9 comes token 0, whose embedding is damaged.
        guessing(&mut reader, &[8, 9, 0, 3, 4, 5]);
        for token in [8, 9, 4] {
            let expected = single.append(&[token]).unwrap();
            assert!(reader.read(token, 100).unwrap());
            assert_eq!(reader.logits(), expected);
        }
        let counts = reader.speculated().unwrap();
        assert_eq!((counts.proposed, counts.accepted), (0, 0));
        assert!(matches!(reader.read(0, 100), Err(Error::NotFinite { .. })));
        drop(reader);
        assert_eq!(session.len(), 6);
    }
}
