//! `cargo xtask soak`: a server under load for minutes, beside what it must keep: too many clients, clients that leave,
//! that send slowly, that do not read, that ask what others asked. By hand; prints figures, and fails where one is worse than it may be.

mod client;
mod isolation;
mod parts;
mod server;
mod steady;

use anyhow::{Context as _, Result, bail};

use crate::built;
use server::Serving;

/// How long and how much.
pub struct Size {
    /// Seconds of too many clients.
    pub seconds: u64,
    /// Requests of which many are cut.
    pub requests: usize,
    /// Seconds of the same load.
    pub steady: u64,
    /// Prompts that two keys ask.
    pub probes: usize,
}

type Part = (&'static str, fn(&Serving, &Size) -> Result<()>, &'static [&'static str]);

/// Names, what is done, and the server's options.
const PARTS: [Part; 6] = [
    ("overload", parts::overload, &["--slots", "4", "--queue", "12"]),
    ("disconnects", parts::disconnects, &["--slots", "16", "--queue", "64"]),
    ("slow-senders", parts::slow_senders, &["--slots", "4"]),
    ("slow-readers", parts::slow_readers, &["--slots", "32"]),
    ("isolation", isolation::isolation, &["--slots", "4"]),
    ("steady", steady::steady, &["--slots", "16", "--queue", "64"]),
];

/// Runs one part or all, each with a server of its own.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut size = Size { seconds: 60, requests: 10_000, steady: 300, probes: 1000 };
    let (mut only, mut release, mut program) = (None, false, None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--program" {
            program = Some(rest.next().context("`--program` needs a path")?.into());
            continue;
        }
        let mut number = || -> Result<u64> {
            let text = rest.next().with_context(|| format!("`{argument}` needs a number"))?;
            text.parse().with_context(|| format!("`{argument}` needs a number, not {text:?}"))
        };
        match argument.as_str() {
            "--seconds" => size.seconds = number()?,
            "--requests" => size.requests = number()? as usize,
            "--steady" => size.steady = number()?,
            "--probes" => size.probes = number()? as usize,
            "--release" => release = true,
            name if only.is_none() && PARTS.iter().any(|part| part.0 == name) => only = Some(name.to_owned()),
            other => bail!("{other:?} is none of {}", PARTS.map(|part| part.0).join(", ")),
        }
    }
    let program = program.map_or_else(|| built("pasture", release), Ok)?;
    let mut failed = Vec::new();
    for (name, part, options) in PARTS.iter().filter(|part| only.as_deref().is_none_or(|only| only == part.0)) {
        println!("{name}:");
        let serving = Serving::start(&program, options)?;
        if let Err(error) = part(&serving, &size) {
            eprintln!("error: {name}: {error:#}");
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("worse than it may be: {}", failed.join(", "));
    }
    Ok(())
}

/// Prints a figure beside what it may be at most.
fn at_most(what: &str, value: f64, limit: f64, unit: &str, worse: &mut Vec<String>) {
    let word = if value <= limit { "ok" } else { "WORSE" };
    println!("  {what}: {value:.1} {unit} (at most {limit:.1}) {word}");
    if value > limit {
        worse.push(what.to_owned());
    }
}

fn verdict(worse: &[String]) -> Result<()> {
    if worse.is_empty() { Ok(()) } else { bail!("{}", worse.join(", ")) }
}
