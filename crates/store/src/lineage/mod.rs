//! Where a work comes from: the works it was made from, by which step, with which settings, and under which terms each
//! came. Written into every result of ours: `pasture.json` in a folder, keys in a GGUF file, and the ledger.

mod draw;
mod legal;
mod read;
mod write;

use pasture_files::json;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::licence::{self, Terms};

pub use draw::{Shown, svg, tree};
pub use legal::Texts;
pub use read::{of_assistant, of_gguf, of_path, repository_of};
pub use write::{card, keys, write_folder};

/// The name of the file in a folder.
pub const FILE: &str = "pasture.json";
/// The key of a GGUF file with the same content.
pub const KEY: &str = "pasture.lineage";

/// The version of the layout that this program writes.
const LAYOUT: u32 = 1;
/// Most works of a lineage.
const WORKS_MAX: usize = 1024;
/// Most parents of a step.
const PARENTS_MAX: usize = 256;
/// Longest text of a lineage.
const BYTES_MAX: usize = 4 << 20;
/// Longest name or digest in it.
const NAME_BYTES_MAX: usize = 1024;

/// A work and all that it was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// Version of this layout: 1.
    lineage: u32,
    /// The work itself, then its ancestors: each stands behind whatever was made from it.
    works: Vec<Work>,
}

/// A model, an adapter, or data that became part of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// What it was called.
    pub name: String,
    /// `sha256:` and 64 digits of its file, or of its folder's list of files; a work that says so of itself has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The repository it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The licences that its own files name, as they spell them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub licences: Vec<String>,
    /// How it was made; absent where nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
}

/// How a work was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What was done.
    pub kind: Kind,
    /// What it began with.
    pub from: Vec<Parent>,
    /// Every setting, as it was resolved.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub recipe: Value,
    /// Figures of the receipt, before and after.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub figures: Value,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Training.
    Tune,
    /// Joining adapters or models.
    Merge,
    /// Storing the weights in other number formats.
    Quantize,
    /// Another container.
    Export,
    /// An assistant of a model and what belongs to it.
    Create,
    /// Its files say from what, and not how.
    Unknown,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tune => "tune",
            Kind::Merge => "merge",
            Kind::Quantize => "quantize",
            Kind::Export => "export",
            Kind::Create => "create",
            Kind::Unknown => "made from",
        }
    }
}

/// A work that a step began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Its place in the list of works.
    pub work: usize,
    /// What it was there for.
    pub role: Role,
}

/// What a work was there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The model that was changed.
    Base,
    /// An adapter that was joined to it.
    Adapter,
    /// Another model that was joined with it.
    Model,
}

impl Role {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Base => "base",
            Role::Adapter => "adapter",
            Role::Model => "model",
        }
    }
}

impl Lineage {
    /// A work of which nobody says how it was made.
    pub fn root(work: Work) -> Lineage {
        Lineage { lineage: LAYOUT, works: vec![Work { step: None, ..work }] }
    }

    /// A work that a step makes of others. Ancestors that several of them share stand once.
    pub fn derive(name: &str, kind: Kind, parents: &[(Lineage, Role)], recipe: Value, figures: Value) -> Lineage {
        // Every work is met after all that were made from it: by the longest way to it from the result.
        let mut found: Found = Vec::new();
        let mut from = Vec::new();
        for (parent, role) in parents {
            let places: Vec<usize> = parent.works.iter().map(|work| place(&mut found, work)).collect();
            for (at, work) in parent.works.iter().enumerate() {
                let Some(step) = &work.step else { continue };
                if found[places[at]].2.is_empty() {
                    found[places[at]].1.step = Some(step.clone());
                    found[places[at]].2 = step.from.iter().map(|one| (places[one.work], one.role)).collect();
                }
            }
            from.push((places[0], *role));
        }
        deepen(&mut found, &from);
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_by_key(|at| found[*at].0);
        let mut places = vec![0; found.len()];
        order.iter().enumerate().for_each(|(place, at)| places[*at] = place + 1);
        let numbered = |from: &[(usize, Role)]| -> Vec<Parent> {
            from.iter().map(|(at, role)| Parent { work: places[*at], role: *role }).collect()
        };
        let step = Step { kind, from: numbered(&from), recipe, figures };
        let mut works =
            vec![Work { name: name.to_owned(), digest: None, origin: None, licences: Vec::new(), step: Some(step) }];
        for at in order {
            let (_, work, from) = &found[at];
            let mut work = work.clone();
            if let Some(step) = &mut work.step {
                step.from = numbered(from);
            }
            works.push(work);
        }
        Lineage { lineage: LAYOUT, works }
    }

