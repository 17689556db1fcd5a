//! A model that is passed on must be asked with the same ids: the tokenizer of the result is tried against that of the
//! source before any weight is written.

use pasture_files::tokenizer::{self, Difference, Tokenizer, first_difference};

use super::express::cannot;
use crate::config::Container;
use crate::error::{Error, Result};
use crate::load::Source;

/// Ids that a message shows at most.
const SHOWN: usize = 12;

/// The tokenizer of a checkpoint.
pub(super) fn tokenizer_of(source: &Source) -> Result<Option<Tokenizer>> {
    match (source.tensors.gguf(), &source.folder) {
        (Some(metadata), _) if source.config.container() == Container::Gguf => Tokenizer::from_gguf(metadata),
        (_, Some(folder)) => Tokenizer::in_folder(folder),
        _ => Ok(None),
    }
    .map_err(of_tokenizer)
}

/// An error of a tokenizer, as a model's.
pub(super) fn of_tokenizer(error: tokenizer::Error) -> Error {
    match error {
        tokenizer::Error::Format(error) => error.into(),
        other => pasture_files::Error::unsupported("the tokenizer", other.to_string()).into(),
    }
}

/// Refuses a result whose ids would differ.
pub(super) fn check_ids(source: Option<&Tokenizer>, result: Option<&Tokenizer>, container: &str) -> Result<()> {
    let (Some(source), Some(result)) = (source, result) else {
        return match source {
            Some(_) => Err(cannot(container, "the model's tokenizer")),
            None => Ok(()),
        };
    };
    let shown = |ids: &[u32]| format!("{:?}{}", &ids[..ids.len().min(SHOWN)], if ids.len() > SHOWN { "…" } else { "" });
    match first_difference(source, result).map_err(of_tokenizer)? {
        None => Ok(()),
        Some(Difference { text, one, other }) => {
            let what = format!("the model's tokenizer: {text:?} is {} and would be {}", shown(&one), shown(&other));
            Err(cannot(container, what))
        }
    }
}
