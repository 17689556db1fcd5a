//! A model as a Hugging Face folder: config.json, sharded safetensors under the family's own names, and the files of
//! the prompt, the card and the licence.

use std::path::{Path, PathBuf};

use pasture_files::dtype::Dtype;
use pasture_files::durable;
use pasture_files::folder::Folder;
use pasture_files::gguf::Metadata;
use pasture_files::outline::Outline;
use pasture_files::prompt::Prompt;
use pasture_files::safetensors;
use pasture_files::size::Size;
use pasture_files::tokenizer::Tokenizer;
use pasture_kernels::Format;
use serde_json::{Value, json};

use super::Progress;
use super::express::{Expressed, as_config};
use super::targets::{Content, Encode, Target, targets};
use super::tokens::{check_ids, of_tokenizer, tokenizer_of};
use crate::config::Container;
use crate::error::{Error, Result};
use crate::load::{Source, Survey};

/// A Hugging Face folder before it is written.
pub struct FolderPlan<'a> {
    source: &'a Source,
    /// config.json.
    pub config: Value,
    /// Its tensors; their formats may still be changed.
    pub targets: Vec<Target>,
    /// Tensors of the source that are copied as they are: what other programs read beside the model.
    copied: Vec<Outline>,
    /// Tensors that stand in place of others.
    made: Vec<Made<'a>>,
}

/// Makes a tensor's bytes of a matrix: its values, row after row, and its columns.
pub type Make<'m> = Box<dyn Fn(&[f32], usize) -> Vec<u8> + 'm>;

/// A tensor that is made of a matrix.
struct Made<'a> {
    outline: Outline,
    /// The place of the matrix among the targets.
    of: usize,
    make: Make<'a>,
}

/// Bytes of a shard at most, as the reference writes them.
const SHARD_BYTES_MAX: u64 = 5_000_000_000;

/// Plans the Hugging Face folder of a checkpoint. Plain numbers stay as they are stored; blocks become F32, which
/// holds each exactly.
///
/// # Errors
/// When config.json has no way to say something of the model: it is named.
pub fn plan_folder<'a>(source: &'a Source, survey: &Survey) -> Result<FolderPlan<'a>> {
    let own = source.config.container() == Container::HuggingFace;
    let (config, mut targets, copied) = if own {
        let folder = source.folder.as_ref().ok_or_else(|| Error::CannotExpress {
            container: "a folder".into(),
            what: "a checkpoint that came without its files".into(),
        })?;
        let mut config = pasture_files::json::read_in(folder, "config.json")?.unwrap_or_default();
        let quantized = config.as_object_mut().and_then(|config| config.shift_remove("quantization_config"));
        let targets = targets(&survey.spec, &survey.slots, &survey.own, "a folder")?;
        let beside = |outline: &Outline| {
            let known = survey.unused.iter().find(|unused| unused.tensor == outline.name);
            known
                .filter(|_| quantized.is_none())
                .is_some_and(|unused| !unused.reason.contains("configuration") && !unused.reason.contains("copy"))
        };
        (config, targets, source.tensors.outlines().into_iter().filter(beside).collect())
    } else {
        let Expressed { spec, names, config, .. } = as_config(&survey.spec, survey.family)?;
        (config, targets(&spec, &survey.slots, &names, "a folder")?, Vec::new())
    };
    let exact = |format: Format| Dtype::Number(format).safetensors_name().is_some() && format.block() == 1;
    for target in &mut targets {
        let format = match target.stored() {
            // An offset norm that had one added is exact in F32 only.
            Some(format) if exact(format) && (own || !target.is_vector()) => format,
            _ => Format::F32,
        };
        target.outline.dtype = Dtype::Number(format);
    }
    Ok(FolderPlan { source, config, targets, copied, made: Vec::new() })
}

