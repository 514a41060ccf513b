//! Which position map a request runs under: the lowest rung of a ladder that fits it.
//!
//! A request that fits the trained window runs under plain attention. Longer ones run under the map
//! for 2, 4, ... times that window, up to the largest context. There are few rungs, because keys
//! computed under one map are useless under another: prompts of similar length share their
//! prefixes.

use selfextend::{PositionMap, SessionOptions};

/// A context, and the options of the sequences that need no more than it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rung {
    /// The options of its sessions.
    pub options: SessionOptions,
    /// Group size of its map; 1 for plain attention.
    pub group_size: usize,
    /// Neighbour window of its map in tokens; the trained window for plain attention.
    pub neighbor_window: usize,
}

/// Rungs from the trained window to the largest context.
#[derive(Debug, Clone)]
pub struct Ladder {
    trained: usize,
    rungs: Vec<Rung>,
}

impl Ladder {
    /// Rungs from `trained`, the model's window in tokens, to `context`; `options(n)` gives the
    /// options of sequences of up to `n` tokens.
    ///
    /// # Errors
    /// Whatever `options` returns.
    pub fn new<E>(
        trained: usize,
        context: usize,
        options: impl Fn(usize) -> Result<SessionOptions, E>,
    ) -> Result<Self, E> {
        let doubled = std::iter::successors(Some(trained), |tokens| tokens.checked_mul(2));
        let contexts = doubled.take_while(|tokens| *tokens < context);
        let mut rungs: Vec<Rung> = Vec::new();
        for tokens in contexts.chain([context]) {
            let rung = Rung::new(options(tokens)?, trained);
            // Rungs under the same map become one: its keys serve all of them.
            if rungs.last().is_some_and(|last| last.runs_like(&rung)) {
                rungs.pop();
            }
            rungs.push(rung);
        }
        Ok(Self { trained, rungs })
    }

    /// The number of the rung for a request of so many tokens; `None` beyond the largest context.
    pub fn rung_for(&self, tokens: usize) -> Option<usize> {
        let fits = |rung: &Rung| tokens <= rung.context();
        self.rungs.iter().position(fits)
    }

    /// The rung of a number.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn rung(&self, number: usize) -> &Rung {
        &self.rungs[number]
    }

    /// All rungs, the lowest first.
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// The most tokens a request may have, its answer included.
    pub fn context(&self) -> usize {
        self.rungs.last().map_or(0, Rung::context)
    }

    /// The model's trained window in tokens.
    pub fn trained(&self) -> usize {
        self.trained
    }
}

impl Rung {
    fn new(options: SessionOptions, trained: usize) -> Self {
        // Other maps than these two say nothing a client could use.
        let (group_size, neighbor_window) = match options.extension.map() {
            PositionMap::SelfExtend(map) => (map.group_size(), map.neighbor_window()),
            _ => (1, trained),
        };
        Self {
            options,
            group_size,
            neighbor_window,
        }
    }

    /// Whether keys computed under one serve the other.
    fn runs_like(&self, other: &Self) -> bool {
        self.options.extension.runs_like(&other.options.extension)
    }

    /// The most tokens of its sequences.
    pub fn context(&self) -> usize {
        self.options.extension.context()
    }

    /// Whether it reaches beyond the trained window.
    pub fn extends(&self) -> bool {
        self.options.extension.extends()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfextend::ContextRequest;
    use selfextend::settings::SettingsError;

    fn ladder(context: usize, group_size: Option<usize>) -> Ladder {
        Ladder::new(512, context, |n| {
            let mut request = ContextRequest::new().with_context(n);
            request.group_size = group_size.filter(|_| n > 512);
            Ok::<_, SettingsError>(request.resolve(512)?.into())
        })
        .unwrap()
    }

    #[test]
    fn a_request_gets_the_lowest_rung_that_fits() {
        let ladder = ladder(3000, None);
        let contexts: Vec<_> = ladder.rungs().iter().map(Rung::context).collect();
        assert_eq!(contexts, [512, 1024, 2048, 3000]);
        assert!(!ladder.rung(0).extends() && ladder.rung(1).extends());
        for (tokens, rung) in [(1, 0), (512, 0), (513, 1), (2048, 2), (3000, 3)] {
            assert_eq!(ladder.rung_for(tokens), Some(rung), "{tokens}");
        }
        assert_eq!(ladder.rung_for(3001), None);
        assert!(ladder.rung(1).group_size < ladder.rung(3).group_size);
    }

    #[test]
    fn one_map_is_one_rung_and_a_short_context_is_one_too() {
        let fixed = ladder(2048, Some(8));
        let contexts: Vec<_> = fixed.rungs().iter().map(Rung::context).collect();
        assert_eq!(contexts, [512, 2048]);
        assert_eq!(ladder(100, None).context(), 100);
        assert_eq!(ladder(512, None).rungs().len(), 1);
    }
}
