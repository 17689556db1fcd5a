//! The first lines of a conversation in a terminal: which model answers, what to expect of it, how to go on.

use std::fmt::Write as _;

use pasture::Model;

use crate::verbs::model::Place;

/// What the starter is. It is the first thing that a newcomer meets, so that its size is said before its mistakes are.
const STARTER: &str = "\
This is the starter, a tiny model inside the program (3.7 million weights). It knows Pasture's
commands and a little about open models, and is wrong about much else.

  Try       What is GGUF?  ·  How do I chat with a model?
  Switch    pasture chat my-model.gguf        a file or a folder
            pasture list                      models that are already on this machine
";

/// The greeting.
pub fn text(model: &Model, place: &Place) -> String {
    let mut text = String::new();
    if matches!(place, Place::Starter) {
        text.push_str(STARTER);
    } else {
        let (family, context) = (model.family().name, model.engine().context());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} · {family} · {context} tokens of context", model.name());
    }
    for note in model.prompt().notes() {
        let _ = writeln!(text, "note: {note}");
    }
    text.push_str("\n/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.\n\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starter_says_what_it_is_in_lines_that_fit() {
        let model = Model::starter().expect("the starter is inside");
        let text = text(&model, &Place::Starter);
        for part in ["the starter, a tiny model", "pasture chat my-model.gguf", "pasture list", "/help", "Ctrl-D"] {
            assert!(text.contains(part), "{text} lacks {part:?}");
        }
        assert!(!text.contains("note:") && text.lines().all(|line| line.chars().count() <= 96), "{text}");
    }
}
