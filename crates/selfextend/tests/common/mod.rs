//! Where the references and the model are, and small models made on the spot.

// Each test file uses a part of this.
#![allow(dead_code)]

pub mod gguf;

use gguf::{Field, Tensor, half};
use safetensors::SafeTensors;
use selfextend::backend::{Backend, cpu::Cpu};
use selfextend::gguf::GgufFile;
use selfextend::method::table::METHODS;
use selfextend::{
    Extension, KvType, LinearMode, LoadOptions, Method, Model, PositionMap, QueryScaling, Session,
    SessionOptions, TensorFormat, hub,
};
use selfextend_attention::{AttentionShape, KvCache, Rope};
use std::path::{Path, PathBuf};

/// A file of `../shared` (or of the folder `SELFEXTEND_SHARED` names).
pub fn shared(relative: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SELFEXTEND_SHARED").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").into(),
        PathBuf::from,
    );
    let path = root.join(relative);
    if !path.exists() {
        eprintln!("skipped: ../shared/{relative} is absent");
        return None;
    }
    Some(path)
}

/// The default model, where it was pulled.
pub fn smollm2() -> Option<PathBuf> {
    let found = hub::PullOptions::from_env()
        .and_then(|options| hub::locate(hub::DEFAULT_MODEL, &options))
        .ok()
        .flatten();
    if found.is_none() {
        eprintln!(
            "skipped: {0} is not in the cache; run `selfextend pull {0}`",
            hub::DEFAULT_MODEL
        );
    }
    found
}

/// The folders of the families' tiny models that are there in both formats, each with its references.
pub fn checkpoints() -> Vec<PathBuf> {
    let mut all = all_checkpoints();
    all.retain(|folder| {
        ["config.json", "model.gguf"]
            .iter()
            .all(|it| folder.join(it).exists())
    });
    all
}

/// Those, and the ones of families that only one of the formats has.
pub fn all_checkpoints() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
    let folders = std::fs::read_dir(root).unwrap();
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

/// A sequence without a limit that matters.
pub fn session(model: &Model, map: PositionMap, kv_type: KvType, chunk: usize) -> Session {
    let options = options(model, map, kv_type, chunk);
    model.session(options).unwrap()
}

/// How it runs.
pub fn options(model: &Model, map: PositionMap, kv_type: KvType, chunk: usize) -> SessionOptions {
    let extension = Extension::from_map(map, model.config().trained_window, 1 << 20);
    SessionOptions::new(extension)
        .with_kv_type(kv_type)
        .with_chunk(chunk)
}

/// Every method, for a model and a context.
pub fn extensions(model: &Model, context: usize) -> Vec<Extension> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("factors.json");
    let factors: Vec<f64> = (0..model.config().head_dim / 2)
        .map(|i| 1.0 + i as f64)
        .collect();
    std::fs::write(&file, format!("{factors:?}")).unwrap();
    let method = |name: &str| match name {
        "longrope" => format!("longrope:factors={}", file.display()),
        // Two bands of pairs.
        "dpe" => "dpe:scales=2-8".to_owned(),
        name => name.to_owned(),
    };
    let trained = model.config().trained_window;
    let extension = |name: &str| {
        let method: Method = method(name).parse().unwrap();
        // Some need a larger window to reach this far.
        let windows = (0..4).map(|n| trained << n);
        let mut tried = windows.map(|window| method.resolve(window, context));
        tried.find_map(Result::ok).unwrap()
    };
    METHODS.iter().map(|entry| extension(entry.name)).collect()
}

/// One file of reference outputs.
pub struct Golden(Vec<u8>);

impl Golden {
    pub fn open(name: &str) -> Option<Self> {
        Some(Self(
            std::fs::read(shared(&format!("golden/{name}.safetensors"))?).unwrap(),
        ))
    }

    /// A file that is always there.
    pub fn read(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap())
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    pub fn has(&self, name: &str) -> bool {
        self.file().tensor(name).is_ok()
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        let words = self.file().tensor(name).unwrap().data().to_vec();
        words
            .chunks_exact(8)
            .map(|w| i64::from_le_bytes(w.try_into().unwrap()) as u32)
            .collect()
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        let words = self.file().tensor(name).unwrap().data().to_vec();
        words
            .chunks_exact(4)
            .map(|w| f32::from_le_bytes(w.try_into().unwrap()))
            .collect()
    }

