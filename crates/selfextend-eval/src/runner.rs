//! Runs samples under methods, one result at a time.

use crate::cost::{Speed, Work};
use crate::error::{EvalError, Result};
use crate::measure::Run;
use crate::reader::{Reader, first_new};
use crate::record::{Header, Outcome, Record};
use crate::sample::{Ask, Choice, Sample, Shard, digest};
use crate::tasks::ablation::PLAIN;
use selfextend::{DEFAULT_CHUNK, KvType, Method, SessionOptions, TextModel};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// Positions in a block of a likelihood: what bootstrap intervals draw from, and the finest
/// resolution of a curve.
pub const BLOCK: usize = 256;

/// Samples, methods, and how they run.
pub struct Runner<'a> {
    /// The model.
    pub model: &'a TextModel,
    /// The methods; each gets every sample.
    pub methods: Vec<Method>,
    /// The samples; prefixes that some share are computed once.
    pub samples: Vec<Sample>,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Tokens of a prefill that pass through the model together.
    pub chunk: usize,
    /// Whether shared prefixes are computed once. The results are the same, on the CPU bit for bit.
    pub share: bool,
    /// Whether samples of different contexts share them too. Where seconds and memory of a length
    /// are the question, they do not.
    pub share_lengths: bool,
    /// Whether a method that cannot reach a sample's context is noted instead of refused.
    pub allow_unreachable: bool,
    /// Which part of the pairs of a method and a sample runs here.
    pub shard: Shard,
}

/// Hears how a run goes, and may stop it.
pub trait Observer: Send {
    /// The run is about to start; `plan.work` is what the whole of it takes.
    fn plan(&mut self, plan: &Plan) {
        let _ = plan;
    }

    /// A sample starts under a method.
    fn start(&mut self, id: &str, method: &str) {
        let _ = (id, method);
    }

    /// So much work of the plan is done.
    fn progress(&mut self, work: f64) {
        let _ = work;
    }

    /// Whether to stop as soon as possible.
    fn stop(&self) -> bool {
        false
    }
}

/// Nobody listens.
impl Observer for () {}

/// What is left to do, and what it takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Results of this run, those of other shards not counted.
    pub results: usize,
    /// Of these, how many were there before.
    pub done: usize,
    /// Tokens to prefill.
    pub tokens: usize,
    /// Tokens to prefill if no prefix were shared.
    pub tokens_alone: usize,
    /// The most tokens to generate.
    pub answer_tokens: usize,
    /// The work in operations of a prefill.
    pub work: f64,
    /// Estimated seconds, from a measurement of a moment.
    pub seconds: f64,
}

impl<'a> Runner<'a> {
    /// A run of some samples under some methods.
    pub fn new(model: &'a TextModel, methods: Vec<Method>, samples: Vec<Sample>) -> Self {
        Self {
            model,
            methods,
            samples,
            kv_type: KvType::default(),
            chunk: DEFAULT_CHUNK,
            share: true,
            share_lengths: true,
            allow_unreachable: false,
            shard: Shard::WHOLE,
        }
    }

    /// The header of this run's results.
    pub fn header(&self, task: &str, settings: Map<String, Value>) -> Header {
        Header {
            selfextend_eval: Header::FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            task: task.into(),
            settings,
            methods: self.methods.iter().map(Method::to_string).collect(),
            samples: self.samples.len(),
            digest: digest(&self.samples),
            shard: self.shard,
        }
    }

    /// Runs every sample under every method but those in `done`; each result goes to `keep` as
    /// soon as it is there.
    ///
    /// # Errors
    /// A method that cannot reach a sample's context (unless that is allowed), before anything
    /// runs; whatever the engine or `keep` returns; [`selfextend::Error::Stopped`] if the
    /// observer stops the run.
    pub fn run(
        &self,
        done: &[Record],
        observer: &mut dyn Observer,
        keep: &mut dyn FnMut(&Record) -> Result<()>,
    ) -> Result<()> {
        self.check()?;
        let work = Work::of(self.model.model.config());
        let speed = Speed::measure(&self.model.model, self.chunk)?;
        let done = finished(done);
        observer.plan(&self.planned(&done, work, speed));
        let mut run = Run {
            runner: self,
            work,
            decode_weight: speed.decode_weight,
            finished: 0.0,
        };
        for (method, turns) in self.methods.iter().zip(self.turns(work)) {
            let name = method.to_string();
            let mut open: Option<(String, Reader)> = None;
            for Turn { index, session } in turns {
                if done.contains(&(&*name, index)) {
                    continue;
                }
                let sample = &self.samples[index];
                observer.start(&sample.id, &name);
                let result = match session {
                    Ok(options) => {
                        let reader = self.reader(&mut open, options)?;
                        run.sample(index, method, reader, observer)?
                    }
                    Err(error) => {
                        let reason = error.to_string();
                        record(sample, index, &name, Outcome::Unreachable { reason })
                    }
                };
                keep(&result)?;
            }
        }
        Ok(())
    }

