//! Read, write, read: nothing of a checkpoint changes, whatever its container, and the same tensors make the same bytes.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/kit.rs"]
mod kit;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pasture_files::gguf::{self, Gguf, Metadata, Value};
use pasture_files::outline::Outline;
use pasture_files::size::Size;
use pasture_files::{Bytes, Dtype, Tensors, durable::Sink, safetensors};
use pasture_kernels::Format;
use proptest::prelude::*;

/// The tensors of a checkpoint by name.
fn table(open: &Tensors) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let row = |(name, entry): (&str, &pasture_files::Entry)| {
        (name.to_owned(), (entry.dtype, entry.shape.clone(), open.bytes(name).unwrap().to_vec()))
    };
    open.iter().map(row).collect()
}

fn copy(open: &Tensors) -> impl FnMut(&Outline, &mut Sink) -> pasture_files::Result<()> {
    |tensor, sink| sink.put(&open.bytes(&tensor.name)?)
}

/// All files below a folder that have this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false if path.extension().is_some_and(|found| found == ending) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// Keys and values in a form that compares: floats by their bits.
fn keys(metadata: &Metadata) -> Vec<(String, String)> {
    let shown = |value: &Value| match value {
        Value::Texts(texts) => format!("{:?}", texts.iter().collect::<Vec<_>>()),
        Value::Numbers(numbers) => {
            let floats = numbers.floats().map(|floats| floats.into_iter().map(f32::to_bits).collect::<Vec<_>>());
            format!("{:?} {floats:?} {:?} {:?}", numbers.kind(), numbers.bools(), numbers.integers())
        }
        Value::Text(text) => format!("{:?}", &text[..]),
        plain => format!("{plain:?}"),
    };
    metadata.iter().map(|(key, value)| (key.to_owned(), shown(value))).collect()
}

/// Writes the file again and compares: metadata value by value, tensors byte by byte, and, where its writer laid it out
/// as this one does, the whole file.
fn check_gguf(path: &Path, folder: &Path) -> bool {
    let bytes = Bytes::map(&fs::File::open(path).unwrap()).unwrap();
    let Ok(first) = Gguf::parse(&bytes, "first") else { return false };
    let Ok(open) = Tensors::open(path) else { return false };
    let copied = folder.join("copy.gguf");
    gguf::write(&copied, &first.metadata, &open.outlines(), copy(&open)).unwrap();
    let second = Tensors::open(&copied).unwrap();
    assert_eq!(keys(&first.metadata), keys(second.gguf().unwrap()), "{}", path.display());
    assert!(open.names().eq(second.names()) && table(&open) == table(&second), "{}", path.display());
    let again = folder.join("again.gguf");
    gguf::write(&again, second.gguf().unwrap(), &second.outlines(), copy(&second)).unwrap();
    assert!(fs::read(&copied).unwrap() == fs::read(&again).unwrap(), "{}", path.display());
    if first.version == 3 && !open.is_empty() && path.starts_with(kit::folder("golden").unwrap()) {
        assert!(fs::read(&copied).unwrap() == bytes[..], "{} is written differently", path.display());
    }
    true
}

#[test]
fn gguf_files_of_the_kit_are_written_as_they_were() {
    let temporary = tempfile::tempdir().unwrap();
    for (set, wanted) in [("golden/gguf", 9), ("assets/weights", 2), ("hostile/gguf", 8)] {
        let Some(folder) = kit::folder(set) else { return };
        let count = files(&folder, "gguf").iter().filter(|path| check_gguf(path, temporary.path())).count();
        assert!(count >= wanted, "{count} files of {set}");
    }
}

#[test]
fn a_split_gguf_joins_to_the_same_whole() {
    let Some(folder) = kit::folder("assets/weights/stories260K") else { return };
    let open = Tensors::open(&folder.join("stories260K-f32.gguf")).unwrap();
    let metadata = open.gguf().unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let parts = gguf::write_split(temporary.path(), "m", metadata, &open.outlines(), Size::new(300_000), copy(&open));
    assert!(parts.unwrap().len() > 2);
    assert!(table(&Tensors::open(temporary.path()).unwrap()) == table(&open));
}

