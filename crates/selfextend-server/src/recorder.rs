//! The process's metrics, in Prometheus' format.

use crate::error::ServerError;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;

/// Bucket bounds in seconds: from a decode step to the prefill of a long document.
const SECONDS: [f64; 16] = [
    0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0,
];

/// Bucket bounds of the sequences in a decode step.
const SEQUENCES: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// The recorder, installed at the first call: a process has one, however many servers it runs.
pub fn install() -> Result<PrometheusHandle, ServerError> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let build = || {
        let seconds = Matcher::Suffix("_seconds".into());
        let sequences = Matcher::Full("selfextend_decode_batch".into());
        PrometheusBuilder::new()
            .set_buckets_for_metric(seconds, &SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(sequences, &SEQUENCES))
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|error| error.to_string())
    };
    HANDLE
        .get_or_init(build)
        .clone()
        .map_err(ServerError::Start)
}
