//! From the model arguments to one value that every command carries: the model's file, what extends
//! its window, and how it runs. It is built once; only the length of a text is added later.

mod cache;
mod choice;
mod draft;
mod print;
mod source;

pub use cache::{TextCache, dir as cache_dir, model as cache_model};
pub use choice::{Choice, Found};
pub use print::REMEMBERED as REMEMBERED_PRINTS;
pub use source::{Source, fetch, open, pull};

use crate::args::model::ModelArgs;
use crate::error::Result;
use crate::{interrupt, output, progress};
use selfextend::{Extension, PositionMap, Session, TextModel};
use selfextend_server::{DocumentCache, Passes};
use serde::Serialize;
use std::time::Instant;

/// What the model arguments resolve to.
pub struct Setup {
    pub source: Source,
    pub choice: Choice,
}

impl Setup {
    /// Finds the model's file, which may have to be downloaded, and reads a profile that was named.
    pub fn new(args: &ModelArgs) -> Result<Self> {
        let source = Source::new(&args.load)?;
        let choice = Choice::new(args, Some(source.path()))?;
        Ok(Self { source, choice })
    }

    /// An empty session for a text of `needed` tokens, and a note if the window is extended without
    /// being asked for. Where the model has other frequencies for short contexts (longrope) and no
    /// context was asked for, the text decides which are used, as in `transformers`.
    pub fn session(&self, model: &TextModel, needed: usize, why: &str) -> Result<Session> {
        let trained = model.model.config().trained_window;
        let chosen = self.choice.for_text(needed, trained)?;
        if chosen.by_itself {
            output::note(&format!(
                "note: {why}: the trained window of {trained} tokens is extended to {} with {} (set --context, --group-size and --neighbor-window to choose, --no-extend to refuse)",
                chosen.extension.context(),
                as_extension(&chosen.extension),
            ));
        }
        let extension = match &model.model.config().short_rope {
            Some((short, _)) if needed <= *short && self.choice.is_free(&chosen.extension) => {
                chosen.extension.with_context(*short)
            }
            _ => chosen.extension,
        };
        Ok(model.model.session(self.source.options(extension))?)
    }
}

/// An extension in words, as the way to a larger window.
pub fn as_extension(extension: &Extension) -> String {
    if extension.extends() {
        extension.to_string()
    } else {
        format!("{extension}, which was not trained for it")
    }
}

/// Appends tokens behind a progress bar; returns the last one's logits and the seconds it took.
pub fn prefill(session: &mut Session, tokens: &[u32], label: &str) -> Result<(Vec<f32>, f64)> {
    let chunk = session.options().chunk;
    let mut bar = bar(session, tokens.len(), chunk, label);
    let start = Instant::now();
    let logits = append(session, tokens, &mut bar, 0)?;
    Ok((logits, start.elapsed().as_secs_f64()))
}

/// [`prefill`] of the rest of a text, which is kept in a cache as it is read.
pub fn prefill_kept(
    session: &mut Session,
    text: &[u32],
    label: &str,
    cache: &DocumentCache,
    passes: Passes,
) -> Result<(Vec<f32>, f64)> {
    let (held, at_once) = (session.len(), kept_at_once(session));
    let mut bar = bar(session, text.len() - held, at_once, label);
    let start = Instant::now();
    let mut logits = Vec::new();
    for pass in passes.rest(held, at_once) {
        let before = pass.start;
        logits = append(session, &text[pass], &mut bar, before - held)?;
        cache.keep(session, text, passes, before)?;
    }
    Ok((logits, start.elapsed().as_secs_f64()))
}

/// The most tokens to read before they are kept.
pub fn kept_at_once(session: &Session) -> usize {
    let most = selfextend_server::most_read(session.model().config(), session.options());
    most.min(session.options().chunk).max(1)
}

fn bar(session: &Session, tokens: usize, chunk: usize, label: &str) -> progress::Prefill {
    let layers = session.model().config().layers;
    progress::Prefill::new(label, tokens, chunk, layers)
}

/// Appends tokens, of which `before` others are done.
fn append(
    session: &mut Session,
    tokens: &[u32],
    bar: &mut progress::Prefill,
    before: usize,
) -> Result<Vec<f32>> {
    let logits = session.append_with(tokens, |done| {
        if interrupt::asked() {
            return Err(selfextend::Error::Stopped);
        }
        bar.layer(before + done);
        Ok(())
    })?;
    Ok(logits)
}

/// The settings in force, for JSON.
#[derive(Debug, Clone, Serialize)]
pub struct SettingsReport {
    model: String,
    trained_window: usize,
    context: usize,
    method: String,
    group_size: Option<usize>,
    neighbor_window: Option<usize>,
    kv_type: &'static str,
    linear: &'static str,
    /// The device, where it is not the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    threads: usize,
    chunk: usize,
}

impl SettingsReport {
    /// What a session runs with.
    pub fn new(setup: &Setup, session: &Session) -> Self {
        let (extension, source) = (session.extension(), &setup.source);
        let map = match extension.map() {
            PositionMap::SelfExtend(map) => Some(map),
            _ => None,
        };
        Self {
            model: source.name.clone(),
            trained_window: extension.trained_window(),
            context: extension.context(),
            // A method may amount to plain attention.
            method: if extension.extends() {
                extension.method().to_string()
            } else {
                "plain".to_owned()
            },
            group_size: map.map(|map| map.group_size()),
            neighbor_window: map.map(|map| map.neighbor_window()),
            kv_type: source.kv_name(),
            linear: source.linear_name(),
            device: source.device().map(|device| device.to_string()),
            threads: session.model().threads(),
            chunk: source.chunk(),
        }
    }
}
