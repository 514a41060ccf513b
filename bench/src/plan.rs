//! What a run measures: the presets, and the flags that replace parts of them.

use crate::args::{Args, Choice, Lengths, Peer, Preset};
use crate::engines::Engines;
use crate::series::{Fork, Job, Series, Server, Task};

/// The name of the file's own weight format.
pub const OWN: &str = "own";

/// What a run measures.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// Files, or names for `selfextend pull`.
    pub models: Vec<String>,
    /// Weight formats.
    pub formats: Vec<String>,
    /// Lengths of prefills.
    pub prefill: Vec<usize>,
    /// Depths of decodes.
    pub decode: Vec<usize>,
    /// Lengths of selfextend's attention alone.
    pub attention: Vec<usize>,
    /// Rounds.
    pub reps: usize,
    /// Who is measured beside us.
    pub peers: Vec<Peer>,
    /// Whether servers are measured too.
    pub servers: bool,
}

const DEFAULT_MODEL: &str = "smollm2-135m";

impl Plan {
    /// The preset of a command line, with what its flags say instead.
    pub fn of(args: &Args) -> Self {
        let plan = match args.preset {
            Preset::Usual => Self::usual(),
            Preset::Short => Self::short(),
            Preset::Full => Self::full(),
        };
        let lengths = |given: &Option<Lengths>, planned: Vec<usize>| {
            given.clone().map_or(planned, |lengths| lengths.0)
        };
        Self {
            models: args.model.clone().unwrap_or(plan.models),
            formats: args.formats.clone().unwrap_or(plan.formats),
            prefill: lengths(&args.prefill, plan.prefill),
            decode: lengths(&args.decode, plan.decode),
            attention: lengths(&args.attention, plan.attention),
            reps: args.reps.map_or(plan.reps, |reps| reps as usize),
            peers: args.peers.clone().map_or(plan.peers, |peers| peers.0),
            servers: args
                .servers
                .map_or(plan.servers, |choice| choice == Choice::Yes)
                || !args.server.is_empty(),
        }
    }

    fn usual() -> Self {
        Self {
            models: vec![DEFAULT_MODEL.to_owned()],
            formats: vec![OWN.to_owned()],
            prefill: vec![512, 2048],
            decode: vec![0, 2048],
            attention: vec![4096, 16384],
            reps: 3,
            peers: vec![Peer::Llama],
            servers: false,
        }
    }

    fn short() -> Self {
        Self {
            prefill: vec![512],
            decode: vec![512],
            attention: Vec::new(),
            reps: 1,
            // candle takes minutes to compile.
            peers: vec![Peer::Llama, Peer::IkLlama, Peer::Mistral],
            servers: true,
            ..Self::usual()
        }
    }

    fn full() -> Self {
        Self {
            models: [DEFAULT_MODEL, "qwen2.5-coder-1.5b"]
                .map(str::to_owned)
                .into(),
            formats: [OWN, "Q4_0"].map(str::to_owned).into(),
            prefill: vec![512, 4096, 16384],
            decode: vec![0, 4096, 16384],
            peers: Peer::ALL.to_vec(),
            servers: true,
            ..Self::usual()
        }
    }

    /// Whether llama.cpp's programs are needed: to be measured, or to make files.
    pub fn needs_llama(&self) -> bool {
        self.peers.contains(&Peer::Llama) || self.formats.iter().any(|format| format != OWN)
    }

    /// The columns of the tables: ours, then the peers that could be had.
    pub fn series(&self, args: &Args, engines: &Engines) -> Vec<Series> {
        let mut series = Vec::new();
        for self_extend in [None].into_iter().chain(args.self_extend.map(Some)) {
            let ours = args.kv_types.iter().map(|kv_type| Series::Ours {
                kv_type: kv_type.clone(),
                self_extend,
            });
            series.extend(ours);
        }
        let forks = [(Peer::Llama, Fork::Original), (Peer::IkLlama, Fork::Ik)];
        for (_, fork) in forks
            .into_iter()
            .filter(|(peer, fork)| self.peers.contains(peer) && engines.fork(*fork).is_some())
        {
            for kv_type in &args.llama_kv_types {
                // llama.cpp refuses quantised values without flash attention.
                let refused = !matches!(&**kv_type, "f32" | "f16" | "bf16");
                let modes = args.fa.0.iter().filter(|&&flash| flash || !refused);
                series.extend(modes.map(|&flash| Series::Llama {
                    fork,
                    kv_type: kv_type.clone(),
                    flash,
                }));
            }
        }
        series.extend(engines.mistral.as_ref().map(|_| Series::Mistral));
        series.extend(engines.candle.as_ref().map(|_| Series::Candle));
        series
    }

