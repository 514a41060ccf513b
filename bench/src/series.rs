//! What is measured: engines in their settings, and what is asked of them.

use crate::args::GroupAndWindow;
use serde::Serialize;

/// An engine in one of its settings: a column of the tables.
#[derive(Debug, Clone, PartialEq)]
pub enum Series {
    /// selfextend.
    Ours {
        /// How keys and values are stored.
        kv_type: String,
        /// SelfExtend instead of plain attention.
        self_extend: Option<GroupAndWindow>,
    },
    /// llama.cpp, or a fork of it.
    Llama {
        /// Whose.
        fork: Fork,
        /// How keys and values are stored.
        kv_type: String,
        /// Flash attention.
        flash: bool,
    },
    /// mistral.rs, through its Python package.
    Mistral,
    /// candle-transformers.
    Candle,
    /// A server, over HTTP.
    Served(Server),
}

/// Whose llama-bench it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// llama.cpp itself.
    Original,
    /// ik_llama.cpp.
    Ik,
}

/// A server that answers `/v1/completions`.
#[derive(Debug, Clone, PartialEq)]
pub enum Server {
    /// `selfextend serve`.
    Ours {
        /// How keys and values are stored.
        kv_type: String,
    },
    /// llama.cpp's `llama-server`, with flash attention.
    Llama {
        /// How keys and values are stored.
        kv_type: String,
    },
    /// One that somebody started: neither its load nor its memory is known.
    Running {
        /// What the column is called.
        name: String,
        /// Where it is, without `/v1`.
        url: String,
    },
}

impl Fork {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Original => "llama.cpp",
            Self::Ik => "ik_llama.cpp",
        }
    }
}

impl Series {
    /// The heading of its column.
    pub fn name(&self) -> String {
        match self {
            Self::Ours {
                kv_type,
                self_extend: None,
            } => format!("selfextend{}", stored(kv_type)),
            Self::Ours {
                kv_type,
                self_extend: Some(GroupAndWindow { group, window }),
            } => format!("SelfExtend {group},{window}{}", stored(kv_type)),
            Self::Llama {
                fork,
                kv_type,
                flash,
            } => {
                let flash = if *flash { "fa" } else { "no fa" };
                format!("{}, {flash}{}", fork.name(), stored(kv_type))
            }
            Self::Mistral => "mistral.rs".to_owned(),
            Self::Candle => "candle".to_owned(),
            Self::Served(Server::Ours { kv_type }) => {
                format!("selfextend serve{}", stored(kv_type))
            }
            Self::Served(Server::Llama { kv_type }) => {
                format!("llama.cpp's server{}", stored(kv_type))
            }
            Self::Served(Server::Running { name, .. }) => name.clone(),
        }
    }

    /// Whether it is selfextend.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Ours { .. } | Self::Served(Server::Ours { .. }))
    }

    /// How it stores keys and values, where that can be chosen.
    pub fn kv_type(&self) -> Option<&str> {
        match self {
            Self::Ours { kv_type, .. }
            | Self::Llama { kv_type, .. }
            | Self::Served(Server::Ours { kv_type } | Server::Llama { kv_type }) => Some(kv_type),
            Self::Mistral | Self::Candle | Self::Served(Server::Running { .. }) => None,
        }
    }

    /// The children that measure a series at a length. One child measures both tasks, except that
    /// llama-bench would time prefill and decode together.
    pub fn jobs(&self, length: usize, tasks: &[Task]) -> Vec<Job> {
        let job = |tasks: &[Task]| Job {
            series: self.clone(),
            length,
            tasks: tasks.to_vec(),
        };
        match self {
            _ if tasks.is_empty() => Vec::new(),
            Self::Llama { .. } => tasks.iter().map(|&task| job(&[task])).collect(),
            _ => vec![job(tasks)],
        }
    }
}

fn stored(kv_type: &str) -> String {
    match kv_type {
        "f16" => String::new(),
        other => format!(", {other} cache"),
    }
}

/// What is measured of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Seconds from the start of a process to its answer to one token; of a server, until it says
    /// that it is ready.
    Load,
    /// Tokens read per second.
    Prefill,
    /// Tokens written per second after a prefill.
    Decode,
}

/// One child process: an engine at one length.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The engine.
    pub series: Series,
    /// Tokens of the prefill; 0 for a load.
    pub length: usize,
    /// What it measures.
    pub tasks: Vec<Task>,
}

impl Job {
    /// Whether it asks for a task.
    pub fn wants(&self, task: Task) -> bool {
        self.tasks.contains(&task)
    }
}

/// What a child measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Tokens per second for each task; seconds for a load.
    pub values: Vec<(Task, f64)>,
    /// The most memory it held.
    pub peak_mib: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_child_does_what_takes_llama_bench_two() {
        let both = [Task::Prefill, Task::Decode];
        let count = |series: &Series| series.jobs(64, &both).len();
        let llama = Series::Llama {
            fork: Fork::Ik,
            kv_type: "q8_0".into(),
            flash: true,
        };
        assert_eq!(llama.name(), "ik_llama.cpp, fa, q8_0 cache");
        assert_eq!(count(&llama), 2);
        assert_eq!(count(&Series::Mistral), 1);
        assert!(Series::Candle.jobs(64, &[]).is_empty());
    }
}
