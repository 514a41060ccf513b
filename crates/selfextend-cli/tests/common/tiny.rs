//! A tiny random model.

#[path = "../../../selfextend/tests/common/gguf.rs"]
mod gguf;

use gguf::{Field, Tensor};
use std::path::Path;

/// Trained window of the tiny model.
pub const WINDOW: usize = 64;

const HIDDEN: usize = 64;
const FEED_FORWARD: usize = 96;
const KV: usize = 32;
const LAYERS: usize = 2;
const MERGES: [(&str, &str); 4] = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "n")];
const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// What a test may want to be wrong with a model.
pub struct Tiny {
    pub architecture: &'static str,
    pub embedding_rows: usize,
    pub template: Option<&'static str>,
    /// What it recommends to sample with.
    pub sampling: &'static [(&'static str, f32)],
    /// Whether the file says how its tokenizer cuts words.
    pub rules: bool,
    /// Frequency factors for contexts up to so many tokens, and others beyond (longrope).
    pub short_context: Option<usize>,
    /// Of its weights.
    pub seed: u64,
    /// A token with another text.
    pub renamed: Option<(usize, &'static str)>,
}

impl Default for Tiny {
    fn default() -> Self {
        Self {
            architecture: "llama",
            embedding_rows: tokens().len(),
            template: Some(TEMPLATE),
            sampling: &[],
            rules: true,
            short_context: None,
            seed: 7,
            renamed: None,
        }
    }
}

impl Tiny {
    /// Writes the model.
    pub fn write(&self, path: &Path) {
        gguf::write(
            path,
            &self.metadata(),
            &self.tensors(&mut Random(self.seed)),
        );
    }

    fn tensors(&self, random: &mut Random) -> Vec<(String, Tensor)> {
        let (f32, q4_0, q8_0) = (Tensor::f32, Tensor::q4_0, Tensor::q8_0);
        let mut tensors = vec![
            (
                "token_embd.weight".to_owned(),
                random.tensor(self.embedding_rows, HIDDEN, q8_0, 1.0),
            ),
            ("output_norm.weight".to_owned(), ones()),
        ];
        if self.short_context.is_some() {
            // Pairs of a head.
            let factors = |factor| f32(&[HIDDEN / 4 / 2], &[factor; HIDDEN / 4 / 2]);
            for (name, factor) in [("short", 1.0), ("long", 5.0)] {
                tensors.push((format!("rope_factors_{name}.weight"), factors(factor)));
            }
        }
        for layer in 0..LAYERS {
            let matrices = [
                ("attn_q", HIDDEN, HIDDEN, q8_0 as Quantise),
                ("attn_k", KV, HIDDEN, q4_0),
                ("attn_v", KV, HIDDEN, f32),
                ("attn_output", HIDDEN, HIDDEN, q4_0),
                ("ffn_gate", FEED_FORWARD, HIDDEN, q8_0),
                ("ffn_up", FEED_FORWARD, HIDDEN, q4_0),
                ("ffn_down", HIDDEN, FEED_FORWARD, f32),
            ];
            for (name, rows, columns, quantise) in matrices {
                let tensor = random.tensor(rows, columns, quantise, 0.25);
                tensors.push((format!("blk.{layer}.{name}.weight"), tensor));
            }
            for name in ["attn_norm", "ffn_norm"] {
                tensors.push((format!("blk.{layer}.{name}.weight"), ones()));
            }
        }
        tensors
    }

    fn metadata(&self) -> Vec<(String, Field)> {
        let merges = MERGES.map(|(a, b)| format!("{a} {b}"));
        let plain = tokens().len() - CONTROL.len();
        let mut names = tokens();
        if let Some((id, name)) = self.renamed {
            names[id] = name.to_owned();
        }
        let kinds = (0..tokens().len()).map(|id| if id < plain { 1 } else { 3 });
        let model = [
            ("context_length", Field::u32(WINDOW)),
            ("embedding_length", Field::u32(HIDDEN)),
            ("block_count", Field::u32(LAYERS)),
            ("feed_forward_length", Field::u32(FEED_FORWARD)),
            ("attention.head_count", Field::u32(4)),
            ("attention.head_count_kv", Field::u32(2)),
            ("attention.layer_norm_rms_epsilon", Field::f32(1e-5)),
            ("rope.freq_base", Field::f32(10_000.0)),
        ];
        let model = model
            .into_iter()
            .map(|(key, value)| (format!("{}.{key}", self.architecture), value));
        let common = [
            ("general.architecture", Field::text(self.architecture)),
            ("general.name", Field::text("Tiny")),
            ("tokenizer.ggml.model", Field::text("gpt2")),
            ("tokenizer.ggml.tokens", Field::texts(names)),
            ("tokenizer.ggml.token_type", Field::i32s(kinds)),
            ("tokenizer.ggml.merges", Field::texts(merges)),
            (
                "tokenizer.ggml.eos_token_id",
                Field::u32(tokens().len() - 1),
            ),
        ];
        let common = common
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        let short = self.short_context.map(|short| {
            let key = "rope.scaling.original_context_length";
            (format!("{}.{key}", self.architecture), Field::u32(short))
        });
        let template = |text| ("tokenizer.chat_template".to_owned(), Field::text(text));
        let sampling = self.sampling.iter().map(|(name, value)| {
            let key = format!("general.sampling.{name}");
            (key, Field::f32(*value))
        });
        let rules = ("tokenizer.ggml.pre".to_owned(), Field::text("gpt-2"));
        common
            .chain(model)
            .chain(self.rules.then_some(rules))
            .chain(short)
            .chain(self.template.map(template))
            .chain(sampling)
            .collect()
    }
}

/// All bytes as GPT-2 writes them, the merges, the control tokens.
fn tokens() -> Vec<String> {
    let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut others = 256..;
    let bytes = (0..256).map(|byte| {
        if printable(byte) {
            byte
        } else {
            others.next().unwrap()
        }
    });
    let bytes = bytes.map(|code| char::from_u32(code).unwrap().to_string());
    let merged = MERGES.map(|(a, b)| format!("{a}{b}"));
    bytes
        .chain(merged)
        .chain(CONTROL.map(str::to_owned))
        .collect()
}

fn ones() -> Tensor {
    Tensor::f32(&[HIDDEN], &[1.0; HIDDEN])
}

/// How numbers become a tensor of a shape.
type Quantise = fn(&[usize], &[f32]) -> Tensor;

struct Random(u64);

impl Random {
    fn number(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn tensor(&mut self, rows: usize, columns: usize, quantise: Quantise, scale: f32) -> Tensor {
        let numbers: Vec<f32> = (0..rows * columns).map(|_| self.number() * scale).collect();
        quantise(&[rows, columns], &numbers)
    }
}
