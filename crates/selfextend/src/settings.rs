//! From the context a user asks for to a position map: the rules of SelfExtend's settings.

use selfextend_attention::{Frequencies, PositionMap, QueryScaling, SelfExtend};

/// What the user said; everything is optional.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContextRequest {
    /// Tokens of context asked for (`--context`).
    pub context: Option<usize>,
    /// Tokens that are known to be needed: the prompt and its answer.
    pub needed: usize,
    /// Group size (`--group-size`).
    pub group_size: Option<usize>,
    /// Neighbour window (`--neighbor-window`).
    pub neighbor_window: Option<usize>,
    /// Refuse to extend (`--no-extend`).
    pub no_extend: bool,
}

/// The settings in force.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ContextSettings {
    /// The most tokens a session may hold.
    pub context: usize,
    /// The position map.
    pub map: PositionMap,
    /// How the model's frequencies are changed.
    pub frequencies: Frequencies,
    /// What queries are multiplied by.
    pub query_scaling: QueryScaling,
    /// Whether the text, not the user, made the context longer than the trained window.
    pub extended_by_itself: bool,
}

impl ContextSettings {
    /// Attention as the model was trained.
    pub fn plain(context: usize) -> Self {
        Self {
            context,
            map: PositionMap::Plain,
            frequencies: Frequencies::Trained,
            query_scaling: QueryScaling::None,
            extended_by_itself: false,
        }
    }
}

/// Settings that cannot work, and some that would.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A value that means nothing.
    #[error("--{name} must be at least 1")]
    Zero {
        /// The option.
        name: &'static str,
    },
    /// A neighbour window as long as the trained one.
    #[error("--neighbor-window {window} must be smaller than the trained window of {trained} tokens; try {}", trained / 4)]
    Window {
        /// The window asked for.
        window: usize,
        /// The model's trained window.
        trained: usize,
    },
    /// A context beyond `(L - W) * G + W`.
    #[error(
        "a context of {context} tokens is beyond the limit of {limit} for group size {group_size} and neighbour window {window}: use --group-size {enough}"
    )]
    TooLong {
        /// Tokens asked for.
        context: usize,
        /// The most these settings reach.
        limit: usize,
        /// The group size in force.
        group_size: usize,
        /// The neighbour window in force.
        window: usize,
        /// A group size that reaches the context.
        enough: usize,
    },
    /// A text beyond the trained window where extension was refused.
    #[error(
        "{needed} tokens do not fit the trained window of {trained}, and --no-extend forbids to extend it; leave it out, or shorten the text"
    )]
    NoExtend {
        /// Tokens needed.
        needed: usize,
        /// The model's trained window.
        trained: usize,
    },
    /// A text longer than the context the user set.
    #[error(
        "{needed} tokens are needed, but --context allows {context}; use --context {needed} or more"
    )]
    TooShort {
        /// Tokens needed.
        needed: usize,
        /// Tokens allowed.
        context: usize,
    },
}

impl ContextRequest {
    /// Chooses the settings for a model trained on `trained` positions.
    ///
    /// Within the trained window attention stays plain. Beyond it `W = L/4` (what the authors use
    /// for Llama-2) and `G` is the smallest with `W + (N - W)/G <= L/2`: the paper's rule of thumb
    /// (section 4.4) is to stay under 1/2 to 2/3 of the trained window. A group size or window
    /// the user gives is kept.
    ///
    /// ```
    /// use selfextend::settings::ContextRequest;
    /// let request = ContextRequest { context: Some(16384), ..Default::default() };
    /// let settings = request.settings(4096)?;
    /// assert_eq!(settings.map, selfextend::PositionMap::self_extend(15, 1024).unwrap());
    /// # Ok::<(), selfextend::settings::SettingsError>(())
    /// ```
    ///
    /// # Errors
    /// [`SettingsError`] names settings that would do.
    pub fn settings(&self, trained: usize) -> Result<ContextSettings, SettingsError> {
        let given = [
            ("context", self.context),
            ("group-size", self.group_size),
            ("neighbor-window", self.neighbor_window),
        ];
        if let Some((name, _)) = given.into_iter().find(|(_, value)| *value == Some(0)) {
            return Err(SettingsError::Zero { name });
        }
        let context = self.context.unwrap_or(self.needed.max(trained));
        let extended_by_itself = self.context.is_none() && context > trained;
        if self.no_extend && context.max(self.needed) > trained {
            return Err(SettingsError::NoExtend {
                needed: context.max(self.needed),
                trained,
            });
        }
        if self.needed > context {
            return Err(SettingsError::TooShort {
                needed: self.needed,
                context,
            });
        }
        let plain = ContextSettings {
            extended_by_itself,
            ..ContextSettings::plain(context)
        };
        if self.no_extend || (context <= trained && self.group_size.is_none()) {
            return Ok(plain);
        }
        let window = self.neighbor_window.unwrap_or((trained / 4).max(1));
        if window >= trained {
            return Err(SettingsError::Window { window, trained });
        }
        let group_size = self
            .group_size
            .unwrap_or_else(|| auto_group_size(context, window, trained));
        let limit = max_context(group_size, window, trained);
        if context > limit {
            let enough = (context - window).div_ceil(trained - window);
            return Err(SettingsError::TooLong {
                context,
                limit,
                group_size,
                window,
                enough,
            });
        }
        let map = PositionMap::self_extend(group_size, window).unwrap_or(PositionMap::Plain);
        Ok(ContextSettings { map, ..plain })
    }
}

