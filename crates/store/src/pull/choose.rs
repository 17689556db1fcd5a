//! Which files of a repository a model needs: settings, tokenizer and weights in one container, or exactly one GGUF
//! model with all its parts, and what an assistant has beside that; never everything. Says why.

use pasture_files::error::quoted;

use super::listing::Listed;
use crate::assistant::{FILE, Mentioned};

/// What fits beside a model's weights: its context, and what computes.
const ROOM: u64 = 512 << 20;
/// Names that an error shows.
const SHOWN: usize = 12;

/// Number formats by how gladly they are chosen where nothing is asked for: a common trade of size and quality first,
/// then what is next to it.
const FORMATS: [&str; 22] = [
    "Q4_K_M", "Q4_K_S", "Q4_K_L", "Q4_K_XL", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_1", "MXFP4", "Q5_K_M", "Q5_K_S", "Q5_0",
    "Q5_1", "Q6_K", "Q8_0", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K", "BF16", "F16", "F32",
];

/// Small files that a folder of safetensors needs, or that say what it is and on which terms.
const BESIDE: [&str; 22] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "adapter_config.json",
    "params.json",
    "README.md",
];

/// The files, and in one line why these.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub files: Vec<Listed>,
    pub why: String,
    /// The file that a later command names, where a repository has several models.
    pub part: Option<String>,
}

/// What is wanted of a repository.
pub(crate) struct Asked<'a> {
    /// A file or a number format.
    pub part: Option<&'a str>,
    /// Patterns of paths; exactly these files.
    pub include: &'a [String],
    /// Bytes that a model may take here.
    pub memory: Option<u64>,
    /// What the repository's assistant names, where it has one.
    pub assistant: Option<&'a Mentioned>,
}

/// Chooses the files.
///
/// # Errors
/// In words, when there is nothing to choose, and what there is instead.
pub(crate) fn choose(files: &[Listed], asked: &Asked<'_>) -> Result<Choice, String> {
    if !asked.include.is_empty() {
        return included(files, asked.include);
    }
    if let Some(part) = asked.part {
        return part_of(files, part);
    }
    match asked.assistant {
        Some(assistant) => of_assistant(files, assistant, asked),
        None => whole(files, asked),
    }
}

/// An assistant's own file, its base, and the files and folders that it names.
fn of_assistant(files: &[Listed], assistant: &Mentioned, asked: &Asked<'_>) -> Result<Choice, String> {
    let named = |path: &str| -> Vec<&Listed> {
        let inside = format!("{path}/");
        files.iter().filter(|file| file.path == path || file.path.starts_with(&inside)).collect()
    };
    let base = assistant.base.as_str();
    let mut choice = match base {
        "." => whole(files, asked)?,
        _ if named(base).is_empty() => {
            let what = "its assistant is made of";
            let how = "pull that one, and make the assistant anew with `pasture create`";
            return Err(format!("{what} {}, which is not in it; {how}", quoted(base)));
        }
        _ => {
            let weights = if base.ends_with(".gguf") { with_parts(files, base) } else { named(base) };
            let bytes: u64 = weights.iter().map(|file| file.bytes).sum();
            let why = format!("its base {}{}", quoted(base), fitting(bytes, asked.memory));
            Choice { files: with_terms(files, weights), why, part: None }
        }
    };
    let more = std::iter::once(FILE).chain(assistant.paths.iter().map(String::as_str)).flat_map(named);
    for file in more {
        if !choice.files.contains(file) {
            choice.files.push(file.clone());
        }
    }
    choice.why = format!("an assistant with all that it is made of: {}", choice.why);
    Ok(choice)
}

/// The model of a repository.
fn whole(files: &[Listed], asked: &Asked<'_>) -> Result<Choice, String> {
    let folder = |weights: Vec<&Listed>, what: &str| {
        let bytes: u64 = weights.iter().map(|file| file.bytes).sum();
        let why = format!("{what} with settings and tokenizer{}", fitting(bytes, asked.memory));
        (bytes, Choice { files: with_beside(files, weights), why, part: None })
    };
    let safetensors = safetensors(files);
    let models = models(files);
    if !safetensors.is_empty() {
        let (bytes, choice) = folder(safetensors, "safetensors");
        if models.is_empty() || fits(bytes, asked.memory) {
            return Ok(choice);
        }
    }
    if !models.is_empty() {
        return default_of(files, &models, asked.memory);
    }
    let pytorch = pytorch(files);
    if !pytorch.is_empty() {
        return Ok(folder(pytorch, "PyTorch files").1);
    }
    Err(format!(
        "no safetensors, GGUF or PyTorch weights are in it; it has {}",
        shown(files.iter().map(|file| file.path.as_str()))
    ))
}

