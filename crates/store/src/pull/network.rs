//! What of the environment decides how the network is used: the hub's address, the token, proxies, certificates, and
//! whether it is used at all. A value, so that tests have one of their own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pasture_files::folder;
use pasture_files::size::Size;

use super::error::{Error, Result};
use super::url::Url;
use crate::environment::{Environment, expanded};

/// The hub that is meant where nothing else is said.
const HUB: &str = "https://huggingface.co";
const TOKEN_BYTES_MAX: Size = Size::new(4096);

/// How patient the network's use is.
#[derive(Clone, Debug)]
pub struct Patience {
    /// After so long without a kilobyte the connection counts as stalled.
    pub stall: Duration,
    /// So often in a row something may fail before it is given up.
    pub tries: u32,
    /// The first pause after a failure; each further one is twice as long.
    pub pause: Duration,
    /// The longest time that a host may ask to wait.
    pub wait_max: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            stall: Duration::from_secs(30),
            tries: 5,
            pause: Duration::from_millis(500),
            wait_max: Duration::from_secs(300),
        }
    }
}

/// The network as the user wants it used, and the folders that things go to.
#[derive(Clone)]
pub struct Network {
    /// The hub's address without a slash at its end.
    pub(crate) endpoint: Url,
    pub(crate) token: Option<String>,
    pub(crate) offline: bool,
    pub(crate) proxies: Proxies,
    pub(crate) certificates: Option<PathBuf>,
    /// How patient it is.
    pub patience: Patience,
    /// Whether the locks of the cache are taken; without them copies are made twice, and nothing else.
    pub locks: bool,
    pub(crate) environment: Environment,
}

/// Proxies by scheme, and hosts that go without.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    pub http: Option<String>,
    pub https: Option<String>,
    pub none_for: Vec<String>,
}

impl Network {
    /// As this process's variables have it.
    pub fn current() -> Result<Network> {
        Network::of(|name| std::env::var_os(name), etcetera::home_dir().ok())
    }

    /// From variables and the user's home folder. An empty variable counts as none.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Result<Network> {
        let text = |name: &str| {
            let value = variable(name).filter(|value| !value.is_empty())?;
            Some(value.to_string_lossy().into_owned())
        };
        let first = |names: &[&str]| names.iter().find_map(|name| text(name));
        let environment = Environment::of(&variable, home.clone());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned());
        let endpoint = Url::parse(endpoint.trim_end_matches('/'))
            .map_err(|why| Error::Setting { name: "HF_ENDPOINT".into(), why })?;
        let is_set = |name: &str| {
            text(name).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on"))
        };
        let file = |name: &str| variable(name).filter(|value| !value.is_empty()).map(|value| expanded(value, &home));
        let path = file("HF_TOKEN_PATH").or_else(|| Some(environment.hugging_face()?.join("token")));
        let token = match first(&["HF_TOKEN", "HF_HUB_TOKEN", "HUGGING_FACE_HUB_TOKEN"]) {
            Some(token) => Some(token),
            None if is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") => None,
            None => path.as_deref().map(token_in).transpose()?.flatten(),
        };
        Ok(Network {
            endpoint,
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE"),
            proxies: Proxies {
                http: first(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
                https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
                none_for: first(&["no_proxy", "NO_PROXY"])
                    .map(|text| text.split(',').map(|host| host.trim().to_owned()).collect())
                    .unwrap_or_default(),
            },
            certificates: file("SSL_CERT_FILE"),
            patience: Patience::default(),
            locks: true,
            environment,
        })
    }

    /// Whether the user wants no network.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Where the caches are.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

fn token_in(path: &Path) -> Result<Option<String>> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = folder::read_file(path, TOKEN_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok((!text.is_empty()).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(variables: &[(&str, &str)], home: &Path) -> Result<Network> {
        let variable = |name: &str| variables.iter().find(|row| row.0 == name).map(|row| row.1.into());
        Network::of(variable, Some(home.to_owned()))
    }

    #[test]
    fn the_token_is_the_first_that_is_set() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join(".cache/huggingface")).unwrap();
        std::fs::write(home.path().join(".cache/huggingface/token"), "kept\n").unwrap();
        std::fs::write(home.path().join("other"), "other").unwrap();
        let other = home.path().join("other").to_string_lossy().into_owned();
        let check = |variables: &[(&str, &str)], wanted: Option<&str>| {
            let found = network(variables, home.path()).unwrap().token;
            assert_eq!(found.as_deref(), wanted, "{variables:?}");
        };
        check(&[], Some("kept"));
        check(&[("HF_TOKEN", " given ")], Some("given"));
        check(&[("HF_TOKEN_PATH", &other)], Some("other"));
        check(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")], None);
        check(&[("HF_TOKEN_PATH", "~/other")], Some("other"));
        check(&[("HF_HOME", "/nowhere")], None);
        // A file of that name beside a cache elsewhere is not Hugging Face's.
        std::fs::write(home.path().join("token"), "foreign").unwrap();
        let cache = home.path().join("cache").to_string_lossy().into_owned();
        check(&[("HF_HUB_CACHE", &cache)], Some("kept"));
        check(&[("HUGGINGFACE_HUB_CACHE", &cache)], Some("kept"));
        check(&[("HF_HUB_CACHE", &cache), ("HF_HOME", "~")], Some("foreign"));
        let found = network(&[("SSL_CERT_FILE", "~/ca.pem")], home.path()).unwrap();
        assert_eq!(found.certificates, Some(home.path().join("ca.pem")));
    }

    #[test]
    fn a_variable_without_meaning_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        for bad in ["ftp://h", "huggingface.co", "http://", "http://user@h", "http://h:x"] {
            assert!(network(&[("HF_ENDPOINT", bad)], home.path()).is_err(), "{bad}");
        }
        let good = network(&[("HF_ENDPOINT", "http://127.0.0.1:8080/"), ("HF_HUB_OFFLINE", "1")], home.path()).unwrap();
        assert_eq!((good.endpoint.text().as_str(), good.offline), ("http://127.0.0.1:8080", true));
    }
}
