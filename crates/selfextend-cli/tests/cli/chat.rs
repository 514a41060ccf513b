//! `selfextend chat` with its lines from a pipe.

use crate::common::{Done, dir, file, tiny, with_stdin};

fn chat(args: &[&str], lines: &str) -> Done {
    let model = tiny();
    with_stdin(&[&["chat", "-m", &model], args].concat(), lines)
}

#[test]
fn turns_share_the_cache_and_only_answers_go_to_stdout() {
    let done = chat(&["-n", "3"], "hi\nyo\n/stats\n").ok();
    let lines: Vec<_> = done.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{done:?}");
    assert!(lines[0].contains("prompt 20 tokens"), "{done:?}");
    // The second turn reads what is new, not the whole conversation.
    let read: usize = lines[1].split(' ').nth(1).unwrap().parse().unwrap();
    assert!(read < 25, "{done:?}");
    assert!(lines[2].starts_with("[2 turns | context "), "{done:?}");
    assert!(
        !done.stdout.contains('>') || !done.stdout.contains("> "),
        "{done:?}"
    );
}

#[test]
fn a_reset_makes_the_same_question_get_the_same_answer() {
    let done = chat(&["-n", "5"], "hi\n/reset\nhi\n/stats\n/quit\nnever\n").ok();
    let (first, second) = done.stdout.split_at(done.stdout.len() / 2);
    assert_eq!(first, second, "{done:?}");
    assert!(
        done.stderr.contains("forgotten") && done.stderr.contains("[1 turns"),
        "{done:?}"
    );
}

#[test]
fn a_turn_answers_as_a_fresh_run_would() {
    let two = chat(&["-n", "1", "--context", "200"], "hi\nyo\n").ok();
    let again = chat(&["-n", "1", "--context", "200", "--chunk", "3"], "hi\nyo\n").ok();
    assert_eq!(two.stdout, again.stdout);
}

/// The context that was asked for is used when the trained window is full, and not before.
#[test]
fn a_conversation_within_the_window_is_plain_whatever_the_context() {
    let short = chat(&["-n", "1", "--context", "200"], "hi\n/stats\n").ok();
    let last = short.stderr.lines().last().unwrap();
    assert!(
        last.contains("context 2") && last.contains("/64 tokens"),
        "{short:?}"
    );
    assert!(last.contains("plain attention"), "{short:?}");
    let lines = "hello the ant\nhow are the ants\nand the others\n/stats\n";
    let long = chat(&["-n", "4", "--context", "1k"], lines).ok();
    assert!(
        long.stderr.contains("outgrows the context of 64"),
        "{long:?}"
    );
    let last = long.stderr.lines().last().unwrap();
    assert!(
        last.contains("/1024 tokens") && last.contains("SelfExtend"),
        "{long:?}"
    );
}

#[test]
fn a_conversation_that_outgrows_the_window_extends_it() {
    let lines = "hello the ant\nhow are the ants\nand the others\n/stats\n";
    let done = chat(&["-n", "4"], lines).ok();
    assert!(
        done.stderr.contains("outgrows the context of 64"),
        "{done:?}"
    );
    assert!(
        done.stderr.lines().last().unwrap().contains("group size"),
        "{done:?}"
    );
    let full = chat(&["-n", "4", "--no-extend"], lines);
    assert_eq!(full.code, Some(2), "{full:?}");
    assert!(full.stderr.contains("/reset"), "{full:?}");
}

#[test]
fn a_file_goes_with_the_next_message() {
    let path = file("attached.txt", "an ant\n");
    let by_command = chat(&["-n", "3"], &format!("/file {path}\nhi\n/stats\n")).ok();
    let by_flag = chat(&["-n", "3", "--file", &path], "hi\n").ok();
    assert_eq!(by_command.stdout, by_flag.stdout);
    assert!(by_flag.stderr.contains("prompt 26 tokens"), "{by_flag:?}");
}

#[test]
fn mistakes_end_a_piped_conversation() {
    chat(&[], "/file\n").fails(2, &["/file needs"]);
    chat(&[], "/nonsense\n").fails(2, &["/nonsense", "/help"]);
    let missing = dir().join("missing.txt").display().to_string();
    chat(&[], &format!("/file {missing}\n")).fails(1, &["missing.txt"]);
}
