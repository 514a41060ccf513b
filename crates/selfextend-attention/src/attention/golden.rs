//! Outputs of the authors' own attention code, for methods whose code runs on a CPU.
//!
//! Made once by calling `forward` of bojone/rerope (`rerope_patch.py`, `leaky_rerope_patch.py`; the
//! prefill path) and of HKUNLP/ChunkLlama (`chunkllama_attn_replace.py`; the decode path, token by
//! token) in float64, with numpy standing in for torch and projections that hand out the queries,
//! keys and values below: 40 tokens, 2 query heads on 1 key head of 8 components, half-split pairs,
//! base 10000. Three rows of the output are kept.
//!
//! The prefills of HKUNLP/STRING (`string_for_llama.py`) and scar-on/LaMPE (`llama_cache1.py`) call
//! flash attention, which a few lines of numpy stood in for, with windows one key shorter than the
//! code sets: its regions overlap by the key at their boundary, which it counts twice.
//!
//! mit-han-lab/streaming-llm (`pos_shift/modify_llama.py` with `kv_cache.py`, token by token) and
//! Glaciohound/LM-Infinite (`lambda_attention.py`, the whole text at once) ran in the same way. SELF's
//! groups come from CUDA code, and Jet-Long's repository could not be had: for these two, a few lines
//! of numpy apart from ours computed the papers' formulas pair by pair, in float64.

mod dpe;

use super::{AttentionScratch, Segment, attend};
use crate::position::{
    DualChunk, JetLong, Lampe, LeakyReRope, LmInfinite, Logistic, QueryScaling, ReRope, Shifted,
    Streaming,
};
use crate::{AttentionShape, KvCache, KvType, PositionMap, Rope, RopeSpec};

const TOKENS: usize = 40;

fn inputs() -> [Vec<f32>; 3] {
    let numbers = |n: usize, f: fn(f64) -> f64| (0..n).map(|x| f(x as f64) as f32).collect();
    [
        numbers(TOKENS * 16, |x| (0.37 * x + 1.0).sin() * 1.5),
        numbers(TOKENS * 8, |x| (0.61 * x).cos() * 1.5),
        numbers(TOKENS * 8, |x| (0.83 * x + 2.0).sin()),
    ]
}

/// All outputs, tokens in chunks.
fn ours(map: PositionMap, scaling: QueryScaling, chunk: usize) -> Vec<f32> {
    let shape = AttentionShape::new(2, 1, 8).unwrap();
    let rope = Rope::new(RopeSpec::new(8, 1e4)).unwrap();
    let cache = KvCache::new(shape, 1, KvType::F32, map, rope);
    let mut cache = cache.with_query_scaling(scaling);
    let ([q, k, v], mut out) = (inputs(), Vec::new());
    while cache.len() < TOKENS {
        let (at, n) = (cache.len(), chunk.min(TOKENS - cache.len()));
        let plan = cache.plan(n);
        let mut some = vec![0.0; n * 16];
        let mut segments = [Segment {
            cache: &mut cache,
            plan: &plan,
        }];
        let (queries, keys) = (at * 16..(at + n) * 16, at * 8..(at + n) * 8);
        attend(
            0,
            &mut segments,
            &q[queries],
            &k[keys.clone()],
            &v[keys],
            &mut some,
            &mut AttentionScratch::default(),
        )
        .unwrap();
        cache.commit(n);
        out.extend(some);
    }
    out
}

#[track_caller]
fn check(map: PositionMap, scaling: QueryScaling, golden: &[(usize, [f64; 16])]) {
    for chunk in [TOKENS, 13, 1] {
        let out = ours(map, scaling, chunk);
        for (row, expected) in golden {
            for (ours, theirs) in out[row * 16..(row + 1) * 16].iter().zip(expected) {
                let error = (f64::from(*ours) - theirs).abs();
                assert!(error < 2e-6, "row {row}: {ours} for {theirs}");
            }
        }
    }
}

