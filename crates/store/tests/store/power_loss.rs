//! Whenever the power goes during a download, a removal or a collection, no model that should be there is damaged, and
//! what is left over is found as such.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use pasture_files::durable::{self, Fs};
use pasture_store::{Digest, gc, remove};

use crate::machine::{Machine, ONE, TWO};
use crate::power::Recorder;

/// Runs `change` on a full machine and then, for each state that power loss may leave, compares: nothing is damaged,
/// the names that `change` does not touch are there, and collecting makes an end of leftovers.
fn check(untouched: &[&str], change: impl Fn(&dyn Fs, &Machine)) {
    check_prepared(untouched, |_| {}, change);
}

fn check_prepared(untouched: &[&str], prepare: impl Fn(&Machine), change: impl Fn(&dyn Fs, &Machine)) {
    let machine = Machine::full();
    prepare(&machine);
    let disk = Recorder::new(&machine.home);
    let first = disk.events();
    change(&disk, &machine);
    let states = disk.states(first);
    assert!(states.len() >= 3, "{} states", states.len());
    for state in &states {
        let after = Machine::new();
        state.put(&after.home);
        let names = after.names();
        assert_eq!(after.faults(None), []);
        for name in untouched {
            assert!(names.iter().any(|found| found == name), "{name} is not in {names:?}");
        }
        let left = gc::leftovers(&after.environment, Duration::ZERO).unwrap();
        gc::collect(&durable::Disk, &after.environment, &left).unwrap();
        assert_eq!(gc::leftovers(&after.environment, Duration::ZERO).unwrap(), []);
        assert_eq!((after.faults(None), after.names()), (Vec::new(), names));
    }
}

fn removal(name: &str) -> impl Fn(&dyn Fs, &Machine) {
    move |disk, machine| {
        let plan = remove::plan(&machine.environment, name).unwrap();
        remove::carry_out(disk, &machine.environment, &plan).unwrap();
    }
}

#[test]
fn a_removal_without_power_leaves_whole_models() {
    let others = ["b/two:x-Q4_0.gguf", "smol", "tiny", "pub/repo", "own", "loose.gguf"];
    check(&others, removal("a/one"));
    check(&[&others[..], &["a/one"]].concat(), removal(&format!("a/one@{ONE}")));
    // Between reference and snapshot the name alone means no revision, and says so.
    check(&others, removal(&format!("a/one@{TWO}")));
    check(&["a/one", "tiny", "smol"], removal("b/two:Q8_0"));
    check(&["a/one", "tiny", "own"], removal("smol"));
    check(&["a/one", "smol", "loose.gguf"], removal("own"));
}

#[test]
fn a_download_without_power_leaves_whole_models() {
    let content = vec![7u8; 9_000];
    check(&["a/one", "b/two:x-Q4_0.gguf", "smol"], move |disk, machine| {
        let root = machine.hub().join("models--c--three");
        let (blobs, snapshot) = (root.join("blobs"), root.join("snapshots").join(ONE));
        let digits = Digest::of(&content).hexadecimal();
        [&blobs, &snapshot].iter().for_each(|folder| durable::create_folders_on(disk, folder).unwrap());
        let partial = blobs.join(format!("{digits}.incomplete"));
        disk.create_new(&partial).unwrap().write_all(&content).unwrap();
        durable::rename_on(disk, &partial, &blobs.join(&digits)).unwrap();
        durable::link_on(disk, &Path::new("../../blobs").join(digits), &snapshot.join("m.gguf")).unwrap();
        let refs = root.join("refs");
        durable::create_folders_on(disk, &refs).unwrap();
        durable::write_file_on(disk, &refs.join("main"), |sink| sink.put(ONE.as_bytes())).unwrap();
    });
}

#[test]
fn a_collection_without_power_leaves_whole_models() {
    let everything = ["a/one", "b/two:x-Q4_0.gguf", "smol", "tiny", "pub/repo", "own", "loose.gguf"];
    let prepare = |machine: &Machine| {
        let hub = ".cache/huggingface/hub/models--a--one";
        machine.write(format!("{hub}/blobs/77.incomplete"), b"half");
        machine.write(format!("{hub}/blobs/{}", "7".repeat(64)), b"no snapshot");
        machine.write(format!("{hub}/snapshots/.{TWO}.1.removing/x"), b"gone");
        machine.write("folder/.own.1.removing/model.safetensors", b"gone");
    };
    check_prepared(&everything, prepare, |disk, machine| {
        let left = gc::leftovers(&machine.environment, Duration::ZERO).unwrap();
        assert_eq!(left.len(), 4);
        gc::collect(disk, &machine.environment, &left).unwrap();
    });
}
