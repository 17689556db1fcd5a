//! Reads an assistant's TOML. Strict: a key that is not known is an error with its line and the nearest that is, and so
//! is a value of another kind.

use std::ops::Range;
use std::path::{Component, Path};

use pasture_files::error::quoted;
use pasture_files::nearest::nearest;
use serde_json::{Map, Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Assistant, Beside, Check, Document, Example, Part, Trust};
use crate::Digest;
use crate::error::{Error, Result};

const KEYS: [&str; 10] =
    ["base", "system", "license", "stop", "settings", "adapters", "documents", "tools", "messages", "parts"];
const LIST_MAX: usize = 256;
const DOCUMENT_BYTES_MAX: pasture_files::size::Size = pasture_files::size::Size::new(8 << 20);

/// A text with what errors and paths need.
struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    folder: &'a Path,
    trust: Trust,
}

type Field<'a> = (&'a str, &'a Spanned<DeValue<'a>>);

/// Reads a whole file.
pub(super) fn parse(file: &str, text: &str, folder: &Path, trust: Trust, check: Check<'_>) -> Result<Assistant> {
    let reader = Reader { file, text, folder, trust };
    let table = DeTable::parse(text)
        .map_err(|fault| reader.wrong(&fault.span().unwrap_or(0..0), fault.message().to_owned()))?;
    let mut assistant = Assistant::default();
    for (key, value) in reader.fields(table.get_ref(), &KEYS, "an assistant")? {
        match key {
            "base" => assistant.base = reader.model(value)?,
            "system" => assistant.system = Some(reader.text(value)?),
            "license" => assistant.license = Some(reader.text(value)?),
            "stop" => assistant.stop = reader.stops(value)?,
            "settings" => assistant.settings = reader.settings(value, check)?,
            "adapters" => assistant.adapters = reader.each(value, Reader::adapter)?,
            "documents" => assistant.documents = reader.each(value, Reader::document)?,
            "tools" => assistant.tools = reader.each(value, Reader::tool)?,
            "messages" => assistant.messages = reader.each(value, Reader::message)?,
            _ => assistant.parts = reader.each(value, Reader::part)?,
        }
    }
    match assistant.base.is_empty() {
        true => Err(reader.wrong(&(0..0), "it has no \"base\": the model that it is made of".into())),
        false => Ok(assistant),
    }
}

impl<'a> Reader<'a> {
    fn wrong(&self, span: &Range<usize>, what: String) -> Error {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::Written { file: self.file.to_owned(), line, what }
    }

