//! The project's chores as one command: `cargo xtask check | tidy | golden | agree | families | bench | fuzz | planned | soak`.
//! Only reads arguments and starts things; the rules of the house live in `tidy`. Builds in seconds, needs no heavy crate.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use xtask::{agree, bench, check, chores, planned, soak, tidy};

const USAGE: &str = "\
usage: cargo xtask <chore>

  check                            format, lints, rules of the house, all tests: what has to be green
  tidy                             only the rules of the house (ARCHITECTURE.md), in under three seconds
  golden --kit DIR [--only GLOB]   every golden case of a folder with the kit's layout
  families                         writes docs/families.md anew from the pages of the families
  agree --kit DIR [--python PYTHON] [--adapters]
                                   our GGUF files in llama.cpp (a Python with llama-cpp-python), or adapters in peft
  agree --divergence TEXT --model FILE... [--python PYTHON] [--program PATH]
                                   what activations of 8 bits change in ours and in llama.cpp, against f32
  bench --against llama.cpp|torch [--peer PATH] --model FILE... [--prompt N] [--tokens N] [--depth N,...]
        [--sequences N,...] [--threads N] [--runs N] [--program PATH] [--write docs/performance.md]
                                   speed beside a peer's, in turns (llama.cpp: the folder of llama-bench; torch: a Python)
  bench --train MODEL --peer PYTHON [--runs N] [--steps N]
                                   steps of LoRA beside torch's and peft's
  fuzz [--debug] [--seconds N] [TARGET]     every reader against broken input, 60 seconds each by default
  planned [--release | --program PATH] [--threads N] [--runs N] MODEL...
                                    what `plan` says of models beside what `bench` measures
  soak [--release | --program PATH] [--seconds N] [--requests N] [--steady N] [--probes N] [PART]
                                   a server under too many clients, and clients that leave, send slowly, do not read
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let chore = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let outcome = match (chore.as_str(), rest.is_empty()) {
        ("check", true) => check::run(),
        ("tidy", true) => tidy::run(),
        ("golden", _) => chores::golden(&rest),
        ("families", true) => chores::families(),
        ("agree", _) => agree::run(&rest),
        ("bench", _) => bench::run(&rest),
        ("fuzz", _) => chores::fuzz(&rest),
        ("planned", _) => planned::run(&rest),
        ("soak", _) => soak::run(&rest),
        ("help" | "--help" | "-h", _) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
