//! Puts a checkpoint's weights where the spec wants them: the spec is walked once, each slot is asked for with the
//! shape it must have.

use std::sync::Arc;

use pasture_tensor::ops::attend;
use pasture_tensor::ops::experts::Expert;
use pasture_tensor::{Backend, Linear, Norm};

use super::parts::Parts;
use crate::decoder::{Branch, Decoder, Embed, Layer};
use crate::error::Result;
use crate::kv::KvShape;
use crate::mixers::{Attention, Experts, Held, Mixer, Mlp, QkNorms};
use crate::names::{Part, Place};
use crate::rope::RopeSpec;
use crate::sites::Kind;
use crate::spec::{self, AttentionSpec, Biases, ExpertsSpec, MixerSpec, MlpSpec, NormOver, NormSpec, Spec};

/// What the layers share.
#[derive(Default)]
struct Shared {
    ropes: Vec<RopeSpec>,
    kv_shapes: Vec<KvShape>,
}

/// The decoder of a spec with a checkpoint's weights.
pub(super) fn assemble(spec: &Spec, parts: &mut Parts, backend: Arc<dyn Backend>) -> Result<Decoder> {
    let embed = embed(spec, parts)?;
    let mut shared = Shared::default();
    let layers = spec.layers.iter().enumerate();
    let layers = layers.map(|(at, layer)| {
        let branches = layer.iter().map(|branch| place_branch(spec, branch, at, parts, &mut shared));
        Ok(Arc::new(Layer(branches.collect::<Result<_>>()?)))
    });
    let layers = layers.collect::<Result<Vec<_>>>()?;
    let norm = spec.norm.as_ref().map(|norm| parts.norm(norm, None, spec.hidden)).transpose()?;
    let head = head(spec, &embed, parts)?;
    Ok(Decoder {
        spec: spec.clone(),
        backend,
        embed,
        layers,
        norm,
        head,
        ropes: shared.ropes,
        kv_shapes: shared.kv_shapes,
        sites: std::mem::take(&mut parts.sites),
        parameters: std::mem::take(&mut parts.parameters),
        expert_cache: parts.disk.as_ref().map(|disk| disk.cache.clone()),
    })
}

fn embed(spec: &Spec, parts: &mut Parts) -> Result<Embed> {
    let it = &spec.embed;
    let mut table = |slot, rows| parts.matrix(Place::model(slot), rows, spec.hidden);
    let ids = table("embed", spec.vocab)?;
    let positions = it.positions.map(|positions| table("embed.positions", positions.rows)).transpose()?;
    let types = it.types.map(|rows| table("embed.types", rows)).transpose()?;
    let norm = it.norm.as_ref().map(|norm| parts.norm(norm, None, spec.hidden)).transpose()?;
    Ok(Embed { table: ids, positions, types, norm })
}

fn head(spec: &Spec, embed: &Embed, parts: &mut Parts) -> Result<Option<Linear>> {
    let Some(head) = &spec.head else { return Ok(None) };
    let place = Place::model("head");
    if !head.tied {
        return parts.linear(place, spec.vocab, spec.hidden, head.bias).map(Some);
    }
    let bias = head.bias.then(|| parts.parameter_vector(place, Part::Bias, spec.vocab)).transpose()?;
    let site = parts.site(place, spec.vocab, spec.hidden, Kind::Head);
    Ok(Some(Linear { weight: embed.table.clone(), bias, site }))
}

fn place_branch(
    spec: &Spec,
    branch: &spec::Branch,
    layer: usize,
    parts: &mut Parts,
    shared: &mut Shared,
) -> Result<Branch> {
    let mut norm = |norm: &Option<NormSpec>| -> Result<Option<Norm>> {
        norm.as_ref().map(|norm| parts.norm(norm, Some(layer), spec.hidden)).transpose()
    };
    let (pre, post, after) = (norm(&branch.pre)?, norm(&branch.post)?, norm(&branch.after)?);
    let mixer = match &branch.mixer {
        MixerSpec::Attention(it) => Mixer::Attention(Box::new(attention(spec, it, layer, parts, shared)?)),
        MixerSpec::Mlp(it) => Mixer::Mlp(mlp(spec, it, layer, parts)?),
        MixerSpec::Experts(it) => Mixer::Experts(experts(spec, it, layer, parts)?),
    };
    Ok(Branch { from: branch.from, pre, mixer, post, gate: branch.gate, after })
}

