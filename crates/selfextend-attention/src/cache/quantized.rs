//! Pages that keep keys and values as integer codes with a scale for each 32 components, whatever
//! the codes.

use super::stored::{
    Number, PAGE, PanelMut, Queries, Stored, WeightScratch, prefetch, read_numbers, write_numbers,
};
use crate::shape::AttentionShape;
use crate::simd::kernels::{Rounded, add_lanes, add_to_lanes, dot, hadamard, multiply_rows};
use crate::simd::linear::BLOCK;
use crate::simd::{Kernel, Simd, WIDTH, dispatch};
use half::f16;
use std::fmt::Debug;
use std::ops::Range;

/// How numbers become codes, how codes lie in a panel (16 tokens of one head), and the kernels that
/// read them: see [`Stored`].
pub trait Codes: Debug + Clone + Send + Sync {
    /// What holds them: one code or several.
    type Code: Number + Default + Debug + Send + Sync;
    /// As [`Stored::TRANSFORMED`]. Transformed keys are stored without their page's offset.
    const TRANSFORMED: bool = false;

    /// How many of them hold a panel's keys.
    fn keys(shape: AttentionShape) -> usize;

    /// How many of them hold a panel's values.
    fn values(shape: AttentionShape) -> usize;

    /// Rounds the key and the value of one token.
    fn put(panel: &mut Panel<Self>, lane: usize, key: &[f32], value: &[f32]);

    /// As [`Stored::scores`], from a panel's codes and scales.
    #[allow(clippy::too_many_arguments)]
    fn scores<S: Simd>(
        s: S,
        queries: &Rounded,
        rows: Range<usize>,
        depth: usize,
        codes: &[Self::Code],
        scales: &[f16],
        bases: &[f32],
        out: &mut [f32],
        stride: usize,
    );

    /// As [`Stored::accumulate`] for some columns, with weights that hold the scales.
    fn accumulate<S: Simd>(
        s: S,
        weights: &Rounded,
        keys: usize,
        codes: &[Self::Code],
        width: usize,
        columns: Range<usize>,
        acc: &mut [f32],
    );

    /// As [`Stored::widen_panel`].
    fn widen_panel<S: Simd>(s: S, codes: &[Self::Code], scales: &[f16], to: &mut [f32]);

    /// As [`Stored::widen_values`].
    fn widen_rows<S: Simd>(
        s: S,
        rows: usize,
        codes: &[Self::Code],
        scales: &[f16],
        width: usize,
        tile: usize,
        to: &mut [f32],
    );
}

/// Keys and values of up to [`PAGE`] tokens.
#[derive(Debug, Clone)]
pub struct Quantized<C: Codes> {
    /// `[kv_head][panel]`, as [`Codes::keys`].
    keys: Vec<C::Code>,
    /// `[kv_head][panel][block][16]`.
    key_scales: Vec<f16>,
    /// `[kv_head][panel]`, as [`Codes::values`].
    values: Vec<C::Code>,
    /// `[kv_head][panel][block][16]`.
    value_scales: Vec<f16>,
    /// What is taken from transformed keys before they are rounded, `[kv_head][component]`; empty for
    /// others.
    offsets: Vec<f32>,
}

/// Sixteen tokens of one head, to be written: codes and scales.
pub struct Panel<'a, C: Codes> {
    pub keys: (&'a mut [C::Code], &'a mut [f16]),
    pub values: (&'a mut [C::Code], &'a mut [f16]),
    /// What is taken from its keys; empty where nothing is.
    pub offset: &'a [f32],
}

impl<C: Codes> PanelMut for Panel<'_, C> {
    fn put(&mut self, lane: usize, key: &[f32], value: &[f32]) {
        C::put(self, lane, key, value);
    }
}

/// Blocks of a head.
fn blocks(shape: AttentionShape) -> usize {
    shape.head_dim().div_ceil(BLOCK)
}

/// The number of a head's panel among those of all heads.
fn number(head: usize, panel: usize) -> usize {
    head * (PAGE / WIDTH) + panel
}

/// The scales of `count` panels from `panel` on.
fn scales(all: &[f16], shape: AttentionShape, head: usize, panel: usize, count: usize) -> &[f16] {
    let size = blocks(shape) * WIDTH;
    &all[number(head, panel) * size..][..count * size]
}

