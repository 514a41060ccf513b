//! The command line of the benchmark.

use clap::{Parser, ValueEnum};
use selfextend::settings::parse_tokens;
use std::path::PathBuf;
use std::str::FromStr;

/// Measure selfextend against llama.cpp, ik_llama.cpp, mistral.rs and candle, and against the
/// limits of this machine.
///
/// Prepares the peers under target/bench on first use, builds selfextend, and runs all engines in
/// turns as child processes. A peer that cannot be had, and a measurement that it cannot do, are
/// named in the report with the reason. Tables go to stdout, and with pictures to --out.
#[derive(Debug, Parser)]
#[command(name = "selfextend-bench", version)]
pub struct Args {
    /// What is measured unless other flags say so. `short`: everything once on the default model
    /// at 512 tokens, to see that it works; `full`: the tables of BENCHMARKS.md, for a quiet night.
    #[arg(long, value_enum, default_value = "usual")]
    pub preset: Preset,
    /// GGUF files, or names for `selfextend pull`. [default: smollm2-135m; full: and
    /// qwen2.5-coder-1.5b]
    #[arg(short, long, value_delimiter = ',', value_name = "FILE|NAME,...")]
    pub model: Option<Vec<String>>,
    /// Weight formats to measure: `own` is the file as it is, others (F16, Q8_0, Q4_0, ...) are
    /// made from it with llama-quantize. Speed only: their weights are no better than the file's.
    /// [default: own; full: own,Q4_0, which is llama.cpp's fastest]
    #[arg(long, value_delimiter = ',', value_name = "F,F,...")]
    pub formats: Option<Vec<String>>,
    /// Lengths of prefills, as in 512,8k; or `none`. [default: 512,2048; short: 512; full:
    /// 512,4k,16k]
    #[arg(long, value_name = "N,N,...")]
    pub prefill: Option<Lengths>,
    /// Depths at which tokens are decoded; or `none`. [default: 0,2048; short: 512; full:
    /// 0,4k,16k]
    #[arg(long, value_name = "N,N,...")]
    pub decode: Option<Lengths>,
    /// Tokens to decode at each depth.
    #[arg(long, default_value_t = 32, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub decode_tokens: u32,
    /// Rounds; each runs everything once, every second one in reverse. [default: 3; short: 1]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    pub reps: Option<u32>,
    /// Threads of every engine.
    #[arg(long, default_value_t = default_threads(), value_name = "T", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: u32,
    /// Which peers; or `none`. [default: llama; short: llama,ik-llama,mistral; full: all]
    #[arg(long, value_name = "P,P,...")]
    pub peers: Option<Peers>,
    /// llama.cpp's flash attention: off, on, or both.
    #[arg(long, default_value = "0,1", value_name = "0,1")]
    pub fa: FlashModes,
    /// How selfextend stores keys and values; ratios are those of the first.
    #[arg(
        long,
        default_value = "f16",
        value_delimiter = ',',
        value_name = "T,T,..."
    )]
    pub kv_types: Vec<String>,
    /// How llama.cpp stores them. Quantised ones run with flash attention only.
    #[arg(
        long,
        default_value = "f16",
        value_delimiter = ',',
        value_name = "T,T,..."
    )]
    pub llama_kv_types: Vec<String>,
    /// Measure SelfExtend as well, with this group size and neighbour window.
    #[arg(long, value_name = "G,W")]
    pub self_extend: Option<GroupAndWindow>,
    /// Lengths at which selfextend's attention is measured alone; or `none`. [default: 4096,16384;
    /// short: none]
    #[arg(long, value_name = "N,N,...")]
    pub attention: Option<Lengths>,
    /// Whether the same is measured through the servers. [default: no; short and full: yes]
    #[arg(long, value_name = "YES|NO", value_enum)]
    pub servers: Option<Choice>,
    /// A server that runs already and answers /v1/completions, as in ik=http://127.0.0.1:8080, to
    /// measure beside the others (repeatable).
    #[arg(long, value_name = "NAME=URL")]
    pub server: Vec<Running>,
    /// A folder with llama-bench and llama-quantize (and llama-server), instead of building them.
    #[arg(long, value_name = "DIR")]
    pub llama_dir: Option<PathBuf>,
    /// The folder of ik_llama.cpp's llama-bench; it is not built here.
    #[arg(long, value_name = "DIR", env = "IK_LLAMA_DIR")]
    pub ik_llama_dir: Option<PathBuf>,
    /// A Python with the package mistralrs, instead of fetching it.
    #[arg(long, value_name = "FILE")]
    pub mistral_python: Option<PathBuf>,
    /// A selfextend binary, instead of building it.
    #[arg(long, value_name = "FILE")]
    pub selfextend: Option<PathBuf>,
    /// Seconds that one measurement may take.
    #[arg(long, default_value_t = 1200, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Where report.md, report.json and the pictures go. [default: target/bench/results]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// What is measured unless other flags say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// llama.cpp beside us on the default model at 512 and 2048 tokens.
    Usual,
    /// Everything once, at 512 tokens.
    Short,
    /// Two models, all peers, up to 16k.
    Full,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Yes.
    Yes,
    /// No.
    No,
}

