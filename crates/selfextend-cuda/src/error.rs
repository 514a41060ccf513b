//! What can go wrong on a device.

use cudarc::cublas::result::CublasError;
use cudarc::cublas::sys::cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED;
use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY;

/// Why an operation on a device failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver library is absent.
    #[error(
        "no NVIDIA driver library (libcuda) was found; install the driver or use the CPU device"
    )]
    NoDriver,
    /// The matrix library is absent.
    #[error(
        "no cuBLAS library (libcublas) was found; install the CUDA toolkit's, or the PyPI package \
         nvidia-cublas and put its lib folder on LD_LIBRARY_PATH"
    )]
    NoBlas,
    /// cuBLAS reported an error.
    #[error("cuBLAS reports: {0}")]
    Blas(#[from] CublasError),
    /// The driver reported an error.
    #[error("the CUDA driver reports: {0}")]
    Driver(#[from] DriverError),
    /// The card is too old.
    #[error(
        "the device has compute capability {major}.{minor}; the kernels need 8.0 (Ampere) or later"
    )]
    Capability {
        /// Major version.
        major: i32,
        /// Minor version.
        minor: i32,
    },
    /// No kernel for the head size.
    #[error("head size {0} has no CUDA kernel: the largest is 256; use the CPU device")]
    HeadSize(usize),
    /// No kernel for positions by band.
    #[error(
        "positions that differ between bands of a head's pairs (DPE) have no CUDA kernel; use the CPU device"
    )]
    Bands,
    /// A card whose blocks have too little shared memory for the kernels' tiles.
    #[error(
        "head size {head_dim} needs {needed} bytes of shared memory a block; this device has {available}"
    )]
    SharedMemory {
        /// Components of a head.
        head_dim: usize,
        /// What the larger kernel needs, in bytes.
        needed: usize,
        /// What a block can have, in bytes.
        available: usize,
    },
    /// Activations that overflowed the 16-bit type named.
    #[error("some logits are not numbers: activations do not fit {0}; use the CPU device")]
    NotFinite(&'static str),
    /// Inputs that do not fit together.
    #[error("{0}")]
    Shape(String),
    /// More tokens than a cache was made for.
    #[error("{wanted} tokens do not fit a device cache of {capacity}")]
    Capacity {
        /// Tokens after the pass.
        wanted: usize,
        /// Tokens it was made for.
        capacity: usize,
    },
    /// More new tokens at once than a ring of derived keys was made for.
    #[error("{tokens} new tokens at once, but the cache's rings of derived keys take {chunk}")]
    Chunk {
        /// New tokens of the pass.
        tokens: usize,
        /// The most new tokens of a pass.
        chunk: usize,
    },
}

impl CudaError {
    /// Whether the device had no memory left.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Driver(error) => error.0 == CUDA_ERROR_OUT_OF_MEMORY,
            Self::Blas(error) => error.0 == CUBLAS_STATUS_ALLOC_FAILED,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cudarc::cublas::sys::cublasStatus_t::CUBLAS_STATUS_NOT_INITIALIZED;
    use cudarc::driver::sys::CUresult::CUDA_ERROR_INVALID_VALUE;

    #[test]
    fn lack_of_memory_is_told_from_other_failures() {
        for error in [
            DriverError(CUDA_ERROR_OUT_OF_MEMORY).into(),
            CublasError(CUBLAS_STATUS_ALLOC_FAILED).into(),
        ] {
            assert!(CudaError::is_out_of_memory(&error), "{error}");
        }
        for error in [
            DriverError(CUDA_ERROR_INVALID_VALUE).into(),
            CublasError(CUBLAS_STATUS_NOT_INITIALIZED).into(),
            CudaError::Shape("none".into()),
        ] {
            assert!(!error.is_out_of_memory(), "{error}");
        }
    }
}
