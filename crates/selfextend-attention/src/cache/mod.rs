//! Keys and values of one sequence, for all layers.
//!
//! Keys are stored once, at the stored position of the map. Keys of a region whose positions differ
//! (SelfExtend's neighbours) are always *derived* from the stored ones by the rotation
//! between the two positions, and rounded to the storage type:
//!
//! * a prefill derives those it needs for one layer at a time, in a scratch buffer;
//! * a decode step keeps them in a ring for each layer and region, and adds one key a token.
//!
//! So SelfExtend's extra memory is `W` keys (3.1% of plain attention's cache at 16 W tokens), and
//! because a ring holds nothing that could not be derived again, truncating or forking a sequence
//! anywhere gives bit for bit what a fresh run would.
//!
//! Pages that no later query sees (a map that forgets, a layer with a sliding window) are freed, so
//! such a cache stays bounded. Truncating to where they would be seen again empties the cache.

mod block;
mod bytes;
mod derived;
mod floats;
mod held;
mod kind;
mod kv_cache;
mod kv_type;
mod nibbles;
mod page;
mod pages;
mod plan;
mod quantized;
mod stored;

pub use block::KvBlock;
pub(crate) use derived::{DerivedRing, derive_panels};
pub use kind::LayerKind;
pub use kv_cache::KvCache;
pub(crate) use kv_cache::LayerCache;
pub use kv_type::KvType;
pub(crate) use page::{Page, with_stored};
pub use plan::SegmentPlan;
pub(crate) use plan::{KindPlan, Rotations};
pub use stored::{DECODE_TOKENS, MOST_STEPS, PAGE};
pub(crate) use stored::{Queries as StoredQueries, Stored, WeightScratch};
