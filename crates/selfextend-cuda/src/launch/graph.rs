//! Launches, one by one or as a CUDA graph.
//!
//! A pass over few tokens launches hundreds of kernels that each take microseconds, so it lasts as
//! long as the host takes to launch them. Between [`Queue::record`] and [`Queue::play`] launches are
//! only recorded on a tape. `play` looks for the graph of an earlier tape with the same kernels,
//! writes the arguments that differ into it, a few in a hundred, and launches it whole. What the
//! arguments mean does not matter: a buffer that moved is one more that differs.

use crate::error::CudaError;
use cudarc::driver::sys::{self, CUDA_KERNEL_NODE_PARAMS, CUgraph, CUgraphExec, CUgraphNode};
use cudarc::driver::{CudaFunction, CudaStream};
use std::ffi::c_void;
use std::ops::Range;
use std::ptr::{null, null_mut};
use std::sync::Arc;

/// How many graphs are kept: a server alternates between kinds of passes.
const KEPT: usize = 16;

/// How many tapes without a graph are remembered.
const SEEN: usize = 4;

/// Alignment of each argument on a tape.
const ALIGNMENT: usize = 16;

/// How many threads run a kernel, and what they share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Blocks.
    pub blocks: (u32, u32, u32),
    /// Threads of a block.
    pub threads: (u32, u32, u32),
    /// Bytes of dynamic shared memory of a block.
    pub shared: usize,
}

/// One launch.
#[derive(Debug, Clone)]
struct Call {
    kernel: CudaFunction,
    grid: Grid,
    /// Its arguments, among the tape's.
    arguments: Range<usize>,
}

/// Launches in their order.
#[derive(Debug, Default)]
struct Tape {
    calls: Vec<Call>,
    /// Where the bytes of each argument are.
    arguments: Vec<Range<usize>>,
    bytes: Vec<u8>,
}

impl Tape {
    fn clear(&mut self) {
        self.calls.clear();
        self.arguments.clear();
        self.bytes.clear();
    }

    /// Whether both launch the same kernels, which says what arguments they take.
    fn is_like(&self, other: &Self) -> bool {
        self.calls.len() == other.calls.len()
            && self.calls.iter().zip(&other.calls).all(|(a, b)| {
                a.kernel.cu_function() == b.kernel.cu_function() && a.grid.threads == b.grid.threads
            })
    }

    /// Whether a call of both, which [are alike](Self::is_like), is the same.
    fn is_same(&self, other: &Self, call: usize) -> bool {
        let (a, b) = (&self.calls[call], &other.calls[call]);
        let numbers = |tape: &Self, call: &Call| match &tape.arguments[call.arguments.clone()] {
            [] => 0..0,
            [first, .., last] => first.start..last.end,
            [only] => only.clone(),
        };
        a.grid == b.grid && self.bytes[numbers(self, a)] == other.bytes[numbers(other, b)]
    }

    /// What the driver takes: a pointer to each argument. They are valid until the tape changes.
    fn pointers(&self, call: usize) -> Vec<*mut c_void> {
        let places = &self.arguments[self.calls[call].arguments.clone()];
        places
            .iter()
            .map(|place| self.bytes[place.clone()].as_ptr().cast_mut().cast())
            .collect()
    }

    fn launch(&self, call: usize, stream: &CudaStream) -> Result<(), CudaError> {
        let mut pointers = self.pointers(call);
        let Call { kernel, grid, .. } = &self.calls[call];
        // SAFETY: see `Queue::submit`; the pointers are to this tape's bytes, which the driver
        // copies before it returns.
        unsafe {
            sys::cuLaunchKernel(
                kernel.cu_function(),
                grid.blocks.0,
                grid.blocks.1,
                grid.blocks.2,
                grid.threads.0,
                grid.threads.1,
                grid.threads.2,
                grid.shared as u32,
                stream.cu_stream(),
                pointers.as_mut_ptr(),
                null_mut(),
            )
            .result()?;
        }
        Ok(())
    }

    fn node(&self, call: usize, pointers: &mut [*mut c_void]) -> CUDA_KERNEL_NODE_PARAMS {
        let Call { kernel, grid, .. } = &self.calls[call];
        CUDA_KERNEL_NODE_PARAMS {
            func: kernel.cu_function(),
            gridDimX: grid.blocks.0,
            gridDimY: grid.blocks.1,
            gridDimZ: grid.blocks.2,
            blockDimX: grid.threads.0,
            blockDimY: grid.threads.1,
            blockDimZ: grid.threads.2,
            sharedMemBytes: grid.shared as u32,
            kernelParams: pointers.as_mut_ptr(),
            extra: null_mut(),
            kern: null_mut(),
            ctx: null_mut(),
        }
    }
}

/// A tape that was made into a CUDA graph.
#[derive(Debug)]
struct Graph {
    tape: Tape,
    nodes: Vec<CUgraphNode>,
    graph: CUgraph,
    exec: CUgraphExec,
}

// SAFETY: the driver's handles may be used by any thread, by one at a time: the queue is behind a
// lock.
unsafe impl Send for Graph {}

impl Graph {
    fn new(tape: Tape) -> Result<Self, CudaError> {
        let mut it = Self {
            nodes: Vec::with_capacity(tape.calls.len()),
            tape,
            graph: null_mut(),
            exec: null_mut(),
        };
        // SAFETY: handles are written before they are read; arguments are copied by the driver from
        // the tape, and are what each kernel takes (`Queue::submit`).
        unsafe {
            sys::cuGraphCreate(&raw mut it.graph, 0).result()?;
            for call in 0..it.tape.calls.len() {
                let mut pointers = it.tape.pointers(call);
                let parameters = it.tape.node(call, &mut pointers);
                let (before, count) = match it.nodes.last() {
                    Some(last) => (&raw const *last, 1),
                    None => (null(), 0),
                };
                let mut node = null_mut();
                sys::cuGraphAddKernelNode_v2(
                    &raw mut node,
                    it.graph,
                    before,
                    count,
                    &raw const parameters,
                )
                .result()?;
                it.nodes.push(node);
            }
            sys::cuGraphInstantiateWithFlags(&raw mut it.exec, it.graph, 0).result()?;
        }
        Ok(it)
    }

