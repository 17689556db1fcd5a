//! A home folder with models of several programs in it, whose blobs have the names of their digests.

use std::fs;
use std::path::{Path, PathBuf};

use pasture_store::own::{self, Taken};
use pasture_store::remove::{self, Removal};
use pasture_store::verify::{self, Accept, Verdict};
use pasture_store::{Digest, Environment, Error, durable, list_in, lock};

/// Commits of revisions.
pub const ONE: &str = "1111111111111111111111111111111111111111";
pub const TWO: &str = "2222222222222222222222222222222222222222";

pub struct Machine {
    pub home: PathBuf,
    pub environment: Environment,
    /// Removes the folder in the end, where it is ours.
    _folder: Option<tempfile::TempDir>,
}

impl Machine {
    /// An empty one.
    pub fn new() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::at(folder.path());
        Machine { _folder: Some(folder), ..machine }
    }

    /// That of a home folder which somebody else made.
    pub fn at(home: &Path) -> Machine {
        let home = home.to_owned();
        let at = home.clone();
        let variable = move |name: &str| match name {
            "OLLAMA_MODELS" => Some(at.join("ollama").into_os_string()),
            "PASTURE_MODELS" => Some(at.join("folder").into_os_string()),
            "PASTURE_HOME" => Some(at.join("data").into_os_string()),
            _ => None,
        };
        let environment = Environment::of(variable, Some(home.clone()));
        Machine { home, environment, _folder: None }
    }

    /// Two revisions that share a blob, a repository beside them, two models of Ollama's that share a layer, and one in
    /// each of the other folders.
    pub fn full() -> Machine {
        let machine = Machine::new();
        machine.revision("a--one", ONE, &[("config.json", b"{}"), ("model.safetensors", b"weights 1")]);
        machine.revision("a--one", TWO, &[("config.json", b"{}"), ("model.safetensors", b"weights 2!")]);
        machine.reference("a--one", "main", TWO);
        machine.revision("b--two", ONE, &[("x-Q4_0.gguf", b"GGUF four"), ("x-Q8_0.gguf", b"GGUF eight")]);
        machine.reference("b--two", "main", ONE);
        machine.ollama("smol", &[b"GGUF smol", b"license"]);
        machine.ollama("tiny", &[b"GGUF tiny!", b"license"]);
        machine.write(".lmstudio/models/pub/repo/m.gguf", b"GGUF lm studio");
        machine.write("folder/loose.gguf", b"GGUF loose");
        machine.write("folder/own/model.safetensors", b"weights of a folder");
        machine
    }

    pub fn write(&self, path: impl AsRef<Path>, content: &[u8]) -> PathBuf {
        let path = self.home.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub fn hub(&self) -> PathBuf {
        self.home.join(".cache/huggingface/hub")
    }

    /// Puts a revision into the cache as a download does, by the store's own means.
    pub fn revision(&self, repository: &str, commit: &str, files: &[(&str, &[u8])]) {
        let root = self.hub().join(format!("models--{repository}"));
        let (blobs, snapshot) = (root.join("blobs"), root.join("snapshots").join(commit));
        let _held = lock::shared(&self.environment).unwrap();
        [&blobs, &snapshot].iter().for_each(|folder| durable::folder(folder).unwrap());
        for (name, content) in files {
            let digits = Digest::of(content).hexadecimal();
            let partial = blobs.join(format!("{digits}.incomplete"));
            std::io::Write::write_all(&mut durable::partial(&partial).unwrap(), content).unwrap();
            durable::rename(&partial, &blobs.join(&digits)).unwrap();
            durable::link(&Path::new("../../blobs").join(digits), &snapshot.join(name)).unwrap();
        }
    }

    pub fn reference(&self, repository: &str, name: &str, commit: &str) {
        let path = self.hub().join(format!("models--{repository}/refs/{name}"));
        let _held = lock::shared(&self.environment).unwrap();
        durable::folder(path.parent().unwrap()).unwrap();
        durable::write(&path, |file| {
            std::io::Write::write_all(file, commit.as_bytes())
                .map_err(|fault| pasture_store::Error::File(pasture_files::Error::write(Path::new("main"), fault)))
        })
        .unwrap();
    }

    pub fn ollama(&self, name: &str, layers: &[&[u8]]) {
        let row = |(number, content): (usize, &&[u8])| {
            let digest = Digest::of(content);
            self.write(format!("ollama/blobs/{}", digest.blob_name()), content);
            let kind = if number == 0 { "model" } else { "license" };
            let size = content.len();
            format!(r#"{{"mediaType":"application/vnd.ollama.image.{kind}","digest":"{digest}","size":{size}}}"#)
        };
        let rows: Vec<String> = layers.iter().enumerate().map(row).collect();
        let manifest = format!(r#"{{"schemaVersion":2,"config":{{}},"layers":[{}]}}"#, rows.join(","));
        self.write(format!("ollama/manifests/registry.ollama.ai/library/{name}/latest"), manifest.as_bytes());
    }

    pub fn ollama_blob(&self, content: &[u8]) -> PathBuf {
        self.home.join("ollama/blobs").join(Digest::of(content).blob_name())
    }

    pub fn hub_blob(&self, repository: &str, content: &[u8]) -> PathBuf {
        self.hub().join(format!("models--{repository}/blobs")).join(Digest::of(content).hexadecimal())
    }

    pub fn copy(&self, from: &str, to: &str) -> Result<(), Error> {
        own::copy(&self.environment, from, to, Taken::Refuse, &mut |_| true).map(drop)
    }

    pub fn plan(&self, name: &str) -> Removal {
        remove::plan(&self.environment, name).unwrap()
    }

    pub fn remove(&self, name: &str) -> Removal {
        let plan = self.plan(name);
        let _held = lock::alone(&self.environment).unwrap();
        remove::carry_out(&pasture_files::durable::Disk, &self.environment, &plan).unwrap();
        plan
    }

    pub fn names(&self) -> Vec<String> {
        list_in(&self.environment).unwrap().into_iter().map(|found| found.name).collect()
    }

    /// What verifying says, fault by fault.
    pub fn faults(&self, name: Option<&str>) -> Vec<(PathBuf, Verdict)> {
        let targets = verify::targets(&self.environment, name).unwrap();
        let verdicts = verify::verify(&self.environment, &targets, 2, Accept::No, &|_| true).unwrap();
        assert_eq!(verdicts.len(), targets.len());
        let rows = targets.into_iter().zip(verdicts).filter(|(_, verdict)| verdict.is_fault());
        rows.map(|(target, verdict)| (target.path, verdict)).collect()
    }
}
