//! A method resolved for a model and a context: what a sequence runs under, and the one description
//! of it.

use crate::method::table::At;
use crate::method::{Method, MethodError};
use crate::settings::{Setting, SettingsError};
use selfextend_attention::{Frequencies, PositionMap, QueryScaling};
use std::fmt;

/// How a sequence attends beyond, or within, the trained window: a method with everything that
/// follows from it, for one trained window and one context.
///
/// It comes from [`Method::resolve`], from a [`ContextRequest`](crate::ContextRequest), or from a
/// position map ([`Extension::from_map`]), and goes unchanged to the kernels.
///
/// ```
/// use selfextend::{Extension, Method};
/// let method: Method = "selfextend:G=8,W=1024".parse()?;
/// let extension = method.resolve(8192, 16384)?;
/// assert!(extension.extends());
/// assert_eq!(extension.to_string(), "SelfExtend, group size 8, neighbour window 1024");
/// assert_eq!(Extension::plain(8192, 8192).to_string(), "plain attention");
/// # Ok::<(), selfextend::method::MethodError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Extension {
    method: Method,
    trained_window: usize,
    context: usize,
    map: PositionMap,
    frequencies: Frequencies,
    query_scaling: QueryScaling,
}

impl Method {
    /// What it comes to for sequences of at most `context` tokens on a model trained on `trained`
    /// positions.
    ///
    /// # Errors
    /// [`MethodError`] when parameters contradict each other, a file of factors cannot be read, or
    /// the method does not reach the context.
    pub fn resolve(&self, trained: usize, context: usize) -> Result<Extension, MethodError> {
        if context == 0 {
            let setting = Setting::Context;
            return Err(SettingsError::Zero { setting }.into());
        }
        let (change, query_scaling) = self.build(At { trained, context })?;
        Ok(Extension {
            method: self.clone(),
            trained_window: trained,
            context,
            map: change.map,
            frequencies: change.frequencies,
            query_scaling,
        })
    }
}

impl Extension {
    /// Attention as the model was trained, for at most `context` tokens.
    pub fn plain(trained_window: usize, context: usize) -> Self {
        Self::from_map(PositionMap::Plain, trained_window, context)
    }

    /// SelfExtend where both settings are known to work.
    pub(crate) fn self_extend(
        group_size: usize,
        neighbor_window: usize,
        trained_window: usize,
        context: usize,
    ) -> Result<Self, SettingsError> {
        match PositionMap::self_extend(group_size, neighbor_window) {
            Ok(map) => Ok(Self::from_map(map, trained_window, context)),
            Err(_) => Err(SettingsError::Zero {
                setting: match group_size {
                    0 => Setting::GroupSize,
                    _ => Setting::NeighborWindow,
                },
            }),
        }
    }

    /// A position map of the caller's for at most `context` tokens. Whether the map stays within the
    /// trained positions up to there is the caller's to know: [`PositionMap::reach`].
    pub fn from_map(map: PositionMap, trained_window: usize, context: usize) -> Self {
        let method = match map {
            PositionMap::Plain => Method::plain(),
            PositionMap::SelfExtend(map) => {
                Method::self_extend(map.group_size(), map.neighbor_window())
            }
            _ => Method::custom(),
        };
        Self {
            method,
            trained_window,
            context,
            map,
            frequencies: Frequencies::Trained,
            query_scaling: QueryScaling::None,
        }
    }

    /// The same with other frequencies, whatever the method says.
    #[must_use]
    pub fn with_frequencies(self, frequencies: Frequencies) -> Self {
        let method = if frequencies == self.frequencies {
            self.method
        } else {
            Method::custom()
        };
        Self {
            method,
            frequencies,
            ..self
        }
    }

    /// The same with scaled queries, whatever the method says.
    #[must_use]
    pub fn with_query_scaling(self, query_scaling: QueryScaling) -> Self {
        let method = if query_scaling == self.query_scaling {
            self.method
        } else {
            Method::custom()
        };
        Self {
            method,
            query_scaling,
            ..self
        }
    }

    /// The same map, frequencies and scaling for sequences of another length. A method that depends
    /// on the context is not resolved again.
    #[must_use]
    pub fn with_context(self, context: usize) -> Self {
        Self { context, ..self }
    }

    /// The method it came from.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The model's trained window in tokens.
    pub fn trained_window(&self) -> usize {
        self.trained_window
    }

