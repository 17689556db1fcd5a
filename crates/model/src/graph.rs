//! A drawing of a model's structure as text, from its spec alone: equal layers are drawn once. Weights, files and
//! devices are not in it.

use std::fmt::Write;

use pasture_tensor::Activation;

use crate::rope::{RopeSpec, Scaling};
use crate::spec::{
    AttentionSpec, Biases, Branch, ExpertsSpec, From, Mask, MixerSpec, MlpSpec, NormKind, NormOver, NormSpec, Spec,
};

/// Draws a model, the first step at the top.
pub fn graph(spec: &Spec) -> String {
    let mut drawing = Drawing::default();
    let context = format!("{} positions, {} wide", spec.context, spec.hidden);
    drawing.step("ids", &context);
    drawing.step("embed", &embed(spec));
    if let Some(norm) = &spec.embed.norm {
        drawing.step("norm", &describe_norm(norm));
    }
    for (layers, branches) in kinds(&spec.layers) {
        drawing.step(&layers, "");
        branches.iter().for_each(|branch| drawing.branch(branch, spec.hidden));
    }
    if let Some(norm) = &spec.norm {
        drawing.step("norm", &describe_norm(norm));
    }
    match &spec.head {
        None => drawing.step("rows", "no output head: this is an encoder"),
        Some(head) => {
            let weights = if head.tied { "the embedding's weights" } else { "its own weights" };
            let mut text = format!("{} → {}, {weights}", spec.hidden, spec.vocab);
            text += if head.bias { ", bias" } else { "" };
            append(&mut text, head.rule.scale.map(|scale| format!("times {scale}")));
            append(&mut text, head.rule.softcap.map(|cap| format!("soft cap {cap}")));
            drawing.step("head", &text);
        }
    }
    drawing.text
}

#[derive(Default)]
struct Drawing {
    text: String,
}

impl Drawing {
    fn line(&mut self, mark: &str, label: &str, text: &str) {
        let line = format!("{mark}{label:<width$}  {text}", width = LABEL_WIDTH.saturating_sub(mark.chars().count()));
        let _ = writeln!(self.text, "{}", line.trim_end());
    }

    /// A part of the main way.
    fn step(&mut self, label: &str, text: &str) {
        if !self.text.is_empty() {
            self.text += "│\n";
        }
        self.line("", label, text);
    }

    fn branch(&mut self, branch: &Branch, hidden: usize) {
        let mut mark = match branch.from {
            From::Stream => "├─▶ ",
            From::LayerInput => "├┄▶ ",
        };
        if let Some(norm) = &branch.pre {
            self.line(mark, "norm", &describe_norm(norm));
            mark = "│   ";
        }
        let (label, lines) = mixer(&branch.mixer, hidden);
        for (number, text) in lines.iter().enumerate() {
            self.line(mark, if number == 0 { label } else { "" }, text);
            mark = "│   ";
        }
        if let Some(norm) = &branch.post {
            self.line(mark, "norm", &describe_norm(norm));
        }
        let mut text = String::new();
        append(&mut text, (branch.from == From::LayerInput).then(|| "read from the layer's input".to_owned()));
        append(&mut text, (branch.gate != 1.0).then(|| format!("times {}", branch.gate)));
        append(&mut text, branch.after.as_ref().map(|norm| format!("then {}", describe_norm(norm))));
        self.line("⊕◀──", "", &text);
    }
}

/// Columns of what stands before the text of a line.
const LABEL_WIDTH: usize = 14;

/// Adds one more of the parts between commas.
fn append(text: &mut String, part: Option<String>) {
    if let Some(part) = part {
        *text += if text.is_empty() { "" } else { ", " };
        *text += &part;
    }
}

/// Each kind of layer with the numbers of its layers, in the order of the first of each.
fn kinds(layers: &[Vec<Branch>]) -> Vec<(String, &[Branch])> {
    let mut kinds: Vec<(Vec<usize>, &[Branch])> = Vec::new();
    for (number, branches) in layers.iter().enumerate() {
        match kinds.iter_mut().find(|(_, kind)| *kind == branches.as_slice()) {
            Some((numbers, _)) => numbers.push(number),
            None => kinds.push((vec![number], branches)),
        }
    }
    kinds.into_iter().map(|(numbers, branches)| (describe_numbers(&numbers), branches)).collect()
}

/// `layer 0`, `layers 0–15`, `layers 0, 2, … 24` where the steps are equal, else all runs.
fn describe_numbers(numbers: &[usize]) -> String {
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else { return "layers".to_owned() };
    let step = numbers.get(1).map_or(1, |second| second - first);
    let regular = numbers.windows(2).all(|pair| pair[1] - pair[0] == step);
    match (numbers, regular) {
        ([only], _) => format!("layer {only}"),
        ([_, _], true) if step > 1 => format!("layers {first}, {last}"),
        (_, true) if step == 1 => format!("layers {first}–{last}"),
        (_, true) => format!("layers {first}, {}, … {last}", first + step),
        (_, false) => {
            let mut runs: Vec<(usize, usize)> = Vec::new();
            for number in numbers {
                match runs.last_mut() {
                    Some((_, end)) if *end + 1 == *number => *end = *number,
                    _ => runs.push((*number, *number)),
                }
            }
            let run = |(start, end): &(usize, usize)| match start == end {
                true => start.to_string(),
                false => format!("{start}–{end}"),
            };
            format!("layers {}", runs.iter().map(run).collect::<Vec<_>>().join(", "))
        }
    }
}

