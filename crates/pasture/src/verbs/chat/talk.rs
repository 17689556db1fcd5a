//! The conversation itself: questions, answers and commands. Invariant: whatever goes wrong, what was said so far is kept.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pasture::{Error, Message, Model, Reply, Session};

use super::command::{self, Input};
use super::saved;
use super::typing::{Typed, Typing};
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Settings, keys};

/// What the model is asked by `/compact`.
const SUMMARY: &str = "Summarize our conversation so far in a few sentences, with every fact that may matter later.";

/// A conversation in progress.
pub struct Talk {
    session: Session,
    model: Model,
    settings: Settings,
    decorated: bool,
    interrupt: Arc<AtomicBool>,
}

impl Talk {
    /// An empty conversation.
    pub fn new(model: Model, settings: Settings, decorated: bool) -> Result<Talk, Failure> {
        let session = model.session();
        let interrupt = session.cancel_flag();
        let mut talk = Talk { session, model, settings, decorated, interrupt };
        talk.apply()?;
        if let Some(system) = talk.settings.text("system") {
            talk.session.set_system(Some(system.to_owned()));
        }
        Ok(talk)
    }

    /// Hands the settings to the session.
    fn apply(&mut self) -> Result<(), Failure> {
        let sampling = self.settings.sampling()?;
        self.session.set_sampling(sampling);
        self.session.set_max_tokens(self.settings.whole("max_tokens"));
        self.session.set_stops(self.settings.texts("stop"));
        Ok(())
    }

    /// Goes on with a saved conversation.
    pub fn load(&mut self, path: &Path) -> Result<(), Failure> {
        self.session.set_messages(saved::load(path)?);
        Ok(())
    }

