//! A model as a GGUF file: its metadata with vocabulary and template, and its tensors under GGUF's names.

use std::path::{Path, PathBuf};

use pasture_files::dtype::Dtype;
use pasture_files::gguf::{self, Metadata, Value};
use pasture_files::outline::Outline;
use pasture_files::prompt::Prompt;
use pasture_files::size::Size;
use pasture_files::tokenizer::Tokenizer;
use pasture_kernels::Format;

use super::Progress;
use super::express::{Expressed, as_gguf, in_gguf};
use super::folder::of_prompt;
use super::targets::{Content, Encode, Target, targets};
use super::tokens::{check_ids, of_tokenizer, tokenizer_of};
use crate::config::Container;
use crate::error::Result;
use crate::load::{Source, Survey};

/// A GGUF file before it is written.
pub struct GgufPlan {
    /// Keys and values.
    pub metadata: Metadata,
    /// Its tensors; their formats may still be changed.
    pub targets: Vec<Target>,
}

/// Plans the GGUF file of a checkpoint. Numbers stay as they are stored where GGUF has the format; vectors are F32.
///
/// # Errors
/// When GGUF has no way to say something of the model: it is named.
pub fn plan_gguf(source: &Source, survey: &Survey) -> Result<GgufPlan> {
    let make = |names: &crate::names::Names| targets(&survey.spec, &survey.slots, names, "GGUF");
    let Expressed { config: (word, structure, mut targets), .. } = as_gguf(&survey.spec, survey.family, &make)?;
    for target in &mut targets {
        let format = match target.stored() {
            _ if target.is_vector() => Format::F32,
            Some(format) if in_gguf(format) => format,
            // Eight-bit floats are a part of BF16; all else that GGUF lacks is exact in F32 only.
            Some(format) if format.block() == 1 => Format::BF16,
            _ => Format::F32,
        };
        target.outline.dtype = Dtype::Number(format);
    }
    let mut metadata = Metadata::new("model.gguf");
    let mut put = |key: &str, value: Value| -> Result<()> {
        if metadata.get(key).is_none() {
            metadata.insert(key, value)?;
        }
        Ok(())
    };
    put("general.architecture", Value::text(&word))?;
    match source.tensors.gguf().filter(|_| source.config.container() == Container::Gguf) {
        // Such a file says itself all that is not structure.
        Some(own) => {
            let left = ["general.architecture", "general.file_type", "general.quantization_version"];
            let prefix = format!("{word}.");
            let kept = own.iter().filter(|(key, _)| !left.contains(key) && !key.starts_with("split."));
            for (key, value) in kept.filter(|(key, _)| !key.starts_with(&prefix)) {
                put(key, value.clone())?;
            }
        }
        None => {
            for (key, value) in description(source) {
                put(&key, value)?;
            }
            if let Some(folder) = &source.folder {
                for (key, value) in Prompt::in_folder(folder, None)
                    .and_then(|prompt| prompt.to_gguf(survey.spec.vocab))
                    .map_err(of_prompt)?
                {
                    put(&key, value)?;
                }
            }
        }
    }
    for (key, value) in structure.iter() {
        put(key, value.clone())?;
    }
    if let Some(pooling) = pooling(source)? {
        put(&format!("{word}.pooling_type"), Value::U32(pooling))?;
    }
    put("tokenizer.ggml.model", Value::text("none"))?;
    let again = Tokenizer::from_gguf(&metadata).map_err(of_tokenizer)?;
    check_ids(tokenizer_of(source)?.as_ref(), again.as_ref(), "GGUF")?;
    Ok(GgufPlan { metadata, targets })
}

/// How a folder of sentence-transformers pools: GGUF's number for it.
fn pooling(source: &Source) -> Result<Option<u32>> {
    let Some(folder) = &source.folder else { return Ok(None) };
    let inner = folder.path().join("1_Pooling");
    if !inner.is_dir() {
        return Ok(None);
    }
    let inner = pasture_files::folder::Folder::open(&inner)?;
    let config = pasture_files::json::read_in(&inner, "config.json")?.unwrap_or_default();
    let modes = [("pooling_mode_mean_tokens", 1), ("pooling_mode_cls_token", 2), ("pooling_mode_lasttoken", 3)];
    Ok(modes.into_iter().find(|(key, _)| config[*key] == true).map(|(_, number)| number))
}

