//! The conversation itself: questions, answers and commands. Invariant: whatever goes wrong, what was said so far is kept.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pasture::{Error, Finish, Message, Model, Reply, Session};

use super::command::{self, Input};
use super::typing::{Typed, Typing};
use super::{greeting, saved, setting};
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::Settings;
use crate::verbs::model::Place;
use crate::verbs::plan::Actual;

/// What the model is asked by `/compact`.
const SUMMARY: &str = "Summarize our conversation so far in a few sentences, with every fact that may matter later.";

/// A conversation in progress.
pub struct Talk {
    session: Session,
    model: Model,
    settings: Settings,
    /// Whether a person sits at it.
    terminal: bool,
    interrupt: Arc<AtomicBool>,
    /// The plan of it, where that is to be told.
    planned: Option<Actual>,
}

impl Talk {
    /// An empty conversation.
    pub fn new(model: Model, settings: Settings, planned: Option<Actual>) -> Result<Talk, Failure> {
        // A model that takes no text is refused before anybody asks it something.
        model.tokenizer()?;
        let session = model.session();
        let interrupt = session.cancel_flag();
        let mut talk = Talk { session, model, settings, terminal: false, interrupt, planned };
        talk.apply()?;
        if let Some(system) = talk.settings.text("system") {
            talk.session.set_system(Some(system.to_owned()));
        }
        Ok(talk)
    }

