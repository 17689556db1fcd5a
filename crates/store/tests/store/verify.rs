//! Damage is found wherever a digest is known, and nothing else is called damage.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use pasture_store::verify::{self, Accept, Verdict, changed};
use pasture_store::{Digest, resolve_in};

use crate::machine::Machine;

/// Turns one bit and leaves length and time as they were.
fn flip(path: &Path, bit: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << (bit % 8)], bit / 8).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn one_bit_is_found_in_every_place() {
    let machine = Machine::full();
    let noted = machine.write("noted/x.gguf", b"GGUF noted");
    machine.copy(noted.to_str().unwrap(), "mine").unwrap();
    let git = "models--a--one/blobs/19";
    let git = machine.hub().join(format!("{git}102815663d23f8b75a47e7a01965dcdc96468c"));
    fs::write(&git, b"foo").unwrap();
    let name = git.file_name().unwrap().to_str().unwrap().to_owned();
    let one = machine.hub().join(format!("models--a--one/snapshots/{}/README.md", crate::machine::ONE));
    symlink(format!("../../blobs/{name}"), one).unwrap();
    assert_eq!(machine.faults(None), []);
    let paths = [
        machine.hub_blob("b--two", b"GGUF four"),
        machine.ollama_blob(b"GGUF smol"),
        machine.ollama_blob(b"license"),
        machine.home.join(".lmstudio/models/pub/repo/m.gguf"),
        machine.home.join("folder/own/model.safetensors"),
        noted,
        git,
    ];
    for path in paths {
        flip(&path, 13);
        let faults = machine.faults(None);
        assert!(matches!(faults.as_slice(), [(_, Verdict::Damaged(_))]), "{path:?}: {faults:?}");
        flip(&path, 13);
    }
    assert_eq!(machine.faults(None), []);
}

#[test]
fn what_somebody_wrote_is_told_until_it_is_accepted() {
    let machine = Machine::full();
    assert_eq!(machine.faults(None), []);
    let path = machine.write("folder/loose.gguf", b"GGUF written again");
    assert!(matches!(machine.faults(Some("loose.gguf")).as_slice(), [(_, Verdict::Changed)]));
    let found = resolve_in(&machine.environment, "loose.gguf").unwrap();
    assert_eq!(changed(&machine.environment, &found).unwrap().len(), 1);
    let targets = verify::targets(&machine.environment, Some("loose.gguf")).unwrap();
    let verdicts = verify::verify(&machine.environment, &targets, 1, Accept::Changed, &|_| true).unwrap();
    assert_eq!(verdicts, [Verdict::Noted]);
    assert_eq!(machine.faults(None), []);
    assert_eq!(changed(&machine.environment, &found).unwrap(), []);
    // Another time with the same bytes is worth a look, and no fault.
    File::options().write(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(changed(&machine.environment, &found).unwrap().len(), 1);
    assert_eq!(machine.faults(Some("loose.gguf")), []);
    assert_eq!(changed(&machine.environment, &found).unwrap(), []);
}

/// A cache's file that nobody has compared with its name yet is worth a look before it is loaded, and then no more.
#[test]
fn what_another_program_fetched_is_read_once() {
    let machine = Machine::full();
    let found = resolve_in(&machine.environment, "b/two:x-Q4_0.gguf").unwrap();
    let look = || changed(&machine.environment, &found).unwrap();
    let verdicts =
        |targets: &[verify::Target]| verify::verify(&machine.environment, targets, 1, Accept::No, &|_| true).unwrap();
    let blob = machine.hub_blob("b--two", b"GGUF four");
    flip(&blob, 13);
    let targets = look();
    assert!(verdicts(&targets).iter().any(|verdict| matches!(verdict, Verdict::Damaged(_))), "{targets:?}");
    flip(&blob, 13);
    assert_eq!(verdicts(&look()).iter().filter(|verdict| verdict.is_fault()).count(), 0);
    assert_eq!(look(), [], "all of it was noted");
    // The digest that is read faster sees what the other sees, and says the same.
    flip(&blob, 13);
    let faults = machine.faults(Some("b/two:x-Q4_0.gguf"));
    assert!(matches!(faults.as_slice(), [(_, Verdict::Damaged(what))] if what.contains("sha256:")), "{faults:?}");
}

#[test]
fn what_leads_nowhere_is_a_fault() {
    let machine = Machine::full();
    fs::remove_file(machine.hub_blob("b--two", b"GGUF four")).unwrap();
    fs::remove_file(machine.ollama_blob(b"GGUF smol")).unwrap();
    machine.reference("b--two", "v1", crate::machine::TWO);
    let faults = machine.faults(None);
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(faults.iter().all(|(_, verdict)| matches!(verdict, Verdict::Lost(_))));
}

/// Flips as many bits as `STORE_FLIPS` says in a file of `STORE_FLIPS_BYTES`: 1,000 in 1 GiB is the full run.
#[test]
fn every_flipped_bit_of_a_sparse_file_is_found() {
    let number = |name: &str, small: u64| std::env::var(name).map_or(small, |text| text.parse().unwrap());
    let (flips, bytes) = (number("STORE_FLIPS", 24), number("STORE_FLIPS_BYTES", 1 << 20));
    let machine = Machine::new();
    let path = machine.write("folder/sparse.gguf", b"GGUF");
    let mut file = File::options().write(true).open(&path).unwrap();
    file.set_len(bytes).unwrap();
    file.seek(SeekFrom::End(-3)).unwrap();
    file.write_all(b"end").unwrap();
    drop(file);
    machine.copy("sparse.gguf", "mine").unwrap();
    assert_eq!(machine.faults(Some("mine")), []);
    let seed = Digest::of(b"flips");
    let mut state = u64::from_le_bytes(seed.bytes()[..8].try_into().unwrap());
    for number in 0..flips {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = (state >> 11) % (bytes * 8);
        flip(&path, bit);
        assert_eq!(machine.faults(Some("mine")).len(), 1, "flip {number} at bit {bit}");
        flip(&path, bit);
    }
    assert_eq!(machine.faults(Some("mine")), []);
}
