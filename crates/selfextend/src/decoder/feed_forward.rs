//! Feed-forward layers, dense and sparse, and the linear layers that they consist of.

use super::weights::{Dense, Linear, Sparse};
use crate::backend::{Backend, Mixture};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::looks::Looks;

/// What a feed-forward layer works in.
pub(super) struct Buffers<'a, B: Backend> {
    pub gate: &'a mut B::Buffer,
    pub up: &'a mut B::Buffer,
    pub out: &'a mut B::Buffer,
    pub scratch: &'a mut B::Scratch,
}

/// `out = down · (activation(gate · x) * (up · x))`.
pub(super) fn dense<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    weights: &Dense<B>,
    x: &B::Buffer,
    to: Buffers<B>,
    looks: &Looks<B>,
) -> Result<()> {
    match &weights.gate {
        Some(gate) => {
            let both = [&mut *to.gate, &mut *to.up];
            linear(backend, x, [gate, &weights.up], both, to.scratch);
            backend.gate(to.gate, to.up, config.activation);
        }
        None => {
            linear(backend, x, [&weights.up], [&mut *to.gate], to.scratch);
            match weights.curve {
                Some(curve) => backend.xielu(to.gate, curve),
                None => backend.activate(to.gate, config.activation),
            }
        }
    }
    looks.at("the MLP (its activations)", to.gate)?;
    linear(backend, to.gate, [&weights.down], [to.out], to.scratch);
    Ok(())
}

/// The weighted sum of what each token's experts give, and what all tokens share.
pub(super) fn sparse<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    weights: &Sparse<B>,
    x: &B::Buffer,
    to: Buffers<B>,
    spare: &mut B::Buffer,
    looks: &Looks<B>,
) -> Result<()> {
    let Buffers {
        gate,
        up,
        out,
        scratch,
    } = to;
    linear(backend, x, [&weights.router], [&mut *gate], scratch);
    looks.at("the MLP (its router)", gate)?;
    let mixture = Mixture {
        experts: &weights.experts,
        choice_bias: weights.choice_bias.as_ref(),
        used: weights.used,
        routing: weights.routing,
        activation: config.activation,
        limit: weights.limit,
    };
    backend.mix(mixture, x, gate, out, scratch)?;
    looks.at("the MLP (its experts)", out)?;
    if let Some(shared) = &weights.shared {
        let to = Buffers {
            gate: &mut *gate,
            up,
            out: &mut *spare,
            scratch: &mut *scratch,
        };
        dense(backend, config, shared, x, to, looks)?;
        if let Some(switch) = &weights.shared_gate {
            linear(backend, x, [switch], [&mut *gate], scratch);
            backend.weigh(spare, gate)?;
        }
        backend.add(out, spare);
    }
    Ok(())
}

/// Linear layers that share their input, with their biases.
pub(super) fn linear<B: Backend, const N: usize>(
    backend: &B,
    x: &B::Buffer,
    layers: [&Linear<B>; N],
    mut out: [&mut B::Buffer; N],
    scratch: &mut B::Scratch,
) {
    let to = out.each_mut().map(|out| &mut **out);
    backend.linear(x, layers.map(|layer| &layer.weight), to, scratch);
    for (out, layer) in out.into_iter().zip(layers) {
        if let Some(bias) = &layer.bias {
            backend.add_bias(out, bias);
        }
    }
}
