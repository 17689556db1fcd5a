//! `pasture stop`: ends a running server as SIGTERM does, so that answers that are being made may end.

use clap::Args;
use serde_json::json;

use super::ps::{ServerFlags, ask};
use crate::exit::{Failure, Status};
use crate::output;

/// End a running server; answers that are being made may end
#[derive(Args)]
#[command(after_help = "\
Examples:
  pasture stop
  pasture stop --url http://localhost:8080 --api-key KEY")]
pub struct Arguments {
    #[command(flatten)]
    server: ServerFlags,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let places = arguments.server.places();
    let place = match places.as_slice() {
        [] => return Err(Failure::new(Status::NoInput, "no server is running")),
        [only] => only,
        several => {
            let urls: Vec<&str> = several.iter().map(|place| place.url.as_str()).collect();
            let what = format!("several servers are running: {}", urls.join(", "));
            return Err(Failure::new(Status::Usage, what).hint("--url says which".to_owned()));
        }
    };
    ask(place, "POST", "/admin/stop", Some(&json!({})))?;
    match arguments.json {
        true => output::json(&json!({"url": place.url, "status": "ending"})),
        false => output::line(&format!("{} is ending", place.url)),
    }
}
