//! The model's file, and how it runs.

use crate::args::model::{LoadArgs, WindowArg};
use crate::error::{CliError, Result};
use crate::{interrupt, output, progress};
use selfextend::hub::{self, HubError, PullOptions, Pulled};
use selfextend::{
    Device, Extension, KvType, LinearMode, LoadOptions, ModelFile, SessionOptions, TextModel,
};
use std::path::{Path, PathBuf};

/// The model's file, downloaded first if it is not on this machine.
pub fn fetch(model: &str) -> Result<PathBuf> {
    with_progress(model, |options, progress| {
        hub::resolve(model, options, progress)
    })
}

/// The model's files, after what lacks was downloaded and what is there was verified.
pub fn pull(model: &str) -> Result<Pulled> {
    with_progress(model, |options, progress| {
        hub::pull(model, options, progress)
    })
}

/// Runs a function of the hub that finds a model.
fn with_progress<T>(
    model: &str,
    find: impl FnOnce(&PullOptions, &mut dyn FnMut(hub::Progress)) -> std::result::Result<T, HubError>,
) -> Result<T> {
    let _scope = interrupt::scope(interrupt::Mode::WindDown);
    let mut shown = progress::Pull::new(model);
    let found = PullOptions::from_env()
        .and_then(|options| find(&options, &mut |progress| shown.show(progress)));
    drop(shown);
    match found {
        // Pip receives Ctrl-C too, and reports a failure of its own.
        _ if interrupt::asked() => Err(CliError::Interrupted),
        found => Ok(found?),
    }
}

/// Opens the model that arguments name.
pub fn open(args: &LoadArgs) -> Result<ModelFile> {
    let file = ModelFile::open(&fetch(&args.model)?)?;
    Ok(file.ignoring(&args.ignore_key))
}

/// The model's file, and how it runs.
pub struct Source {
    /// The model as it was named.
    pub name: String,
    path: PathBuf,
    load: LoadOptions,
    kv_type: KvType,
    chunk: usize,
}

impl Source {
    /// Finds the model's file, which may have to be downloaded.
    pub fn new(args: &LoadArgs) -> Result<Self> {
        Ok(Self {
            name: args.model.clone(),
            path: fetch(&args.model)?,
            load: LoadOptions::new()
                .with_threads(args.threads)
                .with_linear(args.linear.into())
                .with_keep_sliding_window(args.sliding_window == WindowArg::Keep)
                .with_device(args.device)
                .with_check(args.check)
                .with_ignored_keys(args.ignore_key.clone()),
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
        let model = TextModel::load(&self.path, self.load.clone())?;
        if model.tokenizer.guesses_words() {
            output::note(
                "note: the file does not say how its tokenizer cuts words (tokenizer.ggml.pre is missing); they are cut by llama.cpp's default rules, which may give other tokens than the model was trained with; a newer conversion has the key",
            );
        }
        Ok(model)
    }

    /// How a session under an extension runs.
    pub fn options(&self, extension: Extension) -> SessionOptions {
        SessionOptions::new(extension)
            .with_kv_type(self.kv_type)
            .with_chunk(self.chunk)
    }

    /// How keys and values are stored.
    pub fn kv_type(&self) -> KvType {
        self.kv_type
    }

    /// Tokens of a prefill that pass through the model together.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// The device, where it is not the CPU.
    pub fn device(&self) -> Option<Device> {
        Some(self.load.device).filter(|device| *device != Device::Cpu)
    }

    /// How the model is loaded.
    pub fn load_options(&self) -> &LoadOptions {
        &self.load
    }

    /// Refuses a flag that asks for guesses where they could change the text.
    pub fn check_speculate(&self, flag: &str) -> Result<()> {
        match self.device() {
            None => Ok(()),
            Some(device) => Err(CliError::usage(format!(
                "{flag} is for the CPU: on {device} tokens that are verified together get other logits than each alone, and the text could change"
            ))),
        }
    }

    /// Whether a sliding window of every layer is respected under any method.
    pub fn keeps_sliding_window(&self) -> bool {
        self.load.keep_sliding_window
    }

    /// The cache type as `--kv-type` names it.
    pub fn kv_name(&self) -> &'static str {
        match self.kv_type {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
            KvType::Q4 => "q4",
        }
    }

    /// The mode of linear layers as `--linear` names it.
    pub fn linear_name(&self) -> &'static str {
        match self.load.linear {
            LinearMode::Rounded => "auto",
            LinearMode::Fast => "fast",
            LinearMode::F32 => "f32",
        }
    }
}
