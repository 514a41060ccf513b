//! Which sequences run, and when: continuous batching on one thread.
//!
//! Handlers submit requests through a channel and are told what happens through another; the engine
//! itself stays synchronous. Each turn of the thread takes in new requests, admits what the memory
//! budget and the queue's order allow, runs one decode step of all sequences that generate, and
//! reads one chunk of the prompts that are not read yet. So no stream waits longer for its next
//! token than one chunk takes. `fairness` has the rules for who goes next and why nobody starves.
//!
//! The thread is supervised: a panic in a pass is the failure of the requests in it, after which the
//! prefix cache starts empty and the budget is counted anew. A panic that no request can be blamed
//! for ends the thread, and with it the server, after every client was answered.

mod active;
mod admission;
mod channel;
mod cost;
mod event;
mod fairness;
mod handle;
mod logprobs;
mod passes;
mod request;
mod shared;
mod supervise;
#[cfg(test)]
mod tests;
mod worker;

pub use channel::channel;
pub use event::{Admitted, Event, Failure, Piece, TokenLogprob};
pub use handle::{Health, Scheduler, full_context_bytes};
pub use request::Request;
