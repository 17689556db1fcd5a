//! `pasture serve`: models behind the APIs that clients know. What is served and how stands in `pasture-serve`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use pasture::{Device, Model};
use pasture_serve::{
    Audit, Checked, IpAddr, Keep, Key, Keys, Lending, Options, Prompts, Reading, Served, SocketAddr, StartError,
    TlsFiles, Told,
};
use pasture_store::Environment;
use pasture_store::registry::Registry;
use serde_json::json;

mod served;

use super::keys::{FileFlag, of_key};
use super::model::{self, Crowd};
use super::place;
use crate::exit::{Failure, Status, of_io};
use crate::output;
use crate::settings::{AnswerFlags, Given, RunFlags, Settings};

/// Serve models over HTTP, as OpenAI's and Ollama's clients ask for them
#[derive(Args)]
#[command(after_help = "\
Without a key only this machine is served: an address that others can reach
needs a key of `pasture keys add`, --api-key or PASTURE_API_KEY. Ctrl-C ends
at once with what is being made; SIGTERM lets balancers know first.

Examples:
  pasture serve
  pasture serve my-model.gguf
  pasture serve my-model.gguf my-encoder --port 8000 --slots 8
  pasture serve gpt-4o=my-model.gguf
  pasture serve my-model.gguf --adapter pirate=pirate-folder
  pasture serve --on-demand --memory 12GiB --keep-alive 10m
  PASTURE_API_KEY=... pasture serve my-model.gguf --host 0.0.0.0
  pasture serve my-model.gguf --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem
  pasture serve my-model.gguf --audit audit.jsonl
  pasture serve --verify-audit audit.jsonl
  PASTURE_API_KEY=... pasture serve --registry --host 0.0.0.0
  pasture serve --fields")]
pub struct Arguments {
    /// Files, folders, or names from a Hugging Face cache or Ollama folder (default: the starter); NAME=MODEL serves
    /// one under that name
    models: Vec<String>,
    /// Lend the models of this machine's Hugging Face cache: others pull from here, and push to here
    #[arg(long)]
    registry: bool,
    /// Everybody may pull from the registry; pushing needs a key all the same
    #[arg(long, requires = "registry")]
    open_pull: bool,
    /// Also load models of this machine's caches when requests name them
    #[arg(long)]
    on_demand: bool,
    /// Bytes that all models may take with their keys and values, as 12GiB (default: 80 % of the machine's)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// For how long a model that a request loaded stays when nobody asks for it, as 5m or 300; -1: for ever
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = keep, allow_hyphen_values = true)]
    keep_alive: Keep,
    /// Put an adapter beside the model, under a name of its own; may be given several times
    #[arg(long = "adapter", value_name = "NAME=FOLDER")]
    adapters: Vec<String>,
    /// A folder whose adapters may be loaded while the server runs
    #[arg(long = "adapters", value_name = "FOLDER")]
    adapter_folder: Option<PathBuf>,
    /// Use what was computed for one key's prompts for the others' as well: how long an answer takes tells what others asked
    #[arg(long)]
    share_prefix: bool,
    /// The address to listen at
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port; 0 takes one that is free
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// The key that every request must have
    #[arg(long, value_name = "KEY", env = "PASTURE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    #[command(flatten)]
    safety: SafetyFlags,
    /// An origin whose pages may ask from a browser, as https://example.org; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
    /// Answers of a model that are made at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: u32,
    /// Answers that may wait; more are told to come back (default: eight for each slot)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=65536))]
    queue: Option<u32>,
    /// No web page at /, and no chats that it keeps
    #[arg(long)]
    no_page: bool,
    /// Take fields that are not known or not supported yet, and list them in x-pasture-unused
    #[arg(long)]
    lenient: bool,
    /// Print the fields of all requests as a page, and serve nothing
    #[arg(long, exclusive = true)]
    fields: bool,
    /// Compute in f32, with activations that are not quantized
    #[arg(long)]
    exact: bool,
    /// Refuse configuration keys that nobody knows
    #[arg(long)]
    strict: bool,
    /// Print one JSON object when it listens: url, models
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: RunFlags,
    #[command(flatten)]
    answering: AnswerFlags,
}

