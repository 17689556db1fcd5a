//! `cargo xtask bench --against llama.cpp|torch --model FILE`: speed beside a peer's on one machine, ours and the peer's in
//! turns. A figure counts only as a ratio: a pair between whose runs the machine changed is left out, and without a
//! peer nothing is printed.

mod regime;
mod sides;
mod table;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{built, chores};
use sides::{Ours, Peer, Test};
use table::Row;

/// A pair counts where the probes before, between and after it differ by no more than this factor.
const SAME: f64 = 1.5;
/// Known tokens before several answers begin.
const SHARED: usize = 128;

/// What is measured and how often.
struct Plan {
    models: Vec<PathBuf>,
    peer: Peer,
    ours: Ours,
    prompt: usize,
    tokens: usize,
    depths: Vec<usize>,
    sequences: Vec<usize>,
    runs: usize,
    write: Option<PathBuf>,
}

/// Runs the plan that the arguments describe and prints a line for each model and test.
pub fn run(arguments: &[String]) -> Result<()> {
    if arguments.first().is_some_and(|first| first == "--train") {
        return chores::bench_train(arguments);
    }
    let plan = plan(arguments)?;
    println!("{:<24} {:<28} {:>22} {:>22} {:>18} pairs", "model", "tokens/s", "pasture", plan.peer.name(), "ratio");
    for model in &plan.models {
        for test in plan.tests() {
            let row = plan.measure(model, test).with_context(|| format!("{}: {}", model.display(), test.name()))?;
            println!(
                "{:<24} {:<28} {:>22} {:>22} {:>18} {} of {}",
                row.model, row.test, row.ours, row.theirs, row.ratio, row.pairs, plan.runs
            );
            if let Some(path) = &plan.write {
                table::write(path, &row).with_context(|| format!("{}", path.display()))?;
            }
        }
    }
    Ok(())
}

impl Plan {
    /// Prompts and answers at each depth, then several answers at once.
    fn tests(&self) -> Vec<Test> {
        let mut tests = Vec::new();
        for depth in self.depths.iter().copied() {
            tests.extend((self.prompt > 0).then_some(Test::Prefill { tokens: self.prompt, depth }));
            tests.extend((self.tokens > 0).then_some(Test::Decode { tokens: self.tokens, depth }));
        }
        let many = self.sequences.iter().copied();
        tests.extend(many.map(|sequences| Test::Many { tokens: self.tokens, sequences, depth: SHARED }));
        tests
    }

    /// Both sides in turns until there are enough pairs, or twice as many were tried.
    fn measure(&self, model: &std::path::Path, test: Test) -> Result<Row> {
        let (mut ours, mut theirs, mut machine) = (Vec::new(), Vec::new(), String::new());
        for _ in 0..2 * self.runs {
            if ours.len() == self.runs {
                break;
            }
            let before = regime::barrier();
            let mine = self.ours.run(model, test)?;
            let between = regime::barrier();
            let peers = self.peer.run(model, test, self.ours.threads)?;
            let after = regime::barrier();
            let (least, most) = (before.min(between).min(after), before.max(between).max(after));
            if most > SAME * least {
                eprintln!("left out: a barrier took {before:.0}, {between:.0} and {after:.0} ns");
                continue;
            }
            ours.push(mine.tokens_per_second);
            theirs.push(peers);
            machine = mine.machine;
        }
        ensure!(!ours.is_empty(), "the machine changed within every pair; try when it is quiet");
        let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(mine, peers)| mine / peers).collect();
        let model = model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (test, peer) = (test.name(), self.peer.name().to_owned());
        let pairs = ours.len();
        let [ours, theirs, ratio] = [table::spread(ours, 1), table::spread(theirs, 1), table::spread(ratios, 2)];
        Ok(Row { machine, model, test, ours, peer, theirs, ratio, pairs })
    }
}

fn plan(arguments: &[String]) -> Result<Plan> {
    let (mut models, mut against, mut peer, mut program, mut write) = (Vec::new(), None, None, None, None);
    let (mut prompt, mut tokens, mut runs, mut threads) = (512, 64, 3, 2);
    let (mut depths, mut sequences) = (vec![0], Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let value = rest.next().with_context(|| format!("`{argument}` needs a value"))?;
        let numbers = || value.split(',').map(number).collect::<Result<Vec<usize>>>();
        match argument.as_str() {
            "--against" => against = Some(value.as_str()),
            "--model" => models.push(PathBuf::from(value)),
            "--peer" => peer = Some(PathBuf::from(value)),
            "--program" => program = Some(PathBuf::from(value)),
            "--write" => write = Some(PathBuf::from(value)),
            "--threads" => threads = number(value)?,
            "--prompt" => prompt = number(value)?,
            "--tokens" => tokens = number(value)?,
            "--runs" => runs = number(value)?,
            "--depth" => depths = numbers()?,
            "--sequences" => sequences = numbers()?,
            _ => bail!("unknown argument {argument:?}"),
        }
    }
    ensure!(!models.is_empty(), "`--model FILE` is needed, once or more");
    ensure!(runs > 0 && threads > 0, "`--runs` and `--threads` must be at least 1");
    let peer = Peer::find(against.context("`--against llama.cpp` or `--against torch` is needed")?, peer)?;
    let program = program.map_or_else(|| built("pasture", true), Ok)?;
    Ok(Plan { models, peer, ours: Ours { program, threads }, prompt, tokens, depths, sequences, runs, write })
}

fn number(text: &str) -> Result<usize> {
    text.parse().with_context(|| format!("{text:?} is no count"))
}
