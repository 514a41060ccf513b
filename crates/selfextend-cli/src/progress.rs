//! Progress bars on a terminal; elsewhere nothing, or one line.

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

/// Tokens of a prefill that are done, finer than its chunks: it counts the layers.
#[derive(Debug)]
pub struct LayerCount {
    tokens: usize,
    chunk: usize,
    layers: usize,
    done: usize,
    calls: usize,
}

impl LayerCount {
    /// Counts a prefill of `tokens` in chunks of `chunk` through `layers` layers.
    pub fn new(tokens: usize, chunk: usize, layers: usize) -> Self {
        Self {
            tokens,
            chunk,
            layers,
            done: 0,
            calls: 0,
        }
    }

    /// To be called before each layer, with the tokens of the chunks that are finished. Returns how
    /// many tokens are done, layers of an unfinished chunk counting as a share of its tokens.
    pub fn layer(&mut self, done: usize) -> usize {
        if done != self.done {
            (self.done, self.calls) = (done, 0);
        }
        let chunk = self.chunk.min(self.tokens.saturating_sub(done));
        let part = chunk * self.calls.min(self.layers) / self.layers.max(1);
        self.calls += 1;
        done + part
    }
}

/// Shorter prefills are over before anyone has read a bar.
const WORTH_A_BAR: usize = 64;

/// Progress of a prefill.
#[derive(Debug)]
pub struct Prefill {
    bar: Option<Bar>,
    count: LayerCount,
}

impl Prefill {
    /// Starts to show the prefill of `tokens`.
    pub fn new(label: &str, tokens: usize, chunk: usize, layers: usize) -> Self {
        let template = "{msg} [{bar:30}] {pos}/{len} tokens, {rate} tok/s, ETA {eta}";
        let bar =
            (tokens >= WORTH_A_BAR).then(|| Bar::new(tokens as u64, template, label.to_owned()));
        Self {
            bar,
            count: LayerCount::new(tokens, chunk, layers),
        }
    }

    /// To be called before each layer, with the tokens of the chunks that are finished.
    pub fn layer(&mut self, done: usize) {
        let done = self.count.layer(done);
        if let Some(Bar(bar)) = &self.bar {
            bar.set_position(done as u64);
        }
    }
}

/// Progress of a download.
#[derive(Debug)]
pub struct Pull {
    name: String,
    bar: Option<(hub::Phase, Bar)>,
    is_announced: bool,
}

impl Pull {
    /// Shows nothing until there is progress.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            bar: None,
            is_announced: false,
        }
    }

    /// Shows how far it has come.
    pub fn show(&mut self, progress: hub::Progress) {
        let is_download = progress.phase == hub::Phase::Download;
        if !self.is_announced && is_download && progress.total > 0 {
            self.is_announced = true;
            let size = output::size(progress.total as usize);
            output::note(&format!("downloading {} ({size})", self.name));
        }
        if !std::io::stderr().is_terminal() {
            return;
        }
        if self
            .bar
            .as_ref()
            .is_none_or(|(phase, _)| *phase != progress.phase)
        {
            // The old bar goes first: it would clear the new one's entry.
            self.bar = None;
            let template = "{msg} [{bar:30}] {bytes}/{total_bytes}, {bytes_per_sec}, ETA {eta}";
            let message = match progress.phase {
                hub::Phase::Download => "downloading",
                hub::Phase::Unpack => "unpacking",
                hub::Phase::Verify => "checking",
            };
            let bar = Bar::new(progress.total, template, message.to_owned());
            self.bar = Some((progress.phase, bar));
        }
        if let Some((_, Bar(bar))) = &self.bar {
            bar.set_length(progress.total.max(progress.done));
            bar.set_position(progress.done);
        }
    }
}

/// Progress of long work whose amount was estimated, in any unit.
#[derive(Debug)]
pub struct Work {
    bar: Bar,
    total: f64,
}

/// Positions of the bar.
const POSITIONS: f64 = 1e4;

impl Work {
    /// Starts to show work of this amount.
    pub fn new(label: &str, total: f64) -> Self {
        let template = "[{bar:30}] {percent}%, ETA {eta}, {wide_msg}";
        Self {
            bar: Bar::new(POSITIONS as u64, template, label.to_owned()),
            total,
        }
    }

    /// Says what is being worked on.
    pub fn label(&self, label: &str) {
        self.bar.0.set_message(label.to_owned());
    }

    /// Shows how much is done.
    pub fn at(&self, done: f64) {
        let share = (done / self.total.max(f64::MIN_POSITIVE)).min(1.0);
        self.bar.0.set_position((share * POSITIONS) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_an_unfinished_chunk_count_as_a_share_of_its_tokens() {
        let mut count = LayerCount::new(150, 100, 4);
        let first = [0, 0, 0, 0].map(|done| count.layer(done));
        assert_eq!(first, [0, 25, 50, 75]);
        // The last chunk has 50 tokens.
        let second = [100, 100, 100, 100].map(|done| count.layer(done));
        assert_eq!(second, [100, 112, 125, 137]);
    }
}
