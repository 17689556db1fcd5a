//! Flags made from the table of recipe keys, so that a key, its flag and its help are written once.

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use pasture_lab::tune::keys::{KEYS, Key, Kind};
use toml::{Table, Value};

/// The recipe's keys from the command line.
#[derive(Clone, Debug, Default)]
pub struct RecipeFlags(pub Table);

impl FromArgMatches for RecipeFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut table = Table::new();
        for key in &KEYS {
            let Some(texts) = matches.try_get_many::<String>(key.name).ok().flatten() else { continue };
            for text in texts {
                let value = key.parse(text).map_err(|what| refuse(key, &what))?;
                match (table.get_mut(key.name), value) {
                    (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
                    (_, value) => drop(table.insert(key.name.to_owned(), value)),
                }
            }
        }
        Ok(RecipeFlags(table))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for RecipeFlags {
    fn augment_args(command: Command) -> Command {
        KEYS.iter().fold(command, |command, key| {
            let action = if matches!(key.kind, Kind::Texts) { ArgAction::Append } else { ArgAction::Set };
            // The table lives as long as the program, and clap wants names that do.
            let flag: &'static str = Box::leak(key.name.replace('_', "-").into_boxed_str());
            let mut flag = Arg::new(key.name)
                .long(flag)
                .value_name(placeholder(key))
                .help(key.meaning)
                .help_heading("Recipe")
                .allow_hyphen_values(true)
                .action(action);
            if let Kind::Word(words) = key.kind {
                flag = flag.value_parser(clap::builder::PossibleValuesParser::new(words));
            }
            if matches!(key.kind, Kind::Switch) {
                flag = flag.num_args(0..=1).default_missing_value("true").require_equals(true);
            }
            command.arg(flag)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn refuse(key: &Key, what: &str) -> clap::Error {
    let flag = key.name.replace('_', "-");
    clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("--{flag}: {what}"))
}

fn placeholder(key: &Key) -> &'static str {
    match key.kind {
        Kind::Word(_) => "WORD",
        Kind::Whole(..) | Kind::Number(..) => "N",
        Kind::Switch => "true|false",
        Kind::Text | Kind::Texts => "TEXT",
    }
}
