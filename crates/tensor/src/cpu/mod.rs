//! The processor as a backend: the kernels' pool behind the coarse operations; what it does not speed up is the
//! reference's.

use std::sync::Arc;

use pasture_kernels::Pool;

use crate::backend::{Backend, Precision};

/// The processor.
pub struct Cpu {
    precision: Precision,
    pool: Arc<Pool>,
}

impl Cpu {
    /// A backend over a pool of threads.
    pub fn new(pool: Arc<Pool>, precision: Precision) -> Cpu {
        Cpu { precision, pool }
    }

    /// The threads that compute.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn precision(&self) -> Precision {
        self.precision
    }
}
