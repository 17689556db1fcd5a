//! Who signs, and whose signature counts: the user's own ed25519 key and a plain list of other people's public keys, both
//! in the data folder. Nothing of the private key is ever printed.

use std::fmt;
use std::path::{Path, PathBuf};

use pasture_files::durable;
use pasture_files::folder;
use pasture_files::size::Size;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::name::is_name;

/// The private key's file, which only the user reads.
const PRIVATE: &str = "signing-key.pk8";
/// The list of other people's keys.
const LIST: &str = "trusted-keys.toml";
/// How a public key's text begins.
const SCHEME: &str = "ed25519:";
/// Other people's keys at most.
const KEYS_MAX: usize = 4096;
const FILE_BYTES_MAX: Size = Size::new(1 << 20);

/// What the user's own key is called.
pub const OWN: &str = "own";

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PublicKey {
    /// Reads `ed25519:` and 64 digits of 0-9a-f.
    ///
    /// # Errors
    /// What a key's text looks like.
    pub fn parse(text: &str) -> Result<PublicKey> {
        let wrong = || {
            let what = "a public key is \"ed25519:\" and 64 digits of 0-9a-f, as `pasture trust init` prints it";
            Error::Key { what: format!("{} is no key: {what}", pasture_files::error::quoted(text)) }
        };
        let digits = text.trim().strip_prefix(SCHEME).ok_or_else(wrong)?.as_bytes();
        let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
        let mut key = [0; 32];
        if digits.len() != 2 * key.len() {
            return Err(wrong());
        }
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let value = digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high * 16 + low).ok_or_else(wrong)?;
            *byte = u8::try_from(value).map_err(|_| wrong())?;
        }
        Ok(PublicKey(key))
    }

    /// Whether a signature of this key fits a message.
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

/// The user's own key.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    /// Its public half.
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(key)
    }

    /// The signature of a message: of one message always the same.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

/// Somebody's key with the name that the user gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// The name.
    pub name: String,
    /// The key.
    pub key: PublicKey,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    key: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    key: String,
}

/// The keys of one data folder.
#[derive(Clone, Debug)]
pub struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// The keys that lie in a data folder; it need not be there yet.
    pub fn at(folder: &Path) -> Keys {
        Keys { folder: folder.to_owned() }
    }

    /// Makes the user's own key, once.
    ///
    /// # Errors
    /// When there is one, or it cannot be kept.
    pub fn init(&self) -> Result<PublicKey> {
        if let Some(signer) = self.own()? {
            return Err(Error::Key { what: format!("there is a key already, {}; it stays", signer.public()) });
        }
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let made = made.map_err(|_| Error::Key { what: "the system gives no random numbers for a key".into() })?;
        crate::durable::folder(&self.folder)?;
        let path = self.folder.join(PRIVATE);
        write_private(&path, made.as_ref())?;
        let signer = self.own()?.ok_or_else(|| Error::Key { what: "the key that was made is gone".into() })?;
        Ok(signer.public())
    }

    /// The user's own key; none before it was made.
    ///
    /// # Errors
    /// When its file cannot be read or holds no key.
    pub fn own(&self) -> Result<Option<Signer>> {
        let path = self.folder.join(PRIVATE);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = folder::read_file(&path, FILE_BYTES_MAX)?;
        let pair = Ed25519KeyPair::from_pkcs8(&bytes);
        let pair =
            pair.map_err(|_| Error::Key { what: format!("{PRIVATE:?} in the data folder holds no ed25519 key") })?;
        Ok(Some(Signer(pair)))
    }

    /// Other people's keys, in the order in which they were added.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn list(&self) -> Result<Vec<Trusted>> {
        let path = self.folder.join(LIST);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let bytes = folder::read_file(&path, FILE_BYTES_MAX)?;
        let wrong = |what: String| Error::Key { what: format!("the list of trusted keys, {LIST:?}, is wrong: {what}") };
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".into()))?;
        let list: List = toml::from_str(&text).map_err(|fault| wrong(fault.message().to_owned()))?;
        let row = |row: Row| Ok(Trusted { key: PublicKey::parse(&row.key)?, name: row.name });
        list.key.into_iter().take(KEYS_MAX).map(row).collect()
    }

    /// Trusts a key under a name.
    ///
    /// # Errors
    /// When the name or the key is in the list already, or the list cannot be written.
    pub fn add(&self, name: &str, key: PublicKey) -> Result<()> {
        if !is_name(name) || name == OWN {
            let what =
                format!("{name:?} is no name for a key: letters, digits and \"._-\" make one, and {OWN:?} is yours");
            return Err(Error::Key { what });
        }
        let mut list = self.list()?;
        if let Some(there) = list.iter().find(|there| there.name == name || there.key == key) {
            let what =
                format!("{} is trusted already, as {:?}; `pasture trust remove` forgets it", there.key, there.name);
            return Err(Error::Key { what });
        }
        if list.len() >= KEYS_MAX {
            return Err(Error::Key { what: format!("there are {KEYS_MAX} trusted keys, the most that are kept") });
        }
        list.push(Trusted { name: name.to_owned(), key });
        self.write(&list)
    }

    /// Forgets a key by its name, and gives it.
    ///
    /// # Errors
    /// When nobody has the name, or the list cannot be written.
    pub fn remove(&self, name: &str) -> Result<PublicKey> {
        let mut list = self.list()?;
        let at = list.iter().position(|there| there.name == name);
        let at = at.ok_or_else(|| Error::Key { what: format!("no trusted key is called {name:?}") })?;
        let gone = list.remove(at);
        self.write(&list)?;
        Ok(gone.key)
    }

    /// What a key is called here: the user's own, or one of the list; none that is not trusted.
    ///
    /// # Errors
    /// When the keys cannot be read.
    pub fn name_of(&self, key: &PublicKey) -> Result<Option<String>> {
        if self.own()?.is_some_and(|own| own.public() == *key) {
            return Ok(Some(OWN.to_owned()));
        }
        Ok(self.list()?.into_iter().find(|there| there.key == *key).map(|there| there.name))
    }

    fn write(&self, list: &[Trusted]) -> Result<()> {
        let row = |there: &Trusted| Row { name: there.name.clone(), key: there.key.to_string() };
        let list = List { key: list.iter().map(row).collect() };
        let text = toml::to_string(&list).expect("names and keys are TOML");
        crate::durable::folder(&self.folder)?;
        Ok(durable::write_file(&self.folder.join(LIST), |sink| sink.put(text.as_bytes()))?)
    }
}

