//! The guesses of a pass: which sequences get some, from where, and the passes of draft models that
//! make them.

use super::draft::Draft;
use super::pace::{MOST_PROPOSALS, PassCost, allot, allot_by};
use super::speculation::Speculation;
use crate::backend::Phase;
use crate::device_model::LogitRows;
use crate::session::Input;
use selfextend_attention::cache::MOST_STEPS;
use std::time::Instant;

/// What a pass of a draft model is expected to take of one of the model, before any was measured.
const DRAFT: f64 = 0.1;
/// And a token of a text that it reads, which pass by many.
const READING: f64 = 0.01;
/// The share of all that the rest of an answer takes that reading its text may take at most.
const READING_SHARE: f64 = 0.25;
/// What becomes of the weight of older measurements of reading with each new one.
const FADING: f64 = 0.8;

/// One sequence of the next pass.
#[derive(Debug)]
pub struct Guessing<'a> {
    /// What is guessed of it; nothing where there is none.
    pub speculation: Option<&'a mut Speculation>,
    /// The most tokens that may be proposed: those that may follow the one that the pass reads, in its
    /// context and in its answer, but for the last, which is drawn and not read.
    pub most: usize,
}

/// What passes take.
#[derive(Debug, Clone)]
pub struct Costs {
    /// Those of the model, to be measured by the caller.
    pub pass: PassCost,
    draft: PassCost,
    /// Tokens that draft models read of texts, and the seconds that took.
    reading: (f64, f64),
    chunk: usize,
}

impl Costs {
    /// Nothing is measured yet. Draft models read at most `chunk` tokens of texts before each pass, so
    /// that no answer waits long.
    pub fn new(chunk: usize) -> Self {
        Self {
            pass: PassCost::default(),
            draft: PassCost::default(),
            reading: (0.0, 0.0),
            chunk: chunk.max(1),
        }
    }

    /// Prices that are known, of which nothing is measured: of a further row beside a pass with one, and
    /// of a draft model's pass.
    pub fn known(row: f64, draft: f64, chunk: usize) -> Self {
        Self {
            pass: PassCost::known(row),
            draft: PassCost::known_in_all(draft, 0.0),
            ..Self::new(chunk)
        }
    }

    /// Seconds of a pass of `counts.len()` sequences with so many proposals, and of the passes that draft
    /// those of `drafted` sequences.
    fn seconds(&self, counts: &[usize], drafted: &[bool]) -> Option<f64> {
        let rows = counts.len() + counts.iter().sum::<usize>();
        let pass = self.pass.seconds(rows)?;
        let drafts = || counts.iter().zip(drafted).filter(|(_, drafted)| **drafted);
        let longest = drafts().map(|(count, _)| *count).max().unwrap_or(0);
        let passes = (0..longest).map(|n| drafts().filter(|(count, _)| **count > n).count());
        let unknown = DRAFT * self.pass.seconds(1)?;
        let drafting = passes.map(|rows| self.draft.seconds(rows).unwrap_or(unknown));
        Some(pass + drafting.sum::<f64>())
    }

    /// Whether a draft may read its text, for an answer of at most `most` tokens more.
    fn allow_reading(&self, unread: usize, most: usize) -> bool {
        let Some(pass) = self.pass.seconds(1) else {
            return false;
        };
        let (tokens, seconds) = self.reading;
        let token = if tokens > 0.0 {
            seconds / tokens
        } else {
            READING * pass
        };
        unread <= MOST_STEPS || unread as f64 * token <= READING_SHARE * most as f64 * pass
    }

    fn note_reading(&mut self, tokens: usize, seconds: f64) {
        let (all, sum) = self.reading;
        self.reading = (FADING * all + tokens as f64, FADING * sum + seconds);
    }
}

