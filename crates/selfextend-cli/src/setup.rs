//! From the model arguments to one value that every command carries: the model's file, what extends
//! its window, and how it runs. Built once; a text's length is all that is still missing.

mod choice;

pub use choice::{Choice, Found};

use crate::args::{LinearArg, ModelArgs, WindowArg};
use crate::error::{CliError, Result};
use crate::progress;
use crate::{interrupt, output};
use selfextend::hub::{self, PullOptions};
use selfextend::{
    Device, Extension, KvType, LoadOptions, PositionMap, Session, SessionOptions, TextModel,
};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The model's file, fetched first if need be.
pub fn fetch(model: &str) -> Result<PathBuf> {
    let _scope = interrupt::scope(interrupt::Mode::WindDown);
    let mut shown = progress::Pull::new(model);
    let found = hub::resolve(model, &PullOptions::from_env(), &mut |progress| {
        shown.show(progress)
    });
    drop(shown);
    match found {
        // Whatever the reason is called: pip is told of Ctrl-C too, and fails.
        _ if interrupt::asked() => Err(CliError::Interrupted),
        found => Ok(found?),
    }
}

/// What the model arguments come to.
pub struct Setup {
    /// The model as it was named.
    pub model: String,
    path: PathBuf,
    choice: Choice,
    load: LoadOptions,
    kv_type: KvType,
    chunk: usize,
}

impl Setup {
    /// Finds the model's file, which may have to be fetched, and reads a profile that was named.
    pub fn new(args: &ModelArgs) -> Result<Self> {
        let path = fetch(&args.model)?;
        Ok(Self {
            model: args.model.clone(),
            choice: Choice::new(args, Some(&path))?,
            path,
            load: LoadOptions::new()
                .with_threads(args.threads)
                .with_exact(args.linear == LinearArg::F32)
                .with_keep_sliding_window(args.sliding_window == WindowArg::Keep)
                .with_device(args.device),
            kv_type: args.kv_type.into(),
            chunk: args.chunk,
        })
    }

    /// The model's file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Loads the model.
    pub fn load(&self) -> Result<TextModel> {
        Ok(TextModel::load(&self.path, self.load)?)
    }

    /// What extends the window.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// How a session under an extension runs.
    pub fn options(&self, extension: Extension) -> SessionOptions {
        SessionOptions::new(extension)
            .with_kv_type(self.kv_type)
            .with_chunk(self.chunk)
    }

    /// An empty session for a text of so many tokens, and a word about it if the window is extended
    /// without being asked for.
    pub fn session(&self, model: &TextModel, needed: usize, why: &str) -> Result<Session> {
        let trained = model.model.config().trained_window;
        let chosen = self.choice.for_text(needed, trained)?;
        if chosen.by_itself {
            output::note(&format!(
                "note: {why}: the trained window of {trained} tokens is extended to {} by {} (set --context, --group-size and --neighbor-window to choose, --no-extend to refuse)",
                chosen.extension.context(),
                as_extension(&chosen.extension),
            ));
        }
        Ok(model.model.session(self.options(chosen.extension))?)
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
    let layers = session.model().config().layers;
    let mut bar = progress::Prefill::new(label, tokens.len(), session.options().chunk, layers);
    let start = Instant::now();
    let logits = session.append_with(tokens, |done| {
        if interrupt::asked() {
            return Err(selfextend::Error::Stopped);
        }
        bar.layer(done);
        Ok(())
    })?;
    Ok((logits, start.elapsed().as_secs_f64()))
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
    /// Where it is not the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    threads: usize,
    chunk: usize,
}

impl SettingsReport {
    /// What a session runs with.
    pub fn new(setup: &Setup, session: &Session) -> Self {
        let (extension, device) = (session.extension(), setup.load.device);
        let map = match extension.map() {
            PositionMap::SelfExtend(map) => Some(map),
            _ => None,
        };
        Self {
            model: setup.model.clone(),
            trained_window: extension.trained_window(),
            context: extension.context(),
            // A method may come to plain attention.
            method: if extension.extends() {
                extension.method().to_string()
            } else {
                "plain".to_owned()
            },
            group_size: map.map(|map| map.group_size()),
            neighbor_window: map.map(|map| map.neighbor_window()),
            kv_type: match setup.kv_type {
                KvType::F32 => "f32",
                KvType::F16 => "f16",
                KvType::Q8_0 => "q8_0",
            },
            linear: if setup.load.exact { "f32" } else { "auto" },
            device: (device != Device::Cpu).then(|| device.to_string()),
            threads: session.model().threads(),
            chunk: setup.chunk,
        }
    }
}
