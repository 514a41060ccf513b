//! What evaluation harnesses ask of `/v1/completions`.

use crate::common::{CONTEXT, WINDOW, config, endless, prose, start, streamed_text, tiny_model};
use serde_json::{Value, json};

fn numbers(list: &Value) -> Vec<f64> {
    let list = list.as_array().unwrap_or_else(|| panic!("{list}"));
    list.iter().filter_map(Value::as_f64).collect()
}

/// `ln p` of every token but the first, as a session of the library scores them.
fn scored(ids: &[u32], context: usize) -> Vec<f64> {
    let text = tiny_model();
    let mut session = text.session(context).unwrap();
    let mut scores = Vec::new();
    let seen = &ids[..ids.len() - 1];
    let visit = |_, score: selfextend::sampling::TokenScore| scores.push(score.log_probability);
    session.score(seen, &ids[1..], visit).unwrap();
    scores
}

/// The probabilities of a prompt are those of scoring it, to the last digit that JSON's reader keeps: as text or ids, alone or with
/// others, cached or not, in the trained window or beyond.
#[test]
fn an_echoed_prompt_has_its_probabilities() {
    let mut config = config();
    config.scheduler.busy_chunk = 100;
    let server = start(config);
    let texts = [prose(1, 30), prose(2, WINDOW / 2), prose(3, 700)];
    let tokens = |text: &String| -> Vec<u32> {
        let reply = server.post("/tokenize", &json!({"content": text}));
        serde_json::from_value(reply.body["tokens"].clone()).unwrap()
    };
    let ids: Vec<Vec<u32>> = texts.iter().map(tokens).collect();
    for _ in ["read", "cached"] {
        for prompt in [json!(texts), json!(ids)] {
            let body = json!({
                "prompt": prompt, "echo": true, "logprobs": 1, "max_tokens": 1, "temperature": 0,
                "logit_bias": endless(),
            });
            let reply = server.complete(&body);
            assert_eq!(reply.status, 200, "{reply:?}");
            for (n, ids) in ids.iter().enumerate() {
                let choice = &reply.body["choices"][n];
                assert!(choice["text"].as_str().unwrap().starts_with(&texts[n]));
                let logprobs = &choice["logprobs"];
                let list = logprobs["token_logprobs"].as_array().unwrap();
                assert_eq!(list.len(), ids.len() + 1, "one more is generated");
                assert!(list[0].is_null() && logprobs["top_logprobs"][0].is_null());
                let known = numbers(&logprobs["token_logprobs"]);
                let context = if ids.len() < WINDOW { WINDOW } else { CONTEXT };
                for (known, scored) in known.iter().zip(scored(ids, context)) {
                    assert!(
                        (known - scored).abs() < 1e-14 * scored.abs(),
                        "{n}: {known} {scored}"
                    );
                }
                // A token is the most probable one just where its number is the largest.
                let tops = logprobs["top_logprobs"].as_array().unwrap();
                for (known, top) in known.iter().zip(&tops[1..]) {
                    let largest = numbers(&top.as_object().unwrap().values().cloned().collect());
                    assert!(largest.iter().all(|top| known <= top));
                }
                let characters = texts[n].chars().count() as u64;
                let offsets = logprobs["text_offset"].as_array().unwrap();
                assert_eq!(offsets[0], 0);
                assert_eq!(offsets[ids.len()], characters);
                assert!(
                    offsets
                        .windows(2)
                        .all(|two| two[0].as_u64() <= two[1].as_u64())
                );
            }
        }
    }
}

#[test]
fn no_tokens_are_generated_where_none_are_asked_for() {
    let server = start(config());
    let mut body =
        json!({"prompt": "the ant", "max_tokens": 0, "echo": true, "logprobs": 2, "n": 2});
    let reply = server.complete(&body);
    assert_eq!(reply.text(), "the ant");
    assert_eq!(reply.body["choices"].as_array().unwrap().len(), 2);
    assert_eq!(reply.body["choices"][1]["finish_reason"], "length");
    assert_eq!(reply.body["usage"]["completion_tokens"], 0);
    let whole = reply.body["choices"][0]["logprobs"].clone();
    assert_eq!(
        whole["tokens"].as_array().unwrap().concat_texts(),
        "the ant"
    );
    // Streamed, the prompt comes in one chunk.
    body["stream"] = json!(true);
    let chunks: Vec<Value> = server.open("/v1/completions", &body).collect();
    assert_eq!(chunks[0]["choices"][0]["logprobs"], whole);
    assert_eq!(streamed_text(&chunks[..1]), "the ant");
    assert_eq!(chunks.last().unwrap(), "[DONE]");
    // Without echo it is an empty answer, and one token has no probability.
    let nothing = server.complete(&json!({"prompt": "the", "max_tokens": 0}));
    assert_eq!(nothing.text(), "");
    let one = json!({"prompt": [5], "max_tokens": 0, "echo": true, "logprobs": 0});
    let one = server.complete(&one);
    assert_eq!(
        one.body["choices"][0]["logprobs"]["token_logprobs"],
        json!([null])
    );
    // An end token has a probability as well: harnesses leave the last one out.
    let end = json!({
        "prompt": "the ant", "max_tokens": 1, "echo": true, "logprobs": 1, "logit_bias": {"262": 100},
    });
    let end = server.complete(&end);
    assert_eq!(end.text(), "the ant");
    let tokens = &end.body["choices"][0]["logprobs"]["tokens"];
    assert_eq!(tokens.as_array().unwrap().last().unwrap(), "<|im_end|>");
    // Chats have no use for it.
    let chat = json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": 0});
    server
        .post("/v1/chat/completions", &chat)
        .fails(400, "invalid_value");
}

trait Texts {
    fn concat_texts(&self) -> String;
}

impl Texts for Vec<Value> {
    fn concat_texts(&self) -> String {
        self.iter().map(|text| text.as_str().unwrap()).collect()
    }
}

/// The routes that lm-eval's remote tokenizer uses, in vLLM's shapes.
#[test]
fn a_client_without_a_tokenizer_finds_one() {
    let server = start(config());
    let info = server.get("/tokenizer_info").body;
    assert_eq!(info["eos_token"], "<|im_end|>");
    assert!(
        info["chat_template"]
            .as_str()
            .unwrap()
            .contains("add_generation_prompt")
    );
    let ask = |body: Value| server.post("/tokenize", &body);
    let end = ask(json!({"prompt": "<|im_end|>", "add_special_tokens": false}));
    assert_eq!(end.body["tokens"], json!([262]));
    let text = ask(json!({"prompt": "the ant", "return_token_strs": true, "model": "tiny"})).body;
    let count = text["tokens"].as_array().unwrap().len();
    assert_eq!(text["count"], count);
    assert_eq!(text["max_model_len"], CONTEXT);
    assert_eq!(text["token_strs"].as_array().unwrap().len(), count);
    let back = server.post("/detokenize", &json!({"tokens": text["tokens"]}));
    assert_eq!(back.body["prompt"], "the ant");
    ask(json!({"prompt": "x", "model": "other"})).fails(404, "model_not_found");
    for wrong in [
        json!({}),
        json!({"prompt": "x", "content": "x"}),
        json!({"prompt": "x", "add_special": true}),
    ] {
        ask(wrong).fails(400, "");
    }
}