fn check_safetensors(open: &Tensors, folder: &Path, shard_bytes_max: u64) {
    let size = Size::new(shard_bytes_max);
    let write =
        || safetensors::write_sharded(folder, "model", open.metadata(), &open.outlines(), size, copy(open)).unwrap();
    let paths = write();
    let bytes: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let second = Tensors::open(folder).unwrap();
    assert!(table(open) == table(&second), "{}", open.name());
    assert_eq!(second.metadata().len(), open.metadata().len() * paths.len());
    // Aligned: what a reader maps can be read in place.
    for path in &paths {
        let mapped = Bytes::map(&fs::File::open(path).unwrap()).unwrap();
        for tensor in safetensors::parse(&mapped, "x").unwrap().tensors {
            let width = tensor.dtype.byte_count(&[1]).map_or(1, |size| size.to_usize().unwrap());
            assert!(tensor.range.start.is_multiple_of(width.min(8)), "{}", tensor.name);
        }
    }
    let again = write();
    assert_eq!(paths, again);
    assert!(again.iter().zip(&bytes).all(|(path, bytes)| fs::read(path).unwrap() == *bytes));
    let leftover =
        fs::read_dir(folder).unwrap().flatten().any(|entry| entry.file_name().to_str().unwrap().starts_with('.'));
    assert!(!leftover);
}

#[test]
fn safetensors_files_of_the_kit_are_written_whole_and_in_shards() {
    let temporary = tempfile::tempdir().unwrap();
    for set in ["golden/text", "golden/pth", "assets/weights", "hostile/safetensors"] {
        let Some(folder) = kit::folder(set) else { return };
        let mut count = 0;
        for path in files(&folder, "safetensors") {
            let Ok(open) = Tensors::open(&path) else { continue };
            let length = path.metadata().unwrap().len();
            if open.is_empty() || length > 400_000 {
                continue;
            }
            count += 1;
            check_safetensors(&open, &temporary.path().join(fresh(temporary.path(), count)), u64::MAX);
            check_safetensors(&open, &temporary.path().join(fresh(temporary.path(), count)), length / 3);
        }
        assert!(count > 3, "{count} files of {set}");
    }
}

/// An empty folder.
fn fresh(parent: &Path, number: usize) -> String {
    let name = format!("m{number}");
    let _ = fs::remove_dir_all(parent.join(&name));
    fs::create_dir(parent.join(&name)).unwrap();
    name
}

#[test]
fn a_pytorch_checkpoint_becomes_safetensors() {
    let Some(golden) = kit::folder("golden/pth") else { return };
    for case in ["bin_views", "bin_legacy", "llama2_meta_2shard"] {
        let temporary = tempfile::tempdir().unwrap();
        check_safetensors(&Tensors::open(&golden.join(case)).unwrap(), temporary.path(), 20_000);
    }
}

#[test]
fn a_smaller_checkpoint_replaces_a_sharded_one() {
    let folder = tempfile::tempdir().unwrap();
    let outline = |name: &str, values: usize| Outline { name: name.into(), dtype: Dtype::U8, shape: vec![values] };
    let fill = |tensor: &Outline, sink: &mut Sink| sink.put(&vec![7; tensor.shape[0]]);
    let write = |tensors: &[Outline]| {
        safetensors::write_sharded(folder.path(), "model", &[], tensors, Size::new(10), fill).unwrap().len()
    };
    let names = || Tensors::open(folder.path()).unwrap().names().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((write(&[outline("a", 9), outline("b", 9)]), names()), (2, vec!["a".into(), "b".into()]));
    assert_eq!((write(&[outline("c", 3)]), names()), (1, vec!["c".to_owned()]));
    assert_eq!((write(&[outline("d", 9), outline("e", 9)]), names()), (2, vec!["d".into(), "e".into()]));
}

