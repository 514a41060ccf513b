//! Derived keys that were made again, and blocks: bit for bit what a cache that read everything has.

use super::super::{Half, device};
use super::attend_next;
use super::sequence::Sequence;
use super::stored::Numbers;
use crate::{AttentionScratch, Device, DeviceCache, Room, Storage};
use rand::{SeedableRng, rngs::StdRng};
use selfextend_attention::PositionMap;
use selfextend_attention::cache::PAGE;
use selfextend_attention::position::LmInfinite;

const CHUNK: usize = 50;
/// More than the ring of the widest window has slots.
const READ: usize = 700;
const MORE: [usize; 6] = [CHUNK, 1, 3, CHUNK, 2, 17];

fn open<T: Half>(device: &Device, s: &Sequence<T>, storage: Storage) -> DeviceCache<T> {
    let room = Room::new(1, 1).with_storage(storage).with_chunk(CHUNK);
    DeviceCache::new(device, s.shape, s.kind(), room).unwrap()
}

/// Reads so many tokens in each pass; returns their results.
fn read<T: Half>(
    device: &Device,
    s: &Sequence<T>,
    cache: &mut DeviceCache<T>,
    chunks: impl IntoIterator<Item = usize>,
) -> Vec<Vec<T>> {
    let mut scratch = AttentionScratch::default();
    let next = |tokens| {
        cache.reserve(device, tokens, CHUNK, s.n).unwrap();
        attend_next(device, s, cache, tokens, &mut scratch)
    };
    chunks.into_iter().map(next).collect()
}

fn chunks(tokens: usize) -> impl Iterator<Item = usize> {
    (0..tokens)
        .step_by(CHUNK)
        .map(move |start| CHUNK.min(tokens - start))
}

/// Both hold the same keys of what the next query sees, in every plane.
fn assert_same_keys<T: Half>(
    device: &Device,
    s: &Sequence<T>,
    [a, b]: [&DeviceCache<T>; 2],
    what: &str,
) {
    let (len, dim) = (a.len(), a.padded_dim());
    let keys = |cache: &DeviceCache<T>| -> Vec<(Numbers, usize)> {
        let planes = cache.regions(0);
        planes
            .map(|(keys, slots)| (Numbers::read(device, keys), slots))
            .collect()
    };
    for (r, (a, b)) in keys(a).iter().zip(&keys(b)).enumerate() {
        let seen = s.map.span(r, len);
        for j in seen.start..seen.end.min(len) {
            for head in 0..s.shape.kv_heads() {
                let row = |(numbers, slots): &(Numbers, usize)| {
                    let at = (head * slots + j % slots) * dim;
                    numbers.stored[at..at + dim].to_vec()
                };
                assert!(row(a) == row(b), "{what}: key {j} of region {r}");
            }
        }
    }
}

/// Sequences whose keys are derived in all ways: with windows that wrap around, two and three
/// regions, and the first keys of all.
fn sequences<T: Half>(dim: usize) -> Vec<Sequence<T>> {
    let mut rng = StdRng::seed_from_u64(dim as u64);
    let of_length = |rng: &mut _| Sequence::<T>::of_length(rng, 1000, dim, 2, 3);
    let mut all = Vec::new();
    for regions in [2, 3, 2, 3] {
        let s = of_length(&mut rng);
        all.push(s.with_map(&mut rng, regions));
    }
    let sinks = PositionMap::from(LmInfinite::new(70, 200).unwrap());
    all.push(Sequence {
        map: sinks.positions(),
        known: Some(sinks),
        ..of_length(&mut rng)
    });
    all
}

fn all_cases<T: Half>(mut case: impl FnMut(&Device, &Sequence<T>, Storage)) {
    let Some(device) = device() else { return };
    let cases = std::env::var("SELFEXTEND_CUDA_CASES").map_or(5, |n| n.parse().unwrap());
    for dim in [64, 96] {
        for s in sequences(dim).into_iter().rev().take(cases) {
            for storage in [Storage::Halves, Storage::Bytes] {
                case(&device, &s, storage);
            }
        }
    }
}

