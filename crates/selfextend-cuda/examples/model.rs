//! A decoder of a Llama 3 8B's sizes with random bf16 weights: how fast whole passes are, plain and
//! under SelfExtend, and what memory they take. Prints a JSON line for each length.
//!
//! `model [LENGTHS]`, lengths in tokens separated by commas. Embedding and output head are left
//! out. Prefill runs in chunks of 2048 tokens; decoded steps are replays of a captured graph.

use cudarc::driver::CudaSlice;
use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
use cudarc::driver::sys::CUgraphInstantiate_flags as Instantiate;
use cudarc::driver::sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL as THREAD_LOCAL;
use half::bf16;
use rand::{Rng, SeedableRng, rngs::StdRng};
use selfextend_attention::{AttentionShape, PositionMap, QueryScaling, Rope, RopeSpec};
use selfextend_cuda::ops::{Buffer, Curve, Ops};
use selfextend_cuda::{
    CudaError, Device, DeviceCache, Inputs, LinearScratch, Matrix, Plan, Room, Storage, Work,
    attend,
};
use serde_json::json;

const HIDDEN: usize = 4096;
const HEADS: usize = 32;
const KV_HEADS: usize = 8;
const DIM: usize = 128;
const FEED_FORWARD: usize = 14_336;
const LAYERS: usize = 32;
const CHUNK: usize = 2048;

/// Random numbers that repeat after a million: enough for timings.
fn random(seed: u64, len: usize, size: f32) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    let block: Vec<f32> = (0..len.min(1_000_003))
        .map(|_| rng.random_range(-size..size))
        .collect();
    block.iter().copied().cycle().take(len).collect()
}

struct Layer {
    query: Matrix<bf16>,
    key: Matrix<bf16>,
    value: Matrix<bf16>,
    output: Matrix<bf16>,
    gate: Matrix<bf16>,
    up: Matrix<bf16>,
    down: Matrix<bf16>,
    norms: [CudaSlice<f32>; 2],
}

impl Layer {
    fn new(device: &Device) -> Result<Self, CudaError> {
        let matrix = |outputs: usize, inputs: usize| {
            let size = (3.0 / inputs as f32).sqrt();
            let numbers = random(outputs as u64, outputs * inputs, size);
            let narrow: Vec<bf16> = numbers.into_iter().map(bf16::from_f32).collect();
            Matrix::new(device, &narrow, outputs, inputs)
        };
        let ones = || device.stream().clone_htod(&vec![1f32; HIDDEN]);
        Ok(Self {
            query: matrix(HEADS * DIM, HIDDEN)?,
            key: matrix(KV_HEADS * DIM, HIDDEN)?,
            value: matrix(KV_HEADS * DIM, HIDDEN)?,
            output: matrix(HIDDEN, HEADS * DIM)?,
            gate: matrix(FEED_FORWARD, HIDDEN)?,
            up: matrix(FEED_FORWARD, HIDDEN)?,
            down: matrix(HIDDEN, FEED_FORWARD)?,
            norms: [ones()?, ones()?],
        })
    }

    fn bytes(&self) -> usize {
        let Self {
            query,
            key,
            value,
            output,
            gate,
            up,
            down,
            ..
        } = self;
        let all = [query, key, value, output, gate, up, down];
        all.iter().map(|matrix| matrix.bytes()).sum()
    }
}

#[derive(Default)]
struct Activations {
    hidden: Buffer<f32>,
    normed: Buffer<f32>,
    q: Buffer<f32>,
    k: Buffer<f32>,
    v: Buffer<f32>,
    attended: Buffer<bf16>,
    widened: Buffer<f32>,
    projected: Buffer<f32>,
    gate: Buffer<f32>,
    up: Buffer<f32>,
    linear: LinearScratch<bf16>,
    work: Work<bf16>,
}

struct Decoder {
    device: Device,
    ops: Ops<bf16>,
    layers: Vec<Layer>,
}

impl Decoder {
    /// All layers over what `x.hidden` holds.
    fn pass(
        &self,
        cache: &mut DeviceCache<bf16>,
        plan: &Plan,
        x: &mut Activations,
    ) -> Result<(), CudaError> {
        let ops = &self.ops;
        x.attended
            .resize(&self.device, plan.tokens() * HEADS * DIM)?;
        for (n, layer) in self.layers.iter().enumerate() {
            ops.rms_norm(&x.hidden, &layer.norms[0], 1e-5, &mut x.normed)?;
            let projections = [&layer.query, &layer.key, &layer.value];
            let out = [&mut x.q, &mut x.k, &mut x.v];
            ops.linear(&x.normed, projections, out, &mut x.linear)?;
            let inputs = Inputs {
                q: x.q.slice()?,
                k: x.k.slice()?,
                v: x.v.slice()?,
            };
            let out = x.attended.slice_mut()?;
            attend(
                &self.device,
                n,
                &mut [&mut *cache],
                plan,
                inputs,
                out,
                &mut x.work,
            )?;
            let (rows, width) = (plan.tokens() * HEADS, [DIM, DIM]);
            ops.widen(&x.attended, rows, width, &mut x.widened)?;
            let (to, scratch) = (&mut x.projected, &mut x.linear);
            ops.linear(&x.widened, [&layer.output], [to], scratch)?;
            ops.add(&mut x.hidden, &x.projected)?;
            ops.rms_norm(&x.hidden, &layer.norms[1], 1e-5, &mut x.normed)?;
            let out = [&mut x.gate, &mut x.up];
            ops.linear(&x.normed, [&layer.gate, &layer.up], out, &mut x.linear)?;
            ops.gate(Curve::Silu, &mut x.gate, &x.up)?;
            let (to, scratch) = (&mut x.projected, &mut x.linear);
            ops.linear(&x.gate, [&layer.down], [to], scratch)?;
            ops.add(&mut x.hidden, &x.projected)?;
        }
        Ok(())
    }

