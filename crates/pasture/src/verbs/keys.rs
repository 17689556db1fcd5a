//! `pasture keys`: who may ask servers of this machine, for what and how much. A key is shown once, when it is made;
//! running servers see each change.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use pasture_serve::{Book, KeyError, NewKey, Record, Scopes, moment};
use serde_json::{Value, json};

use crate::exit::{Failure, Status};
use crate::output;

/// Make and revoke the keys of servers, with scopes, quotas and an end
#[derive(Args)]
#[command(after_help = "\
Scopes: infer (answers, tokens), embed (vectors), admin (state, metrics, stop),
pull and push (the registry), page (the web page and its chats).
As soon as there is one key, a server asks everybody for one, also on loopback.

Examples:
  pasture keys add anna
  pasture keys add batch --scopes infer --rate 60 --tokens 1000000 --expires 30d
  pasture keys add search --scopes embed --models my-encoder
  pasture keys list
  pasture keys show anna
  pasture keys revoke anna")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// What can be done with keys.
#[derive(Subcommand)]
enum Action {
    Add(Add),
    List(List),
    Show(Named),
    Revoke(Named),
}

/// Make a key; it is printed once, and cannot be told again
#[derive(Args)]
#[command(after_help = "\
Examples:
  pasture keys add anna
  pasture keys add batch --scopes infer --rate 60 --tokens 1000000 --expires 30d")]
struct Add {
    /// Whose key it is, or what for
    name: String,
    /// What it may do, with commas: infer, embed, admin, pull, push, page
    #[arg(long, value_name = "SCOPES", default_value = "infer,embed,page", value_parser = Scopes::parse)]
    scopes: Scopes,
    /// The models it may use, with commas (default: all)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// Requests a minute (default: any number)
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
    /// Tokens a day of prompts and answers, from midnight UTC (default: any number)
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,
    /// Answers that are made or wait at once (default: 8)
    #[arg(long, value_name = "N")]
    in_flight: Option<u64>,
    /// When it ends: after days or hours as 30d or 12h, or at the start of a day as 2030-01-31 (UTC)
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    #[command(flatten)]
    file: FileFlag,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The keys that are there
#[derive(Args)]
#[command(after_help = "\
Examples:
  pasture keys list
  pasture keys list --all --json")]
struct List {
    /// Revoked and ended ones as well
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    file: FileFlag,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// One key, by its name or id
#[derive(Args)]
#[command(after_help = "\
Examples:
  pasture keys show anna
  pasture keys revoke anna")]
struct Named {
    /// Its name or id
    key: String,
    #[command(flatten)]
    file: FileFlag,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Which file of keys.
#[derive(Args)]
pub struct FileFlag {
    /// The file of keys (default: keys.sqlite in Pasture's data folder)
    #[arg(long = "keys", value_name = "FILE")]
    pub keys: Option<PathBuf>,
}

impl FileFlag {
    /// The file; none where there is no home folder either.
    pub fn path(&self) -> Option<PathBuf> {
        self.keys.clone().or_else(|| Some(super::place::data()?.join(pasture_serve::KEYS_FILE)))
    }

