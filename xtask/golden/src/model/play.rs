//! Golden cases of decoders: plays their prompts through a model in every way a batch can be cut, and compares logits,
//! greedy continuations, hidden rows and router logits. How a model is opened is the caller's business.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use pasture_files::{Tensors, json};
use pasture_model::{Batch, Decoder, Kv, SequenceId};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Ops, Tensor};
use serde_json::Value;

/// Any order of summing in f32 stays within this, absolute and relative (the kit's README).
const LOGITS: f32 = 2e-4;

/// The same for hidden rows, relative to the largest entry.
const HIDDEN: f32 = 2e-4;

/// The reference results of one case.
pub struct Golden {
    tensors: Tensors,
    /// What the case says of itself.
    pub facts: Value,
    /// Ids that end a text.
    ends: Vec<u32>,
}

/// One prompt of a case.
pub struct Prompt {
    name: String,
    /// Token ids.
    pub ids: Vec<u32>,
    logits: Vec<f32>,
    /// Continuations, any of which is right.
    greedy: Vec<Vec<u32>>,
}

/// One sequence's way through a model.
struct Played {
    logits: Vec<f32>,
    greedy: Vec<u32>,
}

impl Golden {
    /// The results in a case's folder.
    pub fn open(folder: &Path) -> Result<Golden> {
        let facts = json::read(&folder.join("golden.json"))?;
        let config = json::read(&folder.join("config.json")).unwrap_or_default();
        let ends = match &config["eos_token_id"] {
            Value::Array(list) => list.iter().map(id).collect(),
            Value::Number(_) => vec![id(&config["eos_token_id"])],
            _ => Vec::new(),
        };
        Ok(Golden { tensors: Tensors::open(&folder.join("golden.safetensors"))?, facts, ends })
    }

    /// A tensor's values with its rows, if the case has it.
    pub fn values(&self, name: &str) -> Option<Vec<f32>> {
        let bytes = self.tensors.bytes(name).ok()?;
        Some(bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect())
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.tensors.get(name)?.shape)
    }

    /// Whole numbers of a tensor.
    pub fn integers(&self, name: &str) -> Option<Vec<i32>> {
        let bytes = self.tensors.bytes(name).ok()?;
        Some(bytes.chunks_exact(4).map(|four| i32::from_le_bytes(four.try_into().expect("four bytes"))).collect())
    }

    /// All prompts.
    pub fn prompts(&self) -> Result<Vec<Prompt>> {
        let listed = self.facts["prompts"].as_array().context("golden.json lists no prompts")?;
        listed.iter().enumerate().map(|(at, facts)| self.prompt(at, facts)).collect()
    }

    fn prompt(&self, at: usize, facts: &Value) -> Result<Prompt> {
        let name = format!("p{at}");
        let exact = self.values(&format!("{name}.logits_f32"));
        let logits = exact.or_else(|| self.values(&format!("{name}.logits"))).context("a prompt without logits")?;
        let listed = |key: &str| facts[key].as_array().map(|ids| ids.iter().map(id).collect::<Vec<u32>>());
        let greedy = match listed("greedy_f32") {
            Some(exact) => vec![exact],
            None => ["greedy", "greedy_recomputed_without_cache"].into_iter().filter_map(listed).collect(),
        };
        Ok(Prompt { ids: listed("ids").context("a prompt without ids")?, name, logits, greedy })
    }
}

fn id(value: &Value) -> u32 {
    value.as_u64().unwrap_or_default() as u32
}

/// Plays every prompt of a case in every way.
pub fn check(decoder: &Decoder, golden: &Golden) -> Result<()> {
    check_hidden(decoder, golden).context("hidden rows")?;
    let prompts = golden.prompts()?;
    for (at, prompt) in prompts.iter().enumerate() {
        for chunk in [usize::MAX, 1, 7, 16] {
            let run = |without: &[u32]| play(decoder, &[&prompt.ids], chunk, prompt.new_ids(), without);
            check_played(prompt, golden, 0, run).with_context(|| format!("{} in chunks of {chunk}", prompt.name))?;
        }
        let strangers: Vec<Vec<u32>> = (1..4).map(|by| stranger(decoder, &prompts, at + by, by)).collect();
        let [first, second, third] = &strangers[..] else { bail!("three strangers") };
        let batch = [&first[..], &second[..], &prompt.ids[..], &third[..]];
        let run = |without: &[u32]| play(decoder, &batch, 5, prompt.new_ids(), without);
        check_played(prompt, golden, 2, run).with_context(|| format!("{} batched with strangers", prompt.name))?;
    }
    Ok(())
}

