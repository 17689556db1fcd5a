//! Names of the pickle opcodes that are refused, for messages only: what is accepted stands in module `machine`.

/// The names of the opcodes that are refused; the numbers are those of Python's pickle format.
pub(super) fn opcode_name(opcode: u8) -> String {
    const REFUSED: &[(u8, &str)] = &[
        (b'0', "POP"),
        (b'1', "POP_MARK"),
        (b'2', "DUP"),
        (b'B', "BINBYTES"),
        (b'C', "SHORT_BINBYTES"),
        (b'F', "FLOAT"),
        (b'I', "INT"),
        (b'L', "LONG"),
        (b'P', "PERSID"),
        (b'S', "STRING"),
        (b'V', "UNICODE"),
        (b'd', "DICT"),
        (b'g', "GET"),
        (b'i', "INST"),
        (b'l', "LIST"),
        (b'o', "OBJ"),
        (b'p', "PUT"),
        (0x80, "PROTO"),
        (0x81, "NEWOBJ"),
        (0x82, "EXT1"),
        (0x83, "EXT2"),
        (0x84, "EXT4"),
        (0x8b, "LONG4"),
        (0x8d, "BINUNICODE8"),
        (0x8e, "BINBYTES8"),
        (0x8f, "EMPTY_SET"),
        (0x90, "ADDITEMS"),
        (0x91, "FROZENSET"),
        (0x92, "NEWOBJ_EX"),
        (0x96, "BYTEARRAY8"),
        (0x97, "NEXT_BUFFER"),
        (0x98, "READONLY_BUFFER"),
    ];
    match REFUSED.iter().find(|row| row.0 == opcode) {
        Some(row) => row.1.to_owned(),
        None => format!("{opcode:#04x}"),
    }
}
