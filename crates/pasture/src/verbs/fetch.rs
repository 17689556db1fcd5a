//! What verbs do with a model that is named and not here: say what would be fetched, fetch it where that is wanted, and
//! show how far it is. Only names that can be on the hub are asked for there.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pasture::lab::receipt::Memory;
use pasture_store::pull::{Hub, Listed, Network, Plan, Step, Wish};

use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Settings};

/// What the command line says that holds everywhere. Verbs find models in many places, and all do the same.
static PROGRAM: OnceLock<Given> = OnceLock::new();

/// How often a bar or an event moves.
const BEAT: Duration = Duration::from_millis(100);

/// Endings of files: a name with one of them is a path that is not there, and no name on the hub.
const FILES: [&str; 11] =
    [".gguf", ".safetensors", ".json", ".jsonl", ".bin", ".pt", ".pth", ".txt", ".toml", ".model", ".npz"];

/// Keeps what the command line says for [`missing`].
pub fn remember(program: &Given) {
    let _ = PROGRAM.set(program.clone());
}

/// The wish that this machine's memory makes.
pub fn wish() -> Wish {
    Wish { memory: Memory::Free.bytes(), ..Wish::default() }
}

/// Fetches a model that is not here, where the user wants that; else the failure says what would be fetched.
pub fn missing(name: &str, error: pasture_store::Error) -> Result<PathBuf, Failure> {
    use pasture_store::Error as E;
    let settings = Settings::resolve(PROGRAM.get().unwrap_or(&Given::default()))?;
    let policy = settings.text("pull").unwrap_or("terminal");
    let is_absent = matches!(error, E::NotFound { .. } | E::Unusable { .. });
    if policy == "never" || !is_absent || !is_remote(name)? {
        return Err(error.into());
    }
    let network = Network::current()?;
    if network.is_offline() {
        let why = "HF_HUB_OFFLINE is set, so nothing was looked for on the hub";
        return Err(Failure::from(error).hint(why.to_owned()));
    }
    let hub = Hub::new(&network)?;
    let plan = hub.plan(name, &wish())?;
    eprintln!("{}", summary(&plan));
    if policy != "auto" && !std::io::stderr().is_terminal() {
        let what = format!("{name:?} is not on this machine");
        let hint =
            format!("`pasture pull {name}` fetches it, and so does --pull here, or pull = \"auto\" in the settings");
        return Err(Failure::new(Status::NoInput, what).hint(hint));
    }
    fetch(&hub, &plan, output::decorated(settings.text("color")))?;
    Ok(pasture_store::resolve(&plan.name)?.path)
}

/// Whether a name can be on the hub: an alias, or an owner and a name that look like no path.
fn is_remote(name: &str) -> Result<bool, Failure> {
    let environment = pasture_store::Environment::current();
    if let Some(target) = pasture_store::pull::alias(&environment, name)? {
        return Ok(target.starts_with("hf:"));
    }
    if name.starts_with("hf:") {
        return Ok(true);
    }
    let path = name.split(['@', ':']).next().unwrap_or_default();
    let Some((owner, rest)) = path.split_once('/') else { return Ok(false) };
    let is_file = FILES.iter().any(|ending| path.ends_with(ending));
    Ok(!is_file && !rest.contains('/') && !owner.is_empty() && !rest.is_empty() && !Path::new(owner).exists())
}

/// What a plan is, in two lines, and on which terms it comes, in two more.
pub fn summary(plan: &Plan) -> String {
    let missing = plan.missing();
    let how_much = match missing {
        0 => "all of it is here".to_owned(),
        missing if missing < plan.bytes() => {
            format!("{}, {} of them to fetch", output::bytes(plan.bytes()), output::bytes(missing))
        }
        _ => output::bytes(plan.bytes()),
    };
    let gated = if plan.gated { "; gated" } else { "" };
    let files = output::counted(plan.files.len(), "file");
    let terms = plan.terms.lines().join("\n");
    format!("{} at {}: {}\n{files}, {how_much}{gated}\n{terms}", plan.repo, &plan.commit[..8], plan.why)
}

/// Fetches with a bar of bytes, rate and time left.
pub fn fetch(hub: &Hub, plan: &Plan, decorated: bool) -> Result<(), Failure> {
    let bar = bar(plan.bytes(), decorated);
    let mut done = 0;
    let result = hub.fetch(plan, &mut |file, step| {
        done += moved(step);
        show(&bar, &file.path, step, done);
    });
    bar.finish_and_clear();
    Ok(result?)
}

/// A bar of so many bytes.
pub fn bar(bytes: u64, decorated: bool) -> ProgressBar {
    let target = if decorated { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = "{msg:.cyan} {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(bytes), target).with_style(style)
}

/// Moves a bar.
pub fn show(bar: &ProgressBar, name: &str, step: Step, done: u64) {
    match step {
        Step::Begins(here) => {
            bar.set_message(name.to_owned());
            bar.set_position(done);
            // What was here before came at no rate.
            if here > 0 {
                bar.reset_eta();
            }
        }
        Step::Waits => bar.set_message(format!("another process fetches {name}, waiting")),
        Step::Compares => bar.set_message(format!("{name} is damaged, comparing with a second copy")),
        Step::Arrived(_) | Step::Done => bar.set_position(done),
    }
}

/// Bytes that a step adds to those that are here.
pub fn moved(step: Step) -> u64 {
    match step {
        Step::Begins(count) | Step::Arrived(count) => count,
        Step::Waits | Step::Compares | Step::Done => 0,
    }
}

/// Tells steps as JSON objects, bytes not more often than some times a second.
pub struct Told {
    last: Instant,
    done: u64,
    total: u64,
}

impl Told {
    /// Of so many bytes.
    pub fn new(total: u64) -> Told {
        Told { last: Instant::now(), done: 0, total }
    }

    /// Tells one step of a file.
    pub fn step(&mut self, file: &Listed, step: Step) -> Result<(), Failure> {
        self.done += moved(step);
        let event = match step {
            Step::Begins(_) => "begins",
            Step::Waits => "waits",
            Step::Compares => "compares",
            Step::Done => "file",
            Step::Arrived(_) if self.last.elapsed() < BEAT => return Ok(()),
            Step::Arrived(_) => "bytes",
        };
        self.last = Instant::now();
        output::json(&serde_json::json!({"event": event, "file": file.path, "file_bytes": file.bytes,
                                         "done_bytes": self.done, "total_bytes": self.total}))
    }
}
