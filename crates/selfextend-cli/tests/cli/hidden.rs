//! Tasks that hide something in a text, and what they found on one page.

use crate::common::{Done, dir, file, selfextend, tiny};

const TEXT: &str = "The ant and the other ants went to the quick brown fox, who was asleep. ";

fn eval(task: &str, args: &[&str]) -> Done {
    let model = tiny();
    selfextend(&[&["eval", task, "-m", &model], args].concat())
}

#[test]
fn tasks_tell_the_right_answer_and_share_a_page() {
    let folder = dir().join("hidden");
    std::fs::create_dir_all(&folder).unwrap();
    let results = |name: &str| folder.join(name).display().to_string();
    let essay = file("hidden/essay.txt", TEXT.repeat(10));
    let paragraph = |n: usize| {
        format!(
            "{{\"context\": \"The ant {n} sat in barn {n}.\", \"qas\": [{{\"question\": \"Where is ant {n}?\", \"answers\": [{{\"text\": \"barn {n}\"}}]}}]}}"
        )
    };
    let paragraphs: Vec<String> = (0..9).map(paragraph).collect();
    let squad = file(
        "hidden/squad.json",
        format!(
            "{{\"data\": [{{\"paragraphs\": [{}]}}]}}",
            paragraphs.join(", ")
        ),
    );
    let questions = ["--tasks", "qa_1", "--squad", &squad, "--lengths", "800"];
    let kept = [
        "--samples",
        "2",
        "--results",
        &results("qa.jsonl"),
        "--json",
    ];
    let done = eval("ruler", &[&questions[..], &kept[..]].concat()).ok();
    let tables = done.json()["tables"].clone();
    assert_eq!(tables[0][0]["samples"], 2.0, "{tables}");
    // Told, beside what is said.
    assert!(
        tables[1][0]["nats a token"].as_f64().unwrap() > 0.0,
        "{tables}"
    );
    let babi = file(
        "hidden/qa1_single-supporting-fact_test.txt",
        "1 Ann went to the garden.\n2 Ben went to the office.\n3 Where is Ann? \tgarden\t1\n"
            .repeat(3),
    );
    let hidden = [
        "--facts",
        &babi,
        "--books",
        &essay,
        "--tasks",
        "qa1",
        "--samples",
        "2",
    ];
    let kept = [
        "--lengths",
        "2000",
        "-n",
        "3",
        "--results",
        &results("babi.jsonl"),
        "--json",
    ];
    let done = eval("babilong", &[&hidden[..], &kept[..]].concat()).ok();
    let tables = done.json()["tables"].clone();
    assert_eq!(tables[0][0]["task"], "qa1", "{tables}");
    assert!(
        tables[1][0]["nats a token"].as_f64().unwrap() > 0.0,
        "{tables}"
    );
    let missing = ["--facts", &babi, "--books", &essay, "--tasks", "qa2"];
    eval("babilong", &missing).fails(2, &["qa2_"]);
    let sentence =
        |n| format!("In year {n} the ants went to the barn and slept there until noon. ");
    let book = file("hidden/book.txt", (0..60).map(sentence).collect::<String>());
    let repeated = ["--books", &book, "--needles", "2", "--samples", "1"];
    let kept = ["--lengths", "2500", "--results", &results("mrcr.jsonl")];
    let done = eval("mrcr", &[&repeated[..], &kept[..]].concat()).ok();
    assert!(done.stdout.contains("2 needles"), "{done:?}");
    let walks = [
        "--tasks",
        "parents",
        "--samples",
        "1",
        "-n",
        "3",
        "--lengths",
        "4000",
    ];
    let kept = ["--results", &results("walks.jsonl"), "--method", "plain"];
    let done = eval("graphwalks", &[&walks[..], &kept[..]].concat()).ok();
    assert!(done.stdout.contains("parents"), "{done:?}");
    let set = file(
        "hidden/needles.json",
        "[{\"id\": \"1\", \"needle\": \"So {CHAR} lives by {1}.\", \"questions\": {\"onehop\": \"Who was in {2}?\"}, \"character_set\": [\"Ann\"], \"tests\": {\"T\": {\"input_args\": [\"a tower\", \"Paris\"]}}}]",
    );
    let lines = file("hidden/lines.txt", format!("{}\n", TEXT.trim()).repeat(40));
    let hidden = [
        "--needles",
        &set,
        "--books",
        &lines,
        "--depths",
        "0.5",
        "-n",
        "3",
    ];
    let kept = ["--lengths", "1500", "--results", &results("nolima.jsonl")];
    let done = eval("nolima", &[&hidden[..], &kept[..]].concat()).ok();
    assert!(done.stdout.contains("onehop"), "{done:?}");
    let page = results("board.html");
    let runs = ["babi.jsonl", "mrcr.jsonl", "walks.jsonl", "nolima.jsonl"].map(results);
    let mut args = vec!["eval", "leaderboard"];
    args.extend(runs.iter().map(String::as_str));
    args.extend(["--html", &page, "--json"]);
    let board = selfextend(&args).ok().json()["tables"].clone();
    // Two methods in three of them, one length each.
    assert_eq!(board[0].as_array().unwrap().len(), 7, "{board}");
    assert_eq!(board[1][3]["task"], "nolima", "{board}");
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(!page.contains("src=") && !page.contains("href="));
}
