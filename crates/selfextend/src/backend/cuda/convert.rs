//! What the engine and the device's crate both name.

use crate::backend::mixture::Mixture;
use crate::config::{self, Activation};
use selfextend_cuda::ops::Curve;
use selfextend_cuda::{Routing, Score};

pub(super) fn routing<E, V>(mixture: &Mixture<E, V>) -> Routing {
    let config::Routing {
        score,
        normalised,
        scale,
        groups,
        groups_used,
    } = mixture.routing;
    Routing {
        used: mixture.used,
        score: match score {
            config::Score::Softmax => Score::Softmax,
            config::Score::ChosenSoftmax => Score::ChosenSoftmax,
            config::Score::Sigmoid => Score::Sigmoid,
        },
        normalised,
        scale,
        groups,
        groups_used,
    }
}

pub(super) fn curve(activation: Activation) -> Curve {
    match activation {
        Activation::Silu => Curve::Silu,
        Activation::Gelu => Curve::Gelu,
        Activation::GeluTanh => Curve::GeluTanh,
        Activation::GeluSigmoid => Curve::GeluSigmoid,
        Activation::Relu => Curve::Relu,
        Activation::ReluSquared => Curve::ReluSquared,
    }
}
