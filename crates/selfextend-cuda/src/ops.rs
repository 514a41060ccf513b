//! The operations of a decoder between attention and linear layers (`linear.rs`): norms, gates, sums,
//! on activations in f32.

use crate::device::{Device, Launch};
use crate::element::Element;
use crate::error::CudaError;
use crate::expert_kernels::ExpertKernels;
use crate::launch::{Blas, FEW_ROWS, Grid, Value};
use crate::matrix::LinearKernels;
pub use crate::memory::Buffer;
use cudarc::driver::{CudaFunction, CudaSlice, DevicePtr};
use std::marker::PhantomData;

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// `x / (1 + e^-x)`.
    Silu,
    /// `x * Phi(x)`, with the error function.
    Gelu,
    /// `x * Phi(x)` by its approximation with a hyperbolic tangent.
    GeluTanh,
    /// `x / (1 + e^-1.702x)`.
    GeluSigmoid,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)^2`.
    ReluSquared,
}

/// The operations, for weights of one type.
#[derive(Debug)]
pub struct Ops<T> {
    pub(crate) device: Device,
    pub(crate) blas: Blas,
    pub(crate) linear: LinearKernels,
    pub(crate) experts: ExpertKernels,
    rms_norm: CudaFunction,
    layer_norm: CudaFunction,
    curves: [[CudaFunction; 2]; 6],
    xielu: CudaFunction,
    scale: CudaFunction,
    clamp: CudaFunction,
    soft_cap: CudaFunction,
    add: CudaFunction,
    add_bias: CudaFunction,
    multiply: CudaFunction,
    score_rows: CudaFunction,
    weigh: CudaFunction,
    pub(crate) take_rows: CudaFunction,
    pub(crate) take_narrow: CudaFunction,
    to_narrow: CudaFunction,
    from_narrow: CudaFunction,
    element: PhantomData<T>,
}

/// Threads of a block that takes elements or a row.
pub(crate) const THREADS: usize = 256;
/// Blocks of a launch in its second dimension.
pub(crate) const MOST_BLOCKS: usize = 65_535;

impl<T: Element> Ops<T> {
    /// Loads the kernels and cuBLAS.
    ///
    /// # Errors
    /// No cuBLAS library, or the driver's.
    pub fn new(device: &Device) -> Result<Self, CudaError> {
        let kernel = |name: &str| device.ops().load_function(name);
        Ok(Self {
            blas: Blas::new(device.stream())?,
            linear: LinearKernels::new::<T>(device)?,
            experts: ExpertKernels::new::<T>(device)?,
            rms_norm: kernel("rms_norm")?,
            layer_norm: kernel("layer_norm")?,
            curves: [
                [kernel("silu_alone")?, kernel("silu_gate")?],
                [kernel("gelu_alone")?, kernel("gelu_gate")?],
                [kernel("gelu_tanh_alone")?, kernel("gelu_tanh_gate")?],
                [kernel("gelu_sigmoid_alone")?, kernel("gelu_sigmoid_gate")?],
                [kernel("relu_alone")?, kernel("relu_gate")?],
                [kernel("relu_squared_alone")?, kernel("relu_squared_gate")?],
            ],
            xielu: kernel("xielu")?,
            scale: kernel("scale")?,
            clamp: kernel("clamp")?,
            soft_cap: kernel("soft_cap")?,
            add: kernel("add")?,
            add_bias: kernel("add_bias")?,
            multiply: kernel("multiply")?,
            score_rows: kernel("score_rows")?,
            weigh: kernel("weigh")?,
            take_rows: kernel("take_rows")?,
            take_narrow: kernel(&format!("take_{}", T::NAME))?,
            to_narrow: kernel(&format!("to_{}", T::NAME))?,
            from_narrow: kernel(&format!("from_{}", T::NAME))?,
            device: device.clone(),
            element: PhantomData,
        })
    }

    /// `out[t] = x[t] / rms(x[t]) * weight`.
    ///
    /// # Errors
    /// Rows that `weight` does not fit, or the driver's.
    pub fn rms_norm(
        &self,
        x: &Buffer<f32>,
        weight: &CudaSlice<f32>,
        eps: f32,
        out: &mut Buffer<f32>,
    ) -> Result<(), CudaError> {
        let rows = rows(x.len(), weight.len())?;
        out.resize(&self.device, x.len())?;
        self.launch(
            &self.rms_norm,
            [rows, THREADS],
            &[
                self.at(x.slice()?),
                self.at(weight),
                self.at(out.slice()?),
                Value::Int(weight.len() as i32),
                Value::Float(eps),
            ],
        )
    }

    /// `out[t] = (x[t] - mean) / deviation * weight + bias`, the deviation `sqrt(variance + eps)`.
    ///
    /// # Errors
    /// Rows that `weight` and `bias` do not fit, or the driver's.
    pub fn layer_norm(
        &self,
        x: &Buffer<f32>,
        weight: &CudaSlice<f32>,
        bias: Option<&CudaSlice<f32>>,
        eps: f32,
        out: &mut Buffer<f32>,
    ) -> Result<(), CudaError> {
        let rows = rows(x.len(), weight.len())?;
        if bias.is_some_and(|bias| bias.len() != weight.len()) {
            return Err(CudaError::Shape("a norm's bias is not its width".into()));
        }
        out.resize(&self.device, x.len())?;
        self.launch(
            &self.layer_norm,
            [rows, THREADS],
            &[
                self.at(x.slice()?),
                self.at(weight),
                bias.map_or(Value::Pointer(0), |bias| self.at(bias)),
                self.at(out.slice()?),
                Value::Int(weight.len() as i32),
                Value::Float(eps),
            ],
        )
    }

    /// `gate = curve(gate) * up`.
    ///
    /// # Errors
    /// Lengths that differ, or the driver's.
    pub fn gate(
        &self,
        curve: Curve,
        gate: &mut Buffer<f32>,
        up: &Buffer<f32>,
    ) -> Result<(), CudaError> {
        self.pairwise(&self.curves[curve as usize][1], gate, up)
    }

    /// `x = curve(x)`.
    ///
    /// # Errors
    /// The driver's.
    pub fn activate(&self, curve: Curve, x: &mut Buffer<f32>) -> Result<(), CudaError> {
        let values = [self.at(x.slice()?), Value::Len(x.len() as u64)];
        self.by_elements(&self.curves[curve as usize][0], x.len(), &values)
    }

    /// xIELU: `positive x^2 + beta x` above 0, `negative (e^min(x, epsilon) - 1 - x) + beta x` below,
    /// for `[positive, negative, beta, epsilon]`.
    ///
    /// # Errors
    /// The driver's.
    pub fn xielu(&self, x: &mut Buffer<f32>, curve: [f32; 4]) -> Result<(), CudaError> {
        let [positive, negative, beta, epsilon] = curve.map(Value::Float);
        let (at, len) = (self.at(x.slice()?), Value::Len(x.len() as u64));
        let values = [at, positive, negative, beta, epsilon, len];
        self.by_elements(&self.xielu, x.len(), &values)
    }

    /// `x *= factor`.
    ///
    /// # Errors
    /// The driver's.
    pub fn scale(&self, x: &mut Buffer<f32>, factor: f32) -> Result<(), CudaError> {
        self.with_number(&self.scale, x, factor)
    }

    /// `x = max(-limit, min(x, limit))`.
    ///
    /// # Errors
    /// The driver's.
    pub fn clamp(&self, x: &mut Buffer<f32>, limit: f32) -> Result<(), CudaError> {
        self.with_number(&self.clamp, x, limit)
    }

    /// `x = cap * tanh(x / cap)`.
    ///
    /// # Errors
    /// The driver's.
    pub fn soft_cap(&self, x: &mut Buffer<f32>, cap: f32) -> Result<(), CudaError> {
        self.with_number(&self.soft_cap, x, cap)
    }

    /// `x += y`.
    ///
    /// # Errors
    /// Lengths that differ, or the driver's.
    pub fn add(&self, x: &mut Buffer<f32>, y: &Buffer<f32>) -> Result<(), CudaError> {
        self.pairwise(&self.add, x, y)
    }

    /// `x[t] += bias`.
    ///
    /// # Errors
    /// Rows that `bias` does not fit, or the driver's.
    pub fn add_bias(&self, x: &mut Buffer<f32>, bias: &CudaSlice<f32>) -> Result<(), CudaError> {
        self.by_rows(&self.add_bias, x, bias)
    }

    /// `x[t] *= weights`.
    ///
    /// # Errors
    /// Rows that `weights` does not fit, or the driver's.
    pub fn multiply(&self, x: &mut Buffer<f32>, weights: &CudaSlice<f32>) -> Result<(), CudaError> {
        self.by_rows(&self.multiply, x, weights)
    }

    /// `x[t] *= 1 / (1 + e^-gate[t])`, a number for each row.
    ///
    /// # Errors
    /// Numbers that `gate` does not divide into rows, or the driver's.
    pub fn weigh(&self, x: &mut Buffer<f32>, gate: &Buffer<f32>) -> Result<(), CudaError> {
        let (len, width) = (x.len(), rows(x.len(), gate.len())?);
        let values = [
            self.at(x.slice()?),
            self.at(gate.slice()?),
            Value::Int(width as i32),
            Value::Len(len as u64),
        ];
        self.by_elements(&self.weigh, len, &values)
    }

    fn by_rows(
        &self,
        kernel: &CudaFunction,
        x: &mut Buffer<f32>,
        row: &CudaSlice<f32>,
    ) -> Result<(), CudaError> {
        rows(x.len(), row.len())?;
        let len = x.len();
        let values = [
            self.at(x.slice()?),
            self.at(row),
            Value::Int(row.len() as i32),
            Value::Len(len as u64),
        ];
        self.by_elements(kernel, len, &values)
    }

    /// `out[i] = x[rows[i]]`, rows of `width`.
    ///
    /// # Errors
    /// Rows that are not there, or the driver's.
    pub fn take_rows(
        &self,
        x: &Buffer<f32>,
        width: usize,
        wanted: &[u32],
        out: &mut Buffer<f32>,
    ) -> Result<(), CudaError> {
        let there = rows(x.len(), width)?;
        let from = [self.at(x.slice()?)];
        self.take(&self.take_rows, &from, [there, width], wanted, out)
    }

    /// Rounds activations to the type of the weights: what [`Ops::product`] multiplies.
    ///
    /// # Errors
    /// The driver's.
    pub fn narrow(&self, x: &Buffer<f32>, out: &mut Buffer<T>) -> Result<(), CudaError> {
        out.resize(&self.device, x.len())?;
        let values = [
            self.at(x.slice()?),
            self.at(out.slice()?),
            Value::Len(x.len() as u64),
        ];
        self.by_elements(&self.to_narrow, x.len(), &values)
    }

    /// The first `width` of every `pitch` numbers as f32, `rows` times.
    ///
    /// # Errors
    /// Fewer numbers than that, or the driver's.
    pub fn widen(
        &self,
        x: &Buffer<T>,
        rows: usize,
        [width, pitch]: [usize; 2],
        out: &mut Buffer<f32>,
    ) -> Result<(), CudaError> {
        if width > pitch || x.len() < rows * pitch {
            return Err(CudaError::Shape(format!(
                "{} numbers are fewer than {rows} rows of {pitch}",
                x.len()
            )));
        }
        let len = rows * width;
        out.resize(&self.device, len)?;
        let values = [
            self.at(x.slice()?),
            self.at(out.slice()?),
            Value::Int(width as i32),
            Value::Int(pitch as i32),
            Value::Len(len as u64),
        ];
        self.by_elements(&self.from_narrow, len, &values)
    }

    /// Of each row of logits, one for each target: `ln p(target)` under their softmax, and whether
    /// the target is the most probable.
    ///
    /// # Errors
    /// Targets beyond the rows, or the driver's.
    pub fn scores(
        &self,
        logits: &Buffer<f32>,
        targets: &[u32],
    ) -> Result<Vec<(f64, bool)>, CudaError> {
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let width = logits.len() / targets.len();
        rows(logits.len(), width)?;
        if let Some(target) = targets.iter().find(|&&target| target as usize >= width) {
            return Err(CudaError::Shape(format!("target {target} of {width}")));
        }
        self.device.settle()?;
        let wanted = self.device.stream().clone_htod(targets)?;
        let mut out = Buffer::<f64>::default();
        out.resize(&self.device, 2 * targets.len())?;
        let values = [
            self.at(logits.slice()?),
            self.at(&wanted),
            self.at(out.slice()?),
            Value::Int(width as i32),
        ];
        self.launch(&self.score_rows, [targets.len(), THREADS], &values)?;
        let pairs = out.read(&self.device)?;
        Ok(pairs.chunks_exact(2).map(|x| (x[0], x[1] != 0.0)).collect())
    }

    /// Some rows of `[there, width]`, by a kernel that reads `from`.
    pub(crate) fn take(
        &self,
        kernel: &CudaFunction,
        from: &[Value],
        [there, width]: [usize; 2],
        wanted: &[u32],
        out: &mut Buffer<f32>,
    ) -> Result<(), CudaError> {
        if let Some(row) = wanted.iter().find(|&&row| row as usize >= there) {
            return Err(CudaError::Shape(format!(
                "row {row} was requested of {there}"
            )));
        }
        if wanted.is_empty() {
            out.len = 0;
            return Ok(());
        }
        out.resize(&self.device, wanted.len() * width)?;
        // A pass that is only recorded so far must not depend on memory that the next may write.
        let many;
        let place = if wanted.len() <= FEW_ROWS {
            Value::Pointer(0)
        } else {
            self.device.settle()?;
            many = self.device.stream().clone_htod(wanted)?;
            self.at(&many)
        };
        let few = std::array::from_fn(|n| wanted.get(n).copied().unwrap_or(0));
        let mut values = from.to_vec();
        values.extend([
            place,
            Value::Rows(few),
            self.at(out.slice()?),
            Value::Int(width as i32),
        ]);
        self.launch(kernel, [wanted.len(), THREADS], &values)
    }

    fn pairwise(
        &self,
        kernel: &CudaFunction,
        x: &mut Buffer<f32>,
        y: &Buffer<f32>,
    ) -> Result<(), CudaError> {
        if x.len() != y.len() {
            return Err(CudaError::Shape(format!(
                "{} and {} numbers cannot be combined",
                x.len(),
                y.len()
            )));
        }
        let values = [
            self.at(x.slice()?),
            self.at(y.slice()?),
            Value::Len(x.len() as u64),
        ];
        self.by_elements(kernel, x.len(), &values)
    }

    fn with_number(
        &self,
        kernel: &CudaFunction,
        x: &mut Buffer<f32>,
        number: f32,
    ) -> Result<(), CudaError> {
        let values = [
            self.at(x.slice()?),
            Value::Float(number),
            Value::Len(x.len() as u64),
        ];
        self.by_elements(kernel, x.len(), &values)
    }

    fn by_elements(
        &self,
        kernel: &CudaFunction,
        len: usize,
        values: &[Value],
    ) -> Result<(), CudaError> {
        self.launch(kernel, [len.div_ceil(THREADS), THREADS], values)
    }

    pub(crate) fn launch(
        &self,
        kernel: &CudaFunction,
        [blocks, threads]: [usize; 2],
        values: &[Value],
    ) -> Result<(), CudaError> {
        self.launch_grid(kernel, [blocks, 1], [threads, 0], values)
    }

    /// For blocks in two dimensions that have so many threads and bytes of dynamic shared memory.
    pub(crate) fn launch_grid(
        &self,
        kernel: &CudaFunction,
        [x, y]: [usize; 2],
        [threads, shared]: [usize; 2],
        values: &[Value],
    ) -> Result<(), CudaError> {
        if x * y == 0 {
            return Ok(());
        }
        Launch {
            device: &self.device,
            kernel,
            grid: Grid {
                blocks: (x as u32, y as u32, 1),
                threads: (threads as u32, 1, 1),
                shared,
            },
        }
        .run_values(values)
    }

    pub(crate) fn address<U>(&self, slice: &CudaSlice<U>) -> u64 {
        slice.device_ptr(self.device.stream()).0
    }

    pub(crate) fn at<U>(&self, slice: &CudaSlice<U>) -> Value {
        Value::Pointer(self.address(slice))
    }
}

/// How many rows of `width` there are.
pub(crate) fn rows(len: usize, width: usize) -> Result<usize, CudaError> {
    if width == 0 || !len.is_multiple_of(width) {
        return Err(CudaError::Shape(format!(
            "{len} numbers are not whole rows of {width}"
        )));
    }
    Ok(len / width)
}
