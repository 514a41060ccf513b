//! The server in this process: what clients see, alone and in company.

mod admission;
mod answers;
#[path = "../common/mod.rs"]
mod common;
mod dialects;
mod harness;
mod lenient;
mod responses;
mod speculation;
mod tools;

use serde_json::{Value, json};

fn seeded(prompt: &str, seed: u64) -> Value {
    json!({"prompt": prompt, "seed": seed, "max_tokens": 40, "logit_bias": common::endless()})
}
