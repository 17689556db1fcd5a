//! The description of an adapter. Each key is used, or says something about training only, or must be at a value
//! without effect; anything else is refused by name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What the description says of the numbers.
#[derive(Debug)]
pub(super) struct Settings {
    rank: usize,
    alpha: f32,
    scaling: Scaling,
    magnitudes: bool,
    ranks: BTreeMap<String, f64>,
    alphas: BTreeMap<String, f64>,
    /// Names of modules, or their endings; none means all that the weights name.
    targets: Option<Vec<String>>,
}

/// What the scale is, by rank.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scaling {
    /// `alpha / rank`.
    Rank,
    /// `alpha / √rank` (Kalajdzievski, arXiv 2312.03732).
    Root,
}

/// Keys that are read here.
const USED: [&str; 10] = [
    "peft_type",
    "r",
    "lora_alpha",
    "use_rslora",
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "target_modules",
    "bias",
    "init_lora_weights",
];

/// Keys that speak of training or of where the adapter comes from.
const TRAINING: [&str; 19] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];

/// Ways of starting that leave the base weights as they were; others (pissa, olora, …) change them.
const STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// The largest rank that is believed.
pub(super) const RANK_MAX: usize = 1 << 16;

impl Settings {
    pub(super) fn read(description: &Value) -> Result<Settings, String> {
        let Value::Object(keys) = description else { return Err("is no object".to_owned()) };
        match keys.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            other => return Err(format!("has \"peft_type\" {}, only \"LORA\" can be used", shown(other))),
        }
        match keys.get("bias") {
            None | Some(Value::Null) => {}
            Some(bias) if bias == "none" => {}
            Some(bias) => return Err(format!("has \"bias\" {bias}, but trained biases are not read: \"none\"")),
        }
        match keys.get("init_lora_weights") {
            None | Some(Value::Null | Value::Bool(_)) => {}
            Some(Value::String(start)) if STARTS.contains(&start.as_str()) => {}
            Some(start) => {
                let what = "belongs to base weights that it changed; convert it to a plain adapter first";
                return Err(format!("has \"init_lora_weights\" {start}, which {what}"));
            }
        }
        for (key, value) in keys {
            let known = USED.contains(&key.as_str()) || TRAINING.contains(&key.as_str());
            if !known && !is_empty(value) {
                return Err(format!("has {key:?}, which cannot be used here; leave it out if it has no effect"));
            }
        }
        Ok(Settings {
            rank: rank("r", keys.get("r").and_then(Value::as_f64))?,
            alpha: alpha("lora_alpha", keys.get("lora_alpha").and_then(Value::as_f64))?,
            scaling: scaling(keys.get("use_rslora"))?,
            magnitudes: flag("use_dora", keys.get("use_dora"))?,
            ranks: pattern(keys, "rank_pattern")?,
            alphas: pattern(keys, "alpha_pattern")?,
            targets: targets(keys.get("target_modules"))?,
        })
    }

    /// A module's rank, and the factor of its product.
    pub(super) fn rank_and_scale(&self, module: &str) -> Result<(usize, f32), String> {
        let own = |pattern: &BTreeMap<String, f64>| {
            pattern.iter().find(|(name, _)| fits(name, module)).map(|(_, value)| *value)
        };
        let rank = own(&self.ranks).map_or(Ok(self.rank), |own| rank("rank_pattern", Some(own)))?;
        let alpha = own(&self.alphas).map_or(Ok(self.alpha), |own| alpha("alpha_pattern", Some(own)))?;
        let scale = match self.scaling {
            Scaling::Rank => alpha / rank as f32,
            Scaling::Root => alpha / (rank as f32).sqrt(),
        };
        Ok((rank, scale))
    }

    /// Whether output rows have lengths of their own (DoRA).
    pub(super) fn magnitudes(&self) -> bool {
        self.magnitudes
    }

    /// The targets and the modules of the weights must be the same.
    pub(super) fn check_targets<'m>(&self, modules: impl Iterator<Item = &'m str> + Clone) -> Result<(), String> {
        let Some(targets) = &self.targets else { return Ok(()) };
        if let Some(target) = targets.iter().find(|target| !modules.clone().any(|module| fits(target, module))) {
            return Err(format!("names {target:?} in \"target_modules\", but the weights have no such module"));
        }
        match modules.clone().find(|module| !targets.iter().any(|target| fits(target, module))) {
            Some(module) => Err(format!("does not name {module:?} in \"target_modules\", but the weights have it")),
            None => Ok(()),
        }
    }
}

