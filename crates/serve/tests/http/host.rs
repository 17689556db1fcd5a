//! The starter behind a server: its model is loaded once, each test starts its own listener over an engine.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pasture_engine::sampling::SamplingOptions;
use pasture_engine::{Adapter, Embedding, Engine, EngineOptions, Forward, RopeRule, Runner, Text};
use pasture_files::Bytes;
use pasture_files::gguf::{Metadata, Value};
use pasture_files::prompt::Prompt;
use pasture_kernels::Pool;
use pasture_model::{Batch, Decoder, Kind, Kv, LoadOptions, Module, Pooling, Source};
use pasture_serve::{Failed, Listening, Options, Scored, Served, Texts, Vectors, Work};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{AdapterSite, Backend, Cpu, Precision, Tensor, Weight};

use crate::client::get;

fn loaded() -> &'static (Arc<Decoder>, Prompt) {
    static LOADED: OnceLock<(Arc<Decoder>, Prompt)> = OnceLock::new();
    LOADED.get_or_init(|| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/starter.gguf");
        let source = Source::of_gguf_bytes("starter.gguf", Bytes::from(std::fs::read(file).unwrap())).unwrap();
        let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact));
        let loaded = pasture_model::load(&source, &backend, &LoadOptions::default(), &mut |_, _| {}).unwrap();
        let prompt = Prompt::from_gguf(source.tensors.gguf().unwrap(), None).unwrap();
        (Arc::new(loaded.decoder), prompt)
    })
}

/// The starter's prompt with another template.
pub fn prompt_with(template: &str) -> Prompt {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/starter.gguf");
    let source = Source::of_gguf_bytes("starter.gguf", Bytes::from(std::fs::read(file).unwrap())).unwrap();
    let mut metadata = Metadata::new("starter.gguf");
    for (key, value) in source.tensors.gguf().unwrap().iter() {
        let value = if key == "tokenizer.chat_template" { Value::text(template) } else { value.clone() };
        metadata.insert(key, value).unwrap();
    }
    Prompt::from_gguf(&metadata, None).unwrap()
}

/// A forward that counts its steps and takes its time.
struct Counted {
    inner: Runner,
    steps: Arc<AtomicUsize>,
    panics: Arc<AtomicBool>,
    delay: Duration,
}

impl Forward for Counted {
    fn vocab(&self) -> usize {
        self.inner.vocab()
    }

    fn context(&self) -> usize {
        self.inner.context()
    }

    fn rope_rule(&self) -> RopeRule {
        self.inner.rope_rule()
    }

    fn kv(&self) -> Kv {
        self.inner.kv()
    }

    fn logits(&mut self, batch: &Batch, kv: &mut Kv, rows: &[u32]) -> pasture_model::Result<Tensor> {
        self.steps.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.delay);
        assert!(!self.panics.swap(false, Ordering::SeqCst), "broken on purpose");
        self.inner.logits(batch, kv, rows)
    }
}

struct Beside;

impl Work for Beside {
    fn embed(&self, texts: Texts, truncate: bool, normalize: Option<bool>) -> Result<Vectors, Failed> {
        let (decoder, prompt) = loaded();
        let ids = match texts {
            Texts::Ids(ids) => ids,
            Texts::Plain(texts) | Texts::Questions(texts) => {
                let tokenizer = prompt.tokenizer().unwrap();
                let ids = |text: &String| {
                    tokenizer.encode_with_special(text, pasture_files::tokenizer::Specials::AsText).unwrap()
                };
                texts.iter().map(ids).collect()
            }
        };
        if ids.iter().any(|ids| ids.len() > 1000 && !truncate) {
            return Err(Failed::Asked("a text is too long".to_owned()));
        }
        let parts: Vec<&[u32]> = ids.iter().map(|ids| &ids[..ids.len().min(1000)]).collect();
        let how = Embedding { pooling: Pooling::Mean, normalize: normalize.unwrap_or(false) };
        let made = pasture_engine::embed(decoder, KvFormat::F32, &parts, 64, how, &mut |_| {});
        let made = made.map_err(|error| Failed::Here(error.to_string()))?;
        let vectors = (0..made.rows()).map(|row| made.row(row).to_vec()).collect();
        Ok(Vectors { vectors, tokens: parts.iter().map(|part| part.len()).sum() })
    }

    fn score(&self, ids: &[u32], adapter: Option<&Arc<Adapter>>, top: usize) -> Result<Vec<Scored>, Failed> {
        let made = pasture_engine::prompt_logprobs(&loaded().0, KvFormat::F32, ids, 7, top, adapter);
        made.map_err(|error| Failed::Here(error.to_string()))
    }

