//! The reference kit's cases, found by `PASTURE_KIT` or beside the workspace.
//! Invariant: without the kit a case says `skipped: no kit` and nothing else.
#![expect(clippy::unwrap_used, reason = "a test may stop where the kit is not what it should be")]
#![allow(dead_code, reason = "each test file uses its part")]

#[path = "../../../../tests/kit.rs"]
mod place;

use safetensors::SafeTensors;
use serde_json::Value;

/// One case.
pub struct Golden {
    bytes: Vec<u8>,
    /// What stands beside the tensors.
    pub facts: Value,
}

impl Golden {
    /// The case of that name.
    pub fn open(case: &str) -> Option<Golden> {
        let folder = place::folder("golden")?.join(case);
        let facts = std::fs::read(folder.join("golden.json")).unwrap();
        Some(Golden {
            bytes: std::fs::read(folder.join("golden.safetensors")).unwrap(),
            facts: serde_json::from_slice(&facts).unwrap(),
        })
    }

    /// Is there a tensor of that name?
    pub fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).is_ok()
    }

    /// Bytes of a tensor and the length of its rows.
    pub fn bytes(&self, name: &str) -> (Vec<u8>, usize) {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = file.tensor(name).unwrap_or_else(|_| panic!("{name} is not in the kit"));
        (tensor.data().to_vec(), *tensor.shape().last().unwrap())
    }

    /// Values of an F32 tensor and the length of its rows.
    pub fn floats(&self, name: &str) -> (Vec<f32>, usize) {
        let (bytes, row) = self.bytes(name);
        (bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(), row)
    }
}
