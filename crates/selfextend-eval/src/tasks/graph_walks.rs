//! Graph walks in the style of OpenAI's GraphWalks (huggingface.co/datasets/openai/graphwalks): a graph
//! of hashes as a list of directed edges, of which the nodes at a depth, or the parents of a node, are
//! asked for. Made from a seed, for the tokenizer of the model at hand, with the data set's prompt.
//!
//! Our graphs have three edges from each node to other nodes, in shuffled order, and a question has one
//! to eight right nodes. As the data set says since February 2026, a search returns the nodes at exactly
//! its depth. Its published score gives an answer without a right node the F1 of an empty one, 1; here
//! that is 0.

use super::fit::fit_units;
use super::prompt::Prompter;
use crate::error::{EvalError, Result};
use crate::metrics::node_f1;
use crate::random::Random;
use crate::sample::{Ask, RightAnswer, Sample, Tags};
use std::str::FromStr;

/// Edges that leave a node.
const EDGES: usize = 3;
/// The most nodes of a right answer.
const MOST: usize = 8;
const EXAMPLE: &str = "You will be given a graph as a list of directed edges. All nodes are at least degree 1. You will also get a description of an operation to perform on the graph.\nYour job is to execute the operation on the graph and return the set of nodes that the operation results in. If asked for a breadth-first search (BFS), only return the nodes that are both reachable and exactly at that depth (not nodes at intermediate depths), and do not return the starting node. If asked for the parents of a node, only return the nodes that have an edge leading to the given node, do not return the given node itself.\n\nHere is an example:\n<begin example>\n\nThe graph has the following edges:\nuvwx -> alke\nabcd -> uvwx\nabcd -> efgh\nefgh -> uvwx\n\nExample 1:\nOperation:\nPerform a BFS from node abcd with depth 1.\nFinal Answer: [uvwx, efgh]\n\nExample 2:\nOperation:\nPerform a BFS from node alke with depth 1.\nFinal Answer: []\n\nExample 3:\nOperation:\nFind the parents of node uvwx.\nFinal Answer: [abcd, efgh]\n\nExample 4:\nOperation:\nFind the parents of node abcd.\nFinal Answer: []\n\n<end example>\nHere is the graph to operate on:\nThe graph has the following edges:\n";
const END: &str = "\nYou should immediately return the set of nodes that the operation results in, with no additional text. Return your final answer as a list of nodes in the very last line of your response.";

/// A sweep over operations and lengths.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GraphWalks {
    /// The operations.
    pub tasks: Vec<WalkTask>,
    /// Tokens of context, the answer's included.
    pub lengths: Vec<usize>,
    /// Graphs of each operation at each length.
    pub samples: usize,
    /// Seed of everything drawn.
    pub seed: u64,
    /// The most tokens of an answer.
    pub max_tokens: usize,
}

/// An operation on a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalkTask {
    /// The nodes at a depth of 1 or 2 of a breadth-first search.
    Bfs,
    /// The nodes with an edge to a node.
    Parents,
}

impl WalkTask {
    /// Every operation, with its name.
    pub const ALL: [(&'static str, Self); 2] = [("bfs", Self::Bfs), ("parents", Self::Parents)];

    /// Its name, as the data set's `problem_type`.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, task)| *task == self);
        found.map_or("", |(name, _)| name)
    }
}

impl FromStr for WalkTask {
    type Err = EvalError;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, task)| *task).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name).join(", ");
            EvalError::settings(format!(
                "there is no operation {text:?}; operations: {names}"
            ))
        })
    }
}

/// A graph with a question.
#[derive(Debug, PartialEq)]
struct Walk {
    text: String,
    expected: Vec<String>,
}

impl GraphWalks {
    /// Ten graphs of both operations at each length, with seed 42 and answers of 160 tokens.
    pub fn new(lengths: Vec<usize>) -> Self {
        Self {
            tasks: WalkTask::ALL.map(|(_, task)| task).to_vec(),
            lengths,
            samples: 10,
            seed: 42,
            max_tokens: 160,
        }
    }

    /// The samples, operation by operation, the shortest length first.
    ///
    /// # Errors
    /// Lengths too short for the question.
    pub fn samples(&self, prompter: &Prompter) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for &task in &self.tasks {
            for &length in &self.lengths {
                for number in 0..self.samples {
                    samples.push(self.sample(prompter, task, length, number)?);
                }
            }
        }
        Ok(samples)
    }

    fn sample(
        &self,
        prompter: &Prompter,
        task: WalkTask,
        length: usize,
        number: usize,
    ) -> Result<Sample> {
        let seed = self
            .seed
            .wrapping_mul(1_000_003)
            .wrapping_add(number as u64);
        let limit = length.saturating_sub(self.max_tokens);
        let found = fit_units(limit, task.name(), 40, |units| {
            let walk = walk(task, units, &mut Random::new(seed));
            let tokens = prompter.tokens(&walk.text, "")?;
            Ok((walk.expected, tokens))
        })?;
        let expected = found.made;
        // A list of several may be told in many ways.
        let answer = match &*expected {
            [only] => {
                let start = if prompter.is_chat() { "" } else { "\n" };
                let lead = format!("{start}Final Answer: [");
                RightAnswer {
                    lead: prompter.continuation("", &lead)?,
                    tokens: prompter.continuation(&lead, only)?,
                }
            }
            _ => RightAnswer::default(),
        };
        let right = expected.clone();
        Ok(Sample {
            id: format!("{}/{length}/{number}", task.name()),
            tags: Tags::from([
                ("task".into(), task.name().into()),
                ("length".into(), length.into()),
            ]),
            context: length,
            ask: Ask::Answer {
                prompt: found.tokens,
                without_extension: None,
                max_tokens: self.max_tokens,
                stop: Vec::new(),
                expected,
                answer,
                score: Box::new(move |answer| node_f1(answer, &right)),
            },
        })
    }
}

