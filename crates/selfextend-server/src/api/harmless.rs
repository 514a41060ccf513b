//! Fields of requests that change no answer of this server, whatever they hold. They are accepted;
//! every other field that a body does not have is refused by its name.

/// Names, and why each may be ignored.
pub const HARMLESS: [(&str, &str); 24] = [
    ("user", "who asks; nothing is kept by user"),
    ("safety_identifier", "who asks; nothing is kept by user"),
    ("store", "nothing is stored, as if it were false"),
    ("metadata", "labels of stored answers, and none are stored"),
    ("service_tier", "there is one tier"),
    (
        "prompt_cache_key",
        "prompts are found in the cache by their tokens",
    ),
    ("prompt_cache_retention", "the cache keeps what fits"),
    (
        "cache_salt",
        "who shares the cache; answers do not depend on it",
    ),
    (
        "prediction",
        "a hint for speed; --speculate guesses by itself",
    ),
    (
        "cache_prompt",
        "prompts are always cached; answers do not depend on it",
    ),
    ("id_slot", "there are no slots; answers do not depend on it"),
    (
        "priority",
        "a hint for the order of requests; `fairness` decides",
    ),
    ("request_id", "every request gets one here"),
    (
        "guided_decoding_backend",
        "there is one; grammars mean the same in all",
    ),
    (
        "max_tool_calls",
        "how often OpenAI's own tools are called; there are none here",
    ),
    ("keep_alive", "Ollama's: the model stays loaded"),
    ("cache_control", "Anthropic's: every prompt is cached"),
    ("inference_geo", "Anthropic's: the server is where it is"),
    ("container", "Anthropic's: nothing runs in one"),
    ("diagnostics", "Anthropic's: asks why a cache was missed"),
    ("speed", "Anthropic's: there is one speed"),
    (
        "user_profile_id",
        "Anthropic's: who asks; nothing is kept by user",
    ),
    (
        "workspace_id",
        "Anthropic's: who asks; nothing is kept by user",
    ),
    (
        "betas",
        "Anthropic's: fields of a beta are refused by their own names",
    ),
];

/// Whether a field may be ignored.
pub fn is_harmless(name: &str) -> bool {
    HARMLESS.iter().any(|(known, _)| *known == name)
}
