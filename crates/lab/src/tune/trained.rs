//! The tensors that a run changes: the matrices of an adapter, or weights of the model itself. Both are lists of f32 values
//! by name to whoever steps, saves or resumes.

use std::collections::BTreeMap;
use std::sync::Arc;

use pasture_engine::sampling::random::Random;
use pasture_kernels::Format;
use pasture_model::{Decoder, Kind};
use pasture_tensor::{Adapter, AdapterSite, Dropout, Vector, Weight, WeightId};

use super::error::{Error, Result};
use super::recipe::{Method, Recipe, layer_list};

/// What is trained, in an order that depends on the model alone.
pub struct Trained {
    tensors: Vec<Tensor>,
    kind: What,
}

/// One trained tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name: a parameter's, or an adapter's as in peft's files.
    pub name: String,
    /// Rows and columns.
    pub shape: [usize; 2],
}

enum What {
    /// The matrices A and B of each module, behind each other, and the lengths of output rows where it has some. What is
    /// built of them holds the same memory.
    Adapter { modules: Vec<Module>, values: Vec<Arc<Vec<f32>>>, built: Arc<Adapter> },
    /// Weights of the model, where their values are.
    Weights { ids: Vec<WeightId> },
}

struct Module {
    name: String,
    scale: f32,
    /// Whether its output rows have lengths of their own.
    stretched: bool,
}

