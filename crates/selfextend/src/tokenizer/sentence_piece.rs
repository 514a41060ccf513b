//! BPE as SentencePiece does it: the pair whose union has the best score merges first,
//! the leftmost of equals.
//!
//! The `tokenizers` crate does not serve here. Its merges have distinct ranks, and real
//! vocabularies have pieces of equal score (the sixteen runs of spaces of Llama 2), which
//! must merge left to right; and it starts from characters that are tokens themselves,
//! where SentencePiece also merges through characters that are not.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashMap},
    fmt,
};

use super::error::TokenizerError;
use super::metadata::Metadata;
use super::spelling::SPACE;
use super::vocabulary::{TokenKind, Vocabulary, check_length};

pub(super) const SCORES: &str = "tokenizer.ggml.scores";
const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
/// The model behind `tokenizer.ggml.model` = `llama`.
pub(super) struct SentencePiece {
    pieces: HashMap<Box<str>, Piece>,
    longest: usize,
    bytes: HashMap<u8, u32>,
    unknown: Option<u32>,
    pub(super) add_space_prefix: bool,
}

#[derive(Clone, Copy)]
struct Piece {
    id: u32,
    score: f32,
}

impl fmt::Debug for SentencePiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentencePiece")
            .field("pieces", &self.pieces.len())
            .finish_non_exhaustive()
    }
}

impl SentencePiece {
    pub(super) fn new(
        metadata: Metadata<'_>,
        vocabulary: &Vocabulary,
    ) -> Result<Self, TokenizerError> {
        let scores = metadata.floats(SCORES)?;
        check_length(SCORES, scores.len(), vocabulary.len())?;
        let mut model = Self {
            pieces: HashMap::with_capacity(vocabulary.len()),
            longest: 0,
            bytes: HashMap::with_capacity(256),
            unknown: vocabulary.unknown,
            add_space_prefix: metadata.boolean(ADD_SPACE_PREFIX)?.unwrap_or(true),
        };
        for (id, text, kind) in vocabulary.iter() {
            let score = scores[id as usize];
            if score.is_nan() {
                let id = id as usize;
                return Err(TokenizerError::MalformedScore { id, score });
            }
            // Adding zero makes -0.0, the first score of many files, equal to 0.0.
            model.insert(id, text, kind, score + 0.0);
        }
        if model.bytes.len() < 256 && model.unknown.is_none() {
            return Err(TokenizerError::NoFallback);
        }
        Ok(model)
    }

    fn insert(&mut self, id: u32, text: &str, kind: TokenKind, score: f32) {
        match kind {
            // Plain text must never become one of these.
            TokenKind::Control => {}
            TokenKind::Byte(byte) => {
                self.bytes.insert(byte, id);
            }
            TokenKind::Normal | TokenKind::UserDefined => {
                self.longest = self.longest.max(text.len());
                self.pieces.insert(text.into(), Piece { id, score });
            }
        }
    }

    /// Appends the ids of `text`. At the start of a text and after a token that stands
    /// for itself (`first`), models with a space prefix read a space first.
    pub(super) fn encode(&self, text: &str, first: bool, ids: &mut Vec<u32>) {
        let mut escaped = String::with_capacity(text.len() + text.len() / 2 + SPACE.len_utf8());
        if first && self.add_space_prefix {
            escaped.push(SPACE);
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        for symbol in Merger::new(self, &escaped).run() {
            self.push_symbol(&escaped[symbol.start..symbol.end], ids);
        }
    }

    fn push_symbol(&self, text: &str, ids: &mut Vec<u32>) {
        if let Some(piece) = self.pieces.get(text) {
            ids.push(piece.id);
            return;
        }
        let bytes: Option<Vec<u32>> = text.bytes().map(|b| self.bytes.get(&b).copied()).collect();
        match bytes {
            Some(bytes) => ids.extend(bytes),
            None => ids.extend(self.unknown),
        }
    }
}

/// A piece of the text that merges have made so far; one merged away is empty.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Two neighbouring symbols whose union is a piece, as they were when this was queued.
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    end: usize,
}

impl Candidate {
    fn rank(&self) -> (Reverse<usize>, usize) {
        (Reverse(self.left), self.end)
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let scores = self.score.total_cmp(&other.score);
        scores.then_with(|| self.rank().cmp(&other.rank()))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

struct Merger<'m> {
    model: &'m SentencePiece,
    text: &'m str,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Candidate>,
}

impl<'m> Merger<'m> {
    fn new(model: &'m SentencePiece, text: &'m str) -> Self {
        let starts = text.char_indices().enumerate();
        let mut symbols: Vec<Symbol> = starts
            .map(|(index, (start, c))| Symbol {
                start,
                end: start + c.len_utf8(),
                previous: index.checked_sub(1),
                next: Some(index + 1),
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = None;
        }
        let queue = BinaryHeap::with_capacity(symbols.len());
        Self {
            model,
            text,
            symbols,
            queue,
        }
    }

    /// Merges until no two neighbours make a piece.
    fn run(mut self) -> impl Iterator<Item = Symbol> {
        for right in 1..self.symbols.len() {
            self.consider(right - 1, right);
        }
        while let Some(candidate) = self.queue.pop() {
            self.merge(&candidate);
        }
        self.symbols.into_iter().filter(|s| s.start < s.end)
    }

    fn consider(&mut self, left: usize, right: usize) {
        let (start, end) = (self.symbols[left].start, self.symbols[right].end);
        if end - start > self.model.longest {
            return;
        }
        if let Some(piece) = self.model.pieces.get(&self.text[start..end]) {
            self.queue.push(Candidate {
                score: piece.score,
                left,
                right,
                end,
            });
        }
    }

    fn merge(&mut self, candidate: &Candidate) {
        let (left, right) = (self.symbols[candidate.left], self.symbols[candidate.right]);
        let is_gone = |symbol: Symbol| symbol.start == symbol.end;
        let has_grown = left.end != right.start || right.end != candidate.end;
        if is_gone(left) || is_gone(right) || has_grown {
            return;
        }
        self.symbols[candidate.left].end = right.end;
        self.symbols[candidate.left].next = right.next;
        self.symbols[candidate.right].end = right.start;
        if let Some(next) = right.next {
            self.symbols[next].previous = Some(candidate.left);
            self.consider(candidate.left, next);
        }
        if let Some(previous) = left.previous {
            self.consider(previous, candidate.left);
        }
    }
}