fn continue_from_blocks<T: Half>() {
    all_cases(|device, s: &Sequence<T>, storage| {
        let what = format!("{} {storage:?} {:?}", T::NAME, s.map);
        let mut first = open(device, s, storage);
        read(device, s, &mut first, chunks(READ));
        // All of it; a page and a part of the next one.
        for len in [READ, PAGE + 77] {
            let mut next = open(device, s, storage);
            for start in (0..len).step_by(PAGE) {
                let block = first.block(device, start / PAGE).unwrap().unwrap();
                assert_eq!(block.bytes(), first.block_bytes());
                let bytes = block.to_bytes().unwrap();
                let block = next.read_block(device, &bytes).unwrap().unwrap();
                assert!(next.read_block(device, &bytes[1..]).unwrap().is_none());
                let tokens = PAGE.min(len - start);
                next.push_block(device, &block, tokens, s.n).unwrap();
            }
            assert_eq!(next.len(), len);
            let mut alone = open(device, s, storage);
            read(device, s, &mut alone, chunks(len));
            next.reserve(device, 1, CHUNK, s.n).unwrap();
            assert_same_keys(device, s, [&alone, &next], &what);
            let expected = read(device, s, &mut alone, MORE);
            assert!(
                read(device, s, &mut next, MORE) == expected,
                "{what}: {len}"
            );
        }
        assert!(first.block(device, READ.div_ceil(PAGE)).unwrap().is_none());
    });
}

fn truncate_far<T: Half>() {
    all_cases(|device, s: &Sequence<T>, storage| {
        let what = format!("{} {storage:?} {:?}", T::NAME, s.map);
        let mut long = open(device, s, storage);
        read(device, s, &mut long, chunks(READ));
        for len in [READ - 20, 312, 130, 1] {
            long.truncate(len);
            assert_eq!(long.len(), len);
            let mut fresh = open(device, s, storage);
            read(device, s, &mut fresh, chunks(len));
            long.reserve(device, 1, CHUNK, s.n).unwrap();
            assert_same_keys(device, s, [&fresh, &long], &what);
            let expected = read(device, s, &mut fresh, MORE);
            assert!(
                read(device, s, &mut long, MORE) == expected,
                "{what}: {len}"
            );
        }
    });
}

/// The first keys of the text are not a ring, so LM-Infinite takes more new tokens than a chunk at
/// once.
fn read_all_at_once<T: Half>() {
    let Some(device) = device() else { return };
    for dim in [64, 96] {
        let s = &sequences::<T>(dim)[4];
        for storage in [Storage::Halves, Storage::Bytes] {
            let mut cache = open(&device, s, storage);
            let mut out = read(&device, s, &mut cache, [READ]);
            out.extend(read(&device, s, &mut cache, [s.n - READ]));
            s.assert_oracle(storage, &out.concat());
        }
    }
}

macro_rules! in_both_types {
    ($($name:ident: $test:ident::<$type:ty>;)*) => {$(
        #[test]
        fn $name() {
            $test::<$type>();
        }
    )*};
}

in_both_types! {
    blocks_continue_bit_for_bit_f16: continue_from_blocks::<half::f16>;
    blocks_continue_bit_for_bit_bf16: continue_from_blocks::<half::bf16>;
    lm_infinite_is_read_at_once_f16: read_all_at_once::<half::f16>;
    lm_infinite_is_read_at_once_bf16: read_all_at_once::<half::bf16>;
    truncating_far_changes_nothing_f16: truncate_far::<half::f16>;
    truncating_far_changes_nothing_bf16: truncate_far::<half::bf16>;
}

#[test]
fn blocks_that_do_not_fit_are_refused() {
    let Some(device) = device() else { return };
    let s = &sequences::<half::f16>(64)[0];
    let mut cache = open(&device, s, Storage::Halves);
    read(&device, s, &mut cache, chunks(READ));
    let block = cache.block(&device, 0).unwrap().unwrap();
    // It does not end at a page.
    assert!(cache.push_block(&device, &block, PAGE, s.n).is_err());
    let mut bytes = open(&device, s, Storage::Bytes);
    assert!(bytes.push_block(&device, &block, PAGE, s.n).is_err());
    assert!(bytes.is_empty());
}