/// The tokens to propose for each sequence of the next pass, as many as pay. Drafts read at most a chunk
/// of their texts before, and propose once they have read all. Sequences whose drafts fail go on without
/// ([`Speculation::fault`]). `on_layer` is called before each layer of a draft model's pass.
pub fn guess(
    sequences: &mut [Guessing],
    costs: &mut Costs,
    on_layer: &(dyn Fn() + Sync),
) -> Vec<Vec<u32>> {
    let repeats: Vec<Vec<f64>> = sequences.iter().map(repeat_chances).collect();
    let hopes: Vec<Vec<f64>> = (sequences.iter().zip(&repeats))
        .map(|(sequence, repeats)| draft_chances(sequence, repeats, costs))
        .collect();
    let counts = plan(sequences, &repeats, &hopes, costs);
    let wanted = counts.iter().zip(&hopes);
    // The least chance that a proposal was planned with.
    let wanted = wanted.map(|(&count, hopes)| Some((count, *hopes.get(count.checked_sub(1)?)?)));
    let wanted: Vec<Option<(usize, f64)>> = wanted.collect();
    draft(sequences, &wanted, costs, on_layer);
    // What was drafted is paid for; now each proposal has a probability of its own.
    let drafted = sequences.iter().zip(&wanted).map(|(sequence, wanted)| {
        let speculation = sequence.speculation.as_ref().filter(|_| wanted.is_some());
        let draft = speculation.and_then(|it| it.draft.as_ref());
        draft.map(Draft::guesses).unwrap_or_default()
    });
    let drafted: Vec<(Vec<u32>, Vec<f64>)> = drafted.collect();
    let chances = drafted.iter().zip(&repeats).map(|((_, drafted), repeats)| {
        let none = drafted.is_empty();
        if none { &repeats[..] } else { &drafted[..] }
    });
    let counts = allot(&chances.collect::<Vec<_>>(), &costs.pass);
    let all = sequences.iter().zip(drafted).zip(counts);
    all.map(|((sequence, (mut drafted, _)), count)| {
        let is_drafted = !drafted.is_empty();
        drafted.truncate(count);
        match &sequence.speculation {
            Some(speculation) if !is_drafted => speculation.repeats(count).collect(),
            _ => drafted,
        }
    })
    .collect()
}

fn repeat_chances(sequence: &Guessing) -> Vec<f64> {
    let speculation = sequence.speculation.as_ref();
    speculation.map_or(Vec::new(), |it| it.repeat_chances(sequence.most))
}

/// The chances of what a draft would guess; none where repetitions are the likelier, or where its text is
/// too long to be read for what is left of the answer.
fn draft_chances(sequence: &Guessing, repeats: &[f64], costs: &Costs) -> Vec<f64> {
    let most = sequence.most.min(MOST_PROPOSALS);
    let speculation = sequence.speculation.as_ref();
    let Some(draft) = speculation.and_then(|it| it.draft.as_ref()) else {
        return Vec::new();
    };
    let chances = draft.chances(most);
    let is_better = chances.first() > repeats.first();
    if is_better && costs.allow_reading(draft.unread(), sequence.most) {
        chances
    } else {
        Vec::new()
    }
}

/// How many proposals each sequence is to get. Drafts that get none although they could rest.
fn plan(
    sequences: &mut [Guessing],
    repeats: &[Vec<f64>],
    hopes: &[Vec<f64>],
    costs: &Costs,
) -> Vec<usize> {
    let by_draft: Vec<bool> = hopes.iter().map(|hopes| !hopes.is_empty()).collect();
    if !by_draft.contains(&true) {
        return vec![0; sequences.len()];
    }
    let chances = hopes.iter().zip(repeats).map(|(hopes, repeats)| {
        let none = hopes.is_empty();
        if none { &repeats[..] } else { &hopes[..] }
    });
    let chances: Vec<&[f64]> = chances.collect();
    let counts = allot_by(&chances, |counts| costs.seconds(counts, &by_draft));
    let is_measured = costs.pass.seconds(1).is_some();
    for ((sequence, by_draft), count) in sequences.iter_mut().zip(by_draft).zip(&counts) {
        let speculation = sequence.speculation.as_mut();
        if let Some(draft) = speculation.and_then(|it| it.draft.as_mut())
            && by_draft
            && *count == 0
            && is_measured
        {
            draft.rest();
        }
    }
    counts
}

/// A draft that is to guess.
struct Job<'a> {
    draft: &'a mut Draft,
    /// How many tokens, as long as the chance that all are right is at least this.
    count: usize,
    least: f64,
}

