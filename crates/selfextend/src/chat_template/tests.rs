//! Tests on templates written here, and on those of real models where they are at hand.

use super::*;
use crate::test_support::shared;

fn message(role: &str, content: &str) -> Message {
    Message {
        role: role.to_owned(),
        content: content.to_owned(),
    }
}

fn render(source: &str, messages: &[Message]) -> Result<String, TemplateError> {
    ChatTemplate::new(source, "<s>", "</s>")?.render(messages, true)
}

#[test]
fn blocks_are_trimmed_and_one_final_newline_is_dropped() {
    let source = "{{ bos_token }}\n  {% for m in messages %}\n[{{ m['role'] }}] {{ m.content }}\n\
                  {% endfor %}\n{% if add_generation_prompt %}\nGo{{ eos_token }}\n{% endif %}\n\n";
    let messages = [message("user", "a < b"), message("assistant", "")];
    let expected = "<s>\n[user] a < b\n[assistant] \nGo</s>\n";
    assert_eq!(render(source, &messages).unwrap(), expected);
}

#[test]
fn python_methods_loop_controls_and_absent_tools() {
    let source = "{% for m in messages %}{% if m.role == 'skip' %}{% continue %}{% endif %}\
                  {{ m.content.strip().replace('a', 'o').split('-')[-1] }};\
                  {% if loop.index == 3 %}{% break %}{% endif %}{% endfor %}\
                  {% if tools is not none or tools %}tools{% endif %}\
                  {{ 'tool_calls' in messages[0] }}{{ messages[1:]|length }}";
    let messages = ["user", "skip", "user", "user"].map(|role| message(role, " x-aha "));
    assert_eq!(render(source, &messages).unwrap(), "oho;oho;False3");
}

#[test]
fn json_is_as_python_writes_it() {
    let messages = [message("user", "<é> & 'q' \"d\"\n")];
    let one_line = "[{\"role\": \"user\", \"content\": \"<é> & 'q' \\\"d\\\"\\n\"}]";
    assert_eq!(
        render("{{ messages|tojson }}", &messages).unwrap(),
        one_line
    );
    let indented = "{\n    \"role\": \"user\",\n    \"content\": \"\"\n}";
    let messages = [message("user", "")];
    let source = "{{ messages[0]|tojson(indent=4) }}";
    assert_eq!(render(source, &messages).unwrap(), indented);
}

#[test]
fn generation_tags_enclose_their_text() {
    let source = "{% set x = 1 %}{%- generation -%} {% set x = 2 %}{{ messages[0].content }}\
                  {{ x }}{% endgeneration %}{{ x }}";
    assert_eq!(render(source, &[message("user", "hi")]).unwrap(), "hi21");
}

#[test]
fn the_date_follows_the_format() {
    let date = render("{{ strftime_now('%d %b %Y') }}", &[]).unwrap();
    let parts: Vec<&str> = date.split(' ').collect();
    assert_eq!(
        parts.iter().map(|p| p.len()).collect::<Vec<_>>(),
        [2, 3, 4],
        "{date}"
    );
    let error = render("{{ strftime_now('%!') }}", &[]).unwrap_err();
    assert!(error.to_string().contains("%!"), "{error}");
}

#[test]
fn refusals_carry_the_words_of_the_template() {
    let source = "{% macro no(m) %}{{ raise_exception(m) }}{% endmacro %}{{ no('System role!') }}";
    let error = render(source, &[]).unwrap_err();
    assert!(matches!(&error, TemplateError::Refused { message } if message == "System role!"));
}

#[test]
fn broken_templates_say_where() {
    let error = render("a\n{% if %}", &[]).unwrap_err();
    assert!(matches!(&error, TemplateError::Syntax { message } if message.contains("line 2")));
    // No conversation would do better: the template is to blame.
    let error = render("a\n{{ messages[0].content.x.y }}", &[]).unwrap_err();
    assert!(matches!(&error, TemplateError::Fault { message } if message.contains("line 2")));
    assert!(error.blames_template());
    // This one fails on what only some conversations have.
    let source = "a\n{% if messages | length > 4 %}{{ messages[0].content.x.y }}{% endif %}";
    let error = render(source, &conversation(&["Hello"; 5])).unwrap_err();
    assert!(matches!(&error, TemplateError::Render { message } if message.contains("line 2")));
    assert!(!error.blames_template());
}

