//! Clients that are malicious, broken, or gone; and models that make ordinary requests dangerous.

mod common;

use common::{
    Tiny, checkpoint, config, endless, load, load_options, prose, shared, start, start_with,
};
use selfextend::Model;
use selfextend::chat_template::ChatTemplate;
use serde_json::{Value, json};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
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

/// What comes back until the server closes the connection; may be empty.
fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
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
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
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
        thread::sleep(Duration::from_millis(wait));
        drop(streams);
    }
    server.wait_until("all are gone", |state| {
        state["running"] == 0 && state["queued"] == 0
    });
    let again = server.complete(&json!({"prompt": "the ant", "seed": 2, "max_tokens": 20}));
    assert_eq!(again.text(), expected.text());
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

/// A name that somebody else points at this server is not its own, whatever the origin says.
#[test]
fn only_requests_for_this_server_are_answered() {
    let mut config = config();
    config.allowed_hosts = vec!["chat.example.org".into()];
    config.allowed_origins = vec!["https://app.example".into()];
    let server = start(config);
    let send = |head: &str| {
        let mut stream = connect(&server.base);
        let rest_of_head = "Connection: close\r\nContent-Length: 30\r\n\r\n";
        let body = r#"{"prompt":"the","max_tokens":2}"#;
        write!(stream, "{head}{rest_of_head}{}", &body[..30]).unwrap();
        rest(stream)
    };
    let post = |headers: &str| send(&format!("POST /v1/completions HTTP/1.1\r\n{headers}"));
    let port = server.base.rsplit(':').next().unwrap();
    for (headers, expected) in [
        (
            format!("Host: evil.example:{port}\r\nOrigin: http://evil.example:{port}\r\n"),
            "403",
        ),
        (format!("Host: evil.example:{port}\r\n"), "403"),
        ("Host: 10.1.2.3\r\n".into(), "403"),
        ("Host: localhost\r\nHost: localhost\r\n".into(), "400"),
        (
            "Host: localhost\r\nOrigin: http://evil.example\r\n".into(),
            "403",
        ),
        ("Host: localhost\r\nOrigin: null\r\n".into(), "403"),
        // These reach the parser, which finds the body cut.
        (
            format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n"),
            "400",
        ),
        (format!("Host: [::1]:{port}\r\n"), "400"),
        ("Host: chat.example.org\r\n".into(), "400"),
        (
            "Host: localhost\r\nOrigin: https://app.example\r\n".into(),
            "400",
        ),
    ] {
        let answer = post(&headers);
        assert_eq!(status(&answer), expected, "{headers}: {answer}");
        let parsed = answer.contains("not valid JSON");
        assert_eq!(
            parsed,
            expected == "400" && !headers.contains("localhost\r\nHost"),
            "{answer}"
        );
    }
    for path in ["/", "/health", "/ready", "/metrics", "/v1/models"] {
        let answer = send(&format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n"));
        assert_eq!(status(&answer), "403", "{path}: {answer}");
    }
    let preflight = send(
        "OPTIONS /v1/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n",
    );
    assert_eq!(status(&preflight), "204", "{preflight}");
    assert!(preflight.contains("access-control-allow-origin: https://app.example"));
    assert!(preflight.contains("access-control-allow-headers: authorization, content-type"));
}

/// A template that leaves out what it does not know makes nothing of a lone system message.
#[test]
fn an_empty_prompt_is_refused_and_the_server_goes_on() {
    let source = "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}";
    let mut text = load(&Tiny::default());
    text.template = Some(ChatTemplate::new(source, "", "").unwrap());
    let server = start_with(config(), Arc::new(text));
    let chat = |role: &str, stream: bool| {
        let body = json!({
            "messages": [{"role": role, "content": "the ant"}], "max_tokens": 3, "stream": stream,
        });
        server.post("/v1/chat/completions", &body)
    };
    for stream in [false, true] {
        let message = chat("system", stream)
            .fails(400, "invalid_value")
            .to_owned();
        assert!(message.contains("empty prompt"), "{message}");
    }
    server
        .complete(&json!({"prompt": ""}))
        .fails(400, "invalid_value");
    server
        .complete(&json!({"prompt": []}))
        .fails(400, "invalid_value");
    server
        .complete(&json!({"prompt": [[]]}))
        .fails(400, "invalid_value");
    assert_eq!(chat("user", false).status, 200);
    assert_eq!(server.get("/health").status, 200);
}

/// What a conversation cannot help is the server's fault, and said to be the template's.
#[test]
fn a_template_that_always_fails_is_not_blamed_on_the_messages() {
    let mut text = load(&Tiny::default());
    let source = "{{ messages[0].content.no_such_method() }}";
    text.template = Some(ChatTemplate::new(source, "", "").unwrap());
    let server = start_with(config(), Arc::new(text));
    let body = json!({"messages": [{"role": "user", "content": "the ant"}], "max_tokens": 3});
    let answer = server.post("/v1/chat/completions", &body);
    assert_eq!(answer.status, 500);
    let message = answer.body["error"]["message"].to_string();
    assert!(message.contains("chat template is faulty"), "{message}");
    let text = json!({"prompt": "the ant", "max_tokens": 3});
    assert_eq!(server.complete(&text).status, 200);
}

/// Tokenizers and embeddings of one model need not have the same size.
#[test]
fn tokens_that_one_side_does_not_know_are_no_fault_of_the_server() {
    // Text of tokens that the embedding has no rows for.
    let server = start_with(config(), Arc::new(checkpoint("llama", load_options())));
    for body in [
        json!({"prompt": "the ant", "max_tokens": 3}),
        json!({"prompt": [1, 2, 61], "max_tokens": 3}),
        json!({"prompt": [4_000_000_000u32], "max_tokens": 3}),
    ] {
        let message = server
            .complete(&body)
            .fails(400, "invalid_value")
            .to_owned();
        assert!(message.contains("vocabulary of 61"), "{message}");
    }
    let chat = json!({"messages": [{"role": "user", "content": "x"}]});
    server
        .post("/v1/chat/completions", &chat)
        .fails(400, "invalid_value");
    let ids = json!({"prompt": [5, 6, 7], "max_tokens": 20, "logprobs": 5});
    assert_eq!(server.complete(&ids).status, 200);
    // Rows that no token has are never drawn, however likely.
    let Some(path) = shared("models/stories260K/stories260K-f32.gguf") else {
        return;
    };
    let mut text = load(&Tiny::default());
    text.model = Model::load(path, load_options()).unwrap();
    let server = start_with(config(), Arc::new(text));
    let mut body = json!({
        "prompt": "the ant", "max_tokens": 40, "temperature": 2, "n": 8, "logprobs": 5,
        "logit_bias": {"270": 100, "511": 100},
    });
    let reply = server.complete(&body);
    assert_eq!(reply.status, 200, "{reply:?}");
    body["response_format"] = json!({"type": "json_object"});
    assert_eq!(server.complete(&body).status, 200);
    server
        .complete(&json!({"prompt": [512]}))
        .fails(400, "invalid_value");
}

/// Nothing is made of a text that no context holds, and nothing takes quadratic time.
#[test]
fn sizes_are_checked_before_the_work() {
    let server = start(config());
    let begun = Instant::now();
    // Nearly all private-use characters, one of which is to fence control tokens.
    let private: String = ('\u{E000}'..='\u{F8FE}')
        .chain('\u{F0000}'..='\u{FFFFD}')
        .collect();
    for text in [
        private.repeat(7_500_000 / private.len()),
        "x".repeat(7 << 20),
    ] {
        let chat = json!({"messages": [{"role": "user", "content": text}]});
        server
            .post("/v1/chat/completions", &chat)
            .fails(400, "context_length_exceeded");
        server
            .complete(&json!({"prompt": text}))
            .fails(400, "context_length_exceeded");
    }
    // Small enough to be rendered and encoded.
    let chat = json!({"messages": [{"role": "user", "content": &private[..200_001]}]});
    server
        .post("/v1/chat/completions", &chat)
        .fails(400, "context_length_exceeded");
    let many: Vec<Value> = (0..5000)
        .map(|_| json!({"role": "user", "content": "x"}))
        .collect();
    let message = server.post("/v1/chat/completions", &json!({"messages": many}));
    assert!(
        message
            .fails(400, "invalid_value")
            .contains("more than 4096")
    );
    let tools = format!(r#"{{"prompt":"x","tools":[{}1]}}"#, "1,".repeat(3 << 20));
    server
        .post_text("/v1/completions", &tools)
        .fails(400, "invalid_value");
    let ids = format!(r#"{{"prompt":[{}1]}}"#, "1,".repeat(3 << 20));
    server
        .post_text("/v1/completions", &ids)
        .fails(400, "context_length_exceeded");
    // A debug build on a busy machine; each of these took minutes when it was quadratic.
    assert!(begun.elapsed() < Duration::from_secs(60));
}

/// While large texts are tokenised for others, and for clients that have left, chats are answered.
#[test]
fn large_texts_do_not_keep_small_ones_out() {
    let server = start(config());
    let large = json!({"content": prose(1, 2 << 20)}).to_string();
    let request = head("/tokenize", large.len()) + &large;
    thread::scope(|scope| {
        for n in 0..10 {
            let (server, request) = (&server, &request);
            scope.spawn(move || {
                let mut stream = connect(&server.base);
                if stream.write_all(request.as_bytes()).is_ok() && n % 2 == 0 {
                    let answer = rest(stream);
                    assert!(
                        ["200", "429"].contains(&status(&answer)),
                        "{}",
                        &answer[..200]
                    );
                }
            });
        }
        for _ in 0..5 {
            let begun = Instant::now();
            let body = json!({"prompt": "the ant", "max_tokens": 2});
            assert_eq!(server.complete(&body).status, 200);
            assert!(begun.elapsed() < Duration::from_secs(5));
        }
    });
}

/// A client that stops reading its stream holds neither memory nor its connection.
#[test]
fn a_stream_that_nobody_reads_is_ended() {
    let mut config = config();
    config.http.write_time = Duration::from_millis(300);
    config.http.unread = 64;
    config.http.connections = 8;
    let server = start(config);
    let body = json!({
        "messages": [{"role": "user", "content": "an ant"}], "max_tokens": 900, "n": 8,
        "stream": true, "logprobs": true, "top_logprobs": 20, "logit_bias": endless(),
    });
    let body = body.to_string();
    let mut stream = connect(&server.base);
    // Its answers are some 10 MB: more than the buffers of both sockets take.
    stream
        .write_all((head("/v1/chat/completions", body.len()) + &body).as_bytes())
        .unwrap();
    server.wait_until("it runs", |state| state["running"] == 1);
    server.wait_until("it is ended", |state| state["running"] == 0);
    thread::sleep(Duration::from_millis(900));
    // What the sockets hold is read faster with a larger window.
    SockRef::from(&stream)
        .set_recv_buffer_size(1 << 20)
        .unwrap();
    let answer = rest(stream);
    // It was ended: what did not fit the buffers was never generated, and the last event, where the
    // client still got it, says why.
    assert!(answer.matches("data: ").count() < 8 * 900);
    assert!(
        !answer.contains("[DONE]") || answer.contains("reads it too slowly"),
        "{}",
        &answer[answer.len() - 500..]
    );
    // A reader that is merely slow gets all of it.
    let mut body: Value = serde_json::from_str(&body).unwrap();
    (body["n"], body["max_tokens"]) = (json!(1), json!(100));
    let mut count = 0;
    for chunk in server.open("/v1/chat/completions", &body) {
        thread::sleep(Duration::from_millis(5));
        count += usize::from(chunk["choices"][0]["logprobs"]["content"].is_array());
    }
    assert_eq!(count, 100);
}
