//! Speed of the engine on a GPU: prefill and decode in tokens per second, plain and under
//! SelfExtend in turns, through the same decoder as everything else. Prints a JSON line for each.
//!
//! `device MODEL [LENGTHS] [f16|q8_0]`, lengths in tokens separated by commas; with `random-8b` for
//! MODEL, a Llama 3 8B's sizes with random bf16 weights, with `random-olmoe` OLMoE-1B-7B's in Q4_K
//! (64 experts, 8 of which read a token), without an embedding worth the name. For these it says how
//! long reading the weights of a token takes, at the rate at which one large matrix is read.

use half::{bf16, f16};
use selfextend::backend::cuda::{Cuda, Half};
use selfextend::backend::{Backend, Cache, CacheLayout, Expert};
use selfextend::config::{
    Activation, Experts, LayerAttention, ModelConfig, NormKind, QkNorm, Rotary, Routing,
};
use selfextend::decoder::{
    self, Activations, Dense, FeedForward, LayerWeights, Linear, Norm, Sparse, Weights,
};
use selfextend::tensor::{RawTensor, TensorFormat};
use selfextend::{Device, Extension, KvType, LoadOptions, Model, PositionMap, SessionOptions};
use selfextend_attention::{LayerKind, Rope, RopeSpec};
use std::time::Instant;

const CHUNK: usize = 2048;
const STEPS: usize = 32;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: device MODEL|random-8b|random-olmoe [LENGTHS] [f16|q8_0]";
    let model = arguments.next().ok_or(usage)?;
    let lengths = arguments.next().unwrap_or("4096,32768".into());
    let lengths: Vec<usize> = lengths
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let kv_type = match arguments.next().as_deref() {
        None | Some("f16") => KvType::F16,
        Some("q8_0") => KvType::Q8_0,
        Some(_) => return Err(usage.into()),
    };
    match &*model {
        "random-8b" => return random::<bf16>(llama(), TensorFormat::BF16, &lengths, kv_type),
        "random-olmoe" => return random::<f16>(olmoe(), TensorFormat::Q4K, &lengths, kv_type),
        _ => {}
    }
    let model = Model::load(model, LoadOptions::new().with_device(Device::Cuda(0)))?;
    let vocab = model.config().vocab as u32;
    for length in lengths {
        let tokens: Vec<u32> = (0..length as u32)
            .map(|i| i.wrapping_mul(2_654_435_761) % vocab)
            .collect();
        for (name, map) in maps(length, model.config().trained_window)? {
            let mut session = model.session(options(map, length, kv_type))?;
            // Once outside the clock: buffers, cuBLAS's choices.
            session.append(&tokens[..CHUNK.min(length)])?;
            let _ = session.truncate(0);
            let start = Instant::now();
            session.append(&tokens)?;
            let prefill = start.elapsed().as_secs_f64();
            let mut steps = Vec::new();
            for step in 0..STEPS {
                let start = Instant::now();
                session.append(&tokens[step..=step])?;
                steps.push(start.elapsed().as_secs_f64());
            }
            tell(name, length, prefill, steps, session.cache_bytes());
        }
    }
    Ok(())
}

fn options(map: PositionMap, length: usize, kv_type: KvType) -> SessionOptions {
    let extension = Extension::from_map(map, length, length + STEPS + 1);
    SessionOptions::new(extension)
        .with_kv_type(kv_type)
        .with_chunk(CHUNK)
}

/// Plain attention, and a SelfExtend that reaches the length from the trained window.
fn maps(length: usize, trained: usize) -> Result<[(&'static str, PositionMap); 2], Failure> {
    let window = trained / 4;
    let group = (length + STEPS)
        .saturating_sub(window)
        .div_ceil(trained - window)
        .max(2);
    let selfextend = PositionMap::self_extend(group, window)?;
    Ok([("plain", PositionMap::Plain), ("selfextend", selfextend)])
}

fn tell(map: &str, tokens: usize, prefill: f64, mut steps: Vec<f64>, cache: usize) {
    steps.sort_by(f64::total_cmp);
    let step = steps[steps.len() / 2];
    println!(
        "{}",
        serde_json::json!({
            "what": "engine", "map": map, "tokens": tokens,
            "prefill_tok_s": tokens as f64 / prefill, "decode_ms": step * 1e3,
            "decode_tok_s": step.recip(), "cache_bytes": cache,
        })
    );
}

/// A Llama 3 8B's sizes.
fn llama() -> ModelConfig {
    let attention = LayerAttention {
        rotary: Rotary::Global,
        window: None,
    };
    ModelConfig {
        architecture: "random".into(),
        name: None,
        layers: 32,
        hidden: 4096,
        feed_forward: 14_336,
        experts: None,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 128_256,
        trained_window: 8192,
        norm: NormKind::Rms,
        norm_eps: 1e-5,
        parallel: false,
        activation: Activation::Silu,
        qk_norm: QkNorm::Head,
        attention_scale: None,
        attention_soft_cap: None,
        logit_soft_cap: None,
        logit_scale: 1.0,
        embedding_scale: 1.0,
        residual_scale: 1.0,
        qkv_limit: None,
        sinks: false,
        norms_turned: false,
        rope: RopeSpec::new(128, 5e5),
        short_rope: None,
        local_rope: None,
        attention: vec![attention; 32],
    }
}

/// OLMoE-1B-7B's sizes.
fn olmoe() -> ModelConfig {
    let llama = llama();
    ModelConfig {
        layers: 16,
        hidden: 2048,
        feed_forward: 1024,
        experts: Some(Experts {
            limit: None,
            count: 64,
            used: 8,
            width: 1024,
            shared_width: 0,
            routing: Routing::SOFTMAX,
            sparse: vec![true; 16],
        }),
        heads: 16,
        kv_heads: 16,
        vocab: 50_304,
        trained_window: 4096,
        rope: RopeSpec::new(128, 1e4),
        attention: llama.attention[..16].to_vec(),
        ..llama
    }
}

/// Makes random weights.
struct Random<'a, T: Half> {
    backend: &'a Cuda<T>,
    config: &'a ModelConfig,
    format: TensorFormat,
    /// From -1 to 1; they repeat after a million, which is enough for timings.
    numbers: Vec<f32>,
}

