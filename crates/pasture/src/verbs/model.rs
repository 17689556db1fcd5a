//! What verbs share: finding a model by its name, opening and loading it with the settings, texts and token ids from the
//! command line. A verb's own work stands in its own file.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pasture::engine::Speculation;
use pasture::{Device, Draft, LoadOptions, Model, Prepare};
use pasture_files::Tensors;
use pasture_files::error::file_name;
use pasture_files::prompt::Prompt;
use pasture_files::size::Size;
use pasture_files::tokenizer::Tokenizer;
use pasture_model::families;
use pasture_model::spec::{MixerSpec, Spec};
use pasture_model::{Source, UnknownKeys};
use pasture_store::assistant::{FILE, folder_of};
use pasture_store::verify::{self, Accept, Verdict};
use pasture_store::{Assistant, Environment, Ledger, Origin as Whose, bundle};
use pasture_tensor::Precision;

use crate::exit::{Failure, Status, of_io};
use crate::output;
use crate::settings::{Given, Origin, Settings};

pub use super::hollow::{check, hollow, hollow_mixture};

/// Longest text that is read from a file or a pipe.
const TEXT_BYTES_MAX: u64 = 1 << 30;

/// A loaded model with the settings in force.
pub struct Opened {
    /// The model.
    pub model: Model,
    /// The settings.
    pub settings: Settings,
    /// Where it is.
    pub place: Place,
    /// The assistant that it is the base of, where the name is one's.
    pub assistant: Option<Assistant>,
    /// From opening its files to an engine that takes requests.
    pub load_time: Duration,
}

/// What a name means.
pub enum Place {
    /// The small model inside the program.
    Starter,
    /// A file or folder.
    At(PathBuf),
}

/// The name of the model inside the program, where nothing else has it.
pub const STARTER: &str = "starter";

/// What a name means; no name is the starter's.
pub fn place(name: Option<&str>) -> Result<Place, Failure> {
    let Some(name) = name else { return Ok(Place::Starter) };
    let is_assistant = || {
        let what = format!("{name:?} is an assistant, and this verb takes a model");
        Err(Failure::new(Status::Usage, what).hint(format!("`pasture show {name}` tells its base")))
    };
    if bundle::is_bundle(Path::new(name)) {
        let work = super::unbundle::opened(Path::new(name))?;
        return if work.folder.join(FILE).is_file() { is_assistant() } else { Ok(Place::At(work.opens)) };
    }
    match pasture_store::resolve(name) {
        Ok(found) if found.origin == Whose::Assistant || folder_of(&found).is_some() => is_assistant(),
        Ok(found) => {
            let idle: Vec<&str> =
                found.layers.iter().map(|layer| layer.kind.as_str()).filter(|kind| *kind != "license").collect();
            if !idle.is_empty() {
                note(format!("what Ollama adds to {name:?} has no effect here: {}", idle.join(", ")));
            }
            Ok(Place::At(found.path))
        }
        Err(pasture_store::Error::NotFound { .. }) if name == STARTER => Ok(Place::Starter),
        Err(error) => super::fetch::missing(name, error).map(Place::At),
    }
}

/// Says something once, although a verb may look a name up several times.
fn note(text: String) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.contains(&text) {
        eprintln!("note: {text}");
        said.insert(text);
    }
}

/// Loads a model, the starter if none is named.
pub fn open(name: Option<&str>, given: &Given, exact: bool, strict: bool) -> Result<Opened, Failure> {
    open_for(name, given, exact, strict, None)
}

/// How a server's models run.
#[derive(Clone)]
pub struct Crowd {
    /// Answers that are made at once.
    pub running: usize,
    /// Bytes that keys and values of one model may take.
    pub kv_bytes: u64,
    /// The processor that all share.
    pub device: Device,
    /// What proposes tokens for them.
    pub draft: Option<Draft>,
}

/// Loads a model that answers many at once, where a crowd is given.
pub fn open_for(
    name: Option<&str>,
    given: &Given,
    exact: bool,
    strict: bool,
    crowd: Option<&Crowd>,
) -> Result<Opened, Failure> {
    open_so(name, given, exact, strict, &mut |_, options| {
        if let Some(Crowd { running, kv_bytes, device, draft }) = crowd {
            options.running = Some(*running);
            options.kv_bytes = Some(*kv_bytes);
            options.device = Some(device.clone());
            options.draft = draft.clone();
        }
        Ok(())
    })
}

