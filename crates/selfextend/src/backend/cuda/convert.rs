//! What the engine and the device's crate both name.

use crate::backend::mixture::Mixture;
use crate::backend::no_such_router;
use crate::config::{self, Activation};
use crate::error::Result;
use selfextend_cuda::ops::Curve;
use selfextend_cuda::{Routing, Score};

pub(super) fn routing<E, V>(mixture: &Mixture<E, V>) -> Result<Routing> {
    let config::Routing {
        score,
        normalised,
        scale,
        groups,
        groups_used,
    } = mixture.routing;
    Ok(Routing {
        used: mixture.used,
        score: match score {
            config::Score::Softmax => Score::Softmax,
            config::Score::ChosenSoftmax => Score::ChosenSoftmax,
            config::Score::Sigmoid => Score::Sigmoid,
            config::Score::Nearest(_) => return Err(no_such_router()),
        },
        normalised,
        scale,
        groups,
        groups_used,
    })
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
