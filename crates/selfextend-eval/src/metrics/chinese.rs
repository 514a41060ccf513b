//! LongBench's scores of Chinese answers: those of words, after a segmenter has found them.

use super::python::{is_space, pattern};
use super::text::{f1, rouge_l};
use jieba_rs::Jieba;
use regex::Regex;
use std::sync::LazyLock;

/// The segmenter that the authors use, with its own dictionary.
static JIEBA: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// The authors' list of Chinese punctuation, which lacks 《.
const PUNCTUATION: &str = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏.";

/// What the authors' segmenter cuts into words; it takes every other character alone.
static BLOCK: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\r\n|[\x{4E00}-\x{9FD5}a-zA-Z0-9+#&._%\-]+|(?s:.)"));
/// The parts of a text without Chinese characters that is not in the dictionary.
static LATIN: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"[a-zA-Z0-9]+(?:\.\d+)?%?|[^a-zA-Z0-9]+"));

fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for block in BLOCK.find_iter(text) {
        for token in JIEBA.cut(block.as_str(), true) {
            let word = token.word;
            if word.is_ascii() && word.len() > 1 && word != "\r\n" && !JIEBA.has_word(word) {
                words.extend(LATIN.find_iter(word).map(|part| part.as_str()));
            } else {
                words.push(word);
            }
        }
    }
    words
}

/// A word in lower case without punctuation and white space.
fn normalised(word: &str) -> String {
    let kept = word.chars().flat_map(char::to_lowercase);
    kept.filter(|c| !c.is_ascii_punctuation() && !PUNCTUATION.contains(*c) && !is_space(*c))
        .collect()
}

/// F1 of the words two texts share (LongBench's `qa_f1_zh_score`).
pub fn chinese_f1(answer: &str, expected: &str) -> f64 {
    let [answer, expected] = [answer, expected].map(|text| {
        let words = words(text).into_iter().map(normalised);
        words.filter(|word| !word.is_empty()).collect::<Vec<_>>()
    });
    f1(&answer, &expected)
}

/// Rouge-L of summaries by words (LongBench's `rouge_zh_score`).
pub fn chinese_rouge_l(answer: &str, expected: &str) -> f64 {
    rouge_l(&words(answer).join(" "), &words(expected).join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `jieba` 0.42.1 and `rouge` 1.0.1 in the authors' functions, computed once.
    #[test]
    fn scores_agree_with_the_authors() {
        let cases = [
            (
                "北京是中国的首都，人口超过两千万。",
                "中国的首都是北京。",
                0.769_230_769_230_769_3,
                0.499_999_995_312_500_06,
            ),
            (
                "这次会议讨论了明年的预算和研发计划。会议决定增加3.5%的投入。",
                "会议主要讨论预算，并决定将研发投入增加3.5%。",
                0.592_592_592_592_592_5,
                0.599_999_995_022_222_5,
            ),
            // Two words of one, 由马云: the names are not found.
            ("阿里巴巴集团由马云在杭州创立。", "马云，1999年", 0.0, 0.0),
            (
                "他来到了网易杭研大厦",
                "网易杭研大厦",
                0.666_666_666_666_666_6,
                0.666_666_662_222_222_3,
            ),
            ("今天天气不错", "股票下跌", 0.0, 0.0),
            ("", "北京", 0.0, 0.0),
        ];
        for (answer, expected, f1, rouge) in cases {
            let scores = (
                chinese_f1(answer, expected),
                chinese_rouge_l(answer, expected),
            );
            let off = (scores.0 - f1).abs().max((scores.1 - rouge).abs());
            assert!(off < 1e-9, "{answer}: {scores:?}");
        }
    }

    /// As `jieba` 0.42.1 cuts them.
    #[test]
    fn words_of_the_dictionary_stay_whole() {
        assert_eq!(
            words("我用AT&T和C++写"),
            ["我用", "AT&T", "和", "C++", "写"]
        );
        assert_eq!(words("x&y"), ["x", "&", "y"]);
        assert_eq!(words("价格3.5%x"), ["价格", "3.5%", "x"]);
    }

    #[test]
    fn words_lose_their_punctuation() {
        assert_eq!(normalised("【Rust 语言】"), "rust语言");
        assert_eq!(chinese_f1("北京！", "北京"), 1.0);
    }
}
