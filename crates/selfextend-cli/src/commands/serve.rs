//! `selfextend serve`.

use crate::args::serve::ServeArgs;
use crate::commands::answer::recommended_sampling;
use crate::error::{CliError, Result};
use crate::setup::Setup;
use crate::{input, interrupt, output};
use selfextend::speculate::DraftModel;
use selfextend::{Extension, SessionOptions, TextModel};
use selfextend_server::{DiskCacheConfig, Ladder, ServerConfig};
use std::net::SocketAddr;
use std::time::Duration;

/// The default context, in trained windows.
const DEFAULT_EXTENSION: usize = 4;

/// Loads the model and serves until told to stop.
pub fn serve(args: &ServeArgs) -> Result<()> {
    selfextend_server::log_to_stderr(args.log_json);
    let keys = args.keys()?;
    let setup = Setup::new(&args.model)?;
    if args.speculate {
        setup.source.check_speculate("--speculate")?;
    }
    let (text, draft) = setup.source.load_with(args.draft.as_deref())?;
    let ladder = ladder(&setup, &text)?;
    let disk = args.disk(&setup)?;
    let mut config = config(args, keys, disk, (&text, draft), &ladder)?;
    if args.recommended_sampling {
        config.sampling = recommended_sampling(setup.source.path())?;
    }
    let model = config.model.clone();
    if !config.listen.ip().is_loopback() && config.api_keys.is_empty() {
        output::note(
            "warning: anyone who can reach this address can use the server; give it an --api-key",
        );
    }
    let context = ladder.context();
    // The first Ctrl-C asks for a graceful shutdown, the second one ends the process.
    let _scope = interrupt::scope(interrupt::Mode::Ask);
    let ready = &mut |address: SocketAddr| {
        output::note(&format!(
            "serving {model} with up to {} tokens of context on http://{address}",
            output::grouped(context)
        ));
    };
    Ok(selfextend_server::serve(config, text, ladder, ready)?)
}

/// The rungs up to the context that was asked for.
fn ladder(setup: &Setup, text: &TextModel) -> Result<Ladder> {
    let trained = text.model.config().trained_window;
    let choice = &setup.choice;
    let context = match choice.asked_context(trained) {
        Some(context) => context,
        None if choice.stays_within() => trained,
        None => DEFAULT_EXTENSION * trained,
    };
    Ladder::new(
        text.model.config(),
        context,
        |tokens| -> Result<SessionOptions> {
            let extension = if tokens <= trained {
                Extension::plain(trained, tokens)
            } else {
                choice.for_context(tokens, trained)?
            };
            Ok(setup.source.options(extension))
        },
    )
}

fn config(
    args: &ServeArgs,
    api_keys: Vec<String>,
    disk: Option<DiskCacheConfig>,
    (text, draft): (&TextModel, Option<DraftModel>),
    ladder: &Ladder,
) -> Result<ServerConfig> {
    let full = selfextend_server::full_context_bytes(text, draft.as_ref(), ladder)?;
    let chunk = args.model.load.chunk;
    let name = args.alias.as_ref().unwrap_or(&args.model.load.model);
    let mut config = ServerConfig::new(name);
    config.listen = SocketAddr::new(args.host, args.port);
    // Two conversations at full length, and no less than a gibibyte.
    config.scheduler.kv_memory = args.kv_memory.unwrap_or((2 * full).max(1 << 30));
    config.scheduler.parallel = args.parallel;
    config.scheduler.queue = args.queue;
    config.scheduler.chunk = chunk;
    config.scheduler.busy_chunk = (chunk / 4).max(1);
    config.default_max_tokens = args.max_tokens;
    config.speculate = args.speculate;
    config.draft = draft;
    config.api_keys = api_keys;
    config.allowed_hosts = args.allow_host.clone();
    config.allowed_origins = args.allow_origin.clone();
    config.disk = disk;
    config.log_prompts = args.log_prompts;
    config.http.body = args.max_body;
    config.http.request_time = Duration::from_secs(args.request_timeout);
    config.http.connections = args.max_connections;
    config.grace = Duration::from_secs(args.grace);
    Ok(config)
}

impl ServeArgs {
    /// Where prefixes are kept, if they are.
    fn disk(&self, setup: &Setup) -> Result<Option<DiskCacheConfig>> {
        let Some(dir) = self.cache_dir.clone() else {
            return Ok(None);
        };
        let path = setup.source.path();
        let model = selfextend::fingerprint(path).map_err(|error| {
            CliError::failure(format!("cannot read {}: {error}", path.display()))
        })?;
        // Each mode of linear layers gives other numbers.
        let model = format!("{model} {:?}", self.model.load.linear);
        let mut config = DiskCacheConfig::new(dir, model);
        config.least_tokens = self.cache_least_tokens;
        config.most_bytes = self.cache_size as u64;
        Ok(Some(config))
    }

    /// The keys from options and the file; clap adds the one of the environment to the options.
    fn keys(&self) -> Result<Vec<String>> {
        let mut keys: Vec<String> = self.api_key.clone();
        if let Some(path) = &self.api_key_file {
            let text = input::file(path)?;
            let lines = text.lines().map(str::trim);
            let found: Vec<String> = lines
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned)
                .collect();
            if found.is_empty() {
                return Err(CliError::usage(format!(
                    "{} holds no key; write one per line",
                    path.display()
                )));
            }
            keys.extend(found);
        }
        if keys.iter().any(|key| key.trim().is_empty()) {
            return Err(CliError::usage("an API key is empty"));
        }
        Ok(keys)
    }
}
