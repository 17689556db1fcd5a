//! Post-processors: what tokenizer.json puts around a text.

use serde_json::Value;

use super::super::error::{Result, invalid, quoted};
use super::super::vocabulary::Vocabulary;
use super::super::{Slot, Template};
use super::{kind, text, typed, unsupported};

const DEPTH_MAX: usize = 4;
/// Templates in use put two or three tokens around a text.
const TOKENS_MAX: usize = 64;

pub(super) fn read(value: &Value, words: &Vocabulary) -> Result<Template> {
    let mut template = Template::default();
    read_into(value, words, &mut template, 0)?;
    Ok(template)
}

fn read_into(value: &Value, words: &Vocabulary, template: &mut Template, depth: usize) -> Result<()> {
    if value.is_null() {
        return Ok(());
    }
    let (name, object) = typed(value, "post-processor")?;
    match name {
        "ByteLevel" => Ok(()),
        "Sequence" if depth < DEPTH_MAX => {
            let list = object.get("processors").and_then(Value::as_array);
            let list = list.ok_or_else(|| invalid("processors of a post-processor", "no list", "a list"))?;
            list.iter().try_for_each(|value| read_into(value, words, template, depth + 1))
        }
        "TemplateProcessing" => {
            let specials = object.get("special_tokens").unwrap_or(&Value::Null);
            let single = slots(object.get("single"), specials, words)?;
            let Some(at) = single.iter().position(|slot| *slot == Slot::First) else {
                return Err(invalid("the template for one text", "without the text", "the sequence \"A\" once"));
            };
            let ids = |slots: &[Slot]| {
                slots
                    .iter()
                    .map(|slot| if let Slot::Token(id) = slot { Some(*id) } else { None })
                    .collect::<Option<Vec<u32>>>()
            };
            let twice = || invalid("the template for one text", "with two texts", "the sequence \"A\" once");
            template.before = ids(&single[..at]).ok_or_else(twice)?;
            template.after = ids(&single[at + 1..]).ok_or_else(twice)?;
            if object.get("pair").is_some_and(|pair| !pair.is_null()) {
                template.pair = Some(slots(object.get("pair"), specials, words)?);
            }
            Ok(())
        }
        "BertProcessing" | "RobertaProcessing" => {
            let (sep, cls) = (named(object.get("sep"), words)?, named(object.get("cls"), words)?);
            (template.before, template.after) = (vec![cls], vec![sep]);
            let middle: &[u32] = if name == "BertProcessing" { &[sep] } else { &[sep, sep] };
            let middle = middle.iter().map(|&id| Slot::Token(id));
            let start = [Slot::Token(cls), Slot::First].into_iter();
            template.pair = Some(start.chain(middle).chain([Slot::Second, Slot::Token(sep)]).collect());
            Ok(())
        }
        other => Err(unsupported("post-processor", other)),
    }
}

/// `["[SEP]", 102]`.
fn named(value: Option<&Value>, words: &Vocabulary) -> Result<u32> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice);
    let Some([Value::String(_), id]) = list else {
        return Err(invalid("\"sep\" or \"cls\" of the post-processor", "no pair", "a token and its id"));
    };
    known(id, words)
}

fn known(id: &Value, words: &Vocabulary) -> Result<u32> {
    let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
    let known = number.filter(|&id| words.get(id).is_some());
    known.ok_or_else(|| {
        let found = format!("the id {} without a token", quoted(&id.to_string()));
        invalid("the post-processor", found, "ids of the vocabulary")
    })
}

fn slots(value: Option<&Value>, specials: &Value, words: &Vocabulary) -> Result<Vec<Slot>> {
    let list = value.and_then(Value::as_array);
    let list = list.ok_or_else(|| invalid("the template of the post-processor", "no list", "a list"))?;
    let mut slots = Vec::new();
    for item in list {
        let object = item.as_object().filter(|object| object.len() == 1);
        let pair = object.and_then(|object| object.iter().next());
        let Some((name, value)) = pair else {
            return Err(invalid("a part of the template", kind(item), "an object with one key"));
        };
        let inner = value.as_object().ok_or_else(|| invalid("a part of the template", kind(value), "an object"))?;
        let id = text(inner, "id", "a part of the template")?;
        match (name.as_str(), id) {
            ("Sequence", "A") => slots.push(Slot::First),
            ("Sequence", "B") => slots.push(Slot::Second),
            ("SpecialToken", id) => {
                let ids = specials.get(id).and_then(|token| token.get("ids")).and_then(Value::as_array);
                let ids = ids.ok_or_else(|| {
                    let found = format!("the token {}, which \"special_tokens\" lacks", quoted(id));
                    invalid("the template of the post-processor", found, "tokens that are listed there")
                })?;
                for id in ids {
                    slots.push(Slot::Token(known(id, words)?));
                }
            }
            (other, _) => return Err(unsupported("part of a template", other)),
        }
        if slots.len() > TOKENS_MAX {
            return Err(invalid(
                "the template of the post-processor",
                "too long",
                format!("at most {TOKENS_MAX} tokens"),
            ));
        }
    }
    Ok(slots)
}
