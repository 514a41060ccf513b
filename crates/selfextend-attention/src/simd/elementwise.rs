//! What happens to activations between the products: norms, gates, sums. Slices of any length.

use super::level::dispatch;
use super::vector::{Kernel, Simd, WIDTH};

/// `out = x / rms(x) * weight` for rows of `weight.len()`, where `rms = sqrt(mean(x^2) + eps)`.
///
/// # Panics
/// When the slices differ in length or are not whole rows.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == out.len() && x.len().is_multiple_of(weight.len().max(1)));
    dispatch(RmsNorm {
        x,
        weight,
        eps,
        out,
    });
}

/// `out = (x - mean) / deviation * weight + bias` for rows of `weight.len()`, where `deviation =
/// sqrt(variance + eps)`; an empty `bias` is none.
///
/// # Panics
/// When the slices differ in length or are not whole rows.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == out.len() && x.len().is_multiple_of(weight.len().max(1)));
    assert!(bias.is_empty() || bias.len() == weight.len());
    let width = weight.len();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
        out.iter_mut()
            .zip(x)
            .for_each(|(out, &x)| *out = (f64::from(x) - mean) as f32);
        let squares: f64 = out.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let scale = (squares / width as f64 + f64::from(eps)).sqrt().recip() as f32;
        out.iter_mut()
            .zip(weight)
            .for_each(|(out, weight)| *out *= scale * weight);
        out.iter_mut()
            .zip(bias)
            .for_each(|(out, bias)| *out += bias);
    }
}

/// An activation of the form `x / (1 + e^-u)` with `u = linear * x + cubic * x^3`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gate {
    linear: f32,
    cubic: f32,
}

impl Gate {
    /// `silu(x) = x / (1 + e^-x)`.
    pub const SILU: Self = Self {
        linear: 1.0,
        cubic: 0.0,
    };

    /// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))` (arXiv 1606.08415, section 2), because
    /// `(1 + tanh(v))/2 = 1 / (1 + e^-2v)`.
    pub const GELU_TANH: Self = Self {
        linear: 1.595_769,
        cubic: 0.044_715 * 1.595_769,
    };

    /// `x / (1 + e^-1.702x)` (arXiv 1606.08415, section 2).
    pub const GELU_SIGMOID: Self = Self {
        linear: 1.702,
        cubic: 0.0,
    };

    /// `gate = activation(gate) * up`.
    ///
    /// # Panics
    /// When the slices differ in length.
    pub fn gate(self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len());
        let (x, curve) = (gate, self);
        dispatch(Activate {
            x,
            up: Some(up),
            curve,
        });
    }

    /// `x = activation(x)`.
    pub fn activate(self, x: &mut [f32]) {
        let curve = self;
        dispatch(Activate { x, up: None, curve });
    }
}

/// `x += y`.
///
/// # Panics
/// When the slices differ in length.
pub fn add(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len());
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// The first 16 of some floats; those that do not exist are zero.
#[inline(always)]
fn load<S: Simd>(s: S, from: &[f32]) -> S::V {
    // SAFETY: 16 floats, of the slice or of the array.
    unsafe {
        if from.len() >= WIDTH {
            return s.load(from.as_ptr());
        }
        let mut some = [0.0; WIDTH];
        some[..from.len()].copy_from_slice(from);
        s.load(some.as_ptr())
    }
}

/// Writes a vector over the first 16 of some floats, or those that exist.
#[inline(always)]
fn store<S: Simd>(s: S, to: &mut [f32], v: S::V) {
    // SAFETY: 16 floats, of the slice or of the array.
    unsafe {
        if to.len() >= WIDTH {
            return s.store(to.as_mut_ptr(), v);
        }
        let mut all = [0.0; WIDTH];
        s.store(all.as_mut_ptr(), v);
        to.copy_from_slice(&all[..to.len()]);
    }
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            x,
            weight,
            eps,
            out,
        } = self;
        let width = weight.len();
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let mut squares = s.splat(0.0);
            for at in (0..width).step_by(WIDTH) {
                let x = load(s, &x[at..]);
                squares = s.fma(x, x, squares);
            }
            let scale = s.splat((s.sum(squares) / width as f32 + eps).sqrt().recip());
            for at in (0..width).step_by(WIDTH) {
                let scaled = s.mul(load(s, &x[at..]), scale);
                store(s, &mut out[at..], s.mul(scaled, load(s, &weight[at..])));
            }
        }
    }
}

struct Activate<'a> {
    x: &'a mut [f32],
    up: Option<&'a [f32]>,
    curve: Gate,
}

