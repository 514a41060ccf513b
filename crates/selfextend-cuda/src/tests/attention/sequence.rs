//! Sequences of random numbers, and what the oracle makes of them.

use super::super::Half;
use crate::Storage;
use rand::{Rng, rngs::StdRng};
use selfextend_attention::attention::oracle;
use selfextend_attention::position::{Keys, Positions, Regions};
use selfextend_attention::{
    AttentionShape, LayerKind, PairLayout, PositionMap, QueryScaling, Rope, RopeScaling, RopeSpec,
};
use std::ops::Range;
use std::sync::Arc;

/// One sequence with random queries, keys and values that the storage type holds exactly.
pub struct Sequence<T> {
    pub shape: AttentionShape,
    pub map: Arc<dyn Positions>,
    /// The same, where the oracle has it.
    pub known: Option<PositionMap>,
    pub rope: Rope,
    pub scaling: QueryScaling,
    pub n: usize,
    pub size: f32,
    pub q: Vec<T>,
    pub k: Vec<T>,
    pub v: Vec<T>,
}

pub fn wide<T: Half>(x: &[T]) -> Vec<f32> {
    x.iter().map(|x| x.wide() as f32).collect()
}

/// Lengths and windows on, beside and between the edges of tiles.
pub fn edge(rng: &mut StdRng, most: usize) -> usize {
    let tile: usize = [16, 32, 64, 128][rng.random_range(0..4)] * rng.random_range(1..5);
    match rng.random_range(0..4) {
        0 => rng.random_range(1..=most),
        _ => (tile + rng.random_range(0..3))
            .saturating_sub(1)
            .clamp(1, most),
    }
}

impl<T: Half> Sequence<T> {
    pub fn new(rng: &mut StdRng, dim: usize, kv_heads: usize, group: usize) -> Self {
        let n = edge(rng, 600);
        Self::of_length(rng, n, dim, kv_heads, group)
    }

    pub fn of_length(
        rng: &mut StdRng,
        n: usize,
        dim: usize,
        kv_heads: usize,
        group: usize,
    ) -> Self {
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
                    truncate: true,
                    magnitude: None,
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

    pub fn with_map(mut self, rng: &mut StdRng, regions: usize) -> Self {
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

    /// The layers that it is read by.
    pub fn kind(&self) -> LayerKind {
        LayerKind::new(self.map.clone(), self.rope.clone())
    }

    pub fn q_width(&self) -> usize {
        self.shape.heads() * self.shape.head_dim()
    }

    pub fn kv_width(&self) -> usize {
        self.shape.kv_heads() * self.shape.head_dim()
    }

    pub fn rotated(&self, head: &[T], position: f64) -> Vec<f64> {
        let mut out: Vec<f64> = head.iter().map(|x| x.wide()).collect();
        for t in 0..self.rope.pairs() {
            let (a, b) = self.rope.pair(t);
            out[a] *= self.rope.magnitude();
            out[b] *= self.rope.magnitude();
        }
        self.turned(out, position)
    }

    /// What was scaled before, rotated by a difference of positions.
    pub fn turned(&self, mut head: Vec<f64>, delta: f64) -> Vec<f64> {
        for t in 0..self.rope.pairs() {
            let (a, b) = self.rope.pair(t);
            let (cos, sin) = self.rope.angle(delta, t);
            let (x, y) = (head[a], head[b]);
            (head[a], head[b]) = (x * cos - y * sin, x * sin + y * cos);
        }
        head
    }

    fn rule(&self, storage: Storage) -> f64 {
        // Scores of uniform numbers have a deviation of size^2 / 3, and what scales queries and keys
        // scales it; roundings of a query, of a key as it is stored and of one derived from that
        // move a weight by that much relatively.
        let magnitude = self.rope.magnitude().powi(2) * f64::from(self.scaling.factor(self.n));
        let deviation = magnitude * f64::from(self.size * self.size) / 3.0;
        let rule = T::UNIT * (1.5 + 3.0 * deviation);
        match storage {
            Storage::Halves => rule,
            // A byte is off by at most half a step, 1/254 of its block's largest. That is at most
            // sqrt(3) deviations of a value, and sqrt(6) of a key's component after its rotation.
            Storage::Bytes => rule + (3f64.sqrt() + 6f64.sqrt() * deviation) / 254.0,
        }
    }

    pub fn assert_oracle(&self, storage: Storage, out: &[T]) {
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
        let rule = self.rule(storage);
        assert!(
            ratio <= rule,
            "{ratio} > {rule}: {storage:?} {:?}",
            self.map
        );
    }
}

/// Sinks, a gap, a middle and a window: what the kernels can do beyond SelfExtend, with positions
/// that are not whole numbers.
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

    fn regions(&self) -> Regions {
        [Keys::Stored, Keys::Stored, Keys::newest(self.near)].into()
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
