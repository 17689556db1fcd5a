//! How much memory an open checkpoint takes: opening reads no weights, and released weights leave. One test in a file
//! of its own, since it measures the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::path::Path;

use pasture_files::gguf::{self, Metadata};
use pasture_files::outline::Outline;
use pasture_files::{Dtype, Tensors, durable::Sink, safetensors};
use pasture_kernels::Format;

const TENSORS: usize = 8;
const TENSOR_BYTES: usize = 16 << 20;
/// Pages that the process needs for itself while it opens and lists.
const SLACK: usize = 4 << 20;

/// Bytes of this process that are in memory now.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn check(path: &Path) {
    let before = resident();
    let open = Tensors::open(path).unwrap();
    assert_eq!(open.len(), TENSORS);
    let grown = resident().saturating_sub(before);
    assert!(grown < SLACK, "opening {} took {grown} bytes", path.display());
    for name in open.names() {
        let sum: u64 = open.bytes(name).unwrap().iter().map(|&byte| u64::from(byte)).sum();
        assert!(sum > 0);
        let grown = resident().saturating_sub(before);
        assert!(grown < TENSOR_BYTES + SLACK, "{} holds {grown} bytes after {name}", path.display());
        open.release(name);
        let kept = resident().saturating_sub(before);
        assert!(kept < SLACK, "{} keeps {kept} bytes after {name}", path.display());
    }
}

#[test]
fn opening_reads_no_weights_and_released_ones_leave() {
    let folder = tempfile::tempdir().unwrap();
    let outline = |number: usize| Outline {
        name: format!("t{number}"),
        dtype: Dtype::Number(Format::F32),
        shape: vec![1024, TENSOR_BYTES / 4096],
    };
    let outlines: Vec<Outline> = (0..TENSORS).map(outline).collect();
    let fill = |_: &Outline, sink: &mut Sink| (0..TENSOR_BYTES >> 20).try_for_each(|_| sink.put(&[7; 1 << 20]));
    let (one, other) = (folder.path().join("m.safetensors"), folder.path().join("m.gguf"));
    safetensors::write(&one, &[], &outlines, fill).unwrap();
    gguf::write(&other, &Metadata::new("m"), &outlines, fill).unwrap();
    check(&one);
    check(&other);
    let zip = folder.path().join("m.pth");
    std::fs::write(&zip, pytorch(&outlines)).unwrap();
    check(&zip);
}

/// A file of `torch.save` with these tensors, all bytes 7: written here, since this crate only reads the format.
fn pytorch(outlines: &[Outline]) -> Vec<u8> {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let number = |out: &mut Vec<u8>, number: usize| {
        out.push(b'J');
        out.extend((number as u32).to_le_bytes());
    };
    let mut pickle = b"\x80\x02}(".to_vec();
    for (at, outline) in outlines.iter().enumerate() {
        text(&mut pickle, &outline.name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(b"ctorch\nFloatStorage\n");
        text(&mut pickle, &at.to_string());
        text(&mut pickle, "cpu");
        number(&mut pickle, TENSOR_BYTES / 4);
        pickle.extend(b"tQ");
        number(&mut pickle, 0);
        number(&mut pickle, outline.shape[0]);
        number(&mut pickle, outline.shape[1]);
        pickle.push(0x86);
        number(&mut pickle, outline.shape[1]);
        number(&mut pickle, 1);
        pickle.extend(b"\x86\x89}tR");
    }
    pickle.extend(b"u.");
    let values = vec![7; TENSOR_BYTES];
    let mut members = vec![("m/data.pkl".to_owned(), pickle)];
    members.extend((0..outlines.len()).map(|at| (format!("m/data/{at}"), values.clone())));
    stored(&members)
}

/// A zip file of stored members.
fn stored(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let mut sum = flate2::Crc::new();
        sum.update(bytes);
        let mut facts = vec![0; 10];
        facts.extend(sum.sum().to_le_bytes());
        facts.extend((bytes.len() as u32).to_le_bytes());
        facts.extend((bytes.len() as u32).to_le_bytes());
        facts.extend((name.len() as u16).to_le_bytes());
        facts.extend([0, 0]);
        directory.extend(b"PK\x01\x02\0\0");
        directory.extend(&facts);
        directory.extend([0; 10]);
        directory.extend((file.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&facts);
        file.extend(name.as_bytes());
        file.extend(bytes);
    }
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend((members.len() as u16).to_le_bytes());
    file.extend((members.len() as u16).to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}
