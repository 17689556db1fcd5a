//! Removing and collecting: what is shared or needed stays, what nobody needs goes, and both say so.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use pasture_files::durable::Disk;
use pasture_store::gc::{self, Kind};
use pasture_store::{Error, remove, usage};

use crate::machine::{Machine, ONE, TWO};

#[test]
fn a_revision_goes_and_what_another_needs_stays() {
    let machine = Machine::full();
    let plan = machine.remove(&format!("a/one@{ONE}"));
    assert_eq!((plan.frees, plan.stays.len()), (9, 1));
    assert!(plan.stays[0].why.contains("another revision"));
    assert!(!machine.hub_blob("a--one", b"weights 1").exists());
    assert!(machine.hub_blob("a--one", b"{}").exists());
    assert!(machine.faults(None).is_empty());
    let plan = machine.remove("a/one@main");
    assert_eq!((plan.frees, plan.stays.len()), (12, 0));
    assert!(!machine.hub().join("models--a--one/refs/main").exists());
    assert!(machine.faults(None).is_empty());
}

#[test]
fn a_repository_goes_as_a_whole_and_a_file_alone() {
    let machine = Machine::full();
    let plan = machine.remove("b/two:Q8_0");
    assert_eq!(plan.frees, 10);
    assert!(machine.names().contains(&"b/two".to_owned()), "{:?}", machine.names());
    assert_eq!(machine.remove("a/one").frees, 21);
    assert!(!machine.hub().join("models--a--one").exists());
    assert!(gc::leftovers(&machine.environment, Duration::ZERO).unwrap().is_empty());
    assert!(machine.faults(None).is_empty());
}

#[test]
fn what_another_name_or_program_needs_stays() {
    let machine = Machine::full();
    machine.copy("a/one", "mine").unwrap();
    let fault = remove::plan(&machine.environment, "a/one").unwrap_err().to_string();
    assert!(fault.contains("mine"), "{fault}");
    assert!(machine.plan(&format!("a/one@{ONE}")).frees > 0, "the name means the other revision");
    machine.remove("mine");
    let target = machine.hub_blob("a--one", b"weights 2!");
    symlink(target, machine.home.join(".lmstudio/models/pub/repo/linked.safetensors")).unwrap();
    let plan = machine.remove("a/one");
    assert_eq!((plan.frees, plan.stays.len()), (11, 1));
    assert!(plan.stays[0].why.contains("another program"));
    assert!(machine.hub_blob("a--one", b"weights 2!").exists());
    assert!(!machine.hub().join(format!("models--a--one/snapshots/{TWO}")).exists());
}

#[test]
fn a_name_that_cannot_be_removed_says_why() {
    let machine = Machine::full();
    machine.write("folder/many/x-Q4_0.gguf", b"GGUF four");
    machine.write("folder/many/x-Q8_0.gguf", b"GGUF eight");
    machine.revision("c--two", ONE, &[("x.gguf", b"GGUF c")]);
    machine.reference("c--two", "main", ONE);
    for (name, wanted) in [("many", "x-Q4_0"), ("b/two:Q", "x-Q4_0"), ("two", "b/two")] {
        let fault = remove::plan(&machine.environment, name).unwrap_err();
        assert!(!matches!(fault, Error::NotFound { .. }), "{name}: {fault}");
        assert!(fault.to_string().contains(wanted), "{name}: {fault}");
    }
    assert_eq!(machine.remove("hf:b/two").frees, 19);
    assert_eq!(machine.remove("hf:c/two").frees, 6);
}

#[test]
fn a_file_with_a_second_name_frees_nothing() {
    let machine = Machine::full();
    fs::hard_link(machine.ollama_blob(b"GGUF smol"), machine.home.join("elsewhere")).unwrap();
    let manifest = machine.home.join("ollama/manifests/registry.ollama.ai/library/smol/latest");
    let length = fs::metadata(manifest).unwrap().len();
    assert_eq!(machine.remove("smol").frees, length);
    assert_eq!(fs::read(machine.home.join("elsewhere")).unwrap(), b"GGUF smol");
}

#[test]
fn layers_of_ollama_stay_while_a_manifest_needs_them_or_may() {
    let machine = Machine::full();
    let plan = machine.remove("smol");
    assert!(plan.stays[0].why.contains("another model of Ollama's"));
    assert!(!machine.ollama_blob(b"GGUF smol").exists() && machine.ollama_blob(b"license").exists());
    machine.write("ollama/manifests/registry.ollama.ai/library/odd/latest", b"<html>");
    let plan = machine.remove("tiny");
    assert!(plan.stays.iter().all(|stays| stays.why.contains("cannot be read")), "{plan:?}");
    assert!(machine.ollama_blob(b"GGUF tiny!").exists());
}

#[test]
fn files_of_ones_own_stay_where_they_were_put() {
    let machine = Machine::full();
    let file = machine.write("runs/out.gguf", b"GGUF out");
    machine.copy(file.to_str().unwrap(), "mine").unwrap();
    assert!(machine.remove("mine").stays[0].why.contains("only the name goes"));
    assert!(file.exists());
    machine.copy(file.to_str().unwrap(), "first").unwrap();
    machine.copy("first", "second").unwrap();
    assert!(machine.remove("first").stays[0].why.contains("second"));
    assert_eq!(machine.remove("second").frees, 0);
    assert!(file.exists());
    let fault = remove::plan(&machine.environment, file.to_str().unwrap()).unwrap_err().to_string();
    assert!(fault.contains("delete the file yourself"), "{fault}");
}