    /// Hands the settings to the session.
    fn apply(&mut self) -> Result<(), Failure> {
        let sampling = self.settings.sampling()?;
        let hint = "`pasture generate MODEL TEXT --logprobs N --json` reports them";
        self.settings.refuse_flag("logprobs", "in a conversation", hint)?;
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
    pub fn through_pipe(&mut self) -> Result<(), Failure> {
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
    pub fn in_terminal(&mut self, place: &Place) -> Result<(), Failure> {
        signal_hook::flag::register(signal_hook::consts::SIGINT, self.interrupt.clone())?;
        eprint!("{}", greeting::text(&self.model, place));
        self.terminal = true;
        if !self.session.messages().is_empty() {
            self.tell(&format!("goes on with {}\n", output::counted(self.session.messages().len(), "message")))?;
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

    /// Says what was planned of the conversation and what it took.
    pub fn tell_planned(&self) {
        self.planned.iter().for_each(|planned| eprintln!("{}", planned.text()));
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        print_reply(self.session.say(text))?;
        self.after_answer()
    }

    /// Says why an answer ended where that is not its own end, and keeps the next question apart from it.
    fn after_answer(&mut self) -> Result<(), Failure> {
        let stats = self.session.stats();
        self.planned.iter_mut().zip(stats.iter()).for_each(|(planned, stats)| planned.add(stats));
        if self.interrupt.swap(false, Ordering::Relaxed) {
            self.tell("(stopped)")?;
        } else if let Some(stats) = stats.filter(|stats| stats.finish == Finish::MaxTokens) {
            let tokens = output::counted(stats.new_tokens, "token");
            self.tell(&format!("(ended after {tokens}; /set max_tokens N allows more)"))?;
        }
        if self.terminal { self.tell("") } else { Ok(()) }
    }

    fn obey(&mut self, name: &str, rest: &str) -> Result<(), Failure> {
        match name {
            "help" => output::line(&command::help()),
            "system" => self.system(rest),
            "set" => self.set(rest),
            "save" => {
                saved::save(file(rest)?, self.model.name(), self.session.messages())?;
                self.tell(&format!("kept {} in {rest:?}", output::counted(self.session.messages().len(), "message")))
            }
            "load" => {
                self.load(file(rest)?)?;
                self.tell(&format!(
                    "goes on with {} from {rest:?}",
                    output::counted(self.session.messages().len(), "message")
                ))
            }
            "regenerate" => {
                print_reply(self.session.regenerate())?;
                self.after_answer()
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
            return match self.session.system_message() {
                Some(text) => output::line(text),
                None => self.tell("there is no system message; /system TEXT sets one"),
            };
        }
        self.session.set_system(Some(text.to_owned()));
        self.tell("the system message is set")
    }

    fn set(&mut self, rest: &str) -> Result<(), Failure> {
        let Some((name, value)) = rest.split_once(char::is_whitespace) else {
            return output::print(&match rest {
                "" => setting::list(&self.settings, &self.model),
                name => setting::one(name, &self.settings, &self.model)?,
            });
        };
        let before = self.settings.clone();
        let name = self.settings.set(name, value.trim())?;
        self.apply().inspect_err(|_| self.settings = before)?;
        self.tell(&format!("{name} is set"))
    }

    /// Makes room: the conversation becomes the model's own summary of it. The oldest questions go first where the
    /// summary itself finds no room, and that is said. Whatever goes wrong, the conversation stays.
    fn compact(&mut self) -> Result<(), Failure> {
        let before = self.session.messages().to_vec();
        if !before.iter().any(|message| message.role == "user") {
            return Err(Failure::new(Status::Usage, "there is nothing to summarize"));
        }
        let result = self.summarize();
        self.session.set_max_tokens(self.settings.whole("max_tokens"));
        let (summary, dropped) = match result {
            Ok(made) => made,
            Err(failure) => {
                self.session.set_messages(before);
                return Err(failure);
            }
        };
        if self.interrupt.swap(false, Ordering::Relaxed) {
            self.session.set_messages(before);
            return self.tell("(stopped; the conversation is as it was)");
        }
        let system = self.session.system_message().map(str::to_owned);
        self.session.set_messages(vec![Message::new("user", SUMMARY), Message::new("assistant", summary.clone())]);
        self.session.set_system(system);
        if dropped > 0 {
            self.tell(&format!(
                "{} found no room and had to be left out",
                output::counted(dropped, "oldest question")
            ))?;
        }
        self.tell("from here on the conversation is this summary:")?;
        output::line(&summary)
    }

    /// The model's summary in at most a quarter of the context, and how many of the oldest questions it could not read.
    fn summarize(&mut self) -> Result<(String, usize), Failure> {
        self.session.set_max_tokens(Some((self.model.engine().context() / 4).max(1)));
        for dropped in 0.. {
            let full = match self.session.say(SUMMARY).text() {
                Ok(summary) => return Ok((summary, dropped)),
                Err(error @ Error::ContextFull { .. }) => error,
                Err(error) => return Err(error.into()),
            };
            self.session.drop_oldest();
            if !self.session.messages().iter().any(|message| message.role == "user") {
                let hint = "/drop forgets the oldest question and its answer".to_owned();
                let what = format!("even the last question leaves no room for a summary: {full}");
                return Err(Failure::new(Status::Failed, what).hint(hint));
            }
        }
        unreachable!("the questions end before the numbers do")
    }

    fn stats(&self) -> Result<(), Failure> {
        if let Some(stats) = self.session.stats() {
            let speed = |tokens: usize, time: Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
            let computed = stats.prompt_tokens - stats.cached_tokens;
            output::line(&format!(
                "prompt   {}, {} of them known from before, {:.2} s, {:.1} tokens/s",
                output::counted(stats.prompt_tokens, "token"),
                stats.cached_tokens,
                stats.prompt_time.as_secs_f64(),
                speed(computed, stats.prompt_time)
            ))?;
            let rest = stats.new_tokens.saturating_sub(1);
            output::line(&format!(
                "answer   {}, {:.2} s, {:.1} tokens/s",
                output::counted(stats.new_tokens, "token"),
                stats.new_time.as_secs_f64(),
                speed(rest, stats.new_time)
            ))?;
            if stats.proposed_tokens > 0 {
                let proposed = output::counted(stats.proposed_tokens, "token");
                output::line(&format!("proposed {proposed}, {} of them right", stats.accepted_tokens))?;
            }
        }
        // What was taken back or forgotten since the last answer counts no more.
        let used = if self.session.messages().is_empty() { 0 } else { self.session.tokens()? };
        output::line(&format!("context  {used} of {} tokens in use", self.model.engine().context()))
    }

    /// A word to the person, beside the answers.
    fn tell(&self, text: &str) -> Result<(), Failure> {
        eprintln!("{text}");
        Ok(())
    }
}

fn unknown(name: &str, near: Option<&str>) -> Failure {
    let guess = near.map(|near| format!("did you mean /{near}? ")).unwrap_or_default();
    Failure::new(Status::Usage, format!("there is no command /{name}"))
        .hint(format!("{guess}/help lists the commands; // begins a line with a slash"))
}

fn file(rest: &str) -> Result<&Path, Failure> {
    if rest.is_empty() {
        return Err(Failure::new(Status::Usage, "the name of a file is missing").hint("/save talk.json".to_owned()));
    }
    Ok(Path::new(rest))
}

/// Prints an answer as it comes.
fn print_reply(reply: Reply<'_>) -> Result<(), Failure> {
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
    result
}

/// A full context is told with its numbers and with what can be done about it here.
fn full(error: Error) -> Failure {
    let what = match error {
        Error::ContextFull { prompt, limit, .. } if prompt < limit => {
            return Failure::from(error).hint(Some("/set max_tokens N asks for shorter answers".to_owned()));
        }
        Error::ContextFull { prompt, limit, .. } => {
            format!("the context is full: with this question the conversation has {prompt} tokens of at most {limit}")
        }
        Error::AnswerCut { prompt, new, limit } => format!(
            "the answer is cut, because the context is full: {prompt} tokens of conversation and {new} of the answer \
             are all of its {limit}"
        ),
        error => return error.into(),
    };
    let hint = "/compact replaces the conversation by a summary, /drop forgets its oldest question, and \
                `--context N` at the start makes the context longer";
    Failure::new(Status::Failed, what).hint(hint.to_owned())
}
