//! How a model's own files say that texts become vectors: the modules of a sentence-transformers folder, with pooling,
//! normalization, prompts and the longest text; or a GGUF file's `pooling_type`. What they do not say stays open.

use std::collections::BTreeMap;

use pasture_files::folder::Folder;
use pasture_files::{gguf, json};
use serde_json::{Map, Value};

use super::Pooling;
use crate::error::Result;
use crate::load::Source;

/// What a model's files say of embedding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbedRules {
    /// Which rows become the vector.
    pub pooling: Option<Pooling>,
    /// Whether vectors are made one long.
    pub normalize: Option<bool>,
    /// Texts that stand before the user's, by name.
    pub prompts: BTreeMap<String, String>,
    /// The one of them that stands there unless another is asked for.
    pub default_prompt: Option<String>,
    /// Whether the rows of the prompt count in the mean.
    pub leaves_prompt_out: bool,
    /// Tokens that a text may have.
    pub tokens_max: Option<usize>,
    /// Whether texts are written in small letters first.
    pub lowercase: bool,
    /// Keys that nobody knows, with their files.
    pub unknown: Vec<String>,
}

const MODULES: &str = "modules.json";
const PROMPTS: &str = "config_sentence_transformers.json";
const TRANSFORMER: &str = "sentence_bert_config.json";

/// Pooling modes by their key of old and their word of today.
const MODES: [(&str, &str, Option<Pooling>); 6] = [
    ("pooling_mode_cls_token", "cls", Some(Pooling::Cls)),
    ("pooling_mode_mean_tokens", "mean", Some(Pooling::Mean)),
    ("pooling_mode_lasttoken", "lasttoken", Some(Pooling::Last)),
    ("pooling_mode_max_tokens", "max", None),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", None),
    ("pooling_mode_weightedmean_tokens", "weightedmean", None),
];

impl EmbedRules {
    /// What the files of a checkpoint say; `hidden` is the length of its rows.
    ///
    /// # Errors
    /// When they ask for something that is not known here, or contradict the model.
    pub fn of(source: &Source, hidden: usize) -> Result<EmbedRules> {
        match (source.tensors.gguf(), &source.folder) {
            (Some(metadata), _) => of_gguf(metadata),
            (None, Some(folder)) => of_folder(folder, hidden),
            (None, None) => Ok(EmbedRules::default()),
        }
    }

    fn unknown(&mut self, file: &str, values: &Map<String, Value>, known: &[&str]) {
        let unknown = values.keys().filter(|key| !known.contains(&key.as_str()));
        self.unknown.extend(unknown.map(|key| format!("{file}: {key}")));
    }
}

fn refused(file: &str, what: impl Into<String>) -> crate::Error {
    pasture_files::Error::unsupported(file, what.into()).into()
}

fn invalid(file: &str, what: impl Into<String>) -> crate::Error {
    pasture_files::Error::invalid(file, what.into()).into()
}

/// GGUF's numbers of pooling: none, mean, cls, last, rank. Vectors of GGUF files are made one long by everybody who
/// reads the key, and no key says so.
fn of_gguf(metadata: &gguf::Metadata) -> Result<EmbedRules> {
    let Some(architecture) = metadata.text("general.architecture")? else { return Ok(EmbedRules::default()) };
    let key = format!("{architecture}.pooling_type");
    let pooling = match metadata.u32(&key)? {
        None | Some(0) => return Ok(EmbedRules::default()),
        Some(1) => Pooling::Mean,
        Some(2) => Pooling::Cls,
        Some(3) => Pooling::Last,
        Some(_) => return Err(metadata.invalid(&key, "it is no pooling that embeds: known are 0 to 3").into()),
    };
    Ok(EmbedRules { pooling: Some(pooling), normalize: Some(true), ..EmbedRules::default() })
}

fn of_folder(folder: &Folder, hidden: usize) -> Result<EmbedRules> {
    let mut rules = EmbedRules::default();
    if let Some(modules) = json::read_in(folder, MODULES)? {
        read_modules(&modules, folder, hidden, &mut rules)?;
    }
    if let Some(values) = object(folder, PROMPTS)? {
        read_prompts(&values, &mut rules)?;
    }
    if let Some(values) = object(folder, TRANSFORMER)? {
        rules.tokens_max = whole(TRANSFORMER, &values, "max_seq_length")?;
        rules.lowercase = flag(TRANSFORMER, &values, "do_lower_case")?;
        rules.unknown(TRANSFORMER, &values, &["max_seq_length", "do_lower_case"]);
    }
    Ok(rules)
}

