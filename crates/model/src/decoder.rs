//! The one forward. It runs any spec: embed, then for each layer each branch, then the final norm. It knows no family,
//! no file and no request; its weights are put in place by `assemble.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pasture_tensor::kv::KvFormat;
use pasture_tensor::ops::add::Factors;
use pasture_tensor::{Backend, Linear, Norm, Ops, RopeTable, Route, Tensor, Weight};

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::expert_cache::ExpertCache;
use crate::kv::{Kv, KvShape};
use crate::mixers::{Experts, Held, Mixed, Mixer, Pages};
use crate::rope::RopeSpec;
use crate::sites::{Parameter, Sites};
use crate::spec::{From, Spec};

/// A model that can run.
pub struct Decoder {
    pub(crate) spec: Spec,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) embed: Embed,
    /// Shared, so that a tape can run one again.
    pub(crate) layers: Vec<Arc<Layer>>,
    pub(crate) norm: Option<Norm>,
    pub(crate) head: Option<Linear>,
    /// The different rotations of its layers.
    pub(crate) ropes: Vec<RopeSpec>,
    pub(crate) kv_shapes: Vec<KvShape>,
    pub(crate) sites: Sites,
    pub(crate) parameters: Vec<Parameter>,
    /// Where experts stay on disk.
    pub(crate) expert_cache: Option<Arc<ExpertCache>>,
}

/// What turns ids into the first stream.
pub(crate) struct Embed {
    pub(crate) table: Weight,
    pub(crate) positions: Option<Weight>,
    pub(crate) types: Option<Weight>,
    pub(crate) norm: Option<Norm>,
}

/// A layer: its branches, one after the other.
pub(crate) struct Layer(pub(crate) Vec<Branch>);

/// A branch with its weights.
pub(crate) struct Branch {
    pub(crate) from: From,
    pub(crate) pre: Option<Norm>,
    pub(crate) mixer: Mixer,
    pub(crate) post: Option<Norm>,
    pub(crate) gate: f32,
    pub(crate) after: Option<Norm>,
}

/// One batch on its way through the layers.
pub(crate) struct Step<'b> {
    pub(crate) batch: &'b Batch,
    /// Angles of the batch's rows, for each of the decoder's rotations.
    pub(crate) ropes: Vec<RopeTable>,
    pub(crate) routers: Vec<(usize, Tensor)>,
    /// What went wrong in a mixer: experts on disk could not be read.
    pub(crate) fault: Option<Error>,
}

/// What a forward gives.
pub struct Hidden {
    /// The stream after the last layer and the final norm: one row for each of the batch.
    pub rows: Tensor,
    /// The outputs of the layers that the batch asked for.
    pub outputs: Vec<(usize, Tensor)>,
    /// The routers' raw logits, by layer.
    pub routers: Vec<(usize, Tensor)>,
}

impl Decoder {
    /// The model's blueprint.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The device that holds its weights.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The places where adapters may stand.
    pub fn sites(&self) -> &Sites {
        &self.sites
    }

    /// All weights by name, for tuning them.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The cache of experts that stay on disk, where the model was loaded so.
    pub fn expert_cache(&self) -> Option<&Arc<ExpertCache>> {
        self.expert_cache.as_ref()
    }

    /// Bytes read for a token that finds none of its experts in the cache; none where they are in memory.
    pub fn expert_bytes_a_token(&self) -> Option<u64> {
        self.expert_cache.as_ref()?;
        let mixers = self.layers.iter().flat_map(|layer| &layer.0).map(|branch| &branch.mixer);
        let bytes = mixers.map(|mixer| match mixer {
            Mixer::Experts(Experts { experts: Held::OnDisk(disk), rule, .. }) => disk.bytes_a_row(rule.top),
            _ => 0,
        });
        Some(bytes.sum())
    }

