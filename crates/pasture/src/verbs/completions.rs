//! `pasture completions`: a script that completes verbs and flags in a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::exit::Failure;
use crate::output;

/// Print completions for a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  pasture completions bash > ~/.local/share/bash-completion/completions/pasture
  source <(pasture completions bash)")]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::CommandLine::command(), "pasture", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
