//! What needs a trained model and its tokenizer: shared prefixes change nothing but the time, and
//! prompts are as long as asked for.

use selfextend::{LoadOptions, Method, TextModel};
use selfextend_eval::tasks::choice::ChoiceTask;
use selfextend_eval::tasks::needle::{Needle, Needles};
use selfextend_eval::tasks::perplexity::{Mode, Perplexity};
use selfextend_eval::tasks::ruler::{Ruler, RulerTask};
use selfextend_eval::tasks::{Prompter, passkey};
use selfextend_eval::{Ask, Evaluation, Record, Sample};
use std::path::PathBuf;

/// A file of `../shared` (or of the folder `SELFEXTEND_SHARED` names).
fn shared(relative: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SELFEXTEND_SHARED").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").into(),
        PathBuf::from,
    );
    let path = root.join(relative);
    if !path.exists() {
        eprintln!("skipped: ../shared/{relative} is absent");
        return None;
    }
    Some(path)
}

fn records(model: &TextModel, samples: Vec<Sample>, share: bool) -> Vec<Record> {
    run(model, samples, |evaluation| evaluation.share = share)
}

fn run(model: &TextModel, samples: Vec<Sample>, set: impl FnOnce(&mut Evaluation)) -> Vec<Record> {
    let methods = ["plain", "selfextend:G=4,W=128"];
    let methods: Vec<Method> = methods.map(|name| name.parse().unwrap()).to_vec();
    let mut evaluation = Evaluation::new(model, methods, samples);
    evaluation.chunk = 100;
    set(&mut evaluation);
    let mut records = Vec::new();
    let mut keep = |record: &Record| {
        records.push(record.clone());
        Ok(())
    };
    evaluation.run(&[], &mut (), &mut keep).unwrap();
    records.sort_by_key(|record| (record.method.clone(), record.index));
    records
}

fn read(records: &[Record]) -> usize {
    records.iter().map(|record| record.read).sum()
}

#[test]
fn shared_prefixes_give_the_results_of_fresh_runs_bit_for_bit() {
    let model = shared("models/stories260K/stories260K-f32.gguf");
    let stories = shared("data/tinystories/tinystories_val.txt");
    let (Some(path), Some(stories)) = (model, stories) else {
        return;
    };
    let model = TextModel::load(&path, LoadOptions::default()).unwrap();
    let mut sweep = passkey::Sweep::new(vec![1000, 1500]);
    sweep.depths = vec![0.0, 0.25, 0.5, 0.75, 1.0];
    sweep.trials = 2;
    sweep.seed = 7;
    let mode = Mode::Sliding {
        stride: 200,
        windows: 3,
    };
    let sliding = Perplexity::new(vec![stories], vec![700], mode);
    let samples = || {
        let prompter = Prompter::new(&model, false).unwrap();
        let mut samples = sweep.samples(&prompter).unwrap();
        samples.extend(sliding.samples(&model).unwrap());
        samples
    };
    let (together, alone) = (
        records(&model, samples(), true),
        records(&model, samples(), false),
    );
    assert_same(&together, &alone);
    // What is behind a key must be computed: half of the tokens for even depths, and one text.
    assert!(
        read(&together) * 10 < read(&alone) * 6,
        "{} {}",
        read(&together),
        read(&alone)
    );
}

fn assert_same(together: &[Record], alone: &[Record]) {
    for (ours, fresh) in together.iter().zip(alone) {
        // Answers, and likelihoods to the last bit.
        assert_eq!((&ours.id, &ours.outcome), (&fresh.id, &fresh.outcome));
    }
    assert_eq!(together.len(), alone.len());
}

