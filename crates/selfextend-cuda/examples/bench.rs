//! Times the kernels on a GPU and prints a JSON line for each measurement.
//!
//! `bench [LENGTHS] [--portable]`, lengths in tokens separated by commas; `--portable` leaves out what
//! only Hopper has. Llama-like shapes: 32 query heads, 8
//! key/value heads of size 128, bf16, the cache in 16-bit floats and in bytes. Attention alone (queries and keys already rotated, as the
//! libraries it is compared with take them) and the append before it, in milliseconds for a layer.

use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
use cudarc::driver::sys::CUgraphInstantiate_flags as Instantiate;
use cudarc::driver::sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL as THREAD_LOCAL;
use cudarc::driver::{CudaGraph, CudaSlice};
use half::bf16;
use rand::{Rng, SeedableRng, rngs::StdRng};
use selfextend_attention::{AttentionShape, LayerKind, PositionMap, QueryScaling, Rope, RopeSpec};
use selfextend_cuda::{
    AttentionScratch, CudaError, Device, DeviceCache, DevicePlan, Inputs, Room, Storage, append,
    attend_stored,
};
use serde_json::json;

const HEADS: usize = 32;
const KV_HEADS: usize = 8;
const DIM: usize = 128;
/// New tokens of a pass that fills a cache.
const CHUNK: usize = 2048;

/// Random numbers that repeat after a million: enough for timings.
fn random(seed: u64, len: usize) -> Vec<bf16> {
    let mut rng = StdRng::seed_from_u64(seed);
    let block: Vec<bf16> = (0..len.min(1 << 20))
        .map(|_| bf16::from_f32(rng.random_range(-1.7..1.7)))
        .collect();
    block.iter().copied().cycle().take(len).collect()
}

/// Median milliseconds of `run`, which queues work.
fn time(
    device: &Device,
    repeats: usize,
    mut run: impl FnMut() -> Result<(), CudaError>,
) -> Result<f64, CudaError> {
    run()?;
    let mut times = Vec::new();
    for _ in 0..repeats {
        let start = device.stream().record_event(Some(CU_EVENT_DEFAULT))?;
        run()?;
        let end = device.stream().record_event(Some(CU_EVENT_DEFAULT))?;
        times.push(f64::from(start.elapsed_ms(&end)?));
    }
    Ok(median(times))
}

fn cache(device: &Device, map: PositionMap, room: Room) -> Result<DeviceCache<bf16>, CudaError> {
    let shape = AttentionShape::new(HEADS, KV_HEADS, DIM).expect("a valid shape");
    let rope = Rope::new(RopeSpec::new(DIM, 1e4)).expect("a valid embedding");
    DeviceCache::new(device, shape, LayerKind::new(map, rope), room)
}

/// What is timed beside others.
struct Case {
    name: &'static str,
    map: PositionMap,
    storage: Storage,
}

/// Random numbers of `tokens` tokens as queries, keys, values on the device.
struct Random {
    q: CudaSlice<bf16>,
    k: CudaSlice<bf16>,
    v: CudaSlice<bf16>,
}

impl Random {
    fn new(device: &Device, tokens: usize) -> Result<Self, CudaError> {
        let make = |seed, heads| -> Result<_, CudaError> {
            let numbers = random(seed, tokens * heads * DIM);
            Ok(device.stream().clone_htod(&numbers)?)
        };
        Ok(Self {
            q: make(1, HEADS)?,
            k: make(2, KV_HEADS)?,
            v: make(3, KV_HEADS)?,
        })
    }

    fn inputs(&self) -> Inputs<'_, bf16> {
        Inputs {
            q: &self.q,
            k: &self.k,
            v: &self.v,
        }
    }
}

