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
use crate::outline::Outline;
use crate::size::Size;
use crate::{gguf, index, json, pth, safetensors};

/// An open checkpoint.
#[derive(Debug)]
pub struct Tensors {
    name: String,
    files: Vec<PathBuf>,
    entries: Vec<Entry>,
    numbers: HashMap<Arc<str>, usize>,
    metadata: Vec<(String, String)>,
    left_out: Vec<String>,
    pytorch: bool,
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
    /// Opens a checkpoint: a folder, or one file of any container. A part of a split GGUF, a shard of Meta's or an index
    /// file opens the whole.
    ///
    /// In a folder the first of these decides: `model.safetensors.index.json`, `model.safetensors`,
    /// `pytorch_model.bin.index.json`, `pytorch_model.bin`, `consolidated.*.pth`, `consolidated.safetensors` (its index
    /// before it), the only GGUF.
    pub fn open(path: &Path) -> Result<Tensors> {
        if path.is_dir() {
            return Tensors::open_folder(&Folder::open(path)?);
        }
        let name = file_name(path);
        let folder = || Folder::open(path.parent().filter(|up| *up != Path::new("")).unwrap_or(Path::new(".")));
        if name.ends_with(".index.json") {
            return open_index(&folder()?, &name);
        }
        if pth::is_shard_name(&name) && path.is_file() {
            let folder = folder()?;
            return open_meta(&folder, &folder.names()?);
        }
        let bytes = folder::map_file(path)?;
        let mut open = Tensors::empty(name.clone());
        match recognize(&bytes, &name)? {
            Container::Gguf => open.add_gguf(&folder()?, &name, bytes)?,
            container => open.add_file(container, path.to_owned(), &bytes, &name)?,
        }
        Ok(open)
    }

    /// Opens a GGUF checkpoint whose whole content is in memory. `name` is what messages call it.
    pub fn open_gguf_bytes(name: &str, bytes: Bytes) -> Result<Tensors> {
        let gguf = gguf::Gguf::parse(&bytes, name)?;
        let mut open = Tensors::empty(name.to_owned());
        open.add_part(PathBuf::from(name), gguf::Part { name: name.to_owned(), bytes, gguf })?;
        Ok(open)
    }

    /// A GGUF checkpoint that is still to be written, by its metadata and its tensors: bytes of those that nobody asks
    /// for may be left empty. `name` is what messages call it.
    pub fn planned(name: &str, metadata: gguf::Metadata, tensors: Vec<Found>) -> Result<Tensors> {
        let mut planned = Tensors::empty(name.to_owned());
        planned.add(PathBuf::from(name), tensors)?;
        planned.gguf = Some(metadata);
        Ok(planned)
    }

