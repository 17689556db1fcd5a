//! The part of Protocol Buffers that SentencePiece models use: fields of varints, fixed numbers and bytes.
//! Groups and wire types beyond that are refused; every length is checked before it is used.

use super::error::{Result, invalid};

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Field<'a> {
    Number(u64),
    Fixed32(u32),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    pub(super) fn flag(self) -> Option<bool> {
        self.number().map(|number| number != 0)
    }

    pub(super) fn number(self) -> Option<u64> {
        if let Field::Number(number) = self { Some(number) } else { None }
    }

    pub(super) fn float(self) -> Option<f32> {
        if let Field::Fixed32(bits) = self { Some(f32::from_bits(bits)) } else { None }
    }

    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        if let Field::Bytes(bytes) = self { Some(bytes) } else { None }
    }
}

/// Reads the fields of a message one by one.
pub(super) struct Fields<'a> {
    left: &'a [u8],
    length: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { left: message, length: message.len() }
    }

    /// Number and value of the next field; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).ok().filter(|&length| length <= self.left.len());
                let length = length.ok_or_else(|| self.bad("a length beyond the end"))?;
                let (bytes, left) = self.left.split_at(length);
                self.left = left;
                Field::Bytes(bytes)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(self.bad("an unknown wire type")),
        };
        match key >> 3 {
            0 => Err(self.bad("field number 0")),
            number => Ok(Some((number, value))),
        }
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let (&byte, left) = self.left.split_first().ok_or_else(|| self.bad("a number beyond the end"))?;
            self.left = left;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.bad("a number of more than 64 bits"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, left) = self.left.split_first_chunk().ok_or_else(|| self.bad("a number beyond the end"))?;
        self.left = left;
        Ok(*array)
    }

    fn bad(&self, found: &str) -> super::error::Error {
        let at = self.length - self.left.len();
        invalid(format!("byte {at} of a protobuf message"), found, "a field of a SentencePiece model")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_order_and_broken_ones_are_errors() {
        let mut fields = Fields::new(&[0x08, 0x96, 0x01, 0x12, 0x01, b'x', 0x1d, 0, 0, 0x80, 0x3f]);
        assert_eq!(fields.next().unwrap(), Some((1, Field::Number(150))));
        assert_eq!(fields.next().unwrap(), Some((2, Field::Bytes(b"x"))));
        assert_eq!(fields.next().unwrap().unwrap().1.float(), Some(1.0));
        assert_eq!(fields.next().unwrap(), None);
        for bad in [&[0x08][..], &[0x08, 0xff], &[0x12, 0x05, b'x'], &[0x0b], &[0x00, 0x00], &[0x1d, 0], &[0xff; 16]] {
            assert!(Fields::new(bad).next().is_err(), "{bad:?}");
        }
    }
}
