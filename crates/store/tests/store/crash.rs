//! Killed at every write point: this test starts itself again under strace, which kills it at the N-th call of one kind,
//! N from 1 until it comes through; then everything is verified, and the same work is done again to its end.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pasture_files::durable::Disk;
use pasture_store::own::{self, Taken};
use pasture_store::{Ledger, gc, lock, remove};

use crate::machine::{Machine, ONE, TWO};

/// The calls that change what is on a disk, or say that it is changed.
const CALLS: [&str; 16] = [
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "ftruncate",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "symlink",
    "symlinkat",
    "mkdir",
    "mkdirat",
    "flock",
];

/// Home folder and work of the process that is killed.
const WORK: &str = "STORE_CRASH_WORK";
const HOME: &str = "STORE_CRASH_HOME";

fn work(machine: &Machine, what: &str) {
    let environment = &machine.environment;
    let name =
        |from: &str, to: &str| own::copy(environment, from, to, Taken::Replace, &mut |_| true).map(drop).unwrap();
    match what {
        "pull" => {
            machine.revision("c--three", ONE, &[("config.json", b"{}"), ("m.safetensors", &[3; 70_000])]);
            machine.reference("c--three", "main", ONE);
        }
        "import" => name("smol", "imported"),
        "tag" => name("a/one", "tagged"),
        "delete" => {
            let _held = lock::alone(environment).unwrap();
            gc::finish_removals(&Disk, environment).unwrap();
            // A part that went before the kill needs no more removing.
            for name in [format!("a/one@{ONE}"), "b/two".to_owned(), "tiny".to_owned()] {
                if let Ok(plan) = remove::plan(environment, &name) {
                    remove::carry_out(&Disk, environment, &plan).unwrap();
                }
            }
        }
        _ => {
            let _held = lock::alone(environment).unwrap();
            let left = gc::leftovers(environment, Duration::ZERO).unwrap();
            gc::collect(&Disk, environment, &left).unwrap();
        }
    }
}

/// Does its work where a test below started it, and nothing elsewhere.
#[test]
fn worker() {
    let (Ok(what), Ok(home)) = (std::env::var(WORK), std::env::var(HOME)) else { return };
    work(&Machine::at(Path::new(&home)), &what);
}

fn prepared(what: &str) -> Machine {
    let machine = Machine::full();
    // So that a kill falls into the work, not into making the ledger.
    machine.copy("loose.gguf", "first").unwrap();
    if what == "gc" {
        let hub = ".cache/huggingface/hub/models--a--one";
        machine.write(format!("{hub}/blobs/77.incomplete"), b"half");
        machine.write(format!("{hub}/blobs/{}", "7".repeat(64)), b"no snapshot");
        machine.write(format!("{hub}/snapshots/.{TWO}.1.removing/x"), b"gone");
        machine.write(".cache/huggingface/hub/.models--c--d.9.removing/blobs/x", b"gone");
        machine.write(format!("ollama/blobs/sha256-{}-partial-0", "7".repeat(64)), b"half");
    }
    machine
}

/// Whether the work was killed.
fn is_killed(machine: &Machine, what: &str, call: &str, number: usize) -> bool {
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal=KILL:when={number}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "crash::worker", "--test-threads", "1", "-q"])
        .env(WORK, what)
        .env(HOME, &machine.home)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let killed = status.signal() == Some(9) || status.code() == Some(128 + 9);
    assert!(killed || status.success(), "{what} at {call} {number}: {status:?}");
    killed
}

/// Kills at each `stride`-th point and gives how many kills there were.
fn check(what: &str, untouched: &[&str], stride: usize) -> usize {
    let mut kills = 0;
    for call in CALLS {
        for number in (1..).step_by(stride) {
            let machine = prepared(what);
            if !is_killed(&machine, what, call, number) {
                break;
            }
            kills += 1;
            let place = format!("{what} killed at {call} {number}");
            assert_eq!(machine.faults(None), [], "{place}");
            assert_eq!(Ledger::open_in(&machine.environment).unwrap().check().unwrap(), None, "{place}");
            let names = machine.names();
            untouched.iter().for_each(|name| assert!(names.iter().any(|found| found == name), "{place}: no {name}"));
            work(&machine, what);
            let left = gc::leftovers(&machine.environment, Duration::ZERO).unwrap();
            gc::collect(&Disk, &machine.environment, &left).unwrap();
            assert_eq!(gc::leftovers(&machine.environment, Duration::ZERO).unwrap(), [], "{place}");
            assert_eq!(machine.faults(None), [], "{place}");
            let done = prepared(what);
            work(&done, what);
            let left = gc::leftovers(&done.environment, Duration::ZERO).unwrap();
            gc::collect(&Disk, &done.environment, &left).unwrap();
            assert_eq!(machine.names(), done.names(), "{place}");
        }
    }
    kills
}

/// Every point where `STORE_CRASH` is `all`, else some of them.
#[test]
fn a_kill_at_any_write_point_loses_nothing() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!("skipped: no strace");
        return;
    }
    let stride = if std::env::var("STORE_CRASH").is_ok_and(|value| value == "all") { 1 } else { 5 };
    let all = ["a/one", "b/two:x-Q4_0.gguf", "b/two:x-Q8_0.gguf", "smol", "tiny", "pub/repo", "own", "first"];
    let some = ["a/one", "smol", "pub/repo", "own", "first"];
    for (what, untouched) in [("pull", &all[..]), ("import", &all), ("tag", &all), ("delete", &some), ("gc", &all)] {
        let kills = check(what, untouched, stride);
        println!("{what}: {kills} kills");
        assert!(kills >= 5, "{what}: only {kills} kills");
    }
}
