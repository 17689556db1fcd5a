//! What `/set` shows: the settings in force, and what one means.

use std::fmt::Write as _;

use pasture::Model;

use crate::exit::Failure;
use crate::settings::keys::{self, Key, Scope};
use crate::settings::{Origin, Settings, unknown_sampling};

/// Letters of a line of names.
const LINE: usize = 76;

/// Settings that were made, here or by the model's files, then the names of the others.
pub fn list(settings: &Settings, model: &Model) -> String {
    let (mut text, mut others) = (String::new(), Vec::new());
    for key in shown() {
        match value(key, settings, model) {
            // Writing to a string cannot fail.
            Some(value) => drop(writeln!(text, "  {:<20} {value}", key.name)),
            None => others.push(key.name),
        }
    }
    text.push_str("  Not set:\n");
    let mut line = String::new();
    for name in others {
        if line.len() + name.len() > LINE {
            let _ = writeln!(text, "   {line}");
            line.clear();
        }
        let _ = write!(line, " {name}");
    }
    let _ = writeln!(text, "   {line}\n  /set NAME explains one, /set NAME VALUE changes it.");
    text
}

/// One setting: its value, its values, its meaning.
pub fn one(name: &str, settings: &Settings, model: &Model) -> Result<String, Failure> {
    let key = keys::find(name).filter(|key| has_effect(key)).ok_or_else(|| unknown_sampling(name, "VALUE"))?;
    let value = value(key, settings, model).unwrap_or_else(|| "not set".to_owned());
    Ok(format!("  {}: {value}\n  {}; {}\n", key.name, key.meaning, key.values()))
}

fn shown() -> impl Iterator<Item = &'static Key> {
    keys::all().iter().filter(|key| has_effect(key))
}

/// Conversations show no log-probabilities.
fn has_effect(key: &Key) -> bool {
    key.scope == Scope::Sampling && key.name != "logprobs"
}

fn value(key: &Key, settings: &Settings, model: &Model) -> Option<String> {
    let defaults = model.sampling_defaults().present();
    let own = defaults.iter().find(|(name, _)| *name == key.name);
    let own = own.map(|(_, value)| format!("{value} (the model's)"));
    let made = settings.get(key.name).map(|(value, origin)| match origin {
        Origin::Assistant(_) => format!("{value} (the assistant's)"),
        _ => value.to_string(),
    });
    made.or(own)
}