/// Loads a model after `adapt` has seen what its files say and changed how it is loaded.
pub fn open_so(
    name: Option<&str>,
    given: &Given,
    exact: bool,
    strict: bool,
    adapt: &mut dyn FnMut(&Source, &mut LoadOptions) -> Result<(), Failure>,
) -> Result<Opened, Failure> {
    let mut settings = Settings::resolve(given)?;
    let assistant = assistant(name)?;
    if let (Some(assistant), Some(name)) = (&assistant, name) {
        settings.add_assistant(name, assistant);
    }
    let base = assistant.as_ref().map(|assistant| assistant.base.as_str()).or(name);
    let mut options = options(&settings, exact, strict);
    let place = place(base)?;
    if let Place::At(_) = &place {
        unchanged(base.unwrap_or(STARTER), &settings)?;
    }
    let begun = Instant::now();
    let source = source_at(&place)?;
    expert_cache(&settings, &source, &mut options)?;
    if options.files.expert_cache.is_some() {
        settings.refuse_flag("prepare", "with `--expert-cache`", "experts that stay on disk are not packed")?;
    }
    adapt(&source, &mut options)?;
    let (name_shown, is_file) = match &place {
        Place::Starter => (STARTER, false),
        Place::At(_) => (name.unwrap_or(STARTER), true),
    };
    let bar = bar(name_shown, is_file && output::decorated(settings.text("color")));
    let model = Model::from_source(name_shown, &source, &options, &mut |done, total| advance(&bar, done, total));
    bar.finish_and_clear();
    let (model, load_time) = (model?, begun.elapsed());
    if let Some(what) = model.unprepared() {
        let again = "`pasture prepare` writes them anew";
        eprintln!("note: its packed weights are not used: {what}; {again}");
    }
    for key in &model.report().unknown {
        eprintln!("note: configuration key {key:?} has no effect: no page knows it");
    }
    let model = match (&assistant, name) {
        (Some(assistant), Some(name)) => model.with_assistant(name, assistant)?,
        _ => model,
    };
    Ok(Opened { model, settings, place, assistant, load_time })
}

/// The assistant of that name, made of what it was made of; none where the name is a model's.
pub fn assistant(name: Option<&str>) -> Result<Option<Assistant>, Failure> {
    let Some(name) = name else { return Ok(None) };
    let found = match bundle::is_bundle(Path::new(name)) {
        true => {
            let work = super::unbundle::opened(Path::new(name))?;
            Assistant::in_folder(&work.folder, &pasture::check_assistant_setting)?
        }
        false => {
            here(name)?;
            pasture::find_assistant(name)?
        }
    };
    let what = found.as_ref().map(Assistant::changed).unwrap_or_default().join("; ");
    match what.is_empty() {
        true => Ok(found),
        false => Err(pasture::Error::Changed { name: name.to_owned(), what }.into()),
    }
}

/// Fetches what is not here, where the user wants that: only its files tell whether it is an assistant.
fn here(name: &str) -> Result<(), Failure> {
    match pasture_store::resolve(name) {
        Err(error @ (pasture_store::Error::NotFound { .. } | pasture_store::Error::Unusable { .. }))
            if name != STARTER =>
        {
            super::fetch::missing(name, error).map(drop)
        }
        // Whatever else is wrong is told by whoever opens it.
        _ => Ok(()),
    }
}

/// A word where texts are taken as they are, without what an assistant puts before conversations.
pub fn tell_idle(assistant: Option<&Assistant>) {
    let Some(assistant) = assistant else { return };
    let parts = [
        ("system prompt", assistant.system.is_some()),
        ("documents", !assistant.documents.is_empty()),
        ("examples", !assistant.messages.is_empty()),
        ("tools", !assistant.tools.is_empty()),
    ];
    let idle: Vec<&str> = parts.iter().filter(|part| part.1).map(|part| part.0).collect();
    if !idle.is_empty() {
        eprintln!("note: texts are taken as they are, so that the assistant's {} has no part in it", idle.join(", "));
    }
}

