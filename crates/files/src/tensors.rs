//! One view of every checkpoint, whatever its container and however many files: names in file order, kinds, shapes as
//! PyTorch prints them, bytes. Which container it is shows in the content, never in a file's ending. What a name means
//! belongs to the model's name tables.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::dtype::Dtype;
use crate::error::{Error, Result, file_name, quoted};
use crate::folder::{self, Folder};
use crate::index::Index;
use crate::mmap::Bytes;
use crate::{gguf, index, safetensors};

/// An open checkpoint.
#[derive(Debug)]
pub struct Tensors {
    name: String,
    files: Vec<PathBuf>,
    entries: Vec<Entry>,
    numbers: HashMap<Arc<str>, usize>,
    metadata: Vec<(String, String)>,
    gguf: Option<gguf::Metadata>,
}

/// One tensor of a checkpoint.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Kind of its values.
    pub dtype: Dtype,
    /// Outermost dimension first, row-major, as PyTorch prints it.
    pub shape: Vec<usize>,
    name: Arc<str>,
    file: usize,
    source: Source,
}

/// One tensor as a container's reader lists it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name in the file.
    pub name: String,
    /// Kind of its values.
    pub dtype: Dtype,
    /// Outermost dimension first, row-major.
    pub shape: Vec<usize>,
    /// Where its bytes come from. The reader has checked that they are as many as kind and shape need.
    pub source: Source,
}

/// Where a tensor's bytes come from.
#[derive(Clone)]
pub enum Source {
    /// They lie in the file as they are wanted: contiguous and row-major.
    Stored(Bytes),
    /// They must be gathered first.
    Gathered(Arc<dyn Gather>),
}

/// A tensor whose bytes do not lie contiguous in its file, as PyTorch's strided views.
pub trait Gather: Send + Sync {
    /// Makes the contiguous row-major bytes; called each time they are asked for.
    fn gather(&self) -> Result<Bytes>;

    /// Tells the system that the file's bytes are not read again soon.
    fn release(&self);
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Stored(bytes) => bytes.fmt(f),
            Source::Gathered(_) => f.write_str("Gathered"),
        }
    }
}

impl Tensors {
    /// Opens a checkpoint: a folder, or one file of any container. A part of a split GGUF or an index file opens the
    /// whole.
    ///
    /// In a folder the first of these decides: `model.safetensors.index.json`, `model.safetensors`,
    /// `pytorch_model.bin.index.json`, `pytorch_model.bin`, `consolidated.*.pth`, `consolidated.safetensors`, the only
    /// GGUF.
    pub fn open(path: &Path) -> Result<Tensors> {
        if path.is_dir() {
            return Tensors::open_folder(&Folder::open(path)?);
        }
        let name = file_name(path);
        let folder = || Folder::open(path.parent().filter(|up| *up != Path::new("")).unwrap_or(Path::new(".")));
        if name.ends_with(".index.json") {
            return open_index(&folder()?, &name);
        }
        let bytes = folder::map_file(path)?;
        let mut open = Tensors::empty(name.clone());
        match recognize(&bytes, &name)? {
            Container::Safetensors => open.add_safetensors(path.to_owned(), &bytes, &name)?,
            Container::Gguf => open.add_gguf(&folder()?, &name, bytes)?,
        }
        Ok(open)
    }

    /// Opens the checkpoint of a folder, as [`Tensors::open`] says.
    pub fn open_folder(folder: &Folder) -> Result<Tensors> {
        let names = folder.names()?;
        let has = |name: &str| names.iter().any(|found| found == name);
        if has("model.safetensors.index.json") {
            return open_index(folder, "model.safetensors.index.json");
        }
        for name in ["model.safetensors", "consolidated.safetensors"] {
            if has(name) {
                return open_single(folder, name);
            }
        }
        let ggufs: Vec<&str> = names.iter().map(String::as_str).filter(|name| name.ends_with(".gguf")).collect();
        match (ggufs.as_slice(), gguf::whole_of(&ggufs)) {
            ([], _) => {}
            (_, Some(first)) => return open_single(folder, &first),
            ([name], None) => return open_single(folder, name),
            (several, None) => {
                let shown: Vec<String> = several.iter().take(SHOWN).map(|name| quoted(name)).collect();
                let what = format!("it has {} GGUF files, name one of them: {}", several.len(), shown.join(", "));
                return Err(Error::unsupported(folder.name(), what));
            }
        }
        let wanted = "checkpoint (model.safetensors, pytorch_model.bin, consolidated.*.pth or one .gguf)";
        Err(folder.missing(wanted))
    }

