//! What `--help` says.

use crate::common::selfextend;

const COMMANDS: [&str; 13] = [
    "run", "chat", "inspect", "score", "plot", "bench", "demo", "eval", "serve", "pull", "cache",
    "tune", "compare",
];
const TASKS: [&str; 15] = [
    "perplexity",
    "passkey",
    "needle",
    "ruler",
    "babilong",
    "nolima",
    "graphwalks",
    "mrcr",
    "leval",
    "longbench",
    "choice",
    "ablation",
    "merge",
    "report",
    "leaderboard",
];

/// The commands that a help text shows, as arguments.
fn examples(help: &str) -> Vec<Vec<&str>> {
    let lines = help.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_prefix("selfextend "))
        .map(|line| line.split(['>', '"']).next().unwrap())
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[test]
fn every_command_has_examples_of_flags_that_exist() {
    let commands = COMMANDS.map(|command| vec![command]);
    let tasks = TASKS.map(|task| vec!["eval", task]);
    for command in commands.into_iter().chain(tasks) {
        let help = selfextend(&[&command[..], &["--help"]].concat())
            .ok()
            .stdout;
        let (_, shown) = help
            .split_once("Example")
            .unwrap_or_else(|| panic!("{command:?} has no example"));
        let shown = examples(shown);
        assert!(!shown.is_empty(), "{command:?}");
        let begins = |example: &Vec<&str>| example.starts_with(&command);
        assert!(shown.iter().any(begins), "{command:?}: {shown:?}");
        for example in shown {
            let words = example.len().min(if example[0] == "eval" { 2 } else { 1 });
            let name = &example[..words];
            let help = selfextend(&[name, &["--help"]].concat()).ok().stdout;
            let flags = example.iter().filter(|word| word.starts_with("--"));
            for flag in flags {
                assert!(help.contains(flag), "{flag} of {example:?}");
            }
        }
    }
}

#[test]
fn without_arguments_it_says_where_to_start() {
    let done = selfextend(&[]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("selfextend demo"), "{done:?}");
}