/// Rounds the weights of a page's first `keys` tokens for one block of columns. The scale of a key's
/// values goes into its weight, once for all of the block.
#[inline(always)]
fn scale_weights<S: Simd>(
    s: S,
    shape: AttentionShape,
    scales: &[f16],
    block: usize,
    keys: usize,
    weights: &[f32],
    scratch: &mut WeightScratch,
) {
    let padded = keys.next_multiple_of(WIDTH);
    let WeightScratch { scaled, rounded } = scratch;
    scaled.reserve(weights.len().saturating_sub(scaled.len()));
    scaled.resize(weights.len() / PAGE * padded, 0.0);
    let (factors, distance) = (&scales[block * WIDTH..], blocks(shape) * WIDTH);
    multiply_rows(s, weights, PAGE, padded, factors, distance, scaled);
    // Scales of tokens that are not there are what an earlier pass left: maybe infinite.
    let rows = scaled.chunks_exact_mut(padded);
    rows.for_each(|row| row[keys..].fill(0.0));
    rounded.weights(s, scaled, padded, PAGE);
}

impl<C: Codes> Quantized<C> {
    fn panel(&self, shape: AttentionShape, head: usize, panel: usize) -> (&[C::Code], &[f16]) {
        let size = C::keys(shape);
        (
            &self.keys[number(head, panel) * size..][..size],
            scales(&self.key_scales, shape, head, panel, 1),
        )
    }

    /// What a head's keys are stored without; empty where that is nothing.
    fn offset(&self, shape: AttentionShape, head: usize) -> &[f32] {
        let len = offset_len::<C>(shape);
        &self.offsets[head * len..][..len]
    }

    /// Prepares an empty page for the tokens after the full page `before`: the mean key of that page,
    /// turned by `advance` from where a token of it stands to where the token a page later does, is
    /// what its keys will be stored without.
    pub(super) fn follow(
        &mut self,
        shape: AttentionShape,
        before: &Self,
        advance: impl Fn(&mut [f32]),
    ) {
        for head in 0..shape.kv_heads() {
            let len = offset_len::<C>(shape);
            let mean = &mut self.offsets[head * len..][..len];
            dispatch(Mean {
                page: before,
                shape,
                head,
                to: mean,
            });
            hadamard(mean);
            advance(mean);
            hadamard(mean);
            // What is no number shows in the codes of its own page.
            if !mean.iter().all(|x| x.is_finite()) {
                mean.fill(0.0);
            }
        }
    }

    /// Values of whole panels, from the one of token `first` on.
    fn rows(&self, shape: AttentionShape, head: usize, first: usize, count: usize) -> &[C::Code] {
        let size = C::values(shape);
        &self.values[number(head, first / WIDTH) * size..][..count.div_ceil(WIDTH) * size]
    }
}

/// The mean of a full page's keys of one head, as they are stored.
struct Mean<'a, C: Codes> {
    page: &'a Quantized<C>,
    shape: AttentionShape,
    head: usize,
    to: &'a mut [f32],
}

impl<C: Codes> Kernel for Mean<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut keys = vec![0.0; self.to.len() * WIDTH];
        self.to.fill(0.0);
        for panel in 0..PAGE / WIDTH {
            self.page
                .widen_panel(s, self.shape, self.head, panel, &mut keys);
            add_lanes(s, &keys, 1.0 / PAGE as f32, self.to);
        }
    }
}

/// Components of a head's offset.
fn offset_len<C: Codes>(shape: AttentionShape) -> usize {
    if C::TRANSFORMED { shape.head_dim() } else { 0 }
}

impl<C: Codes> Stored for Quantized<C> {
    /// Derived keys are half floats: rounding them to codes again would add an error of
    /// their own to the neighbours, which matter most.
    type Near = f16;
    const INTEGERS: bool = true;
    const TRANSFORMED: bool = C::TRANSFORMED;

    fn new(shape: AttentionShape) -> Self {
        let panels = shape.kv_heads() * (PAGE / WIDTH);
        let scales = vec![f16::ZERO; panels * WIDTH * blocks(shape)];
        Self {
            keys: vec![C::Code::default(); panels * C::keys(shape)],
            key_scales: scales.clone(),
            values: vec![C::Code::default(); panels * C::values(shape)],
            value_scales: scales,
            offsets: vec![0.0; shape.kv_heads() * offset_len::<C>(shape)],
        }
    }

    fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * size_of::<C::Code>()
            + (self.key_scales.len() + self.value_scales.len()) * size_of::<f16>()
            + self.offsets.len() * size_of::<f32>()
    }

    fn write(&self, to: &mut Vec<u8>) {
        write_numbers(&self.keys, to);
        write_numbers(&self.key_scales, to);
        write_numbers(&self.values, to);
        write_numbers(&self.value_scales, to);
        write_numbers(&self.offsets, to);
    }

    fn read(&mut self, from: &mut &[u8]) -> Option<()> {
        read_numbers(&mut self.keys, from)?;
        read_numbers(&mut self.key_scales, from)?;
        read_numbers(&mut self.values, from)?;
        read_numbers(&mut self.value_scales, from)?;
        read_numbers(&mut self.offsets, from)
    }

    fn panels_mut(&mut self, shape: AttentionShape) -> impl Iterator<Item: PanelMut> + Send {
        let scales = WIDTH * blocks(shape);
        let keys = self
            .keys
            .chunks_exact_mut(C::keys(shape))
            .zip(self.key_scales.chunks_exact_mut(scales));
        let values = self
            .values
            .chunks_exact_mut(C::values(shape))
            .zip(self.value_scales.chunks_exact_mut(scales));
        let (offsets, len) = (&self.offsets, offset_len::<C>(shape));
        let panels = keys.zip(values).enumerate();
        panels.map(move |(n, (keys, values))| Panel::<C> {
            keys,
            values,
            offset: &offsets[n / (PAGE / WIDTH) * len..][..len],
        })
    }

    #[inline(always)]
    fn prefetch_keys<S: Simd>(&self, s: S, shape: AttentionShape, head: usize, panel: usize) {
        prefetch(s, &self.keys, number(head, panel), C::keys(shape));
    }

    #[inline(always)]
    fn prefetch_values<S: Simd>(&self, s: S, shape: AttentionShape, head: usize, panel: usize) {
        prefetch(s, &self.values, number(head, panel), C::values(shape));
    }

    #[inline(always)]
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
    ) {
        let (codes, scales) = self.panel(shape, head, panel);
        let (dim, bases) = (shape.head_dim(), queries.bases);
        C::scores(
            s,
            queries.rounded,
            rows,
            dim,
            codes,
            scales,
            bases,
            out,
            stride,
        );
    }

    #[inline(always)]
    fn bases<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        rows: &[f32],
        to: &mut Vec<f32>,
    ) {
        let (offset, dim) = (self.offset(shape, head), shape.head_dim());
        to.clear();
        if C::TRANSFORMED {
            to.extend(rows.chunks_exact(dim).map(|row| dot(s, row, offset)));
        }
    }

    #[inline(always)]
    fn accumulate<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        keys: usize,
        weights: &[f32],
        scratch: &mut WeightScratch,
        acc: &mut [f32],
    ) {
        let width = shape.padded_dim();
        let values = self.rows(shape, head, 0, keys);
        let panels = keys.div_ceil(WIDTH);
        let scales = scales(&self.value_scales, shape, head, 0, panels);
        for block in 0..blocks(shape) {
            scale_weights(s, shape, scales, block, keys, weights, scratch);
            let columns = block * BLOCK..width.min((block + 1) * BLOCK);
            C::accumulate(s, &scratch.rounded, keys, values, width, columns, acc);
        }
    }

    #[inline(always)]
    fn widen_panel<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        panel: usize,
        to: &mut [f32],
    ) {
        let (codes, scales) = self.panel(shape, head, panel);
        C::widen_panel(s, codes, scales, to);
        add_to_lanes(s, self.offset(shape, head), to);
    }

    #[inline(always)]
    fn widen_values<S: Simd>(
        &self,
        s: S,
        shape: AttentionShape,
        head: usize,
        first: usize,
        count: usize,
        tile: usize,
        to: &mut [f32],
    ) {
        let width = shape.padded_dim();
        let panels = count.div_ceil(WIDTH);
        let scales = scales(&self.value_scales, shape, head, first / WIDTH, panels);
        let rows = self.rows(shape, head, first, count);
        C::widen_rows(s, count, rows, scales, width, tile, to);
    }
}
