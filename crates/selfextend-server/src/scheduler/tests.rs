//! A scheduler with panics where the tests ask for them.

use super::request::Request;
use super::{Event, Failure, Health, Scheduler, channel};
use crate::config::SchedulerLimits;
use crate::prefix::PrefixCache;
use crate::test_support::{ladder, tiny};
use selfextend::{GenerateOptions, Sampling};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

const CONTEXT: usize = 1024;
/// End tokens of the tiny model, forbidden so that answers are as long as they may be.
const ENDS: [(u32, f32); 3] = [(260, -100.0), (261, -100.0), (262, -100.0)];

fn start() -> Scheduler {
    let text = tiny();
    let ladder = ladder(&text.model, CONTEXT);
    let mut limits = SchedulerLimits::default();
    (limits.kv_memory, limits.chunk, limits.busy_chunk) = (16 << 20, 64, 64);
    let prefixes = PrefixCache::new(ladder.rungs().len());
    Scheduler::start(text, None, Arc::new(ladder), limits, prefixes).unwrap()
}

/// A request by a name that may ask for a panic, and what happens to it.
fn request(id: &str, prompt: usize, max_tokens: usize) -> (Request, Receiver<Event>) {
    let (events, receiver) = channel(4096, 8);
    let sampling = Sampling::default().with_bias(ENDS.to_vec());
    let options = GenerateOptions::new().with_max_tokens(max_tokens);
    let ladder = ladder(&tiny().model, CONTEXT);
    let now = Instant::now();
    let request = Request {
        id: id.to_owned(),
        prompt: (0..prompt as u32).map(|n| n * 7 % 250).collect(),
        rung: ladder.rung_for(prompt + max_tokens).unwrap(),
        first_choice: 0,
        choices: 1,
        options: options.with_sampling(sampling),
        logprobs: None,
        prompt_logprobs: None,
        constraint: None,
        arrived: now,
        deadline: now + Duration::from_secs(600),
        events,
    };
    (request, receiver)
}

/// The text of an answer, or why there is none.
fn outcome(mut events: Receiver<Event>) -> Result<String, Failure> {
    let mut text = String::new();
    loop {
        match events.blocking_recv() {
            Some(Event::Text(piece)) => text.push_str(&piece.text),
            Some(Event::Done { .. }) => return Ok(text),
            Some(Event::Failed(failure)) => return Err(failure),
            Some(_) => {}
            None => return Err(Failure::ended()),
        }
    }
}

fn wait_until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn run(
    scheduler: &Scheduler,
    id: &str,
    prompt: usize,
    max_tokens: usize,
) -> Result<String, Failure> {
    let (request, events) = request(id, prompt, max_tokens);
    scheduler.submit(request)?;
    outcome(events)
}

/// Whatever panics, the request it was for fails, others get the text they would have got alone,
/// the memory is accounted for, and new requests are served.
#[test]
fn a_panic_is_the_failure_of_the_requests_in_its_pass() {
    let alone = run(&start(), "alone", 300, 200).unwrap();
    let scheduler = start();
    for place in ["admission", "prefill", "cache", "decode"] {
        let (other, mut events) = request("other", 300, 200);
        scheduler.submit(other).unwrap();
        // The other one generates when the panic comes.
        let mut text = loop {
            match events.blocking_recv().unwrap() {
                Event::Text(piece) => break piece.text,
                Event::Failed(failure) => panic!("{failure}"),
                _ => {}
            }
        };
        let failed = run(&scheduler, &format!("panic in {place}"), 400, 20);
        assert_eq!(failed, Err(Failure::Panicked), "{place}");
        match outcome(events) {
            Ok(rest) => {
                text.push_str(&rest);
                assert_eq!(text, alone, "{place}");
            }
            // It was in the same decode step.
            Err(failure) => assert_eq!((place, failure), ("decode", Failure::Panicked)),
        }
        assert_eq!(scheduler.health(), Health::Ok, "{place}");
        assert_eq!(
            run(&scheduler, "after", 300, 200).as_ref(),
            Ok(&alone),
            "{place}"
        );
        wait_until("nothing runs", || scheduler.running() == 0);
        assert!(scheduler.kv_bytes() < 16 << 20);
    }
    scheduler.stop();
}

/// Where no request can be blamed, all are answered and the thread ends; its end is seen.
#[test]
fn a_panic_of_its_own_ends_the_scheduler_after_all_are_answered() {
    let scheduler = start();
    let (other, events) = request("other", 300, 700);
    scheduler.submit(other).unwrap();
    let failed = run(&scheduler, "panic in turn", 10, 20);
    assert!(failed.is_err());
    assert!(outcome(events).is_err());
    wait_until("it has ended", || scheduler.health() == Health::Ended);
    let (late, _events) = request("late", 10, 1);
    assert_eq!(scheduler.submit(late), Err(Failure::ended()));
    scheduler.stop();
}

#[test]
fn an_empty_prompt_is_refused_before_it_is_queued() {
    let (mut empty, _events) = request("empty", 10, 1);
    empty.prompt.clear();
    assert_eq!(start().submit(empty), Err(Failure::Empty));
}

#[test]
fn an_answer_that_nobody_reads_is_ended() {
    let scheduler = start();
    let (mut unread, _) = request("unread", 10, 900);
    let (events, receiver) = channel(8, 8);
    unread.events = events;
    scheduler.submit(unread).unwrap();
    wait_until("it is ended", || {
        scheduler.running() == 0 && scheduler.queued() == 0
    });
    assert_eq!(outcome(receiver), Err(Failure::SlowReader));
}
