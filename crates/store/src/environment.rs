//! The variables and folders that say where models are, as a value: the process's own or, in tests, another.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::{Origin, Place};

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    hugging_face: Option<PathBuf>,
    hub: Option<PathBuf>,
    ollama: Vec<PathBuf>,
    lm_studio: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    data: Option<PathBuf>,
    cache: Option<PathBuf>,
    aliases: Option<PathBuf>,
}

/// Where Ollama's Linux service, which has its own user, keeps its models.
const OLLAMA_SERVICE: &str = "/usr/share/ollama/.ollama/models";

/// Where LM Studio keeps its models, now and in earlier versions, below the home folder.
const LM_STUDIO: [&str; 2] = [".lmstudio/models", ".cache/lm-studio/models"];

impl Environment {
    /// That of this process.
    pub fn current() -> Environment {
        Environment::of(|name| std::env::var_os(name), etcetera::home_dir().ok())
    }

    /// From variables and the user's home folder. An empty variable counts as none.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Environment {
        let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(|value| expanded(value, &home));
        let cache = || folder("XDG_CACHE_HOME").or_else(|| Some(home.as_ref()?.join(".cache")));
        let hugging_face = || folder("HF_HOME").or_else(|| Some(cache()?.join("huggingface")));
        let hub = folder("HF_HUB_CACHE")
            .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(hugging_face()?.join("hub")));
        let ollama = match folder("OLLAMA_MODELS") {
            Some(folder) => vec![folder],
            None => home.iter().map(|home| home.join(".ollama/models")).chain([OLLAMA_SERVICE.into()]).collect(),
        };
        let data = folder("PASTURE_HOME")
            .or_else(|| Some(folder("XDG_DATA_HOME")?.join("pasture")))
            .or_else(|| Some(home.as_ref()?.join(".local/share/pasture")));
        let settings = folder("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
        let aliases = settings.map(|folder| folder.join("pasture/aliases.toml"));
        let lm_studio = home.iter().flat_map(|home| LM_STUDIO.map(|folder| home.join(folder))).collect();
        let folders = variable("PASTURE_MODELS").map(|list| {
            let folders = std::env::split_paths(&list).filter(|folder| !folder.as_os_str().is_empty());
            folders.map(|folder| expanded(folder.into_os_string(), &home)).collect()
        });
        let hugging_face = hugging_face();
        let (folders, cache) = (folders.unwrap_or_default(), cache().map(|folder| folder.join("pasture")));
        Environment { hugging_face, hub, ollama, lm_studio, folders, data, cache, aliases }
    }

    /// The folders that are searched, in their order.
    pub fn places(&self) -> Vec<Place> {
        let hub = self.hub.iter().map(|path| Place { origin: Origin::HuggingFace, path: path.clone() });
        let ollama = self.ollama.iter().map(|path| Place { origin: Origin::Ollama, path: path.clone() });
        let lm_studio = self.lm_studio.iter().map(|path| Place { origin: Origin::LmStudio, path: path.clone() });
        let folders = self.folders.iter().map(|path| Place { origin: Origin::Folder, path: path.clone() });
        hub.chain(ollama).chain(lm_studio).chain(folders).collect()
    }

    /// The folder of Pasture's own data: the ledger, server keys, chats. Made by whoever writes there first.
    pub fn data(&self) -> Option<&Path> {
        self.data.as_deref()
    }

    /// The folder of what Pasture can make again. Made by whoever writes there first.
    pub fn cache(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// The user's own table of short names.
    pub fn aliases(&self) -> Option<&Path> {
        self.aliases.as_deref()
    }

    /// Hugging Face's home folder, where the token is; the cache may be elsewhere.
    pub(crate) fn hugging_face(&self) -> Option<&Path> {
        self.hugging_face.as_deref()
    }

    pub(crate) fn hub(&self) -> Option<&Path> {
        self.hub.as_deref()
    }

    pub(crate) fn ollama(&self) -> &[PathBuf] {
        &self.ollama
    }
}

/// A leading `~` is the home folder, as Python's reader of these variables has it.
pub(crate) fn expanded(value: OsString, home: &Option<PathBuf>) -> PathBuf {
    let path = PathBuf::from(value);
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], hub: &str, ollama: &[&str]) {
        let variable = |name: &str| variables.iter().find(|row| row.0 == name).map(|row| row.1.into());
        let found = Environment::of(variable, Some("/at/a".into()));
        assert_eq!(found.hub(), Some(Path::new(hub)), "{variables:?}");
        assert_eq!(found.ollama(), ollama.iter().map(PathBuf::from).collect::<Vec<_>>(), "{variables:?}");
    }

    #[test]
    fn the_first_variable_that_is_set_decides() {
        let own = &["/at/a/.ollama/models", OLLAMA_SERVICE][..];
        check(&[], "/at/a/.cache/huggingface/hub", own);
        check(&[("XDG_CACHE_HOME", "/c")], "/c/huggingface/hub", own);
        check(&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/c")], "/h/hub", own);
        check(&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/h")], "/old", own);
        check(&[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/new", own);
        check(&[("HF_HUB_CACHE", ""), ("HF_HOME", "~/h")], "/at/a/h/hub", own);
        check(&[("OLLAMA_MODELS", "/o")], "/at/a/.cache/huggingface/hub", &["/o"]);
    }

    #[test]
    fn what_is_made_here_has_a_folder_of_its_own() {
        let data = |variables: &[(&str, &str)]| {
            let variable = |name: &str| variables.iter().find(|row| row.0 == name).map(|row| row.1.into());
            Environment::of(variable, Some("/at/a".into())).data().map(Path::to_owned)
        };
        assert_eq!(data(&[]), Some("/at/a/.local/share/pasture".into()));
        assert_eq!(data(&[("XDG_DATA_HOME", "/d")]), Some("/d/pasture".into()));
        assert_eq!(data(&[("PASTURE_HOME", "/p"), ("XDG_DATA_HOME", "/d")]), Some("/p".into()));
    }

    #[test]
    fn folders_are_listed_as_in_a_path() {
        let variable = |name: &str| (name == "PASTURE_MODELS").then(|| "/m:~/n:".into());
        let places = Environment::of(variable, Some("/at/a".into())).places();
        let of = |origin| places.iter().filter(move |place| place.origin == origin).map(|place| place.path.as_path());
        assert!(of(Origin::Folder).eq([Path::new("/m"), Path::new("/at/a/n")]));
        assert!(of(Origin::LmStudio).eq(LM_STUDIO.map(|folder| Path::new("/at/a").join(folder)).iter()));
    }

    #[test]
    fn data_has_a_folder_of_its_own() {
        let check = |variables: &[(&str, &str)], wanted: &str| {
            let variable = |name: &str| variables.iter().find(|row| row.0 == name).map(|row| row.1.into());
            let found = Environment::of(variable, Some("/at/a".into()));
            assert_eq!(found.data(), Some(Path::new(wanted)), "{variables:?}");
        };
        check(&[], "/at/a/.local/share/pasture");
        check(&[("XDG_DATA_HOME", "/d")], "/d/pasture");
        check(&[("XDG_DATA_HOME", "/d"), ("PASTURE_HOME", "~/p")], "/at/a/p");
    }

    #[test]
    fn without_a_home_only_variables_lead_somewhere() {
        let found = Environment::of(|_| None, None);
        assert_eq!(found.places().len(), 1);
        assert_eq!((found.hub(), found.data()), (None, None));
    }
}
