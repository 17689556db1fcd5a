//! One request to a server, and its whole answer. With TLS the server must show the certificate of a file: no names
//! and no roots are believed, which fits a server of one's own.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde_json::Value;

use crate::tls::certificates;

/// For connecting, and between two parts of an answer.
const TIME: Duration = Duration::from_secs(10);
/// Longest answer.
const ANSWER_BYTES: u64 = 8 << 20;

/// Where a server is, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As `http://127.0.0.1:8080` or `https://…`.
    pub url: String,
    /// The key to ask with.
    pub key: Option<String>,
    /// The file with the certificate that it must show.
    pub cert: Option<PathBuf>,
}

/// What it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body; null where it is not JSON.
    pub body: Value,
}

trait Both: Read + Write {}
impl<T: Read + Write> Both for T {}

impl Place {
    /// Asks.
    ///
    /// # Errors
    /// When the address is none, nobody answers there, or what comes is no HTTP.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let (authority, secure) = self.parts()?;
        let fail = |error: std::io::Error| format!("cannot ask {}: {error}", self.url);
        let mut stream = self.connect(authority, secure)?;
        let key = self.key.as_ref().map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n{key}");
        let request = format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).and_then(|()| stream.flush()).map_err(fail)?;
        let mut bytes = Vec::new();
        let read = stream.take(ANSWER_BYTES).read_to_end(&mut bytes);
        // Some servers end a TLS connection without saying so; the length in the head tells whether all came.
        if bytes.is_empty() {
            read.map_err(fail)?;
        }
        answer(&bytes).ok_or_else(|| format!("what answers at {} is no server of this kind", self.url))
    }

    fn parts(&self) -> Result<(&str, bool), String> {
        let (rest, secure) = match (self.url.strip_prefix("http://"), self.url.strip_prefix("https://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            _ => return Err(format!("an address begins with http:// or https://, not as {:?}", self.url)),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        match authority.is_empty() || authority.contains(['/', '@', ' ', '\r', '\n']) {
            true => Err(format!("an address looks like http://localhost:8080, not {:?}", self.url)),
            false => Ok((authority, secure)),
        }
    }

    fn connect(&self, authority: &str, secure: bool) -> Result<Box<dyn Both>, String> {
        let fail = |error: &dyn std::fmt::Display| format!("cannot reach {}: {error}", self.url);
        let port = if secure { 443 } else { 80 };
        let addresses = match authority.to_socket_addrs() {
            Ok(addresses) => addresses,
            Err(_) => (authority, port).to_socket_addrs().map_err(|error| fail(&error))?,
        };
        let mut last = None;
        for address in addresses {
            match TcpStream::connect_timeout(&address, TIME) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIME)).map_err(|error| fail(&error))?;
                    stream.set_write_timeout(Some(TIME)).map_err(|error| fail(&error))?;
                    return if secure { self.wrapped(stream) } else { Ok(Box::new(stream)) };
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| fail(&"the name has no address"), |error| fail(&error)))
    }

    fn wrapped(&self, stream: TcpStream) -> Result<Box<dyn Both>, String> {
        let Some(cert) = &self.cert else {
            let what = "which certificate must it show? --tls-cert FILE says so";
            return Err(format!("{} is asked with TLS: {what}", self.url));
        };
        let config = pinned(cert)?;
        // The name is not looked at: the certificate itself is compared.
        let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
        let connection = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
        Ok(Box::new(StreamOwned::new(connection, stream)))
    }
}

/// A client that believes one certificate.
fn pinned(cert: &Path) -> Result<Arc<ClientConfig>, String> {
    let certs = certificates(cert)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Pinned { certs, provider: provider.clone() });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.dangerous();
    Ok(Arc::new(builder.with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

#[derive(Debug)]
struct Pinned {
    certs: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.certs.first().is_some_and(|cert| cert.as_ref() == shown.as_ref()) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::Error::General("the server shows another certificate than that of the file".into())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Reads an answer that has a length, as all of ours to whole requests have.
fn answer(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|part| part == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, body: serde_json::from_slice(&bytes[end + 4..]).unwrap_or(Value::Null) })
}
