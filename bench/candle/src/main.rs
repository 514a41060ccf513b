//! Measures candle-transformers' quantized models: one prefill of random tokens, then a decode.
//!
//! Usage: `candle-bench MODEL.gguf PREFILL_TOKENS DECODE_TOKENS`. Threads come from
//! RAYON_NUM_THREADS. Prints one line of JSON: the speeds, or `{"cannot":REASON}`.

use candle_core::quantized::gguf_file;
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen2};
use std::error::Error;
use std::fs::File;
use std::time::Instant;

/// The models that candle reads from a GGUF file of these architectures.
enum Model {
    Llama(quantized_llama::ModelWeights),
    Qwen2(quantized_qwen2::ModelWeights),
}

impl Model {
    fn forward(&mut self, input: &Tensor, position: usize) -> candle_core::Result<Tensor> {
        match self {
            Self::Llama(model) => model.forward(input, position),
            Self::Qwen2(model) => model.forward(input, position),
        }
    }
}

/// The longest text of an architecture; nothing for those that are not read here.
fn longest(content: &gguf_file::Content, architecture: &str) -> Option<usize> {
    match architecture {
        "llama" => Some(quantized_llama::MAX_SEQ_LEN),
        "qwen2" => {
            let length = content.metadata.get("qwen2.context_length")?;
            Some(length.to_u32().ok()? as usize)
        }
        _ => None,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, prefill, decode] = arguments.as_slice() else {
        return Err("usage: candle-bench MODEL.gguf PREFILL_TOKENS DECODE_TOKENS".into());
    };
    let (prefill, decode): (usize, usize) = (prefill.parse()?, decode.parse()?);
    let device = Device::Cpu;
    let mut file = File::open(path)?;
    let content = gguf_file::Content::read(&mut file)?;
    let architecture = content.metadata.get("general.architecture");
    let architecture = architecture.ok_or("the file names no architecture")?;
    let architecture = architecture.to_string()?.clone();
    let Some(longest) = longest(&content, &architecture) else {
        println!("{{\"cannot\":\"candle-bench does not run {}\"}}", architecture.escape_default());
        return Ok(());
    };
    if prefill + decode > longest {
        println!("{{\"cannot\":\"candle ends at {longest} tokens with this file\"}}");
        return Ok(());
    }
    let vocab = content.tensor_infos["token_embd.weight"].shape.dims()[0] as u64;
    let mut model = if architecture == "qwen2" {
        let model = quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &device)?;
        Model::Qwen2(model)
    } else {
        let model = quantized_llama::ModelWeights::from_gguf(content, &mut file, &device)?;
        Model::Llama(model)
    };

    let mut random = 1u64;
    let mut token = || {
        // Knuth's constants; the high bits are the random ones.
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((random >> 33) % vocab) as u32
    };
    let mut next = token();
    let mut prefill_tok_s = None;
    if prefill > 0 {
        let tokens: Vec<u32> = (0..prefill).map(|_| token()).collect();
        let start = Instant::now();
        let input = Tensor::new(tokens, &device)?.unsqueeze(0)?;
        next = most_probable(&model.forward(&input, 0)?)?;
        prefill_tok_s = Some(prefill as f64 / start.elapsed().as_secs_f64());
    }
    let start = Instant::now();
    for position in prefill..prefill + decode {
        let input = Tensor::new(&[next], &device)?.unsqueeze(0)?;
        next = most_probable(&model.forward(&input, position)?)?;
    }
    let decode_tok_s = (decode > 0).then(|| decode as f64 / start.elapsed().as_secs_f64());
    println!(
        "{{\"prefill_tok_s\":{},\"decode_tok_s\":{}}}",
        json(prefill_tok_s),
        json(decode_tok_s)
    );
    Ok(())
}

/// Reading the answer also makes sure that it has been computed.
fn most_probable(logits: &Tensor) -> candle_core::Result<u32> {
    let logits = logits.to_dtype(DType::F32)?.flatten_all()?;
    logits.argmax(0)?.to_scalar()
}

fn json(number: Option<f64>) -> String {
    number.map_or("null".to_owned(), |number| format!("{number:.3}"))
}
