//! Attention of one layer for the new tokens of some sequences, on the device.

use crate::cache::DeviceCache;
use crate::device::{Device, Launch};
use crate::element::Element;
use crate::error::CudaError;
use crate::kernels::{DECODE_KEYS, DECODE_ROWS, DECODE_WARPS, PrefillTile};
use crate::launch::{
    AppendArgs, DecodeArgs, DecodeSequence, Grid, HopperArgs, MAX_SEQUENCES, PrefillArgs, Region,
    Tensor, TensorMap,
};
use crate::memory::{address, grow};
use crate::plan::{DevicePlan, SegmentPlan};
use crate::rows::Rows;
use crate::unpack::unpack;
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, DeviceRepr};
use selfextend_attention::AttentionShape;
use selfextend_attention::cache::DECODE_TOKENS;
use selfextend_attention::position::MAX_REGIONS;

/// The most parts that the keys of a decode step are split into: their states fit shared memory.
const MAX_SPLITS: usize = 128;

/// What a projection may come in.
pub trait Input<T>: DeviceRepr {
    /// Whether it is wider than what is stored.
    const IS_F32: bool;
}

impl<T> Input<T> for f32 {
    const IS_F32: bool = true;
}

impl<T: Element> Input<T> for T {
    const IS_F32: bool = false;
}

/// Projections of the new tokens before any rotation, packed in the order of the sequences.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a, In> {
    /// `[tokens, heads * head_dim]`.
    pub q: &'a CudaSlice<In>,
    /// `[tokens, kv_heads * head_dim]`.
    pub k: &'a CudaSlice<In>,
    /// Like `k`.
    pub v: &'a CudaSlice<In>,
}

/// Buffers that passes reuse.
#[derive(Debug)]
pub struct AttentionScratch<T> {
    /// Rotated queries for each region.
    pub(crate) queries: [Option<CudaSlice<T>>; MAX_REGIONS],
    /// Keys and values of a layer and sequence that stores bytes, for prefill.
    unpacked: Option<CudaSlice<T>>,
    partial: Option<CudaSlice<f32>>,
    states: Option<CudaSlice<f32>>,
    /// All zero between launches: the kernel's last block resets the counters it used.
    arrived: Option<CudaSlice<u32>>,
}

impl<T> Default for AttentionScratch<T> {
    fn default() -> Self {
        Self {
            queries: [const { None }; MAX_REGIONS],
            unpacked: None,
            partial: None,
            states: None,
            arrived: None,
        }
    }
}

/// Rotates and stores the new tokens of some sequences in one layer, then attends for them.
///
/// `out` is `[tokens, heads * padded_dim]`. Caches count the tokens only after
/// [`DeviceCache::commit`]. The work is queued; this does not wait for it.
///
/// # Errors
/// Slices that do not fit the plan, or the driver's.
pub fn attend<T: Element, In: Input<T>>(
    device: &Device,
    layer: usize,
    caches: &mut [&mut DeviceCache<T>],
    plan: &DevicePlan,
    inputs: Inputs<In>,
    out: &mut CudaSlice<T>,
    scratch: &mut AttentionScratch<T>,
) -> Result<(), CudaError> {
    append(device, layer, caches, plan, inputs, scratch)?;
    attend_stored(device, layer, caches, plan, out, scratch)
}