/// Compares the greedy continuation of one prompt, given as JSON lists of ids.
#[allow(dead_code, reason = "see its caller")]
pub fn check_continuation(decoder: &Decoder, prompt: &Value, expected: &Value) -> Result<()> {
    let list = |value: &Value| value.as_array().map(|ids| ids.iter().map(id).collect::<Vec<u32>>());
    let (prompt, expected) = list(prompt).zip(list(expected)).context("a case without ids")?;
    let played = play(decoder, &[&prompt], usize::MAX, expected.len(), &[])?;
    ensure!(played[0].greedy == expected, "greedy ids are {:?}, not {expected:?}", played[0].greedy);
    Ok(())
}

/// Another prompt, changed so that it is nobody's.
fn stranger(decoder: &Decoder, prompts: &[Prompt], at: usize, by: usize) -> Vec<u32> {
    let vocab = decoder.spec().vocab;
    let ids = &prompts[at % prompts.len()].ids;
    ids.iter().map(|id| ((*id as usize * 7 + by) % vocab) as u32).collect()
}

impl Prompt {
    fn new_ids(&self) -> usize {
        self.greedy.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// Compares one of the sequences that were played. Where a continuation differs first by an end id, it may have been made
/// with end ids left out: of the kit's cases one was, at a step where the end id leads by 0.2.
fn check_played(
    prompt: &Prompt,
    golden: &Golden,
    at: usize,
    run: impl Fn(&[u32]) -> Result<Vec<Played>>,
) -> Result<()> {
    let mut played = run(&[])?.swap_remove(at);
    close(&played.logits, &prompt.logits).context("logits")?;
    let is_right = |found: &[u32]| prompt.greedy.iter().any(|ids| found.starts_with(ids));
    if !is_right(&played.greedy) && differs_by_an_end(&played.greedy, &prompt.greedy[0], &golden.ends) {
        played = run(&golden.ends)?.swap_remove(at);
    }
    ensure!(is_right(&played.greedy), "greedy ids are {:?}, not {:?}", played.greedy, prompt.greedy);
    Ok(())
}

fn differs_by_an_end(found: &[u32], expected: &[u32], ends: &[u32]) -> bool {
    let first = found.iter().zip(expected).find(|(found, expected)| found != expected);
    first.is_some_and(|(found, _)| ends.contains(found))
}

/// Compares by the kit's rule for logits.
pub fn close(found: &[f32], expected: &[f32]) -> Result<()> {
    ensure!(found.len() == expected.len(), "{} values, not {}", found.len(), expected.len());
    let far =
        |(_, (found, expected)): &(usize, (&f32, &f32))| !within(**found, **expected, LOGITS + LOGITS * expected.abs());
    let pairs = || found.iter().zip(expected).enumerate();
    let wrong = pairs().filter(far).count();
    if let Some((at, (found, expected))) = pairs().find(far) {
        bail!("{wrong} values differ, the first at {at}: {found}, not {expected}");
    }
    Ok(())
}

/// Whether two values are that close; one that is no number never is.
fn within(found: f32, expected: f32, limit: f32) -> bool {
    (found - expected).abs() <= limit
}

/// Compares relative to the largest entry.
pub fn close_to_largest(found: &[f32], expected: &[f32]) -> Result<()> {
    ensure!(found.len() == expected.len(), "{} values, not {}", found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let far = found.iter().zip(expected).position(|(found, expected)| !within(*found, *expected, HIDDEN * largest));
    match far {
        Some(at) => bail!("{} at {at}, not {} (largest {largest})", found[at], expected[at]),
        None => Ok(()),
    }
}

/// Hidden rows and router logits of the first prompt. A case computed in bf16 gives its exact logits beside, not these.
fn check_hidden(decoder: &Decoder, golden: &Golden) -> Result<()> {
    if golden.facts["compute_dtype"] == "bfloat16" {
        return Ok(());
    }
    let prompts = golden.prompts()?;
    let ids = &prompts[0].ids;
    let backend = decoder.backend().clone();
    let mut kv = decoder.kv(&*backend, KvFormat::F32);
    let mut batch = Batch::one(kv.start(), 0, ids.len(), ids);
    batch.outputs = (0..=decoder.spec().layers.len()).collect();
    let hidden = decoder.forward(&mut Ops::new(&*backend), &batch, &mut kv)?;
    for (layer, rows) in &hidden.outputs {
        let name = match layer {
            0 => "hidden.embed_tokens".to_owned(),
            layer => format!("hidden.layer{}", layer - 1),
        };
        let Some(expected) = golden.values(&name) else { continue };
        let mut found = close_to_largest(rows.values(), &expected);
        if let (0, Some(scale), true) = (*layer, decoder.spec().embed.scale, found.is_err()) {
            // Some references scale outside the module whose output they give.
            let unscaled: Vec<f32> = rows.values().iter().map(|value| value / scale).collect();
            found = close_to_largest(&unscaled, &expected);
        }
        found.context(name)?;
    }
    for (layer, logits) in &hidden.routers {
        let raw = ["out1", "logits"].iter().filter_map(|end| golden.values(&format!("router.layer{layer}.{end}")));
        let fits: Vec<Vec<f32>> = raw.filter(|raw| raw.len() == logits.values().len()).collect();
        let right = fits.is_empty() || fits.iter().any(|raw| close(logits.values(), raw).is_ok());
        ensure!(right, "router logits of layer {layer}");
    }
    Ok(())
}

/// One sequence on its way.
struct Way<'p> {
    prompt: &'p [u32],
    sequence: SequenceId,
    /// Prompt and what was chosen.
    ids: Vec<u32>,
    /// Rows that were run since the sequence began.
    run: usize,
    /// Rows that a prompt has now: more than at first after a change of the rotation.
    prefill: usize,
    played: Played,
}

/// Runs prompts side by side in chunks, then continues each greedily token by token, never by an id of `without`.
fn play(decoder: &Decoder, prompts: &[&[u32]], chunk: usize, new_ids: usize, without: &[u32]) -> Result<Vec<Played>> {
    let backend = decoder.backend().clone();
    let mut ops = Ops::new(&*backend);
    let mut kv = decoder.kv(&*backend, KvFormat::F32);
    let mut ways: Vec<Way> = prompts.iter().map(|prompt| Way::begin(kv.start(), prompt)).collect();
    loop {
        let mut batch = Batch::default();
        let mut rows = Vec::new();
        for (at, way) in ways.iter_mut().enumerate().filter(|(_, way)| way.played.greedy.len() < new_ids) {
            way.restart(decoder, &mut kv);
            // Chunks of neighbors end at different rows.
            let end = (way.run.saturating_add(chunk.saturating_add(at))).min(way.ids.len());
            let rope_len = way.prefill.max(end);
            batch.push(way.sequence, way.run, rope_len, &way.ids[way.run..end], None);
            rows.push((at, end - way.run));
        }
        if rows.is_empty() {
            return Ok(ways.into_iter().map(|way| way.played).collect());
        }
        let hidden = decoder.forward(&mut ops, &batch, &mut kv)?;
        let logits = decoder.logits(&mut ops, &hidden.rows)?;
        let mut first = 0;
        for (at, count) in rows {
            ways[at].take(&logits, first, count, without);
            // What left the window changes nothing that comes.
            kv.release(ways[at].sequence, ways[at].run);
            first += count;
        }
    }
}

impl<'p> Way<'p> {
    fn begin(sequence: SequenceId, prompt: &'p [u32]) -> Way<'p> {
        let played = Played { logits: Vec::new(), greedy: Vec::new() };
        Way { prompt, sequence, ids: prompt.to_vec(), run: 0, prefill: prompt.len(), played }
    }

    /// Begins anew where the longer sequence turns by other angles than its keys did.
    fn restart(&mut self, decoder: &Decoder, kv: &mut Kv) {
        let regime = |length: usize| decoder.spec().rope_regime(length);
        if self.run > 0 && regime(self.prefill.max(self.run)) != regime(self.ids.len().max(self.prefill)) {
            kv.truncate(self.sequence, 0);
            (self.run, self.prefill) = (0, self.ids.len());
        }
    }

    /// Takes the logits of its rows of a batch, and chooses once all its ids have run.
    fn take(&mut self, logits: &Tensor, first: usize, count: usize, without: &[u32]) {
        for row in 0..count {
            if self.played.logits.len() < self.prompt.len() * logits.cols() {
                self.played.logits.extend_from_slice(logits.row(first + row));
            }
        }
        self.run += count;
        if self.run == self.ids.len() {
            let best = best(logits.row(first + count - 1), without);
            self.played.greedy.push(best);
            self.ids.push(best);
        }
    }
}

/// The id of the largest logit.
fn best(logits: &[f32], without: &[u32]) -> u32 {
    let mut best = None;
    for (at, logit) in logits.iter().enumerate().filter(|(at, _)| !without.contains(&(*at as u32))) {
        if best.is_none_or(|(_, largest)| *logit > largest) {
            best = Some((at, *logit));
        }
    }
    best.map_or(0, |(at, _)| at as u32)
}
