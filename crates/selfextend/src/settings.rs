//! SelfExtend's settings for a context: the rule of thumb of the paper, its limits, and what is said
//! of settings that cannot work.

use selfextend_attention::SelfExtend;
use std::fmt;

/// A setting of a context, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting {
    /// The most tokens of a sequence.
    Context,
    /// SelfExtend's group size, G.
    GroupSize,
    /// SelfExtend's neighbour window, W.
    NeighborWindow,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Context => "context",
            Self::GroupSize => "group size",
            Self::NeighborWindow => "neighbour window",
        })
    }
}

/// Settings that cannot work, and some that would. All sizes are in tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A value of 0.
    #[error("the {setting} must be at least 1")]
    Zero {
        /// Which setting.
        setting: Setting,
    },
    /// A neighbour window as long as the trained one.
    #[error(
        "a neighbour window of {window} tokens must be smaller than the trained window of {trained}; try {}",
        trained / 4
    )]
    Window {
        /// The neighbour window asked for.
        window: usize,
        /// The model's trained window.
        trained: usize,
    },
    /// A context beyond `(L - W) * G + W`.
    #[error(
        "a context of {context} tokens is beyond the limit of {limit} for group size {group_size} and neighbour window {window}; a group size of {enough} reaches it"
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
        "{needed} tokens do not fit the trained window of {trained}, and extending it was refused; allow it, or shorten the text"
    )]
    NoExtend {
        /// Tokens needed.
        needed: usize,
        /// The model's trained window.
        trained: usize,
    },
    /// A text longer than the context that was asked for.
    #[error(
        "{needed} tokens are needed, but the context allows {context}; a context of {needed} is enough"
    )]
    TooShort {
        /// Tokens needed.
        needed: usize,
        /// Tokens allowed.
        context: usize,
    },
}

/// Group size and neighbour window for a context on a trained window, all in tokens; `None` where
/// the context fits the trained window and no group size is given: attention stays plain there.
///
/// The default window is `W = L/4` (what the authors use for Llama-2), the default group size the
/// smallest with `W + (N - W)/G <= L/2`: the paper's rule of thumb (section 4.4) is to stay below
/// 1/2 to 2/3 of the trained window. A group size or window that is given is kept.
///
/// # Errors
/// [`SettingsError`] names settings that would do.
pub(crate) fn self_extend(
    trained: usize,
    context: usize,
    group_size: Option<usize>,
    neighbor_window: Option<usize>,
) -> Result<Option<(usize, usize)>, SettingsError> {
    let given = [
        (Setting::Context, Some(context)),
        (Setting::GroupSize, group_size),
        (Setting::NeighborWindow, neighbor_window),
    ];
    if let Some((setting, _)) = given.into_iter().find(|(_, value)| *value == Some(0)) {
        return Err(SettingsError::Zero { setting });
    }
    if context <= trained && group_size.is_none() {
        return Ok(None);
    }
    let window = neighbor_window.unwrap_or((trained / 4).max(1));
    if window >= trained {
        return Err(SettingsError::Window { window, trained });
    }
    let group_size = group_size.unwrap_or_else(|| auto_group_size(context, window, trained));
    let limit = max_context(group_size, window, trained);
    if context > limit {
        let enough = (context - window).div_ceil(trained - window);
        let enough = reaching(enough, context, window, trained);
        return Err(SettingsError::TooLong {
            context,
            limit,
            group_size,
            window,
            enough,
        });
    }
    Ok(Some((group_size, window)))
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
    reaching(distant.div_ceil(room).max(1), context, window, trained)
}

/// The smallest group size from `group_size` on that reaches a context with a window below the
/// trained one.
fn reaching(group_size: usize, context: usize, window: usize, trained: usize) -> usize {
    let mut sizes = group_size..;
    let found = sizes.find(|&size| max_context(size, window, trained) >= context);
    found.unwrap_or(group_size)
}

/// The longest context in tokens of some settings: [`SelfExtend::max_context`].
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
        .map_err(|_| format!("{text:?} is not a number of tokens; write 16384 or 16k"))?;
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

    #[test]
    fn impossible_settings_name_possible_ones() {
        let short = self_extend(512, 2000, Some(2), Some(128));
        let Err(SettingsError::TooLong { limit, enough, .. }) = short else {
            panic!("2000 tokens cannot fit");
        };
        assert_eq!((limit, enough), ((512 - 128) * 2 + 128, 5));
        assert!(self_extend(512, 2000, Some(enough), Some(128)).is_ok());
        assert!(self_extend(512, limit, Some(2), Some(128)).is_ok());
        assert!(matches!(
            self_extend(512, 2000, None, Some(512)),
            Err(SettingsError::Window { .. })
        ));
        for (group_size, window) in [(Some(0), None), (None, Some(0))] {
            assert!(matches!(
                self_extend(512, 2000, group_size, window),
                Err(SettingsError::Zero { .. })
            ));
        }
        assert_eq!(
            self_extend(512, 0, None, None).unwrap_err().to_string(),
            "the context must be at least 1"
        );
    }

    /// Where the window alone is half of the trained one or more: the smallest group that reaches.
    #[test]
    fn long_windows_get_the_smallest_group() {
        let group = |window| self_extend(100, 300, None, Some(window));
        assert_eq!(group(50), Ok(Some((5, 50))));
        assert_eq!(group(60), Ok(Some((6, 60))));
    }

    #[test]
    fn the_trained_window_stays_plain_and_longer_contexts_follow_the_rule() {
        assert_eq!(self_extend(4096, 4096, None, None), Ok(None));
        // W = 1024; 1024 + (16384 - 1024)/G <= 2048 first holds for G = 15.
        assert_eq!(self_extend(4096, 16384, None, None), Ok(Some((15, 1024))));
        // A group size that is given holds within the trained window too.
        assert_eq!(self_extend(8192, 64, Some(2), Some(8)), Ok(Some((2, 8))));
    }

    #[test]
    fn numbers_of_tokens() {
        assert_eq!(parse_tokens("32k"), Ok(32768));
        assert_eq!(parse_tokens("16384"), Ok(16384));
        assert_eq!(parse_tokens(" 1m "), Ok(1 << 20));
        assert_eq!(parse_tokens("12M"), Ok(12 << 20));
        assert!(parse_tokens("many").is_err() && parse_tokens("99999999999k").is_err());
        assert!(
            parse_tokens("k").is_err() && parse_tokens("-1").is_err() && parse_tokens("").is_err()
        );
    }

    proptest! {
        #[test]
        fn automatic_settings_always_reach_the_context(trained in 8usize..10_000, times in 1usize..100, more in 1usize..1000) {
            let context = trained * times + more;
            let (g, w) = self_extend(trained, context, None, None).unwrap().unwrap();
            prop_assert!(context <= max_context(g, w, trained));
            prop_assert!(w + (context - w).div_ceil(g) <= trained / 2);
            // The smallest such group.
            prop_assert!(g == 2 || w + (context - w).div_ceil(g - 1) > trained / 2);
        }
    }
}
