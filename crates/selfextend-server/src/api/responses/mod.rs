//! `/v1/responses`: OpenAI's newer dialect. `request` and `turns` translate it to the request of a chat,
//! `writer` translates the answer back, `store` keeps conversations so that they can be continued.

mod handlers;
mod request;
pub mod store;
mod turns;
mod writer;

pub use handlers::{create, delete, retrieve};
