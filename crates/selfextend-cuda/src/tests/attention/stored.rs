//! What a pass left on the device, and the comparisons with it.

use super::super::Half;
use super::sequence::Sequence;
use crate::rows::Rows;
use crate::{AttentionScratch, Device, DeviceCache};
use cudarc::driver::CudaSlice;
use rayon::prelude::*;
use selfextend_attention::lowering::Lowering;

/// Rows read back.
pub struct Numbers {
    pub stored: Vec<f64>,
    /// What products take: the same, rounded to 16 bits.
    used: Vec<f64>,
    /// For each 32 of bytes; empty for 16-bit floats.
    scales: Vec<f64>,
}

impl Numbers {
    pub fn read<T: Half>(device: &Device, rows: &Rows<T>) -> Self {
        let stream = device.stream();
        match rows {
            Rows::Halves(rows) => Self::halves(device, rows),
            Rows::Bytes { bytes, scales } => {
                let scales = stream.clone_dtoh(scales).unwrap();
                let scales: Vec<f64> = scales.into_iter().map(f64::from).collect();
                let bytes = stream.clone_dtoh(bytes).unwrap();
                let numbers = bytes.iter().enumerate();
                let stored: Vec<f64> = numbers
                    .map(|(at, &byte)| f64::from(byte) * scales[at / 32])
                    .collect();
                // A byte times a half float has 18 bits: exact as f32.
                let used = stored.iter().map(|&x| T::round(x as f32).wide());
                Self {
                    used: used.collect(),
                    stored,
                    scales,
                }
            }
        }
    }

    fn halves<T: Half>(device: &Device, rows: &CudaSlice<T>) -> Self {
        let rows = device.stream().clone_dtoh(rows).unwrap();
        let stored: Vec<f64> = rows.into_iter().map(T::wide).collect();
        Self {
            used: stored.clone(),
            stored,
            scales: Vec::new(),
        }
    }

    /// A row of `exact` numbers, of at most `size` before a rotation in f32, starts at `at`.
    fn assert_holds<T: Half>(&self, at: usize, exact: &[f64], size: f32) {
        let rotation = 4e-6 * f64::from(size);
        for (n, exact) in exact.chunks(32).enumerate() {
            let scale = self.scales.get(at / 32 + n);
            for (c, (x, exact)) in self.stored[at + 32 * n..].iter().zip(exact).enumerate() {
                let limit = match scale {
                    // Half a step; the inverse of a scale in f32 moves no number of steps by more
                    // than 127 * 2^-22.
                    Some(scale) => scale * (0.5 + 4e-5),
                    None => T::UNIT * exact.abs(),
                };
                let error = (x - exact).abs();
                assert!(
                    error <= limit + rotation,
                    "component {} of {at}: {x} for {exact}",
                    32 * n + c
                );
            }
            if let Some(scale) = scale {
                let largest = exact.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
                // Rounded to f16.
                let limit = 1.01 * largest / 2048.0 + rotation;
                assert!(
                    (127.0 * scale - largest).abs() <= limit,
                    "scale {scale} of {at}: {largest}"
                );
            }
        }
    }
}

struct Stored {
    lowering: Lowering,
    queries: Vec<Numbers>,
    keys: Vec<Numbers>,
    values: Numbers,
    /// Components of a stored row.
    dim: usize,
    slots: Vec<usize>,
    capacity: usize,
    start: usize,
    row: usize,
}

impl Stored {
    /// Where a key starts in a plane.
    fn key(&self, plane: usize, head: usize, j: usize) -> usize {
        let slots = self.slots[plane];
        (head * slots + j % slots) * self.dim
    }

    fn value(&self, head: usize, j: usize) -> usize {
        (head * self.capacity + j) * self.dim
    }

    fn query<T: Half>(&self, s: &Sequence<T>, head: usize, token: usize) -> usize {
        ((self.row + token) * s.shape.heads() + head) * self.dim
    }

    /// What `append` made of a new token.
    fn assert_appended<T: Half>(&self, s: &Sequence<T>, token: usize, head: usize) {
        let (dim, j) = (s.shape.head_dim(), self.start + token);
        let query = &s.q[(j * s.shape.heads() + head) * dim..][..dim];
        let factor = f64::from(s.scaling.factor(j));
        let regions = self.lowering.regions().iter();
        for (region, queries) in regions.zip(&self.queries) {
            let mut exact = s.rotated(query, region.query_positions()[token]);
            exact.iter_mut().for_each(|x| *x *= factor);
            let at = self.query(s, head, token);
            queries.assert_holds::<T>(at, &exact, s.size);
        }
        if head < s.shape.kv_heads() {
            self.assert_key(s, token, head);
            let value = &s.v[j * s.kv_width() + head * dim..][..dim];
            let exact: Vec<f64> = value.iter().map(|x| x.wide()).collect();
            self.values
                .assert_holds::<T>(self.value(head, j), &exact, 0.0);
        }
    }

