//! Paths as clients write them: with a slash too many, or without the version.

use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// Routes that are served below `/v1`, by their first part.
const VERSIONED: [&str; 6] = [
    "chat",
    "completions",
    "embeddings",
    "messages",
    "models",
    "responses",
];

/// The path that a request means: without doubled and trailing slashes, with `/v1` once.
pub fn mend(uri: &mut Uri) {
    let path = uri.path();
    let mended = mended(path);
    if mended == path {
        return;
    }
    let query = uri
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    // What is left of a path that was valid is valid.
    let Ok(path) = PathAndQuery::try_from(mended + &query) else {
        return;
    };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(path);
    if let Ok(mended) = Uri::from_parts(parts) {
        *uri = mended;
    }
}

fn mended(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    while parts.starts_with(&["v1", "v1"]) {
        parts.remove(0);
    }
    if parts.first().is_some_and(|first| VERSIONED.contains(first)) {
        parts.insert(0, "v1");
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_and_versions_are_mended_and_the_rest_is_kept() {
        for (given, meant) in [
            ("/", "/"),
            ("//", "/"),
            ("/v1/models", "/v1/models"),
            ("/v1/models/", "/v1/models"),
            ("//v1///models?a=//b", "/v1/models?a=//b"),
            ("/models", "/v1/models"),
            ("/chat/completions", "/v1/chat/completions"),
            ("/v1/v1/completions", "/v1/completions"),
            ("/health/", "/health"),
            ("/api/chat", "/api/chat"),
            ("/../models", "/../models"),
            ("/v1/models/owner/name", "/v1/models/owner/name"),
        ] {
            let mut uri: Uri = given.parse().unwrap();
            mend(&mut uri);
            assert_eq!(uri.to_string(), meant, "{given}");
        }
        let mut absolute: Uri = "http://localhost/models/".parse().unwrap();
        mend(&mut absolute);
        assert_eq!(absolute.to_string(), "http://localhost/v1/models");
    }
}
