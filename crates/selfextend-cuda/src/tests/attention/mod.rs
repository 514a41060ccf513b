//! Three comparisons for every pass: what `append` stored against the rotation in f64 (of the keys as
//! they came, or of the stored ones where others are derived from them); attention
//! against an exact softmax over *what was stored*, element by element, where only the rounding of
//! weights and results is allowed; and both together against the oracle of the attention crate,
//! which knows nothing of regions or tiles.

mod derived;
mod sequence;
mod stored;

use super::{Half, device};
use crate::attention::{append, attend_stored};
use crate::{
    AttentionScratch, CudaError, Device, DeviceCache, DevicePlan, Inputs, Room, Storage, attend,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use selfextend_attention::position::LmInfinite;
use selfextend_attention::{AttentionShape, LayerKind, PositionMap, Rope, RopeSpec};
use sequence::{Sequence, edge, wide};
use stored::check;

/// Feeds some sequences in the same passes, in random chunks, and checks every pass.
fn feed<T: Half>(
    device: &Device,
    storage: Storage,
    sequences: &[Sequence<T>],
    wide_inputs: bool,
    rng: &mut StdRng,
) {
    let stream = device.stream();
    let chunk = edge(rng, 300);
    let mut caches: Vec<DeviceCache<T>> = sequences
        .iter()
        .map(|s| {
            let room = Room::new(1, s.n).with_storage(storage).with_chunk(chunk);
            DeviceCache::new(device, s.shape, s.kind(), room).unwrap()
        })
        .collect();
    let mut outs = vec![Vec::new(); sequences.len()];
    let mut scratch = AttentionScratch::default();
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
        let plan = DevicePlan::new(device, &steps, sequences[0].scaling).unwrap();
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
        // Poison: what a kernel forgets to write is not a number.
        let poison = vec![T::round(f32::NAN); q.len() / real * padded];
        let mut out = stream.clone_htod(&poison).unwrap();
        if wide_inputs {
            let [q, k, v] = [q, k, v].map(|x| stream.clone_htod(&wide(&x)).unwrap());
            let inputs = Inputs {
                q: &q,
                k: &k,
                v: &v,
            };
            append(device, 0, &mut refs, &plan, inputs, &mut scratch).unwrap();
        } else {
            let [q, k, v] = [q, k, v].map(|x| stream.clone_htod(&x).unwrap());
            let inputs = Inputs {
                q: &q,
                k: &k,
                v: &v,
            };
            append(device, 0, &mut refs, &plan, inputs, &mut scratch).unwrap();
        }
        attend_stored(device, 0, &refs, &plan, &mut out, &mut scratch).unwrap();
        let out = stream.clone_dtoh(&out).unwrap();
        let heads = out.chunks_exact(padded);
        let out: Vec<T> = heads.flat_map(|head| head[..real].to_vec()).collect();
        let mut row = 0;
        for (n, s) in sequences.iter().enumerate() {
            let width = s.q_width();
            let mine = &out[row * width..(row + tokens[n]) * width];
            check(device, s, &caches[n], &scratch, row, tokens[n], mine);
            outs[n].extend_from_slice(mine);
            caches[n].commit(tokens[n]);
            row += tokens[n];
        }
    }
    for (s, out) in sequences.iter().zip(&outs) {
        s.assert_oracle(storage, out);
    }
}

fn random_shapes<T: Half>(dim: usize, storage: Storage) {
    let Some(device) = device() else { return };
    cases::<T>(&device, dim, storage);
    // On Hopper, both kernels; elsewhere the same again.
    cases::<T>(&device.portable(), dim, storage);
}

fn cases<T: Half>(device: &Device, dim: usize, storage: Storage) {
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
        feed(device, storage, &all, seed % 2 == 0, &mut rng);
    }
}

macro_rules! on_the_device {
    ($($name:ident $bytes:ident: $type:ty, $dim:literal;)*) => {$(
        #[test]
        fn $name() {
            random_shapes::<$type>($dim, Storage::Halves);
        }

        #[test]
        fn $bytes() {
            random_shapes::<$type>($dim, Storage::Bytes);
        }
    )*};
}

on_the_device! {
    f16_64 bytes_f16_64: half::f16, 64;
    f16_96 bytes_f16_96: half::f16, 96;
    f16_128 bytes_f16_128: half::f16, 128;
    f16_256 bytes_f16_256: half::f16, 256;
    bf16_64 bytes_bf16_64: half::bf16, 64;
    bf16_96 bytes_bf16_96: half::bf16, 96;
    bf16_128 bytes_bf16_128: half::bf16, 128;
    bf16_256 bytes_bf16_256: half::bf16, 256;
}

