//! The cache that Hugging Face's programs share: `models--OWNER--NAME/{refs,snapshots,blobs}`. A snapshot's files are
//! links into the blobs, or copies where links are not to be had. Read only; what a reference says is checked before it
//! becomes a path, and links that leave the repository are refused.

use std::fs;
use std::path::{Path, PathBuf};

use pasture_files::folder::{self, Folder, is_plain};
use pasture_files::size::Size;

use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::name::Name;
use crate::{Found, Origin};

const PLACE: &str = "the Hugging Face cache";
const REFERENCE_BYTES_MAX: Size = Size::new(256);
/// Folders in folders of a snapshot, and files in all.
const DEPTH_MAX: usize = 3;
const FILES_MAX: usize = 65_536;
/// Names that an error shows.
const SHOWN: usize = 8;

/// The model of that name; none where the cache has no such repository.
pub(crate) fn find(environment: &Environment, name: &Name) -> Result<Option<Found>> {
    let (Some(hub), Some(folder)) = (environment.hub(), name.hub_folder()) else { return Ok(None) };
    let repository = hub.join(folder);
    match repository.is_dir() {
        true => found(&repository, name).map(Some),
        false => Ok(None),
    }
}

/// The only repository whose name without its owner is that, in whatever case.
pub(crate) fn find_without_owner(environment: &Environment, name: &Name) -> Result<Option<Found>> {
    let Some(wanted) = name.without_owner() else { return Ok(None) };
    let last = |full: &String| full.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(wanted));
    let matching: Vec<String> = names(environment).into_iter().filter(last).collect();
    match matching.as_slice() {
        [] => Ok(None),
        [full] => find(environment, &Name::parse(&name.text().replacen(wanted, full, 1))?),
        _ => Err(Error::Ambiguous { name: name.text().to_owned(), choices: matching }),
    }
}

/// Names of all repositories of models, in alphabetical order.
pub(crate) fn names(environment: &Environment) -> Vec<String> {
    let Some(entries) = environment.hub().and_then(|hub| fs::read_dir(hub).ok()) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| Name::of_hub(entry.file_name().to_str()?));
    let mut names: Vec<String> = names.take(FILES_MAX).collect();
    names.sort();
    names
}

/// Every model with weights: one per repository, but one per file of a repository of GGUF files.
pub(crate) fn list(environment: &Environment) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for text in names(environment) {
        let name = Name::parse(&text)?;
        match find(environment, &name) {
            Ok(Some(found)) => all.push(found),
            Ok(None) => {}
            Err(Error::Ambiguous { choices, .. }) => {
                let each = choices.iter().filter_map(|choice| find(environment, &Name::parse(choice).ok()?).ok()?);
                all.extend(each);
            }
            // No weights, or damaged: left out as `crate::list` says.
            Err(_) => {}
        }
    }
    Ok(all)
}

fn unusable(name: &Name, what: impl Into<String>) -> Error {
    Error::Unusable { name: name.text().to_owned(), place: PLACE.into(), what: what.into() }
}

fn found(repository: &Path, name: &Name) -> Result<Found> {
    model_in(&snapshot(repository, name)?, name, Origin::HuggingFace)
}

/// The model of that name in a folder of files: the folder itself, or a file of it.
pub(crate) fn model_in(snapshot: &Path, name: &Name, origin: Origin) -> Result<Found> {
    let snapshot = snapshot.to_owned();
    let make = |path: PathBuf, format, bytes| Found {
        name: name.text().to_owned(),
        origin,
        path,
        bytes,
        format,
        layers: Vec::new(),
    };
    if name.part.is_none()
        && let Some((format, bytes)) = weights(&snapshot).filter(|weights| weights.0 != GGUF)
    {
        return Ok(make(snapshot, format, bytes));
    }
    let files = files(&snapshot)?;
    let file = choose(&files, name)?;
    let parent = snapshot.join(file).parent().map(Path::to_owned).unwrap_or(snapshot.clone());
    let last = file.rsplit('/').next().unwrap_or(file);
    // Follows the link, so that one out of the repository is refused here.
    Folder::open(&parent)?.find(last)?;
    let stem = split_stem(last).map(|split| split.0);
    let belongs = |other: &&String| *other == file || (stem.is_some() && split_stem_in(other, file) == stem);
    let bytes = files.iter().filter(belongs).map(|other| length(&snapshot.join(other))).sum();
    Ok(make(snapshot.join(file), format_of(last).unwrap_or("file"), bytes))
}