/// What a folder says of its model: name, licence, what it was made from.
fn description(source: &Source) -> Vec<(String, Value)> {
    let mut found = vec![("general.type".to_owned(), Value::text("model"))];
    let Some(folder) = &source.folder else { return found };
    found.push(("general.name".to_owned(), Value::text(folder.name())));
    let card = super::folder::card(folder);
    for (line, key) in [
        ("license", "general.license"),
        ("license_name", "general.license.name"),
        ("license_link", "general.license.link"),
    ] {
        if let Some(text) = card.iter().find(|(name, _)| name == line).map(|(_, text)| text) {
            found.push((key.to_owned(), Value::text(text)));
        }
    }
    if let Some((_, base)) = card.iter().find(|(name, _)| name == "base_model") {
        found.push(("general.base_model.count".to_owned(), Value::U32(1)));
        found.push(("general.base_model.0.name".to_owned(), Value::text(base)));
        if let Some((organization, _)) = base.split_once('/') {
            found.push(("general.base_model.0.organization".to_owned(), Value::text(organization)));
            let url = format!("https://huggingface.co/{base}");
            found.push(("general.base_model.0.repo_url".to_owned(), Value::text(&url)));
        }
    }
    found
}

impl GgufPlan {
    /// Bytes of all tensors.
    pub fn byte_count(&self) -> u64 {
        let bytes = |target: &Target| target.outline.byte_count("model.gguf").map_or(0, Size::get);
        self.targets.iter().map(bytes).sum()
    }

    /// Sets a key, in place of what it was.
    pub fn set(&mut self, key: &str, value: Value) -> Result<()> {
        let mut metadata = Metadata::new("model.gguf");
        for (name, there) in self.metadata.iter().filter(|(name, _)| *name != key) {
            metadata.insert(name, there.clone())?;
        }
        metadata.insert(key, value)?;
        self.metadata = metadata;
        Ok(())
    }

    /// Sets keys in place of all that they name and of all that begin in one of these ways.
    pub fn replace(&mut self, begins: &[&str], keys: &[(String, Value)]) -> Result<()> {
        let mut metadata = Metadata::new("model.gguf");
        let gone =
            |name: &str| begins.iter().any(|begin| name.starts_with(begin)) || keys.iter().any(|(key, _)| key == name);
        for (name, there) in self.metadata.iter().filter(|(name, _)| !gone(name)) {
            metadata.insert(name, there.clone())?;
        }
        for (key, value) in keys {
            metadata.insert(key.as_str(), value.clone())?;
        }
        self.metadata = metadata;
        Ok(())
    }

    /// Says in the metadata which numbers most tensors have, unless that was said.
    fn describe_numbers(&mut self) -> Result<()> {
        if self.metadata.get("general.file_type").is_none() {
            let number = file_type(&self.targets);
            self.set("general.file_type", Value::U32(number))?;
        }
        if self.targets.iter().any(|target| target.format().block() > 1) {
            self.set("general.quantization_version", Value::U32(2))?;
        }
        Ok(())
    }

    /// Writes one file, or parts of at most `part_bytes_max`. Returns the files.
    pub fn write(
        mut self,
        path: &Path,
        part_bytes_max: Option<Size>,
        content: &dyn Content,
        encode: Encode<'_>,
        progress: Progress<'_>,
    ) -> Result<Vec<PathBuf>> {
        self.describe_numbers()?;
        let (total, mut done) = (self.byte_count(), 0);
        let outlines: Vec<Outline> = self.targets.iter().map(|target| target.outline.clone()).collect();
        let by_name: std::collections::HashMap<&str, &Target> =
            self.targets.iter().map(|target| (target.outline.name.as_str(), target)).collect();
        let fill = |outline: &Outline, sink: &mut pasture_files::durable::Sink| {
            by_name[outline.name.as_str()].fill(content, true, encode, sink)?;
            done += outline.byte_count("model.gguf")?.get();
            progress(done, total);
            Ok(())
        };
        let Some(most) = part_bytes_max else {
            gguf::write(path, &self.metadata, &outlines, fill)?;
            return Ok(vec![path.to_owned()]);
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        Ok(gguf::write_split(folder, &stem, &self.metadata, &outlines, most, fill)?)
    }
}

/// The number that GGUF gives to a file by the format that most of its matrices have.
fn file_type(targets: &[Target]) -> u32 {
    const NUMBERS: [(Format, u32); 18] = [
        (Format::F32, 0),
        (Format::F16, 1),
        (Format::Q4_0, 2),
        (Format::Q4_1, 3),
        (Format::Q8_0, 7),
        (Format::Q5_0, 8),
        (Format::Q5_1, 9),
        (Format::Q2_K, 10),
        (Format::Q3_K, 12),
        (Format::Q4_K, 15),
        (Format::Q5_K, 17),
        (Format::Q6_K, 18),
        (Format::IQ4_NL, 25),
        (Format::IQ4_XS, 30),
        (Format::BF16, 32),
        (Format::TQ1_0, 36),
        (Format::TQ2_0, 37),
        (Format::MXFP4, 38),
    ];
    let values = |format: Format| -> usize {
        let of = targets.iter().filter(|target| !target.is_vector() && target.format() == format);
        of.map(|target| target.outline.shape.iter().product::<usize>()).sum()
    };
    NUMBERS
        .iter()
        .max_by_key(|(format, number)| (values(*format), std::cmp::Reverse(*number)))
        .map_or(0, |(_, number)| *number)
}
