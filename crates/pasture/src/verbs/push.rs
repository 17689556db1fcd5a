//! `pasture push`: a model, adapter or assistant to a hub, or into a folder that a static server can be a hub with. How
//! it travels is in `pasture-store`.

use std::path::Path;

use clap::Args;
use pasture_store::Content;
use pasture_store::licence::Licence;
use pasture_store::pull::Network;
use pasture_store::push::{self, File, Push, Pushed, Step, Target, Visibility};
use serde_json::json;

use super::lineage;
use super::model::{self, Place};
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Settings};

/// Pass a model, adapter or assistant on: to a hub, or into a folder
#[derive(Args)]
#[command(after_help = "\
A repository that is made for it is private unless --public is given. Files that
the repository has already are not sent again, so that a push that broke off
goes on where it was. HF_ENDPOINT is the hub (another Pasture, by
`pasture serve --registry`), HF_TOKEN the token, which goes to that hub alone.

Examples:
  pasture push my-model hf:me/my-model --dry-run
  pasture push pirate hf:me/pirate --public -m \"Arr\"
  pasture push my-model /srv/models --as me/my-model")]
pub struct Arguments {
    /// A file, a folder, an assistant, or a name from a cache
    model: String,
    /// hf:owner/name, or a folder
    target: String,
    /// The name in a folder (default: local/ and the model's own)
    #[arg(long = "as", value_name = "OWNER/NAME")]
    name: Option<String>,
    /// A repository that is made is open to everybody
    #[arg(long)]
    public: bool,
    /// The commit's message
    #[arg(short, long, value_name = "TEXT", default_value = "Push by Pasture")]
    message: String,
    /// List what would go, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let settings = Settings::resolve(program)?;
    let target = push::target(&arguments.target)?;
    let repo = match (&target, &arguments.name) {
        (Target::Hub(_), Some(_)) => {
            return Err(Failure::new(Status::Usage, "`--as` is for a folder; hf:owner/name says the name itself"));
        }
        (Target::Hub(repo), None) => repo.clone(),
        (Target::Folder(_), Some(name)) => push::repository(name)?,
        (Target::Folder(_), None) => push::repository(&format!("local/{}", lineage::short_name(&arguments.model)?))?,
    };
    let visibility = if arguments.public { Visibility::Public } else { Visibility::Private };
    let files = files(&arguments.model, &repo)?;
    let licences = licences(&arguments.model, &repo)?;
    let push = Push { repo, visibility, message: arguments.message.clone(), files, licences };
    push.check_name()?;
    if arguments.dry_run {
        return listed(&push, arguments);
    }
    let total: u64 = push.files.iter().map(|file| file.bytes).sum();
    let bar = model::progress("pushing", &push.repo, output::decorated(settings.text("color")));
    let size = |path: &str| push.files.iter().find(|file| file.path == path).map_or(0, |file| file.bytes);
    let mut done = 0;
    let mut watch = |step: Step<'_>| {
        match step {
            Step::Reads(_) => {}
            Step::Sent(_, bytes) => done += bytes,
            Step::There(path) => done += size(path),
        }
        model::advance(&bar, done, total);
    };
    let pushed = match &target {
        Target::Hub(_) => push::to_hub(&Network::current()?, &push, &mut watch),
        Target::Folder(folder) => push::into_folder(folder, &push, &mut watch),
    };
    bar.finish_and_clear();
    told(&pushed?, &push, arguments.json)
}

