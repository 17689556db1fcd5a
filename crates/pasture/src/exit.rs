//! How the program ends: statuses by the numbers of `sysexits.h`, and errors as one message with a hint.

use std::fmt;
use std::process::ExitCode;

/// Why the program ends, as a status that scripts can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It failed, for a reason without a number of its own.
    Failed = 1,
    /// The command line asks for something that does not exist or fit.
    Usage = 2,
    /// A file's content is wrong.
    Data = 65,
    /// A file or model is not there.
    NoInput = 66,
    /// Something that is asked for is not available here.
    Unavailable = 69,
    /// A mistake of ours.
    Bug = 70,
    /// A file cannot be made.
    CannotCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// A settings file is wrong.
    Config = 78,
}

/// An error with the status the program ends with.
#[derive(Debug)]
pub struct Failure {
    /// The status.
    pub status: Status,
    /// Empty where the user was told already.
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure of which the user was told already.
    pub fn told(status: Status) -> Failure {
        Failure::new(status, "")
    }

    /// What went wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// A failure in our own words.
    pub fn new(status: Status, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into(), hint: None }
    }

    /// What the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Failure {
        self.hint = hint.into().or(self.hint);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(Status::Io, error.to_string())
    }
}

impl From<pasture_files::Error> for Failure {
    fn from(error: pasture_files::Error) -> Failure {
        Failure::new(of_file(&error), error.to_string())
    }
}

impl From<pasture_model::Error> for Failure {
    fn from(error: pasture_model::Error) -> Failure {
        Failure::new(of_model(&error), error.to_string())
    }
}

