//! Configurations as fuzz targets: read, given to their family's page, closed and drawn.

use std::path::Path;

use pasture_files::{Tensors, json};
use pasture_model::{Config, Result, families, graph};

/// A sound configuration.
pub const CONFIG: &str = r#"{"architectures":["LlamaForCausalLM"],"hidden_size":8,"intermediate_size":16,
"num_hidden_layers":1,"num_attention_heads":2,"vocab_size":32,"rope_scaling":{"rope_type":"yarn","factor":2.0}}"#;

/// A `config.json`.
pub fn config(bytes: &[u8]) -> String {
    let read = || Config::from_json("config.json", json::parse(bytes, "config.json")?);
    outcome(read())
}

/// The metadata of a GGUF file.
pub fn gguf(path: &Path) -> String {
    let read = || {
        let tensors = Tensors::open(path)?;
        let missing = || pasture_files::Error::invalid("input.gguf", "it has no metadata");
        Config::from_gguf(tensors.gguf().ok_or_else(missing)?, &tensors)
    };
    outcome(read())
}

fn outcome(config: Result<Config>) -> String {
    match config.and_then(|config| families::blueprint(&config)) {
        Ok(found) => format!("ok {} characters, {} keys", graph(&found.spec).len(), found.report.ignored.len()),
        Err(error) => error.to_string(),
    }
}