    /// Reads experts on disk, past the cache, until so many bytes were read: the bytes and the time that it took.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn time_expert_reads(&self, bytes_max: u64) -> Result<(u64, Duration)> {
        let begun = Instant::now();
        let mut bytes = 0;
        for branch in self.layers.iter().flat_map(|layer| &layer.0) {
            if let Mixer::Experts(Experts { experts: Held::OnDisk(disk), .. }) = &branch.mixer {
                bytes += disk.read_some(bytes_max - bytes)?;
            }
            if bytes >= bytes_max {
                break;
            }
        }
        Ok((bytes, begun.elapsed()))
    }

    /// Bytes of all experts that stay on disk.
    pub fn expert_bytes(&self) -> u64 {
        let mixers = self.layers.iter().flat_map(|layer| &layer.0).map(|branch| &branch.mixer);
        let bytes = mixers.map(|mixer| match mixer {
            Mixer::Experts(Experts { experts: Held::OnDisk(disk), .. }) => disk.bytes(),
            _ => 0,
        });
        bytes.sum()
    }

    /// Memory for keys and values of this model's sequences, without pages yet.
    pub fn kv(&self, backend: &dyn Backend, format: KvFormat) -> Kv {
        Kv::new(backend, &self.kv_shapes, format)
    }

    /// Runs a batch: its keys and values join their sequences, its rows come out normed.
    ///
    /// With a tape that replays ([`pasture_tensor::tape::Tape::replaying`]) each layer is remembered by its input alone.
    /// The batch's sequences must then begin in it, and nothing joins `kv`: no later forward can go on from them.
    pub fn forward(&self, ops: &mut Ops, batch: &Batch, kv: &mut Kv) -> Result<Hidden> {
        self.check(batch)?;
        if ops.remembers() && self.expert_cache.is_some() {
            let what = "a gradient needs them in memory".to_owned();
            return Err(Error::ExpertCache { what });
        }
        let replays = ops.replays();
        if !replays {
            extend(ops.backend(), batch, kv)?;
        }
        ops.set_routes(routes(batch));
        let ropes = self.ropes.iter().map(|rope| rope.table(batch.positions())).collect();
        let mut step = Step { batch, ropes, routers: Vec::new(), fault: None };
        let mut stream = self.embed(ops, batch);
        let mut outputs = Vec::new();
        let shared = replays.then(|| Arc::new((batch.clone(), step.ropes.clone())));
        for (at, layer) in self.layers.iter().enumerate() {
            keep(batch, at, &stream, &mut outputs);
            stream = match &shared {
                Some(shared) => layer.run_apart(ops, &stream, shared, (at, &mut step.routers)),
                None => layer.run(ops, &stream, &mut step, &mut Pages::Kept(kv)),
            };
            if let Some(fault) = step.fault.take() {
                batch.spans.iter().for_each(|span| kv.truncate(span.sequence, span.start));
                return Err(fault);
            }
        }
        keep(batch, self.layers.len(), &stream, &mut outputs);
        let rows = self.norm.as_ref().map_or_else(|| stream.clone(), |norm| ops.norm(&stream, norm));
        Ok(Hidden { rows, outputs, routers: step.routers })
    }

    /// Logits of rows that [`Decoder::forward`] gave, all or a chosen few.
    pub fn logits(&self, ops: &mut Ops, rows: &Tensor) -> Result<Tensor> {
        let (head, spec) = self.head.as_ref().zip(self.spec.head.as_ref()).ok_or(Error::NoHead)?;
        Ok(ops.logits(rows, head, spec.rule))
    }

    /// The output head, for the loss of known targets.
    pub fn head(&self) -> Option<&Linear> {
        self.head.as_ref()
    }

    fn embed(&self, ops: &mut Ops, batch: &Batch) -> Tensor {
        let mut x = ops.embed(&self.embed.table, &batch.ids);
        if let Some(scale) = self.spec.embed.scale {
            x = ops.scale(&x, &Factors::All(scale));
        }
        if let (Some(table), Some(positions)) = (&self.embed.positions, self.spec.embed.positions) {
            let ids: Vec<u32> = batch.positions().map(|(at, _)| (at + positions.first) as u32).collect();
            let rows = ops.embed(table, &ids);
            x = ops.add(&x, &rows, 1.0);
        }
        if let Some(table) = &self.embed.types {
            let zeros = vec![0; batch.ids.len()];
            let types = if batch.types.is_empty() { &zeros } else { &batch.types };
            let rows = ops.embed(table, types);
            x = ops.add(&x, &rows, 1.0);
        }
        self.embed.norm.as_ref().map_or_else(|| x.clone(), |norm| ops.norm(&x, norm))
    }

    /// What the caller could not know: ids past the vocabulary, positions past a learned table.
    fn check(&self, batch: &Batch) -> Result<()> {
        let vocab = self.spec.vocab;
        if let Some(id) = batch.ids.iter().find(|id| **id as usize >= vocab) {
            return Err(Error::Token { id: *id, vocab });
        }
        assert_eq!(batch.reach.len(), batch.ids.len(), "a reach for each row");
        assert!(batch.types.is_empty() || batch.types.len() == batch.ids.len(), "a type for each row, or none");
        if let Some(positions) = self.spec.embed.positions {
            let limit = positions.rows - positions.first;
            let wanted = batch.spans.iter().map(|span| span.start + span.rows.len()).max().unwrap_or(0);
            if wanted > limit {
                return Err(Error::Context { wanted, limit });
            }
        }
        Ok(())
    }
}