impl Tensor {
    /// Its values' number.
    pub fn len(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Trained {
    /// What a resolved recipe trains of a model. Weights that are trained become f32.
    ///
    /// # Errors
    /// When a target or a layer is not there, or nothing is left to train.
    pub fn of(recipe: &Recipe, decoder: &mut Arc<Decoder>) -> Result<Trained> {
        let layers = decoder.spec().layers.len();
        let layers = recipe.layers.as_deref().map(|text| layer_list(text, layers)).transpose()?;
        let wanted =
            |name: &str| layers.as_ref().is_none_or(|layers| layer_of(name).is_some_and(|at| layers.contains(&at)));
        if let Some(name) = &recipe.base_format {
            store(decoder, name)?;
        }
        match recipe.method {
            Method::Lora | Method::Rslora | Method::Dora => adapter(recipe, decoder, &wanted),
            Method::Full => weights(decoder, &wanted),
        }
    }

    /// Begins with the numbers of another adapter, which stands at the same modules with the same shapes.
    ///
    /// # Errors
    /// When the adapter is another.
    pub fn begin_with(&mut self, adapter: &Adapter) -> Result<()> {
        let What::Adapter { modules, values, built } = &mut self.kind else {
            return Err(Error::recipe("method", "is \"full\", so no adapter can be begun with"));
        };
        let differs =
            |what: &str| Err(Error::recipe("method", format!("does not fit the adapter to begin with: {what}")));
        if adapter.sites().len() != modules.len() {
            return differs("it stands at other modules");
        }
        let mut first = Vec::new();
        for module in modules.iter() {
            let Some(site) = adapter.site(&module.name) else {
                return differs(&format!("it does not stand at {:?}", module.name));
            };
            if (site.scale - module.scale).abs() > 1e-6 * module.scale.abs() {
                return differs(&format!("its scale is {}, the recipe's {}", site.scale, module.scale));
            }
            first.extend([site.a.values(), site.b.values()].map(Arc::new));
            first.extend(site.magnitude.as_ref().map(|magnitude| Arc::new(magnitude.lengths.values().to_vec())));
        }
        if first.len() != values.len() || first.iter().zip(values.iter()).any(|(one, other)| one.len() != other.len()) {
            return differs("its rank or kind is another");
        }
        *values = first;
        *built = Arc::new(build(modules, values, &self.tensors));
        Ok(())
    }

    /// The tensors.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// All values' number.
    pub fn len(&self) -> usize {
        self.tensors.iter().map(Tensor::len).sum()
    }

    /// Whether nothing is trained.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The adapter as it is now; none where the model itself is trained.
    pub fn adapter(&self) -> Option<&Arc<Adapter>> {
        match &self.kind {
            What::Adapter { built, .. } => Some(built),
            What::Weights { .. } => None,
        }
    }

    /// The adapter with what training drops of its inputs in a batch of that number.
    pub fn dropping(&self, share: f32, seed: u64) -> Option<Arc<Adapter>> {
        let adapter = self.adapter()?;
        if share == 0.0 {
            return Some(adapter.clone());
        }
        let site = |(name, site): (&String, &AdapterSite)| {
            (name.clone(), site.clone().with_dropout(Dropout { share, seed: seed_of(seed, name) }))
        };
        Some(Arc::new(Adapter::new(adapter.sites().iter().map(site).collect())))
    }

    /// The names of the tensors' gradients in the next pass.
    pub fn ids(&self) -> Vec<WeightId> {
        match &self.kind {
            What::Weights { ids } => ids.clone(),
            What::Adapter { modules, built, .. } => {
                let of = |site: &AdapterSite| {
                    let lengths = site.magnitude.as_ref().map(|magnitude| magnitude.lengths.id());
                    [site.a.id(), site.b.id()].into_iter().chain(lengths)
                };
                modules.iter().filter_map(|module| built.site(&module.name)).flat_map(of).collect()
            }
        }
    }

    /// Lets every tensor's values be changed, in the order of the model.
    pub fn change(&mut self, decoder: &mut Arc<Decoder>, change: &mut dyn FnMut(usize, &mut Vec<f32>)) {
        match &mut self.kind {
            What::Adapter { modules, values, built } => {
                // Values that nobody else holds are changed where they are.
                *built = Arc::new(Adapter::default());
                values.iter_mut().enumerate().for_each(|(at, values)| change(at, Arc::make_mut(values)));
                *built = Arc::new(build(modules, values, &self.tensors));
            }
            What::Weights { ids } => {
                let places = places(ids);
                let wanted = |id: WeightId| places.contains_key(&id);
                owned(decoder).change_parameters(&wanted, &mut |id, values| change(places[&id], values));
            }
        }
    }

    /// Each tensor's values, in order.
    pub fn values(&self, decoder: &mut Arc<Decoder>) -> Vec<Vec<f32>> {
        match &self.kind {
            What::Adapter { values, .. } => values.iter().map(|values| values.to_vec()).collect(),
            What::Weights { ids } => {
                let places = places(ids);
                let mut all = owned(decoder).parameter_values(&|id| places.contains_key(&id));
                ids.iter().map(|id| all.remove(id).unwrap_or_default()).collect()
            }
        }
    }
}

fn places(ids: &[WeightId]) -> BTreeMap<WeightId, usize> {
    ids.iter().enumerate().map(|(at, id)| (*id, at)).collect()
}

/// The model, which nobody else holds while it is changed.
fn owned(decoder: &mut Arc<Decoder>) -> &mut Decoder {
    Arc::get_mut(decoder).expect("a model that is tuned whole is held by its run alone")
}

/// Keeps the frozen linear layers in a number format.
fn store(decoder: &mut Arc<Decoder>, name: &str) -> Result<()> {
    let wrong = |what: String| Error::recipe("base_format", what);
    let known = || Format::ALL.iter().filter(|format| format.can_quantize());
    let Some(format) = known().find(|format| format.name().eq_ignore_ascii_case(name)) else {
        let names: Vec<String> = known().map(|format| format.name().to_lowercase()).collect();
        return Err(wrong(format!("is {name:?}, but it must be one of {}", names.join(", "))));
    };
    let Some(model) = Arc::get_mut(decoder) else {
        return Err(wrong("would change a model that others hold; load it for tuning alone".to_owned()));
    };
    let uneven = |module: String| wrong(format!("is {name:?}, but the rows of {module:?} are not whole blocks of it"));
    model.store_linears(*format).map_err(uneven)
}

/// The layer in a tensor's name: its first part that is a number.
fn layer_of(name: &str) -> Option<usize> {
    name.split('.').find_map(|part| part.parse().ok())
}

/// Modules with their outputs and inputs.
type Modules<'d> = Vec<(&'d str, [usize; 2])>;

/// The modules that a recipe adapts.
fn targets<'d>(recipe: &Recipe, decoder: &'d Decoder, wanted: &dyn Fn(&str) -> bool) -> Result<Modules<'d>> {
    let inner = decoder.sites().iter().filter(|(_, module)| module.kind != Kind::Head);
    let all: Modules = inner.map(|(name, module)| (name, [module.outputs, module.inputs])).collect();
    let fits = |name: &str, target: &str| {
        name.strip_suffix(target).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    for target in recipe.targets.iter().flatten() {
        if !all.iter().any(|(name, _)| fits(name, target)) {
            let last = all.iter().map(|(name, _)| name.rsplit('.').next().unwrap_or(name));
            let near = pasture_files::nearest::nearest(target, last).unwrap_or_default();
            let what = format!("has {target:?}, which is no linear layer of this model; the nearest is {near:?}");
            return Err(Error::recipe("targets", what));
        }
    }
    let is_target = |name: &str| {
        let targets = recipe.targets.as_ref();
        targets.is_none_or(|targets| targets.iter().any(|target| fits(name, target)))
    };
    let chosen: Modules = all.into_iter().filter(|(name, _)| wanted(name) && is_target(name)).collect();
    match chosen.is_empty() {
        true => Err(Error::recipe("layers", "leaves no linear layer to adapt")),
        false => Ok(chosen),
    }
}