#[test]
fn what_a_format_does_not_have_is_refused_before_a_file_appears() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let outline = |name: &str, dtype, shape: &[usize]| Outline { name: name.into(), dtype, shape: shape.to_vec() };
    let check = |tensors: &[Outline], wanted: &str| {
        let fault = safetensors::write(&path, &[], tensors, |_, _| Ok(())).unwrap_err().to_string();
        assert!(fault.contains(wanted) && !path.exists(), "{fault}");
    };
    check(&[outline("a", Dtype::Number(Format::Q8_0), &[32])], "which safetensors does not have");
    check(&[outline("a", Dtype::U8, &[0]), outline("a", Dtype::U8, &[0])], "would be named \"a\"");
    check(&[outline("__metadata__", Dtype::U8, &[0])], "would be named");
    check(&[outline("a", Dtype::U8, &[3])], "0 bytes were given");
    check(&[outline("a", Dtype::U8, &[usize::MAX, 2])], "more than 64 bits");
}

/// Any list of tensors with distinct names, some of them odd.
fn tensors() -> impl Strategy<Value = (Vec<Outline>, Vec<Vec<u8>>)> {
    let dtypes = [
        Dtype::Number(Format::F32),
        Dtype::Number(Format::F16),
        Dtype::Number(Format::BF16),
        Dtype::I8,
        Dtype::I32,
        Dtype::I64,
        Dtype::F64,
    ];
    let name = prop_oneof!["[a-z.]{1,20}", "\\PC{1,12}"];
    prop::collection::btree_set(name, 0..12).prop_flat_map(move |names| {
        let rows = names.into_iter().map(|name| {
            let dtype = prop::sample::select(dtypes.to_vec());
            (Just(name), dtype, prop::collection::vec(0usize..5, 0..4), any::<u8>())
        });
        rows.collect::<Vec<_>>().prop_map(|rows| {
            let outline = |(name, dtype, shape, seed): (String, Dtype, Vec<usize>, u8)| {
                let count = dtype.byte_count(&shape).unwrap().to_usize().unwrap();
                let bytes = (0..count).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect();
                (Outline { name, dtype, shape }, bytes)
            };
            rows.into_iter().map(outline).unzip()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_tensors_come_back_from_safetensors(
        (outlines, bytes) in tensors(),
        texts in prop::collection::btree_map("\\PC{0,9}", "\\PC{0,9}", 0..4),
        shard in 1u64..200,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let metadata: Vec<(String, String)> = texts.into_iter().collect();
        let fill = |tensor: &Outline, sink: &mut Sink| {
            let at = outlines.iter().position(|outline| outline == tensor).unwrap();
            sink.put(&bytes[at])
        };
        let size = Size::new(shard);
        let paths = safetensors::write_sharded(folder.path(), "model", &metadata, &outlines, size, fill).unwrap();
        let open = Tensors::open(folder.path()).unwrap();
        prop_assert_eq!(open.len(), outlines.len());
        prop_assert_eq!(&open.metadata()[..metadata.len()], &metadata[..]);
        for (outline, bytes) in outlines.iter().zip(&bytes) {
            let entry = open.get(&outline.name).unwrap();
            prop_assert_eq!((entry.dtype, &entry.shape), (outline.dtype, &outline.shape));
            prop_assert_eq!(&open.bytes(&outline.name).unwrap()[..], &bytes[..]);
        }
        // The reference reader takes them too.
        for path in paths {
            let bytes = fs::read(path).unwrap();
            let taken = ::safetensors::SafeTensors::deserialize(&bytes);
            prop_assert!(taken.is_ok(), "{:?}", taken.err());
        }
    }

    #[test]
    fn any_tensors_come_back_from_gguf((outlines, bytes) in tensors(), part in 1u64..200) {
        let outlines: Vec<Outline> = outlines
            .into_iter()
            .enumerate()
            .map(|(at, outline)| Outline { name: format!("t{at}"), ..outline })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let mut metadata = Metadata::new("m");
        metadata.insert("general.architecture", Value::text("none")).unwrap();
        let fill = |tensor: &Outline, sink: &mut Sink| {
            let at = outlines.iter().position(|outline| outline == tensor).unwrap();
            sink.put(&bytes[at])
        };
        gguf::write_split(folder.path(), "m", &metadata, &outlines, Size::new(part), fill).unwrap();
        let open = Tensors::open(folder.path()).unwrap();
        prop_assert_eq!(open.outlines(), outlines.clone());
        for (outline, bytes) in outlines.iter().zip(&bytes) {
            prop_assert_eq!(&open.bytes(&outline.name).unwrap()[..], &bytes[..]);
        }
    }
}
