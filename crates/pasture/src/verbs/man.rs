//! `pasture man`: manual pages, made from the same definitions as the help.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::exit::{Failure, Status};
use crate::output;

/// Print a manual page, or write all of them to a folder
#[derive(Args)]
#[command(after_help = "Examples:\n  pasture man chat > pasture-chat.1\n  pasture man --out man1")]
pub struct Arguments {
    /// The verb whose page is printed (default: the program's)
    verb: Option<String>,
    /// Write every page to this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "verb")]
    out: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    // `pasture help` has no flags; a page for each of its words would only hide the others.
    let mut command = crate::CommandLine::command().disable_help_subcommand(true);
    command.build();
    if let Some(folder) = &arguments.out {
        let cannot = |error| Failure::new(Status::CannotCreate, format!("cannot write pages to {folder:?}: {error}"));
        std::fs::create_dir_all(folder).map_err(cannot)?;
        return clap_mangen::generate_to(command, folder).map_err(cannot);
    }
    let page = match &arguments.verb {
        None => command,
        Some(verb) => command.find_subcommand(verb).cloned().ok_or_else(|| {
            Failure::new(Status::Usage, format!("there is no verb {verb:?}"))
                .hint("`pasture --help` lists all verbs".to_owned())
        })?,
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    output::print(&String::from_utf8_lossy(&text))
}
