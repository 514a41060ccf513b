//! `selfextend inspect`: what a file says, how far it can be extended, and which positions are used.

mod keys;
mod matrix;
mod positions;

use crate::args::inspect::InspectArgs;
use crate::error::Result;
use crate::{output, setup};
use keys::KeyReport;
use matrix::Matrix;
use selfextend::config::{LayerAttention, ModelConfig, Rotary};
use selfextend::method::table::{METHODS, SCALE};
use selfextend::settings::max_context;
use selfextend::{ContextRequest, ModelFile, PositionMap, RopeScaling};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Shows everything about a model.
pub fn inspect(args: &InspectArgs) -> Result<()> {
    if args.methods {
        return methods(args.json);
    }
    if args.positions {
        return positions::positions(args);
    }
    let file = setup::open(&args.model.load)?;
    let report = Report {
        model: ModelReport::new(&file)?,
        max_context: reaches(file.config()?.trained_window),
        automatic: automatic(args, file.config()?.trained_window)?,
        matrix: Matrix::new(args)?,
    };
    if args.json {
        output::json(&report)
    } else {
        output::text(&report.in_words()?)
    }
}

/// Lists every method with its parameters.
fn methods(json: bool) -> Result<()> {
    #[derive(Serialize)]
    struct Listed {
        name: &'static str,
        about: &'static str,
        parameters: BTreeMap<&'static str, &'static str>,
    }
    let mut text = String::from(
        "Methods for --method, written NAME or NAME:KEY=VALUE,... (L is the trained window, N the context);\nthe default of a parameter follows its semicolon:\n",
    );
    for entry in METHODS {
        if json {
            let keys = entry.keys().map(|key| (key.name, key.about));
            output::json(&Listed {
                name: entry.name,
                about: entry.about,
                parameters: keys.collect(),
            })?;
        }
        let _ = writeln!(text, "\n{:<16}{}", entry.name, entry.about);
        for key in entry.keys {
            let _ = writeln!(text, "    {:<12}{}", key.name, key.about);
        }
    }
    let _ = writeln!(
        text,
        "\nEvery method\n    {:<12}{}",
        SCALE.name, SCALE.about
    );
    if json { Ok(()) } else { output::text(&text) }
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    model: ModelReport,
    max_context: Vec<Reach>,
    automatic: Vec<Choice>,
    matrix: Matrix,
}

/// What the file says.
#[derive(Debug, Serialize)]
struct ModelReport {
    file: String,
    file_bytes: u64,
    /// Files that a GGUF model was split into.
    parts: usize,
    architecture: String,
    name: Option<String>,
    layers: usize,
    hidden: usize,
    feed_forward: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    trained_window: usize,
    rope_theta: f64,
    rope_dimensions: usize,
    rope_scaling: String,
    sliding_window: Option<usize>,
    sliding_layers: usize,
    unrotated_layers: usize,
    /// Those whose positions a method changes.
    extended_layers: usize,
    parameters: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    experts: Option<ExpertReport>,
    formats: BTreeMap<String, FormatUse>,
    tokenizer: Option<String>,
    chat_template: bool,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_template_fault: Option<String>,
    /// What generation_config.json or the header recommends; nothing uses it unasked.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sampling_defaults: BTreeMap<&'static str, String>,
    kv_bytes_per_token: usize,
    keys: Vec<KeyReport>,
}

/// The sparse layers of a mixture of experts.
#[derive(Debug, Serialize)]
struct ExpertReport {
    count: usize,
    used: usize,
    width: usize,
    shared_width: usize,
    layers: usize,
    /// Parameters that a token is multiplied with, those of the embedding among them.
    active_parameters: usize,
}

impl ExpertReport {
    fn new(config: &ModelConfig, parameters: usize) -> Option<Self> {
        let experts = config.experts.as_ref()?;
        Some(Self {
            count: experts.count,
            used: experts.used,
            width: experts.width,
            shared_width: experts.shared_width,
            layers: experts.sparse.iter().filter(|sparse| **sparse).count(),
            active_parameters: parameters.saturating_sub(config.idle_parameters()),
        })
    }

    fn line(&self) -> String {
        let shared = match self.shared_width {
            0 => String::new(),
            width => format!(" and {width} shared"),
        };
        format!(
            "{} of {} read a token, of width {}{shared}, in {} layers; {:.1} million parameters are active",
            self.used,
            self.count,
            self.width,
            self.layers,
            self.active_parameters as f64 / 1e6
        )
    }
}

/// How much of a file is in a tensor format.
#[derive(Debug, Default, Serialize)]
struct FormatUse {
    tensors: usize,
    bytes: usize,
}

