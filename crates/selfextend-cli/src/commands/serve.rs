//! `selfextend serve`.

use crate::args::serve::ServeArgs;
use crate::error::{CliError, Result};
use crate::setup::Setup;
use crate::{interrupt, output};
use selfextend::{Extension, SessionOptions, TextModel};
use selfextend_server::prefix::DiskCache;
use selfextend_server::{Config, HttpLimits, Ladder, scheduler};
use std::net::SocketAddr;
use std::time::Duration;

/// The default context, in trained windows.
const DEFAULT_EXTENSION: usize = 4;

/// Loads the model and serves until told to stop.
pub fn serve(args: &ServeArgs) -> Result<()> {
    selfextend_server::log_to_stderr(args.log_json);
    let keys = args.keys()?;
    let setup = Setup::new(&args.model)?;
    let text = setup.source.load()?;
    let ladder = ladder(&setup, &text)?;
    let disk = args.disk(&setup)?;
    let config = config(args, keys, disk, &text, &ladder)?;
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

/// The steps up to the context that was asked for.
fn ladder(setup: &Setup, text: &TextModel) -> Result<Ladder> {
    let trained = text.model.config().trained_window;
    let choice = &setup.choice;
    let context = match choice.asked_context(trained) {
        Some(context) => context,
        None if choice.stays_within() => trained,
        None => DEFAULT_EXTENSION * trained,
    };
    Ladder::new(trained, context, |step| -> Result<SessionOptions> {
        let extension = if step <= trained {
            Extension::plain(trained, step)
        } else {
            choice.for_context(step, trained)?
        };
        Ok(setup.source.options(extension))
    })
}

fn config(
    args: &ServeArgs,
    api_keys: Vec<String>,
    disk: Option<DiskCache>,
    text: &TextModel,
    ladder: &Ladder,
) -> Result<Config> {
    let full = scheduler::Scheduler::full_context(text, ladder)?;
    let chunk = args.model.load.chunk;
    Ok(Config {
        listen: SocketAddr::new(args.host, args.port),
        model: args
            .alias
            .clone()
            .unwrap_or_else(|| args.model.load.model.clone()),
        scheduler: scheduler::Limits {
            // Two conversations at full length, and no less than a gibibyte.
            kv_memory: args.kv_memory.unwrap_or((2 * full).max(1 << 30)),
            parallel: args.parallel,
            queue: args.queue,
            chunk,
            busy_chunk: (chunk / 4).max(1),
        },
        default_max_tokens: args.max_tokens,
        api_keys,
        disk,
        log_prompts: args.log_prompts,
        http: HttpLimits {
            body: args.max_body,
            request_time: Duration::from_secs(args.request_timeout),
            connections: args.max_connections,
            ..HttpLimits::default()
        },
        grace: Duration::from_secs(args.grace),
    })
}

impl ServeArgs {
    /// Where prefixes are kept, if they are.
    fn disk(&self, setup: &Setup) -> Result<Option<DiskCache>> {
        let Some(dir) = self.cache_dir.clone() else {
            return Ok(None);
        };
        let path = setup.source.path();
        let model = selfextend::fingerprint(path).map_err(|error| {
            CliError::failure(format!("cannot read {}: {error}", path.display()))
        })?;
        Ok(Some(DiskCache {
            dir,
            // Widened weights give other numbers.
            model: format!("{model} {:?}", self.model.load.linear),
            least_tokens: self.cache_least_tokens,
            most_bytes: self.cache_size as u64,
        }))
    }

    /// The keys from options and the file; clap adds the one of the environment to the options.
    fn keys(&self) -> Result<Vec<String>> {
        let mut keys: Vec<String> = self.api_key.clone();
        if let Some(path) = &self.api_key_file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                CliError::failure(format!("cannot read {}: {error}", path.display()))
            })?;
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
