//! Proposed tokens change no token, no text and no bit of a probability: every request here is answered without proposals
//! and with them, by lookup and by a source that is right about as often as not, and every event must be the same.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test may")]
#[path = "../../../tests/kit.rs"]
mod kit;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pasture_engine::grammar::{Grammars, Shape};
use pasture_engine::sampling::SamplingOptions;
use pasture_engine::sampling::random::Random;
use pasture_engine::scheduler::Ticket;
use pasture_engine::{
    Engine, EngineCounts, EngineOptions, Event, Finish, Forward, ModelDraft, Opening, Propose, Request, RopeRule,
    Runner, Speculation, Text, Wanted,
};
use pasture_files::gguf::Gguf;
use pasture_files::tokenizer::{Shown, Tokenizer};
use pasture_kernels::Pool;
use pasture_model::{Batch, Decoder, Kv, LoadOptions, Source, load};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Precision, Tensor};

/// A model that counts its rows, and is sure of something else at some positions.
struct Shaken {
    inner: Runner,
    every: usize,
    rows: Arc<AtomicU64>,
}

impl Forward for Shaken {
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
        self.rows.fetch_add(batch.ids.len() as u64, Ordering::Relaxed);
        let (vocab, mut values) = (self.vocab(), self.inner.logits(batch, kv, rows)?.into_values());
        for (row, values) in rows.iter().zip(values.chunks_mut(vocab)) {
            let row = *row as usize;
            let span = batch.spans.iter().find(|span| span.rows.contains(&row)).unwrap();
            let position = span.start + row - span.rows.start;
            values[position * 7 % vocab] += if position.is_multiple_of(self.every) { 1e4 } else { 0.0 };
        }
        Ok(Tensor::new(rows.len(), vocab, values))
    }
}

/// Answers that are known, of which some tokens are told wrong.
struct HalfRight {
    known: Arc<Mutex<Vec<Vec<u32>>>>,
    random: Random,
}

impl Propose for HalfRight {
    fn propose(&mut self, wanted: &[Wanted]) -> Vec<Option<Vec<u32>>> {
        let known = self.known.lock().unwrap();
        let one = |wanted: &Wanted| {
            let full = known.iter().filter(|full| full.starts_with(wanted.ids)).max_by_key(|full| full.len());
            let next = full.map_or(&[][..], |full| &full[wanted.ids.len()..]);
            // More than is asked for now and then: the engine takes what it has room for.
            let count = wanted.count + usize::from(self.random.uniform() < 0.1);
            let tokens = (0..count).map(|at| match next.get(at) {
                Some(right) if self.random.uniform() < 0.7 => *right,
                _ => (self.random.uniform() * 200.0) as u32,
            });
            Some(tokens.collect())
        };
        wanted.iter().map(one).collect()
    }

    fn end(&mut self, _: Ticket) {}

    fn clear(&mut self) {}
}

fn decoder(path: &Path, precision: Precision) -> Arc<Decoder> {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(2)), precision));
    let source = Source::open(path).unwrap();
    Arc::new(load(&source, &backend, &LoadOptions::default(), &mut |_, _| {}).unwrap().decoder)
}

fn starter_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/starter.gguf")
}

fn tokenizer() -> Tokenizer {
    let bytes = pasture_files::Bytes::from(std::fs::read(starter_file()).unwrap());
    Tokenizer::from_gguf(&Gguf::parse(&bytes, "starter.gguf").unwrap().metadata).unwrap().unwrap()
}

/// A model under test.
struct Bench {
    decoder: Arc<Decoder>,
    format: KvFormat,
    text: Option<Arc<dyn Text>>,
}

impl Bench {
    fn starter() -> Bench {
        let text: Arc<dyn Text> = Arc::new(tokenizer());
        Bench { decoder: decoder(&starter_file(), Precision::Fast), format: KvFormat::F16, text: Some(text) }
    }