/// The first half of [`attend`]: rotates queries for every region, stores keys and values.
///
/// # Errors
/// As there.
pub fn append<T: Element, In: Input<T>>(
    device: &Device,
    layer: usize,
    caches: &mut [&mut DeviceCache<T>],
    plan: &DevicePlan,
    inputs: Inputs<In>,
    scratch: &mut AttentionScratch<T>,
) -> Result<(), CudaError> {
    let shape = check(layer, caches, plan)?;
    let dim = shape.head_dim();
    let (q_width, kv_width) = (shape.heads() * dim, shape.kv_heads() * dim);
    let padded = caches[0].padded_dim();
    let stored_width = shape.heads() * padded;
    check_len("queries", inputs.q.len(), plan.tokens * q_width)?;
    check_len("keys", inputs.k.len(), plan.tokens * kv_width)?;
    check_len("values", inputs.v.len(), plan.tokens * kv_width)?;
    for queries in &mut scratch.queries[..plan.regions] {
        grow(device, queries, plan.tokens * stored_width)?;
    }
    let at = |slice: &CudaSlice<In>, element: usize| {
        address(device, slice) + (element * size_of::<In>()) as u64
    };
    let stored = |slice: &CudaSlice<T>, element: usize| {
        address(device, slice) + (element * size_of::<T>()) as u64
    };
    let positions = |slice: &CudaSlice<f64>, row: usize| {
        address(device, slice) + (row * size_of::<f64>()) as u64
    };
    for (cache, segment) in caches.iter_mut().zip(&plan.segments) {
        if segment.tokens == 0 {
            continue;
        }
        cache.overwrite(segment.start + segment.tokens);
        let planes = &cache.layers[layer];
        let (v_out, v_scales) = planes.values.addresses(device);
        let (_, k_scales) = planes.keys[0].addresses(device);
        let pairs = cache.rope().pairs();
        let mut args = AppendArgs {
            q: at(inputs.q, segment.row * q_width),
            k: at(inputs.k, segment.row * kv_width),
            v: at(inputs.v, segment.row * kv_width),
            v_out,
            k_scales,
            v_scales,
            q_positions: positions(&plan.query_positions, segment.row),
            k_positions: positions(&plan.key_positions, segment.row),
            q_factors: match &plan.factors {
                Some(factors) => address(device, factors) + (segment.row * size_of::<f32>()) as u64,
                None => 0,
            },
            frequencies: address(device, &cache.frequencies),
            regions: plan.regions as i32,
            planes: plan.planes as i32,
            pairs: pairs as i32,
            interleaved: i32::from(cache.interleaved()),
            magnitude: cache.rope().magnitude() as f32,
            stride: plan.tokens as i32,
            start: segment.start as i32,
            heads: shape.heads() as i32,
            kv_heads: shape.kv_heads() as i32,
            capacity: cache.capacity() as i32,
            q_stride: q_width as i32,
            kv_stride: kv_width as i32,
            head_dim: dim as i32,
            anchored: cache.anchored(),
            ..AppendArgs::default()
        };
        for (r, (keys, slots)) in cache.planes(layer).enumerate() {
            (args.k_out[r], _) = keys.addresses(device);
            args.ring[r] = slots as u32;
        }
        for (to, queries) in args.q_out.iter_mut().zip(&scratch.queries) {
            *to = queries
                .as_ref()
                .map_or(0, |queries| stored(queries, segment.row * stored_width));
        }
        let kernels = &cache.kernels;
        let threads = (padded as u32 / 2, (512 / padded as u32).max(1), 1);
        Launch {
            device,
            kernel: if In::IS_F32 {
                &kernels.append_f32
            } else {
                &kernels.append
            },
            grid: Grid {
                blocks: (segment.tokens as u32, 1, 1),
                threads,
                shared: (plan.regions + plan.planes) * pairs * size_of::<[f32; 2]>(),
            },
        }
        .run(&args)?;
    }
    Ok(())
}

/// The second half of [`attend`]: attention over what [`append`] stored.
///
/// # Errors
/// As there.
pub fn attend_stored<T: Element>(
    device: &Device,
    layer: usize,
    caches: &[&mut DeviceCache<T>],
    plan: &DevicePlan,
    out: &mut CudaSlice<T>,
    scratch: &mut AttentionScratch<T>,
) -> Result<(), CudaError> {
    let shape = check(layer, caches, plan)?;
    let width = shape.heads() * caches[0].padded_dim();
    check_len("output", out.len(), plan.tokens * width)?;
    let mut queries = [0; MAX_REGIONS];
    for (to, queries) in queries.iter_mut().zip(&scratch.queries[..plan.regions]) {
        let Some(queries) = queries.as_ref().filter(|q| q.len() >= plan.tokens * width) else {
            return Err(CudaError::Shape(
                "attention was called before its tokens were stored".into(),
            ));
        };
        *to = address(device, queries);
    }
    let out = address(device, out);
    let segments = || caches.iter().map(|cache| &**cache).zip(&plan.segments);
    for one in segments().filter(|(_, segment)| segment.tokens > DECODE_TOKENS) {
        prefill(device, layer, one, plan, queries, out, scratch)?;
    }
    let decoded: Vec<_> = segments()
        .filter(|(_, segment)| (1..=DECODE_TOKENS).contains(&segment.tokens))
        .collect();
    for some in decoded.chunks(MAX_SEQUENCES) {
        decode(device, layer, some, plan, queries, out, scratch)?;
    }
    Ok(())
}

