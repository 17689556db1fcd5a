//! Settings in force: a flag, else a variable, else an assistant's file, else the folder's `pasture.toml`, else the user's file, else the system's.
//! What a model's own files say and the defaults come after these, from the engine. Each value remembers where it
//! is from; a key that nobody knows is an error.

mod adapters;
pub mod flags;
pub mod keys;
mod measuring;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use pasture_engine::sampling::SamplingOptions;
use pasture_files::nearest::{likely, nearest};
use pasture_store::Assistant;
use pasture_tensor::kv::KvFormat;
use serde_json::Value;

use crate::exit::{Failure, Status};
pub use adapters::AdapterFlags;
pub use flags::{AnswerFlags, ChatFlags, Given, ProgramFlags, ReceiptFlags, RunFlags, SamplingFlags};
use keys::{Kind, Scope};
pub use measuring::{Conditions, Measuring};

/// Where a value is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// A variable of the environment.
    Variable,
    /// The assistant of that name.
    Assistant(String),
    /// A file.
    File(PathBuf),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Flag => f.write_str("flag"),
            Origin::Variable => f.write_str("variable"),
            Origin::Assistant(name) => write!(f, "assistant {name}"),
            Origin::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Values by name, each with its origin.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, (Value, Origin)>,
}

impl Settings {
    /// The flags and variables that clap found, then the files.
    pub fn resolve(given: &Given) -> Result<Settings, Failure> {
        let mut settings = Settings::default();
        known_variables(std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()))?;
        for (name, value, origin) in given.iter() {
            settings.values.entry(name).or_insert_with(|| (value.clone(), origin.clone()));
        }
        for path in files() {
            settings.add_file(&path)?;
        }
        Ok(settings)
    }

    /// Adds what a file says of settings that are still open. A file that is not there says nothing.
    fn add_file(&mut self, path: &Path) -> Result<(), Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Failure::new(Status::Config, format!("cannot read {path:?}: {error}"))),
        };
        let wrong = |what: String| Failure::new(Status::Config, format!("settings file {path:?}: {what}"));
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
        for (name, value) in table {
            let Some(key) = keys::find(&name) else {
                let near = nearest(&name, keys::all().iter().map(|key| key.name));
                let hint = near.map(|near| format!("did you mean {near:?}? `pasture config` lists all settings"));
                return Err(wrong(format!("no setting is called {name:?}")).hint(hint));
            };
            let value = serde_json::to_value(value).map_err(|error| wrong(error.to_string()))?;
            key.check(&value).map_err(wrong)?;
            self.values.entry(key.name).or_insert((value, Origin::File(path.to_owned())));
        }
        Ok(())
    }

    /// What an assistant says of settings that neither a flag nor a variable made. It was chosen by name, so that it goes
    /// before files, which speak of every model.
    pub fn add_assistant(&mut self, name: &str, assistant: &Assistant) {
        let system = assistant.system.as_ref().map(|text| ("system", Value::from(text.as_str())));
        let stop = (!assistant.stop.is_empty()).then(|| ("stop", Value::from(assistant.stop.clone())));
        let settings = assistant.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        for (key, value) in settings.chain(system).chain(stop) {
            let Some(key) = keys::find(key) else { continue };
            if !matches!(self.get(key.name), Some((_, Origin::Flag | Origin::Variable))) {
                self.values.insert(key.name, (value, Origin::Assistant(name.to_owned())));
            }
        }
    }

    /// A value with its origin.
    pub fn get(&self, name: &str) -> Option<&(Value, Origin)> {
        self.values.get(name)
    }

    /// A whole number.
    pub fn whole(&self, name: &str) -> Option<usize> {
        self.get(name).and_then(|(value, _)| value.as_u64()).and_then(|number| usize::try_from(number).ok())
    }

    /// A number of bytes.
    pub fn bytes(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(|(value, _)| keys::bytes(value))
    }

    /// How keys and values are kept, where that is set.
    pub fn kv_type(&self) -> Option<KvFormat> {
        self.text("kv_type").and_then(KvFormat::from_name)
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|(value, _)| value.as_str())
    }

    /// Texts.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let list = self.get(name).and_then(|(value, _)| value.as_array());
        list.into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    }

    /// Changes a value, as `/set` does, and gives the setting's name.
    pub fn set(&mut self, name: &str, text: &str) -> Result<&'static str, Failure> {
        let known = keys::find_spelled(name).filter(|key| key.scope == Scope::Sampling);
        let key = known.ok_or_else(|| unknown_sampling(name, text))?;
        let value = key.parse(text).map_err(|what| Failure::new(Status::Usage, what))?;
        self.values.insert(key.name, (value, Origin::Flag));
        Ok(key.name)
    }

    /// A flag that would change nothing where it is given is an error; files and variables speak of every verb.
    pub fn refuse_flag(&self, name: &str, place: &str, hint: &str) -> Result<(), Failure> {
        match self.get(name) {
            Some((_, Origin::Flag)) => {
                let what = format!("`--{}` has no effect {place}", name.replace('_', "-"));
                Err(Failure::new(Status::Usage, what).hint(hint.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// The sampling settings. One from the command line that could change nothing is an error.
    pub fn sampling(&self) -> Result<SamplingOptions, Failure> {
        let mut options = SamplingOptions::default();
        for key in keys::all().iter().filter(|key| matches!(key.kind, Kind::Sampling(_))) {
            if let Some((value, _)) = self.get(key.name) {
                options.set(key.name, value).map_err(|error| Failure::new(Status::Usage, error.to_string()))?;
            }
        }
        for name in options.ineffective() {
            if matches!(self.get(name), Some((_, Origin::Flag))) {
                let flag = name.replace('_', "-");
                let what = format!("`--{flag}` has no effect together with the other settings");
                let greedy = options.is_greedy().then(|| "temperature 0 takes the most probable token".to_owned());
                return Err(Failure::new(Status::Usage, what).hint(greedy));
            }
        }
        Ok(options)
    }
}

/// How the names of our variables begin.
const OURS: &str = "PASTURE_";

/// Variables with our prefix that are no settings: where tests find their kit, which kernels run, what they print, and
/// those that the store and the server read.
const OTHER_VARIABLES: [&str; 6] =
    ["PASTURE_KIT", "PASTURE_ISA", "PASTURE_PRINT_LOSS", "PASTURE_API_KEY", "PASTURE_HOME", "PASTURE_MODELS"];

/// A mistyped variable would have no effect, and nobody would see it.
fn known_variables(names: impl Iterator<Item = String>) -> Result<(), Failure> {
    let known = || keys::all().iter().map(|key| key.variable).chain(OTHER_VARIABLES);
    let unknown = names.filter(|name| name.starts_with(OURS) && !known().any(|known| known == name));
    // What all have in common says nothing of which one was meant.
    let own = |name: &'static str| name.strip_prefix(OURS).unwrap_or(name);
    for name in unknown {
        let what = format!("no setting has the variable {name}");
        let Some(near) = likely(&name[OURS.len()..], known().map(own)) else {
            // Another program's, or another version's.
            eprintln!("note: {what}: it has no effect");
            continue;
        };
        let hint = format!("did you mean {OURS}{near}? `pasture config --json` lists all variables");
        return Err(Failure::new(Status::Config, what).hint(hint));
    }
    Ok(())
}

/// Kernels that a variable asks for must be there: whatever computes with them would panic.
pub fn known_kernels() -> Result<(), Failure> {
    let Some(name) = std::env::var_os("PASTURE_ISA") else { return Ok(()) };
    let names: Vec<&str> = pasture_kernels::Kernels::all().iter().map(|kernels| kernels.name()).collect();
    if names.iter().any(|known| name == *known) {
        return Ok(());
    }
    let what = format!("PASTURE_ISA is {name:?}, but this processor has {}", names.join(", "));
    Err(Failure::new(Status::Config, what))
}

/// A name that no setting of sampling has; one that holds from the start says how to give it.
pub fn unknown_sampling(name: &str, text: &str) -> Failure {
    let hint = match keys::find_spelled(name) {
        Some(key) if key.name == "system" => Some("/system TEXT sets it".to_owned()),
        Some(key) if key.scope != Scope::Sampling => Some(format!("it holds from the start: --{} {text}", key.flag)),
        _ => {
            let names = keys::all().iter().filter(|key| key.scope == Scope::Sampling).map(|key| key.name);
            nearest(name, names).map(|near| format!("did you mean {near:?}? /set lists all settings"))
        }
    };
    Failure::new(Status::Usage, format!("no setting of sampling is called {name:?}")).hint(hint)
}

/// The files that may hold settings, the nearest first.
pub fn files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("pasture.toml")];
    if let Ok(folders) = etcetera::choose_base_strategy() {
        files.push(folders.config_dir().join("pasture").join("config.toml"));
    }
    files.push(PathBuf::from("/etc/pasture/config.toml"));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_file(text: &str, wanted: Result<(&str, Value), &str>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("pasture.toml");
        std::fs::write(&path, text).expect("the file can be written");
        let mut settings = Settings::default();
        match (settings.add_file(&path), wanted) {
            (Ok(()), Ok((name, value))) => assert_eq!(settings.get(name), Some(&(value, Origin::File(path)))),
            (Err(failure), Err(part)) => {
                let text = failure.to_string();
                assert!(text.contains(part), "{text:?} lacks {part:?}");
            }
            (result, wanted) => panic!("{text:?}: {result:?}, not {wanted:?}"),
        }
    }

    #[test]
    fn a_file_gives_known_settings_and_nothing_else() {
        check_file("temperature = 0.5", Ok(("temperature", 0.5.into())));
        check_file("stop = [\"a\", \"b\"]", Ok(("stop", serde_json::json!(["a", "b"]))));
        check_file("temperatur = 0.5", Err("did you mean \"temperature\"?"));
        check_file("temperature = \"hot\"", Err("a number from 0 to 100"));
        check_file("threads = 0", Err("from 1 to 1024"));
        check_file("threads = ", Err("settings file"));
    }

    #[test]
    fn a_mistyped_variable_is_told() {
        let check = |name: &str| known_variables([name.to_owned()].into_iter());
        for good in ["PASTURE_THREADS", "PASTURE_KIT", "PATH", "MY_PASTURE_X", "PASTURE_HOME_PAGE"] {
            assert!(check(good).is_ok(), "{good}");
        }
        let text = check("PASTURE_TEMPRATURE").expect_err("a slip").to_string();
        assert!(text.contains("PASTURE_TEMPERATURE"), "{text}");
    }

    #[test]
    fn the_first_layer_that_says_something_wins() {
        let mut settings = Settings::default();
        settings.values.insert("threads", (3.into(), Origin::Flag));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("pasture.toml");
        std::fs::write(&path, "threads = 7\ntop_k = 5").expect("the file can be written");
        settings.add_file(&path).expect("a good file");
        assert_eq!((settings.whole("threads"), settings.whole("top_k")), (Some(3), Some(5)));
    }

    #[test]
    fn a_flag_without_effect_is_named() {
        let mut settings = Settings::default();
        settings.values.insert("temperature", (0.into(), Origin::Flag));
        settings.values.insert("top_p", (serde_json::json!(0.5), Origin::File("x".into())));
        assert!(settings.sampling().is_ok(), "a file speaks of every run");
        settings.values.insert("top_p", (serde_json::json!(0.5), Origin::Flag));
        let text = settings.sampling().expect_err("greedy takes no top_p").to_string();
        assert!(text.contains("--top-p"), "{text}");
    }
}
