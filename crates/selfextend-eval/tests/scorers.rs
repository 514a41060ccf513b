//! Every scorer gives the values of its authors' code, for answers that `tools/scorers.py`
//! generated and had scored by it.

use selfextend_eval::metrics::*;
use selfextend_eval::{ChoiceOutcome, Outcome};
use serde_json::Value;

fn cases(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/scorers/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten();
    texts
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

/// Holds every case of a file against a scorer: `ours` gives the score of an answer.
fn agree(name: &str, least: usize, ours: impl Fn(&str, &str, &Value) -> f64) {
    let cases = cases(name);
    assert!(cases.len() >= least, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let text = |key: &str| case[key].as_str().unwrap_or_default();
        let score = ours(text("scorer"), text("answer"), case);
        let theirs = case["score"].as_f64().unwrap();
        if (score - theirs).abs() > 1e-12 {
            wrong.push(format!("{score} for {case}"));
        }
    }
    let count = wrong.len();
    wrong.truncate(20);
    assert!(count == 0, "{count} differ:\n{}", wrong.join("\n"));
}

#[test]
fn leval() {
    agree("leval", 1000, |task, answer, case| {
        let expected = case["expected"].as_str().unwrap();
        match task {
            "coursera" => exam_choice(answer, expected, true),
            "quality" => exam_choice(answer, expected, false),
            "gsm100" => exam_math(answer, expected),
            "codeU" => exam_code(answer, expected),
            "sci_fi" => exam_judgement(answer, expected, Side::Story),
            "sci_fi-fact" => exam_judgement(answer, expected, Side::Fact),
            _ => exact_match(answer, expected),
        }
    });
}

#[test]
fn longbench() {
    agree("longbench", 2000, |scorer, answer, case| {
        let expected = case["expected"].as_str().unwrap();
        match scorer {
            "qa_f1_score" => token_f1(answer, expected),
            "rouge_score" => rouge_l(answer, expected),
            "qa_f1_zh_score" => chinese_f1(answer, expected),
            "rouge_zh_score" => chinese_rouge_l(answer, expected),
            "classification_score" => classification(answer, expected, &texts(&case["classes"])),
            "retrieval_score" => retrieval_accuracy(answer, expected, "Paragraph "),
            "retrieval_zh_score" => retrieval_accuracy(answer, expected, "段落"),
            "count_score" => count_accuracy(answer, expected),
            "code_sim_score" => code_similarity(answer, expected),
            "v2" => stated_choice(answer, expected),
            other => panic!("{other}"),
        }
    });
}

#[test]
fn ruler() {
    // In percent, with two digits.
    let percent = |score: f64| (10_000.0 * score).round() / 100.0;
    agree("ruler", 1000, |scorer, answer, case| {
        let expected = texts(&case["expected"]);
        percent(match scorer {
            "string_match_all" => string_match_all(answer, &expected),
            _ => string_match_part(answer, &expected),
        })
    });
}

#[test]
fn babilong() {
    agree("babilong", 1000, |_, answer, case| {
        let text = |key: &str| case[key].as_str().unwrap();
        label_match(
            answer,
            text("expected"),
            text("question"),
            &texts(&case["labels"]),
        )
    });
}

#[test]
fn lm_evaluation_harness() {
    let cases = cases("lm_eval");
    let choices = cases
        .iter()
        .filter(|case| case["scorer"] == "multiple_choice");
    assert!(choices.clone().count() >= 1000);
    for case in choices {
        let likelihoods = case["log_likelihoods"].as_array().unwrap();
        let texts = texts(&case["choices"]);
        let outcome = |(text, likelihood): (&String, &Value)| ChoiceOutcome {
            log_likelihood: likelihood.as_f64().unwrap(),
            characters: text.chars().count(),
            bytes: text.len(),
            greedy: false,
        };
        let outcome = Outcome::Choice {
            gold: case["gold"].as_u64().unwrap() as usize,
            choices: texts.iter().zip(likelihoods).map(outcome).collect(),
        };
        let ours = [
            outcome.score(),
            outcome.score_by_character(),
            outcome.score_by_byte(),
        ];
        let theirs = ["acc", "acc_norm", "acc_bytes"].map(|name| case[name].as_f64());
        assert_eq!(ours, theirs, "{case}");
    }
    let texts = cases.iter().filter(|case| case["scorer"] == "perplexity");
    for case in texts {
        // A report's perplexity is that of all tokens: the weighted one.
        let items: Vec<(f64, f64)> = serde_json::from_value(case["items"].clone()).unwrap();
        let blocks = items.iter().map(|&(nll, count)| (count as usize, -nll));
        let ours = perplexity(&blocks.collect::<Vec<_>>());
        let theirs = case["weighted_perplexity"].as_f64().unwrap();
        assert!((ours / theirs - 1.0).abs() < 1e-12, "{ours}: {case}");
    }
}
