//! Times the kernels on a GPU and prints a JSON line for each measurement.
//!
//! `bench [LENGTHS] [--portable]`, lengths in tokens separated by commas; `--portable` leaves out what
//! only Hopper has. Llama-like shapes: 32 query heads, 8
//! key/value heads of size 128, bf16. Attention alone (queries and keys already rotated, as the
//! libraries it is compared with take them) and the append before it, in milliseconds for a layer.

use cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
use cudarc::driver::sys::CUgraphInstantiate_flags as Instantiate;
use cudarc::driver::sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL as THREAD_LOCAL;
use half::bf16;
use rand::{Rng, SeedableRng, rngs::StdRng};
use selfextend_attention::{AttentionShape, PositionMap, QueryScaling, Rope, RopeSpec};
use selfextend_cuda::{CudaError, Device, DeviceCache, Inputs, Plan, Work, append, attend_stored};
use serde_json::json;

const HEADS: usize = 32;
const KV_HEADS: usize = 8;
const DIM: usize = 128;

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

fn cache(
    device: &Device,
    map: PositionMap,
    layers: usize,
    capacity: usize,
    chunk: usize,
) -> Result<DeviceCache<bf16>, CudaError> {
    let shape = AttentionShape::new(HEADS, KV_HEADS, DIM).expect("a valid shape");
    let rope = Rope::new(RopeSpec::new(DIM, 1e4)).expect("a valid embedding");
    DeviceCache::new(
        device,
        shape,
        layers,
        map.positions(),
        rope,
        capacity,
        chunk,
    )
}

/// Random numbers of `tokens` tokens as queries, keys, values on the device.
struct Random {
    q: cudarc::driver::CudaSlice<bf16>,
    k: cudarc::driver::CudaSlice<bf16>,
    v: cudarc::driver::CudaSlice<bf16>,
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

/// All tokens at once: `(append, attention)` for each map, taken in turns so that the card's clock
/// treats them alike.
fn prefill(device: &Device, maps: &[PositionMap], n: usize) -> Result<Vec<(f64, f64)>, CudaError> {
    let random = Random::new(device, n)?;
    let mut out = device.stream().alloc_zeros(n * HEADS * DIM)?;
    let mut work = Work::default();
    let mut caches = Vec::new();
    for &map in maps {
        caches.push(cache(device, map, 1, n, n)?);
    }
    let rounds = (1_000_000 / n).clamp(2, 20);
    let mut times = vec![(Vec::new(), Vec::new()); maps.len()];
    for _ in 0..rounds {
        for (cache, (stored, attended)) in caches.iter_mut().zip(&mut times) {
            let plan = Plan::new(device, &[(&*cache, n)], QueryScaling::None)?;
            let mut caches = [cache];
            stored.push(time(device, 1, || {
                append(device, 0, &mut caches, &plan, random.inputs(), &mut work)
            })?);
            attended.push(time(device, 3, || {
                attend_stored(device, 0, &caches, &plan, &mut out, &mut work)
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

/// A token at depth `n`, one layer of several so that the cache of the GPU holds none of them:
/// `(attention, append and attention, bytes of a layer's cache)`, from a replayed graph.
fn decode(device: &Device, map: PositionMap, n: usize) -> Result<(f64, f64, usize), CudaError> {
    let layers = (262_144 / n).clamp(2, 32);
    let chunk = 2048;
    let mut cache = cache(device, map, layers, n + 1, chunk)?;
    let mut work = Work::default();
    let random = Random::new(device, chunk)?;
    while cache.len() < n {
        let plan = Plan::new(device, &[(&cache, chunk)], QueryScaling::None)?;
        for layer in 0..layers {
            let inputs = random.inputs();
            append(device, layer, &mut [&mut cache], &plan, inputs, &mut work)?;
        }
        cache.commit(chunk);
    }
    let plan = Plan::new(device, &[(&cache, 1)], QueryScaling::None)?;
    let bytes = cache.bytes() / layers;
    let mut out = device.stream().alloc_zeros(HEADS * DIM)?;
    let mut caches = [&mut cache];
    let mut times = [0.0; 2];
    for (with_append, to) in [false, true].into_iter().zip(&mut times) {
        let mut step = || {
            for layer in 0..layers {
                if with_append || layer == 0 {
                    append(
                        device,
                        layer,
                        &mut caches,
                        &plan,
                        random.inputs(),
                        &mut work,
                    )?;
                }
                attend_stored(device, layer, &caches, &plan, &mut out, &mut work)?;
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
        let graph = graph.ok_or_else(|| CudaError::Shape("nothing was captured".into()))?;
        *to = time(device, 30, || Ok(graph.launch()?))? / layers as f64;
    }
    Ok((times[0], times[1], bytes))
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
    for n in lengths.split(',').map(str::parse::<usize>) {
        let n = n?;
        let flops = 2.0 * (n * n) as f64 * (HEADS * DIM) as f64;
        let times = prefill(&device, &maps.map(|(_, map)| map), n)?;
        for ((name, _), (stored, attended)) in maps.into_iter().zip(times) {
            println!(
                "{}",
                json!({
                    "what": "prefill", "map": name, "tokens": n, "append_ms": stored,
                    "attention_ms": attended, "tflops": flops / attended / 1e9,
                    "portable": portable,
                })
            );
        }
        for (name, map) in maps {
            let (attended, both, bytes) = decode(&device, map, n)?;
            let read = (n * KV_HEADS * DIM * 4) as f64;
            println!(
                "{}",
                json!({
                    "what": "decode", "map": name, "depth": n, "attention_us": attended * 1e3,
                    "with_append_us": both * 1e3, "gb_per_s": read / attended / 1e6,
                    "cache_bytes": bytes,
                })
            );
        }
    }
    Ok(())
}
