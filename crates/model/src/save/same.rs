//! Whether two structures are one model. A container may write a rotary scaling in another way than it came; what
//! counts is the angles. A difference is told by its place, so that a refusal can name what would be lost.

use crate::rope::RopeSpec;
use crate::spec::{Mask, MixerSpec, Spec};

/// Factors may differ by this, relative: one rounding of a root or a quotient.
const CLOSE: f32 = 4e-6;

/// The first thing in which the second structure is another model than the first, as a sentence without a subject.
pub fn difference(wanted: &Spec, found: &Spec) -> Option<String> {
    let lengths = lengths(wanted);
    for (layer, (one, other)) in wanted.layers.iter().zip(&found.layers).enumerate() {
        for (one, other) in one.iter().zip(other) {
            if let (MixerSpec::Attention(one), MixerSpec::Attention(other)) = (&one.mixer, &other.mixer)
                && !same_angles(one.rope.as_ref(), other.rope.as_ref(), &lengths)
            {
                return Some(format!("the rotary positions of layer {layer} ({})", rope_kind(one.rope.as_ref())));
            }
        }
    }
    let (wanted, found) = (format!("{:#?}", plain(wanted)), format!("{:#?}", plain(found)));
    (wanted != found).then(|| first_difference(&wanted, &found))
}

/// Lengths at which rotary factors may differ.
fn lengths(spec: &Spec) -> Vec<usize> {
    let mut lengths = vec![1, spec.context];
    for rope in super::keys::attentions(spec).filter_map(|attention| attention.rope.as_ref()) {
        if let Some(original) = rope.original() {
            lengths.extend([original, original + 1, original.saturating_mul(2)]);
        }
    }
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

fn rope_kind(rope: Option<&RopeSpec>) -> String {
    rope.map_or("none".to_owned(), |rope| {
        let kind = format!("{:?}", rope.scaling);
        kind.split([' ', '{']).next().unwrap_or_default().to_owned()
    })
}

fn same_angles(one: Option<&RopeSpec>, other: Option<&RopeSpec>, lengths: &[usize]) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return one.is_none() && other.is_none() };
    one.dims == other.dims
        && lengths.iter().all(|length| {
            let ((a, x), (b, y)) = (one.frequencies(*length), other.frequencies(*length));
            let close = |a: f32, b: f32| (a - b).abs() <= CLOSE * a.abs();
            close(x, y) && a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| close(*a, *b))
        })
}

/// The structure with what was compared already left out, and with factors that are roots or quotients rounded.
fn plain(spec: &Spec) -> Spec {
    let round = |value: f32| format!("{value:.4e}").parse::<f32>().unwrap_or(value);
    let mut spec = spec.clone();
    spec.embed.scale = spec.embed.scale.map(round);
    if let Some(positions) = &mut spec.embed.positions {
        (positions.rows, positions.first) = (positions.rows - positions.first, 0);
    }
    if let Some(head) = &mut spec.head {
        head.rule.scale = head.rule.scale.map(round);
    }
    let context = spec.context;
    for branch in spec.layers.iter_mut().flatten() {
        branch.gate = round(branch.gate);
        if let MixerSpec::Attention(attention) = &mut branch.mixer {
            attention.rope = None;
            attention.scale = round(attention.scale);
            if matches!(attention.mask, Mask::Window(keys) | Mask::Chunk(keys) if keys >= context) {
                attention.mask = Mask::Causal;
            }
        }
    }
    spec
}

/// The first line in which two printed structures differ, with the fields around it.
fn first_difference(wanted: &str, found: &str) -> String {
    let (mut path, mut layer): (Vec<(usize, &str)>, Option<usize>) = (Vec::new(), None);
    for (one, other) in wanted.lines().zip(found.lines().chain(std::iter::repeat(""))) {
        let depth = one.len() - one.trim_start().len();
        path.retain(|(at, _)| *at < depth);
        // Lists stand at depth 8 behind `layers: [` at depth 4.
        if depth == 8 && one.trim_end() == "        [" {
            layer = Some(layer.map_or(0, |layer| layer + 1));
        }
        if one != other {
            let inner: Vec<&str> = path.iter().filter(|(_, name)| !name.is_empty()).map(|(_, name)| *name).collect();
            let place = inner.iter().rev().take(2).rev().copied().collect::<Vec<_>>().join(" ");
            let of = if inner.contains(&"layers") {
                layer.map_or(String::new(), |at| format!(" of layer {at}"))
            } else {
                String::new()
            };
            return format!(
                "`{}` in {place}{of} (it would be `{}`)",
                one.trim().trim_end_matches(','),
                other.trim().trim_end_matches(',')
            );
        }
        let name = one.trim().split([':', ' ', '(', '{', '[']).next().unwrap_or_default();
        path.push((depth, name));
    }
    "the number of layers or branches".to_owned()
}
