//! Memory on a device.

use crate::device::Device;
use crate::error::CudaError;
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, ValidAsZeroBits};

/// Numbers on the device; grows as needed and is reused from pass to pass.
#[derive(Debug)]
pub struct Buffer<T> {
    slice: Option<CudaSlice<T>>,
    pub(crate) len: usize,
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
    /// How many numbers count.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for `len` numbers, whose values are not specified.
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

    /// Copies numbers from the host.
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

/// A buffer of at least `len`, all zero when it is new.
pub(crate) fn grow<T: DeviceRepr + ValidAsZeroBits>(
    device: &Device,
    buffer: &mut Option<CudaSlice<T>>,
    len: usize,
) -> Result<(), CudaError> {
    if buffer.as_ref().is_none_or(|buffer| buffer.len() < len) {
        device.settle()?;
        *buffer = None;
        *buffer = Some(device.stream().alloc_zeros(len)?);
    }
    Ok(())
}

/// Where a slice starts. Everything runs on one stream, so there is nothing to wait for.
///
/// # Panics
/// When the slice belongs to another stream.
pub(crate) fn address<T>(device: &Device, slice: &CudaSlice<T>) -> CUdeviceptr {
    assert_eq!(
        slice.stream().cu_stream(),
        device.stream().cu_stream(),
        "a slice was made on a stream that is not its device's"
    );
    slice.device_ptr(device.stream()).0
}
