//! A small client of `/v1/completions`: one streamed answer, and when its tokens came.

use crate::error::{BenchError, Result};
use serde::Deserialize;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};
use ureq::Agent;

/// What is said of a refusal in the report.
const LONGEST_REASON: usize = 300;

/// A server, and how long an answer may take.
pub struct Client {
    agent: Agent,
    url: String,
    timeout: Duration,
}

/// When the parts of an answer came.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Tokens of the prompt, as the server counts them.
    pub prompt_tokens: usize,
    /// Tokens of the answer, likewise.
    pub completion_tokens: usize,
    /// Seconds from the request to the first text.
    pub first: f64,
    /// Seconds from there to the end of the answer.
    pub rest: f64,
}

impl Answer {
    /// Tokens read per second. The first token of the answer comes with the last of the prompt.
    pub fn prefill_tok_s(&self) -> f64 {
        self.prompt_tokens as f64 / self.first
    }

    /// Tokens written per second after the first; nothing of an answer of one.
    pub fn decode_tok_s(&self) -> Option<f64> {
        let steps = self.completion_tokens.checked_sub(1).filter(|it| *it > 0)?;
        (self.rest > 0.0).then(|| steps as f64 / self.rest)
    }
}

/// A chunk of a stream.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
}

impl Client {
    /// A client of the server at `url` (without `/v1`).
    pub fn new(url: &str, timeout: Duration) -> Self {
        let config = Agent::config_builder()
            // A refusal's body says why.
            .http_status_as_error(false)
            .timeout_global(Some(timeout))
            // It is on this machine, or named by the user.
            .proxy(None);
        Self {
            agent: config.build().new_agent(),
            url: url.trim_end_matches('/').to_owned(),
            timeout,
        }
    }

    /// Whether the server says that it is ready.
    pub fn is_ready(&self) -> bool {
        let answer = self.agent.get(format!("{}/health", self.url)).call();
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// The name of the server's first model.
    pub fn model(&self) -> Result<String> {
        let url = format!("{}/v1/models", self.url);
        let answer = self.agent.get(&url).call();
        let mut answer = answer.map_err(|error| self.failure(&url, error))?;
        let body = answer.body_mut().read_to_string();
        let body = body.map_err(|error| self.failure(&url, error))?;
        let models: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        let name = models["data"][0]["id"].as_str();
        name.map(str::to_owned)
            .ok_or_else(|| BenchError::failure(format!("{url} names no model: {body}")))
    }

    /// Lets the server continue a prompt, greedily.
    pub fn complete(&self, model: &str, prompt: &str, tokens: usize) -> Result<Answer> {
        let body = serde_json::json!({
            "model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0,
            "stream": true, "stream_options": {"include_usage": true},
        });
        let url = format!("{}/v1/completions", self.url);
        let request = self.agent.post(&url);
        let request = request.header("content-type", "application/json");
        let start = Instant::now();
        let response = request.send(body.to_string());
        let mut response = response.map_err(|error| self.failure(&url, error))?;
        let status = response.status();
        if !status.is_success() {
            let said = response.body_mut().read_to_string().unwrap_or_default();
            let said: String = said.trim().chars().take(LONGEST_REASON).collect();
            let told = format!("the server answered {status}: {said}");
            // A prompt that it does not take is a property of it; everything else is trouble.
            return Err(match status.as_u16() {
                400 | 413 | 422 => BenchError::Cannot(told),
                _ => BenchError::failure(told),
            });
        }
        let stream = BufReader::new(response.into_body().into_reader());
        self.read(&url, stream, start)
    }

    fn read(&self, url: &str, stream: impl BufRead, start: Instant) -> Result<Answer> {
        let (mut first, mut last, mut usage) = (None, 0.0, None);
        for line in stream.lines() {
            let line = line.map_err(|error| self.failure(url, error.into()))?;
            let Some(data) = line.strip_prefix("data:").map(str::trim) else {
                continue;
            };
            if data == "[DONE]" {
                break;
            }
            let now = start.elapsed().as_secs_f64();
            let chunk: Chunk = serde_json::from_str(data)
                .map_err(|error| BenchError::failure(format!("{url}: {error} in {data}")))?;
            if let Some(error) = chunk.error {
                return Err(BenchError::failure(format!("{url}: {error}")));
            }
            if chunk.choices.iter().any(|choice| !choice.text.is_empty()) {
                first.get_or_insert(now);
            }
            if !chunk.choices.is_empty() {
                last = now;
            }
            usage = chunk.usage.or(usage);
        }
        let missing = |what: &str| BenchError::failure(format!("{url}: the answer has no {what}"));
        let (first, usage) = (
            first.ok_or_else(|| missing("text"))?,
            usage.ok_or_else(|| missing("usage"))?,
        );
        Ok(Answer {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            first,
            rest: last - first,
        })
    }

    fn failure(&self, url: &str, error: ureq::Error) -> BenchError {
        match error {
            ureq::Error::Timeout(_) => BenchError::Timeout {
                command: format!("POST {url}"),
                seconds: self.timeout.as_secs(),
            },
            other => BenchError::Io {
                what: format!("POST {url}"),
                reason: other.into_io(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    /// A server of one request on this machine: it writes `parts` with a pause before each.
    fn stub(status: &str, parts: Vec<(u64, String)>) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n");
        let serving = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let request = request(&mut socket);
            let _ = socket.write_all(head.as_bytes());
            for (millis, part) in parts {
                thread::sleep(Duration::from_millis(millis));
                // The client may have gone.
                let _ = socket.write_all(part.as_bytes());
            }
            request
        });
        (url, serving)
    }

    /// Head and body of a request.
    fn request(socket: &mut impl Read) -> String {
        let mut text = String::new();
        let mut bytes = [0; 4096];
        loop {
            let count = socket.read(&mut bytes).unwrap();
            text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head.to_lowercase();
            let length = length.split("content-length: ").nth(1).unwrap_or("0");
            let length = length.lines().next().unwrap().parse::<usize>().unwrap();
            if body.len() >= length {
                return text;
            }
        }
    }

    fn chunk(text: &str) -> String {
        let choice = serde_json::json!({"choices": [{"index": 0, "text": text}], "usage": null});
        format!("data: {choice}\n\n")
    }

    fn client(url: &str) -> Client {
        Client::new(url, Duration::from_secs(20))
    }

    #[test]
    fn the_first_text_ends_the_prefill_and_the_rest_is_the_decode() {
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":64,"completion_tokens":4}}"#;
        let parts = vec![
            (300, chunk("")),
            (200, chunk(" a")),
            (100, chunk(" b")),
            (100, chunk(" c") + &chunk(" d")),
            (200, format!("data: {usage}\n\ndata: [DONE]\n\n")),
        ];
        let (url, serving) = stub("200 OK", parts);
        let answer = client(&url).complete("m", "a prompt", 4).unwrap();
        // Sleeps are at least as long as asked for; the machine may be slow, but not for seconds.
        assert!((0.5..5.0).contains(&answer.first), "{answer:?}");
        assert!((0.2..5.0).contains(&answer.rest), "{answer:?}");
        assert_eq!((answer.prompt_tokens, answer.completion_tokens), (64, 4));
        let request = serving.join().unwrap();
        assert!(
            request.starts_with("POST /v1/completions HTTP/1.1\r\n"),
            "{request}"
        );
        let body = request.split_once("\r\n\r\n").unwrap().1;
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&body["prompt"], &body["stream"]),
            (&"a prompt".into(), &true.into())
        );
        assert_eq!(
            (&body["max_tokens"], &body["model"]),
            (&4.into(), &"m".into())
        );
    }

