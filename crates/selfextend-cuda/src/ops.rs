//! What a decoder does between its attention layers: norms, gates, linear layers.
//!
//! Activations are f32; weights of linear layers are 16-bit floats, and so are the activations
//! that they multiply (sums are f32, by cuBLAS, whose library is loaded when first used).

use crate::device::{Device, Element};
use crate::error::CudaError;
use crate::launch::{Blas, FEW_ROWS, Launch, Value};
use cudarc::driver::{CudaFunction, CudaSlice, DevicePtr, DeviceRepr, ValidAsZeroBits};
use std::marker::PhantomData;

/// Numbers on the device; grows as needed and is reused from step to step.
#[derive(Debug)]
pub struct Buffer<T> {
    slice: Option<CudaSlice<T>>,
    len: usize,
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self {
            slice: None,
            len: 0,
        }
    }
}

impl<T: DeviceRepr + ValidAsZeroBits> Buffer<T> {
    /// Numbers that count.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for `len` numbers, which are then whatever was there.
    ///
    /// # Errors
    /// The driver's: too little memory.
    pub fn resize(&mut self, device: &Device, len: usize) -> Result<(), CudaError> {
        if self.slice.as_ref().is_none_or(|slice| slice.len() < len) {
            device.settle()?;
            self.slice = None;
            self.slice = Some(device.stream().alloc_zeros(len)?);
        }
        self.len = len;
        Ok(())
    }

    /// Takes numbers over from the host.
    ///
    /// # Errors
    /// The driver's.
    pub fn write(&mut self, device: &Device, numbers: &[T]) -> Result<(), CudaError> {
        self.resize(device, numbers.len())?;
        if let Some(slice) = &mut self.slice {
            device.stream().memcpy_htod(numbers, slice)?;
        }
        Ok(())
    }

