//! A zip file of stored members, as `torch.save` writes one: with right checksums, so that mutated pickles reach the
//! machine that reads them.

/// A checkpoint whose pickle is `body` behind its protocol, with one storage `0` of four 32-bit floats.
pub fn checkpoint(body: &[u8]) -> Vec<u8> {
    let pickle = [b"\x80\x02", body].concat();
    stored(&[("m/data.pkl", &pickle), ("m/data/0", &[0; 16])])
}

fn stored(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let length = (bytes.len() as u32).to_le_bytes();
        let name_length = [name.len() as u8, 0];
        // Version, flags, method, time and date are zero.
        let facts = [&[0; 10][..], &checksum(bytes).to_le_bytes(), &length, &length, &name_length, &[0, 0]].concat();
        let offset = (file.len() as u32).to_le_bytes();
        directory.extend([b"PK\x01\x02\0\0", &facts[..], &[0; 10], &offset, name.as_bytes()].concat());
        file.extend([b"PK\x03\x04", &facts[..], name.as_bytes(), bytes].concat());
    }
    let (start, length) = ((file.len() as u32).to_le_bytes(), (directory.len() as u32).to_le_bytes());
    let count = [members.len() as u8, 0];
    file.extend(directory);
    file.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &length, &start, &[0, 0]].concat());
    file
}

/// CRC-32 of the zip format.
fn checksum(bytes: &[u8]) -> u32 {
    let bit = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
    }
}
