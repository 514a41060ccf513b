//! Closed pipes, full disks and Ctrl-C.

use crate::common::{command, file, tiny};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Reads a line, closes the pipe, and waits.
fn first_line_only(mut child: Child) -> (Option<i32>, String) {
    drop(child.stdin.take());
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn a_closed_pipe_is_no_error() {
    let ids = file(
        "many.json",
        format!("{:?}", (0..6000).map(|n| n % 250).collect::<Vec<_>>()),
    );
    let model = tiny();
    let score = ["score", "-m", &model, "--ids", &ids, "--chunk", "64"];
    let (code, stderr) = first_line_only(command(&score).spawn().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        !stderr.contains("error") && !stderr.contains("panick"),
        "{stderr}"
    );
    let inspect = ["inspect", "-m", &model, "--matrix", "200"];
    let (code, stderr) = first_line_only(command(&inspect).spawn().unwrap());
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::File::create("/dev/full").unwrap();
    let model = tiny();
    let args = ["run", "-m", &model, "--raw", "the", "-n", "4", "--json"];
    let output = command(&args)
        .stdin(Stdio::null())
        .stdout(full)
        .spawn()
        .unwrap();
    let output = output.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("error: cannot write the output"),
        "{stderr}"
    );
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_work_at_once() {
    let model = tiny();
    let args = [
        "bench",
        "-m",
        &model,
        "--depths",
        "16,16",
        "--decode-tokens",
        "1000000",
        "--json",
    ];
    let mut child = command(&args).stdin(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let start = Instant::now();
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(5));
    let mut stdout = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut stdout)
        .unwrap();
    assert_eq!(stdout, "");
}
