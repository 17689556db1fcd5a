//! Flags made from the table of settings, so that a flag, its variable and its help are written once.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use serde_json::Value;

use super::Origin;
use super::keys::{self, Key, Kind, Scope};

/// Values from the command line and from variables.
#[derive(Clone, Debug, Default)]
pub struct Given(Vec<(&'static str, Value, Origin)>);

impl Given {
    /// Name, value and origin of each.
    pub fn iter(&self) -> impl Iterator<Item = &(&'static str, Value, Origin)> {
        self.0.iter()
    }

    /// These and others.
    pub fn and(mut self, other: &Given) -> Given {
        self.0.extend(other.0.iter().cloned());
        self
    }

    fn read(matches: &ArgMatches, scope: Scope) -> Result<Given, clap::Error> {
        let mut given = Given::default();
        for key in of(scope) {
            let Some(texts) = matches.try_get_many::<String>(key.name).ok().flatten() else { continue };
            let origin = match matches.value_source(key.name) {
                Some(ValueSource::EnvVariable) => Origin::Variable,
                _ => Origin::Flag,
            };
            let mut value = Value::Null;
            for text in texts {
                let parsed = key.parse(text).map_err(|what| refuse(key, &origin, &what))?;
                match (&mut value, parsed) {
                    (Value::Array(list), Value::Array(more)) if matches!(key.kind, Kind::Texts) => list.extend(more),
                    (value, parsed) => *value = parsed,
                }
            }
            given.0.push((key.name, value, origin));
        }
        Ok(given)
    }
}

fn refuse(key: &Key, origin: &Origin, what: &str) -> clap::Error {
    let place = if *origin == Origin::Variable { key.variable.to_owned() } else { format!("--{}", key.flag) };
    clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{place}: {what}"))
}

fn of(scope: Scope) -> impl Iterator<Item = &'static Key> {
    keys::all().iter().filter(move |key| key.scope == scope)
}

fn augment(command: Command, scope: Scope, heading: &'static str) -> Command {
    of(scope).fold(command, |command, key| {
        let action = if matches!(key.kind, Kind::Texts) { ArgAction::Append } else { ArgAction::Set };
        let mut flag = Arg::new(key.name)
            .long(key.flag)
            .visible_aliases(key.aliases.iter().copied())
            .env(key.variable)
            .hide_env_values(true)
            .value_name(key.placeholder())
            .help(key.meaning)
            .help_heading(heading)
            .allow_hyphen_values(true)
            .action(action);
        if let Some(short) = key.short {
            flag = flag.short(short);
        }
        if let Kind::Word(words) = key.kind {
            flag = flag.value_parser(clap::builder::PossibleValuesParser::new(words));
        }
        if key.name == "pull" {
            // Alone it says yes; a value stands behind a sign, so that it never takes the model's name for one.
            flag = flag.num_args(0..=1).require_equals(true).default_missing_value("auto").allow_hyphen_values(false);
        }
        command.arg(if scope == Scope::Program { flag.global(true) } else { flag })
    })
}

macro_rules! flags {
    ($($name:ident: $scope:expr, $heading:literal, $doc:literal;)*) => {$(
        #[doc = $doc]
        #[derive(Clone, Debug, Default)]
        pub struct $name(pub Given);

        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Given::read(matches, $scope).map(Self)
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }

        impl clap::Args for $name {
            fn augment_args(command: Command) -> Command {
                augment(command, $scope, $heading)
            }

            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }
    )*};
}

flags! {
    ProgramFlags: Scope::Program, "Everywhere", "Settings of every verb.";
    RunFlags: Scope::Run, "Running", "Settings of verbs that run a model.";
    AnswerFlags: Scope::Answer, "Running", "Settings of verbs whose model answers.";
    ChatFlags: Scope::Chat, "Conversation", "Settings of conversations.";
    ReceiptFlags: Scope::Receipt, "Receipt", "Settings of verbs that write a receipt.";
    SamplingFlags: Scope::Sampling, "Sampling", "Settings of verbs that choose tokens.";
}
