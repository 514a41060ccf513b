//! Clients that mean no good, or have none of it.

mod common;

use common::{config, endless, prose, start};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

fn connect(base: &str) -> TcpStream {
    let stream = TcpStream::connect(base.trim_start_matches("http://")).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

/// What comes back until the server closes; empty when it does so without a word.
fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    )
}

#[test]
fn malformed_bodies_and_heads_get_an_error_or_nothing() {
    let mut config = config();
    config.http.body = 1 << 20;
    let server = start(config);
    let send = |bytes: &[u8]| {
        let mut stream = connect(&server.base);
        let _ = stream.write_all(bytes);
        rest(stream)
    };
    let post =
        |body: &[u8]| send(&[head("/v1/chat/completions", body.len()).as_bytes(), body].concat());
    let deep = [&b"{\"messages\":"[..], &b"[".repeat(50_000)].concat();
    let bodies: [&[u8]; 8] = [
        b"",
        b"null",
        b"\xff\xfe{}",
        b"{\"messages\":[{\"role\":\"user\",\"content\":\"\xc3\x28\"}]}",
        b"{\"messages\":{\"role\":\"user\"}}",
        b"{\"messages\":[{\"role\":\"user\",\"content\":\"\\ud800\"}]}",
        b"{\"max_tokens\":1e400,\"messages\":[]}",
        &deep,
    ];
    for body in bodies {
        let answer = post(body);
        assert!(
            answer.starts_with("HTTP/1.1 400"),
            "{:?}: {answer}",
            &body[..body.len().min(40)]
        );
        assert!(answer.contains("\"error\""), "{answer}");
    }
    for wrong in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let answer = send(wrong);
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(200_000));
    assert!(!send(long.as_bytes()).starts_with("HTTP/1.1 2"));
    // 50 MB, of which the server reads no more than it takes.
    let mut stream = connect(&server.base);
    let _ = stream.write_all(head("/v1/completions", 50_000_000).as_bytes());
    let block = [b'x'; 65536];
    while stream.write_all(&block).is_ok() {}
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn slow_and_idle_connections_do_not_keep_others_out() {
    let mut config = config();
    config.http.header_time = Duration::from_millis(400);
    config.http.body_time = Duration::from_millis(400);
    config.http.connections = 64;
    let server = start(config);
    // More than may be open: those that say nothing are closed in time.
    let mut idle: Vec<TcpStream> = (0..150).map(|_| connect(&server.base)).collect();
    for stream in idle.iter_mut().take(20) {
        let _ = stream.write_all(b"GET /hea");
    }
    let begun = Instant::now();
    assert_eq!(server.get("/health").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(15));
    drop(idle);
    // A body that never comes.
    let mut stream = connect(&server.base);
    stream
        .write_all(head("/v1/completions", 1000).as_bytes())
        .unwrap();
    stream.write_all(b"{\"prompt\":").unwrap();
    assert!(rest(stream).starts_with("HTTP/1.1 408"));
}

#[test]
fn clients_may_leave_at_any_moment() {
    let mut config = config();
    config.scheduler.parallel = 2;
    let server = start(config);
    let body = json!({
        "prompt": prose(3, 600), "max_tokens": 200, "stream": true, "seed": 1, "logit_bias": endless(),
    });
    let body = body.to_string();
    let whole = head("/v1/completions", body.len()) + &body;
    let expected = server.complete(&json!({"prompt": "the ant", "seed": 2, "max_tokens": 20}));
    for cut in [1, 40, whole.len() / 2, whole.len() - 1] {
        let mut stream = connect(&server.base);
        stream.write_all(&whole.as_bytes()[..cut]).unwrap();
        let _ = stream.shutdown(Shutdown::Both);
    }
    for wait in [0, 1, 5, 20, 60] {
        // Several at once, so that some wait in the queue when they leave.
        let streams: Vec<TcpStream> = (0..5)
            .map(|_| {
                let mut stream = connect(&server.base);
                stream.write_all(whole.as_bytes()).unwrap();
                stream
            })
            .collect();
        std::thread::sleep(Duration::from_millis(wait));
        drop(streams);
    }
    server.wait_until("all are gone", |state| {
        state["running"] == 0 && state["queued"] == 0
    });
    let again = server.complete(&json!({"prompt": "the ant", "seed": 2, "max_tokens": 20}));
    assert_eq!(again.text(), expected.text());
}
