//! What the driver is asked before there is a device.

use crate::error::CudaError;
use cudarc::driver::{CudaContext, CudaStream};
use std::sync::Arc;

/// The one stream of a device.
pub(crate) fn single_stream(context: &Arc<CudaContext>) -> Result<Arc<CudaStream>, CudaError> {
    // SAFETY: slices of this crate are used on this stream only (`memory.rs` refuses others), so
    // there is nothing for events to order.
    unsafe { context.disable_event_tracking() };
    Ok(context.new_stream()?)
}

/// Whether the driver's library can be loaded.
pub(crate) fn driver_is_present() -> bool {
    // SAFETY: loads the driver's library and runs its initialisers, as any use of it would.
    unsafe { cudarc::driver::sys::is_culib_present() }
}