impl<'a, T: Half> Random<'a, T> {
    fn new(backend: &'a Cuda<T>, config: &'a ModelConfig, format: TensorFormat) -> Self {
        let mut seed = 1u64;
        let next = |_| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        Self {
            backend,
            config,
            format,
            numbers: (0..1_000_003).map(next).collect(),
        }
    }

    fn tensor(&self, format: TensorFormat, rows: usize, columns: usize) -> RawTensor {
        let size = (3.0 / columns as f32).sqrt();
        let block: Vec<u8> = match format {
            TensorFormat::F32 => {
                let scaled = self.numbers.iter().map(|x| x * size);
                scaled.flat_map(f32::to_le_bytes).collect()
            }
            TensorFormat::BF16 => {
                let scaled = self.numbers.iter().map(|x| bf16::from_f32(x * size));
                scaled.flat_map(bf16::to_le_bytes).collect()
            }
            // Q4_K: d and dmin, then any bytes.
            _ => {
                let [d, dmin] = [63.0 * 15.0, 63.0].map(|most| f16::from_f32(size / most));
                let numbers = self.numbers.chunks_exact(140);
                let blocks = numbers.map(|some| {
                    let scales = [d.to_le_bytes(), dmin.to_le_bytes()].concat();
                    let bytes = some.iter().map(|x| (x * 65_536.0) as i32 as u8);
                    scales.into_iter().chain(bytes)
                });
                blocks.flatten().collect()
            }
        };
        let bytes = format.bytes(columns).unwrap_or(0) * rows;
        let mut data = Vec::with_capacity(bytes + block.len());
        while data.len() < bytes {
            data.extend_from_slice(&block);
        }
        data.truncate(bytes);
        RawTensor {
            name: "random".into(),
            format,
            rows,
            columns,
            data,
        }
    }

    fn linear(&self, rows: usize, columns: usize) -> Result<Linear<Cuda<T>>, String> {
        let tensor = self.tensor(self.format, rows, columns);
        Ok(Linear {
            weight: self.backend.matrix(tensor)?,
            bias: None,
        })
    }

    fn norm(&self) -> Norm<Cuda<T>> {
        Norm {
            weight: self.backend.vector(vec![1.0; self.config.hidden]),
            bias: None,
            heads: None,
        }
    }

    fn feed_forward(&self) -> Result<FeedForward<Cuda<T>>, String> {
        let (hidden, width) = (self.config.hidden, self.config.feed_forward);
        let Some(experts) = &self.config.experts else {
            return Ok(FeedForward::Dense(Dense {
                gate: Some(self.linear(width, hidden)?),
                up: self.linear(width, hidden)?,
                curve: None,
                down: self.linear(hidden, width)?,
            }));
        };
        let all = (0..experts.count).map(|_| {
            Ok::<_, String>(Expert {
                gate: self.linear(width, hidden)?.weight,
                up: self.linear(width, hidden)?.weight,
                down: self.linear(hidden, width)?.weight,
                biases: None,
            })
        });
        let router = self.tensor(TensorFormat::F32, experts.count, hidden);
        Ok(FeedForward::Sparse(Box::new(Sparse {
            router: Linear {
                weight: self.backend.router(router)?,
                bias: None,
            },
            used: experts.used,
            routing: experts.routing,
            choice_bias: None,
            experts: self.backend.experts(all.collect::<Result<_, _>>()?)?,
            shared: None,
            shared_gate: None,
            limit: None,
        })))
    }

