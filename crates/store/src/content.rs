//! The bytes of a file that is passed on, in a bundle or by a push.

use std::path::{Path, PathBuf};

use pasture_files::Error as Fault;
use pasture_files::error::file_name;
use serde_json::Value;

use crate::error::Result;

/// Where a file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In a file.
    File(PathBuf),
    /// Here.
    Bytes(Vec<u8>),
}

/// An adapter's description, and its key that says where the base was when it was trained.
const DESCRIPTION: &str = "adapter_config.json";
const BASE: &str = "base_model_name_or_path";
/// A description that is longer is passed on as it is: no reader takes it.
const DESCRIPTION_BYTES_MAX: u64 = 1 << 20;

/// Beginnings of the names of files that say how a training went.
const TRAINING: [&str; 2] = ["events.out.tfevents", "training_args.bin"];

/// Whether nobody needs this of a folder to run its model: what a training wrote beside it, by its path in the folder.
pub(crate) fn is_of_training(path: &str) -> bool {
    let is_checkpoint = path.split_once('/').is_some_and(|(folder, _)| folder.starts_with("checkpoint"));
    is_checkpoint || TRAINING.iter().any(|begin| path.starts_with(begin))
}

impl Content {
    /// A file of this machine as others get it: an adapter's description names its base and not this machine's folders.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn passed_on(path: PathBuf) -> Result<Content> {
        if !path.ends_with(DESCRIPTION) || path.metadata().is_ok_and(|found| found.len() > DESCRIPTION_BYTES_MAX) {
            return Ok(Content::File(path));
        }
        let text = std::fs::read_to_string(&path).map_err(|fault| Fault::read(&path, fault))?;
        Ok(without_folders(&text).map_or(Content::File(path), |text| Content::Bytes(text.into_bytes())))
    }

    /// Its length, 0 where the file is gone.
    pub fn bytes(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(path) => path.metadata().map_or(0, |found| found.len()),
        }
    }
}

/// The description with the base's name where it had an absolute path; none where it had none.
fn without_folders(text: &str) -> Option<String> {
    let mut description: Value = serde_json::from_str(text).ok()?;
    let base = Path::new(description[BASE].as_str()?);
    if !base.is_absolute() {
        return None;
    }
    description[BASE] = file_name(base).into();
    serde_json::to_string_pretty(&description).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_names_its_base_and_no_folder() {
        let check = |from: &str, to: Option<&str>| assert_eq!(without_folders(from).as_deref(), to, "{from}");
        check(
            "{\"r\": 16, \"base_model_name_or_path\": \"\\/srv/me/base.gguf\", \"lora_dropout\": 0.05}",
            Some("{\n  \"r\": 16,\n  \"base_model_name_or_path\": \"base.gguf\",\n  \"lora_dropout\": 0.05\n}"),
        );
        check("{\"base_model_name_or_path\": \"owner/name\"}", None);
        check("{\"base_model_name_or_path\": null}", None);
        check("not JSON", None);
    }

    #[test]
    fn what_a_training_wrote_stays() {
        let check = |path: &str, stays: bool| assert_eq!(is_of_training(path), stays, "{path}");
        check("checkpoint-20/model.safetensors", true);
        check("checkpoints/20/state", true);
        check("events.out.tfevents.1.host.2", true);
        check("checkpoint.pth", false);
        check("1_Pooling/config.json", false);
    }

    #[test]
    fn only_the_description_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let text = "{\"base_model_name_or_path\": \"/srv/me/base\"}";
        for name in ["adapter_config.json", "config.json"] {
            std::fs::write(path(name), text).expect("written");
        }
        let made = Content::passed_on(path("adapter_config.json")).expect("read");
        assert_eq!(made, Content::Bytes(b"{\n  \"base_model_name_or_path\": \"base\"\n}".to_vec()));
        assert_eq!(made.bytes(), 39);
        let kept = Content::passed_on(path("config.json")).expect("kept");
        assert_eq!((kept.bytes(), kept), (text.len() as u64, Content::File(path("config.json"))));
    }
}
