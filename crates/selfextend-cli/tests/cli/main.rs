//! The real binary, end to end, on a tiny random model that the tests write themselves.

mod cache;
mod chat;
#[path = "../common/mod.rs"]
mod common;
mod compare;
mod draft;
mod errors;
mod eval;
mod help;
mod hidden;
mod measure;
mod methods;
mod pipes;
mod run;
mod serve;
mod speculate;
mod trained;
mod tune;
