//! Tuning as the library offers it: a model, a few settings, a file of data, and an adapter comes out.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pasture_kernels::Pool;
use pasture_lab::data::Dataset;
use pasture_lab::tune::{self, HELD_OUT, Job, Recipe, Samples};
use pasture_model::AdapterFacts;
use pasture_tensor::{Backend, Cpu};
use toml::{Table, Value};

use crate::adapter::Adapter;
use crate::error::Result;
use crate::handle::Model;

/// A way to train.
///
/// ```no_run
/// # fn main() -> pasture::Result<()> {
/// use pasture::{Model, Tune};
///
/// let model = Model::load("my-model.gguf")?;
/// let adapter = Tune::lora(&model).rank(16).epochs(2.0).run("pirate.jsonl")?;
/// adapter.save("pirate")?;
/// println!("{}", model.with(&adapter).chat("Ahoy?")?);
/// # Ok(())
/// # }
/// ```
pub struct Tune {
    model: Model,
    recipe: Table,
}

impl Tune {
    /// A low-rank adapter.
    pub fn lora(model: &Model) -> Tune {
        Tune { model: model.clone(), recipe: Table::new() }.set("method", "lora")
    }

    /// A low-rank adapter whose output rows have lengths of their own.
    pub fn dora(model: &Model) -> Tune {
        Tune::lora(model).set("method", "dora")
    }

    /// Sets the adapter's rank.
    #[must_use]
    pub fn rank(self, rank: u32) -> Tune {
        self.set("rank", i64::from(rank))
    }

    /// Sets how often the data is passed over.
    #[must_use]
    pub fn epochs(self, epochs: f64) -> Tune {
        self.set("epochs", epochs)
    }

    /// Sets the largest learning rate.
    #[must_use]
    pub fn learning_rate(self, rate: f64) -> Tune {
        self.set("learning_rate", rate)
    }

    /// Sets any key of a recipe; a wrong one is told by [`Tune::run`].
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Tune {
        self.recipe.insert(key.to_owned(), value.into());
        self
    }

    /// Trains on a file of data.
    ///
    /// # Errors
    /// When a setting is wrong, the data cannot be learned from, or the model cannot run it.
    pub fn run(&self, data: impl AsRef<Path>) -> Result<Adapter> {
        self.run_with(data, &mut |_| {})
    }

    /// Trains on a file of data, telling what happens.
    ///
    /// # Errors
    /// As [`Tune::run`].
    pub fn run_with(&self, data: impl AsRef<Path>, tell: &mut dyn FnMut(&tune::Event)) -> Result<Adapter> {
        let recipe = Recipe::from_table(self.recipe.clone())?;
        let (model, context) = (&self.model, self.model.decoder().spec().context);
        let dataset = Dataset::read(data.as_ref(), model.prompt(), &recipe.reading(context)?, &mut |_| {})?;
        let (samples, held_out) = dataset.split(recipe.held_out.unwrap_or(HELD_OUT), recipe.seed);
        let (samples, held_out): (Samples, Samples) = (samples.into(), held_out.into());
        let plan = tune::plan(&recipe, context, &samples)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(threads)), recipe.precision.precision()));
        let facts = AdapterFacts {
            base: model.name().to_owned(),
            rank_stabilized: recipe.method == tune::recipe::Method::Rslora,
            dropout: recipe.dropout.unwrap_or(0.0),
        };
        let job = Job {
            decoder: model.decoder().clone(),
            backend,
            samples,
            held_out,
            identity: tune::checkpoint::Identity::new(),
            plan: plan.clone(),
            checkpoints: None,
            resume: false,
            voice: None,
            stop: &AtomicBool::new(false),
        };
        let outcome = tune::run(job, tell)?;
        let adapter = outcome.trained.adapter().cloned();
        let adapter = adapter.expect("full tuning needs a model for itself, which this one is not");
        Ok(Adapter::new(adapter, facts, model.clone(), Some(plan.recipe.to_toml())))
    }
}
