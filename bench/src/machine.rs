//! The machine: what it is, and its limits.

use crate::process::ask;
use rayon::ThreadPool;
use selfextend_attention::simd::{Kernel, Level, Simd, WIDTH, dispatch};
use serde::Serialize;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What the measurements ran on.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// UTC.
    pub date: String,
    /// The processor's name.
    pub cpu: String,
    /// The instruction set that selfextend's kernels use.
    pub instructions: String,
    /// Threads of every engine.
    pub threads: usize,
    /// The commit measured, and whether the working tree differs from it.
    pub commit: String,
    /// The compiler.
    pub rustc: String,
}

impl Machine {
    /// Asks the system.
    pub fn new(root: &Path, threads: usize) -> Self {
        let answer = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            let answer = ask(command.args(arguments).current_dir(root));
            answer.unwrap_or_else(|_| "unknown".to_owned())
        };
        let mut commit = answer("git", &["rev-parse", "--short=12", "HEAD"]);
        if !answer("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty() {
            commit.push_str(" with changes");
        }
        Self {
            date: answer("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            cpu: cpu_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            instructions: format!("{:?}", Level::best()),
            threads,
            commit,
            rustc: answer("rustc", &["--version"]),
        }
    }
}

fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Processor time since the machine started: the total, and what the hypervisor gave to others.
#[derive(Debug, Clone, Copy)]
pub struct CpuTime {
    total: u64,
    stolen: u64,
}

impl CpuTime {
    /// The times now, where the system reports them.
    pub fn now() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/stat").ok()?;
        let numbers = text.lines().next()?.split_whitespace().skip(1);
        let ticks: Vec<u64> = numbers.map_while(|it| it.parse().ok()).collect();
        Some(Self {
            total: ticks.iter().take(8).sum(),
            stolen: *ticks.get(7)?,
        })
    }

    /// The share stolen since an earlier moment.
    pub fn stolen_since(self, earlier: Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total).max(1);
        self.stolen.saturating_sub(earlier.stolen) as f64 / total as f64
    }
}

/// The two limits, measured once a round. The best measurement counts: on a shared machine the
/// median is only what others left over.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Limits {
    /// Multiply-adds from registers, two operations each.
    pub gflops: Vec<f64>,
    /// Reads from memory.
    pub gb_s: Vec<f64>,
}

impl Limits {
    /// Measures both on all threads of the pool.
    pub fn measure(&mut self, pool: &ThreadPool, memory: &Memory) {
        let trials = || (0..5).map(|_| fma_gflops(pool, Duration::from_millis(100)));
        self.gflops.push(trials().fold(0.0, f64::max));
        let trials = || (0..5).map(|_| memory.read_gb_s(pool));
        self.gb_s.push(trials().fold(0.0, f64::max));
    }
}

/// Steps of each chain between two readings of the clock.
const STEPS: usize = 100_000;

/// Chains of dependent multiply-adds, as many as the registers hold: enough to hide the latency.
struct Fma {
    factor: f32,
    addend: f32,
}

impl Kernel for Fma {
    /// Operations done, and a number that depends on all of them.
    type Output = (f64, f32);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        // A vector of 16 floats takes one of AVX-512's 32 registers, two of AVX2's 16, four of
        // NEON's 32; factor and addend need one each.
        if S::ROWS > 6 {
            self.chains::<S, 12>(simd)
        } else {
            self.chains::<S, 6>(simd)
        }
    }
}

impl Fma {
    #[inline(always)]
    fn chains<S: Simd, const CHAINS: usize>(self, simd: S) -> (f64, f32) {
        let (factor, addend) = (simd.splat(self.factor), simd.splat(self.addend));
        let mut chains = [addend; CHAINS];
        for (start, chain) in chains.iter_mut().enumerate() {
            *chain = simd.splat(start as f32);
        }
        for _ in 0..STEPS {
            for chain in &mut chains {
                *chain = simd.fma(*chain, factor, addend);
            }
        }
        let mut sum = 0.0;
        for chain in chains {
            sum += simd.sum(chain);
        }
        ((2 * WIDTH * CHAINS * STEPS) as f64, sum)
    }
}

/// GFLOP/s of all threads together for about as long as told.
fn fma_gflops(pool: &ThreadPool, duration: Duration) -> f64 {
    let start = Instant::now();
    let operations = pool.broadcast(|_| {
        let mut total = 0.0;
        while start.elapsed() < duration {
            // A factor below one keeps the chains at 2: no overflow, no denormals.
            let (factor, addend) = (black_box(0.5), black_box(1.0));
            let (operations, sum) = dispatch(Fma { factor, addend });
            black_box(sum);
            total += operations;
        }
        total
    });
    operations.iter().sum::<f64>() / start.elapsed().as_secs_f64() / 1e9
}

/// A buffer far larger than any cache.
#[derive(Debug)]
pub struct Memory(Vec<f32>);

/// 512 MiB.
const FLOATS: usize = 512 << 18;

impl Memory {
    /// Allocates and fills it.
    pub fn new() -> Self {
        Self(vec![1.0; FLOATS])
    }

    /// Reads all of it with all threads. Afterwards the caches hold nothing else.
    pub fn read(&self, pool: &ThreadPool) -> f64 {
        let part = self.0.len().div_ceil(pool.current_num_threads());
        let sums = pool.broadcast(|thread| {
            let part = self.0.chunks(part).nth(thread.index());
            part.map_or(0.0, |part| dispatch(Sum(black_box(part))))
        });
        sums.iter().sum()
    }

    fn read_gb_s(&self, pool: &ThreadPool) -> f64 {
        let start = Instant::now();
        black_box(self.read(pool));
        size_of_val(self.0.as_slice()) as f64 / start.elapsed().as_secs_f64() / 1e9
    }
}

/// The sum of a slice. Safe code cannot load through `Simd`, but compiled by `dispatch` this loop
/// uses the same registers.
struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let (chunks, rest) = self.0.as_chunks::<64>();
        let mut sums = [0f32; 64];
        for chunk in chunks {
            for (sum, number) in sums.iter_mut().zip(chunk) {
                *sum += number;
            }
        }
        sums.iter().chain(rest).map(|&sum| f64::from(sum)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> ThreadPool {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
        builder.build().unwrap()
    }

    #[test]
    fn every_number_is_read_once() {
        // Three threads do not divide 1003 numbers, nor does a chunk.
        let memory = Memory((1..=1003).map(|n| n as f32).collect());
        for threads in [1, 2, 3] {
            assert_eq!(memory.read(&pool(threads)), 1003.0 * 1004.0 / 2.0);
        }
    }

    #[test]
    fn every_operation_is_done() {
        let (operations, sum) = dispatch(Fma {
            factor: 1.0,
            addend: 1.0,
        });
        let chains = operations / (2 * WIDTH * STEPS) as f64;
        assert!(chains == 6.0 || chains == 12.0);
        // Chain n ends at n + STEPS in each of 16 lanes.
        let starts = chains * (chains - 1.0) / 2.0;
        let expected = WIDTH as f64 * (starts + chains * STEPS as f64);
        assert_eq!(f64::from(sum), expected);
    }

    #[test]
    fn the_peak_is_a_sane_number() {
        let gflops = fma_gflops(&pool(1), Duration::from_millis(20));
        assert!((0.01..10_000.0).contains(&gflops), "{gflops}");
    }

    #[test]
    fn stolen_time() {
        let earlier = CpuTime {
            total: 100,
            stolen: 10,
        };
        let later = CpuTime {
            total: 300,
            stolen: 60,
        };
        assert_eq!(later.stolen_since(earlier), 0.25);
    }
}