/// A graph of at least eight nodes and a question about it that has an answer.
fn walk(task: WalkTask, units: usize, random: &mut Random) -> Walk {
    let nodes = units + MOST;
    let edges = edges(nodes, random);
    let depth = 1 + random.below(2) as usize;
    let asked = |node: usize| match task {
        WalkTask::Bfs => at_depth(&edges, nodes, node, depth),
        WalkTask::Parents => parents(&edges, node),
    };
    // Every node has three children, and as many edges end as begin: some node has an answer.
    let mut order: Vec<usize> = (0..nodes).collect();
    random.shuffle(&mut order);
    let found = order.iter().map(|&node| (node, asked(node)));
    let (node, right) = found
        .into_iter()
        .find(|(_, right)| (1..=MOST).contains(&right.len()))
        .unwrap_or_default();
    let names: Vec<String> = (0..nodes).map(|_| hash(random)).collect();
    let lines = edges
        .iter()
        .map(|&(from, to)| format!("{} -> {}\n", names[from], names[to]));
    let operation = match task {
        WalkTask::Bfs => format!(
            "Perform a BFS from node {} and return only the nodes at exactly depth {depth} (not nodes at intermediate depths).",
            names[node]
        ),
        WalkTask::Parents => format!("Find the parents of node {}.", names[node]),
    };
    Walk {
        text: format!(
            "{EXAMPLE}{}\nOperation:\n{operation}\n{END}",
            lines.collect::<String>()
        ),
        expected: right.into_iter().map(|n| names[n].clone()).collect(),
    }
}

/// Edges from each node to others, shuffled.
fn edges(nodes: usize, random: &mut Random) -> Vec<(usize, usize)> {
    let mut edges = Vec::with_capacity(nodes * EDGES);
    for from in 0..nodes {
        let mut targets = Vec::with_capacity(EDGES);
        while targets.len() < EDGES {
            let to = random.below(nodes as u64) as usize;
            if to != from && !targets.contains(&to) {
                targets.push(to);
            }
        }
        edges.extend(targets.into_iter().map(|to| (from, to)));
    }
    random.shuffle(&mut edges);
    edges
}

fn parents(edges: &[(usize, usize)], node: usize) -> Vec<usize> {
    let into = edges.iter().filter(|(_, to)| *to == node);
    into.map(|&(from, _)| from).collect()
}

/// The nodes whose shortest way from `start` has `depth` edges.
fn at_depth(edges: &[(usize, usize)], nodes: usize, start: usize, depth: usize) -> Vec<usize> {
    let mut seen = vec![false; nodes];
    seen[start] = true;
    let mut frontier = vec![start];
    for _ in 0..depth {
        let mut next = Vec::new();
        for &(from, to) in edges {
            if frontier.contains(&from) && !seen[to] {
                seen[to] = true;
                next.push(to);
            }
        }
        frontier = next;
    }
    frontier
}

/// Ten hexadecimal digits, as in the data set.
fn hash(random: &mut Random) -> String {
    format!("{:010x}", random.next() >> 24)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// From the text alone, node by node.
        #[test]
        fn answers_are_those_of_the_text(units in 0usize..200, seed: u64, bfs: bool) {
            let task = if bfs { WalkTask::Bfs } else { WalkTask::Parents };
            let made = walk(task, units, &mut Random::new(seed));
            prop_assert_eq!(&made, &walk(task, units, &mut Random::new(seed)));
            let graph = made.text.split("operate on:").nth(1).unwrap();
            let edges = graph.lines().filter_map(|line| line.split_once(" -> "));
            let mut children: HashMap<&str, HashSet<&str>> = HashMap::new();
            for (from, to) in edges {
                children.entry(from).or_default().insert(to);
            }
            prop_assert_eq!(children.len(), units + MOST);
            prop_assert!(children.values().all(|to| to.len() == EDGES));
            let operation = graph.split("Operation:\n").nth(1).unwrap().lines().next().unwrap();
            let node = operation.split("node ").nth(1).unwrap();
            let node = node.split([' ', '.']).next().unwrap();
            let expected: HashSet<&str> = if bfs {
                let first = &children[node];
                if operation.contains("depth 1 ") {
                    first.clone()
                } else {
                    let second = first.iter().flat_map(|child| &children[child]).copied();
                    second.filter(|it| *it != node && !first.contains(it)).collect()
                }
            } else {
                let parents = children.iter().filter(|(_, to)| to.contains(node));
                parents.map(|(from, _)| *from).collect()
            };
            let ours: HashSet<&str> = made.expected.iter().map(String::as_str).collect();
            prop_assert!((1..=MOST).contains(&ours.len()));
            prop_assert_eq!(ours, expected);
        }
    }
}
