//! `pasture logits`: raw scores of a model for token ids, for programs and tests.

use std::path::PathBuf;

use clap::Args;
use pasture_files::dtype::Dtype;
use pasture_files::outline::Outline;
use pasture_files::safetensors;
use pasture_kernels::Format;

use super::model::{self, Opened};
use crate::exit::{Failure, Status};
use crate::settings::{Given, RunFlags};

/// Write a model's raw scores for token ids
#[derive(Args)]
#[command(after_help = "\
The file is safetensors: tensor \"logits\", [tokens, vocabulary], f32; with
--hidden also \"hidden.layerN\".

Example:
  pasture logits my-model --ids 1,2,3 --out scores.safetensors --exact")]
pub struct Arguments {
    /// A file, a folder, or a name from a Hugging Face cache or Ollama folder
    model: String,
    /// Token ids, between commas
    #[arg(long, value_name = "ID,ID", required = true)]
    ids: String,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Also write the output of every layer
    #[arg(long)]
    hidden: bool,
    /// Compute in f32, with activations that are not quantized
    #[arg(long)]
    exact: bool,
    /// Refuse configuration keys that nobody knows
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    adapters: crate::settings::AdapterFlags,
    #[command(flatten)]
    running: RunFlags,
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let ids = model::ids(&arguments.ids)?;
    model::can_hold(&arguments.out)?;
    let given = program.clone().and(&arguments.running.0);
    let Opened { model, .. } = model::open(Some(&arguments.model), &given, arguments.exact, arguments.strict)?;
    let model = model::adapted(model, &arguments.adapters)?;
    let (count, context) = (ids.len(), model.engine().context());
    if count > context {
        let what = format!("{count} token ids are more than the context of {context}");
        return Err(Failure::new(Status::Usage, what));
    }
    let layers = if arguments.hidden { model.decoder().spec().layers.len() } else { 0 };
    let outputs: Vec<usize> = (1..=layers).collect();
    let found = model.logits(&ids, &outputs)?;
    let mut tensors = vec![("logits".to_owned(), found.rows)];
    // The file's layers count from 0; the engine's output 0 is the embedding.
    tensors.extend(found.outputs.into_iter().map(|(layer, tensor)| (format!("hidden.layer{}", layer - 1), tensor)));
    let outlines: Vec<Outline> = tensors
        .iter()
        .map(|(name, tensor)| Outline {
            name: name.clone(),
            dtype: Dtype::Number(Format::F32),
            shape: vec![tensor.rows(), tensor.cols()],
        })
        .collect();
    safetensors::write(&arguments.out, &[], &outlines, |outline, sink| {
        let (_, tensor) = tensors.iter().find(|(name, _)| *name == outline.name).expect("the outline is of these");
        for values in tensor.values().chunks(4096) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            sink.put(&bytes)?;
        }
        Ok(())
    })?;
    Ok(())
}
