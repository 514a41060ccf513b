//! Requests to the hub: redirects, tokens, waiting, and what its refusals mean.

use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};
use url::Url;

use super::agent::Agents;
use super::checksum::Expected;
use super::listing::Listing;
use super::repo::{BRANCH, is_name};
use crate::hub::error::HubError;
use crate::hub::options::PullOptions;

const ENDPOINT: &str = "https://huggingface.co";

/// Where the token may go besides the endpoint that is set, as with huggingface_hub.
const TRUSTED: [&str; 2] = ["https://huggingface.co", "https://hf.co"];

/// Redirects followed for one request.
const REDIRECTS: usize = 20;

/// Times that a request is repeated while the hub is busy.
const RETRIES: u32 = 5;

/// The longest wait that a busy hub may ask for.
const PATIENCE: Duration = Duration::from_secs(300);

/// The largest answer about a model that is read.
const ANSWER: u64 = 64 << 20;

/// What the hub says of a file before it is downloaded.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub(super) commit: Option<String>,
    /// The entity tag, if it can name a file.
    pub(super) tag: Option<String>,
    pub(super) expected: Expected,
}

/// The hub, or a mirror of it.
pub(super) struct Client {
    agents: Agents,
    endpoint: Url,
    token: Option<String>,
    metadata_timeout: Duration,
    download_timeout: Duration,
    /// The unit of waits between attempts.
    pub(super) pause: Duration,
}

/// A request, and what it is for.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) url: &'a Url,
    /// The model, for messages.
    pub(super) repo: &'a str,
    /// The model with the file, for messages.
    pub(super) what: &'a str,
}

