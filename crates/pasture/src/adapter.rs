//! Adapters in use: made by tuning or read from a folder, put beside a model without changing its weights, saved as peft
//! reads them.

use std::path::Path;
use std::sync::Arc;

use pasture_model::{AdapterFacts, combine_adapters, load_adapter, save_adapter};

use crate::error::{Error, Result};
use crate::handle::Model;

/// What was learned beside a model's weights.
#[derive(Clone)]
pub struct Adapter {
    pub(crate) inner: Arc<pasture_tensor::Adapter>,
    facts: AdapterFacts,
    model: Model,
    recipe: Option<String>,
}

impl Adapter {
    pub(crate) fn new(
        inner: Arc<pasture_tensor::Adapter>,
        facts: AdapterFacts,
        model: Model,
        recipe: Option<String>,
    ) -> Adapter {
        Adapter { inner, facts, model, recipe }
    }

    /// Reads an adapter of a model: a folder as peft writes it, or a GGUF file as llama.cpp's converter does.
    ///
    /// # Errors
    /// When the folder is no adapter, or one of another model.
    pub fn load(path: impl AsRef<Path>, model: &Model) -> Result<Adapter> {
        let inner = Arc::new(load_adapter(path.as_ref(), model.decoder())?);
        let facts = AdapterFacts { base: model.name().to_owned(), ..AdapterFacts::default() };
        Ok(Adapter::new(inner, facts, model.clone(), None))
    }

    /// The numbers themselves, as requests to the engine take them.
    pub fn weights(&self) -> Arc<pasture_tensor::Adapter> {
        self.inner.clone()
    }

    /// Writes the adapter into a folder, as peft reads it, with the recipe it was made by.
    ///
    /// # Errors
    /// When the folder cannot be made, or a file cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(|fault| pasture_files::Error::write(folder, fault))?;
        save_adapter(folder, &self.inner, self.model.decoder().sites(), &self.facts)?;
        if let Some(recipe) = &self.recipe {
            let file = folder.join("recipe.toml");
            pasture_files::durable::write_file(&file, |sink| sink.put(recipe.as_bytes()))?;
        }
        Ok(())
    }
}

impl Model {
    /// The same model with an adapter beside its weights, which both share. It takes the place of one that was there.
    #[must_use]
    pub fn with(&self, adapter: &Adapter) -> Model {
        self.with_inner(adapter.inner.clone())
    }

    /// The same model with an adapter's numbers beside its weights.
    #[must_use]
    pub fn with_weights(&self, adapter: Arc<pasture_tensor::Adapter>) -> Model {
        self.with_inner(adapter)
    }

    /// The same model with several adapters at once, each counting by its weight.
    ///
    /// # Errors
    /// When adapters with magnitudes (DoRA) should be added to others or weighed.
    pub fn with_all(&self, adapters: &[(Adapter, f32)]) -> Result<Model> {
        let parts: Vec<(&pasture_tensor::Adapter, f32)> =
            adapters.iter().map(|(adapter, weight)| (&*adapter.inner, *weight)).collect();
        let all = combine_adapters(&parts).map_err(Error::Model)?;
        Ok(self.with_inner(Arc::new(all)))
    }
}
