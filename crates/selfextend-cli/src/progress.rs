//! Progress bars on a terminal, nothing or single lines elsewhere.

use crate::output;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use selfextend::hub;
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

/// The bar on the screen, for an interrupt to clear.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Clears the bar on the screen, if there is one.
pub fn clear() {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(bar) = shown {
        bar.finish_and_clear();
    }
}

/// A bar that is cleared when it is dropped.
#[derive(Debug)]
struct Bar(ProgressBar);

impl Bar {
    fn new(total: u64, template: &str, message: String) -> Self {
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
                let _ = write!(out, "{:.0}", state.per_sec());
            })
            .progress_chars("=> ");
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        bar.set_style(style);
        bar.set_message(message);
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        Self(bar)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        clear();
        self.0.finish_and_clear();
    }
}

/// Shorter prefills are over before anyone has read a bar.
const WORTH_A_BAR: usize = 64;

/// Progress of a prefill, finer than its chunks: it counts the layers.
#[derive(Debug)]
pub struct Prefill {
    bar: Option<Bar>,
    tokens: usize,
    chunk: usize,
    layers: usize,
    done: usize,
    calls: usize,
}

impl Prefill {
    /// Starts to show the prefill of `tokens`.
    pub fn new(label: &str, tokens: usize, chunk: usize, layers: usize) -> Self {
        let template = "{msg} [{bar:30}] {pos}/{len} tokens, {rate} tok/s, ETA {eta}";
        let bar =
            (tokens >= WORTH_A_BAR).then(|| Bar::new(tokens as u64, template, label.to_owned()));
        Self {
            bar,
            tokens,
            chunk,
            layers,
            done: 0,
            calls: 0,
        }
    }

    /// To be called before each layer, with the tokens of the chunks that are finished.
    pub fn layer(&mut self, done: usize) {
        if done != self.done {
            (self.done, self.calls) = (done, 0);
        }
        let chunk = self.chunk.min(self.tokens.saturating_sub(done));
        let part = chunk * self.calls.min(self.layers) / self.layers.max(1);
        self.calls += 1;
        if let Some(Bar(bar)) = &self.bar {
            bar.set_position((done + part) as u64);
        }
    }
}

/// Progress of a pull.
#[derive(Debug)]
pub struct Pull {
    name: String,
    bar: Option<(hub::Phase, Bar)>,
    said: bool,
}

impl Pull {
    /// Nothing is shown until there is progress.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            bar: None,
            said: false,
        }
    }

    /// Shows how far it has come.
    pub fn show(&mut self, progress: hub::Progress) {
        let verb = match progress.phase {
            hub::Phase::Download => "downloading",
            hub::Phase::Unpack => "unpacking",
            hub::Phase::Verify => "checking",
        };
        if !std::io::stderr().is_terminal() {
            if !std::mem::replace(&mut self.said, true) {
                let megabytes = progress.total.div_ceil(1_000_000);
                output::note(&format!("{verb} {} ({megabytes} MB)", self.name));
            }
            return;
        }
        if self
            .bar
            .as_ref()
            .is_none_or(|(phase, _)| *phase != progress.phase)
        {
            // The old one goes first, or it would clear the new one's entry.
            self.bar = None;
            let template = "{msg} [{bar:30}] {bytes}/{total_bytes}, {bytes_per_sec}, ETA {eta}";
            let message = format!("{verb} {}", self.name);
            self.bar = Some((progress.phase, Bar::new(progress.total, template, message)));
        }
        if let Some((_, Bar(bar))) = &self.bar {
            bar.set_length(progress.total.max(progress.done));
            bar.set_position(progress.done);
        }
    }
}

/// Progress of a run of many samples, in operations.
#[derive(Debug)]
pub struct Work {
    bar: Bar,
}

/// Operations in a step of the bar: they are more than its counter holds.
const STEP: f64 = 1e6;

impl Work {
    /// Starts to show a run.
    pub fn new(label: &str, work: f64) -> Self {
        let template = "[{bar:30}] {percent}%, ETA {eta}, {wide_msg}";
        Self {
            bar: Bar::new((work / STEP).ceil() as u64, template, label.to_owned()),
        }
    }

    /// What is being worked on.
    pub fn label(&self, label: &str) {
        self.bar.0.set_message(label.to_owned());
    }

    /// So much is done.
    pub fn at(&self, work: f64) {
        self.bar.0.set_position((work / STEP) as u64);
    }
}
