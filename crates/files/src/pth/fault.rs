//! What can be wrong with a PyTorch checkpoint, apart from the file that says so: the reader of the file adds its name.
//! Texts of the file appear quoted and shortened, never whole.

use crate::error::{Error, quoted};

/// Why a checkpoint was refused, before its file is named.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The container (zip or legacy) is damaged or not one that PyTorch writes.
    #[error("{0}")]
    Container(String),
    /// The pickle has an opcode outside the list.
    #[error(
        "its pickle has the opcode {opcode} at byte {at}, which no checkpoint of tensors needs; \
         if you trust it, convert it to safetensors elsewhere"
    )]
    Opcode { opcode: String, at: usize },
    /// The pickle names a class or function outside the list. It was not called.
    #[error(
        "its pickle names {global} at byte {at}, which builds no tensor; nothing was run; \
         if you trust it, convert it to safetensors elsewhere"
    )]
    Global { global: String, at: usize },
    /// The pickle is damaged or passes a limit.
    #[error("its pickle is damaged at byte {at}: {what}")]
    Pickle { at: usize, what: String },
    /// A tensor does not fit its storage; `what` begins with a verb.
    #[error("its tensor {name} {what}")]
    Tensor { name: String, what: String },
    /// The values inside are not laid out as a dictionary of tensors.
    #[error("{0}")]
    Layout(String),
}

impl Fault {
    pub(super) fn container(what: impl Into<String>) -> Fault {
        Fault::Container(what.into())
    }

    pub(super) fn pickle(at: usize, what: impl Into<String>) -> Fault {
        Fault::Pickle { at, what: what.into() }
    }

    pub(super) fn tensor(name: &str, what: impl Into<String>) -> Fault {
        Fault::Tensor { name: quoted(name), what: what.into() }
    }

    /// The crate's error: well formed but not read here, or damaged.
    pub(super) fn of(self, file: &str) -> Error {
        match self {
            Fault::Opcode { .. } | Fault::Global { .. } => Error::unsupported(file, self.to_string()),
            _ => Error::invalid(file, self.to_string()),
        }
    }
}
