//! What all handlers share.

use super::body::Intake;
use super::error::ApiError;
use super::keys::Keys;
use super::origin::AllowList;
use super::responses::store::Store;
use super::style::ChatStyle;
use crate::config::ServerConfig;
use crate::constrain::{Constraint, Constraints, Grammar};
use crate::error::ServerError;
use crate::ladder::Ladder;
use crate::scheduler::Scheduler;
use metrics_exporter_prometheus::PrometheusHandle;
use selfextend::TextModel;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// The model, the scheduler and the settings.
pub struct App {
    pub text: Arc<TextModel>,
    pub ladder: Arc<Ladder>,
    pub scheduler: Scheduler,
    pub config: ServerConfig,
    pub keys: Keys,
    pub allowed: AllowList,
    pub intake: Intake,
    /// How the model writes calls and thoughts.
    pub style: ChatStyle,
    pub metrics: PrometheusHandle,
    /// Responses that requests can continue.
    pub kept: Store,
    /// When the server was started, in seconds since 1970.
    pub created: u64,
    /// Bytes of the longest token.
    longest_token: usize,
    constraints: OnceLock<Result<Constraints, String>>,
}

/// The application as handlers get it.
pub type SharedApp = Arc<App>;

impl App {
    /// An application around a running scheduler.
    ///
    /// # Errors
    /// Allowed hosts and origins that are malformed.
    pub fn new(
        config: ServerConfig,
        text: Arc<TextModel>,
        ladder: Arc<Ladder>,
        scheduler: Scheduler,
        metrics: PrometheusHandle,
    ) -> Result<Self, ServerError> {
        let allowed = AllowList::new(&config.allowed_hosts, &config.allowed_origins)?;
        Ok(Self {
            keys: Keys::new(&config.api_keys),
            allowed,
            intake: Intake::new(config.http),
            style: ChatStyle::new(text.template.as_ref(), &text.tokenizer, config.tool_format),
            longest_token: longest_token(&text),
            text,
            ladder,
            scheduler,
            kept: Store::new(config.kept_responses, MOST_KEPT_BYTES),
            config,
            metrics,
            created: now(),
            constraints: OnceLock::new(),
        })
    }

    /// Refuses a text that no context holds, before anything is made of it: every token stands for
    /// at most as many bytes as the longest one.
    ///
    /// # Errors
    /// The parameter of that name is too long.
    pub fn check_length(&self, name: &str, bytes: usize) -> Result<(), ApiError> {
        let context = self.ladder.context();
        let most = context.saturating_mul(self.longest_token);
        if bytes > most.max(ALWAYS_READ) {
            let least = bytes.div_ceil(self.longest_token);
            return Err(ApiError::text_length(name, context, least));
        }
        Ok(())
    }

    /// The tokens of a text, in which special tokens stand for themselves or are text like any other,
    /// after the beginning-of-text token where it is asked for, the model wants one, and the text does
    /// not begin with it.
    ///
    /// # Errors
    /// Text that the tokenizer cannot take.
    pub fn encode(
        &self,
        text: &str,
        add_bos: bool,
        parse_special: bool,
    ) -> selfextend::Result<Vec<u32>> {
        let tokenizer = &self.text.tokenizer;
        let mut ids = if parse_special {
            tokenizer.encode_with_special(text)?
        } else {
            tokenizer.encode(text)?
        };
        let bos = tokenizer.bos().filter(|_| add_bos && tokenizer.add_bos());
        if let Some(bos) = bos.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// Refuses a model that is not served here.
    ///
    /// # Errors
    /// A name that is neither the model's nor another one it was given.
    pub fn check_model(&self, asked: Option<&str>) -> Result<(), ApiError> {
        let config = &self.config;
        match asked {
            Some(asked) if !config.answers_to(asked) => {
                Err(ApiError::no_such_model(asked, &config.model))
            }
            _ => Ok(()),
        }
    }

    /// A constraint to a grammar, which the field of that name asks for. The vocabulary is read at the
    /// first call.
    pub fn constraint(&self, name: &str, grammar: Grammar) -> Result<Constraint, ApiError> {
        let made = self
            .constraints
            .get_or_init(|| Constraints::new(&self.text.tokenizer));
        let constraints = made.as_ref().map_err(|error| {
            ApiError::internal(format!("this model cannot be constrained: {error}"))
        })?;
        constraints.hold_to(grammar).map_err(|error| {
            let what = match name {
                "response_format" | "tools" => "schema",
                _ => "grammar",
            };
            ApiError::parameter(name, format!("{name}: the {what} cannot be used: {error}"))
        })
    }
}

/// Bytes of responses that are kept.
const MOST_KEPT_BYTES: usize = 64 << 20;
/// Bytes of a text that is read whatever the context: a template may leave parts of it out.
const ALWAYS_READ: usize = 256 << 10;

fn longest_token(text: &TextModel) -> usize {
    let ids = 0..text.tokenizer.vocab_size() as u32;
    let bytes = ids.filter_map(|id| text.tokenizer.token_bytes(id).ok());
    bytes.map(|bytes| bytes.len()).max().unwrap_or(1).max(1)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