fn adapter(recipe: &Recipe, decoder: &Decoder, wanted: &dyn Fn(&str) -> bool) -> Result<Trained> {
    let (rank, alpha) = (recipe.rank.unwrap_or(16), recipe.alpha.unwrap_or(32.0));
    let scale = match recipe.method {
        Method::Rslora => alpha / (rank as f32).sqrt(),
        _ => alpha / rank as f32,
    };
    let (mut modules, mut values, mut tensors) = (Vec::new(), Vec::new(), Vec::new());
    for (name, [outputs, inputs]) in targets(recipe, decoder, wanted)? {
        let mut add = |ending: &str, shape: [usize; 2], first: Vec<f32>| {
            tensors.push(Tensor { name: format!("{name}.{ending}"), shape });
            values.push(Arc::new(first));
        };
        // As the reference implementation: A is uniform in ±1/√inputs, B is zero, so that tuning begins at the base.
        let mut random = Random::new(seed_of(recipe.seed, name));
        let reach = 1.0 / (inputs as f64).sqrt();
        let a = (0..rank * inputs).map(|_| ((random.uniform() * 2.0 - 1.0) * reach) as f32).collect();
        add("lora_A.weight", [rank, inputs], a);
        add("lora_B.weight", [outputs, rank], vec![0.0; outputs * rank]);
        let stretched = recipe.method == Method::Dora;
        if stretched {
            add("lora_magnitude_vector", [outputs, 1], decoder.row_lengths(name).unwrap_or_default());
        }
        modules.push(Module { name: name.to_owned(), scale, stretched });
    }
    let built = Arc::new(build(&modules, &values, &tensors));
    Ok(Trained { tensors, kind: What::Adapter { modules, values, built } })
}

fn build(modules: &[Module], values: &[Arc<Vec<f32>>], tensors: &[Tensor]) -> Adapter {
    let mut parts = tensors.iter().zip(values);
    let mut next = || parts.next().expect("a module has its tensors");
    let mut site = |module: &Module| {
        let [a, b] = [next(), next()]
            .map(|(tensor, values)| Weight::of_shared(tensor.shape[0], tensor.shape[1], values.clone()));
        let site = AdapterSite::new(a, b, module.scale);
        let site = if module.stretched { site.with_magnitude(Vector::new(next().1.to_vec())) } else { site };
        (module.name.clone(), site)
    };
    Adapter::new(modules.iter().map(&mut site).collect())
}

fn weights(decoder: &mut Arc<Decoder>, wanted: &dyn Fn(&str) -> bool) -> Result<Trained> {
    let chosen = decoder.parameters().iter().filter(|one| wanted(&one.tensor));
    let mut names: BTreeMap<WeightId, (String, usize)> = BTreeMap::new();
    for one in chosen {
        let name = format!("{}:{}-{}", one.tensor, one.rows.start, one.rows.end);
        names.entry(one.weight).or_insert((name, one.rows.len()));
    }
    let (mut tensors, mut ids) = (Vec::new(), Vec::new());
    let Some(model) = Arc::get_mut(decoder) else {
        return Err(Error::recipe("method", "is \"full\", but others hold this model; load it for tuning alone"));
    };
    model.change_parameters(&|id| names.contains_key(&id), &mut |id, values| {
        let (name, rows) = &names[&id];
        tensors.push(Tensor { name: name.clone(), shape: [*rows, values.len() / rows.max(&1)] });
        ids.push(id);
    });
    if tensors.is_empty() {
        return Err(Error::recipe("layers", "leaves nothing to train"));
    }
    Ok(Trained { tensors, kind: What::Weights { ids } })
}

/// The seed of a tensor's first values: by its name, so that other targets change nothing of it.
fn seed_of(seed: u64, name: &str) -> u64 {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    super::order::mixed(seed, hash)
}
