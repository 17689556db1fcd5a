//! What proposed tokens save and cost, measured: `PASTURE_MODEL=my-model.gguf cargo test --release -p pasture-engine --test
//! speculation_speed -- --nocapture`. The model computes all it ever does; then the answer is one that is told, so that
//! a model of any weights copies its prompt, edits it, or goes on with an ordinary text.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;
use std::sync::Arc;

use pasture_engine::sampling::SamplingOptions;
use pasture_engine::{Answer, Engine, EngineOptions, Forward, Request, RopeRule, Runner, Speculation};
use pasture_files::gguf::Gguf;
use pasture_files::tokenizer::{Specials, Tokenizer};
use pasture_kernels::Pool;
use pasture_model::{Batch, Decoder, Kv, LoadOptions, Source, load};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Precision, Tensor};

/// A model whose most probable tokens are those of an answer, from a position on.
struct Told {
    inner: Runner,
    from: usize,
    answer: Vec<u32>,
}

impl Forward for Told {
    fn vocab(&self) -> usize {
        self.inner.vocab()
    }

    fn context(&self) -> usize {
        self.inner.context()
    }

    fn rope_rule(&self) -> RopeRule {
        self.inner.rope_rule()
    }

    fn window(&self) -> Option<usize> {
        self.inner.window()
    }

    fn page_bytes(&self) -> usize {
        self.inner.page_bytes()
    }

    fn kv(&self) -> Kv {
        self.inner.kv()
    }

    fn logits(&mut self, batch: &Batch, kv: &mut Kv, rows: &[u32]) -> pasture_model::Result<Tensor> {
        let (vocab, mut values) = (self.vocab(), self.inner.logits(batch, kv, rows)?.into_values());
        for (row, values) in rows.iter().zip(values.chunks_mut(vocab)) {
            let row = *row as usize;
            let span = batch.spans.iter().find(|span| span.rows.contains(&row)).unwrap();
            let next = span.start + row - span.rows.start + 1;
            if let Some(token) = next.checked_sub(self.from).and_then(|at| self.answer.get(at)) {
                values[*token as usize] = 1e4;
            }
        }
        Ok(Tensor::new(rows.len(), vocab, values))
    }
}

fn run(decoder: &Arc<Decoder>, prompt: &[u32], answer: &[u32], speculation: Speculation) -> Answer {
    let inner = Runner::new(decoder.clone(), KvFormat::F16);
    let told = Told { inner, from: prompt.len(), answer: answer.to_vec() };
    let options = EngineOptions { speculation, ..EngineOptions::default() };
    let engine = Engine::start(Box::new(told), None, options).unwrap();
    let sampling = SamplingOptions { temperature: Some(0.0), ..SamplingOptions::default() };
    let request = Request { sampling, max_tokens: Some(answer.len()), ..Request::new(prompt.to_vec()) };
    let made = engine.submit(request).unwrap().answer().unwrap();
    assert_eq!(made.ids, answer);
    made
}

#[test]
fn what_proposals_save_and_cost() {
    let Some(file) = std::env::var_os("PASTURE_MODEL") else { return };
    let number = |name: &str, usual: usize| std::env::var(name).ok().map_or(usual, |text| text.parse().unwrap());
    let (tokens, runs) = (number("PASTURE_TOKENS", 128), number("PASTURE_RUNS", 3));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(2)), Precision::Fast));
    let source = Source::open(Path::new(&file)).unwrap();
    let decoder = Arc::new(load(&source, &backend, &LoadOptions::default(), &mut |_, _| {}).unwrap().decoder);
    // The starter's ids are in every vocabulary; words are short there, so that more pairs come again than elsewhere.
    let starter = pasture_files::Bytes::from(std::fs::read(root.join("starter/starter.gguf")).unwrap());
    let tokenizer = Tokenizer::from_gguf(&Gguf::parse(&starter, "starter.gguf").unwrap().metadata).unwrap().unwrap();
    let text = std::fs::read_to_string(root.join("README.md")).unwrap();
    let text = tokenizer.encode(&text, Specials::AsText).unwrap();
    let (prompt, after) = text[..2 * tokens].split_at(tokens);
    let edited: Vec<u32> =
        prompt.iter().enumerate().map(|(at, id)| if at % 16 == 9 { 300 + at as u32 } else { *id }).collect();
    for (name, answer) in [("copied", prompt), ("edited, a token of 16", &edited), ("ordinary text", after)] {
        let (mut rates, mut last) = ([Vec::new(), Vec::new()], None);
        for _ in 0..runs {
            for (at, speculation) in [Speculation::Off, Speculation::WhereItPays].into_iter().enumerate() {
                let made = run(&decoder, prompt, answer, speculation);
                rates[at].push((answer.len() - 1) as f64 / made.usage.new_time.as_secs_f64());
                last = Some(made.usage);
            }
        }
        let [off, on] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        });
        let (proposed, accepted) = last.map_or((0, 0), |usage| (usage.proposed_tokens, usage.accepted_tokens));
        println!(
            "{name}: {off:.1} tokens/s without, {on:.1} with, ratio {:.2}; {proposed} proposed, {accepted} right",
            on / off
        );
    }
}
