//! The memory of weights.

use memmap2::MmapMut;
use std::ops::{Deref, DerefMut};

/// Zeroed bytes, large ones on huge pages where the system grants them (Linux: transparent huge
/// pages set to `madvise` or `always`). A decode step reads every weight once: with pages of 4 KiB
/// it waits for a page walk, and the processor's prefetching starts again, every 4096 bytes.
#[derive(Debug)]
pub(super) enum Pages {
    /// In the allocator's memory.
    Small(Vec<u8>),
    /// A mapping of its own.
    Large(MmapMut),
}

/// From this many bytes on, a mapping of its own. The system aligns it; what does not fill a huge
/// page at its end stays on small ones.
const LARGE: usize = 1 << 20;

impl Pages {
    /// `bytes` zeros.
    ///
    /// # Errors
    /// Where the system has no room for them.
    pub(super) fn zeroed(bytes: usize) -> Result<Self, String> {
        if bytes < LARGE {
            return Ok(Self::Small(vec![0; bytes]));
        }
        let pages = MmapMut::map_anon(bytes)
            .map_err(|error| format!("no memory for {bytes} bytes of weights: {error}"))?;
        // Only a wish: kernels without huge pages refuse it, and all is as it was.
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::HugePage);
        Ok(Self::Large(pages))
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(pages) => pages,
        }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(pages) => pages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_zero_and_can_be_written() {
        for bytes in [0, 5, LARGE - 1, LARGE, 3 * LARGE + 7] {
            let mut pages = Pages::zeroed(bytes).unwrap();
            assert_eq!(matches!(pages, Pages::Large(_)), bytes >= LARGE);
            assert!(pages.len() == bytes && pages.iter().all(|&byte| byte == 0));
            pages.fill(7);
            assert!(pages.iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn what_no_machine_has_is_refused() {
        let error = Pages::zeroed(usize::MAX / 2).unwrap_err();
        assert!(error.contains("no memory for"), "{error}");
    }
}
