//! Matrix products by cuBLAS.

use crate::element::Element;
use crate::error::CudaError;
use cudarc::cublas::sys::cudaDataType_t;
use cudarc::cublas::sys::cudaDataType_t::{CUDA_R_16BF, CUDA_R_16F, CUDA_R_32F};
use cudarc::cublas::{self, CudaBlas};
use cudarc::driver::CudaStream;
use cudarc::driver::sys::CUdeviceptr;
use std::sync::Arc;

/// cuBLAS on a device's stream.
#[derive(Debug)]
pub(crate) struct Blas(CudaBlas);

impl Blas {
    pub(crate) fn new(stream: &Arc<CudaStream>) -> Result<Self, CudaError> {
        // SAFETY: loads cuBLAS and runs its initialisers, as any use of it would.
        if !unsafe { cublas::sys::is_culib_present() } {
            return Err(CudaError::NoBlas);
        }
        Ok(Self(CudaBlas::new(stream.clone())?))
    }

    /// `out[t] = matrix · x[t]`: `[outputs, inputs]` by `[tokens, inputs]`, rows contiguous, to
    /// tokens `pitch` numbers apart; operands in `T`, result in f32.
    pub(crate) fn multiply<T: Element>(
        &self,
        shape: [usize; 3],
        pitch: usize,
        matrix: CUdeviceptr,
        x: CUdeviceptr,
        out: CUdeviceptr,
    ) -> Result<(), CudaError> {
        let kind = if T::NAME == "f16" {
            CUDA_R_16F
        } else {
            CUDA_R_16BF
        };
        self.multiply_in(kind, shape, pitch, matrix, x, out)
    }

    /// The same with operands in f32.
    pub(crate) fn multiply_f32(
        &self,
        shape: [usize; 3],
        pitch: usize,
        matrix: CUdeviceptr,
        x: CUdeviceptr,
        out: CUdeviceptr,
    ) -> Result<(), CudaError> {
        self.multiply_in(CUDA_R_32F, shape, pitch, matrix, x, out)
    }

    fn multiply_in(
        &self,
        kind: cudaDataType_t,
        [outputs, tokens, inputs]: [usize; 3],
        pitch: usize,
        matrix: CUdeviceptr,
        x: CUdeviceptr,
        out: CUdeviceptr,
    ) -> Result<(), CudaError> {
        use cublas::sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
        let [m, n, k] = [outputs, tokens, inputs].map(|x| x as i32);
        let (one, zero) = (1f32, 0f32);
        // SAFETY: `linear.rs` checked the extents against the slices'; cuBLAS, which counts columns
        // first, sees the transposes, so `out` is m by n with columns of m, `pitch` apart.
        unsafe {
            cublas::result::gemm_ex(
                *self.0.handle(),
                CUBLAS_OP_T,
                CUBLAS_OP_N,
                m,
                n,
                k,
                (&raw const one).cast(),
                matrix as *const _,
                kind,
                k,
                x as *const _,
                kind,
                k,
                (&raw const zero).cast(),
                out as *mut _,
                CUDA_R_32F,
                pitch as i32,
                cublas::sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublas::sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )?;
        }
        Ok(())
    }
}
