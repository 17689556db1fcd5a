//! In which order a format's block is packed: ranges of its bytes in units that the kernels take as one lane.
//!
//! Invariant: a format's segments cover each byte of its block once, so that packing loses nothing.

use crate::Format;

/// A range of a block's bytes that is packed in units: unit by unit, the units of the 16 rows side by side.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    pub(super) start: usize,
    pub(super) bytes: usize,
    pub(super) unit: usize,
    /// Flipped in every byte: signed codes become unsigned ones.
    pub(super) flip: u8,
}

const fn segment(start: usize, bytes: usize, unit: usize) -> Segment {
    Segment { start, bytes, unit, flip: 0 }
}

/// Four codes, or four bytes of several codes each, of 16 rows are one vector.
const fn codes(start: usize, bytes: usize) -> Segment {
    segment(start, bytes, 4)
}

/// A binary16 of each of 16 rows is half a vector.
const fn half(start: usize) -> Segment {
    segment(start, 2, 2)
}

/// The order in which a format's block is packed: that in which the kernels read it, so that memory is one stream.
/// `None` for formats that stay plain.
pub(crate) fn segments(format: Format) -> Option<&'static [Segment]> {
    Some(match format {
        Format::F32 => &const { [segment(0, 4, 4)] },
        Format::F16 => &const { [segment(0, 2, 2)] },
        // Two columns are one 32-bit unit, see `packed_block`.
        Format::BF16 => &const { [segment(0, 4, 4)] },
        Format::Q8_0 => &const { [Segment { flip: 0x80, ..codes(2, 32) }, half(0)] },
        Format::Q4_0 | Format::IQ4_NL => &const { [codes(2, 16), half(0)] },
        Format::MXFP4 => &const { [codes(1, 16), segment(0, 1, 1)] },
        Format::Q4_1 => &const { [codes(4, 16), half(0), half(2)] },
        Format::Q5_0 => &const { [codes(6, 16), codes(2, 4), half(0)] },
        Format::Q5_1 => &const { [codes(8, 16), codes(4, 4), half(0), half(2)] },
        Format::Q2_K => &const { [codes(16, 64), codes(0, 16), half(80), half(82)] },
        Format::Q3_K => &const { [codes(32, 64), codes(0, 32), codes(96, 12), half(108)] },
        Format::Q4_K => &const { [codes(4, 12), half(0), half(2), codes(16, 128)] },
        Format::Q5_K => &const { [codes(4, 12), half(0), half(2), codes(16, 32), codes(48, 128)] },
        Format::Q6_K => {
            &const { [codes(192, 16), codes(0, 64), codes(128, 32), codes(64, 64), codes(160, 32), half(208)] }
        }
        Format::IQ4_XS => &const { [codes(8, 128), codes(4, 4), half(2), half(0)] },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_each_byte_of_a_block_once() {
        for format in Format::ALL {
            let Some(segments) = segments(*format).filter(|_| *format != Format::BF16) else { continue };
            let mut seen = vec![0; format.block_bytes()];
            for segment in segments {
                assert!(segment.bytes.is_multiple_of(segment.unit));
                seen[segment.start..segment.start + segment.bytes].iter_mut().for_each(|seen| *seen += 1);
            }
            assert!(seen.iter().all(|seen| *seen == 1), "{}", format.name());
        }
    }
}
