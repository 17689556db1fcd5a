//! What can be said of a folder with an adapter: for which model, of which rank, and its receipt.

use std::path::Path;

use pasture::lab::receipt::Receipt;
use pasture_files::error::file_name;
use pasture_files::json;
use serde_json::{Value, json};

use super::license;
use crate::exit::{Failure, Status};
use crate::output;

const CONFIG: &str = "adapter_config.json";

/// Whether a folder holds an adapter and no model.
pub fn is_one(folder: &Path) -> bool {
    folder.join(CONFIG).is_file() && !folder.join("config.json").exists()
}

/// Shows it.
pub fn show(folder: &Path, as_json: bool) -> Result<(), Failure> {
    let config = json::read(&folder.join(CONFIG))?;
    let text = |name: &str| config[name].as_str().unwrap_or("unknown").to_owned();
    let Some(rank) = config["r"].as_u64() else {
        return Err(Failure::new(Status::Data, format!("{CONFIG:?} has no rank \"r\", which an adapter has")));
    };
    let receipt = Receipt::read_beside(folder)?;
    let statements = pasture_store::licence::of_path(folder)?;
    let terms = pasture_store::lineage::of_path(folder)?.terms();
    let (name, kind, base) = (file_name(folder), text("peft_type"), text("base_model_name_or_path"));
    if as_json {
        let receipt = receipt.map_or(Value::Null, |receipt| {
            serde_json::to_value(&receipt).expect("a receipt has text keys and finite numbers")
        });
        return output::json(&json!({"name": name, "adapter": kind, "rank": rank, "base": base, "receipt": receipt,
            "license": license::object(&statements, &terms)}));
    }
    let lines = license::lines(&statements, &terms);
    let lines = lines.iter().map(|(title, text)| format!("{title:<13} {text}\n")).collect::<String>();
    let shown = lines + &receipt.map(|receipt| receipt.to_string()).unwrap_or_default();
    output::print(&format!("{:<13} {name}\n{:<13} {kind}, rank {rank}, for {base}\n{shown}", "name", "adapter"))
}
