//! Requests as clients write them, and what is refused all the same.

use crate::common::{CONTEXT, config, endless, start};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::{Value, json};
use std::io::Write;

#[test]
fn numbers_may_be_spelled_in_any_way() {
    let server = start(config());
    let ask = |text: &str| server.post_text("/v1/completions", text);
    let plain = r#"{"prompt": "the ant", "temperature": 0, "max_tokens": 5, "n": 1, "seed": 3}"#;
    let text = ask(plain).text().to_owned();
    for same in [
        r#"{"prompt": "the ant", "temperature": 0, "max_tokens": 5.0, "n": 1.0, "seed": 3e0}"#,
        r#"{"prompt": "the ant", "temperature": 0, "max_tokens": 0.5e1, "top_k": -1, "best_of": 1.0}"#,
        r#"{"prompt": "the ant", "temperature": 0.0, "max_tokens": 5, "top_k": 0, "n": null, "stop": null, "seed": null, "logprobs": null, "stream": null, "logit_bias": null, "suffix": null, "response_format": null, "guided_json": null}"#,
        "\u{feff}{\"prompt\": \"the ant\", \"temperature\": 0, \"max_tokens\": 5}",
    ] {
        assert_eq!(ask(same).text(), text, "{same}");
    }
    let ids = ask(r#"{"prompt": [1.0, 2e0], "max_tokens": 1, "logprobs": 1.0}"#);
    assert_eq!(ids.status, 200, "{ids:?}");
    for wrong in [
        r#"{"prompt": "x", "max_tokens": 5.5}"#,
        r#"{"prompt": "x", "max_tokens": -2}"#,
        r#"{"prompt": "x", "top_k": -5}"#,
        r#"{"prompt": "x", "n": 1e300}"#,
        r#"{"prompt": "x", "max_tokens": "5"}"#,
        r#"{"prompt": [1.5]}"#,
    ] {
        ask(wrong).fails(400, "invalid_value");
    }
}

#[test]
fn more_tokens_than_there_is_room_for_are_as_many_as_there_is() {
    let server = start(config());
    let ask = |most: Value| {
        let body =
            json!({"prompt": "the ant", "max_tokens": most, "logit_bias": endless(), "seed": 1});
        server.complete(&body)
    };
    let clamped = ask(json!(CONTEXT * 9));
    let prompt = clamped.body["usage"]["prompt_tokens"].as_u64().unwrap() as usize;
    assert_eq!(clamped.body["usage"]["completion_tokens"], CONTEXT - prompt);
    let told = &clamped.body["usage"]["selfextend"]["max_tokens_clamped_to"];
    assert_eq!(*told, CONTEXT - prompt);
    let all = ask(json!(-1));
    assert_eq!(all.text(), clamped.text());
    assert!(all.body["usage"]["selfextend"]["max_tokens_clamped_to"].is_null());
    let few = ask(json!(3));
    assert!(few.body["usage"]["selfextend"]["max_tokens_clamped_to"].is_null());

    let mut config = config();
    config.clamp_max_tokens = false;
    let server = start(config);
    let body = json!({"prompt": "the ant", "max_tokens": CONTEXT});
    server.complete(&body).fails(400, "context_length_exceeded");
}

#[test]
fn paths_may_have_a_slash_too_many_or_lack_the_version() {
    let server = start(config());
    let body = json!({"prompt": "the", "max_tokens": 1});
    for path in [
        "/v1/completions/",
        "//v1//completions",
        "/completions",
        "/v1/v1/completions",
    ] {
        assert_eq!(server.post(path, &body).status, 200, "{path}");
    }
    for path in ["/models/", "/models/tiny", "/health/", "/v1/models/?x=1"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    server.get("/v2/models").fails(404, "");
    // A key is asked for on every way to a route.
    let mut config = config();
    config.api_keys = vec!["key".into()];
    let server = start(config);
    for path in ["//metrics", "/metrics/", "/health/../metrics", "/models"] {
        server.get(path).fails(401, "invalid_api_key");
    }
    for header in [
        ("x-api-key", "key"),
        ("api-key", "key"),
        ("authorization", "Bearer key"),
    ] {
        let reply = server.post_with(header, "/completions", &body);
        assert_eq!(reply.status, 200, "{header:?}");
    }
    let wrong = server.post_with(("x-api-key", "kei"), "/completions", &body);
    wrong.fails(401, "invalid_api_key");
}

fn packed(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let best = Compression::best();
    match coding {
        "gzip" => {
            let mut packer = GzEncoder::new(Vec::new(), best);
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        }
        "deflate" => {
            let mut packer = ZlibEncoder::new(Vec::new(), best);
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        }
        _ => {
            let mut packer = DeflateEncoder::new(Vec::new(), best);
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        }
    }
}

#[test]
fn compressed_bodies_are_read_within_the_limit() {
    let mut config = config();
    config.http.body = 1 << 20;
    let server = start(config);
    let send = |coding: &str, bytes: &[u8]| {
        let request = ureq::post(&format!("{}/v1/completions", server.base));
        let sent = request.set("content-encoding", coding).send_bytes(bytes);
        match sent {
            Ok(response) | Err(ureq::Error::Status(_, response)) => response.status(),
            Err(error) => panic!("{error}"),
        }
    };
    let body = br#"{"prompt": "the ant", "max_tokens": 2}"#;
    for coding in ["gzip", "deflate"] {
        assert_eq!(send(coding, &packed(coding, body)), 200, "{coding}");
        assert_eq!(
            send(&coding.to_uppercase(), &packed(coding, body)),
            200,
            "{coding}"
        );
        // Damaged, cut off, of another coding.
        let mut damaged = packed(coding, body);
        let at = damaged.len() / 2;
        damaged[at] ^= 0xff;
        assert_eq!(send(coding, &damaged), 400, "{coding}");
        assert_eq!(send(coding, &packed(coding, body)[..20]), 400, "{coding}");
        assert_eq!(send(coding, body), 400, "{coding}");
        // A bomb of 200 MB in some 200 KB.
        let bomb = packed(coding, &vec![b' '; 200 << 20]);
        assert!(bomb.len() < 1 << 20);
        assert_eq!(send(coding, &bomb), 413, "{coding}");
    }
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(send("gzip, gzip", body), 415);
}

#[test]
fn answers_are_held_to_grammars_of_every_kind() {
    let server = start(config());
    let ask = |more: Value| {
        let mut body = json!({"prompt": "the ant", "max_tokens": 60, "seed": 4, "temperature": 2});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        server.complete(&body)
    };
    let schema = json!({"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"], "additionalProperties": false});
    for more in [
        json!({"guided_json": schema}),
        json!({"guided_json": schema.to_string()}),
        json!({"structured_outputs": {"json": schema}}),
        json!({"response_format": {"type": "json_object", "schema": schema}}),
    ] {
        let reply = ask(more.clone());
        let value: Value =
            serde_json::from_str(reply.text()).unwrap_or_else(|_| panic!("{more}: {reply:?}"));
        assert!(["x", "y"].contains(&value["a"].as_str().unwrap()), "{more}");
    }
    for more in [
        json!({"guided_choice": ["yes \"sir\"", "no\\n"]}),
        json!({"structured_outputs": {"choice": ["yes \"sir\"", "no\\n"]}}),
    ] {
        let reply = ask(more);
        assert!(
            ["yes \"sir\"", "no\\n"].contains(&reply.text()),
            "{reply:?}"
        );
    }
    for more in [
        json!({"guided_regex": "[0-9]{3}-[ab]+"}),
        json!({"structured_outputs": {"regex": "[0-9]{3}-[ab]{1,4}"}}),
        json!({"guided_grammar": "start: DIGIT DIGIT DIGIT \"-\" AB\nDIGIT: /[0-9]/\nAB: /[ab]{1,9}/"}),
        json!({"structured_outputs": {"grammar": "start: /[0-9]{3}-[ab]{1,5}/"}}),
    ] {
        let reply = ask(more.clone());
        let text = reply.text();
        let (digits, rest) = text
            .split_once('-')
            .unwrap_or_else(|| panic!("{more}: {text}"));
        assert!(
            digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()),
            "{text}"
        );
        assert!(rest.chars().all(|c| c == 'a' || c == 'b'), "{text}");
    }
    for (more, code) in [
        (
            json!({"guided_grammar": "root ::= \"a\""}),
            "unsupported_parameter",
        ),
        (json!({"guided_grammar": "start: missing"}), "invalid_value"),
        (json!({"guided_regex": "("}), "invalid_value"),
        (json!({"guided_choice": []}), "invalid_value"),
        (json!({"guided_choice": [""]}), "invalid_value"),
        (
            json!({"guided_choice": ["a"], "guided_regex": "a"}),
            "invalid_value",
        ),
        (
            json!({"guided_regex": "a", "response_format": {"type": "json_object"}}),
            "invalid_value",
        ),
        (
            json!({"guided_regex": "a", "ignore_eos": true}),
            "invalid_value",
        ),
        (
            json!({"guided_regex": "a".repeat(200_000)}),
            "invalid_value",
        ),
        (
            json!({"structured_outputs": {"structural_tag": "x"}}),
            "unsupported_parameter",
        ),
        (
            json!({"response_format": {"type": "text", "schema": {}}}),
            "invalid_value",
        ),
        (json!({"suffix": "the end"}), "unsupported_parameter"),
    ] {
        ask(more).fails(400, code);
    }
}