    fn adapter(&self, name: &str) -> Result<Arc<Adapter>, Failed> {
        match name {
            "loud" => Ok(Arc::new(adapter(0.5))),
            "soft" => Ok(Arc::new(adapter(0.05))),
            _ => Err(Failed::Asked(format!("there is no adapter {name:?}"))),
        }
    }

    fn adapters(&self) -> Vec<String> {
        vec!["loud".to_owned(), "soft".to_owned()]
    }
}

/// An adapter of rank 1 beside the first module of the starter.
fn adapter(size: f32) -> Adapter {
    let (decoder, _) = loaded();
    let dense = |(_, module): &(&str, &Module)| module.kind == Kind::Dense;
    let (name, module) = decoder.sites().iter().find(dense).unwrap();
    let line = |count: usize| (0..count).map(|at| size * (at as f32).sin()).collect::<Vec<f32>>();
    let a = Weight::from_values(1, module.inputs, &line(module.inputs));
    let b = Weight::from_values(module.outputs, 1, &line(module.outputs));
    Adapter::new([(name.to_owned(), AdapterSite::new(a, b, 1.0))].into())
}

/// The starter under a name, as a loader gives it.
pub fn served(
    name: &str,
    options: &Options,
    steps: &Arc<AtomicUsize>,
    panics: &Arc<AtomicBool>,
    delay: Duration,
) -> Served {
    let (decoder, prompt) = loaded();
    let inner = Runner::new(decoder.clone(), KvFormat::F32);
    let forward = Counted { inner, steps: steps.clone(), panics: panics.clone(), delay };
    let text = prompt.tokenizer().map(|tokenizer| Arc::new(tokenizer.clone()) as Arc<dyn Text>);
    let engine_options = EngineOptions { running: options.slots, ..EngineOptions::default() };
    Served {
        name: name.to_owned(),
        engine: Engine::start(Box::new(forward), text, engine_options).unwrap(),
        prompt: prompt.clone(),
        defaults: SamplingOptions::default(),
        family: "llama",
        work: Arc::new(Beside),
        adapter: None,
        bytes: 100,
    }
}

/// A server that listens, and its runtime.
pub struct Host {
    pub address: SocketAddr,
    pub steps: Arc<AtomicUsize>,
    /// The next step panics.
    pub panics: Arc<AtomicBool>,
    pub engine: Engine,
    pub prompt: Prompt,
    listening: Option<Listening>,
    runtime: tokio::runtime::Runtime,
}

pub fn local() -> Options {
    let mut options = Options::new("127.0.0.1:0".parse().unwrap());
    options.drain = Duration::from_millis(300);
    options
}

/// One for all tests that change nothing.
pub fn shared() -> &'static Host {
    static SHARED: OnceLock<Host> = OnceLock::new();
    SHARED.get_or_init(|| Host::start(local(), Duration::ZERO))
}

impl Host {
    pub fn start(options: Options, delay: Duration) -> Host {
        let steps = Arc::new(AtomicUsize::new(0));
        let panics = Arc::new(AtomicBool::new(false));
        let served = served("starter", &options, &steps, &panics, delay);
        let (engine, prompt) = (served.engine.clone(), served.prompt.clone());
        let builder = &mut tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let listening = runtime.block_on(pasture_serve::start(vec![served], options)).unwrap();
        let address = listening.address;
        Host { address, steps, panics, engine, prompt, listening: Some(listening), runtime }
    }

    /// A gauge or counter.
    pub fn metric(&self, line: &str) -> u64 {
        let text = get(self.address, "/metrics").body;
        let found = text.lines().find_map(|other| other.strip_prefix(line).and_then(|rest| rest.strip_prefix(' ')));
        found.map_or(0, |value| value.parse().unwrap())
    }

    /// Waits until something holds.
    pub fn wait(&self, what: &str, holds: impl Fn(&Host) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < Duration::from_secs(30), "{what} does not come true");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Begins to end on another thread.
    pub fn end(&mut self, linger: Duration) -> tokio::task::JoinHandle<()> {
        let listening = self.listening.take().unwrap();
        self.runtime.spawn(async move { listening.end(linger).await.unwrap() })
    }

    /// Waits until a client asked for the end, and ends.
    pub fn ends_when_asked(&mut self) {
        let listening = self.listening.take().unwrap();
        self.runtime.block_on(async {
            listening.asked_to_end().await;
            listening.end(Duration::ZERO).await.unwrap();
        });
    }

    pub fn join(&self, end: tokio::task::JoinHandle<()>) {
        self.runtime.block_on(end).unwrap();
    }
}