/// Whether there was no room for what was written.
fn is_full(error: &pasture_files::Error) -> bool {
    matches!(error, pasture_files::Error::Write { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
}

fn of_file(error: &pasture_files::Error) -> Status {
    use pasture_files::Error as E;
    match error {
        E::Read { source, .. } => of_io(source),
        // It was made, and then there was no room for all of it.
        error if is_full(error) => Status::Io,
        E::Write { .. } => Status::CannotCreate,
        E::Missing { .. } => Status::NoInput,
        _ => Status::Data,
    }
}

fn of_model(error: &pasture_model::Error) -> Status {
    use pasture_model::Error as E;
    match error {
        E::File(error) => of_file(error),
        E::Missing { .. } => Status::NoInput,
        E::Memory { .. } | E::ExpertMemory { .. } => Status::Unavailable,
        E::ExpertCache { .. } | E::KvBlocks { .. } => Status::Usage,
        E::Token { .. } | E::Context { .. } | E::NoHead => Status::Usage,
        _ => Status::Data,
    }
}

impl From<pasture_lab::change::Error> for Failure {
    fn from(error: pasture_lab::change::Error) -> Failure {
        use pasture_lab::change::Error as E;
        match error {
            E::Model(error) => error.into(),
            E::File(error) => error.into(),
            error @ (E::Bits { .. } | E::Ask(_)) => Failure::new(Status::Usage, error.to_string()),
            error => Failure::new(Status::Failed, error.to_string()),
        }
    }
}

impl From<pasture_lab::tune::Error> for Failure {
    fn from(error: pasture_lab::tune::Error) -> Failure {
        use pasture_lab::tune::Error as E;
        let status = match error {
            E::Model(error) => return error.into(),
            E::File(error) => return error.into(),
            E::Recipe { .. } | E::Syntax { .. } => Status::Config,
            E::Data { .. } | E::Damaged { .. } => Status::Data,
            E::Resume { .. } | E::Exists { .. } => Status::Usage,
            E::Unsaved { .. } => Status::CannotCreate,
            _ => Status::Failed,
        };
        Failure::new(status, error.to_string())
    }
}

impl From<pasture_files::tokenizer::Error> for Failure {
    fn from(error: pasture_files::tokenizer::Error) -> Failure {
        Failure::new(Status::Data, error.to_string())
    }
}

impl From<pasture_files::data::Error> for Failure {
    fn from(error: pasture_files::data::Error) -> Failure {
        match error {
            pasture_files::data::Error::File(error) => error.into(),
            error => Failure::new(Status::Data, error.to_string()),
        }
    }
}

impl From<pasture::data::Error> for Failure {
    fn from(error: pasture::data::Error) -> Failure {
        use pasture::data::Error as E;
        match error {
            E::Rows(error) => error.into(),
            E::File(error) => error.into(),
            E::Prompt(error) => error.into(),
            E::Idle { .. } => Failure::new(Status::Usage, error.to_string()),
            error => Failure::new(Status::Data, error.to_string()),
        }
    }
}

impl From<pasture_files::prompt::Error> for Failure {
    fn from(error: pasture_files::prompt::Error) -> Failure {
        use pasture_files::prompt::Error as E;
        match error {
            E::File(error) => error.into(),
            E::Tokenizer(error) => error.into(),
            E::NoTemplate | E::NoTokenizer => Failure::new(Status::Usage, error.to_string()),
            _ => Failure::new(Status::Data, error.to_string()),
        }
    }
}

impl From<pasture_store::Error> for Failure {
    fn from(error: pasture_store::Error) -> Failure {
        use pasture_store::Error as E;
        let status = match &error {
            E::File(_) | E::NotFound { .. } => Status::NoInput,
            E::NoData | E::NoCache | E::Key { .. } => Status::Config,
            E::Taken { .. } | E::Room { .. } => Status::CannotCreate,
            E::Ledger { .. } => Status::Io,
            E::Later { .. } => Status::Unavailable,
            _ => Status::Data,
        };
        if let E::File(error) = error {
            return error.into();
        }
        if let E::Taken { .. } = &error {
            return Failure::new(status, error.to_string()).hint("--to FOLDER unpacks elsewhere".to_owned());
        }
        let E::NotFound { name, looked, nearest } = &error else {
            return Failure::new(status, error.to_string());
        };
        let guess = nearest.as_ref().map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
        let what = format!("there is no model {name:?}:\n  {}", looked.replace("; ", "\n  "));
        let hint = "`pasture list` shows the models on this machine; `pasture chat` without a name starts the starter";
        Failure::new(Status::NoInput, what).hint(format!("{guess}{hint}"))
    }
}

impl From<pasture_store::pull::Error> for Failure {
    fn from(error: pasture_store::pull::Error) -> Failure {
        use pasture_store::pull::Error as E;
        let status = match error {
            E::File(error) => {
                let full = is_full(&error);
                let hint = || "what has arrived is kept: make room, and the same command goes on".to_owned();
                return Failure::from(error).hint(full.then(hint));
            }
            E::Store(error) => return error.into(),
            E::Offline { .. } | E::Network { .. } | E::Gated { .. } | E::Token { .. } => Status::Unavailable,
            E::NotThere { .. } => Status::NoInput,
            E::Space { .. } => Status::CannotCreate,
            E::Setting { .. } => Status::Config,
            E::Choose { .. } | E::BadName { .. } => Status::Usage,
            _ => Status::Data,
        };
        Failure::new(status, error.to_string())
    }
}

impl From<pasture_store::push::Error> for Failure {
    fn from(error: pasture_store::push::Error) -> Failure {
        use pasture_store::push::Error as E;
        let status = match error {
            E::Store(error) => return error.into(),
            E::Network(error) => return error.into(),
            E::NoToken { .. } | E::Refused { .. } => Status::Unavailable,
            E::Named(_) | E::Target { .. } => Status::Usage,
            _ => Status::Failed,
        };
        Failure::new(status, error.to_string())
    }
}

impl From<pasture::lab::evaluate::Error> for Failure {
    fn from(error: pasture::lab::evaluate::Error) -> Failure {
        use pasture::lab::evaluate::Error as E;
        match error {
            E::Model(error) => error.into(),
            E::File(error) => error.into(),
            E::Data(error) => error.into(),
            E::Tokenizer(error) => error.into(),
            E::Engine(error) => error.into(),
            E::NoTokenizer | E::Unlike { .. } | E::Task { .. } => Failure::new(Status::Usage, error.to_string()),
            _ => Failure::new(Status::Data, error.to_string()),
        }
    }
}

impl From<pasture::engine::Error> for Failure {
    fn from(error: pasture::engine::Error) -> Failure {
        pasture::Error::from(error).into()
    }
}

impl From<pasture::Error> for Failure {
    fn from(error: pasture::Error) -> Failure {
        use pasture::Error as E;
        match error {
            E::Model(error) => error.into(),
            E::File(error) => error.into(),
            E::Tokenizer(error) => error.into(),
            E::Prompt(error) => error.into(),
            E::Store(error) => error.into(),
            E::Evaluate(error) => error.into(),
            E::Data(error) => error.into(),
            E::Tune(error) => error.into(),
            E::Engine(error) => Failure::new(of_engine(&error), error.to_string()),
            E::NoTokenizer { .. } | E::NoQuestion | E::Unprepared { .. } => {
                Failure::new(Status::Usage, error.to_string())
            }
            E::NoPrompt { .. } | E::EmptyText { .. } => Failure::new(Status::Usage, error.to_string()),
            E::NoPooling { .. } => {
                let hint = "--pooling cls, mean or last chooses one; --normalize makes vectors one long";
                Failure::new(Status::Usage, error.to_string()).hint(hint.to_owned())
            }
            E::TextTooLong { .. } => {
                Failure::new(Status::Usage, error.to_string()).hint("--truncate cuts it at the end".to_owned())
            }
            E::Draft { .. } => Failure::new(Status::Usage, error.to_string()),
            E::Embedding(what) => Failure::new(Status::Data, what),
            E::Changed { .. } => Failure::new(Status::Data, error.to_string()),
            _ => Failure::new(Status::Failed, error.to_string()),
        }
    }
}

fn of_engine(error: &pasture::engine::Error) -> Status {
    use pasture::engine::Error as E;
    match error {
        E::Model(error) => of_model(error),
        E::EmptyPrompt | E::Zero { .. } | E::Token { .. } | E::NoTokenizer { .. } => Status::Usage,
        E::Panic { .. } => Status::Bug,
        _ => Status::Failed,
    }
}

/// The status of a system's refusal to read.
pub fn of_io(error: &std::io::Error) -> Status {
    if error.kind() == std::io::ErrorKind::NotFound { Status::NoInput } else { Status::Io }
}

/// Prints the failure and gives the status. A reader that closed its end of a pipe is no failure.
pub fn report(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("{failure}");
            }
            ExitCode::from(failure.status as u8)
        }
    }
}

/// How the standard library's panic begins where standard output or error takes nothing: its file's disk may be full.
const UNPRINTED: &str = "failed printing to";

/// The status of a panic: a mistake of ours, unless nothing could be printed.
pub fn of_panic(payload: &(dyn std::any::Any + Send)) -> Status {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    match text.is_some_and(|text| text.starts_with(UNPRINTED)) {
        true => Status::Io,
        false => Status::Bug,
    }
}

/// A panic is a mistake of ours: it is told in one message without a backtrace, and ends the program with its status.
pub fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        // A reader of other people's met a broken file; the file's error follows.
        if pasture_files::guard::is_guarded() {
            return;
        }
        let place = panic.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        if message.starts_with(UNPRINTED) {
            return;
        }
        eprintln!(
            "error: a mistake in Pasture{place}: {message}\nhint: please report it with the command that led here"
        );
    }));
}