impl Layer {
    /// The stream after this layer.
    fn run(&self, ops: &mut Ops, input: &Tensor, step: &mut Step, pages: &mut Pages) -> Tensor {
        let mut stream = input.clone();
        for branch in &self.0 {
            let from = match branch.from {
                From::Stream => stream.clone(),
                From::LayerInput => input.clone(),
            };
            let mixed = branch.mixer.mix(ops, &from, branch.pre.as_ref(), step, pages);
            stream = branch.join(ops, mixed, &stream);
        }
        stream
    }

    /// The same as a part that a tape may run again, with keys and values in pages of its own.
    fn run_apart(
        self: &Arc<Layer>,
        ops: &mut Ops,
        input: &Tensor,
        shared: &Arc<(Batch, Vec<RopeTable>)>,
        (at, routers): (usize, &mut Vec<(usize, Tensor)>),
    ) -> Tensor {
        let (layer, shared) = (self.clone(), shared.clone());
        let mut outputs = ops.part(
            input,
            Arc::new(move |ops, input| {
                let (batch, ropes) = &*shared;
                let mut step = Step { batch, ropes: ropes.clone(), routers: Vec::new(), fault: None };
                let stream = layer.run(ops, input, &mut step, &mut Pages::Fresh);
                std::iter::once(stream).chain(step.routers.into_iter().map(|(_, logits)| logits)).collect()
            }),
        );
        routers.extend(outputs.drain(1..).map(|logits| (at, logits)));
        outputs.remove(0)
    }
}

impl Branch {
    /// `after(stream + gate · post(mixed))`.
    fn join(&self, ops: &mut Ops, mixed: Mixed, stream: &Tensor) -> Tensor {
        let sum = match (mixed, &self.post) {
            (Mixed::Product(x, linear), None) => ops.project_add(&x, linear, self.gate, stream),
            (Mixed::Product(x, linear), Some(post)) => {
                let y = ops.linear(&x, linear);
                let y = ops.norm(&y, post);
                ops.add(stream, &y, self.gate)
            }
            (Mixed::Done(y), None) => ops.add(stream, &y, self.gate),
            (Mixed::Done(y), Some(post)) => {
                let y = ops.norm(&y, post);
                ops.add(stream, &y, self.gate)
            }
        };
        match &self.after {
            Some(after) => ops.norm(&sum, after),
            None => sum,
        }
    }
}

impl Step<'_> {
    /// The position of each row.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.batch.positions().map(|(position, _)| position)
    }
}

fn keep(batch: &Batch, at: usize, stream: &Tensor, outputs: &mut Vec<(usize, Tensor)>) {
    if batch.outputs.contains(&at) {
        outputs.push((at, stream.clone()));
    }
}

fn routes(batch: &Batch) -> Vec<Route> {
    let route =
        |span: &crate::batch::Span| span.adapter.clone().map(|adapter| Route { rows: span.rows.clone(), adapter });
    batch.spans.iter().filter_map(route).collect()
}

/// Makes room for all rows of a batch, or for none.
fn extend(backend: &dyn Backend, batch: &Batch, kv: &mut Kv) -> Result<()> {
    for (at, span) in batch.spans.iter().enumerate() {
        if let Err(fault) = kv.extend(backend, span.sequence, span.start, span.start + span.rows.len()) {
            batch.spans[..=at].iter().for_each(|span| kv.truncate(span.sequence, span.start));
            return Err(fault);
        }
    }
    Ok(())
}
