//! From arguments to the engine: the model, its settings, and a report of both.

use crate::args::model::{LinearArg, LoadArgs, ModelArgs, WindowArg};
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
use std::sync::Once;
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
pub fn load(args: &LoadArgs) -> Result<TextModel> {
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
        if let Some(path) = &self.load.profile {
            return self.profile_settings(path, needed, trained);
        }
        let wanted = self.context.unwrap_or(needed);
        if wanted > trained
            && needed <= wanted
            && let Some(found) = self.found_beside()?
            && let Some(settings) = self.settings_beside(&found, needed, trained)
        {
            return Ok(settings);
        }
        Ok(self.request(needed).settings(trained)?)
    }

    /// The profile beside the model, where none of the settings was asked for.
    fn found_beside(&self) -> Result<Option<Found>> {
        let is_asked = self.group_size.is_some() || self.neighbor_window.is_some();
        match is_asked || self.no_extend {
            true => Ok(None),
            false => Found::beside(&self.load.model, self.load.no_profile),
        }
    }

    /// Under a profile that nobody asked for: nothing where it does not reach.
    fn settings_beside(
        &self,
        found: &Found,
        needed: usize,
        trained: usize,
    ) -> Option<ContextSettings> {
        let with = Self {
            context: self.context.or(Some(found.profile.context.max(needed))),
            ..self.clone()
        };
        match with.method_settings(&found.method, needed, trained) {
            Ok(settings) => {
                found.say("");
                Some(ContextSettings {
                    extended_by_itself: self.context.is_none(),
                    ..settings
                })
            }
            Err(_) => {
                let context = with.context.unwrap_or(needed);
                found.say(&format!(
                    ", which does not reach {context} tokens and is left alone"
                ));
                None
            }
        }
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
        let (profile, method) = Profile::load_for(path, &fetch(&self.load.model)?)?;
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
            kv_type: self.load.kv_type.into(),
            chunk: self.load.chunk,
            ..settings.into()
        }
    }
}

/// A profile that was found beside a model.
pub struct Found {
    path: PathBuf,
    profile: Profile,
    /// Its method.
    pub method: Method,
}

impl Found {
    /// The profile beside a model, if there is one and it is wanted.
    pub fn beside(model: &str, unwanted: bool) -> Result<Option<Self>> {
        let model = fetch(model)?;
        let path = Profile::beside(&model);
        if unwanted || !path.exists() {
            return Ok(None);
        }
        let (profile, method) = Profile::load_for(&path, &model).map_err(|error| {
            CliError::failure(format!(
                "{error}; delete it, or leave it alone with --no-profile"
            ))
        })?;
        Ok(Some(Self {
            path,
            profile,
            method,
        }))
    }

    /// Says once that it is there, and `more`.
    pub fn say(&self, more: &str) {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            output::note(&format!(
                "note: {} says {}{more} (--no-profile leaves it alone)",
                self.path.display(),
                self.method
            ));
        });
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
        let found = match &args.load.profile {
            Some(path) => Profile::load(path).ok().map(|(_, method)| method),
            None => args.found_beside().ok().flatten().map(|found| found.method),
        };
        // A profile that was left alone is none of the settings in force.
        let is_in_force = |method: &Method| {
            let theirs = method.options(model.config().trained_window, options.context);
            theirs.is_ok_and(|theirs| describe(&theirs) == describe(options))
        };
        let found = found.filter(is_in_force).map(|method| method.to_string());
        // A method may come to plain attention, and `demo` runs that beside it.
        let plain = describe(options) == "plain attention";
        let asked = args.method.as_ref().map(Method::to_string).or(found);
        let method = asked.filter(|_| !plain);
        Self {
            model: args.load.model.clone(),
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
            linear: match args.load.linear {
                LinearArg::Auto => "auto",
                LinearArg::F32 => "f32",
            },
            device: (args.load.device != Device::Cpu).then(|| args.load.device.to_string()),
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
