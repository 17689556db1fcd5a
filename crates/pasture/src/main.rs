//! The program `pasture`: parses the command line and hands each verb to its file. No work is done here.

#![forbid(unsafe_code)]

mod exit;
mod output;
mod settings;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

/// What follows the list of verbs in `pasture --help`.
const AFTER: &str = "\
Examples:
  pasture chat                  talk with the starter, a tiny model inside
  pasture chat my-model.gguf    a file, a folder, or a name from `pasture list`
  pasture show my-model.gguf    what it is and what it needs
  pasture generate my-model.gguf \"Once upon a time\" --temperature 0

Settings: each flag below a heading is also a variable (--top-k is
PASTURE_TOP_K) and a key of pasture.toml (top_k); `pasture config` shows them.

Exit status: 0 done, 1 failed, 2 wrong usage, 65 bad data, 66 no such model or
file, 69 not available here, 70 a mistake of ours, 73 cannot create a file,
74 input or output failed, 78 a wrong setting, 130 Ctrl-C.";

#[derive(Parser)]
#[command(name = "pasture", version, about = "Copy, modify and reuse open-weight AI models", after_help = AFTER)]
#[command(max_term_width = 100)]
struct CommandLine {
    #[command(flatten)]
    program: settings::ProgramFlags,
    #[command(subcommand)]
    verb: verbs::Verb,
}

fn main() -> ExitCode {
    exit::tell_panics();
    pasture_files::mmap::end_where_a_file_is_cut();
    let line = CommandLine::parse();
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| verbs::run(line.verb, &line.program.0))) {
        Ok(result) => exit::report(result),
        // The hook has said what happened.
        Err(panic) => ExitCode::from(exit::of_panic(&*panic) as u8),
    }
}
