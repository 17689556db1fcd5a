//! `pasture trust`: the key that signs one's bundles, and other people's keys whose bundles are taken.

use clap::{Args, Subcommand};
use pasture_store::trust::{OWN, PublicKey, Trusted};
use serde_json::json;

use super::bundle::keys;
use crate::exit::Failure;
use crate::output;

/// Make your signing key, and say whose bundles you take
#[derive(Args)]
#[command(after_help = "\
Your key lies in Pasture's data folder and never leaves it; what `trust init`
prints is its public half, for others to add. A key tells who signed a bundle,
not whether the model in it is any good.

Examples:
  pasture trust init
  pasture trust list
  pasture trust add ann ed25519:0123…
  pasture trust remove ann")]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Make your key, once, and print its public half
    Init,
    /// Take bundles that somebody else signed
    Add {
        /// What you call whoever has the key
        name: String,
        /// The public key, as `pasture trust init` printed it there
        key: String,
    },
    /// Show your key and those that you trust
    List,
    /// No longer take bundles that somebody signed
    Remove {
        /// The name
        name: String,
    },
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let keys = keys()?;
    let one = |name: &str, key: PublicKey| match arguments.json {
        true => output::json(&json!({"name": name, "key": key.to_string()})),
        false => output::line(&format!("{name}  {key}")),
    };
    match &arguments.what {
        What::Init => one(OWN, keys.init()?),
        What::Add { name, key } => {
            let key = PublicKey::parse(key)?;
            keys.add(name, key)?;
            one(name, key)
        }
        What::Remove { name } => one(name, keys.remove(name)?),
        What::List => {
            let own = keys.own()?.map(|own| Trusted { name: OWN.to_owned(), key: own.public() });
            let all: Vec<Trusted> = own.into_iter().chain(keys.list()?).collect();
            if arguments.json {
                let rows: Vec<_> =
                    all.iter().map(|row| json!({"name": row.name, "key": row.key.to_string()})).collect();
                return output::json(&json!({"keys": rows}));
            }
            if all.is_empty() {
                eprintln!("no keys; `pasture trust init` makes yours");
            }
            all.iter().try_for_each(|row| one(&row.name, row.key))
        }
    }
}