    /// Launches what is on a tape [like](Tape::is_like) this one, and keeps that tape as its own.
    fn launch(&mut self, tape: &mut Tape, stream: &CudaStream) -> Result<(), CudaError> {
        for (call, node) in self.nodes.iter().enumerate() {
            if tape.is_same(&self.tape, call) {
                continue;
            }
            let mut pointers = tape.pointers(call);
            let parameters = tape.node(call, &mut pointers);
            // SAFETY: as in `new`; the node takes the same kernel as before.
            unsafe {
                sys::cuGraphExecKernelNodeSetParams_v2(self.exec, *node, &raw const parameters)
                    .result()?;
            }
        }
        std::mem::swap(&mut self.tape, tape);
        // SAFETY: a graph that was instantiated, and the stream of its kernels' memory.
        unsafe { sys::cuGraphLaunch(self.exec, stream.cu_stream()).result()? };
        Ok(())
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: handles that nothing else has, or null, which is left alone. What still runs is
        // finished first by the driver.
        unsafe {
            if !self.exec.is_null() {
                let _ = sys::cuGraphExecDestroy(self.exec);
            }
            if !self.graph.is_null() {
                let _ = sys::cuGraphDestroy(self.graph);
            }
        }
    }
}

/// What is launched on a stream.
#[derive(Debug)]
pub(crate) struct Queue {
    stream: Arc<CudaStream>,
    tape: Tape,
    recording: bool,
    /// Most recently used last. A graph is made of a tape that comes a second time.
    graphs: Vec<Graph>,
    /// The last tapes without a graph, the newest last.
    seen: Vec<Tape>,
    /// Whether graphs are made at all.
    enabled: bool,
}

impl Queue {
    pub(crate) fn new(stream: Arc<CudaStream>) -> Self {
        Self {
            stream,
            tape: Tape::default(),
            recording: false,
            graphs: Vec::new(),
            seen: Vec::new(),
            enabled: true,
        }
    }

    /// Turns graphs on or off.
    pub(crate) fn enable(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// Queues a kernel with its arguments, or records it.
    ///
    /// The one way to launch anything. Callers pass what the kernel declares, in its order:
    /// pointers into slices of this stream that live until it has run (freeing a slice is queued
    /// on the same stream, and [`Queue::settle`] comes before any is freed that a pass uses), and
    /// extents checked against those slices' lengths.
    pub(crate) fn submit(
        &mut self,
        kernel: &CudaFunction,
        grid: Grid,
        arguments: &[&[u8]],
    ) -> Result<(), CudaError> {
        let tape = &mut self.tape;
        let first = tape.arguments.len();
        for bytes in arguments {
            let start = tape.bytes.len().next_multiple_of(ALIGNMENT);
            tape.bytes.resize(start, 0);
            tape.bytes.extend_from_slice(bytes);
            tape.arguments.push(start..tape.bytes.len());
        }
        tape.calls.push(Call {
            kernel: kernel.clone(),
            grid,
            arguments: first..tape.arguments.len(),
        });
        if self.recording {
            return Ok(());
        }
        let launched = tape.launch(0, &self.stream);
        tape.clear();
        launched
    }

    /// Launches what was recorded, and then a kernel that belongs to no pass.
    pub(crate) fn submit_now(
        &mut self,
        kernel: &CudaFunction,
        grid: Grid,
        arguments: &[&[u8]],
    ) -> Result<(), CudaError> {
        self.settle()?;
        self.submit(kernel, grid, arguments)
    }

    /// Records what is launched from now on, until [`Queue::play`] or [`Queue::settle`].
    pub(crate) fn record(&mut self) {
        self.tape.clear();
        self.recording = self.enabled;
    }

    /// Launches what was recorded, as a graph if the same kernels came before.
    pub(crate) fn play(&mut self) -> Result<(), CudaError> {
        self.recording = false;
        if self.tape.calls.is_empty() {
            return Ok(());
        }
        let is_like = |tape: &Tape| tape.is_like(&self.tape);
        let known = self.graphs.iter().position(|graph| is_like(&graph.tape));
        let mut graph = if let Some(at) = known {
            self.graphs.remove(at)
        } else if let Some(at) = self.seen.iter().position(is_like) {
            if self.graphs.len() == KEPT {
                self.graphs.remove(0);
            }
            match Graph::new(self.seen.remove(at)) {
                Ok(graph) => graph,
                // Without memory for a graph, the kernels themselves may still run.
                Err(_) => return self.settle(),
            }
        } else {
            return self.settle();
        };
        let launched = graph.launch(&mut self.tape, &self.stream);
        self.tape.clear();
        if launched.is_ok() {
            self.graphs.push(graph);
        }
        launched
    }

    /// Launches what was recorded one by one, and what follows at once.
    pub(crate) fn settle(&mut self) -> Result<(), CudaError> {
        self.recording = false;
        if self.tape.calls.is_empty() {
            return Ok(());
        }
        let mut calls = 0..self.tape.calls.len();
        let launched = calls.try_for_each(|call| self.tape.launch(call, &self.stream));
        if self.seen.len() == SEEN {
            self.seen.remove(0);
        }
        self.seen.push(std::mem::take(&mut self.tape));
        launched
    }
}