#[test]
fn rerope_and_log_n_are_the_authors() {
    let map = ReRope::new(6).unwrap().into();
    check(map, QueryScaling::LogN { base: 12 }, &REROPE);
}

#[test]
fn leaky_rerope_is_the_authors() {
    let map = LeakyReRope::new(6, 3.0).unwrap().into();
    check(map, QueryScaling::None, &LEAKY);
}

/// Their `chunk_size=10, local_window=4` are chunks of 6 cut off at 10, not at 9 as in the paper.
#[test]
fn dual_chunk_attention_is_the_authors() {
    let map = DualChunk::new(6, 11).unwrap().into();
    check(map, QueryScaling::None, &DCA);
}

#[test]
fn string_is_the_authors() {
    let map = Shifted::new(12, 3).unwrap().into();
    check(map, QueryScaling::None, &STRING);
}

#[test]
fn lampe_is_the_authors() {
    let map = Lampe::new(6, 5, 13, TOKENS).unwrap().into();
    check(map, QueryScaling::None, &LAMPE);
}

#[test]
fn streaming_llm_is_the_authors() {
    let map = Streaming::new(3, 7).unwrap().into();
    check(map, QueryScaling::None, &STREAMING);
}

#[test]
fn lm_infinite_is_the_authors() {
    let map = LmInfinite::new(3, 7).unwrap().into();
    check(map, QueryScaling::None, &LM_INFINITE);
}

#[test]
fn self_is_its_formula() {
    let map = Logistic::new(7, 0.3, 6).unwrap().into();
    check(map, QueryScaling::None, &SELF);
}

#[test]
fn jet_long_is_its_formula() {
    let map = JetLong::new(5, 12, TOKENS).unwrap().into();
    check(map, QueryScaling::None, &JET_LONG);
}

#[rustfmt::skip]
const STREAMING: [(usize, [f64; 16]); 3] = [
    (7, [-0.505314413, -0.734319580, -0.485834557, 0.078563657, 0.591875962, 0.720321819,
        0.380379523, -0.206903972, 0.032972802, -0.480156651, -0.681064985,
        -0.439111848, 0.088373094, 0.558393571, 0.665319458, 0.339622387]),
    (25, [-0.492357206, -0.691877033, -0.441504912, 0.095955125, 0.571020496, 0.674780649,
        0.339765705, -0.216181359, 0.117228146, -0.435114467, -0.704524566,
        -0.515818645, 0.008297572, 0.527018307, 0.703046183, 0.421919353]),
    (39, [0.487062961, -0.080234838, -0.595360062, -0.723353303, -0.380987162, 0.209115301,
        0.663240841, 0.686095050, 0.719320897, 0.411280258, -0.164194745,
        -0.632902375, -0.690066195, -0.298515503, 0.287144412, 0.686089130]),
];

#[rustfmt::skip]
const LM_INFINITE: [(usize, [f64; 16]); 3] = [
    (7, [-0.505314413, -0.734319580, -0.485834557, 0.078563657, 0.591875962, 0.720321819,
        0.380379523, -0.206903972, 0.032972802, -0.480156651, -0.681064985,
        -0.439111848, 0.088373094, 0.558393571, 0.665319458, 0.339622387]),
    (25, [-0.507138848, -0.705040547, -0.444490742, 0.105088509, 0.586334126, 0.686316860,
        0.340023093, -0.227370161, 0.169948832, -0.395297005, -0.703501576,
        -0.554255324, -0.044605385, 0.494049141, 0.711448948, 0.466230173]),
    (39, [0.472381425, -0.135318606, -0.655027927, -0.748806327, -0.355674554, 0.268734052,
        0.718398738, 0.700925744, 0.786238253, 0.118379782, -0.626454982,
        -0.963938345, -0.674622247, 0.053365925, 0.746652986, 0.954430089]),
];