/// Has the drafts of sequences read what they lack, and guess so many tokens.
fn draft(
    sequences: &mut [Guessing],
    wanted: &[Option<(usize, f64)>],
    costs: &mut Costs,
    on_layer: &(dyn Fn() + Sync),
) {
    let mut jobs: Vec<Job> = Vec::new();
    for (sequence, wanted) in sequences.iter_mut().zip(wanted) {
        let speculation = sequence.speculation.as_mut();
        let draft = speculation.and_then(|it| it.draft.as_mut());
        if let (Some(draft), Some((count, least))) = (draft, *wanted)
            && draft.prepare(sequence.most)
        {
            jobs.push(Job {
                draft,
                count,
                least,
            });
        }
    }
    read(&mut jobs, costs, on_layer);
    jobs.retain(|job| job.draft.unread() <= MOST_STEPS && job.draft.fault().is_none());
    let mut step = 0;
    while !jobs.is_empty() {
        let tokens = jobs.iter().map(|job| match step {
            0 => job.draft.unread(),
            _ => 1,
        });
        let (rows, start) = (tokens.sum(), Instant::now());
        let part = match step {
            0 => Part::Text,
            _ => Part::Guess,
        };
        let mut drafts: Vec<&mut Draft> = jobs.iter_mut().map(|job| &mut *job.draft).collect();
        pass(&mut drafts, part, on_layer);
        costs.draft.note(rows, start.elapsed().as_secs_f64());
        step += 1;
        jobs.retain(|job| {
            let (_, chances) = job.draft.guesses();
            let likely = chances.get(step - 1).is_some_and(|&it| it >= job.least);
            job.count > step && likely
        });
    }
}

/// Reads at most a chunk of the texts that are too long for a step, the first one first. What another
/// sequence has read of the same text is taken over.
fn read(jobs: &mut [Job], costs: &mut Costs, on_layer: &(dyn Fn() + Sync)) {
    let mut room = costs.chunk;
    for n in 0..jobs.len() {
        let (before, rest) = jobs.split_at_mut(n);
        let Some((job, after)) = rest.split_first_mut() else {
            return;
        };
        if job.draft.unread() <= MOST_STEPS {
            continue;
        }
        for other in before.iter().chain(&*after) {
            job.draft.adopt(other.draft, MOST_STEPS);
        }
        // A step reads the last token, for its logits.
        let count = job.draft.unread().saturating_sub(1).min(room);
        if job.draft.unread() <= MOST_STEPS || count == 0 {
            continue;
        }
        let start = Instant::now();
        pass(&mut [&mut *job.draft], Part::Reading(count), on_layer);
        costs.note_reading(count, start.elapsed().as_secs_f64());
        room -= count;
    }
}

/// What a pass reads of each draft.
#[derive(Clone, Copy)]
enum Part {
    /// So many tokens of the text, whose logits nobody needs.
    Reading(usize),
    /// The rest of the text.
    Text,
    /// The last guess.
    Guess,
}

/// A pass of the draft model, after which each draft has its next guess. Where the pass fails for some,
/// each goes alone.
fn pass(drafts: &mut [&mut Draft], part: Part, on_layer: &(dyn Fn() + Sync)) {
    let Err(error) = try_pass(drafts, part, on_layer) else {
        return;
    };
    match drafts {
        [] => {}
        // A guess that gives no numbers need never be drawn: it is the last one for now.
        [_] if matches!(part, Part::Guess) => {}
        [draft] => draft.failed(error),
        many => (many.iter_mut()).for_each(|draft| pass(&mut [draft], part, on_layer)),
    }
}

fn try_pass(
    drafts: &mut [&mut Draft],
    part: Part,
    on_layer: &(dyn Fn() + Sync),
) -> crate::Result<()> {
    let Some(first) = drafts.first() else {
        return Ok(());
    };
    let model = first.model.model().clone();
    let (phase, logits) = match part {
        Part::Reading(_) => (Phase::Prefill, LogitRows::None),
        _ => (Phase::Decode, LogitRows::Last),
    };
    let counts: Vec<usize> = (drafts.iter())
        .map(|draft| match part {
            Part::Reading(count) => count,
            Part::Text => draft.unread(),
            Part::Guess => 0,
        })
        .collect();
    let parts = drafts.iter_mut().zip(&counts).map(|(draft, &count)| {
        let part = match part {
            Part::Guess => draft.guess_part(),
            _ => draft.part(count),
        };
        part.map(|(session, tokens)| Input {
            session,
            tokens,
            logits,
        })
    });
    let mut inputs: Vec<Input> = parts.flatten().collect();
    let mut rows = vec![Vec::new(); inputs.len()];
    let visit = |input: usize, _, logits: &[f32]| rows[input] = logits.to_vec();
    let on_layer = |_| {
        on_layer();
        Ok(())
    };
    model.forward_with(phase, &mut inputs, on_layer, visit)?;
    for ((draft, count), logits) in drafts.iter_mut().zip(counts).zip(&rows) {
        draft.has_read(count);
        if !logits.is_empty() {
            draft.guess(logits);
        }
    }
    Ok(())
}
