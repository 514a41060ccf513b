//! How the parameters of some methods become what they change.

use super::change::{At, Change, changed};
use super::error::MethodError;
use super::parameter::Parameters;
use selfextend_attention::position::{DimensionWise, Logistic};
use selfextend_attention::rope::{Factors, MixedRadix, RadixGrowth, Ramp, Yarn};
use selfextend_attention::{Frequencies, PositionMap};

pub(super) fn yarn(given: &Parameters, at: At) -> Result<Change, MethodError> {
    let mut yarn = Yarn::new(given.number("s").unwrap_or(at.times()), at.trained);
    (yarn.slow, yarn.fast) = rotations("yarn", given, (yarn.slow, yarn.fast))?;
    if given.word("ramp") == Some("rotations") {
        yarn.ramp = Ramp::Rotations;
    }
    Ok(changed(Frequencies::Yarn(yarn)))
}

pub(super) fn mrrope(given: &Parameters, at: At) -> Result<Change, MethodError> {
    let factor = given.number("s").unwrap_or(at.times());
    let mut radix = MixedRadix::new(factor, at.trained);
    (radix.slow, radix.fast) = rotations("mrrope", given, (radix.slow, radix.fast))?;
    if given.word("growth") == Some("uniform") {
        radix.growth = RadixGrowth::Uniform;
    }
    Ok(changed(Frequencies::MixedRadix(radix)))
}

/// The rotations below which a pair is interpolated, and above which it is kept.
fn rotations(
    method: &str,
    given: &Parameters,
    (slow, fast): (f64, f64),
) -> Result<(f64, f64), MethodError> {
    let slow = given.number("alpha").unwrap_or(slow);
    let fast = given.number("beta").unwrap_or(fast);
    if slow > 0.0 && slow < fast {
        return Ok((slow, fast));
    }
    Err(MethodError::Parameters {
        method: method.into(),
        reason: format!("alpha {slow} must be above 0 and below beta {fast}"),
    })
}

/// The two forms of a file of factors.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum FactorFile {
    List(Vec<f32>),
    Named { long_factor: Vec<f32> },
}

pub(super) fn longrope(given: &Parameters, at: At) -> Result<Change, MethodError> {
    let bad = |reason: String| MethodError::Parameters {
        method: "longrope".into(),
        reason,
    };
    let path = given.word("factors").ok_or_else(|| {
        bad("factors=FILE is needed: a JSON array with a number for each pair".into())
    })?;
    let text = std::fs::read_to_string(path)
        .map_err(|error| bad(format!("cannot read {path}: {error}")))?;
    let factors = match serde_json::from_str(&text) {
        Ok(
            FactorFile::List(factors)
            | FactorFile::Named {
                long_factor: factors,
            },
        ) => factors,
        Err(_) => {
            return Err(bad(format!(
                "{path} is neither a JSON array of numbers nor an object with long_factor"
            )));
        }
    };
    let factor = given.number("s").unwrap_or(at.times());
    let magnitude = Factors::magnitude_for(factor, at.trained);
    let factors = Factors::new(&factors, magnitude)?;
    Ok(changed(Frequencies::Factors(factors)))
}

/// The authors' window of 1024 is an eighth of the smallest window that they extend.
pub(super) fn dpe(given: &Parameters, at: At) -> Result<Change, MethodError> {
    let scales = given
        .numbers("scales")
        .ok_or_else(|| MethodError::Parameters {
            method: "dpe".into(),
            reason:
                "scales=S-S-... is needed: a group size for each band of pairs, found for the model"
                    .into(),
        })?;
    let window = given.tokens("W").unwrap_or((at.trained / 8).clamp(1, 1024));
    Ok(DimensionWise::new(window, &scales)?.into())
}

/// The authors' capacity where it reaches the context, else the smallest power of two (and one) times
/// 32 that does.
pub(super) fn logistic(given: &Parameters, at: At) -> Result<Change, MethodError> {
    let rate = given
        .number("r")
        .unwrap_or(Logistic::default_rate(at.trained));
    let window = given.tokens("W").unwrap_or((at.trained / 4).max(1));
    let map = |capacity| Logistic::new(capacity, rate, window).map(PositionMap::from);
    if let Some(capacity) = given.tokens("C") {
        return Ok(map(capacity)?.into());
    }
    let mut capacity = 33;
    let fits = |map: PositionMap| {
        map.reach(at.trained)
            .is_none_or(|reach| reach >= at.context)
    };
    while !fits(map(capacity)?) && capacity < 1 << 15 {
        capacity = 2 * capacity - 1;
    }
    Ok(map(capacity)?.into())
}