fn embed(spec: &Spec) -> String {
    let mut text = format!("{} → {}", spec.vocab, spec.hidden);
    append(&mut text, spec.embed.scale.map(|scale| format!("times {scale}")));
    append(
        &mut text,
        spec.embed.positions.map(|table| match table.first {
            0 => format!("plus {} learned positions", table.rows),
            first => format!("plus {} learned positions, the first in row {first}", table.rows),
        }),
    );
    append(&mut text, spec.embed.types.map(|types| format!("plus the first of {types} segment types")));
    text
}

fn describe_norm(norm: &NormSpec) -> String {
    let kind = match norm.kind {
        NormKind::Rms => "RMS",
        NormKind::RmsOffset => "RMS, stored less one",
        NormKind::RmsPlain => "RMS without weights",
        NormKind::Layer => "layer norm",
        NormKind::LayerBias => "layer norm with bias",
    };
    format!("{kind}, eps {:e}", norm.eps)
}

fn mixer(mixer: &MixerSpec, hidden: usize) -> (&'static str, Vec<String>) {
    match mixer {
        MixerSpec::Attention(spec) => ("attention", attention(spec)),
        MixerSpec::Mlp(spec) => (slot_group(spec.slots.up), vec![mlp(spec, hidden)]),
        MixerSpec::Experts(spec) => ("experts", experts(spec, hidden)),
    }
}

/// The part of a slot's name that says whose product it is.
fn slot_group(slot: &'static str) -> &'static str {
    slot.split('.').next().unwrap_or(slot)
}

fn attention(spec: &AttentionSpec) -> Vec<String> {
    let mut heads = format!("{} heads of {}", spec.heads, spec.head_dim);
    append(&mut heads, (spec.kv_heads != spec.heads).then(|| format!("{} of keys and values", spec.kv_heads)));
    append(
        &mut heads,
        match spec.bias {
            Biases::None => None,
            Biases::Qkv => Some("bias on q, k, v".to_owned()),
            Biases::All => Some("bias on q, k, v and output".to_owned()),
        },
    );
    let mut seen = match spec.mask {
        Mask::Causal => "causal".to_owned(),
        Mask::Window(keys) => format!("causal, the last {keys}"),
        Mask::Chunk(keys) => format!("causal, in chunks of {keys}"),
        Mask::Full => "sees all, before and behind".to_owned(),
    };
    append(&mut seen, Some(format!("scores times {}", spec.scale)));
    append(&mut seen, spec.softcap.map(|cap| format!("soft cap {cap}")));
    append(&mut seen, spec.clamp.map(|limit| format!("q, k, v within ±{limit}")));
    append(&mut seen, spec.sinks.then(|| "sinks".to_owned()));
    let mut lines = vec![heads, seen];
    lines.extend(spec.rope.as_ref().map(|rope| describe_rope(rope, spec.head_dim)));
    lines.extend(spec.qk_norm.as_ref().map(|norm| {
        let over = match norm.over {
            NormOver::Head => "each head",
            NormOver::Row => "each row",
        };
        let when = if norm.after_rope { "after" } else { "before" };
        format!("q and k normed over {over} {when} the rope: {}", describe_norm(&norm.q))
    }));
    let growth = |growth: &crate::spec::QueryGrowth| {
        format!("q grows by {} · ln(1 + position / {})", growth.factor, growth.every)
    };
    lines.extend(spec.growth.as_ref().map(growth));
    lines
}

fn describe_rope(rope: &RopeSpec, head_dim: usize) -> String {
    let mut text = format!("rope, base {}", rope.base);
    append(&mut text, (rope.dims != head_dim).then(|| format!("{} of {head_dim} dimensions turn", rope.dims)));
    append(
        &mut text,
        match &rope.scaling {
            Scaling::None => None,
            Scaling::Linear { factor } => Some(format!("linear, factor {factor}")),
            Scaling::DynamicNtk { factor, original } => {
                Some(format!("dynamic, factor {factor} above {original} positions"))
            }
            Scaling::Yarn { factor, original, .. } => Some(format!("YaRN, factor {factor} over {original} positions")),
            Scaling::ByWavelength { factor, original, .. } => {
                Some(format!("by wavelength, factor {factor} over {original} positions"))
            }
            Scaling::PerDimension { short, long, .. } if short == long => {
                Some("a divisor for each dimension".to_owned())
            }
            Scaling::PerDimension { original, .. } => {
                Some(format!("a divisor for each dimension, others above {original} positions"))
            }
        },
    );
    text
}

fn mlp(spec: &MlpSpec, hidden: usize) -> String {
    let gated = if spec.gated { ", gated" } else { "" };
    let bias = if spec.bias { ", bias" } else { "" };
    let activation = match spec.activation {
        Activation::SwishLimited { slope, limit } => format!("Swish of {slope} within ±{limit}, plus one"),
        plain => format!("{plain:?}"),
    };
    format!("{hidden} → {} → {hidden}, {activation}{gated}{bias}", spec.width)
}

fn experts(spec: &ExpertsSpec, hidden: usize) -> Vec<String> {
    let bias = if spec.router_bias { ", router bias" } else { "" };
    let chosen = format!("{} of {}, {:?}{bias}", spec.router.top, spec.experts, spec.router.routing);
    let mut lines = vec![chosen, format!("each {}", mlp(&spec.expert, hidden))];
    lines.extend(spec.shared.as_ref().map(|shared| format!("all rows {}", mlp(shared, hidden))));
    lines
}
