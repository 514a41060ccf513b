//! Scores of answers, and how certain their means are.

mod chinese;
mod exam;
mod intervals;
mod text;

pub use chinese::{chinese_f1, chinese_rouge_l};
pub use exam::{exam_choice, exam_judgement, exam_match};
pub use intervals::{Interval, Summary, bootstrap_mean, bootstrap_perplexity, wilson};
pub use text::{
    classification, code_similarity, count_accuracy, edit_similarity, normalised,
    retrieval_accuracy, rouge_l, string_match_all, token_f1,
};
