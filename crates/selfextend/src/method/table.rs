//! The table of methods: for each its name, its parameters, and how they and the context become a
//! position map or frequencies.

use super::build::{dpe, logistic, longrope, mrrope, yarn};
use super::change::changed;
pub use super::change::{At, Change};
use super::error::MethodError;
pub use super::parameter::{Key, Kind, Parameters};
use crate::settings;
use selfextend_attention::position::{
    DualChunk, JetLong, Lampe, LeakyReRope, LmInfinite, ReRope, Shifted, Streaming,
};
use selfextend_attention::rope::Clipped;
use selfextend_attention::{Frequencies, PositionMap, QueryScaling};

/// A method.
#[derive(Debug)]
pub struct Entry {
    /// Its name, as it is written.
    pub name: &'static str,
    /// Its name in prose.
    pub title: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Its own parameters.
    pub keys: &'static [Key],
    /// What it changes.
    pub build: fn(&Parameters, At) -> Result<Change, MethodError>,
}

// Two entries are equal when their names are: functions cannot be compared.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Entry {
    /// Its own parameters and those every method has.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key> {
        self.keys.iter().chain([&SCALE])
    }
}

const fn tokens(name: &'static str, about: &'static str) -> Key {
    let kind = Kind::Tokens;
    Key { name, kind, about }
}

const fn number(name: &'static str, about: &'static str) -> Key {
    let kind = Kind::Number;
    Key { name, kind, about }
}

/// The parameter of every method: what queries are multiplied by.
pub const SCALE: Key = Key {
    name: "scale",
    kind: Kind::OneOf(&["none", "log-n", "yarn"]),
    about: "queries times max(1, ln(i+1)/ln L), or YaRN's temperature; none",
};

const TIMES: Key = number("s", "times the trained window; N/L");

/// What queries are multiplied by.
pub(crate) fn query_scaling(given: &Parameters, at: At) -> QueryScaling {
    match given.word(SCALE.name) {
        Some("log-n") => QueryScaling::LogN { base: at.trained },
        Some("yarn") => QueryScaling::Yarn { factor: at.times() },
        _ => QueryScaling::None,
    }
}

/// A position map that was given directly; no name leads to it.
pub(super) const CUSTOM: &Entry = &Entry {
    name: "custom",
    title: "a position map of its own",
    about: "a position map given directly",
    keys: &[],
    build: |_, _| {
        Err(MethodError::Parameters {
            method: "custom".into(),
            reason: "a map that was given directly cannot be made for another context".into(),
        })
    },
};

