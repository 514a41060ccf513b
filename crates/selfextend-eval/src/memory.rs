//! How much memory the process takes.

/// The most memory the process has held since a moment, where the system tells.
#[derive(Debug)]
pub struct PeakMemory {
    is_fresh: bool,
}

impl PeakMemory {
    /// Forgets earlier peaks where that is allowed; otherwise they count as well.
    pub fn start() -> Self {
        let is_fresh = std::fs::write("/proc/self/clear_refs", "5").is_ok();
        Self { is_fresh }
    }

    /// Whether earlier peaks were forgotten.
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
