//! From the context that is asked for to an extension.

use crate::builder::with_fields;
use crate::extension::Extension;
use crate::settings::{self, Setting, SettingsError};

/// What is known of a context; everything is optional.
///
/// ```
/// use selfextend::{ContextRequest, PositionMap};
/// let extension = ContextRequest::new().with_context(16384).resolve(4096)?;
/// assert_eq!(extension.map(), PositionMap::self_extend(15, 1024).unwrap());
/// // A text that fits the trained window runs plain, whatever the context.
/// let extension = ContextRequest::new().with_context(16384).with_needed(700).resolve(4096)?;
/// assert!(!extension.extends());
/// # Ok::<(), selfextend::settings::SettingsError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContextRequest {
    /// The most tokens a sequence may come to. Without it, the trained window, or what is needed.
    pub context: Option<usize>,
    /// Tokens that will be needed, the prompt and its answer, where that is known.
    pub needed: Option<usize>,
    /// SelfExtend's group size. Without it, chosen from the context.
    pub group_size: Option<usize>,
    /// SelfExtend's neighbour window in tokens. Without it, a quarter of the trained window.
    pub neighbor_window: Option<usize>,
    /// Refuse to extend.
    pub no_extend: bool,
}

impl ContextRequest {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the most tokens a sequence may come to.
    #[must_use]
    pub fn with_context(self, context: usize) -> Self {
        Self {
            context: Some(context),
            ..self
        }
    }

    /// With the tokens that will be needed, the prompt and its answer.
    #[must_use]
    pub fn with_needed(self, needed: usize) -> Self {
        Self {
            needed: Some(needed),
            ..self
        }
    }

    /// With SelfExtend's group size, which then holds within the trained window too.
    #[must_use]
    pub fn with_group_size(self, group_size: usize) -> Self {
        Self {
            group_size: Some(group_size),
            ..self
        }
    }

    /// With SelfExtend's neighbour window in tokens.
    #[must_use]
    pub fn with_neighbor_window(self, neighbor_window: usize) -> Self {
        Self {
            neighbor_window: Some(neighbor_window),
            ..self
        }
    }

    with_fields! {
        /// Refusing to extend, or not.
        with_no_extend(no_extend: bool);
    }

    /// Chooses an extension for a model trained on `trained` positions.
    ///
    /// Within the trained window attention stays plain: where what is needed fits it, and where that
    /// is not known, where the context does. Beyond it the neighbour window is `W = L/4` (what the
    /// authors use for Llama-2) and the group size the smallest with `W + (N - W)/G <= L/2`: the
    /// paper's rule of thumb (section 4.4) is to stay below 1/2 to 2/3 of the trained window. A group
    /// size or window that is given is kept.
    ///
    /// # Errors
    /// [`SettingsError`] names settings that would do.
    pub fn resolve(&self, trained: usize) -> Result<Extension, SettingsError> {
        if self.context == Some(0) {
            let setting = Setting::Context;
            return Err(SettingsError::Zero { setting });
        }
        let needed = self.needed.unwrap_or(0);
        let context = self.context.unwrap_or(needed.max(trained));
        if self.no_extend && context.max(needed) > trained {
            return Err(SettingsError::NoExtend {
                needed: context.max(needed),
                trained,
            });
        }
        if needed > context {
            return Err(SettingsError::TooShort { needed, context });
        }
        if self.no_extend {
            return Ok(Extension::plain(trained, context));
        }
        let (group_size, window) = (self.group_size, self.neighbor_window);
        let fits = self.needed.is_some_and(|needed| needed <= trained);
        // Settings that cannot work are refused also where this text does not need them.
        match settings::self_extend(trained, context, group_size, window)? {
            Some((group_size, window)) if self.group_size.is_some() || !fits => {
                Extension::self_extend(group_size, window, trained, context)
            }
            _ => Ok(Extension::plain(trained, context.min(trained))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfextend_attention::PositionMap;

    fn request(context: usize) -> ContextRequest {
        ContextRequest::new().with_context(context)
    }

    #[test]
    fn the_trained_window_runs_plain_and_longer_contexts_follow_the_rule() {
        let extension = request(4096).resolve(4096).unwrap();
        assert!(!extension.extends());
        let extension = request(16384).resolve(4096).unwrap();
        assert_eq!(extension.map(), PositionMap::self_extend(15, 1024).unwrap());
        assert_eq!(extension.method().to_string(), "selfextend:G=15,W=1024");
    }

    #[test]
    fn a_text_within_the_trained_window_runs_plain_whatever_the_context() {
        let resolve = |needed| request(16384).with_needed(needed).resolve(4096).unwrap();
        let short = resolve(4096);
        assert!(!short.extends() && short.context() == 4096);
        let long = resolve(4097);
        assert!(long.extends() && long.context() == 16384);
        // A group size is an order.
        let asked = request(16384).with_needed(10).with_group_size(20);
        assert!(asked.resolve(4096).unwrap().extends());
        // What cannot work is refused for a short text too.
        let wide = request(16384).with_needed(10).with_neighbor_window(4096);
        assert!(matches!(
            wide.resolve(4096),
            Err(SettingsError::Window { .. })
        ));
    }

    #[test]
    fn a_long_text_extends_by_itself_unless_forbidden() {
        let long = ContextRequest::new().with_needed(9000);
        let extension = long.resolve(8192).unwrap();
        assert!(extension.extends() && extension.context() == 9000);
        assert_eq!(
            long.with_no_extend(true).resolve(8192),
            Err(SettingsError::NoExtend {
                needed: 9000,
                trained: 8192
            })
        );
        let short = ContextRequest::new().with_needed(10).resolve(8192).unwrap();
        assert_eq!(short, Extension::plain(8192, 8192));
    }

    #[test]
    fn impossible_settings_are_refused() {
        let short = request(200).with_needed(300);
        assert_eq!(
            short.resolve(512),
            Err(SettingsError::TooShort {
                needed: 300,
                context: 200
            })
        );
        let zero = |request: ContextRequest| {
            matches!(request.resolve(512), Err(SettingsError::Zero { .. }))
        };
        assert!(zero(request(0)) && zero(request(200).with_neighbor_window(0)));
        assert!(zero(request(2000).with_group_size(0)));
    }

    #[test]
    fn explicit_settings_hold_within_the_trained_window_too() {
        let asked = request(64).with_group_size(2).with_neighbor_window(8);
        assert_eq!(
            asked.resolve(8192).unwrap().map(),
            PositionMap::self_extend(2, 8).unwrap()
        );
    }
}
