//! Child processes: their output, their peak memory, and their end after a timeout.

use crate::error::{BenchError, Result};
use crate::note::note;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a child is polled. Children time themselves, so this does not affect speeds.
const POLL: Duration = Duration::from_millis(20);

/// What a child that succeeded left.
#[derive(Debug)]
pub struct Finished {
    /// All it wrote to stdout.
    pub stdout: String,
    /// The most memory it was seen to hold, where the system reports it.
    pub peak_mib: Option<f64>,
    /// From its start to its end.
    pub seconds: f64,
    /// The command, as one would type it.
    pub command: String,
    stderr: String,
}

impl Finished {
    /// The error for output that is not what it should be.
    pub fn unreadable(&self, reason: impl std::fmt::Display) -> BenchError {
        BenchError::Child {
            command: self.command.clone(),
            problem: format!("unexpected output ({reason})"),
            tail: tail(&self.stderr),
        }
    }

    /// What a child would have left, for tests of how it is read.
    #[cfg(test)]
    pub fn of(stdout: &str, seconds: f64) -> Self {
        Self {
            stdout: stdout.to_owned(),
            peak_mib: None,
            seconds,
            command: String::new(),
            stderr: String::new(),
        }
    }
}

/// A child that runs until it is stopped: a server.
#[derive(Debug)]
pub struct Background {
    child: Child,
    started: Instant,
    command: String,
    /// The readers of what it writes.
    output: [Option<JoinHandle<String>>; 2],
}

impl Background {
    /// Starts it, quietly.
    pub fn start(command: &mut Command) -> Result<Self> {
        let (text, started) = (in_words(command), Instant::now());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|reason| BenchError::Io {
            what: format!("cannot run {text}"),
            reason,
        })?;
        let stdout = child.stdout.take().map(|pipe| collect(pipe, false));
        let stderr = child.stderr.take().map(|pipe| collect(pipe, false));
        Ok(Self {
            child,
            started,
            command: text,
            output: [stdout, stderr],
        })
    }

    /// Waits until something is true of it, and returns the seconds since its start.
    pub fn wait_until(&mut self, is_ready: impl Fn() -> bool, timeout: Duration) -> Result<f64> {
        while !is_ready() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.error(format!("ended ({status})")));
            }
            if self.started.elapsed() > timeout {
                return Err(BenchError::Timeout {
                    command: self.command.clone(),
                    seconds: timeout.as_secs(),
                });
            }
            thread::sleep(POLL);
        }
        Ok(self.started.elapsed().as_secs_f64())
    }

    /// The most memory that it has held.
    pub fn peak_mib(&self) -> Option<f64> {
        peak_kib(self.child.id()).map(|kib| kib as f64 / 1024.0)
    }

    /// An error with its last words. It is ended, so that there are last words.
    pub fn error(&mut self, problem: String) -> BenchError {
        self.end();
        let mut said = self.output.iter_mut().map(|output| {
            let output = output.take().and_then(|it| it.join().ok());
            output.unwrap_or_default()
        });
        let (stdout, stderr) = (said.next().unwrap_or_default(), said.next());
        let stderr = stderr.filter(|text| !text.trim().is_empty());
        BenchError::Child {
            command: self.command.clone(),
            problem,
            tail: tail(&stderr.unwrap_or(stdout)),
        }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a measurement, quietly.
pub fn measure(command: &mut Command, timeout: Duration) -> Result<Finished> {
    run(command, Some(timeout), Relay::Nothing)
}

/// Runs a step of the preparation, whose messages go on to stderr as they come.
pub fn prepare(command: &mut Command) -> Result<Finished> {
    run(command, None, Relay::All)
}

/// The same for a program whose stdout is an answer.
pub fn prepare_and_ask(command: &mut Command) -> Result<Finished> {
    run(command, None, Relay::Stderr)
}

/// Runs something short, quietly.
pub fn ask(command: &mut Command) -> Result<String> {
    let finished = run(command, None, Relay::Nothing)?;
    Ok(finished.stdout.trim().to_owned())
}

/// The same for programs that answer on stderr.
pub fn ask_aside(command: &mut Command) -> Result<String> {
    let finished = run(command, None, Relay::Nothing)?;
    Ok(finished.stderr.trim().to_owned())
}

/// Which of a child's output is passed on to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relay {
    Nothing,
    Stderr,
    All,
}