    /// The most tokens of a sequence.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The position map.
    pub fn map(&self) -> PositionMap {
        self.map
    }

    /// How the model's frequencies are changed.
    pub fn frequencies(&self) -> Frequencies {
        self.frequencies
    }

    /// What queries are multiplied by.
    pub fn query_scaling(&self) -> QueryScaling {
        self.query_scaling
    }

    /// Whether anything differs from attention as the model was trained.
    pub fn extends(&self) -> bool {
        self.map != PositionMap::Plain
            || self.frequencies != Frequencies::Trained
            || self.query_scaling != QueryScaling::None
    }

    /// Whether keys computed under one serve the other: they differ at most in their context and in
    /// how the method is written.
    pub fn runs_like(&self, other: &Self) -> bool {
        self.map == other.map
            && self.frequencies == other.frequencies
            && self.query_scaling == other.query_scaling
    }

    /// The method's name in prose, without settings: `SelfExtend`, `YaRN`, `plain attention`.
    pub fn title(&self) -> &'static str {
        if self.extends() {
            self.method.entry().title
        } else {
            Method::plain().entry().title
        }
    }
}

/// The name in prose and the settings in force, as in `SelfExtend, group size 8, neighbour window
/// 1024`.
impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.title())?;
        match self.map {
            PositionMap::Plain => {}
            PositionMap::SelfExtend(map) => write!(
                f,
                ", group size {}, neighbour window {}",
                map.group_size(),
                map.neighbor_window()
            )?,
            map => {
                // The map's own words begin with its name in the code.
                let words = map.to_string();
                let settings = words.split_once(", ").map_or(&*words, |(_, rest)| rest);
                write!(f, ", {settings}")?;
            }
        }
        match self.frequencies {
            Frequencies::Trained => {}
            Frequencies::Interpolated { factor } | Frequencies::Ntk { factor } => {
                write!(f, ", {factor:.2} times the trained window")?;
            }
            Frequencies::Yarn(yarn) => {
                write!(f, ", {:.2} times the trained window", yarn.factor)?;
            }
            Frequencies::MixedRadix(radix) => {
                write!(f, ", {:.2} times the trained window", radix.factor)?;
            }
            Frequencies::Clipped(clipped) => match clipped.pairs {
                Some(pairs) => write!(f, ", {pairs} frequencies tapered")?,
                None => f.write_str(", frequencies that never turn once tapered")?,
            },
            Frequencies::Factors(factors) => {
                write!(f, ", {} frequency factors", factors.divisors().len())?;
            }
        }
        match self.query_scaling {
            QueryScaling::None => Ok(()),
            QueryScaling::LogN { .. } => f.write_str(", log-n scaling"),
            QueryScaling::Yarn { .. } => f.write_str(", YaRN's temperature"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::table::METHODS;

    fn method(text: &str) -> Method {
        text.parse().unwrap()
    }

    #[test]
    fn one_description_names_method_and_settings() {
        for (text, words) in [
            ("plain", "plain attention"),
            (
                "selfextend:G=2,W=16",
                "SelfExtend, group size 2, neighbour window 16",
            ),
            (
                "rerope:W=16,scale=log-n",
                "ReRoPE, window 16, log-n scaling",
            ),
            ("yarn", "YaRN, 1.56 times the trained window"),
            (
                "dca:chunk=48,reach=64",
                "Dual Chunk Attention, chunk 48, reach 64",
            ),
        ] {
            assert_eq!(method(text).resolve(64, 100).unwrap().to_string(), words);
        }
        // Within the trained window the automatic rule comes to plain attention.
        let short = Method::automatic().resolve(64, 64).unwrap();
        assert!(!short.extends() && short.to_string() == "plain attention");
    }

    #[test]
    fn a_map_given_directly_has_the_method_that_makes_it() {
        let map = PositionMap::self_extend(4, 16).unwrap();
        let extension = Extension::from_map(map, 64, 200);
        assert_eq!(extension.method().to_string(), "selfextend:G=4,W=16");
        assert_eq!(extension.method().resolve(64, 200).unwrap(), extension);
        let scaled = extension.with_query_scaling(QueryScaling::LogN { base: 64 });
        assert_eq!(scaled.method().name(), "custom");
        assert!(scaled.method().resolve(64, 200).is_err());
    }

    #[test]
    fn settings_beyond_their_reach_are_refused() {
        let short = method("selfextend:G=2,W=1024").resolve(2048, 100_000);
        assert!(matches!(
            short,
            Err(MethodError::Settings(SettingsError::TooLong { .. }))
        ));
        let short = method("leaky-rerope:W=512,k=2").resolve(2048, 100_000);
        assert!(matches!(short, Err(MethodError::Beyond { .. })));
        let plain = Method::plain().resolve(2048, 100_000).unwrap();
        assert!(!plain.extends());
    }

    /// A group size that does not divide the window: the last token that reaches is the last.
    #[test]
    fn the_reach_of_group_sizes_is_exact() {
        let method = method("selfextend:G=3,W=128");
        method.resolve(512, 1278).unwrap();
        let error = method.resolve(512, 1279).unwrap_err().to_string();
        assert!(error.contains("1278"), "{error}");
        let error = "leaky-rerope:k=1e17".parse::<Method>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "method \"leaky-rerope:k=1e17\": k: \"1e17\" is above 1e9"
        );
        let factor = "leaky-rerope:k=1e8".parse::<Method>().unwrap();
        let error = factor.resolve(512, 1000).unwrap_err().to_string();
        assert!(error.len() < 150, "{error}");
    }

    /// The promise behind every default: whatever the context, no position the model never saw, or
    /// a refusal.
    #[test]
    fn by_default_every_method_fits_every_context() {
        // These two need numbers that were found for a model.
        let found = ["longrope", "dpe"];
        for entry in METHODS.iter().filter(|entry| !found.contains(&entry.name)) {
            for trained in [64, 512, 8192] {
                for times in [1, 2, 3, 8, 30] {
                    let context = trained * times + times;
                    let extension = match method(entry.name).resolve(trained, context) {
                        Ok(extension) => extension,
                        // Shifted positions end at twice the window.
                        Err(MethodError::Beyond { .. }) if entry.name == "string" && times > 1 => {
                            continue;
                        }
                        Err(error) => panic!("{} at {times} x {trained}: {error}", entry.name),
                    };
                    let what = format!("{} at {times} x {trained}", entry.name);
                    assert_eq!(extension.extends(), entry.name != "plain", "{what}");
                    let title = extension.title();
                    assert!(extension.to_string().starts_with(title), "{what}");
                }
            }
        }
    }

    /// The last query of a text about twice the trained window long, by hand.
    #[test]
    fn defaults_are_those_of_the_papers() {
        let relative = |name: &str, j: usize| {
            let map = method(name).resolve(4096, 8192).unwrap().map();
            map.positions().relative(8191, j)
        };
        assert_eq!(relative("rerope", 0), Some(512.0));
        assert_eq!(relative("rerope", 8000), Some(191.0));
        // S = 7000 + 128 - 4096.
        let string = method("string").resolve(4096, 7000).unwrap().map();
        assert_eq!(string.relative(6999, 0), Some((6999 - 3032 + 128) as f64));
        // The key's chunk of 3072 is two before the query's.
        assert_eq!(relative("dca", 10), Some((4095 - 10) as f64));
        assert_eq!(relative("jet-long", 0), Some(4095.0));
        assert_eq!(relative("streaming-llm", 4), None);
        assert_eq!(relative("streaming-llm", 3), Some((4095 - 3) as f64));
        assert_eq!(relative("lm-infinite", 9), Some(4095.0));
        assert_eq!(relative("lm-infinite", 10), None);
        let yarn = method("yarn").resolve(4096, 8192).unwrap().frequencies();
        assert!(matches!(yarn, Frequencies::Yarn(yarn) if yarn.factor == 2.0));
    }

    #[test]
    fn longrope_needs_a_file_of_factors() {
        assert!(method("longrope").resolve(512, 1024).is_err());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("factors.json");
        for (text, works) in [
            ("[1.0, 2.0]", true),
            (
                r#"{"long_factor": [1.0, 2.0], "short_factor": [1, 1]}"#,
                true,
            ),
            (r#"{"long": [1.0]}"#, false),
            ("[0.0]", false),
        ] {
            std::fs::write(&path, text).unwrap();
            let longrope = method(&format!("longrope:factors={}", path.display()));
            assert_eq!(longrope.resolve(512, 1024).is_ok(), works, "{text}");
        }
    }
}
