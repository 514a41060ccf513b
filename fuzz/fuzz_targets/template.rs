//! A chat template of any text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use selfextend::chat_template::{ChatTemplate, Message};

fuzz_target!(|source: &str| {
    let message = |role: &str, content: &str| Message {
        role: role.into(),
        content: content.into(),
    };
    if let Ok(template) = ChatTemplate::new(source, "<s>", "</s>") {
        let _ = template.render(&[message("user", "Hi"), message("assistant", "Ho")], true);
    }
});
