//! What rounded activations cost: `divergence MODEL TEXT.txt TOKENS [fast]` runs the first tokens of a
//! text with float32 weights (the command line's `--linear f32`) and with activations rounded to 15
//! bits, or to 8 (`--linear fast`), and prints how far apart the two distributions of the next token
//! are, as Kullback-Leibler divergence in nats.

use selfextend::{
    ContextRequest, KvType, LinearMode, LoadOptions, Session, SessionOptions, TextModel,
};

type Failure = Box<dyn std::error::Error>;

/// Tokens of a pass: their logits are held twice.
const PASS: usize = 256;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, text, tokens, linear) = match &arguments[..] {
        [model, text, tokens] => (model, text, tokens, LinearMode::Rounded),
        [model, text, tokens, fast] if fast == "fast" => (model, text, tokens, LinearMode::Fast),
        _ => return Err("usage: divergence MODEL TEXT.txt TOKENS [fast]".into()),
    };
    let load = |linear| TextModel::load(model, LoadOptions::default().with_linear(linear));
    let (exact, rounded) = (load(LinearMode::F32)?, load(linear)?);
    let mut ids = exact.encode(&std::fs::read_to_string(text)?)?;
    ids.truncate(tokens.parse()?);
    let mut exact = session(&exact, ids.len())?;
    let mut rounded = session(&rounded, ids.len())?;
    let mut all = Vec::new();
    let mut agreed = 0;
    for ids in ids.chunks(PASS) {
        let (p, q) = (rows(&mut exact, ids)?, rows(&mut rounded, ids)?);
        for (p, q) in p.iter().zip(&q) {
            all.push(divergence(p, q));
            agreed += usize::from(largest(p) == largest(q));
        }
        eprint!("\r{} of {} tokens", all.len(), tokens);
    }
    all.sort_by(f64::total_cmp);
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
    println!(
        "\r{} tokens: mean {mean:.2e}, median {:.2e}, 99% below {:.2e}, largest {:.2e}; the same \
         likeliest token at {agreed}",
        all.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

fn session(model: &TextModel, needed: usize) -> Result<Session, Failure> {
    let request = ContextRequest::new().with_needed(needed);
    let extension = request.resolve(model.model.config().trained_window)?;
    let options = SessionOptions::new(extension).with_kv_type(KvType::F32);
    Ok(model.model.session(options)?)
}

fn rows(session: &mut Session, ids: &[u32]) -> Result<Vec<Vec<f32>>, Failure> {
    let mut rows = Vec::with_capacity(ids.len());
    session.append_all(ids, |_, row| rows.push(row.to_vec()))?;
    Ok(rows)
}

/// `sum of p * (log p - log q)`.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let (log_p, log_q) = (log_sum(p), log_sum(q));
    let logs = p.iter().zip(q).map(|(&p, &q)| {
        let (p, q) = (f64::from(p) - log_p, f64::from(q) - log_q);
        p.exp() * (p - q)
    });
    logs.sum()
}

fn log_sum(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - most).exp()).sum();
    f64::from(most) + sum.ln()
}

fn largest(logits: &[f32]) -> Option<usize> {
    let pairs = logits.iter().enumerate();
    pairs.max_by(|a, b| a.1.total_cmp(b.1)).map(|(n, _)| n)
}
