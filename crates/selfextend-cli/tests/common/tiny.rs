//! A tiny random model.

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use std::fs::File;
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
    pub template: bool,
}

impl Default for Tiny {
    fn default() -> Self {
        Self {
            architecture: "llama",
            embedding_rows: tokens().len(),
            template: true,
        }
    }
}

impl Tiny {
    /// Writes the model.
    pub fn write(&self, path: &Path) {
        let mut random = Random(7);
        let tensors = self.tensors(&mut random);
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .collect();
        let metadata = self.metadata();
        let metadata: Vec<_> = metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value))
            .collect();
        let mut file = File::create(path).unwrap();
        gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    }

    fn tensors(&self, random: &mut Random) -> Vec<(String, QTensor)> {
        use GgmlDType::{F32, Q4_0, Q8_0};
        let mut tensors = vec![
            (
                "token_embd.weight".to_owned(),
                random.tensor(self.embedding_rows, HIDDEN, Q8_0, 1.0),
            ),
            ("output_norm.weight".to_owned(), ones()),
        ];
        for layer in 0..LAYERS {
            let matrices = [
                ("attn_q", HIDDEN, HIDDEN, Q8_0),
                ("attn_k", KV, HIDDEN, Q4_0),
                ("attn_v", KV, HIDDEN, F32),
                ("attn_output", HIDDEN, HIDDEN, Q4_0),
                ("ffn_gate", FEED_FORWARD, HIDDEN, Q8_0),
                ("ffn_up", FEED_FORWARD, HIDDEN, Q4_0),
                ("ffn_down", HIDDEN, FEED_FORWARD, F32),
            ];
            for (name, rows, columns, dtype) in matrices {
                let tensor = random.tensor(rows, columns, dtype, 0.25);
                tensors.push((format!("blk.{layer}.{name}.weight"), tensor));
            }
            for name in ["attn_norm", "ffn_norm"] {
                tensors.push((format!("blk.{layer}.{name}.weight"), ones()));
            }
        }
        tensors
    }

    fn metadata(&self) -> Vec<(String, Value)> {
        let size = |n: usize| Value::U32(n as u32);
        let strings =
            |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
        let merges = MERGES.map(|(a, b)| format!("{a} {b}")).to_vec();
        let plain = tokens().len() - CONTROL.len();
        let kinds = (0..tokens().len()).map(|id| Value::I32(if id < plain { 1 } else { 3 }));
        let model = [
            ("context_length", size(WINDOW)),
            ("embedding_length", size(HIDDEN)),
            ("block_count", size(LAYERS)),
            ("feed_forward_length", size(FEED_FORWARD)),
            ("attention.head_count", size(4)),
            ("attention.head_count_kv", size(2)),
            ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("rope.freq_base", Value::F32(10_000.0)),
        ];
        let model = model
            .into_iter()
            .map(|(key, value)| (format!("{}.{key}", self.architecture), value));
        let common = [
            (
                "general.architecture",
                Value::String(self.architecture.to_owned()),
            ),
            ("general.name", Value::String("Tiny".to_owned())),
            ("tokenizer.ggml.model", Value::String("gpt2".to_owned())),
            ("tokenizer.ggml.pre", Value::String("gpt-2".to_owned())),
            ("tokenizer.ggml.tokens", strings(tokens())),
            ("tokenizer.ggml.token_type", Value::Array(kinds.collect())),
            ("tokenizer.ggml.merges", strings(merges)),
            ("tokenizer.ggml.eos_token_id", size(tokens().len() - 1)),
        ];
        let common = common
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        let template = (
            "tokenizer.chat_template".to_owned(),
            Value::String(TEMPLATE.to_owned()),
        );
        common
            .chain(model)
            .chain(self.template.then_some(template))
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

fn ones() -> QTensor {
    let tensor = Tensor::ones(HIDDEN, candle_core::DType::F32, &Device::Cpu).unwrap();
    QTensor::quantize(&tensor, GgmlDType::F32).unwrap()
}

struct Random(u64);

impl Random {
    fn number(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn tensor(&mut self, rows: usize, columns: usize, dtype: GgmlDType, scale: f32) -> QTensor {
        let numbers: Vec<f32> = (0..rows * columns).map(|_| self.number() * scale).collect();
        let tensor = Tensor::from_vec(numbers, (rows, columns), &Device::Cpu).unwrap();
        QTensor::quantize(&tensor, dtype).unwrap()
    }
}