    /// Opens the checkpoint of a folder, as [`Tensors::open`] says.
    pub fn open_folder(folder: &Folder) -> Result<Tensors> {
        let names = folder.names()?;
        let has = |name: &str| names.iter().any(|found| found == name);
        let candidates = [
            "model.safetensors.index.json",
            "model.safetensors",
            "pytorch_model.bin.index.json",
            "pytorch_model.bin",
            META,
            "consolidated.safetensors.index.json",
            "consolidated.safetensors",
        ];
        for name in candidates {
            if name == META && names.iter().any(|name| pth::is_shard_name(name)) {
                return open_meta(folder, &names);
            }
            if has(name) {
                let open = if name.ends_with(".index.json") { open_index } else { open_single };
                return open(folder, name);
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

    /// What a writer must know of every tensor, in file order.
    pub fn outlines(&self) -> Vec<Outline> {
        let outline =
            |entry: &Entry| Outline { name: entry.name.to_string(), dtype: entry.dtype, shape: entry.shape.clone() };
        self.entries.iter().map(outline).collect()
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

    /// The file in which a tensor's bytes lie as they are wanted, where they begin, and how many they are.
    pub(crate) fn stored_at(&self, name: &str) -> Result<Option<(&Path, u64, u64)>> {
        let missing = || Error::NoTensor { name: quoted(name), file: self.name.clone() };
        let entry = self.get(name).ok_or_else(missing)?;
        Ok(match &entry.source {
            Source::Stored(bytes) if bytes.is_mapped() && !self.pytorch => {
                let (start, length) = bytes.place();
                Some((&self.files[entry.file], start as u64, length as u64))
            }
            _ => None,
        })
    }

    /// How many bytes a tensor has.
    pub fn byte_count(&self, name: &str) -> Option<u64> {
        let entry = self.get(name)?;
        entry.dtype.byte_count(&entry.shape).ok().map(Size::get)
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

    /// Keys of a PyTorch checkpoint that hold no tensor of the model: training state, versions, counters.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The metadata of a GGUF checkpoint.
    pub fn gguf(&self) -> Option<&gguf::Metadata> {
        self.gguf.as_ref()
    }

    /// Whether PyTorch wrote it: such a file may hold other state than a model's.
    pub fn is_pytorch(&self) -> bool {
        self.pytorch
    }

    fn empty(name: String) -> Tensors {
        Tensors {
            name,
            files: Vec::new(),
            entries: Vec::new(),
            numbers: HashMap::new(),
            metadata: Vec::new(),
            left_out: Vec::new(),
            pytorch: false,
            gguf: None,
        }
    }

    /// Adds one file of a container in which a file stands for itself.
    fn add_file(&mut self, container: Container, path: PathBuf, bytes: &Bytes, name: &str) -> Result<()> {
        match container {
            Container::Safetensors => self.add_safetensors(path, bytes, name),
            Container::Pytorch => self.add_pytorch(path, pth::read(name, bytes)?),
            Container::Gguf => Err(Error::unsupported(name, "a GGUF file where a shard of another form is named")),
        }
    }

    fn add_pytorch(&mut self, path: PathBuf, checkpoint: pth::Checkpoint) -> Result<()> {
        self.pytorch = true;
        self.left_out.extend(checkpoint.left_out);
        self.add(path, checkpoint.tensors.into_iter().map(Found::from).collect())
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
        for part in gguf::open_parts(folder, name, bytes)? {
            self.add_part(folder.path().join(&part.name), part)?;
        }
        Ok(())
    }

    fn add_part(&mut self, path: PathBuf, part: gguf::Part) -> Result<()> {
        let gguf::Part { name, bytes, gguf } = part;
        let outside = || Error::invalid(name.as_str(), "a tensor lies outside the file");
        let found = gguf.tensors.into_iter().map(|tensor| {
            let stored = bytes.slice(tensor.range).ok_or_else(outside)?;
            let gguf::Tensor { name, dtype, shape, .. } = tensor;
            Ok(Found { name, dtype, shape, source: Source::Stored(stored) })
        });
        self.add(path, found.collect::<Result<Vec<Found>>>()?)?;
        // The first part has the metadata of all.
        self.gguf.get_or_insert(gguf.metadata);
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

/// Stands for Meta's shards among the candidates of a folder.
const META: &str = "consolidated.*.pth";

/// GGUF files that an error names at most.
const SHOWN: usize = 5;

/// The containers, as their first bytes show them.
enum Container {
    Safetensors,
    Gguf,
    Pytorch,
}

fn recognize(bytes: &[u8], name: &str) -> Result<Container> {
    if gguf::recognizes(bytes) {
        return Ok(Container::Gguf);
    }
    if safetensors::recognizes(bytes) {
        return Ok(Container::Safetensors);
    }
    if pth::recognize(bytes) {
        return Ok(Container::Pytorch);
    }
    // A damaged file of a known ending gets its reader's own, more telling message.
    match name.rsplit('.').next() {
        Some("safetensors") => Ok(Container::Safetensors),
        Some("gguf") => Ok(Container::Gguf),
        Some("bin" | "pth" | "pt") => Ok(Container::Pytorch),
        _ => Err(Error::unsupported(name, "its first bytes are of no safetensors, GGUF or PyTorch checkpoint")),
    }
}

/// A checkpoint of which one file of a folder is named.
fn open_single(folder: &Folder, name: &str) -> Result<Tensors> {
    let bytes = folder.map(name)?.ok_or_else(|| folder.missing(format!("{name:?}")))?;
    let mut open = Tensors::empty(folder.name().to_owned());
    match recognize(&bytes, name)? {
        Container::Gguf => open.add_gguf(folder, name, bytes)?,
        container => open.add_file(container, folder.path().join(name), &bytes, name)?,
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
        open.add_file(recognize(&bytes, shard)?, folder.path().join(shard), &bytes, shard)?;
    }
    check_index(&open, &index, file)?;
    Ok(open)
}

/// Meta's shards among the names of a folder, joined. Their numbers must be 0, 1, 2 and so on.
fn open_meta(folder: &Folder, names: &[String]) -> Result<Tensors> {
    let shards: Vec<&String> = names.iter().filter(|name| pth::is_shard_name(name)).collect();
    let mut open = Tensors::empty(folder.name().to_owned());
    let mut checkpoints = Vec::with_capacity(shards.len());
    for (rank, shard) in shards.iter().enumerate() {
        let expected = format!("consolidated.{rank:02}.pth");
        if **shard != expected {
            return Err(folder.missing(format!("{expected:?}, and {shard:?} is one of the same checkpoint")));
        }
        let bytes = folder.map(shard)?.ok_or_else(|| folder.missing(format!("{shard:?}")))?;
        checkpoints.push(pth::read(shard, &bytes)?);
    }
    let first = folder.path().join("consolidated.00.pth");
    let others: Vec<PathBuf> = shards.iter().skip(1).map(|shard| folder.path().join(shard)).collect();
    let params = json::read_in(folder, "params.json")?;
    let kv_heads = params.as_ref().and_then(|params| params.get("n_kv_heads")?.as_u64());
    open.add_pytorch(first, pth::merge(folder.name(), checkpoints, kv_heads)?)?;
    open.files.extend(others);
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
