//! PyTorch checkpoints (`.bin`, `.pth`, `.pt`) in zip and legacy form, and Meta's original shards. Reading one can only
//! build tensors: the pickle inside runs on a machine without calls (`machine.rs`), over a closed list of names
//! (`globals.rs`). Tensors are ranges of the file; only what is transposed, cut or split is copied, when it is asked for.
#![forbid(unsafe_code)]

mod fault;
mod globals;
mod legacy;
mod machine;
mod meta;
mod opcodes;
mod records;
mod state;
#[cfg(test)]
mod tests;
mod value;
mod view;
mod zip;

pub use meta::{is_shard_name, merge};
pub use view::Tensor;

use fault::Fault;
use machine::Unpickled;
use records::Records;

use crate::error::Result;
use crate::mmap::Bytes;

/// What one checkpoint file holds.
#[derive(Debug)]
pub struct Checkpoint {
    /// In the order of the file. Names are unique; tied tensors are ranges of the same bytes.
    pub tensors: Vec<Tensor>,
    /// The key below which the tensors were found, such as `model_state_dict`, where they are not at the top.
    pub wrapper: Option<String>,
    /// Keys that hold no tensor of the model: training state, versions, counters.
    pub left_out: Vec<String>,
}

/// Whether the bytes begin as one of the two forms. HTML pages, pointer files and bare pickles do not.
pub fn recognize(file: &[u8]) -> bool {
    zip::Archive::recognize(file) || legacy::recognize(file)
}

/// Reads a checkpoint. `name` is the file's name in errors.
pub fn read(name: &str, file: &Bytes) -> Result<Checkpoint> {
    let form = if zip::Archive::recognize(file) { read_zip } else { read_legacy };
    let checkpoint = form(name, file).map_err(|fault| fault.of(name));
    // Each record's own header was looked at, and the system may map two megabytes around one.
    file.release();
    checkpoint
}

fn read_zip(name: &str, file: &Bytes) -> Result<Checkpoint, Fault> {
    let archive = zip::Archive::read(file)?;
    let pickle = records::check_members(&archive, file)?;
    let unpickled = Unpickled::run(&file[pickle.clone()])?;
    if unpickled.end != pickle.len() {
        return Err(Fault::pickle(unpickled.end, "something follows its end"));
    }
    let mut records = Records::new(name, file);
    records.add_archive(&archive, &unpickled)?;
    state::tensors(&unpickled, &records)
}

fn read_legacy(name: &str, file: &Bytes) -> Result<Checkpoint, Fault> {
    let (unpickled, records) = legacy::read(name, file)?;
    state::tensors(&unpickled, &records)
}
