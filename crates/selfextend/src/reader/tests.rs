use super::*;
use crate::sampling::{Sampler, Sampling};
use crate::speculate::DraftModel;
use crate::test_support::{checkpoint, damaged};
use crate::{Extension, KvType, Model, PositionMap, SessionOptions};
use proptest::prelude::*;
use std::sync::OnceLock;

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
    let model = damaged("qwen2");
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

/// A model that drafts, itself or another one.
fn draft(name: &str, kv_type: KvType) -> Draft {
    Draft::new(&DraftModel::of(checkpoint(name)).with_kv_type(kv_type))
}

const KV_TYPES: [KvType; 4] = [KvType::F32, KvType::F16, KvType::Q8_0, KvType::Q4];

/// A model that drafts for itself guesses everything, also beyond its window of 96 tokens, since both
/// read it under the same map there.
#[test]
fn a_model_guesses_its_own_tokens() {
    for (kv_type, len) in KV_TYPES.into_iter().zip([20, 60, 120, 30]) {
        let (model, prompt) = (checkpoint("llama"), text(len));
        let mut draft = draft("llama", kv_type);
        let context = len + 300;
        let options = draft.model_options(context);
        let mut session = model.session(options.clone()).unwrap();
        let first = session.append(&prompt).unwrap();
        let mut single = model.session(options).unwrap();
        let mut logits = single.append(&prompt).unwrap();
        let mut reader = Reader::new(&mut session, first);
        reader.speculate(&prompt, false, Some(&mut draft)).unwrap();
        cheap(&mut reader);
        for step in 0..100 {
            assert!(reader.logits() == logits, "{kv_type:?}: step {step}");
            let token = Sampler::new(Sampling::new()).unwrap().draw(&logits);
            logits = single.append(&[token]).unwrap();
            assert!(reader.read(token, context - len - step).unwrap());
        }
        let Speculated { proposed, accepted } = reader.speculated().unwrap();
        let ahead = reader.ahead.len() - reader.drawn;
        assert_eq!(accepted + ahead, proposed, "{kv_type:?}");
        assert!(accepted > 60, "{kv_type:?}: {accepted}");
    }
}

/// How a property's case drafts.
#[derive(Debug, Clone)]
struct Case {
    model: &'static str,
    draft: &'static str,
    kv_types: (usize, usize),
    from_repeats: bool,
    /// Of a row, and of a draft model's pass.
    prices: (f64, f64),
    chunk: usize,
    /// Tokens of the first prompt, and of each answer and what is kept of the text after it.
    prompt: usize,
    turns: Vec<(usize, usize)>,
    temperature: f32,
}

fn cases() -> impl Strategy<Value = Case> {
    let names = || prop::sample::select(vec!["llama", "qwen2", "gemma3"]);
    let what = (names(), names(), (0..4usize, 0..4usize), any::<bool>());
    let prices = prop::sample::select(vec![(0.001, 0.001), (0.2, 0.1), (0.05, 0.3), (0.5, 2.0)]);
    let turns = prop::collection::vec((1..40usize, 0..200usize), 1..4);
    let temperature = prop::sample::select(vec![0.0, 0.5, 1.5]);
    let how = (prices, 1..60usize, 1..130usize, turns, temperature);
    (what, how).prop_map(|(what, how)| {
        let (model, draft, kv_types, from_repeats) = what;
        let (prices, chunk, prompt, turns, temperature) = how;
        Case {
            model,
            draft,
            kv_types,
            from_repeats,
            prices,
            chunk,
            prompt,
            turns,
            temperature,
        }
    })
}

fn known(name: &str) -> Model {
    static MODELS: OnceLock<[(&str, Model); 3]> = OnceLock::new();
    let models = || ["llama", "qwen2", "gemma3"].map(|name| (name, checkpoint(name)));
    let found = MODELS.get_or_init(models).iter().find(|it| it.0 == name);
    found.unwrap().1.clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whoever drafts, and however many turns a draft is kept for, each row of logits and the session at
    /// the end are those of single steps.
    #[test]
    fn drafts_change_no_logits(case in cases()) {
        let extension = Extension::from_map(PositionMap::self_extend(4, 16).unwrap(), 64, 1000);
        let options = SessionOptions::new(extension).with_kv_type(KV_TYPES[case.kv_types.0]);
        let (model, drafting) = (known(case.model), DraftModel::of(known(case.draft)));
        let mut draft = Draft::new(&drafting.with_kv_type(KV_TYPES[case.kv_types.1]));
        let mut held = text(case.prompt);
        let sampling = Sampling::new().with_temperature(case.temperature).with_seed(9);
        for (turn, (answer, kept)) in case.turns.iter().copied().enumerate() {
            let mut session = model.session(options.clone()).unwrap();
            let first = session.append(&held).unwrap();
            let mut single = session.fork().unwrap();
            let mut logits = first.clone();
            let mut sampler = Sampler::new(sampling.clone()).unwrap();
            let mut reader = Reader::new(&mut session, first);
            reader.speculate(&held, case.from_repeats, Some(&mut draft)).unwrap();
            if let Some(guesses) = &mut reader.guesses {
                let (row, pass) = case.prices;
                guesses.costs = Costs::known(row, pass, case.chunk);
            }
            for left in (1..=answer).rev() {
                prop_assert!(reader.logits() == logits, "turn {turn}, {left} left");
                let token = sampler.draw(&logits);
                held.push(token);
                logits = single.append(&[token]).unwrap();
                prop_assert!(reader.read(token, left).unwrap());
            }
            prop_assert!(reader.draft_fault().is_none());
            drop(reader);
            prop_assert_eq!(session.len(), held.len());
            prop_assert!(session.append(&[5, 6]).unwrap() == single.append(&[5, 6]).unwrap());
            // The next text has the beginning of this one, or is another one.
            held.truncate(kept.max(1));
            held.extend((0..7).map(|n| (n * 5 + turn as u32) % 60));
        }
    }
}