    /// The columns of the servers' tables.
    pub fn served(&self, args: &Args, engines: &Engines) -> Vec<Series> {
        if !self.servers {
            return Vec::new();
        }
        let ours = args.kv_types.iter().cloned();
        let mut servers: Vec<Server> = ours.map(|kv_type| Server::Ours { kv_type }).collect();
        let llama = engines.llama.as_ref().and_then(|it| it.server.as_ref());
        if llama.is_some() && self.peers.contains(&Peer::Llama) {
            let theirs = args.llama_kv_types.iter().cloned();
            servers.extend(theirs.map(|kv_type| Server::Llama { kv_type }));
        }
        let running = args.server.iter().cloned();
        servers.extend(running.map(|it| Server::Running {
            name: it.name,
            url: it.url,
        }));
        servers.into_iter().map(Series::Served).collect()
    }

    /// One round's children, in order; what is compared runs in succession.
    pub fn jobs(&self, series: &[Series]) -> Vec<Job> {
        let lengths = self.prefill.iter().chain(&self.decode);
        let mut lengths: Vec<usize> = lengths.copied().collect();
        lengths.sort_unstable();
        lengths.dedup();
        let loads = series.iter().flat_map(|it| it.jobs(0, &[Task::Load]));
        let mut jobs: Vec<Job> = loads.collect();
        for length in lengths {
            let mut tasks = Vec::new();
            if length > 0 && self.prefill.contains(&length) {
                tasks.push(Task::Prefill);
            }
            if self.decode.contains(&length) {
                tasks.push(Task::Decode);
            }
            jobs.extend(series.iter().flat_map(|it| it.jobs(length, &tasks)));
        }
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Llama;
    use clap::Parser;
    use std::time::Duration;

    fn engines(all: bool) -> Engines {
        let llama = || {
            Some(Llama {
                bench: "b".into(),
                quantize: "q".into(),
                server: Some("s".into()),
                version: String::new(),
            })
        };
        Engines {
            selfextend: "selfextend".into(),
            llama: llama(),
            ik_llama: all.then(llama).flatten(),
            mistral: all.then(|| "python".into()),
            candle: all.then(|| "candle".into()),
            threads: 2,
            decode_tokens: 32,
            timeout: Duration::from_secs(1),
        }
    }

    fn names(words: &[&str], all: bool) -> (Vec<String>, Vec<String>) {
        let args = Args::parse_from([&["bench"], words].concat());
        let (plan, engines) = (Plan::of(&args), engines(all));
        let named = |series: Vec<Series>| series.iter().map(Series::name).collect();
        (
            named(plan.series(&args, &engines)),
            named(plan.served(&args, &engines)),
        )
    }

    #[test]
    fn quantised_caches_of_llama_run_with_flash_attention_only() {
        let words = ["--llama-kv-types", "f16,q8_0", "--self-extend", "8,1024"];
        let (series, served) = names(&words, false);
        assert_eq!(
            series,
            [
                "selfextend",
                "SelfExtend 8,1024",
                "llama.cpp, no fa",
                "llama.cpp, fa",
                "llama.cpp, fa, q8_0 cache"
            ]
        );
        assert!(served.is_empty());
    }

    #[test]
    fn a_full_run_has_everybody() {
        let words = ["--preset", "full", "--fa", "1", "--server", "x=http://h:1"];
        let (series, served) = names(&words, true);
        let peers = ["llama.cpp, fa", "ik_llama.cpp, fa", "mistral.rs", "candle"];
        assert_eq!(series, [&["selfextend"], &peers[..]].concat());
        assert_eq!(served, ["selfextend serve", "llama.cpp's server", "x"]);
    }

    #[test]
    fn flags_replace_parts_of_a_preset() {
        let words = [
            "bench",
            "--preset",
            "full",
            "--prefill",
            "64",
            "--servers",
            "no",
        ];
        let plan = Plan::of(&Args::parse_from(words));
        let expected = Plan {
            prefill: vec![64],
            servers: false,
            ..Plan::full()
        };
        assert_eq!(plan, expected);
        assert_eq!(plan.models.len(), 2);
    }

    #[test]
    fn jobs_of_a_round() {
        let plan = Plan {
            prefill: vec![64, 512],
            decode: vec![0, 512],
            ..Plan::short()
        };
        let jobs = plan.jobs(&[Series::Mistral]);
        let jobs: Vec<_> = jobs.iter().map(|it| (it.length, &*it.tasks)).collect();
        let expected: [(usize, &[Task]); 4] = [
            (0, &[Task::Load]),
            (0, &[Task::Decode]),
            (64, &[Task::Prefill]),
            (512, &[Task::Prefill, Task::Decode]),
        ];
        assert_eq!(jobs, expected);
    }
}
