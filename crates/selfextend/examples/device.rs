//! Speed of the engine on a GPU: prefill and decode in tokens per second, plain and under
//! SelfExtend in turns, through the same decoder as everything else. Prints a JSON line for each.
//!
//! `device MODEL [LENGTHS] [f16|q8_0]`, lengths in tokens separated by commas; with `random-8b` for
//! MODEL, a Llama 3 8B's sizes with random bf16 weights, without an embedding worth the name.

use half::bf16;
use selfextend::backend::cuda::Cuda;
use selfextend::backend::{Backend, Cache, CacheLayout};
use selfextend::config::{Activation, LayerAttention, ModelConfig, NormKind, QkNorm, Rotary};
use selfextend::decoder::{
    self, Activations, Dense, FeedForward, LayerWeights, Linear, Norm, Weights,
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
    let usage = "usage: device MODEL|random-8b [LENGTHS] [f16|q8_0]";
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
    if model == "random-8b" {
        return random(&lengths, kv_type);
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
fn config() -> ModelConfig {
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

fn weights(config: &ModelConfig, backend: &Cuda<bf16>) -> Result<Weights<Cuda<bf16>>, Failure> {
    // Random numbers that repeat after a million: enough for timings.
    let mut seed = 1u64;
    let block: Vec<f32> = (0..1_000_003)
        .map(|_| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    let matrix = |rows: usize, columns: usize| {
        let size = (3.0 / columns as f32).sqrt();
        let block: Vec<u8> = block
            .iter()
            .flat_map(|x| bf16::from_f32(x * size).to_le_bytes())
            .collect();
        let bytes = 2 * rows * columns;
        let mut data = Vec::with_capacity(bytes + block.len());
        while data.len() < bytes {
            data.extend_from_slice(&block);
        }
        data.truncate(bytes);
        backend.matrix(RawTensor {
            name: "random".into(),
            format: TensorFormat::BF16,
            rows,
            columns,
            data,
        })
    };
    let linear = |rows, columns| {
        Ok::<_, String>(Linear {
            weight: matrix(rows, columns)?,
            bias: None,
        })
    };
    let norm = || Norm {
        weight: backend.vector(vec![1.0; config.hidden]),
        bias: None,
        heads: None,
    };
    let (hidden, ff) = (config.hidden, config.feed_forward);
    let (q, kv) = (
        config.heads * config.head_dim,
        config.kv_heads * config.head_dim,
    );
    let layers = (0..config.layers).map(|_| {
        Ok::<_, String>(LayerWeights {
            attention_norm: Some(norm()),
            query: linear(q, hidden)?,
            key: linear(kv, hidden)?,
            value: linear(kv, hidden)?,
            query_norm: None,
            key_norm: None,
            sinks: None,
            turned: None,
            attention_output: linear(hidden, q)?,
            post_attention_norm: None,
            feed_forward_norm: Some(norm()),
            feed_forward: FeedForward::Dense(Dense {
                gate: Some(linear(ff, hidden)?),
                up: linear(ff, hidden)?,
                curve: None,
                down: linear(hidden, ff)?,
            }),
            post_feed_forward_norm: None,
        })
    });
    Ok(Weights {
        embedding: matrix(config.vocab, hidden)?,
        output: None,
        output_bias: None,
        output_norm: norm(),
        layers: layers.collect::<Result<_, _>>()?,
    })
}

fn random(lengths: &[usize], kv_type: KvType) -> Result<(), Failure> {
    let (config, backend) = (config(), Cuda::<bf16>::new(0)?);
    let weights = weights(&config, &backend)?;
    println!(
        "{}",
        serde_json::json!({"card": backend.device().name()?, "weight_bytes": weights.bytes(&backend)})
    );
    let rope = std::sync::Arc::new(Rope::new(config.rope.clone())?);
    let mut activations = Activations::default();
    for &length in lengths {
        let tokens: Vec<u32> = (0..length as u32)
            .map(|i| i.wrapping_mul(2_654_435_761) % 128_256)
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
