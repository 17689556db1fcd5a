//! What the pickle machine builds and what it refuses, one opcode at a time, and archives in zip's wide form.

use super::machine::Unpickled;
use super::value::Value;
use super::zip::Archive;
use super::{read, recognize};
use crate::mmap::Bytes;

/// A pickle of protocol 2 with this body ends in an error that holds `wanted`.
fn check_refused(body: &[u8], wanted: &str) {
    let pickle = [b"\x80\x02", body].concat();
    let fault = Unpickled::run(&pickle).map(|unpickled| unpickled.root).unwrap_err().to_string();
    assert!(fault.contains(wanted), "{:?}: {fault}", String::from_utf8_lossy(body));
}

fn check_root(body: &[u8], wanted: Value) {
    let pickle = [b"\x80\x02", body].concat();
    assert_eq!(Unpickled::run(&pickle).expect("it is sound").root, wanted, "{:?}", String::from_utf8_lossy(body));
}

#[test]
fn numbers_read_as_python_wrote_them() {
    check_root(b"N.", Value::None);
    check_root(b"\x88.", Value::Bool(true));
    check_root(b"K\xff.", Value::Int(255));
    check_root(b"M\xff\xff.", Value::Int(65535));
    check_root(b"J\xff\xff\xff\xff.", Value::Int(-1));
    check_root(b"\x8a\x00.", Value::Int(0));
    check_root(b"\x8a\x02\x00\x80.", Value::Int(-32768));
    check_root(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.", Value::Int(i64::MAX));
    check_root(b"G\x3f\xf8\0\0\0\0\0\0.", Value::Float(1.5));
}

#[test]
fn every_opcode_outside_the_list_is_refused_by_name() {
    for (opcode, name) in [
        (b'i', "INST"),
        (b'o', "OBJ"),
        (0x81, "NEWOBJ"),
        (0x82, "EXT1"),
        (0x84, "EXT4"),
        (0x92, "NEWOBJ_EX"),
        (b'P', "PERSID"),
        (b'0', "POP"),
        (b'2', "DUP"),
        (b'I', "INT"),
        (b'L', "LONG"),
        (0x8b, "LONG4"),
        (0x8e, "BINBYTES8"),
        (0x97, "NEXT_BUFFER"),
        (0xff, "0xff"),
    ] {
        check_refused(&[b'N', opcode, b'.'], &format!("the opcode {name} at byte 3"));
    }
}

#[test]
fn every_name_outside_the_list_is_refused_by_name() {
    for name in [
        "os\nsystem",
        "builtins\neval",
        "torch\nload",
        "torch\n_utils._rebuild_tensor_v2",
        "torch._utils\n_rebuild_device_tensor_from_numpy",
        "torch.storage\n_load_from_bytes",
        "collections\nOrderedDict.fromkeys",
        "numpy.core.multiarray\n_reconstruct",
        "",
    ] {
        let body = format!("c{name}{}", if name.is_empty() { "\n\n." } else { "\n)R." });
        let shown = format!("{:?}", name.replace('\n', "."));
        let shown = if name.is_empty() { "\".\"" } else { &shown };
        check_refused(body.as_bytes(), &format!("its pickle names {shown} at byte 2"));
    }
}

#[test]
fn damage_is_found_where_it_is() {
    check_refused(b"", "it has no end");
    check_refused(b".", "empty stack");
    check_refused(b"NN.", "values left over");
    check_refused(b"(N.", "values left over");
    check_refused(b"t.", "closes a mark that is not open");
    check_refused(b"(R.", "empty stack");
    check_refused(b"h\x07.", "recalls value 7");
    check_refused(b"NNs.", "empty stack");
    check_refused(b"NN\x86a.", "empty stack");
    check_refused(b"NNa.", "no list");
    check_refused(b"}(NNNu.", "a key without a value");
    check_refused(b"X\xff\xff\xff\xffa.", "4294967295 bytes are announced");
    check_refused(b"X\x01\0\0\0\xff.", "not UTF-8");
    check_refused(b"ctorch\nFloatStorage\n)R.", "arguments that no checkpoint has");
    check_refused(b"N)R.", "calls something that is no function");
    check_refused(b"NQ.", "a persistent id that is no tuple");
    check_refused(b"]}b.", "gives state to something");
    check_refused(&[b'('; 100], "marks are open");
    let mut deep = vec![b']'; 300_000];
    deep.push(b'.');
    check_refused(&deep, "stack grows past");
    let doubled = [b"]q\0".as_slice(), &b"(h\0h\0h\0h\0h\0h\0h\0h\0eh\0h\0\x86\x85".repeat(60_000)].concat();
    assert!(Unpickled::run(&[b"\x80\x02".as_slice(), &doubled].concat()).is_err());
}

#[test]
fn protocols_2_to_5_are_read() {
    for version in 0..=9u8 {
        assert_eq!(Unpickled::run(&[0x80, version, b'N', b'.']).is_ok(), (2..=5).contains(&version), "{version}");
    }
    assert!(Unpickled::run(b"N.").is_err());
}

/// A stored member whose sizes and place stand in the wide fields, as files of more than 4 GiB have them.
fn wide(damage: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let (name, bytes) = ("m/data.pkl", b"\x80\x02}.");
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    let mut file = b"PK\x03\x04\x2d\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(sum.sum().to_le_bytes());
    file.extend([0xff; 8]);
    file.extend([name.len() as u8, 0, 20, 0]);
    file.extend(name.as_bytes());
    file.extend([1, 0, 16, 0]);
    file.extend((bytes.len() as u64).to_le_bytes());
    file.extend((bytes.len() as u64).to_le_bytes());
    file.extend(bytes);
    let start = file.len() as u64;
    file.extend(b"PK\x01\x02\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
    file.extend(sum.sum().to_le_bytes());
    file.extend([0xff; 8]);
    file.extend([name.len() as u8, 0, 28, 0]);
    file.extend([0; 10]);
    file.extend([0xff; 4]);
    file.extend(name.as_bytes());
    file.extend([1, 0, 24, 0]);
    for field in [bytes.len() as u64, bytes.len() as u64, 0] {
        file.extend(field.to_le_bytes());
    }
    let end = file.len() as u64;
    file.extend(b"PK\x06\x06");
    file.extend(44u64.to_le_bytes());
    file.extend([0x2d, 0, 0x2d, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for field in [1, 1, end - start, start] {
        file.extend(field.to_le_bytes());
    }
    file.extend(b"PK\x06\x07\0\0\0\0");
    file.extend(end.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
    damage(&mut file);
    file
}

#[test]
fn archives_in_the_wide_form_are_read() {
    let archive = Archive::read(&wide(|_| {})).expect("it is sound");
    assert_eq!(archive.members().len(), 1);
    assert_eq!(archive.member("data.pkl").expect("it is sound").range.len(), 4);
    let refused = |damage: fn(&mut Vec<u8>), wanted: &str| {
        let fault = Archive::read(&wide(damage)).unwrap_err().to_string();
        assert!(fault.contains(wanted), "{fault}");
    };
    // From the end: 22 bytes of end record, 20 of locator, 56 of wide end record.
    refused(|file| *file.iter_mut().rev().nth(13).expect("the file is longer") = 7, "two end records disagree");
    refused(|file| *file.iter_mut().rev().nth(21 + 12).expect("the file is longer") ^= 1, "not where its locator says");
    refused(
        |file| *file.iter_mut().rev().nth(41 + 8).expect("the file is longer") ^= 1,
        "does not describe the directory",
    );
    refused(|file| file.truncate(file.len() - 1), "cut off");
}

#[test]
fn what_is_no_checkpoint_is_told_apart() {
    let check = |file: &[u8], wanted: &str| {
        assert!(!recognize(file));
        let fault = read("m.pth", &Bytes::from(file.to_vec())).unwrap_err().to_string();
        assert!(fault.contains(wanted), "{fault}");
    };
    check(b"", "it is empty");
    check(b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer");
    check(b" \n<!DOCTYPE html>", "a web page");
    check(b"\x80\x02}.", "neither a zip archive nor a legacy file");
}