/// The folder of the revision asked for, else of `main`, else the only one.
fn snapshot(repository: &Path, name: &Name) -> Result<PathBuf> {
    let snapshots = repository.join("snapshots");
    let all = || {
        let entries = fs::read_dir(&snapshots).into_iter().flatten().flatten();
        let names =
            entries.filter_map(|entry| entry.file_name().to_str().filter(|name| is_plain(name)).map(str::to_owned));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let revision = name.revision.clone().unwrap_or_else(|| vec!["main".to_owned()]);
    let reference = repository.join("refs").join(revision.iter().collect::<PathBuf>());
    let commit = match reference.is_file() {
        true => {
            let bytes = folder::read_file(&reference, REFERENCE_BYTES_MAX)?;
            let text = String::from_utf8(bytes).unwrap_or_default();
            let commit = text.trim_ascii().to_owned();
            if !is_commit(&commit) {
                return Err(unusable(name, format!("its reference {:?} names no commit", revision.join("/"))));
            }
            commit
        }
        false => match (revision.as_slice(), name.revision.is_some(), all().as_slice()) {
            ([commit], true, _) if is_commit(commit) => commit.clone(),
            (_, false, [only]) => only.clone(),
            (_, _, all) => {
                let shown: Vec<&str> = all.iter().take(SHOWN).map(String::as_str).collect();
                let there =
                    if shown.is_empty() { "it has none".into() } else { format!("it has {}", shown.join(", ")) };
                return Err(unusable(name, format!("without the revision {:?}; {there}", revision.join("/"))));
            }
        },
    };
    let path = snapshots.join(&commit);
    match path.is_dir() {
        true => Ok(path),
        false => Err(unusable(name, format!("its revision {commit} was never fetched; fetch the model again"))),
    }
}

fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Paths of a snapshot's files below it, in alphabetical order.
fn files(snapshot: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let mut open = vec![(snapshot.to_owned(), String::new(), 0)];
    while let Some((path, prefix, depth)) = open.pop() {
        files.extend(Folder::open(&path)?.names()?.into_iter().map(|name| format!("{prefix}{name}")));
        if files.len() > FILES_MAX {
            break;
        }
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let Some(name) =
                entry.file_name().to_str().filter(|name| is_folder && depth < DEPTH_MAX && is_plain(name))
            {
                open.push((entry.path(), format!("{prefix}{name}/"), depth + 1));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The file that a name's part means: its path, its own name, or the GGUF file of that number format.
fn choose<'f>(files: &'f [String], name: &Name) -> Result<&'f String> {
    // Beside an assistant's base its adapters may be GGUF files as well.
    let has_assistant = files.iter().any(|file| file == crate::assistant::FILE);
    let is_beside = |file: &str| has_assistant && file.starts_with("adapters/");
    let models: Vec<&String> = files.iter().filter(|file| is_model(file) && !is_beside(file)).collect();
    let full = name.text().split(':').next().unwrap_or_default();
    let several = |among: &[&String]| {
        let choices = among.iter().map(|file| format!("{full}:{file}")).collect();
        Error::Ambiguous { name: name.text().to_owned(), choices }
    };
    let Some(part) = name.part.as_ref().map(|part| part.join("/")) else {
        return match models.as_slice() {
            [] => Err(unusable(name, "its files there hold no weights; fetch the model again")),
            [only] => Ok(only),
            all => Err(several(all)),
        };
    };
    if let Some(exact) = files.iter().find(|file| **file == part) {
        return Ok(exact);
    }
    let ends = format!("/{part}");
    let named: Vec<&String> = files.iter().filter(|file| file.ends_with(&ends)).collect();
    let of_format: Vec<&String> = models.iter().copied().filter(|file| has_format(file, &part)).collect();
    match (named.as_slice(), of_format.as_slice()) {
        ([only], _) | ([], [only]) => Ok(only),
        ([], []) => {
            let shown: Vec<&str> = models.iter().take(SHOWN).map(|file| file.as_str()).collect();
            Err(unusable(name, format!("no file there is or has {part:?}; there are {}", shown.join(", "))))
        }
        ([], all) | (all, _) => Err(several(all)),
    }
}

/// Whether a file is a model on its own: a GGUF file, the first part where there are several, and no vision encoder.
pub(crate) fn is_model(file: &str) -> bool {
    let last = file.rsplit('/').next().unwrap_or(file);
    let first = split_stem(last).is_none_or(|(_, number)| number == 1);
    last.ends_with(".gguf") && first && !last.to_ascii_lowercase().contains("mmproj")
}

/// Whether a file's path has that number format as a word of its own: `Q4_K` is none of `Q4_K_M`.
pub(crate) fn has_format(file: &str, format: &str) -> bool {
    let (file, format) = (file.to_ascii_lowercase(), format.to_ascii_lowercase());
    let inner = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    file.match_indices(&format).any(|(at, found)| {
        !file[..at].ends_with(|letter: char| letter.is_ascii_alphanumeric())
            && !file[at + found.len()..].starts_with(inner)
    })
}

/// Stem and number of `STEM-00001-of-00003.gguf`.
pub(crate) fn split_stem(name: &str) -> Option<(&str, u32)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    (count.len() == 5 && number.len() == 5).then_some((stem, number.parse().ok()?))
}

/// The stem of `other` where it lies in the folder of `file`.
pub(crate) fn split_stem_in<'o>(other: &'o str, file: &str) -> Option<&'o str> {
    let folder = &file[..file.rfind('/').map_or(0, |at| at + 1)];
    let rest = other.strip_prefix(folder).filter(|rest| !rest.contains('/'))?;
    split_stem(rest).map(|split| split.0)
}

