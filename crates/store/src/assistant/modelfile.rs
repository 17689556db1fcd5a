//! Ollama's Modelfile, both ways: `INSTRUCTION value` a line, values over several lines between `"""`. An instruction or
//! parameter that would have no effect here is an error that names it and its line.
//! The format: <https://docs.ollama.com/modelfile>.

use std::path::Path;

use pasture_files::error::quoted;
use pasture_files::nearest::nearest;
use serde_json::{Value, json};

use super::{Assistant, Beside, Check, Example};
use crate::error::{Error, Result};

/// Ollama's parameters and our settings.
const PARAMETERS: [(&str, &str); 12] = [
    ("temperature", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("typical_p", "typical_p"),
    ("seed", "seed"),
    ("repeat_penalty", "repetition_penalty"),
    ("repeat_last_n", "repeat_last_n"),
    ("presence_penalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
    ("num_predict", "max_tokens"),
    ("num_ctx", "context"),
];

/// Parameters that tune Ollama's own engine.
const TUNING: [&str; 17] = [
    "num_gpu",
    "num_thread",
    "num_batch",
    "num_gqa",
    "num_keep",
    "main_gpu",
    "low_vram",
    "f16_kv",
    "vocab_only",
    "use_mmap",
    "use_mlock",
    "numa",
    "logits_all",
    "embedding_only",
    "rope_frequency_base",
    "rope_frequency_scale",
    "draft_num_predict",
];

/// Ways of sampling that Ollama has or had, with the value at which each does nothing.
const ABSENT: [(&str, &str); 5] =
    [("mirostat", "0"), ("mirostat_tau", "5"), ("mirostat_eta", "0.1"), ("tfs_z", "1"), ("penalize_newline", "true")];

const INSTRUCTIONS: [&str; 7] = ["FROM", "PARAMETER", "TEMPLATE", "SYSTEM", "ADAPTER", "MESSAGE", "LICENSE"];

/// One instruction with the line it begins at.
struct Instruction<'a> {
    line: usize,
    name: String,
    value: &'a str,
}

/// Whether a file is one: by its name, or because its first word is an instruction.
pub(super) fn is_one(path: &Path, text: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    if name.ends_with(".toml") {
        return false;
    }
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let word = first.and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    let instructs = INSTRUCTIONS.iter().any(|known| known.eq_ignore_ascii_case(word));
    instructs && !first.is_some_and(|line| line[word.len()..].trim_start().starts_with('='))
        || name.starts_with("modelfile")
}

pub(super) fn parse(
    file: &str,
    text: &str,
    folder: &Path,
    check: Check<'_>,
    same_template: &dyn Fn(&str, &str) -> bool,
) -> Result<Assistant> {
    let wrong = |line: usize, what: String| Error::Written { file: file.to_owned(), line, what };
    let mut made = Assistant::default();
    let mut template = None;
    for Instruction { line, name, value } in instructions(text).map_err(|(line, what)| wrong(line, what))? {
        match name.as_str() {
            "FROM" if !made.base.is_empty() => return Err(wrong(line, "a second FROM: one model is the base".into())),
            "FROM" => made.base = there(folder, value).unwrap_or_else(|| value.to_owned()),
            "ADAPTER" => {
                let missing = || wrong(line, format!("there is no adapter {}", quoted(value)));
                made.adapters.push(Beside { path: there(folder, value).ok_or_else(missing)?, weight: 1.0 });
            }
            "SYSTEM" => made.system = Some(value.to_owned()),
            "LICENSE" => made.license = Some(value.to_owned()),
            "TEMPLATE" => template = Some((line, value)),
            "MESSAGE" => message(&mut made, value).map_err(|what| wrong(line, what))?,
            "PARAMETER" => parameter(&mut made, value, check).map_err(|what| wrong(line, what))?,
            _ => return Err(wrong(line, unknown(&name))),
        }
    }
    if made.base.is_empty() {
        return Err(wrong(1, "it has no FROM: the model that it is made of".into()));
    }
    match template.filter(|(_, text)| !same_template(&made.base, text)) {
        Some((line, _)) => Err(wrong(
            line,
            "TEMPLATE has no effect: Ollama's are Go templates, and the model's own chat template is what it was \
             trained with; take the instruction out"
                .into(),
        )),
        None => Ok(made),
    }
}

fn unknown(name: &str) -> String {
    let near = nearest(name, INSTRUCTIONS.into_iter()).unwrap_or_default();
    match name {
        "RENDERER" | "PARSER" => format!("{name} has no effect: prompts and answers follow the model's own template"),
        "REQUIRES" => "REQUIRES has no effect: it speaks of Ollama's versions; take the instruction out".into(),
        "DRAFT" => "DRAFT has no effect: no draft model runs beside an assistant; take the instruction out".into(),
        _ => format!("{} is no instruction; did you mean {near}?", quoted(name)),
    }
}

fn there(folder: &Path, text: &str) -> Option<String> {
    let found = std::fs::canonicalize(folder.join(text)).ok()?;
    Some(found.to_string_lossy().into_owned())
}

fn message(made: &mut Assistant, value: &str) -> Result<(), String> {
    let (role, content) = value.split_once(char::is_whitespace).ok_or("MESSAGE needs a role and a text")?;
    let content = unquoted(content.trim());
    match role {
        "system" => made.system = Some(content.to_owned()),
        "user" | "assistant" => made.messages.push(Example { role: role.to_owned(), content: content.to_owned() }),
        _ => return Err(format!("the role of a MESSAGE is system, user or assistant, not {}", quoted(role))),
    }
    Ok(())
}

fn parameter(made: &mut Assistant, text: &str, check: Check<'_>) -> Result<(), String> {
    let (name, value) = text.split_once(char::is_whitespace).ok_or("PARAMETER needs a name and a value")?;
    let value = unquoted(value.trim());
    if name == "stop" {
        if value.is_empty() || value.len() > 256 {
            return Err("a stop text has 1 to 256 bytes".into());
        }
        made.stop.push(value.to_owned());
        return Ok(());
    }
    if TUNING.contains(&name) {
        return Err(format!("PARAMETER {name} has no effect: it tunes Ollama's own engine; take the line out"));
    }
    if let Some((_, idle)) = ABSENT.iter().find(|row| row.0 == name) {
        return match value == *idle {
            true => Ok(()),
            false => {
                Err(format!("PARAMETER {name} has no effect: this way of sampling is not here; take the line out"))
            }
        };
    }
    let Some((_, setting)) = PARAMETERS.iter().find(|row| row.0 == name) else {
        let near = nearest(name, PARAMETERS.iter().map(|row| row.0)).unwrap_or_default();
        return Err(format!("no PARAMETER is called {}; did you mean {near:?}?", quoted(name)));
    };
    let number: Value = serde_json::from_str(value)
        .ok()
        .filter(Value::is_number)
        .ok_or_else(|| format!("PARAMETER {name} needs a number, not {}", quoted(value)))?;
    // Ollama's words for "as many as fit" and "all of them": what holds where nothing is said.
    if matches!(*setting, "max_tokens" | "repeat_last_n") && number.as_i64().is_some_and(|number| number < 0) {
        return Ok(());
    }
    check(setting, &number)?;
    made.settings.insert((*setting).to_owned(), number);
    Ok(())
}

fn unquoted(text: &str) -> &str {
    let inside = |mark: &str| text.strip_prefix(mark)?.strip_suffix(mark);
    inside("\"\"\"").or_else(|| inside("\"")).unwrap_or(text)
}

/// Splits a file; the error is a line and what is wrong there.
fn instructions(text: &str) -> Result<Vec<Instruction<'_>>, (usize, String)> {
    const MARK: &str = "\"\"\"";
    let mut found = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while !rest.is_empty() {
        let end = rest.find('\n').map_or(rest.len(), |end| end + 1);
        let (this, begun) = (rest[..end].trim(), line);
        if this.is_empty() || this.starts_with('#') {
            (rest, line) = (&rest[end..], line + 1);
            continue;
        }
        let (name, value) = this.split_once(char::is_whitespace).unwrap_or((this, ""));
        let mut taken = end;
        let mut value = value.trim();
        if let Some(open) = rest[..end].find(MARK) {
            let inside = open + MARK.len();
            let close = rest[inside..].find(MARK).ok_or((begun, "the text after \"\"\" has no end".to_owned()))?;
            let start = rest.find(value).unwrap_or(open);
            let stop = inside + close + MARK.len();
            value = rest[start..stop].trim();
            taken = rest[stop..].find('\n').map_or(rest.len(), |end| stop + end + 1);
            if !rest[stop..taken].trim().is_empty() {
                return Err((begun, "something follows the closing \"\"\"".into()));
            }
        }
        let name = name.to_uppercase();
        let value = if name == "PARAMETER" || name == "MESSAGE" { value } else { unquoted(value) };
        if value.is_empty() {
            return Err((begun, format!("{} has no value", quoted(&name))));
        }
        found.push(Instruction { line: begun, name, value });
        line += rest[..taken].matches('\n').count();
        rest = &rest[taken..];
    }
    Ok(found)
}

