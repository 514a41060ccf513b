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

/// One sequence's share of a pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) row: usize,
    pub(crate) tokens: usize,
    pub(crate) start: usize,
    /// Keys that some of its tokens see, of each region.
    pub(crate) extents: [(i32, i32); MAX_REGIONS],
}

impl Plan {
    /// Of a number of new tokens for each cache.
    ///
    /// # Errors
    /// Tokens that do not fit, caches that differ in shape or map, or the driver's.
    pub fn new<T: Element>(
        device: &Device,
        steps: &[(&DeviceCache<T>, usize)],
        scaling: QueryScaling,
    ) -> Result<Self, CudaError> {
        let mut parts = Vec::with_capacity(steps.len());
        let mut all: Option<Regions> = None;
        let (mut row, mut factors) = (0, Vec::new());
        for &(cache, tokens) in steps {
            if !cache.same_kind(steps[0].0) {
                let text = "sequences of one pass differ in shape, embedding or kinds of regions";
                return Err(CudaError::Shape(text.into()));
            }
            cache.check(tokens)?;
            let start = cache.len();
            factors.extend((start..start + tokens).map(|i| scaling.factor(i)));
            let regions = Regions::new(&**cache.map(), start, tokens);
            cache.check_spans(&regions, tokens)?;
            parts.push(Part {
                row,
                tokens,
                start,
                extents: regions.extents(),
            });
            row += tokens;
            match &mut all {
                None => all = Some(regions),
                Some(all) => {
                    for (to, from) in all.spans.iter_mut().zip(regions.spans) {
                        to.iter_mut()
                            .zip(from)
                            .for_each(|(to, from)| to.extend(from));
                    }
                    let join = |to: &mut Vec<Vec<f64>>, from: Vec<Vec<f64>>| {
                        to.iter_mut()
                            .zip(from)
                            .for_each(|(to, from)| to.extend(from));
                    };
                    join(&mut all.query_positions, regions.query_positions);
                    join(&mut all.key_positions, regions.key_positions);
                }
            }
        }
        let Some(all) = all.filter(|_| row > 0) else {
            return Err(CudaError::Shape("a pass without a new token".into()));
        };
        let stream = device.stream();
        Ok(Self {
            parts,
            tokens: row,
            regions: all.count(),
            planes: all.key_positions.len(),
            spans: stream.clone_htod(
                &all.spans
                    .iter()
                    .flatten()
                    .flatten()
                    .copied()
                    .collect::<Vec<_>>(),
            )?,
            query_positions: stream.clone_htod(&all.query_positions.concat())?,
            key_positions: stream.clone_htod(&all.key_positions.concat())?,
            factors: match scaling {
                QueryScaling::None => None,
                QueryScaling::LogN { .. } | QueryScaling::Yarn { .. } => {
                    Some(stream.clone_htod(&factors)?)
                }
            },
        })
    }

    /// New tokens of all sequences.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}
