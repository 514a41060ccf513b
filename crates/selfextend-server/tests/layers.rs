//! Models whose layers differ from Llama's: sliding windows, and rotary embeddings for short texts.

mod common;

use common::{Running, checkpoint, config, load_options, start_with};
use selfextend::{Extension, KvType, Method, Model, PositionMap, SessionOptions};
use selfextend_server::{DiskCacheConfig, ServerConfig};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tokens of the tiny checkpoints.
const VOCAB: usize = 61;

fn ids(seed: usize, len: usize) -> Vec<usize> {
    (0..len)
        .map(|i| 3 + (i * i * 7 + i / 5 + seed * 13) % (VOCAB - 3))
        .collect()
}

fn ask(server: &Running, prompt: &[usize], max_tokens: usize) -> (Value, usize) {
    let body = json!({
        "prompt": prompt, "max_tokens": max_tokens, "seed": 1, "logprobs": 1,
        "logit_bias": {"1": -100, "2": -100},
    });
    let reply = server.complete(&body);
    assert_eq!(reply.status, 200, "{reply:?}");
    let details = &reply.body["usage"]["prompt_tokens_details"];
    let cached = details["cached_tokens"].as_u64().unwrap() as usize;
    (reply.body["choices"][0]["logprobs"].clone(), cached)
}

/// Gemma 3 has local layers first, Mistral in every layer; both free pages while a prompt is read.
/// Its blocks are found again all the same, and give the same numbers.
#[test]
fn prompts_of_models_with_sliding_windows_are_cached() {
    for family in ["gemma3", "mistral", "gemma2"] {
        let text = Arc::new(checkpoint(
            family,
            load_options().with_keep_sliding_window(true),
        ));
        let mut chunked = config();
        chunked.scheduler.chunk = 1000;
        let server = start_with(chunked, text.clone());
        let (first, cached) = ask(&server, &ids(1, 700), 30);
        assert_eq!(cached, 0, "{family}");
        let (again, cached) = ask(&server, &ids(1, 700), 30);
        assert!(cached >= 690, "{family}: {cached}");
        assert_eq!(first, again, "{family}");
        // Another end: the blocks before it are of use too.
        let mut other = ids(1, 700);
        other[600..].reverse();
        let (answer, cached) = ask(&server, &other, 30);
        assert!((512..=600).contains(&cached), "{family}: {cached}");
        let fresh = start_with(config(), text);
        assert_eq!(ask(&fresh, &other, 30).0, answer, "{family}");
    }
}

/// Blocks that a sequence holds in some layers only are not evicted for others: the memory stays
/// within its budget, and everyone is served.
#[test]
fn memory_stays_within_its_budget_where_pages_are_freed() {
    let text = Arc::new(checkpoint("gemma3", load_options()));
    let full = {
        let server = start_with(config(), text.clone());
        ask(&server, &ids(0, 1000), 2);
        server.get("/ready").body["kv_bytes"].as_u64().unwrap()
    };
    let mut config = config();
    // One full context and a half.
    config.scheduler.kv_memory = (full + full / 2) as usize;
    let budget = config.scheduler.kv_memory as u64;
    let server = start_with(config, text);
    std::thread::scope(|scope| {
        let server = &server;
        let asked: Vec<_> = (0..10)
            .map(|n| scope.spawn(move || ask(server, &ids(n % 4, [300, 700, 40, 560][n % 4]), 60)))
            .collect();
        while asked.iter().any(|asked| !asked.is_finished()) {
            let state = server.get("/ready").body;
            assert!(state["kv_bytes"].as_u64().unwrap() <= budget, "{state}");
            std::thread::sleep(Duration::from_millis(2));
        }
        asked
            .into_iter()
            .for_each(|asked| drop(asked.join().unwrap()));
    });
}

fn kept(dir: &Path, text: &Arc<selfextend::TextModel>) -> Running {
    let mut config: ServerConfig = config();
    let mut disk = DiskCacheConfig::new(dir, "model");
    disk.least_tokens = 16;
    config.disk = Some(disk);
    start_with(config, text.clone())
}

fn files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().path());
    names
        .filter(|path| path.extension().is_some_and(|it| it == "kv"))
        .count()
}

/// A model that keeps its sliding window under a map computes other keys than one that does not.
#[test]
fn prefixes_on_disk_belong_to_all_that_changes_keys() {
    let dir = tempfile::tempdir().unwrap();
    let dropped = Arc::new(checkpoint("mistral", load_options()));
    let window = load_options().with_keep_sliding_window(true);
    let window = Arc::new(checkpoint("mistral", window));
    let prompt = ids(2, 300);
    let expected = ask(&start_with(config(), window.clone()), &prompt, 20).0;
    {
        let server = kept(dir.path(), &dropped);
        let (other, _) = ask(&server, &prompt, 20);
        assert_ne!(other, expected);
        let begun = Instant::now();
        while files(dir.path()) < 2 {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let (answer, cached) = ask(&kept(dir.path(), &window), &prompt, 20);
    assert_eq!((answer, cached), (expected, 0));
    let (_, cached) = ask(&kept(dir.path(), &dropped), &prompt, 20);
    assert!(cached > 250, "{cached}");
}

fn identity(model: &Model, extension: Extension) -> String {
    model
        .block_identity(&SessionOptions::new(extension))
        .unwrap()
}

#[test]
fn identities_differ_where_keys_do() {
    let model = |family: &str| checkpoint(family, load_options()).model;
    let plain = |context| Extension::plain(96, context);
    let llama = model("llama");
    let base = identity(&llama, plain(96));
    // The context alone changes nothing, unless a rotary embedding depends on it.
    assert_eq!(base, identity(&llama, plain(48)));
    let longrope = model("phi3.5");
    assert_ne!(
        identity(&longrope, plain(24)),
        identity(&longrope, plain(25))
    );
    assert_eq!(
        identity(&longrope, plain(25)),
        identity(&longrope, plain(96))
    );
    let of_method = |method: &str| {
        let method: Method = method.parse().unwrap();
        identity(&llama, method.resolve(96, 384).unwrap())
    };
    let others = [
        "selfextend:G=8,W=24",
        "selfextend:G=9,W=24",
        "selfextend:G=8,W=16",
        "yarn",
        "ntk",
        "pi",
        "rerope:W=24",
        "streaming-llm",
    ];
    let mut all: Vec<String> = others.into_iter().map(of_method).collect();
    all.push(base);
    let options = SessionOptions::new(plain(96));
    for kv_type in [KvType::F32, KvType::Q8_0, KvType::Q4] {
        let options = options.clone().with_kv_type(kv_type);
        all.push(llama.block_identity(&options).unwrap());
    }
    let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    // A window that every layer has is dropped under a map, unless it is kept.
    let extended = Extension::from_map(PositionMap::self_extend(8, 24).unwrap(), 96, 384);
    let window = checkpoint("mistral", load_options().with_keep_sliding_window(true)).model;
    let mistral = model("mistral");
    assert_ne!(
        identity(&mistral, extended.clone()),
        identity(&window, extended)
    );
    assert_eq!(identity(&mistral, plain(96)), identity(&window, plain(96)));
}