/// All methods.
pub const METHODS: &[Entry] = &[
    Entry {
        name: "plain",
        title: "plain attention",
        about: "attention as the model was trained, at any length",
        keys: &[],
        build: |_, _| Ok(PositionMap::Plain.into()),
    },
    Entry {
        name: "pi",
        title: "position interpolation",
        about: "position interpolation, arXiv 2306.15595",
        keys: &[TIMES],
        build: |given, at| {
            let factor = given.number("s").unwrap_or(at.times());
            Ok(changed(Frequencies::Interpolated { factor }))
        },
    },
    Entry {
        name: "ntk",
        title: "NTK-aware base",
        about: "NTK-aware base, arXiv 2309.00071 section 3.1",
        keys: &[TIMES],
        build: |given, at| {
            let factor = given.number("s").unwrap_or(at.times());
            Ok(changed(Frequencies::Ntk { factor }))
        },
    },
    Entry {
        name: "dynamic-ntk",
        title: "dynamic NTK",
        about: "NTK-aware base that follows the context, arXiv 2309.00071 section 3.3",
        keys: &[number(
            "factor",
            "f in s = f N/L - (f - 1), as in transformers; 1",
        )],
        build: |given, at| {
            let scale = given.number("factor").unwrap_or(1.0);
            let factor = scale * at.times() - (scale - 1.0);
            Ok(changed(Frequencies::Ntk { factor }))
        },
    },
    Entry {
        name: "yarn",
        title: "YaRN",
        about: "YaRN, arXiv 2309.00071",
        keys: &[
            TIMES,
            number("alpha", "rotations below which a pair is interpolated; 1"),
            number("beta", "rotations above which a pair is kept; 32"),
            Key {
                name: "ramp",
                kind: Kind::OneOf(&["pairs", "rotations"]),
                about: "what the ramp is linear in: pairs as in the authors' code, transformers, vLLM and llama.cpp, or the paper's rotations; pairs",
            },
        ],
        build: yarn,
    },
    Entry {
        name: "mrrope",
        title: "MrRoPE",
        about: "MrRoPE, arXiv 2601.22181",
        keys: &[
            TIMES,
            number("alpha", "rotations below which a pair is interpolated; 1"),
            number("beta", "rotations above which a pair is kept; 32"),
            Key {
                name: "growth",
                kind: Kind::OneOf(&["progressive", "uniform"]),
                about: "how pairs between share s: more from each to the next slower one (MrRoPE-Pro), or alike (MrRoPE-Uni); progressive",
            },
        ],
        build: mrrope,
    },
    Entry {
        name: "cope",
        title: "CoPE",
        about: "CoPE, arXiv 2602.05258: the slowest frequencies tapered to zero",
        keys: &[tokens(
            "pairs",
            "pairs that are tapered; those that do not turn once in L",
        )],
        build: |given, at| {
            Ok(changed(Frequencies::Clipped(Clipped {
                trained: at.trained,
                pairs: given.tokens("pairs"),
            })))
        },
    },
    Entry {
        name: "longrope",
        title: "LongRoPE",
        about: "a factor for each pair, arXiv 2402.13753 and 2502.20082",
        keys: &[
            Key {
                name: "factors",
                kind: Kind::File,
                about: "a JSON file: an array, or an object with long_factor; a model's own factors are part of the model, and every method works on top of them",
            },
            TIMES,
        ],
        build: longrope,
    },
    Entry {
        name: "selfextend",
        title: "SelfExtend",
        about: "SelfExtend, arXiv 2401.01325",
        keys: &[
            tokens("G", "group size; the smallest with W + (N - W)/G <= L/2"),
            tokens("W", "neighbour window; L/4"),
        ],
        build: |given, at| {
            let given = (given.tokens("G"), given.tokens("W"));
            match settings::self_extend(at.trained, at.context, given.0, given.1)? {
                Some((group_size, window)) => {
                    Ok(PositionMap::self_extend(group_size, window)?.into())
                }
                None => Ok(PositionMap::Plain.into()),
            }
        },
    },
    Entry {
        name: "dpe",
        title: "DPE",
        about: "DPE, arXiv 2504.18857: groups of another size for each band of frequencies; CPU only",
        keys: &[
            Key {
                name: "scales",
                kind: Kind::Numbers,
                about: "group sizes from the fastest pairs to the slowest, found for each model, as 2-8-2-8-32-32-32-4; needed",
            },
            tokens("W", "window kept exact; 1024, or L/8 for L below 8192"),
        ],
        build: dpe,
    },
    Entry {
        name: "rerope",
        title: "ReRoPE",
        about: "ReRoPE, kexue.fm/archives/9708",
        keys: &[tokens("W", "window; L/8")],
        build: |given, at| {
            let window = given.tokens("W");
            Ok(ReRope::new(window.unwrap_or(ReRope::default_window(at.trained)))?.into())
        },
    },
    Entry {
        name: "leaky-rerope",
        title: "Leaky ReRoPE",
        about: "Leaky ReRoPE, kexue.fm/archives/9708",
        keys: &[
            tokens("W", "window; L/8"),
            number(
                "k",
                "how many times slower distances grow beyond it; the smallest that fits",
            ),
        ],
        build: |given, At { trained, context }| {
            let window = given.tokens("W").unwrap_or(ReRope::default_window(trained));
            let factor = LeakyReRope::default_factor(window, trained, context);
            Ok(LeakyReRope::new(window, given.number("k").unwrap_or(factor))?.into())
        },
    },
    Entry {
        name: "string",
        title: "STRING",
        about: "STRING, arXiv 2410.18745",
        keys: &[
            tokens("S", "shift; N/3, or more where that does not fit"),
            tokens("W", "local window; 128, or L/16"),
        ],
        build: |given, At { trained, context }| {
            let window = given
                .tokens("W")
                .unwrap_or(Shifted::default_window(trained));
            let shift = Shifted::default_shift(window, trained, context);
            Ok(Shifted::new(given.tokens("S").unwrap_or(shift), window)?.into())
        },
    },
    Entry {
        name: "dca",
        title: "Dual Chunk Attention",
        about: "Dual Chunk Attention, arXiv 2402.17463",
        keys: &[
            tokens("chunk", "s; 3L/4"),
            tokens("reach", "c, the largest position and one; L"),
        ],
        build: |given, At { trained, .. }| {
            let chunk = given
                .tokens("chunk")
                .unwrap_or(DualChunk::default_chunk(trained));
            Ok(DualChunk::new(chunk, given.tokens("reach").unwrap_or(trained))?.into())
        },
    },
    Entry {
        name: "jet-long",
        title: "Jet-Long",
        about: "Jet-Long, arXiv 2607.07740",
        keys: &[
            tokens("w0", "local window; L/16"),
            tokens("w", "long window, G = ceil(N/w); L"),
        ],
        build: |given, At { trained, context }| {
            let local = given
                .tokens("w0")
                .unwrap_or(JetLong::default_local(trained));
            let map = JetLong::new(local, given.tokens("w").unwrap_or(trained), context)?;
            Ok(match map.group_size() {
                1 => PositionMap::Plain.into(),
                _ => map.into(),
            })
        },
    },
    Entry {
        name: "self",
        title: "SELF",
        about: "SELF, arXiv 2505.17296",
        keys: &[
            tokens(
                "C",
                "capacity: groups grow to C - 1; 33, or more where that does not fit",
            ),
            number("r", "growth rate; 0.02, more for L below 4096"),
            tokens("W", "window; L/4"),
        ],
        build: logistic,
    },
    Entry {
        name: "lampe",
        title: "LaMPE",
        about: "LaMPE, arXiv 2508.02308",
        keys: &[
            tokens("head", "exact nearest distances; L/16"),
            tokens("tail", "exact farthest distances; L/41"),
            tokens("map", "mapping length; a sigmoid of N/L"),
        ],
        build: |given, At { trained, context }| {
            let ends = Lampe::default_ends(trained);
            let head = given.tokens("head").unwrap_or(ends.0);
            if context <= 2 * head {
                return Ok(PositionMap::Plain.into());
            }
            let mapped = Lampe::default_mapped(head, trained, context);
            let (tail, mapped) = (given.tokens("tail"), given.tokens("map").unwrap_or(mapped));
            Ok(Lampe::new(head, tail.unwrap_or(ends.1), mapped, context)?.into())
        },
    },
    Entry {
        name: "streaming-llm",
        title: "StreamingLLM",
        about: "StreamingLLM, arXiv 2309.17453: forgets",
        keys: &[
            tokens("sinks", "first keys kept; 4"),
            tokens("recent", "last keys kept; the rest of L"),
        ],
        build: |given, At { trained, .. }| {
            let sinks = given.tokens("sinks").unwrap_or(4);
            let recent = given.tokens("recent");
            let recent = recent.unwrap_or(Streaming::default_recent(sinks, trained));
            Ok(Streaming::new(sinks, recent)?.into())
        },
    },
    Entry {
        name: "lm-infinite",
        title: "LM-Infinite",
        about: "LM-Infinite, arXiv 2308.16137: forgets",
        keys: &[
            tokens("sinks", "first keys kept; 10"),
            tokens("recent", "last keys kept; L - 1"),
        ],
        build: |given, At { trained, .. }| {
            let sinks = given.tokens("sinks").unwrap_or(10);
            let recent = given
                .tokens("recent")
                .unwrap_or(trained.saturating_sub(1).max(1));
            Ok(LmInfinite::new(sinks, recent)?.into())
        },
    },
];