/// Files that look otherwise than when their digest was noted, and files of caches that nobody has compared with theirs
/// yet, are read in full before they are loaded; one that is damaged is an error. Comparing their looks costs nothing, so
/// that a model that nobody touched loads as fast as ever.
pub fn unchanged(name: &str, settings: &Settings) -> Result<(), Failure> {
    let environment = Environment::current();
    // What was just unpacked has no name in the store.
    let Ok(found) = pasture_store::resolve(name) else { return Ok(()) };
    let targets = match verify::changed(&environment, &found) {
        Ok(targets) => targets,
        Err(error) => {
            eprintln!("note: files are not compared with their digests: {error}");
            return Ok(());
        }
    };
    if targets.is_empty() {
        return Ok(());
    }
    // Without a ledger nothing can be noted, and every start would read everything.
    if let Err(error) = Ledger::open_in(&environment) {
        eprintln!("note: files are not compared with their digests: {error}");
        return Ok(());
    }
    let verdicts = super::verify::read(&environment, &targets, Accept::No, name, settings)?;
    for (target, verdict) in targets.iter().zip(verdicts) {
        let path = target.path.display();
        match verdict {
            Verdict::Damaged(what) | Verdict::Lost(what) => {
                let hint = "`pasture verify` looks at everything; get the model again";
                return Err(Failure::new(Status::Data, format!("{path} is damaged: {what}")).hint(hint.to_owned()));
            }
            Verdict::Changed => {
                eprintln!("note: somebody wrote {path} since its digest was noted; `pasture verify {name} --accept`");
            }
            Verdict::Good | Verdict::Noted => {}
        }
    }
    Ok(())
}

/// A cache of experts is for mixtures: the loader refuses it elsewhere, but files and variables speak of every model.
fn expert_cache(settings: &Settings, source: &Source, options: &mut LoadOptions) -> Result<(), Failure> {
    let is_flag = matches!(settings.get("expert_cache"), Some((_, Origin::Flag)));
    if settings.get("expert_cache").is_some() && (is_flag || mixes(&families::blueprint(&source.config)?.spec)) {
        options.files.expert_cache = settings.bytes("expert_cache");
    }
    Ok(())
}

/// Whether a model has experts.
pub fn mixes(spec: &Spec) -> bool {
    spec.layers.iter().flatten().any(|branch| matches!(branch.mixer, MixerSpec::Experts(_)))
}

fn options(settings: &Settings, exact: bool, strict: bool) -> LoadOptions {
    LoadOptions {
        threads: settings.whole("threads"),
        precision: if exact { Precision::Exact } else { Precision::Fast },
        context: settings.whole("context"),
        kv: settings.kv_type(),
        chunk: settings.whole("chunk"),
        speculation: match settings.text("speculate") {
            Some("off") => Speculation::Off,
            _ => Speculation::WhereItPays,
        },
        prepare: match settings.text("prepare") {
            Some("off") => Prepare::Off,
            Some("auto") => Prepare::Auto,
            _ => Prepare::Use,
        },
        files: file_options(strict),
        ..LoadOptions::default()
    }
}

/// A model with the adapters of the command line beside its weights.
pub fn adapted(model: Model, flags: &crate::settings::AdapterFlags) -> Result<Model, Failure> {
    if flags.adapters.is_empty() {
        return Ok(model);
    }
    if model.has_adapter() {
        let what = "`--adapter` would take the place of the assistant's own adapters; name its base instead";
        return Err(Failure::new(Status::Usage, what));
    }
    let one = |text: &String| {
        let (folder, weight) = match text.rsplit_once('=') {
            Some((folder, weight)) if !Path::new(text).exists() => (folder, weight.parse::<f32>()),
            _ => (text.as_str(), Ok(1.0)),
        };
        let wrong = || Failure::new(Status::Usage, format!("`--adapter` {text:?}: what stands behind = is no number"));
        let weight = weight.ok().filter(|weight| weight.is_finite()).ok_or_else(wrong)?;
        Ok((pasture::Adapter::load(folder, &model)?, weight))
    };
    let adapters: Vec<_> = flags.adapters.iter().map(one).collect::<Result<_, Failure>>()?;
    Ok(model.with_all(&adapters)?)
}

/// How files are read.
pub fn file_options(strict: bool) -> pasture_model::LoadOptions {
    let unknown = if strict { UnknownKeys::Refuse } else { UnknownKeys::Report };
    pasture_model::LoadOptions { unknown, ..pasture_model::LoadOptions::default() }
}

/// A bar of the bytes of a model that is read.
pub fn bar(name: &str, decorated: bool) -> ProgressBar {
    progress("loading", name, decorated)
}

/// A bar of bytes; hidden where decoration is not wanted.
pub fn progress(what: &str, name: &str, decorated: bool) -> ProgressBar {
    let target = if decorated { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template(&format!("{what} {{msg}} {{bar:30}} {{bytes}}/{{total_bytes}} {{eta}}"));
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(0), target).with_style(style).with_message(name.to_owned())
}

/// Moves a bar.
pub fn advance(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}

/// Opens a model's files without reading weights; the starter if none is named.
pub fn source(name: Option<&str>) -> Result<Source, Failure> {
    source_at(&place(name)?)
}

pub fn source_at(place: &Place) -> Result<Source, Failure> {
    match place {
        Place::At(path) => Ok(Source::open(path)?),
        Place::Starter => Ok(Model::starter_source()?),
    }
}