fn run(command: &mut Command, timeout: Option<Duration>, relay: Relay) -> Result<Finished> {
    let text = in_words(command);
    let start = Instant::now();
    let io_error = |reason| BenchError::Io {
        what: format!("cannot run {text}"),
        reason,
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io_error)?;
    let stdout = child
        .stdout
        .take()
        .map(|pipe| collect(pipe, relay == Relay::All));
    let stderr = child
        .stderr
        .take()
        .map(|pipe| collect(pipe, relay != Relay::Nothing));
    let (status, peak_mib) = wait(&mut child, start, timeout).map_err(io_error)?;
    let joined = |reader: Option<JoinHandle<String>>| {
        reader.and_then(|it| it.join().ok()).unwrap_or_default()
    };
    let (stdout, stderr) = (joined(stdout), joined(stderr));
    match (status, timeout) {
        (Some(status), _) if status.success() => Ok(Finished {
            stdout,
            peak_mib,
            seconds: start.elapsed().as_secs_f64(),
            command: text,
            stderr,
        }),
        (None, Some(timeout)) => Err(BenchError::Timeout {
            command: text,
            seconds: timeout.as_secs(),
        }),
        (status, _) => Err(BenchError::Child {
            command: text,
            problem: status.map_or("failed".to_owned(), |status| format!("failed ({status})")),
            // ninja writes the messages of compilers to stdout.
            tail: tail(if stderr.trim().is_empty() {
                &stdout
            } else {
                &stderr
            }),
        }),
    }
}

/// Waits for the end of a child; `None` if it had to be killed. The peak is the largest seen,
/// because `selfextend bench` resets its own between depths.
fn wait(
    child: &mut Child,
    start: Instant,
    timeout: Option<Duration>,
) -> std::io::Result<(Option<ExitStatus>, Option<f64>)> {
    let mut peak = None;
    loop {
        peak = peak.max(peak_kib(child.id()));
        let mib = peak.map(|kib| kib as f64 / 1024.0);
        if let Some(status) = child.try_wait()? {
            return Ok((Some(status), mib));
        }
        if timeout.is_some_and(|timeout| start.elapsed() > timeout) {
            child.kill()?;
            child.wait()?;
            return Ok((None, mib));
        }
        thread::sleep(POLL);
    }
}

fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// Reads a pipe to its end, so that the child never blocks on it.
fn collect(pipe: impl Read + Send + 'static, relay: bool) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        for line in BufReader::new(pipe)
            .split(b'\n')
            .map_while(|line| line.ok())
        {
            let line = String::from_utf8_lossy(&line);
            if relay {
                note(&line);
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    })
}

/// A command as one would type it.
pub fn in_words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

fn tail(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.trim_end().lines().collect();
    let last = &lines[lines.len().saturating_sub(12)..];
    let indented: Vec<String> = last.iter().map(|line| format!("  | {line}")).collect();
    indented.join("\n")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_names_the_command_and_its_last_words() {
        let failing = &mut shell("echo out; echo why >&2; exit 3");
        let error = measure(failing, Duration::from_secs(60)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sh -c echo out"), "{text}");
        assert!(text.contains("| why") && text.contains('3'), "{text}");
        assert!(!text.contains("| out"), "{text}");
    }

    #[test]
    fn without_stderr_the_end_of_stdout_is_told() {
        let failing = &mut shell("seq 20; echo error: here; exit 1");
        let error = measure(failing, Duration::from_secs(60)).unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with("| 20\n  | error: here"), "{text}");
        assert!(!text.contains("| 5\n"), "{text}");
    }

    #[test]
    fn a_child_that_takes_too_long_is_ended() {
        let start = Instant::now();
        let ended = measure(&mut shell("exec sleep 60"), Duration::from_millis(200));
        assert!(matches!(ended, Err(BenchError::Timeout { .. })));
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_server_that_ends_at_once_tells_why() {
        let failing = &mut shell("echo no such model >&2; exit 2");
        let mut server = Background::start(failing).unwrap();
        let error = server.wait_until(|| false, Duration::from_secs(60));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("| no such model"), "{text}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn peak_memory_is_seen() {
        // The shell holds the string of 64 MB in memory while it sleeps.
        let script = "x=$(head -c 64000000 /dev/zero | tr '\\0' x); sleep 0.3; echo ${#x}";
        let finished = measure(&mut shell(script), Duration::from_secs(60)).unwrap();
        assert_eq!(finished.stdout, "64000000\n");
        assert!(finished.peak_mib.unwrap() > 61.0, "{finished:?}");
    }
}