/// An assistant in this format. What it has no word for stands in comments, so that nothing is lost unseen.
pub(super) fn written(assistant: &Assistant) -> String {
    let mut text = String::new();
    let mut line = |words: String| text.push_str(&format!("{words}\n"));
    line(format!("FROM {}", assistant.base));
    for adapter in &assistant.adapters {
        line(format!("ADAPTER {}", adapter.path));
        if adapter.weight != 1.0 {
            line(format!("# A Modelfile has no word for the adapter's weight, {}", adapter.weight));
        }
    }
    for (name, value) in &assistant.settings {
        match PARAMETERS.iter().find(|row| row.1 == name) {
            Some((parameter, _)) => line(format!("PARAMETER {parameter} {value}")),
            None => line(format!("# A Modelfile has no word for the setting {name} = {value}")),
        }
    }
    for stop in &assistant.stop {
        line(format!("PARAMETER stop {}", quoted_for(stop)));
    }
    let documents = assistant.documents.iter().map(|one| (one.name.clone(), one.text.clone())).collect();
    let system = assistant.system.clone();
    let before = pasture_files::prompt::Preamble { documents, system, ..Default::default() };
    if let Some(system) = before.system_message(None) {
        line(format!("SYSTEM {}", quoted_for(&system)));
    }
    for tool in &assistant.tools {
        line(format!(
            "# A Modelfile has no word for the tool {}",
            tool.pointer("/function/name").unwrap_or(&json!(""))
        ));
    }
    for message in &assistant.messages {
        line(format!("MESSAGE {} {}", message.role, quoted_for(&message.content)));
    }
    if let Some(license) = &assistant.license {
        line(format!("LICENSE {}", quoted_for(license)));
    }
    text
}