fn included(files: &[Listed], patterns: &[String]) -> Result<Choice, String> {
    for pattern in patterns {
        if !files.iter().any(|file| matches(pattern, &file.path)) {
            let there = shown(files.iter().map(|file| file.path.as_str()));
            return Err(format!("no file is like {}; it has {there}", quoted(pattern)));
        }
    }
    let chosen = files.iter().filter(|file| patterns.iter().any(|pattern| matches(pattern, &file.path)));
    Ok(Choice { files: chosen.cloned().collect(), why: "the files that --include names".into(), part: None })
}

/// Whether a path is like a pattern, in which `*` stands for any letters.
fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = path.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn part_of(files: &[Listed], part: &str) -> Result<Choice, String> {
    if let Some(exact) = files.iter().find(|file| file.path == part) {
        let chosen = if exact.path.ends_with(".gguf") { with_parts(files, &exact.path) } else { vec![exact] };
        let why = "the file that was named".to_owned();
        return Ok(Choice { files: with_terms(files, chosen), why, part: Some(part.to_owned()) });
    }
    let models = models(files);
    let of_format: Vec<&&Listed> = models.iter().filter(|file| crate::hub::has_format(&file.path, part)).collect();
    match of_format.as_slice() {
        [only] => {
            let why = format!("the only model of {part}");
            let files = with_terms(files, with_parts(files, &only.path));
            Ok(Choice { files, why, part: Some(part.to_owned()) })
        }
        [] if models.is_empty() => {
            let there = shown(files.iter().map(|file| file.path.as_str()));
            Err(format!("no file is {}; it has {there}", quoted(part)))
        }
        [] => {
            let there = shown(models.iter().map(|file| file.path.as_str()));
            Err(format!("no file is or has {}; its models are {there}", quoted(part)))
        }
        several => {
            let there = shown(several.iter().map(|file| file.path.as_str()));
            Err(format!("{} may be any of {there}; name one of them", quoted(part)))
        }
    }
}

/// The model of the gladliest chosen number format that fits.
fn default_of(files: &[Listed], models: &[&Listed], memory: Option<u64>) -> Result<Choice, String> {
    let bytes = |file: &Listed| with_parts(files, &file.path).iter().map(|part| part.bytes).sum::<u64>();
    let format_of = |file: &Listed| {
        FORMATS
            .iter()
            .enumerate()
            .filter(|(_, format)| crate::hub::has_format(&file.path, format))
            .map(|(rank, _)| rank)
            .next()
    };
    let mut ranked: Vec<(usize, u64, &Listed)> =
        models.iter().filter_map(|file| Some((format_of(file)?, bytes(file), *file))).collect();
    if let ([only], true) = (models, ranked.is_empty()) {
        ranked.push((FORMATS.len(), bytes(only), only));
    }
    if ranked.is_empty() {
        let there = shown(models.iter().map(|file| file.path.as_str()));
        return Err(format!("none of its models says in its name a number format that is known; name one of {there}"));
    }
    ranked.sort_by_key(|(rank, bytes, file)| (*rank, *bytes, &file.path));
    let smallest = ranked.iter().min_by_key(|(_, bytes, _)| *bytes);
    let fitting_one = ranked.iter().find(|(_, bytes, _)| fits(*bytes, memory));
    let (rank, bytes, file) = fitting_one.or(smallest).ok_or("it has no models")?;
    let format = FORMATS.get(*rank).map_or("the only one there is", |format| format);
    let many = if models.len() > 1 { format!(" of {} models", models.len()) } else { String::new() };
    let why = format!("GGUF, {format}{many}{}", fitting(*bytes, memory));
    // With several models a name alone would mean none of them, later on.
    Ok(Choice { files: with_terms(files, with_parts(files, &file.path)), why, part: None })
}

/// The place of a type among those that are chosen gladly; the first is 0.
pub fn liking(name: &str) -> Option<usize> {
    FORMATS.iter().position(|format| *format == name)
}