    /// All events of requests that run at once, by request, and what was counted.
    fn run(
        &self,
        requests: &[Request],
        draft: Option<Box<dyn Propose>>,
        options: EngineOptions,
    ) -> (Vec<Vec<String>>, EngineCounts) {
        let runner = Runner::new(self.decoder.clone(), self.format);
        let engine = Engine::start_with(Box::new(runner), draft, self.text.clone(), options).unwrap();
        let streams: Vec<_> = requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
        let told = streams.into_iter().map(|stream| {
            let mut answers = Vec::new();
            stream.for_each(|event| {
                let (answer, line) = match event {
                    Ok(Event::Piece(piece)) => {
                        let bits = |logprob: f32| logprob.to_bits();
                        let top: Vec<_> = piece.top.iter().map(|(id, logprob)| (*id, bits(*logprob))).collect();
                        let logprob = piece.logprob.map(bits);
                        (piece.answer, format!("{} {:?} {logprob:?} {top:?}", piece.id, piece.text))
                    }
                    Ok(Event::Ending(ending)) => {
                        let new = ending.usage.new_tokens;
                        (ending.answer, format!("{:?} {:?} after {new}", ending.finish, ending.text))
                    }
                    Err(error) => (u32::MAX, error.to_string()),
                };
                answers.push((answer, line));
            });
            // Answers of one request run side by side: only the order within each is its own.
            answers.sort_by_key(|(answer, _)| *answer);
            answers.into_iter().map(|(answer, line)| format!("{answer}: {line}")).collect()
        });
        (told.collect(), engine.counts())
    }

    /// The tokens of each answer, after its prompt.
    fn ids(&self, requests: &[Request], told: &[Vec<String>]) -> Vec<Vec<u32>> {
        let mut known = Vec::new();
        for (request, lines) in requests.iter().zip(told) {
            for answer in 0..request.answers {
                let begins = format!("{answer}: ");
                let lines = lines.iter().filter_map(|line| line.strip_prefix(&begins));
                let ids = lines.filter_map(|line| line.split(' ').next()?.parse().ok());
                known.push(request.ids.iter().copied().chain(ids).collect());
            }
        }
        known
    }

    /// The model itself as a draft, which is wrong now and then.
    fn draft(&self) -> Box<dyn Propose> {
        self.draft_with(3, Arc::default())
    }

    fn draft_with(&self, every: usize, rows: Arc<AtomicU64>) -> Box<dyn Propose> {
        let inner = Runner::new(self.decoder.clone(), self.format);
        Box::new(ModelDraft::new(Box::new(Shaken { inner, every, rows }), self.decoder.spec().vocab))
    }

    /// The same events however tokens are proposed; tokens that were proposed and accepted by lookup, by one who knows
    /// the answers, and by a draft.
    fn check(&self, name: &str, requests: &[Request], options: EngineOptions) -> [u64; 6] {
        let off = EngineOptions { speculation: Speculation::Off, ..options };
        let (plain, counts) = self.run(requests, None, off);
        assert_eq!((counts.proposed_tokens, counts.accepted_tokens), (0, 0));
        let known = Arc::new(Mutex::new(self.ids(requests, &plain)));
        let mut sums = [0; 6];
        let (looked, told, drafted) = (0, 2, 4);
        for (at, speculation) in [
            (looked, Speculation::Always(9)),
            (looked, Speculation::WhereItPays),
            (told, Speculation::Always(3)),
            (told, Speculation::Always(9)),
            (drafted, Speculation::Always(4)),
        ] {
            let knows = || HalfRight { known: known.clone(), random: Random::new(7) };
            let draft = (at == drafted).then(|| self.draft());
            let draft = draft.or_else(|| (at == told).then(|| Box::new(knows()) as Box<dyn Propose>));
            let (told, counts) = self.run(requests, draft, EngineOptions { speculation, ..options });
            for (request, (one, other)) in plain.iter().zip(&told).enumerate() {
                let differs = one.iter().zip(other).find(|(one, other)| one != other);
                assert_eq!(differs, None, "{name}, {speculation:?}, {at}, request {request}");
                assert_eq!(one.len(), other.len(), "{name}, {speculation:?}, {at}, request {request}");
            }
            let pages = (counts.now.held, counts.now.running, counts.now.waiting);
            assert_eq!(pages, (0, 0, 0), "{name}, {speculation:?}: nothing is left over");
            sums[at] += counts.proposed_tokens;
            sums[at + 1] += counts.accepted_tokens;
        }
        sums
    }
}

/// A prompt that repeats itself, so that lookups find something.
fn prompt(seed: u32, len: u32) -> Vec<u32> {
    (0..len).map(|at| 20 + (at % 11 * 7 + seed * 13 + at / 33) % 90).collect()
}

fn request(seed: u32, len: u32, tokens: usize, sampling: SamplingOptions) -> Request {
    let sampling = SamplingOptions { seed: Some(u64::from(seed)), ..sampling };
    Request { sampling, max_tokens: Some(tokens), ..Request::new(prompt(seed, len)) }
}

