//! Three comparisons for every pass: what `append` stored against the rotation in f64; attention
//! against an exact softmax over *what was stored*, element by element, where only the rounding of
//! weights and results is allowed; and both together against the oracle of the attention crate,
//! which knows nothing of regions or tiles.

use super::{Half, device};
use crate::plan::Regions;
use crate::{CudaError, Device, DeviceCache, Inputs, Plan, Work, append, attend_stored};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rayon::prelude::*;
use selfextend_attention::attention::oracle;
use selfextend_attention::position::{Keys, Positions};
use selfextend_attention::{
    AttentionShape, PairLayout, PositionMap, QueryScaling, Rope, RopeScaling, RopeSpec,
};
use std::ops::Range;
use std::sync::Arc;

/// One sequence with random queries, keys and values that the storage type holds exactly.
struct Sequence<T> {
    shape: AttentionShape,
    map: Arc<dyn Positions>,
    /// The same, where the oracle has it.
    known: Option<PositionMap>,
    rope: Rope,
    scaling: QueryScaling,
    n: usize,
    size: f32,
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
}

fn wide<T: Half>(x: &[T]) -> Vec<f32> {
    x.iter().map(|x| x.wide() as f32).collect()
}

/// Lengths and windows on, beside and between the edges of tiles.
fn edge(rng: &mut StdRng, most: usize) -> usize {
    let tile: usize = [16, 32, 64, 128][rng.random_range(0..4)] * rng.random_range(1..5);
    match rng.random_range(0..4) {
        0 => rng.random_range(1..=most),
        _ => (tile + rng.random_range(0..3))
            .saturating_sub(1)
            .clamp(1, most),
    }
}

impl<T: Half> Sequence<T> {
    fn new(rng: &mut StdRng, dim: usize, kv_heads: usize, group: usize) -> Self {
        let n = edge(rng, 600);
        let size = [0.5, 1.0, 3.0][rng.random_range(0..3)];
        let mut random = |len: usize, size: f32| -> Vec<T> {
            (0..len)
                .map(|_| T::round(rng.random_range(-1.0..1.0f32) * size))
                .collect()
        };
        let width = kv_heads * dim;
        let (q, k, v) = (
            random(n * width * group, size),
            random(n * width, size),
            random(n * width, 1.0),
        );
        let spec = RopeSpec {
            rotary_dim: if rng.random_bool(0.3) { dim / 2 } else { dim },
            layout: if rng.random_bool(0.5) {
                PairLayout::Interleaved
            } else {
                PairLayout::HalfSplit
            },
            scaling: if rng.random_bool(0.3) {
                RopeScaling::Yarn {
                    factor: 2.0,
                    original_context: 128,
                    beta_fast: 32.0,
                    beta_slow: 1.0,
                }
            } else {
                RopeScaling::None
            },
            ..RopeSpec::new(dim, 1e4)
        };
        Self {
            scaling: if rng.random_bool(0.3) {
                QueryScaling::LogN { base: 64 }
            } else {
                QueryScaling::None
            },
            shape: AttentionShape::new(kv_heads * group, kv_heads, dim).unwrap(),
            map: PositionMap::Plain.positions(),
            known: Some(PositionMap::Plain),
            rope: Rope::new(spec).unwrap(),
            n,
            size,
            q,
            k,
            v,
        }
    }

    fn with_map(mut self, rng: &mut StdRng, regions: usize) -> Self {
        let near = edge(rng, 400);
        self.known = match regions {
            1 => Some(PositionMap::Plain),
            2 => Some(PositionMap::self_extend(rng.random_range(2..9), near).unwrap()),
            _ => None,
        };
        self.map = match self.known {
            Some(map) => map.positions(),
            None => Arc::new(Three {
                near,
                middle: edge(rng, 300),
                sinks: edge(rng, 200),
            }),
        };
        self
    }

    fn q_width(&self) -> usize {
        self.shape.heads() * self.shape.head_dim()
    }

    fn kv_width(&self) -> usize {
        self.shape.kv_heads() * self.shape.head_dim()
    }

    fn rotated(&self, head: &[T], position: f64) -> Vec<f64> {
        let mut out: Vec<f64> = head.iter().map(|x| x.wide()).collect();
        for t in 0..self.rope.pairs() {
            let (a, b) = self.rope.pair(t);
            let (cos, sin) = self.rope.angle(position, t);
            let (x, y) = (
                out[a] * self.rope.magnitude(),
                out[b] * self.rope.magnitude(),
            );
            (out[a], out[b]) = (x * cos - y * sin, x * sin + y * cos);
        }
        out
    }