    /// The work itself.
    pub fn work(&self) -> &Work {
        &self.works[0]
    }

    /// The work itself, to be told more of.
    pub fn work_mut(&mut self) -> &mut Work {
        &mut self.works[0]
    }

    /// The work, then its ancestors.
    pub fn works(&self) -> &[Work] {
        &self.works
    }

    /// What holds for the work: its own terms and those of all it was made from.
    pub fn terms(&self) -> Terms {
        let mut terms = Terms::default();
        for work in &self.works {
            let known = work.origin.as_deref().and_then(licence::of_repository);
            let known = known.or_else(|| licence::of_repository(&work.name));
            work.licences.iter().for_each(|name| terms.add_named(name));
            known.into_iter().for_each(|licence| terms.add(licence));
            if work.step.is_none() && work.licences.is_empty() && known.is_none() {
                terms.silent.push(work.name.clone());
            }
        }
        terms
    }

    /// Reads a lineage that somebody wrote. Whatever does not fit is refused.
    ///
    /// # Errors
    /// When it is none, is longer than any, or its numbers lead elsewhere.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Lineage> {
        let wrong = |what: String| Error::from(pasture_files::Error::invalid(file, what));
        if bytes.len() > BYTES_MAX {
            return Err(wrong(format!("a lineage of {} bytes; {BYTES_MAX} are allowed", bytes.len())));
        }
        let value = json::parse(bytes, file)?;
        let found: Lineage = serde_json::from_value(value).map_err(|fault| json::fault_in(file, &fault))?;
        if found.lineage != LAYOUT {
            return Err(wrong(format!("lineage of layout {}, and {LAYOUT} is read here", found.lineage)));
        }
        if found.works.is_empty() || found.works.len() > WORKS_MAX {
            return Err(wrong(format!("a lineage of {} works; 1 to {WORKS_MAX} are allowed", found.works.len())));
        }
        for (at, work) in found.works.iter().enumerate() {
            let texts = [Some(&work.name), work.digest.as_ref(), work.origin.as_ref()];
            let long = |text: &&String| text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control);
            if texts.into_iter().flatten().chain(&work.licences).any(|text| long(&text)) || work.licences.len() > 64 {
                return Err(wrong(format!("work {at} of its lineage has a name that is none")));
            }
            let from = work.step.iter().flat_map(|step| &step.from);
            let good = |parent: &Parent| parent.work > at && parent.work < found.works.len();
            if from.clone().count() > PARENTS_MAX || !from.clone().all(good) {
                return Err(wrong(format!("work {at} of its lineage is made from one that does not stand behind it")));
            }
        }
        Ok(found)
    }

    /// As JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a lineage has text keys and finite numbers")
    }
}

/// Works that were found: how far each is from the result, the work, and what it was made from.
type Found = Vec<(usize, Work, Vec<(usize, Role)>)>;

/// The place of a work among those that were found, where it is added if it was not there. Works are one where their
/// digests are; without one, where all that is said of them is.
fn place(found: &mut Found, work: &Work) -> usize {
    let same = |there: &Work| match (&there.digest, &work.digest) {
        (Some(one), Some(other)) => one == other,
        (None, None) => there == work && work.step.is_none(),
        _ => false,
    };
    if let Some(at) = found.iter().position(|(_, there, _)| same(there)) {
        return at;
    }
    found.push((0, work.clone(), Vec::new()));
    found.len() - 1
}