/// Ways to choose, by name.
fn ways() -> Vec<(&'static str, SamplingOptions)> {
    let plain = SamplingOptions::default();
    let greedy = SamplingOptions { temperature: Some(0.0), ..plain.clone() };
    vec![
        ("greedy", greedy.clone()),
        ("greedy with probabilities", SamplingOptions { logprobs: Some(3), ..greedy.clone() }),
        ("greedy with a penalty", SamplingOptions { repetition_penalty: Some(1.3), ..greedy.clone() }),
        ("no runs", SamplingOptions { no_repeat_ngram_size: Some(4), ..greedy }),
        ("sampled", plain.clone()),
        ("cold", SamplingOptions { temperature: Some(0.4), logprobs: Some(1), ..plain.clone() }),
        (
            "penalties",
            SamplingOptions {
                temperature: Some(0.7),
                frequency_penalty: Some(0.4),
                presence_penalty: Some(0.2),
                repeat_last_n: Some(20),
                ..plain.clone()
            },
        ),
        ("dry", SamplingOptions { temperature: Some(0.5), dry_multiplier: Some(0.8), ..plain.clone() }),
        ("cut", SamplingOptions { top_k: Some(20), top_p: Some(0.9), min_p: Some(0.01), ..plain.clone() }),
        ("xtc", SamplingOptions { xtc_probability: Some(0.5), xtc_threshold: Some(0.05), ..plain.clone() }),
        ("mirostat", SamplingOptions { mirostat_tau: Some(4.0), ..plain }),
    ]
}

#[test]
fn every_way_to_choose_gives_the_same_answers() {
    let bench = Bench::starter();
    for (name, sampling) in ways() {
        let requests: Vec<Request> = (0..3).map(|seed| request(seed, 30 + 17 * seed, 60, sampling.clone())).collect();
        let [looked, _, proposed, accepted, drafted, right] = bench.check(name, &requests, EngineOptions::default());
        assert!(looked > 0 && proposed > accepted && accepted > 0, "{name}: {looked} {proposed} {accepted}");
        assert!(drafted > right && right > 0, "{name}: {drafted} {right}");
    }
}

#[test]
fn ends_of_every_kind_come_where_they_come() {
    let bench = Bench::starter();
    let greedy = SamplingOptions { temperature: Some(0.0), ..Default::default() };
    let warm = SamplingOptions { temperature: Some(0.9), ..Default::default() };
    let base = request(4, 40, 50, greedy.clone());
    let (told, _) = bench.run(std::slice::from_ref(&base), None, EngineOptions::default());
    let ids = bench.ids(std::slice::from_ref(&base), &told).remove(0).split_off(40);
    let text = tokenizer().decode(&ids, Shown::Hide).unwrap();
    let letters: Vec<char> = text.chars().collect();
    let context = bench.decoder.spec().context as u32;
    let stopped = |sampling: &SamplingOptions| Request {
        stops: vec![letters[12..14].iter().collect()],
        ..request(4, 40, 50, sampling.clone())
    };
    let requests = [
        Request { stop_ids: vec![ids[17]], ..base.clone() },
        stopped(&greedy),
        Request { answers: 4, stop_ids: vec![ids[9]], opening: Opening::GoesOn, ..request(4, 40, 40, warm.clone()) },
        Request { answers: 3, ..request(6, 1, 40, warm.clone()) },
        Request { max_tokens: None, ..request(5, context - 30, 1, warm.clone()) },
        request(8, 33, 1, warm.clone()),
        request(8, 34, 2, greedy),
        stopped(&warm),
    ];
    for step_tokens in [3, 16, 512] {
        for pages in [None, Some(context.div_ceil(32) as usize)] {
            let options = EngineOptions { step_tokens, pages, ..EngineOptions::default() };
            bench.check(&format!("ends, {step_tokens} rows, {pages:?} pages"), &requests, options);
        }
    }
    for one in &requests {
        let options = EngineOptions { cached: Some(0), ..EngineOptions::default() };
        bench.check("an end alone", std::slice::from_ref(one), options);
    }
}