    /// Copies the numbers to the host, after everything queued before.
    ///
    /// # Errors
    /// The driver's.
    pub fn read(&self, device: &Device) -> Result<Vec<T>, CudaError> {
        device.settle()?;
        match &self.slice {
            Some(slice) if self.len > 0 => {
                Ok(device.stream().clone_dtoh(&slice.slice(..self.len))?)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// All of its memory, of which the first [`Buffer::len`] numbers count.
    ///
    /// # Errors
    /// [`CudaError::Shape`] before the first [`Buffer::resize`].
    pub fn slice(&self) -> Result<&CudaSlice<T>, CudaError> {
        self.slice.as_ref().ok_or_else(empty)
    }

    /// The same, to be written.
    ///
    /// # Errors
    /// As [`Buffer::slice`].
    pub fn slice_mut(&mut self) -> Result<&mut CudaSlice<T>, CudaError> {
        self.slice.as_mut().ok_or_else(empty)
    }
}

fn empty() -> CudaError {
    CudaError::Shape("a device buffer was read before anything was written".into())
}

/// A matrix of a linear layer, `[outputs, inputs]`.
#[derive(Debug)]
pub struct Matrix<T> {
    numbers: CudaSlice<T>,
    outputs: usize,
    inputs: usize,
}

impl<T: Element> Matrix<T> {
    /// Takes over a matrix.
    ///
    /// # Errors
    /// [`CudaError::Shape`] for a length that is not the product of the sizes, or the driver's.
    pub fn new(
        device: &Device,
        numbers: &[T],
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, CudaError> {
        if numbers.is_empty() || outputs.checked_mul(inputs) != Some(numbers.len()) {
            return Err(CudaError::Shape(format!(
                "{} numbers are no {outputs} by {inputs} matrix",
                numbers.len()
            )));
        }
        let numbers = device.stream().clone_htod(numbers)?;
        Ok(Self {
            numbers,
            outputs,
            inputs,
        })
    }

    /// Rows.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// On the device.
    pub fn bytes(&self) -> usize {
        self.numbers.len() * size_of::<T>()
    }
}

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// `x / (1 + e^-x)`.
    Silu,
    /// `x * Phi(x)`, with the error function.
    Gelu,
    /// `x * Phi(x)` by its approximation with a hyperbolic tangent.
    GeluTanh,
}

/// The operations, for weights of one type.
#[derive(Debug)]
pub struct Ops<T> {
    device: Device,
    blas: Blas,
    rms_norm: CudaFunction,
    layer_norm: CudaFunction,
    curves: [[CudaFunction; 2]; 3],
    scale: CudaFunction,
    soft_cap: CudaFunction,
    add: CudaFunction,
    add_bias: CudaFunction,
    score_rows: CudaFunction,
    take_rows: CudaFunction,
    take_narrow: CudaFunction,
    to_narrow: CudaFunction,
    from_narrow: CudaFunction,
    element: PhantomData<T>,
}

/// Threads of a block that takes elements or a row.
const THREADS: usize = 256;

impl<T: Element> Ops<T> {
    /// Loads the kernels and cuBLAS.
    ///
    /// # Errors
    /// No cuBLAS library, or the driver's.
    pub fn new(device: &Device) -> Result<Self, CudaError> {
        let kernel = |name: &str| device.ops().load_function(name);
        Ok(Self {
            blas: Blas::new(device)?,
            rms_norm: kernel("rms_norm")?,
            layer_norm: kernel("layer_norm")?,
            curves: [
                [kernel("silu_alone")?, kernel("silu_gate")?],
                [kernel("gelu_alone")?, kernel("gelu_gate")?],
                [kernel("gelu_tanh_alone")?, kernel("gelu_tanh_gate")?],
            ],
            scale: kernel("scale")?,
            soft_cap: kernel("soft_cap")?,
            add: kernel("add")?,
            add_bias: kernel("add_bias")?,
            score_rows: kernel("score_rows")?,
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
            rows,
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
            rows,
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

    /// `x *= factor`.
    ///
    /// # Errors
    /// The driver's.
    pub fn scale(&self, x: &mut Buffer<f32>, factor: f32) -> Result<(), CudaError> {
        self.with_number(&self.scale, x, factor)
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
        rows(x.len(), bias.len())?;
        let len = x.len();
        let values = [
            self.at(x.slice()?),
            self.at(bias),
            Value::Int(bias.len() as i32),
            Value::Len(len as u64),
        ];
        self.by_elements(&self.add_bias, len, &values)
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
        self.take(
            &self.take_rows,
            self.at(x.slice()?),
            there,
            width,
            wanted,
            out,
        )
    }

    /// `out[t] = table[ids[t]]`.
    ///
    /// # Errors
    /// Ids beyond the table, or the driver's.
    pub fn embed(
        &self,
        table: &Matrix<T>,
        ids: &[u32],
        out: &mut Buffer<f32>,
    ) -> Result<(), CudaError> {
        let from = self.at(&table.numbers);
        self.take(
            &self.take_narrow,
            from,
            table.outputs,
            table.inputs,
            ids,
            out,
        )
    }

    /// Rounds activations to the type of the weights: what [`Ops::linear`] multiplies.
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
                "{} numbers are no {rows} rows of {pitch}",
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

    /// `out[t] = matrix · x[t]`.
    ///
    /// # Errors
    /// Rows that the matrix does not fit, or cuBLAS's.
    pub fn linear(
        &self,
        x: &Buffer<T>,
        matrix: &Matrix<T>,
        out: &mut Buffer<f32>,
    ) -> Result<(), CudaError> {
        let tokens = rows(x.len(), matrix.inputs)?;
        out.resize(&self.device, tokens * matrix.outputs)?;
        self.device.settle()?;
        self.blas.multiply::<T>(
            [matrix.outputs, tokens, matrix.inputs],
            self.address(&matrix.numbers),
            self.address(x.slice()?),
            self.address(out.slice()?),
        )
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
        self.launch(&self.score_rows, targets.len(), &values)?;
        let pairs = out.read(&self.device)?;
        Ok(pairs.chunks_exact(2).map(|x| (x[0], x[1] != 0.0)).collect())
    }

    fn take(
        &self,
        kernel: &CudaFunction,
        from: Value,
        there: usize,
        width: usize,
        wanted: &[u32],
        out: &mut Buffer<f32>,
    ) -> Result<(), CudaError> {
        if let Some(row) = wanted.iter().find(|&&row| row as usize >= there) {
            return Err(CudaError::Shape(format!(
                "row {row} of {there} was asked for"
            )));
        }
        if wanted.is_empty() {
            out.len = 0;
            return Ok(());
        }
        out.resize(&self.device, wanted.len() * width)?;
        // A step that is only noted so far must not depend on memory that the next may write.
        let many;
        let place = if wanted.len() <= FEW_ROWS {
            Value::Pointer(0)
        } else {
            self.device.settle()?;
            many = self.device.stream().clone_htod(wanted)?;
            self.at(&many)
        };
        let few = std::array::from_fn(|n| wanted.get(n).copied().unwrap_or(0));
        let values = [
            from,
            place,
            Value::Rows(few),
            self.at(out.slice()?),
            Value::Int(width as i32),
        ];
        self.launch(kernel, wanted.len(), &values)
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
        self.launch(kernel, len.div_ceil(THREADS), values)
    }

    fn launch(
        &self,
        kernel: &CudaFunction,
        blocks: usize,
        values: &[Value],
    ) -> Result<(), CudaError> {
        if blocks == 0 {
            return Ok(());
        }
        Launch {
            device: &self.device,
            kernel,
            grid: (blocks as u32, 1, 1),
            block: (THREADS as u32, 1, 1),
            shared: 0,
        }
        .run_values(values)
    }

    fn address<U>(&self, slice: &CudaSlice<U>) -> u64 {
        slice.device_ptr(self.device.stream()).0
    }

    fn at<U>(&self, slice: &CudaSlice<U>) -> Value {
        Value::Pointer(self.address(slice))
    }
}

/// How many rows of `width` there are.
fn rows(len: usize, width: usize) -> Result<usize, CudaError> {
    if width == 0 || !len.is_multiple_of(width) {
        return Err(CudaError::Shape(format!(
            "{len} numbers are no rows of {width}"
        )));
    }
    Ok(len / width)
}
