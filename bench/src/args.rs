//! The command line of the benchmark.

use clap::Parser;
use selfextend::settings::parse_tokens;
use std::path::PathBuf;
use std::str::FromStr;

/// Measure selfextend against llama.cpp (and candle) and against the limits of this machine.
///
/// Prepares the peers under target/bench on first use, builds selfextend, and runs all engines in
/// turns as child processes. Tables go to stdout, and with pictures to --out.
#[derive(Debug, Parser)]
#[command(name = "selfextend-bench", version)]
pub struct Args {
    /// A GGUF file. [default: selfextend's default model, fetched on first use]
    #[arg(short, long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Weight formats to measure: `own` is the file as it is, others (F16, Q8_0, Q4_0, ...) are
    /// made from it with llama-quantize. Speed only: their weights are no better than the file's.
    #[arg(
        long,
        default_value = "own",
        value_delimiter = ',',
        value_name = "F,F,..."
    )]
    pub formats: Vec<String>,
    /// Lengths of prefills, as in 512,8k; or `none`.
    #[arg(long, default_value = "512,2048", value_name = "N,N,...")]
    pub prefill: Lengths,
    /// Depths at which tokens are decoded; or `none`.
    #[arg(long, default_value = "0,2048", value_name = "N,N,...")]
    pub decode: Lengths,
    /// Tokens to decode at each depth.
    #[arg(long, default_value_t = 32, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub decode_tokens: u32,
    /// Rounds; each runs everything once, every second one in reverse.
    #[arg(long, default_value_t = 3, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    pub reps: u32,
    /// Threads of every engine.
    #[arg(long, default_value_t = default_threads(), value_name = "T", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: u32,
    /// llama.cpp's flash attention: off, on, or both; or `none` for no llama.cpp at all.
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
    /// Lengths at which selfextend's attention is measured alone; or `none`.
    #[arg(long, default_value = "4096,16384", value_name = "N,N,...")]
    pub attention: Lengths,
    /// Measure candle-transformers as well (up to its 4096 tokens).
    #[arg(long)]
    pub candle: bool,
    /// A folder with llama-bench and llama-quantize, instead of building them.
    #[arg(long, value_name = "DIR")]
    pub llama_dir: Option<PathBuf>,
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
            _ => Err("write 0, 1, 0,1 or none".to_owned()),
        };
        match text {
            "none" => Ok(Self(Vec::new())),
            _ => text
                .split(',')
                .map(mode)
                .collect::<Result<_, _>>()
                .map(Self),
        }
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
        assert_eq!(args.prefill.0, [512, 8192]);
        assert_eq!(args.decode.0, [0, 2048]);
        assert_eq!(args.fa.0, [true]);
    }

    #[test]
    fn lists_can_be_none_but_not_wrong() {
        assert_eq!("none".parse(), Ok(Lengths(Vec::new())));
        assert!("".parse::<Lengths>().is_err());
        assert!("512,x".parse::<Lengths>().is_err());
        assert!("2".parse::<FlashModes>().is_err());
        let settings = GroupAndWindow {
            group: 8,
            window: 1024,
        };
        assert_eq!("8,1k".parse(), Ok(settings));
        assert!("1,1024".parse::<GroupAndWindow>().is_err());
        assert!("8".parse::<GroupAndWindow>().is_err());
    }
}