impl ModelReport {
    fn new(file: &ModelFile) -> Result<Self> {
        let mut formats = BTreeMap::<_, FormatUse>::new();
        let (mut parameters, mut bytes) = (0, 0);
        for tensor in file.tensors() {
            parameters += tensor.elements;
            bytes += tensor.bytes as u64;
            let format = formats.entry(tensor.format).or_default();
            format.tensors += 1;
            format.bytes += tensor.bytes;
        }
        let (config, template) = (file.config()?, file.template("", ""));
        let ModelConfig {
            rope, attention, ..
        } = &config;
        let windows = || attention.iter().filter_map(|layer| layer.window);
        let is_unrotated = |layer: &&LayerAttention| layer.rotary == Rotary::None;
        Ok(Self {
            file: file.path().display().to_string(),
            file_bytes: file_bytes(&file.parts(), bytes),
            parts: file.parts().len().max(1),
            rope_theta: rope.theta,
            rope_dimensions: rope.rotary_dim,
            rope_scaling: in_words(&rope.scaling),
            sliding_window: windows().next(),
            sliding_layers: windows().count(),
            unrotated_layers: attention.iter().filter(is_unrotated).count(),
            extended_layers: config.extended_layers(),
            tokenizer: file.tokenizer_kind()?,
            chat_template: template.is_some(),
            chat_template_fault: template.and_then(|it| it.fault().map(ToString::to_string)),
            sampling_defaults: file.sampling_defaults()?,
            kv_bytes_per_token: 2 * 2 * config.layers * config.kv_heads * config.head_dim,
            experts: ExpertReport::new(&config, parameters),
            architecture: config.architecture,
            name: config.name,
            layers: config.layers,
            hidden: config.hidden,
            feed_forward: config.feed_forward,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            vocab: config.vocab,
            trained_window: config.trained_window,
            parameters,
            formats,
            keys: file.keys()?.into_iter().map(KeyReport::from).collect(),
        })
    }

    /// One fact per line.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let formats = self.formats.iter().map(|(name, it)| {
            let plural = if it.tensors == 1 { "" } else { "s" };
            format!(
                "{name} ({} tensor{plural}, {})",
                it.tensors,
                output::size(it.bytes)
            )
        });
        let tokenizer = self.tokenizer.as_deref().unwrap_or("none");
        let sampling = self.sampling_defaults.iter();
        let sampling: Vec<_> = sampling
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let sampling = match sampling.as_slice() {
            [] => "none".to_owned(),
            given => format!("{} (used with --recommended-sampling)", given.join(", ")),
        };
        let sliding = match (self.sliding_window, self.sliding_layers) {
            (None, _) => "every layer sees all keys".to_owned(),
            (Some(window), n) if n == self.layers => {
                format!("all layers see {window} tokens (SelfExtend switches this off)")
            }
            (Some(window), n) => format!("{n} local layers see {window} tokens"),
        };
        let unrotated = match self.unrotated_layers {
            0 => String::new(),
            n => format!(", none in {n} layers"),
        };
        let extension = match self.extended_layers {
            0 => "changes nothing: the layers that see all keys have no positions, and local ones stay \
                  local"
                .to_owned(),
            n if n == self.layers => "changes the positions of all layers".to_owned(),
            n => format!("changes the positions of {n} layers, and leaves those of the others"),
        };
        vec![
            ("file", self.file.clone()),
            (
                "file size",
                match self.parts {
                    1 => output::size(self.file_bytes as usize),
                    n => format!("{} in {n} parts", output::size(self.file_bytes as usize)),
                },
            ),
            ("name", self.name.clone().unwrap_or_else(|| "-".to_owned())),
            ("architecture", self.architecture.clone()),
            (
                "parameters",
                format!("{:.1} million", self.parameters as f64 / 1e6),
            ),
            (
                "experts",
                self.experts
                    .as_ref()
                    .map_or_else(|| "none".to_owned(), ExpertReport::line),
            ),
            ("layers", self.layers.to_string()),
            (
                "hidden size",
                format!("{}, feed-forward {}", self.hidden, self.feed_forward),
            ),
            (
                "heads",
                format!(
                    "{} of size {}, {} for keys and values",
                    self.heads, self.head_dim, self.kv_heads
                ),
            ),
            ("trained window", format!("{} tokens", self.trained_window)),
            (
                "RoPE",
                format!(
                    "base {}, {} dimensions, scaling {}{unrotated}",
                    self.rope_theta, self.rope_dimensions, self.rope_scaling
                ),
            ),
            ("attention", sliding),
            ("extension", extension),
            ("tensors", formats.collect::<Vec<_>>().join(", ")),
            ("tokenizer", format!("{tokenizer}, {} tokens", self.vocab)),
            (
                "chat template",
                match &self.chat_template_fault {
                    Some(fault) => format!("yes, but {fault}"),
                    None => if self.chat_template { "yes" } else { "no" }.to_owned(),
                },
            ),
            ("sampling", sampling),
            (
                "KV cache",
                format!(
                    "{} for 1024 tokens (f16)",
                    output::size(self.kv_bytes_per_token * 1024)
                ),
            ),
        ]
    }
}

