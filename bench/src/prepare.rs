//! Gets the engines together, and says of those that cannot be had why.

use crate::args::{Args, Peer};
use crate::engines::Engines;
use crate::error::{BenchError, Result};
use crate::peers::{self, Llama};
use crate::plan::{OWN, Plan};
use crate::process::ask;
use crate::results::Absent;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The engines that there are, their versions, and who is missing.
pub fn prepare(
    args: &Args,
    plan: &Plan,
    root: &Path,
    bench: &Path,
) -> Result<(Engines, Vec<String>, Vec<Absent>)> {
    let selfextend = match &args.selfextend {
        Some(path) => path.clone(),
        None => peers::prepare_ours(root)?,
    };
    let wants = |peer| plan.peers.contains(&peer);
    let mut absent = unasked(plan);
    let llama = match &args.llama_dir {
        _ if !plan.needs_llama() => None,
        Some(folder) => Some(Llama::in_folder(Peer::Llama.name(), folder)),
        None => {
            let server = plan.servers && wants(Peer::Llama);
            Some(Llama::prepare(bench, server))
        }
    };
    let llama = match llama {
        // Without it there are no files of other formats, not only no peer.
        Some(Err(error)) if plan.formats.iter().any(|format| format != OWN) => return Err(error),
        llama => there(llama, Peer::Llama, &mut absent),
    };
    let ik_llama = wants(Peer::IkLlama).then(|| match &args.ik_llama_dir {
        Some(folder) => Llama::in_folder(Peer::IkLlama.name(), folder),
        None => Err(BenchError::Cannot(
            "it is not built here; --ik-llama-dir or IK_LLAMA_DIR names the folder of its \
             llama-bench"
                .to_owned(),
        )),
    });
    let ik_llama = there(ik_llama, Peer::IkLlama, &mut absent);
    let mistral = wants(Peer::Mistral).then(|| match &args.mistral_python {
        Some(python) => Ok(python.clone()),
        None => peers::prepare_mistral(bench),
    });
    let mistral = mistral.map(|python| {
        let python = python?;
        Ok((peers::mistral_version(&python)?, python))
    });
    let mistral = there(mistral, Peer::Mistral, &mut absent);
    let candle = wants(Peer::Candle).then(|| peers::prepare_candle(root, bench));
    let candle = there(candle, Peer::Candle, &mut absent);

    let mut versions = vec![ask(Command::new(&selfextend).arg("--version"))?];
    versions.extend(llama.as_ref().map(|llama| llama.version.clone()));
    versions.extend(ik_llama.as_ref().map(|llama| llama.version.clone()));
    let mistral = mistral.map(|(version, python)| {
        versions.push(format!("mistral.rs: the PyPI package mistralrs {version}"));
        python
    });
    let lock = include_str!("../candle/Cargo.lock");
    let of_candle = locked(lock, "candle-transformers").filter(|_| candle.is_some());
    versions.extend(of_candle.map(|version| format!("candle-transformers {version}")));
    if plan.servers {
        absent.extend(absent_servers(plan, llama.as_ref()));
    }
    let engines = Engines {
        selfextend,
        llama,
        ik_llama,
        mistral,
        candle,
        threads: args.threads as usize,
        decode_tokens: args.decode_tokens as usize,
        timeout: Duration::from_secs(args.timeout),
    };
    Ok((engines, versions, absent))
}

/// The peers that nobody asked for.
fn unasked(plan: &Plan) -> Vec<Absent> {
    let unasked = Peer::ALL.iter().filter(|peer| !plan.peers.contains(peer));
    let unasked = unasked.map(|peer| Absent::new(peer.name(), "not asked for (--peers)"));
    unasked.collect()
}

/// A peer that was asked for, if it is there.
fn there<T>(peer: Option<Result<T>>, of: Peer, absent: &mut Vec<Absent>) -> Option<T> {
    match peer? {
        Ok(peer) => Some(peer),
        Err(error) => {
            absent.push(Absent::new(of.name(), error));
            None
        }
    }
}

/// The peers whose servers are not measured, though they are.
fn absent_servers(plan: &Plan, llama: Option<&Llama>) -> Vec<Absent> {
    let started = "start it and name it with --server NAME=URL";
    let reason = |peer: &Peer| match peer {
        Peer::Llama if llama.is_some_and(|it| it.server.is_some()) => None,
        Peer::Llama => Some("there is no llama-server in its folder".to_owned()),
        Peer::IkLlama => Some(format!("it is not started here: {started}")),
        Peer::Mistral => Some(format!("the Python package has none: {started}")),
        Peer::Candle => Some("candle-transformers has none".to_owned()),
    };
    let absent = plan.peers.iter().filter_map(|peer| {
        let name = format!("{}'s server", peer.name());
        Some(Absent::new(&name, reason(peer)?))
    });
    absent.collect()
}

/// The version of a package in a lock file.
fn locked<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let named = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != named);
    let version = lines.nth(1)?.strip_prefix("version = \"")?;
    version.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn versions_come_from_the_lock_file() {
        let lock = "[[package]]\nname = \"a-b\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"a\"\nversion = \"2.0.0\"\n";
        assert_eq!(locked(lock, "a"), Some("2.0.0"));
        assert_eq!(locked(lock, "b"), None);
    }

    #[test]
    fn who_is_not_there_is_named_with_the_reason() {
        let words = ["bench", "--peers", "ik-llama,mistral", "--servers", "yes"];
        // Any program will do for ours: only its version is asked for.
        let words = [
            &words[..],
            &["--selfextend", "rustc", "--mistral-python", "/none"],
        ]
        .concat();
        let args = Args::parse_from(words);
        let args = Args {
            ik_llama_dir: None,
            ..args
        };
        let plan = Plan::of(&args);
        let nowhere = Path::new("/nowhere");
        let (engines, versions, absent) = prepare(&args, &plan, nowhere, nowhere).unwrap();
        assert!(engines.mistral.is_none() && engines.llama.is_none());
        assert_eq!(versions.len(), 1);
        let reason = |name: &str| {
            let named = absent.iter().find(|it| it.name == name);
            named
                .unwrap_or_else(|| panic!("{name} in {absent:?}"))
                .reason
                .clone()
        };
        assert!(reason("llama.cpp").contains("not asked for"));
        assert!(reason("ik_llama.cpp").contains("IK_LLAMA_DIR"));
        assert!(reason("mistral.rs").contains("/none"));
        assert!(reason("mistral.rs's server").contains("--server"));
        assert!(reason("candle").contains("not asked for"));
    }
}
