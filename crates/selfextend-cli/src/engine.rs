//! From arguments to the engine: the model, its settings, and a report of both.

use crate::args::{LinearArg, ModelArgs, WindowArg};
use crate::error::{CliError, Result};
use crate::progress;
use crate::{interrupt, output};
use selfextend::hub::{self, PullOptions};
use selfextend::profile::Profile;
use selfextend::settings::{ContextRequest, ContextSettings, SettingsError, max_context};
use selfextend::{
    Device, Frequencies, KvType, LoadOptions, Method, PositionMap, QueryScaling, Session,
    SessionOptions, TextModel,
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
        // Whatever the reason is called: pip hears of Ctrl-C too, and fails.
        _ if interrupt::asked() => Err(CliError::Interrupted),
        found => Ok(found?),
    }
}

/// Loads the model that the arguments name.
pub fn load(args: &ModelArgs) -> Result<TextModel> {
    let path = fetch(&args.model)?;
    let options = LoadOptions {
        threads: args.threads,
        exact: args.linear == LinearArg::F32,
        keep_sliding_window: args.sliding_window == WindowArg::Keep,
        device: args.device,
    };
    Ok(TextModel::load(&path, options)?)
}

impl ModelArgs {
    /// The settings for a text that needs so many tokens.
    pub fn settings(&self, needed: usize, trained: usize) -> Result<ContextSettings> {
        if self.plain {
            return self.method_settings(&Method::plain(), needed, trained);
        }
        if let Some(method) = &self.method {
            return self.method_settings(method, needed, trained);
        }
        if let Some(path) = &self.profile {
            return self.profile_settings(path, needed, trained);
        }
        Ok(self.request(needed).settings(trained)?)
    }

    /// Under a method that was asked for, the text only says how much context is needed.
    fn method_settings(
        &self,
        method: &Method,
        needed: usize,
        trained: usize,
    ) -> Result<ContextSettings> {
        let context = self.context.unwrap_or(needed.max(trained));
        if needed > context {
            return Err(SettingsError::TooShort { needed, context }.into());
        }
        let options = method.options(trained, context)?;
        Ok(ContextSettings {
            context,
            map: options.map,
            frequencies: options.frequencies,
            query_scaling: options.query_scaling,
            extended_by_itself: false,
        })
    }

    /// Under a profile: its method, at its context unless another was asked for.
    fn profile_settings(
        &self,
        path: &Path,
        needed: usize,
        trained: usize,
    ) -> Result<ContextSettings> {
        let (profile, method) = Profile::load(path)?;
        if profile.trained_window != trained {
            return Err(CliError::usage(format!(
                "{} is for {}, trained on {} tokens; this model was trained on {trained}",
                path.display(),
                profile.model,
                profile.trained_window
            )));
        }
        let with = Self {
            context: self.context.or(Some(profile.context.max(needed))),
            ..self.clone()
        };
        with.method_settings(&method, needed, trained)
    }

    /// The settings asked for, for a text that needs so many tokens.
    pub fn request(&self, needed: usize) -> ContextRequest {
        ContextRequest {
            context: self.context,
            needed,
            group_size: self.group_size,
            neighbor_window: self.neighbor_window,
            no_extend: self.no_extend,
        }
    }

    /// The context that was asked for: by itself, or as the limit of the group size asked for.
    pub fn asked_context(&self, trained: usize) -> Option<usize> {
        let window = self.neighbor_window.unwrap_or(trained / 4);
        let limit = |group_size| max_context(group_size, window, trained);
        self.context
            .or(self.group_size.filter(|_| !self.no_extend).map(limit))
    }

    /// How a session under these settings runs.
    pub fn session_options(&self, settings: ContextSettings) -> SessionOptions {
        SessionOptions {
            kv_type: self.kv_type.into(),
            chunk: self.chunk,
            ..settings.into()
        }
    }
}

/// An empty session, and a word about it if the window was extended without being asked for.
pub fn session(
    model: &TextModel,
    args: &ModelArgs,
    settings: ContextSettings,
    why: &str,
) -> Session {
    if settings.extended_by_itself {
        output::note(&format!(
            "note: {why}: the trained window of {} tokens is extended to {} by {} (set --context, --group-size and --neighbor-window to choose, --no-extend to refuse)",
            model.model.config().trained_window,
            settings.context,
            describe_extension(settings),
        ));
    }
    model.model.session(args.session_options(settings))
}