impl Client {
    pub(super) fn new(options: &PullOptions) -> Result<Self, HubError> {
        let endpoint = options.hub_endpoint.as_deref().unwrap_or(ENDPOINT);
        let bad = || HubError::BadEndpoint {
            endpoint: endpoint.to_owned(),
        };
        let parsed = Url::parse(endpoint).map_err(|_| bad())?;
        let is_plain = endpoint.chars().all(|it| it.is_ascii_graphic());
        if !is_plain || !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err(bad());
        }
        let timeout = |set: Option<Duration>| set.unwrap_or(Duration::from_secs(10));
        let metadata_timeout = timeout(options.hub_etag_timeout);
        Ok(Self {
            agents: Agents::new(metadata_timeout)?,
            endpoint: parsed,
            token: options.hub_token.clone(),
            metadata_timeout,
            download_timeout: timeout(options.hub_download_timeout),
            pause: Duration::from_secs(1),
        })
    }

    /// The address for messages, without a password.
    pub(super) fn endpoint(&self) -> String {
        let mut shown = self.endpoint.clone();
        // Fail only for addresses without a host.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.as_str().trim_end_matches('/').to_owned()
    }

    fn url(&self, steps: &[&str], query: Option<&str>) -> Result<Url, HubError> {
        let mut url = self.endpoint.clone();
        url.path_segments_mut()
            .map_err(|()| HubError::BadEndpoint {
                endpoint: self.endpoint(),
            })?
            .pop_if_empty()
            .extend(steps.iter().flat_map(|step| step.split('/')));
        url.set_query(query);
        Ok(url)
    }

    /// The address of a file of a model at a revision.
    pub(super) fn file_url(&self, repo: &str, at: &str, file: &str) -> Result<Url, HubError> {
        self.url(&[repo, "resolve", at, file], None)
    }

    /// The files of the model, with their checksums where the hub tells them.
    pub(super) fn listing(&self, repo: &str) -> Result<Listing, HubError> {
        let url = self.url(
            &["api/models", repo, "revision", BRANCH],
            Some("blobs=true"),
        )?;
        let wish = Wish {
            url: &url,
            repo,
            what: repo,
        };
        let bad = |reason| self.failed(repo, reason);
        let mut answer = self.get(wish, None)?;
        let body = answer.body_mut().with_config().limit(ANSWER).read_to_vec();
        let body = body.map_err(|error| self.lost(repo, error.to_string()))?;
        let listing = Listing::from_answer(&body)
            .map_err(|error| bad(format!("its answer is not the hub's ({error})")))?;
        if is_name(&listing.commit) {
            Ok(listing)
        } else {
            Err(bad("its answer names no commit".into()))
        }
    }

    /// What the hub says of a file. The headers are on the hub's own answer, which may be a redirect
    /// to where the file lies.
    pub(super) fn metadata(&self, wish: Wish) -> Result<Metadata, HubError> {
        let answer = self.send(wish, Method::Head, true)?;
        // Some mirrors serve files and no heads.
        if matches!(answer.status().as_u16(), 405 | 501) {
            return Ok(Metadata::default());
        }
        let answer = self.accepted(wish, answer)?;
        let header = |name| header(answer.headers(), name);
        let tag = header("x-linked-etag").or_else(|| header("etag"));
        let tag = tag.map(|tag| tag.trim_start_matches("W/").trim_matches('"'));
        let length = header("content-length").filter(|_| !answer.status().is_redirection());
        let size = header("x-linked-size").or(length);
        let is_plain = header("content-encoding").is_none_or(|it| it == "identity");
        Ok(Metadata {
            commit: header("x-repo-commit").map(str::to_owned),
            tag: tag.filter(|tag| is_name(tag)).map(str::to_owned),
            expected: Expected {
                size: size.filter(|_| is_plain).and_then(|it| it.parse().ok()),
                digest: tag.and_then(Expected::digest_in),
            },
        })
    }

    /// The body of a file from a byte on. Refusals are errors, but for 416: the file has no such byte.
    pub(super) fn get(&self, wish: Wish, from: Option<u64>) -> Result<Response<Body>, HubError> {
        let answer = self.send(wish, Method::Get(from), false)?;
        if from.is_some() && answer.status() == 416 {
            return Ok(answer);
        }
        self.accepted(wish, answer)
    }

    /// Sends a request, again while the hub is busy.
    fn send(&self, wish: Wish, method: Method, stay: bool) -> Result<Response<Body>, HubError> {
        let mut attempt = 0;
        loop {
            let answer = self.follow(wish, method, stay)?;
            if !matches!(answer.status().as_u16(), 408 | 429 | 500 | 502..=504) {
                return Ok(answer);
            }
            let asked = retry_after(answer.headers());
            let wait = asked.map_or(self.pause * (1 << attempt), Duration::from_secs);
            if attempt == RETRIES || wait > PATIENCE {
                return Ok(answer);
            }
            attempt += 1;
            std::thread::sleep(wait);
        }
    }

    /// Sends a request and follows redirects; with `stay`, only those that stay on the hub. The
    /// token goes to the hub and to nobody else.
    fn follow(&self, wish: Wish, method: Method, stay: bool) -> Result<Response<Body>, HubError> {
        let mut url = wish.url.clone();
        for _ in 0..REDIRECTS {
            let answer = self
                .request(&url, method)
                .map_err(|error| self.lost(wish.what, error.to_string()))?;
            let target = header(answer.headers(), "location");
            let target = target.filter(|_| answer.status().is_redirection());
            let Some(target) = target.and_then(|target| url.join(target).ok()) else {
                return Ok(answer);
            };
            if stay && !self.is_trusted(&target) {
                return Ok(answer);
            }
            url = target;
        }
        Err(self.failed(wish.what, format!("more than {REDIRECTS} redirects")))
    }

    fn request(&self, url: &Url, method: Method) -> Result<Response<Body>, ureq::Error> {
        let agent: &Agent = self.agents.of(url);
        let (request, timeout) = match method {
            Method::Head => (agent.head(url.as_str()), self.metadata_timeout),
            Method::Get(None) => (agent.get(url.as_str()), self.download_timeout),
            Method::Get(Some(from)) => (
                agent
                    .get(url.as_str())
                    .header("range", format!("bytes={from}-")),
                self.download_timeout,
            ),
        };
        let request = match &self.token {
            Some(token) if self.is_trusted(url) => {
                request.header("authorization", format!("Bearer {token}"))
            }
            _ => request,
        };
        let timeouts = request.config().timeout_recv_response(Some(timeout));
        timeouts.timeout_per_read(Some(timeout)).build().call()
    }

    fn is_trusted(&self, url: &Url) -> bool {
        let origin = url.origin();
        let is = |trusted: &&str| origin.ascii_serialization() == **trusted;
        origin == self.endpoint.origin() || TRUSTED.iter().any(is)
    }

    /// The answer, if it is not a refusal.
    fn accepted(&self, wish: Wish, answer: Response<Body>) -> Result<Response<Body>, HubError> {
        let status = answer.status();
        if status.is_success() || status.is_redirection() {
            return Ok(answer);
        }
        let said = |name| header(answer.headers(), name).unwrap_or_default();
        let endpoint = self.endpoint();
        Err(match (status.as_u16(), said("x-error-code")) {
            (404, _) => HubError::HubNotFound {
                endpoint,
                what: wish.what.to_owned(),
            },
            (status @ (401 | 403), code) => HubError::HubDenied {
                endpoint,
                repo: wish.repo.to_owned(),
                status,
                reason: match (code, self.token.is_some()) {
                    ("GatedRepo", _) => "it is gated: accept its terms on its page",
                    ("RepoNotFound", _) => "it is private, or there is no such model",
                    (_, true) => "the token that was sent is not accepted for it",
                    (_, false) => "it is gated or private, or there is no such model",
                },
            },
            (429, _) => {
                let wait = retry_after(answer.headers());
                let wait = wait.map_or(String::new(), |wait| format!(" in {wait} seconds"));
                self.failed(wish.what, format!("too many requests; try again{wait}"))
            }
            (status, _) => self.failed(
                wish.what,
                format!("status {status} {}", said("x-error-message"))
                    .trim()
                    .to_owned(),
            ),
        })
    }

    /// The error for a connection that could not be made or was lost.
    pub(super) fn lost(&self, what: &str, reason: String) -> HubError {
        HubError::HubNetwork {
            endpoint: self.endpoint(),
            what: what.to_owned(),
            reason,
        }
    }

    /// The error for an answer that cannot be used.
    pub(super) fn failed(&self, what: &str, reason: String) -> HubError {
        HubError::Hub {
            endpoint: self.endpoint(),
            what: what.to_owned(),
            reason,
        }
    }
}

#[derive(Clone, Copy)]
enum Method {
    Head,
    Get(Option<u64>),
}

/// The value of a header, if it is text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The seconds that a busy server asks to wait. Dates, which hubs do not send, are not read.
fn retry_after(headers: &HeaderMap) -> Option<u64> {
    header(headers, "retry-after")?.trim().parse().ok()
}