#[test]
fn models_of_lm_studio_and_folders_go_with_their_files() {
    let machine = Machine::full();
    assert_eq!(machine.remove("pub/repo").frees, 14);
    assert_eq!(machine.remove("own").frees, 19);
    assert_eq!(machine.remove("loose.gguf").frees, 10);
    assert!(machine.home.join("folder").read_dir().unwrap().next().is_none());
}

#[test]
fn leftovers_are_found_by_kind_and_nothing_else() {
    let machine = Machine::full();
    assert_eq!(gc::leftovers(&machine.environment, Duration::ZERO).unwrap(), []);
    let hub = ".cache/huggingface/hub/models--a--one";
    machine.write(format!("{hub}/blobs/77.incomplete"), b"half");
    machine.write(format!("{hub}/blobs/{}", "7".repeat(64)), b"no snapshot");
    machine.write(format!("{hub}/refs/.main.1.0.part"), b"");
    machine.write(".cache/huggingface/hub/.models--c--d.9.removing/blobs/x", b"gone");
    machine.write(format!("ollama/blobs/sha256-{}-partial-0", "7".repeat(64)), b"half");
    machine.write(format!("ollama/blobs/sha256-{}", "7".repeat(64)), b"unnamed");
    machine.write("data/.ledger.1.0.part", b"");
    // Downloads of a dead process, in the form of our own.
    let digits = "8".repeat(64);
    machine.write(format!("{hub}/blobs/{digits}.0-1-0.part/data"), b"half of it");
    machine.write(format!("{hub}/blobs/{digits}.bad"), b"damaged");
    machine.write(format!("ollama/blobs/sha256-{digits}.0-1-0.part/data"), b"half of it");
    machine.write(format!("ollama/blobs/sha256-{digits}.bad"), b"damaged");
    assert_eq!(gc::leftovers(&machine.environment, gc::AGE).unwrap(), [], "all of it is young");
    let found = gc::leftovers(&machine.environment, Duration::ZERO).unwrap();
    let count = |kind: &Kind| found.iter().filter(|left| left.kind == *kind).count();
    assert_eq!(
        [Kind::Partial, Kind::Temporary, Kind::Removing, Kind::Unnamed].map(|kind| count(&kind)),
        [6, 2, 1, 2],
        "{found:?}"
    );
    let used = usage::usage(&machine.environment).unwrap();
    assert_eq!(used.iter().map(|usage| usage.leftovers).sum::<u64>(), 4 + 11 + 4 + 4 + 7 + 2 * (10 + 7));
    let before = machine.names();
    gc::collect(&Disk, &machine.environment, &found).unwrap();
    assert_eq!(gc::leftovers(&machine.environment, Duration::ZERO).unwrap(), []);
    assert_eq!(machine.names(), before);
    assert!(machine.faults(None).is_empty());
}

#[test]
fn a_download_that_is_running_stays_with_what_it_has_fetched() {
    let machine = Machine::full();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let began = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
    let (digits, owner) = ("8".repeat(64), format!("{}-{began}-0", std::process::id()));
    for (blobs, prefix) in [(".cache/huggingface/hub/models--a--one/blobs", ""), ("ollama/blobs", "sha256-")] {
        machine.write(format!("{blobs}/{prefix}{digits}.{owner}.part/data"), b"half of it");
        machine.write(format!("{blobs}/{prefix}{}", "7".repeat(64)), b"fetched, and named in the end");
    }
    assert_eq!(gc::leftovers(&machine.environment, Duration::ZERO).unwrap(), []);
    machine.write(format!(".cache/huggingface/hub/models--a--one/blobs/{digits}.0-1-0.part/data"), b"young");
    assert_eq!(gc::leftovers(&machine.environment, Duration::ZERO).unwrap().len(), 1);
    assert_eq!(gc::leftovers(&machine.environment, gc::AGE).unwrap(), []);
}

#[test]
fn nothing_of_ollama_is_garbage_while_a_manifest_cannot_be_read() {
    let machine = Machine::full();
    machine.write(format!("ollama/blobs/sha256-{}", "7".repeat(64)), b"unnamed");
    machine.write("ollama/manifests/registry.ollama.ai/library/odd/latest", b"<html>");
    assert_eq!(gc::leftovers(&machine.environment, Duration::ZERO).unwrap(), []);
}

#[test]
fn room_is_counted_once_for_a_file_with_two_names() {
    let machine = Machine::full();
    machine.write("folder/big.gguf", &vec![1; 100_000]);
    let bytes =
        |machine: &Machine| usage::usage(&machine.environment).unwrap().iter().map(|usage| usage.bytes).sum::<u64>();
    let before = bytes(&machine);
    assert!(before >= 100_000);
    fs::hard_link(machine.home.join("folder/big.gguf"), machine.home.join(".lmstudio/models/pub/repo/big.gguf"))
        .unwrap();
    assert_eq!(bytes(&machine), before);
    let places = usage::usage(&machine.environment).unwrap();
    let models: Vec<usize> = places.iter().map(|usage| usage.models).collect();
    assert_eq!(models, [0, 3, 2, 2, 3], "{places:?}");
    assert!(places.iter().all(|usage| usage.path != Path::new("")));
}