/// The results of a sequence's next tokens.
fn attend_next<T: Half>(
    device: &Device,
    s: &Sequence<T>,
    cache: &mut DeviceCache<T>,
    tokens: usize,
    scratch: &mut AttentionScratch<T>,
) -> Vec<T> {
    let stream = device.stream();
    let rows = cache.len()..cache.len() + tokens;
    let of = |x: &[T], width: usize| {
        let rows = &x[rows.start * width..rows.end * width];
        stream.clone_htod(rows).unwrap()
    };
    let (q, k, v) = (
        of(&s.q, s.q_width()),
        of(&s.k, s.kv_width()),
        of(&s.v, s.kv_width()),
    );
    let inputs = Inputs {
        q: &q,
        k: &k,
        v: &v,
    };
    let width = s.shape.heads() * cache.padded_dim();
    let mut out = stream.alloc_zeros(tokens * width).unwrap();
    let plan = DevicePlan::new(device, &[(&*cache, tokens)], s.scaling).unwrap();
    attend(device, 0, &mut [cache], &plan, inputs, &mut out, scratch).unwrap();
    cache.commit(tokens);
    stream.clone_dtoh(&out).unwrap()
}

/// A cache that grew and its fork go on, bit for bit, like one that had room from the start.
#[test]
fn growing_and_forking_keep_what_is_stored() {
    let Some(device) = device() else { return };
    for storage in [Storage::Halves, Storage::Bytes] {
        let mut rng = StdRng::seed_from_u64(1);
        let s = Sequence::<half::f16>::of_length(&mut rng, 404, 96, 2, 3).with_map(&mut rng, 3);
        let open = |capacity| {
            let room = Room::new(1, capacity).with_storage(storage).with_chunk(50);
            DeviceCache::new(&device, s.shape, s.kind(), room).unwrap()
        };
        let (mut roomy, mut grown, mut fork) = (open(s.n), open(1), None);
        let mut scratch = AttentionScratch::default();
        for (step, tokens) in [50, 37, 1, 50, 50, 2, 50, 50, 1, 50, 9, 4, 50]
            .into_iter()
            .enumerate()
        {
            let next = |cache: &mut DeviceCache<half::f16>, scratch: &mut _| {
                cache.reserve(&device, tokens, 50, s.n).unwrap();
                attend_next(&device, &s, cache, tokens, scratch)
            };
            let expected = next(&mut roomy, &mut scratch);
            assert!(
                next(&mut grown, &mut scratch) == expected,
                "{storage:?} step {step}"
            );
            if let Some(fork) = &mut fork {
                assert!(
                    next(fork, &mut scratch) == expected,
                    "{storage:?} fork, step {step}"
                );
            } else if step == 4 {
                fork = Some(grown.fork(&device).unwrap());
            }
        }
        assert_eq!(fork.unwrap().len(), grown.len());
        assert_eq!(
            grown.token_bytes(),
            2 * 2
                * if storage == Storage::Bytes {
                    96 + 6
                } else {
                    192
                }
        );
        assert_eq!(
            grown.bytes(),
            grown.token_bytes() * grown.capacity() + grown.ring_bytes(grown.capacity())
        );
        // What a full one takes is known from the start.
        assert_eq!(
            roomy.bytes(),
            roomy.token_bytes() * roomy.capacity() + open(1).ring_bytes(s.n)
        );
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(device) = device() else { return };
    let window = PositionMap::self_extend(4, 100).unwrap();
    let sinks = PositionMap::from(LmInfinite::new(4, 100).unwrap());
    let cache = |map: PositionMap, shape: AttentionShape, capacity, chunk| {
        let rope = Rope::new(RopeSpec::new(shape.head_dim(), 1e4)).unwrap();
        let room = Room::new(1, capacity).with_chunk(chunk);
        DeviceCache::<half::f16>::new(&device, shape, LayerKind::new(map, rope), room)
    };
    let shape = |dim| AttentionShape::new(2, 1, dim).unwrap();
    let large = cache(window, shape(264), 128, 1);
    assert!(matches!(large, Err(CudaError::HeadSize(264))));
    for (map, takes_more) in [(window, false), (sinks, true), (PositionMap::Plain, true)] {
        let cache = cache(map, shape(64), 1024, 28).unwrap();
        assert!(cache.check(0, 28).is_ok());
        assert_eq!(cache.check(0, 200).is_ok(), takes_more, "{map}");
        assert!(cache.check(1000, 25).is_err());
    }
}
