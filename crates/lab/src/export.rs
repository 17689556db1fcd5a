//! Passing a model on: as a Hugging Face folder, as a GGUF file, or as what Ollama takes. Names, structure and the
//! tokenizer's check are the model crate's; here is what a user asks for.

use std::path::{Path, PathBuf};

use pasture_files::dtype::Dtype;
use pasture_files::prompt::Prompt;
use pasture_files::size::Size;
use pasture_files::{durable, folder};
use pasture_kernels::Format;
use pasture_model::save::{
    Content, Encode, FolderPlan, GgufPlan, Own, Progress, encode_plainly, plan_folder, plan_gguf,
};
use pasture_model::{Error, Result, Source, Survey, survey};
use serde_json::Value;

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A folder of safetensors with config.json and the prompt's files.
    Folder,
    /// One GGUF file, or parts of one.
    Gguf,
    /// A folder with a GGUF file and a Modelfile.
    Modelfile,
}

impl Form {
    /// What a path asks for by its name.
    pub fn of(path: &Path) -> Form {
        if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf")) {
            Form::Gguf
        } else {
            Form::Folder
        }
    }
}

/// How to write.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What comes out; by the path's name where absent.
    pub form: Option<Form>,
    /// The plain numbers of matrices (F32, F16 or BF16); where absent as they are stored, and F32 for blocks that a
    /// folder cannot hold.
    pub dtype: Option<Format>,
    /// Bytes of a shard or part at most.
    pub part_bytes_max: Option<u64>,
    /// Keys of a GGUF file that say where the result comes from and what holds for it.
    pub history: History,
}

/// Keys of a GGUF file that say where a result comes from and what holds for it. Where there are some, they stand in place
/// of whatever the base's file said of itself.
#[derive(Clone, Debug, Default)]
pub struct History(pub Vec<(String, pasture_files::gguf::Value)>);

/// Keys of such a kind begin so.
const HISTORY: [&str; 3] = ["general.base_model.", "general.license", "pasture."];

impl History {
    /// Sets the keys in a file's plan.
    ///
    /// # Errors
    /// When a key stands twice.
    pub fn set(&self, plan: &mut GgufPlan) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { plan.replace(&HISTORY, &self.0) }
    }
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Exported {
    /// What came out.
    pub form: Form,
    /// The files of tensors.
    pub files: Vec<PathBuf>,
    /// How many tensors.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Writes a checkpoint as it is, in another container or the same.
///
/// # Errors
/// When the container cannot say all of the model, the tokenizer would give other ids, or a file cannot be written.
pub fn export(source: &Source, to: &Path, options: &Options, progress: Progress<'_>) -> Result<Exported> {
    let survey = survey(source)?;
    let own = Own { source, survey: &survey };
    write(source, &survey, &own, &encode_plainly, to, options, progress)
}

/// Writes numbers that were made from a checkpoint, with its structure and its prompt.
///
/// # Errors
/// As [`export`].
pub fn write(
    source: &Source,
    survey: &Survey,
    content: &dyn Content,
    encode: Encode<'_>,
    to: &Path,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Exported> {
    let form = options.form.unwrap_or(Form::of(to));
    let most = options.part_bytes_max.map(Size::new);
    match form {
        Form::Folder => {
            let mut plan = plan_folder(source, survey)?;
            choose(&mut plan, options.dtype);
            let (tensors, bytes) = (plan.targets.len(), plan.byte_count());
            let files = plan.write(to, most, content, encode, progress)?;
            Ok(Exported { form, files, tensors, bytes })
        }
        Form::Gguf | Form::Modelfile => {
            let mut plan = plan_gguf(source, survey)?;
            options.history.set(&mut plan)?;
            choose(&mut plan, options.dtype);
            let (tensors, bytes) = (plan.targets.len(), plan.byte_count());
            let file = if form == Form::Gguf { to.to_owned() } else { beside(to)? };
            let files = plan.write(&file, most, content, encode, progress)?;
            if form == Form::Modelfile {
                let text = modelfile(source, &files)?;
                durable::write_file(&to.join("Modelfile"), |sink| sink.put(text.as_bytes()))?;
            }
            Ok(Exported { form, files, tensors, bytes })
        }
    }
}

/// Plans whose matrices may have other numbers.
trait Plan {
    fn targets(&mut self) -> &mut Vec<pasture_model::save::Target>;
}

impl Plan for FolderPlan<'_> {
    fn targets(&mut self) -> &mut Vec<pasture_model::save::Target> {
        &mut self.targets
    }
}

impl Plan for GgufPlan {
    fn targets(&mut self) -> &mut Vec<pasture_model::save::Target> {
        &mut self.targets
    }
}

fn choose(plan: &mut impl Plan, dtype: Option<Format>) {
    let Some(format) = dtype else { return };
    for target in plan.targets().iter_mut().filter(|target| !target.is_vector()) {
        target.outline.dtype = Dtype::Number(format);
    }
}

/// The GGUF file in a folder for Ollama, which is made where it is not there.
fn beside(folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).map_err(|fault| pasture_files::Error::write(folder, fault))?;
    Ok(folder.join("model.gguf"))
}

/// Names of settings in a Modelfile, and ours. Its template Ollama takes from the GGUF file.
const PARAMETERS: [(&str, &str); 6] = [
    ("temperature", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("repeat_penalty", "repetition_penalty"),
    ("repeat_last_n", "repeat_last_n"),
];

fn modelfile(source: &Source, files: &[PathBuf]) -> Result<String> {
    let name = files.first().map_or_else(String::new, |file| pasture_files::error::file_name(file));
    let mut text = format!("FROM ./{name}\n");
    let prompt = match (source.tensors.gguf(), &source.folder) {
        (Some(metadata), _) => Some(Prompt::from_gguf(metadata, None)),
        (None, Some(folder)) => Some(Prompt::in_folder(folder, None)),
        (None, None) => None,
    };
    let outside = |error: pasture_files::prompt::Error| {
        Error::from(pasture_files::Error::unsupported("the prompt", error.to_string()))
    };
    let Some(prompt) = prompt.transpose().map_err(outside)? else { return Ok(text) };
    let sampling = &prompt.defaults().sampling;
    for (key, ours) in PARAMETERS {
        if let Some(value) = sampling.get(ours).filter(|value| Value::is_number(value)) {
            text += &format!("PARAMETER {key} {value}\n");
        }
    }
    let spelled = |id: &u32| prompt.tokenizer().and_then(|tokenizer| tokenizer.token(*id));
    let stops = prompt.stop_ids().iter().filter_map(spelled).chain(prompt.stop_strings().iter().cloned());
    for stop in stops {
        text += &format!("PARAMETER stop {}\n", Value::from(stop));
    }
    if let Some(license) = license(source)? {
        text += &format!("LICENSE \"\"\"{}\"\"\"\n", license.replace("\"\"\"", "'''"));
    }
    Ok(text)
}

/// The text of a licence file in the model's folder.
fn license(source: &Source) -> Result<Option<String>> {
    let Some(at) = source.folder.as_ref().filter(|_| source.tensors.gguf().is_none()) else { return Ok(None) };
    let names = at.names()?;
    let found =
        names.iter().find(|name| ["LICENSE", "LICENCE"].iter().any(|word| name.to_uppercase().starts_with(word)));
    let Some(name) = found else { return Ok(None) };
    let bytes = folder::read_file(&at.path().join(name), Size::new(1 << 20))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}
