//! Models in folders laid out as Hugging Face's programs and Ollama leave them: every name that is listed is found,
//! what is damaged is refused with its reason, and nothing is written.
#![allow(clippy::unwrap_used)]
#[path = "../../../tests/kit.rs"]
mod kit;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pasture_store::{Digest, Environment, Error, Found, Origin, list_in, resolve_in};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

struct Machine {
    home: tempfile::TempDir,
    environment: Environment,
}

impl Machine {
    fn new() -> Machine {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().to_owned();
        let variable = move |name: &str| (name == "OLLAMA_MODELS").then(|| root.join("ollama").into_os_string());
        let environment = Environment::of(variable, Some(home.path().to_owned()));
        Machine { home, environment }
    }

    fn write(&self, path: impl AsRef<Path>, content: &[u8]) -> PathBuf {
        let path = self.home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A repository with one snapshot, whose files are links into the blobs as the hub's programs make them.
    fn repository(&self, folder: &str, files: &[(&str, usize)]) {
        let repository = format!(".cache/huggingface/hub/{folder}");
        self.write(format!("{repository}/refs/main"), COMMIT.as_bytes());
        fs::create_dir_all(self.home.path().join(&repository).join("snapshots").join(COMMIT)).unwrap();
        for (number, (file, bytes)) in files.iter().enumerate() {
            let blob = self.write(format!("{repository}/blobs/{number}"), &vec![0; *bytes]);
            let link = self.home.path().join(format!("{repository}/snapshots/{COMMIT}/{file}"));
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            #[cfg(unix)]
            std::os::unix::fs::symlink(blob, link).unwrap();
            #[cfg(not(unix))]
            fs::copy(blob, link).map(|_| ()).unwrap();
        }
    }

    fn blob(&self, content: &[u8]) -> String {
        let digest = Digest::of(content);
        self.write(format!("ollama/blobs/{}", digest.blob_name()), content);
        digest.to_string()
    }

    fn manifest(&self, path: &str, content: &str) {
        self.write(format!("ollama/manifests/{path}"), content.as_bytes());
    }

    fn ollama(&self, path: &str, content: &[u8]) {
        let (model, template) = (self.blob(content), self.blob(b"{{ .Prompt }}"));
        let layer = |kind: &str, digest: &str, size: usize| {
            format!(r#"{{"mediaType":"application/vnd.ollama.image.{kind}","digest":"{digest}","size":{size}}}"#)
        };
        let layers = [layer("model", &model, content.len()), layer("template", &template, 13)].join(",");
        self.manifest(path, &format!(r#"{{"schemaVersion":2,"config":{{}},"layers":[{layers}]}}"#));
    }

    fn resolve(&self, name: &str) -> Result<Found, Error> {
        resolve_in(&self.environment, name)
    }

    /// Path and content length of everything, to see that nothing was written.
    fn everything(&self) -> BTreeMap<PathBuf, u64> {
        let mut all = BTreeMap::new();
        let mut open = vec![self.home.path().to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                let metadata = entry.metadata().unwrap();
                all.insert(entry.path(), metadata.len());
                if metadata.is_dir() {
                    open.push(entry.path());
                }
            }
        }
        all
    }

    fn check(&self, name: &str, ends: &str, bytes: u64, format: &str) {
        let found = self.resolve(name).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert!(found.path.ends_with(ends), "{name}: {:?}", found.path);
        assert_eq!((found.bytes, found.format), (bytes, format), "{name}");
        assert!(found.path.exists(), "{name}");
    }

    fn check_refused(&self, name: &str, wanted: &str) {
        let fault = self.resolve(name).map(|found| found.path).unwrap_err().to_string();
        assert!(fault.contains(wanted) && fault.contains(name), "{name}: {fault}");
    }
}

fn full() -> Machine {
    let machine = Machine::new();
    let whole = [("config.json", 5), ("model.safetensors", 100), ("training_args.bin", 7), ("tokenizer.json", 9)];
    machine.repository("models--meta--Tiny-1B", &whole);
    machine.repository("models--gpt2", &[("config.json", 5), ("pytorch_model.bin", 50)]);
    machine.repository("models--a--One-GGUF", &[("README.md", 5), ("one-q8_0.gguf", 11)]);
    let several = [
        ("many-Q4_K.gguf", 20),
        ("many-Q4_K_M.gguf", 21),
        ("mmproj-many-f16.gguf", 3),
        ("Q8_0/many-Q8_0-00001-of-00002.gguf", 30),
        ("Q8_0/many-Q8_0-00002-of-00002.gguf", 12),
    ];
    machine.repository("models--a--Many-GGUF", &several);
    machine.repository("models--a--tokenizer-only", &[("tokenizer.json", 9)]);
    machine.repository("datasets--a--rows", &[("model.safetensors", 9)]);
    machine.ollama("registry.ollama.ai/library/qwen3/0.6b", b"GGUF qwen");
    machine.ollama("registry.ollama.ai/library/smol/latest", b"GGUF smol!");
    machine.ollama("registry.ollama.ai/me/mine/latest", b"GGUF mine!!");
    machine.ollama("hf.co/a/Some-GGUF/Q4_K_M", b"GGUF some!!!");
    machine
}

#[test]
fn a_model_is_found_by_every_form_of_its_name() {
    let machine = full();
    let snapshot = format!("snapshots/{COMMIT}");
    machine.check("meta/Tiny-1B", &snapshot, 100, "safetensors");
    machine.check("meta/Tiny-1B@main", &snapshot, 100, "safetensors");
    machine.check(&format!("meta/Tiny-1B@{COMMIT}"), &snapshot, 100, "safetensors");
    machine.check("meta/Tiny-1B:model.safetensors", &format!("{snapshot}/model.safetensors"), 100, "safetensors");
    machine.check("tiny-1b", &snapshot, 100, "safetensors");
    machine.check("gpt2", &snapshot, 50, "PyTorch");
    machine.check("a/One-GGUF", "one-q8_0.gguf", 11, "GGUF");
    machine.check("a/One-GGUF:Q8_0", "one-q8_0.gguf", 11, "GGUF");
    machine.check("a/Many-GGUF:q4_k", "many-Q4_K.gguf", 20, "GGUF");
    machine.check("a/Many-GGUF:Q4_K_M", "many-Q4_K_M.gguf", 21, "GGUF");
    machine.check("many-gguf:Q4_K_M", "many-Q4_K_M.gguf", 21, "GGUF");
    machine.check("a/Many-GGUF@main:Q8_0", "Q8_0/many-Q8_0-00001-of-00002.gguf", 42, "GGUF");
    machine.check("a/Many-GGUF:mmproj-many-f16.gguf", "mmproj-many-f16.gguf", 3, "GGUF");
    let blob = |content: &[u8]| format!("blobs/{}", Digest::of(content).blob_name());
    machine.check("qwen3:0.6b", &blob(b"GGUF qwen"), 9, "GGUF");
    machine.check("smol", &blob(b"GGUF smol!"), 10, "GGUF");
    machine.check("smol:latest", &blob(b"GGUF smol!"), 10, "GGUF");
    machine.check("me/mine", &blob(b"GGUF mine!!"), 11, "GGUF");
    machine.check("hf.co/a/Some-GGUF:Q4_K_M", &blob(b"GGUF some!!!"), 12, "GGUF");
    let layers = machine.resolve("smol").unwrap().layers;
    assert_eq!(layers.iter().map(|layer| layer.kind.as_str()).collect::<Vec<_>>(), ["template"]);
}

#[test]
fn a_path_is_taken_as_it_is() {
    let machine = full();
    let file = machine.write("here/model.gguf", b"GGUF");
    let found = machine.resolve(file.to_str().unwrap()).unwrap();
    assert_eq!((found.origin, found.path.as_path(), found.bytes), (Origin::Path, file.as_path(), 4));
    let folder = machine.resolve(file.parent().unwrap().to_str().unwrap()).unwrap();
    assert_eq!((folder.format, folder.bytes), ("GGUF", 4));
}

#[test]
fn every_listed_name_is_found_again_and_nothing_is_written() {
    let machine = full();
    let before = machine.everything();
    let all = list_in(&machine.environment).unwrap();
    let names: Vec<&str> = all.iter().map(|found| found.name.as_str()).collect();
    let wanted = [
        "a/Many-GGUF:Q8_0/many-Q8_0-00001-of-00002.gguf",
        "a/Many-GGUF:many-Q4_K.gguf",
        "a/Many-GGUF:many-Q4_K_M.gguf",
        "a/One-GGUF",
        "gpt2",
        "hf.co/a/Some-GGUF:Q4_K_M",
        "me/mine",
        "meta/Tiny-1B",
        "qwen3:0.6b",
        "smol",
    ];
    assert_eq!(names, wanted);
    for found in &all {
        assert_eq!(machine.resolve(&found.name).as_ref().unwrap(), found);
    }
    assert_eq!(machine.everything(), before);
}

#[test]
fn a_name_that_is_not_there_says_where_it_was_looked_for() {
    let machine = full();
    machine.check_refused("qwen3:0.7b", "did you mean \"qwen3:0.6b\"?");
    machine.check_refused("meta/Tinny-1B", "did you mean \"meta/Tiny-1B\"?");
    machine.check_refused("meta/Tinny-1B", "no \"models--meta--Tinny-1B\" in Hugging Face cache");
    machine.check_refused("meta/Tinny-1B", "no \"registry.ollama.ai/meta/Tinny-1B/latest\" in Ollama");
    machine.check_refused("mixtral", "there is no model");
    machine.check_refused("a/Many-GGUF", "a/Many-GGUF:many-Q4_K_M.gguf");
    machine.check_refused("a/Many-GGUF:Q5_K", "no file there is or has \"Q5_K\"");
    machine.check_refused("a/tokenizer-only", "hold no weights");
    machine.check_refused("gpt2@v2", "without the revision \"v2\"; it has 0123456789");
    machine.repository("models--b--tiny-1b", &[("model.safetensors", 1)]);
    machine.check_refused("tiny-1b", "b/tiny-1b, meta/Tiny-1B");
}

#[test]
fn what_a_cache_says_never_becomes_a_path_unchecked() {
    let machine = full();
    let hub = ".cache/huggingface/hub";
    machine.write(format!("{hub}/models--gpt2/refs/main"), b"../../../../secret");
    machine.check_refused("gpt2", "names no commit");
    machine.write(format!("{hub}/models--gpt2/refs/main"), &[b'a'; 1000]);
    assert!(machine.resolve("gpt2").is_err());
    let digits = "a".repeat(64);
    for digest in ["../../x", "sha256:../../../etc/passwd", "", "sha256-aa", &digits, "sha256:AA"] {
        let layer = format!(r#"{{"mediaType":"application/vnd.ollama.image.model","digest":"{digest}","size":9}}"#);
        let text = format!(r#"{{"schemaVersion":2,"layers":[{layer}]}}"#);
        machine.manifest("registry.ollama.ai/library/smol/latest", &text);
        machine.check_refused("smol", "is no digest");
    }
}

#[test]
fn damaged_manifests_are_refused() {
    let machine = full();
    let model = machine.blob(b"GGUF");
    let check = |text: &str, wanted: &str| {
        machine.manifest("registry.ollama.ai/library/smol/latest", text);
        let fault = machine.resolve("smol").unwrap_err().to_string();
        assert!(fault.contains(wanted), "{fault}");
        assert!(list_in(&machine.environment).unwrap().iter().all(|found| found.name != "smol"));
    };
    let with = |kind: &str, size: i64| {
        format!(r#"{{"mediaType":"application/vnd.ollama.image.{kind}","digest":"{model}","size":{size}}}"#)
    };
    let manifest = |layers: &str| format!(r#"{{"schemaVersion":2,"layers":[{layers}]}}"#);
    check("<html>", "JSON");
    check("{}", "version 2");
    check(r#"{"schemaVersion":9,"layers":[]}"#, "version 2");
    check(&manifest(""), "no list of 1 to 64 layers");
    check(&manifest("1"), "no text \"digest\"");
    check(&manifest(&with("model", 5)), "4 bytes instead of 5");
    check(&manifest(&with("model", -1)), "has no size");
    check(&manifest(&with("template", 4)), "0 layers of a GGUF model");
    check(&manifest(&[with("model", 4), with("model", 4)].join(",")), "2 layers of a GGUF model");
    check(&manifest(&[with("model", 4), with("adapter", 4)].join(",")), "an adapter on top");
    let absent = Digest::of(b"absent").to_string();
    check(&manifest(&with("model", 4).replace(&model, &absent)), "is not there");
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_repository_is_refused() {
    let machine = full();
    let outside = machine.write("outside.gguf", b"GGUF");
    let link =
        machine.home.path().join(format!(".cache/huggingface/hub/models--a--One-GGUF/snapshots/{COMMIT}/two.gguf"));
    std::os::unix::fs::symlink(outside, link).unwrap();
    assert!(machine.resolve("a/One-GGUF:two.gguf").unwrap_err().to_string().contains("link out of its folder"));
}

#[test]
fn file_names_of_the_kit_that_leave_the_folder_are_refused() {
    let Some(kit) = kit::folder("hostile/store") else { return };
    let machine = full();
    let mut count = 0;
    for entry in fs::read_dir(kit.join("listing_names")).unwrap() {
        let value: serde_json::Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        for row in value["siblings"].as_array().unwrap() {
            let bad = row["rfilename"].as_str().unwrap();
            for name in [format!("gpt2:{bad}"), format!("gpt2@{bad}"), format!("{bad}/gpt2"), format!("x{bad}/{bad}")] {
                assert!(machine.resolve(&name).is_err(), "{name:?}");
            }
            count += 1;
        }
    }
    assert_eq!(count, 17);
}

#[test]
fn manifests_of_the_kit_are_accepted_only_where_they_are_right() {
    let Some(kit) = kit::folder("hostile/store") else { return };
    let mut count = 0;
    for entry in fs::read_dir(&kit).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(text) = fs::read_to_string(folder.join("manifest.json")) else { continue };
        let machine = Machine::new();
        // As far as a folder that was pulled long ago can have it: the blob under the digest of its own bytes.
        for blob in fs::read_dir(folder.join("blobs")).into_iter().flatten().flatten() {
            machine.blob(&fs::read(blob.path()).unwrap());
        }
        let text = text.replace("application/octet-stream", "application/vnd.ollama.image.model");
        machine.manifest("registry.ollama.ai/library/x/latest", &text);
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let found = machine.resolve("x");
        match name.as_str() {
            "manifest_valid" => assert_eq!(found.unwrap().bytes, 32),
            // The configuration is nothing that is read here.
            "config_absent" => assert!(found.is_ok()),
            _ => assert!(found.is_err(), "{name} was accepted"),
        }
        count += 1;
    }
    assert!(count >= 20, "{count} manifests");
}
