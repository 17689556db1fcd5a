//! A lineage as people see it: a tree of lines, and the same as a drawing (SVG).

use std::fmt::Write as _;

use serde_json::Value;

use super::{Lineage, Step, Work};
use crate::licence::{NO_ADVICE, NOT_STATED};

/// One line of the tree: a work, where it hangs, and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Steps from the result.
    pub depth: usize,
    /// The line of the work that was made from it; none for the result.
    pub above: Option<usize>,
    /// Its place in the list of works.
    pub work: usize,
    /// What the work was there for, and its name.
    pub title: String,
    /// Licences, step, settings and figures; nothing where it stands above already.
    pub facts: Vec<String>,
}

/// Settings of a recipe that are told at most.
const SETTINGS_MAX: usize = 6;
/// Longest setting that is told.
const SETTING_BYTES_MAX: usize = 40;

/// The lines of the tree, the result first. A work that several were made from is told once and named again.
fn shown(lineage: &Lineage) -> Vec<Shown> {
    let mut lines: Vec<Shown> = Vec::new();
    let mut open = vec![(0, 0, None, None)];
    let mut seen = vec![false; lineage.works().len()];
    while let Some((at, depth, above, role)) = open.pop() {
        let work = &lineage.works()[at];
        let role: Option<&str> = role;
        let title = role.map_or_else(|| work.name.clone(), |role| format!("{role}: {}", work.name));
        if std::mem::replace(&mut seen[at], true) {
            lines.push(Shown { depth, above, work: at, title: title + " (told above)", facts: Vec::new() });
            continue;
        }
        let line = lines.len();
        lines.push(Shown { depth, above, work: at, title, facts: facts(work) });
        let from = work.step.iter().flat_map(|step| step.from.iter().rev());
        open.extend(from.map(|parent| (parent.work, depth + 1, Some(line), Some(parent.role.name()))));
    }
    lines
}

fn facts(work: &Work) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(digest) = &work.digest {
        facts.push(digest.chars().take(19).collect::<String>() + "…");
    }
    if !work.licences.is_empty() {
        facts.push(format!("licence: {}", work.licences.join(" + ")));
    }
    if let Some(step) = &work.step {
        facts.push(format!("made by {}", step.kind.name()).replace("by made from", "from"));
        facts.extend(settings(step));
        facts.extend(figures(step));
    }
    facts
}

