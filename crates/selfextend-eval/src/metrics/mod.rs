//! Scores of answers, and how certain their means are.

mod chinese;
mod intervals;
mod leval;
mod nodes;
mod python;
mod sequence;
mod text;

pub use chinese::{chinese_f1, chinese_rouge_l};
pub use intervals::{Interval, Summary, bootstrap_mean, bootstrap_perplexity, perplexity, wilson};
pub use leval::{Side, exact_match, exam_choice, exam_code, exam_judgement, exam_math};
pub use nodes::node_f1;
pub use text::{
    classification, code_similarity, count_accuracy, edit_similarity, label_match, normalised,
    repetition, retrieval_accuracy, rouge_l, stated_choice, string_match_all, string_match_part,
    token_f1,
};

/// The score of an answer that is right or wrong: 1 or 0.
pub(crate) fn right(is_right: bool) -> f64 {
    if is_right { 1.0 } else { 0.0 }
}
