//! `pasture serve`: models behind the APIs that clients know. What is served and how stands in `pasture-serve`.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use pasture::{EmbedOptions, Error, Model};
use pasture_serve::{Failed, IpAddr, Key, Options, Scored, Served, SocketAddr, StartError, Texts, Vectors, Work};
use serde_json::json;

use super::model;
use crate::exit::{Failure, Status, of_io};
use crate::output;
use crate::settings::{Given, RunFlags};

/// Serve models over HTTP, as OpenAI's and Ollama's clients ask for them
#[derive(Args)]
#[command(after_help = "\
Without a key only this machine is served: an address that others can reach
needs --api-key or PASTURE_API_KEY. Ctrl-C ends at once with what is being
made; SIGTERM lets balancers know first.

Examples:
  pasture serve my-model.gguf
  pasture serve my-model.gguf my-encoder --port 8000 --slots 8
  PASTURE_API_KEY=... pasture serve my-model.gguf --host 0.0.0.0
  pasture serve --fields")]
pub struct Arguments {
    /// Files, folders, or names from a Hugging Face cache or Ollama folder
    #[arg(required_unless_present = "fields")]
    models: Vec<String>,
    /// The address to listen at
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port; 0 takes one that is free
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// The key that every request must have
    #[arg(long, value_name = "KEY", env = "PASTURE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// An origin whose pages may ask from a browser, as https://example.org; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
    /// Answers of a model that are made at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: u32,
    /// Answers that may wait; more are told to come back (default: eight for each slot)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=65536))]
    queue: Option<u32>,
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
}

pub fn run(arguments: Arguments, program: &Given) -> Result<(), Failure> {
    if arguments.fields {
        return output::print(&pasture_serve::fields_page());
    }
    // Before models are loaded, which takes long.
    let options = options(&arguments)?;
    let given = program.clone().and(&arguments.running.0);
    let mut served: Vec<Served> = Vec::new();
    for name in &arguments.models {
        let slots = Some(arguments.slots as usize);
        let opened = model::open_for(Some(name), &given, arguments.exact, arguments.strict, slots)?;
        let model = serve(public_name(name), opened.model);
        if served.iter().any(|other| other.name == model.name) {
            let what = format!("two of the models are called {:?}; give one of their files another name", model.name);
            return Err(Failure::new(Status::Usage, what));
        }
        served.push(model);
    }
    let names: Vec<String> = served.iter().map(|model| model.name.clone()).collect();
    let mut told = Ok(());
    let result = pasture_serve::run(served, options, |address| {
        let url = format!("http://{address}");
        told = match arguments.json {
            true => output::json(&json!({"url": url, "models": names})),
            false => output::line(&format!("serving {} at {url}", names.join(", "))),
        };
    });
    result.map_err(|error| match error {
        StartError::Options(what) => needs_key(what),
        StartError::System(error) => {
            let what = format!("cannot serve at {}:{}: {error}", arguments.host, arguments.port);
            Failure::new(of_io(&error), what)
        }
    })?;
    told
}

fn needs_key(what: String) -> Failure {
    let hint = "set PASTURE_API_KEY, or leave --host out to serve this machine only";
    Failure::new(Status::Usage, what).hint(hint.to_owned())
}

fn options(arguments: &Arguments) -> Result<Options, Failure> {
    let key = match &arguments.api_key {
        None => None,
        Some(text) => {
            let what = "the key is empty, or has spaces or letters that no header holds";
            Some(Key::new(text).ok_or_else(|| Failure::new(Status::Usage, what))?)
        }
    };
    if key.is_none() && !pasture_serve::is_loopback(arguments.host) {
        return Err(needs_key(format!("{}: {} is one", pasture_serve::PUBLIC_NEEDS_KEY, arguments.host)));
    }
    let is_origin = |text: &String| {
        let host = text.strip_prefix("http://").or(text.strip_prefix("https://"));
        host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ']))
    };
    if let Some(wrong) = arguments.cors.iter().find(|origin| !is_origin(origin)) {
        let what = format!("`--cors` needs an origin such as https://example.org, not {wrong:?}");
        return Err(Failure::new(Status::Usage, what));
    }
    Ok(Options {
        key,
        origins: arguments.cors.clone(),
        lenient: arguments.lenient,
        slots: arguments.slots as usize,
        queue: arguments.queue.map(|queue| queue as usize),
        ..Options::new(SocketAddr::new(arguments.host, arguments.port))
    })
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

fn serve(name: String, model: Model) -> Served {
    Served {
        engine: model.engine().clone(),
        prompt: model.prompt().clone(),
        defaults: model.sampling_defaults().clone(),
        family: model.family().name,
        work: Arc::new(Beside { name: name.clone(), model }),
        name,
    }
}

/// The work of a model beside its engine's thread.
struct Beside {
    /// The name by which requests ask. The model's own may be a path, which no client is told.
    name: String,
    model: Model,
}

impl Work for Beside {
    fn embed(&self, texts: Texts, truncate: bool, normalize: Option<bool>) -> Result<Vectors, Failed> {
        let options = EmbedOptions { truncate, normalize, ..EmbedOptions::default() };
        let made = match texts {
            Texts::Plain(texts) => self.model.embed_with(&texts, &options, &mut |_| {}),
            Texts::Ids(ids) => self.model.embed_ids(ids, &options, &mut |_| {}),
        };
        let made = made.map_err(|error| failed(error, &self.name))?;
        Ok(Vectors { tokens: made.tokens.iter().sum(), vectors: made.vectors })
    }

    fn score(&self, ids: &[u32], top: usize) -> Result<Vec<Scored>, Failed> {
        self.model.prompt_logprobs(ids, top).map_err(|error| failed(error, &self.name))
    }
}

/// What the client can change, and what not.
fn failed(error: Error, name: &str) -> Failed {
    use pasture::model::Error as M;
    let name = name.to_owned();
    let error = match error {
        Error::NoPooling { .. } => Error::NoPooling { name },
        Error::NoTokenizer { .. } => Error::NoTokenizer { name },
        other => other,
    };
    match &error {
        // It may name files and their folder.
        Error::Embedding(what) => {
            eprintln!("note: a model cannot embed: {what:?}");
            Failed::Asked("this model cannot embed: its files ask for something that is not known here".to_owned())
        }
        Error::NoPooling { .. } | Error::TextTooLong { .. } | Error::EmptyText { .. } | Error::NoTokenizer { .. } => {
            Failed::Asked(error.to_string())
        }
        Error::Model(M::Token { .. } | M::Context { .. } | M::NoHead) => Failed::Asked(error.to_string()),
        Error::Engine(pasture::engine::Error::EmptyPrompt) => Failed::Asked(error.to_string()),
        _ => Failed::Here(error.to_string()),
    }
}