/// Whether a module is, or ends with, a name.
fn fits(name: &str, module: &str) -> bool {
    module.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn rank(key: &str, value: Option<f64>) -> Result<usize, String> {
    let whole = value.filter(|rank| rank.fract() == 0.0 && (1.0..=RANK_MAX as f64).contains(rank));
    whole.map(|rank| rank as usize).ok_or_else(|| format!("needs a whole number from 1 to {RANK_MAX} as {key:?}"))
}

fn alpha(key: &str, value: Option<f64>) -> Result<f32, String> {
    let finite = value.map(|alpha| alpha as f32).filter(|alpha| alpha.is_finite());
    finite.ok_or_else(|| format!("needs a finite number as {key:?}"))
}

fn scaling(value: Option<&Value>) -> Result<Scaling, String> {
    Ok(if flag("use_rslora", value)? { Scaling::Root } else { Scaling::Rank })
}

fn flag(key: &str, value: Option<&Value>) -> Result<bool, String> {
    match value {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(format!("has {key:?} {other}, it should be true or false")),
    }
}

fn pattern(keys: &Map<String, Value>, key: &str) -> Result<BTreeMap<String, f64>, String> {
    let entries = match keys.get(key) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(format!("needs an object as {key:?}")),
    };
    let read = |(name, value): (&String, &Value)| {
        plain(key, name)?;
        let number = value.as_f64().ok_or_else(|| format!("needs a number for {name:?} in {key:?}"))?;
        if key == "rank_pattern" {
            rank(key, Some(number))?;
        }
        Ok((name.clone(), number))
    };
    entries.iter().map(read).collect()
}

fn targets(value: Option<&Value>) -> Result<Option<Vec<String>>, String> {
    let list = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(word)) if word == "all-linear" => return Ok(None),
        Some(Value::Array(list)) => list,
        Some(_) => return Err("needs a list of names as \"target_modules\": patterns are not read".to_owned()),
    };
    let names: Option<Vec<String>> = list.iter().map(|name| name.as_str().map(str::to_owned)).collect();
    let names = names.ok_or("has something else than names in \"target_modules\"")?;
    names.iter().try_for_each(|name| plain("target_modules", name))?;
    Ok(Some(names))
}

/// Names of modules only: patterns are not read.
fn plain(key: &str, name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = !name.is_empty() && name.bytes().all(is_plain);
    fits.then_some(()).ok_or_else(|| format!("has {name:?} in {key:?}: only names of modules are read, no patterns"))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}

fn shown(value: Option<&str>) -> String {
    value.map_or_else(|| "of no text".to_owned(), |value| format!("{value:?}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(key: &str, value: Value) -> Result<Settings, String> {
        let mut keys = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]});
        keys[key] = value;
        Settings::read(&keys)
    }

    #[test]
    fn scales_are_alpha_by_rank_or_by_its_root_with_patterns() {
        for (key, value, module, expected) in [
            ("bias", json!("none"), "a.q_proj", (4, 2.0)),
            ("use_rslora", json!(true), "a.q_proj", (4, 4.0)),
            ("rank_pattern", json!({"q_proj": 2}), "a.q_proj", (2, 4.0)),
            ("rank_pattern", json!({"q_proj": 2}), "a.kq_proj", (4, 2.0)),
            ("alpha_pattern", json!({"a.q_proj": 4}), "a.q_proj", (4, 1.0)),
        ] {
            assert_eq!(with(key, value).unwrap().rank_and_scale(module), Ok(expected), "{key}");
        }
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_name() {
        for (key, value) in [
            ("peft_type", json!("LOHA")),
            ("r", json!(0)),
            ("r", json!("4")),
            ("lora_alpha", json!("8")),
            ("bias", json!("all")),
            ("use_dora", json!("yes")),
            ("modules_to_save", json!(["lm_head"])),
            ("init_lora_weights", json!("pissa")),
            ("rank_pattern", json!({"q_proj": -1})),
            ("target_modules", json!("(a+)+$")),
            ("zz", json!(1)),
        ] {
            let refused = with(key, value).unwrap_err();
            assert!(refused.contains(key), "{key}: {refused}");
        }
    }

    #[test]
    fn targets_and_weights_name_the_same_modules() {
        let settings = with("bias", Value::Null).unwrap();
        assert!(settings.check_targets(["a.q_proj", "b.q_proj"].into_iter()).is_ok());
        assert!(settings.check_targets(["a.k_proj"].into_iter()).is_err());
        assert!(settings.check_targets(["a.q_proj", "a.k_proj"].into_iter()).is_err());
    }
}
