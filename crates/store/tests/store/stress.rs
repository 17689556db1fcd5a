//! Eight processes at once, each with random operations on one store: no name is lost, none leads nowhere, nothing is
//! damaged. `STORE_STRESS` says how many operations each does: 1,000 is the full run.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pasture_files::durable::Disk;
use pasture_store::own::{self, Taken};
use pasture_store::verify::{self, Accept};
use pasture_store::{Ledger, gc, lock, remove, resolve_in};

use crate::machine::{Machine, ONE};

const PROCESSES: u64 = 8;
const HOME: &str = "STORE_STRESS_HOME";
const NUMBER: &str = "STORE_STRESS_NUMBER";
const COUNT: &str = "STORE_STRESS";
/// Models that names are given to.
const SOURCES: [&str; 6] = ["a/one", "smol", "tiny", "pub/repo", "own", "loose.gguf"];

fn count() -> u64 {
    std::env::var(COUNT).map_or(12, |text| text.parse().unwrap())
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// One process: its own names must be as it left them, whatever the others do.
#[test]
fn worker() {
    let (Ok(home), Ok(number)) = (std::env::var(HOME), std::env::var(NUMBER)) else { return };
    let machine = Machine::at(Path::new(&home));
    let mut random = Random(number.parse().unwrap());
    let mut mine: BTreeMap<String, &str> = BTreeMap::new();
    for step in 0..count() {
        operation(&machine, &number, step, &mut random, &mut mine);
    }
    let lines: Vec<String> = mine.iter().map(|(name, source)| format!("{name} {source}")).collect();
    std::fs::write(machine.home.join(format!("names-{number}")), lines.join("\n")).unwrap();
}

fn operation(machine: &Machine, number: &str, step: u64, random: &mut Random, mine: &mut BTreeMap<String, &str>) {
    let environment = &machine.environment;
    let source = SOURCES[random.below(SOURCES.len() as u64) as usize];
    let name = format!("p{number}-{}", random.below(5));
    let give = |name: &str| own::copy(environment, source, name, Taken::Replace, &mut |_| true).unwrap();
    match random.below(8) {
        0..=2 => {
            give(&name);
            mine.insert(name, source);
        }
        3 => drop(give(&format!("all-{}", random.below(3)))),
        4 => {
            let _held = lock::alone(environment).unwrap();
            let plan = remove::plan(environment, &name);
            assert_eq!(plan.is_ok(), mine.remove(&name).is_some(), "{name} at {step}");
            plan.iter().for_each(|plan| remove::carry_out(&Disk, environment, plan).unwrap());
        }
        5 => {
            let repository = format!("p{number}--r");
            machine.revision(&repository, ONE, &[("m.gguf", format!("GGUF {number} {step}").as_bytes())]);
            machine.reference(&repository, "main", ONE);
            assert!(resolve_in(environment, &format!("p{number}/r")).is_ok());
        }
        6 => {
            let _held = lock::alone(environment).unwrap();
            let left = gc::leftovers(environment, Duration::ZERO).unwrap();
            gc::collect(&Disk, environment, &left).unwrap();
        }
        _ => {
            let targets = verify::targets(environment, Some(source)).unwrap();
            let verdicts = verify::verify(environment, &targets, 1, Accept::No, &|_| true).unwrap();
            assert!(verdicts.iter().all(|verdict| !verdict.is_fault()), "{verdicts:?}");
        }
    }
}

#[test]
fn many_processes_lose_no_name() {
    let machine = Machine::full();
    let start = Instant::now();
    let one = |number| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stress::worker", "--test-threads", "1", "-q"])
            .env(HOME, &machine.home)
            .env(NUMBER, u64::to_string(&number))
            .env(COUNT, count().to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let running: Vec<_> = (0..PROCESSES).map(one).collect();
    for (number, mut process) in running.into_iter().enumerate() {
        assert!(process.wait().unwrap().success(), "process {number}");
    }
    println!("{PROCESSES} processes, {} operations each: {:.1} s", count(), start.elapsed().as_secs_f64());
    let works = Ledger::open_in(&machine.environment).unwrap().works().unwrap();
    for number in 0..PROCESSES {
        let text = std::fs::read_to_string(machine.home.join(format!("names-{number}"))).unwrap();
        let wanted: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).collect();
        let prefix = format!("p{number}-");
        let found = works.iter().filter(|work| work.name.starts_with(&prefix));
        let found: Vec<(&str, &str)> =
            found.map(|work| (work.name.as_str(), work.origin.as_deref().unwrap_or_default())).collect();
        assert_eq!(found, wanted);
    }
    for work in &works {
        assert!(resolve_in(&machine.environment, &work.name).is_ok(), "{}", work.name);
    }
    assert_eq!(machine.faults(None), []);
    assert_eq!(Ledger::open_in(&machine.environment).unwrap().check().unwrap(), None);
}