/// Settings in words, as the way to a larger window.
pub fn describe_extension(settings: ContextSettings) -> String {
    let words = describe(&settings.into());
    match settings.map {
        PositionMap::Plain if settings.frequencies == Frequencies::Trained => {
            format!("{words}, which was not trained for it")
        }
        PositionMap::SelfExtend(_) => format!("SelfExtend with {words}"),
        _ => words,
    }
}

/// How a session attends, in words.
pub fn describe(options: &SessionOptions) -> String {
    let frequencies = match options.frequencies {
        Frequencies::Trained => None,
        Frequencies::Interpolated { factor } => {
            Some(format!("positions interpolated {factor:.2}x"))
        }
        Frequencies::Ntk { factor } => Some(format!("NTK-aware base for {factor:.2}x")),
        Frequencies::Yarn(yarn) => Some(format!("YaRN for {:.2}x", yarn.factor)),
        Frequencies::Factors(factors) => {
            Some(format!("{} frequency factors", factors.divisors().len()))
        }
    };
    let map = match options.map {
        PositionMap::Plain if frequencies.is_some() => None,
        PositionMap::Plain => Some("plain attention".to_owned()),
        PositionMap::SelfExtend(map) => Some(format!(
            "group size {}, neighbour window {}",
            map.group_size(),
            map.neighbor_window()
        )),
        map => Some(map.to_string()),
    };
    let scaling = match options.query_scaling {
        QueryScaling::None => None,
        QueryScaling::LogN { .. } => Some("log-n scaling".to_owned()),
        QueryScaling::Yarn { .. } => Some("YaRN's temperature".to_owned()),
    };
    let parts: Vec<_> = [map, frequencies, scaling].into_iter().flatten().collect();
    parts.join(", ")
}

/// Appends tokens behind a progress bar; returns the last one's logits and the seconds it took.
pub fn prefill(session: &mut Session, tokens: &[u32], label: &str) -> Result<(Vec<f32>, f64)> {
    let layers = session.model().config().layers;
    let mut bar = progress::Prefill::new(label, tokens.len(), session.options().chunk, layers);
    let start = Instant::now();
    let logits = session.append(tokens, &mut |done| {
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
    pub fn new(args: &ModelArgs, session: &Session) -> Self {
        let (options, model) = (session.options(), session.model());
        let map = match options.map {
            PositionMap::SelfExtend(map) => Some(map),
            _ => None,
        };
        let automatic = if map.is_some() { "selfextend" } else { "plain" };
        let profile = args
            .profile
            .as_ref()
            .and_then(|path| Profile::load(path).ok());
        let found = profile.map(|(_, method)| method.to_string());
        // A method may come to plain attention, and `demo` runs that beside it.
        let plain = describe(options) == "plain attention";
        let asked = args.method.as_ref().map(Method::to_string).or(found);
        let method = asked.filter(|_| !plain);
        Self {
            model: args.model.clone(),
            trained_window: model.config().trained_window,
            context: options.context,
            method: method.unwrap_or(automatic.to_owned()),
            group_size: map.map(|map| map.group_size()),
            neighbor_window: map.map(|map| map.neighbor_window()),
            kv_type: match options.kv_type {
                KvType::F32 => "f32",
                KvType::F16 => "f16",
                KvType::Q8_0 => "q8_0",
            },
            linear: match args.linear {
                LinearArg::Auto => "auto",
                LinearArg::F32 => "f32",
            },
            device: (args.device != Device::Cpu).then(|| args.device.to_string()),
            threads: model.threads(),
            chunk: options.chunk,
        }
    }

    /// The method in a few words.
    pub fn in_short(&self) -> String {
        match (self.group_size, self.neighbor_window) {
            (Some(group), Some(window)) => format!("SelfExtend G={group} W={window}"),
            _ if self.method == "plain" => "plain attention".to_owned(),
            _ => self.method.clone(),
        }
    }
}