/// All tokens at once: `(append, attention)` for each case, taken in turns so that the card's clock
/// treats them alike.
fn prefill(device: &Device, cases: &[Case], n: usize) -> Result<Vec<(f64, f64)>, CudaError> {
    let random = Random::new(device, n)?;
    let mut out = device.stream().alloc_zeros(n * HEADS * DIM)?;
    let mut scratch = AttentionScratch::default();
    let mut caches = Vec::new();
    for case in cases {
        let room = Room::new(1, n).with_storage(case.storage);
        caches.push(cache(device, case.map, room)?);
    }
    let rounds = (1_000_000 / n).clamp(2, 20);
    let mut times = vec![(Vec::new(), Vec::new()); cases.len()];
    for _ in 0..rounds {
        for (cache, (stored, attended)) in caches.iter_mut().zip(&mut times) {
            let plan = DevicePlan::new(device, &[(&*cache, n)], QueryScaling::None)?;
            let mut caches = [cache];
            stored.push(time(device, 1, || {
                append(device, 0, &mut caches, &plan, random.inputs(), &mut scratch)
            })?);
            attended.push(time(device, 3, || {
                attend_stored(device, 0, &caches, &plan, &mut out, &mut scratch)
            })?);
        }
    }
    let both = times.into_iter();
    Ok(both
        .map(|(stored, attended)| (median(stored), median(attended)))
        .collect())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Graphs of a step at some depth: attention, and append and attention. What they use lives as long.
struct Step {
    graphs: [CudaGraph; 2],
    cache: DeviceCache<bf16>,
    _scratch: AttentionScratch<bf16>,
    _out: CudaSlice<bf16>,
    _plan: DevicePlan,
}

impl Step {
    /// A token at depth `n`, one layer of several so that the cache of the GPU holds none of them.
    fn new(
        device: &Device,
        case: &Case,
        layers: usize,
        n: usize,
        random: &Random,
    ) -> Result<Self, CudaError> {
        let room = Room::new(layers, n + 1)
            .with_storage(case.storage)
            .with_chunk(CHUNK);
        let mut cache = cache(device, case.map, room)?;
        let (mut scratch, inputs) = (AttentionScratch::default(), random.inputs());
        while cache.len() < n {
            let plan = DevicePlan::new(device, &[(&cache, CHUNK)], QueryScaling::None)?;
            for layer in 0..layers {
                append(
                    device,
                    layer,
                    &mut [&mut cache],
                    &plan,
                    inputs,
                    &mut scratch,
                )?;
            }
            cache.commit(CHUNK);
        }
        let plan = DevicePlan::new(device, &[(&cache, 1)], QueryScaling::None)?;
        let mut out = device.stream().alloc_zeros(HEADS * DIM)?;
        let mut graph = |with_append| {
            let caches = &mut [&mut cache];
            let mut step = || {
                for layer in 0..layers {
                    if with_append || layer == 0 {
                        append(device, layer, caches, &plan, inputs, &mut scratch)?;
                    }
                    attend_stored(device, layer, caches, &plan, &mut out, &mut scratch)?;
                }
                Ok::<(), CudaError>(())
            };
            step()?;
            device.stream().synchronize()?;
            device.stream().begin_capture(THREAD_LOCAL)?;
            step()?;
            let graph = device
                .stream()
                .end_capture(Instantiate::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH)?;
            graph.ok_or_else(|| CudaError::Shape("nothing was captured".into()))
        };
        Ok(Self {
            graphs: [graph(false)?, graph(true)?],
            cache,
            _scratch: scratch,
            _out: out,
            _plan: plan,
        })
    }
}

/// Milliseconds of a step for a layer, bytes of the layer's cache and those that a step reads.
struct Decoded {
    attention: f64,
    with_append: f64,
    bytes: usize,
    read: usize,
}

/// A step of each case, in turns.
fn decode(device: &Device, cases: &[Case], n: usize) -> Result<Vec<Decoded>, CudaError> {
    let layers = (262_144 / n).clamp(2, 32);
    let random = Random::new(device, CHUNK)?;
    let steps: Vec<Step> = cases
        .iter()
        .map(|case| Step::new(device, case, layers, n, &random))
        .collect::<Result<_, _>>()?;
    let mut times = vec![[Vec::new(), Vec::new()]; cases.len()];
    for _ in 0..5 {
        for (step, times) in steps.iter().zip(&mut times) {
            for (graph, times) in step.graphs.iter().zip(times) {
                times.push(time(device, 7, || Ok(graph.launch()?))? / layers as f64);
            }
        }
    }
    let all = steps.iter().zip(times);
    Ok(all
        .map(|(Step { cache, .. }, times)| {
            let [attention, with_append] = times.map(median);
            Decoded {
                attention,
                with_append,
                bytes: cache.bytes() / layers,
                read: n * cache.token_bytes() / layers,
            }
        })
        .collect())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let portable = std::env::args().any(|arg| arg == "--portable");
    let device = match Device::new(0)? {
        device if portable => device.portable(),
        device => device,
    };
    let lengths = std::env::args().nth(1);
    let lengths = lengths
        .as_deref()
        .unwrap_or("4096,8192,16384,32768,65536,131072");
    println!("{}", json!({"card": device.name()?}));
    let maps = [
        ("plain", PositionMap::Plain),
        ("selfextend", PositionMap::self_extend(8, 1024)?),
    ];
    let storages = [Storage::Halves, Storage::Bytes];
    let cases = maps.map(|(name, map)| storages.map(|storage| Case { name, map, storage }));
    let cases: Vec<Case> = cases.into_iter().flatten().collect();
    for n in lengths.split(',').map(str::parse::<usize>) {
        let n = n?;
        let flops = 2.0 * (n * n) as f64 * (HEADS * DIM) as f64;
        let times = prefill(&device, &cases, n)?;
        for (case, (stored, attended)) in cases.iter().zip(times) {
            println!(
                "{}",
                json!({
                    "what": "prefill", "map": case.name, "storage": format!("{:?}", case.storage),
                    "tokens": n, "append_ms": stored, "attention_ms": attended,
                    "tflops": flops / attended / 1e9, "portable": portable,
                })
            );
        }
        for (case, step) in cases.iter().zip(decode(&device, &cases, n)?) {
            println!(
                "{}",
                json!({
                    "what": "decode", "map": case.name, "storage": format!("{:?}", case.storage),
                    "depth": n, "attention_us": step.attention * 1e3,
                    "with_append_us": step.with_append * 1e3,
                    "gb_per_s": step.read as f64 / step.attention / 1e6, "cache_bytes": step.bytes,
                })
            );
        }
    }
    Ok(())
}
