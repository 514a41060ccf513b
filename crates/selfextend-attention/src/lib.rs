//! Exact attention under any training-free context extension, SelfExtend (arXiv 2401.01325) first,
//! on plain slices.
//!
//! This crate knows positions, rotary embeddings, a KV cache and attention; it knows nothing of
//! files, models or tensor libraries, so any Rust engine can adopt it. Slices in, slices out;
//! `examples/embed_attention.rs` is a whole toy engine around it.
//!
//! * [`position`]: the maps from (query, key) to a relative position, one file for each method.
//! * [`rope`]: rotary frequencies, tables and rotations.
//! * [`cache`]: keys and values of one sequence, in pages that forks share.
//! * [`attention`]: the specification, the f64 oracle and the tiled implementation.
//!
//! Work is shared between the threads of the current rayon pool; no result depends on their number.
//!
//! # Cargo features
//!
//! * `unstable`: makes public what backends and benchmarks need beside attention: `lowering` (position
//!   maps as numbers, for backends of your own), `simd` (the vector interface and its kernels) and
//!   `parallel` (ordered work queues). It may change in any release.
//!
//! # A pass
//!
//! ```
//! use selfextend_attention::{
//!     AttentionScratch, AttentionShape, KvCache, KvType, PositionMap, Rope, RopeSpec, Segment, attend,
//! };
//!
//! # fn main() -> Result<(), selfextend_attention::AttentionError> {
//! let shape = AttentionShape::new(4, 2, 8)?; // 4 query heads share 2 key/value heads of size 8
//! let rope = Rope::new(RopeSpec::new(8, 10_000.0))?;
//! let map = PositionMap::self_extend(4, 32)?; // group size 4, neighbour window 32
//! let mut cache = KvCache::new(shape, 1, KvType::F32, map, rope);
//!
//! // 100 tokens at once: queries [100, 4*8], keys and values [100, 2*8], output [100, 4*8].
//! let (q, k, v) = (vec![0.1; 3200], vec![0.2; 1600], vec![0.3; 1600]);
//! let mut out = vec![0.0; 3200];
//! let plan = cache.plan(100);
//! let mut segments = [Segment { cache: &mut cache, plan: &plan }];
//! attend(0, &mut segments, &q, &k, &v, &mut out, &mut AttentionScratch::default())?;
//! cache.commit(100);
//! assert!((out[0] - 0.3).abs() < 1e-6); // an average of equal values
//! # Ok(())
//! # }
//! ```

pub mod attention;
pub mod cache;
mod error;
pub mod position;
pub mod rope;
mod shape;

// What backends need beside attention: public with the feature `unstable` only.
#[cfg(feature = "unstable")]
pub mod lowering;
#[cfg(not(feature = "unstable"))]
#[allow(dead_code)]
mod lowering;
#[cfg(feature = "unstable")]
pub mod parallel;
#[cfg(not(feature = "unstable"))]
#[allow(dead_code)]
mod parallel;
#[cfg(feature = "unstable")]
#[allow(unsafe_code)]
pub mod simd;
#[cfg(not(feature = "unstable"))]
#[allow(unsafe_code, dead_code, unused_imports)]
mod simd;

pub use attention::{AttentionScratch, HeadWeights, Segment, attend, attend_with};
pub use cache::{KvBlock, KvCache, KvType, LayerKind, PAGE, SegmentPlan};
pub use error::AttentionError;
pub use position::{PositionMap, Positions, QueryScaling, SelfExtend};
pub use rope::{Frequencies, PairLayout, Rope, RopeScaling, RopeSpec};
pub use shape::AttentionShape;
