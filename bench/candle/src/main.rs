//! Measures candle-transformers' quantized llama: one prefill of random tokens, then a decode.
//!
//! Usage: `candle-bench MODEL.gguf PREFILL_TOKENS DECODE_TOKENS`. Threads come from
//! RAYON_NUM_THREADS. Prints one line of JSON.

use candle_core::quantized::gguf_file;
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};
use std::error::Error;
use std::fs::File;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, prefill, decode] = arguments.as_slice() else {
        return Err("usage: candle-bench MODEL.gguf PREFILL_TOKENS DECODE_TOKENS".into());
    };
    let (prefill, decode): (usize, usize) = (prefill.parse()?, decode.parse()?);
    if prefill + decode > MAX_SEQ_LEN {
        return Err(format!("candle's quantized llama ends at {MAX_SEQ_LEN} tokens").into());
    }
    let device = Device::Cpu;
    let mut file = File::open(path)?;
    let content = gguf_file::Content::read(&mut file)?;
    let vocab = content.tensor_infos["token_embd.weight"].shape.dims()[0] as u64;
    let mut model = ModelWeights::from_gguf(content, &mut file, &device)?;

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