#[rustfmt::skip]
const SELF: [(usize, [f64; 16]); 3] = [
    (7, [-0.505314413, -0.734319580, -0.485834557, 0.078563657, 0.591875962, 0.720321819,
        0.380379523, -0.206903972, 0.032972802, -0.480156651, -0.681064985,
        -0.439111848, 0.088373094, 0.558393571, 0.665319458, 0.339622387]),
    (25, [-0.113722200, -0.133660881, -0.066686787, 0.043650291, 0.125603836, 0.125883668,
        0.044307840, -0.066079094, 0.032956773, -0.061255293, -0.115636197,
        -0.094824841, -0.012353790, 0.078150315, 0.117837287, 0.080900744]),
    (39, [-0.104463691, -0.163311692, -0.115966520, 0.006785712, 0.125125540, 0.162102678,
        0.093672787, -0.035667676, -0.065572824, -0.060566953, -0.016177508,
        0.038731332, 0.068455177, 0.053666161, 0.003980796, -0.048293076]),
];

#[rustfmt::skip]
const JET_LONG: [(usize, [f64; 16]); 3] = [
    (7, [-0.508379834, -0.736414288, -0.485596470, 0.080979722, 0.594898963, 0.721986054,
        0.379602825, -0.209616556, 0.167144644, -0.388950555, -0.692131265,
        -0.545254671, -0.043827062, 0.486099032, 0.699939945, 0.458645985]),
    (25, [-0.156484755, -0.294697545, -0.241283715, -0.030975507, 0.199474474, 0.300216475,
        0.205743174, -0.022514311, 0.020371121, -0.237471113, -0.340898116,
        -0.222656645, 0.040366965, 0.277142029, 0.333705905, 0.173278021]),
    (39, [0.009171381, -0.018800624, -0.034547554, -0.027829982, -0.003016017, 0.023759111,
        0.035084910, 0.023596811, 0.052934105, 0.066285439, 0.036534771,
        -0.016972585, -0.059443549, -0.063261421, -0.025943660, 0.028243923]),
];

const REROPE: [(usize, [f64; 16]); 3] = [
    (
        7,
        [
            -0.511423617,
            -0.738814833,
            -0.485792826,
            0.083115227,
            0.597977730,
            0.724006123,
            0.379250635,
            -0.212112002,
            0.130510288,
            -0.392591127,
            -0.660410759,
            -0.498799299,
            -0.012844353,
            0.481462614,
            0.662699248,
            0.413016703,
        ],
    ),
    (
        25,
        [
            -0.189608170,
            -0.232642111,
            -0.124400873,
            0.064731844,
            0.211772778,
            0.221108785,
            0.086669141,
            -0.104126981,
            0.012423408,
            -0.141213141,
            -0.203026060,
            -0.132821592,
            0.023749915,
            0.164878075,
            0.198794518,
            0.103445128,
        ],
    ),
    (
        39,
        [
            -0.043034266,
            -0.103876595,
            -0.097173326,
            -0.027283249,
            0.060347719,
            0.108737674,
            0.086421122,
            0.007909367,
            0.018974118,
            0.003295592,
            -0.014525888,
            -0.022901932,
            -0.016386029,
            0.000784864,
            0.017445401,
            0.022762092,
        ],
    ),
];

const LEAKY: [(usize, [f64; 16]); 3] = [
    (
        7,
        [
            -0.510337135,
            -0.738015381,
            -0.485800248,
            0.082305758,
            0.596892570,
            0.723350895,
            0.379451401,
            -0.211185791,
            0.096063083,
            -0.423516546,
            -0.667705185,
            -0.477719543,
            0.022902507,
            0.508632236,
            0.663624627,
            0.387096113,
        ],
    ),
    (
        25,
        [
            -0.124295203,
            -0.193451239,
            -0.136815901,
            0.008783768,
            0.148671806,
            0.191886227,
            0.110326921,
            -0.042972297,
            0.063936085,
            -0.077609128,
            -0.168689123,
            -0.150079272,
            -0.033880603,
            0.104348877,
            0.174725658,
            0.131487346,
        ],
    ),
    (
        39,
        [
            0.028422868,
            0.043324660,
            0.030054658,
            -0.002758340,
            -0.033777732,
            -0.042833204,
            -0.024036451,
            0.010389968,
            0.090420540,
            0.161066716,
            0.126979505,
            0.010324064,
            -0.113044584,
            -0.162906163,
            -0.106838257,
            0.018701063,
        ],
    ),
];

