//! What a page does with its numbers, whatever their type.

use crate::shape::AttentionShape;
use crate::simd::kernels::Rounded;
use crate::simd::{Element, Simd};
use half::f16;
use std::ops::Range;

/// Tokens in a page. Pages are allocated as a sequence grows and shared by forks.
pub const PAGE: usize = 256;

/// Up to this many new tokens go through the decode path, which is split over keys and reads derived
/// keys from rings.
pub const DECODE_TOKENS: usize = 4;

/// Up to this many tokens may be planned as decode steps
/// ([`KvCache::plan_steps_into`](crate::KvCache::plan_steps_into)).
pub const MOST_STEPS: usize = 16;

/// How a page keeps its numbers. A panel is 16 tokens of one head; panels are counted within the
/// page.
pub trait Stored: Clone + Send + Sync {
    /// What keys derived from this page are rounded to.
    type Near: Element;
    /// Whether decode multiplies integers.
    const INTEGERS: bool = false;
    /// Whether keys and values are transformed ([`KvType::is_transformed`](super::KvType::is_transformed)).
    const TRANSFORMED: bool = false;

    /// An empty page.
    fn new(shape: AttentionShape) -> Self;

    /// Bytes allocated.
    fn bytes(&self) -> usize;

    /// Appends its numbers, little-endian.
    fn write(&self, to: &mut Vec<u8>);

    /// Takes as many bytes as [`Stored::write`] gave from the front; `None` when there are fewer.
    fn read(&mut self, from: &mut &[u8]) -> Option<()>;

    /// Its panels, head after head, to be written.
    fn panels_mut(&mut self, shape: AttentionShape) -> impl Iterator<Item: PanelMut> + Send;

    /// Prefetches a panel's keys.
    fn prefetch_keys<S: Simd>(&self, s: S, shape: AttentionShape, head: usize, panel: usize);

    /// Prefetches a panel's values.
    fn prefetch_values<S: Simd>(&self, s: S, shape: AttentionShape, head: usize, panel: usize);

    /// Scores of up to 12 rows of the queries against a panel: see
    /// [`crate::simd::kernels::scores_few`].
    #[allow(clippy::too_many_arguments)]
    fn scores<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        panel: usize,
        queries: Queries,
        rows: Range<usize>,
        out: &mut [f32],
        stride: usize,
    );

    /// What is added to every score of each row of queries against this page's keys of a head; nothing
    /// where that is zero for all.
    #[inline(always)]
    fn bases<S: Simd>(
        &self,
        _: S,
        _: AttentionShape,
        _head: usize,
        _rows: &[f32],
        to: &mut Vec<f32>,
    ) {
        to.clear();
    }

    /// Weighted sums of the values of the first `keys` tokens, for up to 12 rows: see
    /// [`crate::simd::kernels::accumulate_few`]. `weights` has rows of [`PAGE`], as many as `acc`,
    /// with zeros from `keys` to the end of the panel.
    #[allow(clippy::too_many_arguments)]
    fn accumulate<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        keys: usize,
        weights: &[f32],
        scratch: &mut WeightScratch,
        acc: &mut [f32],
    );

    /// One panel of keys as floats, `[component][16]`.
    fn widen_panel<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        panel: usize,
        to: &mut [f32],
    );

    /// Values of `count` tokens from `first` (a panel's first) on as floats, `[padded component /
    /// 16][tile][16]`.
    #[allow(clippy::too_many_arguments)]
    fn widen_values<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        first: usize,
        count: usize,
        tile: usize,
        to: &mut [f32],
    );
}

/// Prefetches a panel of `len` numbers. The processor's own prefetching stops at the end of each
/// 4 KiB, and nothing tells it that the values come after the keys.
#[inline(always)]
pub(super) fn prefetch<S: Simd, E>(s: S, numbers: &[E], panel: usize, len: usize) {
    let start = numbers.as_ptr().wrapping_add(panel * len).cast::<u8>();
    for line in (0..len * size_of::<E>()).step_by(64) {
        s.prefetch(start.wrapping_add(line));
    }
}

/// Rows of queries, `[row][component]`.
#[derive(Debug, Clone, Copy)]
pub struct Queries<'a> {
    /// As they are.
    pub floats: &'a [f32],
    /// Rounded, where the storage is quantised.
    pub rounded: &'a Rounded,
    /// [`Stored::bases`].
    pub bases: &'a [f32],
}

/// What weighing the values of quantised pages needs.
#[derive(Debug, Default)]
pub struct WeightScratch {
    /// Weights times the scales of their values.
    pub(super) scaled: Vec<f32>,
    pub(super) rounded: Rounded,
}

/// Sixteen tokens of one head, to be written.
pub trait PanelMut: Send {
    /// Stores the rotated key and the value of one token.
    fn put(&mut self, lane: usize, key: &[f32], value: &[f32]);
}

/// A number as files hold it.
pub trait Number: Copy {
    /// Appends its bytes.
    fn put(self, to: &mut Vec<u8>);
    /// Reads it from as many bytes as it has.
    fn get(from: &[u8]) -> Option<Self>;
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Number for $type {
            fn put(self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }

            fn get(from: &[u8]) -> Option<Self> {
                Some(Self::from_le_bytes(from.try_into().ok()?))
            }
        }
    )*};
}
number!(f32, f16, i8, i16);

pub(super) fn write_numbers<T: Number>(numbers: &[T], to: &mut Vec<u8>) {
    numbers.iter().for_each(|number| number.put(to));
}

pub(super) fn read_numbers<T: Number>(numbers: &mut [T], from: &mut &[u8]) -> Option<()> {
    let (mine, rest) = from.split_at_checked(size_of_val(numbers))?;
    *from = rest;
    for (number, bytes) in numbers.iter_mut().zip(mine.chunks_exact(size_of::<T>())) {
        *number = T::get(bytes)?;
    }
    Some(())
}