    #[test]
    fn rates() {
        let mut answer = Answer {
            prompt_tokens: 100,
            completion_tokens: 33,
            first: 2.0,
            rest: 4.0,
        };
        assert_eq!(answer.prefill_tok_s(), 50.0);
        assert_eq!(answer.decode_tok_s(), Some(8.0));
        answer.completion_tokens = 1;
        assert_eq!(answer.decode_tok_s(), None);
    }

    #[test]
    fn a_refusal_is_a_result_and_trouble_is_not() {
        let refused = r#"{"error":{"message":"the prompt is too long"}}"#.to_owned();
        let (url, _) = stub("400 Bad Request", vec![(0, refused)]);
        let error = client(&url).complete("m", "x", 1).unwrap_err();
        assert!(
            matches!(&error, BenchError::Cannot(it) if it.contains("too long")),
            "{error}"
        );
        for status in ["404 Not Found", "500 Internal Server Error"] {
            let (url, _) = stub(status, Vec::new());
            let error = client(&url).complete("m", "x", 1).unwrap_err();
            assert!(error.is_failure(), "{error}");
        }
        let broken = "data: {\"error\":{\"message\":\"out of memory\"}}\n\n".to_owned();
        let (url, _) = stub("200 OK", vec![(0, broken)]);
        let error = client(&url).complete("m", "x", 1).unwrap_err().to_string();
        assert!(error.contains("out of memory"), "{error}");
    }

    #[test]
    fn an_answer_that_ends_early_or_never_is_told() {
        let (url, _) = stub("200 OK", vec![(0, chunk(" a"))]);
        let error = client(&url).complete("m", "x", 1).unwrap_err().to_string();
        assert!(error.contains("no usage"), "{error}");
        let (url, _) = stub("200 OK", vec![(0, chunk(" a")), (3000, String::new())]);
        let hasty = Client::new(&url, Duration::from_millis(500));
        let error = hasty.complete("m", "x", 1).unwrap_err();
        assert!(matches!(error, BenchError::Timeout { .. }), "{error:?}");
    }

    #[test]
    fn the_model_is_the_first_of_the_list() {
        let list = r#"{"object":"list","data":[{"id":"a.gguf"},{"id":"b"}]}"#.to_owned();
        let (url, serving) = stub("200 OK", vec![(0, list)]);
        assert_eq!(client(&url).model().unwrap(), "a.gguf");
        assert!(serving.join().unwrap().starts_with("GET /v1/models "));
        let (url, _) = stub("404 Not Found", vec![(0, "what?".to_owned())]);
        let error = client(&url).model().unwrap_err().to_string();
        assert!(error.contains("what?"), "{error}");
    }

    #[test]
    fn readiness_is_a_status() {
        let (url, serving) = stub("200 OK", Vec::new());
        assert!(client(&url).is_ready());
        assert!(serving.join().unwrap().starts_with("GET /health "));
        let (url, _) = stub("503 Service Unavailable", Vec::new());
        assert!(!client(&url).is_ready());
    }
}