    /// The fields of a table, all of them known.
    fn fields<'t>(&self, table: &'t DeTable<'t>, known: &[&str], of: &str) -> Result<Vec<Field<'t>>> {
        let mut fields = Vec::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let near = nearest(name, known.iter().copied()).unwrap_or_default();
                let what = format!("{of} has no {}; did you mean {near:?}?", quoted(name));
                return Err(self.wrong(&key.span(), what));
            }
            fields.push((name, value));
        }
        Ok(fields)
    }

    fn table<'t>(&self, value: &'t Spanned<DeValue<'t>>, known: &[&str], of: &str) -> Result<Vec<Field<'t>>> {
        match value.get_ref().as_table() {
            Some(table) => self.fields(table, known, of),
            None => Err(self.kind(value, "a table")),
        }
    }

    fn kind(&self, value: &Spanned<DeValue<'_>>, wanted: &str) -> Error {
        self.wrong(&value.span(), format!("here stands {}, where {wanted} is wanted", value.get_ref().type_str()))
    }

    fn text(&self, value: &Spanned<DeValue<'_>>) -> Result<String> {
        value.get_ref().as_str().map(str::to_owned).ok_or_else(|| self.kind(value, "a text"))
    }

    fn each<'t, T>(
        &self,
        value: &'t Spanned<DeValue<'t>>,
        one: impl Fn(&Self, &'t Spanned<DeValue<'t>>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let list = value.get_ref().as_array().ok_or_else(|| self.kind(value, "a list"))?;
        if list.len() > LIST_MAX {
            return Err(self.wrong(&value.span(), format!("here stand {} of at most {LIST_MAX}", list.len())));
        }
        list.iter().map(|value| one(self, value)).collect()
    }

    fn stops(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>> {
        let stops = match value.get_ref() {
            DeValue::String(text) => vec![text.to_string()],
            _ => self.each(value, Reader::text)?,
        };
        match stops.iter().find(|stop| stop.is_empty() || stop.len() > 256) {
            Some(_) => Err(self.wrong(&value.span(), "a stop text has 1 to 256 bytes".into())),
            None => Ok(stops),
        }
    }

    fn settings(&self, value: &Spanned<DeValue<'_>>, check: Check<'_>) -> Result<Map<String, Value>> {
        let table = value.get_ref().as_table().ok_or_else(|| self.kind(value, "a table"))?;
        let mut settings = Map::new();
        for (key, value) in table {
            let found = self.json(value)?;
            check(key.get_ref(), &found).map_err(|what| self.wrong(&key.span(), what))?;
            settings.insert(key.get_ref().to_string(), found);
        }
        Ok(settings)
    }

    /// A path that is there, from the file's folder on. One that came with a model stays in its folder.
    fn there(&self, text: &str) -> Option<String> {
        let path = Path::new(text);
        let below = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if text.is_empty() || (self.trust == Trust::Foreign && !below) {
            return None;
        }
        let joined = match self.trust {
            // What a cache links to lies elsewhere, so that a link is no sign of harm there.
            Trust::Foreign => self.folder.join(path),
            Trust::Own => std::fs::canonicalize(self.folder.join(path)).ok()?,
        };
        joined.exists().then(|| joined.to_string_lossy().into_owned())
    }

    fn model(&self, value: &Spanned<DeValue<'_>>) -> Result<String> {
        let text = self.text(value)?;
        if let Some(path) = self.there(&text) {
            return Ok(path);
        }
        match crate::name::Name::parse(&text) {
            Ok(_) => Ok(text),
            Err(fault) => Err(self.wrong(&value.span(), fault.to_string())),
        }
    }

    fn adapter(&self, value: &Spanned<DeValue<'_>>) -> Result<Beside> {
        let mut beside = Beside { path: String::new(), weight: 1.0 };
        let folder = |value: &Spanned<DeValue<'_>>| {
            let text = self.text(value)?;
            let missing = || self.wrong(&value.span(), format!("there is no adapter {}", quoted(&text)));
            self.there(&text).ok_or_else(missing)
        };
        if value.get_ref().is_str() {
            beside.path = folder(value)?;
            return Ok(beside);
        }
        for (key, value) in self.table(value, &["path", "weight"], "an adapter")? {
            match key {
                "path" => beside.path = folder(value)?,
                _ => {
                    let weight = self.json(value)?.as_f64().filter(|weight| weight.is_finite());
                    beside.weight = weight.ok_or_else(|| self.kind(value, "a number"))?;
                }
            }
        }
        match beside.path.is_empty() {
            true => Err(self.wrong(&value.span(), "this adapter has no \"path\"".into())),
            false => Ok(beside),
        }
    }

    fn document(&self, value: &Spanned<DeValue<'_>>) -> Result<Document> {
        if let Some(text) = value.get_ref().as_str() {
            let missing = || self.wrong(&value.span(), format!("there is no document {}", quoted(text)));
            let path = self.there(text).ok_or_else(missing)?;
            let bytes = pasture_files::folder::read_file(Path::new(&path), DOCUMENT_BYTES_MAX)?;
            let not_text = |_| self.wrong(&value.span(), format!("the document {} is not UTF-8", quoted(text)));
            let name = pasture_files::error::file_name(Path::new(&path));
            return Ok(Document { name, text: String::from_utf8(bytes).map_err(not_text)? });
        }
        let mut document = Document { name: String::new(), text: String::new() };
        for (key, value) in self.table(value, &["name", "text"], "a document")? {
            let text = self.text(value)?;
            match key {
                "name" => document.name = text,
                _ => document.text = text,
            }
        }
        Ok(document)
    }

    fn tool(&self, value: &Spanned<DeValue<'_>>) -> Result<Value> {
        let mut function = Map::new();
        for (key, value) in self.table(value, &["name", "description", "parameters"], "a tool")? {
            let found = match (key, value.get_ref()) {
                // A schema is JSON, and may be written as such.
                ("parameters", DeValue::String(text)) => serde_json::from_str(text)
                    .map_err(|fault| self.wrong(&value.span(), format!("these parameters are no JSON: {fault}")))?,
                ("parameters", _) => self.json(value)?,
                _ => Value::String(self.text(value)?),
            };
            if key == "parameters" && !found.is_object() {
                return Err(self.wrong(&value.span(), "a tool's parameters are a JSON schema, an object".into()));
            }
            function.insert(key.to_owned(), found);
        }
        match function.contains_key("name") {
            true => Ok(json!({"type": "function", "function": function})),
            false => Err(self.wrong(&value.span(), "this tool has no \"name\"".into())),
        }
    }

    fn message(&self, value: &Spanned<DeValue<'_>>) -> Result<Example> {
        let mut example = Example { role: String::new(), content: String::new() };
        for (key, value) in self.table(value, &["role", "content"], "a message")? {
            let text = self.text(value)?;
            match key {
                "role" if !["user", "assistant"].contains(&text.as_str()) => {
                    let what = format!("the role of an example is user or assistant, not {}", quoted(&text));
                    return Err(self.wrong(&value.span(), what));
                }
                "role" => example.role = text,
                _ => example.content = text,
            }
        }
        match example.role.is_empty() {
            true => Err(self.wrong(&value.span(), "this message has no \"role\"".into())),
            false => Ok(example),
        }
    }

    fn part(&self, value: &Spanned<DeValue<'_>>) -> Result<Part> {
        let mut part = Part { name: String::new(), digest: Digest::of(b""), bytes: 0 };
        for (key, value) in self.table(value, &["name", "digest", "bytes"], "a part")? {
            match key {
                "name" => part.name = self.text(value)?,
                "digest" => {
                    part.digest = Digest::parse(&self.text(value)?).map_err(|what| self.wrong(&value.span(), what))?;
                }
                _ => part.bytes = self.json(value)?.as_u64().ok_or_else(|| self.kind(value, "a number of bytes"))?,
            }
        }
        Ok(part)
    }

    /// Any value as JSON; dates have no place there.
    fn json(&self, value: &Spanned<DeValue<'_>>) -> Result<Value> {
        Ok(match value.get_ref() {
            DeValue::String(text) => json!(text),
            DeValue::Boolean(truth) => json!(truth),
            DeValue::Integer(number) => {
                let read = i64::from_str_radix(number.as_str(), number.radix());
                json!(read.map_err(|_| self.kind(value, "a number of 64 bits"))?)
            }
            DeValue::Float(number) => {
                let read = number.as_str().parse::<f64>().ok().filter(|number| number.is_finite());
                json!(read.ok_or_else(|| self.kind(value, "a finite number"))?)
            }
            DeValue::Array(list) => list.iter().map(|value| self.json(value)).collect::<Result<_>>()?,
            DeValue::Table(table) => {
                let pairs = table.iter().map(|(key, value)| Ok((key.get_ref().to_string(), self.json(value)?)));
                Value::Object(pairs.collect::<Result<_>>()?)
            }
            DeValue::Datetime(_) => return Err(self.kind(value, "a text or number")),
        })
    }
}