    /// What is left to do. Measures the machine for a moment.
    ///
    /// # Errors
    /// As [`run`](Self::run), before anything runs.
    pub fn plan(&self, done: &[Record]) -> Result<Plan> {
        self.check()?;
        let work = Work::of(self.model.model.config());
        let speed = Speed::measure(&self.model.model, self.chunk)?;
        Ok(self.planned(&finished(done), work, speed))
    }

    /// The session for these options: the open one, if they are its own.
    fn reader<'r>(
        &self,
        open: &'r mut Option<(String, Reader)>,
        options: SessionOptions,
    ) -> Result<&'r mut Reader> {
        let key = self.session_key(&options);
        if open.as_ref().is_some_and(|(ours, _)| *ours != key) {
            *open = None;
        }
        let reader = match open.take() {
            Some((_, reader)) => reader,
            None => Reader::new(&self.model.model, options, self.share)?,
        };
        Ok(&mut open.insert((key, reader)).1)
    }

    fn options(&self, method: &Method, sample: &Sample) -> Result<SessionOptions> {
        let trained = self.model.model.config().trained_window;
        let extension =
            method
                .resolve(trained, sample.context)
                .map_err(|source| EvalError::Method {
                    method: method.to_string(),
                    context: sample.context,
                    source,
                })?;
        Ok(SessionOptions::new(extension)
            .with_kv_type(self.kv_type)
            .with_chunk(self.chunk))
    }

    /// Whether every method reaches every sample's context, and no name is there twice.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<()> {
        if self.samples.is_empty() {
            return Err(EvalError::settings("there are no samples to run"));
        }
        let mut names: Vec<_> = self.methods.iter().map(Method::to_string).collect();
        names.sort();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(EvalError::settings(format!("{} is there twice", twice[0])));
        }
        let mut ids = HashSet::new();
        if let Some(twice) = self.samples.iter().find(|sample| !ids.insert(&sample.id)) {
            return Err(EvalError::settings(format!(
                "two samples are called {}",
                twice.id
            )));
        }
        if self.allow_unreachable {
            return Ok(());
        }
        let mut pairs = self
            .methods
            .iter()
            .flat_map(|method| self.samples.iter().map(move |sample| (method, sample)));
        pairs.try_for_each(|(method, sample)| self.options(method, sample).map(drop))
    }

    /// The samples of this shard under each method, in the order in which they run. A shard is a
    /// part of all pairs, method by method.
    fn turns(&self, work: Work) -> Vec<Vec<Turn>> {
        let mut ordered: Vec<_> = self
            .methods
            .iter()
            .map(|method| self.order(method))
            .collect();
        let cost = |turn: &Turn| -> f64 {
            let sequences = self.samples[turn.index].sequences();
            let costs = sequences.iter().map(|tokens| work.span(0, tokens.len()));
            costs.sum()
        };
        let costs: Vec<f64> = ordered.iter().flatten().map(cost).collect();
        let mine = self.shard.range(&costs);
        let samples = self.samples.len();
        for (number, turns) in ordered.iter_mut().enumerate() {
            let inside = |pair: usize| pair.saturating_sub(number * samples).min(samples);
            turns.truncate(inside(mine.end));
            turns.drain(..inside(mine.start).min(turns.len()));
        }
        ordered
    }

    /// All samples in the order that computes least: those of a session after one another, the
    /// longest of them says how much it must hold, and sorted by their tokens. That is a walk
    /// through the tree of all prompts, branch by branch, so that what some prompts have in
    /// common, of whatever length they are, is computed once. (Also where nothing is shared: which
    /// pairs a shard has does not depend on it.)
    fn order(&self, method: &Method) -> Vec<Turn> {
        let turn = |(index, sample)| Turn {
            index,
            session: self.options(method, sample),
        };
        let turns: Vec<Turn> = self.samples.iter().enumerate().map(turn).collect();
        let mut sessions: Vec<(String, usize, Vec<Turn>)> = Vec::new();
        for turn in turns {
            let (key, context) = match &turn.session {
                Ok(options) => (self.session_key(options), options.extension.context()),
                Err(_) => (String::new(), 0),
            };
            match sessions.iter_mut().find(|(ours, ..)| *ours == key) {
                Some((_, most, turns)) => {
                    *most = context.max(*most);
                    turns.push(turn);
                }
                None => sessions.push((key, context, vec![turn])),
            }
        }
        let sessions = sessions.into_iter().flat_map(|(_, context, mut turns)| {
            let first = |turn: &Turn| parts(&self.samples[turn.index], method)[0].0;
            turns.sort_by(|a, b| first(a).cmp(first(b)));
            turns.into_iter().map(move |mut turn| {
                if let Ok(options) = &mut turn.session {
                    options.extension = options.extension.clone().with_context(context);
                }
                turn
            })
        });
        sessions.collect()
    }

    /// What sessions have in common that compute the same from the same tokens: how much they may
    /// hold is no part of it where lengths share.
    fn session_key(&self, options: &SessionOptions) -> String {
        let mut options = options.clone();
        if self.share_lengths {
            options.extension = options.extension.with_context(0);
        }
        format!("{options:?}")
    }

    /// Goes through the run without computing anything.
    fn planned(&self, done: &HashSet<(&str, usize)>, work: Work, speed: Speed) -> Plan {
        let mut plan = Plan {
            results: 0,
            done: 0,
            tokens: 0,
            tokens_alone: 0,
            answer_tokens: 0,
            work: 0.0,
            seconds: 0.0,
        };
        for (method, turns) in self.methods.iter().zip(self.turns(work)) {
            let name = method.to_string();
            let mut open: (String, &[u32]) = (String::new(), &[]);
            for Turn { index, session } in turns {
                plan.results += 1;
                if done.contains(&(&*name, index)) {
                    plan.done += 1;
                    continue;
                }
                let sample = &self.samples[index];
                let Ok(options) = session else {
                    continue;
                };
                let key = self.session_key(&options);
                if key != open.0 || !self.share {
                    open = (key, &[]);
                }
                for (tokens, is_kept) in parts(sample, method) {
                    let start = if is_kept {
                        first_new(open.1, tokens)
                    } else {
                        0
                    };
                    plan.tokens += tokens.len() - start;
                    plan.tokens_alone += tokens.len();
                    plan.work += work.span(start, tokens.len());
                    if is_kept {
                        open.1 = tokens;
                    }
                }
                if let Ask::Answer { max_tokens, .. } = &sample.ask {
                    plan.answer_tokens += max_tokens;
                    let prompt = sample.prompt(method);
                    let decode = work.span(prompt.len(), prompt.len() + max_tokens);
                    plan.work += decode * speed.decode_weight;
                }
            }
        }
        plan.seconds = speed.seconds(plan.work);
        plan
    }
}