    fn weights(&self) -> Result<Weights<Cuda<T>>, Failure> {
        let config = self.config;
        let hidden = config.hidden;
        let (q, kv) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        let layers = (0..config.layers).map(|_| {
            Ok::<_, String>(LayerWeights {
                attention_norm: Some(self.norm()),
                query: self.linear(q, hidden)?,
                key: self.linear(kv, hidden)?,
                value: self.linear(kv, hidden)?,
                query_norm: None,
                key_norm: None,
                sinks: None,
                turned: None,
                attention_output: self.linear(hidden, q)?,
                post_attention_norm: None,
                feed_forward_norm: Some(self.norm()),
                feed_forward: self.feed_forward()?,
                post_feed_forward_norm: None,
            })
        });
        Ok(Weights {
            embedding: self.linear(config.vocab, hidden)?.weight,
            output: None,
            output_bias: None,
            output_norm: self.norm(),
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    /// Bytes per second at which a matrix of a GiB is read.
    fn rate(&self) -> Result<f64, Failure> {
        let matrix = self
            .backend
            .matrix(self.tensor(TensorFormat::BF16, 1 << 16, 1 << 13))?;
        let (mut x, mut out) = (Default::default(), Default::default());
        let mut scratch = Default::default();
        let one = self
            .backend
            .matrix(self.tensor(TensorFormat::BF16, 1, 1 << 13))?;
        self.backend.embed(&one, &[0], &mut x);
        let mut seconds = f64::INFINITY;
        for _ in 0..5 {
            self.backend.read(&out);
            let start = Instant::now();
            for _ in 0..20 {
                self.backend.linear(&x, [&matrix], [&mut out], &mut scratch);
            }
            self.backend.read(&out);
            seconds = seconds.min(start.elapsed().as_secs_f64());
        }
        self.backend.finish()?;
        Ok(20.0 * self.backend.matrix_bytes(&matrix) as f64 / seconds)
    }

    /// Says how long reading what a token's step reads of the weights takes.
    fn tell_reading(&self, weights: &Weights<Cuda<T>>) -> Result<(), Failure> {
        let all = weights.bytes(self.backend);
        let (mut in_experts, mut used) = (0, 0);
        for layer in &weights.layers {
            if let FeedForward::Sparse(sparse) = &layer.feed_forward {
                let bytes = self.backend.experts_bytes(&sparse.experts);
                in_experts += bytes;
                used += bytes * sparse.used / sparse.experts.count();
            }
        }
        let (active, rate) = (all - in_experts + used, self.rate()?);
        println!(
            "{}",
            serde_json::json!({
                "card": self.backend.device().name()?, "weight_bytes": all, "active_bytes": active,
                "read_tb_s": rate * 1e-12, "active_ms": active as f64 / rate * 1e3,
                "active_ms_at_3.35_tb_s": active as f64 / 3.35e9,
            })
        );
        Ok(())
    }
}

fn random<T: Half>(
    config: ModelConfig,
    format: TensorFormat,
    lengths: &[usize],
    kv_type: KvType,
) -> Result<(), Failure> {
    let backend = Cuda::<T>::new(0)?;
    let makes = Random::new(&backend, &config, format);
    let weights = makes.weights()?;
    makes.tell_reading(&weights)?;
    let rope = std::sync::Arc::new(Rope::new(config.rope.clone())?);
    let mut activations = Activations::default();
    for &length in lengths {
        let tokens: Vec<u32> = (0..length as u32)
            .map(|i| i.wrapping_mul(2_654_435_761) % config.vocab as u32)
            .collect();
        for (name, map) in maps(length, config.trained_window)? {
            let mut cache = backend.cache(CacheLayout {
                shape: config.attention_shape()?,
                kinds: vec![LayerKind::new(map, rope.clone())],
                layers: vec![0; config.layers],
                options: options(map, length, kv_type),
            })?;
            let mut pass = |cache: &mut _, tokens: &[u32]| {
                let caches = &mut [cache];
                let on_layer = &mut |_| Ok(());
                let last = [tokens.len() - 1];
                decoder::forward(
                    &backend,
                    &config,
                    &weights,
                    caches,
                    &[tokens],
                    &mut activations,
                    on_layer,
                    &mut |activations| {
                        let visit = &mut |_: usize, _: &[f32]| {};
                        decoder::logits(&backend, &config, &weights, &last, activations, visit)
                    },
                )
            };
            pass(&mut cache, &tokens[..CHUNK.min(length)])?;
            cache.truncate(0);
            let start = Instant::now();
            for some in tokens.chunks(CHUNK) {
                pass(&mut cache, some)?;
            }
            let prefill = start.elapsed().as_secs_f64();
            let mut steps = Vec::new();
            for step in 0..STEPS {
                let start = Instant::now();
                pass(&mut cache, &tokens[step..=step])?;
                steps.push(start.elapsed().as_secs_f64());
            }
            tell(name, length, prefill, steps, cache.bytes());
        }
    }
    Ok(())
}
