//! What a pass over the new tokens of some sequences needs on the device: their maps, lowered.

use crate::cache::DeviceCache;
use crate::device::Device;
use crate::element::Element;
use crate::error::CudaError;
use cudarc::driver::CudaSlice;
use selfextend_attention::lowering::Lowering;
use selfextend_attention::position::{MAX_REGIONS, QueryScaling};

/// Spans, positions and factors of a pass on the device, the same for all layers of a kind.
#[derive(Debug)]
pub struct DevicePlan {
    pub(crate) segments: Vec<SegmentPlan>,
    pub(crate) tokens: usize,
    pub(crate) regions: usize,
    pub(crate) planes: usize,
    /// `[regions][2][tokens]`: the first key of each query, and the one after the last.
    pub(crate) spans: CudaSlice<i32>,
    /// `[regions][tokens]`.
    pub(crate) query_positions: CudaSlice<f64>,
    /// `[planes][tokens]`.
    pub(crate) key_positions: CudaSlice<f64>,
    pub(crate) factors: Option<CudaSlice<f32>>,
}

/// The new tokens of one sequence in a pass: those that follow its cache.
#[derive(Debug)]
pub struct Segment<'a, T> {
    /// Where its keys and values are, and go.
    pub cache: &'a DeviceCache<T>,
    /// New tokens of the sequence that other segments of the pass have before these.
    pub after: usize,
    /// New tokens.
    pub tokens: usize,
    /// The row of the first of them among those of the pass.
    pub row: usize,
    /// What its queries are multiplied by.
    pub scaling: QueryScaling,
}

/// One segment of a pass, as numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentPlan {
    pub(crate) row: usize,
    pub(crate) tokens: usize,
    /// Tokens that the cache counts.
    pub(crate) counted: usize,
    /// The first new token.
    pub(crate) start: usize,
    /// Keys that some of its tokens see, of each region.
    pub(crate) extents: [(i32, i32); MAX_REGIONS],
}

impl DevicePlan {
    /// For a number of new tokens of each cache, whose rows follow each other.
    ///
    /// # Errors
    /// As [`DevicePlan::of`].
    pub fn new<T: Element>(
        device: &Device,
        caches: &[(&DeviceCache<T>, usize)],
        scaling: QueryScaling,
    ) -> Result<Self, CudaError> {
        let mut rows = 0;
        let segments: Vec<_> = caches
            .iter()
            .map(|&(cache, tokens)| {
                let row = rows;
                rows += tokens;
                Segment {
                    cache,
                    after: 0,
                    tokens,
                    row,
                    scaling,
                }
            })
            .collect();
        Self::of(device, &segments, rows)
    }

    /// For some of the sequences of a pass over `rows` tokens in all.
    ///
    /// # Errors
    /// Tokens that do not fit, caches that differ in shape or map, or the driver's.
    pub fn of<T: Element>(
        device: &Device,
        segments: &[Segment<T>],
        rows: usize,
    ) -> Result<Self, CudaError> {
        let refuse = |text: &str| Err(CudaError::Shape(text.into()));
        let Some(first) = segments.first().filter(|_| rows > 0) else {
            return refuse("a pass without a new token");
        };
        let mut plans = Vec::with_capacity(segments.len());
        let (mut lowering, mut numbers) = (Lowering::default(), Numbers::new(rows));
        for segment in segments {
            let Segment {
                cache, tokens, row, ..
            } = *segment;
            if !cache.same_kind(first.cache) {
                return refuse(
                    "sequences of one pass differ in shape, embedding or kinds of regions",
                );
            }
            if row + tokens > rows {
                return refuse("a sequence has rows that the pass does not have");
            }
            let counted = cache.len();
            let start = counted.saturating_add(segment.after);
            cache.check(start, tokens)?;
            lowering.fill(cache.kind(), start..start + tokens);
            cache.check_spans(&lowering)?;
            numbers.place(row, &lowering, segment.scaling);
            let mut extents = [(0, 0); MAX_REGIONS];
            for (to, region) in extents.iter_mut().zip(lowering.regions()) {
                let extent = region.extent();
                *to = (extent.start as i32, extent.end as i32);
            }
            plans.push(SegmentPlan {
                row,
                tokens,
                counted,
                start,
                extents,
            });
        }
        let stream = device.stream();
        let scaled = numbers.factors.iter().any(|&factor| factor != 1.0);
        Ok(Self {
            segments: plans,
            tokens: rows,
            regions: numbers.query_positions.len() / rows,
            planes: numbers.key_positions.len() / rows,
            spans: stream.clone_htod(&numbers.spans)?,
            query_positions: stream.clone_htod(&numbers.query_positions)?,
            key_positions: stream.clone_htod(&numbers.key_positions)?,
            factors: if scaled {
                Some(stream.clone_htod(&numbers.factors)?)
            } else {
                None
            },
        })
    }
}

/// Numbers of all segments, in arrays with a number for each row of the pass. Positions in a cache
/// fit an `i32` ([`DeviceCache::check`]).
struct Numbers {
    rows: usize,
    spans: Vec<i32>,
    query_positions: Vec<f64>,
    key_positions: Vec<f64>,
    factors: Vec<f32>,
}

impl Numbers {
    fn new(rows: usize) -> Self {
        Self {
            rows,
            spans: Vec::new(),
            query_positions: Vec::new(),
            key_positions: Vec::new(),
            factors: vec![1.0; rows],
        }
    }

    /// Writes a segment's numbers from row `row` on.
    fn place(&mut self, row: usize, lowering: &Lowering, scaling: QueryScaling) {
        let rows = self.rows;
        place(&mut self.key_positions, rows, 0, row, lowering.stored());
        for (r, region) in lowering.regions().iter().enumerate() {
            let low: Vec<i32> = region.spans().iter().map(|span| span.0 as i32).collect();
            let high: Vec<i32> = region.spans().iter().map(|span| span.1 as i32).collect();
            place(&mut self.spans, rows, 2 * r, row, &low);
            place(&mut self.spans, rows, 2 * r + 1, row, &high);
            let queries = region.query_positions();
            place(&mut self.query_positions, rows, r, row, queries);
            if region.is_derived() {
                let (plane, keys) = (region.plane(), region.key_positions());
                place(&mut self.key_positions, rows, plane, row, keys);
            }
        }
        for (i, factor) in lowering.queries().zip(&mut self.factors[row..]) {
            *factor = scaling.factor(i);
        }
    }
}

/// Writes numbers to array number `array` of arrays of `rows` each, from row `row` on.
fn place<N: Copy + Default>(all: &mut Vec<N>, rows: usize, array: usize, row: usize, from: &[N]) {
    let len = all.len().max((array + 1) * rows);
    all.resize(len, N::default());
    all[array * rows + row..][..from.len()].copy_from_slice(from);
}
