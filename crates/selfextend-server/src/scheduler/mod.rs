//! Which sequences run, and when: continuous batching on one thread.
//!
//! Handlers submit requests through a channel and are told what happens through another; the engine
//! itself stays synchronous. Each turn of the thread takes in new requests, admits what the memory
//! budget and the queue's order allow, runs one decode step of all sequences that generate, and
//! reads one chunk of the prompts that are not read yet. So no stream waits longer for its next
//! token than one chunk takes. `fairness` has the rules for who goes next and why nobody starves.

mod active;
mod admission;
mod cost;
mod fairness;
mod handle;
mod passes;
mod request;
mod shared;
mod worker;

pub use handle::{Scheduler, full_context_bytes};
pub use request::{Admitted, Event, Failure, Piece, Request, TokenLogprob};