/// What scores are multiplied by before the tanh of their soft cap (0 without one), and after it.
/// Softmax is in base 2.
fn scales(shape: AttentionShape) -> (f32, f32) {
    match shape.soft_cap() {
        Some(cap) => (shape.scale() / cap, cap * std::f32::consts::LOG2_E),
        None => (0.0, shape.scale() * std::f32::consts::LOG2_E),
    }
}

fn prefill<T: Element>(
    device: &Device,
    layer: usize,
    (cache, segment): (&DeviceCache<T>, &SegmentPlan),
    plan: &DevicePlan,
    queries: [CUdeviceptr; MAX_REGIONS],
    out: CUdeviceptr,
    scratch: &mut AttentionScratch<T>,
) -> Result<(), CudaError> {
    let unpacked = unpack(device, layer, (cache, segment), &mut scratch.unpacked)?;
    let shape = cache.shape();
    let tile = cache.kernels.tile;
    let dim = cache.padded_dim();
    let skipped = (segment.row * shape.heads() * dim * size_of::<T>()) as u64;
    let (bend, scale) = scales(shape);
    let mut args = PrefillArgs {
        v: match unpacked {
            Some(it) => it.values,
            None => cache.layers[layer].values.addresses(device).0,
        },
        out: out + skipped,
        spans: address(device, &plan.spans) + (segment.row * size_of::<i32>()) as u64,
        stride: plan.tokens as i32,
        count: plan.regions as i32,
        tokens: segment.tokens as i32,
        heads: shape.heads() as i32,
        kv_heads: shape.kv_heads() as i32,
        capacity: unpacked.map_or(cache.capacity(), |it| it.slots) as i32,
        keys: (segment.start + segment.tokens) as i32,
        scale,
        ..PrefillArgs::default()
    };
    for (r, (keys, slots)) in cache.regions(layer).enumerate() {
        let (k, ring) = match (keys, unpacked) {
            (Rows::Bytes { .. }, Some(it)) => (it.keys, it.slots),
            _ => (keys.addresses(device).0, slots),
        };
        args.regions[r] = Region {
            q: queries[r] + skipped,
            k,
            ring: ring as u32,
            bend,
        };
    }
    let launch = Launch {
        device,
        kernel: &cache.kernels.prefill,
        grid: Grid {
            blocks: (
                shape.heads() as u32,
                segment.tokens.div_ceil(tile.rows) as u32,
                1,
            ),
            threads: (tile.threads as u32, 1, 1),
            shared: tile.shared,
        },
    };
    if cache.kernels.is_hopper {
        launch.run(&hopper_args::<T>(shape, dim, tile, args)?)
    } else {
        launch.run(&args)
    }
}

/// The same arguments, with the description of each tensor that the copy engine needs.
fn hopper_args<T: Element>(
    shape: AttentionShape,
    dim: usize,
    tile: PrefillTile,
    a: PrefillArgs,
) -> Result<HopperArgs, CudaError> {
    let (heads, kv_heads) = (shape.heads(), shape.kv_heads());
    let is_f16 = T::NAME == "f16";
    // Of all slots of a key head, the first `rows` count.
    let stored = |address, rows, slots: usize| {
        TensorMap::new(Tensor {
            address,
            is_f16,
            sizes: [dim, rows, kv_heads],
            strides: [dim, slots * dim],
            boxed: [tile.keys, 1],
        })
    };
    let mut args = HopperArgs {
        v: stored(a.v, a.keys as usize, a.capacity as usize)?,
        a,
        ..HopperArgs::default()
    };
    for r in 0..a.count as usize {
        let Region { q, k, ring, .. } = a.regions[r];
        args.k[r] = stored(k, ring as usize, ring as usize)?;
        args.q[r] = TensorMap::new(Tensor {
            address: q,
            is_f16,
            sizes: [dim, heads, a.tokens as usize],
            strides: [dim, heads * dim],
            boxed: [1, tile.rows],
        })?;
    }
    Ok(args)
}

