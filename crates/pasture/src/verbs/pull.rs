//! `pasture pull`: a model from the hub, or from an OCI registry, onto this machine.

use std::path::{Path, PathBuf};

use clap::Args;
use pasture_store::licence::Terms;
use pasture_store::pull::{self, Hub, Network, Plan};
use serde_json::json;

use super::fetch;
use super::lineage::terms_object;
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Settings};

/// Fetch a model from the hub, or go on with one
#[derive(Args)]
#[command(after_help = "\
A name is owner/name[@revision][:file-or-format] on the hub, an alias such as
llama3.2:1b, or oci:host/owner/name:tag in a registry (without a host, that of
Ollama). Only what the model needs is fetched, into the cache that other
programs share; what broke off goes on where it was; every byte is verified.

Examples:
  pasture pull owner/name
  pasture pull owner/name:Q8_0 --dry-run
  pasture pull gemma2:2b
  pasture pull owner/name --revision v1.0 --include \"*.json\"
  pasture pull oci:smollm:135m

Variables: HF_TOKEN, HF_TOKEN_PATH, HF_HOME, HF_HUB_CACHE, HF_ENDPOINT,
HF_HUB_OFFLINE, HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE.")]
pub struct Arguments {
    /// What to fetch
    name: String,
    /// A branch, tag or commit
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Exactly the files that are like this, where * stands for any letters; may be given several times
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Put a model of a registry into this folder instead of Ollama's
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
    /// Say what would be fetched, with sizes, and fetch nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON objects, one on a line
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let settings = Settings::resolve(program)?;
    settings.refuse_flag("pull", "here", "this verb always fetches; --dry-run does not")?;
    let decorated = output::decorated(settings.text("color")) && !arguments.json;
    let environment = pasture_store::Environment::current();
    let alias = pull::alias(&environment, &arguments.name)?;
    if let Some(image) = alias.as_deref().unwrap_or(&arguments.name).strip_prefix("oci:") {
        return pull_image(arguments, image, decorated);
    }
    if arguments.to.is_some() {
        let what = "`--to` has no effect here: what comes from the hub goes into its cache";
        return Err(Failure::new(Status::Usage, what).hint("HF_HUB_CACHE moves the cache".to_owned()));
    }
    let hub = Hub::new(&Network::current()?)?;
    let wish = pull::Wish { revision: arguments.revision.clone(), include: arguments.include.clone(), ..fetch::wish() };
    let plan = hub.plan(&arguments.name, &wish)?;
    tell(arguments, &plan)?;
    if arguments.dry_run {
        return Ok(());
    }
    match arguments.json {
        true => with_events(&hub, &plan)?,
        false => fetch::fetch(&hub, &plan, decorated)?,
    }
    let (name, folder) = (&plan.name, plan.folder.display().to_string());
    match arguments.json {
        true => output::json(&json!({"event": "done", "name": name, "folder": folder, "commit": plan.commit})),
        false => output::line(&format!("{name}  {folder}")),
    }
}

fn tell(arguments: &Arguments, plan: &Plan) -> Result<(), Failure> {
    if arguments.json {
        let files: Vec<_> = plan
            .files
            .iter()
            .map(|planned| {
                json!({"path": planned.file.path, "bytes": planned.file.bytes, "here_bytes": planned.here,
                       "digest": planned.file.checksum.digits()})
            })
            .collect();
        return output::json(&json!({"event": "plan", "name": plan.name, "repository": plan.repo,
            "revision": plan.revision, "commit": plan.commit, "why": plan.why, "license": plan.license,
            "terms": terms_object(&plan.terms), "gated": plan.gated, "bytes": plan.bytes(), "missing_bytes": plan.missing(), "files": files}));
    }
    eprintln!("{}", fetch::summary(plan));
    if arguments.dry_run {
        let width = plan.files.iter().map(|planned| planned.file.path.len()).max().unwrap_or(0);
        for planned in &plan.files {
            let here = match planned.here {
                0 => String::new(),
                here if here == planned.file.bytes => "  here".to_owned(),
                here => format!("  {} here", output::bytes(here)),
            };
            let size = output::bytes(planned.file.bytes);
            output::line(&format!("{:<width$}  {size:>10}{here}", planned.file.path))?;
        }
    }
    Ok(())
}

fn with_events(hub: &Hub, plan: &Plan) -> Result<(), Failure> {
    let mut told = fetch::Told::new(plan.bytes());
    let mut failed = None;
    hub.fetch(plan, &mut |file, step| {
        if let Err(failure) = told.step(file, step) {
            failed.get_or_insert(failure);
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// A model of a registry, or of a folder in the registry's layout.
fn pull_image(arguments: &Arguments, image: &str, decorated: bool) -> Result<(), Failure> {
    for (given, flag) in [
        (arguments.revision.is_some(), "--revision"),
        (!arguments.include.is_empty(), "--include"),
        (arguments.dry_run, "--dry-run"),
    ] {
        if given {
            let what = format!("`{flag}` has no effect on a model of a registry");
            return Err(Failure::new(Status::Usage, what).hint("a tag stands behind the name: oci:name:tag".to_owned()));
        }
    }
    let done = |name: &str, place: &Path, terms: &Terms| {
        if arguments.json {
            let terms = terms_object(terms);
            return output::json(&json!({"event": "done", "name": name, "path": place, "terms": terms}));
        }
        eprintln!("{}", terms.lines().join("\n"));
        output::line(&format!("{name}  {}", place.display()))
    };
    let folder = Path::new(image);
    if folder.is_dir() {
        let to = arguments.to.as_deref().ok_or_else(|| {
            let what = "a folder's model needs a place to go to";
            Failure::new(Status::Usage, what).hint("--to FOLDER names it".to_owned())
        })?;
        let place = pull::copy_image(folder, to)?;
        return done(image, &place, &pull::terms_of_image(&place)?);
    }
    let hub = Hub::new(&Network::current()?)?;
    let bar = fetch::bar(0, decorated);
    let (mut done_bytes, mut total) = (0, 0);
    let name = hub.fetch_image(image, arguments.to.as_deref(), &mut |layer, bytes, step| {
        if matches!(step, pull::Step::Begins(_)) {
            total += bytes;
            bar.set_length(total);
        }
        done_bytes += fetch::moved(step);
        fetch::show(&bar, layer.get(..19).unwrap_or(layer), step, done_bytes);
    });
    bar.finish_and_clear();
    let (name, manifest) = name?;
    let terms = pull::terms_of_image(&manifest)?;
    match &arguments.to {
        Some(to) => done(&name, to, &terms),
        None => done(&name, &pasture_store::resolve(&name)?.path, &terms),
    }
}