#[test]
fn an_answer_does_not_end_where_its_end_is_ignored() {
    let server = start(config());
    for seed in 0..4 {
        let body = json!({
            "prompt": "the ant", "max_tokens": 200, "seed": seed, "temperature": 2, "ignore_eos": true,
            "logit_bias": {"260": 100, "261": 100, "262": 100},
        });
        let reply = server.complete(&body);
        assert_eq!(reply.body["usage"]["completion_tokens"], 200);
        assert_eq!(reply.body["choices"][0]["finish_reason"], "length");
    }
}

#[test]
fn a_model_has_the_names_it_was_given_or_any() {
    let mut config = config();
    config.aliases = vec!["gpt-4o".into(), "other".into()];
    let server = start(config);
    let ask = |server: &crate::common::Running, name: &str| {
        server.complete(&json!({"model": name, "prompt": "the", "max_tokens": 1}))
    };
    for name in ["tiny", "gpt-4o", "other", "tiny:latest"] {
        assert_eq!(ask(&server, name).status, 200, "{name}");
    }
    ask(&server, "gpt-5").fails(404, "model_not_found");
    let listed = server.get("/v1/models").body;
    let names: Vec<&str> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["tiny", "gpt-4o", "other"]);
    let mut config = crate::common::config();
    config.any_model = true;
    let server = start(config);
    let reply = ask(&server, "gpt-5");
    assert_eq!((reply.status, &reply.body["model"]), (200, &json!("tiny")));
}