/// The files of what the name means, with a card where they have none.
fn files(name: &str, repo: &str) -> Result<Vec<File>, Failure> {
    let assistant = model::assistant(Some(name))?;
    let base = assistant.as_ref().map_or(name, |assistant| assistant.base.as_str());
    let mut files = match model::place(Some(base))? {
        Place::At(path) => push::files_of(&path)?,
        Place::Starter => vec![File::of("starter.gguf", pasture::Model::starter_bytes())],
    };
    if files.is_empty() {
        return Err(Failure::new(Status::NoInput, format!("{name:?} has no files to push")));
    }
    if let Some(assistant) = &assistant {
        let weights = files.first().map(|file| file.path.clone()).unwrap_or_default();
        let single = weights.ends_with(".gguf").then_some(weights.as_str());
        files = push::files_of_assistant(assistant, files, single)?;
    }
    let has = |start: &str| files.iter().any(|file| file.path.to_uppercase().starts_with(start));
    let licence = assistant.as_ref().and_then(|assistant| assistant.license.clone());
    let text = licence.as_ref().filter(|text| text.contains('\n') && !has("LICENSE"));
    let text = text.map(|text| File::of("LICENSE", text.as_bytes()));
    let card = (!has("README.MD")).then(|| File::of("README.md", card(repo, licence.as_deref())));
    files.extend(text.into_iter().chain(card));
    Ok(files)
}

/// Licences of what the name means and of whatever that was made from. A copy under its own name is made from nothing.
fn licences(name: &str, repo: &str) -> Result<Vec<&'static Licence>, Failure> {
    let assistant = model::assistant(Some(name))?;
    let Some(assistant) = assistant else {
        let found = lineage::of(&model::place(Some(name))?)?;
        let last = |text: &str| text.rsplit('/').next().map(str::to_owned);
        let origin = found.work().origin.as_deref().and_then(last);
        let copy = found.works().len() == 1 && origin.is_some() && origin == last(repo);
        return Ok(if copy { Vec::new() } else { found.terms().licences });
    };
    Ok(lineage::terms_of_assistant(&assistant)?.licences)
}

/// The least that a card says.
fn card(repo: &str, licence: Option<&str>) -> String {
    let name = repo.rsplit('/').next().unwrap_or(repo);
    let short = licence.filter(|licence| licence.len() < 64 && licence.chars().all(|letter| letter.is_ascii_graphic()));
    let line = short.map(|licence| format!("license: {licence}\n")).unwrap_or_default();
    format!("---\n{line}library_name: pasture\npipeline_tag: text-generation\n---\n\n# {name}\n")
}

fn listed(push: &Push, arguments: &Arguments) -> Result<(), Failure> {
    let total: u64 = push.files.iter().map(|file| file.bytes).sum();
    if arguments.json {
        let rows = push.files.iter().map(|file| json!({"path": file.path, "bytes": file.bytes})).collect::<Vec<_>>();
        return output::json(&json!({"target": arguments.target, "repo": push.repo, "dry_run": true, "files": rows,
                                    "bytes": total, "private": push.visibility == Visibility::Private}));
    }
    for file in &push.files {
        let made = if matches!(file.content, Content::Bytes(_)) { "  (made here)" } else { "" };
        output::line(&format!("{:>10}  {}{made}", output::bytes(file.bytes), file.path))?;
    }
    let seen = if push.visibility == Visibility::Private { "private" } else { "public" };
    output::line(&format!(
        "{:>10}  in {} to {}, {seen}",
        output::bytes(total),
        output::counted(push.files.len(), "file"),
        push.repo
    ))
}

fn told(pushed: &Pushed, push: &Push, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return output::json(
            &json!({"repo": push.repo, "url": pushed.url, "commit": pushed.commit, "sent": pushed.sent,
                                    "there": pushed.there, "large_bytes_sent": pushed.bytes}),
        );
    }
    let there = match pushed.there.len() {
        0 => String::new(),
        count => format!(", {} there already", output::counted(count, "file")),
    };
    output::line(&format!("pushed {} to {}{there}", output::counted(pushed.sent.len(), "file"), pushed.url))?;
    if Path::new(&pushed.url).is_dir() {
        eprintln!("HF_ENDPOINT of a server of that folder pulls it: pasture pull {}", push.repo);
    }
    Ok(())
}
