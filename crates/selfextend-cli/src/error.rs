//! Why a command ended early, and its exit code.

use selfextend::Error;
use selfextend::hub::HubError;
use selfextend::method::MethodError;
use selfextend::settings::{Setting, SettingsError};
use selfextend_eval::EvalError;
use selfextend_server::ServerError;
use std::process::ExitCode;

/// The exit code after Ctrl-C: 128 + SIGINT, as shells expect.
pub const INTERRUPTED: u8 = 130;

/// A result of a command.
pub type Result<T, E = CliError> = std::result::Result<T, E>;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The arguments ask for something that cannot be done.
    #[error("{0}")]
    Usage(String),
    /// Something went wrong on the way.
    #[error("{0}")]
    Failure(String),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Nobody reads the output any more, which is not an error.
    #[error("the output was closed")]
    ClosedPipe,
}

impl CliError {
    /// A usage error.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// A failure.
    pub fn failure(message: impl Into<String>) -> Self {
        Self::Failure(message.into())
    }

    /// What the process returns.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Failure(_) => ExitCode::FAILURE,
            Self::Interrupted => ExitCode::from(INTERRUPTED),
            Self::ClosedPipe => ExitCode::SUCCESS,
        }
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        match error {
            Error::Settings(error) => error.into(),
            Error::Method(error) => error.into(),
            Error::Hub(error) => error.into(),
            Error::ContextFull { .. } => Self::Failure(format!("{error} (--context)")),
            Error::Sampling(message) => Self::Usage(message),
            Error::Draft { .. } => Self::Usage(format!("--draft: {error}")),
            Error::Stopped => Self::Interrupted,
            other => Self::Failure(other.to_string()),
        }
    }
}

impl From<SettingsError> for CliError {
    fn from(error: SettingsError) -> Self {
        Self::Usage(with_flags(&error))
    }
}

/// A message about settings, with the flags of the command line.
fn with_flags(error: &SettingsError) -> String {
    match error {
        SettingsError::Zero { setting } => format!("{} must be at least 1", flag(*setting)),
        SettingsError::Window { window, trained } => format!(
            "--neighbor-window {window} must be smaller than the trained window of {trained} tokens; try {}",
            trained / 4
        ),
        SettingsError::TooLong {
            context,
            limit,
            group_size,
            window,
            enough,
        } => format!(
            "a context of {context} tokens is beyond the limit of {limit} for --group-size {group_size} and --neighbor-window {window}: use --group-size {enough}"
        ),
        SettingsError::NoExtend { needed, trained } => format!(
            "{needed} tokens do not fit the trained window of {trained}, and --no-extend forbids extending it; leave it out, or shorten the text"
        ),
        SettingsError::TooShort { needed, context } => format!(
            "{needed} tokens are needed, but --context allows {context}; use --context {needed} or more"
        ),
        other => other.to_string(),
    }
}

fn flag(setting: Setting) -> String {
    match setting {
        Setting::Context => "--context".into(),
        Setting::GroupSize => "--group-size".into(),
        Setting::NeighborWindow => "--neighbor-window".into(),
        other => format!("the {other}"),
    }
}

impl From<MethodError> for CliError {
    fn from(error: MethodError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<ServerError> for CliError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::KvMemory { .. } => Self::Usage(format!(
                "{error}; raise --kv-memory, lower --context, or use --kv-type q8_0 or q4"
            )),
            ServerError::Listen { .. } => {
                Self::Failure(format!("{error}; choose another with --host and --port"))
            }
            ServerError::CacheDir { .. } => {
                Self::Failure(format!("{error}; choose another with --cache-dir"))
            }
            ServerError::AllowedHost(_) => Self::Usage(format!("--allow-host: {error}")),
            ServerError::AllowedOrigin(_) => Self::Usage(format!("--allow-origin: {error}")),
            ServerError::Engine(error) => error.into(),
            other => Self::Failure(other.to_string()),
        }
    }
}

impl From<HubError> for CliError {
    fn from(error: HubError) -> Self {
        Self::Failure(error.to_string())
    }
}

impl From<EvalError> for CliError {
    fn from(error: EvalError) -> Self {
        match error {
            EvalError::Engine(error) => error.into(),
            EvalError::Settings(message) => Self::Usage(message),
            EvalError::Method(_) | EvalError::Unreachable { .. } => Self::Usage(error.to_string()),
            other => Self::Failure(other.to_string()),
        }
    }
}