    fn setting(&self, name: &str) -> f64 {
        let (_, metadata) = SafeTensors::read_metadata(&self.0).unwrap();
        metadata.metadata().as_ref().unwrap()[name].parse().unwrap()
    }
}

/// Runs a toy model plain, as one prefill under SelfExtend, and token by token.
pub fn check_toy(name: &str, golden: &Golden, check: impl Fn(&str, &[f32], &[f32])) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("toy.gguf");
    write_toy(golden, &path);
    let model = Model::load(&path, LoadOptions::new().with_threads(2)).unwrap();
    for (case, options) in toy_cases(golden, KvType::F32) {
        let (chunk, mut logits) = (options.chunk, Vec::new());
        let mut session = model.session(options).unwrap();
        let visit = |_, row: &[f32]| logits.extend_from_slice(row);
        session.append_all(&golden.ids("ids"), visit).unwrap();
        check(
            &format!("{name} {case} chunk {chunk}"),
            &logits,
            &golden.floats(case),
        );
    }
}

/// How a toy was run, by the name of its logits.
pub fn toy_cases(golden: &Golden, kv_type: KvType) -> [(&'static str, SessionOptions); 4] {
    let size = |name| golden.setting(name) as usize;
    let map = PositionMap::self_extend(size("group_size"), size("neighbor_window")).unwrap();
    let query_scaling = match golden.setting("scale_base") {
        base if base > 0.0 => QueryScaling::LogN {
            base: base as usize,
        },
        _ => QueryScaling::None,
    };
    let options = |map, query_scaling, chunk| {
        let extension = Extension::from_map(map, 64, 4096).with_query_scaling(query_scaling);
        SessionOptions::new(extension)
            .with_kv_type(kv_type)
            .with_chunk(chunk)
    };
    [
        (
            "logits_plain",
            options(PositionMap::Plain, QueryScaling::None, 41),
        ),
        ("logits_prefill", options(map, query_scaling, 41)),
        ("logits_prefill", options(map, query_scaling, 7)),
        ("logits_decode", options(map, query_scaling, 1)),
    ]
}

/// Writes a toy under GGUF's names; query and key rows go from half-split to interleaved pairs.
pub fn write_toy(golden: &Golden, path: &Path) {
    let size = |name| golden.setting(name) as usize;
    let u32 = |name| Field::u32(size(name));
    let metadata = [
        ("general.architecture", Field::text("llama")),
        ("llama.block_count", u32("layers")),
        ("llama.context_length", Field::u32(64)),
        ("llama.embedding_length", u32("hidden")),
        ("llama.feed_forward_length", u32("ff")),
        ("llama.attention.head_count", u32("heads")),
        ("llama.attention.head_count_kv", u32("kv_heads")),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Field::f32(golden.setting("eps") as f32),
        ),
        (
            "llama.rope.freq_base",
            Field::f32(golden.setting("theta") as f32),
        ),
        ("llama.vocab_size", u32("vocab")),
    ];
    let mut tensors = vec![
        tensor(
            golden,
            "model.embed_tokens.weight",
            "token_embd.weight",
            None,
        ),
        tensor(golden, "model.norm.weight", "output_norm.weight", None),
        tensor(golden, "lm_head.weight", "output.weight", None),
    ];
    for layer in 0..size("layers") {
        for (from, to) in [
            ("input_layernorm", "attn_norm"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("post_attention_layernorm", "ffn_norm"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
        ] {
            let heads = matches!(to, "attn_q" | "attn_k").then(|| size("head_dim"));
            let from = format!("model.layers.{layer}.{from}.weight");
            tensors.push(tensor(
                golden,
                &from,
                &format!("blk.{layer}.{to}.weight"),
                heads,
            ));
        }
    }
    gguf::write(path, &metadata, &tensors);
}

fn tensor(golden: &Golden, from: &str, to: &str, head_dim: Option<usize>) -> (String, Tensor) {
    let file = golden.file();
    let shape = file.tensor(from).unwrap().shape().to_vec();
    let mut data = golden.floats(from);
    if let Some(dim) = head_dim {
        let columns = shape[1];
        let rows: Vec<&[f32]> = data.chunks_exact(columns).collect();
        // Row 2t of a head was row t, row 2t + 1 was row t + dim/2.
        let order = (0..rows.len()).map(|row| {
            let (head, t) = (row / dim * dim, row % dim);
            rows[head + t / 2 + t % 2 * dim / 2]
        });
        data = order.collect::<Vec<_>>().concat();
    }
    (to.to_owned(), Tensor::f32(&shape, &data))
}

/// Projections, attention and output projection of one layer, on `[tokens, hidden]`.
pub fn attention_block(path: &Path, layer: usize, map: PositionMap, input: &[f32]) -> Vec<f32> {
    let gguf = GgufFile::open(path).unwrap();
    let config = gguf.config().unwrap();
    let backend = Cpu {
        linear: LinearMode::F32,
    };
    let weights = gguf.weights(&config, &backend).unwrap();
    let layer = &weights.layers[layer];
    let shape = AttentionShape::new(config.heads, config.kv_heads, config.head_dim).unwrap();
    let rope = Rope::new(config.rope.clone()).unwrap();
    let mut cache = KvCache::new(shape, 1, KvType::F32, map, rope);
    let plan = vec![cache.plan(input.len() / config.hidden)];
    let [mut q, mut k, mut v, mut attended, mut out] = [const { Vec::new() }; 5];
    let projections = [&layer.query, &layer.key, &layer.value].map(|linear| &linear.weight);
    let mut scratch = Default::default();
    backend.linear(
        &input.to_vec(),
        projections,
        [&mut q, &mut k, &mut v],
        &mut scratch,
    );
    let (caches, out_rows) = (&mut [&mut cache], &mut attended);
    backend
        .attend(0, caches, &plan, &q, &k, &v, out_rows, &mut scratch)
        .unwrap();
    backend.linear(
        &attended,
        [&layer.attention_output.weight],
        [&mut out],
        &mut scratch,
    );
    out
}

/// Numbers of a linear congruential generator (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0
    }

    /// From -1 to 1.
    fn number(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Floats of at most `size` from `around`.
    fn floats(&mut self, shape: &[usize], size: f32, around: f32) -> Tensor {
        let numbers = (0..shape.iter().product()).map(|_| around + size * self.number());
        Tensor::f32(shape, &numbers.collect::<Vec<_>>())
    }

    /// A matrix in a format: numbers of at most `size`, or random blocks whose scales make them so.
    fn matrix(&mut self, shape: &[usize; 2], size: f32, format: TensorFormat) -> Tensor {
        use TensorFormat::*;
        // The number of the type (`ggml.h`); where a block has its scale, and the largest multiple
        // of it; the same of the minimum (`ggml-common.h`).
        let (kind, scale, minimum) = match format {
            F32 => return self.floats(shape, size, 0.0),
            F16 | BF16 => {
                let numbers = (0..shape[0] * shape[1]).map(|_| size * self.number());
                let bytes = numbers.flat_map(|x| match format {
                    F16 => half(x),
                    _ => half::bf16::from_f32(x).to_le_bytes(),
                });
                return Tensor {
                    kind: if format == F16 { 1 } else { 30 },
                    shape: shape.into(),
                    bytes: bytes.collect(),
                };
            }
            Q4_0 => (2, (0, 8.0), None),
            Q4_1 => (3, (0, 7.5), Some((2, -1.0))),
            Q5_0 => (6, (0, 16.0), None),
            Q5_1 => (7, (0, 15.5), Some((2, -1.0))),
            Q8_0 => (8, (0, 127.0), None),
            Q2K => (10, (80, 15.0 * 3.0), Some((82, 15.0))),
            Q3K => (11, (108, 32.0 * 4.0), None),
            Q4K => (12, (0, 63.0 * 15.0), Some((2, 63.0))),
            Q5K => (13, (0, 63.0 * 31.0), Some((2, 63.0))),
            Q6K => (14, (208, 128.0 * 32.0), None),
            IQ2XXS => (16, (0, 31.0 * 43.0 / 8.0), None),
            IQ2XS => (17, (0, 31.0 * 43.0 / 8.0), None),
            IQ3XXS => (18, (0, 31.0 * 62.0 / 4.0), None),
            IQ1S => (19, (0, 15.0 * 9.0 / 8.0), None),
            IQ4NL => (20, (0, 127.0), None),
            IQ3S => (21, (0, 31.0 * 15.0), None),
            IQ2S => (22, (0, 31.0 * 43.0 / 8.0), None),
            IQ4XS => (23, (0, 32.0 * 127.0), None),
            TQ1_0 => (34, (52, 1.0), None),
            TQ2_0 => (35, (64, 2.0), None),
            // Scales of other kinds.
            IQ1M => (29, (0, 15.0 * 9.0 / 8.0), None),
            MXFP4 => (39, (0, 12.0), None),
            NVFP4 => (40, (0, 6.0), None),
            other => panic!("no random blocks of {other}"),
        };
        let blocks = shape[0] * shape[1] / format.block_len();
        let mut bytes = Vec::new();
        for _ in 0..blocks {
            let from = bytes.len();
            bytes.extend((0..format.block_bytes()).map(|_| (self.next() >> 56) as u8));
            let size = size * (0.75 + 0.25 * self.number());
            if matches!(format, IQ1M | MXFP4 | NVFP4) {
                put_other_scale(format, size / scale.1, &mut bytes[from..]);
                continue;
            }
            for (at, most) in [Some(scale), minimum].into_iter().flatten() {
                bytes[from + at..][..2].copy_from_slice(&half(size / most));
            }
        }
        Tensor {
            kind,
            shape: shape.into(),
            bytes,
        }
    }
}

/// A scale of at most `most` in a block that has no half float in one place.
fn put_other_scale(format: TensorFormat, most: f32, block: &mut [u8]) {
    let power = most.log2().floor();
    match format {
        TensorFormat::MXFP4 => block[0] = (power + 128.0) as u8,
        TensorFormat::NVFP4 if power < -6.0 => block[..4].fill((most * 512.0) as u8),
        TensorFormat::NVFP4 => block[..4].fill(((power + 7.0) as u8) << 3),
        _ => {
            let [low, high] = half(most);
            for (n, bits) in [low, low >> 4, high, high >> 4].into_iter().enumerate() {
                let word = &mut block[49 + 2 * n];
                *word = *word & 15 | bits << 4;
            }
        }
    }
}

/// Writes a random model of two layers with grouped heads, biases and a window of 64, its
/// matrices in a format (whose blocks divide 256, the width of all of them).
pub fn write_tiny(path: &Path, format: TensorFormat, vocab: usize) {
    write_tiny_with(path, format, vocab, |_| {});
}

/// The same with other tensors.
pub fn write_tiny_with(
    path: &Path,
    format: TensorFormat,
    vocab: usize,
    change: impl FnOnce(&mut Vec<(String, Tensor)>),
) {
    let (hidden, heads, kv_heads, dim) = (256, 4, 2, 64);
    let metadata = [
        ("general.architecture", Field::text("llama")),
        ("llama.block_count", Field::u32(2)),
        ("llama.context_length", Field::u32(64)),
        ("llama.embedding_length", Field::u32(hidden)),
        ("llama.feed_forward_length", Field::u32(hidden)),
        ("llama.attention.head_count", Field::u32(heads)),
        ("llama.attention.head_count_kv", Field::u32(kv_heads)),
        ("llama.attention.layer_norm_rms_epsilon", Field::f32(1e-5)),
        ("llama.vocab_size", Field::u32(vocab)),
    ];
    let mut random = Random(1);
    let mut tensors = vec![
        (
            "token_embd.weight".to_owned(),
            random.matrix(&[vocab, hidden], 1.0, format),
        ),
        (
            "output_norm.weight".to_owned(),
            random.floats(&[hidden], 0.2, 1.0),
        ),
    ];
    for layer in 0..2 {
        for (name, rows) in [
            ("attn_q", heads * dim),
            ("attn_k", kv_heads * dim),
            ("attn_v", kv_heads * dim),
            ("attn_output", hidden),
            ("ffn_gate", hidden),
            ("ffn_up", hidden),
            ("ffn_down", hidden),
        ] {
            let weights = random.matrix(&[rows, hidden], 0.1, format);
            tensors.push((format!("blk.{layer}.{name}.weight"), weights));
            if matches!(name, "attn_q" | "attn_k" | "attn_v") {
                let bias = random.floats(&[rows], 0.1, 0.0);
                tensors.push((format!("blk.{layer}.{name}.bias"), bias));
            }
        }
        for name in ["attn_norm", "ffn_norm"] {
            let weights = random.floats(&[hidden], 0.2, 1.0);
            tensors.push((format!("blk.{layer}.{name}.weight"), weights));
        }
    }
    change(&mut tensors);
    gguf::write(path, &metadata, &tensors);
}
