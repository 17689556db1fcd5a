//! `pasture prepare`: writes a model's packed weights into a file of the cache, from which it starts faster; lists and
//! removes such files.

use clap::Args;
use pasture::Device;
use pasture_kernels::Kernels;
use pasture_store::packed::{self, Kept};
use pasture_store::{Environment, resolve};
use serde_json::json;

use super::model::{self, Place, STARTER};
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Settings};

/// Write a model's packed weights once, so that it starts faster
#[derive(Args)]
#[command(after_help = "\
The file has about the size of the weights and stands in Pasture's cache; it is
used from then on by whatever loads the model, and several processes share it.
It may be removed at any time. `--prepare auto` of the verbs that run a model
writes it too, `--prepare off` leaves it aside. Of a model that is prepared
already every byte is compared, and the file is written again where one differs.

Examples:
  pasture prepare my-model.gguf
  pasture prepare --list
  pasture prepare --remove my-model.gguf
  pasture prepare --remove --all")]
pub struct Arguments {
    /// Files, folders, or names from `pasture list`
    #[arg(value_name = "MODEL", required_unless_present_any = ["list", "all"])]
    models: Vec<String>,
    /// Show what is prepared
    #[arg(long, conflicts_with_all = ["models", "remove"])]
    list: bool,
    /// Remove packed weights; the models stay
    #[arg(long)]
    remove: bool,
    /// All that is prepared
    #[arg(long, requires = "remove", conflicts_with = "models")]
    all: bool,
    /// Print JSON objects, one for each model; with --list one for all
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let settings = Settings::resolve(program)?;
    let environment = Environment::current();
    match (arguments.list, arguments.remove) {
        (true, _) => list(&environment, arguments.json),
        (_, true) => remove(&environment, arguments),
        _ => arguments.models.iter().try_for_each(|name| write(name, arguments, &settings)),
    }
}

fn write(name: &str, arguments: &Arguments, settings: &Settings) -> Result<(), Failure> {
    let place = model::place(Some(name))?;
    if let Place::At(_) = &place {
        model::unchanged(name, settings)?;
    }
    let source = model::source_at(&place)?;
    let bar = model::progress("preparing", name, output::decorated(settings.text("color")) && !arguments.json);
    let files = model::file_options(false);
    let made = pasture::prepare(name, &source, &Device::new(settings.whole("threads")), &files, &mut |done, total| {
        model::advance(&bar, done, total);
    });
    bar.finish_and_clear();
    let made = made?;
    if arguments.json {
        return output::json(&json!({
            "model": name, "path": made.path, "bytes": made.bytes, "written": made.is_new,
        }));
    }
    let what = if made.is_new { "prepared" } else { "already prepared" };
    output::line(&format!("{name}: {what}, {} in {}", output::bytes(made.bytes), made.path.display()))
}

/// Whether a file is of use: ready, of a model that changed or is gone, for another processor, or damaged.
fn state(kept: &Kept) -> &'static str {
    match &kept.made_of {
        Err(_) => "damaged",
        Ok(_) if !kept.is_current() => "outdated",
        Ok(origin) if origin.layout != pasture_model::packed_layout(Kernels::get()) => "for other kernels",
        Ok(_) => "ready",
    }
}

fn name_of(kept: &Kept) -> &str {
    kept.made_of.as_ref().map_or("", |origin| origin.name.as_str())
}

fn list(environment: &Environment, as_json: bool) -> Result<(), Failure> {
    let found = packed::list(environment);
    let bytes: u64 = found.iter().map(|kept| kept.bytes).sum();
    if as_json {
        let rows: Vec<_> = found
            .iter()
            .map(|kept| json!({"model": name_of(kept), "state": state(kept), "bytes": kept.bytes, "path": kept.path}))
            .collect();
        return output::json(&json!({"bytes": bytes, "prepared": rows}));
    }
    for kept in &found {
        let size = output::bytes(kept.bytes);
        output::line(&format!("{size:>10}  {:<17}  {}  {}", state(kept), name_of(kept), kept.path.display()))?;
    }
    output::line(&format!("{:>10}  in all", output::bytes(bytes)))
}

fn remove(environment: &Environment, arguments: &Arguments) -> Result<(), Failure> {
    let all = packed::list(environment);
    if arguments.all {
        return removed(environment, "all", &all, arguments.json);
    }
    for name in &arguments.models {
        // The model may be gone: then its packed weights still have the name that it had.
        let source = resolve(name).ok().and_then(|found| source_of(&found.path).ok());
        let is_meant = |kept: &Kept| match &kept.made_of {
            Ok(origin) => Some(&origin.source) == source.as_ref() || origin.name == *name,
            Err(_) => false,
        };
        let found: Vec<Kept> = all.iter().filter(|kept| is_meant(kept)).cloned().collect();
        if found.is_empty() {
            let what = if name == STARTER { "the starter needs none" } else { "`pasture prepare --list` shows all" };
            return Err(Failure::new(Status::NoInput, format!("{name:?} is not prepared")).hint(what.to_owned()));
        }
        removed(environment, name, &found, arguments.json)?;
    }
    Ok(())
}

fn source_of(path: &std::path::Path) -> Result<String, Failure> {
    Ok(packed::source_of(&pasture_model::Source::open(path)?.files()?)?)
}

fn removed(environment: &Environment, name: &str, found: &[Kept], as_json: bool) -> Result<(), Failure> {
    if !found.is_empty() {
        let held = packed::hold(environment)?;
        found.iter().try_for_each(|kept| packed::remove(&held, &kept.path))?;
    }
    let bytes: u64 = found.iter().map(|kept| kept.bytes).sum();
    match as_json {
        true => output::json(&json!({"model": name, "removed": found.len(), "bytes_freed": bytes})),
        false => output::line(&format!(
            "{name}: {} removed, frees {}",
            output::counted(found.len(), "file"),
            output::bytes(bytes)
        )),
    }
}
