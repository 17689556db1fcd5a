//! `pasture stop`: ends a running server as SIGTERM does, so that answers that are being made may end; or lets one of its
//! models go.

use clap::Args;
use pasture_serve::Place;
use serde_json::json;

use super::ps::{ServerFlags, ask};
use crate::exit::{Failure, Status};
use crate::output;

/// End a running server, whose answers may end; or let one of its models go
#[derive(Args)]
#[command(after_help = "\
A model goes with its adapters, and its memory is free again; one in use stays.
A server with --on-demand loads it again when a request names it.

Examples:
  pasture stop
  pasture stop my-model
  pasture stop --url http://localhost:8080 --api-key KEY")]
pub struct Arguments {
    /// The model that is to go, as requests name it; without it the server ends
    model: Option<String>,
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
    if let Some(model) = &arguments.model {
        return unload(arguments, place, model);
    }
    ask(place, "POST", "/admin/stop", Some(&json!({})))?;
    match arguments.json {
        true => output::json(&json!({"url": place.url, "status": "ending"})),
        false => output::line(&format!("{} is ending", place.url)),
    }
}

fn unload(arguments: &Arguments, place: &Place, model: &str) -> Result<(), Failure> {
    ask(place, "POST", "/models/unload", Some(&json!({"model": model})))?;
    match arguments.json {
        true => output::json(&json!({"url": place.url, "model": model, "loaded": false})),
        false => output::line(&format!("{model} is no longer loaded at {}", place.url)),
    }
}