/// Somebody to be measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// llama.cpp.
    Llama,
    /// ik_llama.cpp.
    IkLlama,
    /// mistral.rs.
    Mistral,
    /// candle-transformers.
    Candle,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Llama, Self::IkLlama, Self::Mistral, Self::Candle];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama.cpp",
            Self::IkLlama => "ik_llama.cpp",
            Self::Mistral => "mistral.rs",
            Self::Candle => "candle",
        }
    }
}

/// Some peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers(pub Vec<Peer>);

impl FromStr for Peers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let peer = |text: &str| {
            Peer::from_str(text, false)
                .map_err(|_| "write some of llama,ik-llama,mistral,candle, or all, or none".into())
        };
        match text {
            "none" => Ok(Self(Vec::new())),
            "all" => Ok(Self(Peer::ALL.to_vec())),
            _ => text
                .split(',')
                .map(peer)
                .collect::<Result<_, _>>()
                .map(Self),
        }
    }
}

/// A server that runs already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// What its column is called.
    pub name: String,
    /// Where it is.
    pub url: String,
}

impl FromStr for Running {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=');
        let parts = parts.filter(|(name, url)| !name.is_empty() && url.starts_with("http://"));
        let (name, url) =
            parts.ok_or("write a name and an address, as in x=http://localhost:80")?;
        Ok(Self {
            name: name.to_owned(),
            // Given as for OpenAI's clients, too.
            url: url.trim_end_matches('/').trim_end_matches("/v1").to_owned(),
        })
    }
}

fn default_threads() -> u32 {
    std::thread::available_parallelism().map_or(1, |threads| threads.get() as u32)
}

/// Lengths in tokens, sorted, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lengths(pub Vec<usize>);

impl FromStr for Lengths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lengths = match text {
            "none" => Vec::new(),
            _ => text
                .split(',')
                .map(parse_tokens)
                .collect::<Result<_, _>>()?,
        };
        lengths.sort_unstable();
        lengths.dedup();
        Ok(Self(lengths))
    }
}

/// The flash attention settings of llama.cpp to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlashModes(pub Vec<bool>);

impl FromStr for FlashModes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mode = |text: &str| match text {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err("write 0, 1 or 0,1".to_owned()),
        };
        let modes = text.split(',').map(mode).collect::<Result<_, _>>();
        modes.map(Self)
    }
}

/// SelfExtend's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupAndWindow {
    /// Group size.
    pub group: usize,
    /// Neighbour window in tokens.
    pub window: usize,
}

impl FromStr for GroupAndWindow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(',').and_then(|(group, window)| {
            let (group, window) = (group.parse().ok()?, parse_tokens(window).ok()?);
            (group > 1 && window > 0).then_some(Self { group, window })
        });
        parts.ok_or_else(|| "write a group size above 1 and a window, as in 8,1024".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_sound() {
        Args::command().debug_assert();
        let args = Args::parse_from(["selfextend-bench", "--prefill", "8k,512,8192", "--fa", "1"]);
        assert_eq!(args.prefill.unwrap().0, [512, 8192]);
        assert_eq!(args.fa.0, [true]);
    }

    #[test]
    fn lists_can_be_none_but_not_wrong() {
        assert_eq!("none".parse(), Ok(Lengths(Vec::new())));
        assert!("".parse::<Lengths>().is_err());
        assert!("512,x".parse::<Lengths>().is_err());
        assert!("2".parse::<FlashModes>().is_err());
        assert_eq!("all".parse(), Ok(Peers(Peer::ALL.to_vec())));
        assert_eq!("none".parse(), Ok(Peers(Vec::new())));
        let some = Peers(vec![Peer::IkLlama, Peer::Candle]);
        assert_eq!("ik-llama,candle".parse(), Ok(some));
        assert!("llama,ollama".parse::<Peers>().is_err());
        let running = Running {
            name: "x".into(),
            url: "http://localhost:80".into(),
        };
        assert_eq!("x=http://localhost:80/v1/".parse(), Ok(running));
        assert!("http://localhost:80".parse::<Running>().is_err());
        let settings = GroupAndWindow {
            group: 8,
            window: 1024,
        };
        assert_eq!("8,1k".parse(), Ok(settings));
        assert!("1,1024".parse::<GroupAndWindow>().is_err());
        assert!("8".parse::<GroupAndWindow>().is_err());
    }
}
