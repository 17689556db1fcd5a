//! Names: models of LM Studio and of folders are found where they are, names of one's own lead to files that are there.

use std::fs;
use std::os::unix::fs::symlink;

use pasture_store::own::{self, Taken};
use pasture_store::{Ledger, Origin, list_in, resolve_in};

use crate::machine::Machine;

#[test]
fn every_place_is_listed_and_every_name_leads_back() {
    let machine = Machine::full();
    machine.copy("smol", "mine").unwrap();
    let names = machine.names();
    let wanted = ["a/one", "b/two:x-Q4_0.gguf", "b/two:x-Q8_0.gguf", "loose.gguf", "mine", "own", "pub/repo", "smol"];
    assert_eq!(names, [&wanted[..], &["tiny"]].concat());
    for found in list_in(&machine.environment).unwrap() {
        assert_eq!(resolve_in(&machine.environment, &found.name).unwrap(), found);
    }
    let of = |name: &str| resolve_in(&machine.environment, name).unwrap();
    assert_eq!((of("pub/repo").origin, of("pub/repo").format), (Origin::LmStudio, "GGUF"));
    assert_eq!((of("own").origin, of("own").format, of("own").bytes), (Origin::Folder, "safetensors", 19));
    assert_eq!((of("mine").origin, of("mine").path), (Origin::Own, of("smol").path));
}

#[test]
fn several_files_of_one_folder_have_names_of_their_own() {
    let machine = Machine::full();
    machine.write(".lmstudio/models/pub/repo/m-Q8_0.gguf", b"GGUF eight");
    let fault = resolve_in(&machine.environment, "pub/repo").unwrap_err().to_string();
    assert!(fault.contains("pub/repo:m-Q8_0.gguf"), "{fault}");
    assert!(resolve_in(&machine.environment, "pub/repo:Q8_0").unwrap().path.ends_with("pub/repo/m-Q8_0.gguf"));
    assert!(machine.names().contains(&"pub/repo:m.gguf".to_owned()));
}

#[test]
fn a_link_out_of_a_place_is_refused() {
    let machine = Machine::full();
    let outside = machine.write("outside/secret.gguf", b"GGUF secret");
    symlink(&outside, machine.home.join("folder/link_outside.gguf")).unwrap();
    symlink(machine.home.join("outside"), machine.home.join(".lmstudio/models/pub/link_folder")).unwrap();
    symlink("link_self.gguf", machine.home.join("folder/link_self.gguf")).unwrap();
    let blob = machine.ollama_blob(b"GGUF smol");
    fs::remove_file(&blob).unwrap();
    fs::copy(&outside, machine.home.join("outside/smol")).unwrap();
    fs::write(machine.home.join("outside/smol"), b"GGUF smol").unwrap();
    symlink(machine.home.join("outside/smol"), &blob).unwrap();
    for name in ["link_outside.gguf", "pub/link_folder", "pub/link_folder:secret.gguf", "smol"] {
        let fault = resolve_in(&machine.environment, name).unwrap_err().to_string();
        assert!(fault.contains("link out of"), "{name}: {fault}");
        assert!(!machine.names().contains(&name.to_owned()), "{name}");
    }
    assert!(resolve_in(&machine.environment, "link_self.gguf").is_err());
}

#[test]
fn a_name_of_ones_own_is_free_or_moved_when_asked() {
    let machine = Machine::full();
    machine.copy("smol", "mine").unwrap();
    let refused = |from: &str, to: &str, wanted: &str| {
        let fault = machine.copy(from, to).unwrap_err().to_string();
        assert!(fault.contains(wanted), "{from} {to}: {fault}");
    };
    refused("tiny", "mine", "it is taken; --force moves it");
    refused("tiny", "smol", "Ollama has that already");
    refused("tiny", "a/one", "Hugging Face cache has that already");
    refused("tiny", "x@y", "no revision");
    refused("tiny", "../x", "no model's name");
    refused("none", "x", "there is no model");
    own::copy(&machine.environment, "tiny", "mine", Taken::Replace, &mut |_| true).unwrap();
    let found = resolve_in(&machine.environment, "mine").unwrap();
    assert_eq!(fs::read(found.path).unwrap(), b"GGUF tiny!");
    let stopped = own::copy(&machine.environment, "loose.gguf", "half", Taken::Refuse, &mut |_| false);
    assert!(stopped.is_err() && resolve_in(&machine.environment, "half").is_err());
}

#[test]
fn a_name_whose_files_are_gone_says_so() {
    let machine = Machine::full();
    machine.copy("loose.gguf", "mine").unwrap();
    fs::remove_file(machine.home.join("folder/loose.gguf")).unwrap();
    let fault = resolve_in(&machine.environment, "mine").unwrap_err().to_string();
    assert!(fault.contains("is gone") && fault.contains("pasture rm"), "{fault}");
    machine.remove("mine");
    assert!(Ledger::open_in(&machine.environment).unwrap().works().unwrap().is_empty());
}