/// What makes a server safe on a network.
#[derive(Args)]
struct SafetyFlags {
    #[command(flatten)]
    keys: FileFlag,
    /// The certificate to show, and those between it and a root, in PEM; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Tell each request in this file, as JSON lines that hold each other's digests
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Tell what was asked as well
    #[arg(long, requires = "audit")]
    audit_prompts: bool,
    /// Check such a file, and serve nothing
    #[arg(long, value_name = "FILE", conflicts_with_all = ["models", "fields", "audit"])]
    verify_audit: Option<PathBuf>,
    /// Connections that are held at once; more are closed
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=65536))]
    connections: u32,
}

pub fn run(arguments: Arguments, program: &Given) -> Result<(), Failure> {
    if arguments.fields {
        return output::print(&pasture_serve::fields_page());
    }
    if let Some(file) = &arguments.safety.verify_audit {
        return verify(file, arguments.json);
    }
    // Before models are loaded, which takes long.
    let (mut options, control) = options(&arguments)?;
    let cert = arguments.safety.tls_cert.clone();
    let scheme = if cert.is_some() { "https" } else { "http" };
    let given = program.clone().and(&arguments.running.0).and(&arguments.answering.0);
    let opener = opener(&arguments, &given, options.memory)?;
    let served = served(&arguments, &opener)?;
    options.loader = arguments.on_demand.then(|| Arc::new(opener) as Arc<dyn pasture_serve::Loader>);
    let names: Vec<String> = served.iter().map(|model| model.name.clone()).collect();
    let also = if arguments.no_page { "" } else { " (open it in a browser to chat)" };
    let mut told = Ok(());
    // Where this server is, for `pasture ps` and `pasture stop`; the file goes with it.
    let mut place = None;
    let result = pasture_serve::run(served, options, |address| {
        let url = format!("{scheme}://{address}");
        place = place::running().and_then(|folder| tell(&folder, address, scheme, &control, cert.as_deref()));
        told = match arguments.json {
            true => output::json(&json!({"url": url, "models": names})),
            false => {
                let lent = arguments.registry.then_some("the models of this machine");
                let all: Vec<&str> = names.iter().map(String::as_str).chain(lent).collect();
                output::line(&format!("serving {} at {url}{also}", all.join(", ")))
            }
        };
    });
    drop(place);
    result.map_err(|error| match error {
        StartError::Options(what) => Failure::new(Status::Usage, what),
        StartError::System(error) => {
            let what = format!("cannot serve at {}:{}: {error}", arguments.host, arguments.port);
            Failure::new(of_io(&error), what)
        }
    })?;
    told
}

/// How models are opened, at the start and later.
fn opener(arguments: &Arguments, given: &Given, memory: u64) -> Result<served::Opener, Failure> {
    let settings = Settings::resolve(given)?;
    let device = Device::new(settings.whole("threads"));
    let draft = super::draft::load(&settings, &device)?;
    if let Some(folder) = arguments.adapter_folder.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(Failure::new(Status::NoInput, format!("{folder:?} is no folder of adapters")));
    }
    Ok(served::Opener {
        given: given.clone(),
        exact: arguments.exact,
        strict: arguments.strict,
        crowd: Crowd { running: arguments.slots as usize, kv_bytes: memory / KV_PART, draft, device },
        adapters: arguments.adapter_folder.clone(),
    })
}

/// One part in so many of the memory is for the keys and values of each model.
const KV_PART: u64 = 8;

