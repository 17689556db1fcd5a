//! Conditions on a result: `kl<0.02, ppl<+1%, arc/acc>-0.5%`. A plain number is compared with the figure itself, one
//! with a sign with the change from before, one with `%` with that change in parts of the figure before.

use std::fmt;
use std::str::FromStr;

use pasture_files::nearest::likely;

use super::{Measures, Unmeasured};

/// Conditions that a result must meet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requirements(Vec<Condition>);

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    text: String,
    figure: String,
    comparison: Comparison,
    bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    /// Of the figure itself.
    Value(f64),
    /// Of the figure less that before.
    Change(f64),
    /// Of that difference by the figure before: 0.01 for 1 %.
    Relative(f64),
}

/// Figures that have no task's name.
const FIGURES: [&str; 6] = ["kl", "kl_p99", "top1", "ppl", "bytes", "speed"];

/// A condition that is not met, or that cannot be judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// The condition as it was written.
    pub condition: String,
    /// What was found instead.
    pub found: String,
}

impl Requirements {
    /// The conditions that a result does not meet. A figure that was not measured meets none.
    pub fn broken(&self, before: &Measures, after: &Measures, unmeasured: &[Unmeasured]) -> Vec<Broken> {
        self.0.iter().filter_map(|condition| condition.check(before, after, unmeasured)).collect()
    }

    /// Whether a figure is asked for by name.
    pub fn names(&self, figure: &str) -> bool {
        self.0.iter().any(|condition| condition.figure == figure)
    }

    /// The conditions on tasks, as `task/metric`.
    pub fn tasks(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|condition| condition.figure.as_str()).filter(|figure| figure.contains('/'))
    }
}

impl Condition {
    fn check(&self, before: &Measures, after: &Measures, unmeasured: &[Unmeasured]) -> Option<Broken> {
        let broken = |found: String| Some(Broken { condition: self.text.clone(), found });
        let missing = || {
            let what = match self.figure.as_str() {
                "ppl" => "perplexity",
                "kl" | "kl_p99" | "top1" => "divergence",
                other => other.split('/').next().unwrap_or(other),
            };
            let reason = unmeasured.iter().find(|unmeasured| unmeasured.what == what);
            reason.map_or_else(|| "it was not measured".to_owned(), |why| format!("not measured: {}", why.reason))
        };
        let Some(now) = figure(after, &self.figure) else { return broken(missing()) };
        let (found, limit, shown) = match self.bound {
            Bound::Value(limit) => (now, limit, format!("{} is {}", self.figure, short(now))),
            Bound::Change(limit) | Bound::Relative(limit) => {
                let Some(was) = figure(before, &self.figure) else { return broken(missing()) };
                let relative = matches!(self.bound, Bound::Relative(_));
                let change = if relative { (now - was) / was } else { now - was };
                let percent = if relative { format!(", {:+.3}%", change * 100.0) } else { String::new() };
                (change, limit, format!("{} went from {} to {}{percent}", self.figure, short(was), short(now)))
            }
        };
        if self.comparison.holds(found, limit) { None } else { broken(shown) }
    }
}

impl Comparison {
    /// No comparison holds of what is no number.
    fn holds(self, found: f64, limit: f64) -> bool {
        match self {
            Comparison::Less => found < limit,
            Comparison::LessOrEqual => found <= limit,
            Comparison::More => found > limit,
            Comparison::MoreOrEqual => found >= limit,
        }
    }
}

/// The figure of a name; speed is that of new tokens.
fn figure(measures: &Measures, name: &str) -> Option<f64> {
    match name {
        "ppl" => measures.perplexity.as_ref().map(|perplexity| perplexity.value),
        "kl" => measures.divergence.as_ref().map(|divergence| divergence.kl),
        "kl_p99" => measures.divergence.as_ref().map(|divergence| divergence.kl_p99),
        "top1" => measures.divergence.as_ref().map(|divergence| divergence.top1),
        "bytes" => measures.bytes.map(|bytes| bytes as f64),
        "speed" => measures.new_tokens_per_second,
        task => measures.tasks.get(task).map(|score| score.value),
    }
}

/// Five digits at most.
fn short(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) { format!("{value:.4e}") } else { format!("{value:.4}") }
}

impl FromStr for Requirements {
    type Err = String;

    fn from_str(text: &str) -> Result<Requirements, String> {
        text.split(',').map(|part| condition(part.trim())).collect::<Result<_, _>>().map(Requirements)
    }
}