    /// Each line of standard input is a question; the first failure ends it.
    pub fn through_pipe(mut self) -> Result<(), Failure> {
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|error| match error.kind() {
                std::io::ErrorKind::InvalidData => Failure::new(Status::Data, "standard input is not UTF-8"),
                _ => error.into(),
            })?;
            match command::read(&line) {
                Input::Empty => {}
                Input::Say(text) => self.say(&text)?,
                Input::Command("exit", _) => break,
                Input::Command(name, rest) => self.obey(name, &rest)?,
                Input::Unknown(name, near) => return Err(unknown(&name, near)),
            }
        }
        Ok(())
    }

    /// Questions from a terminal, until Ctrl-D.
    pub fn in_terminal(mut self) -> Result<(), Failure> {
        signal_hook::flag::register(signal_hook::consts::SIGINT, self.interrupt.clone())?;
        eprintln!("{} · /help lists the commands, Ctrl-D leaves", self.model.name());
        for note in self.model.prompt().notes() {
            eprintln!("note: {note}");
        }
        let mut typing = Typing::new()?;
        loop {
            let text = match typing.read(">>> ")? {
                Typed::Text(text) => text,
                Typed::Interrupt => {
                    eprintln!("Ctrl-D or /exit leaves");
                    continue;
                }
                Typed::End => return Ok(()),
            };
            let done = match command::read(&text) {
                Input::Empty => Ok(()),
                Input::Say(text) => self.say(&text),
                Input::Command("exit", _) => return Ok(()),
                Input::Command(name, rest) => self.obey(name, &rest),
                Input::Unknown(name, near) => Err(unknown(&name, near)),
            };
            if let Err(failure) = done {
                eprintln!("{failure}");
            }
        }
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        let reply = self.session.say(text);
        print_reply(reply, self.decorated, &self.interrupt)
    }

    fn obey(&mut self, name: &str, rest: &str) -> Result<(), Failure> {
        match name {
            "help" => output::line(&command::help()),
            "system" => self.system(rest),
            "set" => self.set(rest),
            "save" => {
                saved::save(file(rest)?, self.model.name(), self.session.messages())?;
                self.tell(&format!("kept {} messages in {rest:?}", self.session.messages().len()))
            }
            "load" => {
                self.load(file(rest)?)?;
                self.tell(&format!("{} messages", self.session.messages().len()))
            }
            "regenerate" => {
                let reply = self.session.regenerate();
                print_reply(reply, self.decorated, &self.interrupt)
            }
            "undo" => match self.session.undo() {
                true => self.tell("took back the last question and its answer"),
                false => Err(Failure::new(Status::Usage, "there is no question to take back")),
            },
            "drop" => match self.session.drop_oldest() {
                true => self.tell("forgot the oldest question and its answer"),
                false => Err(Failure::new(Status::Usage, "there is nothing to forget")),
            },
            "compact" => self.compact(),
            "clear" => {
                let system = self.session.system_message().map(str::to_owned);
                self.session.set_messages(Vec::new());
                self.session.set_system(system);
                self.tell("a new conversation")
            }
            "stats" => self.stats(),
            "image" => {
                Err(Failure::new(Status::Unavailable, "`/image` is reserved: models that see pictures do not run yet"))
            }
            _ => unreachable!("every command of the table is obeyed"),
        }
    }

    fn system(&mut self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return output::line(self.session.system_message().unwrap_or("there is no system message"));
        }
        self.session.set_system(Some(text.to_owned()));
        self.tell("the system message is set")
    }

    fn set(&mut self, rest: &str) -> Result<(), Failure> {
        if let Some((name, value)) = rest.split_once(char::is_whitespace) {
            let before = self.settings.clone();
            self.settings.set(name, value.trim())?;
            return self.apply().inspect_err(|_| self.settings = before);
        }
        if !rest.is_empty() {
            return Err(
                Failure::new(Status::Usage, "`/set` takes a name and a value").hint("/set temperature 0.7".to_owned())
            );
        }
        let defaults = self.model.sampling_defaults().present();
        for key in keys::all().iter().filter(|key| key.scope == keys::Scope::Sampling) {
            let value = self.settings.get(key.name).map(|(value, _)| value.to_string());
            let own = || defaults.iter().find(|(name, _)| *name == key.name);
            let model = || own().map(|(_, value)| format!("{value} (the model's)"));
            output::line(&format!("  {:<22} {}", key.name, value.or_else(model).unwrap_or_else(|| "-".into())))?;
        }
        Ok(())
    }

    /// Makes room: the conversation becomes the model's own summary of it. The oldest messages go first where the
    /// summary itself finds no room, and that is said.
    fn compact(&mut self) -> Result<(), Failure> {
        let before = self.session.messages().to_vec();
        let system = self.session.system_message().map(str::to_owned);
        let mut dropped = 0;
        let summary = loop {
            match self.session.say(SUMMARY).text() {
                Ok(summary) => break summary,
                Err(Error::ContextFull { .. }) if self.session.drop_oldest() => dropped += 1,
                Err(error) => {
                    self.session.set_messages(before);
                    return Err(error.into());
                }
            }
        };
        let question = Message::new("user", SUMMARY);
        self.session.set_messages(vec![question, Message::new("assistant", summary.clone())]);
        self.session.set_system(system);
        if dropped > 0 {
            self.tell(&format!("the oldest {dropped} questions found no room and are not in the summary"))?;
        }
        output::line(&summary)
    }

    fn stats(&self) -> Result<(), Failure> {
        let Some(stats) = self.session.stats() else {
            return output::line("there is no answer yet");
        };
        let speed = |tokens: usize, time: Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
        let computed = stats.prompt_tokens - stats.cached_tokens;
        output::line(&format!(
            "prompt   {} tokens, {} of them known from before, {:.2} s, {:.1} tokens/s",
            stats.prompt_tokens,
            stats.cached_tokens,
            stats.prompt_time.as_secs_f64(),
            speed(computed, stats.prompt_time)
        ))?;
        let rest = stats.new_tokens.saturating_sub(1);
        output::line(&format!(
            "answer   {} tokens, {:.2} s, {:.1} tokens/s",
            stats.new_tokens,
            stats.new_time.as_secs_f64(),
            speed(rest, stats.new_time)
        ))?;
        output::line(&format!("context  {} of {} tokens", stats.context_used, stats.context_limit))
    }

    /// A word to the person, beside the answers.
    fn tell(&self, text: &str) -> Result<(), Failure> {
        eprintln!("{text}");
        Ok(())
    }
}

fn unknown(name: &str, near: Option<&str>) -> Failure {
    let hint =
        near.map(|near| format!("did you mean /{near}? /help lists the commands; // begins a line with a slash"));
    Failure::new(Status::Usage, format!("there is no command /{name}")).hint(hint)
}

fn file(rest: &str) -> Result<&Path, Failure> {
    if rest.is_empty() {
        return Err(Failure::new(Status::Usage, "the name of a file is missing"));
    }
    Ok(Path::new(rest))
}

/// Prints an answer as it comes.
fn print_reply(reply: Reply<'_>, decorated: bool, interrupt: &AtomicBool) -> Result<(), Failure> {
    let mut ends_line = true;
    let mut result = Ok(());
    for piece in reply {
        match piece {
            Ok(piece) => {
                ends_line = piece.ends_with('\n');
                output::print(&piece)?;
            }
            Err(error) => result = Err(full(error)),
        }
    }
    if !ends_line {
        output::line("")?;
    }
    if interrupt.swap(false, Ordering::Relaxed) && decorated {
        eprintln!("(stopped)");
    }
    result
}

/// A full context is told with what can be done about it.
fn full(error: Error) -> Failure {
    let is_full = matches!(error, Error::ContextFull { .. } | Error::AnswerCut { .. });
    let hint = "/compact replaces the conversation by a summary, /drop forgets its oldest question".to_owned();
    Failure::from(error).hint(is_full.then_some(hint))
}