/// The first settings that were not left at nothing.
fn settings(step: &Step) -> Option<String> {
    let plain = |value: &Value| match value {
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        Value::String(text) => Some(text.clone()),
        value => Some(value.to_string()),
    };
    let rows = step.recipe.as_object()?.iter().filter_map(|(key, value)| Some((key, plain(value)?)));
    let rows = rows.filter(|(_, value)| value.len() <= SETTING_BYTES_MAX && !value.contains(char::is_control));
    let told: Vec<String> = rows.take(SETTINGS_MAX).map(|(key, value)| format!("{key} {value}")).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// Perplexity before and after, and the divergence.
fn figures(step: &Step) -> Option<String> {
    let figure = |side: &str| step.figures[side]["perplexity"]["value"].as_f64();
    let (before, after) = (figure("before")?, figure("after")?);
    let kl = step.figures["after"]["divergence"]["kl"].as_f64();
    let kl = kl.map(|kl| format!(", divergence {kl:.4} nats")).unwrap_or_default();
    Some(format!("perplexity {before:.3} → {after:.3}{kl}"))
}

/// The tree for a terminal, with what holds for the work below it.
pub fn tree(lineage: &Lineage) -> String {
    let lines = shown(lineage);
    let mut text = String::new();
    // Whether the line at this depth has another below it on the way to each line.
    let more = |at: usize, above: usize| lines[at + 1..].iter().any(|line| line.above == Some(above));
    for (at, line) in lines.iter().enumerate() {
        let mut stems = String::new();
        let mut way = line.above;
        while let Some(above) = way {
            if let Some(next) = lines[above].above {
                stems.insert_str(0, if more(at, next) { "│  " } else { "   " });
            }
            way = lines[above].above;
        }
        let last = line.above.is_none_or(|above| !more(at, above));
        let (branch, below) = match (line.above, last) {
            (None, _) => ("", ""),
            (Some(_), true) => ("└─ ", "   "),
            (Some(_), false) => ("├─ ", "│  "),
        };
        let _ = writeln!(text, "{stems}{branch}{}", line.title);
        let has_parents = lines.iter().any(|other| other.above == Some(at));
        let own = if has_parents { "│  " } else { "   " };
        for fact in &line.facts {
            let _ = writeln!(text, "{stems}{below}{own}{fact}");
        }
    }
    text.push('\n');
    text + &terms(lineage).join("\n") + "\n"
}

/// What holds for the work, line by line.
pub(super) fn terms(lineage: &Lineage) -> Vec<String> {
    let terms = lineage.terms();
    if terms.is_empty() {
        let asked = terms.warnings().into_iter().map(|warning| format!("warning: {warning}"));
        return std::iter::once(format!("{NOT_STATED}, neither for it nor for what it was made from"))
            .chain(asked)
            .collect();
    }
    let named = terms.licences.iter().map(|licence| format!("{} ({})", licence.name, licence.source));
    let named: Vec<String> = named.chain(terms.unknown.iter().cloned()).collect();
    let mut lines = vec![format!("holds: {}", named.join(" + "))];
    lines.extend(terms.obligations().into_iter().map(|row| format!("asks: {}", row.text)));
    lines.extend(terms.warnings().into_iter().map(|warning| format!("warning: {warning}")));
    lines.push(format!("({NO_ADVICE})"));
    lines
}

const WIDTH: usize = 760;
const ROW: usize = 18;
const INDENT: usize = 36;

/// The tree as a drawing: a box for each work, lines between them. The same lineage gives the same bytes.
pub fn svg(lineage: &Lineage) -> String {
    let lines = shown(lineage);
    let (mut y, mut boxes, mut tops) = (16, String::new(), Vec::new());
    for line in &lines {
        let (x, height) = (16 + line.depth * INDENT, (line.facts.len() + 1) * ROW + 12);
        tops.push((x, y));
        if let Some((above_x, above_y)) = line.above.map(|above| tops[above]) {
            let (from, middle) = (above_x + INDENT / 2, y + ROW);
            let _ = writeln!(
                boxes,
                r##"<path d="M{from} {} V{middle} H{x}" fill="none" stroke="#888"/>"##,
                above_y + (lines[line.above.unwrap_or(0)].facts.len() + 1) * ROW + 12
            );
        }
        let _ = writeln!(
            boxes,
            r##"<rect x="{x}" y="{y}" width="{}" height="{height}" rx="6" fill="#fff" stroke="#444"/>"##,
            WIDTH.saturating_sub(x + 16).max(200)
        );
        let mut put = |row: usize, weight: &str, text: &str| {
            let at = y + (row + 1) * ROW;
            let _ = writeln!(boxes, r#"<text x="{}" y="{at}" font-weight="{weight}">{}</text>"#, x + 10, escaped(text));
        };
        put(0, "bold", &line.title);
        line.facts.iter().enumerate().for_each(|(row, fact)| put(row + 1, "normal", fact));
        y += height + 14;
    }
    for line in terms(lineage) {
        let _ = writeln!(boxes, r#"<text x="16" y="{}">{}</text>"#, y + ROW, escaped(&line));
        y += ROW;
    }
    let (width, height) = (WIDTH + lines.iter().map(|line| line.depth).max().unwrap_or(0) * INDENT, y + 24);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<title>Lineage of {}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fafafa\"/>\n{boxes}</svg>\n",
        escaped(&lineage.work().name)
    )
}

/// A text inside an element.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::tests::three_steps;
    use super::*;

    #[test]
    fn the_tree_tells_each_work_once() {
        let text = tree(&three_steps("llama3.2"));
        let wanted = "\
small
│  made by quantize
│  type Q4_0
└─ base: merged
   │  sha256:merged…
   │  made by merge
   │  rank 4
   ├─ base: base
   │     sha256:base…
   │     licence: llama3.2
   └─ adapter: adapter
      │  sha256:adapter…
      │  made by tune
      │  rank 4
      └─ base: base (told above)

holds: Llama 3.2 Community License";
        assert!(text.starts_with(wanted), "{text}");
        assert!(text.contains("asks: show \"Built with Llama\""), "{text}");
    }

    #[test]
    fn the_drawing_is_the_same_each_time_and_holds_no_markup_of_names() {
        let mut lineage = three_steps("mit");
        lineage.work_mut().name = "<script>&\"".into();
        let drawn = svg(&lineage);
        assert_eq!(drawn, svg(&lineage));
        assert!(!drawn.contains("<script>") && drawn.contains("&lt;script&gt;&amp;&quot;"), "{drawn}");
        assert_eq!(drawn.matches("<rect x=").count(), 5, "{drawn}");
    }

    #[test]
    fn figures_are_told_where_they_were_measured() {
        let mut lineage = three_steps("mit");
        let step = lineage.work_mut().step.as_mut().unwrap();
        step.figures = serde_json::json!({"before": {"perplexity": {"value": 10.0}},
            "after": {"perplexity": {"value": 10.5}, "divergence": {"kl": 0.01}}});
        assert!(tree(&lineage).contains("perplexity 10.000 → 10.500, divergence 0.0100 nats"), "{}", tree(&lineage));
    }
}