/// Whether a model of so many bytes fits into so much memory, beside what computes; where nobody knows, it does.
pub fn fits(bytes: u64, memory: Option<u64>) -> bool {
    memory.is_none_or(|memory| bytes.saturating_add(bytes / 10).saturating_add(ROOM) <= memory)
}

fn fitting(bytes: u64, memory: Option<u64>) -> String {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    match memory {
        None => String::new(),
        Some(memory) if fits(bytes, Some(memory)) => format!(", which fits into {:.1} GiB of free memory", gib(memory)),
        Some(memory) => format!(", which needs more than the {:.1} GiB of memory that are free", gib(memory)),
    }
}

/// GGUF models: files, or first parts of split ones; no vision encoders, no importance matrices.
fn models(files: &[Listed]) -> Vec<&Listed> {
    files.iter().filter(|file| crate::hub::is_model(&file.path) && !file.path.contains("imatrix")).collect()
}

/// A GGUF file with the other parts of its model.
fn with_parts<'f>(files: &'f [Listed], path: &str) -> Vec<&'f Listed> {
    let last = path.rsplit('/').next().unwrap_or(path);
    let stem = crate::hub::split_stem(last).map(|split| split.0);
    let belongs =
        |file: &&Listed| file.path == path || (stem.is_some() && crate::hub::split_stem_in(&file.path, path) == stem);
    files.iter().filter(belongs).collect()
}

/// The safetensors files of the folder itself that make up the model.
fn safetensors(files: &[Listed]) -> Vec<&Listed> {
    let root = |file: &&Listed| !file.path.contains('/') && file.path.ends_with(".safetensors");
    let all: Vec<&Listed> = files.iter().filter(root).collect();
    let shards = |file: &&&Listed| file.path.starts_with("model-") && file.path.contains("-of-");
    let index = files.iter().find(|file| file.path == "model.safetensors.index.json");
    let single = all.iter().find(|file| file.path == "model.safetensors");
    match (index, single) {
        (Some(index), _) if all.iter().any(|file| shards(&file)) => {
            all.iter().filter(shards).copied().chain([index]).collect()
        }
        (_, Some(single)) => vec![*single],
        // An original beside a converted one would double the download.
        _ => {
            let plain: Vec<&Listed> =
                all.iter().copied().filter(|file| !file.path.starts_with("consolidated")).collect();
            let index =
                files.iter().filter(|file| !file.path.contains('/') && file.path.ends_with(".safetensors.index.json"));
            match plain.is_empty() {
                true if all.is_empty() => Vec::new(),
                true => all.into_iter().chain(index).collect(),
                false => plain.into_iter().chain(index).collect(),
            }
        }
    }
}

fn pytorch(files: &[Listed]) -> Vec<&Listed> {
    let is_weight = |file: &&Listed| {
        let name = file.path.as_str();
        let hugging_face =
            name.starts_with("pytorch_model") && (name.ends_with(".bin") || name.ends_with(".bin.index.json"));
        hugging_face || (name.starts_with("consolidated.") && name.ends_with(".pth"))
    };
    files.iter().filter(is_weight).collect()
}

fn with_beside(files: &[Listed], weights: Vec<&Listed>) -> Vec<Listed> {
    let beside = files.iter().filter(|file| BESIDE.contains(&file.path.as_str()) || is_terms(&file.path));
    beside.chain(weights).cloned().collect()
}

fn with_terms(files: &[Listed], weights: Vec<&Listed>) -> Vec<Listed> {
    let terms = files.iter().filter(|file| file.path == "README.md" || is_terms(&file.path));
    let terms = terms.filter(|file| !weights.iter().any(|weight| weight.path == file.path));
    terms.chain(weights.iter().copied()).cloned().collect()
}

/// Files that hold a licence, a notice or a policy of use.
fn is_terms(path: &str) -> bool {
    let upper = path.to_ascii_uppercase();
    ["LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "USAGE_POLICY", "COPYING"]
        .iter()
        .any(|start| upper.starts_with(start))
        && !path.contains('/')
}

fn shown<'p>(paths: impl Iterator<Item = &'p str> + Clone) -> String {
    let count = paths.clone().count();
    let first: Vec<&str> = paths.take(SHOWN).collect();
    match count.saturating_sub(SHOWN) {
        _ if first.is_empty() => "no file that a model has".to_owned(),
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