#[test]
fn answers_of_a_given_shape_are_the_same() {
    let (bench, tokenizer) = (Bench::starter(), tokenizer());
    let ends = [tokenizer.eos().unwrap()];
    let grammars = Grammars::new(&tokenizer, bench.decoder.spec().vocab, &ends).unwrap();
    let shapes = [
        Shape::JsonObject,
        Shape::Choice(vec!["a red barn".into(), "a red house".into(), "green".into()]),
        Shape::Regex("(one|two|three)( and (one|two|three)){3,9}".into()),
    ];
    for (at, shape) in shapes.iter().enumerate() {
        let grammar = grammars.compile(shape).unwrap();
        let requests: Vec<Request> = (0..3)
            .map(|seed| {
                let warm = SamplingOptions { temperature: Some(0.8), ..Default::default() };
                let request = request(seed, 40, 60, warm);
                Request { grammar: Some(grammar.clone()), stop_ids: ends.to_vec(), answers: 2, ..request }
            })
            .collect();
        let [.., accepted, _, _] = bench.check(&format!("shape {at}"), &requests, EngineOptions::default());
        assert!(accepted > 0, "shape {at}");
    }
}

#[test]
fn many_at_once_and_few_pages_change_nothing() {
    let bench = Bench::starter();
    let requests: Vec<Request> = (0..24)
        .map(|seed| {
            let warm =
                SamplingOptions { temperature: Some(if seed % 3 == 0 { 0.0 } else { 0.8 }), ..Default::default() };
            let request = request(seed % 9, 20 + seed * 5 % 60, 10 + seed as usize * 3, warm);
            Request { owner: format!("{}", seed % 4).into(), ..request }
        })
        .collect();
    for (step_tokens, pages, running) in [(512, None, 64), (64, Some(9), 64), (9, Some(12), 5), (512, Some(6), 3)] {
        let options = EngineOptions { step_tokens, pages, running, ..EngineOptions::default() };
        let [looked, ..] = bench.check(&format!("{options:?}"), &requests, options);
        assert!(looked > 0, "{options:?}");
    }
}

#[test]
fn windows_chunks_angles_and_experts_change_nothing() {
    let Some(kit) = kit::folder("golden/text") else { return };
    // Windows in some layers or in all, chunks, angles that change with the length, experts.
    let models = [
        ("gemma3_text", 1),
        ("gpt_oss", 1),
        ("mistral_v01_swa", 1),
        ("llama4_text", 1),
        ("phi3_longrope", 0),
        ("llama_rope_dynamic", 0),
        ("qwen3_moe", 1),
    ];
    for (name, least) in models {
        for (precision, format) in [(Precision::Exact, KvFormat::F32), (Precision::Fast, KvFormat::BF16)] {
            let bench = Bench { decoder: decoder(&kit.join(name), precision), format, text: None };
            let requests: Vec<Request> = (0..4)
                .map(|seed| {
                    let temperature = Some(if seed % 2 == 0 { 0.0 } else { 1.2 });
                    let sampling = SamplingOptions { temperature, logprobs: Some(2), ..Default::default() };
                    Request { ids: prompt(seed, 6 + seed * 9), ..request(seed, 1, 70, sampling) }
                })
                .collect();
            for (step_tokens, pages) in [(512, None), (16, Some(8))] {
                let options = EngineOptions { step_tokens, pages, ..EngineOptions::default() };
                let what = format!("{name}, {precision:?}, {step_tokens} rows, {pages:?} pages");
                let [.., accepted, _, _] = bench.check(&what, &requests, options);
                assert!(accepted >= least, "{what}: {accepted} proposals were right");
            }
        }
    }
}

#[test]
fn what_a_conversation_computed_with_proposals_is_of_use_to_its_next_question() {
    let bench = Bench::starter();
    let greedy = |ids: Vec<u32>| Request {
        ids,
        ..request(0, 1, 70, SamplingOptions { temperature: Some(0.0), logprobs: Some(5), ..Default::default() })
    };
    let ask = |speculation: Speculation| {
        let runner = Runner::new(bench.decoder.clone(), bench.format);
        let options = EngineOptions { speculation, ..EngineOptions::default() };
        let engine = Engine::start(Box::new(runner), None, options).unwrap();
        let mut ids = prompt(3, 90);
        let mut answers = Vec::new();
        for turn in 0..3 {
            let answer = engine.submit(greedy(ids.clone())).unwrap().answer().unwrap();
            ids.extend(&answer.ids);
            ids.extend(prompt(turn, 12));
            let logprobs: Vec<u32> = answer.logprobs.iter().map(|logprob| logprob.to_bits()).collect();
            answers.push((answer.ids, logprobs, answer.usage.cached_tokens));
        }
        (answers, engine.counts())
    };
    let (plain, _) = ask(Speculation::Off);
    let (told, counts) = ask(Speculation::Always(6));
    assert_eq!(plain, told);
    assert!(counts.accepted_tokens > 0);
}

