//! Rows of token ids with their labels: every number is checked before it is one.
#![forbid(unsafe_code)]

use serde_json::{Map, Value};

use super::layout::Content;

/// The label of a token that is not learned from.
const NO_LABEL: i64 = -100;

/// `input_ids` with optional `labels` and `attention_mask`.
pub(super) fn read(row: &Map<String, Value>, vocabulary: u32) -> Result<Content, String> {
    let list = |name: &str| -> Result<Option<&Vec<Value>>, String> {
        match row.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(format!("{name:?} is no list")),
        }
    };
    let ids = list("input_ids")?.ok_or("\"input_ids\" is null")?;
    if ids.is_empty() {
        return Err("\"input_ids\" is empty".into());
    }
    let id = |name: &str, place: usize, value: &Value| -> Result<u32, String> {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| *id < vocabulary);
        let shown: String = value.to_string().chars().take(40).collect();
        id.ok_or_else(|| format!("{name}[{place}] is {shown}, expected a token id below {vocabulary}"))
    };
    let read = ids.iter().enumerate().map(|(place, value)| id("input_ids", place, value));
    let ids: Vec<u32> = read.collect::<Result<_, String>>()?;
    let same_length = |name: &str, found: usize| {
        let wanted = ids.len();
        if found == wanted { Ok(()) } else { Err(format!("{name:?} has {found} entries, \"input_ids\" has {wanted}")) }
    };
    if let Some(mask) = list("attention_mask")? {
        same_length("attention_mask", mask.len())?;
        if let Some(place) = mask.iter().position(|value| value.as_u64() != Some(1)) {
            return Err(format!("attention_mask[{place}] is not 1; a row without padding is expected"));
        }
    }
    let labels = match list("labels")? {
        None => vec![true; ids.len()],
        Some(labels) => {
            same_length("labels", labels.len())?;
            let mut learned = Vec::with_capacity(labels.len());
            for (place, value) in labels.iter().enumerate() {
                let ignored = value.as_i64() == Some(NO_LABEL);
                if !ignored && id("labels", place, value)? != ids[place] {
                    return Err(format!("labels[{place}] is neither {NO_LABEL} nor the token itself"));
                }
                learned.push(!ignored);
            }
            learned
        }
    };
    if !labels.contains(&true) {
        return Err("no label is learned from".into());
    }
    Ok(Content::Tokens { ids, trained: labels })
}
