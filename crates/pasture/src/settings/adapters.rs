//! The flag by which verbs put adapters beside a model's weights.

/// Adapters of the command line: folders, each with a weight behind `=` where it is not 1.
#[derive(clap::Args)]
pub struct AdapterFlags {
    /// Put an adapter beside the weights; of several, the sum
    #[arg(long = "adapter", value_name = "FOLDER[=WEIGHT]")]
    pub adapters: Vec<String>,
}
