//! What all handlers share.

use super::error::ApiError;
use super::keys::Keys;
use crate::config::ServerConfig;
use crate::constrain::{Constraint, Constraints};
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
    pub metrics: PrometheusHandle,
    /// When the server was started, in seconds since 1970.
    pub created: u64,
    constraints: OnceLock<Result<Constraints, String>>,
}

/// The application as handlers get it.
pub type SharedApp = Arc<App>;

impl App {
    /// An application around a running scheduler.
    pub fn new(
        config: ServerConfig,
        text: Arc<TextModel>,
        ladder: Arc<Ladder>,
        scheduler: Scheduler,
        metrics: PrometheusHandle,
    ) -> Self {
        Self {
            keys: Keys::new(&config.api_keys),
            text,
            ladder,
            scheduler,
            config,
            metrics,
            created: now(),
            constraints: OnceLock::new(),
        }
    }

    /// A constraint to JSON that follows a schema. The vocabulary is read at the first call.
    pub fn constraint(&self, schema: serde_json::Value) -> Result<Constraint, ApiError> {
        let made = self
            .constraints
            .get_or_init(|| Constraints::new(&self.text.tokenizer));
        let constraints = made.as_ref().map_err(|error| {
            ApiError::internal(format!("this model cannot be constrained: {error}"))
        })?;
        constraints.json(schema).map_err(|error| {
            let message = format!("response_format: the schema cannot be used: {error}");
            ApiError::parameter("response_format", message)
        })
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
