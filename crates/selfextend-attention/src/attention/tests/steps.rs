//! Decode steps of one pass against as many passes of one, bit for bit.

use super::*;
use crate::SegmentPlan;
use crate::cache::MOST_STEPS;

/// Some tokens of a text as rows of a pass.
#[derive(Clone)]
struct Rows {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Data {
    fn rows(&self, from: usize, to: usize) -> Rows {
        let some = |x: &[f32]| {
            let width = x.len() / self.tokens();
            x[from * width..to * width].to_vec()
        };
        Rows {
            q: some(&self.q),
            k: some(&self.k),
            v: some(&self.v),
        }
    }
}

/// One pass of decode steps over some caches; the tokens of each, in order.
fn steps(caches: &mut [&mut KvCache], rows: &[Rows]) -> Vec<Vec<f32>> {
    let plans: Vec<SegmentPlan> = (caches.iter().zip(rows))
        .map(|(cache, rows)| {
            let width = cache.shape().kv_heads() * cache.shape().head_dim();
            let mut plan = SegmentPlan::default();
            cache.plan_steps_into(rows.k.len() / width, &mut plan);
            plan
        })
        .collect();
    let join = |part: fn(&Rows) -> &Vec<f32>| rows.iter().flat_map(part).copied().collect();
    let (q, k, v): (Vec<f32>, Vec<f32>, Vec<f32>) =
        (join(|it| &it.q), join(|it| &it.k), join(|it| &it.v));
    let mut out = vec![f32::NAN; q.len()];
    let mut segments: Vec<Segment> = (caches.iter_mut().zip(&plans))
        .map(|(cache, plan)| Segment { cache, plan })
        .collect();
    attend(
        0,
        &mut segments,
        &q,
        &k,
        &v,
        &mut out,
        &mut AttentionScratch::default(),
    )
    .unwrap();
    for (cache, plan) in caches.iter_mut().zip(&plans) {
        cache.commit(plan.tokens());
    }
    let mut out = out.into_iter();
    rows.iter()
        .map(|rows| out.by_ref().take(rows.q.len()).collect())
        .collect()
}

/// Any map with or without a sliding window, a soft cap, and keys that are not seen.
fn any_kind() -> impl Strategy<Value = (PositionMap, Option<usize>, Option<f32>)> {
    let window = prop_oneof![Just(None), (1usize..300).prop_map(Some)];
    let cap = prop_oneof![Just(None), (0.5f32..60.0).prop_map(Some)];
    (any_map(), window, cap)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn steps_in_one_pass_are_single_steps_bit_for_bit(
        (map, window, cap) in any_kind(), kv in any_kv(), heads in 1usize..3, group in 1usize..15,
        dim in 1usize..70, read in 0usize..600, seed in any::<u64>(),
        passes in prop::collection::vec((0usize..=MOST_STEPS, 0usize..=MOST_STEPS), 1..7),
    ) {
        let written: usize = passes.iter().map(|(right, _)| right).sum();
        let n = (read + written).max(1);
        let mut data = Data::new(heads, group, dim, n, 1.0, seed);
        let mut wrong = Data::new(heads, group, dim, MOST_STEPS, 1.0, seed ^ 1);
        if let Some(cap) = cap {
            data.shape = data.shape.with_soft_cap(cap);
        }
        // Tokens that are taken back may be anything.
        wrong.k.iter_mut().step_by(7).for_each(|x| *x = f32::NAN);
        wrong.v.iter_mut().step_by(5).for_each(|x| *x = f32::INFINITY);
        let mut kind = LayerKind::new(map, data.rope.clone());
        if let Some(window) = window {
            kind = kind.with_window(window);
        }
        let mut alone = KvCache::with_kinds(data.shape, kv, vec![kind], [0]);
        if read > 0 {
            data.feed(&mut alone, read, |at| (read - at).min(200));
        }
        let (mut ahead, mut company) = (alone.clone(), alone.clone());
        let mut at = read;
        for (right, guessed) in passes {
            let expected: Vec<f32> = (at..at + right)
                .flat_map(|i| steps(&mut [&mut alone], &[data.rows(i, i + 1)]).remove(0))
                .collect();
            let mut rows = data.rows(at, at + right);
            let guesses = wrong.rows(0, guessed.min(MOST_STEPS - right));
            rows.q.extend(guesses.q);
            rows.k.extend(guesses.k);
            rows.v.extend(guesses.v);
            if rows.q.is_empty() {
                continue;
            }
            at += right;
            // Beside another sequence with another number of steps.
            let mut other = company.clone();
            let both = [data.rows(0, 1.min(n)), rows];
            let out = steps(&mut [&mut other, &mut ahead], &both).remove(1);
            prop_assert_eq!(&out[..expected.len()], &expected);
            prop_assert_eq!(ahead.truncate(at), at);
            company = ahead.clone();
        }
        // What follows is the same too, in a prefill and in a step.
        let next = Data::new(heads, group, dim, at + 40, 1.0, seed);
        let follow = |mut cache: KvCache| {
            let step = steps(&mut [&mut cache], &[next.rows(at, at + 1)]).remove(0);
            let len = cache.len();
            let chunk = next.feed(&mut cache, at + 40, |_| 40);
            (step, len, chunk)
        };
        prop_assert_eq!(follow(ahead), follow(alone));
    }
}

/// A step sees nothing of those after it, under a map that would let it see all that is stored.
#[test]
fn a_step_sees_no_later_one() {
    let data = Data::new(2, 3, 16, 30, 1.0, 3);
    let map: Arc<dyn Positions> = Arc::new(BothSides { near: 7 });
    let open = || {
        let kind = LayerKind::new(map.clone(), data.rope.clone());
        let mut cache = KvCache::with_kinds(data.shape, KvType::F16, vec![kind], [0]);
        data.feed(&mut cache, 20, |_| 20);
        cache
    };
    let (mut alone, mut together) = (open(), open());
    let expected: Vec<f32> = (20..30)
        .flat_map(|i| steps(&mut [&mut alone], &[data.rows(i, i + 1)]).remove(0))
        .collect();
    let out = steps(&mut [&mut together], &[data.rows(20, 30)]).remove(0);
    assert_eq!(out, expected);
}

/// Steps can be taken back under a map that forgets within a sliding window, also where the window
/// passes the keys that the map keeps.
#[test]
fn the_last_steps_can_always_be_taken_back() {
    let data = Data::new(1, 1, 8, 4 * PAGE, 1.0, 1);
    let map: PositionMap = Streaming::new(4, 100).unwrap().into();
    let open = || {
        let kind = LayerKind::new(map, data.rope.clone()).with_window(700);
        let mut cache = KvCache::with_kinds(data.shape, KvType::F16, vec![kind], [0]);
        data.feed(&mut cache, 680, |_| 340);
        cache
    };
    let (mut ahead, mut alone) = (open(), open());
    for at in 680..4 * PAGE - MOST_STEPS {
        steps(&mut [&mut ahead], &[data.rows(at, at + MOST_STEPS)]);
        assert_eq!(ahead.truncate(at), at);
        let next = [data.rows(at, at + 1)];
        let expected = steps(&mut [&mut alone], &next);
        assert_eq!(steps(&mut [&mut ahead], &next), expected, "{at}");
    }
}