impl<'a> FolderPlan<'a> {
    /// Stores a matrix, by its place among the targets, in other tensors: each with what makes its bytes.
    ///
    /// # Panics
    /// When it is a vector or a stack of matrices.
    pub fn store_as(&mut self, target: usize, parts: Vec<(Outline, Make<'a>)>) {
        assert!(!self.targets[target].is_vector() && self.targets[target].stacks() == 1, "it is one matrix");
        self.made.extend(parts.into_iter().map(|(outline, make)| Made { outline, of: target, make }));
    }

    /// Bytes of all tensors.
    pub fn byte_count(&self) -> u64 {
        self.outlines().iter().map(|outline| outline.byte_count("model.safetensors").map_or(0, Size::get)).sum()
    }

    fn outlines(&self) -> Vec<Outline> {
        let is_made = |at: usize| self.made.iter().any(|made| made.of == at);
        let kept = self.targets.iter().enumerate().filter(|(at, _)| !is_made(*at));
        let outlines = kept.map(|(_, target)| &target.outline).chain(self.made.iter().map(|made| &made.outline));
        outlines.chain(&self.copied).cloned().collect()
    }

    /// Writes the folder, which is made where it is not there. Returns the files of tensors.
    pub fn write(
        mut self,
        folder: &Path,
        shard_bytes_max: Option<Size>,
        content: &dyn Content,
        encode: Encode<'_>,
        progress: Progress<'_>,
    ) -> Result<Vec<PathBuf>> {
        std::fs::create_dir_all(folder).map_err(|fault| pasture_files::Error::write(folder, fault))?;
        self.say_dtype();
        carry(self.source, folder)?;
        let again = Tokenizer::in_folder(&Folder::open(folder)?).map_err(of_tokenizer)?;
        check_ids(tokenizer_of(self.source)?.as_ref(), again.as_ref(), "a folder")?;
        let (total, mut done) = (self.byte_count(), 0);
        let by_name: std::collections::HashMap<&str, &Target> =
            self.targets.iter().map(|target| (target.outline.name.as_str(), target)).collect();
        let made: std::collections::HashMap<&str, &Made<'_>> =
            self.made.iter().map(|made| (made.outline.name.as_str(), made)).collect();
        let fill = |outline: &Outline, sink: &mut durable::Sink| {
            if let Some(made) = made.get(outline.name.as_str()) {
                let target = &self.targets[made.of];
                let values = target.read(0, content, false).map_err(|error| target.outside(error))?;
                sink.put(&(made.make)(&values, target.row_len()))?;
                done += outline.byte_count("model.safetensors")?.get();
                progress(done, total);
                return Ok(());
            }
            match by_name.get(outline.name.as_str()) {
                Some(target) => target.fill(content, false, encode, sink)?,
                None => sink.put(&self.source.tensors.bytes(&outline.name)?)?,
            }
            done += outline.byte_count("model.safetensors")?.get();
            progress(done, total);
            Ok(())
        };
        let most = shard_bytes_max.unwrap_or(Size::new(SHARD_BYTES_MAX));
        let metadata = [("format".to_owned(), "pt".to_owned())];
        let files = safetensors::write_sharded(folder, "model", &metadata, &self.outlines(), most, fill)?;
        // A folder without config.json is no model yet: it comes last.
        write_json(&folder.join("config.json"), &self.config)?;
        Ok(files)
    }

    /// config.json says the numbers that most tensors have.
    fn say_dtype(&mut self) {
        let values = |format: Format| -> usize {
            let of = self.targets.iter().filter(|target| target.format() == format);
            of.map(|target| target.outline.shape.iter().product::<usize>()).sum()
        };
        let kinds = [(Format::F32, "float32"), (Format::F16, "float16"), (Format::BF16, "bfloat16")];
        let Some((_, name)) = kinds.into_iter().max_by_key(|(format, _)| values(*format)) else { return };
        let key = if self.config.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
        self.config[key] = Value::from(name);
    }
}

/// An error of the prompt, as a model's.
pub(super) fn of_prompt(error: pasture_files::prompt::Error) -> Error {
    match error {
        pasture_files::prompt::Error::File(error) => error.into(),
        other => pasture_files::Error::unsupported("the prompt", other.to_string()).into(),
    }
}

/// Writes a JSON file as people read it.
pub(super) fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).expect("a value is always JSON");
    Ok(durable::write_file(path, |sink| sink.put(format!("{text}\n").as_bytes()))?)
}

