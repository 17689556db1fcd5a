//! Event files of TensorBoard: records of a length, its checksum, an event and its checksum (TFRecord); events are protocol
//! buffers, of which only the four fields that scalars need are written.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use pasture_files::durable;

/// A file of scalars.
pub struct Scalars {
    file: File,
}

impl Scalars {
    /// A new file in a folder. TensorBoard reads all files of a folder as one run.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(folder: &Path) -> pasture_files::Result<Scalars> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let path = folder.join(format!("events.out.tfevents.{seconds}.pasture.{}", std::process::id()));
        let mut scalars = Scalars { file: durable::append_to(&path)? };
        let mut event = stamp();
        text(&mut event, 3, b"brain.Event:2");
        scalars.file.write_all(&record(&event)).map_err(|fault| pasture_files::Error::write(&path, fault))?;
        Ok(scalars)
    }

    /// Adds a value of a curve.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&mut self, name: &str, step: usize, value: f64) -> io::Result<()> {
        let mut scalar = Vec::new();
        text(&mut scalar, 1, name.as_bytes());
        scalar.push(2 << 3 | 5);
        scalar.extend((value as f32).to_le_bytes());
        let mut summary = Vec::new();
        text(&mut summary, 1, &scalar);
        let mut event = stamp();
        event.push(2 << 3);
        varint(&mut event, step as u64);
        text(&mut event, 5, &summary);
        self.file.write_all(&record(&event))
    }
}

/// An event with its time only.
fn stamp() -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let mut event = vec![1 << 3 | 1];
    event.extend(now.to_le_bytes());
    event
}

/// A field of bytes, a text or a message.
fn text(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        out.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut out = length.to_vec();
    out.extend(masked(&length).to_le_bytes());
    out.extend(event);
    out.extend(masked(event).to_le_bytes());
    out
}

/// The checksum as these files have it: turned and moved, so that a checksum of checksums is not zero.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: event files are small.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc: u32, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_published_ones() {
        // RFC 3720, B.4.
        for (bytes, wanted) in [
            (vec![0; 32], 0x8a91_36aa),
            (vec![0xff; 32], 0x62a8_ab43),
            ((0..32).collect::<Vec<u8>>(), 0x46dd_794e),
            (b"123456789".to_vec(), 0xe306_9283),
        ] {
            assert_eq!(crc32c(&bytes), wanted);
        }
    }

    #[test]
    fn numbers_have_seven_bits_a_byte() {
        let mut out = Vec::new();
        [0, 127, 128, 300].into_iter().for_each(|value| varint(&mut out, value));
        assert_eq!(out, [0, 127, 128, 1, 172, 2]);
    }
}