/// A sample whose turn it is.
struct Turn {
    index: usize,
    /// How its session runs, or why it cannot be reached.
    session: Result<SessionOptions>,
}

/// The results that are there.
fn finished(done: &[Record]) -> HashSet<(&str, usize)> {
    let done = done.iter();
    done.map(|record| (&*record.method, record.index)).collect()
}

/// What is read for a sample, and whether other samples may share it.
pub(crate) fn parts<'a>(sample: &'a Sample, method: &Method) -> Vec<(&'a [u32], bool)> {
    match &sample.ask {
        Ask::Answer { .. } => vec![(sample.prompt(method), true)],
        Ask::Likelihood { tokens, from } => {
            vec![
                (&tokens[..from - 1], true),
                (&tokens[from - 1..tokens.len() - 1], false),
            ]
        }
        Ask::Choice { choices, .. } => choices
            .iter()
            .flat_map(|choice| {
                let (body, _) = choice.split();
                [(body, true), (&choice.continuation[..], false)]
            })
            .collect(),
    }
}

impl Sample {
    /// What a method is asked; nothing where the sample is no question.
    pub(crate) fn prompt(&self, method: &Method) -> &[u32] {
        match &self.ask {
            Ask::Answer {
                without_extension: Some(prompt),
                ..
            } if method.to_string() == PLAIN => prompt,
            Ask::Answer { prompt, .. } => prompt,
            _ => &[],
        }
    }

    /// The tokens a method is not shown because they do not fit without extension.
    pub(crate) fn cut(&self, method: &Method) -> usize {
        match &self.ask {
            Ask::Answer { prompt, .. } => prompt.len() - self.prompt(method).len(),
            _ => 0,
        }
    }
}

impl Choice {
    /// The prompt but its last token, which is scored together with the continuation.
    pub(crate) fn split(&self) -> (&[u32], u32) {
        let (last, body) = self.prompt.split_last().unwrap_or((&0, &[]));
        (body, *last)
    }
}

/// A record of nothing done but this outcome.
pub(crate) fn record(sample: &Sample, index: usize, method: &str, outcome: Outcome) -> Record {
    Record {
        index,
        id: sample.id.clone(),
        method: method.into(),
        tags: sample.tags.clone(),
        prompt_hash: sample.prompt_hash(),
        tokens: 0,
        cut: 0,
        read: 0,
        prefill_s: 0.0,
        decode_s: 0.0,
        cache_bytes: 0,
        peak_bytes: None,
        outcome,
    }
}