/// Files of a folder that belong to the prompt, by their names.
const PROMPT: [&str; 17] = [
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
];

/// The longest file that is carried along: published tokenizers end at 35 MB.
const CARRIED_BYTES_MAX: Size = Size::new(256 << 20);

/// Carries along what belongs to a model beside its weights: prompt, card, licence, notices.
pub(super) fn carry(source: &Source, to: &Path) -> Result<()> {
    if let Some(metadata) = source.tensors.gguf().filter(|_| source.config.container() == Container::Gguf) {
        write_pooling(source, metadata, to)?;
        for (name, bytes) in
            Prompt::from_gguf(metadata, None).and_then(|prompt| prompt.to_files(metadata)).map_err(of_prompt)?
        {
            durable::write_file(&to.join(name), |sink| sink.put(&bytes))?;
        }
        return Ok(());
    }
    let Some(folder) = &source.folder else { return Ok(()) };
    carry_pooling(folder, to)?;
    let same = to.canonicalize().is_ok_and(|to| to == folder.path());
    for name in folder.names()?.iter().filter(|_| !same) {
        if is_carried(name)
            && let Some(bytes) = folder.read(name, CARRIED_BYTES_MAX)?
        {
            durable::write_file(&to.join(name), |sink| sink.put(&bytes))?;
        }
    }
    Ok(())
}

/// The layout of sentence-transformers, for a file that says how rows become one vector: GGUF's are normalized.
fn write_pooling(source: &Source, metadata: &Metadata, to: &Path) -> Result<()> {
    let key = format!("{}.pooling_type", source.config.architecture().unwrap_or_default());
    let Some(number) = metadata.count(&key)? else { return Ok(()) };
    let width = source.config.get::<usize>("hidden_size")?;
    let config = json!({
        "word_embedding_dimension": width, "pooling_mode_mean_tokens": number == 1, "pooling_mode_cls_token": number == 2,
        "pooling_mode_lasttoken": number == 3, "pooling_mode_max_tokens": false,
    });
    let module = |at: usize, path: &str, kind: &str| json!({ "idx": at, "name": at.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") });
    let modules =
        [module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling"), module(2, "2_Normalize", "Normalize")];
    let inner = to.join("1_Pooling");
    std::fs::create_dir_all(&inner).map_err(|fault| pasture_files::Error::write(&inner, fault))?;
    write_json(&inner.join("config.json"), &config)?;
    write_json(&to.join("modules.json"), &json!(modules))
}

/// Carries the one file that stands in a folder of its own.
fn carry_pooling(folder: &Folder, to: &Path) -> Result<()> {
    let inner = folder.path().join("1_Pooling");
    if !inner.is_dir() {
        return Ok(());
    }
    let Some(config) = pasture_files::json::read_in(&Folder::open(&inner)?, "config.json")? else { return Ok(()) };
    let to = to.join("1_Pooling");
    std::fs::create_dir_all(&to).map_err(|fault| pasture_files::Error::write(&to, fault))?;
    write_json(&to.join("config.json"), &config)
}

fn is_carried(name: &str) -> bool {
    let upper = name.to_uppercase();
    let legal = ["LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "COPYING", "README", "MODEL_CARD"];
    PROMPT.contains(&name) || name.ends_with(".tiktoken") || legal.iter().any(|word| upper.starts_with(word))
}

/// The lines of the front matter of a folder's README: keys and values without quotes.
pub(super) fn card(folder: &Folder) -> Vec<(String, String)> {
    let bytes = folder.read("README.md", Size::new(4 << 20)).ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Some(head) = text.strip_prefix("---").and_then(|rest| rest.split("\n---").next().map(str::to_owned)) else {
        return Vec::new();
    };
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let plain = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    lines.map(|(key, value)| (key.to_owned(), plain(value))).filter(|(_, value)| !value.is_empty()).collect()
}