/// What routers and monitors read, before anything has happened.
#[test]
fn metrics_are_described_and_there_from_the_start() {
    let mut config = config();
    config.api_keys = vec!["key".into()];
    config.open_metrics = true;
    let server = start(config);
    let metrics = server.get_text("/metrics");
    let typed: Vec<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    assert!(typed.len() >= 19, "{metrics}");
    for line in typed {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        assert!(
            metrics.lines().any(|line| line.starts_with(name)),
            "{name} has no value"
        );
    }
    server.get("/v1/models").fails(401, "invalid_api_key");
    let server = start(crate::common::config());
    assert_eq!(server.get("/get_model_info").body["is_generation"], true);
    assert_eq!(server.get("/model_info").body["model_path"], "tiny");
    assert_eq!(server.get("/server_info").body["max_running_requests"], 16);
    assert_eq!(server.get("/get_load").body[0]["num_reqs"], 0);
    assert_eq!(server.get("/load").body["server_load"], 0);
    assert!(server.get("/version").body["version"].is_string());
}

/// While a stream is finished, the server says that it takes no more.
#[test]
fn a_server_that_ends_says_so_until_it_has_ended() {
    let mut config = config();
    config.grace = std::time::Duration::from_secs(600);
    let mut server = start(config);
    let body =
        json!({"prompt": "the ant", "max_tokens": 900, "stream": true, "logit_bias": endless()});
    let mut running = server.open("/v1/completions", &body);
    assert!(running.next().is_some());
    server.ask_to_end();
    server.wait_until("it is not ready", |state| state["status"] == "not ready");
    let ready = server.get("/ready");
    assert_eq!(ready.status, 503);
    let refused = server.complete(&json!({"prompt": "the"}));
    refused.fails(503, "shutting_down");
    assert!(refused.header("retry-after").is_some());
    server.get("/v1/models").fails(503, "shutting_down");
    assert_eq!(server.get("/health").status, 200);
    let rest: Vec<Value> = running.collect();
    assert_eq!(rest.last().unwrap(), "[DONE]");
    assert_eq!(
        rest[rest.len() - 2]["choices"][0]["finish_reason"],
        "length"
    );
    server.end();
}