/// Opens tensors, whatever they belong to.
pub fn tensors(name: Option<&str>) -> Result<Tensors, Failure> {
    match place(name)? {
        Place::At(path) => Ok(Tensors::open(&path)?),
        Place::Starter => Ok(Model::starter_source()?.tensors),
    }
}

/// The tokenizer of a model, or of a tokenizer file.
pub fn tokenizer(name: &str) -> Result<Tokenizer, Failure> {
    match place(Some(name))? {
        Place::At(path) => Ok(Tokenizer::open(path)?),
        Place::Starter => {
            let prompt = prompt(&Place::Starter)?;
            Ok(prompt.tokenizer().cloned().ok_or(pasture_files::prompt::Error::NoTokenizer)?)
        }
    }
}

/// The prompt object of a model's file or folder. Where the configuration names a family, that family's own template
/// stands in for a missing one; files without weights or configuration have none.
pub fn prompt(place: &Place) -> Result<Prompt, Failure> {
    let source = source_at(place).ok();
    let found = source.and_then(|source| Some((families::find(&source.config).ok()?, source)));
    match (found, place) {
        (Some((family, source)), _) => Ok(pasture::prompt_of(&source, family)?),
        (None, Place::At(path)) => Ok(Prompt::open(path, None)?),
        (None, Place::Starter) => unreachable!("the starter's family is known"),
    }
}

/// Entries of a model's vocabulary.
pub fn vocabulary(name: &str) -> Result<u32, Failure> {
    let source = source(Some(name))?;
    let vocab = families::blueprint(&source.config)?.spec.vocab;
    Ok(u32::try_from(vocab).unwrap_or(u32::MAX))
}

/// A text on the command line. One that looks like a flag is a slip of the fingers, unless `--` stands before it.
pub fn text_argument(text: &str) -> Result<String, String> {
    let word = text.trim_start_matches('-').split('=').next().unwrap_or_default();
    let named = word.starts_with(|first: char| first.is_ascii_alphabetic())
        && word.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    let is_flag = text.starts_with("--") && !text.starts_with("---") && named;
    if is_flag && !std::env::args().any(|argument| argument == "--") {
        return Err("there is no such flag here; where it is the text, write -- before it".to_owned());
    }
    Ok(text.to_owned())
}

/// Refuses early what could not be written later.
pub fn can_hold(file: &Path) -> Result<(), Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        Some(folder) if !folder.is_dir() => {
            let what = format!("cannot write {:?}: there is no folder {folder:?}", file_name(file));
            Err(Failure::new(Status::CannotCreate, what))
        }
        _ if file.is_dir() => Err(Failure::new(Status::CannotCreate, format!("cannot write {file:?}: it is a folder"))),
        _ => Ok(()),
    }
}

/// A text from the command line, a file, or standard input.
pub fn text(text: Option<&str>, file: Option<&Path>) -> Result<String, Failure> {
    let bytes = match (text, file) {
        (Some(text), _) => return Ok(text.to_owned()),
        (None, Some(file)) => pasture_files::folder::read_file(file, Size::new(TEXT_BYTES_MAX))?,
        (None, None) => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().take(TEXT_BYTES_MAX).read_to_end(&mut bytes);
            read.map_err(|error| Failure::new(of_io(&error), format!("cannot read standard input: {error}")))?;
            bytes
        }
    };
    let place = file.map_or_else(|| "standard input".to_owned(), |file| format!("{file:?}"));
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(Status::Data, format!("{place} is not UTF-8: byte {at} begins no character"))
    })
}

/// Token ids between commas.
pub fn ids(text: &str) -> Result<Vec<u32>, Failure> {
    let wrong = |part: &str| Failure::new(Status::Usage, format!("`--ids` needs numbers between commas, not {part:?}"));
    let ids = text.split(',').map(|part| part.trim().parse().map_err(|_| wrong(part)));
    ids.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_looks_like_a_flag_is_refused() {
        for text in ["--jsn", "--top-p=0.5", "--ids"] {
            assert!(text_argument(text).is_err(), "{text:?}");
        }
        for text in ["-", "--", "---", "- one", "--no such flag", "-5", "--5", "a --json", ""] {
            assert_eq!(text_argument(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn ids_are_numbers_between_commas() {
        assert_eq!(ids("1, 2,3").expect("good ids"), [1, 2, 3]);
        for wrong in ["", "1,", "1,a", "-1", "4294967296"] {
            assert_eq!(ids(wrong).expect_err(wrong).status, Status::Usage);
        }
    }
}
