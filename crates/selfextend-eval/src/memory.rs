//! The memory that the process takes.

/// The most memory the process has held since a moment, where the system reports it (Linux).
#[derive(Debug)]
pub struct PeakMemory {
    is_fresh: bool,
}

impl PeakMemory {
    /// Starts to measure. Resets the process's peak where that is allowed; elsewhere earlier
    /// peaks count as well, and [`is_fresh`](Self::is_fresh) is false.
    pub fn start() -> Self {
        let is_fresh = std::fs::write("/proc/self/clear_refs", "5").is_ok();
        Self { is_fresh }
    }

    /// Whether the peak was reset at the start.
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// The peak in bytes.
    pub fn bytes(&self) -> Option<usize> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: usize = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kib << 10)
    }
}