/// A map of lengths and depths takes less than half of the tokens that its cells take alone: the
/// text before the needles is the same for all lengths, and so is what follows a needle at its
/// start.
#[test]
fn a_needle_map_takes_half_of_its_cells() {
    let model = shared("models/stories260K/stories260K-f32.gguf");
    let essays = shared("data/pg19/22424.txt");
    let (Some(path), Some(essays)) = (model, essays) else {
        return;
    };
    let model = TextModel::load(&path, LoadOptions::default()).unwrap();
    let mut map = Needle::new(vec![essays], vec![400, 800, 1200, 1600]);
    map.max_tokens = 8;
    map.needles = Needles::Drawn { count: 1, seed: 0 };
    let samples = || {
        let prompter = Prompter::new(&model, false).unwrap();
        map.samples(&prompter).unwrap()
    };
    let (together, alone) = (
        records(&model, samples(), true),
        records(&model, samples(), false),
    );
    assert_same(&together, &alone);
    let (shared, all) = (read(&together), read(&alone));
    assert!(2 * shared < all, "{shared} of {all}");
    // Where it is asked how long a length takes, one text of each is read whole.
    let apart = run(&model, samples(), |evaluation| {
        evaluation.share_lengths = false
    });
    assert_same(&apart, &alone);
    let whole = |records: &[Record]| {
        let whole = records.iter().filter(|record| record.read == record.tokens);
        whole.count()
    };
    assert_eq!((whole(&apart), whole(&together)), (2 * 4, 2));
}

#[test]
fn prompts_are_within_a_hundredth_of_the_length_asked_for() {
    // Passkeys are hidden among whole lines, up to 46 of this model's tokens.
    let model = shared("models/stories260K/stories260K-f32.gguf");
    let essays = shared("data/pg19/22424.txt");
    let (Some(path), Some(essays)) = (model, essays) else {
        return;
    };
    let model = TextModel::load(&path, LoadOptions::default()).unwrap();
    let prompter = Prompter::new(&model, false).unwrap();
    let mut keys = passkey::Sweep::new(vec![16384]);
    (keys.depths, keys.trials) = (vec![0.0, 0.5, 1.0], 2);
    (keys.digits, keys.seed) = (7, 3);
    let mut needles = Needle::new(vec![essays.clone()], vec![1000, 16384]);
    // As long as the needle itself, which is told as the answer.
    (needles.depths, needles.max_tokens) = (vec![0.0, 0.5, 1.0], 64);
    needles.needles = Needles::Drawn { count: 1, seed: 0 };
    // Documents are longer than a hundredth.
    let all = RulerTask::ALL.map(|(_, task)| task).into_iter();
    let tasks = all.filter(|task| !matches!(task, RulerTask::Qa1 | RulerTask::Qa2));
    let tasks = tasks.collect();
    let mut ruler = Ruler::new(tasks, vec![16384]);
    (ruler.samples, ruler.seed) = (2, 5);
    ruler.essays = vec![essays];
    let mut samples = keys.samples(&prompter).unwrap();
    samples.extend(needles.samples(&prompter).unwrap());
    samples.extend(ruler.samples(&prompter).unwrap());
    for sample in samples {
        let Ask::Answer {
            prompt, max_tokens, ..
        } = &sample.ask
        else {
            panic!("{} asks for no answer", sample.id);
        };
        let tokens = prompt.len() + max_tokens;
        assert!(
            tokens <= sample.context && tokens * 100 >= sample.context * 99,
            "{}: {tokens} of {}",
            sample.id,
            sample.context
        );
    }
}

#[test]
fn spaces_at_the_end_of_a_context_belong_to_the_continuation() {
    let Some(path) = shared("models/stories260K/stories260K-f32.gguf") else {
        return;
    };
    let model = TextModel::load(&path, LoadOptions::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("w.jsonl");
    let contexts = ["The cat saw the dog because the cat  ", "The cat saw"];
    let line =
        serde_json::json!({"context_options": contexts, "continuation": "was big.", "gold": 0});
    std::fs::write(&file, line.to_string()).unwrap();
    let samples = ChoiceTask::new(vec![file], 512).samples(&model).unwrap();
    let Ask::Choice { choices, .. } = &samples[0].ask else {
        panic!("{:?}", samples[0].id);
    };
    // `_encode_pair` of lm-evaluation-harness.
    for (context, choice) in contexts.iter().zip(choices) {
        let whole = model.encode(&format!("{context} was big.")).unwrap();
        let known = model.encode(context.trim_end()).unwrap();
        assert_eq!(choice.prompt, known);
        assert_eq!(choice.continuation, whole[known.len()..]);
        assert_eq!(choice.characters, "was big.".len());
    }
}