fn attention(
    spec: &Spec,
    it: &AttentionSpec,
    layer: usize,
    parts: &mut Parts,
    shared: &mut Shared,
) -> Result<Attention> {
    let (q_width, kv_width) = (it.heads * it.head_dim, it.kv_heads * it.head_dim);
    let (qkv_bias, o_bias) = (it.bias != Biases::None, it.bias == Biases::All);
    let at = |slot| Place::layer(slot, layer);
    let q = parts.linear(at("attention.q"), q_width, spec.hidden, qkv_bias)?;
    let k = parts.linear(at("attention.k"), kv_width, spec.hidden, qkv_bias)?;
    let v = parts.linear(at("attention.v"), kv_width, spec.hidden, qkv_bias)?;
    let o = parts.linear(at("attention.o"), spec.hidden, q_width, o_bias)?;
    let norms = it.qk_norm.as_ref().map(|norms| {
        let (q_norm, k_norm) = match norms.over {
            NormOver::Head => (it.head_dim, it.head_dim),
            NormOver::Row => (q_width, kv_width),
        };
        let q = parts.norm(&norms.q, Some(layer), q_norm)?;
        let k = parts.norm(&norms.k, Some(layer), k_norm)?;
        Ok::<_, crate::Error>(QkNorms { q, k, over: norms.over, after_rope: norms.after_rope })
    });
    let norms = norms.transpose()?;
    let sinks = it.sinks.then(|| parts.parameter_vector(at("attention.sinks"), Part::Weight, it.heads)).transpose()?;
    let rope = it.rope.as_ref().map(|rope| {
        shared.ropes.iter().position(|known| known == rope).unwrap_or_else(|| {
            shared.ropes.push(rope.clone());
            shared.ropes.len() - 1
        })
    });
    shared.kv_shapes.push(KvShape { mask: it.mask, kv_heads: it.kv_heads, head_dim: it.head_dim });
    let shape = attend::Attention {
        heads: it.heads,
        kv_heads: it.kv_heads,
        head_dim: it.head_dim,
        scale: it.scale,
        softcap: it.softcap,
        sinks,
    };
    let kv_layer = shared.kv_shapes.len() - 1;
    Ok(Attention { q, k, v, o, norms, shape, mask: it.mask, clamp: it.clamp, growth: it.growth, rope, kv_layer })
}

fn mlp(spec: &Spec, it: &MlpSpec, layer: usize, parts: &mut Parts) -> Result<Mlp> {
    let Expert { gate, up, down } = feed_forward(spec, it, parts, |slot| Place::layer(slot, layer))?;
    Ok(Mlp { gate, up, down, activation: it.activation })
}

fn experts(spec: &Spec, it: &ExpertsSpec, layer: usize, parts: &mut Parts) -> Result<Experts> {
    let router = parts.linear(Place::layer("router", layer), it.experts, spec.hidden, it.router_bias)?;
    let experts = match parts.experts_on_disk(it, layer)? {
        Some(disk) => Held::OnDisk(disk),
        None => {
            let one = |expert| feed_forward(spec, &it.expert, parts, |slot| Place::expert(slot, layer, expert));
            Held::InMemory((0..it.experts).map(one).collect::<Result<Vec<_>>>()?)
        }
    };
    let shared = it.shared.as_ref().map(|shared| mlp(spec, shared, layer, parts)).transpose()?;
    Ok(Experts { layer, router, rule: it.router, experts, activation: it.expert.activation, shared })
}

fn feed_forward(spec: &Spec, it: &MlpSpec, parts: &mut Parts, at: impl Fn(&'static str) -> Place) -> Result<Expert> {
    let gate = it.gated.then(|| parts.linear(at(it.slots.gate), it.width, spec.hidden, it.bias)).transpose()?;
    let up = parts.linear(at(it.slots.up), it.width, spec.hidden, it.bias)?;
    let down = parts.linear(at(it.slots.down), spec.hidden, it.width, it.bias)?;
    Ok(Expert { gate, up, down })
}