fn decode<T: Element>(
    device: &Device,
    layer: usize,
    some: &[(&DeviceCache<T>, &SegmentPlan)],
    plan: &DevicePlan,
    queries: [CUdeviceptr; MAX_REGIONS],
    out: CUdeviceptr,
    scratch: &mut AttentionScratch<T>,
) -> Result<(), CudaError> {
    let (shape, dim) = (some[0].0.shape(), some[0].0.padded_dim());
    let (bend, scale) = scales(shape);
    let rows = some
        .iter()
        .map(|(_, segment)| segment.tokens * shape.group());
    let blocks = rows.max().unwrap_or(0).div_ceil(DECODE_ROWS) * shape.kv_heads();
    let keys = some
        .iter()
        .map(|(_, segment)| segment.start + segment.tokens);
    let splits = splits(device, blocks * some.len(), keys.max().unwrap_or(0));
    let places = blocks * some.len();
    let partials = places * splits * DECODE_ROWS;
    grow(device, &mut scratch.partial, partials * dim)?;
    grow(device, &mut scratch.states, partials * 2)?;
    grow(device, &mut scratch.arrived, places)?;
    let mut args = DecodeArgs {
        q: queries,
        out,
        spans: address(device, &plan.spans),
        partial: scratch.partial.as_ref().map_or(0, |x| address(device, x)),
        states: scratch.states.as_ref().map_or(0, |x| address(device, x)),
        arrived: scratch.arrived.as_ref().map_or(0, |x| address(device, x)),
        count: plan.regions as i32,
        tokens: plan.tokens as i32,
        heads: shape.heads() as i32,
        kv_heads: shape.kv_heads() as i32,
        scale,
        bend,
        ..DecodeArgs::default()
    };
    for (to, (cache, segment)) in args.sequences.iter_mut().zip(some) {
        let (v, v_scales) = cache.layers[layer].values.addresses(device);
        *to = DecodeSequence {
            v,
            v_scales,
            capacity: cache.capacity() as i32,
            keys: (segment.start + segment.tokens) as i32,
            row: segment.row as i32,
            tokens: segment.tokens as i32,
            ..DecodeSequence::default()
        };
        for (r, (keys, slots)) in cache.regions(layer).enumerate() {
            (to.k[r], to.k_scales[r]) = keys.addresses(device);
            to.ring[r] = slots as u32;
            (to.low[r], to.high[r]) = segment.extents[r];
        }
    }
    Launch {
        device,
        kernel: &some[0].0.kernels.decode,
        grid: Grid {
            blocks: (splits as u32, blocks as u32, some.len() as u32),
            threads: (32 * DECODE_WARPS as u32, 1, 1),
            shared: some[0].0.kernels.decode_shared,
        },
    }
    .run(&args)
}

/// Into how many parts the keys of each block are split: so many that all blocks together fill the
/// device twice, but no more than leave every warp two tiles.
fn splits(device: &Device, blocks: usize, keys: usize) -> usize {
    let wanted = (2 * device.processors()).div_ceil(blocks.max(1));
    let useful = keys.div_ceil(2 * DECODE_WARPS * DECODE_KEYS);
    wanted.min(useful).clamp(1, MAX_SPLITS)
}

fn check<T: Element>(
    layer: usize,
    caches: &[&mut DeviceCache<T>],
    plan: &DevicePlan,
) -> Result<AttentionShape, CudaError> {
    let fits = caches.len() == plan.segments.len()
        && caches.iter().zip(&plan.segments).all(|(cache, segment)| {
            cache.len() == segment.counted
                && layer < cache.layers.len()
                && cache.check(segment.start, segment.tokens).is_ok()
        });
    match caches.first() {
        Some(first) if fits && caches.iter().all(|c| c.same_kind(first)) => Ok(first.shape()),
        _ => Err(CudaError::Shape(
            "the caches are not those that the pass was planned for".into(),
        )),
    }
}

fn check_len(what: &str, actual: usize, expected: usize) -> Result<(), CudaError> {
    if actual >= expected {
        return Ok(());
    }
    Err(CudaError::Shape(format!(
        "{what}: {actual} numbers given, {expected} needed"
    )))
}