fn conversation(turns: &[&str]) -> Vec<Message> {
    let roles = ["user", "assistant"].into_iter().cycle();
    roles
        .zip(turns)
        .map(|(role, turn)| message(role, turn))
        .collect()
}

fn with_system(turns: &[&str]) -> Vec<Message> {
    let mut messages = conversation(turns);
    messages.insert(0, message("system", "Be brief. /no_think"));
    messages
}

/// What Jinja2 3.1.6 makes of each template of `shared` with the settings of transformers:
/// for a system message and a question, and for a dialogue.
const REFERENCE: &[(&str, &str, &str)] = &[
    (
        "HuggingFaceTB-SmolLM3-3B",
        "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nReasoning Mode: \
         /no_think\n\n## Custom Instructions\n\nBe brief.\n\n<|im_end|>\n<|im_start|>user\nHi\
         <|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n",
        "<|im_start|>assistant\nHello! <b>1 & 2</b><|im_end|>\n<|im_start|>user\nBye\n<|im_end|>\n<|im_start|>\
         assistant\n",
    ),
    (
        "Qwen-Qwen2.5-7B-Instruct",
        "<|im_start|>system\nBe brief. /no_think<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
         <|im_start|>assistant\n",
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful \
         assistant.<|im_end|>\n<|im_start|>user\n  Hi  <|im_end|>\n<|im_start|>assistant\n\n\n\
         Hello! <b>1 & 2</b><|im_end|>\n<|im_start|>user\nBye\n<|im_end|>\n<|im_start|>\
         assistant\n",
    ),
    (
        "google-gemma-2-2b-it",
        "System role not supported",
        "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello! <b>1 & 2</b>\
         <end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n",
    ),
    (
        "meta-llama-Llama-3.1-8B-Instruct",
        "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\
         Today Date: DD Mon YYYY\n\nBe brief. /no_think<|eot_id|><|start_header_id|>user\
         <|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\nHello! <b>1 & 2</b><|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant\
         <|end_header_id|>\n\n",
    ),
    (
        "meta-llama-Llama-3.2-3B-Instruct",
        "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\
         Today Date: DD Mon YYYY\n\nBe brief. /no_think<|eot_id|><|start_header_id|>user\
         <|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\nHello! <b>1 & 2</b><|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant\
         <|end_header_id|>\n\n",
    ),
    (
        "microsoft-Phi-3.5-mini-instruct",
        "<|system|>\nBe brief. /no_think<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n",
        "<|user|>\n  Hi  <|end|>\n<|assistant|>\n\n\nHello! <b>1 & 2</b><|end|>\n<|user|>\nBye\n\
         <|end|>\n<|assistant|>\n",
    ),
    (
        "mistralai-Mistral-Nemo-Instruct-2407",
        "<s>[INST]Be brief. /no_think\n\nHi[/INST]",
        "<s>[INST]  Hi  [/INST]\n\nHello! <b>1 & 2</b></s>[INST]Bye\n[/INST]",
    ),
];

/// The date of a prompt changes from day to day.
fn without_date(prompt: &str) -> String {
    let mark = "Today Date: ";
    let Some(date) = prompt.find(mark).map(|start| start + mark.len()) else {
        return prompt.to_owned();
    };
    format!("{}DD Mon YYYY{}", &prompt[..date], &prompt[date + 11..])
}

#[test]
fn templates_of_real_models_render_as_in_python() {
    for (name, question, dialogue) in REFERENCE {
        let Some(path) = shared(&format!("tokenizers/templates/{name}.jinja")) else {
            return;
        };
        let source = std::fs::read_to_string(path).unwrap();
        let prompt = match render(&source, &with_system(&["Hi"])) {
            Err(TemplateError::Refused { message }) => message,
            prompt => without_date(&prompt.unwrap()),
        };
        assert_eq!(prompt, *question, "{name}");
        let turns = ["  Hi  ", "\n\nHello! <b>1 & 2</b>", "Bye\n"];
        let prompt = render(&source, &conversation(&turns)).unwrap();
        assert!(prompt.ends_with(dialogue), "{name}: {prompt}");
        render(&source, &conversation(&["Hi"])).unwrap();
    }
}
