//! `pasture ps`: what the servers on this machine do now. Also how a verb finds the server that it is to ask.

use std::path::PathBuf;

use clap::Args;
use pasture_serve::{Answer, Place};
use serde_json::{Value, json};

use super::place;
use crate::exit::{Failure, Status};
use crate::output;

/// See what running servers do: models, answers, memory, and when a model goes that nobody asks for
#[derive(Args)]
#[command(after_help = "\
Examples:
  pasture ps
  pasture ps --json
  pasture ps --url http://localhost:8080 --api-key KEY")]
pub struct Arguments {
    #[command(flatten)]
    server: ServerFlags,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Which server.
#[derive(Args)]
pub struct ServerFlags {
    /// A server's address (default: all that this user started on this machine)
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A key with the scope admin, for a server given by its address
    #[arg(long, value_name = "KEY", env = "PASTURE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// The certificate that a server with TLS must show, in PEM
    #[arg(long, value_name = "FILE", requires = "url")]
    tls_cert: Option<PathBuf>,
}

impl ServerFlags {
    /// The servers that are meant, which may be none.
    pub fn places(&self) -> Vec<Place> {
        let running = || place::running().map(|folder| pasture_serve::running(&folder)).unwrap_or_default();
        let Some(url) = &self.url else { return running() };
        let url = url.trim_end_matches('/');
        // This user's own servers are asked without a key.
        let own = running().into_iter().find(|place| place.url == url && self.api_key.is_none());
        let given = || Place { url: url.to_owned(), key: self.api_key.clone(), cert: self.tls_cert.clone() };
        vec![own.unwrap_or_else(given)]
    }
}

/// Asks a server; an answer that is none is a failure in its words.
pub fn ask(place: &Place, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
    let answer = place.ask(method, path, body).map_err(|what| Failure::new(Status::Unavailable, what))?;
    if answer.status < 300 {
        return Ok(answer);
    }
    let said = answer.body["error"]["message"].as_str().unwrap_or("it says no more").to_owned();
    let failure = Failure::new(Status::Unavailable, format!("{} refuses ({}): {said}", place.url, answer.status));
    Err(match answer.status {
        404 if answer.body["error"]["code"] == "model_not_found" => {
            Failure::new(Status::NoInput, format!("{}: {said}", place.url))
        }
        401 | 403 => failure.hint("--api-key or PASTURE_API_KEY gives a key with the scope admin".to_owned()),
        _ => failure,
    })
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut servers = Vec::new();
    for place in arguments.server.places() {
        let mut state = ask(&place, "GET", "/admin/state", None)?.body;
        state["url"] = json!(place.url);
        servers.push(state);
    }
    if arguments.json {
        return output::json(&json!({"servers": servers}));
    }
    if servers.is_empty() {
        eprintln!("no server is running; `pasture serve` starts one");
    }
    output::print(&servers.iter().map(told).collect::<String>())
}

fn told(state: &Value) -> String {
    let text = |name: &str| state[name].as_str().unwrap_or_default();
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let memory = state["memory_bytes"].as_u64().map(|bytes| format!(", {}", output::bytes(bytes))).unwrap_or_default();
    let ends = if state["draining"] == true { ", ending" } else { "" };
    let (pid, up, connections) = (count(&state["pid"]), count(&state["up_seconds"]), count(&state["connections"]));
    let mut lines = format!("{}  process {pid}, up {up} s{memory}, {connections} connections{ends}\n", text("url"));
    for model in state["models"].as_array().into_iter().flatten() {
        let name = model["name"].as_str().unwrap_or_default();
        let (made, wait) = (count(&model["in_flight"]), count(&model["waiting"]));
        let memory = model["bytes"].as_u64().map(|bytes| format!(", at most {}", output::bytes(bytes)));
        let goes = model["goes"].as_str().and_then(|moment| moment.split('.').next());
        let goes = goes.map_or_else(|| "stays".to_owned(), |moment| format!("goes at {moment}Z"));
        let memory = memory.unwrap_or_default();
        lines += &format!("  {name}  {} answers are made, {wait} wait{memory}, {goes}\n", made.saturating_sub(wait));
    }
    lines
}