    fn open(&self) -> Result<Book, Failure> {
        let missing = || Failure::new(Status::Unavailable, "there is no folder for keys");
        let path = self.path().ok_or_else(|| missing().hint("PASTURE_HOME or --keys names one".to_owned()))?;
        Book::open(&path).map_err(of_key)
    }
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.action {
        Action::Add(arguments) => add(arguments),
        Action::List(arguments) => list(arguments),
        Action::Show(arguments) => show(arguments),
        Action::Revoke(arguments) => revoke(arguments),
    }
}

/// How an error of keys ends the program.
pub fn of_key(error: KeyError) -> Failure {
    let status = match &error {
        KeyError::Asked(_) => Status::Usage,
        KeyError::Missing(_) => Status::NoInput,
        KeyError::File { .. } => Status::Io,
    };
    Failure::new(status, error.to_string())
}

fn add(arguments: &Add) -> Result<(), Failure> {
    let expires = arguments.expires.as_deref().map(end).transpose()?;
    let new = NewKey {
        name: arguments.name.clone(),
        scopes: arguments.scopes,
        models: arguments.models.clone(),
        rate: arguments.rate,
        tokens: arguments.tokens,
        in_flight: arguments.in_flight,
        expires,
    };
    let (record, key) = arguments.file.open()?.add(&new).map_err(of_key)?;
    if arguments.json {
        let mut value = object(&record);
        value["key"] = json!(key);
        return output::json(&value);
    }
    eprintln!("{} may {}. This is its key, and it is not shown again:", record.key.name, facts(&record));
    output::line(&key)
}

fn list(arguments: &List) -> Result<(), Failure> {
    let now = now();
    let records = arguments.file.open()?.list().map_err(of_key)?;
    let records: Vec<Record> = records.into_iter().filter(|record| arguments.all || record.holds(now)).collect();
    if arguments.json {
        let keys: Vec<Value> = records.iter().map(object).collect();
        return output::json(&json!({"keys": keys}));
    }
    let mut text = String::new();
    for record in &records {
        text += &format!("{}  {:<20}  {}\n", record.id, record.key.name, facts(record));
    }
    if records.is_empty() {
        eprintln!("there is no key; `pasture keys add NAME` makes one");
    }
    output::print(&text)
}

fn show(arguments: &Named) -> Result<(), Failure> {
    let book = arguments.file.open()?;
    let record = book.find(&arguments.key).map_err(of_key)?;
    let used = book.used(&record.id).map_err(of_key)?;
    let days = used.iter().map(|used| (moment::day(used.day), used.requests, used.tokens));
    if arguments.json {
        let mut value = object(&record);
        let days = days.map(|(day, requests, tokens)| json!({"day": day, "requests": requests, "tokens": tokens}));
        value["used"] = days.collect();
        return output::json(&value);
    }
    let mut text = format!("{}  {}\nmay {}\n", record.id, record.key.name, facts(&record));
    for (day, requests, tokens) in days {
        text += &format!("{day}  {requests} requests, {tokens} tokens\n");
    }
    output::print(&text)
}

fn revoke(arguments: &Named) -> Result<(), Failure> {
    let record = arguments.file.open()?.revoke(&arguments.key).map_err(of_key)?;
    match arguments.json {
        true => output::json(&object(&record)),
        false => output::line(&format!("{} ({}) is revoked", record.key.name, record.id)),
    }
}

fn object(record: &Record) -> Value {
    let moment = |seconds: Option<u64>| seconds.map(moment::second);
    json!({
        "id": record.id,
        "name": record.key.name,
        "scopes": record.key.scopes.words(),
        "models": record.key.models,
        "rate": record.key.rate,
        "tokens": record.key.tokens,
        "in_flight": record.key.in_flight,
        "made": moment(Some(record.made)),
        "expires": moment(record.key.expires),
        "revoked": moment(record.revoked),
        "usable": record.holds(now()),
    })
}

/// What a key may, in words.
fn facts(record: &Record) -> String {
    let key = &record.key;
    let mut text = key.scopes.words().join(", ");
    if let Some(models) = &key.models {
        text += &format!("; only {}", models.join(", "));
    }
    let quotas = [(key.rate, "requests a minute"), (key.tokens, "tokens a day"), (key.in_flight, "in flight")];
    for (quota, unit) in quotas {
        text += &quota.map(|quota| format!("; {quota} {unit}")).unwrap_or_default();
    }
    if let Some(expires) = key.expires {
        let word = if now() < expires { "until" } else { "ended" };
        text += &format!("; {word} {}", moment::second(expires));
    }
    if let Some(revoked) = record.revoked {
        text += &format!("; revoked {}", moment::second(revoked));
    }
    text
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The end that a text means, in seconds since 1970.
fn end(text: &str) -> Result<u64, Failure> {
    let wrong = || {
        let what = format!("`--expires` needs a time such as 30d or 12h, or a day such as 2030-01-31, not {text:?}");
        Failure::new(Status::Usage, what)
    };
    let unit =
        [("d", 86_400), ("h", 3600)].into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let end = match unit {
        Some((count, seconds)) => {
            let count: u64 = count.parse().map_err(|_| wrong())?;
            count.checked_mul(seconds).and_then(|length| length.checked_add(now()))
        }
        None => moment::of_day(text).map(|day| day * 86_400),
    };
    let end = end.filter(|end| *end < 1 << 40).ok_or_else(wrong)?;
    match end > now() {
        true => Ok(end),
        false => Err(Failure::new(Status::Usage, format!("`--expires {text}` is over already"))),
    }
}