#[test]
fn a_text_that_repeats_itself_takes_fewer_steps() {
    let bench = Bench::starter();
    let greedy = SamplingOptions { temperature: Some(0.0), ..Default::default() };
    // A short text again and again: whatever the model says, it soon goes in circles.
    let requests = [request(1, 120, 200, greedy)];
    let steps = |speculation| {
        let (told, counts) = bench.run(&requests, None, EngineOptions { speculation, ..EngineOptions::default() });
        (told, counts.steps, counts.rows, counts.accepted_tokens)
    };
    let (plain, off, ..) = steps(Speculation::Off);
    let (told, on, rows, accepted) = steps(Speculation::Always(7));
    assert_eq!(plain, told);
    assert_eq!(off, on + accepted, "each right proposal saves a step");
    assert!(on * 2 < off && rows > off, "{on} steps and not {off}");
}

#[test]
fn a_cancelled_answer_ends_and_gives_everything_back() {
    let bench = Bench::starter();
    let runner = Runner::new(bench.decoder.clone(), bench.format);
    let options = EngineOptions { speculation: Speculation::Always(5), ..EngineOptions::default() };
    let engine = Engine::start(Box::new(runner), None, options).unwrap();
    for wait in [1, 5, 20] {
        let request = request(2, 100, 300, SamplingOptions::default());
        let cancel = request.cancel.clone();
        let mut stream = engine.submit(request).unwrap();
        (0..wait).for_each(|_| drop(stream.next().unwrap().unwrap()));
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        let last = stream.last().unwrap().unwrap();
        assert!(matches!(last, Event::Ending(ending) if ending.finish == Finish::Cancelled));
    }
    let next = engine.submit(request(2, 100, 10, SamplingOptions::default())).unwrap().answer().unwrap();
    assert_eq!(next.usage.cached_tokens, 99);
    assert_eq!((engine.counts().now.held, engine.counts().now.running), (0, 0));
}

/// Behind so many tokens these.
type Proposed = (usize, Vec<u32>);

/// Notes what another proposes.
struct Noted {
    inner: Box<dyn Propose>,
    all: Arc<Mutex<Vec<Proposed>>>,
}

impl Propose for Noted {
    fn propose(&mut self, wanted: &[Wanted]) -> Vec<Option<Vec<u32>>> {
        let proposed = self.inner.propose(wanted);
        let each = wanted.iter().zip(&proposed);
        let each = each.filter_map(|(wanted, tokens)| Some((wanted.ids.len(), tokens.clone()?)));
        self.all.lock().unwrap().extend(each);
        proposed
    }

    fn end(&mut self, sequence: Ticket) {
        self.inner.end(sequence);
    }

    fn clear(&mut self) {
        self.inner.clear();
    }
}

#[test]
fn a_draft_that_is_the_model_is_right_and_reads_each_token_once() {
    let bench = Bench::starter();
    let (rows, all) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let draft = Noted { inner: bench.draft_with(usize::MAX, rows.clone()), all: all.clone() };
    let runner = Runner::new(bench.decoder.clone(), bench.format);
    let options = EngineOptions { speculation: Speculation::Always(4), ..EngineOptions::default() };
    let engine = Engine::start_with(Box::new(runner), Some(Box::new(draft)), None, options).unwrap();
    let greedy = SamplingOptions { temperature: Some(0.0), ..Default::default() };
    let mut ids: Vec<u32> = (0..400).map(|at| 20 + at * at % 900).collect();
    for turn in 0..2 {
        let request = Request { ids: ids.clone(), ..request(0, 1, 60, greedy.clone()) };
        let answer = engine.submit(request).unwrap().answer().unwrap();
        ids.extend(answer.ids);
        let (mut proposed, mut right) = (0, 0);
        for (behind, tokens) in all.lock().unwrap().drain(..) {
            let came = &ids[behind..ids.len().min(behind + tokens.len())];
            assert_eq!(came, &tokens[..came.len()], "turn {turn}, behind {behind}");
            (proposed, right) = (proposed + tokens.len(), right + came.len());
        }
        assert!(right * 10 >= proposed * 9 && right > 20, "turn {turn}: {right} of {proposed}");
        ids.extend(prompt(turn, 12));
    }
    // Both prompts are read, the second from where the first answer ended; what is proposed and wrong is read again.
    let read = rows.load(Ordering::Relaxed);
    assert!(read < 400 + 12 + 2 * 60 * 2, "{read} rows");
}
