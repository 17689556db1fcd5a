//! Decoders of tokenizer.json, reduced to the few shapes that files have.

use serde_json::Value;

use super::super::decode::{Decoder, Leading};
use super::super::error::{Result, invalid};
use super::{flag, text, typed, unsupported};

const DEPTH_MAX: usize = 8;

pub(super) fn read(value: &Value) -> Result<Decoder> {
    if value.is_null() {
        return Ok(Decoder::Spaced);
    }
    let mut found = Found::default();
    found.read(value, 0)?;
    Ok(found.decoder.unwrap_or(Decoder::Pieces {
        replaced: found.replaced,
        bytes: found.bytes,
        leading: found.leading.unwrap_or(Leading::Nothing),
    }))
}

#[derive(Default)]
struct Found {
    replaced: Vec<(String, String)>,
    bytes: bool,
    is_fused: bool,
    leading: Option<Leading>,
    decoder: Option<Decoder>,
}

impl Found {
    fn read(&mut self, value: &Value, depth: usize) -> Result<()> {
        let (name, object) = typed(value, "decoder")?;
        match name {
            "Sequence" if depth < DEPTH_MAX => {
                let list = object.get("decoders").and_then(Value::as_array);
                let list = list.ok_or_else(|| invalid("decoders of a decoder", "no list", "a list"))?;
                list.iter().try_for_each(|value| self.read(value, depth + 1))?;
            }
            "ByteLevel" => self.decoder = Some(Decoder::Bytes),
            "WordPiece" => {
                let prefix = if object.contains_key("prefix") { text(object, "prefix", "a decoder")? } else { "##" };
                let cleanup = flag(object, "cleanup", true)?;
                self.decoder = Some(Decoder::Words { prefix: prefix.to_owned(), cleanup });
            }
            "BPEDecoder" => {
                let suffix = if object.contains_key("suffix") { text(object, "suffix", "a decoder")? } else { "</w>" };
                self.decoder = Some(Decoder::Suffixed { suffix: suffix.to_owned() });
            }
            "Metaspace" => {
                let mark =
                    if object.contains_key("replacement") { text(object, "replacement", "a decoder")? } else { "▁" };
                let keeps = object.get("prepend_scheme").and_then(Value::as_str) == Some("never")
                    || object.get("add_prefix_space").and_then(Value::as_bool) == Some(false);
                self.replaced.push((mark.to_owned(), " ".to_owned()));
                self.leading = Some(if keeps { Leading::Nothing } else { Leading::Marks });
            }
            "Replace" => {
                let from = object.get("pattern").and_then(|pattern| pattern.get("String")).and_then(Value::as_str);
                let from = from.filter(|from| !from.is_empty() && from.len() <= 64);
                let from =
                    from.ok_or_else(|| invalid("pattern of the decoder \"Replace\"", "no short text", "a text"))?;
                let to = text(object, "content", "a decoder")?;
                if to.len() > 64 {
                    return Err(invalid("content of the decoder \"Replace\"", "a long text", "at most 64 bytes"));
                }
                self.replaced.push((from.to_owned(), to.to_owned()));
            }
            "ByteFallback" => self.bytes = true,
            "Fuse" => self.is_fused = true,
            "Strip" => {
                let count = |key: &str| object.get(key).map_or(Some(0), Value::as_u64);
                let content = text(object, "content", "a decoder")?;
                match (count("start"), count("stop")) {
                    (Some(0), Some(0)) => {}
                    (Some(1), Some(0)) if content == " " && self.is_fused => self.leading = Some(Leading::Space),
                    (Some(_), Some(0)) if content == " " && self.is_fused => self.leading = Some(Leading::Spaces),
                    _ => return Err(unsupported("decoder", "Strip of anything but spaces before the whole text")),
                }
            }
            other => return Err(unsupported("decoder", other)),
        }
        Ok(())
    }
}