/// The smallest group size with `W + (N - W)/G <= L/2`; where the window alone is longer, the
/// smallest that reaches the context at all.
fn auto_group_size(context: usize, window: usize, trained: usize) -> usize {
    let distant = context.saturating_sub(window);
    let room = if trained / 2 > window {
        trained / 2 - window
    } else {
        trained - window
    };
    distant.div_ceil(room).max(1)
}

/// The longest context of some settings: `(L - W) * G + W`.
pub fn max_context(group_size: usize, neighbor_window: usize, trained: usize) -> usize {
    SelfExtend::new(group_size, neighbor_window).map_or(trained, |map| map.max_context(trained))
}

/// Reads a number of tokens: `16384`, `16k` or `16K` (1024 each), `1m`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_tokens(text: &str) -> Result<usize, String> {
    let (digits, factor) = match text.trim().to_ascii_lowercase() {
        t if t.ends_with('k') => (t[..t.len() - 1].to_owned(), 1 << 10),
        t if t.ends_with('m') => (t[..t.len() - 1].to_owned(), 1 << 20),
        t => (t, 1),
    };
    let number: usize = digits
        .parse()
        .map_err(|_| format!("{text:?} is no number of tokens; write 16384 or 16k"))?;
    // Longer than any context that fits a machine: refused before anything multiplies it.
    match number.checked_mul(factor) {
        Some(tokens) if tokens <= 1 << 32 => Ok(tokens),
        _ => Err(format!("{text:?} is more tokens than any context holds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(context: usize) -> ContextRequest {
        ContextRequest {
            context: Some(context),
            ..Default::default()
        }
    }

    #[test]
    fn the_trained_window_runs_plain_and_longer_contexts_follow_the_rule() {
        let settings = request(4096).settings(4096).unwrap();
        assert_eq!(settings.map, PositionMap::Plain);
        // W = 1024; 1024 + (16384 - 1024)/G <= 2048 first holds for G = 15.
        let settings = request(16384).settings(4096).unwrap();
        assert_eq!(settings.map, PositionMap::self_extend(15, 1024).unwrap());
        assert!(!settings.extended_by_itself);
    }

    #[test]
    fn a_long_text_extends_by_itself_unless_forbidden() {
        let mut long = ContextRequest {
            needed: 9000,
            ..Default::default()
        };
        let settings = long.settings(8192).unwrap();
        assert!(settings.extended_by_itself && settings.context == 9000);
        long.no_extend = true;
        assert_eq!(
            long.settings(8192),
            Err(SettingsError::NoExtend {
                needed: 9000,
                trained: 8192
            })
        );
        let short = ContextRequest {
            needed: 10,
            ..Default::default()
        }
        .settings(8192)
        .unwrap();
        assert_eq!((short.context, short.map), (8192, PositionMap::Plain));
    }

    #[test]
    fn impossible_settings_name_possible_ones() {
        let asked = ContextRequest {
            group_size: Some(2),
            neighbor_window: Some(128),
            ..request(2000)
        };
        let Err(SettingsError::TooLong { limit, enough, .. }) = asked.settings(512) else {
            panic!("2000 tokens cannot fit");
        };
        assert_eq!(limit, (512 - 128) * 2 + 128);
        let better = ContextRequest {
            group_size: Some(enough),
            ..asked
        };
        assert!(better.settings(512).is_ok());
        assert!(matches!(
            ContextRequest {
                neighbor_window: Some(512),
                ..request(2000)
            }
            .settings(512),
            Err(SettingsError::Window { .. })
        ));
        assert!(matches!(
            request(0).settings(512),
            Err(SettingsError::Zero { .. })
        ));
        let short = ContextRequest {
            needed: 300,
            ..request(200)
        };
        assert_eq!(
            short.settings(512),
            Err(SettingsError::TooShort {
                needed: 300,
                context: 200
            })
        );
    }

    #[test]
    fn explicit_settings_hold_within_the_trained_window_too() {
        let asked = ContextRequest {
            group_size: Some(2),
            neighbor_window: Some(8),
            ..request(64)
        };
        assert_eq!(
            asked.settings(8192).unwrap().map,
            PositionMap::self_extend(2, 8).unwrap()
        );
    }

    #[test]
    fn numbers_of_tokens() {
        assert_eq!(parse_tokens("32k"), Ok(32768));
        assert_eq!(parse_tokens("16384"), Ok(16384));
        assert!(parse_tokens("many").is_err() && parse_tokens("99999999999k").is_err());
        assert!(
            parse_tokens("k").is_err() && parse_tokens("-1").is_err() && parse_tokens("").is_err()
        );
    }

    proptest! {
        #[test]
        fn automatic_settings_always_reach_the_context(trained in 8usize..10_000, context in 1usize..1_000_000) {
            let settings = request(context).settings(trained).unwrap();
            if let PositionMap::SelfExtend(map) = settings.map {
                prop_assert!(context <= map.max_context(trained));
                let (g, w) = (map.group_size(), map.neighbor_window());
                prop_assert!(w + (context - w).div_ceil(g) <= trained / 2);
                // The smallest such group.
                prop_assert!(g == 2 || w + (context - w).div_ceil(g - 1) > trained / 2);
            } else {
                prop_assert!(context <= trained);
            }
        }
    }
}
