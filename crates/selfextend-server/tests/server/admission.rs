//! Which requests run, when, under which map, and how they end.

use crate::common::{CONTEXT, WINDOW, config, endless, prose, start};
use crate::seeded;
use serde_json::{Value, json};
use std::thread;
use std::time::Duration;

#[test]
fn long_requests_are_extended_by_the_lowest_rung() {
    let server = start(config());
    let group_size = |len: usize| {
        let reply = server.complete(&json!({"prompt": prose(1, len), "max_tokens": 4}));
        let settings = reply.header("x-selfextend").unwrap().to_owned();
        let group = reply.body["usage"]["selfextend"]["group_size"]
            .as_u64()
            .unwrap();
        assert!(
            settings.contains(&format!("group_size={group};")),
            "{settings}"
        );
        group
    };
    assert_eq!(group_size(30), 1);
    assert_eq!(group_size(WINDOW - 4 - 4), 1);
    let (double, longest) = (group_size(WINDOW + 10), group_size(CONTEXT - 200));
    assert!(1 < double && double < longest, "{double} {longest}");
    assert_eq!(group_size(30), 1);

    let too_long = server.complete(&json!({"prompt": prose(0, CONTEXT + 300), "max_tokens": 7}));
    let message = too_long.fails(400, "context_length_exceeded");
    assert!(
        message.contains("1024") && message.contains("7 in the completion"),
        "{message}"
    );
}

#[test]
fn a_full_queue_refuses_and_says_when_to_come_back() {
    let mut config = config();
    (config.scheduler.parallel, config.scheduler.queue) = (1, 1);
    let server = start(config);
    let mut body =
        json!({"prompt": "an ant", "max_tokens": 900, "stream": true, "logit_bias": endless()});
    let mut running = server.open("/v1/completions", &body);
    assert!(running.next().is_some());
    body["max_tokens"] = json!(5);
    body["stream"] = json!(false);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| server.complete(&body));
        server.wait_until("one waits", |state| state["queued"] == 1);
        let refused = server.complete(&body);
        refused.fails(429, "rate_limit_exceeded");
        let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=120).contains(&after));
        // The one that runs makes room by going away.
        drop(running);
        assert_eq!(waiting.join().unwrap().status, 200);
    });
}

#[test]
fn a_client_that_goes_away_frees_its_place() {
    let server = start(config());
    let body = json!({"prompt": prose(2, 700), "max_tokens": 300, "stream": true, "logit_bias": endless()});
    let mut chunks = server.open("/v1/completions", &body);
    assert!(chunks.next().is_some());
    server.wait_until("it runs", |state| state["running"] == 1);
    drop(chunks);
    server.wait_until("it is gone", |state| state["running"] == 0);
}

#[test]
fn memory_stays_within_its_budget() {
    let mut config = config();
    // A block of the tiny model is 64 KiB and a full context four and a ring.
    config.scheduler.kv_memory = 700 << 10;
    let server = start(config);
    let budget = 700 << 10;
    let too_large = json!({"prompt": prose(0, 500), "max_tokens": 500, "n": 8});
    server.complete(&too_large).fails(400, "kv_memory_exceeded");
    thread::scope(|scope| {
        let server = &server;
        let asked: Vec<_> = (0..16)
            .map(|n| {
                let len = [30, 600, 100, 300][n % 4];
                scope.spawn(move || server.complete(&seeded(&prose(n, len), 1)))
            })
            .collect();
        while asked.iter().any(|asked| !asked.is_finished()) {
            let state = server.get("/ready").body;
            assert!(state["kv_bytes"].as_u64().unwrap() <= budget, "{state}");
            thread::sleep(Duration::from_millis(2));
        }
        for asked in asked {
            assert_eq!(asked.join().unwrap().status, 200);
        }
    });
    // Prefixes fill what is left, and make room.
    let state = server.get("/ready").body;
    assert!(state["kv_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn a_chat_passes_a_document_that_has_no_room() {
    let mut config = config();
    // Room for one full context of four blocks and a ring, not for two.
    config.scheduler.kv_memory = 500 << 10;
    let server = start(config);
    let mut document = seeded(&prose(2, 400), 1);
    document["max_tokens"] = json!(500);
    document["stream"] = json!(true);
    let mut running = server.open("/v1/completions", &document);
    assert!(running.next().is_some());
    document["stream"] = json!(false);
    document["prompt"] = json!(prose(3, 400));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| server.complete(&document));
        server.wait_until("one waits", |state| state["queued"] == 1);
        let chat = server.complete(&json!({"prompt": "an ant", "max_tokens": 3}));
        assert_eq!(chat.status, 200, "{chat:?}");
        assert!(!waiting.is_finished());
        drop(running);
        assert_eq!(waiting.join().unwrap().status, 200);
    });
}

#[test]
fn an_orderly_end_finishes_or_fails_each_stream() {
    let body = |tokens: usize| json!({"prompt": "an ant", "max_tokens": tokens, "stream": true, "logit_bias": endless()});
    // Time enough: the answer is whole.
    let mut server = start(config());
    let mut chunks = server.open("/v1/completions", &body(60));
    assert!(chunks.next().is_some());
    server.ask_to_end();
    let rest: Vec<Value> = chunks.collect();
    assert_eq!(rest.last().unwrap(), "[DONE]");
    assert!(
        rest.iter()
            .any(|chunk| chunk["choices"][0]["finish_reason"] == "length")
    );
    server.end();
    // None at all: the stream ends with an error.
    let mut config = config();
    config.grace = Duration::ZERO;
    let mut server = start(config);
    let mut chunks = server.open("/v1/completions", &body(900));
    assert!(chunks.next().is_some());
    server.ask_to_end();
    let rest: Vec<Value> = chunks.collect();
    let [.., error, done] = &rest[..] else {
        panic!("{rest:?}");
    };
    assert_eq!(
        (error["error"]["code"].as_str(), done.as_str()),
        (Some("shutting_down"), Some("[DONE]"))
    );
    server.end();
}

#[test]
fn what_takes_too_long_is_ended() {
    let mut config = config();
    config.http.request_time = Duration::from_millis(1);
    let server = start(config);
    let body = json!({"prompt": prose(0, 900), "max_tokens": 100, "logit_bias": endless()});
    server.complete(&body).fails(504, "timeout");
}

#[test]
fn a_conversation_that_outgrows_a_rung_is_read_again_and_says_so() {
    let server = start(config());
    let text = prose(5, 3 * WINDOW);
    let ask = |len: usize| server.complete(&json!({"prompt": &text[..len], "max_tokens": 4}));
    let first = ask(48);
    assert_eq!(first.header("x-selfextend-reread-tokens"), None);
    let grown = ask(100);
    let reread: usize = grown
        .header("x-selfextend-reread-tokens")
        .unwrap()
        .parse()
        .unwrap();
    assert!((30..=48).contains(&reread), "{reread}");
    // Under the new map its start is known from now on.
    let longer = ask(110);
    assert_eq!(longer.header("x-selfextend-reread-tokens"), None);
    let cached: usize = longer
        .header("x-selfextend-cached-tokens")
        .unwrap()
        .parse()
        .unwrap();
    assert!(cached > 70, "{cached}");
}
