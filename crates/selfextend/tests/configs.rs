//! Random configurations of every family, in the spellings of two versions of `transformers`, against
//! the logits that these compute: see tools/make_configs.py, which wrote the cases.

mod common;

use selfextend::{KvType, LoadOptions, Model, PositionMap};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The tokens, and the rows of logits that a case has, as the script's.
const TOKENS: usize = 72;
const ROWS: [usize; 2] = [40, TOKENS - 1];
const VOCAB: usize = 61;

/// The script's rule for the numbers of a tensor.
fn weights(name: &str, count: usize) -> impl Iterator<Item = f32> {
    let hash = |seed: u64, byte: u8| (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325, hash);
    (0..count as u64).map(move |n| {
        let x = n.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed);
        let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let x = x ^ (x >> 31);
        ((x >> 41) as f64 / f64::from(1 << 24) - 0.25) as f32
    })
}

/// Writes config.json and model.safetensors of a case.
fn write(folder: &Path, case: &Value) {
    std::fs::write(folder.join("config.json"), case["config"].as_str().unwrap()).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in case["shapes"].as_object().unwrap() {
        let sizes = shape.as_array().unwrap().iter();
        let count = sizes.map(|n| n.as_u64().unwrap() as usize).product();
        let from = data.len();
        data.extend(weights(name, count).flat_map(f32::to_le_bytes));
        let offsets = [from, data.len()];
        let tensor = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": offsets});
        header.insert(name.clone(), tensor);
    }
    let header = Value::Object(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    let file = [&length[..], header.as_bytes(), &data].concat();
    std::fs::write(folder.join("model.safetensors"), file).unwrap();
}

/// How far the logits of a case are off, of the largest; or why the model is refused.
fn difference(case: &Value) -> Result<f32, String> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), case);
    let options = LoadOptions::new().with_threads(1);
    let model = Model::load(folder.path(), options).map_err(|error| error.to_string())?;
    let ids: Vec<u32> = (0..TOKENS as u32)
        .map(|n| (n * 7919 + 13) % VOCAB as u32)
        .collect();
    let mut options = common::options(&model, PositionMap::Plain, KvType::F32, 31);
    options.extension = options.extension.with_context(TOKENS);
    let mut session = model.session(options).map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    let visit = |n: usize, row: &[f32]| {
        if ROWS.contains(&n) {
            rows.extend_from_slice(row);
        }
    };
    session
        .append_all(&ids, visit)
        .map_err(|error| error.to_string())?;
    let expected = case["logits"].as_array().unwrap().iter();
    let expected = expected.flat_map(|row| row.as_array().unwrap());
    let expected: Vec<f32> = expected.map(|x| x.as_f64().unwrap() as f32).collect();
    assert_eq!(rows.len(), expected.len());
    let worst = rows.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let largest = expected.iter().fold(1f32, |a, b| a.max(b.abs()));
    Ok(worst.fold(0.0, f32::max) / largest)
}

/// Checks cases, one in a line.
fn check(cases: &str) -> (usize, BTreeMap<String, usize>) {
    let (mut right, mut wrong, mut refused) = (0, Vec::new(), BTreeMap::new());
    for case in cases.lines() {
        let case: Value = serde_json::from_str(case).unwrap();
        match difference(&case) {
            Ok(difference) if difference < 4e-5 => right += 1,
            Ok(difference) => wrong.push(format!("off by {difference}: {}", case["config"])),
            Err(error) => {
                let reason = error.split_once(": ").map_or(&*error, |(_, reason)| reason);
                *refused.entry(reason.to_owned()).or_default() += 1;
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    (right, refused)
}

#[test]
fn random_configurations_give_the_logits_of_transformers() {
    let (right, refused) = check(include_str!("configs.jsonl"));
    assert!(right == 74, "{right} right, refused: {refused:#?}");
    assert!(refused.is_empty(), "{refused:#?}");
}

/// More of them, from a file that the script wrote.
#[test]
fn cases_of_a_file_give_the_logits_of_transformers() {
    let Some(path) = std::env::var_os("SELFEXTEND_CONFIG_CASES") else {
        eprintln!("skipped: SELFEXTEND_CONFIG_CASES names no file");
        return;
    };
    let (right, refused) = check(&std::fs::read_to_string(path).unwrap());
    eprintln!("{right} right, refused: {refused:#?}");
}