/// Sets how far each work is from the result at most. Steps never lead in a circle, since each list has its parents
/// behind and a digest is not known before its work is made; if one did, the rounds end with the number of works.
fn deepen(found: &mut Found, from: &[(usize, Role)]) {
    from.iter().for_each(|(at, _)| found[*at].0 = 1);
    for _ in 0..found.len() {
        let mut moved = false;
        for at in 0..found.len() {
            let next = found[at].0 + 1;
            for parent in 0..found[at].2.len() {
                let to = found[at].2[parent].0;
                if next > 1 && found[to].0 < next {
                    (found[to].0, moved) = (next, true);
                }
            }
        }
        if !moved {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn base(name: &str, licence: &str) -> Lineage {
        Lineage::root(Work {
            name: name.into(),
            digest: Some(format!("sha256:{name}")),
            origin: None,
            licences: vec![licence.into()],
            step: None,
        })
    }

    fn made(name: &str, kind: Kind, parents: &[(Lineage, Role)]) -> Lineage {
        let mut lineage = Lineage::derive(name, kind, parents, json!({"rank": 4}), Value::Null);
        lineage.work_mut().digest = Some(format!("sha256:{name}"));
        lineage
    }

    /// base → tune → merge → quantize.
    pub(super) fn three_steps(licence: &str) -> Lineage {
        let base = base("base", licence);
        let adapter = made("adapter", Kind::Tune, &[(base.clone(), Role::Base)]);
        let merged = made("merged", Kind::Merge, &[(base, Role::Base), (adapter, Role::Adapter)]);
        Lineage::derive("small", Kind::Quantize, &[(merged, Role::Base)], json!({"type": "Q4_0"}), Value::Null)
    }

    #[test]
    fn an_ancestor_of_two_ways_stands_once_and_behind_all_made_from_it() {
        let lineage = three_steps("mit");
        let names: Vec<&str> = lineage.works().iter().map(|work| work.name.as_str()).collect();
        assert_eq!(names, ["small", "merged", "adapter", "base"]);
        let again = Lineage::parse(lineage.to_json().as_bytes(), "pasture.json").unwrap();
        assert_eq!(again, lineage);
    }

    #[test]
    fn a_derivative_has_the_terms_of_all_its_ancestors() {
        let terms = three_steps("llama3.2").terms();
        assert_eq!(terms.licences[0].id, "llama3.2");
        assert!(terms.obligations().iter().any(|row| row.text.contains("Built with Llama")));
        let other = made(
            "joined",
            Kind::Merge,
            &[(three_steps("cc-by-sa-4.0"), Role::Base), (base("b", "cc-by-nc-4.0"), Role::Model)],
        );
        assert!(other.terms().warnings()[0].contains("forbids commercial use"), "{:?}", other.terms());
    }

    #[test]
    fn what_a_repository_is_under_holds_whatever_a_copy_says() {
        let mut work = base("copy", "mit");
        work.work_mut().origin = Some("meta-llama/Llama-3.2-1B".into());
        let ids: Vec<&str> = work.terms().licences.iter().map(|licence| licence.id.as_str()).collect();
        assert_eq!(ids, ["mit", "llama3.2"]);
    }

    #[test]
    fn what_is_no_lineage_is_refused() {
        let long = "a".repeat(2000);
        for text in [
            "",
            "[]",
            r#"{"lineage": 1, "works": []}"#,
            r#"{"lineage": 2, "works": [{"name": "a"}]}"#,
            r#"{"lineage": 1, "works": [{"name": "a", "more": 1}]}"#,
            r#"{"lineage": 1, "works": [{"name": "a\u001b[2J"}]}"#,
            r#"{"lineage": 1, "works": [{"name": "a", "step": {"kind": "tune", "from": [{"work": 0, "role": "base"}]}}]}"#,
            r#"{"lineage": 1, "works": [{"name": "a", "step": {"kind": "tune", "from": [{"work": 9, "role": "base"}]}}]}"#,
            r#"{"lineage": 1, "works": [{"name": "a", "step": {"kind": "sing", "from": []}}]}"#,
            &format!(r#"{{"lineage": 1, "works": [{{"name": "{long}"}}]}}"#),
        ] {
            assert!(Lineage::parse(text.as_bytes(), "pasture.json").is_err(), "{text:?}");
        }
    }
}
