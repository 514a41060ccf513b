//! Tokens ahead of time: guessed, and verified in one pass.
//!
//! An answer about a document often repeats it. So a [`Speculation`] looks where the last tokens occurred
//! before, in the prompt or the answer, and proposes what followed there. Or a small model with the same
//! vocabulary, a [`Draft`], reads the same text and proposes how it would go on. The model reads the
//! proposals in one pass with the token before them, as so many decode steps
//! ([`Session::append_steps`](crate::Session::append_steps)): the logits after each are bit for bit those
//! that it would have got alone. So tokens are drawn as always, and a proposal is only right or wrong
//! about which logits are known already: the text cannot differ, however tokens are chosen. Rows that
//! turn out wrong are taken back.
//!
//! [`Answer`](crate::Answer) does all of this
//! ([`GenerateOptions::speculate`](crate::GenerateOptions::speculate),
//! [`Answer::with_draft`](crate::Answer::with_draft)); callers of
//! [`Model::forward`](crate::Model::forward) use these parts: [`guess`] before each pass,
//! [`Speculation::saw`] with each token that is drawn.

mod draft;
mod guess;
mod lookup;
mod model;
mod odds;
mod pace;
mod speculation;
#[cfg(test)]
mod tests;

pub use draft::Draft;
pub use guess::{Costs, Guessing, guess};
pub use model::{DraftFile, DraftModel};
pub use pace::{MOST_PROPOSALS, PassCost};
pub use speculation::{Speculated, Speculation};
