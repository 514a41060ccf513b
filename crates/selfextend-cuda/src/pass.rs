//! What a pass over some sequences needs on the device.

use crate::cache::DeviceCache;
use crate::device::{Device, Element};
use crate::error::CudaError;
use crate::plan::Regions;
use cudarc::driver::CudaSlice;
use selfextend_attention::position::{MAX_REGIONS, QueryScaling};

/// What a pass over some sequences needs on the device, the same for all layers.
#[derive(Debug)]
pub struct Plan {
    pub(crate) parts: Vec<Part>,
    pub(crate) tokens: usize,
    pub(crate) regions: usize,
    pub(crate) planes: usize,
    pub(crate) spans: CudaSlice<i32>,
    pub(crate) query_positions: CudaSlice<f64>,
    pub(crate) key_positions: CudaSlice<f64>,
    pub(crate) factors: Option<CudaSlice<f32>>,
}

/// One sequence of a pass: the tokens that follow its cache.
#[derive(Debug)]
pub struct Step<'a, T> {
    /// Where its keys and values are, and go.
    pub cache: &'a DeviceCache<T>,
    /// New tokens of the pass that come before and are stored before.
    pub after: usize,
    /// New tokens.
    pub tokens: usize,
    /// The row of the first of them among those of the pass.
    pub row: usize,
    /// What its queries are multiplied by.
    pub scaling: QueryScaling,
}

/// One sequence's share of a pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) row: usize,
    pub(crate) tokens: usize,
    /// Tokens that the cache counts, and the first new one.
    pub(crate) counted: usize,
    pub(crate) start: usize,
    /// Keys that some of its tokens see, of each region.
    pub(crate) extents: [(i32, i32); MAX_REGIONS],
}

impl Plan {
    /// Of a number of new tokens for each cache, whose rows follow each other.
    ///
    /// # Errors
    /// As [`Plan::of`].
    pub fn new<T: Element>(
        device: &Device,
        steps: &[(&DeviceCache<T>, usize)],
        scaling: QueryScaling,
    ) -> Result<Self, CudaError> {
        let mut rows = 0;
        let steps: Vec<_> = steps
            .iter()
            .map(|&(cache, tokens)| {
                let row = rows;
                rows += tokens;
                Step {
                    cache,
                    after: 0,
                    tokens,
                    row,
                    scaling,
                }
            })
            .collect();
        Self::of(device, &steps, rows)
    }

    /// Of some of the sequences of a pass over `rows` tokens in all.
    ///
    /// # Errors
    /// Tokens that do not fit, caches that differ in shape or map, or the driver's.
    pub fn of<T: Element>(
        device: &Device,
        steps: &[Step<T>],
        rows: usize,
    ) -> Result<Self, CudaError> {
        let refuse = |text: &str| Err(CudaError::Shape(text.into()));
        let Some(first) = steps.first().filter(|_| rows > 0) else {
            return refuse("a pass without a new token");
        };
        let mut parts = Vec::with_capacity(steps.len());
        let (mut regions, mut planes) = (0, 0);
        let (mut spans, mut factors) = (Vec::new(), vec![1f32; rows]);
        let (mut query_positions, mut key_positions) = (Vec::new(), Vec::new());
        for step in steps {
            let Step {
                cache, tokens, row, ..
            } = *step;
            if !cache.same_kind(first.cache) {
                return refuse(
                    "sequences of one pass differ in shape, embedding or kinds of regions",
                );
            }
            if row + tokens > rows {
                return refuse("a sequence has rows that the pass has not");
            }
            let counted = cache.len();
            let start = counted.saturating_add(step.after);
            cache.check(start, tokens)?;
            let its = Regions::new(&**cache.map(), start, tokens);
            cache.check_spans(&its, start, tokens)?;
            parts.push(Part {
                row,
                tokens,
                counted,
                start,
                extents: its.extents(),
            });
            (regions, planes) = (its.count(), its.key_positions.len());
            place(&mut spans, its.spans.as_flattened(), row, rows);
            place(&mut query_positions, &its.query_positions, row, rows);
            place(&mut key_positions, &its.key_positions, row, rows);
            for (i, factor) in (start..).zip(&mut factors[row..row + tokens]) {
                *factor = step.scaling.factor(i);
            }
        }
        let stream = device.stream();
        let scaled = factors.iter().any(|&factor| factor != 1.0);
        Ok(Self {
            parts,
            tokens: rows,
            regions,
            planes,
            spans: stream.clone_htod(&spans)?,
            query_positions: stream.clone_htod(&query_positions)?,
            key_positions: stream.clone_htod(&key_positions)?,
            factors: match scaled {
                true => Some(stream.clone_htod(&factors)?),
                false => None,
            },
        })
    }
}

/// Writes one sequence's numbers, some for each token, to its place in arrays of `rows` each.
fn place<N: Copy + Default>(all: &mut Vec<N>, arrays: &[Vec<N>], row: usize, rows: usize) {
    all.resize(arrays.len() * rows, N::default());
    for (to, from) in all.chunks_exact_mut(rows).zip(arrays) {
        to[row..row + from.len()].copy_from_slice(from);
    }
}
