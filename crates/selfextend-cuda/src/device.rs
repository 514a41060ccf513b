//! A GPU with the kernels loaded.

use crate::error::CudaError;
use crate::launch::{Grid, Queue, Value, driver_is_present, single_stream};
use bytemuck::{Pod, bytes_of};
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream};
use cudarc::nvrtc::Ptx;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Queries of a prefill block.
pub(crate) const PREFILL_ROWS: usize = 128;

/// A GPU, the stream everything runs on, and the kernels.
#[derive(Debug, Clone)]
pub struct Device {
    stream: Arc<CudaStream>,
    queue: Arc<Mutex<Queue>>,
    pub(crate) append: Arc<CudaModule>,
    pub(crate) prefill: Arc<CudaModule>,
    pub(crate) decode: Arc<CudaModule>,
    pub(crate) hopper: Option<Arc<CudaModule>>,
    ops: Arc<CudaModule>,
    linear: Arc<CudaModule>,
    blocks: Arc<CudaModule>,
    experts: [Arc<CudaModule>; 2],
    processors: usize,
}

impl Device {
    /// Opens a GPU by its number and loads the kernels.
    ///
    /// # Errors
    /// No driver, no such GPU, or one older than compute capability 8.0.
    pub fn new(ordinal: usize) -> Result<Self, CudaError> {
        if !driver_is_present() {
            return Err(CudaError::NoDriver);
        }
        let context = CudaContext::new(ordinal)?;
        let (major, minor) = context.compute_capability()?;
        if major < 8 {
            return Err(CudaError::Capability { major, minor });
        }
        let load = |code: &[u8]| context.load_module(Ptx::from_binary(code.to_vec()));
        let is_hopper = (major, minor) == (9, 0);
        let count = Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let stream = single_stream(&context)?;
        Ok(Self {
            append: load(include_bytes!(concat!(env!("OUT_DIR"), "/append.fatbin")))?,
            prefill: load(include_bytes!(concat!(env!("OUT_DIR"), "/prefill.fatbin")))?,
            decode: load(include_bytes!(concat!(env!("OUT_DIR"), "/decode.fatbin")))?,
            ops: load(include_bytes!(concat!(env!("OUT_DIR"), "/ops.fatbin")))?,
            linear: load(include_bytes!(concat!(env!("OUT_DIR"), "/linear.fatbin")))?,
            blocks: load(include_bytes!(concat!(env!("OUT_DIR"), "/blocks.fatbin")))?,
            experts: [
                load(include_bytes!(concat!(env!("OUT_DIR"), "/experts.fatbin")))?,
                load(include_bytes!(concat!(
                    env!("OUT_DIR"),
                    "/experts_many.fatbin"
                )))?,
            ],
            hopper: if is_hopper {
                Some(load(include_bytes!(concat!(
                    env!("OUT_DIR"),
                    "/hopper.fatbin"
                )))?)
            } else {
                None
            },
            processors: context.attribute(count)? as usize,
            queue: Arc::new(Mutex::new(Queue::new(stream.clone()))),
            stream,
        })
    }

    /// Records the kernels of a pass instead of launching them, until [`Device::play`]. Memory that
    /// they use must not be freed before.
    pub fn record(&self) {
        self.queue().record();
    }

    /// Launches the kernels of a pass: from the second pass of its kind on all at once, as a CUDA
    /// graph.
    ///
    /// # Errors
    /// The driver's.
    pub fn play(&self) -> Result<(), CudaError> {
        self.queue().play()
    }

    /// Launches what was recorded one by one, and what follows at once.
    pub(crate) fn settle(&self) -> Result<(), CudaError> {
        self.queue().settle()
    }

    /// Turns CUDA graphs on or off; without them [`Device::record`] does nothing.
    pub fn use_graphs(&self, enabled: bool) {
        self.queue().enable(enabled);
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream that all work is queued on.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// The same device without the kernels that only Hopper runs: for comparisons and tests.
    pub fn portable(self) -> Self {
        Self {
            hopper: None,
            ..self
        }
    }

    /// Whether both queue on the same stream, so that memory of one can be used with the other.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stream, &other.stream)
    }

    /// What the driver calls the card.
    ///
    /// # Errors
    /// The driver's.
    pub fn name(&self) -> Result<String, CudaError> {
        Ok(self.stream.context().name()?)
    }

    /// Streaming multiprocessors.
    pub(crate) fn processors(&self) -> usize {
        self.processors
    }

    /// How many tokens of attention fill the device about twice: more at once are not faster.
    pub fn wave(&self, heads: usize) -> usize {
        let blocks = (2 * self.processors / heads.max(1)).max(1);
        (blocks * PREFILL_ROWS).max(1024)
    }

    /// The kernels of `ops.cu`.
    pub(crate) fn ops(&self) -> &Arc<CudaModule> {
        &self.ops
    }

    /// The kernels of `linear.cu`.
    pub(crate) fn linear(&self) -> &Arc<CudaModule> {
        &self.linear
    }

    /// The kernels of `blocks.cu`.
    pub(crate) fn blocks(&self) -> &Arc<CudaModule> {
        &self.blocks
    }

    /// The kernels of `experts.cu` and `experts_many.cu`.
    pub(crate) fn experts(&self) -> &[Arc<CudaModule>; 2] {
        &self.experts
    }

    /// Makes this the current device of the calling thread, for calls that do not do so themselves.
    ///
    /// # Errors
    /// The driver's.
    pub fn bind(&self) -> Result<(), CudaError> {
        Ok(self.stream.context().bind_to_thread()?)
    }
}

/// A kernel and the shape of its launch.
pub(crate) struct Launch<'a> {
    pub device: &'a Device,
    pub kernel: &'a CudaFunction,
    pub grid: Grid,
}

impl Launch<'_> {
    /// Queues a kernel that takes one structure; see [`Queue::submit`].
    pub(crate) fn run<A: Pod>(&self, args: &A) -> Result<(), CudaError> {
        let mut queue = self.device.queue();
        queue.submit(self.kernel, self.grid, &[bytes_of(args)])
    }

    /// The same for a kernel that belongs to no pass, while another thread may be recording one.
    pub(crate) fn run_now<A: Pod>(&self, args: &A) -> Result<(), CudaError> {
        let mut queue = self.device.queue();
        queue.submit_now(self.kernel, self.grid, &[bytes_of(args)])
    }

    /// Queues a kernel that takes several values.
    pub(crate) fn run_values(&self, values: &[Value]) -> Result<(), CudaError> {
        let values: Vec<&[u8]> = values.iter().map(Value::bytes).collect();
        let mut queue = self.device.queue();
        queue.submit(self.kernel, self.grid, &values)
    }
}
