//! What an evaluation consists of: samples, methods, and how sessions run.

use crate::error::{EvalError, Result};
use crate::record::Header;
use crate::sample::{Sample, digest};
use crate::shard::Shard;
use selfextend::{DEFAULT_CHUNK, KvType, Method, SessionOptions, TextModel};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// Samples, methods, and how they run.
#[non_exhaustive]
pub struct Evaluation<'a> {
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
    /// Whether samples of different contexts share prefixes too. They must not where the seconds
    /// or the memory of a length are measured.
    pub share_lengths: bool,
    /// Whether a method that cannot reach a sample's context is recorded instead of refused.
    pub allow_unreachable: bool,
    /// Which part of the pairs of a method and a sample runs here.
    pub shard: Shard,
}

impl<'a> Evaluation<'a> {
    /// An evaluation of samples under methods: f16 cache, default chunks, prefixes shared, all in
    /// one shard.
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

    /// The header of the results, by which another run is told from this one: `model` is the
    /// fingerprint of the model's contents ([`selfextend::fingerprint`]). How sessions run is
    /// added to the settings; what else changes numbers (the device, widened weights) is the
    /// caller's to add.
    pub fn header(&self, task: &str, model: &str, mut settings: Map<String, Value>) -> Header {
        let config = self.model.model.config();
        settings.insert("trained_window".into(), config.trained_window.into());
        settings.insert(
            "kv_type".into(),
            format!("{:?}", self.kv_type).to_lowercase().into(),
        );
        settings.insert("chunk".into(), self.chunk.into());
        settings.insert("share_lengths".into(), self.share_lengths.into());
        Header {
            selfextend_eval: Header::FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            task: task.into(),
            model: model.into(),
            settings,
            methods: self.methods.iter().map(Method::to_string).collect(),
            samples: self.samples.len(),
            digest: digest(&self.samples),
            shard: self.shard,
        }
    }

    /// How a sample's session runs under a method.
    pub(super) fn options(&self, method: &Method, sample: &Sample) -> Result<SessionOptions> {
        let trained = self.model.model.config().trained_window;
        let extension = method.resolve(trained, sample.context);
        let extension = extension.map_err(|source| EvalError::Unreachable {
            method: method.to_string(),
            context: sample.context,
            source,
        })?;
        Ok(SessionOptions::new(extension)
            .with_kv_type(self.kv_type)
            .with_chunk(self.chunk))
    }

    /// Checks that there are samples, that no method or sample is listed twice and, unless
    /// [`allow_unreachable`](Self::allow_unreachable) is set, that every method reaches every
    /// sample's context.
    ///
    /// # Errors
    /// The first of these that does not hold.
    pub fn check(&self) -> Result<()> {
        if self.samples.is_empty() {
            return Err(EvalError::settings("there are no samples to run"));
        }
        let mut names = HashSet::new();
        let mut methods = self.methods.iter().map(Method::to_string);
        if let Some(twice) = methods.find(|name| !names.insert(name.clone())) {
            let reason = format!("the method {twice} is listed twice");
            return Err(EvalError::settings(reason));
        }
        let mut ids = HashSet::new();
        if let Some(twice) = self.samples.iter().find(|sample| !ids.insert(&sample.id)) {
            let reason = format!("two samples have the name {}", twice.id);
            return Err(EvalError::settings(reason));
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
}