    /// `append` rounds a rotation in f32 to the storage type.
    fn assert_rotated(&self, stored: &[T], head: &[T], position: f64, factor: f32) {
        for (c, (x, exact)) in stored.iter().zip(self.rotated(head, position)).enumerate() {
            let exact = exact * f64::from(factor);
            let error = (x.wide() - exact).abs();
            let limit = T::UNIT * exact.abs() + 4e-6 * f64::from(self.size);
            assert!(
                error <= limit,
                "component {c} at {position}: {x:?} for {exact}"
            );
        }
    }

    fn rule(&self) -> f64 {
        // Scores of uniform numbers have a deviation of size^2 / 3, and what scales queries and keys
        // scales it; roundings of both operands move a weight by that much relatively.
        let magnitude = self.rope.magnitude().powi(2) * f64::from(self.scaling.factor(self.n));
        let deviation = magnitude * f64::from(self.size * self.size) / 3.0;
        T::UNIT * (1.5 + 2.0 * deviation)
    }

    fn assert_oracle(&self, out: &[T]) {
        let (mut q, k, v) = (wide(&self.q), wide(&self.k), wide(&self.v));
        for (i, row) in q.chunks_mut(self.q_width()).enumerate() {
            row.iter_mut().for_each(|q| *q *= self.scaling.factor(i));
        }
        let Some(map) = self.known else { return };
        let exact = oracle::attention(self.shape, map, &self.rope, &q, &k, &v);
        assert_eq!(out.len(), exact.len());
        let (mut error, mut norm) = (0.0, 0.0);
        for (x, exact) in out.iter().zip(&exact) {
            error += (x.wide() - exact).powi(2);
            norm += exact.powi(2);
        }
        let ratio = (error / norm).sqrt();
        assert!(
            ratio <= self.rule(),
            "{ratio} > {}: {:?}",
            self.rule(),
            self.map
        );
    }
}

/// What a pass left on the device, read back.
struct Stored<T> {
    regions: Regions,
    queries: Vec<Vec<T>>,
    keys: Vec<Vec<T>>,
    /// Components of a stored row.
    dim: usize,
    slots: Vec<usize>,
    start: usize,
    row: usize,
}

