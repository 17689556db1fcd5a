//! GPT-2's alphabet: the 256 printable characters that stand for the 256 bytes in byte-level vocabularies.
//! Inside this crate tokens are always raw bytes; this mapping is used when files are read and tokens are shown.

/// The character that stands for `byte`. Printable Latin-1 stands for itself, the rest for U+0100 and up in order.
pub(super) fn character(byte: u8) -> char {
    const TABLE: [char; 256] = table();
    TABLE[byte as usize]
}

/// The byte that `character` stands for.
pub(super) fn byte(character: char) -> Option<u8> {
    const TABLE: [u16; 0x144] = reverse();
    let value = *TABLE.get(character as usize)?;
    u8::try_from(value).ok()
}

/// The raw bytes of a token in byte-level spelling, or `None` if a character is outside the alphabet.
pub(super) fn bytes(token: &str) -> Option<Vec<u8>> {
    token.chars().map(byte).collect()
}

/// Appends the raw bytes of a token; false if a character is outside the alphabet.
pub(super) fn extend(token: &str, out: &mut Vec<u8>) -> bool {
    token.chars().all(|character| byte(character).map(|byte| out.push(byte)).is_some())
}

/// The byte-level spelling of raw bytes.
pub(super) fn spelling(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| character(byte)).collect()
}

const fn is_printable(byte: usize) -> bool {
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
}

const fn table() -> [char; 256] {
    let mut table = ['\0'; 256];
    let (mut byte, mut next) = (0, 0x100);
    while byte < 256 {
        if is_printable(byte) {
            table[byte] = byte as u8 as char;
        } else {
            table[byte] = match char::from_u32(next) {
                Some(character) => character,
                None => '\0',
            };
            next += 1;
        }
        byte += 1;
    }
    table
}

const fn reverse() -> [u16; 0x144] {
    let forward = table();
    let mut reverse = [u16::MAX; 0x144];
    let mut byte = 0;
    while byte < 256 {
        reverse[forward[byte] as usize] = byte as u16;
        byte += 1;
    }
    reverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        for value in 0..=255u8 {
            assert_eq!(byte(character(value)), Some(value));
        }
        assert_eq!((character(b' '), character(b'\n'), character(0xad)), ('Ġ', 'Ċ', 'Ń'));
        assert_eq!(byte(' '), None);
    }
}
