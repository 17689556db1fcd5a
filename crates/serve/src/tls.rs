//! TLS: certificate and key from two files in PEM, read again when they change or at SIGHUP. A pair that does not fit
//! is an error at the start; later the pair before it stays in force, and the log says why.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where a server's certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and a root, in PEM.
    pub cert: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
}

impl TlsFiles {
    /// The configuration of a server; TLS 1.2 and 1.3, HTTP/1.1.
    ///
    /// # Errors
    /// When a file cannot be read or has no such thing in it, or the two do not belong together.
    pub fn read(&self) -> Result<Arc<ServerConfig>, String> {
        let certs = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| of_pem("key", &self.key, &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?.with_no_client_auth();
        let mut config = builder.with_single_cert(certs, key).map_err(|error| {
            let (cert, key) = (self.cert.display(), self.key.display());
            format!("the certificate in {cert} and the key in {key} do not go together: {error}")
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// When the files were changed, and how long they are.
    fn state(&self) -> Vec<Option<(SystemTime, u64)>> {
        let one = |path: &Path| {
            let data = std::fs::metadata(path).ok()?;
            Some((data.modified().ok()?, data.len()))
        };
        vec![one(&self.cert), one(&self.key)]
    }
}

/// The certificates of a file, the server's first.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certs = CertificateDer::pem_file_iter(path).map_err(|error| of_pem("certificate", path, &error))?;
    let certs: Vec<_> = certs.collect::<Result<_, _>>().map_err(|error| of_pem("certificate", path, &error))?;
    match certs.is_empty() {
        true => Err(format!("there is no certificate in {}: it must be in PEM", path.display())),
        false => Ok(certs),
    }
}

fn of_pem(what: &str, path: &Path, error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error as E;
    match error {
        E::NoItemsFound => format!("there is no {what} in {}: it must be in PEM", path.display()),
        E::Io(error) => format!("cannot read the {what} {}: {error}", path.display()),
        other => format!("the {what} in {} is damaged: {other}", path.display()),
    }
}

/// Reads the files again whenever they changed, or the program is told to; for ever.
pub async fn follow(files: TlsFiles, config: RustlsConfig) {
    let mut state = files.state();
    let mut told = Told::new();
    loop {
        let asked = tokio::select! {
            () = tokio::time::sleep(LOOK) => false,
            () = told.next() => true,
        };
        let now = files.state();
        if !asked && now == state {
            continue;
        }
        state = now;
        match files.read() {
            Ok(fresh) => {
                config.reload_from_config(fresh);
                eprintln!("note: the certificate was read again");
            }
            Err(what) => eprintln!("error: {what}; the certificate before stays in force"),
        }
    }
}

/// SIGHUP, where there is one.
struct Told {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Told {
    #[cfg(unix)]
    fn new() -> Told {
        use tokio::signal::unix::{SignalKind, signal};
        Told { signal: signal(SignalKind::hangup()).ok() }
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        match &mut self.signal {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }

    #[cfg(not(unix))]
    fn new() -> Told {
        Told {}
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        std::future::pending().await
    }
}