/// The size of all parts; of a folder, which has none, the size of its tensors.
fn file_bytes(parts: &[&Path], tensors: u64) -> u64 {
    let sizes = parts.iter().map(std::fs::metadata);
    let sizes = sizes.map(|found| found.map(|found| found.len()));
    match sizes.sum::<std::io::Result<u64>>() {
        Ok(bytes) if bytes > 0 => bytes,
        _ => tensors,
    }
}

/// A scaling in words, without its lists of factors.
fn in_words(scaling: &RopeScaling) -> String {
    match scaling {
        RopeScaling::None => "none".to_owned(),
        RopeScaling::Factors(factors) => format!("{} factors", factors.len()),
        RopeScaling::LongRope { factors, magnitude } => {
            format!(
                "longrope, {} factors, magnitude {magnitude:.3}",
                factors.len()
            )
        }
        other => format!("{other:?}"),
    }
}

/// The largest context that settings reach.
#[derive(Debug, Serialize)]
struct Reach {
    group_size: usize,
    neighbor_window: usize,
    context: usize,
}

const GROUP_SIZES: [usize; 5] = [2, 4, 8, 16, 32];
const WINDOW_SHARES: [usize; 4] = [16, 8, 4, 2];

fn reaches(trained: usize) -> Vec<Reach> {
    let reach = |share: usize| {
        let neighbor_window = (trained / share).max(1);
        GROUP_SIZES.map(move |group_size| {
            let context = max_context(group_size, neighbor_window, trained);
            Reach {
                group_size,
                neighbor_window,
                context,
            }
        })
    };
    WINDOW_SHARES.into_iter().flat_map(reach).collect()
}

/// The settings chosen for a context.
#[derive(Debug, Serialize)]
struct Choice {
    context: usize,
    times: Option<usize>,
    group_size: usize,
    neighbor_window: Option<usize>,
}

fn automatic(args: &InspectArgs, trained: usize) -> Result<Vec<Choice>> {
    let choice = |times, request: ContextRequest| -> Result<Choice> {
        let extension = request.resolve(trained)?;
        let (group_size, neighbor_window) = match extension.map() {
            PositionMap::SelfExtend(map) => (map.group_size(), Some(map.neighbor_window())),
            _ => (1, None),
        };
        Ok(Choice {
            context: extension.context(),
            times,
            group_size,
            neighbor_window,
        })
    };
    let by_itself = [2, 4, 8, 16].map(|times| {
        let request = ContextRequest::new().with_context(times * trained);
        choice(Some(times), request)
    });
    let asked = args.model.context.map(|context| {
        let mut request = ContextRequest::new()
            .with_context(context)
            .with_no_extend(args.model.no_extend);
        request.group_size = args.model.group_size;
        request.neighbor_window = args.model.neighbor_window;
        choice(None, request)
    });
    by_itself.into_iter().chain(asked).collect()
}

impl Report {
    fn in_words(&self) -> Result<String> {
        let mut text = String::new();
        for (name, value) in self.model.lines() {
            let _ = writeln!(text, "{name:<16}{value}");
        }
        keys::write(&self.model.keys, &mut text);
        self.write_reaches(&mut text);
        text.push_str("\nSettings chosen for a context:\n");
        for choice in &self.automatic {
            let times = choice
                .times
                .map_or("as given".to_owned(), |times| format!("{times} x L"));
            let map = match choice.neighbor_window {
                Some(window) => format!(
                    "--group-size {} --neighbor-window {window}",
                    choice.group_size
                ),
                None => "plain attention".to_owned(),
            };
            let _ = writeln!(text, "{:>10}  --context {:<9}{map}", times, choice.context);
        }
        text.push_str(&self.matrix.drawn(output::colours()));
        Ok(text)
    }

    fn write_reaches(&self, text: &mut String) {
        let trained = self.model.trained_window;
        let _ = writeln!(
            text,
            "\nLargest context, (L - W) * G + W with L = {trained}:"
        );
        let _ = write!(text, "{:>16}", "W \\ G");
        for group_size in GROUP_SIZES {
            let _ = write!(text, "{group_size:>10}");
        }
        for (row, share) in self
            .max_context
            .chunks(GROUP_SIZES.len())
            .zip(WINDOW_SHARES)
        {
            let name = format!("{} = L/{share}", row[0].neighbor_window);
            let _ = write!(text, "\n{name:>16}");
            for reach in row {
                let _ = write!(text, "{:>10}", reach.context);
            }
        }
        text.push('\n');
    }
}