fn quoted_for(text: &str) -> String {
    let plain = !text.contains(['\n', '"', '#']) && text.trim() == text;
    if plain { text.to_owned() } else { format!("\"\"\"{text}\"\"\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Assistant> {
        let known = |name: &str, _: &Value| match PARAMETERS.iter().any(|row| row.1 == name) {
            true => Ok(()),
            false => Err("no such setting".to_owned()),
        };
        parse("Modelfile", text, Path::new("/nowhere"), &known, &|_, template| template == "its own")
    }

    fn check_refused(text: &str, part: &str) {
        let told = check(text).unwrap_err().to_string();
        assert!(told.contains(part), "{told:?} lacks {part:?}");
    }

    #[test]
    fn every_instruction_with_an_effect_is_read_and_written_back() {
        let text = "# A pirate\nFROM starter\nPARAMETER temperature 0.5\nparameter num_predict 40\n\
                    PARAMETER num_predict -1\nPARAMETER stop \"###\"\nPARAMETER mirostat 0\n\
                    SYSTEM \"\"\"You are\na pirate.\"\"\"\nTEMPLATE \"its own\"\n\
                    MESSAGE user Who are you?\nMESSAGE assistant \"Arr.\"\nLICENSE mit\n";
        let made = check(text).unwrap();
        assert_eq!(made.system.as_deref(), Some("You are\na pirate."));
        assert_eq!(json!(made.settings), json!({"temperature": 0.5, "max_tokens": 40}));
        assert_eq!((made.stop.as_slice(), made.license.as_deref()), (&["###".to_owned()][..], Some("mit")));
        assert_eq!(made.messages[1].content, "Arr.");
        assert_eq!(check(&made.to_modelfile()).unwrap(), made);
        assert!(
            is_one(Path::new("x"), text) && !is_one(Path::new("x"), "from = 1") && !is_one(Path::new("a.toml"), text)
        );
    }

    #[test]
    fn what_has_no_effect_is_named_with_its_line() {
        for tuning in TUNING {
            check_refused(
                &format!("FROM a\nPARAMETER {tuning} 1"),
                &format!("line 2: PARAMETER {tuning} has no effect"),
            );
        }
        check_refused("FROM a\n\nPARAMETER mirostat 2", "line 3: PARAMETER mirostat has no effect");
        check_refused("FROM a\nTEMPLATE {{ .Prompt }}", "line 2: TEMPLATE has no effect");
        check_refused("FROM a\nRENDERER x", "RENDERER has no effect");
        check_refused("FROM a\nPARAMETER temprature 1", "did you mean \"temperature\"?");
        check_refused("FROM a\nSYSTM x", "did you mean SYSTEM?");
        check_refused("FROM a\nSYSTEM \"\"\"x", "line 2: the text after \"\"\" has no end");
        check_refused("FROM a\nADAPTER nowhere", "there is no adapter \"nowhere\"");
        check_refused("FROM a\nMESSAGE tool x", "not \"tool\"");
        check_refused("SYSTEM x", "no FROM");
        check_refused("FROM a\nFROM b", "line 2: a second FROM");
    }
}