impl Kernel for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, up, curve } = self;
        let [zero, one] = [0.0, 1.0].map(|x| s.splat(x));
        let [linear, cubic] = [curve.linear, curve.cubic].map(|x| s.splat(x));
        for at in (0..x.len()).step_by(WIDTH) {
            let v = load(s, &x[at..]);
            // Beyond 100 the result is x itself: its cube must not overflow.
            let low = s.sub(zero, s.max(s.sub(zero, v), s.splat(-100.0)));
            let u = s.mul(low, s.fma(s.mul(low, low), cubic, linear));
            // Below -80 the result is zero to any precision that is left; exp2 ends at 2^127.
            let exponent = s.mul(s.max(u, s.splat(-80.0)), s.splat(-std::f32::consts::LOG2_E));
            let mut result = s.div(v, s.add(one, s.exp2(exponent)));
            if let Some(up) = up {
                result = s.mul(result, load(s, &up[at..]));
            }
            store(s, &mut x[at..], result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Level, dispatch_at};
    use proptest::prelude::*;

    /// Vectors of the same length, mostly not a multiple of 16.
    fn pair() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        (1usize..70).prop_flat_map(|n| {
            let floats = || prop::collection::vec(-30.0f32..30.0, n);
            (floats(), floats())
        })
    }

    fn close(actual: f32, exact: f64, relative: f64) -> bool {
        (f64::from(actual) - exact).abs() <= exact.abs() * relative + 1e-30
    }

    proptest! {
        #[test]
        fn gates_are_silu((gate, up) in pair()) {
            for level in Level::available() {
                let mut out = gate.clone();
                dispatch_at(level, Activate { x: &mut out, up: Some(&up), curve: Gate::SILU });
                for ((actual, x), up) in out.iter().zip(&gate).zip(&up) {
                    let x = f64::from(*x);
                    let exact = x / (1.0 + (-x).exp()) * f64::from(*up);
                    // The exponent is rounded once, in proportion to its size.
                    let rule = (8.0 + x.abs()) * f64::from(f32::EPSILON);
                    prop_assert!(close(*actual, exact, rule), "{level:?} {x}: {actual} {exact}");
                }
            }
        }

        #[test]
        fn activations_without_a_gate_are_gelu((x, _) in pair()) {
            for level in Level::available() {
                let mut out = x.clone();
                dispatch_at(level, Activate { x: &mut out, up: None, curve: Gate::GELU_TANH });
                for (actual, x) in out.iter().zip(&x) {
                    let x = f64::from(*x);
                    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                    let exact = x / (1.0 + (-2.0 * inner).exp());
                    let rule = (8.0 + 6.0 * inner.abs()) * f64::from(f32::EPSILON);
                    let zero = inner < -40.0 && actual.abs() < 1e-30;
                    prop_assert!(zero || close(*actual, exact, rule), "{level:?} {x}: {actual} {exact}");
                }
            }
        }

        #[test]
        fn gelu_by_a_sigmoid((x, _) in pair()) {
            for level in Level::available() {
                let mut out = x.clone();
                dispatch_at(level, Activate { x: &mut out, up: None, curve: Gate::GELU_SIGMOID });
                for (actual, x) in out.iter().zip(&x) {
                    let x = f64::from(*x);
                    let exact = x / (1.0 + (-1.702 * x).exp());
                    let rule = (8.0 + 2.0 * x.abs()) * f64::from(f32::EPSILON);
                    prop_assert!(close(*actual, exact, rule), "{level:?} {x}: {actual} {exact}");
                }
            }
        }

        #[test]
        fn layer_norms_have_the_mean_of_their_bias((x, weight) in pair()) {
            let mut out = vec![f32::NAN; x.len()];
            layer_norm(&x, &weight, &weight, 1e-5, &mut out);
            let n = x.len() as f64;
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
            let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
            for ((actual, x), weight) in out.iter().zip(&x).zip(&weight) {
                let centred = (f64::from(*x) - mean) / (variance + 1e-5).sqrt();
                let exact = (centred + 1.0) * f64::from(*weight);
                let error = (f64::from(*actual) - exact).abs();
                let size = (centred.abs() + 1.0) * f64::from(weight.abs());
                prop_assert!(error <= 1e-5 * size + 1e-30, "{actual} for {exact}");
            }
        }

        #[test]
        fn norms_divide_by_the_root_mean_square((x, weight) in pair()) {
            for level in Level::available() {
                let mut out = vec![f32::NAN; x.len()];
                dispatch_at(level, RmsNorm { x: &x, weight: &weight, eps: 1e-5, out: &mut out });
                let squares: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
                let rms = (squares / x.len() as f64 + 1e-5).sqrt();
                for ((actual, x), weight) in out.iter().zip(&x).zip(&weight) {
                    let exact = f64::from(*x) / rms * f64::from(*weight);
                    prop_assert!(close(*actual, exact, 20.0 * f64::from(f32::EPSILON)));
                }
            }
        }
    }

    #[test]
    fn gates_far_from_zero_stay_finite() {
        let mut gate = [f32::MAX, 1e4, -1e4, f32::MIN, 0.0, -0.0, -81.0];
        Gate::SILU.gate(&mut gate, &[1.0; 7]);
        assert_eq!(gate[0], f32::MAX);
        assert_eq!(gate[1], 1e4);
        assert!(gate[2..].iter().all(|x| x.abs() < 1e-29 || *x == gate[3]));
        assert!(gate[3].is_finite() && gate[3].abs() < 1e5);
    }
}
