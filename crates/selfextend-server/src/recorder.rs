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

/// What each counter counts.
const COUNTERS: [(&str, &str); 10] = [
    ("prompt_tokens", "Tokens of admitted prompts."),
    (
        "cached_tokens",
        "Tokens of admitted prompts that were in the prefix cache.",
    ),
    ("prefilled_tokens", "Tokens of prompts that were read."),
    (
        "generated_tokens",
        "Tokens of answers, end tokens included.",
    ),
    (
        "guessed_tokens",
        "Tokens that were guessed ahead and verified.",
    ),
    ("guessed_right", "Guessed tokens that were right."),
    (
        "extended_requests",
        "Admitted requests that run beyond the trained window.",
    ),
    (
        "cancelled",
        "Requests that ended because their client left or their time was over in the queue.",
    ),
    ("panics", "Panics on the thread that runs the model."),
    (
        "prefix_evictions",
        "Blocks of prompts that were evicted from the prefix cache.",
    ),
];

/// What each gauge shows.
const GAUGES: [(&str, &str); 5] = [
    ("running_requests", "Requests that run."),
    ("queued_requests", "Requests that wait."),
    (
        "kv_reserved_bytes",
        "Bytes of keys and values that running requests hold.",
    ),
    ("prefix_cache_bytes", "Bytes of cached prompts."),
    (
        "kv_budget_bytes",
        "Bytes that running requests and cached prompts may take.",
    ),
];

/// What each histogram is of.
const HISTOGRAMS: [(&str, &str); 3] = [
    (
        "time_to_first_token_seconds",
        "From a request's arrival to the first token of its answer.",
    ),
    (
        "time_between_tokens_seconds",
        "Between tokens of an answer.",
    ),
    ("decode_batch", "Answers in a decode step."),
];

const REQUESTS: &str = "selfextend_http_requests_total";

/// Describes all metrics, and makes them appear before anything has happened. `routes` are those whose
/// requests are counted.
pub fn describe(routes: &[&'static str]) {
    metrics::describe_counter!(REQUESTS, "Requests by route and status.");
    for route in routes {
        metrics::counter!(REQUESTS, "route" => *route, "status" => "200").increment(0);
    }
    for (name, help) in COUNTERS {
        let name = format!("selfextend_{name}_total");
        metrics::describe_counter!(name.clone(), help);
        metrics::counter!(name).increment(0);
    }
    for (name, help) in GAUGES {
        let name = format!("selfextend_{name}");
        metrics::describe_gauge!(name.clone(), help);
        metrics::gauge!(name).increment(0.0);
    }
    for (name, help) in HISTOGRAMS {
        let name = format!("selfextend_{name}");
        metrics::describe_histogram!(name.clone(), help);
        let _ = metrics::histogram!(name);
    }
}

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