    /// A new key in every plane: those beyond the first from what the first holds.
    fn assert_key<T: Half>(&self, s: &Sequence<T>, token: usize, head: usize) {
        let (dim, j) = (s.shape.head_dim(), self.start + token);
        let stored_at = self.lowering.stored()[token];
        let key = &s.k[j * s.kv_width() + head * dim..][..dim];
        let (at, exact) = (self.key(0, head, j), s.rotated(key, stored_at));
        self.keys[0].assert_holds::<T>(at, &exact, s.size);
        let stored = &self.keys[0].used[at..at + dim];
        let regions = self.lowering.regions().iter();
        for region in regions.filter(|region| region.is_derived()) {
            let (plane, delta) = (region.plane(), region.key_positions()[token] - stored_at);
            let keys = &self.keys[plane];
            let exact = s.turned(stored.to_vec(), delta);
            keys.assert_holds::<T>(self.key(plane, head, j), &exact, s.size);
        }
    }

    /// One query of one head: element by element against the softmax of the stored numbers.
    fn assert_attended<T: Half>(&self, s: &Sequence<T>, token: usize, head: usize, out: &[T]) {
        let (dim, i) = (s.shape.head_dim(), self.start + token);
        let kv = head / s.shape.group();
        let mut scores = vec![f64::NEG_INFINITY; i + 1];
        for (r, region) in self.lowering.regions().iter().enumerate() {
            let query = &self.queries[r].used[self.query(s, head, token)..][..dim];
            let plane = region.plane();
            let keys = &self.keys[plane].used;
            for j in s.map.span(r, i) {
                let products = query.iter().zip(&keys[self.key(plane, kv, j)..]);
                let dot: f64 = products.map(|(q, k)| q * k).sum();
                let score = dot * f64::from(s.shape.scale());
                scores[j] = s.shape.soft_cap().map_or(score, |cap| {
                    let cap = f64::from(cap);
                    cap * (score / cap).tanh()
                });
            }
        }
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|x| (x - max).exp()).sum();
        for (c, x) in out.iter().enumerate() {
            let (mut exact, mut size) = (0.0, 0.0);
            for (j, score) in scores.iter().enumerate() {
                let value = self.values.used[self.value(kv, j) + c];
                let weight = (score - max).exp() / sum;
                exact += weight * value;
                size += weight * value.abs();
            }
            let error = (x.wide() - exact).abs();
            // Weights are rounded, then the result; f32 sums of the scores add a little.
            let limit = 1.1 * T::UNIT * (size + exact.abs()) + 2e-5;
            assert!(
                error <= limit,
                "query {i} head {head} component {c}: {x:?} for {exact}, error {error} > {limit}"
            );
        }
    }
}

/// Checks `tokens` new tokens of a pass, whose rows in it start at `row`.
pub fn check<T: Half>(
    device: &Device,
    s: &Sequence<T>,
    cache: &DeviceCache<T>,
    scratch: &AttentionScratch<T>,
    row: usize,
    tokens: usize,
    out: &[T],
) {
    let (start, dim, heads) = (cache.len(), s.shape.head_dim(), s.shape.heads());
    let lowering = Lowering::new(&*s.map, start..start + tokens);
    let stored = Stored {
        queries: scratch.queries[..lowering.regions().len()]
            .iter()
            .map(|queries| Numbers::halves(device, queries.as_ref().unwrap()))
            .collect(),
        keys: cache
            .planes(0)
            .map(|(keys, _)| Numbers::read(device, keys))
            .collect(),
        values: Numbers::read(device, &cache.layers[0].values),
        slots: cache.planes(0).map(|(_, slots)| slots).collect(),
        capacity: cache.capacity(),
        dim: cache.padded_dim(),
        lowering,
        start,
        row,
    };
    (0..tokens * heads).into_par_iter().for_each(|at| {
        let (token, head) = (at / heads, at % heads);
        stored.assert_appended(s, token, head);
        stored.assert_attended(s, token, head, &out[at * dim..(at + 1) * dim]);
    });
}