    /// Names in file order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| &*entry.name)
    }

    /// Names and entries in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|entry| (&*entry.name, entry))
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is known of a tensor.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(*self.numbers.get(name)?)
    }

    /// A tensor's contiguous row-major bytes: a range of the mapped file where they lie there so, else gathered.
    pub fn bytes(&self, name: &str) -> Result<Bytes> {
        let missing = || Error::NoTensor { name: quoted(name), file: self.name.clone() };
        match &self.get(name).ok_or_else(missing)?.source {
            Source::Stored(bytes) => Ok(bytes.clone()),
            Source::Gathered(gather) => gather.gather(),
        }
    }

    /// Tells the system that a tensor's bytes in the file are not read again soon: its pages leave this program's
    /// memory. Reading it again is correct, and slow.
    pub fn release(&self, name: &str) {
        match self.get(name).map(|entry| &entry.source) {
            Some(Source::Stored(bytes)) => bytes.release(),
            Some(Source::Gathered(gather)) => gather.release(),
            None => {}
        }
    }

    /// The file or folder's own name, as messages show it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The writer's free text (safetensors' `__metadata__`) of all files, in file order.
    pub fn metadata(&self) -> &[(String, String)] {
        &self.metadata
    }

    /// The file that holds a tensor.
    pub fn file_of(&self, name: &str) -> Option<&Path> {
        self.files.get(self.get(name)?.file).map(PathBuf::as_path)
    }

    /// All files of the checkpoint.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The metadata of a GGUF checkpoint.
    pub fn gguf(&self) -> Option<&gguf::Metadata> {
        self.gguf.as_ref()
    }

    fn empty(name: String) -> Tensors {
        Tensors {
            name,
            files: Vec::new(),
            entries: Vec::new(),
            numbers: HashMap::new(),
            metadata: Vec::new(),
            gguf: None,
        }
    }

    fn add_safetensors(&mut self, path: PathBuf, bytes: &Bytes, name: &str) -> Result<()> {
        let header = safetensors::parse(bytes, name)?;
        self.metadata.extend(header.metadata);
        let outside = |name: &str| Error::invalid(name, "a tensor lies outside the file");
        let found = header.tensors.into_iter().map(|tensor| {
            let stored = bytes.slice(tensor.range).ok_or_else(|| outside(name))?;
            Ok(Found { name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, source: Source::Stored(stored) })
        });
        self.add(path, found.collect::<Result<Vec<Found>>>()?)
    }

    /// Adds a GGUF file with all parts that belong to it.
    fn add_gguf(&mut self, folder: &Folder, name: &str, bytes: Bytes) -> Result<()> {
        for gguf::Part { name, bytes, gguf } in gguf::open_parts(folder, name, bytes)? {
            let outside = || Error::invalid(name.as_str(), "a tensor lies outside the file");
            let found = gguf.tensors.into_iter().map(|tensor| {
                let stored = bytes.slice(tensor.range).ok_or_else(outside)?;
                let gguf::Tensor { name, dtype, shape, .. } = tensor;
                Ok(Found { name, dtype, shape, source: Source::Stored(stored) })
            });
            self.add(folder.path().join(&name), found.collect::<Result<Vec<Found>>>()?)?;
            // The first part has the metadata of all.
            self.gguf.get_or_insert(gguf.metadata);
        }
        Ok(())
    }

    /// Adds the tensors of one more file. A name may stand in one file only.
    fn add(&mut self, path: PathBuf, found: Vec<Found>) -> Result<()> {
        let file = self.files.len();
        let shown = file_name(&path);
        self.files.push(path);
        self.entries.reserve(found.len());
        self.numbers.reserve(found.len());
        for Found { name, dtype, shape, source } in found {
            let name: Arc<str> = name.into();
            if self.numbers.insert(name.clone(), self.entries.len()).is_some() {
                return Err(Error::invalid(shown, format!("tensor {} stands twice in the checkpoint", quoted(&name))));
            }
            self.entries.push(Entry { dtype, shape, name, file, source });
        }
        Ok(())
    }
}

/// GGUF files that an error names at most.
const SHOWN: usize = 5;

/// The containers, as their first bytes show them.
enum Container {
    Safetensors,
    Gguf,
}

fn recognize(bytes: &[u8], name: &str) -> Result<Container> {
    if gguf::recognizes(bytes) {
        return Ok(Container::Gguf);
    }
    if safetensors::recognizes(bytes) {
        return Ok(Container::Safetensors);
    }
    // A damaged file of a known ending gets its reader's own, more telling message.
    match name.rsplit('.').next() {
        Some("safetensors") => Ok(Container::Safetensors),
        Some("gguf") => Ok(Container::Gguf),
        _ => Err(Error::unsupported(name, "its first bytes are of no safetensors, GGUF or PyTorch checkpoint")),
    }
}

/// A checkpoint of which one file of a folder is named.
fn open_single(folder: &Folder, name: &str) -> Result<Tensors> {
    let bytes = folder.map(name)?.ok_or_else(|| folder.missing(format!("{name:?}")))?;
    let mut open = Tensors::empty(folder.name().to_owned());
    match recognize(&bytes, name)? {
        Container::Safetensors => open.add_safetensors(folder.path().join(name), &bytes, name)?,
        Container::Gguf => open.add_gguf(folder, name, bytes)?,
    }
    Ok(open)
}

/// A checkpoint in the files that an index names.
fn open_index(folder: &Folder, file: &str) -> Result<Tensors> {
    let index = index::read(folder, file)?;
    let mut open = Tensors::empty(folder.name().to_owned());
    for shard in &index.shards {
        let missing = || folder.missing(format!("{shard:?}, which {file:?} names"));
        let bytes = folder.map(shard)?.ok_or_else(missing)?;
        open.add_safetensors(folder.path().join(shard), &bytes, shard)?;
    }
    check_index(&open, &index, file)?;
    Ok(open)
}

/// Each tensor that the index names must be in the file it names. One that only a file names is an entry like the
/// others: whether it is wanted is for the model's name tables to say.
fn check_index(open: &Tensors, index: &Index, file: &str) -> Result<()> {
    for (tensor, shard) in &index.map {
        let found = open.file_of(tensor).map(file_name);
        if found.as_ref() != Some(shard) {
            let place = found.map_or("in no file".to_owned(), |other| format!("in {other:?}"));
            let what = format!("it says that tensor {} is in {shard:?}, it is {place}", quoted(tensor));
            return Err(Error::invalid(file, what));
        }
    }
    Ok(())
}