/// The modules in their order: a transformer, then pooling, then perhaps normalization.
fn read_modules(modules: &Value, folder: &Folder, hidden: usize, rules: &mut EmbedRules) -> Result<()> {
    let list = modules.as_array().ok_or_else(|| invalid(MODULES, "it should be a list of modules"))?;
    rules.normalize = Some(false);
    for (at, module) in list.iter().enumerate() {
        let text = |key: &str| module[key].as_str().unwrap_or_default();
        let kind = text("type").rsplit('.').next().unwrap_or_default();
        match (at, kind) {
            (0, "Transformer") if text("path").is_empty() => {}
            (0, "Transformer") => {
                let what = format!("its transformer lies in {:?}; move its files beside this one", text("path"));
                return Err(refused(MODULES, what));
            }
            (1, "Pooling") => {
                let (file, values) = pooling_config(folder, text("path"))?;
                read_pooling(&file, &values, hidden, rules)?;
            }
            (2, "Normalize") => rules.normalize = Some(true),
            _ => {
                let what = format!(
                    "module {at} is {:?}; known are Transformer, Pooling and Normalize, in this order",
                    text("type")
                );
                return Err(refused(MODULES, what));
            }
        }
    }
    Ok(())
}

fn pooling_config(folder: &Folder, path: &str) -> Result<(String, Map<String, Value>)> {
    let file = format!("{path}/config.json");
    let inner = folder.inner(path)?.ok_or_else(|| folder.missing(format!("{file:?}, which {MODULES} names")))?;
    let values = object(&inner, "config.json")?;
    Ok((file.clone(), values.ok_or_else(|| folder.missing(format!("{file:?}, which {MODULES} names")))?))
}

fn read_pooling(file: &str, values: &Map<String, Value>, hidden: usize, rules: &mut EmbedRules) -> Result<()> {
    for key in ["word_embedding_dimension", "embedding_dimension"] {
        if let Some(dimension) = whole(file, values, key)?
            && dimension != hidden
        {
            return Err(invalid(file, format!("{key:?} is {dimension}, but the model's rows are {hidden} long")));
        }
    }
    let mut asked = Vec::new();
    for (key, word, pooling) in MODES {
        if flag(file, values, key)? || values.get("pooling_mode").is_some_and(|mode| mode == word) {
            asked.push((word, pooling));
        }
    }
    let shown = || asked.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" and ");
    rules.pooling = match asked.as_slice() {
        [(_, Some(pooling))] => Some(*pooling),
        [] => return Err(refused(file, "it asks for no pooling that is known: cls, mean or lasttoken")),
        _ => return Err(refused(file, format!("it asks for {}; known are cls, mean or lasttoken alone", shown()))),
    };
    rules.leaves_prompt_out = values.contains_key("include_prompt") && !flag(file, values, "include_prompt")?;
    let known = ["word_embedding_dimension", "embedding_dimension", "include_prompt", "pooling_mode"];
    let known: Vec<&str> = known.into_iter().chain(MODES.iter().map(|(key, ..)| *key)).collect();
    if let Some((key, _)) =
        values.iter().find(|(key, value)| key.starts_with("pooling_mode") && is_on(key, value, &known))
    {
        return Err(refused(file, format!("{key:?} is no pooling that is known")));
    }
    rules.unknown(file, values, &known);
    Ok(())
}

/// Whether a mode that nobody knows is asked for.
fn is_on(key: &str, value: &Value, known: &[&str]) -> bool {
    !known.contains(&key) && *value != Value::Bool(false) && !value.is_null()
}

fn read_prompts(values: &Map<String, Value>, rules: &mut EmbedRules) -> Result<()> {
    let text = |key: &str, value: &Value| {
        let wrong = || invalid(PROMPTS, format!("prompt {key:?} should be a text"));
        value.as_str().map(str::to_owned).ok_or_else(wrong)
    };
    match values.get("prompts") {
        None | Some(Value::Null) => {}
        Some(Value::Object(prompts)) => {
            for (name, value) in prompts {
                rules.prompts.insert(name.clone(), text(name, value)?);
            }
        }
        Some(_) => return Err(invalid(PROMPTS, "\"prompts\" should be texts by name")),
    }
    match values.get("default_prompt_name") {
        None | Some(Value::Null) => {}
        Some(value) => {
            let name = text("default_prompt_name", value)?;
            if !rules.prompts.contains_key(&name) {
                return Err(invalid(PROMPTS, format!("\"default_prompt_name\" is {name:?}, which is no prompt in it")));
            }
            rules.default_prompt = Some(name);
        }
    }
    let known = ["__version__", "prompts", "default_prompt_name", "similarity_fn_name", "model_type"];
    rules.unknown(PROMPTS, values, &known);
    Ok(())
}

fn object(folder: &Folder, name: &str) -> Result<Option<Map<String, Value>>> {
    match json::read_in(folder, name)? {
        None => Ok(None),
        Some(Value::Object(values)) => Ok(Some(values)),
        Some(_) => Err(invalid(name, "it should be an object")),
    }
}

fn whole(file: &str, values: &Map<String, Value>, key: &str) -> Result<Option<usize>> {
    match values.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_u64().and_then(|number| usize::try_from(number).ok()).filter(|number| *number > 0);
            number.map(Some).ok_or_else(|| invalid(file, format!("{key:?} should be a whole number above 0")))
        }
    }
}

fn flag(file: &str, values: &Map<String, Value>, key: &str) -> Result<bool> {
    match values.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| invalid(file, format!("{key:?} should be true or false"))),
    }
}