    /// Milliseconds of what `run` queues.
    fn time(&self, run: impl FnOnce() -> Result<(), CudaError>) -> Result<f64, CudaError> {
        let start = self.device.stream().record_event(Some(CU_EVENT_DEFAULT))?;
        run()?;
        let end = self.device.stream().record_event(Some(CU_EVENT_DEFAULT))?;
        Ok(f64::from(start.elapsed_ms(&end)?))
    }

    /// Milliseconds of a prefill of `n` tokens and of a step after it (as a graph's replay, and
    /// queued kernel by kernel), and bytes of the cache.
    fn measure(&self, map: PositionMap, n: usize) -> Result<(f64, [f64; 2], usize), CudaError> {
        let device = &self.device;
        let shape = AttentionShape::new(HEADS, KV_HEADS, DIM).expect("a valid shape");
        let rope = Rope::new(RopeSpec::new(DIM, 5e5)).expect("a valid embedding");
        let room = Room {
            layers: LAYERS,
            storage: Storage::Halves,
            capacity: n + 1,
            chunk: CHUNK,
        };
        let mut cache = DeviceCache::new(device, shape, map.positions(), rope, room)?;
        let tokens = random(11, CHUNK * HIDDEN, 1.7);
        let mut x = Activations::default();
        // Once outside the clock: buffers, cuBLAS's choices.
        x.hidden.write(device, &tokens)?;
        let plan = Plan::new(device, &[(&cache, CHUNK.min(n))], QueryScaling::None)?;
        x.hidden.resize(device, CHUNK.min(n) * HIDDEN)?;
        self.pass(&mut cache, &plan, &mut x)?;
        device.stream().synchronize()?;
        let prefill = self.time(|| {
            while cache.len() < n {
                let some = CHUNK.min(n - cache.len());
                x.hidden.write(device, &tokens[..some * HIDDEN])?;
                let plan = Plan::new(device, &[(&cache, some)], QueryScaling::None)?;
                self.pass(&mut cache, &plan, &mut x)?;
                cache.commit(some);
            }
            Ok(())
        })?;
        x.hidden.write(device, &tokens[..HIDDEN])?;
        let plan = Plan::new(device, &[(&cache, 1)], QueryScaling::None)?;
        self.pass(&mut cache, &plan, &mut x)?;
        device.stream().synchronize()?;
        let mut queued = Vec::new();
        for _ in 0..20 {
            queued.push(self.time(|| self.pass(&mut cache, &plan, &mut x))?);
        }
        queued.sort_by(f64::total_cmp);
        device.stream().begin_capture(THREAD_LOCAL)?;
        let captured = self.pass(&mut cache, &plan, &mut x);
        let flags = Instantiate::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = device.stream().end_capture(flags)?;
        captured?;
        let graph = graph.ok_or_else(|| CudaError::Shape("nothing was captured".into()))?;
        graph.launch()?;
        let mut steps = Vec::new();
        for _ in 0..20 {
            steps.push(self.time(|| Ok(graph.launch()?))?);
        }
        steps.sort_by(f64::total_cmp);
        let last = x.hidden.read(device)?;
        if !last.iter().all(|x| x.is_finite()) {
            return Err(CudaError::Shape(
                "the pass gave numbers that are none".into(),
            ));
        }
        Ok((prefill, [steps[10], queued[10]], cache.bytes()))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::new(0)?;
    let lengths = std::env::args().nth(1);
    let lengths = lengths.as_deref().unwrap_or("4096,32768,131072");
    let decoder = Decoder {
        ops: Ops::new(&device)?,
        layers: (0..LAYERS)
            .map(|_| Layer::new(&device))
            .collect::<Result<_, _>>()?,
        device,
    };
    let weights: usize = decoder.layers.iter().map(Layer::bytes).sum();
    println!(
        "{}",
        json!({"card": decoder.device.name()?, "weight_bytes": weights})
    );
    let maps = [
        ("plain", PositionMap::Plain),
        ("selfextend", PositionMap::self_extend(8, 1024)?),
    ];
    for n in lengths.split(',').map(str::parse::<usize>) {
        let n = n?;
        for (name, map) in maps {
            let (prefill, [step, queued], cache) = decoder.measure(map, n)?;
            println!(
                "{}",
                json!({
                    "what": "model", "map": name, "tokens": n, "prefill_ms": prefill,
                    "prefill_tok_s": n as f64 / prefill * 1e3, "decode_ms": step,
                    "decode_queued_ms": queued,
                    "cache_bytes": cache,
                })
            );
        }
    }
    Ok(())
}