/// The models of the command line, and the adapters beside the only one.
fn served(arguments: &Arguments, opener: &served::Opener) -> Result<Vec<Served>, Failure> {
    let (mut served, mut models): (Vec<Served>, Vec<Model>) = (Vec::new(), Vec::new());
    let starter = [model::STARTER.to_owned()];
    let alone = arguments.models.is_empty() && !arguments.registry && !arguments.on_demand;
    for name in if alone { &starter } else { arguments.models.as_slice() } {
        let (public, name) = named(name);
        let (model, opened) = opener.open(name, public)?;
        models.push(opened);
        if served.iter().any(|other| other.name == model.name) {
            let what = format!("two of the models are called {:?}; call one of them NAME=MODEL", model.name);
            return Err(Failure::new(Status::Usage, what));
        }
        served.push(model);
    }
    for text in &arguments.adapters {
        let wrong = |what: &str| Failure::new(Status::Usage, format!("`--adapter` {text:?}: {what}"));
        let (name, path) = text.split_once('=').ok_or_else(|| wrong("a name and = stand before the folder"))?;
        if !plain(name) {
            return Err(wrong("names are letters, digits, points, dashes and underscores"));
        }
        if served.iter().any(|other| other.name == name) {
            return Err(wrong("the name is taken"));
        }
        let [model] = models.as_slice() else {
            return Err(wrong("beside which of the models? Serve one, or load the adapter by POST /v1/adapters/load"));
        };
        if model.has_adapter() {
            return Err(wrong("it would take the place of the assistant's own adapters; serve its base instead"));
        }
        let adapter = pasture::Adapter::load(path, model)?.weights();
        served.push(Served { name: name.to_owned(), adapter: Some(adapter), ..served[0].clone() });
    }
    Ok(served)
}

/// `NAME=MODEL`, or a model under a name that is made of its own.
fn named(text: &str) -> (String, &str) {
    match text.split_once('=').filter(|(name, _)| plain(name) && !Path::new(text).exists()) {
        Some((name, model)) => (name.to_owned(), model),
        None => (public_name(text), text),
    }
}

fn plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn size(text: &str) -> Result<u64, String> {
    let bytes = crate::settings::keys::bytes(&json!(text)).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "give a size as 800MB or 2GiB".to_owned())
}

fn keep(text: &str) -> Result<Keep, String> {
    Keep::parse(&json!(text)).ok_or_else(|| "give seconds, or a time as 5m or 1h30m; -1 is for ever".to_owned())
}

/// Four fifths of the machine's memory.
fn usual_memory() -> u64 {
    pasture::lab::receipt::Memory::All.bytes().map_or(u64::MAX, |bytes| bytes / 5 * 4)
}

/// Checks an audit log.
fn verify(file: &Path, as_json: bool) -> Result<(), Failure> {
    if !file.exists() {
        return Err(Failure::new(Status::NoInput, format!("there is no file {}", file.display())));
    }
    let checked = pasture_serve::verify_audit(file).map_err(|what| Failure::new(Status::Data, what))?;
    let Checked { lines, cut, last } = checked;
    match as_json {
        true => output::json(&json!({"lines": lines, "cut": cut, "last": last})),
        false => {
            output::line(&format!("{lines} lines are as they were written, {cut} cut by a crash; the last is {last}"))
        }
    }
}

/// Tells programs of this user where the server is. One whose folders cannot be written serves all the same.
fn tell(folder: &Path, address: SocketAddr, scheme: &str, key: &str, cert: Option<&Path>) -> Option<Told> {
    let mut reached = address;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => reached.set_ip([127, 0, 0, 1].into()),
        IpAddr::V6(ip) if ip.is_unspecified() => reached.set_ip([0, 0, 0, 0, 0, 0, 0, 1].into()),
        _ => {}
    }
    match Told::write(folder, &format!("{scheme}://{reached}"), key, cert) {
        Ok(told) => Some(told),
        Err(error) => {
            eprintln!("note: `pasture ps` will not find this server: {}: {error}", folder.display());
            None
        }
    }
}