fn condition(text: &str) -> Result<Condition, String> {
    let shape = "a condition is a figure, one of < <= > >=, and a number: kl<0.02, ppl<+1%, arc/acc>-0.5%";
    let wrong = |what: &str| format!("cannot read the condition {text:?}: {what}; {shape}");
    let at = text.find(['<', '>']).ok_or_else(|| wrong("it compares nothing"))?;
    let figure = text[..at].trim();
    let (comparison, rest) = match &text[at..] {
        rest if rest.starts_with("<=") => (Comparison::LessOrEqual, &rest[2..]),
        rest if rest.starts_with(">=") => (Comparison::MoreOrEqual, &rest[2..]),
        rest if rest.starts_with('<') => (Comparison::Less, &rest[1..]),
        rest => (Comparison::More, &rest[1..]),
    };
    let is_task = figure.contains('/') && figure.len() > 2;
    if !is_task && !FIGURES.contains(&figure) {
        let near =
            likely(figure, FIGURES.into_iter()).map(|near| format!(", did you mean {near:?}?")).unwrap_or_default();
        let known = FIGURES.join(", ");
        return Err(wrong(&format!("{figure:?} is no figure{near} (known are {known} and task/metric)")));
    }
    let rest = rest.trim();
    let (digits, percent) = rest.strip_suffix('%').map_or((rest, false), |digits| (digits.trim_end(), true));
    let number: f64 = digits.parse().map_err(|_| wrong(&format!("{digits:?} is no number")))?;
    if !number.is_finite() {
        return Err(wrong("its number is not finite"));
    }
    let signed = digits.starts_with(['+', '-']);
    let bound = match (percent, signed) {
        (true, true) => Bound::Relative(number / 100.0),
        (true, false) => return Err(wrong("parts of a hundred are of the figure before and need a sign")),
        (false, true) => Bound::Change(number),
        (false, false) => Bound::Value(number),
    };
    if matches!(figure, "kl" | "kl_p99" | "top1") && !matches!(bound, Bound::Value(_)) {
        return Err(wrong("this figure compares with the model before already and takes no sign"));
    }
    Ok(Condition { text: text.to_owned(), figure: figure.to_owned(), comparison, bound })
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not met: {}", self.condition, self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Divergence, Perplexity, Score};
    use super::*;

    fn measures(ppl: f64, kl: f64, acc: f64) -> Measures {
        let text = || "text".to_owned();
        let perplexity =
            Perplexity { value: ppl, stderr: 0.1, tokens: 9, window: 8, stride: 8, text: text(), digest: text() };
        let divergence = Divergence { kl, stderr: 0.0, kl_p99: 2.0 * kl, kl_max: 3.0 * kl, top1: 0.9, tokens: 9 };
        let score = Score { value: acc, stderr: None, samples: 10, higher_is_better: true };
        Measures {
            perplexity: Some(perplexity),
            divergence: Some(divergence),
            tasks: [("arc/acc".to_owned(), score)].into(),
            ..Measures::default()
        }
    }

    #[test]
    fn conditions_hold_or_are_named() {
        let (before, after) = (measures(10.0, 0.0, 0.5), measures(10.2, 0.01, 0.48));
        for (text, broken) in [
            ("kl<0.02", vec![]),
            ("kl < 0.01", vec!["kl < 0.01"]),
            ("kl<=0.01,top1>=0.9", vec![]),
            ("ppl<+1%", vec!["ppl<+1%"]),
            ("ppl<+2.1%, ppl<+0.3, ppl<11", vec![]),
            ("arc/acc>-0.01", vec!["arc/acc>-0.01"]),
            ("arc/acc>-5%", vec![]),
            ("speed>1, ppl>5", vec!["speed>1"]),
            ("mmlu/acc>0.1", vec!["mmlu/acc>0.1"]),
        ] {
            let found = text.parse::<Requirements>().unwrap().broken(&before, &after, &[]);
            assert_eq!(found.iter().map(|broken| broken.condition.as_str()).collect::<Vec<_>>(), broken, "{text}");
        }
        let found = "ppl<+1%".parse::<Requirements>().unwrap().broken(&before, &after, &[]);
        let said = "\"ppl<+1%\" is not met: ppl went from 10.0000 to 10.2000, +2.000%";
        assert_eq!(found[0].to_string(), said);
    }

    #[test]
    fn what_was_not_measured_meets_no_condition() {
        let why = [Unmeasured { what: "divergence".into(), reason: "the level is none".into() }];
        let found =
            "kl<1".parse::<Requirements>().unwrap().broken(&Measures::default(), &Measures::default(), &why).remove(0);
        assert_eq!(found.found, "not measured: the level is none");
        let nothing = measures(f64::NAN, f64::NAN, 0.0);
        assert_eq!("kl<1,ppl<9".parse::<Requirements>().unwrap().broken(&nothing, &nothing, &[]).len(), 2);
    }

    #[test]
    fn broken_conditions_are_refused() {
        for (text, said) in [
            ("", "compares nothing"),
            ("kl=1", "compares nothing"),
            ("kll<1", "did you mean \"kl\"?"),
            ("kl<x", "\"x\" is no number"),
            ("kl<inf", "not finite"),
            ("ppl<1%", "need a sign"),
            ("kl<+1%", "takes no sign"),
            ("kl<0.1,", "compares nothing"),
        ] {
            let error = text.parse::<Requirements>().unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