const DCA: [(usize, [f64; 16]); 3] = [
    (
        7,
        [
            -0.505314391,
            -0.734319564,
            -0.485834557,
            0.078563633,
            0.591875939,
            0.720321816,
            0.380379527,
            -0.206903971,
            0.032972809,
            -0.480156647,
            -0.681064973,
            -0.439111836,
            0.088373105,
            0.558393569,
            0.665319463,
            0.339622388,
        ],
    ),
    (
        25,
        [
            -0.191415238,
            -0.243269552,
            -0.136938210,
            0.058436995,
            0.215813633,
            0.232857784,
            0.098486515,
            -0.099925460,
            -0.049665689,
            -0.235425938,
            -0.268100828,
            -0.126443562,
            0.097433437,
            0.257954493,
            0.250741031,
            0.080483595,
        ],
    ),
    (
        39,
        [
            0.153021413,
            0.018770079,
            -0.127686470,
            -0.191115087,
            -0.130271408,
            0.015281055,
            0.150897036,
            0.188392448,
            -0.078711803,
            -0.055773596,
            0.003431307,
            0.060405008,
            0.078100444,
            0.045011185,
            -0.017346528,
            -0.068424688,
        ],
    ),
];

const STRING: [(usize, [f64; 16]); 3] = [
    (
        7,
        [
            -0.505314391,
            -0.734319564,
            -0.485834557,
            0.078563633,
            0.591875939,
            0.720321816,
            0.380379527,
            -0.206903971,
            0.032972809,
            -0.480156647,
            -0.681064973,
            -0.439111836,
            0.088373105,
            0.558393569,
            0.665319463,
            0.339622388,
        ],
    ),
    (
        25,
        [
            -0.178900615,
            -0.228973361,
            -0.130156527,
            0.053294391,
            0.202090712,
            0.219477855,
            0.094149856,
            -0.092398943,
            -0.059111867,
            -0.237144530,
            -0.260974322,
            -0.115105958,
            0.105609880,
            0.257653054,
            0.242157722,
            0.069199699,
        ],
    ),
    (
        39,
        [
            0.078825082,
            -0.023346547,
            -0.110337120,
            -0.125581148,
            -0.059166226,
            0.045721445,
            0.120878816,
            0.117434920,
            0.134806788,
            -0.004556340,
            -0.140956714,
            -0.185700200,
            -0.109692412,
            0.037642699,
            0.160500703,
            0.178993369,
        ],
    ),
];

const LAMPE: [(usize, [f64; 16]); 3] = [
    (
        7,
        [
            -0.510297907,
            -0.738193646,
            -0.486080089,
            0.082106307,
            0.596903201,
            0.723564697,
            0.379729348,
            -0.211024432,
            0.091840589,
            -0.405629779,
            -0.639340000,
            -0.457320357,
            0.022071152,
            0.487110929,
            0.635407564,
            0.370531397,
        ],
    ),
    (
        25,
        [
            -0.135373789,
            -0.139568969,
            -0.053009639,
            0.068019128,
            0.144818561,
            0.127449944,
            0.027207195,
            -0.090726991,
            -0.104788080,
            -0.164241755,
            -0.116897479,
            0.006459205,
            0.125615801,
            0.163090913,
            0.094516407,
            -0.035517249,
        ],
    ),
    (
        39,
        [
            -0.113616295,
            -0.082210754,
            0.002652205,
            0.085790571,
            0.113143749,
            0.066925376,
            -0.022811121,
            -0.097714721,
            -0.008549728,
            0.113070004,
            0.161166137,
            0.104464235,
            -0.020165377,
            -0.131682484,
            -0.157573255,
            -0.081002257,
        ],
    ),
];
