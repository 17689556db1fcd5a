//! Words that nobody can guess, and bytes in digits.

use ring::rand::{SecureRandom, SystemRandom};

/// So many random bytes in digits of sixteen.
///
/// # Errors
/// When the system gives no random numbers.
pub fn word<const BYTES: usize>() -> std::io::Result<String> {
    let mut bytes = [0; BYTES];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| std::io::Error::other("the system gives no random numbers"))?;
    Ok(hex(&bytes))
}

/// A key: 256 random bits.
///
/// # Errors
/// As [`word`].
pub fn random_key() -> std::io::Result<String> {
    word::<32>()
}

/// Bytes in digits of sixteen.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