impl<T: Half> Stored<T> {
    fn key<'a>(&'a self, s: &Sequence<T>, region: usize, head: usize, j: usize) -> &'a [T] {
        let plane = self.regions.planes[region];
        let slots = self.slots[plane];
        &self.keys[plane][(head * slots + j % slots) * self.dim..][..s.shape.head_dim()]
    }

    /// One query of one head: element by element against the softmax of the stored numbers.
    fn assert_attended(&self, s: &Sequence<T>, token: usize, head: usize, out: &[T]) {
        let (dim, i) = (s.shape.head_dim(), self.start + token);
        let kv = head / s.shape.group();
        let mut scores = vec![f64::NEG_INFINITY; i + 1];
        for r in 0..self.regions.count() {
            let at = ((self.row + token) * s.shape.heads() + head) * self.dim;
            let query = &self.queries[r][at..at + dim];
            for j in s.map.span(r, i) {
                let products = query.iter().zip(self.key(s, r, kv, j));
                let dot: f64 = products.map(|(q, k)| q.wide() * k.wide()).sum();
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
                let value = s.v[j * s.kv_width() + kv * dim + c].wide();
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

/// Feeds some sequences in the same passes, in random chunks, and checks every pass.
fn feed<T: Half>(device: &Device, sequences: &[Sequence<T>], wide_inputs: bool, rng: &mut StdRng) {
    let stream = device.stream();
    let chunk = edge(rng, 300);
    let mut caches: Vec<DeviceCache<T>> = sequences
        .iter()
        .map(|s| {
            let rope = s.rope.clone();
            DeviceCache::new(device, s.shape, 1, s.map.clone(), rope, s.n, chunk).unwrap()
        })
        .collect();
    let mut outs = vec![Vec::new(); sequences.len()];
    let mut work = Work::default();
    loop {
        let tokens: Vec<usize> = sequences
            .iter()
            .zip(&caches)
            .map(|(s, cache)| {
                let most = chunk.min(s.n - cache.len());
                if most > 0 && rng.random_bool(0.4) {
                    rng.random_range(1..=most.min(4))
                } else {
                    edge(rng, chunk).min(most)
                }
            })
            .collect();
        let total: usize = tokens.iter().sum();
        if total == 0 {
            break;
        }
        let steps: Vec<_> = caches.iter().zip(tokens.iter().copied()).collect();
        let plan = Plan::new(device, &steps, sequences[0].scaling).unwrap();
        let (mut q, mut k, mut v) = (Vec::new(), Vec::new(), Vec::new());
        for ((s, cache), &tokens) in sequences.iter().zip(&caches).zip(&tokens) {
            let rows = cache.len()..cache.len() + tokens;
            let of = |width: usize| rows.start * width..rows.end * width;
            q.extend_from_slice(&s.q[of(s.q_width())]);
            k.extend_from_slice(&s.k[of(s.kv_width())]);
            v.extend_from_slice(&s.v[of(s.kv_width())]);
        }
        let (real, padded) = (sequences[0].shape.head_dim(), caches[0].padded_dim());
        let mut refs: Vec<&mut DeviceCache<T>> = caches.iter_mut().collect();
        // Poison: what a kernel forgets to write is no number.
        let poison = vec![T::round(f32::NAN); q.len() / real * padded];
        let mut out = stream.clone_htod(&poison).unwrap();
        if wide_inputs {
            let [q, k, v] = [q, k, v].map(|x| stream.clone_htod(&wide(&x)).unwrap());
            let inputs = Inputs {
                q: &q,
                k: &k,
                v: &v,
            };
            append(device, 0, &mut refs, &plan, inputs, &mut work).unwrap();
        } else {
            let [q, k, v] = [q, k, v].map(|x| stream.clone_htod(&x).unwrap());
            let inputs = Inputs {
                q: &q,
                k: &k,
                v: &v,
            };
            append(device, 0, &mut refs, &plan, inputs, &mut work).unwrap();
        }
        attend_stored(device, 0, &refs, &plan, &mut out, &mut work).unwrap();
        let out = stream.clone_dtoh(&out).unwrap();
        let heads = out.chunks_exact(padded);
        let out: Vec<T> = heads.flat_map(|head| head[..real].to_vec()).collect();
        let mut row = 0;
        for (n, s) in sequences.iter().enumerate() {
            let width = s.q_width();
            let mine = &out[row * width..(row + tokens[n]) * width];
            check(device, s, &caches[n], &work, row, tokens[n], mine);
            outs[n].extend_from_slice(mine);
            caches[n].commit(tokens[n]);
            row += tokens[n];
        }
    }
    for (s, out) in sequences.iter().zip(&outs) {
        s.assert_oracle(out);
    }
}

fn check<T: Half>(
    device: &Device,
    s: &Sequence<T>,
    cache: &DeviceCache<T>,
    work: &Work<T>,
    row: usize,
    tokens: usize,
    out: &[T],
) {
    let stream = device.stream();
    let (start, dim, heads) = (cache.len(), s.shape.head_dim(), s.shape.heads());
    let regions = Regions::new(&*s.map, start, tokens);
    let stored = Stored {
        queries: work.queries[..regions.count()]
            .iter()
            .map(|queries| stream.clone_dtoh(queries.as_ref().unwrap()).unwrap())
            .collect(),
        keys: cache
            .planes(0)
            .map(|(keys, _)| stream.clone_dtoh(keys).unwrap())
            .collect(),
        slots: cache.planes(0).map(|(_, slots)| slots).collect(),
        dim: cache.padded_dim(),
        regions,
        start,
        row,
    };
    (0..tokens * heads).into_par_iter().for_each(|at| {
        let (token, head) = (at / heads, at % heads);
        for region in 0..stored.regions.count() {
            let query = &s.q[((start + token) * heads + head) * dim..][..dim];
            let to = &stored.queries[region][((row + token) * heads + head) * stored.dim..][..dim];
            s.assert_rotated(
                to,
                query,
                stored.regions.query_positions[region][token],
                s.scaling.factor(start + token),
            );
            if head < s.shape.kv_heads() {
                let j = start + token;
                let key = &s.k[j * s.kv_width() + head * dim..][..dim];
                let plane = stored.regions.planes[region];
                let position = stored.regions.key_positions[plane][token];
                s.assert_rotated(stored.key(s, region, head, j), key, position, 1.0);
            }
        }
        stored.assert_attended(s, token, head, &out[at * dim..(at + 1) * dim]);
    });
}

/// Sinks, a gap, a middle and a window: what the kernels can do beyond SelfExtend, with positions
/// that are no whole numbers.
#[derive(Debug)]
struct Three {
    near: usize,
    middle: usize,
    sinks: usize,
}

impl Three {
    fn window(&self, i: usize) -> usize {
        (i + 1).saturating_sub(self.near)
    }

    fn middle(&self, i: usize) -> usize {
        (i + 1).saturating_sub(self.near + self.middle)
    }
}

impl Positions for Three {
    fn relative(&self, i: usize, j: usize) -> Option<f64> {
        let region = (0..3).find(|&region| self.span(region, i).contains(&j))?;
        Some(self.query(region, i) - self.key(region, j))
    }

    fn reach(&self, _trained: usize) -> Option<usize> {
        None
    }

    fn regions(&self) -> Vec<Keys> {
        let most = self.near;
        vec![Keys::Stored, Keys::Stored, Keys::Derived { most }]
    }

    fn span(&self, region: usize, i: usize) -> Range<usize> {
        match region {
            0 => 0..self.sinks.min(self.middle(i)),
            1 => self.middle(i)..self.window(i),
            _ => self.window(i)..i + 1,
        }
    }

    fn query(&self, region: usize, i: usize) -> f64 {
        [0.5 * i as f64 + 3.25, 0.5 * i as f64, 0.75 * i as f64][region]
    }

    fn key(&self, region: usize, j: usize) -> f64 {
        [0.5, 0.5, 0.75][region] * j as f64
    }

    fn stored(&self, j: usize) -> f64 {
        0.5 * j as f64
    }
}

fn random_shapes<T: Half>(dim: usize) {
    let Some(device) = device() else { return };
    cases::<T>(&device, dim);
    // On Hopper, both kernels; elsewhere the same again.
    cases::<T>(&device.portable(), dim);
}

fn cases<T: Half>(device: &Device, dim: usize) {
    let cases = std::env::var("SELFEXTEND_CUDA_CASES").map_or(6, |n| n.parse().unwrap());
    for seed in 0..cases {
        let mut rng = StdRng::seed_from_u64(seed * 1000 + dim as u64);
        let (kv_heads, group) =
            [(1, 1), (2, 1), (1, 4), (2, 3), (1, 8), (1, 20)][seed as usize % 6];
        let regions = 1 + (seed as usize + 1) % 3;
        // Every third case is padded, every other one has a soft cap.
        let dim = if seed % 3 == 2 { dim - 8 } else { dim };
        let mut first =
            Sequence::<T>::new(&mut rng, dim, kv_heads, group).with_map(&mut rng, regions);
        if seed % 2 == 1 {
            first.shape = first.shape.with_soft_cap(2.0);
        }
        let mut all = vec![first];
        for _ in 0..rng.random_range(0..3) {
            // Sequences of one pass may differ in their maps, if not in the kinds of regions.
            let mut next =
                Sequence::new(&mut rng, dim, kv_heads, group).with_map(&mut rng, regions);
            next.rope = all[0].rope.clone();
            next.shape = all[0].shape;
            next.scaling = all[0].scaling;
            all.push(next);
        }
        feed(device, &all, seed % 2 == 0, &mut rng);
    }
}

macro_rules! on_the_device {
    ($($name:ident: $type:ty, $dim:literal;)*) => {$(
        #[test]
        fn $name() {
            random_shapes::<$type>($dim);
        }
    )*};
}

on_the_device! {
    f16_64: half::f16, 64;
    f16_96: half::f16, 96;
    f16_128: half::f16, 128;
    f16_256: half::f16, 256;
    bf16_64: half::bf16, 64;
    bf16_96: half::bf16, 96;
    bf16_128: half::bf16, 128;
    bf16_256: half::bf16, 256;
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(device) = device() else { return };
    let map = PositionMap::self_extend(4, 100).unwrap();
    let cache = |shape: AttentionShape, capacity, chunk| {
        let rope = Rope::new(RopeSpec::new(shape.head_dim(), 1e4)).unwrap();
        DeviceCache::<half::f16>::new(&device, shape, 1, map.positions(), rope, capacity, chunk)
    };
    let shape = |dim| AttentionShape::new(2, 1, dim).unwrap();
    let large = cache(shape(264), 128, 1);
    assert!(matches!(large, Err(CudaError::HeadSize(264))));
    let cache = cache(shape(64), 1024, 28).unwrap();
    assert!(cache.check(0, 28).is_ok());
    assert!(cache.check(0, 200).is_err());
    assert!(cache.check(1000, 25).is_err());
}