/// The file and, where it is one of several parts, the others beside it.
pub(crate) fn parts(path: &Path) -> Vec<PathBuf> {
    let stem = path.file_name().and_then(|name| split_stem(name.to_str()?)).map(|split| split.0);
    let (Some(stem), Some(folder)) = (stem, path.parent()) else { return vec![path.to_owned()] };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let belongs = |path: &PathBuf| {
        path.file_name().and_then(|name| split_stem(name.to_str()?)).is_some_and(|split| split.0 == stem)
    };
    let mut parts: Vec<PathBuf> = entries.filter(belongs).collect();
    parts.sort();
    parts
}

const GGUF: &str = "GGUF";

/// The container that a file's ending stands for.
pub(crate) fn format_of(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "safetensors" => Some("safetensors"),
        "gguf" => Some(GGUF),
        "bin" | "pth" | "pt" => Some("PyTorch"),
        _ => None,
    }
}

/// Container and bytes of the weights that lie in a folder itself.
pub(crate) fn weights(folder: &Path) -> Option<(&'static str, u64)> {
    let names = Folder::open(folder).and_then(|folder| folder.names()).ok()?;
    ["safetensors", "PyTorch", GGUF].into_iter().find_map(|format| {
        // `training_args.bin` and the like are no weights.
        let is_weight = |name: &&String| {
            let checkpoint =
                format != "PyTorch" || name.starts_with("pytorch_model") || name.starts_with("consolidated");
            format_of(name) == Some(format) && checkpoint
        };
        let bytes: Vec<u64> = names.iter().filter(is_weight).map(|name| length(&folder.join(name))).collect();
        (!bytes.is_empty()).then(|| (format, bytes.iter().sum()))
    })
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}