/// Writes a file that only its owner reads, from its first byte on.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let put = |file: &mut std::fs::File| -> std::io::Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        file.write_all(bytes)
    };
    crate::durable::write(path, |file| put(file).map_err(|fault| pasture_files::Error::write(path, fault).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_signs_the_same_way_each_time() {
        let place = tempfile::tempdir().unwrap();
        let keys = Keys::at(&place.path().join("data"));
        assert!(keys.own().unwrap().is_none());
        let public = keys.init().unwrap();
        assert!(keys.init().unwrap_err().to_string().contains("already"));
        let signer = keys.own().unwrap().unwrap();
        let signature = signer.sign(b"words");
        assert_eq!(signature, signer.sign(b"words"));
        assert!(public.signed(b"words", &signature) && !public.signed(b"word", &signature));
        assert_eq!(keys.name_of(&public).unwrap().as_deref(), Some(OWN));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = place.path().join("data").join(PRIVATE).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn other_keys_have_names() {
        let place = tempfile::tempdir().unwrap();
        let (keys, one, two) = (Keys::at(place.path()), PublicKey([1; 32]), PublicKey([2; 32]));
        keys.add("ann", one).unwrap();
        keys.add("ben", two).unwrap();
        for (name, key) in [("ann", PublicKey([3; 32])), ("cleo", one), ("own", PublicKey([4; 32])), ("../x", two)] {
            assert!(keys.add(name, key).is_err(), "{name}");
        }
        assert_eq!(keys.name_of(&two).unwrap().as_deref(), Some("ben"));
        assert_eq!(keys.remove("ann").unwrap(), one);
        assert_eq!(keys.name_of(&one).unwrap(), None);
        assert!(keys.remove("ann").is_err());
        assert_eq!(keys.list().unwrap().len(), 1);
    }

    #[test]
    fn only_a_key_is_a_key() {
        let good = PublicKey([0xab; 32]).to_string();
        assert_eq!(PublicKey::parse(&good).unwrap(), PublicKey([0xab; 32]));
        for bad in ["", "ed25519:", &good[1..], &good[..70], &good.to_uppercase(), &format!("{good}0")] {
            assert!(PublicKey::parse(bad).is_err(), "{bad}");
        }
    }
}