/// The options, and the key of programs on this machine.
fn options(arguments: &Arguments) -> Result<(Options, String), Failure> {
    let key = match &arguments.api_key {
        None => None,
        Some(text) => {
            let what = "the key is empty, or has spaces or letters that no header holds";
            Some(Key::new(text).ok_or_else(|| Failure::new(Status::Usage, what))?)
        }
    };
    let safety = &arguments.safety;
    let keys = safety.keys.path().map(|path| Keys::watch(&path)).transpose().map_err(of_key)?;
    if key.is_none() && !keys.as_ref().is_some_and(Keys::usable) && !pasture_serve::is_loopback(arguments.host) {
        let what = format!("{}: {} is one", pasture_serve::PUBLIC_NEEDS_KEY, arguments.host);
        let hint = "`pasture keys add NAME` makes one; or leave --host out to serve this machine only";
        return Err(Failure::new(Status::Usage, what).hint(hint.to_owned()));
    }
    let tls = safety.tls_cert.clone().zip(safety.tls_key.clone()).map(|(cert, key)| TlsFiles { cert, key });
    if let Some(files) = &tls {
        files.read().map_err(|what| Failure::new(Status::Data, what))?;
    } else if !pasture_serve::is_loopback(arguments.host) {
        eprintln!("note: keys and answers cross the network in the clear; --tls-cert and --tls-key change that");
    }
    let is_origin = |text: &String| {
        let host = text.strip_prefix("http://").or(text.strip_prefix("https://"));
        host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ']))
    };
    if let Some(wrong) = arguments.cors.iter().find(|origin| !is_origin(origin)) {
        let what = format!("`--cors` needs an origin such as https://example.org, not {wrong:?}");
        return Err(Failure::new(Status::Usage, what));
    }
    let prompts = if safety.audit_prompts { Prompts::Told } else { Prompts::LeftOut };
    let audit = safety.audit.as_deref().map(|file| Audit::open(file, prompts)).transpose();
    let audit = audit.map_err(|what| Failure::new(Status::CannotCreate, what))?;
    let control = pasture_serve::random_key()?;
    let guarded = key.is_some() || keys.as_ref().is_some_and(Keys::usable);
    let options = Options {
        key,
        keys: keys.map(Arc::new),
        control: Key::new(&control),
        tls,
        audit: audit.map(Arc::new),
        connections: safety.connections as usize,
        registry: lending(arguments, guarded)?,
        origins: arguments.cors.clone(),
        lenient: arguments.lenient,
        slots: arguments.slots as usize,
        page: !arguments.no_page,
        chats: place::data().map(|folder| folder.join("chats.sqlite")),
        batches: place::data().map(|folder| folder.join("batches.sqlite")),
        queue: arguments.queue.map(|queue| queue as usize),
        share_prefix: arguments.share_prefix,
        memory: arguments.memory.unwrap_or_else(usual_memory),
        keep: arguments.keep_alive,
        ..Options::new(SocketAddr::new(arguments.host, arguments.port))
    };
    Ok((options, control))
}

/// The registry, where one is asked for.
fn lending(arguments: &Arguments, guarded: bool) -> Result<Option<Lending>, Failure> {
    if !arguments.registry {
        return Ok(None);
    }
    if arguments.open_pull && !guarded {
        let what = "`--open-pull` has no effect: without a key everybody on this machine may pull, and push";
        return Err(Failure::new(Status::Usage, what));
    }
    let none =
        || Failure::new(Status::Config, "there is no Hugging Face cache to lend: set HF_HUB_CACHE to its folder");
    let registry = Registry::of(&Environment::current()).ok_or_else(none)?;
    let reading = if arguments.open_pull { Reading::Open } else { Reading::Keys };
    Ok(Some(Lending::new(registry, reading)))
}

/// The name by which requests ask: that of a cache as it is, of a file or folder its last part without `.gguf`.
fn public_name(name: &str) -> String {
    if !Path::new(name).exists() {
        return name.to_owned();
    }
    let last = Path::new(name).file_name().map(|last| last.to_string_lossy().into_owned());
    let last = last.unwrap_or_else(|| "model".to_owned());
    last.strip_suffix(".gguf").unwrap_or(&last).to_owned()
}
