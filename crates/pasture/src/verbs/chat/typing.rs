//! What the user types in a terminal: lines with editing and history, joined where one goes on in the next.

use std::path::PathBuf;

use etcetera::BaseStrategy;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper};

use super::command;
use crate::exit::{Failure, Status};

/// What was typed, or why nothing was.
pub enum Typed {
    /// A text, of one or more lines.
    Text(String),
    /// Ctrl-C at the prompt.
    Interrupt,
    /// Ctrl-D.
    End,
}

/// Reads from the terminal.
pub struct Typing {
    editor: Editor<Marks, rustyline::history::DefaultHistory>,
    history: Option<PathBuf>,
}

impl Typing {
    /// Opens the terminal, and the history of earlier conversations.
    pub fn new() -> Result<Typing, Failure> {
        let mut editor = Editor::new().map_err(|error| fault(&error))?;
        editor.set_helper(Some(Marks));
        let history = etcetera::choose_base_strategy().ok().and_then(|folders| {
            let folder = folders.state_dir().unwrap_or_else(|| folders.data_dir()).join("pasture");
            std::fs::create_dir_all(&folder).ok().map(|()| folder.join("history"))
        });
        if let Some(file) = &history {
            // The first conversation has none.
            let _ = editor.load_history(file);
        }
        Ok(Typing { editor, history })
    }

    /// Waits for a text.
    pub fn read(&mut self, prompt: &str) -> Result<Typed, Failure> {
        match self.editor.readline(prompt) {
            Ok(text) => {
                if !text.trim().is_empty() {
                    // A history that cannot be kept is no reason to stop.
                    let _ = self.editor.add_history_entry(&text);
                    if let Some(file) = &self.history {
                        let _ = self.editor.append_history(file);
                    }
                }
                Ok(Typed::Text(command::joined(&text)))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Interrupt),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(fault(&error)),
        }
    }
}

fn fault(error: &ReadlineError) -> Failure {
    Failure::new(Status::Io, format!("cannot read from the terminal: {error}"))
}

/// Says when a text goes on, and completes commands.
struct Marks;

impl Helper for Marks {}
impl Highlighter for Marks {}

impl Hinter for Marks {
    type Hint = String;
}

impl Validator for Marks {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let more = command::goes_on(context.input());
        Ok(if more { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Marks {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let Some(begun) = line[..at].strip_prefix('/').filter(|begun| !begun.contains(' ')) else {
            return Ok((at, Vec::new()));
        };
        let names = command::COMMANDS.iter().map(|(name, ..)| *name).filter(|name| name.starts_with(begun));
        Ok((1, names.map(|name| format!("{name} ")).collect()))
    }
}
